"""What a job says in mid run, as one datagram: `jobimpact progress` writes it, the node's daemon reads it."""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from jobimpact.core.errors import ProgressError
from jobimpact.core.labels import MAX_LABELS, is_name, is_value

__all__ = ["MAX_DATAGRAM", "MAX_METRICS", "SOCKET", "Said", "decode", "encode"]

SOCKET = "/run/jobimpact/progress.sock"
VERSION = 1
MAX_DATAGRAM = 8192
MAX_METRICS = 16
_LONGEST_JOB = 64


class Said(Struct, frozen=True, omit_defaults=True):
    """How far a job is, how good, and what it is."""

    job: Annotated[str, Meta(max_length=_LONGEST_JOB)] | None = None
    """The raw job id that its environment names; who may speak for it is another question."""
    step: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    metrics: dict[str, float] = {}
    labels: dict[str, str] = {}
    v: int = VERSION


def encode(said: Said) -> bytes:
    """The datagram.

    Raises:
        ProgressError: it says nothing, too much, or something that may not be said: in plain words.
    """
    _check(said)
    data = msgspec.json.encode(msgspec.structs.replace(said, v=VERSION))
    if len(data) > MAX_DATAGRAM:
        raise ProgressError(f"all of it is {len(data)} bytes: at most {MAX_DATAGRAM}")
    return data


def decode(data: bytes) -> Said:
    """What a datagram says; it may be anybody's.

    Raises:
        ProgressError: it is none of ours.
    """
    if len(data) > MAX_DATAGRAM:
        raise ProgressError(f"more than {MAX_DATAGRAM} bytes")
    try:
        said = msgspec.json.decode(data, type=Said)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProgressError(f"not what `jobimpact progress` writes: {error}") from error
    _check(said)
    return said


def _check(said: Said) -> None:
    if said.step is None and not said.metrics and not said.labels:
        raise ProgressError("nothing is said: a step, a metric or a label")
    for what, names, most in (("metric", said.metrics, MAX_METRICS), ("label", said.labels, MAX_LABELS)):
        for name in names:
            if not is_name(name):
                raise ProgressError(f"{what} {name!r:.60}: a name is a letter, then up to 31 of A-Z a-z 0-9 _ . -")
        if len(names) > most:
            raise ProgressError(f"{len(names)} {what}s: at most {most}")
    for name, number in said.metrics.items():
        if not math.isfinite(number):
            raise ProgressError(f"metric {name}: {number} is not a finite number")
    for name, text in said.labels.items():
        if not is_value(text):
            raise ProgressError(f"label {name}: up to 200 bytes of printable text")
