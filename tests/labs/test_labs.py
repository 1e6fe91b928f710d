"""How a lab that cannot be is reported."""

import os
import subprocess
import sys

import pytest

WITHOUT = """
import sys, pytest
from tests.labs.slurm import lab
lab.missing = lambda: "not installed: slurmd"
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "tests/labs/test_slurm_lab.py", "-k", "idle"]))
"""


def run_without_slurm(require: str) -> subprocess.CompletedProcess[str]:
    """A test run of its own on a machine that seems to lack Slurm."""
    environment = {**os.environ, "PYTHONPATH": ".", "REQUIRE_LABS": require}
    command = [sys.executable, "-c", WITHOUT]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_skipped_lab_is_the_last_word() -> None:
    """The last line of a test run names the labs that were skipped, and why."""
    done = run_without_slurm(require="")
    assert done.returncode == pytest.ExitCode.OK
    assert done.stdout.splitlines()[-1] == "SKIPPED LABS: slurm (not installed: slurmd)"


def test_required_lab_fails_instead() -> None:
    """With REQUIRE_LABS=1 a lab that cannot be is an error, so CI cannot pass without it."""
    done = run_without_slurm(require="1")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "slurm lab: not installed: slurmd" in done.stdout
    assert "SKIPPED" not in done.stdout
