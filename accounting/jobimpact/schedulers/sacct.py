"""Slurm's records, by `sacct`: the one way that every version from 21.08 on has.

An unknown field is fatal there, so the installed version is asked which it knows. Names of jobs and comments are free
text, newlines and all, so fields are parted by a token that is new for each call: no text can forge a field.
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Iterator

import msgspec

from jobimpact.core.errors import RecordError, SchedulerError
from jobimpact.schedulers.base import Finished, held_at
from jobimpact.schedulers.command import Command
from jobimpact.schedulers.sacct_rows import EXTRA_FIELDS, FIELDS, UNIT_SEPARATOR, read_rows
from jobimpact.schedulers.slurm import EARLIEST_S

__all__ = ["Sacct"]

# RESIZING is the part of a job before its size was changed. REVOKED is not here: another cluster ran it.
_STATES = "CD,F,TO,CA,NF,OOM,PR,DL,BF,RQ,RS"
_OTHERS = ("SACCT_FEDERATION", "SACCT_LOCAL", "SLURM_CLUSTERS")
"""Variables by which the caller's environment would change what is asked."""


class Sacct:
    """One cluster's records by its scheduler's own command, found on PATH.

    Args:
        cluster: the records' cluster, whatever Slurm calls it.
        timeout_s: seconds to wait for each answer.
        ask: Slurm's name of the cluster, where slurmdbd has several; None: the one that `sacct` is set up for.
    """

    def __init__(self, cluster: str, timeout_s: float = 600.0, ask: str | None = None) -> None:
        self._cluster = cluster
        self._timeout_s = timeout_s
        self._ask_for = ask
        self._fields: tuple[str, ...] = ()

    def finished(self, from_s: int, to_s: int) -> Finished:
        """Jobs whose end lies in [from_s, to_s].

        Raises:
            SchedulerError: no `sacct`, one too old, it failed (with what it said), or it did not answer in time;
                or slurmdbd has no such cluster.
        """
        return self._ask(from_s, to_s, ["-s", _STATES])

    def running(self, at_s: int) -> Finished:
        """Jobs that held nodes at a time.

        Raises:
            SchedulerError: as for `finished`.
        """
        return held_at(self._ask(at_s, at_s, []), at_s)  # without states: all that overlap, pending ones too

    def _ask(self, from_s: int, to_s: int, states: list[str]) -> Finished:
        self._fields = self._fields or self._known_fields()
        token = f"{UNIT_SEPARATOR}{secrets.token_hex(8)}"
        of = ["--local"] if self._ask_for is None else ["-M", self._ask_for]
        command = ["sacct", "-a", "-X", "-D", "-n", "-P", f"--delimiter={token}", *of]
        begin_s, end_s = (max(edge_s, EARLIEST_S) for edge_s in (from_s, to_s))
        command += ["-S", f"uts{begin_s}", "-E", f"uts{end_s}", *states, "-o", ",".join(self._fields)]
        running = self._command(command)
        delimiter, chunks = _parted_by(token, running.chunks())
        found = read_rows(chunks, delimiter, self._cluster, self._fields, self._ask_for)
        return self._checked(found, running.said)

    def _checked(self, found: Finished, said: str) -> Finished:
        """A complaint without a failure is told; an empty answer with one, or of no cluster, is no answer."""
        if found.records or found.problems:
            told = (RecordError(f"sacct said: {said:.500}"),) if "error:" in said else ()
            return msgspec.structs.replace(found, problems=found.problems + told)
        if "error:" in said:
            raise SchedulerError(f"sacct: {said:.500}")
        if self._ask_for is not None:
            known = self._command(["sacctmgr", "-n", "-P", "show", "cluster", "format=cluster"]).text().split()
            if self._ask_for.lower() not in map(str.lower, known):
                raise SchedulerError(f"slurmdbd has no cluster {self._ask_for!r} (it has {', '.join(known)})")
        return found

    def _known_fields(self) -> tuple[str, ...]:
        known = {name.lower() for name in self._command(["sacct", "--helpformat"]).text().split()}
        lacking = [field for field in FIELDS if field not in known]
        if lacking:
            raise SchedulerError(f"sacct: it has no field {', '.join(lacking)}: Slurm 21.08 or later is needed")
        extra = tuple(field for field in EXTRA_FIELDS if field in known)
        return FIELDS + (() if extra == ("comment",) else extra)  # not last, where a newline would end the row

    def _command(self, command: list[str]) -> Command:
        environment = {name: value for name, value in os.environ.items() if name not in _OTHERS}
        return Command(command, environment | {"TZ": "UTC", "SLURM_TIME_FORMAT": "%s"}, self._timeout_s)


def _parted_by(token: str, chunks: Iterator[bytes]) -> tuple[str, Iterator[bytes]]:
    """A sacct that keeps only the delimiter's first character still parts its fields by that."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= 64:  # the token stands behind the first row's id
            break
    return (token if token.encode() in head else UNIT_SEPARATOR), itertools.chain([head], chunks)
