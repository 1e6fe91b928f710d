"""Recordings whose books can be worked out by hand, through the real replay; and recordings that are none."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daemon.books import GIB, WALL, Json, end, line, node, start, tick, use, write
from tests.daemon.stories import Story, stories

from jobimpact.core.config import Config, Node, Rapl, Sources
from jobimpact.core.errors import RecordingError
from jobimpact_daemon.replay import replay

J = 1_000_000
WRAP = {"max_uj": 1000 * J, "max_w": 200.0}


def told(lines: list[Json], **idle_w: float) -> Json:
    """What `jobimpactd replay` says of these lines."""
    idle = {name.replace("_", "-"): watts for name, watts in idle_w.items()}
    config = Config(node=Node(name="n1", cpus=4, sources=Sources(rapl=Rapl(idle_w=idle))))
    with tempfile.TemporaryDirectory() as folder:
        return replay(config, write(Path(folder, "recording"), lines))


def holders(found: Json, domain: str = "package-0") -> dict[str, int]:
    """Who has something of a domain."""
    return {key: uj for key, uj in found["domains"][domain]["holders"].items() if uj}


def gpu(t: float, uuid: str, *, usage: Json | None = None, **reading: Any) -> Json:
    """One reading of one GPU."""
    return tick(t, usage, "nvml", **{f"gpu:{uuid}": reading})


def test_two_jobs_share_the_power_above_idle_by_cpu_time() -> None:
    """200 W of which 40 idle: a core each of four, and 3 to 1 CPU seconds of the six busy ones, the rest system."""
    lines = [node(cpus=4), start(0, "1", cpus=1), start(0, "2", cpus=1), tick(1, use(0, j1=0, j2=0), package_0=0)]
    found = told([*lines, tick(11, use(6, j1=3, j2=1), package_0=2000)], package_0=40)
    assert holders(found) == {"1": 900 * J, "2": 366_666_667, "idle": 200 * J, "system": 533_333_333}
    assert found["jobs"]["1"]["coverage"] == {"package-0": 10 / 11}
    assert found["domains"]["package-0"]["unknown_s"] == 0


def test_edges_inside_a_tick_are_split_by_the_time_held() -> None:
    """A job that starts 1 s and ends 3 s into a 10 s tick holds its core for two of its seconds."""
    lines = [node(cpus=1), tick(10, package_0=0), start(11, "1", cpus=1), end(13, "1"), tick(20, package_0=1000)]
    found = told(lines)
    assert holders(found) == {"1": 200 * J, "idle": 800 * J}
    assert found["jobs"]["1"]["seconds"] == 2.0
    assert set(found["jobs"]["1"]["flags"]) >= {"start interpolated", "end interpolated"}


def test_a_job_shorter_than_a_tick_has_its_cpu_time() -> None:
    """The CPU time that a dead cgroup left behind is its job's, idle power goes by core-seconds."""
    lines = [node(cpus=2), tick(1, use(0), package_0=0), start(1.25, "1", cpus=2), end(1.75, "1")]
    usage = use(1.0, j1=0.75)
    usage["jobs"]["1"]["gone"] = True
    found = told([*lines, tick(2, usage, package_0=100)], package_0=20)
    assert holders(found) == {"1": 10 * J + 60 * J, "idle": 10 * J, "system": 20 * J}


def test_dram_goes_by_memory_held_and_above_idle_by_memory_used() -> None:
    """10 W of 30 are static: 1 of 4 GiB are held; 3 GiB of the 4 in use above it are the job's."""
    mem = 3 * GIB // 4

    def usage() -> Json:
        return {"used_mem_bytes": GIB, "jobs": {"1": {"cpu_s": 0, "mem_bytes": mem}}}

    lines = [node(), start(0, "1", cpus=1, mem_bytes=GIB), line(1, usage=usage()), tick(2, usage(), dram_0=0)]
    found = told([*lines, tick(12, usage(), dram_0=300)], dram_0=10)
    assert holders(found, "dram-0") == {"1": 25 * J + 150 * J, "idle": 75 * J, "system": 50 * J}


def test_a_gpu_belongs_whole_to_the_job_that_holds_it() -> None:
    """One of two GPUs is held for half of the time; the job's coverage is of its own GPU alone."""
    lines = [node(gpus=["a", "b"]), gpu(1, "a", uj=0), gpu(1, "b", uj=0), start(6, "1", cpus=1, gpus=["a"])]
    found = told([*lines, gpu(11, "a", uj=3000 * J), gpu(11, "b", uj=500 * J)])
    assert holders(found, "gpu:a") == {"1": 1500 * J, "idle": 1500 * J}
    assert holders(found, "gpu:b") == {"idle": 500 * J}
    assert found["jobs"]["1"]["coverage"] == {"gpu:a": 1.0}


def test_a_gpu_that_is_lost_and_back_has_lost_nothing() -> None:
    """While the driver lists it no more there is no reading; its counter still holds the energy."""
    lines = [node(gpus=["a"]), start(0, "1", cpus=1, gpus=["a"]), gpu(1, "a", uj=0, epoch="e")]
    lines += [gpu(2, "a", failed="GPU is lost"), gpu(3, "a", absent="not listed"), gpu(5, "a", uj=800 * J, epoch="e")]
    found = told(lines)
    assert holders(found, "gpu:a") == {"1": 800 * J}
    assert found["domains"]["gpu:a"]["unknown_s"] == 0
    assert "gpu:a gap" in found["jobs"]["1"]["flags"]


def test_a_driver_that_was_loaded_anew_makes_the_interval_unknown() -> None:
    """A new epoch is a reset whatever the values are: 4 s are unknown, and the job's coverage says so."""
    lines = [node(gpus=["a"]), start(1, "1", cpus=1, gpus=["a"]), gpu(1, "a", uj=10 * J, epoch="e")]
    found = told([*lines, gpu(5, "a", uj=900 * J, epoch="f"), gpu(9, "a", uj=1000 * J, epoch="f")])
    assert holders(found, "gpu:a") == {"1": 100 * J}
    assert found["domains"]["gpu:a"]["unknown_s"] == 4.0
    assert found["jobs"]["1"]["coverage"] == {"gpu:a": 0.5}


def test_a_requeued_job_has_two_runs_and_a_late_epilog_ends_neither_twice() -> None:
    """Restart 1 closes the open run 0; the epilog of 0 that comes late leaves the new run alone."""
    lines = [node(cpus=1), start(1, "7", cpus=1), tick(1, package_0=0), start(11, "7", cpus=1, restart=1)]
    lines += [tick(11, package_0=100), end(16, "7", restart=0), tick(16, package_0=150), end(21, "7", restart=1)]
    found = told([*lines, tick(31, package_0=300)])
    assert holders(found) == {"7": 100 * J, "7#1": 100 * J, "idle": 100 * J}
    assert {run: (job["seconds"], job["state"]) for run, job in found["jobs"].items()} == {
        "7": (10.0, "ended"),
        "7#1": (10.0, "ended"),
    }


def test_a_job_that_was_silent_for_five_minutes_is_lost() -> None:
    """Its cgroup goes and no end mark comes: it is closed after 300 s, and what follows is idle."""
    lines = [node(cpus=1), start(0, "1", cpus=1), tick(0, use(0, j1=0), package_0=0)]
    lines += [tick(t, use(0), package_0=t) for t in range(50, 701, 50)]
    found = told(lines)
    assert (found["jobs"]["1"]["state"], found["jobs"]["1"]["seconds"]) == ("lost", 350.0)
    assert holders(found) == {"1": 350 * J, "idle": 350 * J}
    assert "lost" in {finding["kind"] for finding in found["findings"]}


def test_a_counter_that_wraps_twice_counts_on() -> None:
    """A range of 1000 J is passed twice in 25 s at 100 W, with readings every 5 s."""
    lines = [tick(t, package_0={"uj": (t - 1) * 100 * J % (1000 * J), **WRAP}) for t in range(1, 27, 5)]
    found = told([node(cpus=1), start(1, "1", cpus=1), *lines])
    assert holders(found) == {"1": 2500 * J}
    assert found["domains"]["package-0"]["unknown_s"] == 0


def test_a_counter_whose_limit_is_not_known_wraps_once() -> None:
    """Without a limit of power there is no telling how often a small range was passed: once is taken."""
    small = {"max_uj": 5 * J}
    lines = [tick(1, package_0={"uj": 4 * J, **small}), tick(2, package_0={"uj": J, **small})]
    assert holders(told([node(cpus=1), *lines])) == {"idle": 2 * J}


def test_an_over_committed_node_is_shared_by_what_is_asked() -> None:
    """Two jobs of four cores on a node of four: half each, and nothing idle."""
    lines = [node(cpus=4), start(1, "1", cpus=4), start(1, "2", cpus=4), tick(1, package_0=0)]
    assert holders(told([*lines, tick(2, package_0=10)])) == {"1": 5 * J, "2": 5 * J}


def test_jobs_without_any_usage_share_by_cores() -> None:
    """Where no CPU time is known at all, everything goes by held cores."""
    lines = [node(cpus=4), start(1, "1", cpus=1), start(1, "2", cpus=2), tick(1, package_0=0)]
    found = told([*lines, tick(2, package_0=100)], package_0=10)
    assert holders(found) == {"1": 25 * J, "2": 50 * J, "idle": 25 * J}


def test_a_clock_that_steps_by_years_creates_and_hides_nothing() -> None:
    """Law 8: a wall clock that jumps from 1970 to now is a label; the runs of before stay in the answer."""
    lines = [node(cpus=1), tick(1, package_0=0), start(1, "1", cpus=1), end(2, "1"), tick(2, package_0=100)]
    lines = [one | {"wall": one["t"]} for one in lines]
    found = told([*lines, tick(3, package_0=200), tick(99, package_0=300)])
    assert holders(found) == {"1": 100 * J, "idle": 200 * J}
    assert found["jobs"]["1"]["seconds"] == 1.0


def test_the_examples_of_the_design_are_understood(tmp_path: Path) -> None:
    """A gauge is absent in this release, an unknown domain is left out, and a failed domain has its reason."""
    reading = {"rapl": {"dram-0": {"failed": "EIO"}}, "redfish": {"node": {"w": 344.0}}}
    found = told([node(), line(1, read=reading)])
    assert found["domains"]["dram-0"] == {
        "measured_uj": None,
        "unknown_s": 0.0,
        "method": "counter",
        "reason": "failed: EIO",
        "holders": {},
    }


def test_boot_time_that_falls_is_refused() -> None:
    """Within a boot, time never falls: the recording was put together wrongly, at a line that is named."""
    with pytest.raises(RecordingError, match=r"recording: line 3: .*boot time never falls"):
        told([node(), tick(2, package_0=1), tick(1, package_0=2)])


def test_what_comes_before_the_first_boot_id_is_another_boots() -> None:
    """A recording that was begun in mid boot without its id: the id that comes then tells of a reboot."""
    lines = [tick(100, package_0=5000), start(100, "1", cpus=4), tick(101, package_0=5100), start(102, "2", cpus=4)]
    found = told([*lines, node(), tick(1, package_0=0), tick(11, package_0=70)])
    assert holders(found) == {"1": 100 * J, "idle": 70 * J}
    assert {run: (job["state"], job["seconds"]) for run, job in found["jobs"].items()} == {
        "1": ("rebooted", 1.0),
        "2": ("rebooted", 0.0),
    }


def test_a_boot_id_before_anything_was_read_is_no_reboot() -> None:
    """A mark that came before the first line of the daemon belongs to its boot."""
    found = told([start(0, "1", cpus=4), node(), tick(1, package_0=0), tick(2, package_0=100)])
    assert holders(found) == {"1": 100 * J}
    assert found["jobs"]["1"]["state"] == "open"


def test_keys_that_are_not_known_are_one_finding() -> None:
    """A later release may have written them, or a person misspelt them: they are left out, and it is said."""
    lines = [tick(t, package_0={"uj": t * 100 * J, "maxuj": 5}) | {"raed": {"package-0": 1}} for t in (1, 2, 3)]
    usage = {"jobs": {"1": {"cpu_s": 1, "cpus": 4}}, "busy": 1}
    found = told([node(cpus=4), *lines, tick(4, usage, package_0=400), tick(5, package_0=500)])
    assert [finding for finding in found["findings"] if finding["kind"] == "unknown key"] == [
        {
            "wall": WALL + 1,
            "kind": "unknown key",
            "subject": "recording",
            "text": "left out: 'read.*.*.maxuj', 'raed', 'usage.jobs.*.cpus', 'usage.busy' (line 2 and 3 more): "
            "misspelt, or of another release",
        }
    ]
    assert found["domains"]["package-0"]["measured_uj"] == 400 * J


def test_many_keys_that_are_not_known_are_told_in_short() -> None:
    """Whatever stands in a recording, a finding is a line that can be read."""
    found = told(
        [node() | {f"{'x' * 1000}{number}\n": None for number in range(1000)} | {f"k{n}": n for n in range(99)}]
    )
    (text,) = (finding["text"] for finding in found["findings"] if finding["kind"] == "unknown key")
    assert len(text) < 1000
    assert "\n" not in text


def test_each_documented_key_is_known(tmp_path: Path) -> None:
    """What a daemon records is known to replay: nothing of it is called misspelt."""
    table = Path(__file__).parents[2] / "docs/admin/recordings.md"
    path = tmp_path / "recording"
    path.write_text("".join(one + "\n" for one in table.read_text().splitlines() if one.startswith('{"t":')))
    assert not [one for one in replay(Config(), path)["findings"] if one["kind"] == "unknown key"]


@given(stories())
def test_no_key_of_a_story_is_unknown(story: Story) -> None:
    """Every reading, use and mark that is in order has known keys alone."""
    assert "unknown key" not in {finding["kind"] for finding in told(story.lines)["findings"]}


@pytest.mark.parametrize(
    "name",
    ["package-0", "package-0-die-1", "package-0-zone-a-1", "cpu", "dram-0", "dram", "gpu:GPU-a", "module:GPU-a"],
)
def test_documented_domains_are_booked(name: str) -> None:
    """The forms of names that daemons write."""
    assert name in told([node(), line(1, read={"rapl": {name: {"uj": 1}}})])["domains"]


@pytest.mark.parametrize("name", ["psys", "core-0", "nodes", "", ":", "-"])
def test_other_domains_are_left_out(name: str) -> None:
    """A later release may know more kinds of parts."""
    assert told([node(), line(1, read={"rapl": {name: {"uj": 1}}})])["domains"] == {}


@pytest.mark.parametrize(
    "name", ["gpu-0", "gpu", "gpu:", "module:", "node-1", "node:redfish", "package", "package-", "cpu-0"]
)
def test_a_known_part_with_another_name_is_refused(name: str) -> None:
    """It would be booked as a part of its own, or not at all: better to say what is allowed."""
    with pytest.raises(RecordingError, match=r"recording: line 2: read\.rapl\..*gpu:<UUID>"):
        told([node(), line(1, read={"rapl": {name: {"uj": 1}}})])


def test_two_sources_of_one_domain_are_refused() -> None:
    """A part's energy would count with whichever is read last; of the node's meters there may be several."""
    both = {"rapl": {"package-0": {"uj": 1}}, "hwmon": {"package-0": {"w": 1}}}
    with pytest.raises(RecordingError, match=r"line 2: read\.hwmon\.package-0: rapl has it too"):
        told([node(), line(1, read=both)])
    found = told([node(), line(1, read={"ipmi": {"node": {"w": 1}}, "redfish": {"node": {"w": 1}}})])
    assert found["meters"].keys() == {"ipmi", "redfish"}


def test_a_line_that_the_ledger_cannot_take_is_named() -> None:
    """Its sums are 64 bits wide."""
    lines = [tick(t, package_0={"uj": uj, "max_w": 1e9}) for t, uj in enumerate([0, 2**62, 0, 2**62, 0, 2**62], 1)]
    lines = [one | {"t": one["t"] * 1e9} for one in lines]
    with pytest.raises(RecordingError, match="recording: line 5: the ledger could not be written"):
        told([node(cpus=1), *lines])


def node_line(**parts: Any) -> bytes:
    return json.dumps({"t": 1, "wall": 0, "node": {"cpus": 4, "mem_bytes": GIB} | parts}).encode()


def slice_line(**parts: Any) -> bytes:
    return node_line(slices={"MIG-1": {"gpu": "GPU-a", "parts": 1} | parts})


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (node_line(packages={"package-0": 0}), "node.packages"), (node_line(packages={"cpu": -4}), "node.packages"),
        (slice_line(of=0), "of"), (slice_line(parts=-3), "parts"), (slice_line(parts=0), "parts"),
        (slice_line(parts=8), "node.slices.MIG-1: parts: 8 of 7"), (slice_line(parts=3, of=2), "3 of 2"),
        (node_line(slices={"MIG-1": {"parts": 1}}), "gpu"),
        (b'{"t":1,"wall":0,"mark":{"event":"end","job":"past"}}', "past"),
        (b'{"t":1,"wall":0,"usage":{"jobs":{"past":{"cpu_s":1}}}}', "past"),
    ],
)  # fmt: skip
def test_a_size_or_a_job_that_cannot_be_is_named(tmp_path: Path, text: bytes, key: str) -> None:
    """Nothing has no part of a package, and nobody holds a negative part: file, line and key are told."""
    path = tmp_path / "recording"
    path.write_bytes(b'{"t":0,"wall":0}\n' + text + b"\n")
    with pytest.raises(RecordingError, match=f"recording: line 2: .*{key}"):
        replay(Config(), path)


@pytest.mark.parametrize(
    "text",
    [
        b"{", b"[]", b"\xff", b'{"t":-1,"wall":0}', b'{"t":1e300,"wall":0}', b'{"t":0,"wall":1e300}',
        b'{"t":1,"wall":0,"mark":{"event":"stop","job":"1"}}', b'{"t":1,"wall":0,"mark":{"event":"end","job":"idle"}}',
        b'{"t":1,"wall":0,"mark":{"event":"start","job":"1","cpus":-4}}', b'{"t":1,"wall":0,"read":{"r":{"dram":{}}}}',
        b'{"t":1,"wall":0,"read":{"rapl":{"dram-0":{"uj":-1}}}}', b"[" * 100_000,
        b'{"t":1,"wall":0,"read":{"rapl":{"dram-0":{"uj":99999999999999999999}}}}',
        b'{"t":1,"wall":0,"usage":{"jobs":{"1":{"cpu_s":-1}}}}', b'{"t":1,"wall":0,"node":{"cpus":-1,"mem_bytes":1}}',
        b'{"t":1,"wall":0,"x":' + b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_bad_line_is_named(tmp_path: Path, text: bytes) -> None:
    """The error names the file and the line."""
    path = tmp_path / "recording"
    path.write_bytes(b'{"t":0,"wall":0}\n' + text + b"\n")
    with pytest.raises(RecordingError, match="recording: line 2"):
        replay(Config(), path)


words = st.sampled_from(
    ["t", "wall", "boot", "node", "cpus", "mem_bytes", "gpus", "read", "rapl", "package-0", "dram-0", "uj", "max_uj",
     "epoch", "max_w", "failed", "usage", "jobs", "1", "cpu_s", "busy_cpu_s", "mark", "event", "start", "job", "gone",
     "packages", "slices", "parts", "of", "gpu", "cpus_by", "gpu:a", "w"]
)  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(0, 9) | st.floats() | st.text(max_size=3) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=150)
@given(st.lists(st.dictionaries(words, values) | values, max_size=4))
def test_no_json_lines_make_a_traceback(lines: list[Any]) -> None:
    """Whatever JSON a recording holds, there is an answer or a RecordingError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "recording")
        path.write_text("".join(json.dumps(one) + "\n" for one in [node(), *lines]))
        with suppress(RecordingError):
            replay(Config(), path)


@given(stories(), st.data())
def test_a_good_recording_with_one_odd_number_makes_no_traceback(story: Story, data: st.DataObject) -> None:
    """One value anywhere replaced by an extreme one gives an answer that balances, or a RecordingError."""
    text = json.dumps(data.draw(st.sampled_from(story.lines)))
    numbers = sorted({word for word in text.replace("}", ",").replace("]", ",").split() if word[:1].isdigit()})
    odd = st.sampled_from(["-1", "0", "1e10", "9223372036854775807", "1e-300", "null", '"x"'])
    other = text.replace(data.draw(st.sampled_from(numbers)), data.draw(odd) + ",")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "recording")
        path.write_text("".join(other if json.dumps(one) == text else json.dumps(one) + "\n" for one in story.lines))
        try:
            found = replay(Config(), path)
        except RecordingError:
            return
    for domain in found["domains"].values():
        assert sum(domain["holders"].values()) == (domain["measured_uj"] or 0)
