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
    return built(facts, [GpuParts(more["model"], more["count"])] if gpus else [])


def built(facts: dict[str, Any], gpus: list[GpuParts]) -> NodeType:
    known = {key: facts[key] for key in ("ram_gb", "ram_modules", "ssd_gb", "psu") if key in facts}
    return NodeType(nodes="n1", cpu=CpuParts(**facts["cpu"]), gpus=gpus, **known)


def assert_contains(ours: Range, other: float) -> None:
    assert ours.low <= other <= ours.high


@pytest.mark.parametrize("name", GOLDEN["nodes_without_gpus"])
def test_a_node_without_gpus_costs_what_was_printed(name: str) -> None:
    """CPU, memory, disks, power supplies, case, board and assembly add up to the printed figures."""
    whole = parts_of(node_type(name, gpus=False), FACTORS).whole
    facts = GOLDEN["nodes_without_gpus"][name]
    for indicator, printed in zip(INDICATORS, facts["printed"], strict=True):
        ours = getattr(whole, indicator).central
        assert ours == pytest.approx(float(printed), abs=half_a_digit(printed), rel=1e-4), indicator
    for end in facts["range"]:
        assert_contains(whole.gwp_kgco2e, end)


@pytest.mark.parametrize("name", GOLDEN["nodes_with_gpus"])
def test_a_node_with_gpus_costs_what_was_published(name: str) -> None:
    """The driver's name finds the card; node plus cards is as published, and another method's in range."""
    parts = parts_of(node_type(name, gpus=True), FACTORS)
    facts = GOLDEN["nodes_with_gpus"][name]
    for indicator, printed, other in zip(INDICATORS, facts["central"], facts["thesis_style"], strict=True):
        ours = getattr(parts.whole, indicator)
        assert ours.central == pytest.approx(float(printed), abs=half_a_digit(printed), rel=2e-3), indicator
        assert_contains(ours, other)
    for end in facts["range"]:
        assert_contains(parts.whole.gwp_kgco2e, end)
    assert parts.warnings == ()


def test_the_apollo_node_from_its_parts_is_the_thesis_s() -> None:
    """Central within 5, 15 and 5 % of the printed totals, which lie in the ranges, and so does each part's figure."""
    parts = parts_of(node_type("apollo", gpus=True), FACTORS)
    printed = GOLDEN["nodes"]["apollo"]
    for indicator, within in zip(INDICATORS, (0.05, 0.15, 0.05), strict=True):
        ours = getattr(parts.whole, indicator)
        assert ours.central == pytest.approx(printed[indicator], rel=within)
        assert_contains(ours, printed[indicator])
    lines = {line.name: line for line in parts.lines}
    assert set(lines) == set(GOLDEN["apollo_parts"])
    for name, figures in GOLDEN["apollo_parts"].items():
        for indicator, figure in zip(INDICATORS, figures, strict=True):
            assert_contains(getattr(lines[name].impacts, indicator), figure)


def test_an_independent_lca_s_parts_are_in_our_ranges() -> None:
    """Each part of a Dell R740 lies within low and high of ours."""
    lines = {line.name: line for line in parts_of(built(GOLDEN["r740"]["node"], []), FACTORS).lines}
    for name, figure in GOLDEN["r740"]["gwp"].items():
        assert_contains(lines[name].impacts.gwp_kgco2e, figure)
