"""How long a user waits for a finished job: fresh processes over 20,000 stored jobs, modules compiled as pip does."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.accounting.world import World, batch, record

from jobimpact.nightly.accounts import Accounts
from jobimpact.results.record import Entry
from jobimpact.results.write import Results

JOBS = 20_000
PROCESSES = 60


def fill(world: World) -> None:
    """Store jobs whose results are all of one measured job's size."""
    batch(world, ["1"])
    accounts = Accounts(world.config)
    with accounts.energy as energy:
        one = energy.job_energy(record("1"))
        rows = [accounts.result_of(record(str(number)), one) for number in range(1, JOBS + 1)]
    results = Results(world.config.results)
    results.write((Entry(row, {}, ()) for row in rows), time.time())
    results.close()


def waits(world: World) -> list[float]:
    """Milliseconds of each process, from start to end, sorted."""
    chosen = random.Random(1)
    found = []
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(world.folder / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for _ in range(PROCESSES + 1):
        command = [
            Path(sys.executable).parent / "jobimpact",
            str(chosen.randint(1, JOBS)),
            "--config",
            world.config_file,
        ]
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        found.append((time.perf_counter() - begin) * 1e3)
    return sorted(found[1:])  # the first compiles


def main() -> None:
    """Print p50 and p95."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        fill(world)
        found = waits(world)
    p95 = found[int(0.95 * len(found))]
    print(f"{JOBS} jobs, {PROCESSES} fresh processes: p50 {statistics.median(found):.0f} ms, p95 {p95:.0f} ms")


if __name__ == "__main__":
    main()
