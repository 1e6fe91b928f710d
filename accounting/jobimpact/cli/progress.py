"""`jobimpact progress`: a job tells the node's daemon how far it is. It never breaks the job that calls it."""

from __future__ import annotations

import errno
import math
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from jobimpact.core.errors import JobImpactError, ProgressError
from jobimpact.core.progress import SOCKET, Said, encode

__all__ = ["job_of", "run", "said_by"]

_JOB_IDS = ("JOBIMPACT_JOB", "SLURM_JOB_ID", "OAR_JOB_ID")
_TRIES = 5
_PAUSE_S = 0.05


def said_by(step: int | None, metrics: Sequence[str], labels: Sequence[str], job: str | None) -> Said:
    """What the command line says.

    Args:
        step: how far the job is.
        metrics: `NAME=NUMBER` each.
        labels: `NAME=TEXT` each.
        job: the job's id.

    Raises:
        ProgressError: a word is not of that form.
    """
    numbers: dict[str, float] = {}
    for name, value in map(_pair, metrics):
        try:
            numbers[name] = float(value)
        except ValueError:
            raise ProgressError(f"metric {name}: {value!r:.60} is not a number") from None
    if step is not None and not 0 <= step <= 2**53:
        raise ProgressError(f"step {step}: 0 to 2^53")
    return Said(job=job, step=step, metrics=numbers, labels=dict(map(_pair, labels)))


def _pair(word: str) -> tuple[str, str]:
    name, sign, value = word.partition("=")
    if not sign:
        raise ProgressError(f"{word!r:.60}: NAME=VALUE")
    return name, value


def job_of(environ: Mapping[str, str]) -> str | None:
    """The id of the job that this runs in; None: of none that we know."""
    found = next((environ[name] for name in _JOB_IDS if environ.get(name)), None)
    return found if found is not None and len(found) <= 64 and found.isascii() else None


def run(step: int | None, metrics: Sequence[str], labels: Sequence[str], config: str | None = None) -> int:
    """Tell it.

    Returns:
        0, also where nobody takes it: that is said on stderr. 2: what was asked for cannot be said.
    """
    job = job_of(os.environ)
    try:
        said = said_by(step, metrics, labels, job)
        # A training that diverges is no wrong usage, and its job goes on.
        odd = [name for name, number in said.metrics.items() if not math.isfinite(number)]
        for name in odd:
            _tell(f"metric {name}: {said.metrics.pop(name)}: left out")
        if odd and said.step is None and not said.metrics and not said.labels:
            return 0
        data = encode(said)
    except ProgressError as error:
        _tell(str(error))
        return 2
    why = "not in a job: neither SLURM_JOB_ID nor OAR_JOB_ID is set" if job is None else _send(data, _place(config))
    if why:
        _tell(f"not taken down: {why}")
    return 0


def _tell(text: str) -> None:
    """On stderr, which in a job may be a file on a full disk: that must not end the job either."""
    with suppress(OSError):
        os.write(sys.stderr.fileno(), f"jobimpact progress: {text}\n".encode(errors="backslashreplace"))


def _place(config: str | None) -> str | None:
    """Where the daemon listens; the configuration is only read where it may be elsewhere than usual."""
    given = os.environ.get("JOBIMPACT_PROGRESS")
    if given or (config is None and os.access(SOCKET, os.F_OK)):
        return given or SOCKET
    from jobimpact.core.config import config_path, load_config

    try:
        return load_config(config_path(config)).node.progress
    except JobImpactError:
        return SOCKET


def _send(data: bytes, place: str | None) -> str | None:
    """Hand it over; a daemon that is busy is waited for, for a moment."""
    if place is None:
        return "node.progress is switched off"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.setblocking(False)
            out.connect(place)
            for _ in range(_TRIES):
                try:
                    out.send(data)
                except BlockingIOError:
                    time.sleep(_PAUSE_S)
                else:
                    return None
    except OSError as error:
        gone = error.errno in (errno.ENOENT, errno.ECONNREFUSED)
        return f"{place}: {'no daemon listens there' if gone else error.strerror or error}"
    return f"{place}: the daemon has too much to read"
