"""The node's file: made once, opened for reading without the right to change it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from jobimpact.core.errors import SchemaTooNewError, StoreError
from jobimpact.core.nodefile import SCHEMA, node_file, open_for_reading, open_for_writing


def test_a_new_file_has_the_schema_in_wal_mode(tmp_path: Path) -> None:
    """Folders are made, the version is set, and opening it again changes nothing."""
    path = node_file(tmp_path / "a" / "b", "n1")
    for _ in range(2):
        db = open_for_writing(path)
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        db.close()
    assert path.name == "n1.sqlite"


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    """Accounting can read while the daemon writes, and can change nothing; `?` and `#` are plain characters."""
    path = tmp_path / "n?1#.sqlite"
    writer = open_for_writing(path)
    reader = open_for_reading(path)
    writer.execute("INSERT INTO meta VALUES ('node', 'n1')")
    assert reader.execute("SELECT value FROM meta WHERE key = 'node'").fetchone() == ("n1",)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM meta")
    reader.close()
    writer.close()


def test_what_is_not_ours_is_refused(tmp_path: Path) -> None:
    """Missing, empty, and not a database: an error that names the file."""
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("no database " * 99)
    for name in ("none", "empty", "text"):
        with pytest.raises(StoreError, match=name):
            open_for_reading(tmp_path / name)
    with pytest.raises(StoreError, match="text"):
        open_for_writing(tmp_path / "text")


def test_a_newer_file_is_refused_by_reader_and_writer(tmp_path: Path) -> None:
    """A release never writes over what a newer one wrote."""
    path = tmp_path / "n1.sqlite"
    db = open_for_writing(path)
    db.execute(f"PRAGMA user_version={SCHEMA + 1}")
    db.close()
    for opened in (open_for_reading, open_for_writing):
        with pytest.raises(SchemaTooNewError, match=f"schema {SCHEMA + 1}"):
            opened(path)
