"""A site behind the dashboards: nodes' books and accounts as they really come to the server.

Nodes go through the real bookkeeper, ledger, outbox and publisher on a driven clock; their jobs through the real
accounting, which publishes what it finds. Only the weeks before are written straight to the server.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace
from tests.bench.store_day import GIB, DayJob, DayNode, Tick, new_books
from tests.stores.servers import Influx

from jobimpact.core.config import Config, Store, load_config
from jobimpact.core.line import line
from jobimpact.core.nodefile import node_file
from jobimpact.core.records import Domain, Gauge, SourceHealth
from jobimpact.core.series import EVER, IMPACT_DAY, Point
from jobimpact.core.server import Server
from jobimpact.nightly.night import account
from jobimpact_daemon.ledger import Ledger
from jobimpact_daemon.outbox import Outbox
from jobimpact_daemon.publisher import Publisher

__all__ = ["CHOSEN", "CLUSTER", "DAILY_J", "HOSTILE", "JOBS", "RUNNING", "TOP", "WEEKS_DAYS", "Job", "Site"]

CLUSTER = "lab"
HOSTILE = 'O\'Brien, "x" /=~ \\ $user ${cluster:raw} .*'
"""A user, lab, partition and name of nobody who means well."""
CHOSEN = {"cluster": CLUSTER, "node": "node11", "job": "102", "user": "bob", "account": "biology"}
"""Of each variable a value for which every panel has something to show."""
DAY_S = 86400
SILENT_S = 1200
WEEKS_DAYS = 40
"""So many days before have accounts."""
DAILY_J = 36e6
"""Of each of the users of those days."""
INVENTORY = """
version: "1"
pue: 1.2
types:
  gpu:
    nodes: node[01-12]
    cpu: {model: Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz, count: 2, cores: 20}
    ram_gb: 256
    gpus: [{model: NVIDIA A100-SXM4-80GB, count: 2}]
"""


@dataclass(frozen=True)
class Job:
    """One job: on some nodes, from and to parts of the time that the site has run."""

    id: str
    nodes: tuple[int, ...]
    gpus: tuple[int, ...]
    begins: float
    ends: float | None
    user: str = "alice"
    account: str | None = "physics"
    partition: str | None = "gpu"
    state: str = "COMPLETED"
    name: str = "train"


JOBS = (
    Job("101", (1,), (0, 1), 0.1, 0.6),
    Job("102", (2, 3), (0, 1), 0.2, 0.8, user="bob", account="biology"),
    Job("103", (4,), (0,), 0.3, 0.5, state="FAILED"),
    Job("104", (5,), (1,), 0.1, 0.9, user="bob", account="biology", state="TIMEOUT", partition="long"),
    Job("105", (6,), (0,), 0.4, 0.7, user=HOSTILE, account=HOSTILE, partition=HOSTILE, name=HOSTILE),
    Job("106", (7,), (0, 1), 0.2, 0.9, user="carol", account=None),
    Job("108", (11,), (1,), 0.3, 0.8, user="carol"),
    Job("107", (8, 9), (0,), 0.5, None, user="carol"),
)
"""The last one still runs."""
TOP, RUNNING = JOBS[1], JOBS[-1]


class _Node(DayNode):
    """One that is read seldom, and its meter each time."""

    def domains(self) -> list[Domain]:
        """Its meter tells its pace."""
        return [replace(one, period_s=self.every_s) if one.kind == "node" else one for one in super().domains()]

    def ticks(self, seconds: int = DAY_S) -> Iterator[Tick]:
        """With the meter's reading."""
        for tick in super().ticks(seconds):
            tick.seen.readings["node:redfish"] = Gauge(self._node_w, tick.seen.t_ns)
            yield tick


@dataclass
class Site:
    """The site.

    Args:
        folder: of its own: nodes' files, records, results.
        server: runs already, and has its database.
        seconds: for how long the nodes have run, up to now.
        every_s: between two readings.
        count: how many nodes.
    """

    folder: Path
    server: Influx
    seconds: int = 9000
    every_s: float = 60.0
    count: int = 12
    now_s: int = field(default_factory=lambda: int(time.time()))

    def fill(self) -> None:
        """Everything, from the nodes to the accounts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, self.count + 1):
            self._node(number)
        self._weeks_before()
        self.problems = account(self._config(), self.now_s).problems

    @property
    def begins_s(self) -> int:
        """When the nodes were switched on."""
        return self.now_s - self.seconds

    @property
    def store(self) -> Store:
        """The server, as the configuration has it."""
        return self.server.store(self.folder)

    def ask(self, query: str, node: str) -> list[tuple[object, ...]]:
        """What a node's own file says."""
        with closing(sqlite3.connect(node_file(self.folder, node))) as db:
            return db.execute(query).fetchall()

    def per_node(self, query: str) -> Iterator[tuple[object, ...]]:
        """What all nodes' files say."""
        for number in range(1, self.count + 1):
            yield from self.ask(query, f"node{number:02}")

    def energy_of(self, job: Job) -> float:
        """In kWh, from the nodes' files."""
        found = self.per_node("SELECT holder, uj FROM ledger")
        return sum(float(str(uj)) for holder, uj in found if holder == job.id) / 3.6e12

    # -- nodes -------------------------------------------------------------------------------------------------------

    def _node(self, number: int) -> None:
        name = f"node{number:02}"
        silent_s = SILENT_S if number == self.count else 0
        jobs = [self._at_node(job) for job in JOBS if number in job.nodes]
        node = _Node(name, jobs, float(self.begins_s), every_s=self.every_s, gpu_count=2)
        books = new_books(node)
        server = self.store.server
        assert server is not None
        outbox = Outbox(server, CLUSTER, name)
        publisher = Publisher(node_file(self.folder, name), Server(server))
        outbox.delivery = lambda: publisher.delivery
        ledger = Ledger(node_file(self.folder, name), name, CLUSTER, outbox=outbox)
        for step, tick in enumerate(node.ticks(self.seconds - silent_s)):
            books.observe(tick.seen, tick.marks)
            if tick.commits:
                health = [self._sick(one) if number == self.count - 1 else one for one in node.health(tick.seen.t_ns)]
                assert ledger.commit(books, health=health), ledger.trouble
            if step % 2:
                # The publisher's thread would wait by a clock that is not driven.
                publisher._round()
        publisher._round()
        assert self.ask("SELECT count(*) FROM outbox", name) == [(0,)], publisher.delivery.problem
        ledger.close()

    def _at_node(self, job: Job) -> DayJob:
        ends_s = 10 * self.seconds if job.ends is None else job.ends * self.seconds
        return DayJob(job.id, job.begins * self.seconds + 0.25, ends_s + 0.5, job.gpus)

    def _sick(self, one: SourceHealth) -> SourceHealth:
        """One node's GPUs often cannot be read."""
        if one.source != "nvml":
            return one
        return replace(one, failures=one.reads // 2, problem="GPU-x: timeout")

    # -- accounts ----------------------------------------------------------------------------------------------------

    def _config(self) -> Config:
        (self.folder / "nodes.yaml").write_text(INVENTORY)
        with (self.folder / "jobs.jsonl").open("w") as file:
            file.writelines(json.dumps(self._record(job)) + "\n" for job in JOBS if job.ends is not None)
        file = self.folder / "jobimpact.yaml"
        settings = {
            "cluster": CLUSTER,
            "results": "sqlite:///results.db",
            "scheduler": {"local": {"path": "jobs.jsonl"}},
            "inventory": "nodes.yaml",
            "grid": {"zone": "FRA"},
        }
        file.write_text(json.dumps(settings))
        return replace(load_config(file), store=self.store)

    def _record(self, job: Job) -> dict[str, object]:
        assert job.ends is not None
        return {
            "id": job.id,
            "user": job.user,
            "account": job.account,
            "partition": job.partition,
            "name": job.name,
            "state": job.state,
            "submit": self.begins_s,
            "start": self.begins_s + job.begins * self.seconds,
            "end": self.begins_s + job.ends * self.seconds,
            "nodes": [f"node{number:02}" for number in job.nodes],
            "cpus": 8 * len(job.gpus) * len(job.nodes),
            "mem_bytes": 64 * GIB * len(job.gpus) * len(job.nodes),
            "gpus": len(job.gpus) * len(job.nodes),
        }

    def _weeks_before(self) -> None:
        """Each user has had one job a day."""
        today_s = self.begins_s // DAY_S * DAY_S
        whole: dict[str, int | float | str | None] = {
            **dict.fromkeys(IMPACT_DAY.ints, 0),
            **dict.fromkeys((name for name in IMPACT_DAY.floats if "gwp" in name), 0.5),
            **dict.fromkeys((name for name in IMPACT_DAY.floats if "adp" in name), 2e-6),
            **dict.fromkeys((name for name in IMPACT_DAY.floats if "_pe_" in name), 120.0),
            **dict.fromkeys(("node_hours", "covered_node_hours", "coverage"), 1.0),
            "jobs": 1,
            "energy_j": DAILY_J,
            "failed_energy_j": 0.0,
            "gpu_hours": 8.0,
            "cpu_hours": 64.0,
        }
        points = [
            Point(IMPACT_DAY, (CLUSTER, user, lab, "gpu"), (today_s - day * DAY_S) * 1000, whole)
            for day in range(1, WEEKS_DAYS + 1)
            for user, lab in (("alice", "physics"), ("bob", "biology"), (HOSTILE, HOSTILE))
        ]
        way = self.store.server
        assert way is not None
        server = Server(way)
        outcome = server.write(EVER, [line(point) for point in points])
        server.close()
        assert outcome.kind == "delivered", outcome
