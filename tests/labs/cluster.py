"""A measured cluster: the real Slurm lab, a power rig for each node, and a daemon for each node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.fakes.curve import Curve, Sensor, boot_ns, watts
from tests.fakes.rig import PowerRig, RigNode
from tests.fakes.rig_gpu import gpu
from tests.labs.slurm.lab import SlurmLab, until

CPUS, MEM_BYTES = 8, 8000 << 20
IDLE_W = {"package-0": 40.0, "package-1": 35.0, "dram-0": 6.0}
SYSTEM_CPUS = 0.3
SYSTEM_BYTES = 1500 << 20
GPU_REFRESH_NS = 20_000_000
BIN = Path(sys.executable).parent


class MeasuredCluster:
    """Every node of a lab with meters of its own and `jobimpactd run --record`.

    Args:
        lab: the running lab.
        nodes: the nodes that are measured.
        folder: an empty folder, for stores, results and recordings.
    """

    def __init__(self, lab: SlurmLab, nodes: list[str], folder: Path) -> None:
        self.lab, self.nodes, self.folder = lab, nodes, folder
        self._clear_marks()
        self.store = folder / "store"
        self.rig = PowerRig(folder, *(self._node(place, name) for place, name in enumerate(nodes)))
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.account_config = folder / "account.yaml"
        self._write_account_config()

    def _clear_marks(self) -> None:
        """Nobody took the marks of earlier jobs, and those of this cluster are of another boot."""
        self.lab.wait_idle()
        for name in self.nodes:
            for mark in (self.lab.node_dir(name) / "marks").glob("*"):
                mark.unlink()

    def _node(self, place: int, name: str) -> RigNode:
        now = boot_ns()
        more = place * 0.03

        def curve(*steps: tuple[float, float]) -> Curve:
            return Curve(now, watts(*((seconds + more, level) for seconds, level in steps)))

        rapl = {
            "package-0": curve((0.13, 180), (0.29, 60), (0.41, 140), (0.17, 90)),
            "package-1": curve((0.31, 50), (0.07, 210), (0.23, 80)),
            "dram-0": curve((0.19, 22), (0.37, 10), (0.11, 31)),
        }
        gpus = []
        if name in self.lab.gpu_nodes:
            # NVML's order is not the minor numbers' order.
            for minor in (2, 0, 3, 1):
                power = curve((0.21 + 0.05 * minor, 300 - 40 * minor), (0.33, 60 + 20 * minor))
                gpus.append(gpu(uuid(name, minor), power, minor, sensor=Sensor(GPU_REFRESH_NS), mem_bytes=40 << 30))
        proc = self.lab.node_dir(name) / "proc"
        base = self.folder / "rig" / name
        node = RigNode(
            name,
            base,
            rapl=rapl,
            gpus=gpus,
            mmio=True,
            cpus=CPUS,
            mem_bytes=MEM_BYTES,
            load=Curve.flat(now, round(SYSTEM_CPUS * 1e6)),
            used_mem=Curve.flat(now, SYSTEM_BYTES),
            cpuacct=Path("/sys/fs/cgroup/cpuacct"),
            memory=Path("/sys/fs/cgroup/memory"),
        )
        proc.unlink()
        proc.symlink_to(node.proc_root)
        return node

    def __enter__(self) -> Self:
        self.rig.start()
        for name in self.nodes:
            self.start(name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self.daemons):
            self.stop(name)
        self.rig.stop()
        for name in self.nodes:
            proc = self.lab.node_dir(name) / "proc"
            proc.unlink()
            proc.symlink_to("/proc")

    # -- daemons -----------------------------------------------------------------------------------------------

    def config(self, name: str) -> Path:
        """The node's configuration file."""
        path = self.folder / f"{name}.yaml"
        node = self.rig.nodes[name]
        sources = {"rapl": {"root": str(node.powercap.root), "idle_w": IDLE_W}, "nvml": {}}
        text = {
            "cluster": "lab",
            "store": {"local": {"path": str(self.store)}},
            "results": f"sqlite:///{self.folder}/results.db",
            "node": {
                "name": name,
                "marks": str(self.lab.node_dir(name) / "marks"),
                "proc_root": str(node.proc_root),
                "sources": sources,
            },
        }
        path.write_text(json.dumps(text), encoding="utf-8")
        return path

    def recording(self, name: str) -> Path:
        """What the node's daemon read."""
        return self.folder / f"{name}.jsonl"

    def wait_reading(self, timeout: float) -> None:
        """Wait until every daemon has read everything once."""
        self._wait(self._reads, timeout)

    def wait_booked(self, timeout: float) -> None:
        """Wait until every daemon has booked all of its marks."""
        self._wait(lambda name: not self._marks(name), timeout)

    def _wait(self, done: Callable[[str], bool], timeout: float) -> None:
        def all_done() -> bool:
            for name, daemon in self.daemons.items():
                assert daemon.poll() is None, (self.folder / f"{name}.log").read_text(encoding="utf-8")
            return all(map(done, self.daemons))

        until(all_done, timeout, lambda: f"not done: {[name for name in self.daemons if not done(name)]}")

    def _reads(self, name: str) -> bool:
        path = self.recording(name)
        return path.exists() and '"read"' in path.read_text(encoding="utf-8")

    def _marks(self, name: str) -> list[str]:
        return [path.name for path in (self.lab.node_dir(name) / "marks").iterdir() if path.name != "rejected"]

    def marks_taken(self, name: str) -> list[dict[str, Any]]:
        """The marks that a node's daemon has recorded, in their order, with their times as `wall`."""
        lines = [json.loads(line) for line in self.recording(name).read_text(encoding="utf-8").splitlines()]
        return [{**line["mark"], "wall": line["wall"]} for line in lines if "mark" in line]

    def start(self, name: str) -> None:
        """Start a node's daemon."""
        argv = [BIN / "jobimpactd", "run", "--config", self.config(name), "--record", self.recording(name)]
        environment = {**os.environ, **self.rig.nodes[name].env}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.daemons[name] = subprocess.Popen(argv, env=environment, stderr=log)

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        """End a node's daemon by a signal; its exit status."""
        daemon = self.daemons.pop(name)
        daemon.send_signal(number)
        return daemon.wait(timeout=20)

    # -- accounting --------------------------------------------------------------------------------------------

    def _write_account_config(self) -> None:
        types = {
            "cpu": {"nodes": [name for name in self.lab.nodes if name not in self.lab.gpu_nodes], "gpus": []},
            "gpu": {"nodes": self.lab.gpu_nodes, "gpus": [{"model": "NVIDIA A100-SXM4-40GB", "count": 4}]},
        }
        cpu = {"model": "AMD EPYC 7763", "count": 1, "cores": CPUS}
        inventory = {
            "version": "lab",
            "pue": 1.4,
            "types": {name: {**one, "cpu": cpu, "ram_gb": 8} for name, one in types.items()},
        }
        (self.folder / "nodes.yaml").write_text(json.dumps(inventory), encoding="utf-8")
        text = {
            "cluster": "lab",
            "store": {"local": {"path": "store"}},
            "results": "sqlite:///results.db",
            "scheduler": {"slurm": {"via": "sacct"}},
            "inventory": "nodes.yaml",
            "grid": {"zone": "FRA"},
        }
        self.account_config.write_text(json.dumps(text), encoding="utf-8")

    def command(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run `jobimpact` outside of the lab, with the lab's real sacct on its PATH."""
        environment = {**os.environ, "PATH": f"{self.lab.bin_dir}:{os.environ['PATH']}"}
        environment["JOBIMPACT_CONFIG"] = str(self.account_config)
        return subprocess.run([BIN / "jobimpact", *argv], env=environment, capture_output=True, text=True, check=False)

    def jobimpact(self, *argv: str, status: int = 0) -> str:
        """The same, which must end with this status; gives what it prints."""
        done = self.command(*argv)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def answers(self, *jobs: str) -> dict[str, Any]:
        """`jobimpact --json` by job id."""
        told = json.loads(self.jobimpact("--json", *jobs))
        return {one["job"]: one for one in told["jobs"]}


def uuid(node: str, minor: int) -> str:
    """The GPU with this device minor number."""
    return f"GPU-{node}-{minor}"
