"""The power rig: nodes whose meters, /proc and GPUs play exact curves, and the truth to check against.

    t0 = boot_ns()
    packages = {"package-0": Curve(t0, watts((0.3, 200), (0.2, 80))), "dram-0": Curve.flat(t0, 20_000_000)}
    node = RigNode("n1", tmp_path / "n1", rapl=packages, gpus=[gpu("GPU-a", Curve.flat(t0, 300_000_000))],
                   cpuacct=cgroup_root / "cpuacct", memory=cgroup_root / "memory")
    with PowerRig(tmp_path, node) as rig:
        ...  # run the daemon with node.powercap.root, node.proc_root, node.env
    rig.true_uj("n1", "package-0", t1, t2), rig.raw("n1", "gpu:GPU-a", t1), rig.trace().of_job("n1", "42")

Times are nanoseconds of CLOCK_BOOTTIME, energies microjoules, raw values in the counter's own unit.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.fakes.curve import Counter, Curve, Event, Sensor
from tests.fakes.rig_build import NoCompilerError, build
from tests.fakes.rig_gpu import Delay, Fault, Gpu, Reload, nvml_text
from tests.fakes.rig_powercap import MAX_RANGE_UJ, PowercapTree
from tests.fakes.rig_trace import Trace, read_trace

__all__ = ["MAX_RANGE_UJ", "NoCompilerError", "PowerRig", "PowercapTree", "RigNode", "build", "punctual"]

STOP_S = 60
BOOT_ID = "11111111-2222-4333-8444-{:012x}"


def punctual(pid: int) -> None:
    """Let a process that plays or watches run before all others, where we may: a busy machine is no power meter."""
    with suppress(PermissionError):
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))


class RigNode:
    """One node under `base`: a powercap tree, a proc folder, an NVML script.

    Args:
        name: the node's name; its cgroups are `<cpuacct>/slurm_<name>` and `<memory>/slurm_<name>`.
        jobs: another name of those folders: `oar` is read as OAR's.
        base: an empty or absent folder. `base/sys/class/powercap` and `base/proc` are made in it.
        rapl: per domain (`package-0`, `dram-0`, `core-0`, `psys`) a Curve of microwatts, or a Counter for a
            sensor, start value or events of its own. A bare curve gets a 1 ms sensor. The modulus is always
            the zone's max_energy_range_uj.
        gpus: in NVML's index order; `gpu()` makes one.
        nvml_trouble, reloads: faults and delays of the whole NVML library, driver reloads.
        mmio: also show package-0 as intel-rapl-mmio:0, which must not be counted twice.
        load: micro-CPUs that the system uses beside the jobs (1_000_000 = one CPU).
        used_mem: bytes that the system uses beside the jobs, as the curve's level.
        cpuacct, memory: cgroup v1 roots, or None for a node without jobs.
        boot_id: default one per name.

    Attributes:
        powercap: the tree; `.root` stands for /sys/class/powercap.
        proc_root: stands for /proc (`stat`, `meminfo`, `sys/kernel/random/boot_id`).
        env: FAKE_NVML and LD_LIBRARY_PATH for the daemon's process.
        counters: per domain, GPUs as `gpu:<uuid>`, the exact model.
    """

    def __init__(
        self,
        name: str,
        base: Path,
        *,
        rapl: Mapping[str, Curve | Counter],
        gpus: Sequence[Gpu] = (),
        nvml_trouble: Sequence[Fault | Delay] = (),
        reloads: Sequence[Reload] = (),
        mmio: bool = False,
        cpus: int = 16,
        mem_bytes: int = 64 << 30,
        load: Curve | None = None,
        used_mem: Curve | None = None,
        cpuacct: Path | None = None,
        memory: Path | None = None,
        boot_id: str = "",
        jobs: str = "",
    ) -> None:
        self.name, self.base, self.cpus, self.mem_bytes = name, base, cpus, mem_bytes
        self._rapl = dict(rapl)
        if mmio:
            self._rapl["mmio-0"] = self._rapl["package-0"]
        self.powercap = PowercapTree(base / "sys", self._rapl)
        self.proc_root = base / "proc"
        self.boot_id = boot_id or BOOT_ID.format(int.from_bytes(name.encode()[-6:]))
        self.load, self.used_mem = load or self._nothing(), used_mem or self._nothing()
        self._cgroups = (cpuacct or base / "none", memory or base / "none", jobs or f"slurm_{name}")
        self.counters = {domain: self._counter(domain, meter) for domain, meter in self._rapl.items()}
        self.counters |= {f"gpu:{one.uuid}": one.after(reloads).counter for one in gpus}
        self._write_static(nvml_text(gpus, nvml_trouble, reloads))

    def _nothing(self) -> Curve:
        first = next(iter(self._rapl.values()))
        return Curve.flat((first.curve if isinstance(first, Counter) else first).t0_ns, 0)

    def _counter(self, domain: str, meter: Curve | Counter) -> Counter:
        known = meter if isinstance(meter, Counter) else Counter(meter)
        return Counter(known.curve, known.start, self.powercap.max_range_uj[domain], known.sensor, known.events)

    def _write_static(self, nvml: str) -> None:
        random = self.proc_root / "sys" / "kernel" / "random"
        random.mkdir(parents=True)
        (random / "boot_id").write_text(f"{self.boot_id}\n")
        self.nvml_script = self.base / "nvml.script"
        self.nvml_script.write_text(nvml)

    @property
    def env(self) -> dict[str, str]:
        return {"FAKE_NVML": str(self.nvml_script), "LD_LIBRARY_PATH": str(build().library_dir)}

    def text(self) -> str:
        """This node's lines of powerrig's script."""
        files = self.powercap.energy_file
        lines = [f"counter {files[domain]} {self.counters[domain].text()}" for domain in self._rapl]
        words = [self.name, self.cpus, self.mem_bytes, *self._cgroups, self.proc_root]
        lines.append(f"node {' '.join(map(str, words))} {self.load.text()} {self.used_mem.text()}")
        return "\n".join(lines)


class PowerRig:
    """Plays nodes from `__enter__` (every file has its first value) to `__exit__`; the truth stays known.

    A file shows its counter as it was at most one tick (5 ms) and the rig's own lateness ago
    (`trace().max_late_ns`); NVML is computed at the call.
    """

    def __init__(self, folder: Path, *nodes: RigNode, tick_ms: int = 5) -> None:
        self.nodes = {node.name: node for node in nodes}
        self._script, self.trace_file = folder / "powerrig.script", folder / "powerrig.trace"
        lines = [f"tick {tick_ms * 1_000_000}", f"trace {self.trace_file}", *(node.text() for node in nodes)]
        if any(char.isspace() for char in str(folder)):
            raise ValueError("the rig's script cannot hold a path with white space")
        self._script.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        command = [str(build().powerrig), str(self._script)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        punctual(self._process.pid)
        if self._process.stdout is None or self._process.stdout.readline() != "ready\n":
            self._process.wait(STOP_S)
            raise RuntimeError("powerrig did not start")

    def stop(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.terminate()
        process.communicate(timeout=STOP_S)
        if process.returncode != 0:
            raise RuntimeError(f"powerrig ended with {process.returncode}")

    def counter(self, node: str, domain: str) -> Counter:
        return self.nodes[node].counters[domain]

    def true_uj(self, node: str, domain: str, t0_ns: int, t1_ns: int) -> int:
        """The energy that the domain really used from t0 to t1, in microjoules, whatever its counter showed."""
        return self.counter(node, domain).curve.between(t0_ns, t1_ns)

    def raw(self, node: str, domain: str, t_ns: int) -> int:
        """What the domain's counter says at `t_ns`: microjoules for RAPL, millijoules for a GPU."""
        return self.counter(node, domain).raw(t_ns)

    def system_cpu_ns(self, node: str, t0_ns: int, t1_ns: int) -> int:
        """The scripted CPU time beside the jobs from t0 to t1."""
        load = self.nodes[node].load
        return load.cpu_ns(t1_ns) - load.cpu_ns(t0_ns)

    def trace(self) -> Trace:
        """What was traced so far; whole after the rig stopped."""
        return read_trace(self.trace_file)


def counter(curve: Curve, *events: Event, start_uj: int = 0, refresh_ns: int = 1_000_000, lag_ns: int = 0) -> Counter:
    """A RAPL counter with a sensor, a start value and events (`reset`, `stuck`, `blip`, `unreadable`)."""
    return Counter(curve, start=start_uj, sensor=Sensor(refresh_ns, lag_ns), events=events)
