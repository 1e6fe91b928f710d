"""The page that draws a dashboard, with the icons and fonts that Grafana's components ask for."""

from __future__ import annotations

import json
import subprocess
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.grafana.render.browser import Browser

__all__ = ["Drawer", "NotInstalledError", "build"]

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
BUNDLE = HERE / "build"
CELL_PX, HEAD_PX = 38, 200
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
FONTS = {
    "inter": MODULES / "inter-ui" / "web",
    "roboto": MODULES / "@fontsource" / "roboto-mono" / "files" / "roboto-mono-latin-400-normal.woff2",
}


class NotInstalledError(Exception):
    """The packages of npm are not there."""


def build() -> None:
    """Bundle the sources; a second or two.

    Raises:
        NotInstalledError: `npm install` was not run in this folder.
    """
    if not (MODULES / "@grafana" / "ui").exists():
        msg = f"run `npm install` in {HERE} first: it fetches 630 MB"
        raise NotInstalledError(msg)
    subprocess.run(["npm", "run", "--silent", "build"], cwd=HERE, check=True)


def _file(path: str) -> Path | None:
    match path.strip("/").split("/"):
        case ["bundle.js" | "bundle.css" as name]:
            return BUNDLE / name
        case ["public", "fonts", "inter", name] if ".." not in name:
            return FONTS["inter"] / name
        case ["public", "fonts", "roboto", _]:
            return FONTS["roboto"]
        case ["public", "build", "img", "icons", *rest] if ".." not in rest:
            return MODULES.joinpath("@grafana", "ui", "dist", "public", "img", "icons", *rest)
    return None


class Drawer:
    """Draws dashboards in a browser.

    Args:
        browser: it stays the caller's.
    """

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._page = b""
        drawer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                file = _file(path)
                found = drawer._page if path == "/" else file.read_bytes() if file and file.is_file() else None
                self.send_response(HTTPStatus.OK if found is not None else HTTPStatus.NOT_FOUND)
                self.send_header("Content-Type", KINDS.get(file.suffix if file else "", "text/html; charset=utf-8"))
                self.end_headers()
                self.wfile.write(found or b"")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def draw(
        self,
        dashboard: Mapping[str, Any],
        answers: Mapping[str, Any],
        mode: str,
        width: int,
        scale: float = 1.0,
        height: int = 0,
    ) -> tuple[bytes, list[str]]:
        """One dashboard.

        Args:
            dashboard: its JSON.
            answers: see `answers.py`.
            mode: `dark` or `light`.
            width: of the window, in pixels.
            scale: see `Browser.picture`.
            height: likewise.

        Returns:
            A PNG, and what is to be said of it: panels without data or that fail, and errors of the page.
        """
        content = {"dashboard": dashboard, "answers": answers, "mode": mode, "width": width}
        # In a script, only `<` could end it early.
        text = json.dumps(content).replace("<", "\\u003c")
        self._page = (
            '<!doctype html><html><head><meta charset="utf-8"><link rel="stylesheet" href="bundle.css"></head>'
            f'<body><div id="root"></div><script>window.page = {text}</script>'
            '<script src="bundle.js"></script></body></html>'
        ).encode()
        # The window is as high as the dashboard: what lies outside of it is not painted at all (tables).
        lowest = max((one["gridPos"]["y"] + one["gridPos"]["h"] for one in answers["layout"]), default=0)
        self._browser.open(f"http://127.0.0.1:{self._server.server_port}/", width, lowest * CELL_PX + HEAD_PX)
        notes = self._browser.until("window.drawn ?? null")
        return self._browser.picture(scale, height), [*notes, *self._browser.said]

    def close(self) -> None:
        """No page is served any more."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
