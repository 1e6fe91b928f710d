"""Pictures of one job: power over time by part, and what its energy bought. matplotlib is loaded when one is drawn.

The same drawing is a PNG in its light colours, for mail, or an SVG whose colours are a page's own (`var(--gpu)`), with
a title and a description for those who do not see it.
"""

from __future__ import annotations

import io
import logging
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from jobimpact.core.errors import ConfigError
from jobimpact.core.records import DomainKind, Profile, Progress
from jobimpact.report.numbers import duration, kwh, percent, rounded
from jobimpact.report.palette import FILLS, LIGHT
from jobimpact.report.words import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Picture", "power_picture", "quality_picture"]

Form = Literal["png", "svg"]

LABELS: dict[DomainKind, str] = {"cpu": "CPU", "dram": "memory", "gpu": "GPU", "rest": "rest of the node"}
MOST_SPANS = 400
"""More are drawn together: a picture has no more pixels, and a page should stay small."""
MOST_MARKS = 40
_SIZES: dict[Form, tuple[float, float]] = {"png": (6.0, 2.7), "svg": (7.4, 2.9)}
"""In inches: a mail is 600 pixels wide, a page half as much again."""
_NAME_LENGTH = 24
_TIMES = ((2 * 86400, 86400.0, "d"), (2 * 3600, 3600.0, "h"), (120, 60.0, "min"), (0, 1.0, "s"))
_POWERS = ((1e6, "MW"), (1e3, "kW"), (1.0, "W"), (1e-3, "mW"))
_STEPS = {
    "d": (0.25, 0.5, 1, 2, 5, 7, 14, 28),
    "h": (0.25, 0.5, 1, 2, 3, 4, 6, 12, 24),
    "min": (0.5, 1, 2, 5, 10, 15, 20, 30),
    "s": (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30),
}
_TICKS = 9

Spans = tuple[float | None, ...]


class Picture(msgspec.Struct, frozen=True):
    """A picture and its words."""

    title: str
    desc: str
    """What it shows, with its numbers."""
    svg: str = ""
    png: bytes = b""


def power_picture(
    profile: Profile | None,
    progress: Sequence[Progress] = (),
    *,
    of: str,
    form: Form,
    prefix: str = "p",
    running: bool = False,
) -> Picture | None:
    """A job's power over time, its parts stacked, what is not known hatched.

    Args:
        profile: of all its nodes; where a part is not known the stack is what is.
        progress: what it said of itself, marked on the time axis.
        of: the job's title, like `job 124`.
        form: which of them is made.
        prefix: of the ids inside an SVG, of one page's own: letters, digits and dashes.
        running: its last edge is not its end.

    Returns:
        None: there is no profile to draw.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    drawn = _drawable(profile)
    if drawn is None:
        return None
    title = f"Power of {clean(of)} over time"
    desc = _power_words(drawn, progress, running=running)

    def draw(axes: Axes, colours: dict[str, str]) -> None:
        _draw_power(axes, _fewer(drawn), [one.wall_s - drawn.start_s for one in progress], colours, running=running)

    return _picture(draw, title, desc, form, prefix)


def quality_picture(
    progress: Sequence[Progress], *, of: str, form: Form, prefix: str = "q", name: str | None = None
) -> Picture | None:
    """What a job reached, by the energy that it had used by then.

    Args:
        progress: points with a metric and an energy; others are left out.
        of: the job's title.
        form: which of them is made.
        prefix: as for `power_picture`.
        name: of the metric; None: the one that was told most often.

    Returns:
        None: fewer than two points have both.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    names = [found for one in progress for found in one.metrics if name is None or found == name]
    if not names:
        return None
    metric = min(dict.fromkeys(names), key=lambda found: (-names.count(found), found))
    points = [
        (one.uj / 3.6e12, one.metrics[metric])
        for one in progress
        if one.uj is not None and metric in one.metrics and math.isfinite(one.metrics[metric])
    ]
    if len(points) < 2:
        return None
    shown = _shown_name(metric)
    title = f"{shown} of {clean(of)} by energy used"
    desc = _quality_words(shown, points)

    def draw(axes: Axes, colours: dict[str, str]) -> None:
        _draw_quality(axes, shown, points, colours)

    return _picture(draw, title, desc, form, prefix)


def _drawable(profile: Profile | None) -> Profile | None:
    """Without what is no number, and without parts that are never known; None: nothing is left."""
    if profile is None or len(profile.edges_s) < 2:
        return None
    spans = len(profile.edges_s) - 1
    watts: dict[DomainKind, Spans] = {}
    for kind in FILLS:
        found = profile.watts.get(kind, ())
        known = tuple(None if value is None or not math.isfinite(value) else max(value, 0.0) for value in found)
        if len(known) == spans and any(value is not None for value in known):
            watts[kind] = known
    rising = all(a < b for a, b in zip(profile.edges_s, profile.edges_s[1:], strict=False))
    return Profile(profile.start_s, profile.edges_s, watts) if watts and rising else None


def _fewer(profile: Profile) -> Profile:
    """At most `MOST_SPANS`: means over time of what is known, a gap where most of the time is not."""
    spans = len(profile.edges_s) - 1
    if spans <= MOST_SPANS:
        return profile
    size = math.ceil(spans / MOST_SPANS)
    firsts = range(0, spans, size)
    edges = (*(profile.edges_s[first] for first in firsts), profile.edges_s[-1])
    return Profile(
        profile.start_s,
        edges,
        {
            kind: tuple(_mean(profile.edges_s, values, first, min(first + size, spans)) for first in firsts)
            for kind, values in profile.watts.items()
        },
    )


def _mean(edges: tuple[float, ...], values: Spans, first: int, last: int) -> float | None:
    known_s = joules = 0.0
    for at in range(first, last):
        value = values[at]
        if value is not None:
            known_s += edges[at + 1] - edges[at]
            joules += value * (edges[at + 1] - edges[at])
    return joules / known_s if known_s * 2 > edges[last] - edges[first] else None


def _gaps(profile: Profile) -> list[tuple[float, float]]:
    """When one of its parts is not known, joined, in seconds since its first edge."""
    gaps: list[tuple[float, float]] = []
    for at in range(len(profile.edges_s) - 1):
        if all(values[at] is not None for values in profile.watts.values()):
            continue
        start, end = profile.edges_s[at], profile.edges_s[at + 1]
        if gaps and gaps[-1][1] == start:
            start = gaps.pop()[0]
        gaps.append((start, end))
    return gaps


def _sums(profile: Profile) -> list[float | None]:
    """Of what is known in each span; None: nothing is."""
    columns = zip(*profile.watts.values(), strict=True)
    return [
        None if all(value is None for value in column) else math.fsum(value for value in column if value is not None)
        for column in columns
    ]


def _draw_power(axes: Axes, profile: Profile, marks: list[float], colours: dict[str, str], *, running: bool) -> None:
    edges, sums = profile.edges_s, _sums(profile)
    top = max((value for value in sums if value is not None), default=0.0)
    power, power_unit = _unit(top, _POWERS)
    time, time_unit = next((size, unit) for least, size, unit in _TIMES if edges[-1] - edges[0] >= least)
    xs = [edge / time for edge in edges]
    below = [0.0] * len(sums)
    for kind in (kind for kind in FILLS if kind in profile.watts):
        values = profile.watts[kind]
        above = [low + (value or 0.0) / power for low, value in zip(below, values, strict=True)]
        # A span that is not known has no area and no edge: not a number breaks it there.
        shown = [math.nan if value is None else high for value, high in zip(values, above, strict=True)]
        axes.stairs(
            shown, xs, baseline=below, fill=True, facecolor=colours[kind], edgecolor=colours["paper"],
            linewidth=0.4, label=LABELS[kind], zorder=2,
        )  # fmt: skip
        below = above
    for number, (start, end) in enumerate(_gaps(profile)):
        axes.axvspan(
            start / time, end / time, facecolor=colours["soft"], edgecolor=colours["gap"], hatch="////",
            linewidth=0.0, zorder=1, label="not known" if number == 0 else None,
        )  # fmt: skip
    axes.set_xlim(xs[0], xs[-1] + (xs[-1] - xs[0]) * 0.004)
    axes.set_ylim(0, (top / power or 1.0) * 1.2)
    axes.set_xticks(list(_ticks(xs[0], xs[-1], _STEPS[time_unit])))
    axes.set_xlabel(f"time since start ({time_unit})")
    axes.set_ylabel(f"power ({power_unit})")
    _draw_marks(axes, [at / time for at in marks], xs, colours, running=running)


def _draw_marks(axes: Axes, marks: list[float], xs: list[float], colours: dict[str, str], *, running: bool) -> None:
    """The start, the end, and what it told in between, above the stack."""
    for at, words, side in ((xs[0], "start", "left"), (xs[-1], "so far" if running else "end", "right")):
        axes.axvline(
            at, color=colours["muted"], linewidth=0.8, linestyle=(0, (3, 2)) if running and at else "-", zorder=3
        )
        axes.annotate(
            words, (at, 1), xycoords=("data", "axes fraction"), xytext=(3 if side == "left" else -3, -2),
            textcoords="offset points", ha=side, va="top", color=colours["muted"], zorder=4,
            bbox={"facecolor": colours["paper"], "edgecolor": "none", "pad": 1.2},
        )  # fmt: skip
    inside = sorted(at for at in marks if xs[0] <= at <= xs[-1])
    shown = inside[:: max(1, math.ceil(len(inside) / MOST_MARKS))]
    if shown:
        axes.plot(
            shown, [0.895] * len(shown), linestyle="none", marker="v", markersize=4.5, color=colours["accent"],
            markeredgewidth=0, transform=axes.get_xaxis_transform(), label="progress told", zorder=4,
        )  # fmt: skip


def _draw_quality(axes: Axes, name: str, points: Sequence[tuple[float, float]], colours: dict[str, str]) -> None:
    most = max(x for x, _ in points)
    scale, unit = _unit(most, ((1e3, "MWh"), (1.0, "kWh"), (1e-3, "Wh"), (1e-6, "mWh")))
    xs, ys = [x / scale for x, _ in points], [y for _, y in points]
    dots = len(points) <= MOST_MARKS
    axes.plot(
        xs, ys, color=colours["accent"], linewidth=1.6, marker="o" if dots else None, markersize=3.6,
        markeredgewidth=0, zorder=3,
    )  # fmt: skip
    axes.set_xlim(0, most / scale * 1.03 or 1.0)
    axes.margins(y=0.14)
    axes.set_xlabel(f"energy used ({unit})")
    axes.set_ylabel(name)
    axes.annotate(
        f"{rounded(ys[-1])} at {rounded(xs[-1])} {unit}", (xs[-1], ys[-1]), xytext=(-4, 6),
        textcoords="offset points", ha="right", va="bottom", color=colours["ink"], zorder=4,
    )  # fmt: skip


def _picture(draw: Callable[[Axes, dict[str, str]], None], title: str, desc: str, form: Form, prefix: str) -> Picture:
    # A host without a home has no font cache to write: nobody's concern here.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("pictures need matplotlib: install jobimpact[accounting]") from error

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "jobimpact",
        "font.family": ["DejaVu Sans"],
        "font.size": 8.0,
        "text.parse_math": False,
        "hatch.linewidth": 0.6,
        "path.simplify": False,
    }
    colours = LIGHT if form == "png" else _STAND_INS
    out = io.BytesIO()
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glyphs that the font lacks
        figure = Figure(figsize=_SIZES[form], dpi=200, facecolor=colours["paper"])
        _on(figure, draw, colours)
        if form == "png":
            figure.savefig(out, format="png", metadata={"Software": None})
            return Picture(title, desc, png=out.getvalue())
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Picture(title, desc, svg=_inline(out.getvalue().decode(), title, desc, prefix))


def _on(figure: Figure, draw: Callable[[Axes, dict[str, str]], None], colours: dict[str, str]) -> None:
    axes = figure.subplots()
    axes.set_facecolor(colours["paper"])
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(colours["line"])
    axes.tick_params(colors=colours["muted"], length=0, pad=4)
    axes.yaxis.grid(visible=True, color=colours["line"], linewidth=0.6)
    axes.set_axisbelow(True)
    draw(axes, colours)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(colours["muted"])
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles, labels, loc="upper right", ncols=len(labels), frameon=False, handlelength=1.1, handleheight=0.9,
            columnspacing=1.4, handletextpad=0.5, labelcolor=colours["ink"], borderaxespad=0.2,
        )  # fmt: skip
    width, height = figure.get_size_inches()
    top = 0.33 if handles else 0.12
    figure.subplots_adjust(left=0.52 / width, right=1 - 0.09 / width, top=1 - top / height, bottom=0.44 / height)


_STAND_INS = {name: f"#a7c0{number:02x}" for number, name in enumerate(LIGHT)}
"""Colours that stand for a page's own until the drawing is done."""
_OF_STAND_IN = {value: f"var(--{name})" for name, value in _STAND_INS.items()}


def _inline(drawn: str, title: str, desc: str, prefix: str) -> str:
    """An SVG file as a part of a page: its colours and fonts are the page's, its ids its own."""
    body = drawn[drawn.index("<svg") :]
    box = re.search(r'viewBox="([0-9. ]+)"', body)
    inner = body[body.index(">") + 1 : body.rindex("</svg>")]
    inner = re.sub(r"(?s)<metadata>.*?</metadata>", "", inner)
    inner = re.sub(r"(?s)<!--.*?-->\s*", "", inner)
    inner = re.sub(r"#a7c0[0-9a-f]{2}\b", lambda found: _OF_STAND_IN[found[0]], inner)
    inner = re.sub(r"(font: [0-9.]+px|font-family:) [^;\"<>]*", r"\1 var(--sans)", inner)
    inner = re.sub(r'<g id="[^"<>]*">', "<g>", inner)
    inner = re.sub(r' d="([^"<>]*)"', lambda found: f' d="{_shorter(found[1])}"', inner)
    inner = re.sub(r">\s+<", "><", inner)
    inner = inner.replace("*{stroke-linejoin", ".plot *{stroke-linejoin")
    inner = re.sub(r'\bid="([^"<>]+)"', rf'id="{prefix}-\1"', inner)
    inner = re.sub(r'(xlink:)?href="#([^"<>]+)"', rf'href="#{prefix}-\2"', inner)
    inner = re.sub(r"url\(#([^)<>]+)\)", rf"url(#{prefix}-\1)", inner)
    view = box[1] if box else "0 0 432 194"
    return (
        f'<svg role="img" aria-labelledby="{prefix}-title {prefix}-desc" viewBox="{view}" class="plot">'
        f'<title id="{prefix}-title">{escape(title)}</title><desc id="{prefix}-desc">{escape(desc)}</desc>'
        f"{inner.strip()}</svg>"
    )


def _shorter(path: str) -> str:
    """A path to a hundredth of a point, on one line."""
    return " ".join(re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", path).split())


def _power_words(profile: Profile, progress: Sequence[Progress], *, running: bool) -> str:
    edges, sums = profile.edges_s, _sums(profile)
    known = [(value, at) for at, value in enumerate(sums) if value is not None]
    over_s = edges[-1] - edges[0]
    known_s = math.fsum(edges[at + 1] - edges[at] for _, at in known)
    joules = math.fsum(value * (edges[at + 1] - edges[at]) for value, at in known)
    most, when = max(known, key=lambda found: found[0])
    start = f"{datetime.fromtimestamp(profile.start_s + edges[0], UTC):%Y-%m-%d %H:%M} UTC"
    # Of a power that hardly changes there is no moment to name.
    steady = most * known_s <= joules * 1.02
    peak = "" if steady else f", at most {_watts(most)} after {duration(edges[when] - edges[0])}"
    said = [
        f"From {start}, {duration(over_s)}{' so far' if running else ''}.",
        f"{_watts(joules / known_s)} on average{peak}.",
    ]
    parts = [f"{LABELS[kind]} {_watts(mean)}" for kind, mean in _means(profile)]
    if len(parts) > 1:
        said.append(f"On average: {', '.join(parts)}.")
    gaps = _gaps(profile)
    if gaps:
        gap_s = math.fsum(end - start for start, end in gaps)
        said.append(f"Not known, in part at least, for {duration(gap_s)} ({percent(gap_s / over_s)}).")
    if progress:
        said.append(f"It told its progress {len(progress)} time{'' if len(progress) == 1 else 's'}.")
    return " ".join(said)


def _means(profile: Profile) -> Iterator[tuple[DomainKind, float]]:
    """Of each part, over the time for which it is known."""
    edges = profile.edges_s
    for kind, values in profile.watts.items():
        spans = [(value, edges[at + 1] - edges[at]) for at, value in enumerate(values) if value is not None]
        yield kind, math.fsum(value * size for value, size in spans) / math.fsum(size for _, size in spans)


def _quality_words(name: str, points: Sequence[tuple[float, float]]) -> str:
    (first_kwh, first), (last_kwh, last) = points[0], points[-1]
    return (
        f"{name} was {rounded(first)} after {kwh(first_kwh)} and {rounded(last)} after {kwh(last_kwh)}, "
        f"told {len(points)} times."
    )


def _watts(value: float) -> str:
    size, unit = _unit(value, _POWERS)
    return f"{rounded(value / size)} {unit}"


def _unit(value: float, units: Sequence[tuple[float, str]]) -> tuple[float, str]:
    """The largest of which there is one; of nothing, the plain one."""
    if value == 0:
        return next(one for one in units if one[0] == 1.0)
    return next((one for one in units if value >= one[0] * 0.9995), units[-1])


def _ticks(first: float, last: float, steps: Sequence[float]) -> Iterator[float]:
    step = next((one for one in steps if (last - first) / one <= _TICKS), None)
    if step is None:
        step = 10 ** math.ceil(math.log10((last - first) / _TICKS))
    at = math.ceil(first / step - 1e-9)
    while at * step <= last + step * 1e-9:
        yield round(at * step, 10)
        at += 1


def _shown_name(name: str) -> str:
    plain = clean(name).strip() or "metric"
    return plain if len(plain) <= _NAME_LENGTH else plain[: _NAME_LENGTH - 3] + "..."
