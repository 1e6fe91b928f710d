"""Nodes whose real daemons publish to a server, jobs that come and go on them, and a witness of every point.

The witness is in the node's own file: triggers keep a copy of each row that is put into the outbox, and the order in
which rows leave it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from tests.bench.store_points import Stamped, parse
from tests.fakes.curve import Curve, boot_ns, watts
from tests.fakes.rig import PowerRig, RigNode

from jobimpact.core.config import Store
from jobimpact.core.nodefile import node_file, open_for_reading, open_for_writing
from jobimpact_daemon.publisher import CONFIRM_S, PERIOD_S

__all__ = ["DEADLINE_S", "Load", "NodeFile", "StoreNode", "playing", "until"]

DEADLINE_S = 120.0
DAEMON = "from jobimpact_daemon.cli import main; raise SystemExit(main())"
CPUS = 16
WITNESS = """
CREATE TABLE IF NOT EXISTS witness AS SELECT * FROM outbox WHERE 0;
CREATE TABLE IF NOT EXISTS gone (seq INTEGER PRIMARY KEY AUTOINCREMENT, id INTEGER NOT NULL, kept TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS outbox_comes AFTER INSERT ON outbox
BEGIN INSERT INTO witness SELECT * FROM outbox WHERE id = new.id; END;
CREATE TRIGGER IF NOT EXISTS outbox_goes AFTER DELETE ON outbox
BEGIN INSERT INTO gone (id, kept) VALUES (old.id, old.kept); END;
"""


def until(holds: Callable[[], object], what: Callable[[], str] | str, deadline_s: float = DEADLINE_S) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: it does not come true.
    """
    end = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"waited in vain for {what if isinstance(what, str) else what()}")
        time.sleep(0.05)


class NodeFile:
    """A node's file, with its witness.

    Args:
        path: where; made if it is not there.
        name: the node's.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.file, self.name = path, name
        self._awaited: int | None = None
        db = open_for_writing(path)
        db.executescript(WITNESS)
        db.close()

    def ask(self, question: str, *values: object) -> list[tuple[Any, ...]]:
        """The node's file."""
        db = open_for_reading(self.file)
        try:
            return db.execute(question, values).fetchall()
        finally:
            db.close()

    def queued(self) -> int:
        """Points that are not delivered yet."""
        return int(self.ask("SELECT coalesce(sum(n), 0) FROM outbox")[0][0])

    def waits(self) -> int:
        """Points that wait for longer than the server is given to write down what it has taken."""
        sure_ms = round((time.time() - CONFIRM_S - 2 * PERIOD_S) * 1000)
        return int(self.ask("SELECT coalesce(sum(n), 0) FROM outbox WHERE stamp_ms < ?", sure_ms)[0][0])

    def delivered(self) -> bool:
        """Whether all that is in the outbox now is gone from it; asked again and again."""
        last = self.ask("SELECT max(id) FROM outbox WHERE id <= coalesce(?, id)", self._awaited)[0][0]
        self._awaited = self._awaited or last
        if last is None:
            self._awaited = None
        return last is None

    def witnessed(self) -> Iterator[Stamped]:
        """Every point that was ever put into the outbox."""
        yield from self._points("witness")

    def waiting(self) -> Iterator[Stamped]:
        """Every point that waits."""
        yield from self._points("outbox")

    def _points(self, table: str) -> Iterator[Stamped]:
        for (body,) in self.ask(f"SELECT lines FROM {table} ORDER BY id"):  # noqa: S608 (our own words)
            for line in zlib.decompress(body).decode().split("\n"):
                yield parse(line)

    def left_in_order(self) -> bool:
        """Whether rows left the outbox in the order in which they came, for each database."""
        found: dict[str, list[int]] = {}
        for number, kept in self.ask("SELECT id, kept FROM gone ORDER BY seq"):
            found.setdefault(kept, []).append(number)
        return all(numbers == sorted(numbers) for numbers in found.values())


class StoreNode(NodeFile):
    """One node and its daemon.

    Args:
        folder: of its own.
        name: the node's.
        store: the configuration's section; its path is replaced by one in the folder.
        interval_s: between two readings.
    """

    def __init__(self, folder: Path, name: str, store: Store, interval_s: float = 1.0) -> None:
        super().__init__(node_file(folder / "store", name), name)
        self.folder = folder
        now = boot_ns()
        power = Curve(now, watts((0.3, 200), (0.2, 80)))
        self.rig = RigNode(
            name, folder / "rig", rapl={"package-0": power, "dram-0": Curve.flat(now, 20_000_000)}, cpus=CPUS
        )
        self.marks = folder / "marks"
        self.marks.mkdir(mode=0o700)
        self.config = folder / "jobimpact.yaml"
        self.config.write_text(json.dumps(self._settings(store, interval_s)), encoding="utf-8")
        self.log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._marks = 0

    def _settings(self, store: Store, interval_s: float) -> dict[str, Any]:
        server = "influxdb" if store.influxdb else "victoriametrics"
        found = {name: one for name, one in msgspec.to_builtins(store.server).items() if one is not None}
        rapl = {"root": str(self.rig.powercap.root), "idle_w": {"package-0": 40, "dram-0": 10}}
        node = {"name": self.name, "interval_s": interval_s, "marks": "marks", "cgroup_root": "cgroup"}
        node |= {"proc_root": str(self.rig.proc_root), "cpus": CPUS, "sources": {"rapl": rapl}}
        return {"cluster": "lab", "store": {server: found | {"path": "store"}}, "node": node}

    def start(self) -> None:
        """Start the daemon, and wait until it has booked something."""
        before = self._state()
        with self.log.open("ab") as log:
            command = [sys.executable, "-c", DAEMON, "run", "--config", str(self.config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **self.rig.env})
        until(lambda: self._goes_on(before), lambda: f"{self.name}'s first commit: {self.said()}")

    def _goes_on(self, before: bytes) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"{self.name}'s daemon died: {self.said()}")
        return self._state() != before

    def _state(self) -> bytes:
        found = self.ask("SELECT data FROM state")
        return bytes(found[0][0]) if found else b""

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the daemon; harmless when it does not run.

        Raises:
            RuntimeError: it did not end well.
        """
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(how)
        status = process.wait(DEADLINE_S)
        if status != (0 if how == signal.SIGTERM else -how):
            raise RuntimeError(f"{self.name}'s daemon ended with {status}: {self.said()}")

    @property
    def pid(self) -> int:
        """The daemon's."""
        assert self._process is not None
        return self._process.pid

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""

    def mark(self, event: str, job: str, **fields: object) -> None:
        """What a hook writes, now."""
        self._marks += 1
        uptime = f"{boot_ns() // 10**7 / 100:.2f}"
        whole = {"v": 1, "event": event, "job": job, "boot": self.rig.boot_id, "uptime": uptime, **fields, "end": 1}
        hidden = self.marks / f".tmp.{self._marks}"
        hidden.write_text("".join(f"{key}={value}\n" for key, value in whole.items()))
        hidden.rename(self.marks / f"{uptime}.{job}.{event}.{self._marks}")

    def taken(self) -> bool:
        """Whether every mark is in the books on disk."""
        return not any(file.is_file() for file in self.marks.iterdir())


@contextlib.contextmanager
def playing(folder: Path, store: Store, count: int, interval_s: float = 1.0) -> Iterator[list[StoreNode]]:
    """So many nodes, whose daemons run; what still runs at the end is killed."""
    nodes = []
    for number in range(1, count + 1):
        own = folder / f"n{number}"
        own.mkdir(parents=True)
        nodes.append(StoreNode(own, f"n{number}", store, interval_s))
    with PowerRig(folder, *(node.rig for node in nodes), tick_ms=50), contextlib.ExitStack() as stack:
        for node in nodes:
            stack.callback(node.end, signal.SIGKILL)
            node.start()
        yield nodes


class Load:
    """Jobs that come and go on the nodes.

    Args:
        nodes: where.
        seed: which.
        apart_s: seconds from one start on a node to the next, about.
        longest_s: none lasts longer.
    """

    def __init__(
        self, nodes: Sequence[StoreNode], seed: int = 1, apart_s: float = 2.0, longest_s: float = 10.0
    ) -> None:
        self._nodes, self._chance = nodes, random.Random(seed)
        self._apart_s, self._longest_s = apart_s, longest_s
        self._due: dict[str, float] = dict.fromkeys((node.name for node in nodes), 0.0)
        self._running: dict[tuple[str, str], float] = {}
        self.jobs = 0

    def run(self, seconds: float, done: Callable[[], object] = lambda: False) -> None:
        """Go on for so long, or until something has happened."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s and not done():
            self._step(time.monotonic())
            time.sleep(0.05)

    def finish(self) -> None:
        """End every job, and wait until all marks are in the books."""
        for node in self._nodes:
            for name, job in [key for key in self._running if key[0] == node.name]:
                del self._running[name, job]
                node.mark("end", job)
        for node in self._nodes:
            until(node.taken, lambda node=node: f"{node.name}'s marks: {node.said()}")  # type: ignore[misc]

    def _step(self, now: float) -> None:
        for node in self._nodes:
            for key in [key for key, end_s in self._running.items() if key[0] == node.name and end_s <= now]:
                del self._running[key]
                node.mark("end", key[1])
            if self._due[node.name] <= now and sum(name == node.name for name, _ in self._running) < CPUS // 2:
                self._due[node.name] = now + self._chance.uniform(0.5, 1.5) * self._apart_s
                self.jobs += 1
                job = str(1000 + self.jobs)
                self._running[node.name, job] = now + self._chance.uniform(0.1, 1.0) * self._longest_s
                node.mark("start", job, cpus=self._chance.choice((1, 2)), uid=1000)
