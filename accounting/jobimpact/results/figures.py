"""The numbers of a row by which many rows are added up: columns of their own, so that no sum reads JSON."""

from __future__ import annotations

from typing import Any

from jobimpact.core.records import DomainKind
from jobimpact.results.record import JobResult

__all__ = ["FACTOR_SET", "IMPACTS", "KINDS", "NUMBERS", "expressions", "figures_of"]

_INDICATORS = {"gwp": "gwp_kgco2e", "adp": "adp_kgsbe", "pe": "pe_mj"}
_PATHS = {
    (f"{short}_{part}", end): f"$.{name}.{part}.{end}"
    for short, name in _INDICATORS.items()
    for part in ("use", "embodied", "total")
    for end in ("low", "central", "high")
}
IMPACTS = tuple(dict.fromkeys(name for name, _ in _PATHS))
"""Of each indicator use, embodied, total: the beginning of its columns' names; `_low`, `_central`, `_high` follow."""
KINDS: tuple[DomainKind, ...] = ("cpu", "dram", "gpu", "rest")
"""Of each kind of part there are joules (`cpu_j`), and how these were found (`cpu_method`): empty where they are not
known, NULL where there is no such part."""
FACTOR_SET = "factor_set"
"""The version of the factors."""
NUMBERS = (*(f"{name}_{end}" for name, end in _PATHS), *(f"{kind}_j" for kind in KINDS))


def figures_of(result: JobResult) -> dict[str, Any]:
    """A row's, by column."""
    found: dict[str, Any] = {}
    for short, name in _INDICATORS.items():
        indicator = result.impacts.get(name) or {}
        for part in ("use", "embodied", "total"):
            ends = indicator.get(part) or {}
            found |= {f"{short}_{part}_{end}": ends.get(end) for end in ("low", "central", "high")}
    for kind in KINDS:
        one = result.energy.get("domains", {}).get(kind)
        found[f"{kind}_j"] = None if one is None else one["energy_j"]
        found[f"{kind}_method"] = None if one is None else one["method"] or ""
    return found | {FACTOR_SET: result.factors.get("version")}


def expressions() -> dict[str, str]:
    """The same by column, as SQL over a row of an earlier schema."""
    found = {f"{name}_{end}": f"json_extract(impacts, '{path}')" for (name, end), path in _PATHS.items()}
    for kind in KINDS:
        at = f"'$.domains.{kind}"
        found[f"{kind}_j"] = f"json_extract(energy, {at}.energy_j')"
        found[f"{kind}_method"] = (
            f"CASE WHEN json_type(energy, {at}') = 'object' THEN coalesce(json_extract(energy, {at}.method'), '') END"
        )
    return found | {FACTOR_SET: "json_extract(factors, '$.version')"}
