"""One job of OAR: from the rows of its database to a record. Pure.

OAR's own words stay in `raw`, for OAR forgets: a resource that is removed takes with it every job that ever ran there.
States are told in Slurm's words, so that a report needs one vocabulary; `raw` has OAR's.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import msgspec

from jobimpact.core.errors import RecordError
from jobimpact.core.labels import parse_comment
from jobimpact.core.records import JobRecord
from jobimpact.schedulers.base import LATEST_S

__all__ = ["FINAL", "Event", "Interval", "Resource", "Rows", "final_s", "host_of", "read_resource", "record_of"]

FINAL = ("Terminated", "Error")
"""OAR's states of jobs that are over."""
HOLDING = frozenset({"Running", "Suspended", "Resuming"})
"""OAR's states in which a job has its nodes, and has begun."""

_NODE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}\Z", re.ASCII)
_WHOLE = re.compile(r"-?\d{1,18}\Z", re.ASCII)
_CPUS = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?\Z", re.ASCII)
_PARTS = re.compile(r"[,+\s]+")
_SHARED_DEVICE = re.compile(r"/dev/(?:nvidiactl|nvidia-.*|kfd)\Z")
"""Device files that every GPU of a node needs, and that are none."""
_CARD = re.compile(r"/dev/dri/card\d+\Z")
_RENDER = "/dev/dri/renderD"

_NOT_OVER = {
    "Running": "RUNNING",
    "Suspended": "SUSPENDED",
    "Resuming": "SUSPENDED",
    "Launching": "CONFIGURING",
    "toLaunch": "CONFIGURING",
    "Finishing": "COMPLETING",
}
_LOST = frozenset({"EXTERMINATE_JOB", "LAUNCHING_OAREXEC_TIMEOUT", "PING_CHECKER_NODE_SUSPECTED"})
_NOT_LAUNCHED = frozenset(
    {
        "PROLOGUE_ERROR",
        "SERVER_PROLOGUE_ERROR",
        "SERVER_PROLOGUE_TIMEOUT",
        "SERVER_PROLOGUE_EXIT_CODE_ERROR",
        "CPUSET_ERROR",
        "CPUSET_MANAGER_FILE",
        "EXIT_VALUE_OAREXEC",
        "SSH_TRANSFER_TIMEOUT",
        "BAD_HASHTABLE_DUMP",
        "CANNOT_WRITE_NODE_FILE",
        "CANNOT_WRITE_PID_FILE",
        "CANNOT_CREATE_TMP_DIRECTORY",
    }
)
_USERS_FAULT = frozenset({"WORKING_DIRECTORY", "OUTPUT_FILES", "USER_SHELL"})
_OFF_BOOKS = {
    "deploy": "a deploy job: the user's own system ran on its nodes, where no daemon keeps books",
    "cosystem": "a cosystem job: OAR starts nothing on its nodes, so nothing there is known to be its own",
    "noop": "a noop job: OAR starts nothing on its nodes, they were only held",
    "desktop_computing": "a desktop_computing job: it ran in no cgroup of OAR, so nothing is known to be its own",
}
"""By type of job: why the nodes' books cannot have it."""


class Resource(msgspec.Struct, frozen=True):
    """What OAR allots: mostly a core."""

    host: str
    """The node's name; empty: it is on none."""
    cpuset: str | None
    cpus: int | None
    """How many CPUs `cpuset` names; None: it is not told, or not understood."""
    gpus: frozenset[str] | None
    """Devices, by their name on the node; None: the site has no such property."""


class Interval(msgspec.Struct, frozen=True, array_like=True):
    """A time in one state. `stop_s` 0: it lasts."""

    state: str
    start_s: int
    stop_s: int


class Event(msgspec.Struct, frozen=True, array_like=True):
    """What happened to a job, all events of one type together."""

    type: str
    count: int
    first_s: int
    last_s: int
    description: str
    """Of the first."""


class Rows(msgspec.Struct, frozen=True):
    """All that the database says of a job."""

    job: Mapping[str, str | None]
    """Columns of `jobs`, and `moldable_walltime`, as text."""
    log: Sequence[Interval] = ()
    """By start."""
    types: Sequence[str] = ()
    events: Sequence[Event] = ()
    resources: Mapping[int, Resource] = {}
    """By OAR's id, those of type `default`."""
    in_array: bool = False
    """Its array has other members."""


def host_of(address: str, *, full_names: bool) -> str:
    """A node's name: its address up to the first dot, unless names are full ones or it is a number."""
    if full_names:
        return address
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return address.partition(".")[0] or address
    return address


def read_resource(host: str, cpuset: str | None, gpu: str | None, *, has_gpus: bool) -> Resource:
    """A resource from its properties.

    Args:
        host: its node.
        cpuset: one CPU (OAR 2.5), or a list of them with `,`, `+` or blanks between.
        gpu: the device's number, or its device files; None: it has no GPU.
        has_gpus: the site has a property for GPUs.
    """
    gpus = frozenset(_devices(gpu or "")) if has_gpus else None
    return Resource(host, cpuset, _count_cpus(cpuset or ""), gpus)


def _count_cpus(text: str) -> int | None:
    matches = [_CPUS.match(part) for part in _PARTS.split(text.strip(", +\t\n"))]
    found: set[int] = set()
    for match in matches:
        if match is None:
            return None
        found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return len(found) or None


def _devices(text: str) -> Iterable[str]:
    parts = [part for part in _PARTS.split(text.strip()) if part and not part.startswith("-")]
    # A GPU's card file and its render file are one device.
    renders = any(part.startswith(_RENDER) for part in parts)
    return (part for part in parts if not _SHARED_DEVICE.match(part) and not (renders and _CARD.match(part)))


def final_s(log: Sequence[Interval]) -> int | None:
    """When a job reached its final state; None: it has not."""
    return next((one.start_s for one in reversed(log) if one.state in FINAL and one.start_s > 0), None)


def record_of(rows: Rows, cluster: str) -> JobRecord:
    """A job's record.

    Args:
        rows: what the database says of it.
        cluster: whose it is.

    Raises:
        RecordError: what is said makes no sense, or the job cannot be told from others.
    """
    job = rows.job
    job_id = _number(job, "job_id")
    if job_id <= 0:
        raise RecordError("its id is no id")
    submit_s = _time(job, "submission_time")
    if not submit_s:
        raise RecordError("no submission_time, so nothing tells this job from another with the same id")
    over = job.get("state") in FINAL
    start_s, end_s, elapsed_s = _times(rows, over=over)
    held = list(rows.resources.values()) if start_s is not None else []
    kinds = {one.partition("=")[0] for one in rows.types}
    code = None if job.get("exit_code") is None else _number(job, "exit_code")
    cpus = [one.cpus for one in held]
    gpus = [one.gpus for one in held]
    return JobRecord(
        cluster=cluster,
        raw_id=str(job_id),
        job_id=str(job_id),
        key=f"{job_id}@{submit_s}",
        user=job.get("job_user") or "",
        account=job.get("project") or None,
        partition=job.get("queue_name") or None,
        name=job.get("job_name") or "",
        state=_state(rows, code, ran=start_s is not None) if over else _not_over(job.get("state") or ""),
        exit_code=_exit_code(code),
        submit_s=submit_s,
        start_s=start_s,
        end_s=end_s,
        elapsed_s=elapsed_s,
        nodes=_nodes(held),
        cpus=sum(n for n in cpus if n is not None) if held and None not in cpus else None,
        mem_bytes=None,
        gpus=None if not held or None in gpus else len({(one.host, gpu) for one in held for gpu in one.gpus or ()}),
        raw=_raw(rows),
        exclusive="deploy" in kinds,
        array_id=_array(job, in_array=rows.in_array),
        # OAR has no comment: what else a user may write freely (`message` is the scheduler's) is the name.
        labels=parse_comment(job.get("job_name")),
        time_limit_s=_walltime_s(job.get("moldable_walltime")),
        off_books=next((why for kind, why in _OFF_BOOKS.items() if kind in kinds), None),
    )


def _number(job: Mapping[str, str | None], field: str) -> int:
    text = job.get(field)
    if text is None or not _WHOLE.match(text):
        raise RecordError(f"{field} {text!r:.40} is not a number")
    return int(text)


def _time(job: Mapping[str, str | None], field: str) -> int:
    """Epoch seconds, 0: not yet."""
    return _checked(0 if job.get(field) is None else _number(job, field), field)


def _checked(at_s: int, what: str) -> int:
    if not 0 <= at_s < LATEST_S:
        raise RecordError(f"{what} {at_s} is no time of ours")
    return at_s


def _times(rows: Rows, *, over: bool) -> tuple[int | None, int | None, int | None]:
    """Start, end, and how long it ran: by the log of its states, for `start_time` is the scheduler's decision.

    A job that never was in the state Running never ran, whatever start and stop it has.
    """
    scheduled_s, stop_s = _time(rows.job, "start_time"), _time(rows.job, "stop_time")
    holding = _holding(rows.log)
    if not any(one.state == "Running" for one in holding):
        if scheduled_s and stop_s and stop_s < scheduled_s:
            raise RecordError(f"it ends at {stop_s}, before its start at {scheduled_s}")
        # Of one that is taken back before its time, OAR writes the planned start as its stop.
        ends = [at_s for at_s in (stop_s, final_s(rows.log) or 0) if at_s]
        return None, min(ends, default=None) if over else None, None
    for one, later in pairwise(holding):
        if not one.stop_s or later.start_s < one.stop_s:
            raise RecordError(f"it is {later.state} from {later.start_s} on, and {one.state} until {one.stop_s}")
    start_s = next(one.start_s for one in holding if one.state == "Running")
    end_s = holding[-1].stop_s or (stop_s if over else 0)
    if not end_s:
        return start_s, None, None
    if end_s < holding[-1].start_s:
        raise RecordError(f"it ends at {end_s}, before its start at {holding[-1].start_s}")
    return start_s, end_s, sum((one.stop_s or end_s) - one.start_s for one in holding if one.state == "Running")


def _holding(log: Sequence[Interval]) -> list[Interval]:
    """When it had its nodes, with every time checked; a state that does not say its end ended when the next began."""
    found = []
    for at, one in enumerate(log):
        if one.state not in HOLDING:
            continue
        following_s = log[at + 1].start_s if at + 1 < len(log) else 0
        stop_s = _checked(one.stop_s or following_s, f"the end of {one.state}")
        if not _checked(one.start_s, f"the start of {one.state}"):
            raise RecordError(f"{one.state} has no start")
        if stop_s and stop_s < one.start_s:
            raise RecordError(f"{one.state} ends at {stop_s}, before its start at {one.start_s}")
        found.append(Interval(one.state, one.start_s, stop_s))
    return found


def _nodes(held: Iterable[Resource]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(one.host for one in held if one.host))
    bad = next((name for name in names if not _NODE.match(name)), None)
    if bad is not None:
        raise RecordError(f"{bad!r:.80} is not a node's name")
    return names


def _walltime_s(text: str | None) -> float | None:
    """What it was given in the end; what is no such number costs no record."""
    match = _WHOLE.match(text or "")
    seconds = int(match[0]) if match else 0
    return float(seconds) if 0 < seconds < LATEST_S else None


def _array(job: Mapping[str, str | None], *, in_array: bool) -> str | None:
    # A job that was submitted again keeps the array's id of its forerunner: that alone makes no array.
    return str(_number(job, "array_id")) if in_array else None


def _exit_code(code: int | None) -> str | None:
    """A wait status as `exit status:signal`; one that is none stays in `raw`."""
    return None if code is None or not 0 <= code <= 0xFFFF else f"{code >> 8}:{code & 0x7F}"


def _not_over(state: str) -> str:
    return _NOT_OVER.get(state, "PENDING")


def _state(rows: Rows, code: int | None, *, ran: bool) -> str:
    """How a job ended. OAR's `Terminated` is no success, and its `Error` may be a user's own wish."""
    terminated = rows.job.get("state") == "Terminated"
    if terminated and code == 0:
        return "COMPLETED"
    at_s = final_s(rows.log)
    # What was asked for after the end had no part in it.
    happened = {one.type for one in rows.events if at_s is None or one.first_s <= at_s}
    why = _why(happened, placed=bool(rows.resources))
    if terminated and code is None:
        # OAR starts nothing for a noop job: to be held until its walltime is all that it is for.
        kept = why == "TIMEOUT" and any(one.partition("=")[0] == "noop" for one in rows.types)
        return "COMPLETED" if kept else why or "COMPLETED"
    if why is not None:
        return why
    return "FAILED" if ran or terminated or happened & _USERS_FAULT else "CANCELLED"


def _why(happened: set[str], *, placed: bool) -> str | None:
    """The first of these that was so. A job that had no nodes lost none."""
    reasons = (
        (placed and happened & _LOST, "NODE_FAIL"),
        ("BESTEFFORT_KILL" in happened, "PREEMPTED"),
        ("WALLTIME" in happened, "TIMEOUT"),
        (happened & _NOT_LAUNCHED, "BOOT_FAIL"),
        (happened & {"FRAG_JOB_REQUEST", "RESERVATION_NO_NODE"}, "CANCELLED"),
    )
    return next((state for so, state in reasons if so), None)


def _raw(rows: Rows) -> dict[str, str]:
    """What OAR said, lists as JSON; columns without a word in them are left out."""
    raw = {name: text for name, text in rows.job.items() if text}
    if rows.types:
        raw["types"] = _json(rows.types)
    if rows.events:
        raw["events"] = _json(rows.events)
    if rows.log:
        raw["states"] = _json(rows.log)
    if rows.resources:
        raw["resources"] = _folded(rows.resources)
        raw["cpusets"] = _json(_by_host((one.host, one.cpuset or "") for one in rows.resources.values()))
    if any(one.gpus for one in rows.resources.values()):
        gpus = ((one.host, gpu) for one in rows.resources.values() for gpu in sorted(one.gpus or ()))
        raw["gpus"] = _json(_by_host(gpus))
    return raw


def _by_host(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for host, text in pairs:
        found.setdefault(host, []).append(text)
    return {host: _joined(texts) for host, texts in found.items()}


def _joined(texts: list[str]) -> str:
    if all(text.isdecimal() and text.isascii() for text in texts):
        return _folded(map(int, texts))
    return " ".join(dict.fromkeys(texts))


def _folded(numbers: Iterable[int]) -> str:
    """`1-4,7`."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def _json(found: object) -> str:
    return msgspec.json.encode(found).decode()
