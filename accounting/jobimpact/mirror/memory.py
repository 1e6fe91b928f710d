"""What a node's mirror must know of itself from one time to the next, and rows joined with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from jobimpact.mirror.points import Key, Points, Raw
from jobimpact.mirror.rows import Arrived, DomainRow, RunRow

__all__ = [
    "PUT",
    "PUT_RUN",
    "Began",
    "Memory",
    "OwnFile",
    "domain_row",
    "joined",
    "metered_row",
    "put_said",
    "run_row",
]

PUT = "INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?)"
_RUN = "run, job, restart, uid, cpus, mem_bytes, gpus, start_s, end_s, elapsed_ns, state, flags, held, used"
PUT_RUN = f"INSERT OR REPLACE INTO run ({_RUN}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 (ours)


_PUT_PROGRESS = "INSERT OR REPLACE INTO progress VALUES (?, ?, ?, ?, ?, ?)"
_PUT_LABEL = """
INSERT INTO label VALUES (?, ?, ?, ?) ON CONFLICT (run, name) DO UPDATE
SET value = excluded.value, wall_s = excluded.wall_s WHERE excluded.wall_s >= wall_s
"""


class Began(Struct):
    """A domain's first commit that is mirrored, and what jobs had by then that are not."""

    stamp_ms: int
    uj: int
    sure: bool
    """What nobody had was known, too."""


class OwnFile(Struct):
    """A file of the node's own: from when on, and what those before it had, which is added to what it says."""

    since_ms: int = 0
    domains: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Measured, known, unknown."""
    holders: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    """Of `idle`, `system`, and runs that may go on in it: by domain, microjoules and known ns."""
    elapsed_ns: dict[str, int] = field(default_factory=dict)
    whole: tuple[int, int, int] = (0, 0, 0)


class Memory(Struct):
    """What the mirror must know of itself from one time to the next."""

    first_ms: int | None = None
    first: Raw = field(default_factory=dict)
    """The first commit that is mirrored, as the node said it, and the last."""
    last_ms: int | None = None
    last: Raw = field(default_factory=dict)
    last_books: str | None = None
    """Which file of the node's own the last was of."""
    began: dict[str, Began] = field(default_factory=dict)
    files: list[OwnFile] = field(default_factory=lambda: [OwnFile()])
    pruned_ms: int = 0


def joined(energy: Mapping[Key, Points], file: OwnFile) -> dict[Key, Points]:
    """Points with what the files before had."""
    found = {}
    for (holder, domain), points in energy.items():
        uj, known_ns = file.holders.get(holder, {}).get(domain, (0, 0))
        found[holder, domain] = {at: (one[0] + uj, one[1] + known_ns) for at, one in points.items()}
    return found


def domain_row(one: DomainRow, file: OwnFile) -> tuple[object, ...]:
    """A row of `domain`, with what the files before had."""
    more = file.domains.get(one.domain, (0, 0, 0))
    sums = one.energy_uj + more[0], one.unknown_ns + more[2], one.known_ns + more[1]
    return (one.domain, one.kind, one.source, one.method, *sums, one.reason)


def metered_row(one: DomainRow, file: OwnFile) -> tuple[int, int]:
    """What a domain has measured, and for how many ns it is unknown, with what the files before had."""
    more = file.domains.get(one.domain, (0, 0, 0))
    return one.energy_uj + more[0], one.unknown_ns + more[2]


def run_row(one: RunRow, elapsed_ns: int) -> list[Any]:
    """A row of `run`."""
    end_s = None if one.end_ms is None else one.end_ms / 1000
    return [
        *(one.run, one.job, one.restart, one.uid, one.cpus, one.mem_bytes, one.gpus),
        *(one.start_ms / 1000, end_s, elapsed_ns, one.state, one.flags, one.held, one.used),
    ]


def put_said(db: sqlite3.Connection, part: Arrived, file: OwnFile) -> None:
    """Write what runs said of themselves; energies with what the files before had."""
    for (run, metric), points in part.progress.items():
        before = sum(uj for uj, _ in file.holders.get(run, {}).values())
        rows = [
            (run, at / 1000, metric, one.step, one.value, None if one.energy_uj is None else one.energy_uj + before)
            for at, one in points.items()
        ]
        db.executemany(_PUT_PROGRESS, rows)
    db.executemany(_PUT_LABEL, [(*key, text, at / 1000) for key, (at, text) in part.labels.items()])
