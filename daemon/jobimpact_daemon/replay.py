"""A recording through the very same bookkeeper and ledger, and the ledger as JSON.

It is how a site reports a problem, how a policy is compared, and how the truth is tested.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from jobimpact.core.calibration import load_calibration
from jobimpact.core.config import Config
from jobimpact.core.errors import RecordingError
from jobimpact.core.nodefile import node_file
from jobimpact.core.records import IDLE, SYSTEM, Absent, Failed, Gauge, Mark, NodeFacts
from jobimpact.core.units import NS
from jobimpact_daemon.bookkeeper import Bookkeeper, Finding, Observation, State
from jobimpact_daemon.holdings import Holdings
from jobimpact_daemon.ledger import Ledger
from jobimpact_daemon.recording import Line, read_recording

__all__ = ["idle_watts", "make_books", "replay"]

MAX_KEYS, MAX_KEY = 10, 80
"""Of the keys that are not known, so many are told, and of each so many characters."""


def replay(config: Config, path: Path) -> dict[str, Any]:
    """Replay a recording.

    Args:
        config: idle powers and the node's size where the recording does not tell.
        path: the recording.

    Returns:
        `domains` (measured_uj, unknown_s, method, holders), `jobs` (uj, seconds, coverage) and `findings`.

    Raises:
        RecordingError: names the file and the line.
    """
    with tempfile.TemporaryDirectory(prefix="jobimpact-replay-") as folder:
        ledger = Ledger(node_file(Path(folder), config.node.name), config.node.name, config.cluster, keep=True)
        facts = NodeFacts(config.node.cpus or 0, config.node.mem_bytes or 0, config.node.gpus)
        books = make_books(config, State(Holdings(facts)), ledger)
        _Player(books, ledger, usual_periods(path)).play(path)
        ledger.close()
        with sqlite3.connect(ledger.path) as db:
            return _told(db, books.state)


def usual_periods(path: Path) -> dict[str, float]:
    """How often each gauge of a recording is read, in seconds: a daemon knows it, and a recording need not tell.

    Raises:
        RecordingError: names the file and the line.
    """
    last: dict[str, int] = {}
    apart: dict[str, list[int]] = {}
    for line in read_recording(path):
        for name, reading in line.seen.readings.items() if line.seen else ():
            if isinstance(reading, Gauge):
                if name in last and line.t_ns > last[name]:
                    apart.setdefault(name, []).append(line.t_ns - last[name])
                last[name] = line.t_ns
    usual = {name: median(found) / NS for name, found in apart.items() if len(found) >= FEW}
    return {name: period_s for name, period_s in usual.items() if period_s <= MAX_PERIOD_S}


def idle_watts(config: Config) -> dict[str, float]:
    """The configured idle powers by domain, in watts."""
    return {**(config.node.sources.rapl.idle_w if config.node.sources.rapl else {}), **config.node.idle_w}


def make_books(config: Config, state: State, ledger: Ledger) -> Bookkeeper:
    """The bookkeeper that a configuration asks for.

    Raises:
        ConfigError: the inventory's calibration is wrong.
    """
    node = config.node
    return Bookkeeper(
        state,
        idle_watts(config),
        ledger.taken,
        policy=node.policy,
        calibration=load_calibration(Path(config.inventory), node.name),
        max_gap_ns=round(node.max_gap_s * NS),
        interval_ns=round(node.interval_s * NS),
    )


FEW = 3
MAX_PERIOD_S = 300.0
"""Nobody asks a meter more seldom than this."""


class _Player:
    """Hands a recording's lines to a bookkeeper as a daemon would."""

    def __init__(self, books: Bookkeeper, ledger: Ledger, periods: Mapping[str, float] | None = None) -> None:
        self._books = books
        self._periods = periods or {}
        self._ledger = ledger
        self._marks: list[Mark] = []
        self._t_ns: int | None = None
        """The last observation of this boot."""
        self._unknown: _Unknown | None = None

    def play(self, path: Path) -> None:
        last: Line | None = None
        for line in read_recording(path):
            self._line(line, path)
            last = line
        self._books.settle()
        if last is not None and self._marks:
            self._books.observe(Observation(last.t_ns, last.wall_s, {}), self._marks)
        if self._unknown is not None:
            self._books.findings.append(self._unknown.finding())
        self._commit(path, last)

    def _commit(self, path: Path, line: Line | None) -> None:
        if not self._ledger.commit(self._books):
            where = f"{path}: line {line.number}" if line else str(path)
            raise RecordingError(f"{where}: the ledger could not be written: {self._ledger.trouble}")

    def _line(self, line: Line, path: Path) -> None:
        books = self._books
        if line.boot is not None and line.boot != books.state.boot:
            self._boot(line.boot)
        books.state.wall_s = line.wall_s
        if line.seen is not None:
            if self._t_ns is not None and line.t_ns < self._t_ns:
                order = f"t {line.t_ns / NS} comes after {self._t_ns / NS}"
                raise RecordingError(f"{path}: line {line.number}: {order}: boot time never falls")
            self._t_ns = line.t_ns
        if line.node is not None:
            books.resize(line.node)
        for domain in line.domains:
            # A reading that failed says nothing of what kind of meter it is.
            failed = line.seen is not None and isinstance(line.seen.readings[domain.name], (Absent, Failed))
            if not (failed and domain.name in books.state.domains):
                period_s = domain.period_s or self._periods.get(domain.name)
                books.declare(msgspec.structs.replace(domain, period_s=period_s))
        if line.unknown:
            self._unknown = self._unknown or _Unknown(line)
            self._unknown.add(line)
        if line.mark is not None:
            self._marks.append(line.mark)
        if line.seen is not None:
            books.observe(line.seen, self._marks)
            self._marks = []
            self._commit(path, line)

    def _boot(self, boot: str) -> None:
        books = self._books
        if books.state.boot or self._t_ns is not None:
            if self._marks:
                books.observe(Observation(self._t_ns or 0, books.state.wall_s, {}), self._marks)
                self._marks = []
            books.reboot(boot)
        books.state.boot, self._t_ns = boot, None


class _Unknown:
    """The keys that this release does not know: one finding, for they may stand in every line.

    Args:
        first: the first line that has any.
    """

    def __init__(self, first: Line) -> None:
        self._first = first
        self._keys: dict[str, None] = {}
        self._lines = 0

    def add(self, line: Line) -> None:
        """One more line that has some."""
        self._lines += 1
        for key in line.unknown:
            if len(self._keys) < MAX_KEYS:
                self._keys.setdefault(key[:MAX_KEY])

    def finding(self) -> Finding:
        """What a person should know of it."""
        others = f" and {self._lines - 1} more" if self._lines > 1 else ""
        keys = ", ".join(repr(key) for key in self._keys)
        text = f"left out: {keys} (line {self._first.number}{others}): misspelt, or of another release"
        return Finding(self._first.wall_s, "unknown key", "recording", text)


def _told(db: sqlite3.Connection, state: State) -> dict[str, Any]:
    holders: dict[str, dict[str, int]] = {}
    coverage: dict[str, dict[str, float]] = {}
    energy: dict[str, int] = {}
    seconds = dict(db.execute("SELECT run, elapsed_ns FROM run"))
    for domain, holder, uj, known_ns in db.execute("SELECT domain, holder, uj, known_ns FROM ledger ORDER BY holder"):
        holders.setdefault(domain, {})[holder] = uj
        if holder in (IDLE, SYSTEM):
            continue
        energy[holder] = energy.get(holder, 0) + uj
        coverage.setdefault(holder, {})[domain] = known_ns / seconds[holder] if seconds[holder] else 0.0
    domains = {
        name: _domain(state, name) | {"holders": holders.get(name, {})}
        for name, book in sorted(state.domains.items())
        if book.domain.kind != "node"
    }
    return {
        "schema": 1,
        "domains": domains | _node(state, domains),
        "meters": {name[5:]: _domain(state, name) for name in sorted(state.domains) if name.startswith("node:")},
        "jobs": {
            run: {
                "uj": energy.get(run),
                "seconds": elapsed_ns / NS,
                "coverage": _held(state, gpus, coverage.get(run, {})),
                "state": run_state,
                "flags": json.loads(flags),
                "used": json.loads(used),
            }
            for run, elapsed_ns, run_state, gpus, flags, used in db.execute(
                "SELECT run, elapsed_ns, state, gpus, flags, used FROM run ORDER BY start_s, run"
            )
        },
        "findings": [
            {"wall": wall_s, "kind": kind, "subject": subject, "text": text}
            for wall_s, kind, subject, text in db.execute(
                "SELECT wall_s, kind, subject, text FROM finding ORDER BY id"
            )
        ],
    }


def _domain(state: State, name: str) -> dict[str, Any]:
    """What a domain measured; what is still pending at the recording's end is unknown."""
    book = state.domains[name]
    return {
        "measured_uj": book.measured_uj if book.known_ns or book.measured_uj else None,
        "unknown_s": book.unknown_by(state.holdings.t_ns) / NS,
        "method": book.domain.method,
    } | ({"reason": book.reason} if book.reason else {})


def _node(state: State, domains: dict[str, Any]) -> dict[str, Any]:
    """The node as a whole, where it has a meter: its parts and the rest, and by how much they miss the meter."""
    rest = domains.get("rest")
    if rest is None:
        return {}
    holders: dict[str, int] = {}
    for domain in domains.values():
        for holder, uj in domain["holders"].items():
            holders[holder] = holders.get(holder, 0) + uj
    whole = {"measured_uj": sum(holders.values()), "unknown_s": rest["unknown_s"], "method": rest["method"]}
    owed_uj = state.rest.deficit_uj + state.rest.forgiven_uj
    return {"node": whole | {"deficit_uj": owed_uj, "holders": dict(sorted(holders.items()))}}


def _held(state: State, gpus: str, known: dict[str, float]) -> dict[str, float]:
    """Coverage of every domain of which the run held a part: 0 where nothing is known."""
    uuids = json.loads(gpus)
    uuids += [state.holdings.node.slices[one].gpu for one in uuids if one in state.holdings.node.slices]
    parts = {
        name
        for name, book in state.domains.items()
        if book.domain.kind != "node" and (book.domain.kind != "gpu" or name.partition(":")[2] in uuids)
    }
    return {name: known.get(name, 0.0) for name in sorted(parts)}
