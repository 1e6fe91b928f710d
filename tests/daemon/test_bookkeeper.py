"""The laws of the books, over any story of a node."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daemon.books import GIB, Json, Played, end, line, node, play, start, tick, use
from tests.daemon.stories import Story, stories

IDLE_W = {"package-0": 40.0, "package-1": 1.0, "dram-0": 5.0}


@settings(max_examples=150)
@given(stories())
def test_the_books_balance_over_any_story(story: Story) -> None:
    """Law 1: jobs + idle + system = measured, over marks in any order, failed reads, resets, blips and reboots."""
    play(story.lines, IDLE_W).check_balance()


def test_what_waited_for_cpu_times_is_compared_by_when_it_was_read() -> None:
    """Read at 2 s, counted at 9 s as the next reading failed: what it rose by at 9.01 s took seven seconds."""

    def read(t: float, dram: Json, **usage: Json) -> Json:
        return line(t, read={"rapl": {"dram-0": dram}}, **usage)

    def counter(joules: float) -> Json:
        return {"uj": round(joules * 1e6), "max_uj": 262_143_328_850, "max_w": 375.0}

    lines = [node(), read(1, counter(1000), usage=use(0.0)), read(2, counter(1010))]
    lines += [read(9, {"failed": "for once"}, usage=use(0.0)), read(9.01, counter(1110), usage=use(0.0))]
    assert play(lines).told["domains"]["dram-0"]["measured_uj"] == 110_000_000


@settings(max_examples=100)
@given(stories())
def test_what_was_not_reset_is_measured_from_first_to_last(story: Story) -> None:
    """Law 3: failed reads, gaps, blips and wraps lose and invent nothing: measured is last minus first."""
    domains = play(story.lines, IDLE_W).told["domains"]
    for name, rise_uj in story.rise_uj.items():
        if rise_uj is not None and name in domains:
            assert (domains[name]["measured_uj"] or 0) == rise_uj, name


@settings(max_examples=100)
@given(stories())
def test_known_and_unknown_time_are_the_observed_time(story: Story) -> None:
    """Law 2: every second since the first look is known, unknown, or pending at the end."""
    played = play(story.lines, IDLE_W)
    for name, book in played.state.domains.items():
        look = story.first_look[name]
        here = played.state.holdings.t_ns - look if look is not None else 0
        assert book.known_ns + book.unknown_ns + played.pending_ns(name) == story.observed_ns[name] + here, name


@settings(max_examples=100)
@given(stories(), st.data())
def test_a_restart_at_any_line_changes_nothing(story: Story, data: st.DataObject) -> None:
    """Law 5: the ledger of a daemon that was stopped and started anew is that of one that ran on."""
    lines = range(1, len(story.lines))
    restarts = data.draw(st.sets(st.sampled_from(lines), max_size=3)) if lines else set()
    assert _without_gaps(play(story.lines, IDLE_W, restarts)) == _without_gaps(play(story.lines, IDLE_W))


def _without_gaps(played: Played) -> Any:
    """A restart flags the runs whose energy it spans; nothing else may differ."""
    told = copy.deepcopy(played.told)
    for job in told["jobs"].values():
        job["flags"] = [flag for flag in job["flags"] if not flag.endswith(" gap")]
    return told


@given(
    cut=st.integers(1, 999),
    watts=st.integers(1, 300),
    cpu=st.tuples(st.integers(0, 400), st.integers(0, 400)),
    idle_w=st.integers(0, 100),
)
def test_a_reading_in_the_middle_of_constant_power_changes_nothing(
    cut: int, watts: int, cpu: tuple[int, int], idle_w: int
) -> None:
    """Law 3: reading twice as often gives the same shares, to the rounding of a microjoule per reading."""

    def at(part: float) -> dict[str, Any]:
        used = use(8 * part, j1=cpu[0] * part / 100, j2=cpu[1] * part / 100)
        return tick(1 + 10 * part, used, package_0=1000 + watts * 10 * part)

    edges = [node(), start(0.5, "1", cpus=1), start(0.5, "2", cpus=2)]
    coarse = play([*edges, at(0), at(1)], {"package-0": idle_w})
    fine = play([*edges, at(0), at(cut / 1000), at(1)], {"package-0": idle_w})
    one, two = coarse.holders("package-0"), fine.holders("package-0")
    assert sum(one.values()) == sum(two.values()) == watts * 10_000_000
    assert all(abs(one.get(key, 0) - two.get(key, 0)) <= 4 for key in one | two)


def test_a_domain_that_was_never_read_covers_nothing() -> None:
    """Law 2: no reading gives no energy and a coverage of 0, which is not an energy of 0."""
    failed = {"failed": "EIO"}
    told = play([node(), start(0.5, "1", cpus=1), tick(1, package_0=failed), tick(2, package_0=failed)]).told
    assert told["domains"]["package-0"]["measured_uj"] is None
    assert told["domains"]["package-0"]["unknown_s"] == 1.0
    assert told["jobs"]["1"]["uj"] is None
    assert told["jobs"]["1"]["coverage"] == {"package-0": 0.0}


def test_a_gap_by_failed_reads_goes_to_its_holders_by_time() -> None:
    """Law 3: ten seconds without a reading hold 1000 J, of a job for five of them, and the job is told."""
    failed = {"failed": "EIO"}
    lines = [node(cpus=1), tick(1, package_0=0), tick(2, package_0=failed), start(6, "1", cpus=1)]
    played = play([*lines, tick(7, package_0=failed), tick(11, package_0=1000)])
    assert played.holders("package-0") == {"1": 500_000_000, "idle": 500_000_000}
    assert "package-0 gap" in played.told["jobs"]["1"]["flags"]
    assert played.told["domains"]["package-0"]["unknown_s"] == 0.0


def test_the_energy_of_a_reboot_is_unknown_and_the_run_ends_at_its_last_reading() -> None:
    """A boot id that changes in mid job closes the run, and the new boot's counter starts from where it stands."""
    old = [node(), start(1, "1", cpus=4), tick(1, package_0=100), tick(11, package_0=1100)]
    new = [node(boot="b2", t=0.5), tick(2, package_0=900), tick(4, package_0=1000)]
    new = [one | {"wall": one["wall"] + 500} for one in new]
    told = play([*old, *new]).told
    assert told["domains"]["package-0"]["holders"] == {"1": 1_000_000_000, "idle": 100_000_000}
    job = told["jobs"]["1"]
    assert (job["state"], job["seconds"], job["coverage"]) == ("rebooted", 10.0, {"package-0": 1.0})
    assert [one["kind"] for one in told["findings"]] == ["no idle power", "reboot"]


def test_a_job_id_of_the_last_boot_is_a_run_of_its_own() -> None:
    """A run that a reboot closed keeps its key before the ledger has it: the same id again is `1#1`."""
    lines = [node(), tick(1, package_0=0), start(2, "1", cpus=4), node(boot="b2", t=0.5), start(1, "1", cpus=4)]
    assert sorted(play([*lines, tick(1, package_0=0), tick(2, package_0=5)]).told["jobs"]) == ["1", "1#1"]


def test_a_run_that_the_reboot_closed_ended_at_the_wall_time_of_its_last_reading() -> None:
    """The hours that the node was off are not the run's."""
    lines = [node(), start(1, "1", cpus=4), tick(11, package_0=1100), node(boot="b2") | {"wall": 1_900_000_000.0}]
    run = play([*lines, tick(2, package_0=900)])
    assert run.told["findings"][-1]["wall"] == 1_800_000_011.0


def test_time_that_was_pending_at_a_reboot_is_unknown() -> None:
    """Law 2: a value under suspicion when the node went down leaves its interval unknown, not forgotten."""
    falls = {"uj": 50_000_000, "max_uj": 262_143_328_850, "max_w": 300.0}
    lines = [node(), tick(1, package_0={**falls, "uj": 10**11}), tick(3, package_0=falls), node(boot="b2")]
    told = play([*lines, tick(1, package_0=5)]).told
    assert told["domains"]["package-0"]["unknown_s"] == 2.0


def test_energy_waits_for_the_cpu_times_that_split_it() -> None:
    """Readings between two of CPU times are split by the later one; the last ones are not lost."""
    lines = [node(), start(0.5, "1", cpus=2), tick(1, use(0, j1=0), package_0=0), tick(2, package_0=100)]
    played = play([*lines, tick(3, use(4, j1=1), package_0=200), tick(4, package_0=300)])
    assert played.told["domains"]["package-0"]["measured_uj"] == 300_000_000
    assert played.holders("package-0")["1"] == 50_000_000 + 50_000_000
    assert played.told["domains"]["package-0"]["unknown_s"] == 0.0


def test_what_a_cgroup_tells_of_its_job_holds_for_the_gap_before_it() -> None:
    """A daemon killed right after a start mark, before it saw the cgroup: the gap is not held by the guess."""
    idle = {"used_mem_bytes": 0, "jobs": {"1": {"cpu_s": 0, "mem_bytes": 0, "mem_limit_bytes": GIB // 4}}}
    lines = [node(), tick(0, use(0), dram_0=0), start(1, "1", cpus=2), tick(1, use(0), dram_0=10)]
    held = play([*lines, tick(41, idle, dram_0=410)], {"dram-0": 10.0}, restart_at=[4]).holders("dram-0")
    assert held == {"1": 400_000_000 // 16, "idle": 10_000_000 + 400_000_000 * 15 // 16}


def test_a_domain_that_nobody_reads_any_more_pins_no_run() -> None:
    """A source that was switched off does not keep every run since in memory."""
    lines = [node(), tick(1, use(0), package_0=0, package_1=0), start(2, "1", cpus=1), end(3, "1")]
    lines += [tick(hour * 3600, use(hour), package_0=hour) for hour in range(1, 30)]
    played = play(lines)
    assert played.state.holdings.runs == {}
    assert played.told["domains"]["package-1"]["unknown_s"] > 24 * 3600


def test_a_month_of_large_memory_can_be_saved() -> None:
    """The integrals outgrow 64 bits, and the file still holds them."""
    lines = [node(mem_bytes=1 << 50), tick(1, use(0), dram_0=0), tick(3e8, use(1), dram_0=1), tick(3e8 + 1, dram_0=2)]
    assert play(lines, restart_at=[2, 3]).told["domains"]["dram-0"]["measured_uj"] == 2_000_000


def test_the_node_of_a_recording_may_grow() -> None:
    """A second node line is the node from then on: half of the time a job held all of it, then half of it."""
    lines = [node(cpus=2), start(1, "1", cpus=2), tick(1, package_0=0), tick(2, package_0=100)]
    played = play([*lines, node(cpus=4, t=2), tick(3, package_0=200)], {"package-0": 1000.0})
    assert played.holders("package-0") == {"1": 150_000_000, "idle": 50_000_000}
    assert played.state.holdings.node.mem_bytes == 4 * GIB
