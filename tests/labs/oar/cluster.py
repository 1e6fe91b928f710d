"""A measured OAR cluster: the lab, a power rig for each node, and a daemon on each node as an admin runs it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import uuid as uuids
from pathlib import Path
from typing import Any, Self

from tests.fakes.rig import RigNode, punctual
from tests.labs.lab import PATIENCE_S, until
from tests.labs.measured import BIN, Json, Measured
from tests.labs.oar import edges
from tests.labs.oar.edges import Edge, read_edges
from tests.labs.oar.lab import OarLab

CPUS = 2
SYSTEM_CPUS = 0.1


class MeasuredOar(Measured[OarLab]):
    """Nodes of the OAR lab; the daemons are inside of them. It makes its own folder."""

    def __init__(self, lab: OarLab, nodes: list[str]) -> None:
        folder = lab.measured / uuids.uuid4().hex[:8]
        folder.mkdir()
        super().__init__(lab, nodes, folder)
        self.recordings: dict[str, list[Path]] = {name: [] for name in nodes}
        self._edges: subprocess.Popen[bytes] | None = None

    def _node(self, place: int, name: str) -> RigNode:
        cpuacct, boot_id = self.lab.cgroup("cpuacct", name), self.lab.boot_id(name).read_text().strip()
        return self._rig_node(place, name, CPUS, SYSTEM_CPUS, (1, 0), cpuacct=cpuacct, boot_id=boot_id, jobs="oar")

    def __enter__(self) -> Self:
        folders = [f"{name}={self.lab.cgroup('cpuacct', name)}" for name in self.nodes]
        (self.folder / "edges").touch()
        self._edges = subprocess.Popen([sys.executable, edges.__file__, self.folder / "edges", *folders])
        punctual(self._edges.pid)
        return super().__enter__()

    def finish(self) -> None:
        """No more is measured; harmless when called again."""
        super().finish()
        if self._edges:
            self._edges.terminate()
            self._edges.wait()
            self._edges = None

    # -- daemons -----------------------------------------------------------------------------------------------

    def config(self, name: str) -> Path:
        """The node's configuration: what is not said has the default, as the mark folder and the cgroups."""
        return self._config(name, {"mark_owners": ["oar"]}, scheduler={"oar": {"dsn": self.lab.dsn}})

    def _argv(self, name: str, *command: str | Path) -> list[str | Path]:
        pairs = [f"{key}={value}" for key, value in self.rig.nodes[name].env.items()]
        return [*self.lab.enter_node(name), "env", *pairs, BIN / "jobimpactd", *command, "--config", self.config(name)]

    def start(self, name: str) -> None:
        """Start a node's daemon; returns when it has read something."""
        recording = self.folder / f"{name}.{len(self.recordings[name])}.jsonl"
        self.recordings[name].append(recording)
        self._spawn(name, self._argv(name, "run", "--record", recording))
        until(lambda: len(lines(recording)) > 2, PATIENCE_S, self.log(name).read_text)

    def check(self, name: str) -> subprocess.CompletedProcess[str]:
        """`jobimpactd check` on a node."""
        return subprocess.run(self._argv(name, "check"), capture_output=True, text=True, check=False)

    def daemon_pid(self, name: str) -> int:
        """Seen from outside; nsenter stays as its parent."""
        found = subprocess.run(
            ["pgrep", "-P", str(self.daemons[name].pid)], capture_output=True, text=True, check=True
        )
        return int(found.stdout)

    def send(self, name: str, number: int) -> None:
        """Send a signal to a node's daemon."""
        if number == signal.SIGCONT:
            self.daemons[name].send_signal(number)  # nsenter stops with its child
        os.kill(self.daemon_pid(name), number)

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        """End a node's daemon by a signal; its exit status."""
        self.send(name, signal.SIGCONT)
        self.send(name, number)
        return self.daemons.pop(name).wait(timeout=PATIENCE_S)

    def crash(self, name: str) -> None:
        """The node loses its power, and its boot id and counters are others when it comes back."""
        self.lab.crash(name)
        self.daemons.pop(name).wait(timeout=PATIENCE_S)
        boot = f"{uuids.uuid4()}\n"
        for path in (self.lab.boot_id(name), self.rig.nodes[name].proc_root / "sys/kernel/random/boot_id"):
            path.write_text(boot)

    # -- accounting --------------------------------------------------------------------------------------------

    @property
    def results(self) -> Path:
        """The results' database of `jobimpact account` here."""
        return self.folder / "results.db"

    def account(self, from_s: int) -> subprocess.CompletedProcess[str]:
        """`jobimpact account` on the cluster's records and books, as on an accounting host."""
        path = self.folder / "accounting.yaml"
        text = {
            "cluster": "lab",
            "store": {"local": {"path": str(self.store)}},
            "results": f"sqlite:///{self.results}",
            "scheduler": {"oar": {"dsn": self.lab.dsn}},
            "inventory": str(self.folder / "none.yaml"),
            "grid": {"zone": "FRA"},
        }
        path.write_text(json.dumps(text), encoding="utf-8")
        command = [str(BIN / "jobimpact"), "account", "--from", str(from_s), "--config", str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    # -- what is known -----------------------------------------------------------------------------------------

    def edges(self) -> list[Edge]:
        """When jobs' cgroups came and went so far."""
        return read_edges(self.folder / "edges")

    def rows(self, name: str, query: str, *values: str) -> list[tuple[Any, ...]]:
        """A query of a node's file; `?` stands for a value."""
        with sqlite3.connect(f"file:{self.store}/{name}.sqlite?mode=ro", uri=True) as db:
            return db.execute(query, values).fetchall()

    def marks(self, name: str) -> list[Json]:
        """The marks that the node's daemons took in."""
        return [line["mark"] for path in self.recordings[name] for line in lines(path) if "mark" in line]


def lines(recording: Path) -> list[Json]:
    """A recording; a last line that is not whole is left out."""
    if not recording.exists():
        return []
    found = recording.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in found if line.endswith("\n")]


def reading_times(recording: Path) -> list[int]:
    """The boot times of the readings, in ns."""
    return [round(line["t"] * 1e9) for line in lines(recording) if "read" in line]
