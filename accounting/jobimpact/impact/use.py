"""What the electricity of a run costs: PUE x sum over hours of IF(h) x E(h). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from jobimpact.core.records import HourIntensity
from jobimpact.impact.ranges import Impacts, Range

__all__ = ["HOUR_S", "Mix", "even", "mix", "use_impacts"]

HOUR_S = 3600


class Mix(Struct, frozen=True):
    """What a kWh cost on average over some hours, weighted by the energy in each."""

    per_kwh: Impacts
    hours: int
    known: int
    """Hours of which the grid's source knows the intensity; the annual mean stands for the others."""
    estimated: int
    """Of those, hours that the source itself calls estimated."""
    direct: int
    """Of those, hours of which only the shape is used: the source counts direct emissions alone."""


def use_impacts(energy_kwh: float | Range, per_kwh: Impacts, pue: float) -> Impacts:
    """Operational impact.

    Args:
        energy_kwh: what the meters of the machine counted; with the least and the most where their error is known.
        per_kwh: the electricity's factors: kgCO2e, kgSbe and MJ per kWh.
        pue: what the building draws for each kWh of the machine; at least 1.

    Returns:
        kgCO2e, kgSbe and MJ.
    """
    energy = energy_kwh if isinstance(energy_kwh, Range) else Range(energy_kwh, energy_kwh, energy_kwh)
    return per_kwh.by(energy).times(pue)


def mix(weights: Iterable[tuple[int, float]], intensity: Mapping[int, HourIntensity], annual: Impacts) -> Mix:
    """The mean factors of some hours.

    Args:
        weights: each hour's start (epoch seconds) and the energy in it, in any unit.
        intensity: what is known of the grid, by the hour's start.
        annual: the zone's annual means, per kWh. Only GWP varies with the hour; ADP and PE are theirs.

    Returns:
        GWP's central value by the hours' intensities: life-cycle ones as they are, direct ones as the annual mean
        times their ratio to their own mean. Its low and high keep the annual mean's proportions.
    """
    hours = known = estimated = direct = 0
    whole = weighted = 0.0
    mean = annual.gwp_kgco2e.central
    for start_s, weight in weights:
        found = intensity.get(start_s)
        hours += 1
        whole += weight
        if found is None:
            weighted += weight * mean
            continue
        known += 1
        estimated += found.estimated
        direct += found.basis == "direct"
        weighted += weight * _lifecycle(found, mean)
    ratio = weighted / whole / mean if whole and mean else 1.0
    per_kwh = Impacts(annual.gwp_kgco2e.times(ratio), annual.adp_kgsbe, annual.pe_mj)
    return Mix(per_kwh, hours, known, estimated, direct)


def _lifecycle(found: HourIntensity, annual: float) -> float:
    if found.basis == "lifecycle":
        return found.kgco2e_per_kwh
    return annual * found.kgco2e_per_kwh / found.mean if found.mean else annual


def even(start_s: float, end_s: float) -> list[tuple[int, float]]:
    """Hours and seconds of a time in them: the weights of a power that does not vary."""
    first = int(start_s // HOUR_S) * HOUR_S
    found = []
    for hour_s in range(first, int(max(end_s, start_s + 1e-6) // HOUR_S) * HOUR_S + 1, HOUR_S):
        seconds = min(end_s, hour_s + HOUR_S) - max(start_s, hour_s)
        if seconds > 0:
            found.append((hour_s, seconds))
    return found
