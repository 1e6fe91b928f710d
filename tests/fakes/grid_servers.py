"""Three providers of carbon intensity behind one address, as their documentation has them, and their faults.

RTE's eCO2mix by the Explore API 2.1 (`/rte`), Electricity Maps' API v3 (`/em/v3`), ENTSO-E's transparency platform
(`/entsoe/api`). Who asks for what is not there gets what the real ones give: an empty list, or an acknowledgement.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["DOMAIN", "HTML", "TOKEN", "GridServers", "serving"]

TOKEN = "s3cret-T0ken-of-the-site"  # noqa: S105 (of nothing)
DOMAIN = "10YFR-RTE------C"
HOUR = 3600
QUARTER = 900
YEAR = 365 * 24 * HOUR
HTML = b"<!DOCTYPE html>\n<html><head><title>Maintenance</title></head><body>Back soon.</body></html>"
BOMB = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>'
_GL = "urn:iec62325.351:tc57wg16:451-6:generationloaddocument:3:0"
_ACK = "urn:iec62325.351:tc57wg16:451-1:acknowledgementdocument:7:0"
STATUS = {"401": 401, "403": 403, "404": 404, "429": 429, "500": 500, "503": 503}


def iso(at: float) -> str:
    """A time as RTE writes it."""
    return datetime.fromtimestamp(at, UTC).isoformat()


def zulu(at: float, fraction: str = ".000") -> str:
    """A time as Electricity Maps writes it."""
    return datetime.fromtimestamp(at, UTC).strftime(f"%Y-%m-%dT%H:%M:%S{fraction}Z")


def minute(at: float) -> str:
    """A time as ENTSO-E writes it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%MZ")


def epoch(text: str) -> int:
    """A time with its offset."""
    return int(datetime.fromisoformat(text).timestamp())


class GridServers:
    """What the providers know, and how they behave.

    Attributes:
        url: of the server.
        asked: (path, parameters, headers) of each question so far.
        fault: the name of what is wrong with every answer; None: nothing.
        faulty: which questions it is wrong for, by their number from 0.
        odd: raw values in place of the good ones, by start of the slot.
        gaps: hours of which nothing is known.
        until: the last time that the providers know, epoch seconds.
        estimated: hours that Electricity Maps has only estimated.
        recent_from: RTE's time from which the values are in the data set of recent ones.
        types: ENTSO-E's generation by psrType: (resolution in s, MW at a time).
        curve: ENTSO-E's curveType: `A03` leaves out what repeats.
        zone: what Electricity Maps and ENTSO-E say that they tell of; None: what was asked for.
        basis: what Electricity Maps says of a row, by its number.
        raw: the body of every answer; None: what is known.
        elsewhere: where redirects lead.
        let_go: ends all hangs.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.fault: str | None = None
        self.faulty: Callable[[int], bool] = lambda _: True
        self.odd: dict[int, object] = {}
        self.gaps: set[int] = set()
        self.until = float("inf")
        self.estimated: set[int] = set()
        self.recent_from = 0
        self.types: dict[str, tuple[int, Callable[[int], object]]] = {
            "B14": (HOUR, lambda _: 40000),
            "B04": (QUARTER, lambda at: 1000 * (at // HOUR % 24)),
        }
        self.curve = "A03"
        self.exports = True
        """RTE's portal has the question without a limit on rows."""
        self.zone: str | None = None
        self.basis: Callable[[int], object] = lambda _: "lifecycle"
        self.raw: bytes | None = None
        self.elsewhere = "http://localhost:1"
        self.let_go = threading.Event()
        self._lock = threading.Lock()

    def rte_grams(self, at: int) -> int:
        """What RTE measured in a quarter of an hour."""
        return 20 + at // HOUR % 24

    def em_grams(self, at: int) -> int:
        """What Electricity Maps found for an hour."""
        return 50 + at // HOUR % 24

    def answer(self, path: str, asked: dict[str, str], headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and body of a good answer, or of a fault that lies in them."""
        with self._lock:
            number = len(self.asked)
            self.asked.append((path, asked, headers))
        fault = self.fault if self.faulty(number) else None
        if fault in STATUS:
            return STATUS[fault], self._sorry(path, STATUS[fault])
        bodies = {"html": HTML, "bomb": BOMB, "large": b" " * (21 << 20), "deep": b"[" * 200000, "empty": b""}
        if self.raw is not None:
            return 200, self.raw
        if fault in bodies:
            return 200, bodies[fault]
        shift = -YEAR if fault == "last year" else 0
        status, content = self._good(path, asked, headers, shift)
        return status, content[: len(content) // 2] if fault == "truncated" else content

    def _good(self, path: str, asked: dict[str, str], headers: dict[str, str], shift: int) -> tuple[int, bytes]:
        if found := re.fullmatch(r"/rte/api/explore/v2\.1/catalog/datasets/([a-z0-9-]+)/(exports/json|records)", path):
            if found[2] == "records":
                return self._page(*self._rte(found[1], asked, shift), asked)
            return self._rte(found[1], asked, shift) if self.exports else (404, b"{}")
        if path == "/em/v3/carbon-intensity/past-range":
            return self._em(asked, headers, shift)
        if path == "/entsoe/api":
            return self._entsoe(asked, shift)
        return 404, b"{}"

    def _sorry(self, path: str, status: int) -> bytes:
        if path.startswith("/entsoe"):
            return _acknowledgement("Unauthorized. Missing or invalid security token" if status == 401 else "Sorry")
        return json.dumps({"error": f"status {status}"}).encode()

    def _value(self, at: int, good: object) -> object:
        if at // HOUR * HOUR in self.gaps:
            return None
        return self.odd.get(at, good)

    def _rte(self, dataset: str, asked: dict[str, str], shift: int) -> tuple[int, bytes]:
        if dataset not in {"eco2mix-national-tr", "eco2mix-national-cons-def"}:
            return 404, b'{"error_code": "InvalidDatasetId", "message": "no such dataset"}'
        bounds = re.fullmatch(r"date_heure IN \[date'([^']+)' TO date'([^']+)'\]", asked["where"])
        if bounds is None or asked["timezone"] != "UTC" or asked["select"] != "date_heure,taux_co2":
            return 400, b'{"error_code": "ODSQLSyntaxError", "message": "where"}'
        from_s, to_s = epoch(bounds[1]), epoch(bounds[2])
        recent = dataset == "eco2mix-national-tr"
        step = QUARTER if recent else 2 * QUARTER
        rows = []
        for at in range(-(-from_s // QUARTER) * QUARTER, to_s + 1, QUARTER):
            if at < self.until and (at >= self.recent_from) == recent:
                good = self.rte_grams(at) if at % step == 0 else None
                rows.append({"date_heure": iso(at + shift), "taux_co2": self._value(at, good)})
        return 200, json.dumps(rows).encode()

    def _page(self, status: int, content: bytes, asked: dict[str, str]) -> tuple[int, bytes]:
        """The same by a hundred rows at most."""
        if status != 200:
            return status, content
        rows, first, limit = json.loads(content), int(asked["offset"]), int(asked["limit"])
        if limit > 100 or first + limit > 10000:
            return 400, b'{"error_code": "InvalidRESTParameterError"}'
        return 200, json.dumps({"total_count": len(rows), "results": rows[first : first + limit]}).encode()

    def _em(self, asked: dict[str, str], headers: dict[str, str], shift: int) -> tuple[int, bytes]:
        if headers.get("auth-token") != TOKEN:
            return 401, b'{"error": "Invalid auth-token"}'
        from_s, to_s = epoch(asked["start"]), epoch(asked["end"])
        if to_s - from_s > 10 * 24 * HOUR or asked["emissionFactorType"] != "lifecycle":
            return 400, b'{"error": "range"}'
        zone = self.zone or asked["zone"]
        rows = []
        for at in range(-(-from_s // HOUR) * HOUR, min(to_s, int(min(self.until, 1e11))), HOUR):
            value = self._value(at, self.em_grams(at))
            if value is not None:
                rows.append({
                    "zone": zone, "carbonIntensity": value, "datetime": zulu(at + shift), "updatedAt": zulu(at + 7200),
                    "emissionFactorType": self.basis(len(rows)), "isEstimated": at in self.estimated,
                    "estimationMethod": "TIME_SLICER_AVERAGE" if at in self.estimated else None,
                })  # fmt: skip
        return 200, json.dumps({"zone": zone, "temporalGranularity": "hourly", "data": rows}).encode()

    def _entsoe(self, asked: dict[str, str], shift: int) -> tuple[int, bytes]:
        if asked.get("securityToken") != TOKEN:
            return 401, _acknowledgement("Unauthorized. Missing or invalid security token")
        if (asked["documentType"], asked["processType"], asked["in_Domain"]) != ("A75", "A16", DOMAIN):
            return 400, _acknowledgement("The combination of parameters is not valid")
        from_s, to_s = (
            int(datetime.strptime(asked[name], "%Y%m%d%H%M").replace(tzinfo=UTC).timestamp())
            for name in ("periodStart", "periodEnd")
        )
        to_s = min(to_s, int(min(self.until, 1e11)))
        hours = [at for at in range(from_s, to_s, HOUR) if at not in self.gaps]
        if not hours:
            return 200, _acknowledgement("No matching data found for Data item AGGREGATED_GENERATION_PER_TYPE")
        zone = self.zone or asked["in_Domain"]
        series = [self._series(psr, "in", zone, hours, shift) for psr in self.types]
        series.append(self._series("B10", "out", zone, hours, shift))
        return 200, (
            f'<?xml version="1.0" encoding="utf-8"?><GL_MarketDocument xmlns="{_GL}"><mRID>1</mRID>'
            f"<type>A75</type><process.processType>A16</process.processType>{''.join(series)}</GL_MarketDocument>"
        ).encode()

    def _series(self, psr: str, way: str, zone: str, hours: list[int], shift: int) -> str:
        step, megawatts = self.types.get(psr, (HOUR, lambda _: 3000)) if way == "in" else (HOUR, lambda _: 3000)
        periods, first = [], 0
        for last in range(1, len(hours) + 1):
            if last == len(hours) or hours[last] != hours[last - 1] + HOUR:
                periods.append(self._period(hours[first], hours[last - 1] + HOUR, step, megawatts, shift, way))
                first = last
        return (
            f"<TimeSeries><mRID>1</mRID><businessType>A01</businessType><objectAggregation>A08</objectAggregation>"
            f'<{way}BiddingZone_Domain.mRID codingScheme="A01">{zone}</{way}BiddingZone_Domain.mRID>'
            f"<quantity_Measure_Unit.name>MAW</quantity_Measure_Unit.name><curveType>{self.curve}</curveType>"
            f"<MktPSRType><psrType>{psr}</psrType></MktPSRType>{''.join(periods)}</TimeSeries>"
        )

    def _period(
        self, from_s: int, to_s: int, step: int, megawatts: Callable[[int], object], shift: int, way: str
    ) -> str:
        points, before = [], object()
        for position, at in enumerate(range(from_s, to_s, step), 1):
            value = self.odd.get(at, megawatts(at)) if way == "in" else megawatts(at)
            if value is not None and (self.curve != "A03" or value != before):
                points.append(f"<Point><position>{position}</position><quantity>{value}</quantity></Point>")
            before = value
        return (
            f"<Period><timeInterval><start>{minute(from_s + shift)}</start><end>{minute(to_s + shift)}</end>"
            f"</timeInterval><resolution>PT{step // 60}M</resolution>{''.join(points)}</Period>"
        )


def _acknowledgement(text: str) -> bytes:
    return (
        f'<?xml version="1.0" encoding="utf-8"?><Acknowledgement_MarketDocument xmlns="{_ACK}"><mRID>1</mRID>'
        f"<Reason><code>999</code><text>{text}</text></Reason></Acknowledgement_MarketDocument>"
    ).encode()


@contextmanager
def serving(certificate: str | None = None) -> Iterator[GridServers]:  # noqa: C901 (a handler by its faults)
    """A server on a port of its own, on this machine.

    Args:
        certificate: a PEM file of key and certificate: HTTPS.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
            headers = {key.lower(): value for key, value in self.headers.items()}
            status, content = fake.answer(parts.path, asked, headers)
            try:
                self._send(status, content)
            except OSError:
                return  # they have gone

        def _send(self, status: int, content: bytes) -> None:
            fault = fake.fault if fake.faulty(len(fake.asked) - 1) else None
            if fault == "hang":
                fake.let_go.wait(20)
            if fault == "redirect":
                self.send_response(302)
                # As a careless portal does it: with all that was asked, the token as well.
                self.send_header("Location", f"{fake.elsewhere}{self.path}")
                content = b""
            else:
                self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if fault == "slow headers":
                self._drip(b"X-Slow: " + b"a" * 2000)
            self.end_headers()
            if fault == "drip":
                self._drip(content)
            elif fault == "cut off":
                self.wfile.write(content[: len(content) // 2])
            else:
                self.wfile.write(content)

        def _drip(self, content: bytes) -> None:
            self.flush_headers()
            for one in content:
                self.wfile.write(bytes([one]))
                self.wfile.flush()
                time.sleep(0.05)
                if fake.let_go.is_set():
                    return

        def log_message(self, *args: Any) -> None:
            """Tests read `asked`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    fake = GridServers(f"{scheme}://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.let_go.set()
        server.shutdown()
        server.server_close()
        thread.join()
