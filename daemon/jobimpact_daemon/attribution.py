"""Who a domain's energy belongs to, by name of the policy. Pure, in integers, and conserving by construction.

Every share is found by one function, `split`, whose parts sum to the whole to the last microjoule. A policy sees what
was held and what was used of the domain's resource, by holder (runs, `idle`, `system`):

- `default`: the idle part by what was held, the part above by what was used. What is held by none is `idle`, what was
  used by none is `system`. A GPU that is not shared has no use of its own: it goes whole to its holder.
- `cpu_time`: all of CPU, DRAM and the rest of the node by what was used, idle power included.
- `exclusive`: all of it to the runs on the node, by what they held; `idle` only where there is none.

Where nothing was used, or what was used is not known, all of it goes by what was held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jobimpact.core.records import IDLE, DomainKind

__all__ = ["POLICIES", "Policy", "Weights", "split"]

Weights = dict[str, int]
Policy = Callable[[DomainKind, int, int | None, Weights, Weights], Weights]
"""Kind, energy and its idle part (None: not known) in uJ, what was held, what was used → uJ by holder."""


def split(total_uj: int, weights: Mapping[str, int]) -> Weights:
    """Split an energy by weights, largest remainders first, so that the parts sum to it exactly.

    Args:
        total_uj: microjoules, not negative.
        weights: holder → weight, not negative; if all are zero, `idle` takes it.

    Returns:
        holder → microjoules; the sum is `total_uj`.
    """
    whole = sum(weights.values())
    if whole <= 0:
        return {IDLE: total_uj} if total_uj else {}
    shares: Weights = {}
    left = total_uj
    for holder, weight in weights.items():
        share = total_uj * weight // whole
        shares[holder] = share
        left -= share
    if left:
        by_remainder = sorted(weights, key=lambda holder: (-(total_uj * weights[holder] % whole), holder))
        for holder in by_remainder[:left]:
            shares[holder] += 1
    return shares


def _default(kind: DomainKind, total_uj: int, idle_uj: int | None, held: Weights, used: Weights) -> Weights:
    """The idle part by holding, the part above by use."""
    if not used:
        return split(total_uj, held)
    if idle_uj is None:
        # Fans, boards and losses are there whatever runs; a CPU's power mostly is not.
        idle_uj = total_uj if kind == "rest" else 0
    static_uj = min(total_uj, idle_uj)
    shares = split(static_uj, held) if static_uj else {}
    if total_uj > static_uj:
        for holder, share in split(total_uj - static_uj, used).items():
            shares[holder] = shares.get(holder, 0) + share
    return shares


def _cpu_time(kind: DomainKind, total_uj: int, idle_uj: int | None, held: Weights, used: Weights) -> Weights:
    """Everything by use; a GPU as by default."""
    if kind == "gpu":
        return _default(kind, total_uj, idle_uj, held, used)
    return split(total_uj, used or held)


def _exclusive(_kind: DomainKind, total_uj: int, _idle_uj: int | None, held: Weights, _used: Weights) -> Weights:
    """Everything to the runs that hold something."""
    runs = {holder: weight for holder, weight in held.items() if holder != IDLE}
    return split(total_uj, runs or held)


POLICIES: dict[str, Policy] = {"default": _default, "cpu_time": _cpu_time, "exclusive": _exclusive}
