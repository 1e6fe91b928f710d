"""One job, two wraps and a driver reload: the real daemon on a rig whose whole script is known."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.daemon.running import Daemon, until
from tests.daemon.test_daemon import played
from tests.fakes.curve import NS_PER_S, Curve, boot_ns
from tests.fakes.rig import RigNode
from tests.fakes.rig_gpu import Reload, gpu

pytestmark = pytest.mark.usefixtures("compiled")

DRAM_W = 13_000
"""So much, that the range of a DRAM counter (65.7 kJ) is passed every five seconds."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A node whose driver is reloaded 6 s from now, for 2 s."""
    now = boot_ns()
    daemon = Daemon(tmp_path)
    rapl = {"package-0": Curve.flat(now, 100_000_000), "dram-0": Curve.flat(now, DRAM_W * 1_000_000)}
    gpus = [gpu("GPU-a", Curve.flat(now, 300_000_000), start_mj=5_000_000)]
    reloads = [Reload(now + 6 * NS_PER_S, now + 8 * NS_PER_S)]
    daemon.node = RigNode("n1", tmp_path / "troubled", rapl=rapl, gpus=gpus, reloads=reloads)
    daemon.configure()
    config = json.loads(daemon.config.read_text())
    config["node"]["sources"]["rapl"]["max_w"] = {"dram-0": 2 * DRAM_W}
    daemon.config.write_text(json.dumps(config))
    yield from played(daemon)


def test_two_wraps_and_a_driver_reload_in_one_job(daemon: Daemon) -> None:
    """The wraps are invisible; the reload's interval is unknown, said, and never energy; the package never notices."""
    daemon.start()
    daemon.mark("start", "7", cpus=16, gpus=0)
    until(daemon.taken, "for the start mark")
    time.sleep(13)
    daemon.mark("end", "7")
    until(daemon.taken, "for the end mark")
    daemon.stop()
    measured = daemon.measured()
    values = daemon.raw("dram-0")
    falls = [(before, now) for before, now in itertools.pairwise(values) if now < before]
    range_uj = daemon.node.powercap.max_range_uj["dram-0"]
    assert len(falls) >= 2
    assert measured["dram-0"] == values[-1] - values[0] + len(falls) * range_uj
    daemon.check_exact("package-0")
    energy = daemon.raw("gpu:GPU-a")
    times = [line["t"] for line in daemon.lines() if "uj" in line.get("read", {}).get("nvml", {}).get("gpu:GPU-a", {})]
    at = next(place for place, (before, now) in enumerate(itertools.pairwise(energy)) if now < before)
    assert measured["gpu:GPU-a"] == energy[at] - energy[0] + energy[-1] - energy[at + 1]
    ((elapsed_ns, flags),) = daemon.ask("SELECT elapsed_ns, flags FROM run")
    known = dict(daemon.ask("SELECT domain, known_ns FROM ledger WHERE holder = '7'"))
    assert known["package-0"] == known["dram-0"] == elapsed_ns
    unknown_s = (elapsed_ns - known["gpu:GPU-a"]) / NS_PER_S
    assert 2 < unknown_s == pytest.approx(times[at + 1] - times[at], abs=0.001)
    assert "gpu:GPU-a reset" in json.loads(flags)
    assert {("failed", "gpu:GPU-a"), ("reset", "gpu:GPU-a")} <= set(daemon.ask("SELECT kind, subject FROM finding"))
