"""The arithmetic against published tables, to their printed digit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from jobimpact.impact.embodied import HOURS_A_YEAR, embodied_impacts
from jobimpact.impact.factors import load_factors
from jobimpact.impact.inventory import CpuParts, GpuParts, NodeType
from jobimpact.impact.parts import parts_of
from jobimpact.impact.ranges import Impacts, Range
from jobimpact.impact.use import use_impacts

GOLDEN: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("golden.yaml").read_text())
INDICATORS = ("gwp_kgco2e", "adp_kgsbe", "pe_mj")
FACTORS = load_factors()


def exact(values: dict[str, float]) -> Impacts:
    return Impacts(*(Range(values[name], values[name], values[name]) for name in INDICATORS))


def half_a_digit(printed: str) -> float:
    mantissa, _, exponent = printed.partition("E")
    decimals = len(mantissa.partition(".")[2])
    return 0.5 * 10.0 ** (int(exponent or 0) - decimals)


def part(unit: dict[str, Any], which: str, at: int) -> Impacts:
    """A functional unit's impact with the lower (0) or the upper (1) end of its energy and time."""
    parameters = GOLDEN["parameters"]
    used = use_impacts(unit["energy_kwh"][at], exact(GOLDEN["per_kwh"]), parameters["pue"])
    lifetime_hours = parameters["lifetime_years"] * HOURS_A_YEAR
    node = exact(GOLDEN["nodes"][unit["node"]])
    embodied = embodied_impacts(node, unit["hours"][at], lifetime_hours, parameters["active_utilisation"])
    return {"usage": used, "embodied": embodied, "total": used + embodied}[which]


@pytest.mark.parametrize("name", GOLDEN["functional_units"])
@pytest.mark.parametrize("indicator", INDICATORS)
def test_a_thesis_row_comes_out_as_printed(name: str, indicator: str) -> None:
    """Every printed use, embodied and total value lies within its last digit of what we compute."""
    unit = GOLDEN["functional_units"][name]
    for which in ("usage", "embodied", "total"):
        if which not in unit:
            continue
        printed = unit[which][indicator]
        low, high = (getattr(part(unit, which, at), indicator).central for at in (0, 1))
        slack = half_a_digit(printed) * 1.001
        assert low - slack <= float(printed) <= high + slack, (which, printed, low, high)


def node_type(name: str, *, gpus: bool) -> NodeType:
    facts = GOLDEN["nodes_without_gpus"][name]
    more = GOLDEN["nodes_with_gpus"][name]
    return NodeType(
        nodes="n1",
        cpu=CpuParts(**facts["cpu"]),
        ram_gb=facts["ram_gb"],
        ram_modules=facts["ram_modules"],
        ssd_gb=facts.get("ssd_gb", []),
        psu=facts["psu"],
        gpus=[GpuParts(more["model"], more["count"])] if gpus else [],
    )


@pytest.mark.parametrize("name", GOLDEN["nodes_without_gpus"])
def test_a_node_without_gpus_costs_what_was_printed(name: str) -> None:
    """CPU, memory, disks, power supplies, case, board and assembly add up to the printed figures."""
    whole = parts_of(node_type(name, gpus=False), FACTORS).whole
    facts = GOLDEN["nodes_without_gpus"][name]
    for indicator, printed in zip(INDICATORS, facts["printed"], strict=True):
        ours = getattr(whole, indicator).central
        assert ours == pytest.approx(float(printed), abs=half_a_digit(printed), rel=1e-4), indicator
    assert [round(whole.gwp_kgco2e.low), round(whole.gwp_kgco2e.high)] == pytest.approx(facts["gwp_range"], abs=2)


@pytest.mark.parametrize("name", GOLDEN["nodes_with_gpus"])
def test_a_node_with_gpus_costs_what_was_published(name: str) -> None:
    """The driver's name finds the card, and node plus cards is the published range."""
    parts = parts_of(node_type(name, gpus=True), FACTORS)
    gwp = parts.whole.gwp_kgco2e
    assert [gwp.low, gwp.central, gwp.high] == pytest.approx(GOLDEN["nodes_with_gpus"][name]["gwp"], abs=2)
    assert parts.warnings == ()
