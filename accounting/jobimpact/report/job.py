"""From a result to what a report says of it: every sentence stands here, and text and HTML lay it out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jobimpact.answers.query import Details
from jobimpact.core.records import DomainKind
from jobimpact.findings.finding import Finding
from jobimpact.report.activity import activity_lines
from jobimpact.report.advice import advice_of
from jobimpact.report.equivalents import equivalents
from jobimpact.report.notes import in_words
from jobimpact.report.numbers import duration, energy, grams, in_part, kwh, memory, percent, rounded, span
from jobimpact.report.view import Beside, EnergyRow, ImpactRow, JobView, Tone
from jobimpact.report.words import clean, count, listed, moment, some
from jobimpact.results.outcome import FAILED
from jobimpact.results.record import JobResult

__all__ = ["INDICATORS", "KINDS", "ROOM", "elapsed", "impact_row", "job_view", "method", "spent_on", "tone_of"]

ROOM = 42
"""What a reason has room for in the table of energies; a longer one is told again, in full, among the notes."""
_SPENT = {
    "FAILED": "a run that failed",
    "TIMEOUT": "a run that hit its time limit",
    "NODE_FAIL": "a run that lost its node",
    "OUT_OF_MEMORY": "a run that was out of memory",
    "CANCELLED": "a run that was cancelled",
    "PREEMPTED": "a run that was preempted",
    "REQUEUED": "a run that was thrown away and started anew",
    "DEADLINE": "a run that missed its deadline",
    "BOOT_FAIL": "a run that could not be launched",
}
KINDS: dict[DomainKind, str] = {"cpu": "CPU", "dram": "memory", "gpu": "GPU", "rest": "rest"}
_METERS = {"cpu": "CPU packages", "dram": "memory", "gpu": "GPUs"}
_METHODS = {"counter": "energy counter", "gauge": "power, integrated", "modelled": "modelled, not measured"}
_REST_METHODS = {
    "counter": "node's energy counter less the parts",
    "gauge": "node's power, integrated, less the parts",
    "modelled": "by calibration, not measured",
}
_OUTSIDE = "fans, disks, network and power supplies"
INDICATORS: tuple[tuple[str, str, str, Callable[[float], str]], ...] = (
    ("gwp_kgco2e", "GWP (climate)", "CO2e", grams),
    ("adp_kgsbe", "ADP (minerals)", "Sb-e", grams),
    ("pe_mj", "PE (energy)", "", lambda mj: energy(mj * 1e6)),
)
"""Each indicator's key, label, what its mass is of, and how it is written."""


def job_view(
    one: JobResult, *, findings: Sequence[Finding] = (), details: Details | None = None, currency: str = "EUR"
) -> JobView:
    """What a report says of one incarnation of a job.

    Args:
        one: its result.
        findings: what was found about it (findings.of_job).
        details: its power over time and its progress.
        currency: of the findings' money.

    Returns:
        Texts in reading order, with the numbers that pictures need; absent things are None or empty, never 0.
    """
    details = details or Details()
    known = one.energy_j is not None and one.start_s is not None
    impacts = tuple(_impacts(one))
    covered = _covered(one)
    return JobView(
        title=f"job {clean(one.job_id)}",
        state=_state(one),
        tone=tone_of(one.state),
        name=clean(one.name),
        facts=tuple(_facts(one)),
        lead=tuple(_lead(one)),
        advice=advice_of(findings, currency, lead_said=one.energy_j is not None),
        total=energy(one.energy_j) if known and one.energy_j is not None else "",
        total_kwh=kwh(one.energy_j / 3.6e6) if known and one.energy_j is not None else "",
        energy=tuple(_energy(one)) if known else (),
        impacts=impacts,
        range_of=f"{covered} only" if covered in {"use", "embodied"} else "",
        not_known=_not_known(one),
        beside=tuple(_beside(one)) if impacts else (),
        equivalents=equivalents(_central(one.impacts["gwp_kgco2e"]["total"]), one.coverage),
        activity=activity_lines(
            one.labels, details.progress, one.energy_j, coverage=one.coverage, completed=one.state == "COMPLETED"
        ),
        notes=tuple(_notes(one)),
        accounted=_accounted(one),
        method=method(one),
        cluster=clean(one.cluster),
        profile=details.profile,
        progress=details.progress,
        in_part=in_part(one.coverage) if known else "",
    )


def tone_of(state: str) -> Tone:
    """Whether a state is a failure, a success, or neither (yet)."""
    return "bad" if state in FAILED else "good" if state == "COMPLETED" else "plain"


def spent_on(state: str) -> str:
    """What the energy of a run that ended in this state was spent on; empty: nothing to tell."""
    return _SPENT.get(state, "")


def elapsed(one: JobResult) -> str:
    """How long it ran; `-` where that is not known."""
    return "-" if one.elapsed_s is None else duration(one.elapsed_s)


def _state(one: JobResult) -> str:
    code = f" (exit code {clean(one.exit_code)})" if one.state == "FAILED" and one.exit_code else ""
    return f"{clean(one.state)}{code}"


def _facts(one: JobResult) -> Iterator[str]:
    who = [clean(one.user), one.account and f"account {clean(one.account)}"]
    who.append(one.partition and f"partition {clean(one.partition)}")
    yield ", ".join(filter(None, who))
    held = [count(one.cpus, "CPU"), memory(one.mem_bytes) if one.mem_bytes else "", count(one.gpus, "GPU")]
    on = f" on {some(one.nodes)}" if one.nodes else ""
    if any(held) or on:
        asked = "asked for " if one.start_s is None and any(held) else ""
        yield f"{asked}{', '.join(filter(None, held))}{on}".strip()
    if one.start_s is not None:
        yield _when(one, one.start_s)


def _when(one: JobResult, start_s: float) -> str:
    start = moment(start_s)
    if one.end_s is not None:
        return f"{start} to {moment(one.end_s).removeprefix(start[:11])} UTC, {elapsed(one)}"
    until_s = one.known_until_s
    # A day is said where it is another one: books of a node that went silent stay as they were.
    books = "" if until_s is None else f", books up to {moment(until_s).removeprefix(start[:11])} UTC"
    return f"since {start} UTC; so far{books}"


def _lead(one: JobResult) -> Iterator[str]:
    if one.energy_j is None:
        yield f"Not measured: {clean(one.energy['reason'])}."
        return
    if one.start_s is None:
        yield "It never started: no energy, no impact."
    elif spent_on(one.state):
        yield f"{energy(one.energy_j)} ({kwh(one.energy_j / 3.6e6)}) spent on {spent_on(one.state)}."
    elif one.accounted_s is None:
        yield "From the nodes' books; final after the next accounting."
        if one.job_id == one.raw_id:
            yield f"Nodes know no arrays: if {clean(one.job_id)} is one, or heterogeneous, this is one part of it."
    if one.coverage < 1:
        yield f"Incomplete: energy is known for {percent(one.coverage)} of what it held; the sum is of this part."


# -- energy ----------------------------------------------------------------------------------------------------------


def _energy(one: JobResult) -> Iterator[EnergyRow]:
    domains: dict[DomainKind, dict[str, Any]] = one.energy["domains"]
    for kind, found in domains.items():
        joules = found["energy_j"]
        if joules is None:
            yield EnergyRow(kind, KINDS[kind], None, "-", (f"not measured: {clean(found['reason'])}",))
        elif found["method"] != "none held":
            yield EnergyRow(kind, KINDS[kind], joules, energy(joules), tuple(_how(one, kind, found)))


def _how(one: JobResult, kind: str, found: dict[str, Any]) -> Iterator[str]:
    """How a kind was measured, and how much of it."""
    words = _REST_METHODS if kind == "rest" else _METHODS
    yield " + ".join(words.get(part, part) for part in found["method"].split("+"))
    metered, nodes = len(_with_rest(one)), len(one.energy["nodes"])
    if kind == "rest" and metered < nodes:
        yield f"on {metered} of {nodes} nodes"
    if found["coverage"] < 1:
        yield f"known for {percent(found['coverage'])} of the run"


def _with_rest(one: JobResult) -> list[str]:
    """The nodes on which the rest is known."""
    return [
        name
        for name, node in one.energy["nodes"].items()
        if any(domain["kind"] == "rest" and domain["energy_j"] is not None for domain in node["domains"].values())
    ]


# -- impacts ---------------------------------------------------------------------------------------------------------


def _covered(one: JobResult) -> str | None:
    """What the ranges are of: the total, or the part of it that is known; None: nothing is."""
    gwp = one.impacts["gwp_kgco2e"]
    return next((part for part in ("total", "use", "embodied") if gwp[part] is not None), None)


def _impacts(one: JobResult) -> Iterator[ImpactRow]:
    covered = _covered(one)
    if one.start_s is None or covered is None:
        return
    for name, label, unit, shown in INDICATORS:
        found = one.impacts[name]
        centrals = [_central(found[part]) for part in ("use", "embodied", "total")]
        edges = found[covered]
        yield impact_row(name, label, unit, shown, centrals, None if edges is None else (edges["low"], edges["high"]))


def impact_row(
    name: str,
    label: str,
    unit: str,
    shown: Callable[[float], str],
    centrals: Sequence[float | None],
    edges: tuple[float, float] | None,
) -> ImpactRow:
    """One indicator.

    Args:
        name: its key; so are label, unit and `shown` of INDICATORS.
        label: how it is called.
        unit: what its mass is of.
        shown: how it is written.
        centrals: of use, embodied and total.
        edges: the least and the most of what is told.
    """
    use, embodied, total = centrals
    return ImpactRow(
        name=name,
        label=label,
        unit=unit,
        use=_cell(use, shown),
        embodied=_cell(embodied, shown),
        total=_cell(total, shown),
        span="" if edges is None else span(*map(shown, edges)),
        use_central=use,
        embodied_central=embodied,
        low=None if edges is None else edges[0],
        high=None if edges is None else edges[1],
    )


def _central(part: dict[str, float] | None) -> float | None:
    return None if part is None else part["central"]


def _cell(value: float | None, shown: Callable[[float], str]) -> str:
    return "-" if value is None else shown(value)


def _not_known(one: JobResult) -> str:
    reason = one.impacts["gwp_kgco2e"]["reason"]
    if one.start_s is None:
        return ""
    if _covered(one) is None:
        return f"Impact not known: {clean(reason)}."
    return f"Not known: {clean(reason)}." if reason else ""


def _beside(one: JobResult) -> Iterator[Beside]:
    """What is not in the total: its share of idle machines, of what serves several nodes, and the contract's word."""
    for key, label in (("idle_share", "idle machines"), ("shared", "shared parts")):
        found = [one.impacts[name].get(key) for name, *_ in INDICATORS]
        if any(part and (part["use"] or part["embodied"]) for part in found):
            gwp, adp, pe = (_sum_of(part, shown) for part, (*_, shown) in zip(found, INDICATORS, strict=True))
            yield Beside(label, gwp, adp, pe, _lacking(found[0]))
    market = one.factors.get("market")
    if market:
        use = market["use_gwp_kgco2e"]
        gwp, said = ("-", "not at its nodes") if use is None else (grams(use), "")
        yield Beside("use by contract", gwp, "", "", said)


def _sum_of(part: dict[str, Any] | None, shown: Callable[[float], str]) -> str:
    known = [part[of]["central"] for of in ("use", "embodied") if part[of] is not None] if part else []
    return shown(sum(known)) if known else "-"


def _lacking(part: dict[str, Any] | None) -> str:
    if part is None:
        return ""
    if part["use"] is not None and part["embodied"] is not None:
        return "in part" if part["reason"] else ""
    return "embodied only" if part["use"] is None else "use only"


# -- what is said of it ----------------------------------------------------------------------------------------------


def _notes(one: JobResult) -> Iterator[str]:
    for note in dict.fromkeys([*one.warnings, *in_words(one.energy["flags"], one.energy["nodes"])]):
        if " not in the total: " in note and len(note.partition(": ")[2]) <= ROOM:
            continue  # the energies' table has said so
        if note.startswith("rest of the node") and " not measured on " in note:
            continue  # the method says so
        if one.end_s is None and note.endswith(": its run is still open"):
            continue  # of a job that is in progress
        if one.start_s is None and note == "never started":
            continue
        yield f"Note: {clean(note)}."
    rest = one.energy["domains"].get("rest")
    waits = rest and (rest["energy_j"] is not None or "not settled" in (rest["reason"] or ""))
    if one.accounted_s is None and rest and waits and rest["coverage"] < 1:
        yield "Note: the rest of the node comes minutes later: it is settled with the node's meter."


def _accounted(one: JobResult) -> str:
    if one.accounted_s is None:
        return ""
    again = f", revision {one.revision}" if one.revision > 1 else ""
    return f"Accounted {moment(one.accounted_s)} UTC{again}."


def method(one: JobResult) -> str:
    """What a job's figures rest on, as a paragraph: alike for most jobs of a site, so that it can be said once.

    Empty where there are no figures.
    """
    factors, gwp = one.factors, one.impacts["gwp_kgco2e"]
    if one.start_s is None or (gwp["use"] is None and gwp["embodied"] is None):
        return ""
    zones = [
        f"{zone}, {rounded(found['gwp_kgco2e']['central'] * 1e3)} gCO2e/kWh"
        for zone, found in factors["per_kwh"].items()
    ]
    pue = factors["pue"] if isinstance(factors["pue"], list) else [factors["pue"]]
    said = [f"Method: {_metering(one)}."]
    if gwp["use"] is not None:
        of = f"electricity of {'; '.join(zones)} ({factors['sources'][0]})"
        said.append(f"Use: {of}{_by_the_hour(factors.get('grid'))}, PUE {', '.join(f'{p:g}' for p in pue)}.")
    if gwp["embodied"] is not None:
        said.append("Embodied: by what was reserved, over the nodes' service life, idle time not included")
        said.append(f"(inventory {clean(one.inventory['version'])}).{_of_idle(factors.get('idle'))}")
    said.append("The range is the least and the most of factors and meters, taken together.")
    said.append(f"Factors: {factors['version']}; all sources are in --json.")
    return " ".join(said)


def _by_the_hour(grid: dict[str, Any] | None) -> str:
    """How GWP followed the hours, if it did."""
    if not grid or not grid["known"]:
        return ""
    hours = f"{grid['known']} of {grid['hours']} h by {grid['provider']}"
    shape = ", direct emissions scaled to that mean" if grid["direct"] else ""
    return f", hour by hour ({hours}{shape}: {rounded(grid['gwp_kgco2e_per_kwh'] * 1e3)} g on average)"


def _of_idle(idle: dict[str, Any] | None) -> str:
    if not idle or (idle["mode"] == "measured" and idle["from_month"] is None):
        return ""
    if idle["mode"] == "fixed":
        return " Idle machines: as if they were in use a fixed part of their life."
    months = dict.fromkeys((idle["from_month"], idle["to_month"]))
    return f" Idle machines: by what was idle in {' to '.join(months)}."


def _metering(one: JobResult) -> str:
    methods = {
        kind: (found["method"] or "").split("+") for kind, found in one.energy["domains"].items() if kind in _METERS
    }
    said = []
    for how, form in (
        ("counter", "meters of {}"),
        ("gauge", "power of {}, read at intervals and integrated"),
        ("modelled", "{} modelled from CPU use, not metered"),
    ):
        kinds = [
            f"{_METERS[kind]}{' in part' if found[0] != how else ''}"
            for kind, found in methods.items()
            if how in found
        ]
        said += [form.format(listed(kinds))] if kinds else []
    if not said:
        if not _with_rest(one):
            return "no energy is known"
        said = ["no part is metered on its own"]
    return f"{', '.join(said)}; {_metering_of_rest(one)}"


def _metering_of_rest(one: JobResult) -> str:
    """Whether the sum is all that the nodes drew, or that of their parts."""
    rest, nodes = one.energy["domains"].get("rest"), one.energy["nodes"]
    metered = _with_rest(one)
    if not rest or not metered:
        return f"the sum is theirs: {_OUTSIDE} are not in it"
    modelled = rest["method"] == "modelled"
    how = "modelled from them, as calibrated once" if modelled else "what the node's own meter saw beyond them"
    said = f"rest ({_OUTSIDE}): {how}"
    bare = tuple(name for name in nodes if name not in metered)
    return f"{said}; not in the sum on {some(bare)}" if bare else said
