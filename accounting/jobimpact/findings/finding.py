"""What a finding is: numbers only. The words stand in report/advice.py."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Finding", "Kind", "Unit"]

Kind = Literal["ending", "use", "doubt"]
"""How a run ended; how it used what it held; or why no verdict on its use is given."""
Unit = Literal["part", "gpus", "seconds", "tasks"]


class Finding(msgspec.Struct, frozen=True):
    """Something that a job's owner could do better, or that explains why nothing is said. None: not known."""

    rule: str
    """`gpus_unused`."""
    kind: Kind
    value: float | None
    """What was measured, in `unit`."""
    unit: Unit
    threshold: float | None = None
    """What it is held against, in the same unit; None: there is none."""
    of: float | None = None
    """What `value` is a part of: GPUs, tasks, or seconds of the limit."""
    joules: float | None = None
    """Energy spent for nothing, as far as that can be told."""
    least: bool = False
    """`joules` is a lower bound."""
    held_j: float | None = None
    """Energy of the parts that it is about, busy or not: not all of it is waste."""
    money: float | None = None
    """`joules` at the site's price, in its currency."""
    gpu_hours: float | None = None
    """That were held and not used; so are `cpu_hours`."""
    cpu_hours: float | None = None
    spare_bytes: float | None = None
    """Memory beyond what is advised, over all nodes."""
    spare_s: float | None = None
    """Time beyond what is advised."""
    advised: float | None = None
    """What to ask for: bytes on each node, or seconds."""
    seen: float | None = None
    """The value behind a part: the peak in bytes on one node, seconds that it ran, GPUs whose use is known."""
    said: str | None = None
    """The scheduler's or a meter's own word: an exit code, a meter's name. Not clean."""
    tasks: int | None = None
    """Of an array: how many tasks have it."""
    of_tasks: int | None = None
    """Of how many."""
    each: Literal["task", "part"] = "task"
    """What these are: tasks of an array, or parts of a heterogeneous job."""

    @property
    def kwh(self) -> float | None:
        """`joules` in kWh."""
        return None if self.joules is None else self.joules / 3.6e6
