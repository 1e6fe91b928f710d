"""A file of the first schema is taken over: its sums stay, its open run goes on, and a copy is left for going back."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.daemon.books import GIB

from jobimpact.core.errors import StoreError
from jobimpact.core.nodefile import SCHEMA, open_for_reading
from jobimpact.core.records import Counter, NodeFacts, Usage
from jobimpact.core.units import NS
from jobimpact_daemon.bookkeeper import Bookkeeper, Observation
from jobimpact_daemon.ledger import Ledger

FIRST = Path(__file__).with_name("schema1.sql").read_text(encoding="utf-8")


def old_file(path: Path) -> dict[str, int]:
    """A file as the first release left it; what each domain measured."""
    with sqlite3.connect(path) as db:
        db.executescript(FIRST)
        found = dict(db.execute("SELECT name, measured_uj FROM domain"))
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


def test_a_copy_is_left_for_going_back(tmp_path: Path) -> None:
    """The file as it was lies beside it; a reader of today reads it as well."""
    path = tmp_path / "n1.sqlite"
    before = old_file(path)
    Ledger(path, "n1", "c").close()
    db = open_for_reading(tmp_path / "n1.sqlite.schema1")
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
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
