"""The books of a day or a month as a document: integers of microjoules, null with a reason where nothing is known."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from jobimpact.energy.books import SpanLine, SpanMeter, Sums
from jobimpact.report.books import Chain, SpanBooks, total

__all__ = ["span_json"]

SCHEMA = 1
_SUMS = ("measured_uj", "jobs_uj", "idle_uj", "system_uj", "difference_uj")

Json = dict[str, Any]


def span_json(found: SpanBooks) -> str:
    """The whole document."""
    nodes = [{"node": one.node} | _sums(total(one.lines)) | _chain(found.chains.get(one.node)) for one in found.nodes]
    return json.dumps(
        {
            "schema": SCHEMA,
            "time": found.name,
            "from": stamp(found.from_s),
            "to": stamp(found.to_s),
            "balanced": found.balanced,
            "books": [_line(one) for one in found.lines],
            "meters": [_meter(meter) for one in found.nodes for meter in one.meters],
            "nodes": nodes,
            "total": _sums(total(found.lines)),
            "errors": list(found.errors),
        },
        indent=2,
        allow_nan=False,
    )


def _sums(sums: Sums | None) -> Json:
    return {name: getattr(sums, name) if sums else None for name in _SUMS}


def _line(one: SpanLine) -> Json:
    line: Json = {"node": one.node, "domain": one.domain, "kind": one.kind, "method": one.method}
    line |= {"from": stamp(one.from_s), "to": stamp(one.to_s), "began": stamp(one.began_s)}
    line |= _sums(one.sums)
    line |= {"jobs_low_uj": one.jobs_low_uj, "jobs_high_uj": one.jobs_high_uj}
    line |= {"unknown_s": one.unknown_s, "known_s": one.known_s}
    return line | ({"reason": one.reason} if one.reason else {})


def _meter(one: SpanMeter) -> Json:
    line: Json = {"node": one.node, "meter": one.meter, "method": one.method, "measured_uj": one.measured_uj}
    line |= {"parts_uj": one.parts_uj, "rest_uj": one.rest_uj, "open_uj": one.open_uj, "deficit_uj": one.deficit_uj}
    line |= {"unknown_s": one.unknown_s}
    return line | ({"reason": one.reason} if one.reason else {})


def _chain(one: Chain | None) -> Json:
    if one is None:
        return {"results": None}
    found: Json = {
        "in_results_uj": one.in_results_uj,
        "running_uj": one.running_uj,
        "unaccounted_uj": one.unaccounted_uj,
    }
    return {"results": found | {"unaccounted": one.unaccounted, "changed": one.changed}}


def stamp(at_s: float | None) -> str | None:
    """ISO 8601, to the millisecond; None: not known, or no time that a calendar has."""
    try:
        return None if at_s is None else f"{datetime.fromtimestamp(at_s, UTC).isoformat('T', 'milliseconds')[:-6]}Z"
    except (ValueError, OverflowError, OSError):
        return None
