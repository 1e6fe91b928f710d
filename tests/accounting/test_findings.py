"""What is found of a job and of an array, rule by rule: from real sums of energy, never from what is unknown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.accounting.world import T0, record

from jobimpact.core.config import Findings
from jobimpact.core.records import DomainEnergy, JobEnergy, RunEnergy, RunUse
from jobimpact.energy.summary import summarise
from jobimpact.findings.finding import Finding
from jobimpact.findings.judge import of_array, of_job
from jobimpact.findings.rules import ENDINGS, USES
from jobimpact.findings.use import gpus_used, unused_gpus_energy
from jobimpact.report.advice import RULES, advise, money
from jobimpact.report.words import clean
from jobimpact.results.outcome import FAILED
from jobimpact.results.record import JobResult
from jobimpact.results.sums import Ending, sums_of

NS = 10**9
GIB = 2**30
LIMITS = Findings()
HOUR = 3600.0
UNKNOWN = {"use": None, "embodied": None, "total": None, "reason": "not asked for"}
DOCS = (Path(__file__).parents[2] / "docs/user/findings.md").read_text(encoding="utf-8")


def job(
    *,
    nodes: tuple[str, ...] = ("node01",),
    lasts: float = HOUR,
    gpus: tuple[float | None, ...] = (),
    use: RunUse | dict[str, RunUse | None] | None = None,
    known: float = 1.0,
    flags: tuple[str, ...] = (),
    **changes: Any,
) -> JobResult:
    """A job: on each node the same use and GPUs, of which the joules are given (None: not metered)."""
    fields: dict[str, Any] = {
        "end_s": T0 + lasts,
        "elapsed_s": lasts,
        "nodes": nodes,
        "cpus": 8 * len(nodes),
        "mem_bytes": 64 * GIB * len(nodes),
        "gpus": len(gpus) * len(nodes),
    }
    of = record(**fields | changes)
    runs = tuple(_run(name, lasts, gpus, use, known, flags) for name in nodes)
    energy = summarise(of, JobEnergy(runs, {}))
    return JobResult.of(
        of,
        energy_j=energy.total_j,
        coverage=energy.coverage,
        energy=msgspec.to_builtins(energy),
        impacts=dict.fromkeys(("gwp_kgco2e", "adp_kgsbe", "pe_mj"), UNKNOWN),
        factors={},
        inventory={},
        warnings=(),
    )


def _run(
    node: str,
    lasts: float,
    gpus: tuple[float | None, ...],
    use: RunUse | dict[str, RunUse | None] | None,
    known: float,
    flags: tuple[str, ...],
) -> RunEnergy:
    known_ns = round(lasts * known * NS)
    each = tuple(
        DomainEnergy(f"gpu:GPU-{n}", "gpu", "counter", round((joules or 0) * 1e6), 0 if joules is None else known_ns)
        for n, joules in enumerate(gpus)
    )
    return RunEnergy(
        node=node,
        job="1",
        restart=0,
        start_s=float(T0),
        end_s=T0 + lasts,
        elapsed_ns=round(lasts * NS),
        state="ended",
        cpus=8,
        mem_bytes=64 * GIB,
        gpus=tuple(f"GPU-{n}" for n in range(len(gpus))),
        flags=flags,
        domains=(DomainEnergy("package-0", "cpu", "counter", 36_000_000_000, known_ns), *each),
        use=use.get(node) if isinstance(use, dict) else use,
    )


def use(
    *,
    cpu: float = 0.8,
    peak: float = 0.5,
    gpu: float | None = None,
    seen: int = 0,
    unused: int = 0,
    known: float = 1.0,
    lasts: float = HOUR,
) -> RunUse:
    """Of 8 CPUs, 64 GiB and `seen` GPUs on one node, in parts."""
    return RunUse(
        cpu_ns=round(cpu * 8 * lasts * NS),
        mem_peak_bytes=round(peak * 64 * GIB),
        gpu_busy_ns=None if gpu is None else round(gpu * seen * known * lasts * NS),
        gpu_known_ns=None if gpu is None else round(seen * known * lasts * NS),
        gpus_seen=seen or None,
        gpus_unused=unused if seen else None,
    )


def rules(one: JobResult, limits: Findings = LIMITS) -> list[str]:
    return [found.rule for found in of_job(one, limits)]


G2 = (500_000.0, 400_000.0)


@pytest.mark.parametrize(
    ("told", "quiet", "rule"),
    [
        (
            {"gpus": G2, "use": use(gpu=0.4, seen=2, unused=1)},
            {"gpus": G2, "use": use(gpu=0.4, seen=2)},
            "gpus_unused",
        ),
        ({"gpus": G2, "use": use(gpu=0.24, seen=2)}, {"gpus": G2, "use": use(gpu=0.25, seen=2)}, "gpu_low"),
        (
            {"gpus": G2, "use": use(gpu=0.24, seen=2, cpu=0.9)},
            {"gpus": G2, "use": use(gpu=0.25, seen=2, cpu=0.9)},
            "cpu_bound",
        ),
        ({"use": use(cpu=0.39)}, {"use": use(cpu=0.4)}, "cpu_low"),
        ({"use": use(peak=0.24)}, {"use": use(peak=0.25)}, "memory_low"),
        (
            {"use": use(), "time_limit_s": 5.1 * HOUR},
            {"use": use(), "time_limit_s": 5 * HOUR},
            "time_low",
        ),
    ],
)
def test_a_rule_tells_below_its_threshold_and_not_at_it(told: Any, quiet: Any, rule: str) -> None:
    """Just that rule, with its value, and its threshold from the configuration."""
    (found,) = of_job(job(**told), LIMITS)
    assert found.rule == rule
    assert rules(job(**quiet)) == []
    key = next(one.key for one in USES if one.rule == rule)
    if key is None:
        return
    assert found.value is not None
    assert found.value < getattr(LIMITS, key) == found.threshold
    assert rules(job(**told), msgspec.structs.replace(LIMITS, **{key: 0.0})) == []


def one_of(rule: str, **told: Any) -> Finding:
    (found,) = (one for one in of_job(job(**told), LIMITS) if one.rule == rule)
    return found


@pytest.mark.parametrize(
    ("rule", "told", "expected"),
    [
        # 1 of 2 GPUs for 2 h, and the one of the two that took least.
        ("gpus_unused", {"gpus": G2, "lasts": 2 * HOUR, "use": use(gpu=0.4, seen=2, unused=1, lasts=2 * HOUR)},
         {"value": 1, "of": 2, "gpu_hours": 2.0, "joules": 400_000.0, "least": True, "cpu_hours": None}),
        # 2 GPUs for 2 h at a fifth: 4 GPU-hours, of which 3.2 were idle. All of their energy, busy and not.
        ("gpu_low", {"gpus": G2, "lasts": 2 * HOUR, "use": use(gpu=0.2, seen=2, lasts=2 * HOUR)},
         {"value": 0.2, "gpu_hours": 3.2, "held_j": 900_000.0, "joules": None}),
        # 3 of 4 GPUs, each at a tenth: the energy of the fourth, the least, is its own finding.
        ("gpu_low", {"gpus": (4e5, 3e5, 2e5, 1e5), "use": use(gpu=0.075, seen=4, unused=1)},
         {"value": 0.1, "gpu_hours": 2.7, "held_j": 900_000.0}),
        ("cpu_bound", {"gpus": G2, "use": use(gpu=0.1, seen=2, cpu=0.95)},
         {"value": 0.1, "seen": 0.95, "gpu_hours": 1.8, "held_j": 900_000.0}),
        # 8 CPUs for 2 h at a quarter: 12 of 16 CPU-hours; 36 kJ are the package's.
        ("cpu_low", {"lasts": 2 * HOUR, "use": use(cpu=0.25, lasts=2 * HOUR)},
         {"value": 0.25, "of": 8, "cpu_hours": 12.0, "held_j": 36_000.0, "joules": None, "gpu_hours": None}),
        ("time_low", {"use": use(), "time_limit_s": 10 * HOUR},
         {"value": 0.1, "of": 36_000.0, "seen": 3600.0, "advised": 4800.0, "spare_s": 31_200.0}),
        ("memory_low", {"use": use(peak=0.1)},
         {"value": 0.1, "of": 64 * GIB, "seen": 6.4 * GIB, "advised": 8 * GIB, "spare_bytes": 56 * GIB}),
        ("failed", {"use": use(), "state": "FAILED", "time_limit_s": 2 * HOUR},
         {"value": 3600.0, "of": 7200.0, "joules": 36_000.0}),
    ],
)  # fmt: skip
def test_each_number_of_a_finding_by_hand(rule: str, told: Any, expected: dict[str, Any]) -> None:
    """Hours are GPUs (or CPUs) x time x what was not used; energies are of the parts that it is about."""
    found = one_of(rule, **told)
    for name, value in expected.items():
        assert getattr(found, name) == (value if value is None else pytest.approx(value, rel=1e-6)), name


@pytest.mark.parametrize(
    ("changes", "judged"),
    [
        ({"lasts": LIMITS.min_run_s, "use": use(cpu=0.1, lasts=LIMITS.min_run_s)}, True),
        ({"lasts": LIMITS.min_run_s - 1, "use": use(cpu=0.1, lasts=LIMITS.min_run_s - 1)}, False),
        ({"known": LIMITS.min_coverage, "use": use(cpu=0.1)}, True),
        ({"known": LIMITS.min_coverage - 0.01, "use": use(cpu=0.1)}, False),
        # A core may have two hardware threads: of one core a node there is nothing less to ask for.
        ({"cpus": 2, "use": RunUse(cpu_ns=10 * NS)}, False),
        ({"cpus": 3, "use": RunUse(cpu_ns=10 * NS)}, True),
        ({"cpus": 4, "nodes": ("node01", "node02"), "use": RunUse(cpu_ns=10 * NS)}, False),
        ({"cpus": 5, "nodes": ("node01", "node02"), "use": RunUse(cpu_ns=10 * NS)}, True),
        ({"gpus": G2, "use": use(cpu=0.1, gpu=0.9, seen=2)}, False),
        ({"exclusive": True, "use": use(cpu=0.1)}, False),
    ],
)
def test_where_judging_begins(changes: Any, judged: bool) -> None:
    """From the shortest run and the least coverage on, of CPUs of which fewer can be asked for, without a GPU."""
    assert ("cpu_low" in rules(job(**changes))) is judged


def test_several_failures_and_tasks_are_in_order_and_summed() -> None:
    """The dearest failure first; of tasks the middle value, and the sums of hours and energies."""
    endings = (Ending("FAILED", "1:0", 5, 100.0, 5), Ending("TIMEOUT", "0:0", 4, 1000.0, 4))
    assert [one.rule for one in of_array(endings, (), LIMITS)] == ["repeated_timeout", "repeated_failed"]
    tasks = [job(use=use(cpu=cpu), array_id="9") for cpu in (0.3, 0.1, 0.2)]
    (found,) = of_array((), tasks, LIMITS)
    assert (found.rule, found.value, found.tasks) == ("cpu_low", pytest.approx(0.2), 3)
    assert found.cpu_hours == pytest.approx(8 * (0.7 + 0.9 + 0.8))
    assert found.held_j == pytest.approx(3 * 36_000.0)
    gpus = [job(gpus=G2, use=use(gpu=0.3, seen=2, unused=1), array_id="9") for _ in range(4)]
    (unused,) = of_array((), gpus, LIMITS, 3.6)
    assert (unused.gpu_hours, unused.joules, unused.least) == (4.0, 1_600_000.0, True)
    assert unused.money == pytest.approx(1.6)


@pytest.mark.parametrize("unknown", ["cpu_ns", "mem_peak_bytes", "gpus_seen", "gpu_busy_ns", "gpu_known_ns"])
def test_what_is_not_measured_is_no_finding(unknown: str) -> None:
    """Each of a use's fields by itself, though all that is known is bad."""
    bad = use(cpu=0.01, peak=0.01, gpu=0.01, seen=2)
    of = {"cpu_ns": "cpu_low", "mem_peak_bytes": "memory_low"}.get(unknown, "gpu_low")
    gpus = G2 if of == "gpu_low" else ()
    assert of in rules(job(gpus=gpus, use=bad))
    assert of not in rules(job(gpus=gpus, use=msgspec.structs.replace(bad, **{unknown: None})))


def test_without_any_use_nothing_is_said_of_it() -> None:
    """As in results of earlier releases, whose nodes have no such key at all."""
    one = job(gpus=G2)
    assert rules(one) == []
    nodes = {name: {k: v for k, v in node.items() if k != "use"} for name, node in one.energy["nodes"].items()}
    assert rules(msgspec.structs.replace(one, energy=one.energy | {"nodes": nodes})) == []


def test_one_silent_node_silences_cpus_and_memory() -> None:
    """Half of the CPU time is not the CPU time; GPUs that were seen idle on the other node stay a fact."""
    told: dict[str, RunUse | None] = {"node01": use(cpu=0.1, peak=0.1, gpu=0.1, seen=2, unused=1), "node02": None}
    assert rules(job(nodes=("node01", "node02"), gpus=G2, use=told)) == ["gpus_unused"]
    told = {"node01": use(cpu=0.1, peak=0.1), "node02": None}
    assert rules(job(nodes=("node01", "node02"), use=told)) == []


def test_gpus_known_for_too_short_are_not_judged() -> None:
    """By the same part as coverage."""
    assert rules(job(gpus=G2, use=use(gpu=0.1, seen=2, known=0.89))) == []
    assert rules(job(gpus=G2, use=use(gpu=0.1, seen=2, known=0.91))) == ["gpu_low"]
    assert rules(job(gpus=G2, use=use(gpu=0.4, seen=2, unused=1, known=0.89))) == []
    assert rules(job(gpus=(*G2, 1.0), use=use(gpu=0.4, seen=2, unused=1))) == [
        "gpus_unused"
    ]  # the third does not tell


@pytest.mark.parametrize(
    "changes",
    [
        {"lasts": 299.0},
        {"end_s": None, "state": "RUNNING"},
        {"exclusive": True},
        {"nodes": ()},
    ],
)
def test_who_is_not_judged(changes: dict[str, Any]) -> None:
    """Too short, not over, given whole nodes, nowhere."""
    told = {"use": use(cpu=0.01, peak=0.01)}
    assert rules(job(**told)) == ["cpu_low", "memory_low"]
    assert rules(job(**told | changes)) == []


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"known": 0.5}, "coverage_low"),
        ({"flags": ("gpu:GPU-0 stuck",)}, "meter_stuck"),
        ({"flags": ("node:redfish stuck",)}, "gpus_unused"),
    ],
)
def test_where_a_meter_cannot_be_trusted_no_verdict_is_given(changes: dict[str, Any], rule: str) -> None:
    """One finding says so, in place of all on its use; the meter of the whole node says nothing of parts."""
    one = job(gpus=G2, use=use(gpu=0.4, seen=2, unused=2, peak=0.5), state="COMPLETED", **changes)
    (found,) = of_job(one, LIMITS, 0.3)
    assert (found.rule, found.kind) == (rule, "use" if rule == "gpus_unused" else "doubt")
    assert (found.money is None) == (found.kind == "doubt")


@pytest.mark.parametrize("state", sorted(FAILED))
def test_each_failed_state_has_a_rule_with_its_energy(state: str) -> None:
    """However short it was; not for one that never ran."""
    one = job(state=state, exit_code="1:0", lasts=3.0)
    (found,) = of_job(one, LIMITS, 0.25)
    assert (found.rule, found.kind, found.joules) == (ENDINGS[state].rule, "ending", one.energy_j)
    assert found.money == pytest.approx(36_000 / 3.6e6 * 0.25)
    told = {
        price: advise(found, "EUR", lead_said=True).cost
        for price in (0.25, 1.5)
        for found in of_job(one, LIMITS, price)
    }
    assert told == {0.25: "", 1.5: "0.01 EUR"}
    never = msgspec.structs.replace(one, start_s=None, energy_j=0.0)
    assert of_job(never, LIMITS) == ()
    said = advise(found, "EUR")
    assert ("Not your fault" in said.do) == (not ENDINGS[state].own)


def test_energy_that_is_not_known_stays_unknown() -> None:
    """A failed run that nobody metered cost something: not nothing."""
    one = msgspec.structs.replace(job(state="FAILED"), energy_j=None)
    (found,) = of_job(one, LIMITS, 0.25)
    assert (found.joules, found.kwh, found.money) == (None, None, None)
    assert advise(found, "EUR").cost == ""


def test_an_unused_gpu_does_not_lower_the_use_of_the_others() -> None:
    """Half of 4 GPUs at 40 %, the others at 0: those that were used were so for 40 %."""
    gpus = gpus_used(job(gpus=(1.0,) * 4, use=use(gpu=0.2, seen=4, unused=2)))
    assert gpus is not None
    assert gpus.use == pytest.approx(0.4)
    assert rules(job(gpus=(1.0,) * 4, use=use(gpu=0.2, seen=4, unused=2))) == ["gpus_unused"]


@given(st.lists(st.tuples(st.floats(0, 1e7), st.booleans(), st.booleans()), min_size=1, max_size=8))
def test_the_energy_of_unused_gpus_is_a_lower_bound(gpus: list[tuple[float, bool, bool]]) -> None:
    """Whichever were unused and whichever had no meter: never more than they took."""
    unused = sum(idle for _, idle, _ in gpus)
    metered = tuple(joules if known else None for joules, _, known in gpus)
    one = job(gpus=metered, use=use(gpu=0.5, seen=len(gpus), unused=unused))
    found = unused_gpus_energy(one)
    truth = sum(joules for joules, idle, _ in gpus if idle)
    assert found is None or found <= truth + 1e-5 * len(gpus)
    if unused and all(known for *_, known in gpus):
        assert found is not None
        assert found == pytest.approx(sum(sorted(joules for joules, *_ in gpus)[:unused]), abs=1e-4)


def test_all_gpus_unused_is_their_whole_energy() -> None:
    """Then it is not a bound."""
    (found,) = of_job(job(gpus=G2, use=use(gpu=0.0, seen=2, unused=2)), LIMITS, 0.2)
    assert (found.joules, found.least, found.gpu_hours) == (900_000.0, False, 2.0)
    assert found.money == pytest.approx(0.05)
    assert advise(found, "EUR").title == "None of the 2 GPUs was ever used"


@pytest.mark.parametrize(
    ("peak", "held_gib", "advised_gib"), [(1.0, 64, 2), (6.2, 64, 8), (15.0, 128, 20), (0.1, 8, 1), (0.5, 4, None)]
)
def test_what_memory_is_advised(peak: float, held_gib: float, advised_gib: float | None) -> None:
    """A fifth above the peak, rounded up; nothing for less than 4 GiB a node."""
    one = job(use=use(peak=peak / 64), mem_bytes=int(held_gib * GIB))
    found = [one for one in of_job(one, LIMITS) if one.rule == "memory_low"]
    assert [one.advised for one in found] == ([] if advised_gib is None else [advised_gib * GIB])


def test_memory_advised_is_enough_on_each_node_and_what_is_over_is_what_each_has() -> None:
    """One held 128 GiB and had 20 of them, the other 12 and 2.2: asking for 3 would end the first."""
    uneven = {"node01": use(peak=20 / 64), "node02": use(peak=2.2 / 64)}
    one = job(use=uneven, nodes=("node01", "node02"), mem_bytes=140 * GIB)
    for node, gib in (("node01", 128), ("node02", 12)):
        one.energy["nodes"][node]["mem_bytes"] = gib * GIB
    (found,) = (one for one in of_job(one, LIMITS) if one.rule == "memory_low")
    assert (found.value, found.seen, found.of) == (pytest.approx(2.2 / 12), pytest.approx(2.2 * GIB), 12 * GIB)
    assert (found.advised, found.spare_bytes) == (24 * GIB, 104 * GIB)


def test_gpus_of_a_node_that_did_not_tell_are_not_taken_for_unused_ones() -> None:
    """Of 8 GPUs, 4 on each node, only those of one node are known: two of them unused, or all."""
    quiet = {"node01": use(gpu=0.4, seen=4, unused=2), "node02": None}
    (found,) = of_job(job(gpus=(1e6,) * 4, use=quiet, nodes=("node01", "node02")), LIMITS)
    said = advise(found, "EUR")
    assert (said.title, said.measured) == (
        "2 of 8 GPUs were never used",
        "never seen busy, of 4 GPUs whose use is known",
    )
    assert said.do.startswith("Ask for 6 GPUs")
    assert said.cost.startswith("at least 2.00 MJ")
    whole = quiet | {"node01": use(gpu=0.0, seen=4, unused=4)}
    (found,) = of_job(job(gpus=(1e6,) * 4, use=whole, nodes=("node01", "node02")), LIMITS)
    assert advise(found, "EUR").title == "4 of 8 GPUs were never used"
    assert advise(found, "EUR").do.startswith("Ask for 4 GPUs")


def test_energy_of_unused_gpus_is_a_bound_where_one_of_them_has_no_meter() -> None:
    """Then it is that of the others."""
    limits = msgspec.structs.replace(LIMITS, min_coverage=0.5)
    (found,) = of_job(job(gpus=(5e5, None), use=use(gpu=0.0, seen=2, unused=2)), limits)
    assert (found.rule, found.joules, found.least) == ("gpus_unused", 5e5, True)


def test_memory_that_the_node_guessed_is_not_held_against_a_job() -> None:
    """Its CPUs' part of the node is not what it asked for: the record is."""
    told = {"use": use(peak=0.2), "flags": ("memory share from cpus",), "nodes": ("node01", "node02")}
    assert "memory_low" in rules(job(**told, mem_bytes=128 * GIB))
    assert "memory_low" not in rules(job(**told, mem_bytes=32 * GIB))


@pytest.mark.parametrize(
    ("ran_h", "limit_h", "advised_h"),
    [(1, 48, 4 / 3), (0.1, 1, None), (0.1, 1.5, 1 / 6), (6, 48, 8), (0.0834, 1.1, None)],
)
def test_what_time_is_advised(ran_h: float, limit_h: float, advised_h: float | None) -> None:
    """A fifth more than it ran, rounded up; nothing for less than an hour."""
    lasts = ran_h * HOUR
    one = job(use=use(lasts=lasts), lasts=lasts, time_limit_s=limit_h * HOUR)
    found = [one for one in of_job(one, LIMITS) if one.rule == "time_low"]
    assert [one.advised for one in found] == ([] if advised_h is None else [pytest.approx(advised_h * HOUR)])


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "NODE_FAIL"])
def test_time_and_memory_are_judged_by_completed_runs_alone(state: str) -> None:
    """A crash says nothing of how long the run would have taken, and with how much."""
    assert "memory_low" not in rules(job(use=use(peak=0.1), state=state))
    assert "time_low" in rules(job(use=use(), time_limit_s=48 * HOUR))
    assert "time_low" not in rules(job(use=use(), time_limit_s=48 * HOUR, state=state))


def _failures(count: int, state: str = "FAILED", joules: float | None = 3000.0) -> tuple[Ending, ...]:
    return (Ending("COMPLETED", "0:0", 10, 1e6), Ending(state, "2:0", count, joules))


@pytest.mark.parametrize(
    ("endings", "expected"),
    [
        (_failures(3), ["repeated_failed"]),
        (_failures(2), []),
        (_failures(3, "OUT_OF_MEMORY"), ["repeated_out_of_memory"]),
        (_failures(30, "CANCELLED"), []),
        (_failures(30, "NODE_FAIL"), []),
        ((Ending("FAILED", "1:0", 2, 1.0), Ending("FAILED", "2:0", 2, 1.0)), []),
    ],
)
def test_the_same_failure_again_and_again(endings: tuple[Ending, ...], expected: list[str]) -> None:
    """Of one state and exit code, and by its owner's doing."""
    assert [found.rule for found in of_array(endings, (), LIMITS)] == expected


def test_what_comes_after_the_first_failure_is_what_it_cost() -> None:
    """Two thirds of three; unknown stays unknown."""
    (found,) = of_array(_failures(3), (), LIMITS, 3.6)
    assert (found.joules, found.money, found.tasks, found.of_tasks) == (2000.0, pytest.approx(0.002), 3, 13)
    (found,) = of_array((Ending("FAILED", "2:0", 30, 3000.0, 3),), (), LIMITS, 3.6)
    assert (found.joules, found.least, found.tasks) == (2000.0, True, 30)
    assert advise(found, "EUR").cost.startswith("at least 2.00 kJ")
    (found,) = of_array((Ending("FAILED", "2:0", 30, 3000.0, 1),), (), LIMITS, 3.6)
    assert (found.joules, found.least) == (None, False)
    (found,) = of_array(_failures(3, joules=None), (), LIMITS, 3.6)
    assert (found.joules, found.money) == (None, None)


def test_what_tasks_have_in_common_is_told_once() -> None:
    """With the sum of what is known, and memory that is enough for each of them."""
    tasks = [job(use=use(peak=peak), array_id="9") for peak in (0.1, 0.15, 0.2)] + [job(use=use(), array_id="9")] * 20
    sums = sums_of(tasks)
    assert sums is not None
    (found,) = of_array(sums.endings, tasks, LIMITS)
    assert (found.rule, found.tasks, found.of_tasks, found.advised) == ("memory_low", 3, 23, 16 * GIB)
    assert of_array(sums.endings, tasks + [job(use=use(), array_id="9")] * 8, LIMITS) == ()


def test_parts_of_a_heterogeneous_job_are_no_tasks() -> None:
    """That all of them fail is one failure; what they did not use is told of parts."""
    parts = [job(use=use(cpu=0.1), state="FAILED", job_id=f"10+{n}") for n in range(4)]
    sums = sums_of(parts)
    assert sums is not None
    (found,) = of_array(sums.endings, parts, LIMITS)
    assert advise(found, "EUR").title == "The CPUs were little used: in 4 of 4 parts"


def test_every_rule_has_words_a_key_and_a_place_in_the_docs() -> None:
    """And none has words that it is not."""
    repeated = {f"repeated_{rule}" for rule in ("failed", "timeout", "out_of_memory", "deadline")}
    mine = {one.rule for one in USES} | {one.rule for one in ENDINGS.values()} | {"coverage_low", "meter_stuck"}
    assert set(RULES) == mine | repeated
    assert set(ENDINGS) == FAILED
    keys = {field.name for field in msgspec.structs.fields(Findings)}
    assert {one.key for one in USES} - {None} <= keys
    told = set(re.findall(r"`(\w+)`", DOCS))
    assert set(RULES) - told == set()
    assert {f"{key}" for key in keys} - told == set()


FINDING = st.builds(
    Finding,
    rule=st.sampled_from(sorted(RULES)),
    kind=st.just("use"),
    value=st.none() | st.floats(0, 1e6),
    unit=st.just("part"),
    threshold=st.none() | st.floats(0, 1),
    of=st.none() | st.floats(0, 1e12),
    joules=st.none() | st.floats(0, 1e15),
    money=st.none() | st.floats(0, 1e9),
    said=st.none() | st.text(),
    seen=st.none() | st.floats(0, 1e12),
    advised=st.none() | st.floats(0, 1e12),
    tasks=st.none() | st.integers(1, 10**6),
    of_tasks=st.none() | st.integers(1, 10**6),
)


@given(FINDING)
def test_words_bear_whatever_is_not_known_and_whatever_is_said(found: Finding) -> None:
    """No exit code and no meter's name of anybody's making breaks a line or moves a cursor."""
    said = advise(found, "EUR")
    assert said.title
    assert said.do
    assert all(text == clean(text) for text in (said.title, said.measured, said.cost, said.do))


@pytest.mark.parametrize(
    ("code", "word"), [("0:9", "signal 9"), ("137:0", "signal 9"), ("139", "signal 11"), ("1:0", "end of its output")]
)
def test_an_exit_code_tells_what_happened(code: str, word: str) -> None:
    """Slurm's `0:9` and a shell's 137 are the same signal."""
    (found,) = of_job(job(state="FAILED", exit_code=code), LIMITS)
    assert word in advise(found, "EUR").do


@pytest.mark.parametrize(
    ("amount", "shown"), [(0.289, "0.29 EUR"), (1234.5, "1,234.50 EUR"), (0.00123, "0.0012 EUR"), (0.0, "0.00 EUR")]
)
def test_money_fits_its_size(amount: float, shown: str) -> None:
    """Cents, and below a cent what tells."""
    assert money(amount, "EUR") == shown
