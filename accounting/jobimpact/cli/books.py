"""`jobimpact books`: the proof that what was measured is what was handed out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from jobimpact.core.config import config_path, load_config
from jobimpact.energy.local import DomainBooks, LocalEnergy

__all__ = ["run"]

SCHEMA = 1
_SUMS = ("measured_uj", "jobs_uj", "idle_uj", "system_uj", "difference_uj")


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
    return json.dumps({"schema": SCHEMA, "books": [_line(one) for one in books], "errors": unread}, indent=2)


def _line(one: DomainBooks) -> dict[str, object]:
    line: dict[str, object] = {"node": one.node, "domain": one.domain, "kind": one.kind, "method": one.method}
    line |= dict(zip(_SUMS, _sums(one) if one.known else [None] * len(_SUMS), strict=True))
    line |= {"unknown_s": one.unknown_s, "known_s": one.known_s}
    return line if one.known else line | {"reason": _why(one)}


def _sums(one: DomainBooks) -> list[int]:
    return [getattr(one, name) for name in _SUMS]


def _why(one: DomainBooks) -> str:
    return one.reason or "nothing is known of it yet"


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
    absent = [one for one in books if not one.known]
    if absent:
        lines += ["", f"Not in the totals: {len(absent)} of {len(books)} domains."]
        lines += [_plain(f"  {one.node} {one.domain}: {_why(one)}") for one in absent]
    balanced = all(one.difference_uj == 0 for one in books)
    verdict = "measured = jobs + idle + system" if balanced else "THE BOOKS DO NOT BALANCE: see the difference"
    return "\n".join([*lines, "", verdict])


def _row(one: DomainBooks) -> tuple[str, ...]:
    cells = map(_joules, _sums(one)) if one.known else ["-"] * len(_SUMS)
    return (one.node, one.domain, *cells, f"{one.unknown_s:.1f}")


def _total(books: list[DomainBooks]) -> tuple[str, ...]:
    known = [_sums(one) for one in books if one.known]
    cells = [_joules(sum(column)) for column in zip(*known, strict=True)] or ["-"] * len(_SUMS)
    return ("all", "", *cells, f"{sum(one.unknown_s for one in books):.1f}")


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _joules(uj: int) -> str:
    """To the last microjoule: a difference must be seen."""
    sign, whole = "-" if uj < 0 else "", abs(uj)
    return f"{sign}{whole // 1_000_000}.{whole % 1_000_000:06d}"
