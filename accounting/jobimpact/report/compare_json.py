"""A comparison as one JSON document, schema 1: for programs. Null is what is not known."""

from __future__ import annotations

import json
from typing import Any

from jobimpact.impact.ranges import Range
from jobimpact.report.compare import Comparison, Impact, Ratio, Side

__all__ = ["SCHEMA", "comparison_document", "dumps"]

SCHEMA = 1
"""The version of the document. A key may be added within a version; none is taken out or changes its meaning."""


def dumps(found: Comparison) -> str:
    """The document as text: unrounded."""
    return json.dumps({"schema": SCHEMA, **comparison_document(found)}, indent=2, allow_nan=False)


def comparison_document(found: Comparison) -> dict[str, Any]:
    """Sides in the order asked, and what may be said of their difference."""
    scaling = found.scaling or (None,) * len(found.sides)
    return {
        "per": found.per,
        "sides": [
            {
                **_side(side, found.per),
                "ratios": {name: _ratio(one) for name, one in ratios.items()},
                "scaling": None
                if scaled is None
                else {"nodes": scaled.nodes, "speed_up": scaled.speed_up, "energy": scaled.energy},
            }
            for side, ratios, scaled in zip(found.sides, found.ratios, scaling, strict=True)
        ],
        "flags": list(found.flags),
        "verdicts": list(found.verdicts),
    }


def _side(side: Side, per: float | None) -> dict[str, Any]:
    return {
        "name": side.name,
        "kind": side.kind,
        "jobs": side.jobs,
        "state": side.state,
        "energy_j": _spread(side.energy_j),
        "elapsed_s": side.time_s,
        "nodes": side.nodes,
        "cpus": side.cpus,
        "gpus": side.gpus,
        "coverage": side.coverage,
        "methods": side.methods,
        "not_measured": list(side.lacking),
        "impacts": {name: _impact(one) for name, one in side.impacts.items()},
        "factors": side.factors,
        "work": side.work,
        "each": _each(side, per),
        "notes": list(side.notes),
    }


def _each(side: Side, per: float | None) -> dict[str, Any] | None:
    if per is None or not side.work:
        return None
    factor = per / side.work
    return {
        "energy_j": _spread(None if side.energy_j is None else side.energy_j.times(factor)),
        "impacts": {name: _impact(one.times(factor)) for name, one in side.impacts.items()},
    }


def _impact(one: Impact) -> dict[str, Any]:
    return {"use": _spread(one.use), "embodied": _spread(one.embodied), "total": _spread(one.total)}


def _spread(found: Range | None) -> dict[str, float] | None:
    return None if found is None else {"low": found.low, "central": found.central, "high": found.high}


def _ratio(one: Ratio) -> dict[str, Any]:
    reason = one.why_not or None
    return {"value": one.value, "low": one.low, "high": one.high, "order": one.order, "reason": reason}
