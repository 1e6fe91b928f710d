"""From what the nodes' books say of a job to what a report prints: joules, methods and coverage. Pure.

Coverage is the part of the domain-seconds of a job for which its energy is known: a GPU that was metered for
half of the run, or one of two GPUs that was not metered at all, is 0.5. The rest of a node counts only where the node
has a meter of its own: elsewhere the sum is that of the parts, which is told in words.
"""

from __future__ import annotations

import msgspec

from jobimpact.core.records import DomainEnergy, DomainKind, JobEnergy, JobRecord, Method, RunEnergy, RunState, RunUse
from jobimpact.core.units import NS, joules, kwh

__all__ = ["EnergySummary", "KindEnergy", "NodeDomain", "NodeEnergy", "labels_of", "restored", "summarise"]

MOST_LABELS = 32
"""Of a job with many nodes: each may have said others."""

KINDS: tuple[DomainKind, ...] = ("cpu", "dram", "gpu", "rest")
"""What a job has a part of. `node`, the meter of the whole, is none: its energy is that of the parts and the rest."""
_MIG = "MIG-"
EDGE_NS = 5 * NS
"""How far hooks and the scheduler's whole seconds may part without anything being missed."""
NEVER_READ = "never read in this run"
NOT_SETTLED = "not settled in this run"
"""The rest is known window by window: the first has not ended yet, or the node's meter was silent."""
_METER = {"cpu": "CPU", "dram": "DRAM", "gpu": "GPU", "rest": "node"}
REST = "rest of the node (fans, board, losses)"
_NAME = _METER | {"rest": REST}


class KindEnergy(msgspec.Struct, frozen=True):
    """All a job's domains of one kind."""

    energy_j: float | None
    """None: unknown, and `reason` says why. Else the known part, of which `coverage` says how much it is."""
    method: str | None
    coverage: float
    reason: str | None = None


class NodeDomain(msgspec.Struct, frozen=True):
    """One domain of one node."""

    kind: DomainKind
    energy_j: float | None
    method: Method
    known_s: float
    reason: str | None = None


class NodeEnergy(msgspec.Struct, frozen=True):
    """One node's part; without a run only `reason` is set."""

    state: RunState | None = None
    start_s: float | None = None
    end_s: float | None = None
    elapsed_s: float | None = None
    domains: dict[str, NodeDomain] = msgspec.field(default_factory=dict)
    flags: tuple[str, ...] = ()
    reason: str | None = None
    cpus: int | None = None
    mem_bytes: int | None = None
    gpus: tuple[str, ...] = ()
    gpu_share: float | None = None
    hours: tuple[tuple[int, int], ...] = ()
    """An hour's start (epoch seconds), and microjoules in it; empty: not known."""
    use: RunUse | None = None
    """What it used of what it held; None: not known."""
    labels: dict[str, str] = {}
    """What the job said of itself there."""


class EnergySummary(msgspec.Struct, frozen=True):
    """A job's energy."""

    total_j: float | None
    total_kwh: float | None
    coverage: float
    domains: dict[DomainKind, KindEnergy]
    nodes: dict[str, NodeEnergy]
    flags: tuple[str, ...] = ()
    reason: str | None = None


def summarise(record: JobRecord, energy: JobEnergy) -> EnergySummary:
    """Sum a job's energies, and say of each sum what it lacks.

    Args:
        record: the scheduler's words: how long the job ran, and what it held.
        energy: what the nodes' books say.

    Returns:
        Joules and kWh; `total_j` is None where nothing was measured, and 0 for a job that never started.
    """
    if record.start_s is None and not energy.runs:
        nothing = dict.fromkeys(KINDS, KindEnergy(0.0, "never started", 1.0))
        return EnergySummary(0.0, 0.0, 1.0, nothing, {}, ("never started",))
    tallies = {kind: _Tally(kind, record, energy) for kind in KINDS}
    domains = {kind: tally.energy() for kind, tally in tallies.items()}
    known = [tally for tally in tallies.values() if tally.known_ns]
    total_j = joules(sum(tally.uj for tally in known)) if known else None
    # A kind that no node of the job has a meter for (DRAM on many machines) is told in words, not as a gap.
    expected = [tally for tally in tallies.values() if tally.metered or tally.kind not in ("dram", "rest")]
    expected_ns = sum(tally.expected_ns for tally in expected)
    return EnergySummary(
        total_j=total_j,
        total_kwh=None if total_j is None else kwh(total_j),
        coverage=_ratio(sum(tally.known_ns for tally in expected), expected_ns),
        domains=domains,
        nodes=_nodes(energy),
        flags=_flags(record, energy, tallies, domains, total_j),
        reason=None if known else _why_nothing(record, energy, domains),
    )


class _Tally:
    """What is known of one kind, of what there is to know."""

    def __init__(self, kind: DomainKind, record: JobRecord, energy: JobEnergy) -> None:
        self.kind = kind
        self.uj = self.known_ns = self.expected_ns = self.held = 0
        self.metered = False
        self.unmetered: list[str] = []
        """Nodes that have no meter of this kind, or not as many as they need."""
        self.methods: set[str] = set()
        self.reasons: dict[str, None] = {}
        for run in energy.runs:
            self._add(run, _lasted_ns(run, record))
        self._miss(record, energy)

    def _add(self, run: RunEnergy, lasted_ns: int) -> None:
        mine = [one for one in run.domains if one.kind == self.kind and not _is_no_meter(one)]
        held = self._held(run, mine)
        self.held += held
        self.expected_ns += held * lasted_ns
        self.metered = self.metered or bool(mine)
        for one in mine:
            if one.known_ns:
                self.uj += one.uj
                self.known_ns += min(one.known_ns, lasted_ns)
                self.methods.add(one.method)
            else:
                self.reasons[f"{one.domain} of {run.node}: {_why_unknown(one)}"] = None
        if held > len(mine) or not (held or self.kind == "gpu"):
            self.unmetered.append(run.node)

    def _held(self, run: RunEnergy, mine: list[DomainEnergy]) -> int:
        """How many domains the run has a part of, metered or not."""
        if self.kind == "rest":
            return len(mine)
        if self.kind != "gpu":
            return max(len(mine), 1)
        whole = {gpu for gpu in run.gpus if not gpu.startswith(_MIG)}
        others = sum(one.domain.partition(":")[2] not in whole for one in mine)
        # Of slices nobody here knows whose they are: at least one GPU's.
        return len(whole) + max(others, 1 if len(whole) < len(set(run.gpus)) else 0)

    def _miss(self, record: JobRecord, energy: JobEnergy) -> None:
        """Count a node without a run as if it held what the others do on average."""
        if not energy.missing:
            return
        each = max(self.held / len(energy.runs), 0.0) if energy.runs else self._guess(record)
        self.expected_ns += round(each * len(energy.missing) * (record.elapsed_s or 0.0) * NS)
        self.held += round(each * len(energy.missing))
        for node, why in energy.missing.items():
            self.reasons[f"{node}: {why}"] = None

    def _guess(self, record: JobRecord) -> float:
        if self.kind != "gpu":
            return 0.0 if self.kind == "rest" else 1.0
        return 1.0 if record.gpus is None else record.gpus / max(len(record.nodes), 1)

    def energy(self) -> KindEnergy:
        """The sum, or why there is none."""
        if self.kind == "gpu" and not self.held:
            return KindEnergy(0.0, "none held", 1.0)
        no_meter = [f"no {_METER[self.kind]} meter on {', '.join(self.unmetered)}"] if self.unmetered else []
        reason = "; ".join([*self.reasons, *no_meter])
        if not self.known_ns:
            return KindEnergy(None, None, 0.0, reason or NEVER_READ)
        coverage = _ratio(self.known_ns, self.expected_ns)
        return KindEnergy(joules(self.uj), "+".join(sorted(self.methods)), coverage, reason or None)


def _is_no_meter(one: DomainEnergy) -> bool:
    """The node's meter has been taken away: what is left of it has no part in this run."""
    return one.kind == "rest" and not one.known_ns and (one.reason or "").startswith("absent")


def _why_unknown(one: DomainEnergy) -> str:
    return one.reason or (NOT_SETTLED if one.kind == "rest" else NEVER_READ)


def _lasted_ns(run: RunEnergy, record: JobRecord) -> int:
    """How long the job had this node: the node's word, unless its books missed a good part of the job."""
    recorded_ns = round((record.elapsed_s or 0.0) * NS)
    return recorded_ns if recorded_ns - run.elapsed_ns > EDGE_NS else run.elapsed_ns


def _ratio(known: int, expected: int) -> float:
    return min(known / expected, 1.0) if expected else 0.0


def _nodes(energy: JobEnergy) -> dict[str, NodeEnergy]:
    nodes = {}
    for run in energy.runs:
        nodes[run.node] = NodeEnergy(
            run.state,
            run.start_s,
            run.end_s,
            run.elapsed_ns / NS,
            {one.domain: _domain(one) for one in run.domains},
            run.flags,
            None,
            run.cpus,
            run.mem_bytes,
            run.gpus,
            run.gpu_share,
            run.hours,
            run.use,
            run.labels,
        )
    return nodes | {node: NodeEnergy(reason=why) for node, why in energy.missing.items()}


def _domain(one: DomainEnergy) -> NodeDomain:
    known_s = one.known_ns / NS
    if not one.known_ns:
        return NodeDomain(one.kind, None, one.method, known_s, _why_unknown(one))
    return NodeDomain(one.kind, joules(one.uj), one.method, known_s)


def labels_of(record: JobRecord, summary: EnergySummary) -> dict[str, str]:
    """What a job is: by what was written when it was submitted, and by what it said itself, which comes first.

    Of nodes that say different things of one name, the first in the record's order is heard.
    """
    said: dict[str, str] = {}
    for node in summary.nodes.values():
        said = node.labels | said
    return dict(
        list((said | {name: text for name, text in record.labels.items() if name not in said}).items())[:MOST_LABELS]
    )


def restored(record: JobRecord, summary: EnergySummary) -> JobEnergy:
    """What the nodes' books said when a job was accounted for, as far as impacts need it."""
    runs = [_run(record, node, one) for node, one in summary.nodes.items() if one.state is not None]
    missing = {node: one.reason or "" for node, one in summary.nodes.items() if one.state is None}
    return JobEnergy(tuple(runs), missing)


def _run(record: JobRecord, node: str, one: NodeEnergy) -> RunEnergy:
    domains = tuple(
        DomainEnergy(name, d.kind, d.method, round((d.energy_j or 0.0) * 1e6), round(d.known_s * NS), d.reason)
        for name, d in one.domains.items()
    )
    return RunEnergy(
        node=node,
        job=record.raw_id,
        restart=0,
        start_s=one.start_s or 0.0,
        end_s=one.end_s,
        elapsed_ns=round((one.elapsed_s or 0.0) * NS),
        state=one.state or "ended",
        cpus=one.cpus,
        mem_bytes=one.mem_bytes,
        gpus=one.gpus,
        flags=one.flags,
        domains=domains,
        gpu_share=one.gpu_share,
        hours=one.hours,
        use=one.use,
        labels=one.labels,
    )


def _flags(
    record: JobRecord,
    energy: JobEnergy,
    tallies: dict[DomainKind, _Tally],
    domains: dict[DomainKind, KindEnergy],
    total_j: float | None,
) -> tuple[str, ...]:
    flags = [f"{run.node}: {flag}" for run in energy.runs for flag in run.flags]
    flags += [
        f"{run.node}: its books know {run.elapsed_ns / NS:.0f} s of the job's {record.elapsed_s:.0f} s"
        for run in energy.runs
        if _lasted_ns(run, record) != run.elapsed_ns
    ]
    flags += [f"{run.node}: its run is still open" for run in energy.runs if run.state == "open"]
    if total_j is not None:
        flags += [f"{_NAME[k]} not in the total: {one.reason}" for k, one in domains.items() if one.energy_j is None]
        bare = tallies["rest"].unmetered if domains["rest"].energy_j is not None else []
        flags += [f"{REST} not measured on {', '.join(bare)}: there the sum is that of its parts"] if bare else []
    return tuple(dict.fromkeys(flags))


def _why_nothing(record: JobRecord, energy: JobEnergy, domains: dict[DomainKind, KindEnergy]) -> str:
    if not record.nodes and not energy.runs:
        return "the scheduler's record names no node"
    if energy.missing:
        return "; ".join(f"{node}: {why}" for node, why in energy.missing.items())
    return "; ".join(dict.fromkeys(one.reason for one in domains.values() if one.reason))
