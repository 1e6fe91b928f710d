"""A page in a real browser: as light, dark or printed, and what the browser makes of it."""

from __future__ import annotations

import base64
import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

from tests.grafana.render.browser import Browser

__all__ = ["Looking"]

Theme = Literal["light", "dark"]


class Looking:
    """One browser that looks at pages.

    Args:
        folder: of its own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._browser = Browser(folder)
        for domain in ("Network", "Accessibility"):
            self._browser._ask(f"{domain}.enable")

    def open(self, html: str, theme: Theme = "light", width: int = 1000, height: int = 800) -> None:
        """Show a page, and wait until it is whole."""
        self._browser._ask(
            "Emulation.setEmulatedMedia", media="", features=[{"name": "prefers-color-scheme", "value": theme}]
        )
        # Another address each time, so that the page before is not taken for this one.
        with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".html", delete=False) as one:
            one.write(html.encode())
        self._browser.open(Path(one.name).as_uri(), width, height)
        self._browser.until(
            f"document.URL.endsWith({Path(one.name).name!r}) && document.readyState == 'complete' || null"
        )

    def evaluate(self, expression: str) -> Any:
        """What a JavaScript expression gives, as JSON."""
        return self._browser.evaluate(expression)

    @property
    def said(self) -> list[str]:
        """What the page wrote to its console."""
        return self._browser.said

    def names(self) -> list[tuple[str, str]]:
        """Role and name of everything that assistive programs are told of, in order."""
        nodes = self._browser._ask("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node.get("ignored") and "role" in node
        ]

    def picture(self, scale: float = 1.0, height: int = 0) -> bytes:
        """A PNG of the whole page.

        Args:
            scale: pixels of the picture for each of the page.
            height: of the upper part that is wanted; 0: all.
        """
        size = self.evaluate("[document.documentElement.clientWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": min(size[1], height or size[1]), "scale": scale}
        shot = self._browser._ask("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    @contextlib.contextmanager
    def printing(self, theme: Theme) -> Iterator[None]:
        """The page as it is laid out for paper, for a reader of that theme."""
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self._browser._ask("Emulation.setEmulatedMedia", media="print", features=features)
        yield
        self._browser._ask("Emulation.setEmulatedMedia", media="", features=features)

    def pdf(self) -> bytes:
        """The page as it prints on A4."""
        found = self._browser._ask("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        return base64.b64decode(found["data"])

    def printed(self, folder: Path, name: str) -> list[Path]:
        """The same as pictures, one for each sheet; empty where pdftoppm is not installed."""
        file = folder / f"{name}.pdf"
        file.write_bytes(self.pdf())
        if shutil.which("pdftoppm") is None:
            return []
        subprocess.run(["pdftoppm", "-r", "70", "-png", str(file), str(folder / name)], check=True)
        return sorted(folder.glob(f"{name}-*.png"))

    def close(self) -> None:
        """End the browser."""
        self._browser.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
