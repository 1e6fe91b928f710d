"""What InfluxDB 2.x answers to, in front of an InfluxDB 1.x: buckets are its retention policies (`db/rp`).

Usage: python -m tests.stores.v2 PORT URL-OF-1.X ORG TOKEN=all,TOKEN=write
"""

from __future__ import annotations

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import urllib3

ORG_ID = "0000000000000001"
VERSION = "2.7.11"


class V2(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int, upstream: str, org: str, tokens: dict[str, str]) -> None:
        self.upstream, self.org, self.tokens = upstream, org, tokens
        self.pool = urllib3.PoolManager(maxsize=32, retries=False)
        super().__init__(("127.0.0.1", port), Handler)

    def influxql(self, text: str) -> dict[str, Any]:
        """A statement's answer."""
        url = f"{self.upstream}/query?{urlencode({'q': text})}"
        found: dict[str, Any] = self.pool.request("POST", url).json()["results"][0]
        return found

    def buckets(self) -> dict[str, int]:
        """Each bucket's seconds of retention; 0: for ever."""
        found = {}
        for (database,) in _rows(self.influxql("SHOW DATABASES")):
            for name, duration, *_ in _rows(self.influxql(f'SHOW RETENTION POLICIES ON "{database}"')):
                found[f"{database}/{name}"] = _seconds(duration)
        return found


class Handler(BaseHTTPRequestHandler):
    server: V2
    protocol_version = "HTTP/1.1"
    # Headers and body go out one after the other: waiting for an acknowledgement would cost 40 ms each time.
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name there)
        """Nothing."""

    def do_GET(self) -> None:
        self._do()

    def do_POST(self) -> None:
        self._do()

    def do_PATCH(self) -> None:
        self._do()

    def do_HEAD(self) -> None:
        self._do()

    def _do(self) -> None:
        parts = urlsplit(self.path)
        params = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if parts.path in ("/health", "/ping"):
            self._open(parts.path)
            return
        kind, _, token = (self.headers.get("Authorization") or "").partition(" ")
        rights = self.server.tokens.get(token) if kind in ("Token", "Bearer") else None
        if rights is None:
            self._error(401, "unauthorized", "unauthorized access")
        elif parts.path == "/api/v2/write":
            self._write(params, body)
        elif parts.path == "/write":
            self._pass(parts.path, params, body)
        elif rights != "all":
            self._refused(parts.path)
        elif parts.path == "/api/v2/orgs":
            self._orgs(params)
        elif parts.path.startswith("/api/v2/buckets"):
            self._buckets(parts.path, params, body)
        elif parts.path == "/query":
            self._query(params, body)
        else:
            self._error(404, "not found", "path not found")

    # -- what needs no token ------------------------------------------------------------------------------------

    def _open(self, path: str) -> None:
        if path == "/ping":
            self._send(204, b"")
        else:
            said = {"name": "influxdb", "message": "ready for queries and writes", "status": "pass", "checks": []}
            self._json(200, said | {"version": f"v{VERSION}", "commit": "test"})

    def _refused(self, path: str) -> None:
        if path == "/query":
            self._error(403, "forbidden", "insufficient permissions")
        elif path.startswith("/api/v2/buckets") and self.command == "GET":
            self._json(200, {"buckets": []})
        elif path == "/api/v2/orgs":
            self._json(200, {"orgs": []})
        else:
            self._error(401, "unauthorized", f"write:orgs/{ORG_ID}/buckets is unauthorized")

    # -- points -------------------------------------------------------------------------------------------------

    def _write(self, params: dict[str, str], body: bytes) -> None:
        if params.get("org") not in (self.server.org, ORG_ID):
            self._error(404, "not found", f'organization name "{params.get("org")}" not found')
            return
        bucket = params.get("bucket", "")
        if bucket not in self.server.buckets():
            self._error(404, "not found", f'bucket "{bucket}" not found')
            return
        database, _, policy = bucket.partition("/")
        more = {"db": database, "rp": policy, "precision": params.get("precision", "ns")}
        headers = {name: self.headers[name] for name in ("Content-Encoding",) if name in self.headers}
        url = f"{self.server.upstream}/write?{urlencode(more)}"
        answer = self.server.pool.request("POST", url, body=body, headers=headers)
        if answer.status == 204:
            self._send(204, b"")
            return
        said = answer.json().get("error", "")
        if answer.status == 400 and "partial write" in said:
            self._error(422, "unprocessable entity", f"failure writing points to database: {said}")
        elif answer.status == 413:
            self._error(413, "request too large", "cannot read data: points batch is too large")
        else:
            self._error(answer.status, "invalid" if answer.status == 400 else "internal error", said)

    def _query(self, params: dict[str, str], body: bytes) -> None:
        self._pass("/query", params, body)

    def _pass(self, path: str, params: dict[str, str], body: bytes) -> None:
        headers = {one: self.headers[one] for one in ("Content-Type", "Content-Encoding") if one in self.headers}
        url = f"{self.server.upstream}{path}?{urlencode(params)}"
        answer = self.server.pool.request(self.command, url, body=body, headers=headers, preload_content=False)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        self._version()
        if answer.status == 204:
            self.end_headers()
            answer.drain_conn()
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in answer.stream(1 << 16):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")

    # -- buckets ------------------------------------------------------------------------------------------------

    def _orgs(self, params: dict[str, str]) -> None:
        if params.get("org", self.server.org) != self.server.org:
            self._error(404, "not found", f'organization name "{params["org"]}" not found')
            return
        self._json(200, {"orgs": [{"id": ORG_ID, "name": self.server.org}]})

    def _buckets(self, path: str, params: dict[str, str], body: bytes) -> None:
        there = self.server.buckets()
        if self.command == "GET":
            names = [one for one in there if params.get("name", one) == one]
            if "name" in params and not names:
                self._error(404, "not found", f'bucket "{params["name"]}" not found')
                return
            self._json(200, {"buckets": [_bucket(one, there[one]) for one in sorted(names)]})
            return
        asked = json.loads(body)
        seconds = sum(rule["everySeconds"] for rule in asked.get("retentionRules", []))
        if self.command == "PATCH":
            self._alter(path.rpartition("/")[2], there, seconds)
            return
        name = asked["name"]
        if asked.get("orgID") != ORG_ID:
            self._error(400, "invalid", "organization id must be provided")
        elif name in there:
            self._error(422, "conflict", f"bucket with name {name} already exists")
        else:
            database, _, policy = name.partition("/")
            self.server.influxql(f'CREATE DATABASE "{database}"')
            duration = f"{seconds}s" if seconds else "INF"
            self.server.influxql(
                f'CREATE RETENTION POLICY "{policy}" ON "{database}" DURATION {duration} REPLICATION 1'
            )
            self._json(201, _bucket(name, seconds))

    def _alter(self, key: str, there: dict[str, int], seconds: int) -> None:
        name = next((one for one in there if _id(one) == key), None)
        if name is None:
            self._error(404, "not found", "bucket not found")
            return
        database, _, policy = name.partition("/")
        duration = f"{seconds}s" if seconds else "INF"
        self.server.influxql(f'ALTER RETENTION POLICY "{policy}" ON "{database}" DURATION {duration}')
        self._json(200, _bucket(name, seconds))

    # -- answers ------------------------------------------------------------------------------------------------

    def _error(self, status: int, code: str, message: str) -> None:
        self._json(status, {"code": code, "message": message})

    def _json(self, status: int, said: object) -> None:
        self._send(status, json.dumps(said).encode(), "application/json; charset=utf-8")

    def _send(self, status: int, body: bytes, kind: str = "") -> None:
        self.send_response(status)
        self._version()
        if kind:
            self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _version(self) -> None:
        self.send_header("X-Influxdb-Build", "OSS")
        self.send_header("X-Influxdb-Version", f"v{VERSION}")


def _rows(result: dict[str, Any]) -> list[list[Any]]:
    return [row for one in result.get("series", []) for row in one.get("values", [])]


def _seconds(duration: str) -> int:
    unit = {"h": 3600, "m": 60, "s": 1}
    return sum(int(number) * unit[name] for number, name in re.findall(r"(\d+)([hms])", duration))


def _bucket(name: str, seconds: int) -> dict[str, object]:
    rules = [{"type": "expire", "everySeconds": seconds}] if seconds else []
    return {"id": _id(name), "orgID": ORG_ID, "type": "user", "name": name, "retentionRules": rules}


def _id(name: str) -> str:
    return quote(name, safe="").encode().hex()


if __name__ == "__main__":
    port, upstream, org, pairs = sys.argv[1:]
    V2(int(port), upstream, org, dict(pair.split("=") for pair in pairs.split(","))).serve_forever()
