"""Setting up InfluxDB 1.x, 2.x and 3.x, and saying how it does."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct, field

from jobimpact.core.config import InfluxStore, Retention
from jobimpact.core.errors import StoreError
from jobimpact.core.series import BOOKS, EVER, MEASUREMENTS, PROFILE, Retained
from jobimpact.store.http import RefusedError
from jobimpact.store.influx import InfluxReader, Series, identifier
from jobimpact.store.setup_report import DAY_S, Report, is_victoria, newest, read

__all__ = ["Influx"]

_KEPT: tuple[Retained, ...] = (BOOKS, PROFILE, EVER)
_SHARDS = {BOOKS: "1d", PROFILE: "7d", EVER: "52w"}
"""What is dropped, and compacted, as one: the more points, the shorter."""


class _Rule(Struct, frozen=True):
    seconds: int = field(name="everySeconds", default=0)


class _Named(Struct, frozen=True):
    """An organisation, or a bucket."""

    id: str
    rules: list[_Rule] = field(name="retentionRules", default_factory=list)


class _Listed(Struct, frozen=True):
    orgs: list[_Named] = []
    buckets: list[_Named] = []


class Influx:
    """One server.

    Args:
        server: its settings.

    Raises:
        ConfigError: a secret cannot be read.
        StoreError: it cannot be reached, or is VictoriaMetrics.
    """

    def __init__(self, server: InfluxStore) -> None:
        self.server = server
        self.reader = InfluxReader(server)
        self.http = self.reader.http
        self.version = self._find_version()
        self.report = Report(f"InfluxDB {self.version} at {self.http.url}")

    def _find_version(self) -> str:
        found = self.http.headers("/ping").get("X-Influxdb-Version", "")
        if not found and is_victoria(self.reader):
            raise StoreError(
                f"{self.http.url}: this is a VictoriaMetrics: set store.victoriametrics, not store.influxdb"
            )
        return "".join(one for one in found if one.isprintable())[:40].removeprefix("v") or "(it does not say which)"

    @property
    def major(self) -> str:
        """Of its version; a word where it does not tell."""
        return self.version.split(".")[0]

    def init(self) -> Report:
        """See `jobimpact.store.setup.init`."""
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
        database, there = self.server.database, set[str]()
        try:
            there = {str(row[0]) for row in self._values("SHOW DATABASES")}
            if database not in there:
                self._do(f"CREATE DATABASE {identifier(database)}")
            self.report.add(f"database {database}", "there" if database in there else "made")
            policies = {str(row[0]): row for row in self._values(f"SHOW RETENTION POLICIES ON {identifier(database)}")}
            for kept in _KEPT:
                self._policy(kept, policies)
        except RefusedError as error:
            # A name or password that is wrong is mended by no command.
            if error.status != 403:
                raise
            known = database in there
            what = "not ours to see or change" if known else "not ours to make"
            self.report.add("policies" if known else f"database {database}", f"{what}: {error.said}", fine=False)
            self.report.commands += [
                f"{self._client()} -execute {shlex.quote(one)}" for one in self._statements()[1 if known else 0 :]
            ]

    def _client(self) -> str:
        """InfluxDB's own program, against this server; it asks for the password."""
        place = urlsplit(self.server.url)
        port, tls = place.port or {"https": 443}.get(place.scheme, 80), " -ssl" if place.scheme == "https" else ""
        return f"influx -host {shlex.quote(place.hostname or '')} -port {port}{tls} -username ADMIN -password ''"

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
        """The most of any measurement: the limit is each one's own."""
        found = []
        for of in MEASUREMENTS:
            if "run" in of.tags:
                place = f"{identifier(of.kept)}.{identifier(of.name)}"
                on = identifier(self.server.database)
                found.append(self._count(f'SHOW TAG VALUES CARDINALITY ON {on} FROM {place} WITH KEY = "run"'))
        known = [one for one in found if one is not None]
        return max(known, default=None)

    def _count(self, statement: str) -> int | None:
        """What a server has no answer to, or not for us, is not known."""
        try:
            values = self._values(statement)
        except StoreError:
            return None
        return sum(int(row[-1]) for row in values if isinstance(row[-1], int))

    # 2.x

    def _init_2(self) -> None:
        # Whoever has a token that is known is shown organisations, if none: a wrong one ends it here.
        org = self._org()
        try:
            if org is None:
                raise RefusedError("", 404, f"{self.server.org!r} (store.influxdb.org) is not shown to this token")
            for kept in _KEPT:
                self._bucket(kept, org)
        except RefusedError as error:
            self.report.add("buckets", f"not ours to make: {error.said}", fine=False)
            self._said_2()
            return
        self._mapped()

    def _org(self) -> str | None:
        asked = {"org": self.server.org} if self.server.org else {}
        try:
            found = read(self.http.ask("/api/v2/orgs", asked, "GET"), _Listed).orgs
        except RefusedError as error:
            if error.status != 404:
                raise
            return None
        return found[0].id if len(found) == 1 else None

    def _bucket(self, kept: Retained, org: str) -> None:
        name, days = f"{self.server.database}/{kept}", _days(kept, self.server.retention)
        rules = [{"type": "expire", "everySeconds": days * DAY_S}] if days else []
        try:
            found = read(self.http.ask("/api/v2/buckets", {"name": name, "orgID": org}, "GET"), _Listed).buckets
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
        except RefusedError as error:
            if error.status == 401:
                raise
            return error.said
        except StoreError as error:
            return str(error).removeprefix(f"{self.http.url}: ")
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
        """See `jobimpact.store.setup.check`."""
        for kept in _KEPT:
            problem = self._readable(kept)
            self.report.add(f"{self.server.database}/{kept}", problem or "there", fine=not problem)
            if problem:
                break
        if self.report.fine:
            since_ms = now_ms - self.server.retention.books_days * DAY_S * 1000
            newest(self.report, self.reader, since_ms, now_ms)
        if self.major == "1":
            self._limits()
        return self.report


def _table(series: Iterable[Series]) -> dict[str, dict[str, object]]:
    """By name: the first row of each part of an answer."""
    return {one.name: dict(zip(one.columns, one.values[0], strict=False)) for one in series if one.values}


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
