"""`jobimpact inventory --json`: one document, schema 1, unrounded."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from jobimpact.impact.parts import PartLine
from jobimpact.impact.ranges import Impacts
from jobimpact.report.inventory import INDICATORS, Described, SharedView, TypeView

__all__ = ["SCHEMA", "inventory_json"]

SCHEMA = 1
"""The version of the document. A key may be added within a version; none is taken out or changes its meaning."""


def inventory_json(found: Described) -> str:
    """The document as text: impacts in the unit of their key, each with low, central and high."""
    document = {
        "schema": SCHEMA,
        "inventory": found.inventory,
        "factors": found.factors,
        "types": {one.name: _type(one) for one in found.types},
        "shared": {one.name: _shared(one) for one in found.shared},
        "sources": msgspec.to_builtins(found.sources),
    }
    return json.dumps(document, indent=2, allow_nan=False)


def _type(one: TypeView) -> dict[str, Any]:
    built, parts = one.built, one.parts
    return {
        "nodes": list(one.nodes),
        "purchased": built.purchased and built.purchased.isoformat(),
        "lifetime_years": built.lifetime_years,
        "lifetime_hours": one.lifetime_hours,
        "ends": one.ends and one.ends.isoformat(),
        "past_lifetime": built.past_lifetime,
        "exclusive": built.exclusive,
        "pue": one.pue,
        "zone": built.zone,
        "parts": [_line(line, one) for line in parts.lines],
        "components": {name: _impacts(getattr(parts, name)) for name in ("cpu", "ram", "gpu", "rest")},
        "node": _impacts(parts.whole),
        "per_node_hour": _impacts(one.per_node_hour),
        "dominant": {indicator: dict(one.dominant(indicator)) for indicator in INDICATORS},
        "widest": {indicator: dict(one.widest(indicator)) for indicator in INDICATORS},
        "warnings": list(parts.warnings),
    }


def _line(line: PartLine, of: TypeView) -> dict[str, Any]:
    whole = of.parts.whole.gwp_kgco2e.central
    found = {"part": line.name, "component": line.component, "count": line.count, "what": line.what}
    share = line.impacts.gwp_kgco2e.central / whole if whole else None
    return {
        **found,
        **_impacts(line.impacts),
        "share_of_gwp": share,
        "guess": line.guess,
        "sources": list(dict.fromkeys(line.sources)),
    }


def _shared(one: SharedView) -> dict[str, Any]:
    parts, rate = one.parts, one.rate
    per_piece = {key: getattr(parts, key) for key in INDICATORS}
    return {
        "nodes": list(one.nodes),
        "count": parts.count,
        "power_w": parts.power_w,
        **{key: _triple(value) for key, value in per_piece.items()},
        "source": parts.source,
        "purchased": parts.purchased and parts.purchased.isoformat(),
        "lifetime_years": parts.lifetime_years,
        "ends": one.ends and one.ends.isoformat(),
        "past_lifetime": parts.past_lifetime,
        "per_node_hour": rate and {"kwh": rate.kwh, **msgspec.to_builtins(rate.embodied)},
        "unknown": one.unknown,
    }


def _triple(value: float | list[float] | None) -> dict[str, float] | None:
    if value is None:
        return None
    low, central, high = value if isinstance(value, list) else [value] * 3
    return {"low": low, "central": central, "high": high}


def _impacts(found: Impacts) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(found)
    return plain
