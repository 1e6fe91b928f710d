"""How a lab that cannot be is reported, and that a crashed one leaves nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.labs.lab import PATIENCE_S, Lab, until
from tests.labs.leftovers import CGROUPS
from tests.labs.oar.lab import OarLab
from tests.labs.oar.layout import Plan as OarPlan
from tests.labs.slurm.lab import SlurmLab
from tests.labs.slurm.layout import Plan as SlurmPlan

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


CRASHING_LAB = """
import sys, time
from tests.labs.test_labs import of_its_own
lab = of_its_own(*sys.argv[1:])
lab.up()
lab.wait_running((lab.oarsub if sys.argv[1] == "oar" else lab.sbatch)("exec sleep 1000"))
print(lab.folder, flush=True)
time.sleep(1000)
"""


def of_its_own(kind: str, lock: str) -> Lab:
    """A lab that can be beside the one of the other tests."""
    if kind == "oar":
        return OarLab(OarPlan(nodes=1, prefix="jioarcrash"), Path(lock))
    return SlurmLab(SlurmPlan(nodes=2, prefix="jicrash"), Path(lock))


@pytest.mark.lab
@pytest.mark.parametrize(("kind", "cgroups"), [("slurm", "*/slurm_jicrash*"), ("oar", "*/jioarcrash")])
def test_a_crashed_lab_leaves_nothing(request: pytest.FixtureRequest, tmp_path: Path, kind: str, cgroups: str) -> None:
    """A killed test run takes its lab along, and the next lab clears away the rest; there is one at a time."""
    beside = request.getfixturevalue(f"{kind}_lab")
    this = kind, str(tmp_path / "lock")
    command = [sys.executable, "-c", CRASHING_LAB, *this]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "."}) as run:
        assert run.stdout
        folder = Path(run.stdout.readline().strip())
        with pytest.raises(TimeoutError, match="another lab"):
            of_its_own(*this).clear(lock_timeout=0)
        run.send_signal(signal.SIGKILL)
    assert folder.is_dir()
    assert list(CGROUPS.glob(cgroups))
    following = of_its_own(*this)
    following.clear(lock_timeout=PATIENCE_S)
    following.down()
    assert not folder.exists()
    assert not list(CGROUPS.glob(cgroups))
    gone = lambda: str(folder) not in subprocess.check_output(["ps", "-eo", "args"], text=True)  # noqa: E731
    until(gone, PATIENCE_S, lambda: str(folder))
    assert beside.node_states()
