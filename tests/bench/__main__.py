"""All figures, one after the other: `make bench`."""

from __future__ import annotations

import os

from tests.accounting import bench_answer
from tests.bench import daemon_cost
from tests.hooks import bench_hooks

print("Hooks")
bench_hooks.main()
print("\nAnswers: one fresh process each, among 20,000 stored jobs")
bench_answer.main()
print("\nDaemon, 300 s")
if os.geteuid() == 0:
    daemon_cost.main(300)
else:
    print("not measured: needs root, for cgroups")
