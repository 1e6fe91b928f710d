"""A measured cluster: the real Slurm lab, a power rig for each node, and a daemon for each node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fakes.rig import RigNode
from tests.labs.lab import PATIENCE_S, until
from tests.labs.leftovers import CGROUPS
from tests.labs.measured import BIN, Measured
from tests.labs.slurm.lab import SlurmLab

CPUS = 8
SYSTEM_CPUS = 0.3


class MeasuredCluster(Measured[SlurmLab]):
    """Nodes of the Slurm lab; the daemons are outside of it."""

    def __init__(self, lab: SlurmLab, nodes: list[str], folder: Path) -> None:
        self._clear_marks(lab, nodes)
        super().__init__(lab, nodes, folder)
        self.account_config = folder / "account.yaml"
        self._write_account_config()

    @staticmethod
    def _clear_marks(lab: SlurmLab, nodes: list[str]) -> None:
        """Nobody took the marks of earlier jobs, and those of this cluster are of another boot."""
        lab.wait_idle()
        for name in nodes:
            for mark in (lab.node_dir(name) / "marks").glob("*"):
                mark.unlink()

    def _node(self, place: int, name: str) -> RigNode:
        cgroups = {one: CGROUPS / one for one in ("cpuacct", "memory")}
        node = self._rig_node(place, name, CPUS, SYSTEM_CPUS, (2, 0, 3, 1), mmio=True, **cgroups)
        proc = self.lab.node_dir(name) / "proc"
        proc.unlink()
        proc.symlink_to(node.proc_root)
        return node

    def finish(self) -> None:
        """No more is measured, and the nodes have this machine's /proc again."""
        super().finish()
        for name in self.nodes:
            proc = self.lab.node_dir(name) / "proc"
            proc.unlink()
            proc.symlink_to("/proc")

    # -- daemons -----------------------------------------------------------------------------------------------

    def config(self, name: str) -> Path:
        """The node's configuration file."""
        marks = {"marks": str(self.lab.node_dir(name) / "marks")}
        return self._config(name, marks, results=f"sqlite:///{self.folder}/results.db")

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
                assert daemon.poll() is None, self.log(name).read_text(encoding="utf-8")
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
        self._spawn(name, argv, {**os.environ, **self.rig.nodes[name].env})

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        """End a node's daemon by a signal; its exit status."""
        daemon = self.daemons.pop(name)
        daemon.send_signal(number)
        return daemon.wait(timeout=PATIENCE_S)

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
