"""`jobimpact progress` and a real daemon: from a job's own session, in a flood, after a kill, with nobody there."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.daemon.running import Daemon, until
from tests.daemon.test_daemon import played
from tests.fakes.curve import Curve, boot_ns
from tests.fakes.rig_gpu import Busy, gpu

from jobimpact.core.config import load_config
from jobimpact.core.progress import Said, encode
from jobimpact_daemon.jobs.progress_socket import KEPT
from jobimpact_daemon.replay import replay

COMMAND = "from jobimpact.cli.main import main; raise SystemExit(main())"
FLOOD = """
import socket, sys
out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
out.connect(sys.argv[1])
number = 0
while True:
    number += 1
    words = b'{"v":1,"job":"9%d","step":%d}' % (number, number) if number % 2 else b"x" * 9000
    out.send(words)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="ji") as folder:
        yield Path(folder, "p.sock")


@pytest.fixture
def daemon(compiled: None, tmp_path: Path, place: Path) -> Iterator[Daemon]:
    """A node with a GPU that is a quarter busy, whose daemon listens."""
    one = Daemon(tmp_path, (gpu("GPU-a", Curve.flat(boot_ns(), 300_000_000), minor=3, busy=(Busy(25),)),))
    one.progress = place
    one.configure()
    yield from played(one)


def progress(place: Path | None, *words: str, job: str | None = "7") -> subprocess.CompletedProcess[str]:
    """The command as a job runs it."""
    environ = {name: value for name, value in os.environ.items() if not name.endswith("_JOB_ID")}
    environ |= {"JOBIMPACT_PROGRESS": str(place)} if place else {}
    environ |= {"SLURM_JOB_ID": job} if job else {}
    command = [sys.executable, "-c", COMMAND, "progress", *words]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)


def points(daemon: Daemon) -> list[Any]:
    return daemon.ask("SELECT metric, step, value, uj > 0 FROM progress WHERE run = '7' ORDER BY wall_s, metric")


def begin(daemon: Daemon, **fields: object) -> None:
    daemon.start()
    daemon.mark("start", "7", cpus=16, gpus=3, **{"uid": os.getuid(), **fields})
    until(daemon.taken, "for the start mark")


def test_a_job_tells_how_far_it_is(daemon: Daemon, place: Path) -> None:
    """Its step and metrics, its labels, its energy by then; and the recording gives the same use when replayed."""
    begin(daemon)
    reads = len(daemon.lines())
    until(lambda: len(daemon.lines()) > reads + 10, "for some energy")
    done = progress(place, "--step", "90", "--metric", "acc=0.71", "--metric", "loss=1e-3", "--set", "model=resnet50")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    until(lambda: _utilised(daemon) >= 3, "for the GPU's utilisation")
    daemon.mark("end", "7")
    until(daemon.taken, "for the end mark")
    assert points(daemon) == [("acc", 90, 0.71, 1), ("loss", 90, 0.001, 1)]
    assert daemon.ask("SELECT run, name, value FROM label") == [("7", "model", "resnet50")]
    daemon.stop()
    assert not place.exists()
    daemon.check_exact("package-0", "dram-0", "gpu:GPU-a")
    [[used]] = daemon.ask("SELECT used FROM run")
    told = replay(load_config(daemon.config), daemon.recording)["jobs"]["7"]["used"]
    assert told == json.loads(used)
    assert told["gpu_busy_ns"] == pytest.approx(told["gpu_known_ns"] / 4, abs=2)
    assert told["gpu_known_ns"] > 0


def test_check_says_whether_jobs_are_heard_and_gpus_tell(daemon: Daemon, place: Path) -> None:
    """Before the daemon runs, while it does, and where it is switched off."""

    def check() -> str:
        environ = {**os.environ, **daemon.node.env, "PATH": "/nowhere"}
        return subprocess.run(daemon.command("check"), env=environ, capture_output=True, text=True, check=False).stdout

    assert f"progress: {place}: No such file or directory: jobs cannot tell" in check()
    daemon.start()
    said = check()
    assert f"progress: {place}: the daemon listens to its jobs" in said
    assert "nvml: 1 of 1 GPUs tell how busy they are" in said
    daemon.stop()
    daemon.progress = None
    daemon.configure()
    assert "node.progress is switched off" in check()


def _utilised(daemon: Daemon) -> int:
    return sum(bool(line.get("usage", {}).get("util")) for line in daemon.lines())


def test_a_session_is_its_jobs_whatever_it_names(daemon: Daemon, place: Path) -> None:
    """Where a job is a process session, who is in it speaks for it; its user is not even known."""
    script = f'until [ -e {place}.go ]; do sleep 0.05; done; exec "$@"'
    environ = {**os.environ, "JOBIMPACT_PROGRESS": str(place), "OAR_JOB_ID": "nobody"}
    command = ["sh", "-c", script, "sh", sys.executable, "-c", COMMAND, "progress", "--step", "5"]
    with subprocess.Popen(command, env=environ, start_new_session=True) as job:
        daemon.start()
        daemon.mark("start", "7", cpus=1, sid=job.pid)
        until(daemon.taken, "for the start mark")
        reads = len(daemon.lines())
        until(lambda: len(daemon.lines()) > reads + 2, "for a reading of the session")
        Path(f"{place}.go").touch()
        assert job.wait(120) == 0
    reads = len(daemon.lines())
    until(lambda: len(daemon.lines()) > reads + 2, "for the next tick")
    daemon.stop()
    assert [one[:2] for one in points(daemon)] == [("", 5)]


def test_a_flood_hurts_nobody_and_a_kill_loses_nothing(daemon: Daemon, place: Path) -> None:
    """Readings go on, memory stays, a job is heard; after kill -9 the books balance and the socket comes back."""
    begin(daemon)
    floods = [subprocess.Popen([sys.executable, "-c", FLOOD, str(place)], stderr=subprocess.DEVNULL) for _ in range(3)]
    try:
        start, mib = time.monotonic(), _rss_mib(daemon)
        reads = len(daemon.lines())
        until(lambda: len(daemon.lines()) > reads + 20 and time.monotonic() - start > 3, "for readings in a flood")
        said = encode(Said("7", 42))

        def heard() -> bool:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out, suppress(BlockingIOError):
                out.setblocking(False)
                out.sendto(said, str(place))
            daemon.mark("start", "8", cpus=0)  # commits
            until(daemon.taken)
            return bool(points(daemon))

        until(heard, "for a job that is heard in a flood")
        assert _rss_mib(daemon) - mib < 64
    finally:
        for flood in floods:
            flood.kill()
            flood.wait()
    before = points(daemon)
    kinds = {kind for (kind,) in daemon.ask("SELECT kind FROM finding")}
    assert "progress dropped" in kinds
    assert len(daemon.ask("SELECT 1 FROM finding WHERE kind = 'progress dropped'")) < 100
    daemon.stop(signal.SIGKILL)
    assert place.is_socket()
    assert "no daemon listens there" in progress(place, "--step", "1").stderr
    daemon.start()
    [[stamp]] = daemon.ask("SELECT max(wall_s) FROM progress")
    until(lambda: time.time() > stamp + 1.1, "for a point of its own")
    until(lambda: not progress(place, "--step", "43").stderr, "for the daemon to listen again")
    reads = len(daemon.lines())
    until(lambda: len(daemon.lines()) > reads + 2, "for the next tick")
    daemon.stop()
    after = points(daemon)
    assert after[: len(before)] == before
    assert ("", 43) in [one[:2] for one in after]
    daemon.check_exact("package-0", "dram-0", "gpu:GPU-a")


def _rss_mib(daemon: Daemon) -> float:
    assert daemon.process is not None
    text = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


@pytest.mark.parametrize(
    ("words", "job", "status", "said"),
    [
        (["--step", "1"], None, 0, "not in a job"),
        (["--step", "1"], "7", 0, "no daemon listens there"),
        (["--step", "1"], "\udcff", 0, "not in a job"),
        (["--metric", "loss=nan"], "7", 0, "metric loss: nan: left out"),
        (["--step", "1", "--metric", "loss=-inf"], "7", 0, "no daemon listens there"),
        ([], "7", 2, "nothing is said"),
        (["--metric", "loss"], "7", 2, "NAME=VALUE"),
        (["--metric", "loss=low"], "7", 2, "not a number"),
        (["--step", "-1"], "7", 2, "step -1"),
        (["--set", "model=" + "x" * 201], "7", 2, "label model"),
        (["--set", "model=\udc80"], "7", 2, "label model"),
        (["--steps", "1"], "7", 2, "unrecognized"),
    ],
)
def test_it_never_breaks_a_job(place: Path, words: list[str], job: str | None, status: int, said: str) -> None:
    """Only wrong usage is an error; that nobody listens is said, and no more."""
    done = progress(place, *words, job=job)
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-", "2>&- >&- <&-"])
@pytest.mark.parametrize("words", [["--step", "1"], ["--metric", "loss=nan"]], ids=" ".join)
def test_what_cannot_be_said_breaks_no_job(place: Path, where: str, words: list[str]) -> None:
    """A job's stderr may lie on a full disk, and its script end with the first command that fails."""
    script = f'set -e; "$@" {where}; echo on'
    command = ["sh", "-c", script, "sh", sys.executable, "-c", COMMAND, "progress", *words]
    environ = {**os.environ, "JOBIMPACT_PROGRESS": str(place), "SLURM_JOB_ID": "7"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "on\n", "")


def test_a_daemon_that_does_not_read_keeps_no_job_waiting(place: Path) -> None:
    """A full queue is said after a moment; the job goes on."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out,
    ):
        full.bind(str(place))
        out.setblocking(False)
        with suppress(BlockingIOError):
            for _ in range(100 * KEPT):
                out.sendto(b"x", str(place))
        done = progress(place, "--step", "1")
    assert (done.returncode, "too much to read" in done.stderr) == (0, True)
