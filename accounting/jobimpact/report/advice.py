"""Findings in words: what was measured and against what, what it cost, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from jobimpact.findings.finding import Finding
from jobimpact.report.notes import in_words
from jobimpact.report.numbers import duration, energy, kwh, memory, percent, rounded
from jobimpact.report.view import Advice
from jobimpact.report.words import clean, count

__all__ = ["RULES", "advice_of", "advise", "money"]


LEAST_MONEY = 0.01


class _Words(msgspec.Struct, frozen=True):
    """A rule's words; `measured` and `do` may take a finding's numbers."""

    title: str | Callable[[Finding], str]
    measured: Callable[[Finding], str]
    do: str | Callable[[Finding], str]


def advice_of(found: Iterable[Finding], currency: str, *, lead_said: bool = False) -> tuple[Advice, ...]:
    """Findings in words, in the order given.

    Args:
        found: of a job or an array.
        currency: of their money.
        lead_said: the report's first line tells the energy of a run that failed.
    """
    return tuple(advise(one, currency, lead_said=lead_said) for one in found)


def advise(found: Finding, currency: str, *, lead_said: bool = False) -> Advice:
    """One finding in words."""
    words = RULES[found.rule]
    title = words.title if isinstance(words.title, str) else words.title(found)
    if found.tasks is not None and found.kind != "ending":
        title = f"{title}: in {found.tasks:,} of {found.of_tasks or 0:,} {found.each}s"
    of_one = "in the middle of these: " if found.tasks is not None and found.kind == "use" else ""
    return Advice(
        title,
        f"{of_one}{words.measured(found)}",
        _price(found, currency) if lead_said and found.kind == "ending" else _cost(found, currency),
        words.do if isinstance(words.do, str) else words.do(found),
        "plain" if found.kind == "doubt" or found.rule in _NOBODYS else "bad",
    )


def money(amount: float, currency: str) -> str:
    """0.2893 and `EUR` as `0.29 EUR`; below a cent two digits that tell."""
    return f"{amount:,.2f} {currency}" if amount >= 0.01 or amount == 0 else f"{rounded(amount, 2)} {currency}"


def _price(found: Finding, currency: str) -> str:
    """Of a run whose energy has been told: what comes to a cent or more."""
    return money(found.money, currency) if found.money is not None and found.money >= LEAST_MONEY else ""


def _cost(found: Finding, currency: str) -> str:
    said: list[str] = []
    if found.joules is not None and found.kwh is not None:
        least = "at least " if found.least else "about " if found.rule.startswith("repeated_") else ""
        said.append(f"{least}{energy(found.joules)} ({kwh(found.kwh)})")
        said += [] if found.money is None else [money(found.money, currency)]
    if found.gpu_hours:
        said.append(f"{rounded(found.gpu_hours)} GPU-hours without use")
    if found.cpu_hours:
        said.append(f"{rounded(found.cpu_hours)} CPU-hours without use")
    if found.held_j is not None:
        which = "CPUs" if found.rule == "cpu_low" else "GPUs"
        said.append(f"the {which} took {energy(found.held_j)} ({kwh(found.held_j / 3.6e6)}), busy and not")
    if found.spare_bytes:
        said.append(f"{memory(int(found.spare_bytes))} that others could have had")
    if found.spare_s:
        said.append(f"{duration(found.spare_s)} that the queue had to plan for")
    return ", ".join(said)


# -- how a run ended -------------------------------------------------------------------------------------------------


def _after(found: Finding) -> str:
    return f"after {duration(found.value)}" if found.value is not None else ""


def _exit(found: Finding) -> str:
    code = f"exit code {clean(found.said)}" if found.said else ""
    return " ".join(filter(None, (code, _after(found))))


def _signal(found: Finding) -> int | None:
    """The signal that ended it: `0:9` as Slurm tells, or a shell's 137."""
    code, _, signal = (found.said or "").partition(":")
    number = int(signal) if signal.isdecimal() and signal.isascii() and len(signal) < 4 else 0
    status = int(code) if code.isdecimal() and code.isascii() and len(code) < 4 else 0
    return number or (status - 128 if 128 < status < 160 else None)


def _of_limit(found: Finding) -> str:
    return f"{_after(found)} of {duration(found.of)}" if found.value is not None and found.of else _after(found)


_LOOK = "Look at the end of its output."


def _do_failed(found: Finding) -> str:
    signal = _signal(found)
    if signal == 9:
        return f"It was killed (signal 9), most often for want of memory. {_LOOK}"
    if signal in {4, 6, 7, 8, 11}:
        return f"The program crashed (signal {signal}). {_LOOK} A run of some minutes on little data finds this early."
    return f"{_LOOK} A run of some minutes on little data finds most failures early."


def _repeated(what: str) -> Callable[[Finding], str]:
    def title(found: Finding) -> str:
        return f"{found.tasks or 0:,} of {found.of_tasks or 0:,} tasks {what}"

    return title


def _repeated_measured(found: Finding) -> str:
    code = f"exit code {clean(found.said)}" if found.said else ""
    least = f"told from {found.threshold:g} tasks on" if found.threshold is not None else ""
    return "; ".join(filter(None, (code, least)))


_NOT_YOURS = "Not your fault: it can be submitted again as it is. Checkpoints save the work of long runs."
_NOBODYS = frozenset({"node_fail", "boot_fail", "preempted", "requeued"})
_FIRST = "Run one task first and look at it; the others after that (--dependency, or a smaller array)."

# -- how it used what it held ----------------------------------------------------------------------------------------


def _below(found: Finding) -> str:
    return f"told below {percent(found.threshold)}" if found.threshold is not None else ""


def _title_unused(found: Finding) -> str:
    number, of = round(found.value or 0), round(found.of or 0)
    if of == 1:
        return "The GPU was never used"
    return f"None of the {of} GPUs was ever used" if number == of else f"{number} of {of} GPUs were never used"


def _measured_unused(found: Finding) -> str:
    return f"never seen busy, of {count(round(found.seen or 0), 'GPU')} whose use is known"


def _do_unused(found: Finding) -> str:
    if found.value == found.of:
        return "Check that the program finds its GPU (CUDA in the build, the right module); else ask for none."
    return (
        f"Ask for {count(round((found.of or 0) - (found.value or 0)), 'GPU')}, or check that the program spreads its"
        " work over all of them."
    )


def _used(what: str) -> Callable[[Finding], str]:
    def measured(found: Finding) -> str:
        return f"{what} in use {percent(found.value or 0.0)} of the time; {_below(found)}"

    return measured


def _measured_bound(found: Finding) -> str:
    cpus = f"; CPUs in use {percent(min(found.seen, 1.0))}" if found.seen is not None else ""
    return f"GPUs in use {percent(found.value or 0.0)} of the time{cpus}; {_below(found)}"


def _measured_memory(found: Finding) -> str:
    peak, held = memory(int(found.seen or 0)), memory(int(found.of or 0))
    return f"at most {peak} of {held} on a node seen in use ({percent(found.value or 0.0)}); {_below(found)}"


def _do_memory(found: Finding) -> str:
    return (
        f"Ask for {memory(int(found.advised or 0))} on each node: a fifth above what was seen. Jobs that ask for less"
        " start sooner."
    )


def _measured_time(found: Finding) -> str:
    ran, limit = duration(found.seen or 0.0), duration(found.of or 0.0)
    return f"ran {ran} of {limit} ({percent(found.value or 0.0)}); {_below(found)}"


def _do_time(found: Finding) -> str:
    return (
        f"Ask for {duration(found.advised or 0.0)}, if the next run is like this one: shorter limits fit into gaps and"
        " start sooner."
    )


def _measured_coverage(found: Finding) -> str:
    least = f"; judged from {percent(found.threshold)} on" if found.threshold is not None else ""
    return f"{percent(found.value or 0.0)} of what it held was measured{least}"


def _measured_stuck(found: Finding) -> str:
    node, _, meter = (found.said or "").partition(": ")
    words = in_words([f"{node}: {meter} stuck"], [node])
    return clean(words[0].partition(": energy meanwhile")[0]) if words else ""


_NO_VERDICT = "Nothing to do for you: no verdict on its use is given."

RULES: dict[str, _Words] = {
    "failed": _Words("The run failed", _exit, _do_failed),
    "timeout": _Words(
        "The run hit its time limit",
        _of_limit,
        "Ask for more time, or write checkpoints and go on from the last one.",
    ),
    "out_of_memory": _Words(
        "The run was out of memory",
        _after,
        "Ask for more memory, or need less: smaller batches, fewer loader processes.",
    ),
    "cancelled": _Words(
        "The run was cancelled",
        _after,
        "If it had gone wrong: a look at its first minutes would have shown it earlier.",
    ),
    "deadline": _Words("The run missed its deadline", _after, "Submit it earlier, or with a later deadline."),
    "node_fail": _Words("Its node failed", _after, _NOT_YOURS),
    "boot_fail": _Words("Its node did not start", _after, _NOT_YOURS),
    "preempted": _Words("It had to make room for another job", _after, _NOT_YOURS),
    "requeued": _Words("It was stopped and put into the queue again", _after, _NOT_YOURS),
    "repeated_failed": _Words(_repeated("failed alike"), _repeated_measured, _FIRST),
    "repeated_timeout": _Words(
        _repeated("hit their time limit"),
        _repeated_measured,
        f"Ask for more time, or write checkpoints. {_FIRST}",
    ),
    "repeated_out_of_memory": _Words(
        _repeated("were out of memory"), _repeated_measured, f"Ask for more memory. {_FIRST}"
    ),
    "repeated_deadline": _Words(
        _repeated("missed their deadline"), _repeated_measured, "Submit earlier, or with a later deadline."
    ),
    "gpus_unused": _Words(_title_unused, _measured_unused, _do_unused),
    "cpu_bound": _Words(
        "The GPUs waited for the CPUs",
        _measured_bound,
        "Ask for more CPUs and start more loader workers; fewer GPUs would not help.",
    ),
    "gpu_low": _Words(
        "The GPUs were little used",
        _used("GPUs"),
        "Larger batches, faster data (local disk, more loader workers), or fewer or smaller GPUs.",
    ),
    "cpu_low": _Words(
        "The CPUs were little used",
        _used("CPUs"),
        "Ask for fewer CPUs, or check that the program starts as many threads or tasks as it has.",
    ),
    "memory_low": _Words("Far more memory was asked for than used", _measured_memory, _do_memory),
    "time_low": _Words("Far more time was asked for than used", _measured_time, _do_time),
    "coverage_low": _Words("Measured too little to judge", _measured_coverage, _NO_VERDICT),
    "meter_stuck": _Words("A meter stood still: not judged", _measured_stuck, _NO_VERDICT),
}
"""By the name of a rule of findings/rules.py."""
