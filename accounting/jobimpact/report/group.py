"""What a report says of an array or a heterogeneous job: its sums, how its tasks ended, the worst of them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import fsum

from jobimpact.answers.query import Ending, Group, SumImpact, Sums
from jobimpact.findings.finding import Finding
from jobimpact.report.advice import advice_of
from jobimpact.report.equivalents import equivalents
from jobimpact.report.job import INDICATORS, KINDS, elapsed, impact_row, method, tone_of
from jobimpact.report.methods import method_of_many
from jobimpact.report.numbers import energy, grams, in_part, kwh, percent, rounded
from jobimpact.report.view import EndingRow, GroupView, ImpactRow, TaskRow
from jobimpact.report.words import clean, count, listed, moment
from jobimpact.results.record import JobResult

__all__ = ["group_view", "is_array", "task_row"]

FEW = 10
"""So many tasks are told one by one."""
WORST = 5
ENDINGS = 8


def is_array(group: Group) -> bool:
    """Whether its jobs are tasks, not parts of a heterogeneous job; of one that is too large for rows they are."""
    return not group.jobs or any(one.array_id is not None for one in group.jobs)


def group_view(group: Group, *, findings: Sequence[Finding] = (), currency: str = "EUR") -> GroupView:
    """What a report says of a group.

    Args:
        group: with its sums, which it must have; its jobs where they are few enough.
        findings: what was found about it (findings.of_array).
        currency: of the findings' money.

    Raises:
        ValueError: nothing was found for it.
    """
    sums = group.sums
    if sums is None:
        raise ValueError(f"{group.asked}: nothing was found")
    what = "task" if is_array(group) else "part"
    covered = _covered(sums)
    rows, rows_are = _tasks(group)
    gwp = sums.impacts.get("gwp_kgco2e", SumImpact())
    whole = gwp.total is not None and gwp.known == sums.ran
    methods = Counter(filter(None, map(method, group.jobs)))
    return GroupView(
        title=f"job {clean(group.asked)}: {count(sums.jobs, what)}",
        name=_alike(group, "name"),
        facts=tuple(_facts(group, sums)),
        lead=(*_mixed(group), *_lead(sums, what)),
        advice=advice_of(findings, currency),
        total="" if sums.energy_j is None else energy(sums.energy_j),
        total_kwh="" if sums.energy_j is None else kwh(sums.energy_j / 3.6e6),
        endings=tuple(_endings(sums.endings)),
        tasks=rows,
        tasks_are=rows_are,
        impacts=tuple(_impacts(sums, covered)) if covered else (),
        range_of="" if covered in {"total", None} else f"{covered} only",
        not_known="" if covered else "Impact not known: of no task.",
        equivalents=equivalents(gwp.total[1], sums.coverage) if whole and gwp.total else (),
        notes=(*_by_part(sums, what), *_notes(sums, what)),
        accounted=_accounted(sums, what),
        method=_method(methods, sums),
        cluster=_alike(group, "cluster"),
        failed=sums.failed,
        in_part="" if sums.energy_j is None else in_part(sums.coverage),
    )


def _alike(group: Group, field: str) -> str:
    """What all have; empty where they differ."""
    if not group.jobs:
        return clean(group.shared.get(field, ""))
    texts = {getattr(one, field) or "" for one in group.jobs}
    return clean(texts.pop()) if len(texts) == 1 else ""


def _facts(group: Group, sums: Sums) -> Iterator[str]:
    who = [_alike(group, "user")]
    for word in ("account", "partition"):
        same = _alike(group, word)
        who += [f"{word} {same}"] if same else []
    if any(who):
        yield ", ".join(filter(None, who))
    held = [f"{rounded(sums.cpu_hours)} CPU-hours"] if sums.cpu_hours else []
    held += [f"{rounded(sums.gpu_hours)} GPU-hours"] if sums.gpu_hours else []
    if held:
        yield f"{', '.join(held)} in all"
    if sums.first_start_s is not None and sums.last_end_s is not None:
        start = moment(sums.first_start_s)
        yield f"{start} to {moment(sums.last_end_s).removeprefix(start[:11])} UTC"


def _mixed(group: Group) -> Iterator[str]:
    """Clusters count their jobs each for itself."""
    clusters = sorted({clean(one.cluster) for one in group.jobs})
    if len(clusters) > 1:
        yield f"Jobs of several clusters are called so, and these are their sums: {listed(clusters)}. -M asks for one."


def _lead(sums: Sums, what: str) -> Iterator[str]:
    if sums.energy_j is None:
        yield f"Not measured: of none of the {sums.ran:,} {what}s that ran the energy is known."
        return
    if sums.failed_energy_j:
        of = f"{sums.failed:,} of {sums.jobs:,}"
        yield (
            f"{energy(sums.failed_energy_j)} ({kwh(sums.failed_energy_j / 3.6e6)}) spent on {what}s that did not"
            f" complete ({of})."
        )
    elif sums.failed and sums.failed_energy_j is None:
        yield f"{sums.failed:,} of {sums.jobs:,} {what}s did not complete: what they used is not known."
    if sums.coverage is not None and sums.coverage < 1:
        yield f"Incomplete: energy is known for {percent(sums.coverage)} of what they held; the sum is of this part."


def _endings(found: Sequence[Ending]) -> Iterator[EndingRow]:
    """Those of most tasks, and all others in a row: the rows are of all tasks."""
    shown = found if len(found) <= ENDINGS else found[: ENDINGS - 1]
    yield from map(_ending, shown)
    others = found[len(shown) :]
    if others:
        known = [one.energy_j for one in others if one.energy_j is not None]
        amount = energy(fsum(known)) if known else "-"
        yield EndingRow(f"in {len(others):,} other ways", "plain", sum(one.jobs for one in others), amount)


def _ending(one: Ending) -> EndingRow:
    code = f" (exit code {clean(one.exit_code)})" if one.state == "FAILED" and one.exit_code else ""
    return EndingRow(
        f"{clean(one.state)}{code}",
        tone_of(one.state),
        one.jobs,
        "-" if one.energy_j is None else energy(one.energy_j),
    )


def _tasks(group: Group) -> tuple[tuple[TaskRow, ...], str]:
    if len(group.jobs) <= FEW:
        return tuple(map(task_row, group.jobs)), ""
    failed = [one for one in group.jobs if tone_of(one.state) == "bad"]
    rows = sorted(failed or group.jobs, key=lambda one: -(one.energy_j or 0.0))[:WORST]
    are = "Most energy, of those that did not complete" if failed else "Most energy"
    return tuple(map(task_row, rows)), are


def task_row(one: JobResult) -> TaskRow:
    """A task in one line."""
    found = one.impacts["gwp_kgco2e"]["total"]
    return TaskRow(
        clean(one.job_id),
        clean(one.state).partition(",")[0],
        tone_of(one.state),
        elapsed(one),
        "-" if one.energy_j is None else energy(one.energy_j),
        "-" if one.energy_j is None else percent(one.coverage),
        "-" if found is None else grams(found["central"]),
    )


def _covered(sums: Sums) -> str | None:
    gwp = sums.impacts.get("gwp_kgco2e", SumImpact())
    return next((part for part in ("total", "use", "embodied") if getattr(gwp, part) is not None), None)


def _impacts(sums: Sums, covered: str) -> Iterator[ImpactRow]:
    for name, label, unit, shown in INDICATORS:
        found = sums.impacts.get(name, SumImpact())
        centrals = [None if part is None else part[1] for part in (found.use, found.embodied, found.total)]
        edges = getattr(found, covered)
        yield impact_row(name, label, unit, shown, centrals, None if edges is None else (edges[0], edges[2]))


def _by_part(sums: Sums, what: str) -> Iterator[str]:
    """The energy of each kind of part, as far as it is known."""
    each = []
    for kind in KINDS:
        joules, lacking = sums.kinds.get(kind), sums.lacking.get(kind, 0)
        if joules is not None:
            without = f" (not known of {count(lacking, what)})" if lacking else ""
            each.append(f"{KINDS[kind]} {energy(joules)}{without}")
    if each:
        never = [KINDS[kind] for kind in KINDS if kind in sums.kinds and sums.kinds[kind] is None]
        yield f"Energy by part: {', '.join(each)}{f'; not measured: {listed(never)}' if never else ''}."


def _notes(sums: Sums, what: str) -> Iterator[str]:
    gwp = sums.impacts.get("gwp_kgco2e", SumImpact())
    for known, of in ((sums.measured, "energy"), (gwp.known, "GWP")):
        if known < sums.ran:
            yield f"The sum of {of} lacks {sums.ran - known:,} of {sums.ran:,}: not known."
    if sums.jobs > sums.ran:
        yield f"{count(sums.jobs - sums.ran, what)} never started."


def _accounted(sums: Sums, what: str) -> str:
    """Parts that are not over are not among them: nobody knows yet which there are."""
    if sums.accounted_s is None:
        return ""
    return f"Accounted {moment(sums.accounted_s)} UTC; {what}s that ended later are not among them."


def _method(methods: Counter[str], sums: Sums) -> str:
    """That of all tasks; of many of which there are only the sums, what these tell."""
    if len(methods) == 1:
        return next(iter(methods))
    if methods:
        said, times = methods.most_common(1)[0]
        return f"{said} So for {times:,} of {methods.total():,} tasks; how the others differ stands with each of them."
    if not sums.methods and not sums.factors:
        return ""
    # Each job has all of these, and some have GPUs: what no job has a method of, nobody measured.
    had = [kind for kind in KINDS if kind != "gpu" or sums.gpu_hours]
    return method_of_many(sums.methods, [kind for kind in had if kind not in sums.methods], sums, sums.factors)
