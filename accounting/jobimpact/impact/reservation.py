"""What a job reserved of each of its nodes, and when: from its record and the nodes' books. Pure."""

from __future__ import annotations

import msgspec

from jobimpact.core.records import JobEnergy, JobRecord, RunEnergy, Shares
from jobimpact.impact.allocation import WHOLE, Holding, shares_of
from jobimpact.impact.inventory import NodeType

__all__ = ["excess_of", "nodes_of", "reserved_shares", "span_of"]


def nodes_of(record: JobRecord, energy: JobEnergy) -> tuple[list[str], dict[str, RunEnergy]]:
    """A job's nodes, and its run on each that knows one."""
    nodes = list(dict.fromkeys([*record.nodes, *(run.node for run in energy.runs)]))
    return nodes, {run.node: run for run in energy.runs}


def span_of(record: JobRecord, run: RunEnergy | None) -> tuple[float, float]:
    """When a node was held: suspended time too, since nobody else had its memory and GPUs."""
    if record.start_s is not None and record.end_s is not None:
        return record.start_s, max(record.end_s, record.start_s)
    if run is not None:
        return run.start_s, run.start_s + run.elapsed_ns / 1e9
    start_s = record.start_s or 0.0
    return start_s, start_s


def reserved_shares(record: JobRecord, run: RunEnergy | None, node_type: NodeType, nodes: int) -> Shares:
    """What a job reserved of one node, of which the scheduler gave it so many."""
    size = node_type.size
    if node_type.exclusive or record.exclusive:
        return msgspec.structs.replace(WHOLE, gpu=1.0 if size.gpus else 0.0)
    return shares_of(_holding(record, run, nodes, size.gpus), size)


def _holding(record: JobRecord, run: RunEnergy | None, nodes: int, there: int) -> Holding:
    """What the job holds on one node.

    The scheduler's word where it is about this node alone, else what the node's books say, else an even part of
    the job's whole. Of GPUs that are shared (slices, percentages) only the books know how much.
    """
    cpus, mem_bytes, gpus = (
        None if whole is None else whole / nodes for whole in (record.cpus, record.mem_bytes, record.gpus)
    )
    if run is None or run.state == "estimated":
        return Holding(cpus, mem_bytes, gpus)
    booked = run.gpu_share * there if run.gpus and run.gpu_share is not None else None
    if nodes > 1:
        return Holding(run.cpus or cpus, run.mem_bytes or mem_bytes, len(run.gpus) if booked is None else booked)
    return Holding(
        run.cpus if cpus is None else cpus,
        run.mem_bytes if mem_bytes is None else mem_bytes,
        max(gpus or 0, len(run.gpus)) if booked is None else booked,
    )


def excess_of(record: JobRecord, run: RunEnergy | None, node_type: NodeType, nodes: int) -> list[str]:
    """In words, of what the scheduler gave it more than the inventory has: one of the two is wrong."""
    held = msgspec.structs.astuple(_holding(record, run, nodes, node_type.size.gpus))
    there = msgspec.structs.astuple(node_type.size)
    return [
        f"it held {mine:.10g} {what}, and the inventory has {whole:.10g}: taken as all of them"
        for what, mine, whole in zip(("CPUs", "bytes of memory", "GPUs"), held, there, strict=True)
        if mine is not None and mine > whole * (1 + 1e-9)
    ]
