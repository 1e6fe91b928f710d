"""What a server says of nodes' books, looked at before it is believed, and told where it is no such row."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from jobimpact.core.labels import is_value
from jobimpact.core.records import IDLE, PAST, SYSTEM, DomainKind, Method
from jobimpact.core.series import JOB_ENERGY, JOB_LABEL, JOB_PROGRESS, JOB_RUN, NODE_BOOKS, NODE_DOMAIN, Measurement
from jobimpact.store.series import Row

__all__ = ["AHEAD", "Arrivals", "Arrived", "BooksRow", "DomainRow", "ProgressRow", "RunRow", "is_node_name"]

AHEAD = "ahead"
"""The holder of what runs are told to have had since the last commit of all holders: less than nothing, until that
commit's successor has come."""
NO_RUNS = frozenset({IDLE, SYSTEM, PAST, AHEAD})
_NODE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,239}\Z", re.ASCII)
MOST_FLOAT = sys.float_info.max
LATEST_MS = 253_402_300_800_000
"""The year 10000."""

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Signed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Stamp = Annotated[int, Meta(ge=0, lt=LATEST_MS)]
Text = Annotated[str, Meta(min_length=1, max_length=4096)]

Name = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,31}\Z")]
"""Of a metric or a label."""

R = TypeVar("R", bound=Struct)


class DomainRow(Struct, frozen=True):
    """Where a domain stands at a commit."""

    node: str
    domain: Text
    kind: DomainKind
    energy_uj: Count
    known_ns: Count
    unknown_ns: Count
    source: Text
    method: Method
    reason: str | None = None


class EnergyRow(Struct, frozen=True):
    """What a holder has of a domain."""

    node: str
    run: Text
    domain: Text
    energy_uj: Count
    known_ns: Count


class RunRow(Struct, frozen=True):
    """What a node's books say of a run."""

    node: str
    run: Text
    job: Text
    restart: Count
    state: Literal["open", "ended", "lost", "rebooted"]
    start_ms: Stamp
    elapsed_ns: Count
    gpus: str
    flags: str
    held: str
    end_ms: Stamp | None = None
    uid: Count | None = None
    cpus: Count | None = None
    mem_bytes: Count | None = None
    used: str = "{}"


class ProgressRow(Struct, frozen=True):
    """What a run said of its progress; without a metric: a step alone."""

    node: str
    run: Text
    metric: Name | None = None
    step: Signed | None = None
    value: Annotated[float, Meta(ge=-MOST_FLOAT, le=MOST_FLOAT)] | None = None
    energy_uj: Count | None = None


class LabelRow(Struct, frozen=True):
    """What a run said that it is."""

    node: str
    run: Text
    label: Name
    value: str


class BooksRow(Struct, frozen=True):
    """A node's meter against its parts; `excludes`: by meter, the parts that it does not see, as JSON."""

    node: str
    meter: Text | None = None
    meter_uj: Count | None = None
    parts_uj: Count | None = None
    deficit_uj: Signed | None = None
    excludes: str | None = None
    books: Text | None = None
    """Which file of the node's own they are."""


class Arrived(Struct):
    """What came of one node; stamps are milliseconds since the epoch."""

    domains: dict[int, dict[str, DomainRow]] = {}
    """By commit."""
    energy: dict[tuple[str, str], dict[int, tuple[int, int]]] = {}
    """By holder and domain, then by stamp: microjoules, and for how many ns they are known."""
    runs: dict[str, tuple[int, RunRow]] = {}
    """The latest of each, with its stamp."""
    books: dict[int, BooksRow] = {}
    """By commit."""
    progress: dict[tuple[str, str], dict[int, ProgressRow]] = {}
    """By run and metric (empty: a step alone), then by stamp."""
    labels: dict[tuple[str, str], tuple[int, str]] = {}
    """By run and name: the latest, with its stamp."""


class Arrivals:
    """All nodes' rows of a cluster, as they come.

    Args:
        cluster: whose nodes alone are taken.
    """

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self.nodes: dict[str, Arrived] = {}
        self._bad: dict[str, tuple[int, str]] = {}
        """By measurement: how many rows were left out, and why the first was."""

    @property
    def problems(self) -> list[str]:
        """What was left out."""
        return [
            f"{name} of the server: {why}" + (f" (and {many - 1} more rows)" if many > 1 else "") + ": left out"
            for name, (many, why) in self._bad.items()
        ]

    def add(self, of: Measurement, rows: Iterable[Row]) -> None:
        """Take rows of one measurement in; what is no such row is left out, and told.

        Raises:
            StoreError: by the reader, as it reads.
        """
        takes = {
            NODE_DOMAIN.name: self._domain,
            JOB_ENERGY.name: self._energy,
            JOB_RUN.name: self._run,
            NODE_BOOKS.name: self._books,
            JOB_PROGRESS.name: self._progress,
            JOB_LABEL.name: self._label,
        }[of.name]
        for row in rows:
            try:
                takes(row)
            except (msgspec.ValidationError, msgspec.DecodeError, _StrangeError) as error:
                many, why = self._bad.get(of.name, (0, str(error)))
                self._bad[of.name] = many + 1, why

    def _node(self, row: Row) -> Arrived:
        if row.tags.get("cluster") != self._cluster:
            raise _StrangeError(f"of cluster {row.tags.get('cluster')!r:.80}, which was not asked for")
        node = row.tags.get("node", "")
        if not is_node_name(node):
            raise _StrangeError(f"{node!r:.80} is not a node's name")
        if not 0 <= row.stamp_ms < LATEST_MS:
            raise _StrangeError(f"{node}: {row.stamp_ms} is no stamp")
        return self.nodes.setdefault(node, Arrived())

    def _domain(self, row: Row) -> None:
        found = _read(row, DomainRow)
        self._node(row).domains.setdefault(row.stamp_ms, {})[found.domain] = found

    def _energy(self, row: Row) -> None:
        found = _read(row, EnergyRow)
        if found.run in (PAST, AHEAD):
            raise _no_run(found.run)
        points = self._node(row).energy.setdefault((found.run, found.domain), {})
        uj, known_ns = points.get(row.stamp_ms, (0, 0))
        points[row.stamp_ms] = max(uj, found.energy_uj), max(known_ns, found.known_ns)

    def _run(self, row: Row) -> None:
        found = _read(row, RunRow)
        if found.run in NO_RUNS:
            raise _no_run(found.run)
        if (found.state == "open") != (found.end_ms is None):
            raise _StrangeError(f"run {found.run!r:.80} is {found.state}, and its end is {found.end_ms}")
        msgspec.json.decode(found.gpus, type=list[str])
        msgspec.json.decode(found.flags, type=list[str])
        msgspec.json.decode(found.held, type=dict[str, Any])
        msgspec.json.decode(found.used, type=dict[str, Count])
        runs = self._node(row).runs
        if found.run not in runs or runs[found.run][0] <= row.stamp_ms:
            runs[found.run] = row.stamp_ms, found

    def _books(self, row: Row) -> None:
        found = _read(row, BooksRow)
        if found.excludes is not None:
            msgspec.json.decode(found.excludes, type=dict[str, list[DomainKind]])
        self._node(row).books[row.stamp_ms] = found

    def _progress(self, row: Row) -> None:
        found = _read(row, ProgressRow)
        if found.run in NO_RUNS:
            raise _no_run(found.run)
        self._node(row).progress.setdefault((found.run, found.metric or ""), {})[row.stamp_ms] = found

    def _label(self, row: Row) -> None:
        found = _read(row, LabelRow)
        if found.run in NO_RUNS:
            raise _no_run(found.run)
        if not is_value(found.value):
            raise _StrangeError(
                f"label {found.label} of run {found.run!r:.80}: {found.value!r:.60} is no label's value"
            )
        labels = self._node(row).labels
        if (row.stamp_ms, found.value) >= labels.get((found.run, found.label), (0, "")):
            labels[found.run, found.label] = row.stamp_ms, found.value


class _StrangeError(Exception):
    """A row that is not ours."""


def _no_run(name: str) -> _StrangeError:
    return _StrangeError(f"{name!r:.80} is no run's name")


def is_node_name(text: str) -> bool:
    """Whether a file may have this name."""
    return _NODE.match(text) is not None


def _read(row: Row, of: type[R]) -> R:
    fields: dict[str, Any] = {**row.fields, **row.tags}
    try:
        return msgspec.convert(fields, of)
    except msgspec.ValidationError as error:
        where = " ".join(f"{name}={value!r:.60}" for name, value in sorted(row.tags.items()))
        raise _StrangeError(f"{where}: {error}") from None
