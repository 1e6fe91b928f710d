"""Slurm's records by PySlurm 25.11, which talks to slurmdbd without a command.

PySlurm runs in a child process, `pyslurm_child.py`: importing it without a slurm.conf ends the interpreter, and its
licence is the GPL. It may belong to another Python than ours. Of `pyslurm.db.Job` these attributes are asked for:

| PySlurm | sacct | note |
| --- | --- | --- |
| `id` | JobIDRaw | |
| `array_id`, `array_task_id`, `array_tasks_waiting` | JobID `6_3`, `6_[4-9]` | task 0 is None; `%2` is cut off |
| `heterogeneous_id`, `heterogeneous_offset` | JobID `10+1` | 0 is None; 4294967294: not heterogeneous |
| `cluster` | Cluster | |
| `user_name`, `user_id` | User, UID | the name is this machine's for the UID, not the association's |
| `account`, `partition`, `name`, `qos` | Account, Partition, JobName, QOS | none, and the text `None`, are None |
| `state`, `cancelled_by` | State | sacct has both in one: `CANCELLED by 2001` |
| `exit_code`, `exit_code_signal` | ExitCode | `0:15` |
| `submit_time`, `eligible_time`, `start_time`, `end_time` | Submit, ... | epoch seconds; not set: None |
| `elapsed_time`, `suspended_time` | ElapsedRaw, Suspended | seconds; 0 is None |
| `time_limit` | TimelimitRaw | minutes; none: None |
| `nodelist`, `num_nodes` | NodeList, NNodes | `None assigned` without nodes |
| `cpus` | NCPUS | 0 where it is not known |
| `memory` | ReqMem | what was asked for, MiB: not what the job had |
| `allocated_tres` | AllocTRES | `cpu`, `mem` (MiB), `node`, `gres` by name; None: nothing |
| `requested_tres` | ReqTRES | the same |
| `comment` | Comment | only its labels are kept |
| `requeue_count` | Restarts | not 0: there are earlier runs |
| `db_index` | DBIndex | |

Without states to filter by, a window selects what was eligible before its end and had not ended before its start:
which of that is a run that ended within it is decided here. Of several runs under one id an answer has the latest
alone; the child asks for the ones before it one by one. A job that was cancelled before it was ever eligible is
not in any window. A cluster that slurmdbd does not know looks like one without jobs.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Annotated, Any

import msgspec
from msgspec import Meta, Struct

from jobimpact.core.errors import RecordError, SchedulerError
from jobimpact.core.labels import parse_comment
from jobimpact.core.records import JobRecord
from jobimpact.schedulers.base import LATEST_S, MOST, Finished, array_of, expand_nodes, held_at
from jobimpact.schedulers.pyslurm_child import ATTRIBUTES, NO_PYSLURM, OTHER_PYSLURM
from jobimpact.schedulers.slurm import EARLIEST_S, NEVER_RAN, gpus_of, since_submission, time_limit_s

__all__ = ["CHILD", "PySlurm", "parse_answer"]

CHILD = Path(__file__).with_name("pyslurm_child.py")

_NO_OFFSET = 4294967294
_NO_NODES = frozenset({None, "", "None assigned"})
_NOT_OVER = frozenset({"RUNNING", "SUSPENDED"}) | NEVER_RAN
_WORDS = 500
_LINES = 5
_GONE = {
    "allocated_tres": "CPUs, memory and GPUs are not known",
    "requeue_count": "earlier runs of requeued jobs are not told: use via: sacct",
}

Seconds = Annotated[int, Meta(ge=EARLIEST_S, lt=LATEST_S)]
Count = Annotated[int, Meta(ge=0, le=MOST)]


class _Job(Struct, frozen=True):
    """What a record is made of; the other attributes only go into `raw`, whatever they are."""

    id: Annotated[int, Meta(ge=1, le=MOST)]
    state: Annotated[str, Meta(min_length=1)]
    submit_time: Seconds | None = None
    cluster: str | None = None
    array_id: Count | None = None
    array_task_id: Count | None = None
    array_tasks_waiting: str | None = None
    heterogeneous_id: Count | None = None
    heterogeneous_offset: Count | None = None
    name: str | None = None
    user_name: str | None = None
    user_id: Count | None = None
    account: str | None = None
    partition: str | None = None
    exit_code: int | None = None
    exit_code_signal: int | None = None
    start_time: Seconds | None = None
    end_time: Seconds | None = None
    elapsed_time: Count | None = None
    nodelist: str | None = None
    allocated_tres: dict[str, Count] | None = None
    broken: str | None = None


class _Untold(Struct, frozen=True):
    id: int
    runs: int | str


class _Line(Struct, frozen=True, forbid_unknown_fields=True):
    """A line of the child's: one of job, untold, end, or the first one."""

    job: dict[str, Any] | None = None
    untold: _Untold | None = None
    end: int | None = None
    pyslurm: str | None = None
    lacks: tuple[str, ...] = ()


class PySlurm:
    """One cluster's records by PySlurm, in a process of its own for each question.

    Args:
        cluster: the records' cluster, whatever Slurm calls it.
        timeout_s: seconds to wait for each answer.
        ask: Slurm's name of the cluster, where slurmdbd has several; None: the one of slurm.conf.
        python: an interpreter that has PySlurm; None: this one.
    """

    def __init__(
        self, cluster: str, timeout_s: float = 600.0, ask: str | None = None, python: str | None = None
    ) -> None:
        self._cluster = cluster
        self._timeout_s = timeout_s
        self._ask_for = ask
        self._python = python or sys.executable

    def finished(self, from_s: int, to_s: int) -> Finished:
        """Runs whose end lies in [from_s, to_s].

        Raises:
            SchedulerError: no PySlurm, it failed or died (with what it said), or it did not answer in time.
        """
        return self._ask(from_s, to_s, lambda job: _ended_in(job, from_s, to_s))

    def running(self, at_s: int) -> Finished:
        """Jobs that held nodes at a time.

        Raises:
            SchedulerError: as for `finished`.
        """
        return held_at(self._ask(at_s, at_s, lambda job: job.state not in NEVER_RAN), at_s)

    def _ask(self, from_s: int, to_s: int, wanted: Callable[[_Job], bool]) -> Finished:
        # The end of Slurm's window is not in it.
        start_s, end_s = max(from_s, EARLIEST_S), max(to_s, EARLIEST_S) + 1
        clusters = [] if self._ask_for is None else [self._ask_for]
        answer, said = self._run({"start": start_s, "end": end_s, "clusters": clusters})
        found = parse_answer(answer, self._cluster, wanted, self._ask_for)
        if "error:" not in said:
            return found
        if answer.count(b"\n") == 2:  # no line but the first and the last
            raise SchedulerError(f"PySlurm: {said}")
        return Finished(found.records, (*found.problems, RecordError(f"PySlurm said: {said}")))

    def _run(self, request: dict[str, object]) -> tuple[bytes, str]:
        # Files, not pipes: the child can be dead or stuck at any byte, and nothing here waits for it but one call.
        with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as words:
            command = [self._python, str(CHILD), str(answer.fileno()), json.dumps(request)]
            status = self._wait(command, answer, words)
            said = _last(words)
            if status != 0:
                raise SchedulerError(f"PySlurm: {self._why(status, said)}")
            answer.seek(0)
            return answer.read(), said

    def _wait(self, command: list[str], answer: IO[bytes], words: IO[bytes]) -> int:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=words,
                pass_fds=[answer.fileno()],
                start_new_session=True,  # an interpreter behind a script dies with it
            )
        except OSError as error:
            raise SchedulerError(f"PySlurm: {self._python} (scheduler.slurm.python): {error.strerror}") from error
        try:
            return child.wait(self._timeout_s)
        except subprocess.TimeoutExpired as error:
            said = _last(words)
            raise SchedulerError(f"PySlurm: no answer within {self._timeout_s:g} s{said and f': {said}'}") from error
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()

    def _why(self, status: int, said: str) -> str:
        if status == NO_PYSLURM:
            return (
                f"{self._python} cannot import it: {said}: install jobimpact[slurm] there, or name a Python that has"
                " it by scheduler.slurm.python"
            )
        if status == OTHER_PYSLURM:
            return f"{said}: {self._python} (scheduler.slurm.python) needs PySlurm 25.11"
        how = f"exit {status}" if status > 0 else f"killed by signal {-status} ({signal.strsignal(-status)})"
        return f"{how}: {said or 'no word why'}"


def _last(words: IO[bytes]) -> str:
    """The last lines of what was said, in one."""
    size = words.seek(0, os.SEEK_END)
    words.seek(max(0, size - 8 * _WORDS))
    lines = [" ".join(line.split()) for line in words.read().decode(errors="replace").splitlines()]
    return "; ".join([line for line in lines if line][-_LINES:])[-_WORDS:]


def parse_answer(answer: bytes, cluster: str, wanted: Callable[[_Job], bool], only: str | None = None) -> Finished:
    """Read the child's answer.

    Args:
        answer: its lines.
        cluster: the records' cluster.
        wanted: which of the jobs to take.
        only: Slurm's name of the cluster that they must be of; None: all of one cluster, whichever it is.

    Returns:
        The records; one problem for each job that cannot be read, for each whose earlier runs are not told, and for
        each attribute that this PySlurm lacks.

    Raises:
        SchedulerError: it is not whole, or not such lines.
    """
    lines = list(_read(answer))
    if not lines or lines[0].pyslurm is None:
        raise SchedulerError("PySlurm: its answer has no version")
    jobs = [line.job for line in lines if line.job is not None]
    if lines[-1].end != len(jobs):
        raise SchedulerError(f"PySlurm: its answer broke off after {len(jobs)} jobs")
    problems = [
        RecordError(f"PySlurm {lines[0].pyslurm} has no {name}: {why}")
        for name, why in _GONE.items()
        if name in lines[0].lacks
    ]
    records = []
    for told in jobs:
        try:
            job = _job(told)
            only = only or job.cluster
            if job.cluster and only and job.cluster.lower() != only.lower():
                raise RecordError(f"of cluster {job.cluster!r:.60}, not {only!r:.60}")
            if wanted(job):
                records.append(_record(job, told, cluster))
        except RecordError as error:
            problems.append(RecordError(f"PySlurm job {_text(told.get('id'))!r:.40}: {error}"))
    problems += [_not_told(line.untold) for line in lines if line.untold]
    return Finished(tuple(records), tuple(problems))


def _read(answer: bytes) -> Iterator[_Line]:
    decoder = msgspec.json.Decoder(_Line)
    for number, line in enumerate(answer.splitlines(), 1):
        try:
            yield decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SchedulerError(f"PySlurm: line {number} of its answer: {error}: {line[:80]!r}") from error


def _not_told(earlier: _Untold) -> RecordError:
    runs = "1 earlier run" if earlier.runs == 1 else f"{earlier.runs} earlier runs"
    verb = "is" if earlier.runs == 1 else "are"
    return RecordError(f"PySlurm job '{earlier.id}': {runs} under this id {verb} not told by PySlurm: use via: sacct")


def _job(told: dict[str, Any]) -> _Job:
    try:
        job = msgspec.convert(told, _Job)
    except msgspec.ValidationError as error:
        raise RecordError(str(error)) from error
    if job.broken is not None:
        raise RecordError(job.broken[:200])
    return job


def _ended_in(job: _Job, from_s: int, to_s: int) -> bool:
    return job.end_time is not None and from_s <= job.end_time <= to_s and job.state not in _NOT_OVER


def _record(job: _Job, told: dict[str, Any], cluster: str) -> JobRecord:
    if job.submit_time is None:
        raise RecordError("no submit time, so nothing tells this run from another with the same id")
    # Without nodes it never ran: Slurm then gives the time of its end as start.
    ran = job.nodelist not in _NO_NODES and job.state not in NEVER_RAN
    # slurmdbd works it out for every job, and PySlurm has None for 0.
    start_s, elapsed_s = since_submission(job.start_time, job.submit_time, job.elapsed_time or 0)
    tres = job.allocated_tres or {}
    job_id = _job_id(job)
    return JobRecord(
        cluster=cluster,
        raw_id=str(job.id),
        job_id=job_id,
        key=f"{job.id}@{job.submit_time}",
        user=job.user_name or _text(job.user_id),
        account=job.account or None,
        partition=job.partition or None,
        name=job.name or "",
        state=job.state.partition(" ")[0],
        exit_code=None if job.exit_code is None else f"{job.exit_code}:{job.exit_code_signal or 0}",
        submit_s=job.submit_time,
        start_s=start_s if ran else None,
        end_s=job.end_time,
        elapsed_s=elapsed_s,
        nodes=expand_nodes(job.nodelist or "") if ran else (),
        cpus=tres.get("cpu") if ran else None,
        mem_bytes=_mem_bytes(tres),
        gpus=gpus_of(tres) if tres else None,
        raw={name: _text(told.get(name)) for name in ATTRIBUTES if name != "comment"},
        array_id=array_of(job_id),
        time_limit_s=time_limit_s(told.get("time_limit")),
        labels=parse_comment(_text(told.get("comment"))),
    )


def _job_id(job: _Job) -> str:
    if job.array_id:
        if job.array_tasks_waiting:
            return f"{job.array_id}_[{job.array_tasks_waiting}]"
        return f"{job.array_id}_{job.array_task_id or 0}"
    if job.heterogeneous_id and job.heterogeneous_offset != _NO_OFFSET:
        return f"{job.heterogeneous_id}+{job.heterogeneous_offset or 0}"
    return str(job.id)


def _mem_bytes(tres: dict[str, int]) -> int | None:
    if "mem" not in tres:
        return None
    if tres["mem"] << 20 > MOST:
        raise RecordError(f"mem {tres['mem']} MiB: more than there can be")
    return tres["mem"] << 20


def _text(value: object) -> str:
    """An attribute as text; resources as Slurm writes them."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return ",".join(f"{name}={count}{'M' if name == 'mem' else ''}" for name, count in sorted(value.items()))
    return str(value)
