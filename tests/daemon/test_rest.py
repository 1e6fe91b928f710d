"""The rest of the node against a meter that lags, fails, is stuck or sees too little; and the laws of gauges."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daemon.books import GIB, Json, end, line, node, play, start, write

from jobimpact.core.config import Config, Node
from jobimpact_daemon.replay import replay

J = 1_000_000
LAG_S = 15


def gpus_watts(t: float) -> float:
    """Two GPUs that draw 300 W and 3000 W in turn, half a minute each."""
    return 3000.0 if int(t) // 30 % 2 else 300.0


def joules(power: Callable[[float], float], until: float) -> float:
    """A power's energy from 0, by steps of a second at whose edges it may change."""
    return sum(power(second) for second in range(int(until))) + power(int(until)) * (until - int(until))


def both(t: float, gpu_j: float, bmc_w: float | None, **more: Json) -> Json:
    """A reading of the GPU's counter, and of the BMC if it has one."""
    read: Json = {"nvml": {"gpu:a": {"uj": round(gpu_j * J)}}}
    if bmc_w is not None:
        read["redfish"] = {"node": {"w": bmc_w}}
    return line(t, read=read, **more)


def test_a_bmc_that_lags_invents_no_energy() -> None:
    """15 s late over GPUs that alternate between 300 and 3000 W, a true rest of 400 W: a clamp would say 693 W."""
    lines = [node(gpus=["a"]), start(0, "1", cpus=4, mem_bytes=4 * GIB, gpus=["a"])]
    seconds = 1200
    for t in range(seconds + 1):
        bmc = 400 + gpus_watts(max(0, t - LAG_S)) if t % 5 == 0 else None
        lines.append(both(t, joules(gpus_watts, t), bmc))
    played = play(lines)
    played.check_balance()
    rest_w = played.told["domains"]["rest"]["measured_uj"] / J / seconds
    clamped = sum(max(0, 400 + gpus_watts(max(0, t - LAG_S)) - gpus_watts(t)) for t in range(seconds)) / seconds
    assert clamped > 690
    # At the end the meter still owes its lag's worth of the last half-minute: 15 s x 2700 W of 1200 s.
    assert abs(rest_w - 400) < 15 * 2700 / seconds + 4
    whole = played.told["domains"]["node"]
    assert whole["measured_uj"] - whole["deficit_uj"] == played.told["meters"]["redfish"]["measured_uj"]
    assert played.holders("rest") == {"1": played.told["domains"]["rest"]["measured_uj"]}


powers = st.lists(st.integers(1, 3000), min_size=2, max_size=60)


@settings(max_examples=100)
@given(
    gpu=powers, rest=st.integers(0, 500), lag=st.integers(0, 20), every=st.integers(1, 12), silent=st.integers(0, 60)
)
def test_parts_and_rest_are_the_meter_for_any_lag_and_gap(
    gpu: list[int], rest: int, lag: int, every: int, silent: int
) -> None:
    """Law 1, at node level: parts + rest - what is still owed = what the node's meter measured in its windows."""
    lines = [node(gpus=["a"]), start(3, "1", cpus=2, gpus=["a"])]
    used_j, t = 0.0, 0
    for watts in gpu:
        for _ in range(10):
            past = gpu[max(0, t - lag) // 10]
            quiet = 100 <= t < 100 + silent
            lines.append(both(t, used_j, None if t % every or quiet else float(rest + past)))
            used_j += watts
            t += 1
    played = play(lines, restart_at=[len(lines) // 2])
    played.check_balance()
    state = played.state.rest
    settled = sum(played.holders("rest").values()) if "rest" in played.told["domains"] else 0
    assert settled >= 0
    assert state.deficit_uj >= 0
    if silent < 15 and "node" in played.told["domains"]:
        # Without a gap that is too long one window follows the other, from the meter's first reading to its last.
        last = max(second for second in range(0, t, every) if not 100 <= second < 100 + silent)
        parts_uj = sum(gpu[second // 10] for second in range(last)) * J
        assert (state.parts_uj, settled - state.deficit_uj) == (parts_uj, state.meter_uj - parts_uj)


def test_a_meter_that_sees_less_than_its_parts_is_told_of() -> None:
    """A chassis whose BMC does not see the GPUs: no rest is invented, none is negative, and a person is told."""
    lines = [node(gpus=["a"]), *(both(t, 1000.0 * t, 300.0 if t % 5 == 0 else None) for t in range(3000))]
    played = play(lines)
    played.check_balance()
    assert played.holders("rest") == {}
    assert [one["kind"] for one in played.told["findings"]].count("negative rest") >= 1
    assert played.told["domains"]["node"]["deficit_uj"] > 0


def test_a_meter_may_leave_out_a_part() -> None:
    """Told that the BMC does not see the GPUs, the rest is all that it sees."""
    lines = [node(gpus=["a"])]
    for t in range(601):
        one = both(t, 1000.0 * t, None)
        one["read"]["redfish"] = {"node": {"w": 300.0, "excludes": ["gpu"]}}
        lines.append(one)
    assert play(lines).holders("rest") == {"idle": 300 * 600 * J}


def test_the_rest_goes_by_dominant_share_and_idle() -> None:
    """A job of a quarter of the cores and half of the memory has half of fans and losses, nobody the other half."""
    lines = [node(), start(0, "1", cpus=1, mem_bytes=2 * GIB)]
    lines += [line(t, read={"wattmeter": {"node": {"w": 200.0}}}) for t in range(101)]
    assert play(lines).holders("rest") == {"1": 100 * 100 * J, "idle": 100 * 100 * J}


def test_the_part_of_the_rest_above_its_idle_power_goes_by_what_the_parts_used() -> None:
    """Of 200 W of rest 120 are always there; 80 follow the 300 and 100 W of the two jobs' GPUs."""
    lines = [node(gpus=["a", "b"])]
    lines += [
        start(0, "1", cpus=1, mem_bytes=2 * GIB, gpus=["a"]),
        start(0, "2", cpus=1, mem_bytes=2 * GIB, gpus=["b"]),
    ]
    for t in range(101):
        nvml = {"gpu:a": {"uj": 300 * t * J}, "gpu:b": {"uj": 100 * t * J}}
        lines.append(line(t, read={"nvml": nvml, "wattmeter": {"node": {"w": 600.0}}}))
    assert play(lines, {"rest": 120.0}).holders("rest") == {"1": 100 * 120 * J, "2": 100 * 80 * J}


def test_the_wattmeter_is_trusted_more_than_the_bmc_and_the_bmc_takes_over() -> None:
    """While the plug is metered it counts; when it falls silent, the next in trust does."""
    lines = [node()]
    for t in range(401):
        read: Json = {"ipmi": {"node": {"w": 500.0}}, "wattmeter": {"node": {"w": 400.0}}}
        if t > 200:
            read["wattmeter"] = {"node": {"failed": "no route to host"}}
        lines.append(line(t, read=read))
    played = play(lines)
    played.check_balance()
    assert played.told["meters"]["wattmeter"]["measured_uj"] == 400 * 200 * J
    # From the wattmeter's last reading to the BMC's next after the longest gap: 32 s that nobody vouches for.
    assert played.told["domains"]["rest"]["unknown_s"] == 32.0
    assert sum(played.holders("rest").values()) == 400 * 200 * J + 500 * (200 - 32) * J
    assert played.told["domains"]["rest"]["method"] == "gauge"


def test_a_calibrated_node_without_a_meter_has_a_modelled_rest(tmp_path: Path) -> None:
    """Plug = 1.1 x parts + 80 W: of 300 W parts for 100 s the rest is 110 W, and modelled; a real meter wins."""
    entry = {"slope": 1.1, "offset_w": 80.0, "residual_w": 5.0, "r2": 0.99, "windows": 100, "from_w": 60.0}
    entry |= {"to_w": 900.0, "meter": "wattmeter", "lag_s": 0.0, "date": "2026-11-01T00:00:00Z"}
    inventory = tmp_path / "nodes.yaml"
    inventory.write_text(json.dumps({"types": {}, "calibration": {"n1": entry}}))
    config = Config(node=Node(name="n1", cpus=4), inventory=str(inventory))
    lines = [node(gpus=["a"]), start(0, "1", cpus=4, gpus=["a"])]
    lines += [line(t, read={"nvml": {"gpu:a": {"uj": 300 * t * J}}}) for t in range(101)]
    told = replay(config, write(tmp_path / "without", lines))
    assert told["domains"]["rest"]["method"] == "modelled"
    assert told["domains"]["rest"]["holders"] == {"1": 110 * 100 * J}
    assert told["jobs"]["1"]["uj"] == 410 * 100 * J
    metered = [one if "read" not in one else both(one["t"], 300 * one["t"], 500.0) for one in lines]
    told = replay(config, write(tmp_path / "with", metered))
    assert told["domains"]["rest"]["method"] == "gauge"
    assert told["domains"]["rest"]["holders"] == {"1": 200 * 100 * J}


def test_a_gauge_is_integrated_by_trapezoids_and_long_gaps_are_missing() -> None:
    """100 W rising to 300 W over 10 s is 2 kJ; after a minute of silence nothing is made up."""
    gpu = [line(t, read={"nvml": {"gpu:a": {"w": w}}}) for t, w in ((0, 100.0), (10, 300.0), (70, 300.0), (71, 300.0))]
    told = play([node(gpus=["a"]), start(0, "1", cpus=1, gpus=["a"]), *gpu]).told
    assert told["domains"]["gpu:a"]["holders"] == {"1": 2000 * J + 300 * J}
    assert told["domains"]["gpu:a"]["unknown_s"] == 60.0
    assert told["domains"]["gpu:a"]["method"] == "gauge"
    assert "gpu:a gap" in told["jobs"]["1"]["flags"]
    assert told["jobs"]["1"]["coverage"]["gpu:a"] == 11 / 71


def test_a_meter_that_is_asked_once_in_a_minute_has_no_gaps_of_a_minute() -> None:
    """What is usual for a meter is no gap; three times that without a word is."""
    times = [*range(0, 601, 60), *range(840, 1201, 60)]
    lines = [node(), *(line(t, read={"redfish": {"node": {"w": 100.0, "period_s": 60.0}}}) for t in times)]
    meter = play(lines).told["meters"]["redfish"]
    assert (meter["measured_uj"], meter["unknown_s"]) == (100 * (600 + 360) * J, 240.0)


def test_a_recording_need_not_tell_how_often_a_meter_is_asked(tmp_path: Path) -> None:
    """Replay sees it: a reading in a minute is no gap, and an hour without one is."""
    times = [*range(0, 601, 60), *range(4200, 4801, 60)]
    lines = [node(), *(line(t, read={"redfish": {"node": {"w": 100.0}}}) for t in times)]
    meter = replay(Config(node=Node(name="n1")), write(tmp_path / "recording", lines))["meters"]["redfish"]
    assert (meter["measured_uj"], meter["unknown_s"]) == (100 * 1200 * J, 3600.0)


def test_a_sample_that_comes_late_or_twice_adds_nothing() -> None:
    """A gauge with a time of its own is integrated over its own times, each once."""
    times = [(0.0, 0.0), (5.0, 4.0), (6.0, 4.0), (7.0, 3.0), (10.0, 8.0)]
    lines = [node(), *(line(t, read={"redfish": {"node": {"w": 100.0, "t": own}}}) for t, own in times)]
    assert play(lines).told["meters"]["redfish"]["measured_uj"] == 800 * J


def test_a_bmc_that_always_says_the_same_is_stuck() -> None:
    """A power supply that reads 900 W whatever the GPUs do: from the fifth minute on it is not known, and told."""
    lines = [node(gpus=["a"]), start(0, "1", cpus=1, gpus=["a"])]
    lines += [both(t, joules(gpus_watts, t), 900.0) for t in range(0, 1201, 10)]
    played = play(lines)
    played.check_balance()
    assert ("stuck", "node:redfish") in {(one["kind"], one["subject"]) for one in played.told["findings"]}
    assert played.told["meters"]["redfish"]["unknown_s"] >= 1200 - 310
    assert "node:redfish stuck" in played.told["jobs"]["1"]["flags"]


def test_a_steady_meter_over_a_steady_load_is_not_stuck() -> None:
    """An idle node draws the same for hours."""
    lines = [node(gpus=["a"]), *(both(t, 60.0 * t, 300.0) for t in range(0, 3601, 10))]
    assert not [one for one in play(lines).told["findings"] if one["kind"] == "stuck"]


def test_a_counter_that_stands_still_for_a_minute_is_stuck() -> None:
    """Whatever is switched on draws something: an energy that never grows is not known, which is not zero."""
    still = [line(t, read={"nvml": {"gpu:a": {"uj": 5 * J}}}) for t in range(0, 121, 10)]
    lines = [node(gpus=["a"]), start(0, "1", cpus=1, gpus=["a"]), *still]
    told = play([*lines, line(130, read={"nvml": {"gpu:a": {"uj": 1005 * J}}})]).told
    assert told["domains"]["gpu:a"]["unknown_s"] == 120.0
    assert told["domains"]["gpu:a"]["holders"] == {"1": 1000 * J}
    assert "gpu:a stuck" in told["jobs"]["1"]["flags"]


def test_the_idle_power_is_learned_while_nothing_runs_and_survives_a_restart() -> None:
    """Two quiet minutes at 50 W; then half of the cores are held, and 250 W are 50 of idle and 200 of use."""
    lines = [node(cpus=4)]
    joule = busy = 0.0

    def tick(t: int, **parts: Json) -> Json:
        jobs = {"1": {"cpu_s": max(0, t - 120)}} if t > 120 else {}
        return line(
            t, read={"rapl": {"package-0": {"uj": round(joule * J)}}}, usage={"busy_cpu_s": busy, "jobs": jobs}
        )

    for t in range(121):
        lines.append(tick(t))
        joule, busy = joule + 50, busy + 0.01
    lines.append(start(120, "1", cpus=2))
    joule, busy = joule + 200, busy + 1
    for t in range(121, 181):
        lines.append(tick(t))
        joule, busy = joule + 250, busy + 1
    for restarts in ([], [122], [1, 60, 123]):
        held = play(lines, restart_at=restarts).holders("package-0")
        assert abs(held["1"] - 60 * (25 + 200) * J) < 3 * J
        # In the first minute nobody knew it, and what little ran then was the system's.
        assert abs(held["idle"] - (60 * 50 + 60 * 25) * J) < 80 * J


def test_two_equal_jobs_on_sockets_of_different_power() -> None:
    """Each package's energy goes to who ran on it: 250 W and 90 W, not 170 W each."""
    lines: list[Json] = [
        line(0, boot="b1", node={"cpus": 16, "mem_bytes": 16 * GIB, "packages": {"package-0": 8, "package-1": 8}})
    ]
    lines += [start(0, "a", cpus=8), start(0, "b", cpus=8)]
    for t in range(101):
        jobs = {
            "a": {"cpu_s": 8 * t, "cpu_s_by": {"package-0": 8 * t}, "cpus_by": {"package-0": 8}},
            "b": {"cpu_s": 8 * t, "cpu_s_by": {"package-1": 8 * t}, "cpus_by": {"package-1": 8}},
        }
        by = {"package-0": 8 * t, "package-1": 8 * t}
        usage = {"busy_cpu_s": 16 * t, "busy_cpu_s_by": by, "jobs": jobs}
        rapl = {"package-0": {"uj": 250 * t * J}, "package-1": {"uj": 90 * t * J}}
        lines.append(line(t, read={"rapl": rapl}, usage=usage))
    played = play(lines)
    assert played.told["jobs"]["a"]["uj"] == 250 * 100 * J
    assert played.told["jobs"]["b"]["uj"] == 90 * 100 * J


def test_a_job_that_is_suspended_and_resumed() -> None:
    """While it is stopped its cores' idle power is nobody's, and its memory's still its own."""
    lines = [node(cpus=4), start(0, "1", cpus=4, mem_bytes=4 * GIB)]
    cpu_s = 0.0
    for t in range(31):
        stopped = 10 <= t < 20
        usage = {
            "busy_cpu_s": cpu_s + 0.001 * t,
            "jobs": {"1": {"cpu_s": cpu_s, "mem_bytes": GIB, "suspended": stopped}},
        }
        rapl = {"package-0": {"uj": (40 * t + round(100 * cpu_s)) * J}, "dram-0": {"uj": 5 * t * J}}
        lines.append(line(t, read={"rapl": rapl}, usage=usage))
        cpu_s += 0 if stopped else 1.0
    played = play([*lines, end(31, "1")], {"package-0": 40.0, "dram-0": 5.0})
    assert played.holders("dram-0") == {"1": 150 * J}
    assert played.holders("package-0")["idle"] == 40 * 10 * J
    assert "suspended for a time: no share of the CPUs" in played.told["jobs"]["1"]["flags"]
