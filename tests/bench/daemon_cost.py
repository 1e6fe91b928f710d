"""What the daemon costs a node: CPU of a core and memory, beside codecarbon and zeus in the same run.

Four RAPL domains and eight GPUs of the power rig; 1, 10 and 100 live jobs in real cgroups (v1, as root), each node
with one more that starts and ends every ten seconds through the real hooks; one daemon at 1 Hz and one at 10 Hz. The
others see the rig's NVML library, and its powercap tree where they look for it (a mount namespace of their own).
`python -m tests.bench.daemon_cost [SECONDS]` (300 by default). `$BENCH_PYTHON` is the Python that has the others.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from tests.bench.node import GPUS, config, hook, live_jobs, playing
from tests.fakes.rig import RigNode

OTHERS = os.environ.get("BENCH_PYTHON", sys.executable)
JOBS = (1, 10, 100)
INTERVALS_S = (1.0, 0.1)
CALM = 10
"""Jobs of the node on which none starts or ends."""
WARM_S = 10.0
DAEMON = "from jobimpact_daemon.cli import main; raise SystemExit(main())"
CODECARBON = """
import logging, sys, time
# zeus brings it; without ROCm below it there is nothing for it to see
sys.modules["amdsmi"] = None
from codecarbon import EmissionsTracker
tracker = EmissionsTracker(measure_power_secs=1, save_to_file=False, log_level="critical")
logging.disable(logging.CRITICAL)
tracker.start()
time.sleep(5)
tracker.flush()
joules = {name: getattr(tracker, f"_total_{name}_energy").kWh * 3.6e6 for name in ("cpu", "gpu", "ram")}
print(", ".join(f"{name} {one:.0f} J" for name, one in joules.items()), "in 5 s", file=sys.stderr, flush=True)
time.sleep(1e6)
"""
ZEUS = """
import logging, sys, time
from zeus.monitor import ZeusMonitor
if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    monitor = ZeusMonitor()
    number = 0
    while True:
        monitor.begin_window("tick", sync_execution=False)
        time.sleep(1)
        found = monitor.end_window("tick", sync_execution=False)
        if number == 0:
            cpus, drams = found.cpu_energy or {}, found.dram_energy or {}
            said = f"{len(found.gpu_energy)} GPUs, {len(cpus)} packages, {len(drams)} DRAM"
            print(said, file=sys.stderr, flush=True)
        number += 1
"""
SEEN = """
mount -t tmpfs tmpfs /sys/devices/virtual && mkdir /sys/devices/virtual/powercap &&
mount --bind "$0/devices/virtual/powercap" /sys/devices/virtual/powercap &&
mount -t tmpfs tmpfs /sys/class && mkdir /sys/class/powercap &&
mount --bind "$0/class/powercap" /sys/class/powercap && exec "$@"
"""
"""Puts the rig's powercap tree where programs look for one."""


class Cost:
    """CPU seconds and memory of one process and its children, from /proc."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._start_s = self._cpu_s()
        self._since = time.monotonic()
        self.rss_max = 0

    def _all(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]

    def _cpu_s(self) -> float:
        ended = self._process.cpu_times()
        alive = (one.cpu_times() for one in self._all())
        return sum(one.user + one.system for one in alive) + ended.children_user + ended.children_system

    def look(self) -> None:
        """Keep the largest memory seen."""
        self.rss_max = max(self.rss_max, sum(one.memory_info().rss for one in self._all()))

    def told(self) -> str:
        """Both figures."""
        took = time.monotonic() - self._since
        cpu_s = self._cpu_s() - self._start_s
        return f"{cpu_s / took:8.3%} of a core  {cpu_s:7.2f} s CPU in {took:4.0f} s  {self.rss_max / 1e6:6.1f} MB RSS"


@dataclass
class Watched:
    """One process that is measured; `marks` are its node's, where it is a daemon that follows jobs."""

    name: str
    process: subprocess.Popen[bytes]
    said: Path
    node: str = ""
    marks: list[Path] = field(default_factory=list)
    cost: Cost | None = None

    def line(self) -> str:
        """Its figures; of another program also what it measures."""
        if self.process.poll() is not None or self.cost is None:
            last = self.said.read_text(errors="replace").strip().splitlines()
            return f"{self.name:34}ended: {last[-1] if last else 'without a word'}"
        said = self.said.read_text(errors="replace").strip().splitlines()
        measures = "" if self.marks else f"  reads {said[-1] if said else 'nothing'}"
        return f"{self.name:34}{self.cost.told()}{measures}"


def main(seconds: float = 300.0) -> None:
    """Measure all of them at once for so many seconds, and print."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        node = stack.enter_context(playing(folder))
        watched = [*_daemons(stack, folder, node), *_others(stack, folder, node)]
        time.sleep(WARM_S)
        for one in watched:
            if one.process.poll() is None:
                one.cost = Cost(one.process.pid)
        _pass(seconds, watched)
        print("\n".join(one.line() for one in watched))


def _daemons(stack: contextlib.ExitStack, folder: Path, node: RigNode) -> Iterator[Watched]:
    rig: dict[str, object] = {"rapl": {"root": str(node.powercap.root)}, "nvml": {}}
    pid = os.getpid()
    for count in JOBS:
        for interval_s in INTERVALS_S:
            name = f"jib{pid}-{count}-{round(1 / interval_s)}"
            jobs = stack.enter_context(live_jobs(folder, name, count))
            path = config(folder, name, interval_s, rig)
            marks = path.parent / "marks"
            one = _start(stack, folder, name, [sys.executable, "-c", DAEMON, "run", "--config", str(path)], node.env)
            for number, job in enumerate(jobs):
                hook("prolog", job, name, marks, str(number) if number < GPUS else "")
            label = f"jobimpactd {1 / interval_s:2.0f} Hz, {count:3} job{'s' if count > 1 else ' '}"
            yield Watched(label, *one, name, [marks])
    name = f"jib{pid}-calm"
    jobs = stack.enter_context(live_jobs(folder, name, CALM))
    path = config(folder, name, 1.0, rig)
    one = _start(stack, folder, name, [sys.executable, "-c", DAEMON, "run", "--config", str(path)], node.env)
    for number, job in enumerate(jobs):
        hook("prolog", job, name, path.parent / "marks", str(number) if number < GPUS else "")
    yield Watched(f"jobimpactd  1 Hz, {CALM:3} jobs, no edges", *one, name, [path.parent / "marks"])
    name = f"jib{pid}-none"
    path = config(folder, name, 1.0, {"rapl": {"root": str(node.powercap.root)}})
    one = _start(stack, folder, name, [sys.executable, "-c", DAEMON, "run", "--config", str(path)], {})
    yield Watched("jobimpactd  1 Hz, RAPL alone, idle", *one, name, [path.parent / "marks"])


def _others(stack: contextlib.ExitStack, folder: Path, node: RigNode) -> Iterator[Watched]:
    control = node.powercap.root / "intel-rapl"
    if not (control / "subsystem").exists():
        (control / "subsystem").symlink_to(node.powercap.root.resolve())
    smi = folder / "bin/nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\nexit 0\n", encoding="ascii")  # where it is, codecarbon looks for GPUs
    smi.chmod(0o755)
    environment = node.env | {"PATH": f"{smi.parent}:{os.environ['PATH']}"}
    seen: list[str | Path] = ["unshare", "-m", "sh", "-c", SEEN, node.powercap.root.parents[1]]
    for name, program in (("codecarbon 1 s", CODECARBON), ("zeus 1 s", ZEUS)):
        script = folder / f"{name.split()[0]}_bench.py"
        script.write_text(program, encoding="utf-8")
        yield Watched(name, *_start(stack, folder, script.stem, [*seen, OTHERS, script], environment))


def _start(
    stack: contextlib.ExitStack, folder: Path, name: str, argv: list[str | Path], environment: dict[str, str]
) -> tuple[subprocess.Popen[bytes], Path]:
    said = folder / f"{name}.said"
    with said.open("wb") as file:
        process = subprocess.Popen(argv, env={**os.environ, **environment}, stdout=file, stderr=file)
    stack.callback(_end, process)
    return process, said


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return  # it has said why
    for one in psutil.Process(process.pid).children(recursive=True):
        one.terminate()
    process.terminate()
    process.wait(30)


def _pass(seconds: float, watched: list[Watched]) -> None:
    """Let the time pass; on each node one job starts and ends every ten seconds."""
    until, number = time.monotonic() + seconds, 5000
    daemons = [one for one in watched if one.marks and not one.node.endswith(("none", "calm"))]
    while time.monotonic() < until:
        for event in ("prolog", "epilog"):
            for one in daemons:
                hook(event, str(number), one.node, one.marks[0])
            for one in watched:
                if one.cost is not None and one.process.poll() is None:
                    one.cost.look()
            time.sleep(min(5, max(0, until - time.monotonic())))
        number += 1


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 300)
