"""The reader of rows: whatever they hold, a record that makes sense or an error with a name."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobimpact.core.errors import RecordError
from jobimpact.schedulers.oar_record import Event, Interval, Resource, Rows, host_of, read_resource, record_of

T0 = 1795190300
WORDS = {
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL"),
    *("RUNNING", "SUSPENDED", "CONFIGURING", "COMPLETING", "PENDING"),
}
STATES = [
    "Waiting",
    "Hold",
    "toLaunch",
    "Launching",
    "Running",
    "Suspended",
    "Resuming",
    "Finishing",
    "Terminated",
    "Error",
]
EVENTS = ["WALLTIME", "FRAG_JOB_REQUEST", "BESTEFFORT_KILL", "EXTERMINATE_JOB", "PROLOGUE_ERROR", "OUTPUT_FILES", "X"]

text = st.text(st.characters(codec="utf-8"), max_size=12)
times = st.one_of(st.integers(T0, T0 + 20), st.sampled_from([0, -1, -(2**31), 2**31 - 1, 2**62]))
written = st.one_of(times.map(str), text, st.none())
resources = st.builds(
    read_resource,
    st.one_of(st.sampled_from(["n1", "n2", ""]), text),
    st.one_of(st.none(), text),
    text,
    has_gpus=st.booleans(),
)
columns = st.fixed_dictionaries(
    {"job_id": st.one_of(st.just("7"), written), "submission_time": st.one_of(st.just(str(T0)), written)},
    optional={
        "state": st.sampled_from([*STATES, "", None, "new"]),
        "start_time": written,
        "stop_time": written,
        "exit_code": st.one_of(st.integers(-(2**31), 2**31).map(str), written),
        "array_id": written,
        **dict.fromkeys(("job_name", "job_user", "project", "queue_name"), st.one_of(st.none(), text)),
    },
)
rows = st.builds(
    Rows,
    columns,
    st.lists(st.builds(Interval, st.sampled_from([*STATES, "?"]), times, times), max_size=6),
    st.lists(st.one_of(text, st.sampled_from(["noop", "deploy=x", "inner=3"])), max_size=3),
    st.lists(st.builds(Event, st.one_of(text, st.sampled_from(EVENTS)), st.just(1), times, times, text), max_size=4),
    st.dictionaries(st.integers(1, 2**40), resources, max_size=4),
    st.booleans(),
)


@given(rows)
@example(Rows({"job_id": "9" * 18, "submission_time": "1", "state": "Error"}))
def test_a_record_that_makes_sense_or_an_error(found: Rows) -> None:
    """No other exception; and what is told can be stored and summed."""
    try:
        record = record_of(found, "lab")
    except RecordError:
        return
    assert record.state in WORDS
    assert int(record.job_id) > 0
    assert record.key == f"{record.job_id}@{record.submit_s}"
    if record.start_s is None:
        assert (record.nodes, record.cpus, record.gpus, record.elapsed_s) == ((), None, None, None)
    elif record.end_s is not None:
        assert 0 < record.start_s <= record.end_s
        assert record.elapsed_s is not None
        assert 0 <= record.elapsed_s <= record.end_s - record.start_s
    assert msgspec.json.decode(msgspec.json.encode(record), type=type(record)) == record


moments = st.lists(st.integers(T0, T0 + 10**6), min_size=3, max_size=12, unique=True).map(sorted)


@given(moments, st.data())
def test_only_running_counts_as_elapsed(at: list[int], data: st.DataObject) -> None:
    """A log without holes: elapsed is the sum of Running, and the run is from the first of it to the last."""
    states = data.draw(
        st.lists(st.sampled_from(["Running", "Suspended", "Resuming"]), min_size=len(at) - 2, max_size=len(at) - 2)
    )
    states = ["Running", *states]
    log = [Interval(state, begin, end) for state, (begin, end) in zip(states, itertools.pairwise(at), strict=True)]
    job = {"job_id": "1", "submission_time": str(T0), "state": "Terminated", "exit_code": "0"}
    record = record_of(Rows(job, [*log, Interval("Terminated", at[-1], 0)]), "lab")
    assert (record.start_s, record.end_s) == (at[0], at[-1])
    assert record.elapsed_s == sum(one.stop_s - one.start_s for one in log if one.state == "Running")


@given(
    st.lists(st.integers(0, 500), min_size=1, max_size=64, unique=True), st.sampled_from([",", "+", " ", ", ", " + "])
)
def test_a_list_of_cpus_in_any_writing(cpus: list[int], separator: str) -> None:
    """Every separator of OAR's, in any order."""
    assert read_resource("n1", separator.join(map(str, cpus)), None, has_gpus=True).cpus == len(cpus)


@pytest.mark.parametrize("cpuset", [None, "", " ", ",", "a", "1,b", "-1", "3-1", "1-2-3", "9999999", "0x3", "\u0661"])
def test_a_cpuset_that_is_none(cpuset: str | None) -> None:
    """It is not known how many CPUs there are: not none."""
    assert read_resource("n1", cpuset, None, has_gpus=False) == Resource("n1", cpuset, None, None)


@pytest.mark.parametrize("address", ["n1", "n1.", "", ".", "fe80::1", "1.2.3.4", "1.2.3"])
def test_a_name_is_never_lost(address: str) -> None:
    """Whatever an address is, what it is cut to tells as much as it can."""
    assert bool(host_of(address, full_names=False)) == bool(address)
