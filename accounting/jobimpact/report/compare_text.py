"""A comparison as text: 80 columns, four sides beside each other, more of them below."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from jobimpact.impact.ranges import Range
from jobimpact.report.columns import cut, fitted, wrap
from jobimpact.report.compare import Comparison, Impact, Ratio, Scaling, Side
from jobimpact.report.job import INDICATORS
from jobimpact.report.numbers import duration, energy, kwh, percent, rounded, span
from jobimpact.report.period_text import WIDTH, wrapped
from jobimpact.report.words import clean, listed

__all__ = ["compare_text"]

_LABEL = 19
_MOST = 4
_WIDE = 20
"""The widest column: that of three sides or fewer."""


def compare_text(found: Comparison, *, colour: bool = False) -> str:
    """A comparison that ends with a newline.

    Args:
        found: what is compared.
        colour: for a terminal.
    """
    count = len(found.sides)
    blocks = [[*_block(found, range(at, min(at + _MOST, count)), colour=colour)] for at in range(0, count, _MOST)]
    blocks.append([line for flag in found.flags for line in wrapped(flag)])
    blocks.append([line for verdict in found.verdicts for line in wrapped(verdict)])
    blocks.append([line for note in _notes(found.sides) for line in wrapped(note)])
    blocks.append(wrapped(_method(found)))
    return "\n".join("\n".join(block) + "\n" for block in blocks if block)


def _notes(sides: Sequence[Side]) -> Iterator[str]:
    """Each once, with the sides that have it."""
    of: dict[str, list[str]] = {}
    for side in sides:
        for note in side.notes:
            of.setdefault(clean(note), []).append(clean(side.name))
    for note, names in of.items():
        yield f"Note: {listed(names)}: {note}."


def _block(found: Comparison, columns: Sequence[int], *, colour: bool) -> Iterator[str]:
    sides = [found.sides[at] for at in columns]
    for line in _names(sides):
        yield f"\x1b[1m{line}\x1b[0m" if colour else line
    yield from _row("", [side.state for side in sides])
    yield from _row("nodes", [_count(side.nodes) for side in sides])
    yield from _row("CPUs", [_count(side.cpus) for side in sides])
    yield from _row("GPUs", [_count(side.gpus) for side in sides])
    yield from _row("time", ["-" if side.time_s is None else duration(side.time_s) for side in sides])
    yield from _row("energy", [_central(side.energy_j, energy) for side in sides], always=True)
    yield from _row("", [_central(side.energy_j, lambda joules: kwh(joules / 3.6e6)) for side in sides])
    yield from _row("  range", [_span(side.energy_j, energy) for side in sides])
    yield from _row("  known", [_known(side) for side in sides])
    for name, label, _, shown in INDICATORS:
        impacts = [side.impacts.get(name, Impact()) for side in sides]
        if any(one.use or one.embodied or one.total for one in impacts):
            yield ""
            yield from _row(label, [_central(one.total, shown) for one in impacts], always=True)
            yield from _row("  use", [_central(one.use, shown) for one in impacts])
            yield from _row("  embodied", [_central(one.embodied, shown) for one in impacts])
            yield from _row("  range", [_span(one.total, shown) for one in impacts])
    if found.per is not None:
        yield from _per(sides, found.per)
    yield from _ratios(found, columns)
    yield from _scaling(found.scaling, columns)


def _per(sides: Sequence[Side], per: float) -> Iterator[str]:
    yield ""
    yield from _row("steps", [f"{side.work:,.15g}" for side in sides if side.work is not None])
    each = [side.energy_j.times(per / side.work) if side.energy_j and side.work else None for side in sides]
    of = "for each step" if per == 1 else f"for each {per:,.15g} steps"
    yield _label(of)
    yield from _row("  energy", [_central(one, energy) for one in each])
    for name, label, _, shown in INDICATORS:
        totals = [side.impacts.get(name, Impact()).total for side in sides]
        scaled = [
            total.times(per / side.work) if total and side.work else None
            for total, side in zip(totals, sides, strict=True)
        ]
        yield from _row(f"  {label}", [_central(one, shown) for one in scaled])


def _ratios(found: Comparison, columns: Sequence[int]) -> Iterator[str]:
    ratios = [found.ratios[at] for at in columns]
    yield ""
    yield _label("times the first" + (", for the same steps" if found.per is not None else ""))
    labels = {"time": "time", "energy": "energy"} | {name: label for name, label, *_ in INDICATORS}
    for name, label in labels.items():
        if any(one[name].value is not None for one in found.ratios[1:]):
            yield from _row(f"  {label}", [_ratio(one[name]) for one in ratios])
            yield from _row("    range", [_ends(one[name]) for one in ratios])


def _scaling(scaling: Sequence[Scaling | None], columns: Sequence[int]) -> Iterator[str]:
    some = [scaling[at] for at in columns] if scaling else []
    if not any(some):
        return
    yield ""
    yield _label("times the fewest nodes, for the same steps")
    yield from _row("  nodes", ["-" if one is None else _times(one.nodes) for one in some])
    yield from _row("  speed", ["-" if one is None or one.speed_up is None else _times(one.speed_up) for one in some])
    yield from _row("  energy", ["-" if one is None or one.energy is None else _times(one.energy) for one in some])


def _names(sides: Sequence[Side]) -> Iterator[str]:
    """Names in as many lines as they take, three at most."""
    each = [_lines(clean(side.name), _width(len(sides))) for side in sides]
    for at in range(max(map(len, each))):
        cells = [lines[at] if at < len(lines) else "" for lines in each]
        yield f"  {'':<{_LABEL}}{_cells(cells)}".rstrip()


def _lines(name: str, width: int) -> list[str]:
    lines = wrap(name, width - 1) or ["-"]
    return lines if len(lines) <= 3 else [*lines[:2], cut(f"{lines[2]}....", width - 1)]


def _row(label: str, cells: Sequence[str], *, always: bool = False) -> Iterator[str]:
    if always or any(cell not in {"", "-"} for cell in cells):
        yield f"  {label:<{_LABEL}}{_cells(cells)}".rstrip()


def _width(sides: int) -> int:
    return min((WIDTH - 2 - _LABEL) // sides, _WIDE)


def _cells(cells: Sequence[str]) -> str:
    """Each at the right of its column; wide characters count twice."""
    width = _width(len(cells))
    found = []
    for cell in cells:
        padded = fitted(cell, width - 1)
        text = padded.rstrip()
        found.append(" " * (len(padded) - len(text) + 1) + text)
    return "".join(found)


def _label(text: str) -> str:
    return f"  {text}"


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _central(found: Range | None, shown: Callable[[float], str]) -> str:
    return "-" if found is None else shown(found.central)


def _span(found: Range | None, shown: Callable[[float], str]) -> str:
    if found is None or found.low == found.high:
        return ""
    return span(shown(found.low), shown(found.high)).replace(" - ", "-")


def _known(side: Side) -> str:
    return "given" if side.kind == "unit" else "-" if side.coverage is None else percent(side.coverage)


def _ratio(one: Ratio) -> str:
    return "-" if one.value is None else _times(one.value)


def _ends(one: Ratio) -> str:
    if one.low is None or one.high is None or one.low == one.high:
        return ""
    return f"{rounded(one.low, 3)}-{rounded(one.high, 3)}"


def _times(value: float) -> str:
    return f"{rounded(value, 3)} x"


def _method(found: Comparison) -> str:
    measured = {kind for side in found.sides for kind in side.methods}
    said = ["Ratios are of the middle figures."]
    if any(one.low != one.high for ratios in found.ratios for one in ratios.values()):
        said.append(
            "Their range takes both at the same end of what they share (factors, meters of the same kind), and at any"
            " end of what they do not."
        )
    versions = dict.fromkeys(side.factors for side in found.sides if side.factors)
    said += [f"Factors: {', '.join(map(clean, versions))}."] if versions else []
    said += ["All methods are in --json."] if measured else []
    return " ".join(said)
