"""`jobimpact assess FILE`: functional units by the arithmetic of jobs, without a scheduler."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from jobimpact.core.config import config_path, load_config
from jobimpact.core.errors import ConfigError
from jobimpact.impact.factors import load_factors
from jobimpact.impact.functional_unit import Site, UnitImpacts, assess
from jobimpact.impact.inventory import load_inventory
from jobimpact.impact.unit_file import Unit, load_units

__all__ = ["assessed", "run"]


def run(file: Path, config: str | None, *, as_json: bool) -> int:
    """Print the impacts of every unit of a file.

    Returns:
        0.

    Raises:
        ConfigError: names file and key; no unit is answered.
    """
    found = assessed(file, config)
    if as_json:
        from jobimpact.report.assess_json import dumps

        print(dumps(found))
    else:
        from jobimpact.report.assess_text import units_text

        print(units_text(found), end="")
    return 0


def assessed(file: Path, config: str | None) -> list[UnitImpacts]:
    """Every unit of a file, in order.

    Raises:
        ConfigError: names file and key.
    """
    units = load_units(file)
    site = _site(file, units, config)
    found = []
    for place, unit in units.items():
        try:
            found.append(assess(unit, site))
        except ConfigError as error:
            raise ConfigError(f"{file}: {place}{error}") from error
    return found


def _site(file: Path, units: dict[str, Unit], config: str | None) -> Site:
    """What the units refer to: a zone needs factors only, those of the site if there is one."""
    with_node = next((place for place, unit in units.items() if unit.node is not None), None)
    path = config_path(config)
    named = config is not None or "JOBIMPACT_CONFIG" in os.environ
    if with_node is None and not _any_zone(units.values()) and config is None:
        return Site()
    if with_node is None and not named and not path.exists():
        return Site(load_factors())
    try:
        site = load_config(path)
    except ConfigError as error:
        if with_node is None:
            raise
        raise ConfigError(f"{file}: {with_node}node: the inventory is found by the configuration: {error}") from error
    factors = load_factors(Path(site.factors)) if site.factors else load_factors()
    inventory = None if with_node is None else load_inventory(Path(site.inventory))
    return Site(factors, inventory, site.grid.zone)


def _any_zone(units: Iterable[Unit]) -> bool:
    return any(unit.zone is not None for unit in units)
