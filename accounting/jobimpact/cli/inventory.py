"""`jobimpact inventory`: what making each type of node cost, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jobimpact.core.clock import SystemClock
from jobimpact.core.config import config_path, load_config
from jobimpact.core.errors import ConfigError
from jobimpact.impact.factors import load_factors
from jobimpact.impact.inventory import load_inventory
from jobimpact.report.inventory import describe

__all__ = ["run"]


def run(types: Sequence[str], config: str | None, *, as_json: bool) -> int:
    """Print what making these types of nodes cost; without any, all of the inventory's.

    Returns:
        0.

    Raises:
        ConfigError: no inventory, a type that it does not have, wrong factors.
    """
    site = load_config(config_path(config))
    inventory = load_inventory(Path(site.inventory))
    if inventory.reason is not None:
        raise ConfigError(inventory.reason)
    known = ", ".join(inventory.types) or "none"
    unknown = next((name for name in types if name not in inventory.types), None)
    if unknown is not None:
        raise ConfigError(f"{site.inventory}: no type {unknown!r}; it has {known}")
    factors = load_factors(None if site.factors is None else Path(site.factors))
    names = list(dict.fromkeys(types)) or list(inventory.types)
    found = describe(inventory, factors, names, SystemClock().wall_s())
    if as_json:
        from jobimpact.report.inventory_json import inventory_json as told
    else:
        from jobimpact.report.inventory_text import inventory_text as told
    print(told(found))
    return 0
