"""A lab (an account of the scheduler): what its jobs cost by day, who ran them, and which cost most."""

from __future__ import annotations

from grafana.influxql import equals
from grafana.model import dashboard, link, row
from grafana.views.people import by_day, divided, sums, top_jobs
from grafana.views.shared import CLUSTER, day_variable

__all__ = ["VIEW"]

_WHO = equals("account")

VIEW = dashboard(
    "lab",
    "jobimpact: lab",
    "What a lab's jobs cost by day, who ran them, and which cost most.",
    [CLUSTER, day_variable("account", "Lab", "The scheduler's account (of OAR, the project).")],
    [
        sums(_WHO),
        by_day(_WHO),
        top_jobs(_WHO, ("user",)),
        row(
            "By whom",
            divided(_WHO, "user", "user", [link("This user", "user", user="__data.fields.user")]),
            divided(_WHO, "partition", "partition", []),
        ),
    ],
    since="now-30d/d",
    refresh="",
    timezone="utc",
)
