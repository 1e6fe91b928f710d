"""A real `jobimpactd run` on a node of the power rig, and the questions that its file answers."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fakes.curve import Curve, boot_ns, watts
from tests.fakes.rig import RigNode
from tests.fakes.rig_gpu import Gpu

Json = dict[str, Any]
WAIT_S = 120
DAEMON = "from jobimpact_daemon.cli import main; raise SystemExit(main())"
POWER = watts((0.3, 200), (0.2, 80))


def until(true: Callable[[], object], what: str = "") -> None:
    """Wait for something that must come."""
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end, f"waited in vain {what}"
        time.sleep(0.02)


class Daemon:
    """One node's daemon, which may be started again and again.

    Args:
        folder: for everything.
        gpus, node: as RigNode has them.
    """

    def __init__(self, folder: Path, gpus: tuple[Gpu, ...] = (), **node: Any) -> None:
        packages = {"package-0": Curve(boot_ns(), POWER), "dram-0": Curve.flat(boot_ns(), 20_000_000)}
        self.node = RigNode("n1", folder / "node", rapl=packages, gpus=gpus, **node)
        self.folder, self.store, self.marks = folder, folder / "store", folder / "marks"
        self.recording = folder / "recording"
        self.config = folder / "jobimpact.yaml"
        self.process: subprocess.Popen[str] | None = None
        self._pid = 0
        self.progress: Path | None = None
        self.configure()

    def configure(self) -> None:
        rapl = {"root": str(self.node.powercap.root), "idle_w": {"package-0": 40}}
        node: Json = {"name": "n1", "interval_s": 0.2, "marks": str(self.marks), "proc_root": str(self.node.proc_root)}
        node |= {"cgroup_root": str(self.folder / "cgroup"), "sources": {"rapl": rapl, "nvml": {"deadline_s": 0.2}}}
        node["progress"] = self.progress and str(self.progress)
        config = {"cluster": "c", "store": {"local": {"path": str(self.store)}}, "node": node}
        self.config.write_text(json.dumps(config))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", DAEMON, *arguments, "--config", str(self.config)]

    def start(self, *before: str) -> None:
        """Start it, and wait until it has read something."""
        lines = len(self.lines())
        self.process = subprocess.Popen(
            [*before, *self.command("run", "--record", str(self.recording))],
            env={**os.environ, **self.node.env},
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: len(self.lines()) > lines + 2, "for the daemon's first readings")

    def stop(self, number: int = signal.SIGTERM) -> str:
        """End it; what it said."""
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(number)
        _, said = process.communicate(timeout=WAIT_S)
        assert process.returncode == (0 if number == signal.SIGTERM else -number), said
        return said

    def mark(self, event: str, job: str, **fields: object) -> int:
        """What a hook writes, now; the time that stands in it, in ns."""
        self._pid += 1
        t_ns = boot_ns() // 10**7 * 10**7
        uptime = f"{t_ns / 10**9:.2f}"
        boot = (self.node.proc_root / "sys/kernel/random/boot_id").read_text().strip()
        whole = {"v": 1, "event": event, "job": job, "boot": boot, "uptime": uptime, **fields, "end": 1}
        hidden = self.marks / f".tmp.{self._pid}"
        hidden.write_text("".join(f"{key}={value}\n" for key, value in whole.items()))
        hidden.rename(self.marks / f"{uptime}.{job}.{event}.{self._pid}")
        return t_ns

    def taken(self) -> bool:
        """Whether every mark is in the books on disk."""
        return not any(file.is_file() for file in self.marks.iterdir())

    def lines(self) -> list[Json]:
        """The recording so far: whole lines only."""
        if not self.recording.exists():
            return []
        text = self.recording.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def late_s(self) -> float:
        """By how much the latest of the readings that followed a mark was late: energy is known at readings."""
        lines = self.lines()
        reads = [line["t"] for line in lines if "read" in line]
        marks = [line["t"] for line in lines if "mark" in line]
        return max((next(t for t in reads if t >= mark) - mark for mark in marks if mark <= reads[-1]), default=0.0)

    def raw(self, domain: str) -> list[int]:
        """Every value that the daemon has read of a counter."""
        read = [line.get("read", {}) for line in self.lines()]
        found = [one[source][domain] for one in read for source in one if domain in one[source]]
        return [one["uj"] for one in found if "uj" in one]

    def ask(self, question: str) -> list[Any]:
        with sqlite3.connect(f"file:{self.store}/n1.sqlite?mode=ro", uri=True) as db:
            return db.execute(question).fetchall()

    def measured(self) -> dict[str, int]:
        """Measured energy by domain, after a look whether the books balance."""
        found = dict(self.ask("SELECT name, measured_uj FROM domain"))
        sums = dict(self.ask("SELECT domain, sum(uj) FROM ledger GROUP BY domain"))
        assert {name: uj for name, uj in found.items() if uj} == {name: uj for name, uj in sums.items() if uj}
        return found

    def check_exact(self, *domains: str) -> None:
        """Law 3: measured is the last value read minus the first."""
        measured = self.measured()
        for domain in domains:
            values = self.raw(domain)
            assert measured[domain] == values[-1] - values[0] > 0, domain
