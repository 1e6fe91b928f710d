"""Shares, linearity, the inventory and the factors that ship."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.accounting.world import INVENTORY, NS, record

from jobimpact.core.errors import ConfigError
from jobimpact.core.records import DomainEnergy, JobEnergy, RunEnergy
from jobimpact.impact.allocation import Holding, NodeSize, shares_of
from jobimpact.impact.assess import Assessor
from jobimpact.impact.embodied import charged, embodied_impacts, hourly_rates
from jobimpact.impact.factors import load_factors
from jobimpact.impact.inventory import Inventory, load_inventory
from jobimpact.impact.occupancy import Hours
from jobimpact.impact.parts import parts_of
from jobimpact.impact.ranges import Impacts, Range, total
from jobimpact.impact.use import use_impacts

FACTORS = load_factors()
amounts = st.one_of(st.none(), st.floats(0, 1e13, allow_nan=False))
energies = st.floats(0, 1e6)
ranges = st.builds(lambda a, b, c: Range(*sorted((a, b, c))), *[st.floats(0, 1e6)] * 3)
impacts = st.builds(Impacts, ranges, ranges, ranges)


def inventory(folder: Path, text: str = INVENTORY) -> Inventory:
    (folder / "nodes.yaml").write_text(text)
    return load_inventory(folder / "nodes.yaml")


@given(amounts, amounts, amounts, st.integers(1, 512), st.integers(1, 2**42), st.integers(0, 16))
def test_no_share_is_more_than_the_whole(
    cpus: float | None, mem: float | None, gpus: float | None, n: int, m: int, g: int
) -> None:
    """Whatever is over-committed or untracked, each share lies in [0, 1], and the rest is the largest known one."""
    shares = shares_of(Holding(cpus, mem, gpus), NodeSize(n, m, g))
    found = (shares.cpu, shares.ram, shares.gpu, shares.rest)
    assert all(0 <= one <= 1 for one in found)
    assert shares.rest == max(found)


@given(st.lists(st.integers(0, 32), min_size=1, max_size=8))
def test_jobs_that_part_a_node_among_them_hold_it_once(parts: list[int]) -> None:
    """CPU, memory and GPU shares of jobs that divide a node sum to 1 at most, and to 1 when nothing is left."""
    whole = sum(parts) or 1
    size = NodeSize(whole, whole * 2**30, whole)
    shares = [shares_of(Holding(one, one * 2**30, one), size) for one in parts]
    expected = 1.0 if sum(parts) else 0.0
    for whole_ in (sum(s.cpu for s in shares), sum(s.ram for s in shares), sum(s.gpu for s in shares)):
        assert whole_ == pytest.approx(expected)


def test_what_is_not_tracked_goes_by_the_dominant_share() -> None:
    """Without memory accounting, memory goes by the largest share; a node without GPUs has no GPU share."""
    shares = shares_of(Holding(10, None, None), NodeSize(40, 2**38, 0))
    assert (shares.cpu, shares.ram, shares.gpu, shares.rest) == (0.25, 0.25, 0.0, 0.25)


@given(energies, energies, impacts, st.floats(1, 3))
def test_use_is_linear_in_energy(a: float, b: float, per_kwh: Impacts, pue: float) -> None:
    """Two runs' use impacts are that of the sum of their energies."""
    both = use_impacts(a, per_kwh, pue) + use_impacts(b, per_kwh, pue)
    whole = use_impacts(a + b, per_kwh, pue)
    for name in ("gwp_kgco2e", "adp_kgsbe", "pe_mj"):
        for end in ("low", "central", "high"):
            assert getattr(getattr(both, name), end) == pytest.approx(getattr(getattr(whole, name), end))


@given(impacts, st.floats(0, 1e5), st.floats(1, 1e5))
def test_embodied_keeps_the_order_of_a_range(held: Impacts, hours: float, lifetime: float) -> None:
    """Low stays below central, and central below high."""
    found = embodied_impacts(held, hours, lifetime)
    for one in (found.gwp_kgco2e, found.adp_kgsbe, found.pe_mj):
        assert one.low <= one.central <= one.high


def test_a_job_alone_for_the_whole_life_carries_the_whole_node(tmp_path: Path) -> None:
    """All of a node for all of its life is exactly what making it cost."""
    node_type = inventory(tmp_path).types["a100"]
    parts = parts_of(node_type, FACTORS)
    size = node_type.size
    shares = shares_of(Holding(size.cpus, size.mem_bytes, size.gpus), size)
    life = Hours(*(share * 4 * 8766 for share in shares.each()))
    held = total(charged(life, hourly_rates(parts, 4 * 8766)).values())
    assert held.gwp_kgco2e.central == pytest.approx(parts.whole.gwp_kgco2e.central)


def test_a_lifetime_of_nothing_is_an_error() -> None:
    """Division by a lifetime of 0 is a configuration error, not a crash."""
    nothing = Impacts(*[Range(0, 0, 0)] * 3)
    with pytest.raises(ConfigError, match="more than 0"):
        embodied_impacts(nothing, 1, 0)


def test_an_unknown_part_has_a_wide_range_and_says_so(tmp_path: Path) -> None:
    """An unknown GPU and CPU still have an impact; both are named in a warning."""
    text = INVENTORY.replace("NVIDIA A100-SXM4-80GB", "Frob 9000").replace(
        "AMD EPYC 7763 64-Core Processor", "Zilog Z80"
    )
    parts = parts_of(inventory(tmp_path, text).types["a100"], FACTORS)
    assert parts.gpu.gwp_kgco2e.high > 10 * parts.gpu.gwp_kgco2e.low > 0
    assert any("Frob 9000" in one for one in parts.warnings)
    assert any("Zilog Z80" in one for one in parts.warnings)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("ram_gb: 256", "ram_gb: 256\n    colour: red"), r" types\.cpu\.colour: unknown key; allowed: .*ram_gb"),
        (("ram_gb: 256", "ram_gb: -1"), r" types\.cpu\.ram_gb: expected"),
        (("ram_gb: 1024", "ram_gb: -1"), r" types\.a100\.ram_gb: expected"),
        (("A100-SXM4-80GB, count: 8", "A100, count: 0"), r" types\.a100\.gpus\[0\]\.count: expected"),
        (("cores: 20", "cores: many"), r" types\.cpu\.cpu\.cores: expected"),
        (("  a100:", "  7:"), r": a key in types: expected `str`"),
        (("  a100:", "  cpu:"), r"key 'cpu' twice"),
        (("nodes: node[01-02]", "nodes: node[01-03]"), r"node03 is of type cpu already"),
        (("nodes: node[01-02]", "nodes: 'node[01'"), r"types\.cpu\.nodes"),
        (("pue: 1.3", "pue: 0.9"), r"pue"),
    ],
)
def test_a_wrong_inventory_names_file_and_key(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    """Unknown keys, bad values and nodes of two types are errors that say where."""
    with pytest.raises(ConfigError, match=said) as error:
        inventory(tmp_path, INVENTORY.replace(*change))
    assert str(tmp_path / "nodes.yaml") in str(error.value)


def test_an_unknown_zone_lists_the_known_ones(tmp_path: Path) -> None:
    """A typo in the zone is told before a single job is accounted."""
    with pytest.raises(ConfigError, match=r"'FRX'.*FRA"):
        Assessor(FACTORS, inventory(tmp_path), "FRX")


def run(node: str, joules: float | None, **more: object) -> RunEnergy:
    known_ns = 0 if joules is None else 100 * NS
    fields = {"cpus": 4, "mem_bytes": 2**30, "gpus": (), "state": "ended"} | more
    domain = DomainEnergy("package-0", "cpu", "counter", round((joules or 0) * 1e6), known_ns)
    return RunEnergy(node, "1", 0, 0.0, 100.0, 100 * NS, flags=(), domains=(domain,), **fields)


def test_no_energy_is_no_use_impact_but_an_embodied_one(tmp_path: Path) -> None:
    """An unmeasured job in the inventory: use null with the reason, embodied known, total null."""
    found = (
        Assessor(FACTORS, inventory(tmp_path), "FRA").assess(record(), JobEnergy((), {"node01": "gone"})).assessment
    )
    assert found.gwp_kgco2e.use is None
    assert found.gwp_kgco2e.embodied is not None
    assert found.gwp_kgco2e.total is None
    assert "no energy was measured" in (found.gwp_kgco2e.reason or "")


def test_a_node_that_is_not_listed_has_no_embodied_impact(tmp_path: Path) -> None:
    """Its use is known all the same, and the reason names the node."""
    energy = JobEnergy((run("login7", 3.6e6),), {})
    found = Assessor(FACTORS, inventory(tmp_path), "FRA").assess(record(nodes=("login7",)), energy).assessment
    assert found.gwp_kgco2e.use is not None
    assert found.gwp_kgco2e.use.central == pytest.approx(0.04418 * 1.3)
    assert found.gwp_kgco2e.embodied is None
    assert "login7" in (found.gwp_kgco2e.reason or "")


def test_each_node_s_zone_and_pue_are_its_own(tmp_path: Path) -> None:
    """A node type's zone and PUE come before the site's."""
    text = INVENTORY.replace("    psu: 4\n", "    psu: 4\n    zone: POL\n    pue: 2.0\n")
    energy = JobEnergy((run("node01", 3.6e6), run("node03", 3.6e6)), {})
    found = (
        Assessor(FACTORS, inventory(tmp_path, text), "FRA")
        .assess(record(nodes=("node01", "node03")), energy)
        .assessment
    )
    assert found.gwp_kgco2e.use is not None
    assert found.gwp_kgco2e.use.central == pytest.approx(0.04418 * 1.3 + 0.61498 * 2.0)
    assert (found.factors.zone, found.factors.pue) == ("FRA,POL", [1.3, 2.0])


def test_without_a_pue_the_result_says_that_one_was_assumed(tmp_path: Path) -> None:
    """A PUE of 1 is an assumption, and a warning."""
    energy = JobEnergy((run("node01", 1.0),), {})
    found = (
        Assessor(FACTORS, inventory(tmp_path, INVENTORY.replace("pue: 1.3\n", "")), "FRA")
        .assess(record(), energy)
        .assessment
    )
    assert any("PUE" in one for one in found.warnings)


def test_the_books_tell_how_an_uneven_job_is_spread(tmp_path: Path) -> None:
    """Of a job's two nodes, the one with all the GPUs carries their embodied impact."""
    assessor = Assessor(FACTORS, inventory(tmp_path), "FRA")
    job = record(nodes=("node03", "node04"), cpus=8, mem_bytes=2**31, gpus=8)
    uneven = JobEnergy((run("node03", 1.0, gpus=tuple("abcdefgh")), run("node04", 1.0)), {})
    even = JobEnergy((run("node03", 1.0, gpus=tuple("abcd")), run("node04", 1.0, gpus=tuple("abcd"))), {})
    one, other = (assessor.assess(job, energy).assessment.gwp_kgco2e.embodied for energy in (uneven, even))
    assert one is not None
    assert other is not None
    # The whole rest of node03 on the one hand; half of each node's on the other: the same.
    assert one.central == pytest.approx(other.central, rel=0.01)


def test_a_job_that_never_started_costs_nothing(tmp_path: Path) -> None:
    """Cancelled while pending: zero, and known to be zero."""
    job = record(start_s=None, elapsed_s=0, nodes=(), state="CANCELLED")
    found = Assessor(FACTORS, inventory(tmp_path), "FRA").assess(job, JobEnergy((), {})).assessment
    assert found.gwp_kgco2e.total == Range(0.0, 0.0, 0.0)
