"""Functional units for people: 80 columns, the impacts first, then what they rest on."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from jobimpact.impact.extrapolation import Extrapolated
from jobimpact.impact.functional_unit import INDICATORS, UnitImpacts
from jobimpact.impact.nn_ci import Estimates
from jobimpact.impact.ranges import Impacts, Range
from jobimpact.report.numbers import duration, energy, grams, kwh, percent, rounded, span
from jobimpact.report.text import clean

__all__ = ["units_text"]

WIDTH = 80
_PARTS = ("use", "embodied", "total")
_SHOWN = {
    "gwp_kgco2e": ("GWP (climate)", "CO2e", grams),
    "adp_kgsbe": ("ADP (minerals)", "Sb-e", grams),
    "pe_mj": ("PE (energy)", "", lambda mj: energy(mj * 1e6)),
}


def units_text(units: Iterable[UnitImpacts]) -> str:
    """Every unit, as a report that ends with a newline, and an empty line between two."""
    said, before = [], ""
    for one in units:
        method = _method(one)
        said.append("\n".join([*_unit(one), *_wrapped("Method: as above." if method == before else method)]) + "\n")
        before = method
    return "\n".join(said)


def _unit(one: UnitImpacts) -> Iterator[str]:
    name = clean(one.name)
    yield name if len(name) <= WIDTH else f"{name[: WIDTH - 3]}..."
    if one.estimates is not None:
        yield from _estimates(one.estimates)
    else:
        yield from _spent(one)
        yield from _extrapolation(one)
        yield from _impacts(one)
    yield from _not_known(one)
    for note in one.notes:
        yield from _wrapped(f"Note: {clean(note)}.")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _spent(one: UnitImpacts) -> Iterator[str]:
    kwhs, hours = one.energy_kwh, one.duration_hours
    if kwhs is not None:
        ends = span(*(f"{rounded(end, 4)} kWh" for end in (kwhs.low, kwhs.high)))
        yield f"  {'Energy':<18} {kwh(kwhs.central)}" + (f"  ({ends})" if kwhs.low != kwhs.high else "")
    if hours is not None:
        low, central, high = (duration(end * 3600) for end in (hours.low, hours.central, hours.high))
        yield f"  {'Duration':<18} {central}" + (f"  ({low} - {high})" if low != high else "")


def _impacts(one: UnitImpacts) -> Iterator[str]:
    known = [part for part in _PARTS if any(getattr(one, part).values())]
    if not known:
        return
    covered = "total" if "total" in known else known[0]
    ranged = any(found is not None and found.low != found.high for found in getattr(one, covered).values())
    of = f"range{'' if covered == 'total' else f' ({covered} only)'}" if ranged else ""
    yield f"  {'Impact':<18} {'use':>10} {'embodied':>10} {'total':>10}  {of}".rstrip()
    for name in INDICATORS:
        label, unit, shown = _SHOWN[name]
        values: list[Range | None] = [getattr(one, part)[name] for part in _PARTS]
        cells = " ".join(f"{'-' if value is None else shown(value.central):>10}" for value in values)
        of_all: Range | None = getattr(one, covered)[name]
        ends = "" if of_all is None or not ranged else f"{span(shown(of_all.low), shown(of_all.high))} "
        yield f"    {label:<16} {cells}  {ends}{unit if of_all else ''}".rstrip()


def _not_known(one: UnitImpacts) -> Iterator[str]:
    """Each reason once, with what it is the reason of."""
    of: dict[str, dict[str, list[str]]] = {}
    for part, found in one.reasons.items():
        if part == "total" and one.estimates is None:
            continue  # its parts have said so
        for name, reason in found.items():
            of.setdefault(reason, {}).setdefault(part, []).append(_SHOWN[name][0].partition(" ")[0])
    for reason, parts in of.items():
        said = [
            part if len(names) == len(INDICATORS) else f"{part} {', '.join(names)}" for part, names in parts.items()
        ]
        if len(parts) == len(_PARTS):  # NN-CI's
            said = [", ".join(parts["total"])]
        yield from _wrapped(f"Not known: {', '.join(said)}: {clean(reason)}.")


def _extrapolation(one: UnitImpacts) -> Iterator[str]:
    if not one.phases:
        return
    nodes = one.method["energy_kwh"]["nodes"]
    yield "  Energy by a line over the steps" + (f", {nodes} nodes with as much each" if nodes > 1 else "")
    for at, phase in enumerate(one.phases):
        yield from _phase(at + 1, phase)


def _phase(number: int, one: Extrapolated) -> Iterator[str]:
    fit, forecast = one.fit, one.forecast
    yield f"    phase {number}: {forecast.steps:.15g} steps, {kwh(forecast.energy_kwh)}"
    sign = "-" if fit.intercept_kwh < 0 else "+"
    line = f"{rounded(fit.slope_kwh_per_step)} kWh a step {sign} {kwh(abs(fit.intercept_kwh))}"
    if fit.measured_steps is None:
        yield f"      {line}, published"
        return
    yield f"      {line}, least squares"
    low, high = fit.measured_steps
    r2 = "" if fit.r2 is None or fit.reason else f", r2 {fit.r2:.6f}"
    yield f"      {fit.points} points, {low:.15g} - {high:.15g} steps{r2}"
    for what, found in (("the line", forecast.confidence_kwh), ("one training", forecast.prediction_kwh)):
        if found is not None:
            yield f"      95 %, {what + ':':<14} {span(*(f'{rounded(end, 4)} kWh' for end in found))}"


def _estimates(found: Estimates) -> Iterator[str]:
    yield "  By NN-CI"
    for name, what in (("nn-et", "training"), ("nn-eq", "query")):
        if what in found.phases:
            yield _row(name, what, kwh(found.phases[what].energy_kwh))
    of = "" if found.embodied_share is None else f"  {percent(found.embodied_share)} of the sum"
    yield _row("nn-c", "electricity", _co2(found.operation_gco2e))
    yield _row("nn-emb", "hardware, all of it", _co2(found.embodied_gco2e)) + of
    yield _row("", "sum", _co2(found.total_gco2e))
    if found.amortised_gco2e is None or found.amortised_total_gco2e is None:
        yield f"  The hardware's part by its hours of use is not known: {found.reason}."
        return
    if found.lifetime_hours is None:
        return
    yield f"  The hardware by its hours of use, of the {found.lifetime_hours:g} h that it lasts"
    for name, phase in found.phases.items():
        if phase.amortised_gco2e is not None and phase.hardware_gco2e:
            yield _row("", f"hardware, {name}", _co2(phase.amortised_gco2e))
    of = "" if found.amortised_share is None else f"  hardware {percent(found.amortised_share)} of it"
    yield _row("", "sum with electricity", _co2(found.amortised_total_gco2e)) + of


def _row(name: str, what: str, value: str) -> str:
    return f"    {name:<7} {what:<21} {value:>16}"


def _co2(gco2e: float) -> str:
    return f"{grams(gco2e / 1000)} CO2e"


def _method(one: UnitImpacts) -> str:
    """What the figures rest on, in words."""
    if one.estimates is not None:
        return "Method: NN-CI's four formulas (nn-et, nn-eq, nn-emb, nn-c). All inputs are in --json."
    method = one.method
    said = []
    if any(one.use.values()):
        said.append(f"Use: {_electricity(method['electricity'])}, PUE {method['pue']['value']:g}.")
    if any(one.embodied.values()):
        said += _embodied(method)
    if any(found is not None and found.low != found.high for found in one.total.values()):
        said.append("The range takes all lows and all highs together.")
    said += [f"{what.capitalize()}: {method[what]}." for what in ("factors", "inventory") if method[what]]
    return clean(" ".join([f"Method: energy {method['energy_kwh']['source']}.", *said, "All inputs are in --json."]))


def _electricity(found: dict[str, Any]) -> str:
    per_kwh: Impacts = found["value"]
    gwp = rounded(per_kwh.gwp_kgco2e.central * 1e3)
    return f"electricity {found['source']}{'' if gwp == 'nan' else f', {gwp} gCO2e/kWh'}"


def _embodied(method: dict[str, Any]) -> Iterator[str]:
    hardware: Impacts = method["hardware"]["value"]
    gwp = hardware.gwp_kgco2e.central
    made = "" if math.isnan(gwp) else f", {grams(gwp)} CO2e a node"
    share, nodes = method["share"]["value"], method["nodes"]["value"]
    part = f"{share:g} of " if share != 1 else ""
    held = f"{part}{nodes} nodes" if nodes > 1 else f"{part}one node"
    used = method["active_utilisation"]["value"]
    idle = "idle time not included" if used is None else f"active utilisation {used:g}"
    hours = f"{method['lifetime_hours']['value']:g} h of service"
    yield f"Embodied: {held}, hardware {method['hardware']['source']}{made}, over {hours}, {idle}."
