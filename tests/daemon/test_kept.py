"""The file that is kept open."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobimpact_daemon.kept import KeptFile, text_of


def test_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    """One descriptor, always the value of now."""
    path = tmp_path / "energy_uj"
    file = KeptFile(path)
    for text in ("1\n", "22\n", "333\n"):
        path.write_text(text)
        assert text.encode() == file.read(32)


def test_a_file_that_was_replaced_is_opened_anew(tmp_path: Path) -> None:
    """A driver that is reloaded makes its files anew: the old one must not be read for ever."""
    path, new = tmp_path / "energy_uj", tmp_path / "new"
    file = KeptFile(path)
    path.write_text("1\n")
    assert file.read(32) == b"1\n"
    new.write_text("2\n")
    new.rename(path)
    assert file.read(32) == b"2\n"


def test_a_file_that_is_removed_fails_and_may_come_back(tmp_path: Path) -> None:
    """Removed is an error, not the last value; made anew, it is read again."""
    path = tmp_path / "energy_uj"
    file = KeptFile(path)
    path.write_text("1\n")
    assert file.read(32) == b"1\n"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        file.read(32)
    path.write_text("3\n")
    assert file.read(32) == b"3\n"


def test_a_file_of_a_dead_cgroup_stays_gone(tmp_path: Path) -> None:
    """Another cgroup of the same name is another job's."""
    path = tmp_path / "cpuacct.usage"
    file = KeptFile(path, reopen=False)
    path.write_text("1\n")
    assert file.read(32) == b"1\n"
    path.unlink()
    path.write_text("2\n")
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            file.read(32)


def test_a_pipe_in_a_files_place_does_not_hang_the_reader(tmp_path: Path) -> None:
    """Opening one waits for a writer that may never come: here it is an error at once, with and without a writer."""
    path = tmp_path / "energy_uj"
    os.mkfifo(path)
    file = KeptFile(path)
    with pytest.raises(OSError, match="Illegal seek"):
        file.read(32)
    writer = os.open(path, os.O_RDWR)
    with pytest.raises(OSError, match="Illegal seek"):
        file.read(32)
    os.close(writer)
    assert text_of(path) == ""


def test_a_small_file_is_read_once_or_says_nothing(tmp_path: Path) -> None:
    """Names and labels: what cannot be read, or is not text, is as good as not there."""
    path = tmp_path / "name"
    assert text_of(path) == ""
    path.write_bytes(b" package-0\n")
    assert text_of(path) == "package-0"
    path.write_bytes(b"\xff\xfe\n")
    assert text_of(path) == ""
