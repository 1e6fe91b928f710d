"""`jobimpact books`: the proof that what was measured is what was handed out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from jobimpact.core.config import config_path, load_config
from jobimpact.energy.local import DomainBooks, LocalEnergy

__all__ = ["run"]

SCHEMA = 1


def run(config: str | None, *, as_json: bool) -> int:
    """Print every node's books, in joules.

    Returns:
        0; 1 where they do not balance or a node's file cannot be read.

    Raises:
        ConfigError, StoreError: nothing can be read.
    """
    site = load_config(config_path(config))
    with LocalEnergy(Path(site.store.local.path)) as energy:
        books, unread = energy.books()
    print(_document(books, unread) if as_json else _table(books))
    for why in unread:
        print(f"jobimpact: {why}", file=sys.stderr)
    return 1 if unread or any(one.difference_uj for one in books) else 0


def _document(books: list[DomainBooks], unread: list[str]) -> str:
    lines = [
        {
            "node": one.node,
            "domain": one.domain,
            "kind": one.kind,
            "method": one.method,
            "measured_uj": one.measured_uj,
            "jobs_uj": one.jobs_uj,
            "idle_uj": one.idle_uj,
            "system_uj": one.system_uj,
            "difference_uj": one.difference_uj,
            "unknown_s": one.unknown_s,
        }
        for one in books
    ]
    return json.dumps({"schema": SCHEMA, "books": lines, "errors": unread}, indent=2)


def _table(books: list[DomainBooks]) -> str:
    head = ("node", "domain", "measured J", "jobs J", "idle J", "system J", "difference J", "unknown s")
    rows = [head, *(_row(one) for one in books), _total(books)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    left = {"node", "domain"}
    columns = [
        [cell.ljust(width) if head[at] in left else cell.rjust(width) for cell in (row[at] for row in rows)]
        for at, width in enumerate(widths)
    ]
    lines = ["  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]
    balanced = all(one.difference_uj == 0 for one in books)
    verdict = "measured = jobs + idle + system" if balanced else "THE BOOKS DO NOT BALANCE: see the difference"
    return "\n".join([*lines, "", verdict])


def _row(one: DomainBooks) -> tuple[str, ...]:
    energies = (one.measured_uj, one.jobs_uj, one.idle_uj, one.system_uj, one.difference_uj)
    return (one.node, one.domain, *map(_joules, energies), f"{one.unknown_s:.1f}")


def _total(books: list[DomainBooks]) -> tuple[str, ...]:
    columns = zip(*((b.measured_uj, b.jobs_uj, b.idle_uj, b.system_uj, b.difference_uj) for b in books), strict=True)
    sums = [sum(column) for column in columns] or [0] * 5
    return ("all", "", *map(_joules, sums), f"{sum(one.unknown_s for one in books):.1f}")


def _joules(uj: int) -> str:
    """To the last microjoule: a difference must be seen."""
    sign, whole = "-" if uj < 0 else "", abs(uj)
    return f"{sign}{whole // 1_000_000}.{whole % 1_000_000:06d}"
