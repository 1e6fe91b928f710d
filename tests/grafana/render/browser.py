"""A headless Chromium for as long as it is needed, driven over its debugging pipe."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Browser", "BrowserError"]

DEADLINE_S = 180.0


class BrowserError(Exception):
    """Chromium is not there, died, or says no."""


def _high(fd: int) -> int:
    """The same file with a number that the pipe's own, 3 and 4, cannot run into."""
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(fd)
    return high


class Browser:
    """One browser with one page.

    Args:
        folder: of its own: its profile and log.
    """

    def __init__(self, folder: Path) -> None:
        program = shutil.which("chromium")
        if program is None:
            msg = "chromium is not installed (Debian: chromium)"
            raise BrowserError(msg)
        theirs_in, self._in = map(_high, os.pipe())
        self._out, theirs_out = map(_high, os.pipe())
        # Not `select`: it knows the first 1024 descriptors alone, and a run of all tests may have more open.
        self._poll = select.poll()
        self._poll.register(self._out, select.POLLIN)
        profile = f"--user-data-dir={folder / 'profile'}"
        flags = (
            profile,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--remote-debugging-pipe",
        )
        self._log = folder / "chromium.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", program, *flags, "about:blank"],
                pass_fds=(theirs_in, theirs_out),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        os.close(theirs_in)
        os.close(theirs_out)
        self._rest = b""
        self._number = 0
        self._session = ""
        self.said: list[str] = []
        """What the page wrote to its console as a warning or an error, and errors that nobody caught."""
        pages = [one for one in self._ask("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        target = pages[0]["targetId"] if pages else self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime"):
            self._ask(f"{domain}.enable")

    def open(self, url: str, width: int, height: int) -> None:
        """Show a page in a window of that size, in pixels."""
        self.said.clear()
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self._ask("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """What a JavaScript expression gives, as JSON."""
        found = self._ask("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    def until(self, expression: str) -> Any:
        """Wait until it is neither null nor undefined.

        Raises:
            BrowserError: it stays so.
        """
        end = time.monotonic() + DEADLINE_S
        while (found := self.evaluate(expression)) is None:
            if time.monotonic() > end:
                raise BrowserError(f"{expression} does not come\n" + "\n".join(self.said))
            time.sleep(0.05)
        return found

    def picture(self, scale: float = 1.0, height: int = 0) -> bytes:
        """A PNG of the page's content.

        Args:
            scale: pixels of the picture for each of the page.
            height: of the page's upper part that is wanted, in its pixels; 0: all.
        """
        size = self.evaluate("document.body.firstElementChild.getBoundingClientRect().toJSON()")
        clip = {name: size[name] for name in ("x", "y", "width", "height")} | {"scale": scale}
        clip["height"] = min(clip["height"], height or clip["height"])
        shot = self._ask("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def _ask(self, method: str, **params: object) -> dict[str, Any]:
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._in, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._hear(answer)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready = self._poll.poll(DEADLINE_S * 1000)
            part = os.read(self._out, 1 << 20) if ready else b""
            if not part:
                raise BrowserError(f"chromium {'ended' if ready else 'is silent'}: {self._log.read_text()[-2000:]}")
            self._rest += part
        one, self._rest = self._rest.split(b"\0", 1)
        found: dict[str, Any] = json.loads(one)
        return found

    def _hear(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            detail = params["exceptionDetails"]
            self.said.append(str(detail.get("exception", {}).get("description", detail["text"])))
        elif event.get("method") == "Runtime.consoleAPICalled" and params["type"] in {"error", "warning"}:
            self.said.append(" ".join(str(one.get("value", one.get("description", ""))) for one in params["args"]))

    def close(self) -> None:
        """End it, and wait."""
        with contextlib.suppress(BrowserError, OSError):
            self._session = ""
            self._ask("Browser.close")
        os.close(self._in)
        os.close(self._out)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
