"""Functional units as one JSON document, schema 1: for programs. Null always has a reason beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import msgspec

from jobimpact.impact.extrapolation import CONFIDENCE, Extrapolated
from jobimpact.impact.functional_unit import UnitImpacts
from jobimpact.impact.nn_ci import Estimates
from jobimpact.impact.ranges import Range

__all__ = ["SCHEMA", "dumps", "unit_document"]

SCHEMA = 1
"""The version of the document. A key may be added within a version; none is taken out or changes its meaning."""
_PARTS = ("use", "embodied", "total")


def dumps(units: Iterable[UnitImpacts]) -> str:
    """The document as text: unrounded."""
    return json.dumps({"schema": SCHEMA, "units": [unit_document(one) for one in units]}, indent=2, allow_nan=False)


def unit_document(one: UnitImpacts) -> dict[str, Any]:
    """One unit: central values in the unit of their key, `ranges` as low and high."""
    parts: dict[str, dict[str, Range | None]] = {part: getattr(one, part) for part in _PARTS}
    ranges: dict[str, Any] = {"energy_kwh": _ends(one.energy_kwh)}
    ranges |= {part: {name: _ends(value) for name, value in found.items()} for part, found in parts.items()}
    document: dict[str, Any] = {"name": one.name, "energy_kwh": _central(one.energy_kwh)}
    document |= {part: {name: _central(value) for name, value in found.items()} for part, found in parts.items()}
    document |= {"ranges": ranges, "reasons": one.reasons, "method": _plain(one.method), "notes": list(one.notes)}
    if one.phases:
        document["extrapolation"] = [_phase(phase) for phase in one.phases]
    if one.estimates is not None:
        document["nn_ci"] = _estimates(one.estimates)
    return document


def _central(value: Range | None) -> float | None:
    return None if value is None else value.central


def _ends(value: Range | None) -> list[float] | None:
    return None if value is None else [value.low, value.high]


def _plain(found: Any) -> Any:
    """Records as mappings, ranges as low, central, high, and what is not known as null."""
    if isinstance(found, Range):
        return None if math.isnan(found.central) else [found.low, found.central, found.high]
    if isinstance(found, msgspec.Struct):
        return {name: _plain(getattr(found, name)) for name in found.__struct_fields__}
    if isinstance(found, dict):
        return {name: _plain(value) for name, value in found.items()}
    return [_plain(value) for value in found] if isinstance(found, (list, tuple)) else found


def _phase(one: Extrapolated) -> dict[str, Any]:
    fit, forecast = one.fit, one.forecast
    return {
        "steps": forecast.steps,
        "energy_kwh": forecast.energy_kwh,
        "confidence": CONFIDENCE,
        "confidence_interval_kwh": forecast.confidence_kwh,
        "prediction_interval_kwh": forecast.prediction_kwh,
        "reason": fit.reason,
        "slope_kwh_per_step": fit.slope_kwh_per_step,
        "intercept_kwh": fit.intercept_kwh,
        "n": fit.points or None,
        "r2": fit.r2,
        "standard_error_kwh": fit.standard_error_kwh,
        "slope_error_kwh_per_step": fit.slope_error_kwh_per_step,
        "intercept_error_kwh": fit.intercept_error_kwh,
        "t_quantile": fit.t_quantile,
        "measured_steps": fit.measured_steps,
        "times_the_longest_measured": forecast.beyond,
    }


def _estimates(found: Estimates) -> dict[str, Any]:
    energy = {name: phase.energy_kwh for name, phase in found.phases.items()}
    document: dict[str, Any] = {
        "nn_et_kwh": energy.get("training"),
        "nn_eq_kwh": energy.get("query"),
        "nn_emb_gco2e": found.embodied_gco2e,
        "nn_emb_kgco2e": found.embodied_gco2e / 1000,
        "nn_c_gco2e": found.operation_gco2e,
        "nn_c_kgco2e": found.operation_gco2e / 1000,
        "sum_gco2e": found.total_gco2e,
        "sum_kgco2e": found.total_gco2e / 1000,
        "embodied_share": found.embodied_share,
        "phases": _plain(found.phases),
        "amortised": None,
    }
    if found.amortised_gco2e is None or found.amortised_total_gco2e is None:
        return document | {"reason": found.reason}
    document["amortised"] = {
        "lifetime_hours": found.lifetime_hours,
        "embodied_gco2e": found.amortised_gco2e,
        "embodied_kgco2e": found.amortised_gco2e / 1000,
        "sum_gco2e": found.amortised_total_gco2e,
        "sum_kgco2e": found.amortised_total_gco2e / 1000,
        "embodied_share": found.amortised_share,
    }
    return document
