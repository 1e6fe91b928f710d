"""What measures is measured; and systemd hears that the loop goes round."""

from __future__ import annotations

import logging
import os
import queue
import socket
from collections.abc import Iterable
from logging.handlers import QueueHandler
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobimpact.core.records import Absent, Counter, Failed, Reading, SourceHealth
from jobimpact.core.units import NS
from jobimpact_daemon.health import Health
from jobimpact_daemon.notify import Notifier


def test_readings_failures_and_the_last_good_one(caplog: pytest.LogCaptureFixture) -> None:
    """One GPU lost of two is a failure and a value at once; nothing new is no reading; the log tells begin and end."""
    health = Health("nvml")
    good: dict[str, Reading] = {"gpu:a": Counter(1), "gpu:b": Counter(2)}
    half: dict[str, Reading] = {"gpu:a": Counter(1), "gpu:b": Failed("GPU is lost")}
    for t, readings in enumerate([good, half, half, {}, {"gpu:a": Failed("timeout"), "gpu:b": Failed("timeout")}]):
        health.add(readings, 1000 * t, t * NS, None)
    assert health.now == SourceHealth("nvml", 4, 3, 4000, 10_000, 2 * NS, "timeout")
    health.add(good, 0, 9 * NS, None)
    assert (health.now.good_ns, health.now.problem) == (9 * NS, None)
    assert [record.message for record in caplog.records] == ["nvml: GPU is lost", "nvml: reads again"]


def test_what_is_not_there_has_no_value_and_no_failure() -> None:
    """Absent is neither: a node without GPUs is in good health."""
    health = Health("rapl")
    health.add({"package-0": Absent("0400")}, 5, NS, "root alone may read it")
    assert (health.now.failures, health.now.good_ns, health.now.problem) == (0, None, "root alone may read it")


def logged(caplog: pytest.LogCaptureFixture, errors: Iterable[str | None]) -> list[tuple[int, str]]:
    """What the log says, and at which second, of a source that is read once a second with or without an error."""
    health, found = Health("ipmi"), []
    for t, error in enumerate(errors):
        health.add({"node": Counter(t) if error is None else Failed(error)}, 0, t * NS, error)
        found += [(t, record.message) for record in caplog.records]
        caplog.clear()
    return found


def test_a_trouble_that_counts_the_seconds_is_one_trouble(caplog: pytest.LogCaptureFixture) -> None:
    """A BMC that hangs for an hour is a line when it begins and one when it ends."""
    errors = [None, *(f"timeout: no answer for {t} s" for t in range(11, 3611)), None, None]
    assert logged(caplog, errors) == [(1, "ipmi: timeout: no answer for 11 s"), (3601, "ipmi: reads again")]


def test_a_source_that_comes_and_goes_has_one_line_in_ten_minutes(caplog: pytest.LogCaptureFixture) -> None:
    """With how often it did; and when that is over, the log says so."""
    errors = [None if t % 2 == 0 or t > 1500 else "EIO" for t in range(3000)]
    assert logged(caplog, errors) == [
        (1, "ipmi: EIO"),
        (2, "ipmi: reads again"),
        (602, "ipmi: reads again (failures in the last 10 min: 300)"),
        (1202, "ipmi: reads again (failures in the last 10 min: 300)"),
        (1802, "ipmi: reads again (failures in the last 10 min: 149)"),
    ]


def test_another_trouble_is_told_when_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    """Two errors in turn are no two lines a second, and the one that stays is in the log; so is its end, at once."""
    errors = [*(("GPU is lost", "timeout")[t % 2] for t in range(100)), *["timeout"] * 900, None]
    assert logged(caplog, errors) == [(0, "ipmi: GPU is lost"), (600, "ipmi: timeout"), (1000, "ipmi: reads again")]


@given(st.lists(st.tuples(st.sampled_from([None, "EIO", "timeout"]), st.integers(1, 400)), max_size=20))
def test_the_log_is_short_and_its_last_word_is_true(stretches: list[tuple[str | None, int]]) -> None:
    """Whatever a source does: two lines in ten minutes at most, and ten minutes after its last change they hold."""
    errors = [error for error, length in stretches for _ in range(length)] + [None] * 601
    health, told, lines = Health("ipmi"), queue.SimpleQueue[logging.LogRecord](), []
    logger, handler = logging.getLogger("jobimpact_daemon.health"), QueueHandler(told)
    logger.addHandler(handler)
    try:
        for t, error in enumerate(errors):
            health.add({"node": Counter(t) if error is None else Failed(error)}, 0, t * NS, error)
            while not told.empty():
                lines.append((t, told.get().getMessage()))
    finally:
        logger.removeHandler(handler)
    assert all(later - first >= 600 for (first, _), (later, _) in zip(lines, lines[2:], strict=False))
    assert any(errors) == bool(lines)
    assert not lines or lines[-1][1].startswith("ipmi: reads again")


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
        notifier.alive(second * NS, lambda second=second: f"{second} jobs")
    notifier.stopping()
    alive = [f"WATCHDOG=1\nSTATUS={second} jobs" for second in (0, 30, 60)]
    assert heard(systemd) == ["READY=1\n" + alive[0], *alive[1:], "STOPPING=1"]


def test_an_abstract_address_is_systemds_too() -> None:
    """`@name` stands for a name without a file."""
    name = f"jobimpact-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
        listener.bind(f"\0{name}")
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).alive(0, lambda: "well")
        assert heard(listener) == ["READY=1\nWATCHDOG=1\nSTATUS=well"]


def test_without_systemd_nothing_is_said(tmp_path: Path) -> None:
    """In a terminal, or with a systemd that is gone, the daemon goes on."""
    Notifier({}).alive(0, lambda: "well")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).alive(0, lambda: "well")
