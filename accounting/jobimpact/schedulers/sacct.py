"""Slurm's records, by `sacct`: the one way that every version from 21.08 on has.

Only fields that all of those versions know are asked for: an unknown one is fatal there. Names of jobs are free
text, newlines and all, so fields are parted by a token that is new for each call: a name cannot forge a field.
"""

from __future__ import annotations

import math
import os
import re
import secrets
import subprocess
from collections.abc import Iterator

from jobimpact.core.errors import RecordError, SchedulerError
from jobimpact.core.records import JobRecord
from jobimpact.schedulers.base import Finished, array_of, expand_nodes, held_at

__all__ = ["FIELDS", "UNIT_SEPARATOR", "Sacct", "parse_rows", "parse_tres"]

FIELDS = (
    "jobidraw", "jobid", "cluster", "user", "uid", "account", "partition", "qos", "jobname", "state", "exitcode",
    "submit", "eligible", "start", "end", "elapsedraw", "suspended", "timelimitraw", "reqtres", "alloctres",
    "ncpus", "nnodes", "nodelist",
)  # fmt: skip
"""What is asked for, in this order."""
UNIT_SEPARATOR = "\x1f"
EARLIEST_S = 1_000_000
"""Slurm takes an earlier time for a mistake."""
LATEST_S = 100_000_000_000
MOST = 1 << 62
"""More of anything no cluster has, and no database takes."""

_STATES = "CD,F,TO,CA,NF,OOM,PR,DL,BF,RQ"
_UNSET = frozenset({"", "None", "Unknown", "None assigned", "INVALID"})
_MEM = re.compile(r"(\d+(?:\.\d+)?)([KMGTPE]?)(?:i?B)?\Z", re.ASCII)
_SHIFT = {"K": 10, "": 20, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
_DIGITS = re.compile(r"\d{1,18}\Z", re.ASCII)


class Sacct:
    """The cluster's records by its own command, found on PATH."""

    def __init__(self, cluster: str, timeout_s: float = 600.0) -> None:
        """Name the cluster for rows that do not name it themselves."""
        self._cluster = cluster
        self._timeout_s = timeout_s

    def finished(self, from_s: int, to_s: int) -> Finished:
        """Jobs whose end lies in [from_s, to_s].

        Raises:
            SchedulerError: no `sacct`, it failed (with what it said), or it did not answer in time.
        """
        return self._ask(from_s, to_s, ["-s", _STATES])

    def running(self, at_s: int) -> Finished:
        """Jobs that held nodes at a time.

        Raises:
            SchedulerError: as for `finished`.
        """
        return held_at(self._ask(at_s, at_s, []), at_s)  # without states: all that overlap, pending ones too

    def _ask(self, from_s: int, to_s: int, states: list[str]) -> Finished:
        token = f"{UNIT_SEPARATOR}{secrets.token_hex(8)}"
        text = self._run(token, from_s, to_s, states)
        # A sacct that keeps only the delimiter's first character still parts its fields by that.
        return parse_rows(text, token if token in text else UNIT_SEPARATOR, self._cluster)

    def _run(self, token: str, from_s: int, to_s: int, states: list[str]) -> str:
        command = ["sacct", "-a", "-X", "-D", "-n", "-P", f"--delimiter={token}"]
        begin_s, end_s = (max(edge_s, EARLIEST_S) for edge_s in (from_s, to_s))
        command += ["-S", f"uts{begin_s}", "-E", f"uts{end_s}", *states, "-o", ",".join(FIELDS)]
        clock = {"TZ": "UTC", "SLURM_TIME_FORMAT": "%s"}
        try:
            done = subprocess.run(
                command, capture_output=True, check=False, env=os.environ | clock, timeout=self._timeout_s
            )
        except FileNotFoundError as error:
            raise SchedulerError("sacct: not found on PATH") from error
        except OSError as error:
            raise SchedulerError(f"sacct: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise SchedulerError(f"sacct: no answer within {self._timeout_s:g} s") from error
        if done.returncode != 0:
            said = " ".join(done.stderr.decode(errors="replace").split()) or "no word why"
            raise SchedulerError(f"sacct: exit {done.returncode}: {said:.500}")
        return done.stdout.decode(errors="replace")


def parse_rows(text: str, delimiter: str, cluster: str) -> Finished:
    """Read sacct's output.

    Args:
        text: rows of `FIELDS`; a row goes on over newlines until it has all of them.
        delimiter: what parts the fields.
        cluster: for rows that do not name theirs.

    Returns:
        The records, and one problem for each row that is not one.
    """
    records, problems = [], []
    for row in _rows(text, delimiter):
        try:
            records.append(_record(row, cluster))
        except RecordError as error:
            named = " ".join(row[:2]) or "(empty)"
            problems.append(RecordError(f"sacct row {named!r:.60}: {error}"))
    return Finished(tuple(records), tuple(problems))


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    pending = ""
    for line in text.split("\n"):
        pending = f"{pending}\n{line}" if pending else line
        if pending.count(delimiter) >= len(FIELDS) - 1:
            yield pending.split(delimiter)
            pending = ""
    if pending.strip():
        yield pending.split(delimiter)


def _record(row: list[str], cluster: str) -> JobRecord:
    if len(row) != len(FIELDS):
        raise RecordError(f"{len(row)} fields, not {len(FIELDS)}")
    raw = dict(zip(FIELDS, row, strict=True))
    raw_id = raw["jobidraw"]
    if not _DIGITS.match(raw_id):
        raise RecordError(f"jobidraw {raw_id!r:.40} is not a number")
    submit_s = _number(raw, "submit")
    if submit_s is None:
        raise RecordError("no submit time, so nothing tells this run from another with the same id")
    for field in ("submit", "start", "end"):
        at_s = _number(raw, field)
        if at_s is not None and not EARLIEST_S <= at_s < LATEST_S:
            raise RecordError(f"{field} {raw[field]!r:.40} is no time of ours")
    tres = parse_tres(raw["alloctres"])
    # Without nodes it never ran: Slurm then gives the cancellation's time as start, and what was asked as CPUs.
    ran = raw["nodelist"] not in _UNSET
    return JobRecord(
        cluster=raw["cluster"] or cluster,
        raw_id=raw_id,
        job_id=raw["jobid"] or raw_id,
        key=f"{raw_id}@{submit_s}",
        user=raw["user"] or raw["uid"],
        account=raw["account"] or None,
        partition=raw["partition"] or None,
        name=raw["jobname"],
        state=raw["state"].partition(" ")[0],
        exit_code=raw["exitcode"] or None,
        submit_s=submit_s,
        start_s=_number(raw, "start") if ran else None,
        end_s=_number(raw, "end"),
        elapsed_s=_number(raw, "elapsedraw"),
        nodes=expand_nodes(raw["nodelist"]) if ran else (),
        cpus=tres.get("cpu", _number(raw, "ncpus")) if ran else None,
        mem_bytes=tres.get("mem"),
        gpus=_gpus(tres) if tres else None,
        raw=raw,
        array_id=array_of(raw["jobid"]),
    )


def _number(raw: dict[str, str], field: str) -> int | None:
    text = raw[field]
    if text in _UNSET:
        return None
    if not _DIGITS.match(text):
        raise RecordError(f"{field} {text!r:.40} is not a number")
    return int(text)


def parse_tres(text: str) -> dict[str, int]:
    """`cpu=2,gres/gpu:a100=2,mem=500M,node=1` as numbers, memory in bytes.

    Raises:
        RecordError: not such a list.
    """
    found = {}
    for part in text.split(",") if text else ():
        name, equals, value = part.rpartition("=")
        match = _MEM.match(value)
        if not equals or not match:
            raise RecordError(f"resource {part!r:.60} in {text!r:.120}")
        if name == "mem":
            found[name] = math.floor(float(match[1]) * 2 ** _SHIFT[match[2]])
        else:
            # Some builds print large counts with a suffix, in thousands.
            found[name] = math.floor(float(match[1]) * 1000 ** " KMGTPE".index(match[2] or " "))
        if found[name] > MOST:
            raise RecordError(f"resource {part!r:.60}: more than there can be")
    return found


def _gpus(tres: dict[str, int]) -> int:
    """`gres/gpu` and `gres/gpu:a100` are the same devices: never their sum."""
    typed = sum(count for name, count in tres.items() if name.startswith("gres/gpu:"))
    return tres.get("gres/gpu", typed)
