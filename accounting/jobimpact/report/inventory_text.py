"""`jobimpact inventory` for people: a table of 80 columns for each type, and what it rests on."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from datetime import date

from jobimpact.impact.inventory import NodeType, SharedParts
from jobimpact.impact.parts import PartLine
from jobimpact.impact.ranges import Impacts, Range, exactly
from jobimpact.report.inventory import INDICATORS, Described, SharedView, TypeView
from jobimpact.report.numbers import energy, grams, rounded, span
from jobimpact.report.text import clean

__all__ = ["inventory_text"]

WIDTH = 80
PART_WIDTH = 31
_GLUE = "\u00a0"
_NAMES = {"gwp_kgco2e": "GWP", "adp_kgsbe": "ADP", "pe_mj": "PE"}
_SAID: dict[str, tuple[Callable[[float], str], str]] = {
    "gwp_kgco2e": (grams, " CO2e"),
    "adp_kgsbe": (grams, " Sb-e"),
    "pe_mj": (lambda mj: energy(mj * 1e6), ""),
}
_HEAD = (
    ("part", "GWP", "low - high", "share", "ADP", "PE"),
    ("", "kg CO2e", "", "of GWP", "g Sb-e", "GJ"),
)


def inventory_text(found: Described) -> str:
    """Each type, what is shared, and the sources; ends without a newline."""
    blocks = [
        *(_type(one, found) for one in found.types),
        *(_shared(one, found) for one in found.shared),
        _footing(found),
    ]
    return "\n\n".join("\n".join(block) for block in map(list, blocks))


def _type(one: TypeView, found: Described) -> Iterator[str]:
    count, whole, hour = len(one.nodes), one.parts.whole, one.per_node_hour
    yield from _wrapped(clean(f"{one.name}: {_nodes(count)}{', ' if count else ''}{one.folded}"))
    yield from _wrapped(f"{_service(one, one.built, found.today)}{_place(one)}", "  ")
    yield ""
    yield from (_columns(*cells) for cells in _HEAD)
    for line in one.parts.lines:
        yield from _row(_what(line), line.impacts, whole)
    yield from _row("one node", whole, whole)
    yield ""
    yield f"       {'one node':<34}an hour of its life"
    for key in INDICATORS:
        yield f"  {_NAMES[key]:<4} {_amount(key, getattr(whole, key)):<33} {_amount(key, getattr(hour, key))}"
    if count > 1:
        said = [_central(key, getattr(whole.times(count), key)) for key in INDICATORS]
        yield from _wrapped(f"All {count} nodes: {', '.join(said)}.", "  ")
    yield ""
    for key in INDICATORS:
        most, widest = _largest(one.dominant(key)), _largest(one.widest(key))
        yield from _wrapped(f"Most of the {_NAMES[key]}: {most}; of its range: {widest}.", "  ", "    ")
    guesses = dict.fromkeys(f"{line.name}: {line.guess}" for line in one.parts.lines if line.guess)
    if guesses:
        yield "  Guessed, and within the ranges:"
        for guess in guesses:
            yield from _wrapped(f"- {guess}", "    ", "      ")
    for warning in one.parts.warnings:
        yield from _wrapped(f"Note: {clean(warning)}.", "  ")


def _service(one: TypeView | SharedView, built: NodeType | SharedParts, today: date) -> str:
    years = f"{built.lifetime_years:g} {'year' if built.lifetime_years == 1 else 'years'}"
    after = {"zero": "is paid off", "continue": "is charged on as before"}[built.past_lifetime]
    if built.purchased is None:
        return f"Lifetime {years}; no date of purchase is given: it is charged as if in service."
    since = "since" if built.purchased <= today else "from"
    if one.ends is None:
        return f"In service {since} {built.purchased}; lifetime {years}."
    if one.ends <= today:
        return f"In service since {built.purchased}; {years} were over on {one.ends}: its manufacture {after}."
    return f"In service {since} {built.purchased}, for {years}, until {one.ends}; then its manufacture {after}."


def _place(one: TypeView) -> str:
    exclusive = " A job is given whole nodes." if one.built.exclusive else ""
    zone = f" Zone {clean(one.built.zone)}." if one.built.zone else ""
    pue = " No PUE is given: 1 is assumed." if one.pue is None else f" PUE {one.pue:g}."
    return exclusive + zone + pue


def _what(line: PartLine) -> str:
    count = "" if line.count == 1 else f"{line.count:g} x "
    return clean(f"{count}{line.name} {line.what}").strip()


def _row(name: str, impacts: Impacts, whole: Impacts) -> Iterator[str]:
    """A line of the table, and more where the name is long."""
    gwp, of = impacts.gwp_kgco2e, whole.gwp_kgco2e.central
    first, *more = textwrap.wrap(name, PART_WIDTH - 2) or [""]
    yield _columns(
        first,
        rounded(gwp.central),
        f"{rounded(gwp.low)} - {rounded(gwp.high)}",
        _share(gwp.central / of) if of else "",
        rounded(impacts.adp_kgsbe.central * 1e3),
        rounded(impacts.pe_mj.central / 1e3),
    )
    yield from (f"    {line}" for line in more)


def _columns(name: str, gwp: str, low_high: str, share: str, adp: str, pe: str) -> str:
    return f"  {name:<{PART_WIDTH - 2}} {gwp:>7}  {low_high:>15}  {share:>6} {adp:>7} {pe:>7}".rstrip()


def _amount(key: str, value: Range) -> str:
    say = _SAID[key][0]
    return f"{_central(key, value)} ({span(say(value.low), say(value.high))})"


def _central(key: str, value: Range) -> str:
    say, of = _SAID[key]
    return f"{say(value.central)}{of}"


def _share(part: float) -> str:
    return "<1 %" if 0 < part < 0.005 else f"{part * 100:.0f} %"


def _largest(parts_of_it: list[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {_share(share)}".replace(" ", _GLUE) for name, share in parts_of_it) or "nothing"


def _shared(one: SharedView, found: Described) -> Iterator[str]:
    parts, rate = one.parts, one.rate
    pieces = "one" if parts.count == 1 else f"{parts.count} of them"
    yield from _wrapped(clean(f"{one.name}: {pieces}, shared by {_nodes(len(one.nodes))}"))
    yield from _wrapped(_service(one, parts, found.today), "  ")
    if parts.power_w is not None:
        yield f"  One draws {parts.power_w:g} W on average."
    known = [key for key in INDICATORS if getattr(parts, key) is not None]
    for key in known:
        per_hour = rate and rate.embodied[key]
        hour = f"; for an hour of a node: {_amount(key, per_hour)}" if per_hour else ""
        yield from _wrapped(f"{_NAMES[key]} of making one: {_amount(key, _range(getattr(parts, key)))}{hour}.", "  ")
    if known:
        yield from _wrapped(
            f"Source: {clean(parts.source)}." if parts.source else "No source is given for that.", "  "
        )
    if one.unknown:
        yield from _wrapped(f"Not known, and not counted: {', '.join(one.unknown)}.", "  ")


def _range(value: float | list[float]) -> Range:
    return Range(*value) if isinstance(value, list) else exactly(value)


def _footing(found: Described) -> Iterator[str]:
    yield "Low and high are of all factors and sizes at once, added up. Sources:"
    for source in found.sources.values():
        text = clean(f"- {source.title} ({source.year}; {source.licence})")
        yield from _wrapped(text, "  ", "    ")
    yield from _wrapped(f"Factors: {clean(found.factors)}. Inventory: {clean(found.inventory)}.", "", "  ")


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def _wrapped(text: str, first: str = "", more: str | None = None) -> Iterator[str]:
    indent = (first or "  ") if more is None else more
    lines = textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False)
    yield from (line.replace(_GLUE, " ") for line in lines)
