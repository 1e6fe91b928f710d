"""AMD SMI by the real Python package and a stand-in library, in a child process: meters, and every fault."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.curve import NS_PER_MS, NS_PER_S, Counter, Curve, blip, boot_ns
from tests.fakes.rig_amd import ENERGY, AmdGpu, AmdMeter, Status, ask_amd_child, missing
from tests.fakes.rig_child import soon_ns
from tests.fakes.rig_gpu import Delay, Fault

UNIT_UJ = 16
"""One count of the accumulator is 15.259 uJ."""
PRELUDE = """
import time
from jobimpact_daemon.sources import amdsmi
amdsmi.RETRY_S = amdsmi.LOST_RETRY_S = 0.05
def said(one):
    return one.uj if hasattr(one, "uj") else one.w if hasattr(one, "w") else type(one).__name__
def told(source): return {name: said(one) for name, one in source.read().items()}
def words(source):
    return {name: getattr(one, "error", None) or getattr(one, "reason", None) for name, one in source.read().items()}
def wait(t): time.sleep(max(0, t - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) / 1e9)
def healed(source):
    for _ in range(600):
        read = told(source)
        if "Failed" not in read.values() and "Absent" not in read.values(): break
        time.sleep(0.1)
    return read
"""


@pytest.fixture
def rig(compiled: None) -> None:
    """The package, and a compiler for the library."""
    if missing():
        pytest.skip(missing())


def ask(folder: Path, program: str, *gpus: AmdGpu, **more: Any) -> Any:
    """Run `program` in a child with these GPUs, and give back its `out`."""
    return ask_amd_child(folder, PRELUDE + program, gpus, **more)


def steady(uj: int, watts: int = 0) -> Counter:
    """A counter that has stood at so many microjoules since the machine's start, or counts on from there."""
    return Counter(Curve.flat(boot_ns(), watts * 1_000_000), start=uj)


@pytest.mark.usefixtures("rig")
def test_counts_become_microjoules(tmp_path: Path) -> None:
    """The accumulator times its resolution; GPUs by UUID, render devices by minor number, the cap with headroom."""
    program = """
source = amdsmi.Amdsmi(5, sys_root)
out["domains"] = [[one.name, one.kind, one.source, one.method] for one in source.discover()]
out["minors"], out["problem"] = source.minors, source.problem
out["read"], out["max_w"] = told(source), source.read()["gpu:aaff-1"].max_w
source.close()
"""
    two = (AmdGpu("aaff-1", steady(7_000_000)), AmdGpu("aaff-2", steady(10**15), 2))
    out = ask(tmp_path, program, *two)
    assert out["domains"] == [[f"gpu:aaff-{number}", "gpu", "amdsmi", "counter"] for number in (1, 2)]
    assert (out["minors"], out["problem"]) == ({"128": "aaff-1", "129": "aaff-2"}, None)
    assert out["read"]["gpu:aaff-1"] == pytest.approx(7_000_000, abs=UNIT_UJ)
    assert out["read"]["gpu:aaff-2"] == pytest.approx(10**15, abs=UNIT_UJ)
    assert out["max_w"] == pytest.approx(900)


@pytest.mark.usefixtures("rig")
@pytest.mark.parametrize(
    ("meters", "method", "reading"),
    [
        (AmdMeter.CURRENT, "gauge", 300.0),
        (AmdMeter.AVERAGE, "gauge", 300.0),
        (AmdMeter(0), "counter", "Absent"),
        (AmdMeter.SECOND_DIE, "counter", "Absent"),
    ],
)
def test_without_a_counter_power_is_read(tmp_path: Path, meters: AmdMeter, method: str, reading: object) -> None:
    """Whichever of the two powers the GPU tells; the second die of two has neither, which is no zero."""
    program = """
source = amdsmi.Amdsmi(5, sys_root)
out["method"] = [one.method for one in source.discover()]
out["read"], out["words"] = told(source), words(source)
source.close()
"""
    first = AmdGpu("first", steady(5_000_000))
    out = ask(tmp_path, program, first, AmdGpu("other", steady(7_000_000, 300), 2, meters=meters))
    assert out["method"] == ["counter", method]
    assert out["read"]["gpu:first"] == pytest.approx(5_000_000, abs=UNIT_UJ)
    assert out["read"]["gpu:other"] == reading
    if meters is AmdMeter.SECOND_DIE:
        assert "two dies" in out["words"]["gpu:other"]


@pytest.mark.usefixtures("rig")
def test_a_counter_that_falls_is_passed_on_as_it_is(tmp_path: Path) -> None:
    """What a fall means is for the books to say."""
    t0 = soon_ns()
    fall = blip(t0 + 1500 * NS_PER_MS, t0 + 2000 * NS_PER_MS, 3_000_000)
    program = f"""
source = amdsmi.Amdsmi(5, sys_root)
source.discover()
out["read"] = [told(source)["gpu:a"]]
for t in ({fall.from_ns}, {fall.to_ns}):
    wait(t)
    out["read"].append(told(source)["gpu:a"])
source.close()
"""
    out = ask(tmp_path, program, AmdGpu("a", steady(7_000_000).with_events(fall)))
    assert out["read"] == [pytest.approx(uj, abs=UNIT_UJ) for uj in (7_000_000, 4_000_000, 7_000_000)]


@pytest.mark.usefixtures("rig")
@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        (Status.NO_PERM, "Absent", "may not ask"),
        (Status.NOT_SUPPORTED, "Absent", "does not tell"),
        (Status.IO, "Failed", "IO"),
        (Status.NOT_FOUND, "Failed", "NOT_FOUND"),
        (Status.API_FAILED, "Failed", "API_FAILED"),
        (Status.TIMEOUT, "Failed", "TIMEOUT"),
    ],
)
def test_a_gpu_that_dies_midway_costs_no_other_and_may_come_back(
    tmp_path: Path, code: Status, kind: str, says: str
) -> None:
    """The other is read at every tick, also while the library is opened anew for the lost one's sake."""
    t0 = soon_ns()
    fault = Fault(code, t0 + 1200 * NS_PER_MS, t0 + 1700 * NS_PER_MS, (ENERGY,))  # type: ignore[arg-type]
    program = f"""
source = amdsmi.Amdsmi(5, sys_root)
source.discover()
out["before"] = told(source)
wait({fault.from_ns})
out["broken"] = [told(source) for _ in range(4) if not time.sleep(0.03)]
out["words"] = words(source)["gpu:a"]
wait({fault.to_ns})
out["after"], out["problem"] = healed(source), source.problem
source.close()
"""
    out = ask(tmp_path, program, AmdGpu("a", steady(10**6), trouble=(fault,)), AmdGpu("b", steady(2 * 10**6), 2))
    whole = {name: pytest.approx(uj, abs=UNIT_UJ) for name, uj in (("gpu:a", 10**6), ("gpu:b", 2 * 10**6))}
    assert out["before"] == out["after"] == whole
    assert {one["gpu:a"] for one in out["broken"][:1]} == {kind}
    assert [one["gpu:b"] for one in out["broken"]] == [whole["gpu:b"]] * 4
    assert says in out["words"]
    assert out["problem"] is None


@pytest.mark.usefixtures("rig")
def test_a_hang_fails_at_the_deadline_and_heals(tmp_path: Path) -> None:
    """What was read before the hang stays; the rest has failed, until the call comes back."""
    t0 = soon_ns()
    hang = Delay(3000, t0 + 1500 * NS_PER_MS, t0 + 2000 * NS_PER_MS, (ENERGY,))
    program = f"""
source = amdsmi.Amdsmi(0.2, sys_root)
while len(source.discover()) < 3: time.sleep(0.05)
wait({hang.from_ns})
start = time.monotonic()
out["first"], out["first_s"] = told(source), time.monotonic() - start
start = time.monotonic()
out["then"], out["then_s"] = [told(source) for _ in range(10)], time.monotonic() - start
out["problem"] = source.problem
wait({hang.from_ns} + 3 * 10**9)
out["healed"], out["well"] = healed(source), source.problem
source.close()
"""
    gpus = [AmdGpu(name, steady(10**6), bus) for bus, name in enumerate("abc", 1)]
    gpus[1] = AmdGpu("b", steady(10**6), 2, trouble=(hang,))
    out = ask(tmp_path, program, *gpus)
    uj = pytest.approx(10**6, abs=UNIT_UJ)
    assert out["first"] == {"gpu:a": uj, "gpu:b": "Failed", "gpu:c": "Failed"}
    assert 0.15 < out["first_s"] < 2.5
    assert {said for one in out["then"] for said in one.values()} == {"Failed"}
    assert out["then_s"] < 1.5, "2 s, if each waited for the deadline"
    assert "timeout" in out["problem"]
    assert (out["healed"], out["well"]) == ({"gpu:a": uj, "gpu:b": uj, "gpu:c": uj}, None)


@pytest.mark.usefixtures("rig")
def test_energy_is_that_of_the_curve(tmp_path: Path) -> None:
    """Two readings differ by what the GPU has drawn between them."""
    program = """
now = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME)
source = amdsmi.Amdsmi(5, sys_root)
source.discover()
out["read"] = []
for _ in range(2):
    start = now()
    uj = told(source)["gpu:a"]
    out["read"].append([start, uj, now()])
    time.sleep(0.5)
source.close()
"""
    gpu = AmdGpu("a", Counter(Curve(boot_ns() - NS_PER_S, [(50_000_000, 500_000_000), (50_000_000, 100_000_000)])))
    (a0, first, a1), (b0, second, b1) = ask(tmp_path, program, gpu)["read"]
    curve, slack = gpu.counter.curve, 2 * UNIT_UJ + 1_000_000  # the sensor shows each millisecond: 500 W x 2 ms
    assert curve.between(a1, b0) - slack <= second - first <= curve.between(a0, b1) + slack


@pytest.mark.usefixtures("rig")
@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"FAKE_AMDSMI": "/nonexistent"}, "driver is not loaded"),
        ({"ROCM_PATH": "/nonexistent", "LD_LIBRARY_PATH": ""}, "libamd_smi.so is not installed"),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, environ: dict[str, str], says: str) -> None:
    """No domain, and the reason, which is not printed into anybody's output."""
    program = """
source = amdsmi.Amdsmi(5, sys_root)
out["count"], out["read"], out["problem"] = len(source.discover()), source.read(), source.problem
source.close()
"""
    out = ask(tmp_path, program, AmdGpu("a", steady(1)), **environ)
    assert (out["count"], out["read"]) == (0, {})
    assert says in out["problem"]


def test_a_node_without_the_package_or_the_driver_says_so(tmp_path: Path) -> None:
    """Without the driver nothing is even imported."""
    sys_root = tmp_path / "sys"
    sys_root.mkdir()
    program = f"""
import pathlib, sys
from jobimpact_daemon.sources.amdsmi import Amdsmi
sys.modules["amdsmi"] = None
for _ in range(2):
    source = Amdsmi(5, pathlib.Path({str(sys_root)!r}))
    print(source.discover(), source.read(), source.problem)
    source.close()
    pathlib.Path({str(sys_root)!r}, "module/amdgpu").mkdir(parents=True, exist_ok=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=dict(os.environ), capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    assert first == f"[] {{}} {sys_root}/module/amdgpu: the amdgpu driver is not loaded"
    assert second == "[] {} the Python package amdsmi is not installed (extra: jobimpact[amd])"


@pytest.mark.usefixtures("rig")
def test_utilisation_is_told_where_a_gpu_tells_it(tmp_path: Path) -> None:
    """Half of its cap is half busy in the stand-in; a second die tells none, and that is no 0."""
    program = """
source = amdsmi.Amdsmi(5, sys_root)
source.discover()
source.read()
out["busy"], out["again"] = source.utilisation(), source.utilisation()
source.close()
"""
    second = AmdGpu("aaff-2", steady(0, 375), 2, meters=AmdMeter.SECOND_DIE)
    out = ask(tmp_path, program, AmdGpu("aaff-1", steady(7_000_000, 375)), second)
    assert out == {"busy": {"aaff-1": 0.5}, "again": {}}
