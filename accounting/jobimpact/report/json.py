"""Answers as one JSON document, schema 1: for programs. Null always has a reason beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from jobimpact.results.record import JobResult

__all__ = ["SCHEMA", "document", "dumps", "job_document", "utc"]

SCHEMA = 1
"""The version of the document. A key may be added within a version; none is taken out or changes its meaning."""


def dumps(results: Iterable[JobResult], errors: Iterable[str]) -> str:
    """The document as text, one line for each value."""
    return json.dumps(document(results, errors), indent=2, allow_nan=False)


def document(results: Iterable[JobResult], errors: Iterable[str]) -> dict[str, Any]:
    """Every job that was asked for and found, and one line for each that was not."""
    return {"schema": SCHEMA, "jobs": [job_document(one) for one in results], "errors": list(errors)}


def job_document(one: JobResult) -> dict[str, Any]:
    """One incarnation of a job: energies in joules, impacts in the unit of their key, times in ISO 8601, UTC."""
    impacts = one.impacts
    return {
        "job": one.job_id,
        "raw_id": one.raw_id,
        "cluster": one.cluster,
        "user": one.user,
        "account": one.account,
        "partition": one.partition,
        "name": one.name,
        "state": one.state,
        "exit_code": one.exit_code,
        "submit": utc(one.submit_s),
        "start": utc(one.start_s),
        "end": utc(one.end_s),
        "elapsed_s": one.elapsed_s,
        "known_until": utc(one.known_until_s),
        "nodes": list(one.nodes),
        "cpus": one.cpus,
        "mem_bytes": one.mem_bytes,
        "gpus": one.gpus,
        "energy": _energy(one.energy),
        "impacts": {name: _indicator(value) for name, value in impacts.items()},
        "factors": one.factors,
        "inventory": one.inventory,
        "warnings": list(one.warnings),
        "accounted_at": utc(one.accounted_s),
        "revision": one.revision,
    }


def utc(at_s: float | None) -> str | None:
    """Epoch seconds as `2026-11-20T14:00:05Z`; a fraction of a second stays, to the millisecond."""
    if at_s is None:
        return None
    precision = "seconds" if float(at_s).is_integer() else "milliseconds"
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def _indicator(found: dict[str, Any]) -> dict[str, Any]:
    """One indicator; what is told beside it only where there is any."""
    beside = {
        name: _without_none(found[name], "reason") for name in ("idle_share", "shared") if found.get(name) is not None
    }
    own = {name: value for name, value in found.items() if name not in ("idle_share", "shared")}
    return _without_none(own, "reason") | beside


def _energy(energy: dict[str, Any]) -> dict[str, Any]:
    domains = {kind: _without_none(found, "reason") for kind, found in energy["domains"].items()}
    nodes = {name: _node(found) for name, found in energy["nodes"].items()}
    return _without_none(energy | {"domains": domains, "nodes": nodes}, "reason")


def _node(node: dict[str, Any]) -> dict[str, Any]:
    if node["reason"] is not None:
        return {"reason": node["reason"]}
    domains = {name: _without_none(found, "reason") for name, found in node["domains"].items()}
    return {
        "state": node["state"],
        "start": utc(node["start_s"]),
        "end": utc(node["end_s"]),
        "elapsed_s": node["elapsed_s"],
        "domains": domains,
        "flags": node["flags"],
    }


def _without_none(found: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != key or value is not None}
