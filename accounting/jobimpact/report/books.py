"""Nodes' books of a day or a month, put together: totals, and what of jobs' energy is in the results. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from jobimpact.energy.books import NodeSpan, SpanLine, Sums

__all__ = ["Chain", "SpanBooks", "chain_of", "total"]

FEW_UJ = 10
"""Joules of a result are sums of floats."""


class Chain(msgspec.Struct, frozen=True):
    """Whose a node's joules are that jobs have: microjoules, which sum to what jobs have in its books."""

    in_results_uj: int | None
    """Of runs that a result tells of. None: runs cannot be told one from the other, as the clock was set back."""
    running_uj: int | None
    """Of runs that go on."""
    unaccounted_uj: int | None
    """Of runs that are over and in no result: not accounted yet, or the scheduler knows nothing of them."""
    unaccounted: tuple[str, ...] = ()
    """The jobs of these."""
    changed: tuple[str, ...] = ()
    """Jobs whose result has other joules of this node than its books have by now."""


class SpanBooks(msgspec.Struct, frozen=True):
    """All nodes over a time, in epoch seconds."""

    name: str
    from_s: float
    to_s: float
    nodes: tuple[NodeSpan, ...]
    chains: dict[str, Chain]
    """By node; empty: there are no results yet."""
    errors: tuple[str, ...]

    @property
    def lines(self) -> list[SpanLine]:
        """Every node's domains."""
        return [line for node in self.nodes for line in node.lines]

    @property
    def balanced(self) -> bool:
        """Measured = jobs + idle + system, in each domain of which anything is known."""
        return not any(line.sums.difference_uj for line in self.lines if line.sums)


def total(lines: Iterable[SpanLine]) -> Sums | None:
    """The sum of what is known; None: nothing is."""
    known = [line.sums for line in lines if line.sums]
    return sum(known, Sums()) if known else None


def chain_of(node: NodeSpan, results: Mapping[tuple[str, float], float | None]) -> Chain:
    """What of a node's jobs is in the results.

    Args:
        node: its books of the time.
        results: joules that results tell of the node, by the runs' raw ids and starts.
    """
    if node.runs is None:
        return Chain(None, None, None)
    sums = total(node.lines)
    inside = [run for run in node.runs if (run.job, run.start_s) in results]
    others = [run for run in node.runs if (run.job, run.start_s) not in results]
    in_results_uj, running_uj = (sum(run.uj for run in some) for some in (inside, [r for r in others if r.running]))
    changed = []
    for run in inside:
        told_j = results[run.job, run.start_s]
        if told_j is None or abs(round(told_j * 1e6) - run.whole_uj) > FEW_UJ:
            changed.append(run.job)
    return Chain(
        in_results_uj,
        running_uj,
        (sums.jobs_uj if sums else 0) - in_results_uj - running_uj,
        tuple(dict.fromkeys(run.job for run in others if not run.running)),
        tuple(dict.fromkeys(changed)),
    )
