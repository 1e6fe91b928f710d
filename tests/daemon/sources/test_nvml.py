"""NVML by the real pynvml and a stand-in library, in a child process: lost GPUs, hangs, reloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.fakes.curve import NS_PER_MS, Curve, boot_ns
from tests.fakes.rig_child import ask_child
from tests.fakes.rig_gpu import ENERGY, Code, Delay, Fault, Gpu, Reload, gpu

pytestmark = pytest.mark.usefixtures("compiled")

FOREVER = 1 << 62
PRELUDE = """
import time
from jobimpact_daemon.sources import nvml
nvml.RETRY_S = nvml.LOST_RETRY_S = 0.05
def told(source):
    return {name: getattr(one, "uj", None) if hasattr(one, "uj") else type(one).__name__
        for name, one in source.read().items()}
def wait(t): time.sleep(max(0, t - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) / 1e9)
"""


def ask(tmp_path: Path, program: str, *gpus: Gpu, **node: Any) -> Any:
    """Run `program` in a child with these GPUs, and give back its `out`."""
    return ask_child(tmp_path, PRELUDE + program, *gpus, **node)


def test_gpus_are_known_by_uuid_and_minor_number(tmp_path: Path) -> None:
    """The index order is the driver's own business; millijoules become microjoules, and a limit has headroom."""
    gpus = [gpu("GPU-a", Curve.flat(0, 0), 3, start_mj=7), gpu("GPU-b", Curve.flat(0, 0), 1, start_mj=9)]
    program = """
source = nvml.Nvml(5)
out["domains"] = [domain.name for domain in source.discover()]
out["minors"], out["problem"] = source.minors, source.problem
out["read"] = told(source)
out["max_w"] = source.read()["gpu:GPU-a"].max_w
source.close()
"""
    assert ask(tmp_path, program, *gpus) == {
        "domains": ["gpu:GPU-a", "gpu:GPU-b"],
        "minors": {"3": "GPU-a", "1": "GPU-b"},
        "problem": None,
        "read": {"gpu:GPU-a": 7000, "gpu:GPU-b": 9000},
        "max_w": 600.0,
    }


def test_a_lost_gpu_costs_no_other_gpu_and_may_come_back(tmp_path: Path) -> None:
    """While one is lost the other is read on, also after the library was opened anew; then both are read."""
    t0 = boot_ns()
    lost, back = t0 + 1500 * NS_PER_MS, t0 + 2200 * NS_PER_MS
    broken = gpu("GPU-a", Curve.flat(t0, 0), 0, start_mj=1, trouble=(Fault(Code.GPU_IS_LOST, lost, back),))
    program = f"""
source = nvml.Nvml(5)
source.discover()
out["before"] = told(source)
wait({lost + 10**8})
out["lost"] = [told(source) for _ in range(3) if not time.sleep(0.06)]
wait({back})
time.sleep(0.1)
out["back"] = told(source)
source.close()
"""
    out = ask(tmp_path, program, broken, gpu("GPU-b", Curve.flat(t0, 0), 1, start_mj=2))
    whole = {"gpu:GPU-a": 1000, "gpu:GPU-b": 2000}
    assert out["before"] == whole
    assert [one["gpu:GPU-b"] for one in out["lost"]] == [2000] * 3
    assert {one["gpu:GPU-a"] for one in out["lost"]} <= {"Failed", "Absent"}
    assert out["back"] == whole


def test_a_hung_driver_fails_at_the_deadline_and_heals(tmp_path: Path) -> None:
    """The first reading waits for the deadline, the next not at all, and a late answer is never a reading of now."""
    t0 = boot_ns()
    hang = Delay(600, t0 + 1500 * NS_PER_MS, t0 + 2000 * NS_PER_MS, (ENERGY,))
    program = f"""
source = nvml.Nvml(0.2)
source.discover()
wait({hang.from_ns})
for place in range(2):
    start = time.monotonic()
    out[str(place)] = [told(source), time.monotonic() - start]
wait({hang.from_ns} + 10**9)
out["healed"] = told(source)
source.close()
"""
    out = ask(tmp_path, program, gpu("GPU-a", Curve.flat(t0, 0), start_mj=1, trouble=(hang,)))
    assert out["0"][0] == out["1"][0] == {"gpu:GPU-a": "Failed"}
    assert 0.15 < out["0"][1] < 0.5
    assert out["1"][1] < 0.1
    assert out["healed"] == {"gpu:GPU-a": 1000}


def test_a_driver_that_is_loaded_anew_is_found_again(tmp_path: Path) -> None:
    """Sessions from before a reload are worth nothing: a new one is opened by itself."""
    t0 = boot_ns()
    reload = Reload(t0 + 1500 * NS_PER_MS, t0 + 1800 * NS_PER_MS)
    program = f"""
source = nvml.Nvml(5)
source.discover()
wait({reload.from_ns})
out["away"] = [told(source) for _ in range(3)]
wait({reload.to_ns})
time.sleep(0.1)
told(source)
time.sleep(0.1)
out["again"] = told(source)
source.close()
"""
    out = ask(tmp_path, program, gpu("GPU-a", Curve.flat(t0, 0), start_mj=10**9), reloads=[reload])
    assert out["away"] == [{"gpu:GPU-a": "Failed"}] * 3
    assert out["again"] == {"gpu:GPU-a": 0}


def test_a_gpu_without_a_counter_is_absent(tmp_path: Path) -> None:
    """Before Volta there is none: that is no failure, and no zero."""
    old = gpu("GPU-a", Curve.flat(0, 0), trouble=(Fault(Code.NOT_SUPPORTED, 0, FOREVER, (ENERGY,)),))
    program = """
source = nvml.Nvml(5)
source.discover()
out = told(source)
source.close()
"""
    assert ask(tmp_path, program, old) == {"gpu:GPU-a": "Absent"}


def test_a_node_without_a_driver_says_so(tmp_path: Path) -> None:
    """No driver: no domain, and the reason."""
    program = """
source = nvml.Nvml(5)
out = [len(source.discover()), source.problem]
source.close()
"""
    library = [Fault(Code.DRIVER_NOT_LOADED, 0, FOREVER)]
    count, problem = ask(tmp_path, program, nvml_trouble=library)
    assert count == 0
    assert "Driver Not Loaded" in problem
