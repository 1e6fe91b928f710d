"""What the daemon costs a node: CPU of a core and memory over some minutes, beside codecarbon in the same run.

Four RAPL domains and eight GPUs of the power rig, ten live jobs in real cgroups (v1), a job that starts and ends every
ten seconds through the real hooks. `python -m tests.bench.daemon_cost [SECONDS]` (300 by default; root, for cgroups).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from tests.fakes.curve import Curve, boot_ns, watts
from tests.fakes.rig import PowerRig, RigNode
from tests.fakes.rig_gpu import gpu

HOOKS = Path(__file__).parents[2] / "prolog_epilog/slurm"
CGROUPS = Path("/sys/fs/cgroup")
NODE = "jibench"
JOBS = 10
CODECARBON = """
import logging, time
from codecarbon import EmissionsTracker
logging.disable(logging.CRITICAL)
tracker = EmissionsTracker(measure_power_secs=1, save_to_file=False, log_level="critical")
tracker.start()
time.sleep(1e6)
"""


class Cost:
    """CPU seconds and memory of one process and its children, from /proc."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._start_s = self._cpu_s()
        self._since = time.monotonic()
        self.rss_max = 0

    def _cpu_s(self) -> float:
        alive = [self._process, *self._process.children(recursive=True)]
        ended = self._process.cpu_times()
        return sum(one.cpu_times().user + one.cpu_times().system for one in alive) + (
            ended.children_user + ended.children_system
        )

    def look(self) -> None:
        """Keep the largest memory seen."""
        alive = [self._process, *self._process.children(recursive=True)]
        self.rss_max = max(self.rss_max, sum(one.memory_info().rss for one in alive))

    def told(self) -> str:
        """Both figures."""
        took = time.monotonic() - self._since
        cpu_s = self._cpu_s() - self._start_s
        return f"{cpu_s / took:8.3%} of a core ({cpu_s:.2f} s in {took:.0f} s), {self.rss_max / 1e6:5.1f} MB at most"


@contextlib.contextmanager
def live_jobs() -> Iterator[list[str]]:
    """Ten jobs' cgroups as Slurm makes them, each with a process that works a little."""
    folders = [CGROUPS / controller / f"slurm_{NODE}" / "uid_0" for controller in ("cpuacct", "memory")]
    jobs = [str(1000 + number) for number in range(JOBS)]
    workers = []
    for job in jobs:
        worker = subprocess.Popen(
            ["/bin/sh", "-c", "while :; do i=0; while [ $i -lt 500 ]; do i=$((i+1)); done; sleep 1; done"]
        )
        workers.append(worker)
        for folder in folders:
            (folder / f"job_{job}").mkdir(parents=True, exist_ok=True)
            (folder / f"job_{job}/cgroup.procs").write_text(str(worker.pid), encoding="ascii")
    try:
        yield jobs
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        for folder in folders:
            for place in [*(folder / f"job_{job}" for job in jobs), folder, folder.parent]:
                with contextlib.suppress(OSError):
                    place.rmdir()


def hook(event: str, job: str, marks: Path, gpus: str = "") -> None:
    """The real Prolog or Epilog."""
    environment = {"SLURM_JOB_ID": job, "SLURM_JOB_UID": "0", "SLURMD_NODENAME": NODE, "JOBIMPACT_MARKS": str(marks)}
    environment |= {"SLURM_JOB_CPUS_PER_NODE": "4"} | ({"SLURM_JOB_GPUS": gpus} if gpus else {})
    subprocess.run([HOOKS / event], env=environment, check=True)


def main(seconds: int) -> None:
    """Measure both for so many seconds, and print."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        now = boot_ns()
        rapl = {
            name: Curve(now, watts((0.3, 120), (0.7, 60))) for name in ("package-0", "package-1", "dram-0", "dram-1")
        }
        gpus = [gpu(f"GPU-{number}", Curve(now, watts((0.5, 300))), minor=number) for number in range(8)]
        node = RigNode(NODE, folder / NODE, rapl=rapl, gpus=gpus, cpus=64, mem_bytes=256 << 30)
        stack.enter_context(PowerRig(folder, node))
        jobs = stack.enter_context(live_jobs())
        marks = folder / "marks"
        marks.mkdir(mode=0o700)
        config = folder / "node.yaml"
        config.write_text(
            f"store: {{local: {{path: store}}}}\nresults: sqlite:///results.db\n"
            f"node:\n  name: {NODE}\n  marks: marks\n  cpus: 64\n  mem_bytes: {256 << 30}\n"
            f"  sources: {{rapl: {{root: {node.powercap.root}}}, nvml: {{}}}}\n",
            encoding="utf-8",
        )
        daemon = stack.enter_context(
            _running([str(Path(sys.executable).parent / "jobimpactd"), "run", "--config", str(config)], node.env)
        )
        other = stack.enter_context(_running([sys.executable, "-c", CODECARBON], node.env))
        for number, job in enumerate(jobs):
            hook("prolog", job, marks, str(number) if number < 8 else "")
        time.sleep(10)
        costs = {"jobimpactd run": Cost(daemon.pid), "codecarbon 1 s": Cost(other.pid)}
        until = time.monotonic() + seconds
        number = 5000
        while time.monotonic() < until:
            hook("prolog", str(number), marks)
            for cost in costs.values():
                cost.look()
            time.sleep(min(5, max(0, until - time.monotonic())))
            hook("epilog", str(number), marks)
            time.sleep(min(5, max(0, until - time.monotonic())))
            number += 1
        for name, cost in costs.items():
            print(f"{name:16}{cost.told()}")


@contextlib.contextmanager
def _running(argv: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(argv, env={**os.environ, **environment}) as process:
        try:
            yield process
        finally:
            process.terminate()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
