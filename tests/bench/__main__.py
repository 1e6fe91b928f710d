"""All figures, one after the other: `make bench`, or `python -m tests.bench [--seconds 60]`."""

from __future__ import annotations

import argparse
import os

from tests.accounting import bench_answer
from tests.bench import (
    crowd,
    daemon_cost,
    memory,
    oar_history,
    slurm_history,
    source_cost,
    store_fill,
    store_night,
    store_outage,
    year,
)
from tests.hooks import bench_hooks

parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure, on this machine.")
parser.add_argument("--seconds", type=float, default=300, help="for how long the daemons are watched (300)")
seconds = parser.parse_args().seconds

print("Hooks")
bench_hooks.main()
print("\nAnswers: one fresh process each, among 20,000 stored jobs")
bench_answer.main()
print("\nA year of jobs: accounted for, redone, its books")
year.main()
print("\nA crowd of short tasks beside long jobs")
crowd.main([])
print("\nA long history in OAR's database")
oar_history.main()
print("\nA long history in Slurm's database")
if os.geteuid() == 0:
    slurm_history.main()
else:
    print("not measured: needs root, for the lab")
print("\nA day of twelve nodes into InfluxDB and VictoriaMetrics")
store_fill.main([])
print("\nThe server killed under load, a daemon inside that, and an outbox that is full for a day")
store_outage.main([])
print("\nA night's reading from the server, beside the nodes' own files")
store_night.main([])
print("\nSources: one reading")
source_cost.main()
print("\nMemory and imports, by sources")
memory.main()
print(f"\nDaemons, codecarbon and zeus, all at once, {seconds:.0f} s")
if os.geteuid() == 0:
    daemon_cost.main(seconds)
else:
    print("not measured: needs root, for cgroups")
