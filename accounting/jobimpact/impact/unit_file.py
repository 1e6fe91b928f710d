"""Functional units as a file describes them: one at its top, or several under `units`. Unknown keys are errors.

units:
  - name: resnet50
    energy_kwh: 1.605             # or [low, central, high]
    duration_hours: 0.49
    electricity: {gwp_kgco2e_per_kwh: 0.0813, adp_kgsbe_per_kwh: 4.86e-8, pe_mj_per_kwh: 12.2}   # or zone: FRA
    hardware: {gwp_kgco2e: 3858, adp_kgsbe: 0.279, pe_mj: 49660}    # or node: a100, of the inventory
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from jobimpact.core.config import convert_yaml, read_yaml
from jobimpact.core.errors import ConfigError
from jobimpact.impact.extrapolation import Extrapolate
from jobimpact.impact.nn_ci import NnCi

__all__ = ["Electricity", "Hardware", "Unit", "check_choices", "load_units"]

Number = Annotated[float, Meta(ge=0, le=1e12)]
Triple = Annotated[list[Number], Meta(min_length=3, max_length=3)]
# Not a tuple: of one with a length beside a constrained number, msgspec 0.22 reads memory that is not its own.
Quantity = Number | Triple
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]


class _Keys(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Electricity(_Keys, frozen=True):
    """What a kWh costs."""

    gwp_kgco2e_per_kwh: Quantity | None = None
    adp_kgsbe_per_kwh: Quantity | None = None
    pe_mj_per_kwh: Quantity | None = None


class Hardware(_Keys, frozen=True):
    """What making one node cost."""

    gwp_kgco2e: Quantity | None = None
    adp_kgsbe: Quantity | None = None
    pe_mj: Quantity | None = None


class Unit(_Keys, frozen=True):
    """One functional unit, as the file has it."""

    name: Name | None = None
    energy_kwh: Quantity | None = None
    duration_hours: Quantity | None = None
    pue: Annotated[float, Meta(ge=1, le=5)] | None = None
    electricity: Electricity | None = None
    zone: Name | None = None
    hardware: Hardware | None = None
    node: Name | None = None
    lifetime_hours: Annotated[float, Meta(ge=1, le=1e8)] | None = None
    active_utilisation: Annotated[float, Meta(ge=1e-6, le=1)] | None = None
    share: Annotated[float, Meta(ge=0, le=1)] = 1.0
    nodes: Count | None = None
    extrapolate: Extrapolate | None = None
    nn_ci: NnCi | None = None


class _Units(_Keys, frozen=True):
    units: list[Unit]


def load_units(path: Path) -> dict[str, Unit]:
    """The units of a file, each named, by their place in it (`units[2].`; nothing for one at the top).

    Raises:
        ConfigError: names file and key.
    """
    try:
        found = read_yaml(path)
        if not isinstance(found, dict) or not found or found.get("units") == []:
            raise ConfigError(f"{path}: no units: describe one at the top, or several under units")
        if "units" not in found:
            one = convert_yaml(path, Unit)
            return {"": one if one.name else msgspec.structs.replace(one, name=path.stem)}
        units = convert_yaml(path, _Units).units
    except ConfigError as error:
        if "got `str`" in str(error):
            hint = "a number with an exponent is written with a point and a sign: 5.0e-8"
            raise ConfigError(f"{error}; {hint}") from error
        raise
    places: dict[str, str] = {}
    named: dict[str, Unit] = {}
    for at, unit in enumerate(units):
        place = f"units[{at}]"
        name = unit.name or place
        if name in places:
            raise ConfigError(f"{path}: {place}.name: {name!r} is the name of {places[name]} already")
        places[name] = place
        named[f"{place}."] = msgspec.structs.replace(unit, name=name)
    return named


def check_choices(unit: Unit) -> None:
    """What types cannot say: of some keys only one, and enough of them.

    Raises:
        ConfigError: names the key.
    """
    for one, other in (("electricity", "zone"), ("hardware", "node"), ("energy_kwh", "extrapolate")):
        if getattr(unit, one) is not None and getattr(unit, other) is not None:
            raise ConfigError(f"{other}: either {one} or {other}, not both")
    if unit.nn_ci is not None:
        default = Unit()
        more = [key for key in Unit.__struct_fields__ if getattr(unit, key) != getattr(default, key)]
        more = [key for key in more if key not in {"name", "nn_ci"}]
        if more:
            raise ConfigError(f"{more[0]}: not beside nn_ci, whose inputs are its own")
    elif unit.energy_kwh is None and unit.extrapolate is None and unit.duration_hours is None:
        raise ConfigError("energy_kwh: missing: give energy_kwh, extrapolate, nn_ci, or at least duration_hours")
