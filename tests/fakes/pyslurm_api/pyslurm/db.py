"""`pyslurm.db`: JobFilter, Jobs, Job, Connection, and the slurmdbd behind them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from pyslurm import MODE, SITE

NO_VAL = 0xFFFFFFFE
INFINITE = 0xFFFFFFFF
TRES = {
    1: ("cpu", None), 2: ("mem", None), 3: ("energy", None), 4: ("node", None), 5: ("billing", None),
    1001: ("gres", "gpu"), 1002: ("gres", "gpu:a100"), 1003: ("gres", "gpu:v100"),
}  # fmt: skip


class PyslurmError(Exception):
    pass


class RPCError(PyslurmError):
    pass


class Connection:
    def __init__(self) -> None:
        raise RuntimeError("open one")

    @staticmethod
    def open() -> Connection:
        if MODE == "no slurmdbd":
            raise RPCError("Failed to open connection to slurmdbd")
        return Connection.__new__(Connection)


class JobFilter:
    """It has no other attributes than these: a C struct is behind it."""

    __slots__ = (
        "accounts", "association_ids", "clusters", "constraints", "cpus", "end_time", "groups", "ids", "max_cpus",
        "max_nodes", "max_timelimit", "names", "nodelist", "nodes", "partitions", "qos", "start_time", "timelimit",
        "truncate_time", "users", "wckeys", "with_env", "with_script",
    )  # fmt: skip

    def __init__(self, **kwargs: Any) -> None:
        for name in self.__slots__:
            setattr(self, name, None)
        for name, value in kwargs.items():
            setattr(self, name, value)


def selected(asked: JobFilter) -> list[dict[str, Any]]:
    """The rows that slurmdbd hands over, without the flag for duplicates and without states."""
    start, end = asked.start_time, asked.end_time + (asked.end_time == asked.start_time)
    clusters = asked.clusters or [SITE["local"]]
    found = []
    for row in SITE["rows"]:
        if row["cluster"] not in clusters or (row["state"] == "REVOKED" and MODE != "federation"):
            continue
        if asked.ids:
            ours = {row["id_job"], row["id_array_job"], row["het_job_id"]} & set(asked.ids)
            begun = row["time_submit"] <= end
        else:
            ours = {row["id_job"]}
            begun = 0 < row["time_eligible"] < end
        if ours and begun and (row["time_end"] >= start or row["time_end"] == 0):
            found.append(row)
    if MODE == "deaf" and asked.ids:  # a slurmdbd that does not do as the walk from run to run expects
        found = []
    found.sort(key=lambda row: (row["cluster"], row["id_job"], -row["time_submit"]))
    kept: list[dict[str, Any]] = []
    last: tuple[Any, ...] = ()
    for row in found:
        this = (row["cluster"], row["id_job"])
        if this == last and row["state"] == "RESIZING":
            kept.insert(0, row)
        elif this != last:
            kept.append(row)
        last = this
    return kept


class Jobs:
    """A map of maps: cluster, id, job. A later row of the same id replaces the earlier one."""

    def __init__(self) -> None:
        self.data: dict[str, dict[int, Job]] = {}

    @staticmethod
    def load(db_filter: JobFilter | None = None, db_connection: Connection | None = None) -> Jobs:
        asked = db_filter or JobFilter()
        assert isinstance(db_connection, Connection)
        with open(os.environ["FAKE_PYSLURM"] + ".asked", "a", encoding="utf-8") as file:
            given = {name: getattr(asked, name) for name in JobFilter.__slots__}
            file.write(json.dumps({name: value for name, value in given.items() if value is not None}) + "\n")
        if MODE == "refused":
            raise RPCError("Failed to get Jobs from slurmdbd")
        out = Jobs()
        for row in selected(asked):
            out.data.setdefault(row["cluster"], {})[row["id_job"]] = Job(row)
        return out

    def values(self) -> Iterator[Job]:
        for jobs in self.data.values():
            yield from jobs.values()


def _number(value: int) -> int | None:
    """As a 32-bit field is read: 0 and "not set" are the same."""
    return None if value in (0, NO_VAL) else value


def _time(value: int) -> int | None:
    return None if value in (0, NO_VAL, INFINITE) else value


def _word(value: str | None) -> str | None:
    """As a C string is read: strictly, and the word None is nothing."""
    data = (value or "").encode("utf-8", "surrogateescape")
    return None if data in (b"", b"None") else data.decode("utf-8")


class Resource:
    def __init__(self, count: int) -> None:
        self.count = count


class Resources:
    def __init__(self, text: str) -> None:
        self.gres: dict[str, Resource] = {}
        self.cpu = self.mem = self.energy = self.node = self.billing = None
        for part in text.split(","):
            number, _, count = part.partition("=")
            kind, name = TRES[int(number)]
            if name:
                self.gres[name] = Resource(int(count))
            else:
                setattr(self, kind, Resource(int(count)))


def _count(text: str, kind: int) -> int:
    """One resource's count; 0 where it is not there."""
    return dict([tuple(map(int, part.split("="))) for part in text.split(",") if part]).get(kind, 0)


def _resources(text: str) -> Resources | None:
    return Resources(text) if text else None


class Job:
    def __init__(self, row: dict[str, Any]) -> None:
        self._row = row

    @property
    def id(self) -> int:
        if MODE == "broken off" and self._row is SITE["rows"][-1]:
            os._exit(0)
        return int(self._row["id_job"])

    cluster = property(lambda self: _word(self._row["cluster"]))
    array_id = property(lambda self: _number(self._row["id_array_job"]))
    array_task_id = property(lambda self: _number(self._row["id_array_task"]))
    heterogeneous_id = property(lambda self: self._row["het_job_id"] or None)
    heterogeneous_offset = property(lambda self: self._row["het_job_offset"] or None)
    name = property(lambda self: _word(self._row["job_name"]))
    user_id = property(lambda self: self._row["id_user"])
    account = property(lambda self: _word(self._row["account"]))
    partition = property(lambda self: _word(self._row["partition"]))
    qos = property(lambda self: _word(self._row["qos"]))
    state = property(lambda self: self._row["state"])
    submit_time = property(lambda self: _time(self._row["time_submit"]))
    eligible_time = property(lambda self: _time(self._row["time_eligible"]))
    end_time = property(lambda self: _time(self._row["time_end"]))
    suspended_time = property(lambda self: _time(self._row["time_suspended"]))
    time_limit = property(lambda self: _time(self._row["timelimit"]))
    db_index = property(lambda self: self._row["job_db_inx"])
    comment = property(lambda self: _word(self._row.get("derived_es")))
    nodelist = property(lambda self: _word(self._row["nodelist"]))
    memory = property(lambda self: _count(self._row["tres_req"], 2))
    num_nodes = property(lambda self: _count(self._row["tres_alloc"], 4))
    cpus = property(lambda self: _count(self._row["tres_alloc"], 1))
    requested_tres = property(lambda self: _resources(self._row["tres_req"]))
    if MODE != "old":
        allocated_tres = property(lambda self: _resources(self._row["tres_alloc"]))
        requeue_count = property(lambda self: self._row["restart_cnt"])

    @property
    def array_tasks_waiting(self) -> str | None:
        return (self._row["array_task_str"] or "").rpartition("%")[0] or self._row["array_task_str"] or None

    @property
    def user_name(self) -> str:
        return str(SITE["users"].get(str(self._row["id_user"]), self._row["id_user"]))

    @property
    def cancelled_by(self) -> str | None:
        uid = self._row["kill_requid"]
        return None if uid in (NO_VAL, INFINITE) else str(SITE["users"].get(str(uid), uid))

    @property
    def start_time(self) -> int | None:
        """As slurmdbd has it: a job that never ran started when it ended."""
        return _time(self._row["time_start"] or self._row["time_end"])

    @property
    def elapsed_time(self) -> int | None:
        end = self._row["time_end"] or SITE["now"]
        return _time(max(0, end - (self.start_time or end) - self._row["time_suspended"]))

    @property
    def exit_code(self) -> int:
        status = self._row["exit_code"]
        code = 0 if status & 0x7F else status >> 8 & 0xFF
        return code - 128 if code >= 128 else code

    @property
    def exit_code_signal(self) -> int:
        return int(self._row["exit_code"] & 0x7F)
