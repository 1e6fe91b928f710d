"""`jobimpact books --embodied YEAR`: hardware = jobs + idle shares + true-up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from jobimpact.core.config import config_path, each_cluster, load_config
from jobimpact.core.errors import ConfigError
from jobimpact.nightly.books import YearBooks, books_of
from jobimpact.report.numbers import energy, grams
from jobimpact.report.text import clean

__all__ = ["run"]

SCHEMA = 1
_SHOWN = (
    ("GWP (climate), CO2e", 0, grams),
    ("ADP (minerals), Sb-e", 1, grams),
    ("PE (energy)", 2, lambda mj: energy(mj * 1e6)),
)
_NAMES = {"cpu": "CPU", "ram": "memory", "gpu": "GPU", "rest": "rest"}
_WIDTHS = (16, 8, 10, 10, 11, 10, 6)
CLOSE = 1e-9


def run(year: str, config: str | None, *, as_json: bool) -> int:
    """Print a year's books of manufacture, cluster by cluster where there are several.

    Returns:
        0; 1 where they do not balance.

    Raises:
        ConfigError: not a year, or the inventory or the factors are wrong.
        StoreError: the results cannot be read.
    """
    if not re.fullmatch(r"(19|20)\d\d", year, re.ASCII):
        raise ConfigError(f"--embodied {year!r:.20}: not a year, like 2026")
    all_books = {one.cluster: books_of(one, year) for one in each_cluster(load_config(config_path(config)))}
    several = len(all_books) > 1
    balanced = True
    if as_json:
        documents = [_document(found) | ({"cluster": name} if several else {}) for name, found in all_books.items()]
        print(json.dumps({"schema": SCHEMA, "clusters": documents} if several else documents[0], indent=2))
    for name, found in all_books.items():
        fits = all(_difference(line, at) <= CLOSE for line in found.lines for at in range(3))
        balanced = balanced and fits
        if not as_json:
            print(*([f"Cluster {name}"] if several else []), *_text(found, balanced=fits), sep="\n")
    return 0 if balanced else 1


def _difference(line: dict[str, Any], at: int) -> float:
    """By which part of the hardware the books are out."""
    whole: float | None = line["hardware"][at]
    if whole is None:
        return 0.0
    out: float = whole - line["jobs"][at] - line["idle"][at] - line["true_up"][at]
    return abs(out) / whole if whole else abs(out)


def _document(found: YearBooks) -> dict[str, Any]:
    head = {"schema": SCHEMA, "year": found.year, "months": found.months, "closed": found.closed}
    head |= {"made_with": found.made_with}
    units = {"indicators": ["gwp_kgco2e", "adp_kgsbe", "pe_mj"]}
    return head | units | {"lines": found.lines}


def _text(found: YearBooks, *, balanced: bool) -> Iterator[str]:
    if not found.lines:
        yield f"{found.year}: no month is closed: months close five days after their end, once all of it is accounted"
        return
    state = (
        "closed" if found.closed else f"so far: {len(found.months)} months, {found.months[0]} to {found.months[-1]}"
    )
    yield f"Manufacture in {found.year}, {state}"
    for title, at, shown in _SHOWN:
        yield ""
        yield title
        yield _row(("type of nodes", "part", "hardware", "jobs", "idle shares", "true-up", "held"))
        for line in found.lines:
            name = (clean(line["node_type"]), clean(_NAMES.get(line["component"], line["component"])))
            each = (line[key][at] for key in ("hardware", "jobs", "idle", "true_up"))
            held = f"{line['held_h'] / line['available_h']:.1%}" if line["available_h"] else "-"
            yield _row((*name, *("-" if one is None else shown(one) for one in each), held))
        known = [line for line in found.lines if line["hardware"][at] is not None]
        sums = (sum(line[key][at] for line in known) for key in ("hardware", "jobs", "idle", "true_up"))
        yield _row(("all", "", *(shown(one) for one in sums), ""))
    yield ""
    yield from _electricity(found)
    if len(found.made_with) > 1:
        yield "Its months were closed with several factor sets or inventories (account --recompute makes them one):"
        yield from (f"  {clean(one)}" for one in found.made_with)
    yield (
        "hardware = jobs + idle shares + true-up"
        if balanced
        else "THE BOOKS DO NOT BALANCE: hardware is not jobs + idle shares + true-up"
    )


def _electricity(found: YearBooks) -> Iterator[str]:
    """The electricity of what nobody held."""
    known = [line for line in found.lines if line["idle_use"][0] is not None]
    if known:
        used, told = (sum(line[key][0] for line in known) for key in ("idle_use", "idle_use_told"))
        yield f"Electricity while idle and outside jobs: {grams(used)} CO2e; told as idle shares {grams(told)}"


def _row(cells: tuple[str, ...]) -> str:
    kind, part, *others = zip(cells, _WIDTHS, strict=True)
    names = " ".join(f"{cell:<{width}.{width}}" for cell, width in (kind, part))
    return (names + "".join(f" {cell:>{width}}" for cell, width in others)).rstrip()
