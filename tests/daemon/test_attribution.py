"""Shares sum to the whole by every policy, and each policy gives each part to whom it belongs."""

from __future__ import annotations

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from jobimpact.core.records import IDLE, SYSTEM, DomainKind
from jobimpact_daemon.attribution import POLICIES, split

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


@given(
    policy=st.sampled_from(sorted(POLICIES)),
    kind=st.sampled_from(get_args(DomainKind)),
    total=energies,
    idle=st.none() | energies,
    held=many,
    used=many,
)
def test_every_policy_gives_everything_to_somebody(
    policy: str, kind: DomainKind, total: int, idle: int | None, held: dict[str, int], used: dict[str, int]
) -> None:
    """Law 1: for any inputs and any policy the shares are the whole, and none is negative."""
    shares = POLICIES[policy](kind, total, idle, held, used)
    assert sum(shares.values()) == total
    assert all(share >= 0 for share in shares.values())


def test_the_idle_part_goes_by_cores_and_the_rest_by_use() -> None:
    """400 J with 100 J of idle: 4 and 12 of 16 cores share the 100, 3 and 1 CPU seconds the 300."""
    shares = POLICIES["default"]("cpu", 400, 100, {"a": 4, IDLE: 12}, {"a": 3, SYSTEM: 1})
    assert shares == {"a": 25 + 225, IDLE: 75, SYSTEM: 75}


def test_less_than_the_idle_power_goes_by_cores_alone() -> None:
    """A package that draws less than its idle power has no part above it."""
    assert POLICIES["default"]("cpu", 80, 100, {"a": 1, IDLE: 1}, {"a": 3}) == {"a": 40, IDLE: 40}


def test_what_is_not_known_of_the_idle_power() -> None:
    """A CPU of unknown idle power goes by use; the rest of a node is fans and losses, and goes by what is held."""
    assert POLICIES["default"]("cpu", 80, None, {"a": 1, IDLE: 1}, {"a": 3}) == {"a": 80}
    assert POLICIES["default"]("rest", 80, None, {"a": 1, IDLE: 1}, {"a": 3}) == {"a": 40, IDLE: 40}


def test_by_cpu_time_the_idle_power_is_the_busy_jobs_too() -> None:
    """What CEEMS and Coca4ai do: all 400 J by CPU time, whatever the idle part and the cores."""
    assert POLICIES["cpu_time"]("cpu", 400, 100, {"a": 4, IDLE: 12}, {"a": 3, "b": 1}) == {"a": 300, "b": 100}
    assert POLICIES["cpu_time"]("gpu", 400, None, {"a": 1}, {}) == {"a": 400}


def test_exclusive_nodes_are_their_jobs() -> None:
    """A job that has the node has all of it; a node without a job is idle."""
    assert POLICIES["exclusive"]("cpu", 400, 100, {"a": 4, IDLE: 12}, {SYSTEM: 3}) == {"a": 400}
    assert POLICIES["exclusive"]("cpu", 400, 100, {IDLE: 16}, {SYSTEM: 3}) == {IDLE: 400}


def test_a_domain_with_nobody_is_idle() -> None:
    """Where there are no weights at all, the energy is idle."""
    assert split(5, {}) == {IDLE: 5}
    assert split(5, {"a": 0}) == {IDLE: 5}
    assert split(0, {}) == {}
