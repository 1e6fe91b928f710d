"""A time as one JSON document, schema 1: for programs. Null is what is not known, and never zero."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from jobimpact.answers.query import Period, SumImpact, Sums
from jobimpact.report.json import utc
from jobimpact.report.period import trend_of
from jobimpact.results.record import JobResult

__all__ = ["SCHEMA", "dumps", "period_document", "sums_document"]

SCHEMA = 1
"""The version of the document. A key may be added within a version; none is taken out or changes its meaning."""


def dumps(found: Period) -> str:
    """The document as text: unrounded."""
    return json.dumps({"schema": SCHEMA, "period": period_document(found)}, indent=2, allow_nan=False)


def period_document(found: Period) -> dict[str, Any]:
    """One time. Times are ISO 8601, UTC; energies are joules."""
    query = found.query
    return {
        "of": query.of,
        "name": query.name,
        "title": found.title,
        "cluster": query.cluster,
        "from": utc(query.from_s),
        "to": utc(query.to_s),
        "accounted_to": utc(found.accounted_to_s),
        "whole": found.accounted_to_s is not None and found.accounted_to_s >= query.to_s,
        "sums": sums_document(found.sums),
        "domains": {
            kind: {
                "energy_j": joules,
                "methods": list(found.methods.get(kind, ())),
                "jobs_not_known": found.lacking.get(kind, 0),
            }
            for kind, joules in found.kinds.items()
        },
        "before": [sums_document(sums) for sums in found.before],
        "trend": _trend(found),
        "median": _median(found),
        "by": {of: [{"name": one.name, **sums_document(one.sums)} for one in each] for of, each in found.by.items()},
        "not_completed": [_job(one) for one in found.worst],
        "largest": [_job(one) for one in found.most],
        "factors": list(found.factors),
    }


def sums_document(sums: Sums) -> dict[str, Any]:
    """Sums over jobs."""
    document: dict[str, Any] = {
        name: getattr(sums, name)
        for name in ("jobs", "ran", "failed", "measured", "energy_j", "failed_energy_j", "coverage")
    }
    document |= {name: getattr(sums, name) for name in ("cpu_hours", "gpu_hours", "node_hours")}
    document["impacts"] = {name: _impact(one) for name, one in sums.impacts.items()}
    document["endings"] = [msgspec.structs.asdict(one) for one in sums.endings]
    document |= {"first_start": utc(sums.first_start_s), "last_end": utc(sums.last_end_s)}
    return document | {"accounted_at": utc(sums.accounted_s)}


def _impact(one: SumImpact) -> dict[str, Any]:
    return {part: _spread(getattr(one, part)) for part in ("use", "embodied", "total")} | {"jobs": one.known}


def _spread(three: tuple[float, ...] | None) -> dict[str, float] | None:
    return None if three is None else dict(zip(("low", "central", "high"), three, strict=True))


def _trend(found: Period) -> dict[str, Any] | None:
    trend = trend_of(found)
    if trend is None:
        return None
    return {"then_j": trend.then_j, "ratio": trend.ratio, "reason": trend.why_not or None}


def _median(found: Period) -> dict[str, Any] | None:
    if found.median is None:
        return None
    names = ("jobs", "failed", "energy_j", "failed_energy_j", "coverage", "cpu_hours", "gpu_hours", "node_hours")
    each = {name: getattr(found.median, name) for name in names}
    return {"lab": found.median_lab, "users": found.median_users, **each}


def _job(one: JobResult) -> dict[str, Any]:
    names = ("cluster", "user", "account", "partition", "name", "state", "exit_code", "energy_j", "coverage")
    document: dict[str, Any] = {"job": one.job_id, **{name: getattr(one, name) for name in names}}
    return document | {"start": utc(one.start_s), "end": utc(one.end_s), "elapsed_s": one.elapsed_s}
