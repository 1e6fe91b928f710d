"""The site's nodes, part by part: `nodes.yaml`, and what making each type cost.

version: "2026-11"
pue: 1.35                       # what the building draws for each kWh of a node
types:
  a100:
    nodes: node[03-04]
    cpu: {model: AMD EPYC 7763, count: 2, cores: 64, threads_per_core: 2}
    ram_gb: 1024
    gpus: [{model: NVIDIA A100-SXM4-80GB, count: 8}]
    ssd_gb: [1900, 1900]
    psu: 4
    purchased: 2024-03-01
shared:
  switches: {count: 8, power_w: 375, gwp_kgco2e: [200, 400, 800], source: maker's PCF}
"""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException
from msgspec import Meta, Struct, field, structs

from jobimpact.core.calibration import NodeCalibration
from jobimpact.core.config import convert_yaml
from jobimpact.core.errors import ConfigError
from jobimpact.impact.allocation import NodeSize

__all__ = ["CpuParts", "GpuParts", "Inventory", "NodeType", "SharedParts", "load_inventory"]

Count = Annotated[int, Meta(ge=0, le=4096)]
Pieces = Annotated[float, Meta(ge=0, le=4096)]
Positive = Annotated[float, Meta(gt=0, le=1e7)]
Years = Annotated[float, Meta(ge=0.01, le=100)]
Pue = Annotated[float, Meta(ge=1, le=5)]
Names = Annotated[str, Meta(min_length=1)]
PastLifetime = Literal["zero", "continue"]
Number = Annotated[float, Meta(ge=0, le=1e9)]
Part = Literal["cpu", "ram", "gpu", "rest"]
Triple = Annotated[list[Number], Meta(min_length=3, max_length=3)]
# Not a tuple: of one with a length beside a constrained number, msgspec 0.22 reads memory that is not its own.


class _Keys(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class CpuParts(_Keys, frozen=True):
    """A node's CPUs. `cores` are one CPU's; `threads_per_core` is 2 where the scheduler counts threads as CPUs."""

    model: Names
    count: Annotated[int, Meta(ge=1, le=64)]
    cores: Annotated[int, Meta(ge=1, le=4096)]
    threads_per_core: Annotated[int, Meta(ge=1, le=8)] = 1
    die_mm2: Positive | None = None


class GpuParts(_Keys, frozen=True):
    """Some GPUs of one model: by NVML's name, or by the one in the factors."""

    model: Names
    count: Annotated[int, Meta(ge=1, le=64)]


class NodeType(_Keys, frozen=True):
    """Nodes that are built alike."""

    nodes: Names | list[Names]
    cpu: CpuParts
    ram_gb: Positive
    ram_modules: Count | None = None
    gpus: list[GpuParts] = field(default_factory=list)
    ssd_gb: list[Positive] = field(default_factory=list)
    hdd_gb: list[Positive] = field(default_factory=list)
    psu: Count = 2
    psu_kg: Positive | None = None
    board: Pieces = 1
    case: Pieces = 1
    """0.25 for one of four nodes in a chassis."""
    nic: Count = 0
    """Network cards beyond what is on the board."""
    lifetime_years: Years = 4
    purchased: date | None = None
    """When it went into service: its life is counted from there."""
    past_lifetime: PastLifetime = "zero"
    """What its manufacture costs once its life is over: nothing more, or on as before."""
    exclusive: bool = False
    """Jobs are given whole nodes of this type, whatever they asked for."""
    pue: Pue | None = None
    zone: Names | None = None
    cluster: Names | None = None
    """Whose nodes they are, where several clusters are accounted for."""
    load_w: dict[Part, Number] = field(default_factory=dict)
    """What each whole part of a node draws while jobs use it, in watts: jobs that no book has are estimated by it."""

    @property
    def size(self) -> NodeSize:
        """What a scheduler can give away of such a node."""
        cpus = self.cpu.count * self.cpu.cores * self.cpu.threads_per_core
        return NodeSize(cpus, round(self.ram_gb * 2**30), sum(gpu.count for gpu in self.gpus))


class SharedParts(_Keys, frozen=True):
    """What serves several nodes: switches, storage, login nodes. Each indicator is one piece's."""

    nodes: Names | list[Names] | None = None
    """Whom it serves; default: every node of the inventory."""
    count: Annotated[int, Meta(ge=1, le=4096)] = 1
    power_w: Number | None = None
    """What one draws, on average."""
    gwp_kgco2e: Number | Triple | None = None
    adp_kgsbe: Number | Triple | None = None
    pe_mj: Number | Triple | None = None
    source: str | None = None
    """Where the three come from."""
    lifetime_years: Years = 4
    purchased: date | None = None
    past_lifetime: PastLifetime = "zero"


class _File(_Keys, frozen=True):
    types: dict[str, NodeType]
    shared: dict[str, SharedParts] = field(default_factory=dict)
    version: str | None = None
    pue: Pue | None = None
    calibration: dict[str, NodeCalibration] | None = None
    """By node, as `jobimpactd calibrate` writes it; the daemon's to use."""


class Inventory(Struct, frozen=True):
    """Every node's type. `reason` says why there is none at all, if so."""

    version: str
    types: dict[str, NodeType]
    type_of_node: dict[str, str]
    pue: float | None = None
    reason: str | None = None
    shared: dict[str, SharedParts] = {}
    served: dict[str, tuple[str, ...]] = {}
    """The nodes that each of the shared parts serves."""
    path: str = "the inventory"

    def of_cluster(self, cluster: str) -> Inventory:
        """The nodes of one of several clusters; what serves them is shared with the others.

        Raises:
            ConfigError: a type that does not say whose it is.
        """
        bare = next((name for name, one in self.types.items() if one.cluster is None), None)
        if bare is not None:
            raise ConfigError(f"{self.path}: types.{bare}.cluster: missing: several clusters are accounted for")
        types = {name: one for name, one in self.types.items() if one.cluster == cluster}
        nodes = {node: name for node, name in self.type_of_node.items() if name in types}
        return structs.replace(self, types=types, type_of_node=nodes)

    def type_of(self, node: str) -> NodeType | None:
        """How a node is built; None: the inventory does not list it."""
        name = self.type_of_node.get(node)
        return None if name is None else self.types[name]


def load_inventory(path: Path) -> Inventory:
    """Read and check the site's inventory; a file that is not there is an empty one that says so.

    Raises:
        ConfigError: names file and key: an unknown one, a bad value, a node in two types.
    """
    if not path.exists():
        return Inventory("none", {}, {}, reason=f"no inventory: {path} is not there")
    found = convert_yaml(path, _File)
    type_of_node: dict[str, str] = {}
    if "shared" in found.types:
        raise ConfigError(f"{path}: types.shared: a name that the books need: call it otherwise")
    for name, node_type in found.types.items():
        for node in _expand(path, f"types.{name}", node_type.nodes):
            if node in type_of_node:
                raise ConfigError(f"{path}: types.{name}.nodes: {node} is of type {type_of_node[node]} already")
            type_of_node[node] = name
    version = found.version or hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    served = {name: _served(path, name, one, type_of_node) for name, one in found.shared.items()}
    return Inventory(version, found.types, type_of_node, found.pue, shared=found.shared, served=served, path=str(path))


def _served(path: Path, name: str, shared: SharedParts, type_of_node: dict[str, str]) -> tuple[str, ...]:
    where = f"shared.{name}"
    for key in ("gwp_kgco2e", "adp_kgsbe", "pe_mj"):
        value = getattr(shared, key)
        if isinstance(value, list) and not value[0] <= value[1] <= value[2]:
            raise ConfigError(f"{path}: {where}.{key}: low, central, high are not in order")
    nodes = list(type_of_node) if shared.nodes is None else _expand(path, where, shared.nodes)
    if not nodes and shared.nodes is not None:
        raise ConfigError(f"{path}: {where}.nodes: it serves no node")
    stranger = next((node for node in nodes if node not in type_of_node), None)
    if stranger is not None:
        raise ConfigError(f"{path}: {where}.nodes: {stranger} is in none of the types")
    return tuple(nodes)


def _expand(path: Path, where: str, nodes: str | list[str]) -> list[str]:
    text = nodes if isinstance(nodes, str) else ",".join(nodes)
    try:
        return list(NodeSet(text, resolver=RESOLVER_NOGROUP))
    except NodeSetException as error:
        raise ConfigError(f"{path}: {where}.nodes: {error}") from error
