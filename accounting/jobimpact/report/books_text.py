"""The books of a day or a month as text: a table of the domains, of whole nodes' meters, and of the results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from jobimpact.energy.books import NodeSpan, SpanLine, SpanMeter, Sums
from jobimpact.report.books import Chain, SpanBooks, total
from jobimpact.report.books_json import stamp
from jobimpact.report.numbers import duration
from jobimpact.report.text import clean

__all__ = ["span_text", "table", "to_the_microjoule"]

SILENT_S = 120.0
FEW = 5
_HEAD = ("node", "domain", "measured J", "jobs J", "idle J", "system J", "difference J", "unknown s")
_METER_HEAD = ("node", "meter", "measured J", "parts J", "rest J", "open J", "unknown s")
_CHAIN_HEAD = ("node", "", "jobs J", "in results J", "running J", "in no result J")


def span_text(found: SpanBooks) -> str:
    """The whole text, without its last newline."""
    lines = [f"Books of {found.name}, UTC"]
    lines += [f"  {line}" for node in found.nodes for line in _cuts(node)]
    lines += ["", *table([_HEAD, *_rows(found)])]
    absent = [one for one in found.lines if one.sums is None]
    if absent:
        lines += ["", f"Not in the totals: {len(absent)} of {len(found.lines)} domains."]
        lines += [clean(f"  {one.node} {one.domain}: {one.reason}") for one in absent]
    silent = [one for one in found.lines if one.sums and one.silent_s > SILENT_S]
    if silent:
        lines += ["", "Nothing is said of this time, the node was off or its daemon stopped:"]
        lines += [clean(f"  {one.node} {one.domain}: {duration(one.silent_s)}") for one in silent]
    lines += _meters([meter for node in found.nodes for meter in node.meters])
    lines += _chains(found)
    return "\n".join([*lines, "", *_verdict(found)])


def _cuts(node: NodeSpan) -> Iterator[str]:
    """Where a node's time is really cut."""
    cuts: dict[str, list[str]] = {}
    for one in node.lines:
        if one.sums is not None:
            begin = f"its begin, {_moment(one.began_s)}," if one.began_s is not None else _moment(one.from_s)
            cuts.setdefault(f"{begin} to {_moment(one.to_s)}", []).append(one.domain)
    for cut, domains in cuts.items():
        whose = f" {', '.join(domains)}" if len(cuts) > 1 else ""
        yield clean(f"{node.node}{whose}: from {cut}")


def _rows(found: SpanBooks) -> Iterator[tuple[str, ...]]:
    for node in found.nodes:
        for one in node.lines:
            yield (node.node, clean(one.domain), *_cells(one.sums), _seconds([one]))
        if len(node.lines) > 1:
            yield (node.node, "all", *_cells(total(node.lines)), _seconds(node.lines))
    yield ("all", "", *_cells(total(found.lines)), _seconds(found.lines))


def _cells(sums: Sums | None) -> list[str]:
    return ["-"] * 5 if sums is None else [*map(to_the_microjoule, sums.each()), to_the_microjoule(sums.difference_uj)]


def _seconds(lines: Iterable[SpanLine]) -> str:
    known = [one.unknown_s for one in lines if one.unknown_s is not None]
    return f"{sum(known):.1f}" if known else "-"


def _meters(meters: Sequence[SpanMeter]) -> Iterator[str]:
    if not meters:
        return
    yield from ("", "Meters of whole nodes: measured = parts + rest + open")
    yield from table([_METER_HEAD, *map(_meter_row, meters)])
    for one in meters:
        name = clean(f"  {one.node} {one.meter}")
        if one.reason:
            yield f"{name}: {clean(one.reason)}"
        if one.open_uj:
            yield f"{name}: open: in windows not settled at an edge, or beside a gap, less what the parts had more"
        if one.deficit_uj:
            yield f"{name}: {to_the_microjoule(one.deficit_uj)} J of deficit now: the next windows pay it back first"


def _meter_row(one: SpanMeter) -> tuple[str, ...]:
    sums = (one.measured_uj, one.parts_uj, one.rest_uj, one.open_uj)
    unknown = "-" if one.unknown_s is None else f"{one.unknown_s:.1f}"
    return (one.node, clean(one.meter), *("-" if uj is None else to_the_microjoule(uj) for uj in sums), unknown)


def _chains(found: SpanBooks) -> Iterator[str]:
    if not found.chains:
        return
    yield from ("", "Jobs' joules, and which of them are in the results")
    known = [(node, found.chains[node.node]) for node in found.nodes]
    sums = [(total(node.lines) or Sums(), chain) for node, chain in known]
    rows = [(node.node, "", *_chain_cells([one])) for (node, _), one in zip(known, sums, strict=True)]
    yield from table([_CHAIN_HEAD, *rows, ("all", "", *_chain_cells(sums))])
    for node, chain in known:
        if chain.in_results_uj is None:
            yield clean(f"  {node.node}: the clock was set back over an edge: runs cannot be told apart there")
        if chain.unaccounted:
            yield clean(f"  {node.node}: over, and in no result (yet): {_some(chain.unaccounted)}")
        if chain.changed:
            yield clean(f"  {node.node}: its books have other joules than the result by now: {_some(chain.changed)}")


def _chain_cells(some: Sequence[tuple[Sums, Chain]]) -> list[str]:
    known = [(sums, chain) for sums, chain in some if chain.in_results_uj is not None]
    if not known:
        return [to_the_microjoule(sum(sums.jobs_uj for sums, _ in some)), "-", "-", "-"]
    columns = zip(*((sums.jobs_uj, c.in_results_uj, c.running_uj, c.unaccounted_uj) for sums, c in known), strict=True)
    return [to_the_microjoule(sum(uj or 0 for uj in column)) for column in columns]


def _some(jobs: Sequence[str]) -> str:
    more = f" and {len(jobs) - FEW} more" if len(jobs) > FEW else ""
    return ", ".join(jobs[:FEW]) + more


def _verdict(found: SpanBooks) -> Iterator[str]:
    known = [one for one in found.lines if one.sums]
    if not known:
        yield "nothing is known of this time: there is nothing to balance"
        return
    if slack_uj := sum(one.slack_uj or 0 for one in known):
        yield f"what jobs have at the cuts is proved to within {to_the_microjoule(slack_uj)} J"
    if any(one.slack_uj is None for one in known):
        yield "the clock was set back over an edge: there, jobs have what idle and system have not"
    if found.balanced:
        yield "measured = jobs + idle + system"
        return
    for one in known:
        if one.sums and one.sums.difference_uj:
            yield clean(f"{one.node} {one.domain}: out by {to_the_microjoule(one.sums.difference_uj)} J")
    yield "THE BOOKS DO NOT BALANCE: see the differences"


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines of columns: two of names, the others of numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) if at < 2 else cell.rjust(width) for at, (cell, width) in cells).rstrip()
        for cells in (list(enumerate(zip(row, widths, strict=True))) for row in rows)
    ]


def _moment(at_s: float | None) -> str:
    return (stamp(at_s) or "?")[:19].replace("T", " ")


def to_the_microjoule(uj: int) -> str:
    """Joules with all their digits: a difference must be seen."""
    sign, whole = "-" if uj < 0 else "", abs(uj)
    return f"{sign}{whole // 1_000_000}.{whole % 1_000_000:06d}"
