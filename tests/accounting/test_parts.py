"""A node's parts: they add up, stay in order, and say what is guessed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobimpact.impact.factors import load_factors
from jobimpact.impact.inventory import CpuParts, GpuParts, NodeType
from jobimpact.impact.parts import NodeParts, PartLine, parts_of
from jobimpact.impact.ranges import Range, total

FACTORS = load_factors()
INDICATORS = ("gwp_kgco2e", "adp_kgsbe", "pe_mj")
CARDS = [*FACTORS.gpus.gpus, "NVIDIA A100-SXM4-80GB MIG 3g.40gb", "Frob 9000"]
sizes = st.floats(0.5, 30720)
pieces = st.one_of(st.just(0.0), st.floats(0.01, 4))

node_types = st.builds(
    NodeType,
    nodes=st.just("n1"),
    cpu=st.builds(
        CpuParts,
        model=st.sampled_from(["EPYC 7763", "Xeon Gold 6148", "Zilog Z80", "Carmel"]),
        count=st.integers(1, 8),
        cores=st.just(8),
        die_mm2=st.one_of(st.none(), st.floats(1, 3000)),
    ),
    ram_gb=st.floats(0.5, 8192),
    ram_modules=st.one_of(st.none(), st.integers(0, 64)),
    gpus=st.lists(st.builds(GpuParts, st.sampled_from(CARDS), st.integers(1, 16)), max_size=3),
    ssd_gb=st.lists(sizes, max_size=4),
    hdd_gb=st.lists(sizes, max_size=4),
    psu=st.integers(0, 8),
    psu_kg=st.one_of(st.none(), st.floats(0.1, 20)),
    board=pieces,
    case=pieces,
    nic=st.integers(0, 4),
)


def node(**more: Any) -> NodeParts:
    plain: dict[str, Any] = {"cpu": CpuParts("AMD EPYC 7763", 2, 64), "ram_gb": 256, "ram_modules": 8, "psu_kg": 2.0}
    return parts_of(NodeType(nodes="n1", **plain | more), FACTORS)


def line(parts: NodeParts, name: str) -> PartLine:
    return next(one for one in parts.lines if one.name == name)


@given(node_types)
def test_the_lines_are_the_node(node_type: NodeType) -> None:
    """Lines of each component add up to it, all of them to the whole; low, central and high stay in order."""
    parts = parts_of(node_type, FACTORS)
    for name in ("cpu", "ram", "gpu", "rest"):
        assert total(one.impacts for one in parts.lines if one.component == name) == getattr(parts, name)
    for indicator in INDICATORS:
        whole: Range = getattr(parts.whole, indicator)
        for end in ("low", "central", "high"):
            summed = sum(getattr(getattr(one.impacts, indicator), end) for one in parts.lines)
            assert getattr(whole, end) == pytest.approx(summed)
        for one in parts.lines:
            found: Range = getattr(one.impacts, indicator)
            assert 0 <= found.low <= found.central <= found.high
            assert found.high > found.low
    assert all(map(FACTORS.cite, parts.sources))
    assert all(one.sources and one.count > 0 for one in parts.lines)


@given(node_types)
def test_what_is_not_in_the_factors_is_guessed_and_warned_of(node_type: NodeType) -> None:
    """A part without an entry has a guess and a warning by name, whatever else the node is made of."""
    parts = parts_of(node_type, FACTORS)
    strange = [gpu.model for gpu in node_type.gpus if FACTORS.gpu(gpu.model) is None]
    if node_type.cpu.die_mm2 is None and FACTORS.cpu(node_type.cpu.model) is None:
        strange.append(node_type.cpu.model)
    for model in strange:
        assert any(model in one for one in parts.warnings)
        assert all(one.guess for one in parts.lines if one.what == model)
    mig = [gpu for gpu in node_type.gpus if "MIG" in gpu.model]
    assert bool(parts.warnings) == bool(strange or mig)


@given(node_types, st.sampled_from(["ram_gb", "psu", "nic"]))
def test_more_of_a_part_never_costs_less(node_type: NodeType, key: str) -> None:
    """One more gigabyte, power supply or network card raises each end of each indicator."""
    values = {name: getattr(node_type, name) for name in node_type.__struct_fields__}
    more = NodeType(**values | {key: values[key] + 1})
    before, after = parts_of(node_type, FACTORS).whole, parts_of(more, FACTORS).whole
    for indicator in INDICATORS:
        for end in ("low", "central", "high"):
            assert getattr(getattr(after, indicator), end) > getattr(getattr(before, indicator), end)


def test_an_unknown_cpu_s_range_has_all_listed_cpus_in_it() -> None:
    """What stands for an unknown die is as small as any that is listed, and as large."""
    unknown = FACTORS.components.quantities.cpu_die_mm2.range
    for chip in FACTORS.cpus.chips.values():
        found = FACTORS.cpu(chip.models[0])
        assert found is not None
        assert found.die_mm2.high == 0 or unknown.low <= found.die_mm2.low <= found.die_mm2.high <= unknown.high


def test_an_unknown_gpu_s_range_has_all_listed_gpus_in_it() -> None:
    """What stands for an unknown card costs as little as any that is listed, and as much."""
    for gpu in FACTORS.gpus.gpus.values():
        for indicator in INDICATORS:
            one, any_card = getattr(gpu.impacts, indicator), getattr(FACTORS.gpus.archetype.impacts, indicator)
            assert any_card.low <= one.low
            assert one.high <= any_card.high


def test_a_die_that_the_inventory_gives_is_no_guess() -> None:
    """cpu.die_mm2 comes before the factors, and takes warning and guess away."""
    unknown, given_area = (node(cpu=CpuParts("Zilog Z80", 1, 8, die_mm2=area)) for area in (None, 600.0))
    assert "die area not known: 80-2400 mm2" in (line(unknown, "CPU").guess or "")
    assert line(given_area, "CPU").guess is None
    assert given_area.warnings == ()
    assert given_area.cpu.gwp_kgco2e.high < unknown.cpu.gwp_kgco2e.high


@pytest.mark.parametrize(
    ("modules", "count", "what", "guessed"),
    [(None, 8, "32 GB", True), (4, 4, "64 GB", False), (0, 1, "256 GB, soldered", False)],
)
def test_memory_modules(modules: int | None, count: int, what: str, guessed: bool) -> None:
    """Not given: 32 GB each, and said; 0 is 0: memory that is soldered has no module."""
    memory = line(node(ram_modules=modules), "memory")
    assert (memory.count, memory.what) == (count, what)
    assert ("modules of 32 GB" in (memory.guess or "")) is guessed
    none, eight = node(ram_modules=0).ram.gwp_kgco2e.central, node(ram_modules=8).ram.gwp_kgco2e.central
    assert eight - none == pytest.approx(8 * 5.22)


def test_a_power_supply_s_weight_is_guessed_where_it_is_not_given() -> None:
    """Its range is wider then, and says so."""
    given_weight, guessed = (line(node(psu_kg=kg), "power supply") for kg in (2.99, None))
    assert given_weight.guess is None
    assert guessed.guess == "weight 0.9-4 kg"
    assert guessed.impacts.gwp_kgco2e.central == given_weight.impacts.gwp_kgco2e.central
    assert guessed.impacts.gwp_kgco2e.low < given_weight.impacts.gwp_kgco2e.low


def test_a_mig_slice_s_name_is_its_card_and_said() -> None:
    """The inventory counts cards; a slice's name is taken for one, with a warning."""
    slice_, card = (node(gpus=[GpuParts(f"NVIDIA A100-SXM4-80GB{more}", 1)]) for more in (" MIG 3g.40gb", ""))
    assert slice_.gpu == card.gpu
    assert "whole cards" in slice_.warnings[0]
    assert card.warnings == ()


def test_disks_of_one_size_are_one_line() -> None:
    """Four disks of two sizes are two lines; what is not there has no line."""
    parts = node(ssd_gb=[1920, 480, 1920, 480], hdd_gb=[8000], board=0, case=0.25)
    assert [(one.count, one.what) for one in parts.lines if one.name == "SSD"] == [(2, "1920 GB"), (2, "480 GB")]
    assert line(parts, "hard disk").what == "8000 GB"
    assert line(parts, "case").count == 0.25
    assert not {"board", "network card", "GPU"} & {one.name for one in parts.lines}
    assert node(psu=0).rest.gwp_kgco2e.central < node(psu=1).rest.gwp_kgco2e.central


def test_a_network_card_is_counted_and_called_an_estimate() -> None:
    """Each costs what the factors say, and its line says whose figure that is."""
    card = line(node(nic=2), "network card")
    assert card.impacts.gwp_kgco2e == Range(10.0, 28.0, 76.0)
    assert "our estimate" in (card.guess or "")


def test_a_jetson_s_cpu_is_on_the_module_s_chip() -> None:
    """It has no die of its own, which the GPU has, and says so."""
    parts = node(cpu=CpuParts("Carmel", 1, 8), gpus=[GpuParts("Jetson-AGX-Xavier-32GB", 1)])
    assert line(parts, "CPU").guess == "no die of its own: it is counted with the GPU"
    assert line(parts, "CPU").impacts.gwp_kgco2e.central == pytest.approx(9.14)
    assert parts.warnings == ()
