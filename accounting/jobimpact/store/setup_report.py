"""What `jobimpact store` says, and what both kinds of servers are asked alike."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Struct, field

from jobimpact.core.errors import StoreError
from jobimpact.core.series import EVER, MEASUREMENTS
from jobimpact.store.http import RefusedError
from jobimpact.store.influx import InfluxReader
from jobimpact.store.victoria import VictoriaReader

__all__ = ["DAY_S", "Line", "Report", "is_victoria", "newest", "read"]

T = TypeVar("T")
DAY_S = 86400
SILENT_S = 600


class Line(Struct, frozen=True):
    """One thing that was done, or found."""

    name: str
    text: str
    fine: bool = True


class Report(Struct):
    """What was done or found, and what a person has to do."""

    title: str
    lines: list[Line] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def add(self, name: str, text: str, *, fine: bool = True) -> None:
        """A line more."""
        self.lines.append(Line(name, text, fine))

    @property
    def fine(self) -> bool:
        """Nothing is left to be done."""
        return not self.commands and all(one.fine for one in self.lines)


def newest(report: Report, reader: InfluxReader | VictoriaReader, since_ms: int, now_ms: int) -> None:
    """How old the newest point of each measurement is, and which nodes are silent."""
    nodes: dict[str, int] = {}
    for of in MEASUREMENTS:
        by = "node" if "node" in of.tags else "cluster"
        found = reader.newest(of, since_ms, now_ms + DAY_S * 1000, by)
        if by == "node" and of.kept != EVER:
            for node, stamp_ms in found.items():
                nodes[node] = max(nodes.get(node, 0), stamp_ms)
        if not found:
            report.add(of.name, "no points")
            continue
        what = f", {len(found)} node{'' if len(found) == 1 else 's'}" if by == "node" else ""
        report.add(of.name, f"{_ago(now_ms - max(found.values()))}{what}")
    silent = {node: now_ms - stamp_ms for node, stamp_ms in nodes.items() if now_ms - stamp_ms > SILENT_S * 1000}
    ahead = {node: stamp_ms - now_ms for node, stamp_ms in nodes.items() if stamp_ms - now_ms > SILENT_S * 1000}
    for node in sorted(silent, key=lambda one: -silent[one]):
        report.add("silent", f"{_shown(node)}: {_ago(silent[node])}", fine=False)
    for node in sorted(ahead):
        report.add("ahead", f"{_shown(node)}: its clock is {_span(ahead[node])} ahead of this machine's", fine=False)


def is_victoria(reader: InfluxReader | VictoriaReader) -> bool:
    """Whether the server's figures are VictoriaMetrics'."""
    try:
        return b"vm_app_version" in reader.http.ask("/metrics", {}, "GET")
    except RefusedError as error:
        # It may be hidden from us: the rest tells then.
        return isinstance(reader, VictoriaReader) and error.status in {401, 403}


def read(body: bytes, of: type[T]) -> T:
    """An answer in JSON.

    Raises:
        StoreError: it is of another kind.
    """
    try:
        return msgspec.json.decode(body, type=of)
    except msgspec.DecodeError as error:
        raise StoreError(f"an answer of another kind than was asked for ({error})") from None


def _ago(span_ms: int) -> str:
    return f"newest point {_span(span_ms)} ago" if span_ms >= 0 else "newest point is in the future"


def _span(span_ms: int) -> str:
    seconds = span_ms // 1000
    for size, unit in ((DAY_S, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _shown(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text)[:64]
