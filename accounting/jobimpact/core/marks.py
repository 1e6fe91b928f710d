"""The mark format: what a hook writes and the daemon reads, version 1.

A mark is one file, `<uptime>.<jobid>.<event>.<pid>`, of `key=value` lines that end with `end=1`. Nothing in it
is ever interpreted as code or as a path.
"""

from __future__ import annotations

import re

from jobimpact.core.errors import MarkError
from jobimpact.core.records import IDLE, SYSTEM, Mark
from jobimpact.core.units import NS

__all__ = ["MARK_VERSION", "cpus_on_node", "parse_mark"]

MARK_VERSION = 1
MAX_BYTES = 128 * 1024
MAX_NODES = 1 << 17
RESERVED = {IDLE, SYSTEM, "past"}
"""Holders in the books that are no jobs."""

_DIGITS = re.compile(r"\d{1,18}\Z", re.ASCII)
_UPTIME = re.compile(r"(\d{1,12})(?:\.(\d{1,9}))?\Z", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,255}\Z", re.ASCII)
_JOB = re.compile(r"[A-Za-z0-9_.+-]{1,64}\Z", re.ASCII)
_MINORS = re.compile(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*\Z", re.ASCII)
_DEVICE = re.compile(r"(?:GPU|MIG)-[A-Za-z0-9/-]+\Z", re.ASCII)
_MINOR = re.compile(r"\d{1,4}\Z", re.ASCII)
_SLUID = re.compile(r"[A-Za-z0-9]{1,64}\Z", re.ASCII)
_NODES = re.compile(r"[A-Za-z0-9_.,\[\]-]{1,65536}\Z", re.ASCII)
_RANGE = re.compile(r"(\d{1,9})-(\d{1,9})")
_CPUS = re.compile(r"(\d{1,6})(?:\(x(\d{1,6})\))?\Z", re.ASCII)


def parse_mark(data: bytes) -> Mark:
    """Read one mark's content.

    Args:
        data: the file's bytes.

    Returns:
        The mark; `gpus` are device minor numbers, or where `gpu_devices` tells them, UUIDs of GPUs and MIG devices.

    Raises:
        MarkError: truncated, of another version, or with a value that no hook writes.
    """
    fields = _fields(data)
    if fields.get("v") != str(MARK_VERSION):
        raise MarkError(f"version {fields.get('v')!r:.20}: this release reads version {MARK_VERSION}")
    if fields.get("end") != "1":
        raise MarkError("truncated: its last line is not end=1")
    event = fields.get("event")
    if event not in ("start", "end"):
        raise MarkError(f"event {event!r:.40}: start or end")
    job = fields.get("job", "")
    if not _JOB.match(job) or job in RESERVED:
        raise MarkError(f"job {job!r:.80} is not a job id")
    return Mark(
        event="start" if event == "start" else "end",
        job=job,
        t_ns=_uptime_ns(fields.get("uptime", "")),
        boot=_name(fields, "boot"),
        restart=_number(fields, "restart") or 0,
        uid=_number(fields, "uid"),
        cpus=_number(fields, "cpus") or cpus_on_node(fields),
        mem_bytes=_number(fields, "mem_bytes"),
        gpus=_devices(fields) or _minors(fields),
        gpu_percent=_percent(fields),
        shards=_number(fields, "shards") or None,
        sluid=_sluid(fields),
        sid=_number(fields, "sid"),
    )


def _fields(data: bytes) -> dict[str, str]:
    if len(data) > MAX_BYTES:
        raise MarkError(f"{len(data)} bytes: a mark has at most {MAX_BYTES}")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise MarkError("not plain ASCII") from error
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if not equals or key in fields:
            raise MarkError(f"line {line!r:.80} is not one key=value")
        fields[key] = value
    return fields


def _uptime_ns(text: str) -> int:
    found = _UPTIME.match(text)
    if not found:
        raise MarkError(f"uptime {text!r:.40} is not seconds since boot")
    return int(found[1]) * NS + int((found[2] or "0").ljust(9, "0"))


def _number(fields: dict[str, str], key: str) -> int | None:
    text = fields.get(key)
    if text is None:
        return None
    if not _DIGITS.match(text):
        raise MarkError(f"{key} {text!r:.40} is not a number")
    return int(text)


def _name(fields: dict[str, str], key: str) -> str | None:
    text = fields.get(key)
    if text is not None and not _NAME.match(text):
        raise MarkError(f"{key} {text!r:.80} is not a name")
    return text


def _percent(fields: dict[str, str]) -> int | None:
    percent = _number(fields, "gpu_percent")
    if percent is not None and not 1 <= percent <= 100:
        raise MarkError(f"gpu_percent {percent} is not in 1..100")
    return percent


def _sluid(fields: dict[str, str]) -> str | None:
    text = fields.get("sluid")
    if text is not None and not _SLUID.match(text):
        raise MarkError(f"sluid {text!r:.80} is not Slurm's id of an incarnation")
    return text


def _devices(fields: dict[str, str]) -> tuple[str, ...]:
    """UUIDs, and minor numbers between them on a node that has MIG devices beside whole GPUs.

    They go before `gpus`: that is Slurm's index, which for a MIG device is no minor number at all.
    """
    text = fields.get("gpu_devices")
    if not text:
        return ()
    found = tuple(text.split(","))
    if not all(_DEVICE.match(one) or _MINOR.match(one) for one in found):
        raise MarkError(f"gpu_devices {text!r:.80} are not UUIDs of GPUs or MIG devices")
    return found


def _minors(fields: dict[str, str]) -> tuple[str, ...]:
    text = fields.get("gpus")
    if not text:
        return ()
    if not _MINORS.match(text):
        raise MarkError(f"gpus {text!r:.80} are not device numbers")
    found: list[str] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if int(last or first) - int(first) > 1024:
            raise MarkError(f"gpus {text!r:.80}: too many")
        found += [str(minor) for minor in range(int(first), int(last or first) + 1)]
    return tuple(found)


def cpus_on_node(fields: dict[str, str]) -> int | None:
    """This node's entry of Slurm's compressed `cpus_per_node` (`3(x2),4`), by its place in `nodelist`.

    Returns:
        The CPUs that the job holds here; None where the mark does not tell.

    Raises:
        MarkError: the list is not what Slurm writes.
    """
    counts = fields.get("cpus_per_node")
    if not counts:
        return None
    entries = [_CPUS.match(part) for part in counts.split(",")]
    groups = [(int(found[1]), int(found[2] or 1)) for found in entries if found]
    if len(groups) != len(entries):
        raise MarkError(f"cpus_per_node {counts!r:.80} is not Slurm's list")
    if len({cpus for cpus, _ in groups}) == 1:
        return groups[0][0]
    node, nodelist = _name(fields, "node"), fields.get("nodelist")
    if not node or not nodelist:
        return None
    return _entry(groups, _place(node, nodelist))


def _entry(groups: list[tuple[int, int]], place: int | None) -> int | None:
    if place is None:
        return None
    for cpus, times in groups:
        if place < times:
            return cpus
        place -= times
    return None


def _too_many(nodelist: str) -> bool:
    """Ranges are expanded in memory, and those of one name multiply."""
    total = 0
    for part in _parts(nodelist):
        nodes = 1
        for ranges in re.findall(r"\[([^\]]*)\]", part):
            nodes *= sum(max(1, int(found[2]) - int(found[1]) + 1) for found in _RANGE.finditer(ranges)) or 1
        total += nodes
    return total > MAX_NODES or bool(re.search(r"\d{10}", nodelist))


def _parts(nodelist: str) -> list[str]:
    return re.split(r",(?![^\[]*\])", nodelist)


def _place(node: str, nodelist: str) -> int | None:
    """The node's place in the list as Slurm wrote it: a sorted set would move other prefixes about."""
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException

    if not _NODES.match(nodelist) or _too_many(nodelist):
        raise MarkError(f"nodelist {nodelist!r:.80} is not a node list")
    place = 0
    for part in _parts(nodelist):
        try:
            names = NodeSet(part, resolver=RESOLVER_NOGROUP)
        except NodeSetException as error:
            raise MarkError(f"nodelist {nodelist!r:.80} is not a node list") from error
        found = list(names)
        if node in found:
            return place + found.index(node)
        place += len(names)
    return None
