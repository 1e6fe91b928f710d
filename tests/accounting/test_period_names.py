"""`jobimpact report` and `compare`: names that are none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.accounting.period_world import Jobs


def asked(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A process of it, on a site with a job of alice."""
    jobs = Jobs(folder)
    jobs.add()
    jobs.write()
    command = [sys.executable, "-c", "import sys; from jobimpact.cli.main import main; sys.exit(main())", words[0]]
    command += ["--config", str(jobs.world.config_file), *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("option", [("-u",), ("-A",), ("--cluster", "-M")])
def test_bytes_that_are_no_text_are_nobody(tmp_path: Path, option: tuple[str, ...]) -> None:
    """One line, as for any other that is not there."""
    ended = asked(tmp_path, "report", *option, os.fsdecode(b"\xff"))
    assert ended.returncode in {1, 3}
    assert ended.stdout == ""
    assert ended.stderr.startswith("jobimpact: ")
    assert ended.stderr.endswith(": unknown, or not yours\n")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [("report", "-u"), ("report", "-A"), ("report", "-M"), ("compare", "model=x", "-u")])
def test_an_empty_name_is_wrong_usage(tmp_path: Path, words: tuple[str, ...]) -> None:
    """A variable that a script has not set asks for nobody else's."""
    ended = asked(tmp_path, *words, "")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "an empty name: whose?" in ended.stderr
