"""What the electricity of a run costs: PUE x IF x E. Pure."""

from __future__ import annotations

from jobimpact.impact.ranges import Impacts

__all__ = ["use_impacts"]


def use_impacts(energy_kwh: float, per_kwh: Impacts, pue: float) -> Impacts:
    """Operational impact.

    Args:
        energy_kwh: what the meters of the machine counted.
        per_kwh: the electricity's factors: kgCO2e, kgSbe and MJ per kWh.
        pue: what the building draws for each kWh of the machine; at least 1.

    Returns:
        kgCO2e, kgSbe and MJ.
    """
    return per_kwh.times(pue * energy_kwh)
