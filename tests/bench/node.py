"""A node to measure on: meters of the power rig, jobs in the kernel's own cgroups (v1, as root), real hooks."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.fakes.curve import Curve, boot_ns, watts
from tests.fakes.rig import PowerRig, RigNode
from tests.fakes.rig_gpu import gpu

__all__ = ["CPUS", "GPUS", "MEM_BYTES", "RAPL", "config", "hook", "live_jobs", "playing"]

HOOKS = Path(__file__).parents[2] / "prolog_epilog/slurm"
LOAD_C = Path(__file__).parents[1] / "labs/slurm/load.c"
CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpuacct", "memory")
CPUS, MEM_BYTES, GPUS = 64, 256 << 30, 8
RAPL = ("package-0", "package-1", "dram-0", "dram-1")
LOAD = "0.002"
"""CPUs that each job keeps busy: few, as a hundred of them share this machine with what is measured."""


@contextlib.contextmanager
def playing(folder: Path) -> Iterator[RigNode]:
    """A node of two sockets with eight GPUs, in play."""
    now = boot_ns()
    rapl = {name: Curve(now, watts((0.3, 120), (0.7, 60))) for name in RAPL}
    gpus = [gpu(f"GPU-{number}", Curve(now, watts((0.5, 300))), minor=number) for number in range(GPUS)]
    node = RigNode("jibench", folder / "rig", rapl=rapl, gpus=gpus, cpus=CPUS, mem_bytes=MEM_BYTES)
    with PowerRig(folder, node):
        yield node


def config(folder: Path, name: str, interval_s: float, sources: dict[str, object]) -> Path:
    """A configuration whose marks and books lie in a folder of their own."""
    own = folder / name
    (own / "marks").mkdir(parents=True, mode=0o700)
    node = {"name": name, "interval_s": interval_s, "marks": "marks", "cpus": CPUS, "mem_bytes": MEM_BYTES}
    node |= {"sources": sources}
    whole = {"store": {"local": {"path": "store"}}, "results": "sqlite:///results.db", "node": node}
    (own / "jobimpact.yaml").write_text(json.dumps(whole), encoding="utf-8")
    return own / "jobimpact.yaml"


@contextlib.contextmanager
def live_jobs(folder: Path, node: str, count: int) -> Iterator[list[str]]:
    """So many jobs' cgroups as Slurm makes them, each with a process that works a little."""
    load = folder / "load"
    if not load.exists():
        subprocess.run(["gcc", "-O1", "-o", load, LOAD_C], check=True)
    parents = [CGROUPS / one / f"slurm_{node}" for one in CONTROLLERS]
    jobs = [str(1000 + number) for number in range(count)]
    with contextlib.ExitStack() as stack:
        for parent in parents:
            stack.callback(_remove, [parent / "uid_0", parent])
        for job in jobs:
            stack.enter_context(_worker(load, [parent / f"uid_0/job_{job}" for parent in parents]))
        yield jobs


@contextlib.contextmanager
def _worker(load: Path, folders: list[Path]) -> Iterator[None]:
    for folder in folders:
        folder.mkdir(parents=True)
    command = [load, "--cpu", LOAD, "--seconds", "1000000", "--period-ms", "1000"]
    with subprocess.Popen(command) as worker:
        try:
            for folder in folders:
                (folder / "cgroup.procs").write_text(str(worker.pid), encoding="ascii")
            yield
        finally:
            worker.kill()
            worker.wait()
            _remove(folders)


def _remove(folders: list[Path]) -> None:
    """A cgroup whose process has just died is busy for a moment."""
    for folder in folders:
        for _ in range(50):
            if not folder.is_dir():
                break
            try:
                folder.rmdir()
            except OSError:
                time.sleep(0.02)


def hook(event: str, job: str, node: str, marks: Path, gpus: str = "") -> None:
    """The real Prolog or Epilog."""
    environment = {"SLURM_JOB_ID": job, "SLURM_JOB_UID": "0", "SLURMD_NODENAME": node, "JOBIMPACT_MARKS": str(marks)}
    environment |= {"SLURM_JOB_CPUS_PER_NODE": "4"} | ({"SLURM_JOB_GPUS": gpus} if gpus else {})
    subprocess.run([HOOKS / event], env={**os.environ, **environment}, check=True)
