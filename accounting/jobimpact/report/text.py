"""Views as text: 80 columns, what can be acted on first. What is said stands in job.py and group.py."""

from __future__ import annotations

from collections.abc import Iterator

from jobimpact.answers.query import Group
from jobimpact.report.columns import cut, fitted, width_of, wrap
from jobimpact.report.group import group_view
from jobimpact.report.job import ROOM, job_view, method
from jobimpact.report.view import Advice, EnergyRow, GroupView, JobView, Tone
from jobimpact.report.words import clean
from jobimpact.results.record import JobResult

__all__ = ["clean", "group_text", "job_text", "method_text", "wrapped"]

WIDTH = 80
MOST_ADVICE = 3
"""So many findings are told in full, the others counted."""
MOST_LINES = 20_000
"""Of more tasks `--array` lists none."""
_GLUE = "\u00a0"
_COLOURS: dict[Tone, str] = {"bad": "31", "good": "32", "plain": "33"}


def job_text(one: JobResult | JobView, *, colour: bool = False, cluster: bool = False) -> str:
    """One incarnation of a job, as a report that ends with a newline; the method is not in it.

    Args:
        one: its result, or what is said of it.
        colour: for a terminal.
        cluster: name its cluster: there are several.
    """
    view = one if isinstance(one, JobView) else job_view(one)
    parts = (
        [*_head(view, colour=colour), *_cluster(view, named=cluster)],
        [line for said in view.lead for line in wrapped(said)],
        *advice_lines(view.advice, colour=colour),
        [*_energy(view)],
        [*_impacts(view)],
        [line for said in (*view.activity, *view.equivalents) for line in wrapped(said)],
        [line for said in (*view.notes, view.accounted) for line in wrapped(said)],
    )
    return "\n".join("\n".join(part) + "\n" for part in parts if part)


def method_text(one: JobResult | JobView | GroupView) -> str:
    """What a job's figures rest on, as a paragraph that ends with a newline; empty where there are no figures."""
    said = method(one) if isinstance(one, JobResult) else one.method
    return "\n".join(wrap(said, WIDTH)) + "\n" if said else ""


def _head(view: JobView, *, colour: bool) -> Iterator[str]:
    state = cut(view.state, max(WIDTH - 2 - width_of(view.title), ROOM))
    yield f"{_bold(view.title, colour=colour)}  {_painted(state, view.tone, colour=colour)}"
    if view.name:
        yield f"  {cut(view.name, WIDTH - 4)}"
    for fact in view.facts:
        yield from wrapped(fact)


def _cluster(view: JobView | GroupView, *, named: bool) -> list[str]:
    return wrapped(f"cluster {view.cluster}") if named and view.cluster else []


def advice_lines(advice: tuple[Advice, ...], *, colour: bool = False) -> Iterator[list[str]]:
    """A paragraph for each finding, and one that counts those beyond the first few."""
    for one in advice[:MOST_ADVICE]:
        title = wrapped(one.title)
        yield [_painted(line, "plain", colour=colour and one.tone == "bad") for line in title] + [
            line for said in (one.measured, one.cost, one.do) for line in wrapped(said, "    ")
        ]
    if len(advice) > MOST_ADVICE:
        yield [f"  And {len(advice) - MOST_ADVICE} more: see --json."]


def _energy(view: JobView) -> Iterator[str]:
    if view.total:
        yield f"  {'Energy':<10} {view.total:>10}  {view.total_kwh}"
        for row in view.energy:
            yield from _energy_row(row)


def _energy_row(row: EnergyRow) -> Iterator[str]:
    start = f"    {row.label:<8} {row.amount:>10}  "
    if row.joules is None:
        what, _, reason = row.said[0].partition(": ")
        yield f"{start}{what}: {cut(reason, ROOM)}"
        return
    # A line breaks between two things that are said, not within one.
    said = ", ".join(words.replace(" ", _GLUE) for words in row.said)
    lines = wrap(said, WIDTH, start, " " * len(start))
    yield from (line.replace(_GLUE, " ") for line in lines)


def _impacts(view: JobView | GroupView) -> Iterator[str]:
    if view.impacts:
        of = f" ({view.range_of})" if view.range_of else ""
        yield f"  {'Impact':<18} {'use':>10} {'embodied':>10} {'total':>10}  range{of}"
    for row in view.impacts:
        cells = " ".join(f"{cell:>10}" for cell in (row.use, row.embodied, row.total))
        yield f"    {row.label:<16} {cells}  {row.span} {row.unit}".rstrip()
    yield from wrapped(view.not_known)
    beside = view.beside if isinstance(view, JobView) else ()
    if beside:
        yield f"  {'Beside the total':<18} {'GWP':>10} {'ADP':>10} {'PE':>10}"
    for one in beside:
        yield f"    {one.label:<16} {one.gwp:>10} {one.adp:>10} {one.pe:>10}  {one.said}".rstrip()


def group_text(group: Group | GroupView, *, colour: bool = False, cluster: bool = False) -> str:
    """The tasks of an array or the parts of a heterogeneous job, together: never a line for each of many.

    Args:
        group: it, or what is said of it.
        colour: for a terminal.
        cluster: name its cluster: there are several.
    """
    view = group if isinstance(group, GroupView) else group_view(group)
    parts = (
        [*_group_head(view, colour=colour), *_cluster(view, named=cluster)],
        [line for said in view.lead for line in wrapped(said)],
        *advice_lines(view.advice, colour=colour),
        [*_endings(view, colour=colour)],
        [*_tasks(view, colour=colour)],
        [*_impacts(view)],
        [line for said in view.equivalents for line in wrapped(said)],
        [line for said in (*view.notes, _hint(view), view.accounted) for line in wrapped(said)],
    )
    return "\n".join("\n".join(part) + "\n" for part in parts if part)


def _hint(view: GroupView) -> str:
    few = sum(row.jobs for row in view.endings) <= MOST_LINES
    return f"One in full: jobimpact with its id{'; a line for each: --array' if few else ''}."


def _group_head(view: GroupView, *, colour: bool) -> Iterator[str]:
    title, _, size = view.title.partition(": ")
    yield f"{_bold(title, colour=colour)}: {size}"
    if view.name:
        yield f"  {cut(view.name, WIDTH - 4)}"
    for fact in view.facts:
        yield from wrapped(fact)


def _endings(view: GroupView, *, colour: bool) -> Iterator[str]:
    yield f"  {'Energy':<38} {view.total or '-':>10}  {view.total_kwh}".rstrip()
    for row in view.endings:
        state = _painted(fitted(row.state, 28), row.tone, colour=colour and row.tone == "bad")
        yield f"    {row.jobs:>7,} {state} {row.energy:>10}"


def _tasks(view: GroupView, *, colour: bool) -> Iterator[str]:
    if view.tasks:
        if view.tasks_are:
            yield f"  {view.tasks_are}:"
        yield f"  {'job':<16} {'state':<14} {'elapsed':>12} {'energy':>10}  {'known':>6}  {'GWP (climate)':>13}"
    for row in view.tasks:
        state = _painted(fitted(row.state, 14), row.tone, colour=colour and row.tone == "bad")
        yield f"  {fitted(row.job, 16)} {state} {row.elapsed:>12} {row.energy:>10}  {row.known:>6}  {row.gwp:>13}"


def wrapped(text: str, indent: str = "  ") -> list[str]:
    """Lines of 80 columns; none of no text."""
    whole = text.replace(" %", f"{_GLUE}%")
    lines = wrap(whole, WIDTH, indent, indent)
    return [line.replace(_GLUE, " ") for line in lines]


def _bold(text: str, *, colour: bool) -> str:
    return f"\x1b[1m{text}\x1b[0m" if colour else text


def _painted(text: str, tone: Tone, *, colour: bool) -> str:
    return f"\x1b[{_COLOURS[tone]}m{text}\x1b[0m" if colour else text
