"""Points come to the server: all of them, once, in their order, whatever it does, and however the daemon ends."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.daemon.test_outbox import hour, lines, opened, parsed, play
from tests.fakes.write_server import Answer, Request, WriteServer
from tests.needs import need_server
from tests.stores.servers import Influx, Victoria

from jobimpact.core.config import InfluxStore, VictoriaStore
from jobimpact.core.nodefile import open_for_writing
from jobimpact.core.server import Server
from jobimpact_daemon.ledger import Ledger
from jobimpact_daemon.publisher import REFUSED_KEPT, Publisher

DEADLINE_S = 60
NOW_MS = 1_795_190_300_000


def until(true: Callable[[], object], what: str) -> None:
    """Wait for something that must come."""
    end = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < end, f"waited in vain {what}"
        time.sleep(0.02)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A node's file."""
    found = tmp_path / "n1.sqlite"
    open_for_writing(found).close()
    return found


def put(path: Path, *lines: str, kept: str = "books") -> None:
    """One row, as the ledger would write it."""
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as db:
        row = (NOW_MS, "minute", kept, len(lines), zlib.compress("\n".join(lines).encode()))
        db.execute("INSERT INTO outbox (stamp_ms, class, kept, n, lines) VALUES (?, ?, ?, ?, ?)", row)


def waiting(path: Path) -> int:
    """How many lines."""
    with closing(sqlite3.connect(path, timeout=30)) as db:
        return int(db.execute("SELECT coalesce(sum(n), 0) FROM outbox_size").fetchone()[0])


def refused(path: Path) -> list[tuple[str, str]]:
    """Lines that were set aside, with the server's words."""
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT line, said FROM refused ORDER BY id").fetchall()


@contextmanager
def publishing(path: Path, store: InfluxStore | VictoriaStore, period_s: float = 0.05) -> Iterator[Publisher]:
    """A publisher that is in a hurry."""
    publisher = Publisher(path, Server(store), period_s=period_s, backoff_s=0.02)
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.stop()


def point(number: int, name: str = "m") -> str:
    return f"{name},cluster=c value={number}i {NOW_MS + number}"


@pytest.fixture
def influx(tmp_path: Path) -> Iterator[Influx]:
    """InfluxDB 1.x, not started."""
    need_server("influxd")
    server = Influx(tmp_path / "influx")
    yield server
    server.close()


def stored(server: Influx, kept: str = "books", name: str = "m") -> list[int]:
    """What the server has, by stamp."""
    body = json.loads(server.query(f'SELECT value FROM "jobimpact"."{kept}"."{name}"'))  # noqa: S608 (ours)
    return [row[1] for one in body["results"] for row in one.get("series", [{"values": []}])[0]["values"]]


# -- a real server ---------------------------------------------------------------------------------------------------


def test_a_server_that_comes_late_gets_all(path: Path, influx: Influx) -> None:
    """Nothing listens at the start; what waits is there when it does, books and profile each in its own place."""
    influx.start()
    influx.create()
    influx.stop()
    store = influx.store(path.parent).influxdb
    assert store is not None
    for number in range(20):
        put(path, point(2 * number), point(2 * number + 1))
        put(path, point(number, "p"), kept="profile")
    with publishing(path, store) as publisher:
        until(lambda: publisher.delivery.failures >= 2, "for failures")
        assert "refused" in str(publisher.delivery.problem)
        assert waiting(path) == 60
        influx.start()
        until(lambda: waiting(path) == 0, "for the outbox to be empty")
        until(lambda: publisher.delivery.problem is None, "for the good word")
    assert stored(influx) == list(range(40))
    assert stored(influx, "profile", "p") == list(range(20))


def test_a_server_that_is_killed_again_and_again_loses_none(path: Path, influx: Influx) -> None:
    """Under load: as many points as were put, each once, although some were sent twice."""
    influx.start()
    influx.create()
    store = influx.store(path.parent).influxdb
    assert store is not None
    number = 0
    with publishing(path, store, 0.01) as publisher:
        for _ in range(3):
            target = publisher.delivery.batches + 3
            while publisher.delivery.batches < target:
                put(path, point(number), point(number + 1))
                number += 2
                time.sleep(0.002)
            influx.kill()
            failures = publisher.delivery.failures
            while publisher.delivery.failures < failures + 2:
                put(path, point(number))
                number += 1
                time.sleep(0.002)
            influx.start()
        until(lambda: waiting(path) == 0, "for the outbox to be empty")
    assert stored(influx) == list(range(number))


def test_what_a_server_had_in_memory_alone_goes_again(path: Path, tmp_path: Path) -> None:
    """VictoriaMetrics says that it has points before it has written them: killed, it loses them. They go again."""
    need_server("victoria-metrics")
    begin_ms = (int(time.time()) - 3600) * 1000  # it takes none of the future
    sent = {begin_ms + 1000 * number: number for number in range(50)}

    def stored() -> dict[int, int]:
        params = {
            "match[]": "job_energy_energy_uj",
            "start": str(begin_ms // 1000 - 1),
            "end": str(begin_ms // 1000 + 60),
        }
        body = server.ask("GET", "/api/v1/export", params)[1]
        series = [json.loads(one) for one in body.decode().splitlines()]
        return {at: int(value) for one in series for at, value in zip(one["timestamps"], one["values"], strict=True)}

    with Victoria(tmp_path / "victoria") as server:
        store = server.store(tmp_path).victoriametrics
        assert store is not None
        publisher = Publisher(path, Server(store), period_s=0.05, backoff_s=0.02, confirm_s=600)
        for stamp_ms, number in sent.items():
            put(path, f"job_energy,node=n1 energy_uj={number}i {stamp_ms}")
        publisher.start()
        try:
            until(lambda: publisher.delivery.batches, "for the points to be taken")
            server.kill()
            assert waiting(path) == len(sent)
            server.start()
            put(path, f"job_energy,node=n1 energy_uj=50i {begin_ms + 50_000}")
            until(lambda: stored() == sent | {begin_ms + 50_000: 50}, "for all of them")
        finally:
            publisher.stop()


def test_what_a_server_has_surely_written_is_forgotten(path: Path, tmp_path: Path) -> None:
    """After some seconds it is not kept for another time."""
    need_server("victoria-metrics")
    with Victoria(tmp_path / "victoria") as server:
        store = server.store(tmp_path).victoriametrics
        assert store is not None
        publisher = Publisher(path, Server(store), period_s=0.05, confirm_s=0.2)
        put(path, f"job_energy,node=n1 energy_uj=1i {int(time.time())}000")
        publisher.start()
        try:
            until(lambda: not waiting(path), "for the outbox to be empty")
        finally:
            publisher.stop()
        assert publisher.delivery.batches == 1


def test_a_line_of_another_type_is_set_aside(path: Path, influx: Influx) -> None:
    """It alone, with the server's words; the others of its batch arrive, and so do later ones."""
    influx.start()
    influx.create()
    store = influx.store(path.parent).influxdb
    assert store is not None
    bad = f'm,cluster=c value="x" {NOW_MS + 500}'
    worse = f"m,cluster=c value=oops {NOW_MS + 501}"
    put(path, point(0))
    with publishing(path, store):
        until(lambda: waiting(path) == 0, "for the first")
        put(path, *(point(number) for number in range(1, 100)), bad, *(point(number) for number in range(100, 200)))
        put(path, worse, point(200))
        until(lambda: waiting(path) == 0, "for the outbox to be empty")
    assert stored(influx) == list(range(201))
    assert [text for text, _ in refused(path)] == [bad, worse]
    assert "field type conflict" in refused(path)[0][1]
    assert "unable to parse" in refused(path)[1][1]


def test_points_that_are_older_than_the_server_keeps_are_set_aside(path: Path, influx: Influx) -> None:
    """All at once where it says how many: not a request for each."""
    influx.start()
    influx.create()
    influx.query('ALTER RETENTION POLICY "books" ON "jobimpact" DURATION 2d SHARD DURATION 1d')
    store = influx.store(path.parent).influxdb
    assert store is not None
    now_ms = int(time.time() * 1000)
    put(path, *(f"m,cluster=c value={number}i {number + 1}" for number in range(500)))
    put(path, f"m,cluster=c value=7i {now_ms}")
    with publishing(path, store) as publisher:
        until(lambda: waiting(path) == 0, "for the outbox to be empty")
        assert publisher.delivery.batches < 30
    assert stored(influx) == [7]
    assert len(refused(path)) == 500


def test_a_full_index_keeps_the_points(path: Path, tmp_path: Path) -> None:
    """A limit of series is no bad data: it is told, and the points come in when there is room."""
    need_server("influxd")
    with Influx(tmp_path / "small", index="inmem", values_per_tag=5) as influx:
        influx.create()
        store = influx.store(path.parent).influxdb
        assert store is not None
        runs = [f"t,run={number} value={number}i {NOW_MS + number}" for number in range(9)]
        put(path, *runs[:5])
        with publishing(path, store) as publisher:
            until(lambda: waiting(path) == 0, "for those that fit")
            put(path, *runs[5:])
            until(lambda: publisher.delivery.failures >= 3, "for failures")
            assert "max-values-per-tag" in str(publisher.delivery.problem)
            assert "raise it" in str(publisher.delivery.problem)
        assert (waiting(path), refused(path)) == (4, [])
        influx._settings = influx._settings.replace("max-values-per-tag = 5", "max-values-per-tag = 0")
        influx.restart()
        with publishing(path, store):
            until(lambda: waiting(path) == 0, "for the outbox to be empty")
        assert stored(influx, name="t") == list(range(9))


def test_who_is_not_let_in_keeps_the_points(path: Path, tmp_path: Path) -> None:
    """A wrong password, mended while the daemon runs; then a database that was not made yet."""
    need_server("influxd")
    with Influx(tmp_path / "shut", auth=True) as influx:
        influx.create()
        file = tmp_path / "password"
        file.write_text("wrong\n")
        store = influx.store(path.parent, username="node", password_file=str(file)).influxdb
        assert store is not None
        put(path, point(1))
        with publishing(path, store) as publisher:
            until(lambda: publisher.delivery.failures >= 2, "for failures")
            assert "see store.influxdb.token_file, or username and password_file" in str(publisher.delivery.problem)
            assert waiting(path) == 1
            file.write_text("secret of nodes\n")
            until(lambda: waiting(path) == 0, "for the outbox to be empty")
        assert stored(influx) == [1]


def test_a_database_that_is_not_made_yet_is_waited_for(path: Path, influx: Influx) -> None:
    """It is told what makes it."""
    influx.start()
    store = influx.store(path.parent).influxdb
    assert store is not None
    put(path, point(1))
    with publishing(path, store) as publisher:
        until(lambda: publisher.delivery.failures >= 2, "for failures")
        assert "jobimpact store init" in str(publisher.delivery.problem)
        influx.create()
        until(lambda: waiting(path) == 0, "for the outbox to be empty")
    assert stored(influx) == [1]


# -- what a real server does not do on order -----------------------------------------------------------------------


class Taker:
    """Takes lines, once it has said what it is told to say.

    Args:
        first: its answers before.
    """

    def __init__(self, *first: Answer) -> None:
        self.first = list(first)
        self.taken: list[str] = []
        self.times: list[float] = []

    def __call__(self, request: Request) -> Answer:
        self.times.append(time.monotonic())
        if self.first:
            return self.first.pop(0)
        self.taken += request.lines
        return Answer()


PASSING = {
    "busy": [Answer(503), Answer(503, b"<html>")],
    "garbage": [Answer(raw=b"\0\1\2"), Answer(raw=b"")],
    "a proxy's page": [Answer(502, b"<html>Bad Gateway"), Answer(200, b"<html>Log in")],
    "redirects": [Answer(302, headers={"Location": "http://other.invalid/"})],
    "nobody": [Answer(401, b'{"error":"unauthorized"}'), Answer(403), Answer(404)],
    "an unknown 400": [Answer(400, b"Client sent an HTTP request to an HTTPS server.")],
    "too often": [Answer(429, headers={"Retry-After": "0"})],
    "slow": [Answer(408)],
}


@pytest.mark.parametrize("case", PASSING)
def test_what_passes_loses_nothing(path: Path, case: str) -> None:
    """Whatever it says at first: in the end all lines are there, in their order, and none is set aside."""
    taker = Taker(*PASSING[case])
    for number in range(5):
        put(path, point(3 * number), point(3 * number + 1), point(3 * number + 2))
    with WriteServer(taker) as web, publishing(path, InfluxStore(web.url)) as publisher:
        until(lambda: waiting(path) == 0, "for the outbox to be empty")
        assert publisher.delivery.failures >= 1
    assert taker.taken == [point(number) for number in range(15)]
    assert refused(path) == []


def test_a_wish_for_rest_is_granted(path: Path) -> None:
    """Retry-After: the next request comes no sooner."""
    taker = Taker(Answer(503, headers={"Retry-After": "1"}))
    put(path, point(1))
    with WriteServer(taker) as web, publishing(path, InfluxStore(web.url)):
        until(lambda: waiting(path) == 0, "for the outbox to be empty")
    assert taker.times[1] - taker.times[0] >= 1


def test_a_batch_that_is_too_large_is_halved(path: Path) -> None:
    """Until it fits; a single line that does not is set aside."""
    taken: list[str] = []

    def answer(request: Request) -> Answer:
        if len("\n".join(request.lines)) > 300:
            return Answer(413, b'{"error":"Request Entity Too Large"}')
        taken.extend(request.lines)
        return Answer()

    huge = f'm,cluster=c text="{"x" * 999}" {NOW_MS}'
    put(path, *(point(number) for number in range(40)), huge, *(point(number) for number in range(40, 80)))
    with WriteServer(answer) as web, publishing(path, InfluxStore(web.url)):
        until(lambda: waiting(path) == 0, "for the outbox to be empty")
    assert taken == [point(number) for number in range(80)]
    assert [text for text, _ in refused(path)] == [huge]


def picky(taken: list[str]) -> Callable[[Request], Answer]:
    """Refuses a request whole for one bad line, as 2.x does."""

    def answer(request: Request) -> Answer:
        if any("bad" in one for one in request.lines):
            return Answer(400, b'{"code":"invalid","message":"unable to parse a line"}')
        taken.extend(request.lines)
        return Answer()

    return answer


@pytest.mark.parametrize("bad", [{0}, {99}, {50, 51}, set(range(0, 100, 7)), set(range(100))])
def test_bad_lines_are_found_one_by_one(path: Path, bad: set[int]) -> None:
    """Wherever they are, and however many; the others arrive, in their order."""
    taken: list[str] = []
    lines = [point(number, "bad" if number in bad else "m") for number in range(100)]
    for start in range(0, 100, 20):
        put(path, *lines[start : start + 20])
    with WriteServer(picky(taken)) as web, publishing(path, InfluxStore(web.url)):
        until(lambda: waiting(path) == 0, "for the outbox to be empty")
    assert [text for text, _ in refused(path)] == [lines[number] for number in sorted(bad)]
    assert taken == [one for number, one in enumerate(lines) if number not in bad]


def test_what_is_set_aside_is_bounded_and_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The newest are kept; in the log is one line of it, cut, without what a terminal obeys."""
    text = f'bad,cluster=c text="\u202e{"x" * 500}" {NOW_MS}'
    for number in range(REFUSED_KEPT // 100 + 2):
        put(path, *[f"{text}{number:03}{one:02}" for one in range(100)])
    with (
        caplog.at_level(logging.WARNING),
        WriteServer(picky([])) as web,
        publishing(path, InfluxStore(web.url)),
    ):
        until(lambda: waiting(path) == 0, "for the outbox to be empty")
    kept = refused(path)
    assert len(kept) == REFUSED_KEPT
    assert kept[-1][0].endswith(f"{REFUSED_KEPT // 100 + 1:03}99")
    told = [one.getMessage() for one in caplog.records if "set aside" in one.getMessage()]
    assert len(told) == 1
    assert all(one.isprintable() and len(one) < 500 for one in told)


def test_the_same_trouble_in_other_numbers_is_one_line(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A server that says the same of another job each time does not fill the log; other trouble is told."""
    number = iter(range(1000))

    def answer(_: Request) -> Answer:
        if (n := next(number)) > 8:
            return Answer(401, b'{"error":"unauthorized"}')
        return Answer(
            400, f'{{"error":"max-values-per-tag limit exceeded: value=\\"{chr(97 + n)}\\" n={n}"}}'.encode()
        )

    put(path, point(1))
    with WriteServer(answer) as web, publishing(path, InfluxStore(web.url)):
        until(lambda: "unauthorized" in caplog.text, "for the other trouble")
    assert caplog.text.count("max-values-per-tag") == 1


def test_books_come_although_the_profile_has_no_place(path: Path) -> None:
    """What accounting needs does not wait for what people look at."""
    taken: list[str] = []

    def answer(request: Request) -> Answer:
        if "rp=profile" in request.path:
            return Answer(500, b'{"error":"retention policy not found: profile"}')
        taken.extend(request.lines)
        return Answer()

    put(path, point(1, "p"), kept="profile")
    put(path, point(2))
    with WriteServer(answer) as web, publishing(path, InfluxStore(web.url)) as publisher:
        until(lambda: taken, "for the books")
        until(lambda: publisher.delivery.problem, "for the word of it")
        put(path, point(3))
        until(lambda: len(taken) == 2, "for the next books")
    assert waiting(path) == 1


def test_a_long_outage_is_caught_up_in_batches(path: Path) -> None:
    """Some thousand lines a request, whole rows, in order."""
    taker = Taker()
    sizes: list[int] = []

    def answer(request: Request) -> Answer:
        sizes.append(len(request.lines))
        return taker(request)

    for start in range(0, 12_000, 60):
        put(path, *(point(number) for number in range(start, start + 60)))
    with WriteServer(answer) as web, publishing(path, InfluxStore(web.url)):
        until(lambda: waiting(path) == 0, "for the outbox to be empty")
    assert taker.taken == [point(number) for number in range(12_000)]
    assert max(sizes) <= 5000
    assert len(sizes) == 3


def test_the_file_may_be_locked_or_gone(path: Path) -> None:
    """Its trouble is told, the thread goes on, and delivers when the file is there."""
    taker = Taker()
    aside = path.with_name("aside")
    with WriteServer(taker) as web:
        put(path, point(1))
        path.rename(aside)
        with publishing(path, InfluxStore(web.url)) as publisher:
            until(lambda: publisher.delivery.failures >= 2, "for failures")
            assert "n1.sqlite" in str(publisher.delivery.problem)
            with closing(sqlite3.connect(aside, isolation_level=None)) as db:
                db.execute("BEGIN IMMEDIATE")
                aside.rename(path)
                until(lambda: taker.taken, "for the server to have it")
                until(lambda: "locked" in str(publisher.delivery.problem), "for the lock to be told")
                db.execute("ROLLBACK")
            until(lambda: waiting(path) == 0, "for the outbox to be empty")
            until(lambda: publisher.delivery.problem is None, "for the good word")
    assert set(taker.taken) == {point(1)}


FULL = """
import resource, sqlite3, sys
from pathlib import Path
from tests.daemon.test_publisher import Taker, point, publishing, put, until
from tests.fakes.write_server import WriteServer
from jobimpact.core.config import InfluxStore
path, taker = Path(sys.argv[1]), Taker()
ledger = sqlite3.connect(path)
left = lambda: ledger.execute("SELECT sum(n) FROM outbox_size").fetchone()[0]
left()
for number in range(300):
    put(path, point(number), "m text=" + '"' + "x" * 500 + '" ' + str(number))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
with WriteServer(taker) as web, publishing(path, InfluxStore(web.url)) as publisher:
    until(lambda: publisher.delivery.failures >= 2, "for failures")
    assert "n1.sqlite" in publisher.delivery.problem, publisher.delivery.problem
    assert left() == 600
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    until(lambda: left() == 0, "for the outbox to be empty")
assert {one for one in taker.taken if "value" in one} == {point(number) for number in range(300)}
"""


def test_a_full_disk_is_waited_for(path: Path) -> None:
    """What was delivered and cannot be deleted is sent again, in ever longer turns, and deleted when there is room."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_damaged_row_does_not_stand_before_the_others(path: Path) -> None:
    """It is left out, and said."""
    put(path, point(1))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE outbox SET lines = x'00'")
    put(path, point(2))
    taker = Taker()
    with WriteServer(taker) as web, publishing(path, InfluxStore(web.url)):
        until(lambda: not rows(path), "for the outbox to be empty")
    assert taker.taken == [point(2)]


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT count(*) FROM outbox").fetchone()[0])


def said(text: str) -> str:
    """A line, whatever the order of its fields, and of those in `held`."""
    one = parsed(text)
    if "held" in one.fields:
        one.fields["held"] = sorted(json.loads(one.fields["held"]).items())
    return f"{one.series} {one.stamp_ms} {sorted(one.fields.items())}"


STORES = {"influxdb": InfluxStore, "victoriametrics": VictoriaStore}


@pytest.mark.parametrize("engine", STORES)
def test_what_waited_for_another_engine_is_rewritten(tmp_path: Path, engine: str) -> None:
    """The store was changed in an outage, and changed back, and again: each line as if it had always been this one."""
    other = next(one for name, one in STORES.items() if name != engine)("http://server.invalid")
    changed, same = tmp_path / "changed.sqlite", tmp_path / "same.sqlite"
    for one in (changed, same):
        with closing(open_for_writing(one)) as db:
            db.execute("UPDATE meta SET value = 'one name' WHERE key = 'books'")
    taker = Taker()
    with WriteServer(taker) as web:
        store = STORES[engine](web.url)
        play(same, hour(5), store=store)
        wanted = sorted(said(text) for _, text in lines(same))
        play(changed, hour(5), store=other)
        put(changed, "strange line")
        for one in (store, other, store):
            ledger, _ = opened(changed, store=one)
            ledger.close()
        with publishing(changed, store):
            until(lambda: waiting(changed) == 0, "for the outbox to be empty")
    assert taker.taken.count("strange line") == 1
    assert sorted(said(text) for text in taker.taken if text != "strange line") == wanted


def test_points_that_wait_for_a_server_are_told_where_the_store_is_local(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They stay, and go when it is a server again."""
    put(path, point(1), point(2))
    Ledger(path, "n1", "c").close()
    assert "2 points wait for a server, and the store is local" in caplog.text
    assert waiting(path) == 2


def test_an_end_delivers_what_is_left(path: Path) -> None:
    """SIGTERM between two deliveries: one more, at once."""
    taker = Taker()
    put(path, point(1))
    with WriteServer(taker) as web:
        with publishing(path, InfluxStore(web.url), period_s=1000):
            pass
        assert taker.taken == [point(1)]
    assert waiting(path) == 0


def test_an_end_does_not_wait_for_a_server_that_says_nothing(path: Path) -> None:
    """The points are there after the next start."""
    done = threading.Event()
    put(path, point(1))
    with WriteServer(lambda _: Answer(500, drip=done)) as web:
        publisher = Publisher(path, Server(InfluxStore(web.url, timeout_s=3600)), period_s=0.01, backoff_s=0.01)
        publisher.start()
        until(lambda: web.requests, "for a request")
        publisher.stop()
        done.set()
    assert waiting(path) == 1


def test_a_fault_of_ours_does_not_end_deliveries(path: Path) -> None:
    """Whatever is raised in the thread: it is told, and tried again."""
    taker = Taker()
    put(path, point(1))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("ALTER TABLE outbox RENAME COLUMN n TO m")
        with WriteServer(taker) as web, publishing(path, InfluxStore(web.url)) as publisher:
            until(lambda: publisher.delivery.failures >= 2, "for failures")
            db.execute("ALTER TABLE outbox RENAME COLUMN m TO n")
            until(lambda: taker.taken, "for the delivery")


def test_nodes_do_not_come_together(path: Path) -> None:
    """The first wait is anywhere within the period: a thousand nodes that start at once come one after the other."""
    taker = Taker()
    with WriteServer(taker) as web:
        store: Any = InfluxStore(web.url)
        many = []
        for number in range(40):
            file = path.with_name(f"node{number}.sqlite")
            open_for_writing(file).close()
            put(file, point(number))
            many.append(Publisher(file, Server(store), period_s=1.0))
        for one in many:
            one.start()
        until(lambda: len(taker.taken) == 40, "for all of them")
        for one in many:
            with suppress(RuntimeError):
                one.stop()
    assert taker.times[-1] - taker.times[0] > 0.3
