"""What measures is measured; and systemd hears that the loop goes round."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from jobimpact.core.records import Absent, Counter, Failed, Reading, SourceHealth
from jobimpact.core.units import NS
from jobimpact_daemon.health import Health
from jobimpact_daemon.notify import Notifier


def test_readings_failures_and_the_last_good_one(caplog: pytest.LogCaptureFixture) -> None:
    """One GPU lost of two is a failure and a value at once; nothing new is no reading; the log tells changes alone."""
    health = Health("nvml")
    good: dict[str, Reading] = {"gpu:a": Counter(1), "gpu:b": Counter(2)}
    half: dict[str, Reading] = {"gpu:a": Counter(1), "gpu:b": Failed("GPU is lost")}
    for t, readings in enumerate([good, half, half, {}, {"gpu:a": Failed("timeout"), "gpu:b": Failed("timeout")}]):
        health.add(readings, 1000 * t, t * NS, None)
    assert health.now == SourceHealth("nvml", 4, 3, 4000, 10_000, 2 * NS, "timeout")
    health.add(good, 0, 9 * NS, None)
    assert (health.now.good_ns, health.now.problem) == (9 * NS, None)
    assert [record.message for record in caplog.records] == ["nvml: GPU is lost", "nvml: timeout", "nvml: reads again"]


def test_what_is_not_there_has_no_value_and_no_failure() -> None:
    """Absent is neither: a node without GPUs is in good health."""
    health = Health("rapl")
    health.add({"package-0": Absent("0400")}, 5, NS, "root alone may read it")
    assert (health.now.failures, health.now.good_ns, health.now.problem) == (0, None, "root alone may read it")


@pytest.fixture
def systemd(tmp_path: Path) -> socket.socket:
    """The end of systemd's socket."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    listener.bind(str(tmp_path / "notify"))
    return listener


def heard(listener: socket.socket) -> list[str]:
    """What was said since."""
    found = []
    while True:
        try:
            found.append(listener.recv(4096).decode())
        except BlockingIOError:
            return found


def test_systemd_hears_ready_once_and_alive_twice_within_its_time(systemd: socket.socket) -> None:
    """WatchdogSec=60: a word every 30 s, with the state in one line; and the end."""
    notifier = Notifier({"NOTIFY_SOCKET": str(systemd.getsockname()), "WATCHDOG_USEC": "60000000"})
    for second in (0, 1, 29, 30, 59, 60):
        notifier.alive(second * NS, f"{second} jobs")
    notifier.stopping()
    alive = [f"WATCHDOG=1\nSTATUS={second} jobs" for second in (0, 30, 60)]
    assert heard(systemd) == ["READY=1\n" + alive[0], *alive[1:], "STOPPING=1"]


def test_an_abstract_address_is_systemds_too() -> None:
    """`@name` stands for a name without a file."""
    name = f"jobimpact-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
        listener.bind(f"\0{name}")
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).alive(0, "well")
        assert heard(listener) == ["READY=1\nWATCHDOG=1\nSTATUS=well"]


def test_without_systemd_nothing_is_said(tmp_path: Path) -> None:
    """In a terminal, or with a systemd that is gone, the daemon goes on."""
    Notifier({}).alive(0, "well")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).alive(0, "well")
