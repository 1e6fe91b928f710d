"""What making each type of node cost, part by part. Pure."""

from __future__ import annotations

import math

from msgspec import Struct

from jobimpact.impact.factors import Factors
from jobimpact.impact.inventory import CpuParts, NodeType
from jobimpact.impact.ranges import NOTHING, Impacts, Range, total

__all__ = ["NodeParts", "parts_of"]

GB_A_MODULE = 32
"""Memory comes in modules of this size where the inventory does not count them."""


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
