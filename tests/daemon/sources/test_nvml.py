"""NVML by the real pynvml and a stand-in library, in a child process: meters, MIG, shared GPUs, every fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.curve import NS_PER_MS, NS_PER_S, Curve, boot_ns
from tests.fakes.rig_child import ask_child, soon_ns
from tests.fakes.rig_gpu import (
    AMPERE,
    BLACKWELL,
    BUSY,
    ENERGY,
    FIELDS,
    FOREVER,
    HOPPER,
    PASCAL,
    POWER,
    UTILISATION,
    Busy,
    Code,
    Delay,
    Fault,
    Gpu,
    Meter,
    Mig,
    Process,
    Reload,
    gpu,
)

pytestmark = pytest.mark.usefixtures("compiled")

PRELUDE = """
import time
from jobimpact_daemon.sources import nvml
nvml.RETRY_S = nvml.LOST_RETRY_S = nvml.MAX_LOST_RETRY_S = 0.05
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
        "max_w": 480.0,
    }


def test_a_lost_gpu_costs_no_other_gpu_and_may_come_back(tmp_path: Path) -> None:
    """While one is lost the other is read on, also after the library was opened anew; then both are read."""
    t0 = soon_ns()
    lost, back = t0 + 1500 * NS_PER_MS, t0 + 2200 * NS_PER_MS
    broken = gpu("GPU-a", Curve.flat(t0, 0), 0, start_mj=1, trouble=(Fault(Code.GPU_IS_LOST, lost, back),))
    program = f"""
source = nvml.Nvml(5)
source.discover()
out["before"] = told(source)
wait({lost + 10**8})
out["lost"] = [told(source) for _ in range(3) if not time.sleep(0.06)]
wait({back})
out["back"] = healed(source)
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
    t0 = soon_ns()
    hang = Delay(3000, t0 + 1500 * NS_PER_MS, t0 + 2000 * NS_PER_MS, (ENERGY,))
    program = f"""
source = nvml.Nvml(0.2)
while not source.discover(): time.sleep(0.05)
wait({hang.from_ns})
start = time.monotonic()
out["first"], out["first_s"] = told(source), time.monotonic() - start
start = time.monotonic()
out["then"], out["then_s"] = [told(source) for _ in range(10)], time.monotonic() - start
wait({hang.from_ns} + 3 * 10**9)
out["healed"] = healed(source)
source.close()
"""
    out = ask(tmp_path, program, gpu("GPU-a", Curve.flat(t0, 0), start_mj=1, trouble=(hang,)))
    assert out["first"] == {"gpu:GPU-a": "Failed"}
    assert 0.15 < out["first_s"] < 2.5
    assert out["then"] == [out["first"]] * 10
    assert out["then_s"] < 1.5, "2 s, if each waited for the deadline"
    assert out["healed"] == {"gpu:GPU-a": 1000}


def test_a_driver_that_is_loaded_anew_is_found_again(tmp_path: Path) -> None:
    """Sessions from before a reload are worth nothing: a new one is opened by itself."""
    t0 = soon_ns()
    reload = Reload(t0 + 1500 * NS_PER_MS, t0 + 1800 * NS_PER_MS)
    program = f"""
source = nvml.Nvml(5)
source.discover()
wait({reload.from_ns})
out["away"] = [told(source) for _ in range(3)]
wait({reload.to_ns})
out["again"] = healed(source)
source.close()
"""
    out = ask(tmp_path, program, gpu("GPU-a", Curve.flat(t0, 0), start_mj=10**9), reloads=[reload])
    assert out["away"] == [{"gpu:GPU-a": "Failed"}] * 3
    assert out["again"] == {"gpu:GPU-a": 0}


def test_a_hung_gpu_costs_no_other_gpu_its_readings(tmp_path: Path) -> None:
    """The others are read in the very tick in which it hangs, whatever their order, and at full rate afterwards."""
    t0 = soon_ns()
    hang = Delay(4000, t0 + 1500 * NS_PER_MS, t0 + 2200 * NS_PER_MS, (ENERGY,))
    gpus = [gpu(f"GPU-{name}", Curve.flat(t0, 0), minor, start_mj=minor) for minor, name in enumerate("abc")]
    gpus[1] = replace(gpus[1], trouble=(hang,))
    program = f"""
source = nvml.Nvml(0.6)
while len(source.discover()) < 3: time.sleep(0.05)
wait({hang.from_ns})
start = time.monotonic()
out["first"], out["first_s"] = told(source), time.monotonic() - start
start = time.monotonic()
out["then"], out["then_s"] = [told(source) for _ in range(4)], time.monotonic() - start
out["problem"] = source.problem
wait({hang.from_ns} + 4 * 10**9)
out["healed"], out["well"] = healed(source), source.problem
source.close()
"""
    out = ask(tmp_path, program, *gpus)
    hung = {"gpu:GPU-a": 0, "gpu:GPU-b": "Failed", "gpu:GPU-c": 2000}
    assert out["first"] == hung
    assert 0.5 < out["first_s"] < 3.5
    assert out["then"] == [hung] * 4
    assert out["then_s"] < 2, "2.4 s, if each waited for the deadline"
    assert "GPU-b: timeout" in out["problem"]
    assert (out["healed"], out["well"]) == (hung | {"gpu:GPU-b": 1000}, None)


def test_the_epoch_is_of_the_driver_as_loaded(tmp_path: Path) -> None:
    """Lost and found in one load: the same epoch, so that the gap's energy is kept; loaded anew: another."""
    t0 = soon_ns()
    module = tmp_path / "sys/module/nvidia"
    module.mkdir(parents=True)
    lost = Fault(Code.GPU_IS_LOST, t0 + 1200 * NS_PER_MS, t0 + 1600 * NS_PER_MS)
    reload = Reload(t0 + 2000 * NS_PER_MS, t0 + 2300 * NS_PER_MS)
    program = f"""
import os, pathlib
module = pathlib.Path({str(module)!r})
source = nvml.Nvml(5, module.parents[1])
source.discover()
def epoch():
    healed(source)
    return source.read()["gpu:GPU-a"].epoch
out["first"] = epoch()
wait({lost.from_ns})
out["lost"] = told(source)
wait({lost.to_ns})
time.sleep(0.1)
out["found"] = epoch()
wait({reload.from_ns})
out["away"] = told(source)
(module.parent / "new").mkdir()
module.rmdir()
(module.parent / "new").rename(module)
wait({reload.to_ns})
time.sleep(0.1)
out["reloaded"] = epoch()
source.close()
"""
    out = ask(tmp_path, program, gpu("GPU-a", Curve.flat(t0, 0), trouble=(lost,)), reloads=[reload])
    assert out["lost"] == out["away"] == {"gpu:GPU-a": "Failed"}
    assert out["first"].startswith("nvidia.")
    assert out["found"] == out["first"] != out["reloaded"]


def test_the_kernel_numbers_what_it_makes_anew(tmp_path: Path) -> None:
    """What the epoch rests on: in kernfs (of /sys, and of cgroups) a folder keeps its number, and no two have one."""
    module = next(iter(sorted(Path("/sys/module").iterdir())), None) if Path("/sys/module").is_dir() else None
    if module is None:
        pytest.skip("this kernel shows no modules")
    assert {module.stat().st_ino for _ in range(3)} == {module.stat().st_ino}
    roots = [Path("/sys/fs/cgroup/cpuacct"), Path("/sys/fs/cgroup")]
    folder = next((root for root in roots if root.is_dir()), tmp_path) / f"jobimpact-test-{tmp_path.name}"
    numbers = []
    for _ in range(3):
        try:
            folder.mkdir()
        except OSError as error:
            pytest.skip(f"{folder}: {error.strerror}")
        numbers.append(folder.stat().st_ino)
        folder.rmdir()
    assert len(set(numbers)) == 3


ALL = Meter.ENERGY | Meter.USAGE | Meter.INSTANT | Meter.AVERAGE
MODULE = Meter.MODULE_INSTANT | Meter.MODULE_AVERAGE


@pytest.mark.parametrize(
    ("gpu_fields", "name", "method", "latency_s", "reading"),
    [
        ({}, "gpu", "counter", None, 7000),
        ({"meters": ALL & ~Meter.ENERGY, "arch": BLACKWELL}, "gpu", "gauge", None, 300.0),
        ({"meters": Meter.AVERAGE | Meter.USAGE, "arch": BLACKWELL}, "gpu", "gauge", 1.0, 300.0),
        ({"meters": Meter.USAGE, "arch": PASCAL, "name": "Tesla P100-PCIE-16GB"}, "gpu", "gauge", None, 300.0),
        ({"meters": Meter.USAGE, "arch": AMPERE, "name": "NVIDIA RTX A2000"}, "gpu", "gauge", 1.0, 300.0),
        ({"meters": Meter.USAGE, "arch": AMPERE}, "gpu", "gauge", None, 300.0),
        ({"meters": MODULE, "arch": HOPPER, "module_mw": 150_000}, "module", "gauge", None, 450.0),
        ({"meters": Meter.MODULE_AVERAGE | Meter.USAGE, "module_mw": 150_000}, "module", "gauge", 1.0, 450.0),
        ({"meters": ALL | MODULE, "arch": HOPPER}, "module", "counter", None, 7000),
        ({"meters": ALL | MODULE, "arch": BLACKWELL}, "gpu", "counter", None, 7000),
        ({"meters": Meter(0)}, "gpu", "counter", None, "Absent"),
    ],
)
def test_each_gpu_is_read_by_the_best_that_it_has(
    tmp_path: Path, gpu_fields: dict[str, Any], name: str, method: str, latency_s: float | None, reading: object
) -> None:
    """Counters before power, instants before averages; a module's power is never called a GPU's."""
    t0 = boot_ns()
    watts = 0 if isinstance(reading, int) else 300_000_000
    program = """
source = nvml.Nvml(5)
out["domains"] = [[one.name, one.kind, one.method, one.latency_s] for one in source.discover()]
out["read"], out["problem"] = told(source), source.problem
source.close()
"""
    out = ask(tmp_path, program, gpu("GPU-a", Curve.flat(t0 - 5 * NS_PER_S, watts), start_mj=7, **gpu_fields))
    assert out["domains"] == [[f"{name}:GPU-a", "gpu", method, latency_s]]
    assert out["read"] == {f"{name}:GPU-a": reading}
    assert ("CPU's is inside it" in (out["problem"] or "")) == (name == "module")
    assert ("average over 1 s" in (out["problem"] or "")) == (latency_s is not None)


@pytest.mark.parametrize(
    ("code", "calls", "kind", "says"),
    [
        (
            Code.NO_PERMISSION,
            (ENERGY, FIELDS, POWER),
            "Absent",
            "the driver does not tell this user",
        ),
        (Code.GPU_IS_LOST, (ENERGY,), "Failed", "fallen off its bus"),
        (Code.RESET_REQUIRED, (ENERGY,), "Failed", "needs a reset"),
        (Code.TIMEOUT, (ENERGY,), "Failed", "Timeout"),
        (Code.UNKNOWN, (ENERGY,), "Failed", "Unknown"),
    ],
)
def test_one_gpus_error_is_told_in_plain_words_and_is_its_own(
    tmp_path: Path, code: Code, calls: tuple[str, ...], kind: str, says: str
) -> None:
    """The other GPU is read at every tick meanwhile, also where the library is opened anew."""
    broken = gpu("GPU-a", Curve.flat(0, 0), 0, trouble=(Fault(code, 0, FOREVER, calls),))
    program = """
source = nvml.Nvml(5)
source.discover()
out["read"] = [told(source) for _ in range(4) if not time.sleep(0.03)]
out["words"] = words(source)["gpu:GPU-a"]
source.close()
"""
    out = ask(tmp_path, program, broken, gpu("GPU-b", Curve.flat(0, 0), 1, start_mj=2))
    assert out["read"] == [{"gpu:GPU-a": kind, "gpu:GPU-b": 2000}] * 4
    assert says in out["words"]


def test_a_driver_that_was_changed_under_its_library_says_what_to_do(tmp_path: Path) -> None:
    """After an upgrade in place the library and the driver do not fit until the daemon starts anew."""
    t0 = soon_ns()
    mismatch = Fault(Code.LIB_RM_VERSION_MISMATCH, t0 + 1200 * NS_PER_MS, FOREVER)
    program = f"""
source = nvml.Nvml(5)
source.discover()
out["before"] = told(source)
wait({mismatch.from_ns})
told(source), time.sleep(0.1)
out["after"], out["problem"] = words(source), source.problem
source.close()
"""
    out = ask(tmp_path, program, gpu("GPU-a", Curve.flat(t0, 0), start_mj=1), nvml_trouble=[mismatch])
    assert out["before"] == {"gpu:GPU-a": 1000}
    assert "restart jobimpactd" in out["after"]["gpu:GPU-a"]
    assert "restart jobimpactd" in out["problem"]


def test_a_node_without_the_library_says_so(tmp_path: Path) -> None:
    """No libnvidia-ml.so.1: no domain, and the reason. It may be installed later."""
    program = """
import os
source = nvml.Nvml(5)
out = [len(source.discover()), source.problem]
source.close()
"""
    environment = {key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"}
    source = f"import json\nout = {{}}\n{PRELUDE}{program}\nprint(json.dumps(out))"
    done = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=True)
    count, problem = json.loads(done.stdout)
    if count:
        pytest.skip("this machine has an NVIDIA driver of its own")
    assert count == 0
    assert "not installed" in problem or "not loaded" in problem


def test_mig_devices_are_slices_of_their_gpu(tmp_path: Path) -> None:
    """Compute slices of all that the GPU has, as the driver tells them; a new layout is seen at a discovery."""
    t0 = soon_ns()
    later = t0 + 1500 * NS_PER_MS
    large = (Mig("MIG-1", 1, 3, to_ns=later), Mig("MIG-2", 2, 1, ci=0, gi_slices=3), Mig("MIG-3", 2, 2, 1, 3))
    a100 = gpu("GPU-a", Curve.flat(t0, 0), 0, start_mj=5, mig=True, instances=large)
    a30 = gpu("GPU-b", Curve.flat(t0, 0), 1, mig=True, slices=4, instances=(Mig("MIG-4", 0, 2),))
    program = f"""
def slices(): return {{uuid: [one.gpu, one.parts, one.of] for uuid, one in source.slices.items()}}
source = nvml.Nvml(5)
out["domains"] = [one.name for one in source.discover()]
out["slices"], out["read"] = slices(), told(source)
wait({later})
source.discover()
out["later"] = sorted(slices())
source.close()
"""
    out = ask(tmp_path, program, a100, a30, gpu("GPU-c", Curve.flat(t0, 0), 2, mig=False))
    assert out["domains"] == ["gpu:GPU-a", "gpu:GPU-b", "gpu:GPU-c"]
    assert out["slices"] == {
        "MIG-1": ["GPU-a", 3, 7],
        "MIG-2": ["GPU-a", 1, 7],
        "MIG-3": ["GPU-a", 2, 7],
        "MIG-4": ["GPU-b", 2, 4],
    }
    assert out["read"]["gpu:GPU-a"] == 5000
    assert out["later"] == ["MIG-2", "MIG-3", "MIG-4"]


def test_busy_times_of_a_shared_gpu_are_those_of_its_processes(tmp_path: Path) -> None:
    """Two processes of 60 and 20 %, one of which starts later; nobody asks for a GPU that is not watched."""
    t0 = soon_ns()
    start, end = t0 + 2000 * NS_PER_MS, t0 + 4000 * NS_PER_MS
    shared = gpu("GPU-a", Curve.flat(t0, 0), 0, processes=(Process(11, 60), Process(12, 20, start), Process(13, 999)))
    slow = Delay(3000, 0, FOREVER, (UTILISATION,))
    alone = gpu("GPU-b", Curve.flat(t0, 0), 1, processes=(Process(14),), trouble=(slow,))
    program = f"""
source = nvml.Nvml(5)
source.discover()
told(source)
out["unwatched"] = source.use()
source.watch({{"GPU-a"}})
now = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME)
told(source)
out["from"] = now()
while now() < {end}:
    told(source), time.sleep(0.15)
out["to"], out["use"] = now(), source.use()
source.watch(set())
told(source), time.sleep(0.3), told(source)
out["left"] = source.use()
source.close()
"""
    out = ask(tmp_path, program, shared, alone)
    assert out["unwatched"] == {}
    assert set(out["use"]) == {"GPU-a"}
    busy = {int(pid): ns for pid, ns in out["use"]["GPU-a"].items()}
    truth = {11: 0.6 * (out["to"] - out["from"]), 12: 0.2 * (out["to"] - start)}
    assert set(busy) == {11, 12}, "an impossible utilisation is left out"
    for pid, ns in truth.items():
        assert busy[pid] == pytest.approx(ns, abs=3.5e8 * ns / (out["to"] - out["from"]) + 5e7)
    assert out["left"] == out["use"]


def test_on_a_mig_device_a_process_is_busy_while_it_is_there(tmp_path: Path) -> None:
    """The driver tells no utilisation there: presence counts in full, on the process's own instance."""
    t0 = soon_ns()
    end = t0 + 2500 * NS_PER_MS
    devices = (Mig("MIG-1", 1, 3), Mig("MIG-2", 2, 3))
    there = (Process(11, gi=1, ci=0), Process(12, gi=2, ci=0, to_ns=end), Process(13, gi=2, ci=0, graphics=True))
    one = gpu("GPU-a", Curve.flat(t0, 0), mig=True, instances=devices, processes=there)
    program = f"""
source = nvml.Nvml(5)
source.discover()
source.watch({{"MIG-1"}})
told(source)
start = time.monotonic()
out["use"] = []
for place in (1, 2):
    time.sleep(0.2)
    told(source)
    out["use"].append([source.use(), (time.monotonic() - start) * 1e9])
wait({end})
told(source)
first = source.use()
time.sleep(0.2), told(source)
out["gone"] = source.use()["MIG-2"][12] == first["MIG-2"][12]
out["problem"] = source.problem
source.close()
"""
    out = ask(tmp_path, program, one)
    for use, elapsed_ns in out["use"]:
        assert {uuid: sorted(busy) for uuid, busy in use.items()} == {"MIG-1": ["11"], "MIG-2": ["12", "13"]}
        assert all(ns == pytest.approx(elapsed_ns, abs=5e7) for busy in use.values() for ns in busy.values())
    assert out["gone"]
    assert out["problem"] is None


def test_a_hang_over_who_uses_a_gpu_costs_no_energy(tmp_path: Path) -> None:
    """The counter was read before, and is read on while that call hangs; the problem is told."""
    t0 = soon_ns()
    hang = Delay(5000, t0 + 1200 * NS_PER_MS, FOREVER, (UTILISATION,))
    shared = gpu("GPU-a", Curve.flat(t0, 0), start_mj=1, processes=(Process(11),), trouble=(hang,))
    program = f"""
source = nvml.Nvml(1.0)
source.discover()
source.watch({{"GPU-a"}})
told(source)
wait({hang.from_ns})
out["read"] = [told(source) for _ in range(3)]
out["problem"] = source.problem
source.close()
"""
    out = ask(tmp_path, program, shared)
    assert out["read"] == [{"gpu:GPU-a": 1000}] * 3
    assert "timeout" in out["problem"]


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


def test_utilisation_is_told_once_and_not_in_mig_mode(tmp_path: Path) -> None:
    """Of whole GPUs, from 0 to 1; a GPU in MIG mode and one that refuses are not known, and no 0."""
    refuses = (Fault(Code.NOT_SUPPORTED, 0, FOREVER, (BUSY,)),)
    flat = Curve.flat(0, 0)
    gpus = [gpu("GPU-a", flat, 0, busy=(Busy(35),)), gpu("GPU-b", flat, 1, busy=(Busy(0),))]
    gpus += [gpu("GPU-c", flat, 2, mig=True), gpu("GPU-d", flat, 3, trouble=refuses)]
    program = """
source = nvml.Nvml(5)
source.discover()
out["read"] = told(source)
out["first"], out["again"] = source.utilisation(), source.utilisation()
source.read()
out["soon"] = source.utilisation()
nvml.UTILISATION_S = source._utilisation_at = 0
source.read()
out["later"], out["problem"] = source.utilisation(), source.problem
source.close()
"""
    out = ask(tmp_path, program, *gpus)
    assert set(out["read"]) == {"gpu:GPU-a", "gpu:GPU-b", "gpu:GPU-c", "gpu:GPU-d"}
    assert out["first"] == out["later"] == {"GPU-a": 0.35, "GPU-b": 0.0}
    assert (out["again"], out["soon"], out["problem"]) == ({}, {}, None)


def test_a_utilisation_that_hangs_costs_no_energy(tmp_path: Path) -> None:
    """The GPU is read on, and the others tell their utilisation; it is told again once the call has come back."""
    hangs = (Delay(60_000, 0, FOREVER, (BUSY,)),)
    gpus = [gpu("GPU-a", Curve.flat(0, 0), 0, start_mj=7, trouble=hangs)]
    gpus += [gpu("GPU-b", Curve.flat(0, 0), 1, start_mj=9, busy=(Busy(50),))]
    program = """
source = nvml.Nvml(0.3)
source.discover()
out["first"] = told(source)
for _ in range(600):
    out["read"] = told(source)
    out["busy"] = out.get("busy") or source.utilisation()
    if out["busy"]: break
    source._utilisation_at = 0
    time.sleep(0.05)
out["problem"] = source.problem
"""
    out = ask(tmp_path, program, *gpus)
    assert out["first"] == out["read"] == {"gpu:GPU-a": 7000, "gpu:GPU-b": 9000}
    assert out["busy"] == {"GPU-b": 0.5}
    assert "gpu:GPU-a: timeout" in out["problem"]
