"""Where an answer goes: a full disk, a closed stream, a pager that dies. And words that may be taken for others."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from tests.accounting.world import World

from jobimpact.cli.main import main
from jobimpact.cli.options import takes_value

COMMAND = "import sys; from jobimpact.cli.main import main; sys.exit(main())"
ENOUGH_S = 120


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Some jobs of one user."""
    made = World(tmp_path_factory.mktemp("streams"))
    for job in range(30):
        made.say(str(job))
    assert main(["account", "--config", str(made.config_file)]) == 0
    return made


def words(world: World, *asked: str) -> list[str]:
    return [sys.executable, "-c", COMMAND, *asked, "--config", str(world.config_file)]


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"], ["--html", "-"]], ids=str)
def test_a_full_disk_is_said(world: World, form: list[str]) -> None:
    """In a line, with the status of what cannot be reached."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(words(world, "1", *form), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "jobimpact: standard output: No space left on device\n")


@pytest.mark.parametrize(
    ("closed", "asked", "status"), [(">&-", "1", 0), ("2>&-", "1", 0), (">&- 2>&-", "1", 0), ("2>&-", "77", 1)]
)
def test_a_closed_stream_is_wanted_by_nobody(world: World, closed: str, asked: str, status: int) -> None:
    """The answer is as it would be; what has no stream comes out of no other."""
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *words(world, asked)]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False)
    assert (done.stdout == "") is (">&-" in closed.split() or status == 1)


@pytest.mark.parametrize(
    "pager",
    ['less "', "/no/such/pager", "sh -c 'kill -9 $$'", "cat"],
    ids=["a quotation without its end", "none", "killed", "cat"],
)
def test_a_pager_that_shows_nothing_loses_nothing(world: World, pager: str) -> None:
    """The answer is printed."""
    leader, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (5, 80))
    process = subprocess.Popen(
        words(world, "-u", "alice", "-S", "2026-01-01"),
        stdin=terminal,
        stdout=terminal,
        stderr=subprocess.PIPE,
        env=os.environ | {"PAGER": pager, "NO_COLOR": "1"},
    )
    os.close(terminal)
    found = b""
    try:
        while some := os.read(leader, 1 << 16):
            found += some
    except OSError:
        pass  # the other side is closed
    os.close(leader)
    _, said = process.communicate(timeout=ENOUGH_S)
    assert (process.returncode, said.replace(b"Killed\n", b"")) == (0, b"")
    assert b"Jobs of alice" in found
    assert b"30 jobs" in found


@pytest.mark.parametrize("option", ["-u", "-A", "-M"])
def test_an_unset_variable_is_not_everybody(world: World, capsys: pytest.CaptureFixture[str], option: str) -> None:
    """`-A "$ACCOUNT"` without one."""
    assert main([option, "", "-S", "2026-01-01", "--config", str(world.config_file)]) == 2
    assert capsys.readouterr() == ("", f"jobimpact: {option}: empty: nobody is named\n")


def test_a_range_that_goes_backwards_is_said(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """It is no range of nothing."""
    assert main(["6_[1,5-2]", "--config", str(world.config_file)]) == 2
    assert "'5-2': the first task is after the last" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["-nu", "alice"], ["-u", "alice", "-n"], ["-nualice"], ["-nu=alice"], ["-nA", "mail"]]
)
def test_short_options_may_be_joined(world: World, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    """The value of the last of them is no job's id and no command."""
    status = main([*words, "-S", "2026-01-01", "--config", str(world.config_file)])
    assert (status, capsys.readouterr().err) == (0, "")


@pytest.mark.parametrize(
    ("takes", "words"),
    [(True, "-u -nu -nTu --user --units"), (False, "-un -n - -- fu --me -x -xu")],
    ids=["takes one", "takes none"],
)
def test_what_takes_a_value(takes: bool, words: str) -> None:
    """So that the word after it is not taken for a command."""
    assert {takes_value(word) for word in words.split()} == {takes}


@pytest.mark.parametrize(
    "words",
    [
        *(["-S", "now-999999999weeks"], ["report", "-S", "now-999999999weeks"], ["report", "--year", "0001"]),
        *(["report", "-S", "2026-01-01", "-E", "now+999999999weeks"], ["mail", "--night", "9999-12-31"]),
        *(["mail", "--night", "0001-01-01"], ["compare", "1", "model=x", "-S", "now-999999999weeks"]),
    ],
    ids=" ".join,
)
def test_times_that_no_calendar_has_are_told(
    world: World, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """In a line."""
    assert main([*words, "--config", str(world.config_file)]) == 2
    found = capsys.readouterr()
    assert (found.out, found.err.count("\n"), found.err.startswith("jobimpact: ")) == ("", 1, True)


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/Los_Angeles"])
@pytest.mark.parametrize("command", [["-u", "alice"], ["report", "-u", "alice"]])
def test_the_beginning_is_a_time(world: World, zone: str, command: list[str]) -> None:
    """1970-01-01 is what people write for it, wherever they are; and 9999 for the end."""
    asked = words(world, *command, "-S", "1970-01-01", "-E", "9999-12-30")
    done = subprocess.run(asked, capture_output=True, text=True, check=False, env=os.environ | {"TZ": zone})
    assert (done.returncode, done.stderr) == (0, "")
    assert "30 jobs" in done.stdout
