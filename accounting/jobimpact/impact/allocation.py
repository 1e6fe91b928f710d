"""Which part of its node a job holds: by what was reserved, not by what was used. Pure.

A resource that the scheduler does not track is left out, not guessed: its part of the node goes by the job's
dominant share. No share is more than 1, whatever was over-committed.
"""

from __future__ import annotations

import msgspec

from jobimpact.core.records import Shares

__all__ = ["COMPONENTS", "WHOLE", "Holding", "NodeSize", "shares_of"]

COMPONENTS = ("cpu", "ram", "gpu", "rest")
"""The parts of a node that are held apart."""


class Holding(msgspec.Struct, frozen=True):
    """What a job holds on one node; None: the scheduler does not track it."""

    cpus: float | None
    mem_bytes: float | None
    gpus: float | None


class NodeSize(msgspec.Struct, frozen=True):
    """What there is to hold on a node, in the scheduler's units."""

    cpus: int
    mem_bytes: int
    gpus: int


WHOLE = Shares(1.0, 1.0, 1.0, 1.0)
"""All of a node: what an exclusive job holds."""


def shares_of(held: Holding, size: NodeSize) -> Shares:
    """A job's shares of one node.

    A job that nothing at all is known of holds the whole node: less would put its impact on nobody.
    """
    cpu = _share(held.cpus, size.cpus)
    ram = _share(held.mem_bytes, size.mem_bytes)
    gpu = _share(held.gpus, size.gpus)
    known = [share for share in (cpu, ram, gpu) if share is not None]
    rest = max(known, default=1.0)
    return Shares(
        cpu=rest if cpu is None else cpu,
        ram=rest if ram is None else ram,
        gpu=(rest if size.gpus else 0.0) if gpu is None else gpu,
        rest=rest,
    )


def _share(held: float | None, there: int) -> float | None:
    if held is None:
        return None
    return min(max(held, 0.0) / there, 1.0) if there else 0.0
