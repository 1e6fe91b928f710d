"""What `sacct` prints, as records: rows as hostile as names of jobs can make them.

A row that cannot be read is a problem that names it, and costs no other row.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence

from jobimpact.core.errors import RecordError
from jobimpact.core.labels import parse_comment
from jobimpact.core.records import JobRecord
from jobimpact.schedulers.base import LATEST_S, MOST, Finished, array_of, expand_nodes
from jobimpact.schedulers.slurm import EARLIEST_S, NEVER_RAN, gpus_of, since_submission, time_limit_s

__all__ = ["EXTRA_FIELDS", "FIELDS", "UNIT_SEPARATOR", "parse_rows", "parse_tres", "read_rows"]

FIELDS = (
    "jobidraw", "jobid", "cluster", "user", "uid", "account", "partition", "qos", "jobname", "state", "exitcode",
    "submit", "eligible", "start", "end", "elapsedraw", "suspended", "timelimitraw", "reqtres", "alloctres",
    "ncpus", "nnodes", "nodelist",
)  # fmt: skip
"""What every version from 21.08 on has, in the order in which it is asked for: ids first, no free text last."""
EXTRA_FIELDS = (
    "comment",
    "dbindex",
    "derivedexitcode",
    "exclusive",
    "failednode",
    "originalsluid",
    "restarts",
    "sluid",
)
"""Asked for where the installed version has them, and kept in `raw`, but for the comment: of that only the labels are
ours. It is free text, so it does not stand last."""
UNIT_SEPARATOR = "\x1f"
ROW_BYTES = 1 << 18
"""A longer row is none."""
SAME_TEXTS = 1 << 16

_TIMES = ("submit", "start", "end")
_UNSET = frozenset({"", "None", "Unknown", "None assigned", "INVALID"})
_MEM = re.compile(r"(\d{1,20}(?:\.\d{1,20})?)([KMGTPE]?)(?:i?B)?\Z", re.ASCII)
_SHIFT = {"K": 10, "": 20, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
_DIGITS = re.compile(r"\d{1,18}\Z", re.ASCII)


def parse_rows(text: str, delimiter: str, cluster: str, fields: Sequence[str] = FIELDS) -> Finished:
    """`read_rows`, of a text."""
    return read_rows([text.encode(errors="surrogateescape")], delimiter, cluster, fields)


def read_rows(
    chunks: Iterable[bytes],
    delimiter: str,
    cluster: str,
    fields: Sequence[str] = FIELDS,
    only: str | None = None,
) -> Finished:
    """Read sacct's output.

    Args:
        chunks: the output, in pieces: rows of `fields`; a row goes on over newlines until it has all of them.
        delimiter: what parts the fields. One of several characters is taken for a token that no name can hold.
        cluster: the records' cluster.
        fields: `FIELDS` and any others.
        only: Slurm's name of the cluster whose rows they must be; None: they are of one cluster, whatever its name.

    Returns:
        The records, and one problem for each row that is not one.
    """
    records, problems = [], []
    same: dict[str, str] = {}
    for row, whole in _rows(chunks, delimiter.encode(), len(fields)):
        texts = row.decode(errors="replace").split(delimiter)
        try:
            raw = _raw(texts, fields, whole, same)
            if only is not None and raw["cluster"].lower() != only.lower():
                raise RecordError(f"of cluster {raw['cluster']!r:.60}, not {only!r:.60}")
            labels = parse_comment(raw.pop("comment", None))
            records.append(_record(raw, cluster, labels))
        except RecordError as error:
            named = " ".join(texts[:2]) or "(empty)"
            problems.append(RecordError(f"sacct row {named!r:.60}: {error}"))
    return Finished(tuple(records), tuple(problems))


def _rows(chunks: Iterable[bytes], delimiter: bytes, count: int) -> Iterator[tuple[bytes, bool]]:
    """Each row, and whether its end was seen."""
    # A name cannot hold the token: a line that begins as rows begin ends a row that was cut short.
    begins = re.compile(rb"\d+%b\d" % re.escape(delimiter)) if len(delimiter) > 1 else None
    lines: list[bytes] = []
    parted, size = 0, 0
    for line, whole in _lines(chunks):
        if lines and begins and begins.match(line):
            yield b"\n".join(lines), False
            lines, parted, size = [], 0, 0
        if not lines and not line.strip():
            continue
        lines.append(line)
        parted += line.count(delimiter)
        size += len(line) + 1
        if parted >= count - 1 or size > ROW_BYTES:
            yield b"\n".join(lines), whole and size <= ROW_BYTES
            lines, parted, size = [], 0, 0
    if lines:
        yield b"\n".join(lines), False


def _lines(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each line, and whether a newline ended it."""
    rest: list[bytes] = []
    size = 0
    for chunk in chunks:
        *ended, last = chunk.split(b"\n")
        for line in ended:
            yield b"".join([*rest, line]) if rest else line, True
            rest, size = [], 0
        rest.append(last)
        size += len(last)
        if size > ROW_BYTES:
            yield b"".join(rest), False
            rest, size = [], 0
    if size:
        yield b"".join(rest), False


def _raw(texts: list[str], fields: Sequence[str], whole: bool, same: dict[str, str]) -> dict[str, str]:
    if len(texts) != len(fields):
        raise RecordError(f"{len(texts)} fields, not {len(fields)}")
    if not whole:
        raise RecordError("it breaks off")
    if len(same) > SAME_TEXTS:
        same.clear()
    # Most texts are those of other rows: they are held once. Comments may be long, and are not held at all.
    return {
        field: text if field == "comment" else same.setdefault(text, text)
        for field, text in zip(fields, texts, strict=True)
    }


def _record(raw: dict[str, str], cluster: str, labels: dict[str, str]) -> JobRecord:
    raw_id = raw["jobidraw"]
    if not _DIGITS.match(raw_id):
        raise RecordError(f"jobidraw {raw_id!r:.40} is not a number")
    submit_s, start_s, end_s = (_time(raw, field) for field in _TIMES)
    if submit_s is None:
        raise RecordError("no submit time, so nothing tells this run from another with the same id")
    state = raw["state"].partition(" ")[0]
    tres = parse_tres(raw["alloctres"])
    # Without nodes it never ran: Slurm then gives the cancellation's time as start, and what was asked as CPUs.
    ran = raw["nodelist"] not in _UNSET and state not in NEVER_RAN
    start_s, elapsed_s = since_submission(start_s, submit_s, _number(raw, "elapsedraw"))
    return JobRecord(
        cluster=cluster,
        raw_id=raw_id,
        job_id=raw["jobid"] or raw_id,
        key=f"{raw_id}@{submit_s}",
        user=raw["user"] or raw["uid"],
        account=raw["account"] or None,
        partition=raw["partition"] or None,
        name=raw["jobname"],
        state=state,
        exit_code=raw["exitcode"] or None,
        submit_s=submit_s,
        start_s=start_s if ran else None,
        end_s=end_s,
        elapsed_s=elapsed_s,
        nodes=expand_nodes(raw["nodelist"]) if ran else (),
        cpus=tres.get("cpu", _number(raw, "ncpus")) if ran else None,
        mem_bytes=tres.get("mem"),
        gpus=gpus_of(tres) if tres else None,
        raw=raw,
        # Only 26.05 tells; before, such a job is known by having been given all CPUs and GPUs.
        exclusive=ran and raw.get("exclusive") == "NODE",
        array_id=array_of(raw["jobid"]),
        time_limit_s=time_limit_s(raw["timelimitraw"]),
        labels=labels,
    )


def _time(raw: dict[str, str], field: str) -> int | None:
    at_s = _number(raw, field) or None
    if at_s is not None and not EARLIEST_S <= at_s < LATEST_S:
        raise RecordError(f"{field} {raw[field]!r:.40} is no time of ours")
    return at_s


def _number(raw: dict[str, str], field: str) -> int | None:
    text = raw[field]
    if text in _UNSET:
        return None
    if not _DIGITS.match(text):
        raise RecordError(f"{field} {text!r:.40} is not a number")
    return int(text)


def parse_tres(text: str) -> dict[str, int]:
    """`cpu=2,gres/gpu:a100=2,mem=500M,node=1` as numbers, memory in bytes.

    Resources that no record tells of are left out where they cannot be read: Slurm prints its own mark for
    "no energy known" as a number beyond all numbers.

    Raises:
        RecordError: not such a list.
    """
    found = {}
    for part in text.split(",") if text else ():
        name, equals, value = part.rpartition("=")
        told = name in {"", "cpu", "mem"} or name.startswith("gres/gpu")
        match = _MEM.match(value)
        if not equals or not match:
            if told:
                raise RecordError(f"resource {part!r:.60} in {text!r:.120}")
            continue
        # Some builds print large counts with a suffix, in thousands.
        scale = 2 ** _SHIFT[match[2]] if name == "mem" else 1000 ** " KMGTPE".index(match[2] or " ")
        amount = math.floor(float(match[1]) * scale) if "." in match[1] else int(match[1]) * scale
        if amount <= MOST:
            found[name] = amount
        elif told:
            raise RecordError(f"resource {part!r:.60}: more than there can be")
    return found
