"""A user: what their jobs cost by day, and which cost most."""

from __future__ import annotations

from grafana.influxql import equals
from grafana.model import dashboard, link, row
from grafana.views.people import by_day, divided, sums, top_jobs
from grafana.views.shared import CLUSTER, day_variable

__all__ = ["VIEW"]

_WHO = equals("user")

VIEW = dashboard(
    "user",
    "jobimpact: user",
    "What a user's jobs cost by day, and which cost most.",
    [CLUSTER, day_variable("user", "User", "Whose jobs have been accounted.")],
    [
        sums(_WHO),
        by_day(_WHO),
        top_jobs(_WHO, ("account",)),
        row(
            "For whom",
            divided(_WHO, "account", "lab", [link("This lab", "lab", account="__data.fields.account")]),
            divided(_WHO, "partition", "partition", []),
        ),
    ],
    since="now-30d/d",
    refresh="",
    timezone="utc",
)
