"""Who a domain's energy belongs to: the default policy. Pure, in integers, and conserving by construction.

Every share is found by one function, `split`, whose parts sum to the whole to the last microjoule.

- GPU: whole to the run that holds it, idle power included; unheld, to `idle`.
- CPU package: the idle part by held cores, unheld cores to `idle`; the part above by CPU time, what no run used of
  the node's busy time to `system`.
- DRAM: the same with memory held and memory used.
Where nothing was used, or what was used is not known, all of it goes by what was held.
"""

from __future__ import annotations

from collections.abc import Mapping

from jobimpact.core.records import IDLE, SYSTEM, DomainKind
from jobimpact_daemon.holdings import Snapshot

__all__ = ["split", "split_domain", "weights"]

Weights = dict[str, int]


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


def weights(kind: DomainKind, gpu: str, before: Snapshot, after: Snapshot) -> tuple[Weights, Weights]:
    """What was held and what was used between two snapshots.

    Args:
        kind: what the domain is.
        gpu: its UUID if it is a GPU.
        before: the holdings at the domain's last reading.
        after: the holdings now.

    Returns:
        Two sets of weights by holder: held (for the idle part) and used (for the part above).
    """
    held: Weights = {}
    used: Weights = {}
    for key, now in after.runs.items():
        then = before.runs.get(key)
        time_ns = now.time_ns - then.time_ns if then else now.time_ns
        if kind == "gpu":
            if time_ns and gpu in now.gpus:
                held[key] = time_ns
            continue
        size = now.cpus if kind == "cpu" else now.mem_kib
        if time_ns and size:
            held[key] = size * time_ns
        use = now.used(kind) - (then.used(kind) if then else 0)
        if use:
            used[key] = use
    unheld = after.unheld(kind, gpu) - before.unheld(kind, gpu)
    if unheld:
        held[IDLE] = unheld
    outside = after.system(kind) - before.system(kind)
    if outside:
        used[SYSTEM] = outside
    return held, used


def split_domain(total_uj: int, idle_uj: int, held: Weights, used: Weights) -> Weights:
    """One domain's energy over one interval, among its holders.

    Args:
        total_uj: what the domain used.
        idle_uj: what it would have used with nothing running.
        held: weights of the idle part.
        used: weights of the part above.

    Returns:
        holder → microjoules; the sum is `total_uj`.
    """
    if not used:
        return split(total_uj, held)
    static_uj = min(total_uj, idle_uj)
    shares = split(static_uj, held) if static_uj else {}
    if total_uj > static_uj:
        for holder, share in split(total_uj - static_uj, used).items():
            shares[holder] = shares.get(holder, 0) + share
    return shares
