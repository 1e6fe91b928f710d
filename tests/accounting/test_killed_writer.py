"""The accounting is killed in the middle of a write: what readers say, and that the next one puts it right."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.accounting.world import World

from jobimpact.cli.main import main

KILLED = """
import os, signal, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA cache_size = 1")  # so that the file itself is written to before the commit
db.execute("BEGIN IMMEDIATE")
db.execute("UPDATE job_result SET name = hex(randomblob(10000))")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_write_that_was_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Readers may not undo it: they say what will. After the next accounting all is as it was before."""
    world = World(tmp_path)
    for job in range(50):
        world.say(str(job), name="before")
    config = ["--config", str(world.config_file)]
    assert main(["account", *config]) == 0
    done = subprocess.run([sys.executable, "-c", KILLED, str(world.results)], check=False)
    assert done.returncode == -signal.SIGKILL
    capsys.readouterr()
    for words in (["7"], ["report", "-u", "alice", "--month", "2026-11"], ["-u", "alice", "-S", "2026-01-01"]):
        assert main([*words, *config]) == 3
        assert "`jobimpact account`) puts it right" in capsys.readouterr().err
    assert main(["account", *config]) == 0
    capsys.readouterr()
    assert main(["7", *config]) == 0
    assert "before" in capsys.readouterr().out
