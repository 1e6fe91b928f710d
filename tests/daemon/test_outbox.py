"""What is to go to a server is written with the books, tells all of them, and loses no total when it is thinned."""

from __future__ import annotations

import json
import re
import sqlite3
import tempfile
import unicodedata
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daemon.books import GIB, Json, end, line, node, start, tick, use, write
from tests.daemon.stories import Story, stories

from jobimpact.core.config import InfluxStore, VictoriaStore
from jobimpact.core.nodefile import SCHEMA, open_for_writing
from jobimpact.core.records import Mark, NodeFacts, SourceHealth
from jobimpact_daemon.bookkeeper import Bookkeeper, Observation
from jobimpact_daemon.ledger import Ledger
from jobimpact_daemon.outbox import AT_ONCE, Delivery, Outbox, unpack
from jobimpact_daemon.recording import read_recording
from jobimpact_daemon.replay import _Player

INFLUX = InfluxStore("http://server.invalid:8086")
PLENTY = 1 << 30
_TAG = re.compile(r"(?:\\.|[^\\ ,])+")
_PART = re.compile(r'(?:\\.|"(?:\\.|[^"\\])*"|[^\\ ,"])+')


@dataclass
class Sent:
    """A line as a server would take it."""

    name: str
    tags: dict[str, str]
    fields: dict[str, Any]
    stamp_ms: int
    class_: str = ""

    @property
    def series(self) -> tuple[str, ...]:
        return (self.name, *sorted(f"{key}={value}" for key, value in self.tags.items()))


_NAME = re.compile(r',books="[0-9a-f]{16}"')


def parsed(text: str) -> Sent:
    """A line; values typed as the protocol says."""
    head, fields, stamp = re.fullmatch(r'((?:\\.|[^ \\])+) ((?:"(?:\\.|[^"\\])*"|[^ "])+) (-?\d+)', text).groups()  # type: ignore[union-attr]
    name, *tags = [re.sub(r"\\(.)", r"\1", part) for part in _TAG.findall(head)]
    found: dict[str, Any] = {}
    for part in _PART.findall(fields):
        key, _, value = part.partition("=")
        if value.startswith('"'):
            found[key] = re.sub(r"\\(.)", r"\1", value[1:-1])
        else:
            found[key] = int(value[:-1]) if value.endswith("i") else float(value)
    return Sent(name, dict(one.split("=", 1) for one in tags), found, int(stamp))  # type: ignore[misc]


def lines(path: Path, *classes: str) -> list[tuple[str, str]]:
    """All lines that wait, in order, each with its row's class."""
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT class, n, lines FROM outbox ORDER BY id").fetchall()
        sizes = dict(db.execute("SELECT class, bytes FROM outbox_size"))
        counts = dict(db.execute("SELECT class, n FROM outbox_size"))
    for name in ("edge", "minute", "profile"):
        assert counts[name] == sum(n for class_, n, _ in rows if class_ == name)
        assert sizes[name] == sum(len(packed) for class_, _, packed in rows if class_ == name)
    assert all(len(unpack(packed).decode().split("\n")) == n for _, n, packed in rows)
    found = [(class_, one) for class_, _, packed in rows for one in unpack(packed).decode().split("\n")]
    return [(class_, one) for class_, one in found if not classes or class_ in classes]


def sent(path: Path, *names: str) -> list[Sent]:
    """The same as a server would take them; of these measurements."""
    found = []
    for class_, text in lines(path):
        one = parsed(text)
        one.class_ = class_
        if not names or one.name in names:
            found.append(one)
    return found


def opened(path: Path, cap: int = PLENTY, store: Any = INFLUX, cpus: int = 8) -> tuple[Ledger, Bookkeeper]:
    """A daemon's start."""
    ledger = Ledger(path, "n1", "c", keep=True, outbox=Outbox(store, "c", "n1", cap))
    state, _, resumed = ledger.load(NodeFacts(cpus, 16 * GIB))
    books = Bookkeeper(state, {}, ledger.taken)
    books.accounts = ledger.accounts(state)
    if resumed:
        books.resume()
    return ledger, books


def play(
    path: Path,
    recording: Sequence[Json],
    cap: int = PLENTY,
    restart_at: Collection[int] = (),
    fail_at: Collection[int] = (),
    store: Any = INFLUX,
) -> None:
    """A recording with a daemon's restarts, and with commits that find the file locked; the last is a minute's."""
    recording = [*recording, line(recording[-1]["t"] + 61)]
    recording[-1]["read"] = {"any": {}}
    source = write(path.with_suffix(".recording"), recording)
    ledger, books = opened(path, cap, store)
    player = _Player(books, ledger)
    for number, one in enumerate(read_recording(source)):
        if number in restart_at:
            assert ledger.commit(books)
            ledger.close()
            marks, t_ns = player._marks, player._t_ns
            ledger, books = opened(path, cap, store)
            player = _Player(books, ledger)
            player._marks, player._t_ns = marks, t_ns
        if number in fail_at:
            ledger._db.execute("PRAGMA query_only=ON")
            assert not ledger.commit(books)
            ledger._db.execute("PRAGMA query_only=OFF")
        player._line(one, source)
    books.settle()
    books.state.wall_s += 61
    assert ledger.commit(books)
    ledger.close()


@dataclass
class Mirror:
    """What a reader makes of the points, in the order in which they were sent."""

    domains: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    ledger: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    node: dict[str, Any] = field(default_factory=dict)

    def take(self, found: Sequence[Sent]) -> None:
        for one in found:
            if one.name == "node_domain":
                self.domains[one.tags["domain"]] = one.fields | {"kind": one.tags["kind"]}
            elif one.name == "job_run":
                self.runs[one.tags["run"]] = one.fields
            elif one.name == "node_books":
                self.node = one.fields
            elif one.name == "job_energy":
                key = one.tags["domain"], one.tags["run"]
                before = self.ledger.get(key, (0, 0))
                assert one.fields["energy_uj"] >= before[0], f"{key} falls"
                assert one.tags["kind"]
                self.ledger[key] = one.fields["energy_uj"], one.fields["known_ns"]

    def check_balance(self) -> None:
        for name, domain in self.domains.items():
            if domain["kind"] != "node":
                have = sum(uj for (where, _), (uj, _) in self.ledger.items() if where == name)
                assert have == domain["energy_uj"], name


def check_all_is_told(path: Path) -> None:
    """Law 5: the points hold what accounting reads of the file, to the microjoule and nanosecond."""
    mirror = Mirror()
    mirror.take(sent(path))
    mirror.check_balance()
    with closing(sqlite3.connect(path)) as db:
        for name, kind, source, method, uj, unknown_ns, known_ns, reason in db.execute("SELECT * FROM domain"):
            told = {"energy_uj": uj, "known_ns": known_ns, "unknown_ns": unknown_ns, "kind": kind, "source": source}
            told |= {"method": method, "stamp_ms": mirror.domains[name]["stamp_ms"]}
            assert mirror.domains[name] == told | ({"reason": reason} if reason else {})
        assert mirror.domains.keys() == {row[0] for row in db.execute("SELECT name FROM domain")}
        for domain, holder, uj, known_ns in db.execute("SELECT * FROM ledger"):
            found = mirror.ledger[domain, holder]
            assert found[0] == uj
            assert holder in ("idle", "system") or found[1] == known_ns
        rows = db.execute("SELECT * FROM run")
        columns = [one[0] for one in rows.description]
        for row in rows:
            run = dict(zip(columns, row, strict=True))
            told = mirror.runs[run.pop("run")]
            run |= {"start_ms": ms(run.pop("start_s")), "end_ms": ms(run.pop("end_s")), "stamp_ms": told["stamp_ms"]}
            nothing = {"used": "{}"}
            assert told == {key: one for key, one in run.items() if one is not None and one != nothing.get(key)}
        whole = db.execute("SELECT meter, meter_uj, parts_uj, deficit_uj FROM whole").fetchone()
        excludes = db.execute("SELECT value FROM meta WHERE key = 'excludes'").fetchone()
    names = ("meter", "meter_uj", "parts_uj", "deficit_uj")
    assert tuple(mirror.node.get(name) for name in names) == (whole or (None,) * 4)
    assert mirror.node.get("excludes") == (excludes[0] if excludes else None)
    assert mirror.node["schema"] == SCHEMA
    assert mirror.node["release"]


def ms(wall_s: float | None) -> int | None:
    return None if wall_s is None else int(wall_s * 1000 // 1)


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, "n1.sqlite")


@settings(max_examples=40)
@given(stories(), st.sets(st.integers(1, 20), max_size=3), st.sets(st.integers(1, 20), max_size=3))
def test_the_points_tell_all_of_the_books(story: Story, restart_at: set[int], fail_at: set[int]) -> None:
    """Whatever marks, meters, boots, restarts and a locked file do; and the books balance in each minute's points."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "n1.sqlite")
        play(path, story.lines, restart_at=restart_at, fail_at=fail_at)
        check_all_is_told(path)
        mirror, commit = Mirror(), list[Sent]()
        for one in sent(path):
            commit.append(one)
            if one.name == "node_books":  # the last of a minute's
                mirror.take(commit)
                mirror.check_balance()
                commit.clear()


@settings(max_examples=25)
@given(stories(), st.sets(st.integers(1, 20), max_size=2), st.integers(200, 4000))
def test_what_is_thinned_is_no_total(story: Story, restart_at: set[int], cap: int) -> None:
    """The last point of each series stays, all starts and ends do, and so does every total."""
    with tempfile.TemporaryDirectory() as folder:
        whole, thin = Path(folder, "whole.sqlite"), Path(folder, "thin.sqlite")
        play(whole, story.lines, restart_at=restart_at)
        play(thin, story.lines, cap, restart_at=restart_at)
        check_all_is_told(thin)
        # Two files have two names, and two publishers.
        full, some = (
            [(class_, _NAME.sub("", text)) for class_, text in lines(one) if "source=publisher" not in text]
            for one in (whole, thin)
        )
        there = {text for _, text in some}
        assert there <= {text for _, text in full}
        assert {text for class_, text in full if class_ == "edge"} <= there
        last = {parsed(text).series: text for _, text in full}
        assert set(last.values()) <= there


def hour(minutes: int = 60) -> list[Json]:
    """One job of an hour, read every 10 s."""
    recording = [node(8, 16 * GIB), start(0.5, "7", cpus=2)]
    recording += [
        tick(second, use(second / 2, j7=second / 4), package_0=100 * second, dram_0=5 * second)
        for second in range(1, minutes * 60, 10)
    ]
    return [*recording, end(minutes * 60 - 5, "7"), tick(minutes * 60, use(), package_0=6000 * minutes)]


def test_a_full_outbox_is_thinned_in_its_order(path: Path) -> None:
    """Power before minutes, the oldest before the newest, nothing of edges; a finding and `publisher` tell of it."""
    play(path, hour())
    [whole] = sizes(path)
    counts = {name: len(lines(path, name)) for name in ("profile", "minute", "edge")}
    thin, thinner = path.with_name("thin.sqlite"), path.with_name("thinner.sqlite")
    play(thin, hour(), whole * 3 // 4)
    assert 0 < len(lines(thin, "profile")) < counts["profile"]
    assert len(lines(thin, "minute")) == counts["minute"]
    stamps = [one.stamp_ms for one in sent(thin, "node_power")]
    middle = (stamps[0] + stamps[-1]) / 2
    assert sum(one > middle for one in stamps) > sum(one < middle for one in stamps)
    play(thinner, hour(), whole // 4)
    assert len(lines(thinner, "profile")) <= 20
    assert 0 < len(lines(thinner, "minute")) < counts["minute"]
    assert len(lines(thinner, "edge")) == counts["edge"]
    with closing(sqlite3.connect(thinner)) as db:
        ((_, text),) = db.execute("SELECT kind, text FROM finding WHERE kind = 'points thinned' ORDER BY id LIMIT 1")
        assert re.match(r"\d+ points of power and health were thinned", text)
    check_all_is_told(thinner)


def sizes(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as db:
        return [row[0] for row in db.execute("SELECT sum(bytes) FROM outbox_size")]


def test_edges_that_alone_are_too_many_stay(path: Path) -> None:
    """They are never dropped; it is said, and the outbox is not looked through at each commit."""
    recording = [node(8, 16 * GIB)]
    for number in range(60):
        recording += [start(10 * number + 1, str(number)), tick(10 * number + 5, use(), package_0=number)]
        recording += [end(10 * number + 6, str(number)), tick(10 * number + 9, use(), package_0=number)]
    play(path, recording, 1000)
    check_all_is_told(path)
    assert {one.tags["run"] for one in sent(path, "job_run")} == {str(number) for number in range(60)}
    ledger, books = opened(path, 1000)
    outbox = ledger._outbox
    assert outbox is not None
    assert ledger.commit(books)
    assert "alone are more than outbox_mb" in str(outbox.health(ledger._db, 0.0)[-1])
    ledger.close()


def test_a_smaller_outbox_is_made_in_many_commits(path: Path) -> None:
    """`outbox_mb` was set lower: the sampler does not wait for all of it to be thinned at once."""
    ledger, books = opened(path)
    stuff = (1, "profile", "profile", 1, bytes(1 << 16))
    put = "INSERT INTO outbox (stamp_ms, class, kept, n, lines) VALUES (?, ?, ?, ?, ?)"
    ledger._db.executemany(put, [stuff] * 200)
    ledger.close()
    ledger, books = opened(path, 1 << 20)
    found = sizes(path)
    while found[-1] > 1 << 20:
        books.state.wall_s += 1
        assert ledger.commit(books)
        found += sizes(path)
        assert 0 < found[-2] - found[-1] <= AT_ONCE + (1 << 16)
    assert len(found) > 3
    ledger.close()


@pytest.mark.parametrize("damage", [b"no zlib", zlib.compress(b"\xff")])
def test_a_damaged_row_does_not_keep_the_daemon_from_starting(path: Path, damage: bytes) -> None:
    """It is left out; what is whole is still known."""
    play(path, hour(3))
    with closing(sqlite3.connect(path)) as db:
        for class_ in ("profile", "minute"):
            db.execute(
                "UPDATE outbox SET lines = ? WHERE id = (SELECT max(id) FROM outbox WHERE class = ?)", (damage, class_)
            )
        db.commit()
    ledger, books = opened(path)
    assert ledger._outbox is not None
    assert {name for _, name in ledger._outbox._now.last} >= {"node_power", "node_domain", "node_books"}
    books.state.wall_s += 61
    assert ledger.commit(books)
    ledger.close()


def test_a_start_is_a_zero_an_end_has_everything(path: Path) -> None:
    """A run that begins with its node has nothing at its start; of GPUs only in its own; its end comes last."""
    recording = [node(4, 4 * GIB, ["GPU-a", "GPU-b"]), tick(1, package_0=0, **{"gpu:GPU-a": 0, "gpu:GPU-b": 0})]
    recording += [start(2, "7", cpus=4, gpus=["GPU-b"]), tick(3, use(2.0, j7=2.0), package_0=100)]
    recording += [tick(5, use(4.0, j7=4.0), package_0=300, **{"gpu:GPU-a": 50, "gpu:GPU-b": 500})]
    recording += [end(6, "7"), tick(7, use(), package_0=400, **{"gpu:GPU-a": 60, "gpu:GPU-b": 600})]
    play(path, recording)
    points = [one for one in sent(path, "job_energy") if one.tags["run"] == "7"]
    zeros = [one for one in points if one.stamp_ms == 1_800_000_002_000]
    assert {one.tags["domain"]: one.fields["energy_uj"] for one in zeros} == {"package-0": 0, "gpu:GPU-b": 0}
    assert {one.class_ for one in points} == {"edge"}
    runs = sent(path, "job_run")
    assert [one.fields["state"] for one in runs][-1] == "ended"
    assert runs[-1].fields["end_ms"] == 1_800_000_006_000
    finals = {one.tags["domain"]: one for one in points if one.fields["energy_uj"]}
    assert finals.keys() == {"package-0", "gpu:GPU-b"}


def test_an_end_is_told_once_until_it_changes(path: Path) -> None:
    """A run whose books are open for another minute is not told at each commit."""
    recording = [node(4), start(1, "7", cpus=4), tick(2, use(1, j7=1), package_0=0), end(3, "7")]
    recording += [tick(4 + second, use(), package_0=100 + second) for second in range(30)]
    play(path, recording)
    assert sum(one.fields["state"] == "ended" for one in sent(path, "job_run")) <= 2


def test_power_is_told_over_the_time_that_is_known(path: Path) -> None:
    """100 W; after a gap without a reading the mean over it; none where nothing is known, and none at the start."""
    recording = [node(4), *(tick(second + 1, use(), package_0=100 * second) for second in (0, 10, 20))]
    recording += [tick(31, use(), package_0={"failed": "EIO"}), tick(41, use(), package_0=5000)]
    play(path, recording)
    watts = [one.fields.get("watts") for one in sent(path, "node_power") if one.tags["domain"] == "package-0"]
    assert watts[:5] == [None, 100.0, 100.0, None, 150.0]


def test_a_restart_goes_on_without_another_start(path: Path) -> None:
    """An open run is told with what it has so far; there is one zero point of it."""
    recording = [node(4), start(1, "7", cpus=4)]
    recording += [tick(2 + second, use(second, j7=second), package_0=100 * second) for second in range(20)]
    play(path, recording, restart_at=[8, 15])
    zeros = [one for one in sent(path, "job_energy") if one.tags["run"] == "7" and not one.fields["energy_uj"]]
    assert len(zeros) == 1
    check_all_is_told(path)


def test_a_file_of_before_the_server_goes_on(path: Path) -> None:
    """From `store: local` to a server: the first commit tells all sums, runs that are open go on."""
    ledger = Ledger(path, "n1", "c", keep=True)
    state, _, _ = ledger.load(NodeFacts(8, 16 * GIB))
    books = Bookkeeper(state, {}, ledger.taken)
    source = write(path.with_suffix(".first"), hour(2)[:-2])
    _Player(books, ledger).play(source)
    ledger.close()
    assert lines(path) == []
    play(path, [tick(200, use(100, j7=50), package_0=20000, dram_0=1000)])
    check_all_is_told(path)


def test_a_commit_that_fails_leaves_no_point(path: Path) -> None:
    """Points and books are of one transaction; the next commit tells what that one would have."""
    ledger, books = opened(path)
    source = write(path.with_suffix(".first"), [node(8), start(1, "7"), tick(2, use(), package_0=1)])
    _Player(books, ledger).play(source)
    before = len(lines(path))
    books.state.domains["package-0"].measured_uj = 1 << 63
    assert not ledger.commit(books)
    assert len(lines(path)) == before
    books.state.domains["package-0"].measured_uj = 0
    books.state.wall_s += 61
    assert ledger.commit(books)
    assert len(lines(path)) > before
    ledger.close()


def test_health_tells_of_sources_and_of_the_way_itself(path: Path) -> None:
    """Once a minute: each source, and as `publisher` how old the oldest point is that waits, and what is wrong."""
    ledger, books = opened(path)
    assert ledger._outbox is not None
    ledger._outbox.delivery = lambda: Delivery(3, 2, 1_000, 9_000, "http://x: Connection refused")
    for second in (0, 30, 90):
        books.state.wall_s = 1_800_000_000.0 + second
        assert ledger.commit(books, [], [SourceHealth("rapl", 5, 1, 10, 50, None, "EIO")])
    ledger.close()
    first, *_ = found = sent(path, "source_health")
    assert [(one.tags["source"], one.stamp_ms // 1000 % 1000) for one in found] == [
        *(("rapl", 0), ("publisher", 0)),
        *(("rapl", 90), ("publisher", 90)),
    ]
    assert first.fields == {"reads": 5, "failures": 1, "took_ns": 10, "busy_ns": 50, "problem": "EIO"}
    told = {"reads": 3, "failures": 2, "took_ns": 1000, "busy_ns": 9000, "age_s": 90.0}
    assert found[3].fields == told | {"problem": "http://x: Connection refused"}
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT reads, age_s FROM source WHERE name = 'publisher'").fetchone() == (3, 90.0)


def test_words_become_tags_where_a_server_keeps_numbers_alone(path: Path) -> None:
    """VictoriaMetrics: no text in a field, and a restart knows its series again."""
    play(path, hour(3), store=VictoriaStore("http://server.invalid:8428"), restart_at=[9])
    assert all(not isinstance(value, str) for one in sent(path) for value in one.fields.values())
    assert {one.tags["job"] for one in sent(path, "job_run")} == {"7"}
    assert len(lines(path, "edge")) == len(
        [one for one in sent(path, "job_run", "job_energy") if one.class_ == "edge"]
    )


HOSTILE = ("'; DROP TABLE outbox; --", "a b,c=d\n e", 'x"\\', "\x00\x1b[31m", "é\u202e", "9" * 10_000)


@pytest.mark.parametrize("job", HOSTILE)
def test_hostile_names_are_carried_and_harm_nothing(path: Path, job: str) -> None:
    """Law 9: one line a point, whatever a job is called."""
    ledger, books = opened(path)
    source = write(path.with_suffix(".first"), [node(8), tick(1, package_0=1)])
    _Player(books, ledger).play(source)
    books.observe(Observation(2 * 10**9, 1_800_000_002.0, {}), [Mark("start", job, 2 * 10**9, cpus=1)])
    assert ledger.commit(books)
    ledger.close()
    assert [one.tags["run"] for one in sent(path, "job_run")]
    assert all(unicodedata.category(one) != "Cc" for _, text in lines(path) for one in text)


def test_without_a_server_there_is_no_outbox(path: Path) -> None:
    """`store: local` writes as before: not a row more."""
    ledger = Ledger(path, "n1", "c", keep=True)
    state, _, _ = ledger.load(NodeFacts(8, 16 * GIB))
    books = Bookkeeper(state, {}, ledger.taken)
    _Player(books, ledger).play(write(path.with_suffix(".r"), hour(2)))
    assert ledger.commit(books, [], [SourceHealth("rapl", 5, 1, 10, 50, None, None)])
    ledger.close()
    assert lines(path) == []
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT name FROM source").fetchall() == [("rapl",)]


def test_the_file_counts_what_another_takes_away(path: Path) -> None:
    """The publisher deletes by a connection of its own: what the outbox goes by is still exact, after a restart."""
    play(path, hour(5))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DELETE FROM outbox WHERE id % 3 = 0")
    assert lines(path)
    open_for_writing(path).close()
    ledger, books = opened(path)
    assert ledger.commit(books)
    ledger.close()
    assert json.dumps(sizes(path))
    assert lines(path)
