"""The daemon as a process on a node whose meters play known curves: stopped, killed, starved and hung."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.daemon.running import WAIT_S, Daemon, until
from tests.fakes.curve import NS_PER_MS, NS_PER_S, Curve, boot_ns
from tests.fakes.rig import PowerRig
from tests.fakes.rig_gpu import ENERGY, Delay, gpu

from jobimpact.core.config import load_config
from jobimpact_daemon.replay import replay

pytestmark = pytest.mark.usefixtures("compiled")


def played(daemon: Daemon) -> Iterator[Daemon]:
    """The rig plays for as long as the test runs; no daemon outlives it."""
    with PowerRig(daemon.folder, daemon.node):
        try:
            yield daemon
        finally:
            if daemon.process is not None:
                daemon.process.kill()
                daemon.process.communicate()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A node with a package, its memory and a GPU."""
    yield from played(Daemon(tmp_path, (gpu("GPU-a", Curve.flat(boot_ns(), 300_000_000), minor=3),)))


def test_a_job_between_two_marks_and_a_clean_end(daemon: Daemon) -> None:
    """SIGTERM ends with a last reading on disk, to the last microjoule; the job has what it held, and no more."""
    daemon.start()
    daemon.mark("start", "7", cpus=16, uid=1000, gpus=3)
    until(daemon.taken, "for the start mark")
    time.sleep(1)
    daemon.mark("end", "7")
    until(daemon.taken, "for the end mark")
    assert "ended cleanly" in daemon.stop()
    daemon.check_exact("package-0", "dram-0", "gpu:GPU-a")
    ((state, elapsed_ns, cpus, gpus),) = daemon.ask("SELECT state, elapsed_ns, cpus, gpus FROM run")
    assert (state, cpus, json.loads(gpus)) == ("ended", 16, ["GPU-a"])
    energy = dict(daemon.ask("SELECT domain, uj FROM ledger WHERE holder = '7'"))
    seconds = pytest.approx(elapsed_ns / NS_PER_S, abs=0.1 * elapsed_ns / NS_PER_S + 2 * daemon.late_s())
    assert energy["gpu:GPU-a"] / 300e6 == seconds
    assert energy["dram-0"] / 20e6 == seconds
    assert set(dict(daemon.ask("SELECT domain, known_ns FROM ledger WHERE holder = '7'")).values()) == {elapsed_ns}


def test_a_recording_replays_to_the_same_books(daemon: Daemon) -> None:
    """What `--record` wrote gives the same energies, runs and durations as the daemon itself."""
    daemon.start()
    for event in ("start", "end"):
        daemon.mark(event, "7", cpus=4, gpus=3)
        until(daemon.taken, "for the mark")
        time.sleep(0.5)
    daemon.stop()
    told = replay(load_config(daemon.config), daemon.recording)
    books: dict[str, dict[str, int]] = {}
    for domain, holder, uj in daemon.ask("SELECT domain, holder, uj FROM ledger"):
        books.setdefault(domain, {})[holder] = uj
    assert {name: one["holders"] for name, one in told["domains"].items()} == books
    assert {name: one["measured_uj"] for name, one in told["domains"].items()} == daemon.measured()
    runs = daemon.ask("SELECT run, elapsed_ns / 1e9, state FROM run")
    assert [(run, job["seconds"], job["state"]) for run, job in told["jobs"].items()] == runs


def test_kill_9_loses_nothing_that_the_counters_hold(daemon: Daemon) -> None:
    """Killed in mid job and started again two seconds later: the job goes on, whole and flagged."""
    daemon.start()
    daemon.mark("start", "7", cpus=16)
    until(daemon.taken, "for the start mark")
    time.sleep(0.5)
    daemon.stop(signal.SIGKILL)
    time.sleep(2)
    daemon.start()
    daemon.mark("end", "7")
    until(daemon.taken, "for the end mark")
    daemon.stop()
    daemon.check_exact("package-0", "dram-0", "gpu:GPU-a")
    ((state, elapsed_ns, flags),) = daemon.ask("SELECT state, elapsed_ns, flags FROM run")
    assert state == "ended"
    assert elapsed_ns > 2.5 * NS_PER_S
    assert "package-0 gap" in json.loads(flags)
    assert set(dict(daemon.ask("SELECT domain, known_ns FROM ledger WHERE holder = '7'")).values()) == {elapsed_ns}


def test_marks_that_came_while_the_daemon_was_dead_are_taken(daemon: Daemon) -> None:
    """A whole job in the daemon's gap has its time and its share, with interpolated edges."""
    daemon.start()
    daemon.stop(signal.SIGKILL)
    begun_ns = boot_ns()
    daemon.mark("start", "7", cpus=16)
    start_ns = boot_ns()
    time.sleep(1)
    end_ns = boot_ns()
    daemon.mark("end", "7")
    over_ns = boot_ns()
    time.sleep(0.5)
    daemon.start()
    until(daemon.taken, "for the marks")
    daemon.stop()
    daemon.check_exact("package-0", "dram-0")
    ((elapsed_ns, flags),) = daemon.ask("SELECT elapsed_ns, flags FROM run")
    hundredth_ns = 10 * NS_PER_MS
    assert end_ns - start_ns - hundredth_ns <= elapsed_ns <= over_ns - begun_ns + hundredth_ns
    assert {"start interpolated", "end interpolated"} <= set(json.loads(flags))
    ((uj,),) = daemon.ask("SELECT uj FROM ledger WHERE holder = '7' AND domain = 'dram-0'")
    assert uj == pytest.approx(20e6 * elapsed_ns / NS_PER_S, rel=0.15)


def test_another_boot_closes_the_runs_of_the_last(daemon: Daemon) -> None:
    """A boot id that changed between two runs: the job ended with the old boot, and no energy came in between."""
    daemon.start()
    daemon.mark("start", "7", cpus=16)
    until(daemon.taken, "for the start mark")
    daemon.stop()
    first = daemon.measured()["package-0"]
    (daemon.node.proc_root / "sys/kernel/random/boot_id").write_text("another\n")
    seen = len(daemon.raw("package-0"))
    daemon.start()
    daemon.stop()
    after = daemon.raw("package-0")[seen:]
    assert daemon.measured()["package-0"] == first + after[-1] - after[0]
    assert daemon.ask("SELECT state FROM run") == [("rebooted",)]
    assert ("reboot", "7") in daemon.ask("SELECT kind, subject FROM finding")


def test_marks_gone_wrong_are_set_aside_and_a_lost_folder_is_made_anew(daemon: Daemon) -> None:
    """A corrupt mark is reported; the folder may go and come; the next job is seen at once."""
    daemon.start()
    (daemon.marks / "1.1.start.1").write_bytes(b"\xff")
    Path(os.fsdecode(os.fsencode(daemon.marks) + b"/\xfe")).write_text("v=1\n")
    until(lambda: (daemon.marks / "rejected").exists() and len(os.listdir(daemon.marks / "rejected")) == 2)
    shutil.rmtree(daemon.marks)
    until(daemon.marks.is_dir, "for the folder")
    daemon.mark("start", "7", cpus=1)
    until(daemon.taken, "for the mark")
    daemon.stop()
    assert daemon.ask("SELECT run FROM run") == [("7",)]
    found = daemon.ask("SELECT subject FROM finding WHERE kind = 'mark set aside'")
    assert sorted(found) == [("1.1.start.1",), ("\\xfe",)]


def test_a_second_daemon_is_refused(daemon: Daemon) -> None:
    """Two daemons on one file would charge everything twice: the second says so and ends with 1."""
    daemon.start()
    environment = {**os.environ, **daemon.node.env}
    second = subprocess.run(
        daemon.command("run"), env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert second.returncode == 1
    assert "another jobimpactd is running" in second.stderr
    assert "Traceback" not in second.stderr
    daemon.stop()
    daemon.check_exact("package-0")


def test_a_hung_driver_fails_alone(tmp_path: Path) -> None:
    """While NVML hangs for two seconds, RAPL keeps its rate; afterwards no energy is missing."""
    for lead_ms in (2500, 10_000, 40_000):  # a slow machine's daemon must have read before
        t0 = boot_ns() + (lead_ms - 2500) * NS_PER_MS
        hang = Delay(2000, t0 + 2500 * NS_PER_MS, t0 + 4400 * NS_PER_MS, (ENERGY,))
        one = gpu("GPU-a", Curve.flat(boot_ns(), 300_000_000), trouble=(hang,))
        (tmp_path / str(lead_ms)).mkdir()
        daemon = Daemon(tmp_path / str(lead_ms), (one,))
        if _in_time(daemon, t0):
            return
    raise AssertionError("this daemon does not start")


def _in_time(daemon: Daemon, t0: int) -> bool:
    """Whether it had begun a second before the hang; then all is checked."""
    for _ in played(daemon):
        daemon.start()
        if boot_ns() > t0 + 1500 * NS_PER_MS:
            return False
        time.sleep(max(0, (t0 + 5200 * NS_PER_MS - boot_ns()) / NS_PER_S))
        daemon.stop()
        reads = [(line["t"], line["read"]) for line in daemon.lines() if "read" in line]
        hung = [t for t, read in reads if "failed" in read["nvml"]["gpu:GPU-a"]]
        assert hung[-1] - hung[0] > 1
        during = [t for t, read in reads if hung[0] <= t <= hung[-1] and "uj" in read["rapl"]["package-0"]]
        assert set(hung) == set(during)
        before = [t for t, _ in reads if t < hung[0]]
        usual_s, hung_s = ((some[-1] - some[0]) / (len(some) - 1) for some in (before, during))
        assert hung_s < max(3 * usual_s, 1)  # held up, each would take the two seconds
        daemon.check_exact("package-0", "gpu:GPU-a")
        assert daemon.ask("SELECT unknown_ns FROM domain WHERE name = 'gpu:GPU-a'") == [(0,)]
    return True


def test_a_full_disk_costs_nothing_once_there_is_room(daemon: Daemon) -> None:
    """With no room for the ledger the totals stay in memory, and marks stay in their folder; then all is written."""
    daemon.store.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(daemon.store)]
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", *mount], capture_output=True, check=False).returncode:
        pytest.skip("needs root, to mount a small file system")
    daemon.start("unshare", "-m", "sh", "-c", f'{" ".join(mount)} && exec "$@"', "sh")
    assert daemon.process is not None
    inside = Path(f"/proc/{daemon.process.pid}/root{daemon.store}")
    with (inside / "fill").open("wb", buffering=0) as fill, suppress(OSError):
        while fill.write(b"x" * 4096):
            pass
    daemon.mark("start", "7", cpus=16)
    time.sleep(1)
    assert not daemon.taken()
    (inside / "fill").unlink()
    daemon.mark("end", "7")
    until(daemon.taken, "for the marks")
    daemon.store = Path(shutil.copytree(inside, daemon.folder / "copy"))
    daemon.measured()
    assert daemon.ask("SELECT run, state FROM run") == [("7", "ended")]
    assert "writes again" in daemon.stop()
