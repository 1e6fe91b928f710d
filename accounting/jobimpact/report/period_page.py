"""A time as a page: one HTML file, no script, nothing loaded from elsewhere."""

from __future__ import annotations

import msgspec

from jobimpact.report.page import Key, energy_lines, energy_shares, impact_lines, render
from jobimpact.report.period import Past, PeriodView

__all__ = ["period_keys", "period_page"]


class _Column(msgspec.Struct, frozen=True):
    """A day's energy, in percent of the largest."""

    done: float
    failed: float


class _Past(msgspec.Struct, frozen=True):
    row: Past
    share: float | None
    """Of the largest, 0 to 1; None: not known."""


def period_page(view: PeriodView) -> str:
    """The whole HTML file."""
    columns, said = _columns(view)
    most = max((one.joules or 0.0 for one in view.past), default=0.0)
    past = [
        _Past(one, one.joules / most if most and one.joules is not None else None)
        for one in view.past
        if len(view.past) > 1
    ]
    return render(
        "period.html.j2",
        title=f"{view.title}, {view.time}",
        view=view,
        keys=period_keys(view),
        columns=columns,
        days_said=said,
        any_failed=any(one.failed for one in columns),
        energy=energy_lines(view.energy),
        shares=energy_shares(view.energy),
        impacts=impact_lines(view.impacts),
        past=past,
    )


def period_keys(view: PeriodView) -> tuple[Key, ...]:
    """What stands largest: the energy, and each indicator with its range; nothing where no job ran."""
    if not view.total and not view.not_known:
        return ()
    found = [Key("Energy", view.total_kwh or "-", ", ".join(filter(None, (view.total, view.in_part))))]
    for row in view.impacts:
        of = "" if row.total != "-" else "use only" if row.use != "-" else "embodied only"
        value = row.total if not of else row.use if of == "use only" else row.embodied
        found.append(Key(row.label, value, ", ".join(filter(None, (f"{row.span} {row.unit}".strip(), of)))))
    return tuple(found)


def _columns(view: PeriodView) -> tuple[list[_Column], str]:
    most = max((one.joules or 0.0 for one in view.days), default=0.0)
    if not most:
        return [_Column(0.0, 0.0) for _ in view.days], "No energy is known."
    columns = []
    for one in view.days:
        failed = min(one.failed_j / most, 1.0) * 100
        columns.append(_Column(max((one.joules or 0.0) / most * 100 - failed, 0.0), failed))
    top = max(view.days, key=lambda one: one.joules or 0.0)
    each = view.days_label.removeprefix("By ")
    text = f"Energy of the jobs that ended on each {each} from {view.days[0].label} to {view.days[-1].label}, UTC."
    return columns, f"{text} The most: {top.amount} on {top.label}."
