"""Records from a JSON Lines file: what stands in for a scheduler on a machine without one.

One object a line. A later line with the same `id` and `submit` replaces the earlier one, so a writer only ever
appends (a job's start, then the same job with its end). Times are epoch seconds, UTC:

    {"id": "1", "user": "alice", "name": "train", "state": "COMPLETED", "exit_code": "0:0",
     "submit": 1795190300, "start": 1795190301.2, "end": 1795190309.3,
     "nodes": ["node01"], "cpus": 4, "mem_bytes": 1073741824, "gpus": 1}

`account`, `partition`, `exclusive` (it was given whole nodes), `time_limit_s` (how long it might have run), `labels`
(`{"model": "resnet50"}`) and `comment` (as Slurm's: `jobimpact:model=resnet50,steps=90000`) may be added; `start`,
`end`, `exit_code`, `cpus`, `mem_bytes` and `gpus` may be left out or null; `nodes` may be a host list in one string
(`node[01-02]`). An `id` has a digit.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from jobimpact.core.errors import RecordError, SchedulerError
from jobimpact.core.labels import MAX_LABELS, is_name, is_value, parse_comment
from jobimpact.core.records import JobRecord
from jobimpact.schedulers.base import LATEST_S, MOST, Finished, array_of, expand_nodes, held_at

__all__ = ["LocalRecords"]

Text = Annotated[str, Meta(min_length=1)]
Seconds = Annotated[float, Meta(ge=0, lt=LATEST_S)]
Count = Annotated[int, Meta(ge=0, le=MOST)]


class _Line(Struct, frozen=True, forbid_unknown_fields=True):
    id: Annotated[str, Meta(pattern=r"^(?=.*[0-9])[A-Za-z0-9_.+-]{1,64}\Z")]
    user: Text
    name: str
    state: Text
    submit: Seconds
    account: str | None = None
    partition: str | None = None
    exit_code: str | None = None
    start: Seconds | None = None
    end: Seconds | None = None
    nodes: list[str] | str = ""
    cpus: Count | None = None
    mem_bytes: Count | None = None
    gpus: Count | None = None
    exclusive: bool = False
    time_limit_s: Annotated[float, Meta(gt=0, lt=LATEST_S)] | None = None
    comment: str | None = None
    labels: dict[str, str] = {}


class LocalRecords:
    """The records of one file."""

    def __init__(self, path: Path, cluster: str) -> None:
        self._path = path
        self._cluster = cluster
        self._read: tuple[tuple[int, int], Finished] | None = None
        """The file's size and time of change, and what was in it."""

    def finished(self, from_s: int, to_s: int) -> Finished:
        """Jobs whose end lies in [from_s, to_s].

        Raises:
            SchedulerError: the file cannot be read.
        """
        found = self._all()
        inside = tuple(r for r in found.records if r.end_s is not None and from_s <= r.end_s <= to_s)
        return Finished(inside, found.problems)

    def running(self, at_s: int) -> Finished:
        """Jobs that held nodes at a time.

        Raises:
            SchedulerError: the file cannot be read.
        """
        return held_at(self._all(), at_s)

    def _all(self) -> Finished:
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                version = found.st_size, found.st_mtime_ns
                if self._read is None or self._read[0] != version:
                    self._read = version, self._parsed(file.read().split(b"\n"))
        except OSError as error:
            raise SchedulerError(f"{self._path}: {error.strerror}") from error
        return self._read[1]

    def _parsed(self, lines: Iterable[bytes]) -> Finished:
        records: dict[str, JobRecord] = {}
        problems = []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = self._record(line)
            except (RecordError, msgspec.MsgspecError, UnicodeDecodeError) as error:
                problems.append(RecordError(f"{self._path}:{number}: {error}"))
            else:
                records[record.key] = record
        return Finished(tuple(records.values()), tuple(problems))

    def _record(self, line: bytes) -> JobRecord:
        found = msgspec.json.decode(line, type=_Line)
        if found.start is not None and found.end is not None and found.end < found.start:
            raise RecordError(f"job {found.id} ends at {found.end}, before its start at {found.start}")
        nodes = found.nodes if isinstance(found.nodes, str) else ",".join(found.nodes)
        submit_s = int(found.submit)
        return JobRecord(
            cluster=self._cluster,
            raw_id=found.id,
            job_id=found.id,
            key=f"{found.id}@{submit_s}",
            user=found.user,
            account=found.account,
            partition=found.partition,
            name=found.name,
            state=found.state,
            exit_code=found.exit_code,
            submit_s=submit_s,
            start_s=found.start,
            end_s=found.end,
            elapsed_s=None if found.start is None or found.end is None else found.end - found.start,
            nodes=expand_nodes(nodes),
            cpus=found.cpus,
            mem_bytes=found.mem_bytes,
            gpus=found.gpus,
            raw={"line": line.decode(errors="replace")},
            exclusive=found.exclusive,
            array_id=array_of(found.id),
            time_limit_s=found.time_limit_s,
            labels=_labels(found),
        )


def _labels(found: _Line) -> dict[str, str]:
    """As of a comment: what is malformed is left out."""
    named = {name: text for name, text in found.labels.items() if is_name(name) and is_value(text)}
    return dict(list((parse_comment(found.comment) | named).items())[:MAX_LABELS])
