"""ENTSO-E's transparency platform: what a bidding zone generated, by kind, weighted with life-cycle factors.

Actual generation per type (document A75, process A16), by the RESTful API. Generation alone: imports are not in it.
Storage that fills up has an outgoing zone, and is left out; so are kinds that do not count. Documented at
https://transparencyplatform.zendesk.com ("Web API": 400 questions a minute; a year at once, of late a month for some
documents) and in ENTSO-E's "Introduction of different Timeseries possibilities (curveType)": in a curve A03 a point
holds until the next one. Some zones leave out the sun at night.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Literal
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import msgspec

from jobimpact.core.config import Grid as Config
from jobimpact.core.errors import ConfigError, GridError
from jobimpact.grid.base import HOUR_S, Answer, Collected, Slot, seconds
from jobimpact.grid.web import Body, Web, read_token

__all__ = ["Entsoe"]

_QUARTER_S = 900
_RESOLUTIONS = {"PT15M": 900, "PT30M": 1800, "PT60M": 3600, "PT1H": 3600}
_PSR = re.compile(r"[A-Z]\d\d")
_QUANTITY = re.compile(r"-?\d{1,9}(\.\d{1,9})?")
MOST_MW = 1e6
"""More than any zone generates."""
MOST_ELEMENTS = 300_000
"""Three times what we ever ask for: tags of three letters would fill the memory otherwise."""
SMALL = 0.02
"""A kind of less than this part of the generation may be missing from a quarter of an hour."""

NIGHT_S = 20 * HOUR_S
"""For so long a kind that had faded to nothing may be left out, and be nothing, until it is there again."""
EVENING_S = 8 * HOUR_S
"""For so long while it is not known whether it came back."""

BEFORE_S = 24 * HOUR_S
"""So much more is asked for: a kind that is missing shows only beside a time when it was there."""

_Megawatts = dict[int, float | None]
"""By start of the quarter; None: told, and not to be used."""


class Entsoe:
    """One bidding zone's generation.

    Args:
        config: the section `grid`, with `entsoe`.
        generation: of each psrType, kgCO2e/kWh over its life cycle, and whether it counts.

    Raises:
        ConfigError: its section is missing, url, ca_file or token_file is of no use, or no kind of generation counts.
    """

    name = "entsoe"
    basis: Literal["lifecycle", "direct"] = "lifecycle"
    chunk_s = 14 * 24 * HOUR_S
    changes = False

    def __init__(self, config: Config, generation: Mapping[str, tuple[float, bool]]) -> None:
        own = config.entsoe
        if own is None:
            raise ConfigError("grid.entsoe: its settings are missing")
        if not any(counted for _, counted in generation.values()):
            raise ConfigError("grid.provider: entsoe needs factors of generation, and there are none")
        self._domain = own.domain
        self._generation = dict(generation)
        # Other factors give other values, which must not be mixed with these.
        factors = json.dumps(sorted(self._generation.items())).encode()
        self.key = f"{own.domain} {hashlib.sha256(factors).hexdigest()[:16]}"
        self._token = read_token(own.token_file, "grid.entsoe")
        self._web = Web(own.url, "grid.entsoe", ca_file=own.ca_file, deadline_s=config.deadline_s, token=self._token)

    def ask(self, from_s: int, to_s: int) -> Answer:
        """The quarter hours of [from_s, to_s).

        Raises:
            GridError: no answer, or none that can be used: another zone, another document.
        """
        params = {
            "securityToken": self._token,
            "documentType": "A75",
            "processType": "A16",
            "in_Domain": self._domain,
            "periodStart": _minute(from_s - BEFORE_S),
            "periodEnd": _minute(to_s),
        }
        body = self._web.get("", params, {"Accept": "application/xml"})
        if body.status != 400:
            body.success()
        root = _read_xml(body)
        found = Collected(from_s, to_s, BEFORE_S)
        if root.tag == "Acknowledgement_MarketDocument":
            text = self._web.clean(root.findtext("Reason/text") or "no reason is told")
            if "no matching data" not in text.lower():
                raise GridError(f"{body.shown}: it refuses: {text}")
            return found.answer()
        body.success()
        self._check(body, root)
        by_kind: dict[str, _Megawatts] = {}
        for series in root.findall("TimeSeries"):
            self._add(body, series, by_kind, found, (from_s - BEFORE_S, to_s))
        for slot in self._weighted(by_kind, found, from_s):
            found.add(slot)
        return found.answer()

    def _check(self, body: Body, root: Element) -> None:
        said = {"document": root.tag, "type": root.findtext("type"), "process": root.findtext("process.processType")}
        for name, value in (("document", "GL_MarketDocument"), ("type", "A75"), ("process", "A16")):
            if said[name] != value:
                got = self._web.clean(said[name] or "not told")
                raise GridError(f"{body.shown}: asked for {name} {value}, and the answer's is {got}")

    def _add(
        self, body: Body, series: Element, by_kind: dict[str, _Megawatts], found: Collected, asked: tuple[int, int]
    ) -> None:
        zone = series.findtext("inBiddingZone_Domain.mRID")
        if zone is None and series.findtext("outBiddingZone_Domain.mRID") == self._domain:
            return  # what storage and power plants take
        unit = series.findtext("quantity_Measure_Unit.name")
        for name, got, value in (("zone", zone, self._domain), ("unit", unit, "MAW")):
            if got != value:
                raise GridError(
                    f"{body.shown}: asked for {name} {value}, and the answer's is {self._web.clean(str(got))}"
                )
        kind = series.findtext("MktPSRType/psrType") or ""
        if not _PSR.fullmatch(kind):
            raise GridError(f"{body.shown}: a series has no psrType")
        if self._generation.get(kind, (0.0, True))[1]:
            values = by_kind.setdefault(kind, {})
            holds = series.findtext("curveType") == "A03"
            for period in series.findall("Period"):
                _add_period(kind, period, values, found, asked, holds=holds)

    def _weighted(self, by_kind: dict[str, _Megawatts], found: Collected, from_s: int) -> Iterator[Slot]:
        needed = _large(by_kind, lambda at: at < from_s) | _large(by_kind, lambda at: at >= from_s)
        known = {kind: sorted(at for at, mw in by_kind[kind].items() if mw is not None) for kind in needed}
        for at in sorted({at for values in by_kind.values() for at in values}):
            here = {kind: mw for kind, values in by_kind.items() if (mw := values.get(at)) is not None}
            gone = [kind for kind in needed - here.keys() if not _dark(by_kind[kind], known[kind], at)]
            if missing := sorted(gone):
                found.refuse("a kind of generation is missing", ", ".join(missing), at)
            elif unknown := sorted(kind for kind, mw in here.items() if mw > 0 and kind not in self._generation):
                found.refuse("a kind of generation has no factor", ", ".join(unknown), at)
            elif whole := math.fsum(here.values()):
                emitted = math.fsum(mw * self._generation[kind][0] for kind, mw in here.items() if mw > 0)
                yield Slot(at, _QUARTER_S, emitted / whole)


def _large(by_kind: dict[str, _Megawatts], when: Callable[[int], bool]) -> set[str]:
    """The kinds that make up a part of the generation then that is not small."""
    sums = {
        kind: math.fsum(mw for at, mw in values.items() if mw is not None and when(at))
        for kind, values in by_kind.items()
    }
    return {kind for kind, whole in sums.items() if whole > SMALL * math.fsum(sums.values())}


def _dark(values: _Megawatts, known: list[int], at: int) -> bool:
    """A kind is left out because it is nothing: it was next to nothing before, and is so when it comes back."""
    if at in values:
        return False  # told, and cannot be
    place = bisect(known, at)
    before, after = known[max(0, place - 1) : place], known[place : place + 1]
    low = SMALL * max(values[one] or 0.0 for one in known)
    longest = NIGHT_S if after else EVENING_S
    near = all(at - one <= longest for one in before) and all(one - at <= longest for one in after)
    return near and all((values[one] or 0.0) <= low for one in before + after)


class _Point(msgspec.Struct, frozen=True):
    position: int
    mw: float | None


def _add_period(
    kind: str, period: Element, values: _Megawatts, found: Collected, asked: tuple[int, int], *, holds: bool
) -> None:
    start, end = (seconds(period.findtext(f"timeInterval/{name}")) for name in ("start", "end"))
    step = _RESOLUTIONS.get(period.findtext("resolution") or "")
    if start is None or end is None or step is None or start % _QUARTER_S or end <= start:
        found.refuse("not a period of quarter, half or whole hours", kind, start)
        return
    if not found.within(start, end - start):
        return
    points = sorted(_points(kind, period, start, step, found), key=lambda point: point.position)
    for number, point in enumerate(points):
        from_s = start + (point.position - 1) * step
        last = points[number + 1].position if number + 1 < len(points) else (end - start) // step + 1
        to_s = min(end, start + (last - 1) * step if holds else from_s + step)
        for at in range(max(from_s, asked[0]), min(to_s, asked[1]), _QUARTER_S):
            if at in values and values[at] != point.mw:
                found.refuse("two values for one time", kind, at)
                values[at] = None
            else:
                values[at] = point.mw


def _points(kind: str, period: Element, start: int, step: int, found: Collected) -> Iterator[_Point]:
    """The points; one that is no power is there as unknown, so that the one before does not hold in its place."""
    seen: dict[int, float | None] = {}
    for point in period.findall("Point"):
        position, text = point.findtext("position") or "", point.findtext("quantity") or ""
        if not position.isdecimal() or not 0 < int(position[:9]) < 1e6:
            found.refuse("not a point", f"a position of {kind}", start)
            continue
        at = start + (int(position[:9]) - 1) * step
        mw = float(text) if _QUANTITY.fullmatch(text) else None
        if mw is None or not 0 <= mw <= MOST_MW:
            found.refuse("not a power", f"{text[:20]!a} MW of {kind}", at)
            mw = None
        if int(position[:9]) in seen and seen[int(position[:9])] != mw:
            found.refuse("two values for one time", kind, at)
            mw = None
        seen[int(position[:9])] = mw
    yield from (_Point(position, mw) for position, mw in seen.items())


def _read_xml(body: Body) -> Element:
    """The document, its names without their spaces.

    Raises:
        GridError: it is not XML, or brings a DTD, by which a small text can be made a huge one.
    """
    builder = TreeBuilder()

    def doctype(*_: object) -> None:
        raise GridError(f"{body.shown}: the answer has a document type definition, which is not read")

    def start(name: str, _: object) -> None:
        if next(elements) == MOST_ELEMENTS:
            raise GridError(f"{body.shown}: the answer has more than {MOST_ELEMENTS} elements")
        builder.start(name.rpartition("}")[2], {})

    parser, elements = expat.ParserCreate(namespace_separator="}"), count()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = doctype
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda name: builder.end(name.rpartition("}")[2])
    parser.CharacterDataHandler = builder.data
    if body.is_html():
        raise GridError(f"{body.shown}: the answer is a page of HTML")
    try:
        parser.Parse(body.content, True)
    except (expat.ExpatError, ValueError, LookupError):
        raise GridError(f"{body.shown}: the answer is not XML, or cut short") from None
    return builder.close()


def _minute(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y%m%d%H%M")
