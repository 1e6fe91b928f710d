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
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Annotated

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException
from msgspec import Meta, Struct, field

from jobimpact.core.calibration import NodeCalibration
from jobimpact.core.config import convert_yaml
from jobimpact.core.errors import ConfigError
from jobimpact.impact.allocation import NodeSize
from jobimpact.impact.factors import Factors
from jobimpact.impact.ranges import NOTHING, Impacts, Range, total

__all__ = ["Inventory", "NodeParts", "NodeType", "load_inventory", "parts_of"]

Count = Annotated[int, Meta(ge=0, le=4096)]
Pieces = Annotated[float, Meta(ge=0, le=4096)]
Positive = Annotated[float, Meta(gt=0, le=1e7)]
Pue = Annotated[float, Meta(ge=1, le=5)]
Names = Annotated[str, Meta(min_length=1)]

GB_A_MODULE = 32
"""Memory comes in modules of this size where the inventory does not count them."""


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
    lifetime_years: Positive = 4
    pue: Pue | None = None
    zone: Names | None = None

    @property
    def size(self) -> NodeSize:
        """What a scheduler can give away of such a node."""
        cpus = self.cpu.count * self.cpu.cores * self.cpu.threads_per_core
        return NodeSize(cpus, round(self.ram_gb * 2**30), sum(gpu.count for gpu in self.gpus))


class _File(_Keys, frozen=True):
    types: dict[str, NodeType]
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

    def type_of(self, node: str) -> NodeType | None:
        """How a node is built; None: the inventory does not list it."""
        name = self.type_of_node.get(node)
        return None if name is None else self.types[name]


class NodeParts(Struct, frozen=True):
    """What making a node cost: kgCO2e, kgSbe, MJ by part, and what had to be assumed."""

    gpu: Impacts
    cpu: Impacts
    ram: Impacts
    rest: Impacts
    warnings: tuple[str, ...] = ()

    @property
    def whole(self) -> Impacts:
        """The node."""
        return total((self.gpu, self.cpu, self.ram, self.rest))


def load_inventory(path: Path) -> Inventory:
    """Read and check the site's inventory; a file that is not there is an empty one that says so.

    Raises:
        ConfigError: names file and key: an unknown one, a bad value, a node in two types.
    """
    if not path.exists():
        return Inventory("none", {}, {}, reason=f"no inventory: {path} is not there")
    found = convert_yaml(path, _File)
    type_of_node: dict[str, str] = {}
    for name, node_type in found.types.items():
        for node in _expand(path, name, node_type):
            if node in type_of_node:
                raise ConfigError(f"{path}: types.{name}.nodes: {node} is of type {type_of_node[node]} already")
            type_of_node[node] = name
    version = found.version or hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return Inventory(version, found.types, type_of_node, found.pue)


def _expand(path: Path, name: str, node_type: NodeType) -> list[str]:
    nodes = node_type.nodes if isinstance(node_type.nodes, str) else ",".join(node_type.nodes)
    try:
        return list(NodeSet(nodes, resolver=RESOLVER_NOGROUP))
    except NodeSetException as error:
        raise ConfigError(f"{path}: types.{name}.nodes: {error}") from error


def parts_of(node_type: NodeType, factors: Factors) -> NodeParts:
    """What making such a node cost. A part that the factors do not list gets a wide range and a warning."""
    one = {name: part.impacts for name, part in factors.components.parts.items()}
    size = {name: value.range for name, value in factors.components.quantities.items()}
    modules = node_type.ram_modules or math.ceil(node_type.ram_gb / GB_A_MODULE)
    die, cpu_warnings = _die_mm2(node_type.cpu, factors)
    gpu, gpu_warnings = _gpus(node_type, factors)
    ssds = [one["ssd"] + one["ssd_die"].by(_per(gb, size["ssd_gb_per_cm2"])) for gb in node_type.ssd_gb]
    psu_kg = node_type.psu_kg or size["psu_kg"].central
    rest = (
        *ssds,
        one["hdd"].times(len(node_type.hdd_gb)),
        one["psu"].times(psu_kg * node_type.psu),
        one["case"].times(node_type.case),
        one["board"].times(node_type.board),
        one["assembly"],
    )
    return NodeParts(
        gpu=gpu,
        cpu=(one["cpu"] + one["cpu_die"].by(die)).times(node_type.cpu.count),
        ram=one["ram_module"].times(modules) + one["ram_die"].by(_per(node_type.ram_gb, size["ram_gb_per_cm2"])),
        rest=total(rest),
        warnings=(*cpu_warnings, *gpu_warnings),
    )


def _per(amount: float, density: Range) -> Range:
    return Range(amount / density.low, amount / density.central, amount / density.high)


def _die_mm2(cpu: CpuParts, factors: Factors) -> tuple[Range, list[str]]:
    listed = factors.cpu(cpu.model)
    given = cpu.die_mm2 or (listed.die_mm2 if listed else None)
    if given is not None:
        return Range(given, given, given), []
    warning = f"CPU {cpu.model!r} is not in the factors: a wide range stands for its die (or give cpu.die_mm2)"
    return factors.components.quantities["cpu_die_mm2"].range, [warning]


def _gpus(node_type: NodeType, factors: Factors) -> tuple[Impacts, list[str]]:
    impacts, warnings = NOTHING, []
    for gpu in node_type.gpus:
        listed = factors.gpu(gpu.model)
        if listed is None:
            warnings.append(f"GPU {gpu.model!r} is not in the factors: a wide range stands for it")
        impacts += (listed or factors.gpus.archetype).impacts.times(gpu.count)
    return impacts, warnings
