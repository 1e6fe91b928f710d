"""A site whose nights publish to a real server, and what the server has then."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from tests.accounting.world import CONFIG, T0, Node, World
from tests.stores.servers import Influx, InfluxV2, Server, Victoria

from jobimpact.core.line import plain
from jobimpact.core.series import EVER, IMPACT_DAY, JOB_IMPACT, NODE_HOUR, PROFILE

__all__ = ["DAY", "DAY_MS", "Site", "Stored", "place", "sums"]

DAY = 86400
DAY_MS = T0 // DAY * DAY * 1000
"""The day of T0."""
_KEPT = {IMPACT_DAY.name: EVER, NODE_HOUR.name: EVER, JOB_IMPACT.name: PROFILE}
_OF = {IMPACT_DAY.name: IMPACT_DAY, NODE_HOUR.name: NODE_HOUR, JOB_IMPACT.name: JOB_IMPACT}


class Stored(Struct, frozen=True):
    """A point as it is read back."""

    tags: dict[str, str]
    stamp_ms: int
    fields: dict[str, Any]


def place(one: Stored) -> tuple[str | None, str | None, str | None]:
    """User, account, partition."""
    return (one.tags.get("user"), one.tags.get("account"), one.tags.get("partition"))


class Site(World):
    """A folder whose store is a server, with a database of its own there.

    Args:
        folder: of its own.
        server: it runs.
        database: its name there; with VictoriaMetrics, the cluster's.
        config: of the rest.
        more: of the store's settings.
    """

    def __init__(
        self, folder: Path, server: Server, database: str = "jobimpact", config: str = CONFIG, **more: Any
    ) -> None:
        self.more = more
        self.server = server
        self.database = database
        self.victoria = isinstance(server, Victoria)
        if not self.victoria:
            server.create(database)
        super().__init__(folder, config.replace("{local: {path: nodes}}", self._store()))
        # The mirror of the nodes' books is the folder itself: no node of this site writes to the server.
        (folder / "nodes" / "mirror").symlink_to(".")

    def node(self, name: str = "node01") -> Node:
        """A node's file, of this site's cluster as a mirror's is."""
        found = super().node(name)
        found.db.execute("INSERT OR REPLACE INTO meta VALUES ('cluster', ?)", (self.config.cluster,))
        return found

    def _store(self) -> str:
        kind = "victoriametrics" if self.victoria else "influxdb"
        more = {} if self.victoria else {"database": self.database}
        if isinstance(self.server, InfluxV2):
            store = self.server.store(Path("nodes")).influxdb
            assert store is not None
            more |= {"org": str(store.org), "token_file": str(store.token_file)}
        return json.dumps({kind: {"url": self.server.url, "path": "nodes", "timeout_s": 30} | more | self.more})

    def points(self, measurement: str) -> list[Stored]:
        """All of a measurement, tags as they were, the stamp of VictoriaMetrics without a publication's number."""
        self.server.settle()
        found = self._exported(measurement) if self.victoria else self._selected(measurement)
        return sorted(found, key=lambda one: (one.stamp_ms, sorted(one.tags.items())))

    def _selected(self, measurement: str) -> list[Stored]:
        server = self.server.engine if isinstance(self.server, InfluxV2) else self.server
        assert isinstance(server, Influx)
        query = f'SELECT * FROM "{self.database}"."{_KEPT[measurement]}"."{measurement}" GROUP BY *'  # noqa: S608 (ours)
        status, body = server.ask("POST", "/query", {"q": query, "epoch": "ms"})
        assert status == 200, body
        found = []
        for series in json.loads(body)["results"][0].get("series", []):
            tags = {name: plain(value) for name, value in series["tags"].items() if value}
            for row in series["values"]:
                values = dict(zip(series["columns"], row, strict=True))
                stamp = values.pop("time")
                fields = {name: value for name, value in values.items() if value is not None}
                found.append(Stored(tags, stamp, fields))
        return found

    def _exported(self, measurement: str) -> list[Stored]:
        """The latest sample of each hour: what a reader of VictoriaMetrics takes."""
        words = _OF[measurement].texts
        match = f'{{__name__=~"{measurement}_.*",cluster={json.dumps(self.config.cluster)}}}'
        status, body = self.server.ask("GET", "/api/v1/export", {"match[]": match, "start": "0", "end": "4000000000"})
        assert status == 200, body
        found: dict[tuple[Any, ...], dict[str, Any]] = {}
        step = 1000 if measurement == JOB_IMPACT.name else 3_600_000
        for text in body.splitlines():
            series = json.loads(text)
            name = series["metric"].pop("__name__").removeprefix(f"{measurement}_")
            tags = tuple(sorted((tag, plain(value)) for tag, value in series["metric"].items()))
            latest = {}
            for stamp, value in sorted(zip(series["timestamps"], series["values"], strict=True)):
                latest[stamp // step * step] = value
            for stamp, value in latest.items():
                found.setdefault((tags, stamp), {})[name] = value
        stored = []
        for (tags, stamp), fields in found.items():
            said = {name: value for name, value in tags if name in words}
            stored.append(Stored({n: v for n, v in tags if n not in words}, stamp, fields | said))
        return stored

    def days(self) -> dict[tuple[Any, ...], dict[str, Any]]:
        """`impact_day` by stamp, user, account, partition."""
        return {(one.stamp_ms, *place(one)): one.fields for one in self.points("impact_day")}

    def jobs(self) -> list[Stored]:
        """`job_impact`, those left out that are replaced."""
        return [one for one in self.points("job_impact") if one.fields.get("end_ms") and one.fields["coverage"] >= 0]

    def change(self, job: str, **changes: Any) -> None:
        """The scheduler says something else of a job that it told of before."""
        lines = [json.loads(line) for line in (self.folder / "jobs.jsonl").read_text().splitlines()]
        was = next(line for line in reversed(lines) if line["id"] == job)
        with (self.folder / "jobs.jsonl").open("a") as file:
            file.write(json.dumps(was | changes) + "\n")


def sums(rows: Sequence[dict[str, Any]], name: str) -> float:
    """Of a field, over those points that have it."""
    return float(sum(row[name] for row in rows if row.get(name) is not None))
