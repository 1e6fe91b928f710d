"""The recording: JSON Lines of what was read and marked, written by a daemon and read by `replay`.

One object a line, `t` in seconds of boot time and `wall` in seconds since the epoch. `read` holds readings by
source and domain (`uj` cumulative; `w` power now, `t` its own time if that is another; `absent` or `failed` with the
reason), `usage` cumulative CPU seconds and memory now, `mark` one mark. The first line says what the node is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import msgspec
from msgspec import Meta, inspect

from jobimpact.core.errors import RecordingError
from jobimpact.core.marks import RESERVED
from jobimpact.core.records import (
    Absent,
    Counter,
    Domain,
    DomainKind,
    Failed,
    Gauge,
    JobUsage,
    Mark,
    Method,
    NodeFacts,
    Reading,
    Slice,
    Usage,
)
from jobimpact.core.units import NS, ns
from jobimpact_daemon.bookkeeper import Observation

__all__ = ["Line", "Recorder", "book_name", "booked", "read_recording"]

_KINDS: dict[str, DomainKind] = {
    "package": "cpu",
    "cpu": "cpu",
    "dram": "dram",
    "gpu": "gpu",
    "module": "gpu",
    "node": "node",
}
_DOMAIN = re.compile(r"package-[\w-]+|cpu|dram(-[\w-]+)?|(gpu|module):\S+|node", re.ASCII)
_FORMS = "package-N, cpu, dram-N, gpu:<UUID>, module:<UUID> or node"

_Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
_Size = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
_Seconds = Annotated[float, Meta(ge=0, le=1e10)]
_Watts = Annotated[float, Meta(ge=0, le=1e9)]
_Part = Annotated[float, Meta(ge=0, le=1)]


class Line(msgspec.Struct, frozen=True):
    """One line: any of its parts may be missing."""

    number: int
    t_ns: int
    wall_s: float
    boot: str | None = None
    node: NodeFacts | None = None
    domains: tuple[Domain, ...] = ()
    seen: Observation | None = None
    mark: Mark | None = None
    unknown: tuple[str, ...] = ()
    """Keys that this release does not know; `*` stands for a name."""


class _RawReading(msgspec.Struct):
    uj: _Count | None = None
    max_uj: _Size | None = None
    epoch: str | None = None
    max_w: _Watts | None = None
    absent: str | None = None
    failed: str | None = None
    w: _Watts | None = None
    t: _Seconds | None = None
    idle_w: _Watts | None = None
    method: Method | None = None
    latency_s: _Seconds | None = None
    period_s: _Seconds | None = None
    excludes: tuple[DomainKind, ...] = ()


class _RawJob(msgspec.Struct):
    cpu_s: _Seconds
    mem_bytes: _Count | None = None
    mem_limit_bytes: _Count | None = None
    gone: bool = False
    cpu_s_by: dict[str, _Seconds] | None = None
    cpus_by: dict[str, _Count] | None = None
    suspended: bool = False
    gpu_s: dict[str, _Seconds] = {}
    cpuset: _Count | None = None
    ended: bool = False
    empty_s: _Seconds | None = None


class _RawUsage(msgspec.Struct):
    jobs: dict[str, _RawJob] = {}
    busy_cpu_s: _Seconds | None = None
    used_mem_bytes: _Count | None = None
    busy_cpu_s_by: dict[str, _Seconds] | None = None
    gpu_s: dict[str, _Seconds] = {}
    util: dict[str, _Part] = {}


class _RawMark(msgspec.Struct):
    event: Literal["start", "end"]
    job: str
    uid: _Count | None = None
    restart: Annotated[int, Meta(ge=0, le=1 << 31)] = 0
    cpus: _Count | None = None
    mem_bytes: _Count | None = None
    gpus: tuple[str, ...] = ()
    gpu_percent: Annotated[int, Meta(ge=1, le=100)] | None = None
    shards: _Count | None = None
    sluid: str | None = None


class _RawSlice(msgspec.Struct):
    gpu: str
    parts: _Size
    of: _Size = 7


class _RawNode(msgspec.Struct):
    cpus: _Count
    mem_bytes: _Count
    gpus: tuple[str, ...] = ()
    packages: dict[str, _Size] = {}
    slices: dict[str, _RawSlice] = {}


class _RawLine(msgspec.Struct):
    t: _Seconds
    wall: Annotated[float, Meta(ge=-1e12, le=1e12)]
    boot: str | None = None
    node: _RawNode | None = None
    read: dict[str, dict[str, _RawReading]] | None = None
    usage: _RawUsage | None = None
    mark: _RawMark | None = None


_Keys = dict[str, "_Keys | None"]


def _keys(kind: inspect.Type) -> _Keys | None:
    """The keys of an object, with those of what is below them; `*`: any; None: it is no object."""
    if isinstance(kind, inspect.UnionType):
        return next((found for one in kind.types if (found := _keys(one)) is not None), None)
    if isinstance(kind, inspect.StructType):
        return {field.encode_name: _keys(field.type) for field in kind.fields}
    return {"*": _keys(kind.value_type)} if isinstance(kind, inspect.DictType) else None


_KEYS = _keys(inspect.type_info(_RawLine))


def _unknown(found: Any, known: _Keys | None, place: str = "") -> Iterator[str]:
    """The keys of an object that are none of the known."""
    if known is None or not isinstance(found, dict):
        return
    for key, value in found.items():
        name = "*" if "*" in known else key
        if name not in known:
            yield place + key
        elif known[name] is not None:
            yield from _unknown(value, known[name], f"{place}{name}.")


def _domain_of(source: str, name: str, raw: _RawReading, where: str) -> Domain | None:
    """What a domain's name says that it is; None: no domain that this release can attribute."""
    kind = _KINDS.get(name.partition(":")[0].partition("-")[0])
    if kind is None:
        return None
    if not _DOMAIN.fullmatch(name):
        raise RecordingError(f"{where}: {name!r} is not a domain's name: {_FORMS}")
    guessed: Method = "modelled" if source == "model" else "counter" if raw.w is None else "gauge"
    told = raw.idle_w, raw.latency_s, raw.excludes, raw.period_s
    return booked(Domain(name, kind, source, raw.method or guessed, *told))


def booked(domain: Domain) -> Domain:
    """A node's meters have books of their own, by source."""
    return msgspec.structs.replace(domain, name=book_name(domain.source, domain.name))


def book_name(source: str, name: str) -> str:
    """The book of a source's domain."""
    return f"node:{source}" if name == "node" else name


def read_recording(path: Path) -> Iterator[Line]:
    """The lines of a recording, in order.

    Raises:
        RecordingError: names the file and the line.
    """
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                if text.strip():
                    yield _parse(text, number, f"{path}: line {number}")
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror}") from error


def _parse(text: bytes, number: int, where: str) -> Line:
    try:
        found = msgspec.json.decode(text)
        raw = msgspec.convert(found, _RawLine)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RecordingError(f"{where}: {error}") from error
    for job in [*(raw.usage.jobs if raw.usage else ()), *([raw.mark.job] if raw.mark else ())]:
        if not job or job in RESERVED:
            raise RecordingError(f"{where}: {job!r} is not a job's id")
    t_ns = ns(raw.t)
    domains, readings = _read(raw.read or {}, where)
    seen = None
    if raw.read is not None or raw.usage is not None:
        seen = Observation(t_ns, raw.wall, readings, _usage(raw.usage))
    node, mark, unknown = _node(raw.node, where), _mark(raw.mark, t_ns), tuple(_unknown(found, _KEYS))
    return Line(number, t_ns, raw.wall, raw.boot, node, domains, seen, mark, unknown)


def _node(raw: _RawNode | None, where: str) -> NodeFacts | None:
    if raw is None:
        return None
    for name, one in raw.slices.items():
        if one.parts > one.of:
            raise RecordingError(f"{where}: node.slices.{name}: parts: {one.parts} of {one.of}")
    slices = {name: Slice(one.gpu, one.parts, one.of) for name, one in raw.slices.items()}
    return NodeFacts(raw.cpus, raw.mem_bytes, raw.gpus, raw.packages, slices)


def _read(raw: dict[str, dict[str, _RawReading]], where: str) -> tuple[tuple[Domain, ...], dict[str, Reading]]:
    domains: dict[str, Domain] = {}
    readings: dict[str, Reading] = {}
    for source, found in raw.items():
        for name, one in found.items():
            key = f"{where}: read.{source}.{name}"
            domain = _domain_of(source, name, one, key)
            if domain is None:
                continue
            other = domains.setdefault(domain.name, domain)
            if other is not domain:
                raise RecordingError(f"{key}: {other.source} has it too: only `node` may have several sources")
            readings[domain.name] = _reading(one, key)
    return tuple(domains.values()), readings


def _reading(raw: _RawReading, where: str) -> Reading:
    if raw.uj is not None:
        return Counter(raw.uj, raw.max_uj, raw.epoch, raw.max_w)
    if raw.failed is not None:
        return Failed(raw.failed)
    if raw.absent is not None:
        return Absent(raw.absent)
    if raw.w is not None:
        return Gauge(raw.w, None if raw.t is None else ns(raw.t))
    raise RecordingError(f"{where}: one of uj, w, absent, failed")


def _usage(raw: _RawUsage | None) -> Usage | None:
    if raw is None:
        return None
    jobs = {
        job: JobUsage(
            ns(use.cpu_s),
            use.mem_bytes,
            use.mem_limit_bytes,
            gone=use.gone,
            cpu_by=_all_ns(use.cpu_s_by),
            cpus_by=use.cpus_by,
            suspended=use.suspended,
            gpu_ns=_all_ns(use.gpu_s) or {},
            cpus=use.cpuset,
            ended=use.ended,
            empty_ns=None if use.empty_s is None else ns(use.empty_s),
        )
        for job, use in raw.jobs.items()
    }
    busy_ns = None if raw.busy_cpu_s is None else ns(raw.busy_cpu_s)
    by, gpu_ns = _all_ns(raw.busy_cpu_s_by), _all_ns(raw.gpu_s) or {}
    return Usage(jobs, busy_ns, raw.used_mem_bytes, by, gpu_ns, raw.util)


def _all_ns(found: dict[str, float] | None) -> dict[str, int] | None:
    return None if found is None else {name: ns(one) for name, one in found.items()}


def _mark(raw: _RawMark | None, t_ns: int) -> Mark | None:
    if raw is None:
        return None
    return Mark(
        raw.event,
        raw.job,
        t_ns,
        restart=raw.restart,
        uid=raw.uid,
        cpus=raw.cpus,
        mem_bytes=raw.mem_bytes,
        gpus=raw.gpus,
        gpu_percent=raw.gpu_percent,
        shards=raw.shards,
        sluid=raw.sluid,
    )


class Recorder:
    """Writes a recording as the daemon goes.

    Args:
        file: where to; every line is whole.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def node(self, t_ns: int, wall_s: float, boot: str, node: NodeFacts) -> None:
        """What the node is; again after each discovery."""
        whole = {name: value for name, value in msgspec.to_builtins(node).items() if value != {}}
        self._line(t_ns, wall_s, boot=boot, node=whole)

    def mark(self, mark: Mark, seen: Observation) -> None:
        """One mark, at its own time."""
        fields: dict[str, Any] = {
            "event": mark.event,
            "job": mark.job,
            "uid": mark.uid,
            "restart": mark.restart or None,
        }
        fields |= {"cpus": mark.cpus, "mem_bytes": mark.mem_bytes, "gpus": mark.gpus or None}
        fields |= {"gpu_percent": mark.gpu_percent, "shards": mark.shards, "sluid": mark.sluid}
        wall_s = seen.wall_s - (seen.t_ns - mark.t_ns) / NS
        self._line(mark.t_ns, wall_s, mark={key: value for key, value in fields.items() if value is not None})

    def seen(self, seen: Observation, domains: dict[str, Domain]) -> None:
        """One observation."""
        read: dict[str, dict[str, Any]] = {}
        for name, reading in seen.readings.items():
            domain = domains.get(name)
            if domain is not None:
                own = name.partition(":")[0] if domain.kind == "node" else name
                read.setdefault(domain.source, {})[own] = _written(reading, domain)
        use = seen.usage
        usage: dict[str, Any] | None = None
        if use is not None:
            usage = {"busy_cpu_s": _s(use.busy_cpu_ns), "used_mem_bytes": use.used_mem_bytes}
            usage |= _given(busy_cpu_s_by=_all_s(use.busy_by), gpu_s=_all_s(use.gpu_ns), util=use.utilisation)
            usage["jobs"] = {job: _written_job(one) for job, one in use.jobs.items()}
        self._line(seen.t_ns, seen.wall_s, read=read, **({"usage": usage} if usage else {}))

    def _line(self, t_ns: int, wall_s: float, **parts: Any) -> None:
        line = {"t": t_ns / NS, "wall": wall_s, **parts}
        self._file.write(msgspec.json.encode(line).decode() + "\n")
        self._file.flush()


def _s(duration_ns: int | None) -> float | None:
    return None if duration_ns is None else duration_ns / NS


def _all_s(found: dict[str, int] | None) -> dict[str, float] | None:
    return None if found is None else {name: one / NS for name, one in found.items()}


def _given(**fields: Any) -> dict[str, Any]:
    """What there is something to say of."""
    return {key: value for key, value in fields.items() if value not in (None, {}, (), False)}


def _written(reading: Reading, domain: Domain) -> dict[str, Any]:
    if isinstance(reading, Absent):
        return {"absent": reading.reason}
    if isinstance(reading, Failed):
        return {"failed": reading.error}
    found = {key: value for key, value in msgspec.to_builtins(reading).items() if value is not None}
    if isinstance(reading, Gauge):
        found = {"w": reading.w} | ({} if reading.t_ns is None else {"t": reading.t_ns / NS})
    usual = "gauge" if isinstance(reading, Gauge) else "counter"
    odd = domain.method if domain.method != usual and domain.source != "model" else None
    more = _given(method=odd, latency_s=domain.latency_s, period_s=domain.period_s, excludes=domain.excludes)
    return found | more | ({} if domain.idle_w is None else {"idle_w": domain.idle_w})


def _written_job(use: JobUsage) -> dict[str, Any]:
    fields = {"cpu_s": use.cpu_ns / NS, "mem_bytes": use.mem_bytes, "mem_limit_bytes": use.mem_limit_bytes}
    found = {key: value for key, value in fields.items() if value is not None}
    more = {"cpu_s_by": _all_s(use.cpu_by), "cpus_by": use.cpus_by, "gpu_s": _all_s(use.gpu_ns)}
    of_oar = {"cpuset": use.cpus, "ended": use.ended, "empty_s": _s(use.empty_ns)}
    return found | _given(**more, gone=use.gone, suspended=use.suspended, **of_oar)
