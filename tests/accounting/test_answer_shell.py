"""Completion and the manual page: real shells and real man, and each option and command there is."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from jobimpact.cli import completion
from jobimpact.cli.options import OPTIONS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/completion"
FILES = {"bash": FOLDER / "jobimpact.bash", "zsh": FOLDER / "_jobimpact", "fish": FOLDER / "jobimpact.fish"}
PAGE = ROOT / "docs/man/jobimpact.1"
FLAGS = [flag for option in OPTIONS for flag in option.flags]


def needed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_the_scripts_are_those_of_this_release(shell: str) -> None:
    """`python -m jobimpact.cli.completion SHELL` writes them."""
    assert FILES[shell].read_text(encoding="utf-8") == completion.script(shell)


def bash(*words: str) -> list[str]:
    """What bash offers for the last word."""
    line = f"""
source {shlex.quote(str(FILES["bash"]))}
COMP_WORDS=(jobimpact {shlex.join(words)})
COMP_CWORD={len(words)}
$(complete -p jobimpact | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run([needed("bash"), "--norc", "-c", line], capture_output=True, text=True, check=True)
    # Outside of a completion there is none that compopt could be of.
    assert [said for said in done.stderr.splitlines() if "compopt" not in said] == []
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["acc"], ["account"]),
        (["--js"], ["--json"]),
        (["--u"], ["--user", "--units"]),
        (["account", "--fr"], ["--from"]),
        (["--config", "x", "books", "--mo"], ["--month"]),
        (["-u", "alice", "--starttime", "noon", "--no-p"], ["--no-pager"]),
        (["123", "--hea"], []),
        (["123", "--html", str(PAGE)[:-3]], [str(PAGE)]),
        (["-u", "roo"], ["root"]),
        (["--units", "kWh,"], ["kWh,g", "kWh,kg"]),
        (["-A", "x"], []),
        (["$(touch /tmp/never)", "--arr"], ["--array"]),
    ],
)
def test_bash_completes(words: list[str], offered: list[str]) -> None:
    """Commands, their options, an answer's, files, users and units."""
    assert bash(*words) == offered


def test_bash_offers_all_at_first() -> None:
    """Each command and each option."""
    assert set(bash("")) == {*completion.commands(), *FLAGS}


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_the_shell_takes_its_script(shell: str) -> None:
    """Without a word."""
    done = subprocess.run([needed(shell), "-n", FILES[shell]], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("acc", {"account"}), ("--unit", {"--units"}), ("account --fr", {"--from"}), ("1 --no-c", {"--no-color"})],
)
def test_fish_completes(typed: str, offered: set[str], tmp_path: Path) -> None:
    """Commands and options."""
    line = f"source {shlex.quote(str(FILES['fish']))}; complete -C {shlex.quote(f'jobimpact {typed}')}"
    done = subprocess.run(
        [needed("fish"), "--no-config", "-c", line],
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "XDG_DATA_HOME": str(tmp_path)},
    )
    assert {row.split("\t")[0] for row in done.stdout.splitlines()} == offered


def test_the_page_has_each_option_and_command() -> None:
    """By its name."""
    text = re.sub(r"\\f.", "", PAGE.read_text(encoding="utf-8")).replace("\\-", "-")
    options, _, commands = text.partition(".SH COMMANDS")
    for flag in FLAGS:
        assert re.search(rf"(?<![\w-]){flag}(?![\w-])", options), flag
    for name in completion.commands():
        assert re.search(rf"^\.B {name}$", commands, re.MULTILINE), name


def test_man_takes_the_page_without_a_warning() -> None:
    """And shows it within 80 columns."""
    man = needed("man")
    needed("groff")
    done = subprocess.run(
        [man, "--warnings", "-E", "UTF-8", "-l", PAGE],
        capture_output=True,
        text=True,
        check=False,
        env={"MANWIDTH": "80", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "--truncate" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
