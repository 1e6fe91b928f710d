"""The mark folder: whatever lies in it, marks are taken once and the rest is set aside."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest
from inotify_simple import INotify, flags

from jobimpact.core.errors import ConfigError
from jobimpact_daemon.jobs.marks import MarkFolder


@pytest.fixture
def inotify() -> Iterator[INotify]:
    """What wakes the daemon."""
    with INotify() as found:
        yield found


@pytest.fixture
def marks(tmp_path: Path, inotify: INotify) -> MarkFolder:
    """A folder that is not there yet."""
    return MarkFolder(tmp_path / "run" / "marks", inotify)


def write(marks: MarkFolder, name: str, uptime: str = "5.00", job: str = "1", event: str = "start") -> None:
    """A mark, written as the hooks do."""
    text = f"v=1\nevent={event}\njob={job}\nboot=b1\nuptime={uptime}\nend=1\n"
    hidden = marks.path / f".tmp.{name}"
    hidden.write_text(text)
    hidden.rename(marks.path / name)


def names(marks: MarkFolder) -> list[str]:
    return [name for name, _ in marks.waiting()]


def drain(marks: MarkFolder, inotify: INotify) -> int:
    """Hand on what inotify has."""
    found = inotify.read(timeout=200)
    for event in found:
        marks.event(event.wd, event.mask)
    return len(found)


def test_marks_come_by_uptime_and_once(marks: MarkFolder) -> None:
    """Not by name; one that is taken is not listed again, and is deleted only when the books are on disk."""
    assert names(marks) == []
    write(marks, "9.1.end.7", uptime="10.00", event="end")
    write(marks, "8.1.start.9", uptime="9.50")
    assert names(marks) == ["8.1.start.9", "9.1.end.7"]
    marks.take(["8.1.start.9"])
    assert names(marks) == ["9.1.end.7"]
    assert (marks.path / "8.1.start.9").exists()
    marks.delete_taken()
    assert not (marks.path / "8.1.start.9").exists()
    assert marks.taken == set()


def test_a_folder_that_is_removed_is_made_and_watched_anew(marks: MarkFolder, inotify: INotify) -> None:
    """tmpfiles.d or an admin may clean /run: the next mark wakes the daemon again."""
    assert names(marks) == []
    assert marks.path.stat().st_mode & 0o777 == 0o700
    marks.path.rmdir()
    assert drain(marks, inotify)
    assert names(marks) == []
    write(marks, "a")
    assert drain(marks, inotify)
    assert names(marks) == ["a"]
    assert marks.problem is None


def test_a_folder_that_others_made_anew_is_watched_too(marks: MarkFolder, inotify: INotify) -> None:
    """Removed and made between two looks: the old watch is dead, and a new one is set."""
    names(marks)
    marks.path.rmdir()
    marks.path.mkdir()
    drain(marks, inotify)
    names(marks)
    write(marks, "a")
    assert any(event.mask & flags.MOVED_TO for event in inotify.read(timeout=200))


@pytest.mark.parametrize("content", [b"", b"v=1\n", b"\xff" * 9, b"v=2\nend=1\n", b"x" * 200_000])
def test_a_corrupt_mark_is_set_aside_and_told(marks: MarkFolder, content: bytes) -> None:
    """It is kept for a person to look at, told once, and the good ones go on."""
    names(marks)
    (marks.path / "bad").write_bytes(content)
    write(marks, "good")
    assert names(marks) == ["good"]
    assert [name for name, _ in marks.rejected] == ["bad"]
    assert (marks.path / "rejected" / "bad").read_bytes() == content
    marks.rejected.clear()
    assert names(marks) == ["good"]
    assert marks.rejected == []


def test_what_is_no_file_is_set_aside(marks: MarkFolder, tmp_path: Path) -> None:
    """A link is not followed, a pipe does not block, a folder is no mark."""
    names(marks)
    (tmp_path / "secret").write_text("v=1\nevent=start\njob=1\nuptime=1.0\nend=1\n")
    (marks.path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(marks.path / "pipe")
    (marks.path / "folder").mkdir()
    assert names(marks) == []
    assert {name for name, _ in marks.rejected} == {"link", "pipe", "folder"}
    assert (tmp_path / "secret").exists()


def test_a_name_of_any_bytes_can_be_told(marks: MarkFolder) -> None:
    """A file name need not be text: what is reported of it can be written to a database."""
    names(marks)
    Path(os.fsdecode(os.fsencode(marks.path) + b"/\xff\n")).write_text("v=1\nevent=start\njob=1\nuptime=1.0\nend=1\n")
    assert names(marks) == []
    ((name, _),) = marks.rejected
    assert name.encode() == b"\\xff\n"


def test_a_bad_mark_that_cannot_be_moved_is_ignored_and_kept(marks: MarkFolder) -> None:
    """Where `rejected` is a file, the bad mark stays where it is; it is told once and never deleted."""
    names(marks)
    (marks.path / "rejected").write_text("")
    (marks.path / "bad").write_text("nothing")
    assert names(marks) == []
    assert names(marks) == []
    marks.delete_taken()
    assert len(marks.rejected) == 1
    assert (marks.path / "bad").read_text() == "nothing"


def test_a_mark_of_another_user_is_refused(marks: MarkFolder) -> None:
    """Where users may write to the folder, only root's and the daemon's own marks count."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a file away")
    names(marks)
    write(marks, "a")
    os.chown(marks.path / "a", 65534, 65534)
    assert names(marks) == []
    assert "uid 65534" in marks.rejected[0][1]


def test_marks_of_a_user_whom_the_configuration_names_count(tmp_path: Path, inotify: INotify) -> None:
    """OAR's hooks run as oar: `node.mark_owners` lets its marks in, and nobody else's."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to give files away")
    nobody, daemon = pwd.getpwnam("nobody"), pwd.getpwnam("daemon")
    marks = MarkFolder(tmp_path / "marks", inotify, ["nobody"])
    names(marks)
    for name, uid in (("5.1.start.1", nobody.pw_uid), ("5.2.start.1", daemon.pw_uid)):
        write(marks, name)
        os.chown(marks.path / name, uid, -1)
    assert names(marks) == ["5.1.start.1"]
    assert f"uid {daemon.pw_uid}" in marks.rejected[0][1]
    with pytest.raises(ConfigError, match=r"node\.mark_owners: nosuch: no such user"):
        MarkFolder(tmp_path / "marks", inotify, ["nosuch"])


def test_a_half_written_mark_is_not_looked_at(marks: MarkFolder) -> None:
    """Hooks write beside and rename: a name with a dot in front is theirs."""
    names(marks)
    (marks.path / ".tmp.5.1.start.2").write_text("v=1")
    assert names(marks) == []
    assert marks.rejected == []


def test_a_folder_that_cannot_be_made_is_a_problem_in_words(tmp_path: Path, inotify: INotify) -> None:
    """The daemon goes on without marks, and says why."""
    (tmp_path / "file").write_text("")
    marks = MarkFolder(tmp_path / "file" / "marks", inotify)
    assert marks.waiting() == []
    assert marks.problem == f"{tmp_path}/file/marks: Not a directory"


def test_one_mark_wakes_once(marks: MarkFolder, inotify: INotify) -> None:
    """The writing beside it does not wake the daemon: a reading then would be a moment too early."""
    assert names(marks) == []
    write(marks, "5.1.start.1")
    assert drain(marks, inotify) == 1
    assert names(marks) == ["5.1.start.1"]


def test_what_a_killed_hook_left_is_swept(marks: MarkFolder) -> None:
    """Old half-written marks go when the daemon starts to watch; one that is being written stays."""
    marks.path.mkdir(parents=True)
    for name, age_s in (("old", 3600), ("young", 0)):
        path = marks.path / f".tmp.{name}"
        path.write_text("v=1\n")
        os.utime(path, (path.stat().st_mtime - age_s,) * 2)
    assert names(marks) == []
    assert [path.name for path in marks.path.iterdir()] == [".tmp.young"]
