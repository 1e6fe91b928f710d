"""A small real HTTP server that answers as it is told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct

__all__ = ["Answer", "Answers"]


class Answer(Struct, frozen=True):
    """What is sent.

    `cut`: the connection ends though a body of more bytes was promised, or another chunk.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = {}
    chunked: bool = False
    cut: bool = False


class Answers(ThreadingHTTPServer):
    """Answers each question by a function of its path and parameters; keeps them in `asked`."""

    daemon_threads = True

    def __init__(self, by: Callable[[str, dict[str, str]], Answer]) -> None:
        self.by = by
        self.asked: list[tuple[str, dict[str, str]]] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Answers
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name there)
        """Nothing."""

    def do_GET(self) -> None:
        self._answer(urlsplit(self.path).query)

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode())

    def _answer(self, form: str) -> None:
        params = {name: values[-1] for name, values in parse_qs(form).items()}
        path = urlsplit(self.path).path
        self.server.asked.append((path, params))
        answer = self.server.by(path, params)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(answer.body) + (100 if answer.cut else 0)))
        self.end_headers()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(answer.body), answer.body) if answer.chunked else answer.body)
        if answer.cut:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif answer.chunked:
            self.wfile.write(b"0\r\n\r\n")
