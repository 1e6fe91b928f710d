"""A real HTTP server for points that answers as it is told: what a time-series server does not do on order."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that breaks off is what is tested: no word of it."""


@dataclass
class Request:
    """One POST."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def lines(self) -> list[str]:
        """What was sent, unpacked."""
        packed = self.headers.get("Content-Encoding") == "gzip"
        text = (gzip.decompress(self.body) if packed else self.body).decode()
        return text.split("\n") if text else []


@dataclass
class Answer:
    """What is said to it."""

    status: int = 204
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    drip: threading.Event | None = None
    """Set: the body comes byte by byte, one at a time, until then."""
    raw: bytes | None = None
    """Instead of an answer, these bytes, and the connection is closed."""


class WriteServer:
    """On a free port, while it is used with `with`.

    Args:
        answer: to each request; called by one thread at a time.
    """

    def __init__(self, answer: Callable[[Request], Answer] = lambda _: Answer()) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = Request(self.path, dict(self.headers.items()), body)
                with outer._lock:
                    answer = outer.answer(request)
                    outer.requests.append(request)
                outer._say(self, answer)

            def log_message(self, *_: object) -> None:
                pass

        self._http = _Http(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def taken(self) -> list[str]:
        """The lines of all requests, in order."""
        return [one for request in self.requests for one in request.lines]

    @staticmethod
    def _say(handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        try:
            if answer.raw is not None:
                handler.wfile.write(answer.raw)
                handler.close_connection = True
                return
            handler.send_response(answer.status)
            for name, value in answer.headers.items():
                handler.send_header(name, value)
            length = len(answer.body) if answer.drip is None else 1 << 20
            if answer.status != 204:
                handler.send_header("Content-Length", str(length))
            handler.end_headers()
            if answer.status != 204:
                handler.wfile.write(answer.body)
            while answer.drip is not None and not answer.drip.wait(0.05):
                handler.wfile.write(b" ")
                handler.wfile.flush()
        except OSError:
            handler.close_connection = True

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
