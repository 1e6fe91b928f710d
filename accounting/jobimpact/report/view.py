"""What a report says, before it is laid out: text, HTML and mail all say the same.

Strings are clean of what could do harm in a terminal, and are escaped by whoever lays them out for HTML.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from jobimpact.core.records import DomainKind, Profile, Progress

__all__ = ["Advice", "Beside", "EndingRow", "EnergyRow", "GroupView", "ImpactRow", "JobView", "TaskRow"]

Tone = Literal["good", "bad", "plain"]


class Advice(msgspec.Struct, frozen=True):
    """A finding, in words."""

    title: str
    """`2 of 4 GPUs were never used`."""
    measured: str
    """The value beside its threshold: `used 0 % of 3 h 20 min; told below 25 %`."""
    cost: str
    """What it stands for: `5.2 MJ (1.44 kWh), 0.29 EUR`; empty: it cannot be said."""
    do: str
    """What to do about it."""
    tone: Tone = "bad"


class EnergyRow(msgspec.Struct, frozen=True):
    """One kind of part."""

    kind: DomainKind
    label: str
    joules: float | None
    amount: str
    """`31.1 J`; `-` where it is not known."""
    said: tuple[str, ...]
    """How it was measured and how much of it, or why it is not known."""


class ImpactRow(msgspec.Struct, frozen=True):
    """One indicator. Texts are `-` where nothing is known; numbers are in the indicator's own unit."""

    name: str
    """`gwp_kgco2e`."""
    label: str
    """`GWP (climate)`."""
    unit: str
    use: str
    embodied: str
    total: str
    span: str
    """`3.68 - 23.5 mg`, of the total, or of the part that is known; empty: nothing is."""
    use_central: float | None = None
    embodied_central: float | None = None
    low: float | None = None
    high: float | None = None


class Beside(msgspec.Struct, frozen=True):
    """What is told beside the total and is not in it."""

    label: str
    gwp: str
    adp: str
    pe: str
    said: str


class JobView(msgspec.Struct, frozen=True):
    """One incarnation of a job."""

    title: str
    """`job 124_4`."""
    state: str
    """With the exit code where that tells."""
    tone: Tone
    name: str
    facts: tuple[str, ...]
    """Whose it was, what it held and where, when it ran."""
    lead: tuple[str, ...]
    """What comes first: energy of a run that failed, that it is preliminary, that it was not measured, coverage."""
    advice: tuple[Advice, ...]
    total: str
    """`31.1 J`; empty: not known."""
    total_kwh: str
    energy: tuple[EnergyRow, ...]
    impacts: tuple[ImpactRow, ...]
    range_of: str
    """Empty: the ranges are of the total; else `use only`, `embodied only`."""
    not_known: str
    """Why a `-` stands among the impacts; empty: none does."""
    beside: tuple[Beside, ...]
    equivalents: tuple[str, ...]
    """At most two, each with its source and year."""
    activity: tuple[str, ...]
    """What it says that it is: model, steps, energy for each."""
    notes: tuple[str, ...]
    accounted: str
    """`Accounted 2026-11-21 15:32:06 UTC, revision 2.`; empty: not yet."""
    method: str
    """A paragraph, alike for most jobs of a site; empty: there are no figures."""
    cluster: str = ""
    profile: Profile | None = None
    progress: tuple[Progress, ...] = ()
    in_part: str = ""
    """`40 % measured`, wherever the energy stands alone; empty: nine tenths or more are, or nothing is."""


class EndingRow(msgspec.Struct, frozen=True):
    """Tasks that ended alike."""

    state: str
    """With the exit code where that tells."""
    tone: Tone
    jobs: int
    energy: str


class TaskRow(msgspec.Struct, frozen=True):
    """One task or part, in a line. Texts are `-` where nothing is known."""

    job: str
    state: str
    tone: Tone
    elapsed: str
    energy: str
    known: str
    gwp: str


class GroupView(msgspec.Struct, frozen=True):
    """An array, or the parts of a heterogeneous job, together."""

    title: str
    """`job 200: 300 tasks`."""
    name: str
    facts: tuple[str, ...]
    lead: tuple[str, ...]
    advice: tuple[Advice, ...]
    total: str
    total_kwh: str
    endings: tuple[EndingRow, ...]
    tasks: tuple[TaskRow, ...]
    """All of a few; of many those that stand out."""
    tasks_are: str
    """What they are: `Most energy without completing`; empty: all of them."""
    impacts: tuple[ImpactRow, ...]
    range_of: str
    not_known: str
    equivalents: tuple[str, ...]
    notes: tuple[str, ...]
    accounted: str
    method: str
    cluster: str = ""
    failed: int = 0
    """So many ran and did not complete."""
    in_part: str = ""
    """As of a job: `40 % measured`."""
