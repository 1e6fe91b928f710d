"""Setting up a time-series server, and saying how it does: what `jobimpact store init` and `check` do."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import TypeVar

import msgspec
from msgspec import Struct, field

from jobimpact.core.config import InfluxStore, Retention, VictoriaStore
from jobimpact.core.errors import StoreError
from jobimpact.core.series import BOOKS, EVER, JOB_ENERGY, MEASUREMENTS, PROFILE, Retained
from jobimpact.energy.http import RefusedError
from jobimpact.energy.influx import InfluxReader, Series, identifier
from jobimpact.energy.victoria import VictoriaReader

__all__ = ["Line", "Report", "check", "init"]

T = TypeVar("T")

DAY_S = 86400
SILENT_S = 600
_KEPT: tuple[Retained, ...] = (BOOKS, PROFILE, EVER)
_SHARDS = {BOOKS: "1d", PROFILE: "7d", EVER: "26w"}
"""What is dropped, and compacted, as one: the more points, the shorter."""


class Line(Struct, frozen=True):
    """One thing that was done, or found."""

    name: str
    text: str
    fine: bool = True


class Report(Struct):
    """What was done or found, and what a person has to do."""

    title: str
    lines: list[Line] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def add(self, name: str, text: str, *, fine: bool = True) -> None:
        """A line more."""
        self.lines.append(Line(name, text, fine))

    @property
    def fine(self) -> bool:
        """Nothing is left to be done."""
        return not self.commands and all(one.fine for one in self.lines)


def init(server: InfluxStore | VictoriaStore) -> Report:
    """Make what points are written to, as far as the server and our rights allow. Twice changes nothing.

    Raises:
        ConfigError: a secret cannot be read.
        StoreError: the server cannot be reached, or is another than the configuration says.
    """
    if isinstance(server, VictoriaStore):
        return _Victoria(server).init()
    return _Influx(server).init()


def check(server: InfluxStore | VictoriaStore, now_ms: int) -> Report:
    """How the server does: what is there, who is silent, how near its limits are.

    Args:
        server: its settings.
        now_ms: since the epoch.

    Raises:
        ConfigError: a secret cannot be read.
        StoreError: the server cannot be reached, or is another than the configuration says.
    """
    if isinstance(server, VictoriaStore):
        return _Victoria(server).check(now_ms)
    return _Influx(server).check(now_ms)


# -- InfluxDB ------------------------------------------------------------------------------------------------------


class _Rule(Struct, frozen=True):
    seconds: int = field(name="everySeconds", default=0)


class _Named(Struct, frozen=True):
    """An organisation, or a bucket."""

    id: str
    rules: list[_Rule] = field(name="retentionRules", default_factory=list)


class _Listed(Struct, frozen=True):
    orgs: list[_Named] = []
    buckets: list[_Named] = []


class _Influx:
    def __init__(self, server: InfluxStore) -> None:
        self.server = server
        self.reader = InfluxReader(server)
        self.http = self.reader.http
        self.version = self._find_version()
        self.report = Report(f"InfluxDB {self.version} at {self.http.url}")

    def _find_version(self) -> str:
        found = self.http.headers("/ping").get("X-Influxdb-Version", "")
        if not found and _is_victoria(self.reader):
            raise StoreError(
                f"{self.http.url}: this is a VictoriaMetrics: set store.victoriametrics, not store.influxdb"
            )
        return "".join(one for one in found if one.isprintable())[:40].removeprefix("v") or "(it does not say which)"

    @property
    def major(self) -> str:
        return self.version.split(".")[0]

    def init(self) -> Report:
        if self.major == "1":
            self._init_1()
            self._limits()
        elif self.major == "2" and self.server.token_file:
            self._init_2()
        else:
            self._said_3() if self.major == "3" else self._said_2()
        return self.report

    # 1.x

    def _init_1(self) -> None:
        database = self.server.database
        try:
            there = {str(row[0]) for row in self._values("SHOW DATABASES")}
            if database not in there:
                self._do(f"CREATE DATABASE {identifier(database)}")
            self.report.add(f"database {database}", "there" if database in there else "made")
            policies = {str(row[0]): row for row in self._values(f"SHOW RETENTION POLICIES ON {identifier(database)}")}
            for kept in _KEPT:
                self._policy(kept, policies)
        except RefusedError as error:
            if error.status not in {401, 403}:
                raise
            self.report.add(f"database {database}", f"not ours to make: {error.said}", fine=False)
            self.report.commands += [
                f"influx -username ADMIN -password '' -execute {shlex.quote(one)}" for one in self._statements()
            ]

    def _statements(self) -> list[str]:
        found = [f"CREATE DATABASE {identifier(self.server.database)}"]
        return found + [f"CREATE {self._definition(kept)}" for kept in _KEPT]

    def _definition(self, kept: Retained) -> str:
        days = _days(kept, self.server.retention)
        place = f"{identifier(kept)} ON {identifier(self.server.database)}"
        duration = f"{days}d" if days else "INF"
        return f"RETENTION POLICY {place} DURATION {duration} REPLICATION 1 SHARD DURATION {_SHARDS[kept]}"

    def _policy(self, kept: Retained, there: dict[str, list[object]]) -> None:
        days = _days(kept, self.server.retention)
        if kept not in there:
            self._do(f"CREATE {self._definition(kept)}")
            self.report.add(kept, f"made: {_for_days(days)}")
            return
        had_s, shard_s = (_go_seconds(str(there[kept][at])) for at in (1, 2))
        if had_s == days * DAY_S and shard_s == _go_seconds(_SHARDS[kept]):
            self.report.add(kept, f"there: {_for_days(days)}")
            return
        self._do(f"ALTER {self._definition(kept)}")
        self.report.add(kept, f"changed: {_for_days(days)}, was {_for_days(had_s / DAY_S)}")

    def _do(self, statement: str) -> None:
        for _ in self.reader.query(statement):
            pass

    def _values(self, statement: str) -> list[list[object]]:
        return [row for one in self.reader.query(statement) for row in one.values]

    def _limits(self) -> None:
        """Of 1.x: every run is a series of its own for as long as it is kept."""
        try:
            settings = _table(self.reader.query("SHOW DIAGNOSTICS"))
        except RefusedError as error:
            self.report.add("limits", f"not shown to this user ({error.said})")
            return
        data = settings.get("config-data", {})
        self._limit("max-series-per-database", data, self._series())
        self._limit("max-values-per-tag", data, self._runs())
        index = data.get("index-version")
        if index is None:
            self.report.add("index", 'not told by this server: index-version = "tsi1" is what it should have')
        else:
            self.report.add("index", str(index), fine=index == "tsi1")

    def _limit(self, name: str, data: dict[str, object], used: int | None) -> None:
        limit = data.get(name)
        of = {"max-series-per-database": "series", "max-values-per-tag": "runs"}[name]
        count = "not known how many" if used is None else f"{used:,}"
        if not isinstance(limit, int):
            self.report.add(of, f"{count}; {name} is not told by this server")
        elif limit == 0:
            self.report.add(of, f"{count}; no limit ({name} = 0)")
        else:
            advice = f'set {name} = 0 and index-version = "tsi1"; points are refused when it is reached'
            near = used is not None and used > limit * 0.8
            self.report.add(of, f"{count} of {limit:,} ({name}){f': {advice}' if near else ''}", fine=not near)

    def _series(self) -> int | None:
        return self._count(f"SHOW SERIES CARDINALITY ON {identifier(self.server.database)}")

    def _runs(self) -> int | None:
        place = f"{identifier(BOOKS)}.{identifier(JOB_ENERGY.name)}"
        return self._count(
            f'SHOW TAG VALUES CARDINALITY ON {identifier(self.server.database)} FROM {place} WITH KEY = "run"'
        )

    def _count(self, statement: str) -> int | None:
        """What a server has no answer to, or not for us, is not known."""
        try:
            values = self._values(statement)
        except StoreError:
            return None
        return sum(int(row[-1]) for row in values if isinstance(row[-1], int))

    # 2.x

    def _init_2(self) -> None:
        try:
            org = self._org()
            for kept in _KEPT:
                self._bucket(kept, org)
        except RefusedError as error:
            self.report.add("buckets", f"not ours to make: {error.said}", fine=False)
            self._said_2()
            return
        self._mapped()

    def _org(self) -> str:
        asked = {"org": self.server.org} if self.server.org else {}
        found = _read(self.http.ask("/api/v2/orgs", asked, "GET"), _Listed).orgs
        if len(found) != 1:
            raise RefusedError("", 404, f"the organisation {self.server.org!r} is not shown to this token")
        return found[0].id

    def _bucket(self, kept: Retained, org: str) -> None:
        name, days = f"{self.server.database}/{kept}", _days(kept, self.server.retention)
        rules = [{"type": "expire", "everySeconds": days * DAY_S}] if days else []
        try:
            found = _read(self.http.ask("/api/v2/buckets", {"name": name, "orgID": org}, "GET"), _Listed).buckets
        except RefusedError as error:
            if error.status != 404:
                raise
            found = []
        if not found:
            asked = {"orgID": org, "name": name, "retentionRules": rules}
            self.http.ask("/api/v2/buckets", {}, "POST", msgspec.json.encode(asked))
            self.report.add(f"bucket {name}", f"made: {_for_days(days)}")
            return
        had_s = sum(one.seconds for one in found[0].rules)
        if had_s == days * DAY_S:
            self.report.add(f"bucket {name}", f"there: {_for_days(days)}")
            return
        body = msgspec.json.encode({"retentionRules": rules})
        self.http.ask(f"/api/v2/buckets/{found[0].id}", {}, "PATCH", body)
        self.report.add(f"bucket {name}", f"changed: {_for_days(days)}, was {_for_days(had_s / DAY_S)}")

    def _mapped(self) -> None:
        """InfluxQL asks for database and policy: releases from 2.4 on map a bucket of that name by themselves."""
        for kept in _KEPT:
            problem = self._readable(kept)
            if problem:
                self.report.add(f"bucket {self.server.database}/{kept}", problem, fine=False)
                self.report.commands.append(self._dbrp(kept))

    def _readable(self, kept: Retained) -> str:
        """Why it cannot be read; empty: it can."""
        of = next(one for one in MEASUREMENTS if one.kept == kept)
        try:
            for _ in self.reader.rows(of, 0, 1):
                pass
        except StoreError as error:
            return str(error)
        return ""

    def _dbrp(self, kept: Retained) -> str:
        org, name = shlex.quote(self.server.org or "ORG"), f"{self.server.database}/{kept}"
        bucket = f'"$(influx bucket list --org {org} --name {name} --hide-headers | cut -f1)"'
        return f"influx v1 dbrp create --org {org} --db {self.server.database} --rp {kept} --bucket-id {bucket}"

    def _said_2(self) -> None:
        if not self.server.token_file:
            self.report.add("token", "2.x takes points by token: set store.influxdb.token_file and org", fine=False)
        org = shlex.quote(self.server.org or "ORG")
        for kept in _KEPT:
            days = _days(kept, self.server.retention)
            retention = f"{days * 24}h" if days else "0"
            name = f"{self.server.database}/{kept}"
            self.report.commands.append(f"influx bucket create --org {org} --name {name} --retention {retention}")

    # 3.x

    def _said_3(self) -> None:
        self.report.add("databases", "3.x has them made by its own command; their retention stays as it is made")
        host = shlex.quote(self.server.url)
        for kept in _KEPT:
            problem = self._readable(kept)
            if not problem:
                self.report.add(f"{self.server.database}/{kept}", "there")
                continue
            days = _days(kept, self.server.retention)
            retention = f" --retention-period {days}d" if days else ""
            self.report.commands.append(
                f"influxdb3 create database --host {host}{retention} {self.server.database}/{kept}"
            )

    # how it does

    def check(self, now_ms: int) -> Report:
        for kept in _KEPT:
            problem = self._readable(kept)
            self.report.add(f"{self.server.database}/{kept}", problem or "there", fine=not problem)
        if self.report.fine:
            since_ms = now_ms - self.server.retention.books_days * DAY_S * 1000
            _newest(self.report, self.reader, since_ms, now_ms)
        if self.major == "1":
            self._limits()
        return self.report


# -- VictoriaMetrics -----------------------------------------------------------------------------------------------

_FLAGS = ("-dedup.minScrapeInterval=1ms", "-retentionPeriod=10y")


class _Series(Struct, frozen=True):
    series: int = field(name="totalSeries")


class _Status(Struct, frozen=True):
    data: _Series


class _Victoria:
    def __init__(self, server: VictoriaStore) -> None:
        self.reader = VictoriaReader(server)
        self.http = self.reader.http
        if not _is_victoria(self.reader):
            raise StoreError(f"{self.http.url}: this is no VictoriaMetrics; InfluxDB is set as store.influxdb")
        lines = self.http.ask("/metrics", {}, "GET").decode(errors="replace").splitlines()
        self.flags = {one[0]: one[1] for one in map(_flag, lines) if one}
        version = next((one for one in lines if one.startswith("vm_app_version{")), "").split('short_version="')
        said = version[1].split('"')[0] if len(version) > 1 else ""
        self.report = Report(f"VictoriaMetrics {said or '(it does not say which)'} at {self.http.url}")

    def init(self) -> Report:
        self.report.add("database", "nothing is to be made there: it has one, whose flags hold for all")
        self._settings()
        return self.report

    def _settings(self) -> None:
        dedup = self.flags.get("dedup.minScrapeInterval")
        if dedup is None:
            self.report.add("flags", f"not shown to us; it should run with {' '.join(_FLAGS)}")
            return
        said = dedup if dedup not in {"0s", "0", ""} else "off"
        advice = ": set -dedup.minScrapeInterval=1ms, or a point that is sent twice is there twice"
        coarse = ": more than 1ms, it drops points of ours"
        self.report.add(
            "dedup", f"{said}{'' if said == '1ms' else advice if said == 'off' else coarse}", fine=said == "1ms"
        )
        kept = self.flags.get("retentionPeriod", "1")
        days = _vm_days(kept)
        few = days is not None and days < 366
        text = f"{kept}{' months' if kept.isdigit() else ''}"
        more = ": set -retentionPeriod=10y: what is by day and hour is for years, and all share it" if few else ""
        self.report.add("retention", text + more, fine=not few)

    def check(self, now_ms: int) -> Report:
        self._settings()
        _newest(self.report, self.reader, now_ms - 7 * DAY_S * 1000, now_ms)
        series = _read(self.http.ask("/api/v1/status/tsdb", {}, "GET"), _Status).data.series
        limit = self.flags.get("storage.maxDailySeries", "0")
        told = f"{series:,} today"
        self.report.add("series", f"{told}; {'no limit' if limit == '0' else f'storage.maxDailySeries = {limit}'}")
        return self.report


# -- both ----------------------------------------------------------------------------------------------------------


def _newest(report: Report, reader: InfluxReader | VictoriaReader, since_ms: int, now_ms: int) -> None:
    """How old the newest point of each measurement is, and which nodes are silent."""
    nodes: dict[str, int] = {}
    for of in MEASUREMENTS:
        by = "node" if "node" in of.tags else "cluster"
        found = reader.newest(of, since_ms, now_ms + DAY_S * 1000, by)
        if by == "node" and of.kept != EVER:
            for node, stamp_ms in found.items():
                nodes[node] = max(nodes.get(node, 0), stamp_ms)
        if not found:
            report.add(of.name, "no points")
            continue
        what = f", {len(found)} node{'' if len(found) == 1 else 's'}" if by == "node" else ""
        report.add(of.name, f"{_ago(now_ms - max(found.values()))}{what}")
    silent = {node: now_ms - stamp_ms for node, stamp_ms in nodes.items() if now_ms - stamp_ms > SILENT_S * 1000}
    ahead = {node: stamp_ms - now_ms for node, stamp_ms in nodes.items() if stamp_ms - now_ms > SILENT_S * 1000}
    for node in sorted(silent, key=lambda one: -silent[one]):
        report.add("silent", f"{_shown(node)}: {_ago(silent[node])}", fine=False)
    for node in sorted(ahead):
        report.add("ahead", f"{_shown(node)}: its clock is {_span(ahead[node])} ahead of this machine's", fine=False)


def _is_victoria(reader: InfluxReader | VictoriaReader) -> bool:
    try:
        return b"vm_app_version" in reader.http.ask("/metrics", {}, "GET")
    except RefusedError as error:
        # It may be hidden from us: the rest tells then.
        return isinstance(reader, VictoriaReader) and error.status in {401, 403}


def _flag(line: str) -> tuple[str, str] | None:
    if not line.startswith('flag{name="'):
        return None
    name, _, rest = line.removeprefix('flag{name="').partition('", value="')
    return name, rest.partition('"')[0]


def _table(series: Iterable[Series]) -> dict[str, dict[str, object]]:
    """By name: the first row of each part of an answer."""
    return {one.name: dict(zip(one.columns, one.values[0], strict=False)) for one in series if one.values}


def _read(body: bytes, of: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=of)
    except msgspec.DecodeError as error:
        raise StoreError(f"an answer of another kind than was asked for ({error})") from None


def _days(kept: Retained, retention: Retention) -> int:
    """0: for ever."""
    return {BOOKS: retention.books_days, PROFILE: retention.profile_days, EVER: 0}[kept]


def _for_days(days: float) -> str:
    return "for ever" if not days else f"{days:g} days"


def _go_seconds(text: str) -> int:
    """Of `168h0m0s` or `7d`."""
    units = {"w": 7 * DAY_S, "d": DAY_S, "h": 3600, "m": 60, "s": 1}
    total, digits = 0, ""
    for one in text:
        if one.isdigit():
            digits += one
        else:
            total += int(digits or 0) * units.get(one, 0)
            digits = ""
    return total


def _vm_days(text: str) -> float | None:
    units = {"h": 1 / 24, "d": 1.0, "w": 7.0, "y": 365.0}
    number, unit = (text, 31.0) if text[-1:].isdigit() else (text[:-1], units.get(text[-1:], 0.0))
    try:
        return float(number) * unit if unit else None
    except ValueError:
        return None


def _ago(span_ms: int) -> str:
    return f"newest point {_span(span_ms)} ago" if span_ms >= 0 else "newest point is in the future"


def _span(span_ms: int) -> str:
    seconds = span_ms // 1000
    for size, unit in ((DAY_S, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _shown(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text)[:64]
