"""A node's file for the benches: runs that have drawn an even power from one package."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from tests.accounting.world import World

from jobimpact.core.nodefile import node_file, open_for_writing

__all__ = ["BookedRun", "write_node"]

NS = 1_000_000_000


class BookedRun(Struct, frozen=True):
    """A job's time on a node, in whole seconds; it has a GiB to each CPU."""

    job: str
    start_s: int
    end_s: int
    cpus: int = 1


def write_node(world: World, node: str, runs: Iterable[BookedRun], watts: int) -> int:
    """Write a node's file, with books that balance. Gives the energy in microjoules."""
    some = [(one, one.end_s - one.start_s) for one in runs]
    lasted_s = sum(lasts_s for _, lasts_s in some)
    db = open_for_writing(node_file(world.folder / "nodes", node))
    db.execute("BEGIN")
    domain = "INSERT INTO domain VALUES ('package-0', 'cpu', 'rapl', 'counter', ?, 0, ?, NULL)"
    db.execute(domain, (lasted_s * watts * 1_000_000, lasted_s * NS))
    db.executemany(
        "INSERT INTO run VALUES (?, ?, 0, 1000, ?, ?, '[]', ?, ?, ?, 'ended', '[]', '{}', '{}')",
        [(one.job, one.job, one.cpus, one.cpus << 30, one.start_s, one.end_s, s * NS) for one, s in some],
    )
    ledger = [(one.job, s * watts * 1_000_000, s * NS) for one, s in some]
    db.executemany("INSERT INTO ledger VALUES ('package-0', ?, ?, ?)", ledger)
    db.execute("COMMIT")
    db.close()
    return lasted_s * watts * 1_000_000
