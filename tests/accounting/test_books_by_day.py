"""The books of days, from node files that the daemon's own path has written: they balance, and days join."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daemon.books import GIB, WALL, Json, write
from tests.daemon.stories import stories

from jobimpact.core.config import Config, Node
from jobimpact.core.nodefile import node_file
from jobimpact.core.records import NodeFacts
from jobimpact.energy.books import NodeSpan, SpanLine
from jobimpact.energy.local import LocalEnergy
from jobimpact_daemon.bookkeeper import State
from jobimpact_daemon.holdings import Holdings
from jobimpact_daemon.ledger import Ledger
from jobimpact_daemon.recording import read_recording
from jobimpact_daemon.replay import _Player, make_books

J = 1_000_000
DAY_S = 86400

Ledgers = dict[float, dict[str, dict[str, int]]]
"""By the stamp of a commit: what each holder had of each domain, and `measured`."""


def live(folder: Path, name: str, lines: Sequence[Json], *, watch: bool = False) -> Ledgers:
    """Let a daemon live through a recording. Gives the whole ledger as it was at each commit, if asked to."""
    config = msgspec.structs.replace(Config(), node=Node(name=name, cpus=4, mem_bytes=4 * GIB))
    ledger = Ledger(node_file(folder, name), name, "lab", keep=True)
    books = make_books(config, State(Holdings(NodeFacts(4, 4 * GIB))), ledger)
    player = _Player(books, ledger)
    recording = write(folder / f"{name}.jsonl", lines)
    seen: Ledgers = {}
    for one in read_recording(recording):
        player._line(one, recording)
        if watch and one.seen is not None:
            seen[books.state.wall_s] = ledger_of(ledger.path)
    assert ledger.commit(books)
    ledger.close()
    return seen


def ledger_of(path: Path) -> dict[str, dict[str, int]]:
    """The ledger of a node's file."""
    with sqlite3.connect(path) as db:
        found = {name: {"measured": uj} for name, uj in db.execute("SELECT name, measured_uj FROM domain")}
        for domain, holder, uj in db.execute("SELECT domain, holder, uj FROM ledger"):
            found[domain][holder] = uj
    return found


def span(folder: Path, name: str, from_s: float, to_s: float) -> NodeSpan:
    """One node's books over a time."""
    with LocalEnergy(folder) as energy:
        [found], unread = energy.span(from_s, to_s, [name])
    assert not unread
    return found


FIELDS = ("measured_uj", "jobs_uj", "idle_uj", "system_uj", "difference_uj")


def sums(line: SpanLine) -> tuple[int, ...]:
    """A line's sums; one of which nothing was told has grown by nothing."""
    return tuple(getattr(line.sums, name) for name in FIELDS) if line.sums else (0,) * len(FIELDS)


@st.composite
def long_stories(draw: st.DrawFn) -> list[Json]:
    """Stories of minutes to days, with a clock that is set back and forth, and time off between boots."""
    slower = draw(st.sampled_from([1, 7, 60, 700, 6000]))
    found = draw(stories()).lines
    steps = draw(
        st.dictionaries(st.integers(1, 60), st.sampled_from([-90000, -3600, -100, -59, -20, 30, 5000]), max_size=2)
    )
    lines: list[Json] = []
    offset_s, last_s, boot = 0.0, 0.0, None
    for number, one in enumerate(found):
        if "boot" in one and boot not in (None, one["boot"]):
            offset_s += last_s + draw(st.sampled_from([0.0, 30.0, 7200.0]))
        boot = one.get("boot", boot)
        offset_s += steps.get(number, 0)
        last_s = max(0.0, one["t"] * slower)
        lines.append({**one, "t": last_s, "wall": WALL + offset_s + last_s})
    return lines


@settings(max_examples=80, deadline=None)
@given(long_stories(), st.data())
def test_for_any_story_times_balance_and_join(lines: list[Json], data: st.DataObject) -> None:
    """Wherever it is cut: each part balances, its cuts are the ledger's own, and parts sum to the whole books."""
    walls = [one["wall"] for one in lines]
    moments = st.floats(min(walls) - 100, max(walls) + 100)
    edges = sorted(data.draw(st.lists(moments, max_size=4), label="edges"))
    edges = [0.0, *edges, max(walls) + 1e6]
    with tempfile.TemporaryDirectory() as folder:
        seen = live(Path(folder), "n1", lines, watch=True)
        seen[float("inf")] = ledger_of(Path(folder, "n1.sqlite"))
        spans = [span(Path(folder), "n1", *pair) for pair in pairwise(edges)]
        whole = span(Path(folder), "n1", edges[0], edges[-1])
    told = sum(sums(line)[1] for line in whole.lines)
    assert whole.runs is not None
    assert sum(one.uj for one in whole.runs) == told
    for number, line in enumerate(whole.lines):
        parts = [one.lines[number] for one in spans]
        for one in parts:
            check(one, seen)
        if line.reason and "not there any more" in line.reason:
            continue  # the clock was set back by just as long as its first point took
        assert [sum(column) for column in zip(*map(sums, parts), strict=True)] == list(sums(line))
        ledger = seen[float("inf")][line.domain]
        assert sums(line)[0] == ledger["measured"]
        assert sums(line)[2:] == (ledger.get("idle", 0), ledger.get("system", 0), 0)
    for one in spans:
        if one.runs is not None:
            assert sum(run.uj for run in one.runs) == sum(sums(line)[1] for line in one.lines)
            assert all(run.uj >= 0 for run in one.runs)


def check(line: SpanLine, seen: Ledgers) -> None:
    """What a line says is what the ledger said at its cuts, and nothing in it is below zero."""
    assert sums(line)[4] == 0
    assert all(uj >= 0 for uj in sums(line))
    if line.sums is None or line.to_s not in seen or (line.from_s is not None and line.from_s not in seen):
        return
    if line.jobs_low_uj is not None and line.jobs_high_uj is not None:
        assert line.jobs_low_uj <= line.sums.jobs_uj <= line.jobs_high_uj
    then = four(seen[line.from_s].get(line.domain, {}) if line.from_s is not None else {})
    # One that ends now has what the ledger had after the last point.
    ends = [four(seen[at][line.domain]) for at in (line.to_s, float("inf"))]
    assert sums(line)[:4] in [tuple(b - a for a, b in zip(then, now, strict=True)) for now in ends]


def four(ledger: dict[str, int]) -> tuple[int, ...]:
    """What was measured, and what jobs, idle and system had."""
    return (ledger.get("measured", 0), jobs_of(ledger), ledger.get("idle", 0), ledger.get("system", 0))


def jobs_of(ledger: dict[str, int]) -> int:
    """What jobs have of a domain."""
    return sum(uj for holder, uj in ledger.items() if holder not in ("measured", "idle", "system"))
