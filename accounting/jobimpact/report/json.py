"""Answers as one JSON document, schema 2 (docs/schema/answer-2.json). Null always has a reason beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from jobimpact.answers.query import Details, Group
from jobimpact.findings.finding import Finding
from jobimpact.results.record import JobResult
from jobimpact.results.sums import SumImpact, Sums

__all__ = ["SCHEMA", "document", "dumps", "job_document", "sums_document", "utc"]

SCHEMA = 2
"""The version of the document. A key may be added within a version; none is taken out or changes its meaning."""

Json = dict[str, Any]


def dumps(found: Json) -> str:
    """The document as text, one line for each value."""
    return json.dumps(found, indent=2, allow_nan=False)


def document(
    groups: Sequence[Group],
    errors: Iterable[str],
    *,
    window: tuple[float | None, float | None, bool] | None = None,
    findings: Callable[[JobResult], Sequence[Finding]] = lambda _: (),
    findings_of_group: Callable[[Group], Sequence[Finding]] = lambda _: (),
    details: Callable[[JobResult], Details] | None = None,
) -> Json:
    """Every job that was found, once; each group that was asked for; and one line for each that was not found.

    Args:
        groups: in the order asked.
        errors: one line each.
        window: from when to when was asked, epoch seconds, and whether jobs are cut at it.
        findings: of a job.
        findings_of_group: of an array, or a heterogeneous job, as a whole.
        details: of a job; None: power over time and progress are left out.
    """
    jobs = {(one.cluster, one.key): one for group in groups for one in group.jobs}
    from_s, to_s, is_cut = window or (None, None, False)
    return {
        "schema": SCHEMA,
        "window": None if window is None else {"from": utc(from_s), "to": utc(to_s), "cut": is_cut},
        "jobs": [
            job_document(one, findings=findings(one), details=None if details is None else details(one))
            for one in jobs.values()
        ],
        "groups": [_group(group, findings_of_group(group)) for group in groups if group.sums is not None],
        "errors": list(errors),
    }


def job_document(one: JobResult, *, findings: Sequence[Finding] = (), details: Details | None = None) -> Json:
    """One incarnation of a job: energies in joules, impacts in the unit of their key, times in ISO 8601, UTC.

    Args:
        one: the job.
        findings: about it.
        details: its power over time and its progress; None: left out.
    """
    impacts = one.impacts
    found = {
        "job": one.job_id,
        "raw_id": one.raw_id,
        "array": one.array_id,
        "cluster": one.cluster,
        "user": one.user,
        "account": one.account,
        "partition": one.partition,
        "name": one.name,
        "labels": one.labels,
        "state": one.state,
        "exit_code": one.exit_code,
        "submit": utc(one.submit_s),
        "start": utc(one.start_s),
        "end": utc(one.end_s),
        "elapsed_s": one.elapsed_s,
        "time_limit_s": one.time_limit_s,
        "known_until": utc(one.known_until_s),
        "nodes": list(one.nodes),
        "cpus": one.cpus,
        "mem_bytes": one.mem_bytes,
        "gpus": one.gpus,
        "energy": _energy(one.energy),
        "impacts": {name: _indicator(value) for name, value in impacts.items()},
        "findings": [_told(finding) for finding in findings],
        "factors": one.factors,
        "inventory": one.inventory,
        "warnings": list(one.warnings),
        "accounted_at": utc(one.accounted_s),
        "revision": one.revision,
    }
    if details is not None:
        found["profile"] = None if details.profile is None else msgspec.to_builtins(details.profile)
        found["progress"] = [_told(mark) for mark in details.progress]
    return found


def sums_document(sums: Sums) -> Json:
    """Several jobs together: hours, joules, and impacts in the unit of their key."""
    return {
        "jobs": sums.jobs,
        "ran": sums.ran,
        "failed": sums.failed,
        "measured": sums.measured,
        "energy_j": sums.energy_j,
        "failed_energy_j": sums.failed_energy_j,
        "coverage": sums.coverage,
        "cpu_hours": sums.cpu_hours,
        "gpu_hours": sums.gpu_hours,
        "node_hours": sums.node_hours,
        "impacts": {name: _summed(found) for name, found in sums.impacts.items()},
        "endings": [msgspec.to_builtins(ending) for ending in sums.endings],
        "first_start": utc(sums.first_start_s),
        "last_end": utc(sums.last_end_s),
        "accounted_at": utc(sums.accounted_s),
    }


def _group(group: Group, findings: Sequence[Finding]) -> Json:
    sums = {} if group.sums is None else sums_document(group.sums)
    how: Json = {}
    if group.sums is not None:
        how = {"methods": msgspec.to_builtins(group.sums.methods), "factors": list(group.sums.factors)}
    head = {"asked": group.asked, "listed": bool(group.jobs)}
    return head | sums | how | {"findings": [_told(one) for one in findings], "trouble": group.trouble}


def _summed(found: SumImpact) -> Json:
    parts = {name: getattr(found, name) for name in ("use", "embodied", "total")}
    ranges = {
        name: None if three is None else dict(zip(("low", "central", "high"), three, strict=True))
        for name, three in parts.items()
    }
    return ranges | {"known": found.known}


def _told(found: msgspec.Struct) -> Json:
    """What is known of it."""
    plain: Json = msgspec.to_builtins(found)
    return {name: value for name, value in plain.items() if value is not None}


def utc(at_s: float | None) -> str | None:
    """Epoch seconds as `2026-11-20T14:00:05Z`; a fraction of a second stays, to the millisecond."""
    if at_s is None:
        return None
    precision = "seconds" if float(at_s).is_integer() else "milliseconds"
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def _indicator(found: Json) -> Json:
    """One indicator; what is told beside it only where there is any."""
    beside = {
        name: _without_none(found[name], "reason") for name in ("idle_share", "shared") if found.get(name) is not None
    }
    own = {name: value for name, value in found.items() if name not in ("idle_share", "shared")}
    return _without_none(own, "reason") | beside


def _energy(energy: Json) -> Json:
    domains = {kind: _without_none(found, "reason") for kind, found in energy["domains"].items()}
    nodes = {name: _node(found) for name, found in energy["nodes"].items()}
    return _without_none(energy | {"domains": domains, "nodes": nodes}, "reason")


def _node(node: Json) -> Json:
    if node["reason"] is not None:
        return {"reason": node["reason"]}
    domains = {name: _without_none(found, "reason") for name, found in node["domains"].items()}
    found = {
        "state": node["state"],
        "start": utc(node["start_s"]),
        "end": utc(node["end_s"]),
        "elapsed_s": node["elapsed_s"],
        "domains": domains,
        "flags": node["flags"],
    }
    use = node.get("use")  # earlier releases had none
    return found | ({} if use is None else {"use": {name: value for name, value in use.items() if value is not None}})


def _without_none(found: Json, key: str) -> Json:
    return {name: value for name, value in found.items() if name != key or value is not None}
