"""Kwollect's API as an HTTP server: records by node, metric and time, and the faults that a server has."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["Kwollect", "record", "serving"]

METRIC = "wattmetre_power_watt"


def record(
    timestamp: str, value: object, *, node: str = "n1", outlet: str | None = "wattmetre1-port3", metric: str = METRIC
) -> dict[str, Any]:
    """One record as the API has it."""
    labels = {} if outlet is None else {"_device_orig": [outlet]}
    return {"timestamp": timestamp, "device_id": node, "metric_id": metric, "value": value, "labels": labels}


class Kwollect:
    """What the server knows, and how it behaves.

    Attributes:
        records: all there are; those of the question's nodes, metrics and times are given.
        status: of every answer.
        body: given instead of records.
        hang: answers wait until it is set, where there is one.
        asked: the questions so far.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.records: list[dict[str, Any]] = []
        self.status = 200
        self.body: bytes | None = None
        self.hang: threading.Event | None = None
        self.asked: list[dict[str, str]] = []

    def answer(self, query: str) -> bytes:
        """The records that a question gets; an end before the start is an error, as in SQL's between."""
        asked = {key: values[0] for key, values in parse_qs(query).items()}
        self.asked.append(asked)
        if self.hang is not None:
            self.hang.wait(30)
        if self.body is not None:
            return self.body
        start, end = float(asked["start_time"]), float(asked["end_time"])
        found = [
            one
            for one in self.records
            if one["device_id"] in asked["nodes"].split(",")
            and one["metric_id"] in asked["metrics"].split(",")
            and start <= datetime.fromisoformat(one["timestamp"]).timestamp() <= end
        ]
        return json.dumps(found).encode()


@contextmanager
def serving() -> Iterator[Kwollect]:
    """A server on a port of its own, on this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            content = fake.answer(urlsplit(self.path).query)
            self.send_response(fake.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake = Kwollect(f"http://127.0.0.1:{server.server_address[1]}/stable/sites/lyon/metrics")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
