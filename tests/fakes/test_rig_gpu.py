"""The NVML stand-in, met by the real pynvml in a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.curve import NS_PER_MS, Curve, Sensor, boot_ns, reset, stuck
from tests.fakes.rig import build
from tests.fakes.rig_child import ask_child, soon_ns
from tests.fakes.rig_gpu import (
    ENERGY,
    FOREVER,
    HOPPER,
    VOLTA,
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

S = 1_000_000_000
PRELUDE = """
import time, pynvml as n
def now(): return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
def code(call, *args):
    try:
        call(*args)
    except n.NVMLError as error:
        return error.value
    return 0
def wait(t): time.sleep(max(0, t - now()) / 1e9)
"""


def ask(tmp_path: Path, program: str, *gpus: Gpu, **node: Any) -> Any:
    """Run `program` in a child with these GPUs, and give back its `out`."""
    return ask_child(tmp_path, PRELUDE + program, *gpus, **node)


def test_pynvml_sees_the_scripted_devices(tmp_path: Path) -> None:
    """Names, minors that are not indices, PCI, limits, memory, power, use and MIG come from the script."""
    t0 = boot_ns()
    one = gpu("GPU-a", Curve.flat(t0, 300_000_000), 3, used_bytes=1 << 30, mig=True)
    two = gpu("GPU-b", Curve.flat(t0, 50_000_000), 1, name="Tesla V100", limit_mw=250_000)
    program = """
n.nvmlInit()
out["versions"] = [n.nvmlSystemGetDriverVersion(), n.nvmlSystemGetNVMLVersion()]
def tell(h):
    pci, memory = n.nvmlDeviceGetPciInfo(h), n.nvmlDeviceGetMemoryInfo(h)
    return [n.nvmlDeviceGetUUID(h), n.nvmlDeviceGetName(h), n.nvmlDeviceGetMinorNumber(h), pci.busId, pci.bus,
        n.nvmlDeviceGetPowerUsage(h), n.nvmlDeviceGetEnforcedPowerLimit(h),
        -code(n.nvmlDeviceGetUtilizationRates, h) or n.nvmlDeviceGetUtilizationRates(h).gpu,
        memory.total - memory.free, n.nvmlDeviceGetIndex(h)]
handles = [n.nvmlDeviceGetHandleByIndex(i) for i in range(n.nvmlDeviceGetCount())]
out["devices"] = [tell(h) for h in handles]
out["by uuid"] = n.nvmlDeviceGetMinorNumber(n.nvmlDeviceGetHandleByUUID("GPU-b"))
out["nobody"] = code(n.nvmlDeviceGetHandleByUUID, "GPU-c")
out["mig"] = [n.nvmlDeviceGetMigMode(handles[0]), code(n.nvmlDeviceGetMigMode, handles[1])]
n.nvmlShutdown()
out["after"] = [code(n.nvmlDeviceGetCount), code(n.nvmlDeviceGetName, handles[0])]
n.nvmlInit()
out["old handle"] = code(n.nvmlDeviceGetName, handles[0])
"""
    out = ask(tmp_path, program, one, two)
    assert out["versions"] == ["550.54.15", "12.550.54.15"]
    assert out["devices"] == [
        [
            "GPU-a",
            "NVIDIA A100-SXM4-40GB",
            3,
            "00000000:04:00.0",
            4,
            300_000,
            400_000,
            -Code.NOT_SUPPORTED,
            1 << 30,
            0,
        ],
        ["GPU-b", "Tesla V100", 1, "00000000:02:00.0", 2, 50_000, 250_000, 20, 0, 1],
    ]
    assert (out["by uuid"], out["nobody"]) == (1, Code.NOT_FOUND)
    assert out["mig"] == [[1, 1], Code.NOT_SUPPORTED]
    assert out["after"] == [Code.UNINITIALIZED] * 2
    assert out["old handle"] == Code.INVALID_ARGUMENT


def test_energy_is_analytic_to_the_millijoule(tmp_path: Path) -> None:
    """Each reading is one that the model has between the times before and after the call, reset and stuck too."""
    t0 = soon_ns()
    curve = Curve(t0, [(17 * NS_PER_MS, 400_000_000), (9 * NS_PER_MS, 60_000_000)])
    sensor = Sensor(20 * NS_PER_MS, 35 * NS_PER_MS)
    one = gpu("GPU-a", curve, start_mj=10**9, sensor=sensor)
    happens = (stuck(t0 + 900 * NS_PER_MS, t0 + S), reset(t0 + S + S // 5))
    two = Gpu("GPU-b", one.counter.with_events(*happens), 1)
    program = f"""
n.nvmlInit()
handles = [n.nvmlDeviceGetHandleByIndex(i) for i in range(2)]
out = []
while now() < {t0 + S + S // 2}:
    for i, h in enumerate(handles):
        out.append([i, now(), n.nvmlDeviceGetTotalEnergyConsumption(h), now()])
    time.sleep(0.002)
"""
    readings = ask(tmp_path, program, one, two)
    assert len(readings) > 20
    for place, before, value, after in readings:
        model = (one, two)[place].counter
        grid = range(before, after, sensor.refresh_ns)
        assert value in {model.raw(t) for t in (*grid, after)}
    assert readings[-1][2] < 10**8, "the second GPU's counter restarted"


def test_faults_hit_the_scripted_calls_and_devices(tmp_path: Path) -> None:
    """A lost GPU fails alone, a fault of one call leaves the others, and a window's end ends it."""
    t0 = soon_ns()
    curve = Curve.flat(t0, 10**8)
    lost = gpu("GPU-a", curve, 0, trouble=(Fault(Code.GPU_IS_LOST, 0, t0 + S + S // 2),))
    poor = gpu("GPU-b", curve, 1, trouble=(Fault(Code.NOT_SUPPORTED, 0, FOREVER, (ENERGY,)),))
    library = [Fault(Code.NO_PERMISSION, 0, FOREVER, ("nvmlDeviceGetMigMode",))]
    program = f"""
n.nvmlInit()
out["lost"] = code(n.nvmlDeviceGetHandleByIndex, 0)
b = n.nvmlDeviceGetHandleByIndex(1)
calls = n.nvmlDeviceGetTotalEnergyConsumption, n.nvmlDeviceGetPowerUsage, n.nvmlDeviceGetMigMode
out["poor"] = [code(call, b) for call in calls]
wait({t0 + S + S // 2})
out["back"] = code(n.nvmlDeviceGetTotalEnergyConsumption, n.nvmlDeviceGetHandleByIndex(0))
"""
    out = ask(tmp_path, program, lost, poor, nvml_trouble=library)
    assert out["lost"] == Code.GPU_IS_LOST
    assert out["poor"] == [Code.NOT_SUPPORTED, 0, Code.NO_PERMISSION]
    assert out["back"] == 0


def test_a_delay_hangs_only_its_call(tmp_path: Path) -> None:
    """A hung energy call takes its scripted time; another GPU and other calls answer at once."""
    t0 = boot_ns()
    hung = gpu("GPU-a", Curve.flat(t0, 1), 0, trouble=(Delay(3000, 0, FOREVER, (ENERGY,)),))
    program = """
n.nvmlInit()
for i in range(2):
    h = n.nvmlDeviceGetHandleByIndex(i)
    for call in n.nvmlDeviceGetTotalEnergyConsumption, n.nvmlDeviceGetPowerUsage:
        start = now()
        call(h)
        out[f"{i} {call.__name__}"] = (now() - start) / 1e9
"""
    out = ask(tmp_path, program, hung, gpu("GPU-b", Curve.flat(t0, 1), 1))
    assert out.pop(f"0 {ENERGY}") >= 3
    assert max(out.values()) < 2.5


def test_a_driver_reload_needs_a_new_session(tmp_path: Path) -> None:
    """In the window inits fail; the old session fails even after it; the new one counts from 0."""
    t0 = soon_ns()
    gone, back = t0 + 1200 * NS_PER_MS, t0 + 1700 * NS_PER_MS
    one = gpu("GPU-a", Curve.flat(t0, 10**8), start_mj=10**9)
    program = f"""
energy = n.nvmlDeviceGetTotalEnergyConsumption
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
out["old"] = energy(h)
wait({gone})
out["in"] = [code(energy, h)]
n.nvmlShutdown()
out["in"].append(code(n.nvmlInit))
wait({back})
out["uninitialised"] = code(energy, h)
n.nvmlInit()
out["new"] = energy(n.nvmlDeviceGetHandleByIndex(0))
"""
    out = ask(tmp_path, program, one, reloads=[Reload(gone, back)])
    assert out["old"] >= 10**9
    assert out["in"] == [Code.UNKNOWN, Code.DRIVER_NOT_LOADED]
    assert out["uninitialised"] == Code.UNINITIALIZED
    assert out["new"] < 10**6


def test_a_session_kept_over_a_reload_stays_broken(tmp_path: Path) -> None:
    """Waiting alone does not heal: a session from before the reload fails after it too."""
    t0 = soon_ns()
    gone, back = t0 + 1200 * NS_PER_MS, t0 + 1250 * NS_PER_MS
    program = f"""
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
wait({back} + 10**7)
out["late"] = code(n.nvmlDeviceGetTotalEnergyConsumption, h)
"""
    reload = Reload(gone, back, Code.GPU_IS_LOST)
    assert ask(tmp_path, program, gpu("GPU-a", Curve.flat(t0, 1)), reloads=[reload]) == {"late": Code.GPU_IS_LOST}


def test_power_is_told_by_scope_and_window(tmp_path: Path) -> None:
    """Instants follow the curve, averages its last second, a module adds its own; what is lacking is not supported."""
    t0 = boot_ns()
    curve = Curve(t0 - 10 * S, [(S // 10, 400_000_000), (S // 10, 200_000_000)])
    every = Meter.INSTANT | Meter.AVERAGE | Meter.MODULE_INSTANT | Meter.USAGE
    one = gpu("GPU-a", curve, 0, meters=every, arch=HOPPER, module_mw=50_000, average_ms=1000)
    two = gpu("GPU-b", curve, 1, meters=Meter.ENERGY, arch=VOLTA)
    program = """
n.nvmlInit()
ids = [(n.NVML_FI_DEV_POWER_INSTANT, 0), (n.NVML_FI_DEV_POWER_AVERAGE, 0), (n.NVML_FI_DEV_POWER_INSTANT, 1),
    (n.NVML_FI_DEV_POWER_AVERAGE, 1), (n.NVML_FI_DEV_POWER_INSTANT, 2), n.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION]
for i in range(2):
    h = n.nvmlDeviceGetHandleByIndex(i)
    got = n.nvmlDeviceGetFieldValues(h, ids)
    out[str(i)] = [one.value.uiVal if one.nvmlReturn == 0 else -one.nvmlReturn for one in got[:5]]
    out[f"energy {i}"] = got[5].nvmlReturn
    out[f"usage {i}"] = code(n.nvmlDeviceGetPowerUsage, h)
    out[f"arch {i}"] = n.nvmlDeviceGetArchitecture(h)
out["usage"] = n.nvmlDeviceGetPowerUsage(n.nvmlDeviceGetHandleByIndex(0))
"""
    out = ask(tmp_path, program, one, two)
    instant, average, module, *lacking = out["0"]
    assert instant in (400_000, 200_000)
    assert module in (450_000, 250_000)
    assert (average, out["usage"]) == (300_000, 300_000)
    assert lacking == [-Code.NOT_SUPPORTED] * 2
    assert out["1"] == [-Code.NOT_SUPPORTED] * 5
    assert (out["energy 0"], out["energy 1"]) == (Code.NOT_SUPPORTED, 0)
    assert (out["usage 0"], out["usage 1"]) == (0, Code.NOT_SUPPORTED)
    assert (out["arch 0"], out["arch 1"]) == (HOPPER, VOLTA)


def test_mig_devices_have_handles_of_their_own(tmp_path: Path) -> None:
    """By index and by UUID, with ids, slices, parent and processes; energy is told of the parent alone."""
    devices = (Mig("MIG-1", 1, 3), Mig("MIG-2", 5, 2, ci=1, gi_slices=4), Mig("MIG-3", 6, 1, to_ns=1))
    there = (Process(11, gi=1, ci=0), Process(12, gi=5, ci=1), Process(13, gi=5, ci=1, graphics=True))
    one = gpu("GPU-a", Curve.flat(0, 0), mig=True, instances=devices, processes=there)
    program = """
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
for index in range(n.nvmlDeviceGetMaxMigDeviceCount(h)):
    found = code(n.nvmlDeviceGetMigDeviceHandleByIndex, h, index)
    if found: out[str(index)] = found; continue
    mig = n.nvmlDeviceGetMigDeviceHandleByIndex(h, index)
    told = n.nvmlDeviceGetAttributes(mig)
    parent = n.nvmlDeviceGetUUID(n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig))
    out[str(index)] = [n.nvmlDeviceGetUUID(mig),
        n.nvmlDeviceGetGpuInstanceId(mig), n.nvmlDeviceGetComputeInstanceId(mig),
        told.computeInstanceSliceCount, told.gpuInstanceSliceCount, parent,
        [one.pid for one in n.nvmlDeviceGetComputeRunningProcesses(mig)],
        [one.pid for one in n.nvmlDeviceGetGraphicsRunningProcesses(mig)],
        code(n.nvmlDeviceGetTotalEnergyConsumption, mig)]
out["parent"] = [[one.pid, one.gpuInstanceId, one.computeInstanceId]
    for one in n.nvmlDeviceGetComputeRunningProcesses(h)]
out["by uuid"] = n.nvmlDeviceGetGpuInstanceId(n.nvmlDeviceGetHandleByUUID("MIG-2"))
out["gone"] = code(n.nvmlDeviceGetHandleByUUID, "MIG-3")
out["utilisation"] = code(n.nvmlDeviceGetProcessUtilization, h, 0)
out["not one"] = code(n.nvmlDeviceGetGpuInstanceId, h)
"""
    out = ask(tmp_path, program, one)
    lacking = Code.NOT_SUPPORTED
    assert out["0"] == ["MIG-1", 1, 0, 3, 3, "GPU-a", [11], [], lacking]
    assert out["1"] == ["MIG-2", 5, 1, 2, 4, "GPU-a", [12], [13], lacking]
    assert {out[str(index)] for index in range(2, 7)} == {Code.NOT_FOUND}
    assert out["parent"] == [[11, 1, 0], [12, 5, 1]]
    assert (out["by uuid"], out["gone"], out["utilisation"]) == (5, Code.NOT_FOUND, lacking)
    assert out["not one"] == Code.INVALID_ARGUMENT


def test_utilisation_is_told_since_a_time_in_microseconds(tmp_path: Path) -> None:
    """One line for each process that was busy since; nothing new is NOT_FOUND; a time in seconds gets all of it."""
    t0 = boot_ns()
    ended = Process(12, 80, t0 - 5 * S, t0 - 2 * S)
    one = gpu("GPU-a", Curve.flat(0, 0), processes=(Process(11, 40), ended))
    program = """
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
wall = time.time_ns() // 1000
def told(since):
    return [[one.pid, one.smUtil, wall - one.timeStamp] for one in n.nvmlDeviceGetProcessUtilization(h, since)]
out["all"], out["seconds"], out["recent"] = told(0), told(wall // 10**6), told(wall - 10**6)
out["new"] = code(n.nvmlDeviceGetProcessUtilization, h, wall + 10**6)
"""
    out = ask(tmp_path, program, one)
    assert [row[:2] for row in out["recent"]] == [[11, 40]]
    assert out["recent"][0][2] < 150_000  # or later than `wall`, where the machine paused
    assert [row[0] for row in out["all"]] == [row[0] for row in out["seconds"]] == [11, 12]
    assert out["all"][1][2] > 1_850_000
    assert out["new"] == Code.NOT_FOUND


def test_without_a_script_there_is_no_driver(tmp_path: Path) -> None:
    """A missing script is a missing driver."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(build().library_dir), "FAKE_NVML": str(tmp_path / "none")}
    source = f"{PRELUDE}\nprint(code(n.nvmlInit))"
    done = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) == Code.DRIVER_NOT_LOADED
