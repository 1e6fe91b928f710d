"""The node's file: made once, opened for reading without the right to change it."""

from __future__ import annotations

import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tests.labs.munged import AS_USER, folder_for_all

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


READ = f"""{AS_USER}
from pathlib import Path
from jobimpact.core.nodefile import open_for_reading
print(*open_for_reading(Path(sys.argv[1])).execute("SELECT value FROM meta WHERE key = 'node'").fetchone())
"""  # noqa: S608 (no text of users in it)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
@pytest.mark.parametrize("daemon", ["runs", "ended", "was killed"])
def test_who_may_only_read_reads_what_there_is(daemon: str) -> None:
    """The read service may write neither into the folder nor into the file: with its daemon there, gone, or killed."""
    with folder_for_all() as folder:
        path = folder / "n1.sqlite"
        writer = open_for_writing(path)
        writer.execute("INSERT INTO meta VALUES ('node', 'n1')")
        if daemon == "ended":
            writer.close()
        if daemon == "was killed":
            (folder / "left").mkdir()
            for one in folder.glob("n1.sqlite*"):
                shutil.copy(one, folder / "left")
            path = folder / "left" / path.name
        beside = {one.name for one in path.parent.iterdir()}
        command = [sys.executable, "-c", READ, str(pwd.getpwnam("nobody").pw_uid), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == ("n1\n", "")
        assert {one.name for one in path.parent.iterdir()} == beside
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
