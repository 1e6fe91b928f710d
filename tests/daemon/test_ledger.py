"""The node's file: one transaction at a time, patient with a full disk, and refused where it is not ours."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from jobimpact.core.errors import SchemaTooNewError, StoreError
from jobimpact.core.nodefile import RUN_DAYS, open_for_writing
from jobimpact.core.records import Counter, Domain, Mark, NodeFacts, Usage
from jobimpact.core.units import NS
from jobimpact_daemon.bookkeeper import Bookkeeper, Observation
from jobimpact_daemon.ledger import Ledger

DAY = 86_400
WALL = 1_800_000_000.0


def opened(path: Path) -> tuple[Ledger, Bookkeeper]:
    """A daemon's start."""
    ledger = Ledger(path, "n1", "c")
    state, _, _ = ledger.load(NodeFacts(4, 1 << 30))
    books = Bookkeeper(state, {}, ledger.taken)
    books.accounts = ledger.accounts(state)
    books.declare(Domain("package-0", "cpu", "rapl"))
    return ledger, books


def observe(books: Bookkeeper, t: int, joules: int, *marks: Mark, wall_s: float | None = None) -> None:
    """One reading."""
    seen = Observation(
        t * NS, WALL + t if wall_s is None else wall_s, {"package-0": Counter(joules * 10**6)}, Usage({})
    )
    books.observe(seen, list(marks))


def sums(path: Path) -> dict[str, int]:
    """Joules by holder, checked against what was measured."""
    with sqlite3.connect(path) as db:
        found = dict(db.execute("SELECT holder, uj / 1000000 FROM ledger"))
        total = db.execute("SELECT measured_uj / 1000000 FROM domain").fetchone()[0]
    assert sum(found.values()) == total
    return found


def test_a_kill_between_commits_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Law 5: what was observed after the last commit is in the counter still, and is added once."""
    path = tmp_path / "n1.sqlite"
    ledger, books = opened(path)
    observe(books, 1, 100, Mark("start", "1", NS, cpus=4))
    assert ledger.commit(books, ["mark"])
    observe(books, 5, 500)
    ledger.close()
    ledger, books = opened(path)
    assert ledger.load(NodeFacts(1, 1))[1] == {"mark"}
    observe(books, 9, 900)
    assert ledger.commit(books)
    assert sums(path) == {"1": 800}


def test_a_ledger_that_cannot_write_keeps_the_books(tmp_path: Path) -> None:
    """A locked file is a commit that failed: nothing is lost, and the next one has it all."""
    path = tmp_path / "n1.sqlite"
    ledger, books = opened(path)
    ledger._db.execute("PRAGMA busy_timeout=0")
    observe(books, 1, 0)
    with sqlite3.connect(path) as other:
        other.execute("BEGIN IMMEDIATE")
        assert not ledger.commit(books)
        assert ledger.trouble == "database is locked"
        observe(books, 2, 100)
        assert not ledger.commit(books)
    assert ledger.commit(books)
    assert ledger.trouble is None
    assert sums(path) == {"idle": 100}


FULL = """
import resource, signal, sys
from contextlib import closing
from pathlib import Path
from tests.daemon.test_ledger import observe, opened
from jobimpact_daemon.bookkeeper import Finding
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ledger, books = opened(Path(sys.argv[1]))
observe(books, 1, 0)
assert ledger.commit(books)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (Path(sys.argv[1] + "-wal").stat().st_size, hard))
observe(books, 2, 100)
books.findings.extend([Finding(0.0, "k", "s", "x" * 99_999)] * 9)
assert not ledger.commit(books), "there was room"
observe(books, 3, 300)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
assert ledger.commit(books)
"""


def test_a_file_that_cannot_grow_is_tried_again(tmp_path: Path) -> None:
    """No room: the totals stay in memory, and are written when there is room again."""
    path = tmp_path / "n1.sqlite"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", FULL, str(path)], check=True, env=environment)
    assert sums(path) == {"idle": 300}
    assert resource.getrlimit(resource.RLIMIT_FSIZE)


def test_a_number_too_large_for_the_file_is_trouble_and_no_crash(tmp_path: Path) -> None:
    """What SQLite cannot hold is said, and the daemon goes on."""
    ledger, books = opened(tmp_path / "n1.sqlite")
    observe(books, 1, 0)
    books.state.domains["package-0"].measured_uj = 1 << 63
    assert not ledger.commit(books)
    assert ledger.trouble is not None


def test_runs_of_long_ago_become_one_sum(tmp_path: Path) -> None:
    """Law 1: after more than a year a run is folded into the past, and the books still balance."""
    path = tmp_path / "n1.sqlite"
    ledger, books = opened(path)
    for day, job in ((0, "1"), (1, "2"), (RUN_DAYS, "3"), (RUN_DAYS + 2, "4")):
        t = day * DAY
        observe(books, t + 1, day * 1000, Mark("start", job, (t + 1) * NS, cpus=4))
        observe(books, t + 11, day * 1000 + 100, Mark("end", job, (t + 11) * NS))
        observe(books, t + 99, day * 1000 + 100)
        assert ledger.commit(books)
    found = sums(path)
    assert {key: uj for key, uj in found.items() if key != "idle"} == {"past": 200, "3": 100, "4": 100}


def test_a_clock_that_steps_by_years_folds_no_run_that_is_still_written(tmp_path: Path) -> None:
    """Law 8: a clock set right from 1970 after a job must not count the job's energy twice."""
    path = tmp_path / "n1.sqlite"
    ledger, books = opened(path)
    observe(books, 1, 0, Mark("start", "1", NS, cpus=4), wall_s=1.0)
    observe(books, 2, 100, Mark("end", "1", 2 * NS), wall_s=2.0)
    assert ledger.commit(books)
    observe(books, 3, 200)
    assert ledger.commit(books)
    observe(books, 99, 300)
    assert ledger.commit(books)
    assert sums(path)["1"] == 100


@pytest.mark.parametrize("wall_s", [1.0, 2_100_000_000.0, WALL + 3600.0, WALL - 120.0])
def test_a_clock_that_steps_is_told_once(tmp_path: Path, wall_s: float) -> None:
    """Set right from 1970 or 2036, or by an hour: a finding says by how much; a slow correction is none."""
    path = tmp_path / "n1.sqlite"
    ledger, books = opened(path)
    for second, at_s in ((1, wall_s), (2, wall_s + 1), (3, WALL + 3), (4, WALL + 4.5)):
        observe(books, second, 100 * second, wall_s=at_s)
        assert ledger.commit(books)
    ledger.close()
    with closing(sqlite3.connect(path)) as db:
        ((text,),) = db.execute("SELECT text FROM finding WHERE kind = 'clock stepped'").fetchall()
    assert f"by {WALL - wall_s + 1:+.0f} s: " in text


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A file of a newer release is neither read nor changed."""
    path = tmp_path / "n1.sqlite"
    db = open_for_writing(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(SchemaTooNewError, match="schema 99"):
        Ledger(path, "n1", "c")


def test_a_newer_state_is_refused(tmp_path: Path) -> None:
    """A state of a newer release is not guessed at."""
    ledger, books = opened(tmp_path / "n1.sqlite")
    observe(books, 1, 0)
    assert ledger.commit(books)
    ledger._db.execute("UPDATE state SET version = 99")
    with pytest.raises(SchemaTooNewError, match="state version 99"):
        ledger.load(NodeFacts(1, 1))


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"state":1,"marks":[]}'])
def test_a_state_that_cannot_be_read_is_an_error_in_words(tmp_path: Path, data: bytes) -> None:
    """A damaged state is said with the file's name, and no books are begun over it."""
    ledger, books = opened(tmp_path / "n1.sqlite")
    observe(books, 1, 0)
    assert ledger.commit(books)
    ledger._db.execute("UPDATE state SET data = ?", (data,))
    with pytest.raises(StoreError, match=r"n1\.sqlite"):
        ledger.load(NodeFacts(1, 1))


def test_a_file_that_is_no_database_is_an_error_in_words(tmp_path: Path) -> None:
    """Whatever lies at the path, the error names it."""
    path = tmp_path / "n1.sqlite"
    path.write_text("not a database, but long enough to be looked at as one" * 9)
    with pytest.raises(StoreError, match=r"n1\.sqlite"):
        Ledger(path, "n1", "c")
