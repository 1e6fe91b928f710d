"""Reports as pages: one HTML file with its style and pictures inside, no script, nothing loaded from elsewhere.

What users wrote is cleaned and escaped wherever it stands. A template of `templates/` extends `base.html.j2` and takes
what it lays out from `_macros.html.j2`; `render` fills it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from jobimpact.core.errors import ConfigError
from jobimpact.report.numbers import percent
from jobimpact.report.palette import DARK, FILLS, LIGHT, css
from jobimpact.report.plots import Picture, power_picture, quality_picture
from jobimpact.report.view import EndingRow, EnergyRow, GroupView, ImpactRow, JobView, Tone
from jobimpact.report.words import clean

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = [
    "NO_POWER",
    "Bar",
    "EndingLine",
    "EnergyLine",
    "ImpactLine",
    "Key",
    "Share",
    "ending_lines",
    "ending_shares",
    "energy_lines",
    "energy_shares",
    "group_page",
    "headline",
    "impact_lines",
    "is_running",
    "job_page",
    "keys",
    "power_missing",
    "render",
]

TEMPLATES = Path(__file__).parent / "templates"
MOST_JOBS = 50
"""So many stand on one page."""
NO_POWER = "Its power over time was not kept, so there is no picture of it."


class Key(msgspec.Struct, frozen=True):
    """A large figure."""

    label: str
    value: str
    small: str = ""


class Share(msgspec.Struct, frozen=True):
    """A part of a bar."""

    colour: str
    """A name in the palette."""
    share: float
    """0 to 1."""


class Bar(msgspec.Struct, frozen=True):
    """An indicator's range, in percent of the row's most: both parts, then the least and the most."""

    use: float
    embodied: float
    low: float | None = None
    high: float | None = None


class EnergyLine(msgspec.Struct, frozen=True):
    """A row of the table of energies."""

    colour: str
    label: str
    amount: str
    share: str
    """Of what is known; empty: it is not."""
    said: str


class ImpactLine(msgspec.Struct, frozen=True):
    """A row of the table of indicators."""

    label: str
    use: str
    embodied: str
    total: str
    span: str
    bar: Bar | None


class EndingLine(msgspec.Struct, frozen=True):
    """A row of the table of endings."""

    colour: str
    label: str
    jobs: str
    share: str
    energy: str


class _Job(msgspec.Struct, frozen=True):
    id: str
    view: JobView
    keys: tuple[Key, ...]
    energy: tuple[EnergyLine, ...]
    shares: tuple[Share, ...]
    impacts: tuple[ImpactLine, ...]
    power: Picture | None
    quality: Picture | None
    no_power: str
    is_group: bool = False


class _Group(msgspec.Struct, frozen=True):
    id: str
    view: GroupView
    keys: tuple[Key, ...]
    shares: tuple[Share, ...]
    endings: tuple[EndingLine, ...]
    impacts: tuple[ImpactLine, ...]
    is_group: bool = True


def job_page(views: Sequence[JobView | GroupView], *, title: str, left_out: int = 0) -> str:
    """A page of one job or array, or of several one after the other.

    Args:
        views: each incarnation, each array; of more than `MOST_JOBS` those with the most energy are shown.
        title: of the document.
        left_out: so many others, with less energy, are not among the views.

    Returns:
        The whole HTML file.
    """
    shown = _most(views)
    whole = len(views) + left_out
    said = f"The {len(shown):,} of {whole:,} with the most energy." if len(shown) < whole else ""
    jobs = [_article(view, f"job-{number}") for number, view in enumerate(shown, 1)]
    return render("job.html.j2", title=title, jobs=jobs, left_out=said)


def group_page(view: GroupView, *, title: str) -> str:
    """A page of an array, or of the parts of a heterogeneous job: never a row for each of many.

    Args:
        view: what is said of it.
        title: of the document.
    """
    return job_page([view], title=title)


def _most(views: Sequence[JobView | GroupView]) -> Sequence[JobView | GroupView]:
    """In their order; arrays come before jobs where there is not room for all."""
    if len(views) <= MOST_JOBS:
        return views

    def size(at: int) -> tuple[bool, float]:
        view = views[at]
        if isinstance(view, GroupView):
            return True, 0.0
        return False, sum(row.joules or 0.0 for row in view.energy)

    return [views[at] for at in sorted(sorted(range(len(views)), key=size, reverse=True)[:MOST_JOBS])]


def render(template: str, **values: object) -> str:
    """A template of `templates/`, filled; every text in it is cleaned and escaped.

    Args:
        template: its file's name.
        values: what it names; one that is missing is an error (jinja2.UndefinedError).

    Raises:
        ConfigError: Jinja2 is not installed.
    """
    return _environment().get_template(template).render(values)


def keys(view: JobView | GroupView) -> tuple[Key, ...]:
    """What stands largest: the energy, and each indicator with its range."""
    value, small = headline(view)
    found = [Key("Energy", value, ", ".join(filter(None, (small, view.in_part))))]
    for row in view.impacts:
        value, of = next(
            (
                (text, of)
                for text, of in ((row.total, ""), (row.use, "use only"), (row.embodied, "embodied only"))
                if _is(text)
            ),
            ("-", ""),
        )
        small = ", ".join(filter(None, (f"{row.span} {row.unit}".strip() if row.span else row.unit, of)))
        found.append(Key(row.label, value, small if _is(value) else ""))
    return tuple(found)


def headline(view: JobView | GroupView) -> tuple[str, str]:
    """The energy as it is said first, and in the other unit: of very little joules say more than kWh.

    Returns:
        `1.72 kWh` and `6.19 MJ`, or `5.01 kJ` and `0.00139 kWh`; `-` and nothing where it is not known.
    """
    if not view.total:
        return "-", ""
    number = view.total_kwh.partition(" ")[0].replace(",", "")
    small = number.startswith("0.00")
    return (view.total, view.total_kwh) if small else (view.total_kwh, view.total)


def energy_lines(rows: Sequence[EnergyRow]) -> tuple[EnergyLine, ...]:
    """Each part with its share of the energy that is known."""
    whole = sum(row.joules for row in rows if row.joules is not None)
    return tuple(
        EnergyLine(
            row.kind,
            row.label[:1].upper() + row.label[1:],
            row.amount,
            percent(row.joules / whole) if row.joules is not None and whole > 0 else "",
            ", ".join(row.said),
        )
        for row in rows
    )


def energy_shares(rows: Sequence[EnergyRow]) -> tuple[Share, ...]:
    """The same as parts of a bar, from the bottom of a stack to its top."""
    known = {row.kind: row.joules for row in rows if row.joules}
    whole = sum(known.values())
    order = [*(kind for kind in FILLS if kind in known), *(kind for kind in known if kind not in FILLS)]
    return tuple(Share(kind, known[kind] / whole) for kind in order)


def ending_lines(rows: Sequence[EndingRow]) -> tuple[EndingLine, ...]:
    """Each ending with its share of the jobs."""
    whole = sum(row.jobs for row in rows)
    return tuple(
        EndingLine(_colour_of(row.tone), row.state, f"{row.jobs:,}", percent(row.jobs / whole), row.energy)
        for row in rows
    )


def ending_shares(rows: Sequence[EndingRow]) -> tuple[Share, ...]:
    """The same as parts of a bar."""
    whole = sum(row.jobs for row in rows)
    return tuple(Share(_colour_of(row.tone), row.jobs / whole) for row in rows)


def _colour_of(tone: Tone) -> str:
    return "node" if tone == "plain" else tone


def impact_lines(rows: Sequence[ImpactRow]) -> tuple[ImpactLine, ...]:
    """Each indicator with its bar."""
    return tuple(
        ImpactLine(row.label, row.use, row.embodied, row.total, f"{row.span} {row.unit}".strip(), bar_of(row))
        for row in rows
    )


def bar_of(row: ImpactRow) -> Bar | None:
    """Its length is that of the central value; None: nothing is known, or all of it is zero."""
    use, embodied = row.use_central or 0.0, row.embodied_central or 0.0
    most = max(use + embodied, row.high or 0.0)
    if most <= 0 or (row.use_central is None and row.embodied_central is None):
        return None
    scale = 100.0 / most
    if row.low is None or row.high is None:
        return Bar(use * scale, embodied * scale)
    return Bar(use * scale, embodied * scale, row.low * scale, row.high * scale)


def is_running(view: JobView) -> bool:
    """Its last reading is not its end."""
    return view.state.startswith("in progress")


def power_missing(view: JobView) -> str:
    """Why there is no picture, of a job that had energy; else empty."""
    return NO_POWER if view.energy else ""


def _article(view: JobView | GroupView, anchor: str) -> _Job | _Group:
    if isinstance(view, JobView):
        return _job(view, anchor)
    return _Group(
        anchor,
        view,
        keys(view),
        ending_shares(view.endings),
        ending_lines(view.endings),
        impact_lines(view.impacts),
    )


def _job(view: JobView, anchor: str) -> _Job:
    power = power_picture(
        view.profile, view.progress, of=view.title, form="svg", prefix=f"{anchor}-power", running=is_running(view)
    )
    return _Job(
        anchor,
        view,
        keys(view),
        energy_lines(view.energy),
        energy_shares(view.energy),
        impact_lines(view.impacts),
        power,
        quality_picture(view.progress, of=view.title, form="svg", prefix=f"{anchor}-quality"),
        "" if power else power_missing(view),
    )


def _is(text: str) -> bool:
    return text not in {"", "-"}


@cache
def _environment() -> Environment:
    try:  # not on the way of those who draw no page
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise ConfigError("pages need Jinja2: install jobimpact[accounting]") from error
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_cleaned,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["capitalized"] = _capitalized
    made.globals |= {"light": css(LIGHT), "dark": css(DARK), "kinds": tuple(_grounds())}
    return made


def _grounds() -> Iterator[str]:
    """Colours that bars and chips have."""
    yield from (*FILLS, "node", "use", "embodied", "good", "bad")


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cleaned(value: object) -> object:
    """The last thing before a text is escaped: no control characters, nothing that turns the writing."""
    return clean(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
