"""A site in a folder: configuration, inventory, records and node files, as the daemon and a scheduler write them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobimpact.core.config import Config, load_config
from jobimpact.core.nodefile import node_file, open_for_writing
from jobimpact.core.records import JobRecord

T0 = 1795190300
"""When everything here begins: 2026-11-20, 15:58:20 UTC."""
NS = 10**9

INVENTORY = """
version: "2026-11"
pue: 1.3
types:
  cpu:
    nodes: node[01-02]
    cpu: {model: Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz, count: 2, cores: 20}
    ram_gb: 256
    ssd_gb: [960, 960]
  a100:
    nodes: [node03, node04]
    cpu: {model: AMD EPYC 7763 64-Core Processor, count: 2, cores: 64}
    ram_gb: 1024
    ram_modules: 16
    gpus: [{model: NVIDIA A100-SXM4-80GB, count: 8}]
    psu: 4
"""

CONFIG = """
cluster: lab
store: {local: {path: nodes}}
results: sqlite:///results.db
scheduler: {local: {path: jobs.jsonl}}
inventory: nodes.yaml
grid: {zone: FRA}
"""


def record(job: str = "1", **changes: Any) -> JobRecord:
    """A job of 100 s on node01, from T0 on."""
    fields: dict[str, Any] = {
        "cluster": "lab",
        "raw_id": job,
        "job_id": job,
        "key": f"{job}@{T0}",
        "user": "alice",
        "account": None,
        "partition": None,
        "name": "train",
        "state": "COMPLETED",
        "exit_code": "0:0",
        "submit_s": T0,
        "start_s": float(T0),
        "end_s": T0 + 100.0,
        "elapsed_s": 100.0,
        "nodes": ("node01",),
        "cpus": 4,
        "mem_bytes": 2**30,
        "gpus": 0,
        "raw": {},
    }
    return JobRecord(**fields | changes)


class World:
    """The folder, and what one can do in it."""

    def __init__(self, folder: Path, config: str = CONFIG, inventory: str | None = INVENTORY) -> None:
        self.folder = folder
        self.config_file = folder / "jobimpact.yaml"
        self.config_file.write_text(config)
        if inventory is not None:
            (folder / "nodes.yaml").write_text(inventory)
        (folder / "nodes").mkdir()
        (folder / "jobs.jsonl").touch()

    @property
    def config(self) -> Config:
        """The configuration as loaded."""
        return load_config(self.config_file)

    @property
    def results(self) -> Path:
        """The results' file."""
        return self.folder / "results.db"

    def say(self, job: str = "1", **changes: Any) -> None:
        """The scheduler's record of a job of 100 s on node01, from T0 on: one more line."""
        line: dict[str, Any] = {
            "id": job,
            "user": "alice",
            "name": "train",
            "state": "COMPLETED",
            "exit_code": "0:0",
            "submit": T0,
            "start": T0,
            "end": T0 + 100,
            "nodes": ["node01"],
            "cpus": 4,
            "mem_bytes": 2**30,
            "gpus": 0,
        }
        with (self.folder / "jobs.jsonl").open("a") as file:
            file.write(json.dumps(line | changes) + "\n")

    def node(self, name: str = "node01") -> Node:
        """A node's file, made if it is not there."""
        return Node(node_file(self.folder / "nodes", name))

    def rows(self) -> dict[str, tuple[int, str]]:
        """The results' revisions and digests by key."""
        with sqlite3.connect(self.results) as db:
            return {
                key: (rev, digest) for key, rev, digest in db.execute("SELECT key, revision, digest FROM job_result")
            }


class Node:
    """One node's file, written with rows like the daemon's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.db = open_for_writing(path)

    def domain(
        self,
        name: str = "package-0",
        kind: str = "cpu",
        method: str = "counter",
        reason: str | None = None,
        source: str = "rapl",
    ) -> None:
        """A power domain with nothing in it yet."""
        row = (name, kind, source, method, reason)
        self.db.execute("INSERT INTO domain VALUES (?, ?, ?, ?, 0, 0, 0, ?)", row)

    def run(self, job: str = "1", start: float = 0.5, end: float | None = 100.5, **more: Any) -> str:
        """A run, its edges in seconds after T0, `held` its parts of the node x ns. Gives its key."""
        restart = more.get("restart", 0)
        key = job if restart == 0 else f"{job}#{restart}"
        elapsed_ns = round(((end if end is not None else start + 50) - start) * NS)
        row = (key, job, restart, more.get("uid"), more.get("cpus", 4), more.get("mem_bytes", 2**30))
        row += (json.dumps(more.get("gpus", [])), T0 + start, None if end is None else T0 + end, elapsed_ns)
        state = more.get("state", "open" if end is None else "ended")
        row += tuple(json.dumps(more.get(name, empty)) for name, empty in (("flags", []), ("held", {}), ("used", {})))
        row = (*row[:10], state, *row[10:])
        self.db.execute("INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        return key

    def charge(self, holder: str, domain: str = "package-0", joules: float = 5000.0, known_s: float = 100.0) -> None:
        """Energy of a holder; the domain's own sum keeps up, so that the books balance."""
        uj, known_ns = round(joules * 1e6), round(known_s * NS)
        self.db.execute("INSERT INTO ledger VALUES (?, ?, ?, ?)", (domain, holder, uj, known_ns))
        self.db.execute(
            "UPDATE domain SET measured_uj = measured_uj + ?, known_ns = known_ns + ? WHERE name = ?",
            (uj, known_ns, domain),
        )

    def point(self, holder: str, at: float, joules: float, domain: str = "package-0", known_s: float = 0.0) -> None:
        """What a holder has so far, `at` seconds after T0."""
        row = (holder, domain, T0 + at, round(joules * 1e6), round(known_s * NS))
        self.db.execute("INSERT INTO job_energy VALUES (?, ?, ?, ?, ?)", row)

    def said(self, run: str, at: float, step: int | None = None, uj: int | None = None, **metrics: float) -> None:
        """What a run said of its progress, `at` seconds after T0."""
        for name, value in metrics.items() or [("", None)]:
            self.db.execute("INSERT INTO progress VALUES (?, ?, ?, ?, ?, ?)", (run, T0 + at, name, step, value, uj))

    def label(self, run: str, **labels: str) -> None:
        """What a run said that it is."""
        for name, value in labels.items():
            self.db.execute("INSERT INTO label VALUES (?, ?, ?, ?)", (run, name, value, T0))

    def redfish(self, settled: bool = True) -> Node:
        """The node has a BMC: its meter and the rest, which as yet holds nothing."""
        self.domain("node:redfish", "node", "gauge", source="redfish")
        self.domain("rest", "rest", "gauge", source="redfish")
        if settled:
            self.db.execute("INSERT INTO whole VALUES (1, 'node:redfish', 0, 0, 0)")
        return self

    def settle(
        self, rest: dict[str, float], parts_j: float = 0.0, known_s: float = 100.0, open_j: float = 0.0
    ) -> None:
        """A window's rest by holder, in joules; the meter has measured it, the parts, and what is still open."""
        for holder, joules in rest.items():
            self.charge(holder, "rest", joules, known_s)
        meter_uj = round((sum(rest.values()) + parts_j) * 1e6)
        self.db.execute(
            "UPDATE whole SET meter_uj = meter_uj + ?, parts_uj = parts_uj + ?", (meter_uj, round(parts_j * 1e6))
        )
        more = (meter_uj + round(open_j * 1e6), round(known_s * NS))
        self.db.execute(
            "UPDATE domain SET measured_uj = measured_uj + ?, known_ns = known_ns + ? WHERE kind = 'node'", more
        )

    def measured(self, job: str = "1", joules: float = 5000.0, **more: Any) -> Node:
        """All at once: a CPU, and a run with energy."""
        if not self.db.execute("SELECT 1 FROM domain WHERE name = 'package-0'").fetchone():
            self.domain()
        self.charge(self.run(job, **more), joules=joules, known_s=more.get("known_s", 100.0))
        return self


def batch(world: World, jobs: Sequence[str]) -> None:
    """Several measured jobs on node01."""
    node = world.node()
    for job in jobs:
        world.say(job)
        node.measured(job)
