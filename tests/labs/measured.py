"""A measured cluster, of any scheduler: a lab, a power rig for each node, and a daemon for each node."""

from __future__ import annotations

import json
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

from tests.fakes.curve import Curve, Sensor, boot_ns, watts
from tests.fakes.rig import PowerRig, RigNode
from tests.fakes.rig_gpu import Busy, gpu
from tests.labs.lab import Lab

MEM_BYTES = 8000 << 20
IDLE_W = {"package-0": 40.0, "package-1": 35.0, "dram-0": 6.0}
SYSTEM_BYTES = 1500 << 20
GPU_REFRESH_NS = 20_000_000
BIN = Path(sys.executable).parent
LabT = TypeVar("LabT", bound=Lab)
Json = dict[str, Any]


class Measured(ABC, Generic[LabT]):
    """Nodes of a lab with meters of their own and `jobimpactd run --record`.

    Args:
        lab: the running lab.
        nodes: the nodes that are measured.
        folder: an empty folder, for stores, results and recordings.
    """

    busy: ClassVar[tuple[Busy, ...]] = ()
    """How busy each GPU says that it is; empty: as its power is."""

    def __init__(self, lab: LabT, nodes: list[str], folder: Path) -> None:
        self.lab, self.nodes, self.folder = lab, nodes, folder
        self.store = folder / "store"
        self.rig = PowerRig(folder, *(self._node(place, name) for place, name in enumerate(nodes)))
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    @abstractmethod
    def _node(self, place: int, name: str) -> RigNode:
        """A node's meters; `place` is its index."""

    @abstractmethod
    def start(self, name: str) -> None:
        """Start a node's daemon."""

    @abstractmethod
    def stop(self, name: str) -> int:
        """End a node's daemon; its exit status."""

    def _rig_node(
        self, place: int, name: str, cpus: int, system_cpus: float, minors: Sequence[int], **more: Any
    ) -> RigNode:
        """A node's meters, each on a curve of its own; GPUs in NVML's order, which is not that of minor numbers."""
        now = boot_ns()
        later = place * 0.03

        def curve(*steps: tuple[float, float]) -> Curve:
            return Curve(now, watts(*((seconds + later, level) for seconds, level in steps)))

        rapl = {
            "package-0": curve((0.13, 180), (0.29, 60), (0.41, 140), (0.17, 90)),
            "package-1": curve((0.31, 50), (0.07, 210), (0.23, 80)),
            "dram-0": curve((0.19, 22), (0.37, 10), (0.11, 31)),
        }
        gpus = []
        for minor in minors if name in self.lab.gpu_nodes else ():
            power = curve((0.21 + 0.05 * minor, 300 - 40 * minor), (0.33, 60 + 20 * minor))
            more_of_it = {"sensor": Sensor(GPU_REFRESH_NS), "mem_bytes": 40 << 30, "busy": self.busy}
            gpus.append(gpu(uuid(name, minor), power, minor, **more_of_it))
        return RigNode(
            name,
            self.folder / "rig" / name,
            rapl=rapl,
            gpus=gpus,
            cpus=cpus,
            mem_bytes=MEM_BYTES,
            load=Curve.flat(now, round(system_cpus * 1e6)),
            used_mem=Curve.flat(now, SYSTEM_BYTES),
            **more,
        )

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
        self.finish()

    def finish(self) -> None:
        """No more is measured; harmless when called again."""
        self.rig.stop()

    def _config(self, name: str, of_node: Json, **more: Any) -> Path:
        """Write a node's configuration file, with what is as on any cluster and this."""
        path = self.folder / f"{name}.yaml"
        node = self.rig.nodes[name]
        sources = {"rapl": {"root": str(node.powercap.root), "idle_w": IDLE_W}, "nvml": {}}
        text = {
            "cluster": "lab",
            "store": {"local": {"path": str(self.store)}},
            "node": {"name": name, "proc_root": str(node.proc_root), "sources": sources, **of_node},
            **more,
        }
        path.write_text(json.dumps(text), encoding="utf-8")
        return path

    def _spawn(self, name: str, argv: Sequence[str | Path], env: dict[str, str] | None = None) -> None:
        with self.log(name).open("ab") as log:
            self.daemons[name] = subprocess.Popen(argv, env=env, stderr=log)

    def log(self, name: str) -> Path:
        """What the node's daemons say."""
        return self.folder / f"{name}.log"


def uuid(node: str, minor: int) -> str:
    """The GPU with this device minor number."""
    return f"GPU-{node}-{minor}"
