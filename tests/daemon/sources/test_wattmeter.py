"""A node's wattmeter: every sample once, by the meter's own clock, all outlets added, whatever the feed does."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import kwollect as fakes

from jobimpact.core import config
from jobimpact.core.records import Absent, Counter, Domain, Failed, Reading
from jobimpact.core.units import NS
from jobimpact_daemon.gauges import Sample, trapezoid_uj
from jobimpact_daemon.sources.poller import Poller
from jobimpact_daemon.sources.wattcsv import stamp_ns
from jobimpact_daemon.sources.wattmeter import Outlets, Wattmeter

T0 = 1_795_190_400
"""A time of the meter's clock, in seconds since the epoch."""


class Clock:
    """Two clocks that go only when they are told to."""

    def __init__(self) -> None:
        self.t_ns = 1000 * NS
        self.now_s = float(T0)

    def boot_ns(self) -> int:
        return self.t_ns

    def wall_s(self) -> float:
        return self.now_s

    def go(self, seconds: float) -> None:
        """Both, as they should."""
        self.t_ns += round(seconds * NS)
        self.now_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> Iterator[fakes.Kwollect]:
    with fakes.serving() as fake:
        yield fake


def at(second: float) -> str:
    """A stamp as Kwollect writes it, in French summer or winter time."""
    return datetime.fromtimestamp(T0 + second, timezone(timedelta(hours=1))).isoformat()


def by_kwollect(server: fakes.Kwollect, clock: Clock, **more: object) -> Wattmeter:
    settings = config.Wattmeter(kwollect=config.Kwollect(url=server.url), **more)  # type: ignore[arg-type]
    return Wattmeter(settings, "n1", clock)  # type: ignore[arg-type]


def by_csv(path: Path, clock: Clock, **more: object) -> Wattmeter:
    settings = config.Wattmeter(csv=config.WattCsv(path=str(path), **more))  # type: ignore[arg-type]
    return Wattmeter(settings, "n1", clock)  # type: ignore[arg-type]


def counter(reading: Reading | None) -> Counter:
    assert isinstance(reading, Counter), reading
    return reading


def node(meter: Wattmeter) -> Reading | None:
    """What a poll says of the node."""
    found = meter.poll()
    assert set(found) <= {"node"}
    return found.get("node")


def append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


# -- stamps and outlets -----------------------------------------------------------------------------------------------


def test_the_hour_that_comes_twice_is_told_by_its_offset() -> None:
    """The end of summer time: half past two happens twice, an hour apart."""
    first, second = stamp_ns("2026-10-25T02:30:00+02:00"), stamp_ns("2026-10-25T02:30:00+01:00")
    assert second - first == 3600 * NS
    assert first == stamp_ns("2026-10-25T00:30:00Z") == stamp_ns("1792888200")


@pytest.mark.parametrize("text", ["", "now", "2026-10-25T02:30:00", "nan", "inf", "-5", "1795190400000", "0"])
def test_a_stamp_that_could_be_another_time_is_refused(text: str) -> None:
    """A local time, milliseconds, and what is no time at all."""
    with pytest.raises(ValueError, match=r".+"):
        stamp_ns(text)


watts = st.integers(0, 3000)


@given(
    series=st.lists(watts, min_size=2, max_size=40),
    polls=st.lists(st.integers(0, 40), max_size=6),
    overlap=st.integers(0, 10),
    shuffle=st.randoms(use_true_random=False),
)
def test_polls_and_their_overlaps_change_nothing(
    series: list[int], polls: list[int], overlap: int, shuffle: object
) -> None:
    """However a series is cut into polls, overlapping, out of order within each: its energy is that of the whole."""
    samples = [("a", Sample(float(w), (T0 + second) * NS)) for second, w in enumerate(series)]
    whole = Outlets(30 * NS, "whole")
    whole.add(samples)
    cut = Outlets(30 * NS, "cut")
    edges = sorted({0, len(samples), *(edge for edge in polls if edge < len(samples))})
    for begin, end in itertools.pairwise(edges):
        some = samples[max(0, begin - overlap) : end] * 2
        shuffle.shuffle(some)  # type: ignore[attr-defined]
        cut.add(some)
    truth = sum(trapezoid_uj(before, after) for (_, before), (_, after) in itertools.pairwise(samples))
    assert cut.uj == whole.uj == truth


@given(
    first=st.lists(watts, min_size=3, max_size=20),
    second=st.lists(watts, min_size=3, max_size=20),
    late=st.integers(0, 5),
)
def test_two_supplies_are_added(first: list[int], second: list[int], late: int) -> None:
    """Two outlets at the same seconds: the sum of both energies, and never one before the other is known."""
    size = min(len(first), len(second))
    series = {
        name: [(name, Sample(float(w), (T0 + second_) * NS)) for second_, w in enumerate(found[:size])]
        for name, found in (("psu1", first), ("psu2", second))
    }
    energy = {
        name: [sum(trapezoid_uj(b[1], a[1]) for b, a in itertools.pairwise(found[: n + 1])) for n in range(size)]
        for name, found in series.items()
    }
    outlets = Outlets(30 * NS, "x")
    for second_ in range(size):
        known = max(0, second_ - late)
        outlets.add([series["psu1"][second_], series["psu2"][known]])
        assert outlets.uj == energy["psu1"][known] + energy["psu2"][known]


def test_a_gap_is_no_energy_and_begins_an_epoch() -> None:
    """Samples 31 s apart say nothing of the time between."""
    outlets = Outlets(30 * NS, "x")
    outlets.add([("", Sample(100.0, T0 * NS)), ("", Sample(100.0, (T0 + 30) * NS))])
    epoch = outlets.epoch
    assert outlets.uj == 3_000_000_000
    outlets.add([("", Sample(100.0, (T0 + 61) * NS))])
    assert outlets.epoch != epoch
    assert outlets.uj == 0


@pytest.mark.parametrize("jump_s", [-3600, 10_000_000])
def test_a_set_clock_of_the_meter_is_no_energy_and_heals(jump_s: int) -> None:
    """Its clock is set, by an hour back or to an absurd year and back: a new epoch, and it goes on."""
    outlets = Outlets(30 * NS, "x")
    outlets.add([("", Sample(100.0, (T0 + s) * NS)) for s in range(3)])
    epoch = outlets.epoch
    outlets.add([("", Sample(100.0, (T0 + jump_s) * NS))])
    after = T0 if jump_s > 0 else T0 + jump_s
    outlets.add([("", Sample(100.0, (after + 3) * NS))])
    assert outlets.epoch != epoch
    outlets.add([("", Sample(100.0, (after + 4) * NS))])
    outlets.add([("", Sample(100.0, (after + 5) * NS))])
    assert 200_000_000 <= outlets.uj <= 500_000_000


def test_half_of_a_node_is_not_the_node() -> None:
    """A supply whose outlet falls silent is told, and its return begins an epoch."""
    outlets = Outlets(30 * NS, "x")

    def both(second: int, *names: str) -> None:
        outlets.add([(name, Sample(100.0, (T0 + second) * NS)) for name in names])

    for second in range(5):
        both(second, "a", "b")
    epoch = outlets.epoch
    for second in range(5, 50):
        both(second, "a")
    assert outlets.silent == ["b"]
    assert outlets.since_ns == (T0 + 49) * NS
    both(50, "a", "b")
    both(51, "a", "b")
    assert outlets.silent == []
    assert outlets.epoch != epoch


# -- Kwollect ---------------------------------------------------------------------------------------------------------


def test_a_poll_brings_all_samples_since_the_last(server: fakes.Kwollect, clock: Clock) -> None:
    """Present: ten samples a poll, integers and floats, each counted once at its own time."""
    meter = by_kwollect(server, clock, latency_s=2.0, excludes=("gpu",))
    assert meter.discover() == [Domain("node", "node", "wattmeter", "gauge", latency_s=2.0, excludes=("gpu",))]
    server.records = [fakes.record(at(s), 100 if s % 2 else 200.0) for s in range(-5, 31)]
    clock.go(5)
    found = []
    for _ in range(3):
        # The server knows nothing yet of what is to come.
        records, server.records = (
            server.records,
            [one for one in server.records if datetime.fromisoformat(one["timestamp"]).timestamp() <= clock.now_s],
        )
        found.append(counter(node(meter)))
        server.records = records
        clock.go(10)
    assert [after.uj - before.uj for before, after in itertools.pairwise(found)] == [1_500_000_000] * 2
    assert len({one.epoch for one in found}) == 1
    assert found[0].max_uj is None
    assert meter.problem is None
    assert server.asked[0] == {
        "nodes": "n1",
        "metrics": "wattmetre_power_watt",
        "start_time": str(T0 + 5 - 60),
        "end_time": str(T0 + 5 + 60),
    }
    assert server.asked[1]["start_time"] == str(T0 + 5)


def test_supplies_are_told_apart_by_their_labels(server: fakes.Kwollect, clock: Clock) -> None:
    """Two outlets of 100 W and 50 W at the same seconds are 150 W; another node's record is not ours."""
    server.records = [
        fakes.record(at(s), w, outlet=outlet)
        for s in range(-10, 1)
        for outlet, w in (("wattmetre1-port3", 100), ("wattmetre2-port3", 50.0))
    ]
    server.records += [fakes.record(at(0), 999, node="n2"), fakes.record(at(0), 999, metric="bmc_node_power_watt")]
    server.body = json.dumps(server.records).encode()
    meter = by_kwollect(server, clock)
    assert counter(node(meter)).uj == 1_500_000_000


@pytest.mark.parametrize("value", [None, -1, 1e9, "120", True, [120]])
def test_what_is_no_power_is_named_and_left_out(server: fakes.Kwollect, clock: Clock, value: object) -> None:
    """A missing, negative or absurd value: the trapezoid goes over it, and the problem names it."""
    server.records = [fakes.record(at(s), value if s == -1 else 100) for s in range(-3, 1)]
    meter = by_kwollect(server, clock)
    assert counter(node(meter)).uj == 300_000_000
    assert meter.problem is not None
    assert at(-1) in meter.problem


def test_a_stepped_clock_of_the_node_makes_no_energy(server: fakes.Kwollect, clock: Clock) -> None:
    """The node's wall clock goes back by a quarter of an hour, and ahead: the meter's times pace its samples."""
    server.records = [fakes.record(at(s), 100) for s in range(-10, 41)]
    server.records = server.records[:11]
    meter = by_kwollect(server, clock)
    first = counter(node(meter))
    server.records = [fakes.record(at(s), 100) for s in range(-10, 21)]
    clock.t_ns += 20 * NS
    clock.now_s -= 900
    second = counter(node(meter))
    server.records = [fakes.record(at(s), 100) for s in range(-10, 41)]
    clock.t_ns += 20 * NS
    clock.now_s += 1800
    third = counter(node(meter))
    assert (second.uj - first.uj, third.uj - second.uj) == (2_000_000_000, 2_000_000_000)
    assert first.epoch == second.epoch == third.epoch


def test_an_outage_is_made_up_for(server: fakes.Kwollect, clock: Clock) -> None:
    """Dies midway and comes back: what the server kept meanwhile is counted, and nothing is lost."""
    server.records = [fakes.record(at(s), 100) for s in range(-10, 601)]
    server.records, later = server.records[:11], server.records
    meter = by_kwollect(server, clock)
    before = counter(node(meter))
    server.status = 503
    clock.go(300)
    down = node(meter)
    assert isinstance(down, Failed)
    assert "503" in down.error
    assert "start_time" not in down.error
    assert meter.problem == down.error
    server.status, server.records = 200, later
    clock.go(300)
    after = counter(node(meter))
    assert after.uj - before.uj == 60_000_000_000
    assert after.epoch == before.epoch
    assert meter.problem is None


@pytest.mark.parametrize("status", [401, 403])
def test_no_permission_is_absent(server: fakes.Kwollect, clock: Clock, status: int) -> None:
    """The answer's reason stands in the reading, with the URL."""
    server.status = status
    reading = node(by_kwollect(server, clock))
    assert isinstance(reading, Absent)
    assert server.url in reading.reason
    assert str(status) in reading.reason


def test_a_node_that_nobody_meters_is_absent(server: fakes.Kwollect, clock: Clock) -> None:
    """An empty answer from the start on: no such node, or no such metric."""
    reading = node(by_kwollect(server, clock))
    assert reading == Absent(f"{server.url}: no wattmetre_power_watt of n1")


def test_a_meter_that_falls_silent_has_failed(server: fakes.Kwollect, clock: Clock) -> None:
    """The server answers and has nothing new: nothing to say at first, then a failure."""
    server.records = [fakes.record(at(s), 100) for s in range(-10, 1)]
    meter = by_kwollect(server, clock)
    counter(node(meter))
    clock.go(20)
    assert node(meter) is None
    clock.go(20)
    assert node(meter) == Failed("no new sample for 40 s")


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'"x"', b"7", b'[{"value": NaN}]'])
def test_an_answer_that_is_none_has_failed(server: fakes.Kwollect, clock: Clock, body: bytes) -> None:
    """Another service at that URL."""
    server.body = body
    reading = node(by_kwollect(server, clock))
    assert isinstance(reading, Failed)
    assert server.url in reading.error


@pytest.mark.parametrize("body", [b"[7]", b"[{}]", b'[{"timestamp": 1, "device_id": 2}]', b"[null]"])
def test_a_record_that_is_none_is_named(server: fakes.Kwollect, clock: Clock, body: bytes) -> None:
    """Rubbish in the list costs that record, not the poll."""
    server.body = body
    meter = by_kwollect(server, clock)
    meter.poll()
    assert meter.problem is not None
    assert "record" in meter.problem


def test_no_server_is_told(clock: Clock) -> None:
    """Absent: nothing listens there."""
    with fakes.serving() as gone:
        pass
    reading = node(by_kwollect(gone, clock))
    assert isinstance(reading, Failed)
    assert gone.url in reading.error


def test_a_server_that_hangs_costs_only_its_own_reading(server: fakes.Kwollect, clock: Clock) -> None:
    """Hangs: the poll ends at its deadline, and the next one works."""
    server.hang = threading.Event()
    meter = by_kwollect(server, clock, deadline_s=0.2)
    begun = time.monotonic()
    reading = node(meter)
    assert time.monotonic() - begun < 25
    assert isinstance(reading, Failed)
    assert "deadline" in reading.error
    server.hang.set()
    server.records = [fakes.record(at(s), 100) for s in range(-10, 1)]
    assert counter(node(meter)).uj == 1_000_000_000


# -- CSV --------------------------------------------------------------------------------------------------------------


def rows(*seconds: int, w: float = 100) -> str:
    return "".join(f"{T0 + second},{w}\n" for second in seconds)


def test_a_file_is_followed_from_its_end(tmp_path: Path, clock: Clock) -> None:
    """Present: what was there before is nobody's; each new row counts once."""
    path = tmp_path / "power.csv"
    path.write_text("time,volts,watts\n" + f"{T0 - 1},230,9999\n")
    meter = by_csv(path, clock)
    assert node(meter) is None
    append(path, f"{T0},230,100\n{T0 + 1},230,100.5\n")
    assert counter(node(meter)).uj == 100_250_000
    append(path, f'"{at(2)}",229,99.5\n')
    assert counter(node(meter)).uj == 200_250_000
    assert meter.problem is None
    clock.go(31)
    assert node(meter) == Failed("no new sample for 31 s")


def test_a_last_line_waits_until_it_is_whole(tmp_path: Path, clock: Clock) -> None:
    """A program that writes through a buffer cuts lines anywhere, at the daemon's start too."""
    path = tmp_path / "power.csv"
    path.write_text("time,watts\n1795190400,1")
    meter = by_csv(path, clock)
    assert node(meter) is None
    append(path, "00\n17951904")
    assert counter(node(meter)).uj == 0
    append(path, "01,300\n")
    assert counter(node(meter)).uj == 200_000_000


@pytest.mark.parametrize("header", ["", "time,watts\n"])
def test_rotation_loses_nothing(tmp_path: Path, clock: Clock, header: str) -> None:
    """Renamed and begun anew: the old one's last rows and all of the new one's count."""
    path = tmp_path / "power.csv"
    path.write_text(header + rows(-1))
    meter = by_csv(path, clock, time="1", watts="2") if not header else by_csv(path, clock)
    meter.poll()
    append(path, rows(0, 1))
    first = counter(node(meter))
    assert first.uj == 100_000_000
    append(path, rows(2, 3) + f"{T0 + 4},500")
    path.rename(tmp_path / "power.csv.1")
    path.write_text(header + rows(5, 6))
    second = counter(node(meter))
    assert second.uj - first.uj == 900_000_000
    assert second.epoch == first.epoch
    assert meter.problem is None


@pytest.mark.parametrize("more", [(), tuple(range(5, 20))])
def test_truncation_is_told_from_growth(tmp_path: Path, clock: Clock, more: tuple[int, ...]) -> None:
    """Emptied and written again, to less than before or to more."""
    path = tmp_path / "power.csv"
    path.write_text("time,watts\n" + rows(-1))
    meter = by_csv(path, clock)
    meter.poll()
    append(path, rows(0, 1, 2))
    first = counter(node(meter))
    path.write_text("time,watts\n" + rows(3, 4, *more, w=300))
    second = counter(node(meter))
    assert second.uj - first.uj == 200_000_000 + (1 + len(more)) * 300_000_000
    assert meter.problem is None


def test_columns_by_number_and_a_decimal_comma(tmp_path: Path, clock: Clock) -> None:
    """A file without a header, in the European way."""
    path = tmp_path / "power.csv"
    path.write_text("")
    meter = by_csv(path, clock, time="3", watts="5", delimiter=";")
    meter.poll()
    append(path, f"3;x;{T0}.012;OK;100,5\n3;x;{T0 + 1}.012;OK;100,5\n")
    assert counter(node(meter)).uj == 100_500_000


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("1795190401", "only 1 columns"),
        ("1795190401,", "'' is not a number"),
        ("1795190401,-5", "out of range"),
        ("1795190401,1e300", "out of range"),
        ("1795190401,nan", "out of range"),
        ("2026-11-21T02:00:01,100", "no offset"),
        ("1795190401000,100", "not seconds since the epoch"),
        ("\udcff\udcfe,100", "neither"),
        ('"' * 3 + "x", "only 1 columns"),
    ],
)
def test_a_bad_row_is_named_and_nothing_else_is_lost(tmp_path: Path, clock: Clock, row: str, why: str) -> None:
    """File, row number and reason; the rows around it count."""
    path = tmp_path / "power.csv"
    path.write_text("time,watts\n" + rows(-2, -1))
    meter = by_csv(path, clock)
    meter.poll()
    with path.open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(rows(0) + row + "\n\n" + rows(2))
    assert counter(node(meter)).uj == 200_000_000
    assert meter.problem is not None
    assert meter.problem.startswith(f"{path}: row 5: ")
    assert why in meter.problem


def test_a_header_without_the_column_is_told(tmp_path: Path, clock: Clock) -> None:
    """What the configuration names is not there: said with what is, until a file has it."""
    path = tmp_path / "power.csv"
    path.write_text("stamp,power\n")
    meter = by_csv(path, clock)
    for _ in range(2):
        append(path, rows(0))
        reading = node(meter)
        assert isinstance(reading, Failed)
        assert f"{path}: row 1: no column 'time'; the first line has: stamp, power" in reading.error
    path.rename(tmp_path / "old.csv")
    path.write_text("time,watts\n" + rows(1, 2))
    assert counter(node(meter)).uj == 100_000_000


def test_a_file_that_is_not_there_yet_is_read_whole(tmp_path: Path, clock: Clock) -> None:
    """Absent, then it comes: all of it is of this daemon's time. Gone again: failed; and back."""
    path = tmp_path / "power.csv"
    meter = by_csv(path, clock)
    assert node(meter) == Absent(f"{path}: No such file or directory")
    path.write_text("time,watts\n" + rows(0, 1))
    assert counter(node(meter)).uj == 100_000_000
    path.unlink()
    assert node(meter) == Failed(f"{path}: No such file or directory")
    path.write_text("time,watts\n" + rows(2))
    assert counter(node(meter)).uj == 200_000_000


@contextmanager
def forbidden(path: Path) -> Iterator[None]:
    """A file that this process may not read; root gives up its rights for as long."""
    root = os.geteuid() == 0
    path.chmod(0)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        path.chmod(0o600)


def test_a_file_that_is_not_ours_to_read_is_absent(tmp_path: Path, clock: Clock) -> None:
    """No permission, until there is; then its end is where it begins."""
    path = tmp_path / "power.csv"
    path.write_text("time,watts\n" + rows(-1))
    meter = by_csv(path, clock)
    with forbidden(path):
        assert node(meter) == Absent(f"{path}: not readable by this user")
    append(path, rows(0))
    assert node(meter) is None
    append(path, rows(1, 2))
    assert counter(node(meter)).uj == 100_000_000


def test_what_is_no_file_does_not_hang(tmp_path: Path, clock: Clock) -> None:
    """A FIFO without a writer would block for ever."""
    path = tmp_path / "power.csv"
    os.mkfifo(path)
    assert node(by_csv(path, clock)) == Absent(f"{path}: not a regular file")


def test_a_line_without_an_end_is_not_kept_for_ever(tmp_path: Path, clock: Clock) -> None:
    """A binary file at this path costs a bounded memory."""
    path = tmp_path / "power.csv"
    path.write_text("time,watts\n")
    meter = by_csv(path, clock)
    meter.poll()
    append(path, "x" * 3_000_000)
    meter.poll()
    assert meter.problem is not None
    append(path, "\n" + rows(0, 1))
    assert counter(node(meter)).uj == 100_000_000


# -- as the service runs it -------------------------------------------------------------------------------------------


def test_the_poller_takes_it(server: fakes.Kwollect) -> None:
    """On its own thread, by the real clock: the node's counter rises by the server's power."""
    clock = SystemTime()
    now = time.time()
    server.records = [
        fakes.record(datetime.fromtimestamp(now + s / 20, UTC).isoformat(), 200.0) for s in range(-200, 200)
    ]
    settings = config.Wattmeter(kwollect=config.Kwollect(url=server.url))
    poller = Poller(Wattmeter(settings, "n1", clock), clock, period_s=0.1, deadline_s=2)  # type: ignore[arg-type]
    assert [domain.name for domain in poller.discover()] == ["node"]
    until = time.monotonic() + 60
    reading = None
    while reading is None and time.monotonic() < until:
        reading = poller.read().get("node")
        time.sleep(0.01)
    poller.close()
    assert counter(reading).uj > 0


class SystemTime:
    """The real clocks."""

    def boot_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def wall_s(self) -> float:
        return time.time()
