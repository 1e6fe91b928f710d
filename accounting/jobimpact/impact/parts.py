"""What making each type of node cost, part by part. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from jobimpact.impact.factors import Factors, Made
from jobimpact.impact.inventory import CpuParts, GpuParts, NodeType
from jobimpact.impact.ranges import Impacts, Range, exactly, total

__all__ = ["Component", "NodeParts", "PartLine", "parts_of"]

GB_A_MODULE = 32
"""Memory comes in modules of this size where the inventory does not count them."""

Component = Literal["cpu", "ram", "gpu", "rest"]


class PartLine(Struct, frozen=True):
    """One kind of part of a node: all pieces of it together."""

    component: Component
    """Whose share of a node a job's share of it is."""
    name: str
    count: float
    what: str
    """The model or the size of one piece; empty: nothing is known beyond its name."""
    impacts: Impacts
    sources: tuple[str, ...]
    guess: str | None = None
    """What stands for something that is not known."""
    warning: str | None = None


class NodeParts(Struct, frozen=True):
    """What making a node cost: kgCO2e, kgSbe, MJ by part, and what had to be assumed."""

    gpu: Impacts
    cpu: Impacts
    ram: Impacts
    rest: Impacts
    warnings: tuple[str, ...] = ()
    lines: tuple[PartLine, ...] = ()

    @property
    def whole(self) -> Impacts:
        """The node."""
        return total((self.gpu, self.cpu, self.ram, self.rest))

    @property
    def sources(self) -> tuple[str, ...]:
        """Whatever the parts cite, by name, once."""
        return tuple(dict.fromkeys(source for line in self.lines for source in line.sources))


def parts_of(node_type: NodeType, factors: Factors) -> NodeParts:
    """What making such a node cost. A part that the factors do not list gets a wide range and a warning."""
    lines = (
        _cpu(node_type.cpu, factors),
        _memory(node_type, factors),
        *(_gpu(gpu, factors) for gpu in node_type.gpus),
        *_rest(node_type, factors),
    )

    def of(component: Component) -> Impacts:
        return total(line.impacts for line in lines if line.component == component)

    return NodeParts(
        gpu=of("gpu"),
        cpu=of("cpu"),
        ram=of("ram"),
        rest=of("rest"),
        warnings=tuple(dict.fromkeys(line.warning for line in lines if line.warning)),
        lines=lines,
    )


def _cpu(cpu: CpuParts, factors: Factors) -> PartLine:
    base, die = factors.components.parts.cpu, factors.components.parts.cpu_die
    area, sources, guess, warning = _die_mm2(cpu, factors)
    return PartLine(
        component="cpu",
        name="CPU",
        count=cpu.count,
        what=cpu.model,
        impacts=(base.impacts + die.impacts.by(area)).times(cpu.count),
        sources=(*base.sources, *die.sources, *sources),
        guess=guess,
        warning=warning,
    )


def _die_mm2(cpu: CpuParts, factors: Factors) -> tuple[Range, tuple[str, ...], str | None, str | None]:
    """The area of a CPU's dies, its sources, and what is guessed of it."""
    if cpu.die_mm2 is not None:
        return exactly(cpu.die_mm2), (), None, None
    listed = factors.cpu(cpu.model)
    if listed is not None:
        return listed.die_mm2, listed.sources, _doubt(listed.die_mm2), None
    unknown = factors.components.quantities.cpu_die_mm2
    warning = f"CPU {cpu.model!r} is not in the factors: a wide range stands for its die (or give cpu.die_mm2)"
    return unknown.range, unknown.sources, f"die area not known: {_span(unknown.range)} mm2", warning


def _doubt(area: Range) -> str | None:
    """What is guessed of a CPU that is listed."""
    if area.high == 0:
        return "no die of its own: it is counted with the GPU"
    return f"die area {_span(area)} mm2" if area.high > 1.2 * area.low else None


def _memory(node_type: NodeType, factors: Factors) -> PartLine:
    module, die = factors.components.parts.ram_module, factors.components.parts.ram_die
    area = factors.components.quantities.ram_cm2_per_gb
    counted = node_type.ram_modules
    modules = math.ceil(node_type.ram_gb / GB_A_MODULE) if counted is None else counted
    guesses = [] if counted is not None else [f"modules of {GB_A_MODULE} GB"]
    guesses.append(f"{_span(area.range)} cm2 of chip per GB")
    size = node_type.ram_gb / (modules or 1)
    return PartLine(
        component="ram",
        name="memory",
        count=modules or 1,
        what=f"{size:.4g} GB" if modules else f"{size:.4g} GB, soldered",
        impacts=module.impacts.times(modules) + die.impacts.by(area.range.times(node_type.ram_gb)),
        sources=(*module.sources, *die.sources, *area.sources),
        guess="; ".join(guesses),
    )


def _gpu(gpu: GpuParts, factors: Factors) -> PartLine:
    listed = factors.gpu(gpu.model)
    made = listed or factors.gpus.archetype
    guess = warning = None
    if listed is None:
        guess = "not in the factors: the span of all cards that are"
        warning = f"GPU {gpu.model!r} is not in the factors: a wide range stands for it"
    elif " mig " in gpu.model.lower():
        guess = "a slice's name: counted as whole cards"
        warning = f"GPU {gpu.model!r} names a MIG slice: the inventory counts whole cards"
    return PartLine(
        component="gpu",
        name="GPU",
        count=gpu.count,
        what=gpu.model,
        impacts=made.impacts.times(gpu.count),
        sources=made.sources,
        guess=guess,
        warning=warning,
    )


def _rest(node_type: NodeType, factors: Factors) -> Iterator[PartLine]:
    parts, sizes = factors.components.parts, factors.components.quantities
    for size in dict.fromkeys(node_type.ssd_gb):
        count = node_type.ssd_gb.count(size)
        one = parts.ssd.impacts + parts.ssd_die.impacts.by(sizes.ssd_cm2_per_gb.range.times(size))
        yield PartLine(
            component="rest",
            name="SSD",
            count=count,
            what=f"{size:g} GB",
            impacts=one.times(count),
            sources=(*parts.ssd.sources, *parts.ssd_die.sources, *sizes.ssd_cm2_per_gb.sources),
            guess=f"{_span(sizes.ssd_cm2_per_gb.range)} cm2 of chip per GB",
        )
    for size in dict.fromkeys(node_type.hdd_gb):
        yield _pieces("hard disk", node_type.hdd_gb.count(size), parts.hdd, what=f"{size:g} GB")
    yield from _supplies(node_type, factors)
    yield from (
        _pieces(name, count, made, guess=guess)
        for name, count, made, guess in (
            ("case", node_type.case, parts.case, None),
            ("board", node_type.board, parts.board, None),
            ("network card", node_type.nic, factors.gpus.nic, "no LCA of one is known: our estimate"),
            ("assembly", 1, parts.assembly, None),
        )
        if count
    )


def _pieces(name: str, count: float, made: Made, what: str = "", guess: str | None = None) -> PartLine:
    return PartLine("rest", name, count, what, made.impacts.times(count), made.sources, guess)


def _supplies(node_type: NodeType, factors: Factors) -> Iterator[PartLine]:
    if not node_type.psu:
        return
    made, assumed = factors.components.parts.psu, factors.components.quantities.psu_kg
    given = node_type.psu_kg
    weight = assumed.range if given is None else exactly(given)
    yield PartLine(
        component="rest",
        name="power supply",
        count=node_type.psu,
        what=f"{weight.central:g} kg",
        impacts=made.impacts.by(weight).times(node_type.psu),
        sources=(*made.sources, *(assumed.sources if given is None else ())),
        guess=f"weight {_span(assumed.range)} kg" if given is None else None,
    )


def _span(found: Range) -> str:
    return f"{found.low:.3g}-{found.high:.4g}"
