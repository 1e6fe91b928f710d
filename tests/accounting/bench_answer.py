"""How long a user waits for an answer: fresh processes over stored jobs, modules compiled as pip does.

20,000 jobs of 20 users over a year, and apart an array of 100,000 tasks over a year, of one lab. Where
BENCH_REPORTSEFF names a reportseff, it is asked after each, with a sacct that has records of the same jobs in a file
and prints them at once.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
from tests.accounting.answered import measured
from tests.accounting.world import T0, World

from jobimpact.results.record import Entry, JobResult
from jobimpact.results.write import Results

JOBS, USERS, TASKS = 20_000, 20, 100_000
PROCESSES, FEWER = 40, 12
DAY = 86400
YEAR = ("-S", str(T0 - 365 * DAY), "-E", str(T0 + DAY))
# What reportseff asks of sacct: the fields there are, then rows of some jobs or of a user; and of scontrol nothing.
SACCT = """#!/bin/sh
format=
for word; do
    case $word in
    --helpformat) echo $(head -n 1 {rows} | tr '|' ' '); exit ;;
    --format=*) format=${{word#*=}} ;;
    --jobs=*) jobs=${{word#*=}} ;;
    --user=*) user=${{word#*=}} ;;
    esac
done
exec awk -F'|' -v format="$format" -v jobs="$jobs" -v user="$user" '
BEGIN {{ n = split(format, asked, ","); m = split(jobs, ids, ","); for (i = 1; i <= m; i++) of[ids[i]] = 1 }}
NR == 1 {{ for (i = 1; i <= NF; i++) at[$i] = i; next }}
(user != "" && $at["User"] == user) || $at["JobID"] in of {{
    line = ""
    for (i = 1; i <= n; i++) line = line $at[asked[i]] "^|^"
    print line
}}' {rows}
"""
FIELDS = (
    *(
        "AdminComment",
        "AllocCPUS",
        "AllocTRES",
        "ConsumedEnergyRaw",
        "CPUTime",
        "CPUTimeRAW",
        "Elapsed",
        "End",
        "JobID",
    ),
    *(
        "JobIDRaw",
        "MaxRSS",
        "NNodes",
        "NodeList",
        "NTasks",
        "Partition",
        "QOS",
        "ReqMem",
        "Start",
        "State",
        "Timelimit",
    ),
    *("TotalCPU", "TRESUsageOutAve", "User"),
)


def jobs(world: World) -> Iterable[JobResult]:
    """One in 26 minutes over a year, of one user after the other."""
    one = measured(world)
    for number in range(1, JOBS + 1):
        start_s = T0 - 365 * DAY * (1 - number / JOBS)
        yield msgspec.structs.replace(
            one,
            job_id=str(number),
            raw_id=str(number),
            key=f"{number}@{T0}",
            user=f"user{number % USERS}",
            start_s=start_s,
            end_s=start_s + 100.0,
            state="FAILED" if number % 20 == 0 else "COMPLETED",
        )


def tasks(world: World) -> Iterable[JobResult]:
    """Of one array, of which one runs after the other."""
    one = measured(world, account="nlp", labels={"model": "resnet50"})
    for number in range(TASKS):
        start_s = T0 - 365 * DAY * (1 - number / TASKS)
        names: dict[str, Any] = {"start_s": start_s, "end_s": start_s + 100.0}
        names |= {"job_id": f"7_{number}", "raw_id": str(10**6 + number), "key": f"{10**6 + number}@{T0}"}
        yield msgspec.structs.replace(one, array_id="7", **names)


def fill(world: World, rows: Iterable[JobResult]) -> None:
    """Store them."""
    results = Results(world.config.results)
    results.write((Entry(row, {}, ()) for row in rows), time.time())
    results.close()


def fake_slurm(folder: Path) -> Path:
    """Programs that print the same jobs as records."""
    there = folder / "slurm"
    there.mkdir()
    rows = folder / "rows"
    values = dict.fromkeys(FIELDS, "") | {"AllocCPUS": "4", "NNodes": "1", "ReqMem": "1G", "MaxRSS": "512M"}
    values |= {"Elapsed": "00:01:40", "Timelimit": "01:00:00", "TotalCPU": "00:05:00", "NTasks": "1"}
    values |= {"Start": "2026-11-20T15:58:20", "End": "2026-11-20T16:00:00", "Partition": "cpu"}
    with rows.open("w") as file:
        file.write("|".join(FIELDS) + "\n")
        for number in range(1, JOBS + 1):
            own = {"JobID": str(number), "JobIDRaw": str(number), "User": f"user{number % USERS}"}
            own |= {"State": "FAILED" if number % 20 == 0 else "COMPLETED"}
            file.write("|".join((values | own).values()) + "\n")
    for name, text in (("sacct", SACCT.format(rows=rows)), ("scontrol", "#!/bin/sh\n")):
        (there / name).write_text(text)
        (there / name).chmod(0o755)
    return there


def waits(command: Callable[[], list[str]], times: int, **environment: str) -> tuple[float, float, float]:
    """Milliseconds of processes from start to end: p50, p95 and the least."""
    found = []
    for _ in range(times + 1):
        words = command()
        begin = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=environment)
        found.append((time.perf_counter() - begin) * 1e3)
    found = sorted(found[1:])  # the first compiles
    return statistics.median(found), found[int(0.95 * len(found))], found[0]


def main() -> None:
    """Print p50, p95 and the least of each question."""
    chosen = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        many, large = (World(make(Path(folder) / name)) for name in ("jobs", "array"))
        fill(many, jobs(many))
        fill(large, tasks(large))
        many.node().measured("99999", start=10, end=None)
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(Path(folder) / "compiled")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        program = str(Path(sys.executable).parent / "jobimpact")

        def asking(world: World, *words: str) -> Callable[[], list[str]]:
            return lambda: [program, *(some(word) for word in words), "--config", str(world.config_file)]

        def some(word: str) -> str:
            return ",".join(str(chosen.randint(1, JOBS)) for _ in range(int(word[1:]))) if word[0] == "?" else word

        def each(words: list[str]) -> list[str]:
            return [one for word in words for one in some(word).split(",")]

        other = os.environ.get("BENCH_REPORTSEFF")
        beside = {**environment, "PATH": f"{fake_slurm(Path(folder))}:{environment['PATH']}"}
        for name, mine, theirs, times in (
            ("one finished job", asking(many, "?1"), ["?1"], PROCESSES),
            ("100 ids", asking(many, "?100"), ["?100"], FEWER),
            (
                "a user's year, 1,000 jobs",
                asking(many, "-u", "user3", *YEAR),
                ["-u", "user3", "--since", "010120"],
                FEWER,
            ),
            ("a running job", asking(many, "99999"), [], FEWER),
            ("an array of 100,000 tasks", asking(large, "7"), [], FEWER),
            ("report, a user's 1,000 jobs", asking(many, "report", "-u", "user3", *YEAR), [], FEWER),
            ("report, a year of 20,000 jobs", asking(many, "report", "--cluster", *YEAR), [], FEWER),
            ("report, a lab's 100,000 jobs", asking(large, "report", "-A", "nlp", *YEAR), [], FEWER),
        ):
            told(name, waits(mine, times, **environment))
            if other and theirs:
                told("  reportseff", waits(lambda words=theirs: [other, *each(words)], times, **beside))


def make(folder: Path) -> Path:
    """A new folder."""
    folder.mkdir()
    return folder


def told(name: str, found: tuple[float, float, float]) -> None:
    """A line."""
    p50, p95, least = found
    print(f"{name:<30} p50 {p50:6.0f} ms, p95 {p95:6.0f} ms, least {least:6.0f} ms", flush=True)


if __name__ == "__main__":
    main()
