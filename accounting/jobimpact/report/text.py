"""Views as text: 80 columns, what can be acted on first. What is said stands in job.py and group.py."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from jobimpact.report.job import ROOM, elapsed, job_view, method, tone_of
from jobimpact.report.numbers import energy, grams, kwh, percent
from jobimpact.report.view import Advice, EnergyRow, JobView, Tone
from jobimpact.report.words import clean, moment
from jobimpact.results.record import JobResult

__all__ = ["clean", "group_text", "job_text", "method_text", "wrapped"]

WIDTH = 80
MOST_ADVICE = 3
"""So many findings are told in full, the others counted."""
_GLUE = "\u00a0"
_COLOURS: dict[Tone, str] = {"bad": "31", "good": "32", "plain": "33"}


def job_text(one: JobResult | JobView, *, colour: bool = False) -> str:
    """One incarnation of a job, as a report that ends with a newline; the method is not in it."""
    view = one if isinstance(one, JobView) else job_view(one)
    parts = (
        [*_head(view, colour=colour)],
        [line for said in view.lead for line in wrapped(said)],
        *advice_lines(view.advice, colour=colour),
        [*_energy(view)],
        [*_impacts(view)],
        [line for said in (*view.activity, *view.equivalents) for line in wrapped(said)],
        [line for said in (*view.notes, view.accounted) for line in wrapped(said)],
    )
    return "\n".join("\n".join(part) + "\n" for part in parts if part)


def method_text(one: JobResult | JobView) -> str:
    """What a job's figures rest on, as a paragraph that ends with a newline; empty where there are no figures."""
    said = one.method if isinstance(one, JobView) else method(one)
    return "\n".join(textwrap.wrap(said, WIDTH)) + "\n" if said else ""


def _head(view: JobView, *, colour: bool) -> Iterator[str]:
    yield f"{_bold(view.title, colour=colour)}  {_painted(view.state, view.tone, colour=colour)}"
    if view.name:
        yield f"  {textwrap.shorten(view.name, WIDTH - 4, placeholder='...')}"
    for fact in view.facts:
        yield from wrapped(fact)


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
        yield f"{start}{what}: {textwrap.shorten(reason, ROOM, placeholder='...')}"
        return
    # A line breaks between two things that are said, not within one.
    said = ", ".join(words.replace(" ", _GLUE) for words in row.said)
    lines = textwrap.wrap(said, WIDTH, initial_indent=start, subsequent_indent=" " * len(start))
    yield from (line.replace(_GLUE, " ") for line in lines)


def _impacts(view: JobView) -> Iterator[str]:
    if view.impacts:
        of = f" ({view.range_of})" if view.range_of else ""
        yield f"  {'Impact':<18} {'use':>10} {'embodied':>10} {'total':>10}  range{of}"
    for row in view.impacts:
        cells = " ".join(f"{cell:>10}" for cell in (row.use, row.embodied, row.total))
        yield f"    {row.label:<16} {cells}  {row.span} {row.unit}".rstrip()
    yield from wrapped(view.not_known)
    if view.beside:
        yield f"  {'Beside the total':<18} {'GWP':>10} {'ADP':>10} {'PE':>10}"
    for one in view.beside:
        yield f"    {one.label:<16} {one.gwp:>10} {one.adp:>10} {one.pe:>10}  {one.said}".rstrip()


def group_text(job: str, results: list[JobResult], *, colour: bool = False) -> str:
    """The tasks of an array or the parts of a heterogeneous job: a line each, and their sum."""
    known = [one.energy_j for one in results if one.energy_j is not None]
    failed = [one for one in results if tone_of(one.state) == "bad"]
    lost = [one.energy_j for one in failed if one.energy_j is not None]
    lines = [f"{_bold(f'job {clean(job)}', colour=colour)}: {len(results)} parts", ""]
    if lost and sum(lost):
        of = f"{len(failed)} of {len(results)}"
        lines += [f"  {energy(sum(lost))} ({kwh(sum(lost) / 3.6e6)}) spent on parts that did not complete ({of}).", ""]
    lines.append(f"  {'job':<16} {'state':<14} {'elapsed':>12} {'energy':>10}  {'known':>6}  {'GWP (climate)':>13}")
    lines += [
        f"  {clean(one.job_id):<16.16} {clean(one.state).partition(',')[0]:<14.14} {elapsed(one):>12} "
        f"{'-' if one.energy_j is None else energy(one.energy_j):>10}  "
        f"{'-' if one.energy_j is None else percent(one.coverage):>6}  {_gwp(one):>13}"
        for one in results
    ]
    totals = [one.impacts["gwp_kgco2e"]["total"] for one in results]
    gwp = [found["central"] for found in totals if found is not None]
    lines.append(
        f"  {'sum':<16} {'':<14} {'':>12} {energy(sum(known)) if known else '-':>10}  {'':>6}  "
        f"{grams(sum(gwp)) if gwp else '-':>13}"
    )
    lines.append("")
    for number, what in ((len(known), "energy"), (len(gwp), "GWP")):
        if number < len(results):
            lines.append(f"  The sum of {what} lacks {len(results) - number} of {len(results)}: not known.")
    if any(one.coverage < 1 for one in results if one.energy_j is not None):
        lines.append("  Where less than 100 % is known, the sum is of that part.")
    if known:
        lines.append(f"  Energy in all: {kwh(sum(known) / 3.6e6)}.")
    lines.append("  GWP (climate): use + embodied, in CO2e. One part in full: jobimpact ID.")
    lines += _up_to(results)
    return "\n".join(lines) + "\n"


def _up_to(results: list[JobResult]) -> Iterator[str]:
    """Parts that are not over are not among them: nobody knows yet which there are."""
    accounted = [one.accounted_s for one in results if one.accounted_s is not None]
    if accounted:
        yield f"  Accounted {moment(max(accounted))} UTC; parts that ended later are not among them."


def _gwp(one: JobResult) -> str:
    found = one.impacts["gwp_kgco2e"]["total"]
    return "-" if found is None else grams(found["central"])


def wrapped(text: str, indent: str = "  ") -> list[str]:
    """Lines of 80 columns; none of no text."""
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)


def _bold(text: str, *, colour: bool) -> str:
    return f"\x1b[1m{text}\x1b[0m" if colour else text


def _painted(text: str, tone: Tone, *, colour: bool) -> str:
    return f"\x1b[{_COLOURS[tone]}m{text}\x1b[0m" if colour else text
