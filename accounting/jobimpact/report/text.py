"""Answers for people: 80 columns, what can be acted on first, and every number with its method."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

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
    "BOOT_FAIL": "a run whose node did not boot",
}
_KINDS = {"cpu": "CPU", "dram": "memory", "gpu": "GPU"}
_METHODS = {"counter": "energy counter", "modelled": "modelled, not measured"}
_INDICATORS = (
    ("gwp_kgco2e", "GWP (climate)", "CO2e", grams),
    ("adp_kgsbe", "ADP (minerals)", "Sb-e", grams),
    ("pe_mj", "PE (energy)", "", lambda mj: energy(mj * 1e6)),
)
REASON_WIDTH = WIDTH - 38
"""What a reason has room for in the energy table; a longer one is told in full below it."""
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x07|\x1b\\|\Z)|.)", re.DOTALL)
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def clean(text: str) -> str:
    """Users' text without escape sequences, control characters and what turns the writing's direction."""
    plain = _ESCAPES.sub("", text.replace("\n", " ").replace("\t", " "))
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
    lines = [f"{_bold(f'job {job}', colour=colour)}: {len(results)} parts", ""]
    lines.append(f"  {'job':<16} {'state':<14} {'elapsed':>12} {'energy':>10}  {'known':>6}  {'GWP, total':>13}")
    lines += [
        f"  {clean(one.job_id):<16.16} {clean(one.state):<14.14} {_elapsed(one):>12} "
        f"{'-' if one.energy_j is None else energy(one.energy_j):>10}  "
        f"{'-' if one.energy_j is None else percent(one.coverage):>6}  {_gwp(one):>13}"
        for one in results
    ]
    if known:
        lines += ["", f"  {'all':<16} {'':<14} {'':>12} {energy(sum(known)):>10}  {kwh(sum(known) / 3.6e6)}"]
    if len(known) < len(results):
        lines.append(f"  {len(results) - len(known)} of {len(results)} were not measured: they are not in the sum.")
    if lost and sum(lost):
        lines.append(
            f"  {energy(sum(lost))} of it went into parts that did not complete ({len(failed)} of {len(results)})."
        )
    return "\n".join(lines) + "\n"


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
        yield from _wrapped(f"{', '.join(filter(None, held))}{on}".strip())
    if one.start_s is not None:
        yield f"  {_when(one.start_s, one.end_s)} UTC, {_elapsed(one)}"


def _lead(one: JobResult) -> Iterator[str]:
    if one.energy_j is None:
        yield from _wrapped(f"Not measured: {one.energy['reason']}.")
    elif one.start_s is None:
        yield "  It never started: no energy, no impact."
    elif one.state in _FAILED:
        yield f"  {energy(one.energy_j)} ({kwh(one.energy_j / 3.6e6)}) spent on {_FAILED[one.state]}."
    elif one.accounted_s is None:
        yield "  So far, from the nodes' books; final after the next accounting."
    if one.energy_j is not None and one.coverage < 1:
        known = percent(one.coverage)
        yield from _wrapped(f"Incomplete: meters covered {known} of what it held; the rest is not in the sum.")


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
        method = " + ".join(_METHODS.get(part, part) for part in found["method"].split("+"))
        known = "" if found["coverage"] >= 1 else f", known for {percent(found['coverage'])} of the run"
        yield f"    {_KINDS[kind]:<8} {energy(found['energy_j']):>10}  {method}{known}"


def _impacts(one: JobResult) -> Iterator[str]:
    if one.start_s is None:
        return
    yield f"  {'Impact':<18} {'use':>10} {'embodied':>10} {'total':>10}  range"
    for name, label, unit, shown in _INDICATORS:
        found = one.impacts[name]
        cells = (
            "-" if found[part] is None else shown(found[part]["central"]) for part in ("use", "embodied", "total")
        )
        row = f"    {label:<16} " + " ".join(f"{cell:>10}" for cell in cells)
        widest = found["total"] or found["use"] or found["embodied"]
        if widest:
            row += f"  {span(shown(widest['low']), shown(widest['high']))} {unit}"
        yield row.rstrip()
    reason = one.impacts["gwp_kgco2e"]["reason"]
    if reason:
        yield from _wrapped(f"Not known: {reason}.")


def _notes(one: JobResult) -> Iterator[str]:
    for note in dict.fromkeys([*one.warnings, *one.energy["flags"]]):
        if " not in the total: " in note and len(note.partition(": ")[2]) <= REASON_WIDTH:
            continue  # the energy table has said so
        yield from _wrapped(f"Note: {clean(note)}.")
    if one.accounted_s is not None:
        again = f", revision {one.revision}" if one.revision > 1 else ""
        yield f"  Accounted {_moment(one.accounted_s)} UTC{again}."


def method_text(one: JobResult) -> str:
    """What a job's figures rest on, as a paragraph: alike for most jobs of a site, so that it can be said once."""
    factors = one.factors
    zones = [
        f"{zone}, {rounded(found['gwp_kgco2e']['central'] * 1e3)} gCO2e/kWh"
        for zone, found in factors["per_kwh"].items()
    ]
    pue = factors["pue"] if isinstance(factors["pue"], list) else [factors["pue"]]
    text = (
        "Method: meters of CPU packages, memory and GPUs; fans, disks, network and power supplies are not metered. "
        f"Use: electricity of {'; '.join(zones)} ({factors['sources'][0]}), PUE {', '.join(f'{p:g}' for p in pue)}. "
        "Embodied: by what was reserved, over the nodes' service life, idle time not included "
        f"(inventory {clean(one.inventory['version'])}). The range goes from low to high factors. "
        f"Factors: {factors['version']}; all sources are in --json."
    )
    return "\n".join(textwrap.wrap(text, WIDTH)) + "\n"


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


def _when(start_s: float, end_s: float | None) -> str:
    if end_s is None:
        return f"since {_moment(start_s)}"
    start, end = _moment(start_s), _moment(end_s)
    return f"{start} to {end.removeprefix(start[:11])}"


def _bold(text: str, *, colour: bool) -> str:
    return f"\x1b[1m{text}\x1b[0m" if colour else text


def _state(text: str, state: str, *, colour: bool) -> str:
    number = "31" if state in _FAILED else "32" if state == "COMPLETED" else "33"
    return f"\x1b[{number}m{text}\x1b[0m" if colour else text
