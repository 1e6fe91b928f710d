"""How long a Slurm hook takes: `python -m tests.hooks.bench_hooks`. It measures and asserts nothing."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.hooks.shells import Shell, find_shells
from tests.hooks.slurm_hooks import BATCH, PROLOG

ONE_BY_ONE = 200
AT_ONCE = 64
ROUNDS = 5


def sequential(shell: Shell, env: dict[str, str], count: int = ONE_BY_ONE) -> list[float]:
    """Seconds of each of so many calls, one after the other."""
    spent = []
    for _ in range(count):
        begun = time.perf_counter()
        subprocess.run([*shell.argv, PROLOG], env=env, check=True)
        spent.append(time.perf_counter() - begun)
    return spent


def together(shell: Shell, env: dict[str, str], count: int = AT_ONCE) -> list[float]:
    """Seconds from each hook's own start to its end, with so many started at once.

    Ends are taken in the order in which they come, so the last one is exact and none is too short.
    """
    begun: dict[int, float] = {}
    running: dict[int, subprocess.Popen[bytes]] = {}
    for _ in range(count):
        now = time.perf_counter()
        process = subprocess.Popen([*shell.argv, PROLOG], env=env)
        begun[process.pid] = now
        running[process.pid] = process
    spent = []
    while running:
        for pid, process in list(running.items()):
            if process.poll() is not None:
                spent.append(time.perf_counter() - begun[pid])
                del running[pid]
        time.sleep(0.0005)
    return spent


def show(what: str, seconds: list[float]) -> None:
    """One line: median and worst, in milliseconds."""
    median, worst = statistics.median(seconds) * 1000, max(seconds) * 1000
    sys.stdout.write(f"  {what:<22} median {median:6.1f} ms   worst {worst:6.1f} ms   n={len(seconds)}\n")


def main() -> int:
    """Measure under each shell of this machine, into a folder in memory where there is one."""
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    for shell in find_shells():
        with tempfile.TemporaryDirectory(dir=base) as folder:
            env = BATCH | {"JOBIMPACT_MARKS": folder}
            sequential(shell, env, 5)
            sys.stdout.write(f"{' '.join(shell.argv)}\n")
            show("one by one", sequential(shell, env))
            show(f"{AT_ONCE} at once", [time for _ in range(ROUNDS) for time in together(shell, env)])
            sys.stdout.write(f"  marks left: {len(list(Path(folder).iterdir()))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
