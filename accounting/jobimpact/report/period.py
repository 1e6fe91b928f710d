"""From a time of a user, a lab or a cluster to what its report says: text, page and mail lay out the same. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta

import msgspec

from jobimpact.answers.query import Period, Place, Sums
from jobimpact.core.config import Findings, Report
from jobimpact.findings import judge
from jobimpact.findings.finding import Finding
from jobimpact.report.advice import advise
from jobimpact.report.equivalents import equivalents
from jobimpact.report.job import INDICATORS, KINDS
from jobimpact.report.methods import BY, method_of_many
from jobimpact.report.numbers import ENOUGH, energy, in_part, kwh, percent, rounded, span
from jobimpact.report.view import Advice, EnergyRow, ImpactRow, Tone
from jobimpact.report.words import clean, count, moment
from jobimpact.results.record import JobResult

__all__ = [
    "Bar",
    "JobLine",
    "Past",
    "PeriodView",
    "Split",
    "SplitRow",
    "Trend",
    "compared",
    "name_of_time",
    "period_view",
    "trend_of",
]

DAY_S = 86400
ALIKE = 0.05
"""Of two times whose coverage parts by more, the energies are not of the same kind; nor where too little of both is
measured, for it may be another part of each."""
_MOST_DAYS = 62
"""More days are shown by months."""
_MOST_MONTHS = 36
"""More months are shown by years."""
_ADVICE = 3
_PART = "*"
IN_PART = f"{_PART} not all of it is known: so much is."
"""Below a table with such a row."""
_SPLITS = {"user": "By user", "lab": "By lab", "partition": "By partition", "model": "By model"}
_NONE = {"user": "(no user)", "lab": "(no lab)", "partition": "(none)", "model": "(none said)"}


class Trend(msgspec.Struct, frozen=True):
    """This time beside the one before."""

    now_j: float | None
    then_j: float | None
    ratio: float | None
    """Now by then; None: they are not to be compared, or there is nothing to compare."""
    why_not: str = ""


class Bar(msgspec.Struct, frozen=True):
    """A day, or a month."""

    label: str
    joules: float | None
    """None: jobs ended in it, and nothing of them was measured."""
    failed_j: float
    amount: str
    """With a `*` where not all of it is known."""
    jobs: int


class Past(msgspec.Struct, frozen=True):
    """A time before."""

    label: str
    amount: str
    said: str
    joules: float | None


class SplitRow(msgspec.Struct, frozen=True):
    """One user, lab, partition or model."""

    name: str
    jobs: str
    energy: str
    share: str
    """Of what is known."""
    failed: str
    """Energy of jobs that did not complete."""
    gpu_hours: str
    gwp: str
    joules: float | None


class Split(msgspec.Struct, frozen=True):
    """A time by users, labs, partitions or models; the most energy first."""

    of: str
    """`user`."""
    label: str
    rows: tuple[SplitRow, ...]
    note: str = ""
    """What a `*` in it means; empty: there is none."""


class JobLine(msgspec.Struct, frozen=True):
    """A job that stands out."""

    job: str
    user: str
    state: str
    name: str
    energy: str
    kwh: str
    ended: str


class PeriodView(msgspec.Struct, frozen=True):
    """A time."""

    title: str
    """`alice`, `lab NLP (nlp)`."""
    time: str
    """`November 2026, so far`."""
    between: str
    """First and last moment."""
    facts: tuple[str, ...]
    lead: tuple[str, ...]
    tone: Tone
    advice: tuple[Advice, ...]
    advice_of: str
    """Which jobs were looked at for it."""
    total: str
    """Empty: not known."""
    total_kwh: str
    energy: tuple[EnergyRow, ...]
    impacts: tuple[ImpactRow, ...]
    not_known: str
    equivalents: tuple[str, ...]
    """At most two, each with its source and year; none where the total is not of all jobs."""
    trend: tuple[str, ...]
    past: tuple[Past, ...]
    """Now first, then the times before."""
    median: str
    days_label: str
    days: tuple[Bar, ...]
    splits: tuple[Split, ...]
    worst: tuple[JobLine, ...]
    most: tuple[JobLine, ...]
    of_many: bool
    """Of several users: lines of jobs say whose."""
    method: str
    accounted: str
    days_note: str = ""
    """What a `*` among the days means; empty: there is none."""
    in_part: str = ""
    """`40 % measured`, wherever the energy stands alone; empty: nine tenths or more are, or nothing is."""


def period_view(found: Period, limits: Findings | None = None, report: Report | None = None) -> PeriodView:
    """What a report says of a time.

    Args:
        found: the time.
        limits: from when on something is a finding.
        report: price and currency.
    """
    sums = found.sums
    advice, looked_at = _advice(found, limits or Findings(), report or Report())
    label, days = _days(found)
    return PeriodView(
        title=_title(found),
        time=_time(found),
        between=f"{_edge(found.query.from_s)} to {_edge(found.query.to_s)} UTC",
        facts=tuple(_facts(found)),
        lead=tuple(_lead(found)),
        tone="bad" if sums.failed_energy_j else "plain",
        advice=advice,
        advice_of=looked_at,
        total="" if sums.energy_j is None or not sums.ran else energy(sums.energy_j),
        total_kwh="" if sums.energy_j is None or not sums.ran else kwh(sums.energy_j / 3.6e6),
        energy=tuple(_energy(found)),
        impacts=tuple(_impacts(sums)),
        not_known=_not_known(sums),
        equivalents=_equivalents(sums),
        trend=tuple(_trend(found)),
        past=tuple(_past(found)),
        median=_median(found),
        days_label=label,
        days=days,
        splits=tuple(_splits(found)),
        worst=tuple(map(_job, found.worst)),
        most=tuple(map(_job, found.most)),
        of_many=found.query.of != "user",
        method=_method(found),
        accounted=_accounted(found),
        days_note=_note(one.amount for one in days),
        in_part="" if sums.energy_j is None else in_part(sums.coverage),
    )


# -- whose and when --------------------------------------------------------------------------------------------------


def _title(found: Period) -> str:
    name = clean(found.query.name)
    where = f" on {clean(found.query.cluster)}" if found.query.cluster else ""
    if found.query.of == "lab":
        return f"Lab {clean(found.title)} ({name}){where}" if found.title else f"Lab {name}{where}"
    return f"Cluster {name}" if found.query.of == "cluster" else f"{name}{where}"


def name_of_time(from_s: float, to_s: float) -> str:
    """`2026`, `November 2026`, `week 47 of 2026`, or from when to when; UTC."""
    begin, end = (datetime.fromtimestamp(at, UTC) for at in (from_s, to_s))
    midnight = from_s % DAY_S == 0 and to_s % DAY_S == 0
    if midnight and begin.day == 1 and end.day == 1:
        months = (end.year - begin.year) * 12 + end.month - begin.month
        if months == 1:
            return f"{begin:%B %Y}"
        if months == 12 and begin.month == 1:
            return f"{begin:%Y}"
    if midnight and begin.isoweekday() == 1 and to_s - from_s == 7 * DAY_S:
        year, week, _ = begin.isocalendar()
        return f"week {week} of {year}"
    return f"{_edge(from_s)} to {_edge(to_s)}"


def _time(found: Period) -> str:
    name = name_of_time(found.query.from_s, found.query.to_s)
    return name if _is_whole(found) else f"{name}, so far"


def _is_whole(found: Period) -> bool:
    return found.accounted_to_s is not None and found.accounted_to_s >= found.query.to_s


def _edge(at_s: float) -> str:
    return moment(at_s).removesuffix(" 00:00:00")


def _accounted(found: Period) -> str:
    if found.accounted_to_s is None:
        return "Not all of this time was accounted for: jobs may be missing."
    if _is_whole(found):
        return "All jobs that ended in this time are accounted for."
    upto = moment(found.accounted_to_s)
    return f"Jobs that ended up to {upto} UTC are accounted for; later ones come with the next night."


# -- what comes first ------------------------------------------------------------------------------------------------


def _facts(found: Period) -> Iterator[str]:
    sums = found.sums
    if not sums.jobs:
        yield "No job ended in this time." if _is_whole(found) else "No job of this time is accounted for."
        return
    never = sums.jobs - sums.ran
    failed = f", {sums.failed:,} of them did not complete" if sums.failed else ""
    yield f"{count(sums.jobs, 'job')}{failed}{f', {never:,} never started' if never else ''}"
    hours = ((sums.gpu_hours, "GPU"), (sums.cpu_hours, "CPU"), (sums.node_hours, "node"))
    held = ", ".join(f"{_number(value)} {what}-hours" for value, what in hours if value)
    if held:
        yield f"{held} held"


def _lead(found: Period) -> Iterator[str]:
    sums = found.sums
    if sums.ran and sums.energy_j is None:
        yield "Not measured: of no job's energy is anything known."
        return
    if sums.failed_energy_j:
        whole = "all" if _is_all(sums) else "what is known"
        of = f": {percent(sums.failed_energy_j / sums.energy_j)} of {whole}" if sums.energy_j else ""
        spent = f"{energy(sums.failed_energy_j)} ({kwh(sums.failed_energy_j / 3.6e6)})"
        yield f"{spent} spent on {count(sums.failed, 'job')} that did not complete{of}."
    if sums.measured < sums.ran:
        some = f"{sums.ran - sums.measured:,} of {count(sums.ran, 'job')}"
        yield f"Of {some} nothing was measured: they are not in the sums."
    if sums.coverage is not None and sums.coverage < 0.999:
        yield f"Incomplete: energy is known for {percent(sums.coverage)} of what was held; the sum is of this part."


def _advice(found: Period, limits: Findings, report: Report) -> tuple[tuple[Advice, ...], str]:
    """Of the jobs that are told in full alone: to judge all would be to read all."""
    jobs = {(one.cluster, one.key): one for one in (*found.most, *found.worst)}
    each = [
        (finding, one)
        for one in jobs.values()
        for finding in judge.of_job(one, limits, report.price_per_kwh)
        if finding.kind == "use"
    ]
    each.sort(key=lambda one: -_weight(*one))
    several = found.query.of != "user"
    advice = [_for_job(finding, one, report.currency, several=several) for finding, one in each[:_ADVICE]]
    if not advice:
        return (), ""
    which = (
        "with the most energy, of all and of those that did not complete" if found.worst else "with the most energy"
    )
    more = len({(one.cluster, one.key) for _, one in each})
    said = f"Looked at: {count(len(jobs), 'job')} of {found.sums.ran:,}, {which}; {more} of them could use less."
    return tuple(advice), said


def _weight(finding: Finding, one: JobResult) -> float:
    return finding.joules or finding.held_j or (one.energy_j or 0.0) * 1e-3


def _for_job(finding: Finding, one: JobResult, currency: str, *, several: bool) -> Advice:
    said = advise(finding, currency)
    whose = f" of {clean(one.user)}" if several else ""
    return msgspec.structs.replace(said, title=f"Job {clean(one.job_id)}{whose}: {said.title}")


# -- energy and impacts ----------------------------------------------------------------------------------------------


def _energy(found: Period) -> Iterator[EnergyRow]:
    for kind, label in KINDS.items():
        if kind not in found.kinds:
            continue
        joules, lacking = found.kinds[kind], found.lacking.get(kind, 0)
        if joules is None:
            yield EnergyRow(kind, label, None, "-", ("not measured",))
            continue
        said = [BY.get(method, method) for method in found.methods.get(kind, ())]
        if lacking:
            said.append(f"not known for {count(lacking, 'job')}")
        yield EnergyRow(kind, label, joules, energy(joules), tuple(said))


def _impacts(sums: Sums) -> Iterator[ImpactRow]:
    for name, label, unit, shown in INDICATORS:
        found = sums.impacts.get(name)
        if found is None or (found.use is None and found.embodied is None):
            continue
        cells = ("-" if part is None else shown(part[1]) for part in (found.use, found.embodied, found.total))
        use, embodied, total = cells
        yield ImpactRow(
            name=name,
            label=label,
            unit=unit,
            use=use,
            embodied=embodied,
            total=total,
            span="" if found.total is None else span(shown(found.total[0]), shown(found.total[2])),
            use_central=None if found.use is None else found.use[1],
            embodied_central=None if found.embodied is None else found.embodied[1],
            low=None if found.total is None else found.total[0],
            high=None if found.total is None else found.total[2],
        )


def _not_known(sums: Sums) -> str:
    gwp = sums.impacts.get("gwp_kgco2e")
    if not sums.ran:
        return ""
    if gwp is None or (gwp.use is None and gwp.embodied is None):
        return "Impact not known of any job."
    if gwp.known < sums.ran:
        of = f"{gwp.known:,} of {count(sums.ran, 'job')}"
        each = "Use and embodied are of all that have them."
        return f"The total is of {of}: of the others use or embodied is not known. {each}"
    return ""


def _equivalents(sums: Sums) -> tuple[str, ...]:
    gwp = sums.impacts.get("gwp_kgco2e")
    return equivalents(gwp.total[1], sums.coverage) if gwp and gwp.total and gwp.known == sums.ran else ()


# -- beside others ---------------------------------------------------------------------------------------------------


def trend_of(found: Period) -> Trend | None:
    """This time beside the one before; None: that was not accounted, or this one not from its begin on."""
    return compared(found.sums, found.before[0]) if found.before and found.accounted_to_s is not None else None


def compared(now: Sums, then: Sums) -> Trend:
    """Two sums, if they are of the same kind."""
    if not now.ran or not then.ran:
        return Trend(now.energy_j, then.energy_j, None, "no job ran" if not now.ran else "no job ran then")
    if now.energy_j is None or then.energy_j is None:
        return Trend(now.energy_j, then.energy_j, None, "not known")
    if not then.energy_j:
        return Trend(now.energy_j, then.energy_j, None, "nothing was used then")
    here, there = _known(now), _known(then)
    if abs(here - there) > ALIKE or min(here, there) < ENOUGH:
        why = f"{percent(there)} of it was measured then, {percent(here)} now"
        return Trend(now.energy_j, then.energy_j, None, why)
    return Trend(now.energy_j, then.energy_j, now.energy_j / then.energy_j)


def _known(sums: Sums) -> float:
    """The part of what was held of which energy is known."""
    return sums.coverage if sums.coverage is not None else sums.measured / sums.ran


def _trend(found: Period) -> Iterator[str]:
    trend = trend_of(found)
    if trend is None or found.accounted_to_s is None:
        return
    lasted = _days_long(found.accounted_to_s - found.query.from_s)
    then = "-" if trend.then_j is None else energy(trend.then_j)
    if trend.ratio is None:
        yield f"In the {lasted} before: {then}; not compared: {trend.why_not}."
        return
    yield f"{_change(trend.ratio)} the {lasted} before ({then})."
    now, before = found.sums, found.before[0]
    each = [
        one.failed_energy_j / one.energy_j for one in (now, before) if one.failed_energy_j is not None and one.energy_j
    ]
    if len(each) == 2 and any(each):
        shares = [*map(percent, each)]
        yield f"Of it on jobs that did not complete: {shares[0]}, before {shares[1]}."


def _change(ratio: float) -> str:
    if abs(ratio - 1) < 0.005:
        return "As much energy as in"
    if ratio >= 3:
        return f"{rounded(ratio, 2)} times the energy of"
    return f"{'Up' if ratio > 1 else 'Down'} {rounded(abs(ratio - 1) * 100, 2)} % against"


def _days_long(seconds: float) -> str:
    days = seconds / DAY_S
    whole = round(days)
    if whole and abs(days - whole) < 0.01:
        return "day" if whole == 1 else f"{whole} days"
    return f"{rounded(days)} days" if days >= 1 else f"{rounded(seconds / 3600)} hours"


def _past(found: Period) -> Iterator[Past]:
    if not found.before or found.accounted_to_s is None:
        return
    lasts_s = found.accounted_to_s - found.query.from_s
    for number, sums in enumerate((found.sums, *found.before)):
        from_s = found.query.from_s - number * lasts_s
        known = sums.energy_j if sums.ran else 0.0
        said = "" if not sums.ran or _known(sums) >= 1 - ALIKE else f"{percent(_known(sums))} known"
        yield Past(
            f"{_edge(from_s)[:10]} to {_edge(from_s + lasts_s - 1)[:10]}",
            "-" if known is None else energy(known) if sums.ran else "no jobs",
            said,
            known,
        )


def _median(found: Period) -> str:
    if found.median is None or found.median.energy_j is None:
        return ""
    here = next((one.sums for one in found.by.get("lab", ()) if one.name == found.median_lab), None)
    mine = "-" if here is None or here.energy_j is None else energy(here.energy_j)
    lab = clean(found.median_lab or "")
    middle = f"{energy(found.median.energy_j)} is the median of the {found.median_users} users of {lab} who ran jobs"
    return f"{middle}; {clean(found.query.name)}: {mine} there."


# -- over time, and by what ------------------------------------------------------------------------------------------


def _days(found: Period) -> tuple[str, tuple[Bar, ...]]:
    """All days that are accounted for, those without a job as well: of these it is known that there was none."""
    told = {one.name: one.sums for one in found.by.get("day", ())}
    names = list(told)
    if found.accounted_to_s is not None and told:
        first = datetime.fromtimestamp(found.query.from_s, UTC).date()
        last = datetime.fromtimestamp(max(found.accounted_to_s - 1, found.query.from_s), UTC).date()
        each = [f"{first + timedelta(days=day)}" for day in range((last - first).days + 1)]
        names = sorted({*each, *told})
    if len(names) <= _MOST_DAYS:
        return "By day", tuple(_bar(name, [told[name]] if name in told else []) for name in names)
    months = len({name[:7] for name in names})
    length, label = (7, "By month") if months <= _MOST_MONTHS else (4, "By year")
    together: dict[str, list[Sums]] = {}
    for name in names:
        together.setdefault(name[:length], []).extend([told[name]] if name in told else [])
    return label, tuple(_bar(name, sums) for name, sums in together.items())


def _bar(label: str, sums: list[Sums]) -> Bar:
    known = [one.energy_j for one in sums if one.energy_j is not None and one.ran]
    ran = sum(one.ran for one in sums)
    joules = sum(known) if known or not ran else None
    failed = sum(one.failed_energy_j or 0.0 for one in sums)
    whole = all(map(_is_all, sums))
    return Bar(label, joules, failed, _told(joules, energy, whole=whole), sum(one.jobs for one in sums))


def _is_all(sums: Sums) -> bool:
    """Whether the sum of energy is of all that ran, or nearly."""
    return sums.measured >= sums.ran and (sums.coverage is None or sums.coverage >= ENOUGH)


def _told(value: float | None, shown: Callable[[float], str], *, whole: bool) -> str:
    return "-" if value is None else f"{shown(value)}{'' if whole else _PART}"


def _note(cells: Iterable[str]) -> str:
    return IN_PART if any(cell.endswith(_PART) for cell in cells) else ""


def _splits(found: Period) -> Iterator[Split]:
    for of, label in _SPLITS.items():
        places = found.by.get(of, ())
        if len(places) > 1 or (of == "model" and places):
            rows = tuple(_row(of, one, found.sums) for one in places)
            yield Split(of, label, rows, _note(cell for row in rows for cell in (row.energy, row.failed, row.gwp)))


def _row(of: str, one: Place, whole: Sums) -> SplitRow:
    sums = one.sums
    gwp = sums.impacts.get("gwp_kgco2e")
    joules = sums.energy_j if sums.ran else 0.0
    return SplitRow(
        name=clean(one.name) or _NONE[of],
        jobs=f"{sums.jobs:,}",
        energy=_told(joules, energy, whole=_is_all(sums)),
        share=_share(joules, whole.energy_j),
        failed=_told(sums.failed_energy_j, energy, whole=_is_all(sums) or not sums.failed),
        gpu_hours=_number(sums.gpu_hours) if sums.gpu_hours else "",
        gwp=_told(
            gwp.total[1] if gwp and gwp.total else None,
            INDICATORS[0][3],
            whole=gwp is not None and gwp.known >= sums.ran and _is_all(sums),
        ),
        joules=joules,
    )


def _share(joules: float | None, whole_j: float | None) -> str:
    return percent(joules / whole_j).replace("less than ", "< ") if joules is not None and whole_j else ""


def _job(one: JobResult) -> JobLine:
    known = one.energy_j
    return JobLine(
        job=clean(one.job_id),
        user=clean(one.user),
        state=clean(one.state).replace("_", " ").lower(),
        name=clean(one.name),
        energy="-" if known is None else energy(known),
        kwh="-" if known is None else kwh(known / 3.6e6),
        ended="" if one.end_s is None else moment(one.end_s)[:10],
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else rounded(value)


# -- how -------------------------------------------------------------------------------------------------------------


def _method(found: Period) -> str:
    if not found.sums.ran:
        return ""
    missing = [kind for kind in KINDS if kind in found.kinds and found.kinds[kind] is None]
    return method_of_many(found.methods, missing, found.sums, found.factors)
