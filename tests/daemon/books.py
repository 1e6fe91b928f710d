"""Recordings made in memory, played through the real bookkeeper and a real ledger file, with restarts."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobimpact.core.records import NodeFacts
from jobimpact_daemon.bookkeeper import Bookkeeper, State
from jobimpact_daemon.ledger import Ledger
from jobimpact_daemon.recording import read_recording
from jobimpact_daemon.replay import _Player, _told

Json = dict[str, Any]
GIB = 1 << 30
WALL = 1_800_000_000.0


@dataclass
class Played:
    """The books as `replay` tells them, and the bookkeeper's own state."""

    told: Json
    state: State

    def holders(self, domain: str) -> dict[str, int]:
        return {key: uj for key, uj in self.told["domains"][domain]["holders"].items() if uj}

    def pending_ns(self, domain: str) -> int:
        book = self.state.domains[domain]
        return 0 if book.since_ns is None else self.state.holdings.t_ns - book.since_ns

    def check_balance(self) -> None:
        """Law 1 and 2, for every domain and run."""
        for name, domain in self.told["domains"].items():
            assert all(uj >= 0 for uj in domain["holders"].values()), name
            assert sum(domain["holders"].values()) == (domain["measured_uj"] or 0), name
        for job in self.told["jobs"].values():
            assert all(0 <= share <= 1 for share in job["coverage"].values())


def line(t: float, **parts: Any) -> Json:
    """One line of a recording."""
    return {"t": t, "wall": WALL + t, **parts}


def node(cpus: int = 4, mem_bytes: int = 4 * GIB, gpus: Sequence[str] = (), boot: str = "b1", t: float = 0.0) -> Json:
    """The first line."""
    return line(t, boot=boot, node={"cpus": cpus, "mem_bytes": mem_bytes, "gpus": list(gpus)})


def tick(t: float, usage: Json | None = None, source: str = "rapl", **uj: Any) -> Json:
    """A reading; a number is a counter's joules; `package_0` stands for package-0."""
    readings = {
        name.replace("_", "-"): value if isinstance(value, dict) else {"uj": round(value * 1e6)}
        for name, value in uj.items()
    }
    parts = {"usage": usage} if usage is not None else {}
    return line(t, read={source: readings}, **parts)


def use(busy: float | None = None, **jobs: float) -> Json:
    """CPU seconds so far: of the node, and of jobs (`j1` is job 1)."""
    return {"busy_cpu_s": busy, "jobs": {job.removeprefix("j"): {"cpu_s": cpu_s} for job, cpu_s in jobs.items()}}


def start(t: float, job: str, **parts: Any) -> Json:
    return line(t, mark={"event": "start", "job": job, **parts})


def end(t: float, job: str, **parts: Any) -> Json:
    return line(t, mark={"event": "end", "job": job, **parts})


def write(path: Path, lines: Sequence[Json]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def play(
    lines: Sequence[Json], idle_w: dict[str, float] | None = None, restart_at: Collection[int] = (), cpus: int = 4
) -> Played:
    """Play a recording; before each line of `restart_at` the daemon is stopped and started from its file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "n1.sqlite")
        recording = write(Path(folder, "recording"), lines)
        ledger, books, player = _opened(path, idle_w, cpus)
        for number, one in enumerate(read_recording(recording)):
            if number in restart_at:
                assert ledger.commit(books)
                ledger.close()
                waiting, t_ns = player._marks, player._t_ns
                ledger, books, player = _opened(path, idle_w, cpus)
                player._marks, player._t_ns = waiting, t_ns
            player._line(one, recording)
        books.settle()
        rest = write(Path(folder, "rest"), [lines[-1] | {"read": None, "usage": None, "mark": None}] if lines else [])
        player.play(rest)
        ledger.close()
        with sqlite3.connect(path) as db:
            return Played(_told(db, books.state), books.state)


def _opened(path: Path, idle_w: dict[str, float] | None, cpus: int) -> tuple[Ledger, Bookkeeper, _Player]:
    ledger = Ledger(path, "n1", "c", keep=True)
    state, _, resumed = ledger.load(NodeFacts(cpus, 4 * GIB))
    books = Bookkeeper(state, idle_w or {}, ledger.taken)
    books.accounts = ledger.accounts(state)
    if resumed:
        books.resume()
    return ledger, books, _Player(books, ledger)
