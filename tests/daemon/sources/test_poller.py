"""A slow meter on a thread of its own: the loop never waits for it, and each of its troubles has its word."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from jobimpact.core.clock import SystemClock
from jobimpact.core.records import Absent, Counter, Domain, Failed, Gauge, Reading
from jobimpact_daemon.sources.poller import Poller

NODE = Domain("node", "node", "fake", "gauge")
SOON_S = 60.0


class Meter:
    """A meter that a test plays: it is what its power and its trouble are set to."""

    name = "fake"

    def __init__(self) -> None:
        self.problem: str | None = None
        self.domains = [NODE]
        self.reading: Reading = Gauge(100.0)
        self.error: Exception | None = None
        self.go = threading.Event()
        """Cleared: a poll hangs."""
        self.go.set()
        self.takes_s = 0.0
        self.began: list[float] = []
        self.polls = 0
        self.discoveries = 0
        self.closed_on: threading.Thread | None = None
        self.asked_on: set[threading.Thread] = set()

    def discover(self) -> list[Domain]:
        self.discoveries += 1
        self.asked_on.add(threading.current_thread())
        return self.domains

    def poll(self) -> dict[str, Reading]:
        self.asked_on.add(threading.current_thread())
        self.began.append(time.monotonic())
        self.go.wait()
        time.sleep(self.takes_s)
        self.polls += 1
        if self.error is not None:
            raise self.error
        return {"node": self.reading}

    def close(self) -> None:
        self.closed_on = threading.current_thread()


@contextmanager
def polled(
    meter: Meter, *, deadline_s: float = 0.1, integrate: bool = False, max_gap_s: float = 30.0
) -> Iterator[Poller]:
    """The meter as a source, asked every 10 ms."""
    poller = Poller(
        meter, SystemClock(), period_s=0.01, deadline_s=deadline_s, integrate=integrate, max_gap_s=max_gap_s
    )
    try:
        yield poller
    finally:
        meter.go.set()
        poller.close()


def until(seen: Callable[[], object]) -> None:
    """Wait for something to be."""
    end = time.monotonic() + SOON_S
    while not seen():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.002)


def next_reading(poller: Poller, fits: Callable[[Reading], bool] = lambda _: True) -> Reading:
    """The next reading of the node that fits."""
    found: list[Reading] = []

    def look() -> bool:
        found.extend(one for one in poller.read().values() if fits(one))
        return bool(found)

    until(look)
    return found[-1]


def failed(reading: Reading) -> bool:
    return isinstance(reading, Failed)


def test_present_from_the_first_reading_on() -> None:
    """A quick meter is there at once, with the time of its answer, and is only told of once."""
    meter = Meter()
    clock = SystemClock()
    before_ns = clock.boot_ns()
    with polled(meter, deadline_s=SOON_S) as poller:
        assert poller.discover() == [NODE]
        reading = poller.read()["node"]
        assert isinstance(reading, Gauge)
        assert reading.w == 100.0
        assert reading.t_ns is not None
        assert before_ns < reading.t_ns <= clock.boot_ns()
        assert poller.problem is None
        meter.go.clear()
        until(lambda: poller.read() == {} or None)


def test_time_of_the_meter_is_kept() -> None:
    """A meter that knows when it measured is believed."""
    meter = Meter()
    meter.reading = Gauge(5.0, 77)
    with polled(meter, deadline_s=SOON_S) as poller:
        poller.discover()
        assert poller.read() == {"node": Gauge(5.0, 77)}


def test_absent_then_there() -> None:
    """A meter that finds nothing is asked again, and is there once it does."""
    meter = Meter()
    meter.domains, meter.problem = [], "no BMC"
    with polled(meter, deadline_s=SOON_S) as poller:
        assert poller.discover() == []
        assert poller.read() == {}
        assert poller.problem == "no BMC"
        assert meter.polls == 0
        meter.domains, meter.problem = [NODE], None
        until(lambda: poller.discover() == [NODE])
        assert next_reading(poller, lambda one: isinstance(one, Gauge))
        assert poller.problem is None


def test_absence_and_failure_are_handed_on() -> None:
    """A meter's own words for what it could not read are the reading."""
    meter = Meter()
    with polled(meter) as poller:
        poller.discover()
        for said in (Absent("null"), Failed("HTTP 503")):
            meter.reading = said
            assert next_reading(poller, lambda one, said=said: one == said)  # type: ignore[misc]


def test_hang_fails_after_its_deadline_and_heals() -> None:
    """A hung meter never holds up a reading; it is failed after its deadline, and read again when it answers."""
    meter = Meter()
    with polled(meter, deadline_s=SOON_S) as poller:
        poller.discover()
        meter.go.clear()
        for _ in range(9):  # one that was held up would come back at the deadline, failed
            assert not any(failed(one) for one in poller.read().values())
    meter = Meter()
    with polled(meter, deadline_s=1.0) as poller:
        until(lambda: isinstance(poller.read().get("node"), Gauge))
        meter.go.clear()
        start = time.monotonic()
        assert next_reading(poller, failed)
        assert time.monotonic() - start >= 0.5, "not before its deadline"
        assert str(poller.problem).startswith("timeout: no answer for")
        assert failed(poller.read()["node"]), "it stays failed at each reading"
        meter.go.set()
        assert next_reading(poller, lambda one: isinstance(one, Gauge))
        until(lambda: poller.problem is None)


def test_hung_first_discovery_costs_no_more_than_the_deadline() -> None:
    """The daemon starts though a meter hangs from the beginning."""
    meter = Meter()
    meter.go.clear()
    with polled(meter) as poller:
        start = time.monotonic()
        poller.discover()
        assert time.monotonic() - start < SOON_S
        until(lambda: str(poller.problem).startswith("timeout"))


def test_until_its_first_answer_a_meter_says_that_there_was_none() -> None:
    """Neither well nor late yet."""
    meter = Meter()
    meter.go.clear()
    with polled(meter, deadline_s=60.0) as poller:
        assert poller.problem == "not asked yet"
        meter.go.set()
        until(lambda: poller.problem is None)


def test_many_hung_meters_are_waited_for_at_once() -> None:
    """The first tick waits as long for many as for one, and the wait of a check is one deadline for all of them."""
    meters = [Meter() for _ in range(16)]
    with ExitStack() as stack:
        for meter in meters:
            meter.go.clear()
        start = time.monotonic()
        pollers = [stack.enter_context(polled(meter, deadline_s=1.0)) for meter in meters]
        for poller in pollers:
            poller.discover()
        assert 1.0 <= time.monotonic() - start < 10.0
        for poller in pollers:
            poller.wait()
        assert time.monotonic() - start < 12.0
        assert all(str(poller.problem).startswith("timeout") for poller in pollers)


def test_a_hung_meter_is_waited_for_once() -> None:
    """At later discoveries the loop does not wait for it again."""
    meter = Meter()
    meter.go.clear()
    with polled(meter, deadline_s=1.0) as poller:
        poller.discover()
        start = time.monotonic()
        for _ in range(16):
            poller.discover()
        assert time.monotonic() - start < 10


def test_a_check_waits_for_the_first_answer() -> None:
    """A slow answer is waited for, and a silent meter has failed by then."""
    meter = Meter()
    meter.takes_s = 0.3
    with polled(meter, deadline_s=SOON_S) as poller:
        poller.wait()
        assert isinstance(poller.read()["node"], Gauge)
    meter = Meter()
    meter.go.clear()
    with polled(meter) as poller:
        poller.wait()
        assert failed(poller.read()["node"])


def test_a_meter_that_raises_goes_on_being_asked() -> None:
    """A bug in a meter fails its own domains, and is over when it is."""
    meter = Meter()
    with polled(meter) as poller:
        poller.discover()
        meter.error = RuntimeError("boom")
        reading = next_reading(poller, failed)
        assert isinstance(reading, Failed)
        assert "boom" in reading.error
        assert "boom" in str(poller.problem)
        meter.error = None
        assert next_reading(poller, lambda one: isinstance(one, Gauge))


def test_gauges_become_a_counter() -> None:
    """With `integrate`, power over time: 100 W for as long as was sampled, in one epoch."""
    meter = Meter()
    with polled(meter, deadline_s=SOON_S, integrate=True) as poller:
        assert poller.discover() == [NODE]
        earliest_ns = time.monotonic_ns()
        first = next_reading(poller)
        latest_ns = time.monotonic_ns()
        time.sleep(0.1)
        least_ns = time.monotonic_ns() - latest_ns
        polls = meter.polls + 2
        until(lambda: meter.polls >= polls)  # what is read next was asked after the pause
        last = next_reading(poller)
        most_ns = time.monotonic_ns() - earliest_ns
        assert isinstance(first, Counter)
        assert isinstance(last, Counter)
        assert first.epoch == last.epoch
        assert 0.5 * least_ns / 10 <= last.uj - first.uj <= 1.5 * most_ns / 10


def test_failed_polls_between_samples_lose_nothing() -> None:
    """The integral spans a failure that is shorter than the longest gap, and starts anew after a longer one."""
    for max_gap_s, same in ((30.0, True), (0.05, False)):
        meter = Meter()
        with polled(meter, integrate=True, max_gap_s=max_gap_s) as poller:
            poller.discover()
            before = next_reading(poller, lambda one: isinstance(one, Counter))
            meter.reading = Failed("no answer")
            next_reading(poller, failed)
            time.sleep(0.1)
            meter.reading = Gauge(100.0)
            after = next_reading(poller, lambda one: isinstance(one, Counter))
            assert isinstance(before, Counter)
            assert isinstance(after, Counter)
            assert (before.epoch == after.epoch) is same
            if same:
                assert after.uj - before.uj >= 100 * 0.1 * 1e6


def test_integrated_counter_is_booked_as_a_gauge() -> None:
    """What was integrated says so, though it travels as a counter."""
    meter = Meter()
    meter.domains = [Domain("node", "node", "fake", "counter")]
    with polled(meter, deadline_s=SOON_S, integrate=True) as poller:
        assert [domain.method for domain in poller.discover()] == ["gauge"]


def test_found_domains_are_not_looked_for_at_each_poll() -> None:
    """Discovery may be dear: once it has found something, polls are only polls."""
    meter = Meter()
    with polled(meter) as poller:
        poller.discover()
        until(lambda: meter.polls > 5)
        assert meter.discoveries == 1


def test_a_slow_meter_is_left_alone_between_polls() -> None:
    """A meter that takes longer than its period is not asked without a pause."""
    meter = Meter()
    meter.takes_s = 0.25
    poller = Poller(meter, SystemClock(), period_s=0.2, deadline_s=5.0)
    poller.discover()
    until(lambda: len(meter.began) >= 3)
    poller.close()
    poller.read()
    assert poller.took_ns >= 2 * 0.25e9
    assert all(later - before >= 0.25 + 0.02 for before, later in itertools.pairwise(meter.began))


def test_closing_logs_out_on_the_meters_thread() -> None:
    """The meter is closed by the thread that asked it, before close() returns; then nothing more is asked."""
    meter = Meter()
    with polled(meter) as poller:
        poller.discover()
        poller.close()
        assert meter.asked_on == {meter.closed_on}
        assert meter.closed_on is not threading.current_thread()
        asked = meter.polls
        time.sleep(0.05)
        assert meter.polls == asked


def test_closing_does_not_wait_for_a_hung_meter() -> None:
    """A BMC that hangs does not hold up the daemon's end."""
    meter = Meter()
    with polled(meter) as poller:
        poller.discover()
        meter.go.clear()
        until(lambda: poller.problem is not None)
        start = time.monotonic()
        poller.close()
        assert time.monotonic() - start < SOON_S


def test_one_hung_meter_does_not_slow_another() -> None:
    """Each meter has a thread of its own."""
    hung, well = Meter(), Meter()
    with polled(hung) as first, polled(well) as second:
        first.discover()
        second.discover()
        hung.go.clear()
        until(lambda: first.problem is not None)
        polls = well.polls
        time.sleep(0.2)
        assert well.polls - polls >= 5
        assert isinstance(next_reading(second), Gauge)
