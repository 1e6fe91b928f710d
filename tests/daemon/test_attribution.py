"""Shares sum to the whole, and the default policy gives each part to whom it belongs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobimpact.core.records import IDLE, SYSTEM, NodeFacts
from jobimpact.core.units import NS
from jobimpact_daemon.attribution import split, split_domain, weights
from jobimpact_daemon.holdings import Holdings, Run

many = st.dictionaries(st.text("abc#1", min_size=1, max_size=3), st.integers(0, 1 << 70), max_size=8)
energies = st.integers(0, 1 << 62)


@given(total=energies, shares=many)
def test_shares_sum_to_the_whole_for_any_weights(total: int, shares: dict[str, int]) -> None:
    """Law 1: to the last microjoule, none negative, and none to a holder with no weight."""
    parts = split(total, shares)
    assert sum(parts.values()) == total
    assert all(part >= 0 for part in parts.values())
    assert all(shares.get(holder) or not part or holder == IDLE for holder, part in parts.items())


@given(total=energies, shares=many)
def test_each_share_is_within_one_microjoule_of_its_exact_part(total: int, shares: dict[str, int]) -> None:
    """Law 1: rounding moves nobody by more than a microjoule."""
    whole = sum(shares.values())
    for holder, part in split(total, shares).items():
        if whole:
            assert abs(part * whole - total * shares[holder]) < whole


@given(total=energies, shares=many, seed=st.randoms(use_true_random=False))
def test_the_order_of_holders_changes_nothing(total: int, shares: dict[str, int], seed: object) -> None:
    """Law 1: the same weights give the same shares in any order, so a restart changes none."""
    assert split(total, dict(reversed(shares.items()))) == split(total, shares)


@given(total=energies, idle=energies, held=many, used=many)
def test_a_domain_is_split_without_remainder(
    total: int, idle: int, held: dict[str, int], used: dict[str, int]
) -> None:
    """Law 1: the idle part and the part above it together are the whole."""
    assert sum(split_domain(total, idle, held, used).values()) == total


def test_the_idle_part_goes_by_cores_and_the_rest_by_use() -> None:
    """400 J with 100 J of idle: 4 and 12 of 16 cores share the 100, 3 and 1 CPU seconds the 300."""
    shares = split_domain(400, 100, {"a": 4, IDLE: 12}, {"a": 3, SYSTEM: 1})
    assert shares == {"a": 25 + 225, IDLE: 75, SYSTEM: 75}


def test_less_than_the_idle_power_goes_by_cores_alone() -> None:
    """A package that draws less than its idle power has no part above it."""
    assert split_domain(80, 100, {"a": 1, IDLE: 1}, {"a": 3}) == {"a": 40, IDLE: 40}


def test_a_gpu_goes_whole_to_its_holder_for_as_long_as_it_is_held() -> None:
    """A GPU held for 3 of 4 seconds gives a quarter of its energy to idle."""
    books = Holdings(NodeFacts(16, 1 << 30, ("g",)))
    before = books.snapshot()
    books.advance(NS)
    books.runs["7"] = Run("7", "7", 0, NS, 0.0, gpus=("g",))
    books.advance(4 * NS)
    held, used = weights("gpu", "g", before, books.snapshot())
    assert (held, used) == ({"7": 3 * NS, IDLE: NS}, {})


def test_a_domain_with_nobody_is_idle() -> None:
    """Where there are no weights at all, the energy is idle."""
    assert split(5, {}) == {IDLE: 5}
    assert split(5, {"a": 0}) == {IDLE: 5}
    assert split(0, {}) == {}
