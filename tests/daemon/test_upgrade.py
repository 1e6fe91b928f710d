"""A file of an earlier schema is taken over: its sums stay, its open run goes on, a copy is left for going back."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from tests.daemon.books import GIB

from jobimpact.core.errors import StoreError
from jobimpact.core.nodefile import SCHEMA, open_for_reading
from jobimpact.core.records import Counter, JobUsage, NodeFacts, Usage
from jobimpact.core.units import NS
from jobimpact.energy.local import LocalEnergy
from jobimpact_daemon.bookkeeper import Bookkeeper, Observation
from jobimpact_daemon.ledger import Ledger

EARLIER = range(1, SCHEMA)


def old_file(path: Path, schema: int = 1) -> dict[str, int]:
    """A file as the last release of a schema left it; what each domain measured."""
    with sqlite3.connect(path) as db:
        db.executescript(Path(__file__).with_name(f"schema{schema}.sql").read_text(encoding="utf-8"))
        found = dict(db.execute("SELECT name, measured_uj FROM domain"))
    db.close()
    return found


def columns(path: Path) -> list[tuple[str, str]]:
    """Every table's columns, in order."""
    with sqlite3.connect(path) as db:
        question = "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c ORDER BY m.name, c.cid"
        found = db.execute(question).fetchall()
    db.close()
    return found


def test_the_books_go_on_after_an_upgrade(tmp_path: Path) -> None:
    """Nothing that was booked is lost or booked again; what the old counters still held is unknown, and said so."""
    path = tmp_path / "n1.sqlite"
    before = old_file(path)
    ledger = Ledger(path, "n1", "c")
    state, _, resumed = ledger.load(NodeFacts(4, 4 * GIB))
    books = Bookkeeper(state, {}, ledger.taken)
    books.accounts = ledger.accounts(state)
    books.resume()
    assert resumed
    assert [run.key for run in state.holdings.open_runs()] == ["1"]
    for t in (100, 110):
        readings = {"package-0": Counter((t - 60) * 10**8)}
        books.observe(Observation(t * NS, 1.8e9 + t, readings, Usage({})), [])
    assert ledger.commit(books)
    ledger.close()
    with sqlite3.connect(path) as db:
        after = dict(db.execute("SELECT name, measured_uj FROM domain"))
        sums = dict(db.execute("SELECT domain, sum(uj) FROM ledger GROUP BY domain"))
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
    db.close()
    assert after == sums == {**before, "package-0": before["package-0"] + 10 * 10**8}
    assert books.state.domains["package-0"].unknown_ns == 87 * NS


def test_a_file_of_schema_2_goes_on(tmp_path: Path) -> None:
    """To the microjoule, and what its open run holds is known from now on: half of the CPUs, one GPU of two."""
    path = tmp_path / "n1.sqlite"
    before = old_file(path, 2)
    ledger = Ledger(path, "n1", "c")
    state, _, _ = ledger.load(NodeFacts(4, 4 * GIB))
    books = Bookkeeper(state, {}, ledger.taken)
    books.accounts = ledger.accounts(state)
    books.resume()
    books.observe(Observation(171 * NS, 1.8e9 + 171, {"package-0": Counter(171 * 10**8)}, Usage({})), [])
    assert ledger.commit(books)
    ledger.close()
    with sqlite3.connect(path) as db:
        assert dict(db.execute("SELECT name, measured_uj FROM domain")) == before | {"package-0": 170 * 10**8}
        held = {run: (json.loads(text), ns) for run, text, ns in db.execute("SELECT run, held, elapsed_ns FROM run")}
    db.close()
    assert held["1"][0] == dict.fromkeys(("cpu", "dram", "gpu", "node"), held["1"][1] // 2)
    # It was closed before the upgrade: of GPUs nothing is told.
    assert set(held["2"][0]) == {"cpu", "dram", "node"}


@pytest.mark.parametrize("schema", EARLIER)
def test_a_reader_of_today_reads_a_file_of_before(tmp_path: Path, schema: int) -> None:
    """Energy and runs are told as they are; the part of the GPUs is known since schema 3, the idle hours are not."""
    old_file(tmp_path / "n1.sqlite", schema)
    with LocalEnergy(tmp_path) as energy:
        for job, share in (("1", 0.5), ("2", 0.0)):
            ((run,), unread) = energy.runs_of(job)
            assert (run.gpu_share, unread) == (share if schema >= 3 else None, [])
            assert sum(uj for _, uj in run.hours) == sum(domain.uj for domain in run.domains)
        assert energy.idle_hours(0, 1e10) == ([], [])
        assert all(one.difference_uj == 0 for one in energy.books()[0])


def test_a_file_of_schema_3_goes_on_with_an_outbox(tmp_path: Path) -> None:
    """Its sums stay, its open run goes on, and its outbox is empty and counts what is put into it."""
    path = tmp_path / "n1.sqlite"
    before = old_file(path, 3)
    ledger = Ledger(path, "n1", "c")
    state, _, resumed = ledger.load(NodeFacts(4, 4 * GIB))
    ledger.close()
    assert resumed
    assert [run.key for run in state.holdings.open_runs()] == ["1"]
    with sqlite3.connect(path) as db:
        assert dict(db.execute("SELECT name, measured_uj FROM domain")) == before
        put = "INSERT INTO outbox (stamp_ms, class, kept, n, lines) VALUES (1, 'minute', 'books', 3, x'0102')"
        db.execute(put)
        db.execute(put)
        db.execute("UPDATE outbox SET class = 'edge' WHERE id = 2")
        db.execute("DELETE FROM outbox WHERE id = 1")
        found = db.execute("SELECT class, n, bytes FROM outbox_size ORDER BY class").fetchall()
    db.close()
    assert found == [("edge", 3, 2), ("minute", 0, 0), ("profile", 0, 0)]


def test_a_file_of_schema_4_goes_on_with_use_and_words(tmp_path: Path) -> None:
    """Of its open run use is known from now on; of what ended before, nothing: that is not zero."""
    path = tmp_path / "n1.sqlite"
    before = old_file(path, 4)
    ledger = Ledger(path, "n1", "c")
    state, _, _ = ledger.load(NodeFacts(4, 4 * GIB, ("GPU-a", "GPU-b")))
    books = Bookkeeper(state, {}, ledger.taken)
    books.accounts = ledger.accounts(state)
    books.resume()
    for t in range(150, 175):
        usage = Usage({"1": JobUsage((t - 149) * NS, GIB)}, utilisation={"GPU-a": 0.5})
        books.observe(Observation(t * NS, 1.8e9 + t, {"package-0": Counter(140 * 10**8)}, usage), [])
    assert ledger.commit(books)
    ledger.close()
    with sqlite3.connect(path) as db:
        assert dict(db.execute("SELECT name, measured_uj FROM domain")) == before
        used = {run: json.loads(text) for run, text in db.execute("SELECT run, used FROM run")}
        assert db.execute("SELECT count(*) FROM progress").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM label").fetchone() == (0,)
    db.close()
    gpu = {"gpu_busy_ns": 12 * NS, "gpu_known_ns": 24 * NS, "gpus_seen": 1, "gpus_unused": 0}
    assert used == {"1": {"cpu_ns": 25 * NS, "mem_peak_bytes": GIB} | gpu, "2": {}}


def test_no_peak_is_told_of_a_run_that_an_earlier_release_looked_at(tmp_path: Path) -> None:
    """Nobody kept it: what is seen of its last seconds is no peak of its hours. All CPU time is known."""
    path = tmp_path / "n1.sqlite"
    old_file(path, 4)
    with sqlite3.connect(path) as db:
        [(text,)] = db.execute("SELECT data FROM state")
        data = json.loads(text)
        data["state"]["holdings"]["runs"]["1"] |= {
            "seen_ns": 149 * NS,
            "read_cpu_ns": 60 * NS,
            "used": {"cpu": 60 * NS},
        }
        db.execute("UPDATE state SET data = ?", (json.dumps(data).encode(),))
    db.close()
    ledger = Ledger(path, "n1", "c")
    state, _, _ = ledger.load(NodeFacts(4, 4 * GIB))
    books = Bookkeeper(state, {}, ledger.taken)
    books.accounts = ledger.accounts(state)
    books.resume()
    for t in range(150, 175):
        books.observe(Observation(t * NS, 1.8e9 + t, {}, Usage({"1": JobUsage((t - 80) * NS, GIB)})), [])
    assert ledger.commit(books)
    ledger.close()
    with sqlite3.connect(path) as db:
        [(told,)] = db.execute("SELECT used FROM run WHERE run = '1'")
    db.close()
    assert json.loads(told) == {"cpu_ns": 94 * NS}


@pytest.mark.parametrize("schema", EARLIER)
def test_a_copy_is_left_for_going_back(tmp_path: Path, schema: int) -> None:
    """The file as it was lies beside it; a reader of today reads it as well, and a new file is of one shape."""
    path = tmp_path / "n1.sqlite"
    before = old_file(path, schema)
    Ledger(path, "n1", "c").close()
    Ledger(tmp_path / "new.sqlite", "n1", "c").close()
    assert columns(path) == columns(tmp_path / "new.sqlite")
    db = open_for_reading(tmp_path / f"n1.sqlite.schema{schema}")
    assert db.execute("PRAGMA user_version").fetchone() == (schema,)
    assert dict(db.execute("SELECT name, measured_uj FROM domain")) == before
    db.close()


def test_an_upgrade_that_cannot_be_copied_changes_nothing(tmp_path: Path) -> None:
    """No way back, no way on: the file stays as it was."""
    path = tmp_path / "n1.sqlite"
    old_file(path)
    (tmp_path / "n1.sqlite.schema1").mkdir()
    with pytest.raises(StoreError, match=r"n1\.sqlite"):
        Ledger(path, "n1", "c")
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
    db.close()
