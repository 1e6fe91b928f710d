"""What jobs say of themselves: through a real socket, the real books and a real file, by whoever may and may not."""

from __future__ import annotations

import array
import json
import os
import socket
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.daemon.books import GIB, WALL
from tests.daemon.running import until
from tests.daemon.test_outbox import INFLUX, parsed

from jobimpact.core.progress import MAX_DATAGRAM, Said, encode
from jobimpact.core.records import Counter, Domain, JobUsage, Mark, NodeFacts, Usage
from jobimpact.core.units import NS
from jobimpact_daemon import words
from jobimpact_daemon.bookkeeper import Bookkeeper, Observation
from jobimpact_daemon.jobs.progress_socket import KEPT, ProgressSocket, Received
from jobimpact_daemon.ledger import Ledger
from jobimpact_daemon.outbox import Outbox, unpack
from jobimpact_daemon.progress import MAX_WAITING, Listener

ME = os.getuid()
OTHER = 65534
is_root = pytest.mark.skipif(ME != 0, reason="only root can be somebody else")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that others reach, with a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="ji") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder, "p.sock")


class Node:
    """A node's books with job 1 of `uid`, 10 W of it, and the jobs that senders are proven to be in."""

    def __init__(self, folder: Path, place: Path, uid: int | None = ME, outbox: Outbox | None = None) -> None:
        self.ledger = Ledger(folder / "n1.sqlite", "n1", "c", outbox=outbox)
        state, _, resumed = self.ledger.load(NodeFacts(4, 4 * GIB))
        self.books = Bookkeeper(state, {}, self.ledger.taken)
        self.books.accounts = self.ledger.accounts(state)
        self.socket = ProgressSocket(place, Path("/proc"), lambda: self.wall_s)
        self.proven: str | None = None
        self.listener = Listener(self.books, self.job_at)
        self.t = 0
        self.wall_s = WALL
        if resumed:
            self.t, self.wall_s = state.holdings.t_ns // NS, state.wall_s
            self.books.resume()
        else:
            self.books.declare(Domain("package-0", "cpu", "rapl"))
            self.tick(1, Mark("start", "1", NS, uid=uid, cpus=4))
            self.tick(1)

    def job_at(self, _cgroups: object, _sid: object) -> str | None:
        return self.proven

    def tick(self, seconds: int = 1, *marks: Mark, usage: Usage | None = None) -> None:
        """Time passes, and everything is written."""
        self.t, self.wall_s = self.t + seconds, self.wall_s + seconds
        reading = {"package-0": Counter(self.t * 10_000_000)}
        self.take()
        self.books.observe(Observation(self.t * NS, self.wall_s, reading, usage or Usage({})), list(marks))
        assert self.ledger.commit(self.books)

    def take(self) -> int:
        """Take what has come; how many there were."""
        found, dropped = self.socket.take()
        self.listener.take(found, dropped, self.t * NS)
        return len(found) + sum(many for many, _ in dropped.values())

    def hear(self, many: int = 1) -> None:
        """Wait for so many datagrams."""
        until(lambda: self.came(many), f"for {many} datagrams")

    def came(self, many: int) -> bool:
        with self.socket._lock:
            return len(self.socket._found) + sum(one for one, _ in self.socket._dropped.values()) >= many

    def ask(self, question: str) -> list[Any]:
        with sqlite3.connect(f"file:{self.ledger.path}?mode=ro", uri=True) as db:
            return db.execute(question).fetchall()

    def points(self) -> list[Any]:
        return self.ask("SELECT wall_s, metric, step, value, uj FROM progress ORDER BY wall_s, metric")

    def labels(self) -> dict[str, str]:
        return dict(self.ask("SELECT name, value FROM label"))

    def dropped(self) -> set[str]:
        return {why for (why,) in self.ask("SELECT subject FROM finding WHERE kind = 'progress dropped'")}

    def close(self) -> None:
        self.socket.close()
        self.ledger.close()


@pytest.fixture
def node(tmp_path: Path, place: Path) -> Iterator[Node]:
    one = Node(tmp_path, place)
    yield one
    one.close()


def send(place: Path, data: bytes | Said) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(data if isinstance(data, bytes) else encode(data), str(place))


def as_other(act: Callable[[], None]) -> None:
    """Do something as a user who owns nothing."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setuid(OTHER)
            act()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def test_a_point_says_what_the_run_had_by_then(node: Node, place: Path) -> None:
    """Step, metrics, and the joules of the last tick; a step alone has no metric; labels are the latest."""
    node.tick(8)
    send(place, Said("1", 100, {"acc": 0.5, "loss": 2.25}, {"model": "resnet50"}))
    node.hear()
    node.tick(10)
    send(place, Said("1", 200, {}, {"model": "vit", "activity": "training"}))
    node.hear()
    node.tick(1)
    ours = [(WALL + 10, "acc", 100, 0.5, 90_000_000), (WALL + 10, "loss", 100, 2.25, 90_000_000)]
    # It is taken in at the tick after it came, before what that tick reads: nine seconds of 10 W, then nineteen.
    assert node.points() == [*ours, (WALL + 20, "", 200, None, 190_000_000)]
    assert node.labels() == {"model": "vit", "activity": "training"}
    assert node.dropped() == set()


def test_what_comes_within_a_second_replaces_the_point(node: Node, place: Path) -> None:
    """So the last word of a job counts, however fast it talks."""
    for step, acc in ((1, 0.1), (2, 0.2)):
        send(place, Said("1", step, {"acc": acc}))
        node.hear(step)
    send(place, Said("1", 2, {"loss": 1.0}))
    node.hear(3)
    node.tick(1)
    assert [one[1:4] for one in node.points()] == [("acc", 2, 0.2), ("loss", 2, 1.0)]


@is_root
@pytest.mark.parametrize(
    ("uid", "proven", "sender", "taken"),
    [
        (1000, None, OTHER, False),
        (1000, "1", OTHER, False),
        (OTHER, None, OTHER, True),
        (None, None, OTHER, False),
        (None, "1", OTHER, True),
        (1000, None, 0, True),
    ],
    ids=["foreign", "foreign inside", "own", "nobody's", "nobody's, from inside", "root"],
)
def test_who_may_speak(
    tmp_path: Path, place: Path, uid: int | None, proven: str | None, sender: int, taken: bool
) -> None:
    """The run's own user, root, and where no user is known who is in its cgroup; others are dropped, and told."""
    node = Node(tmp_path, place, uid)
    node.proven = proven
    said = Said("1", 5)
    (as_other if sender else lambda act: act())(lambda: send(place, said))
    node.hear()
    node.tick()
    assert len(node.points()) == taken
    assert node.dropped() == (set() if taken else {"not of a job that the sender may speak for"})
    node.close()


def test_the_senders_own_cgroup_comes_before_what_it_names(node: Node, place: Path) -> None:
    """A process of job 1 speaks for job 1."""
    node.tick(1, Mark("start", "2", 3 * NS, uid=ME, cpus=0))
    node.proven = "1"
    send(place, Said("2", 5))
    node.hear()
    node.tick()
    assert node.ask("SELECT run, step FROM progress") == [("1", 5)]


def test_a_word_may_come_a_moment_before_its_run(node: Node, place: Path) -> None:
    """It waits some seconds for it; what is of no job at all is dropped then."""
    send(place, Said("2", 5))
    send(place, Said("3", 5))
    node.hear(2)
    node.tick(1)
    node.tick(1, Mark("start", "2", (node.t + 1) * NS, uid=ME, cpus=1))
    for _ in range(6):
        node.tick(1)
    assert node.ask("SELECT run, step FROM progress") == [("2", 5)]
    assert node.dropped() == {"of no job that runs here"}


def test_the_last_word_of_a_job_comes_with_its_end(node: Node, place: Path) -> None:
    """Taken in before the mark; after it, nobody may speak for the run."""
    send(place, Said("1", 9))
    node.hear()
    node.tick(1, Mark("end", "1", (node.t + 1) * NS))
    send(place, Said("1", 10))
    node.hear()
    for _ in range(7):
        node.tick(1)
    assert [one[2] for one in node.points()] == [9]


@pytest.mark.parametrize("data", [b"", b"\xff" * 100, b"x" * (MAX_DATAGRAM + 1), b'{"step":-1}'], ids=len)
def test_what_is_no_word_of_ours_is_counted(node: Node, place: Path, data: bytes) -> None:
    send(place, data)
    node.hear()
    node.tick()
    assert node.points() == []
    assert node.dropped() == {"not what `jobimpact progress` writes"}


def test_files_that_are_sent_along_are_closed(node: Node, place: Path, tmp_path: Path) -> None:
    """Else anybody could use up the daemon's descriptors."""
    sent = tmp_path / "sent"
    sent.touch()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out, sent.open("rb") as file:
        out.connect(str(place))
        for number in range(20):
            files = array.array("i", [file.fileno()] * 100)
            out.sendmsg([encode(Said("1", number))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
    node.hear(20)
    assert sent.resolve() not in [one.resolve() for one in Path("/proc/self/fd").iterdir()]


def test_names_are_bounded(node: Node, place: Path) -> None:
    """Sixteen metrics and sixteen labels a run, over all that it says; its steps are taken nevertheless."""
    for part in range(3):
        names = [f"n{10 * part + number}" for number in range(10)]
        send(place, Said("1", part, dict.fromkeys(names, 1.0), dict.fromkeys(names, "x")))
        node.hear()
        node.tick(2)
    metrics = {metric for (metric,) in node.ask("SELECT metric FROM progress")}
    assert len(metrics - {""}) == len(node.labels()) == 16
    assert node.dropped() == {"more names than a run may have"}


def test_points_are_thinned_as_they_grow(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every other one is dropped, the first ones stay spread over the whole run, the last stays; and it is told."""
    monkeypatch.setattr(words, "MAX_ROWS", 100)
    monkeypatch.setattr("jobimpact_daemon.ledger.MAX_ROWS", 100)
    for step in range(1000):
        one = Received(node.wall_s, ME, (), None, Said("1", step, {"acc": step / 1000}))
        node.listener.take([one], {}, node.t * NS)
        node.wall_s += 1
        if step % 10 == 9:
            node.tick(1)
    steps = [one[2] for one in node.points()]
    assert 50 <= len(steps) <= 110
    assert steps == sorted(steps)
    assert steps[-1] == 999
    assert max(after - before for before, after in pairwise(steps)) <= 40
    assert "progress thinned" in {kind for (kind,) in node.ask("SELECT kind FROM finding")}


def test_a_crowd_without_jobs_fills_nothing(node: Node) -> None:
    """What waits for its job is bounded, and so is what is told of the rest."""
    crowd = [Received(node.wall_s, ME, (), None, Said(f"9{number}", 1)) for number in range(10 * MAX_WAITING)]
    node.listener.take(crowd, {}, node.t * NS)
    assert len(node.listener._waiting) == MAX_WAITING
    for _ in range(7):
        node.tick(1)
    assert node.listener._waiting == []
    assert len(node.ask("SELECT 1 FROM finding WHERE kind = 'progress dropped'")) == 1


def test_a_flood_is_bounded(node: Node, place: Path) -> None:
    """While nobody takes what comes, only the newest wait; senders that do not wait are turned away."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.setblocking(False)
        out.connect(str(place))
        turned_away = 0
        for step in range(20_000):
            try:
                out.send(encode(Said("1", step)))
            except BlockingIOError:
                turned_away += 1
    assert turned_away
    until(lambda: node.take() or True)
    assert len(node.socket._found) <= KEPT
    node.tick(1)
    assert len(node.points()) == 1


def test_a_restart_goes_on(tmp_path: Path, place: Path) -> None:
    """The limits of a run are those of its file: labels, metrics and the second between two points."""
    node = Node(tmp_path, place)
    names = [f"n{number}" for number in range(16)]
    send(place, Said("1", 1, dict.fromkeys(names, 1.0), {"model": "a"}))
    node.hear()
    node.tick(1)
    node.close()
    node = Node(tmp_path, place)
    send(place, Said("1", 2, {"n0": 2.0, "other": 1.0}))
    node.hear()
    node.tick(1)
    assert len(node.ask("SELECT DISTINCT metric FROM progress")) == 16
    assert node.ask("SELECT value FROM progress WHERE metric = 'n0' ORDER BY wall_s DESC LIMIT 1") == [(2.0,)]
    assert node.labels() == {"model": "a"}
    node.close()


def test_points_go_to_the_server_as_edges(tmp_path: Path, place: Path) -> None:
    """What a job says once cannot be had again: it is never thinned in a full outbox."""
    node = Node(tmp_path, place, outbox=Outbox(INFLUX, "c", "n1"))
    send(place, Said("1", 7, {"acc": 0.5}, {"model": "res net,=\\x"}))
    node.hear()
    node.tick(1, usage=Usage({"1": JobUsage(2 * NS, GIB)}))
    for _ in range(3):
        node.tick(20, usage=Usage({"1": JobUsage(3 * NS, GIB)}))
    rows = node.ask("SELECT class, lines FROM outbox")
    sent = [(class_, parsed(text)) for class_, lines in rows for text in unpack(lines).decode().split("\n")]
    said = {
        one.name: (class_, one.tags, one.fields) for class_, one in sent if one.name in ("job_progress", "job_label")
    }
    where = {"cluster": "c", "node": "n1", "run": "1"}
    stamp = {"stamp_ms": round((WALL + 2) * 1000)}
    point = {"step": 7, "energy_uj": 10_000_000, "value": 0.5}
    assert said["job_progress"] == ("edge", {**where, "metric": "acc"}, stamp | point)
    assert said["job_label"][:2] == ("edge", {**where, "label": "model"})
    runs = [one.fields for _, one in sent if one.name == "job_run"]
    assert "used" not in runs[0]
    assert json.loads(runs[-1]["used"]) == {"cpu_ns": 3 * NS, "mem_peak_bytes": GIB}
    node.close()


def test_what_stands_in_the_sockets_place(tmp_path: Path, place: Path) -> None:
    """What a killed daemon left is taken over; a living one's, and what is no socket, are left alone."""
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    stale.bind(str(place))
    stale.close()
    first = ProgressSocket(place, Path("/proc"))
    assert first.problem is None
    second = ProgressSocket(place, Path("/proc"))
    assert "another daemon listens there" in str(second.problem)
    second.close()
    assert place.is_socket()
    place.unlink()
    first.mend()
    send(place, Said("1", 1))
    until(lambda: first.take()[0])
    first.close()
    assert not place.exists()
    place.write_text("a file")
    third = ProgressSocket(place, Path("/proc"))
    assert "something else" in str(third.problem)
    third.close()
    assert place.read_text() == "a file"
    far = ProgressSocket(tmp_path / ("x" * 200), Path("/proc"))
    assert far.problem
    gone = ProgressSocket(tmp_path / "none" / "p.sock", Path("/proc"))
    assert "No such file" in str(gone.problem)


def test_a_disk_that_is_full_costs_no_memory(node: Node) -> None:
    """So many points are kept until they can be written, and then they are."""
    for step in range(3):
        node.listener.take([Received(WALL + 10 * step, ME, (), None, Said("1", step))], {}, node.t * NS)
    node.books.words.rows |= {("1", float(number), "x"): (1, 1.0, None) for number in range(words.MAX_PENDING)}
    node.listener.take([Received(WALL + 99, ME, (), None, Said("1", 99))], {}, node.t * NS)
    assert len(node.books.words.rows) == words.MAX_PENDING + 3
    node.tick(1)
    assert node.books.words.rows == {}
    assert len(node.points()) == words.MAX_PENDING + 3


def test_a_run_that_says_too_much_is_thinned_once_on_a_full_disk(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each try to write is a try: its points are no further apart for it."""
    monkeypatch.setattr(words, "MAX_ROWS", 10)
    monkeypatch.setattr("jobimpact_daemon.ledger.MAX_ROWS", 10)
    for step in range(20):
        node.listener.take([Received(WALL + 10 * step, ME, (), None, Said("1", step))], {}, node.t * NS)
    run = node.books.state.holdings.runs["1"]
    [(pages,)] = node.ask("PRAGMA page_count")
    node.ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    node.books.find("test", "of a full disk", "x" * 100_000)
    for _ in range(5):
        assert not node.ledger.commit(node.books)
    assert run.words.gap_s == 1
    node.ledger._db.execute("PRAGMA max_page_count = 100000")
    node.tick(1)
    assert run.words.gap_s == 2
    assert [one[2] for one in node.points()] == list(range(1, 20, 2))


def test_a_thread_that_ended_is_begun_again(place: Path) -> None:
    """A socket of which nobody reads any more lies there as ever: that alone says nothing."""
    one = ProgressSocket(place, Path("/proc"))
    thread = one._thread
    assert thread is not None
    assert one._socket is not None
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), one._socket.fileno())
    with suppress(ConnectionRefusedError):  # it has ended already
        send(place, Said("1", 1))
    until(lambda: not thread.is_alive(), "for the end of the thread")
    one.mend()
    send(place, Said("1", 2))
    until(lambda: [two for two in one.take()[0] if two.said.step == 2], "for what is said afterwards")
    one.close()
    assert not place.exists()


def test_no_energy_goes_by_what_jobs_say(tmp_path: Path, place: Path) -> None:
    """A node whose job says much and one whose job says nothing have the same books."""
    found = []
    for loud in (True, False):
        node = Node(tmp_path / str(loud), place)
        node.books.declare(Domain("gpu:GPU-a", "gpu", "nvml"))
        for step in range(20):
            for number in range(5 if loud else 0):
                send(place, Said("1", step, {f"m{number}": 1.0}, {f"l{step}": "x"}))
            if loud:
                node.hear(5)
            marks = [Mark("end", "1", (node.t + 1) * NS)] if step == 15 else []
            node.tick(
                1, *marks, usage=Usage({"1": JobUsage(step * NS, GIB, gone=step >= 15)}, busy_cpu_ns=2 * step * NS)
            )
        runs = node.ask("SELECT run, start_s, end_s, elapsed_ns, state, flags, held, used FROM run")
        tables = ("ledger", "domain", "job_energy", "node_power")
        found.append([runs, *(node.ask(f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in tables)])  # noqa: S608
        assert bool(node.points()) == loud
        node.close()
    assert found[0] == found[1]
    assert found[0][1]
