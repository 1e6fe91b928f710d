"""Answers for people: 80 columns, what can be acted on first, and every number with its method."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from jobimpact.report.notes import in_words
from jobimpact.report.numbers import duration, energy, grams, kwh, memory, percent, rounded, span
from jobimpact.results.record import JobResult

__all__ = ["clean", "group_text", "job_text", "method_text"]

WIDTH = 80
_FAILED = {
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
_KINDS = {"cpu": "CPU", "dram": "memory", "gpu": "GPU", "rest": "rest"}
_METERS = {"cpu": "CPU packages", "dram": "memory", "gpu": "GPUs"}
_METHODS = {"counter": "energy counter", "gauge": "power, integrated", "modelled": "modelled, not measured"}
_REST_METHODS = {
    "counter": "node's energy counter less the parts",
    "gauge": "node's power, integrated, less the parts",
    "modelled": "by calibration, not measured",
}
_GLUE = "\u00a0"
_OUTSIDE = "fans, disks, network and power supplies"
_INDICATORS = (
    ("gwp_kgco2e", "GWP (climate)", "CO2e", grams),
    ("adp_kgsbe", "ADP (minerals)", "Sb-e", grams),
    ("pe_mj", "PE (energy)", "", lambda mj: energy(mj * 1e6)),
)
REASON_WIDTH = WIDTH - 38
"""What a reason has room for in the energy table; a longer one is told in full below it."""
_ESCAPES = r"(?s)\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x07|\x1b\\|\Z)|.)"
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def clean(text: str) -> str:
    """Users' text without escape sequences, control characters and what turns the writing's direction."""
    plain = text.replace("\n", " ").replace("\t", " ")
    if "\x1b" in plain:  # rare, and the pattern takes longer to compile than an answer to print
        plain = re.sub(_ESCAPES, "", plain)
    return "".join(char for char in plain if unicodedata.category(char) not in _HIDDEN)


def job_text(one: JobResult, *, colour: bool = False) -> str:
    """One incarnation of a job, as a report that ends with a newline."""
    parts = (_head(one, colour=colour), _lead(one), _energy(one), _impacts(one), _notes(one))
    return "\n".join("\n".join(part) + "\n" for part in map(list, parts) if part)


def group_text(job: str, results: list[JobResult], *, colour: bool = False) -> str:
    """The tasks of an array or the parts of a heterogeneous job: a line each, and their sum."""
    known = [one.energy_j for one in results if one.energy_j is not None]
    failed = [one for one in results if one.state in _FAILED]
    lost = [one.energy_j for one in failed if one.energy_j is not None]
    lines = [f"{_bold(f'job {clean(job)}', colour=colour)}: {len(results)} parts", ""]
    if lost and sum(lost):
        of = f"{len(failed)} of {len(results)}"
        lines += [f"  {energy(sum(lost))} ({kwh(sum(lost) / 3.6e6)}) spent on parts that did not complete ({of}).", ""]
    lines.append(f"  {'job':<16} {'state':<14} {'elapsed':>12} {'energy':>10}  {'known':>6}  {'GWP (climate)':>13}")
    lines += [
        f"  {clean(one.job_id):<16.16} {clean(one.state).partition(',')[0]:<14.14} {_elapsed(one):>12} "
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
    for count, what in ((len(known), "energy"), (len(gwp), "GWP")):
        if count < len(results):
            lines.append(f"  The sum of {what} lacks {len(results) - count} of {len(results)}: not known.")
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
        yield f"  Accounted {_moment(max(accounted))} UTC; parts that ended later are not among them."


def _head(one: JobResult, *, colour: bool) -> Iterator[str]:
    code = f" (exit code {one.exit_code})" if one.state == "FAILED" and one.exit_code else ""
    title = f"job {clean(one.job_id)}"
    yield f"{_bold(title, colour=colour)}  {_state(f'{clean(one.state)}{code}', one.state, colour=colour)}"
    if one.name:
        yield f"  {textwrap.shorten(clean(one.name), WIDTH - 4, placeholder='...')}"
    who = [clean(one.user), one.account and f"account {clean(one.account)}"]
    who.append(one.partition and f"partition {clean(one.partition)}")
    yield from _wrapped(", ".join(filter(None, who)))
    held = [_count(one.cpus, "CPU"), memory(one.mem_bytes) if one.mem_bytes else "", _count(one.gpus, "GPU")]
    on = f" on {_some(one.nodes)}" if one.nodes else ""
    if any(held) or on:
        asked = "asked for " if one.start_s is None and any(held) else ""
        yield from _wrapped(f"{asked}{', '.join(filter(None, held))}{on}".strip())
    if one.start_s is not None:
        yield f"  {_when(one)}"


def _lead(one: JobResult) -> Iterator[str]:
    if one.energy_j is None:
        yield from _wrapped(f"Not measured: {one.energy['reason']}.")
    elif one.start_s is None:
        yield "  It never started: no energy, no impact."
    elif one.state in _FAILED:
        yield f"  {energy(one.energy_j)} ({kwh(one.energy_j / 3.6e6)}) spent on {_FAILED[one.state]}."
    elif one.accounted_s is None:
        yield "  From the nodes' books; final after the next accounting."
    if one.energy_j is not None and one.coverage < 1:
        known = percent(one.coverage)
        yield from _wrapped(f"Incomplete: energy is known for {known} of what it held; the sum is of this part.")


def _energy(one: JobResult) -> Iterator[str]:
    if one.energy_j is None or one.start_s is None:
        return
    yield f"  {'Energy':<10} {energy(one.energy_j):>10}  {kwh(one.energy_j / 3.6e6)}"
    for kind, found in one.energy["domains"].items():
        if found["energy_j"] is None:
            reason = textwrap.shorten(clean(found["reason"]), REASON_WIDTH, placeholder="...")
            yield f"    {_KINDS[kind]:<8} {'-':>10}  not measured: {reason}"
            continue
        if found["method"] == "none held":
            continue
        start = f"    {_KINDS[kind]:<8} {energy(found['energy_j']):>10}  "
        # A line breaks between two things that are said, not within one.
        said = ", ".join(words.replace(" ", _GLUE) for words in _how(one, kind, found))
        lines = textwrap.wrap(said, WIDTH, initial_indent=start, subsequent_indent=" " * len(start))
        yield from (line.replace(_GLUE, " ") for line in lines)


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


def _impacts(one: JobResult) -> Iterator[str]:
    if one.start_s is None:
        return
    gwp = one.impacts["gwp_kgco2e"]
    covered = next((part for part in ("total", "use", "embodied") if gwp[part] is not None), None)
    if covered is None:
        yield from _wrapped(f"Impact not known: {clean(gwp['reason'])}.")
        return
    of = "" if covered == "total" else f" ({covered} only)"
    yield f"  {'Impact':<18} {'use':>10} {'embodied':>10} {'total':>10}  range{of}"
    for name, label, unit, shown in _INDICATORS:
        found = one.impacts[name]
        cells = (
            "-" if found[part] is None else shown(found[part]["central"]) for part in ("use", "embodied", "total")
        )
        row = f"    {label:<16} " + " ".join(f"{cell:>10}" for cell in cells)
        row += f"  {span(shown(found[covered]['low']), shown(found[covered]['high']))} {unit}"
        yield row.rstrip()
    if gwp["reason"]:
        yield from _wrapped(f"Not known: {clean(gwp['reason'])}.")
    yield from _beside(one)


def _beside(one: JobResult) -> Iterator[str]:
    """What is not in the total: its share of idle machines, of what serves several nodes, and the contract's word."""
    rows = [
        (label, [one.impacts[name].get(key) for name, *_ in _INDICATORS])
        for key, label in (("idle_share", "idle machines"), ("shared", "shared parts"))
    ]
    told = [
        (label, found) for label, found in rows if any(part and (part["use"] or part["embodied"]) for part in found)
    ]
    market = one.factors.get("market")
    if not told and not market:
        return
    yield f"  {'Beside the total':<18} {'GWP':>10} {'ADP':>10} {'PE':>10}"
    for label, found in told:
        cells = (_sum_of(part, shown) for part, (*_, shown) in zip(found, _INDICATORS, strict=True))
        lacking = _lacking(found[0])
        yield f"    {label:<16} " + " ".join(f"{cell:>10}" for cell in cells) + (f"  {lacking}" if lacking else "")
    if market:
        use = market["use_gwp_kgco2e"]
        cell = "-" if use is None else grams(use)
        yield f"    {'use by contract':<16} {cell:>10}{'' if use is not None else ' ' * 24 + '  not at its nodes'}"


def _sum_of(part: dict[str, Any] | None, shown: Any) -> str:
    known = [part[of]["central"] for of in ("use", "embodied") if part[of] is not None] if part else []
    return shown(sum(known)) if known else "-"


def _lacking(part: dict[str, Any] | None) -> str:
    if part is None:
        return ""
    if part["use"] is not None and part["embodied"] is not None:
        return "in part" if part["reason"] else ""
    return "embodied only" if part["use"] is None else "use only"


def _notes(one: JobResult) -> Iterator[str]:
    for note in dict.fromkeys([*one.warnings, *in_words(one.energy["flags"], one.energy["nodes"])]):
        if " not in the total: " in note and len(note.partition(": ")[2]) <= REASON_WIDTH:
            continue  # the energy table has said so
        if note.startswith("rest of the node") and " not measured on " in note:
            continue  # the method says so
        if one.end_s is None and note.endswith(": its run is still open"):
            continue  # of a job that is in progress
        if one.start_s is None and note == "never started":
            continue
        yield from _wrapped(f"Note: {clean(note)}.")
    rest = one.energy["domains"].get("rest")
    waits = rest and (rest["energy_j"] is not None or "not settled" in (rest["reason"] or ""))
    if one.accounted_s is None and rest and waits and rest["coverage"] < 1:
        yield from _wrapped("Note: the rest of the node comes minutes later: it is settled with the node's meter.")
    if one.accounted_s is not None:
        again = f", revision {one.revision}" if one.revision > 1 else ""
        yield f"  Accounted {_moment(one.accounted_s)} UTC{again}."


def method_text(one: JobResult) -> str:
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
    return "\n".join(textwrap.wrap(" ".join(said), WIDTH)) + "\n"


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
    for method, form in (
        ("counter", "meters of {}"),
        ("gauge", "power of {}, read at intervals and integrated"),
        ("modelled", "{} modelled from CPU use, not metered"),
    ):
        kinds = [
            f"{_METERS[kind]}{' in part' if found[0] != method else ''}"
            for kind, found in methods.items()
            if method in found
        ]
        said += [form.format(_listed(kinds))] if kinds else []
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
    bare = [clean(name) for name in nodes if name not in metered]
    return f"{said}; not in the sum on {_some(tuple(bare))}" if bare else said


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _gwp(one: JobResult) -> str:
    found: dict[str, Any] | None = one.impacts["gwp_kgco2e"]["total"]
    return "-" if found is None else f"{grams(found['central'])}"


def _elapsed(one: JobResult) -> str:
    return "-" if one.elapsed_s is None else duration(one.elapsed_s)


def _count(count: int | None, what: str) -> str:
    return "" if not count else f"{count} {what}{'' if count == 1 else 's'}"


def _some(nodes: tuple[str, ...], shown: int = 4) -> str:
    more = f" and {len(nodes) - shown} more" if len(nodes) > shown else ""
    return ", ".join(map(clean, nodes[:shown])) + more


def _moment(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S}"


def _when(one: JobResult) -> str:
    start = _moment(one.start_s or 0)
    if one.end_s is not None:
        return f"{start} to {_moment(one.end_s).removeprefix(start[:11])} UTC, {_elapsed(one)}"
    until_s = one.known_until_s
    # A day is said where it is another one: books of a node that went silent stay as they were.
    books = "" if until_s is None else f", books up to {_moment(until_s).removeprefix(start[:11])} UTC"
    return f"since {start} UTC; so far{books}"


def _bold(text: str, *, colour: bool) -> str:
    return f"\x1b[1m{text}\x1b[0m" if colour else text


def _state(text: str, state: str, *, colour: bool) -> str:
    number = "31" if state in _FAILED else "32" if state == "COMPLETED" else "33"
    return f"\x1b[{number}m{text}\x1b[0m" if colour else text
