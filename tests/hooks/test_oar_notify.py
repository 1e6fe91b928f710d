"""OAR's notifier: what it writes, and that nothing makes it fail. Real processes only."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import tempfile
import time
from pathlib import Path

import pytest
from tests.hooks.shells import BOOT, HOOKS, NAME, Env, Shell, finish, only_mark, script, start

from jobimpact.core.marks import parse_mark

NOTIFY = HOOKS / "oar/notify"
JOB = ("event=init", "job=123", "node=node-1.site.fr", "uid=2001", "cpus=4", "gpus=0,1")


def run(shell: Shell, env: Env, *arguments: str) -> int:
    """Run the notifier to its end and give its process id."""
    return finish(start([*shell.argv, NOTIFY, *arguments], env))


# What it writes


def test_both_marks_of_a_job(shell: Shell, marks: Path, settings: dict[str, str]) -> None:
    """Exactly these marks, under these names, for their owner only; the daemon reads them."""
    body = f"boot={BOOT}\nuptime=113.82\nscheduler=oar\nnode=node-1.site.fr\nuid=2001\ncpus=4\n"
    pid = run(shell, settings, *JOB)
    mark = only_mark(marks)
    assert mark.name == f"113.82.123.start.{pid}"
    assert stat.S_IMODE(mark.stat().st_mode) == 0o600
    assert mark.read_text() == f"v=1\nevent=start\njob=123\n{body}gpus=0,1\nend=1\n"
    read = parse_mark(mark.read_bytes())
    assert (read.event, read.job, read.uid, read.cpus, read.gpus) == ("start", "123", 2001, 4, ("0", "1"))
    mark.unlink()
    pid = run(shell, settings, "event=clean", *JOB[1:5])
    assert only_mark(marks).name == f"113.82.123.end.{pid}"
    assert only_mark(marks).read_text() == f"v=1\nevent=end\njob=123\n{body}end=1\n"


@pytest.mark.parametrize(
    ("devices", "told"),
    [
        ("0", "0"),
        ("1,0,1", "1,0"),
        ("/dev/nvidia0", "0"),
        ("/dev/nvidia3,/dev/nvidia12", "3,12"),
        ("/dev/nvidia0+/dev/nvidia1 /dev/nvidia1", "0,1"),
        ("/dev/dri/card1+/dev/dri/renderD128", "128"),
        ("/dev/nvidia-caps/nvidia-cap21+/dev/nvidia2", "2"),
        ("/dev/nvidia-caps/nvidia-cap21", None),
        ("/dev/nvidiactl", None),
        ("/dev/nvidia12345", None),
        ("", None),
        ("$(reboot)", None),
        ("0;1", None),
        ("*", None),
        ("0," * 2049, None),
    ],
)
def test_gpu_devices(shell: Shell, marks: Path, settings: dict[str, str], devices: str, told: str | None) -> None:
    """Minor numbers of OAR 2.5, files of 2.6 and 3; what no GPU is known by is left out."""
    run(shell, settings, *JOB[:5], f"gpus={devices}")
    mark = only_mark(marks)
    assert re.findall(r"^gpus=(.*)$", mark.read_text(), re.MULTILINE) == ([told] if told else [])
    parse_mark(mark.read_bytes())


@pytest.mark.parametrize(
    ("argument", "kept"),
    [
        ("uid=-1", False),
        ("uid=0x7", False),
        ("uid=" + "1" * 19, False),
        ("cpus=", False),
        ("cpus=4\nmem_bytes=1", False),
        ("cpus=4 5", False),
        ("node=a b", False),
        ("node=" + "n" * 256, False),
        ("node=$(touch /tmp/x)", False),
        ("node=" + "n" * 255, True),
        ("cpus=128", True),
    ],
)
def test_a_bad_value_is_left_out(
    shell: Shell, marks: Path, settings: dict[str, str], argument: str, kept: bool
) -> None:
    """The mark comes without it, and is whole."""
    run(shell, settings, "event=init", "job=7", argument)
    text = only_mark(marks).read_text()
    assert text.startswith("v=1\nevent=start\njob=7\n")
    assert text.endswith("\nend=1\n")
    assert (f"\n{argument}\n" in text) is kept
    assert len(text.splitlines()) == 7 + kept
    parse_mark(text.encode())


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("event=init",),
        ("job=7",),
        ("event=start", "job=7"),
        ("event=", "job=7"),
        ("event=init", "job="),
        ("event=init", "job=7x"),
        ("event=init", "job=../7"),
        ("event=init", "job=" + "7" * 19),
        ("event=init", "job=-7"),
        ("--help",),
    ],
)
def test_without_an_event_and_a_job_there_is_no_mark(
    shell: Shell, marks: Path, settings: dict[str, str], arguments: tuple[str, ...]
) -> None:
    """No mark is better than a wrong one."""
    run(shell, settings, *arguments)
    assert list(marks.iterdir()) == []


def test_a_newer_server_may_tell_more(shell: Shell, marks: Path, settings: dict[str, str]) -> None:
    """A key that is not known is passed over, in any place."""
    run(shell, settings, "walltime=60", *JOB, "x=y", "event2=clean", "just words", "")
    assert only_mark(marks).read_text().splitlines()[1:3] == ["event=start", "job=123"]


@pytest.mark.parametrize("uptime", ["", "113", ".5", "5.", "1.2.3", "x.y", "-1.5"])
def test_an_odd_uptime(shell: Shell, marks: Path, settings: dict[str, str], uptime: str) -> None:
    """Without a time there is no edge: no mark, or the kernel's own time where the stand-in is empty."""
    Path(settings["JOBIMPACT_PROC"], "uptime").write_text(f"{uptime} 1\n" if uptime else "")
    run(shell, settings, *JOB)
    assert len(list(marks.iterdir())) == (0 if uptime else 1)


@pytest.mark.parametrize(
    "odd",
    [
        {"IFS": "0123456789."},
        {"SHELLOPTS": "errexit:nounset:xtrace:noclobber:allexport", "PS4": "+"},
        {"LC_ALL": "none_NONE.none"},
        {"POSIXLY_CORRECT": "1", "CDPATH": "/:/tmp", "TMPDIR": "/nonexistent", "PWD": "/nonexistent"},
        {
            "mark": "junk=1\n",
            "tmp": "/etc/passwd",
            "line": "1.2",
            "event": "x",
            "word": "",
            "digit": "",
            "minors": "9",
        },
    ],
    ids=["ifs", "options", "locale", "posix", "our names"],
)
def test_odd_environment(shell: Shell, marks: Path, settings: dict[str, str], odd: dict[str, str]) -> None:
    """No variable that a shell or we ourselves use changes a mark."""
    finish(start([*shell.argv, NOTIFY, *JOB], settings | odd), shell_may_warn=True)
    assert only_mark(marks).read_text().splitlines()[5:] == [
        *("scheduler=oar", "node=node-1.site.fr", "uid=2001", "cpus=4", "gpus=0,1", "end=1")
    ]


@pytest.mark.parametrize("closing", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(shell: Shell, marks: Path, settings: dict[str, str], closing: str) -> None:
    """A closed stdin, stdout or stderr neither stops it nor gets into the mark."""
    finish(start(script(f'exec "$@" {closing}', *shell.argv, NOTIFY, *JOB), settings))
    assert only_mark(marks).read_text().endswith("end=1\n")


# The mark folder, programs, signals


@pytest.mark.parametrize("place", ["none", "file", "file/marks", "link", "/proc/none"])
def test_a_folder_that_is_not_there_is_not_made(
    shell: Shell, tmp_path: Path, settings: dict[str, str], place: str
) -> None:
    """Only root may say whose it is: no mark, no error, and nothing else is changed."""
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    before = set(tmp_path.rglob("*"))
    run(shell, settings | {"JOBIMPACT_MARKS": str(tmp_path / place)}, *JOB)
    assert set(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("options", ["ro", "nr_inodes=1", "size=4k"], ids=["read-only", "no inode left", "full"])
def test_folder_on_a_bad_disk(
    shell: Shell, tmp_path: Path, marks: Path, settings: dict[str, str], private_mounts: list[str], options: str
) -> None:
    """A read-only or full mark folder gets no mark at all: not an empty one, and no rest of one."""
    after = tmp_path / "after"
    fill = 'head -c 4096 /dev/zero > "$1/old"' if "size" in options else ":"
    program = f'mount -t tmpfs -o {options} none "$1" || exit 9; {fill}; shift; "$@"; rc=$?; ls -A "$0" > "{after}"'
    inside = ["/bin/sh", "-c", f"{program}; exit $rc", marks, marks, *shell.argv, NOTIFY, *JOB]
    finish(start([*private_mounts, *inside], settings | {"PATH": os.environ["PATH"]}))
    assert after.read_text().split() == (["old"] if "size" in options else [])


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
def test_the_folder_of_an_oar_node(shell: Shell) -> None:
    """root's, with the group's sticky bit: a member leaves marks, sees no others, and removes none."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        notify = shutil.copy(NOTIFY, folder / "notify")
        marks = folder / "marks"
        marks.mkdir()
        shutil.chown(marks, 0, 64998)
        marks.chmod(0o1730)
        (marks / "other").touch()
        member = ["setpriv", "--reuid=64999", "--regid=64998", "--clear-groups"]
        finish(start([*member, *shell.argv, notify, *JOB], {"JOBIMPACT_MARKS": str(marks)}))
        (mark,) = [one for one in marks.iterdir() if one.name != "other"]
        assert (mark.stat().st_uid, stat.S_IMODE(mark.stat().st_mode)) == (64999, 0o600)
        assert NAME.fullmatch(mark.name)
        stranger = ["setpriv", "--reuid=64997", "--regid=64997", "--clear-groups"]
        finish(start([*stranger, *shell.argv, notify, *JOB], {"JOBIMPACT_MARKS": str(marks)}))
        assert len(list(marks.iterdir())) == 2


def test_nothing_is_written_through_a_link(
    shell: Shell, tmp_path: Path, marks: Path, settings: dict[str, str]
) -> None:
    """A link that waits under the temporary name is not followed."""
    (tmp_path / "victim").write_text("kept")
    plant = f'/bin/ln -s "$0" "{marks}/.tmp.113.82.123.start.$$"; exec "$@"'
    finish(start(["/bin/sh", "-c", plant, tmp_path / "victim", *shell.argv, NOTIFY, *JOB], settings))
    assert (tmp_path / "victim").read_text() == "kept"
    assert not [mark for mark in marks.iterdir() if not mark.name.startswith(".tmp.")]


def test_no_program_at_all(
    shell: Shell, tmp_path: Path, marks: Path, settings: dict[str, str], private_mounts: list[str]
) -> None:
    """With an empty /bin (no mv, no rm) it ends well and there is no mark."""
    own = shutil.copy(shell.argv[0], tmp_path / Path(shell.argv[0]).name)
    inside = script('mount -t tmpfs none /bin || exit 9; exec "$@"', own, *shell.argv[1:], NOTIFY, *JOB)
    finish(start([*private_mounts, *inside], settings | {"PATH": os.environ["PATH"]}))
    assert [mark for mark in marks.iterdir() if not mark.name.startswith(".tmp.")] == []


def test_signal_at_any_moment(shell: Shell, marks: Path, settings: dict[str, str]) -> None:
    """Killed at any moment, what is left is a whole mark or none; the status is 0 once the shell has begun."""
    statuses = set()
    for step in range(40):
        process = start([*shell.argv, NOTIFY, *JOB], settings)
        time.sleep(step * 0.00015)
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=120)
        statuses.add(process.returncode)
    assert statuses <= {0, -signal.SIGTERM}  # -SIGTERM: before the script's first line
    for mark in marks.iterdir():
        assert NAME.fullmatch(mark.name)
        parse_mark(mark.read_bytes())


def test_an_alarm_ends_it(shell: Shell, settings: dict[str, str]) -> None:
    """The job_resource_manager sets one: a notifier that hangs must not outlive it."""
    uptime = Path(settings["JOBIMPACT_PROC"], "uptime")
    uptime.unlink()
    os.mkfifo(uptime)
    held = os.open(uptime, os.O_RDWR)  # it waits for a line that never comes
    try:
        process = start([*shell.argv, NOTIFY, *JOB], settings)
        while not any(link.exists() and link.samefile(uptime) for link in Path(f"/proc/{process.pid}/fd").iterdir()):
            time.sleep(0.005)
        process.send_signal(signal.SIGALRM)
        process.communicate(timeout=120)
        assert process.returncode == -signal.SIGALRM
    finally:
        os.close(held)


def test_64_at_once(shell: Shell, marks: Path) -> None:
    """64 at once leave 64 whole marks of their own and nothing else."""
    env = {"JOBIMPACT_MARKS": str(marks)}
    events = ["event=clean" if number % 2 else "event=init" for number in range(64)]
    jobs = [f"job={1000 + number // 4}" for number in range(64)]
    processes = [start([*shell.argv, NOTIFY, event, job], env) for event, job in zip(events, jobs, strict=True)]
    pids = {str(finish(process)) for process in processes}
    found = {
        name[3]: parse_mark((marks / name[0]).read_bytes()) for name in map(NAME.fullmatch, os.listdir(marks)) if name
    }
    assert found.keys() == pids
    assert sorted(one.job for one in found.values()) == sorted(job.removeprefix("job=") for job in jobs)
