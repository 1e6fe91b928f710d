"""What `jobimpact inventory` tells of types of nodes and of shared parts, before it is text or JSON. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet
from msgspec import Struct

from jobimpact.impact.factors import Factors, Source
from jobimpact.impact.inventory import Inventory, NodeType, SharedParts
from jobimpact.impact.lifetime import life_of
from jobimpact.impact.parts import NodeParts, PartLine, parts_of
from jobimpact.impact.ranges import Impacts, Range
from jobimpact.impact.shared import SharedRate, rate_of

__all__ = ["INDICATORS", "Described", "SharedView", "TypeView", "describe"]

INDICATORS = ("gwp_kgco2e", "adp_kgsbe", "pe_mj")
MOST = 2 / 3
"""The parts that dominate are the largest ones that make this much of the node together."""


class TypeView(Struct, frozen=True):
    """One type of node."""

    name: str
    built: NodeType
    nodes: tuple[str, ...]
    parts: NodeParts
    pue: float | None
    ends: date | None
    """When its life is over; None: not known when it began, or no calendar goes that far."""

    @property
    def folded(self) -> str:
        """Its nodes as schedulers write them."""
        return str(NodeSet.fromlist(list(self.nodes), resolver=RESOLVER_NOGROUP))

    @property
    def lifetime_hours(self) -> float:
        """How long its manufacture is spread over."""
        return life_of(None, self.built.lifetime_years, self.built.past_lifetime).hours

    @property
    def per_node_hour(self) -> Impacts:
        """Of its manufacture, within its life."""
        return self.parts.whole.times(1 / self.lifetime_hours)

    def dominant(self, indicator: str) -> list[tuple[str, float]]:
        """The parts that make most of an indicator, and how much of 1 each is."""
        return _largest(self.parts.lines, lambda one: getattr(one.impacts, indicator).central)

    def widest(self, indicator: str) -> list[tuple[str, float]]:
        """The parts that make most of an indicator's range."""

        def width(line: PartLine) -> float:
            found: Range = getattr(line.impacts, indicator)
            return found.high - found.low

        return _largest(self.parts.lines, width)


class SharedView(Struct, frozen=True):
    """Something that serves several nodes."""

    name: str
    parts: SharedParts
    nodes: tuple[str, ...]
    rate: SharedRate | None
    """What a node-hour brings of it; None: it serves no node."""
    ends: date | None
    """When its life is over; None: as for a type."""

    @property
    def unknown(self) -> list[str]:
        """What the inventory does not tell of it, by key."""
        return [key for key in ("power_w", *INDICATORS) if getattr(self.parts, key) is None]


class Described(Struct, frozen=True):
    """All that was asked for."""

    types: tuple[TypeView, ...]
    shared: tuple[SharedView, ...]
    sources: dict[str, Source]
    inventory: str
    factors: str
    today: date


def describe(inventory: Inventory, factors: Factors, names: Iterable[str], now_s: float) -> Described:
    """Types of nodes by name, and what serves any node of theirs.

    Args:
        inventory: has all these types.
        factors: what making the parts costs.
        names: the types.
        now_s: the time that `in service` and `over` are meant for, epoch seconds.
    """
    types = tuple(_type(name, inventory, factors) for name in names)
    asked = {node for one in types for node in one.nodes}
    shared = tuple(
        _shared(name, parts, served)
        for name, parts in inventory.shared.items()
        for served in [inventory.served.get(name, ())]
        if not served or not asked.isdisjoint(served)
    )
    cited = dict.fromkeys(source for one in types for source in one.parts.sources)
    sources = {name: factors.sources[name] for name in cited}
    today = datetime.fromtimestamp(now_s, UTC).date()
    return Described(types, shared, sources, inventory.version, factors.version, today)


def _type(name: str, inventory: Inventory, factors: Factors) -> TypeView:
    built = inventory.types[name]
    nodes = tuple(node for node, type_name in inventory.type_of_node.items() if type_name == name)
    pue = built.pue or inventory.pue
    ends = _ends(built.purchased, built.lifetime_years)
    return TypeView(name, built, nodes, parts_of(built, factors), pue, ends)


def _shared(name: str, parts: SharedParts, served: tuple[str, ...]) -> SharedView:
    rate = rate_of(name, parts, len(served)) if served else None
    return SharedView(name, parts, served, rate, _ends(parts.purchased, parts.lifetime_years))


def _ends(purchased: date | None, years: float) -> date | None:
    try:
        end_s = life_of(purchased, years, "zero").to_s
        return None if purchased is None else datetime.fromtimestamp(end_s, UTC).date()
    except (OverflowError, ValueError, OSError):  # later than the calendar goes
        return None


def _largest(lines: Sequence[PartLine], size: Callable[[PartLine], float]) -> list[tuple[str, float]]:
    sizes: dict[str, float] = {}
    for line in lines:
        sizes[line.name] = sizes.get(line.name, 0.0) + size(line)
    whole, so_far, found = sum(sizes.values()), 0.0, []
    for name in sorted(sizes, key=lambda one: -sizes[one]):
        if whole == 0 or so_far >= MOST * whole:
            break
        so_far += sizes[name]
        found.append((name, sizes[name] / whole))
    return found
