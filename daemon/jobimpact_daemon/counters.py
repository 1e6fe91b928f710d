"""From two readings of a counter to an energy, or to *unknown*: wraps, resets, blips, gaps. Pure.

The rules, in the order in which they are tried:

- a new epoch is a reset: what the counter held is gone, and the interval is unknown;
- of all the energies that the two values allow (the difference, plus any number of wraps), those within what
  the domain can draw are possible: one of them is the answer; several (a long gap) make the interval unknown,
  because a guess would invent energy or lose it;
- none, and the value fell: it may have blipped backwards, so the reading is held as a *suspect* and the next one
  decides: back above the old value, it was a blip and nothing is lost; still below, it was a reset. A counter that
  never wraps (NVML) and falls by more than half was reset;
- none, and the value rose: a jump that no hardware can have made, treated as a reset;
- the same value as before says nothing yet: the baseline stays, and when the counter moves, its rise is that of the
  whole time since it last did.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from jobimpact.core.records import Counter, DomainKind
from jobimpact.core.units import NS

__all__ = ["CEILING_W", "Baseline", "Step", "Verdict", "compare"]

DEFAULT_MAX_W = 1000.0
"""A wrap must be told from a reset also where the domain's limit is not known."""
SLACK_NS = NS // 4
"""Sensors refresh late by up to a quarter of a second: a short interval may hold a longer one's energy."""

CEILING_W: dict[DomainKind, float] = {"cpu": 5e3, "dram": 5e3, "gpu": 1e4, "rest": 1e5, "node": 1e5}
"""More than anything of a kind draws: a faster rise is no energy, where the source does not say what its limit is."""

Verdict = Literal["first", "still", "counted", "wrapped", "held", "healed", "reset", "jump", "ambiguous"]


class Baseline(msgspec.Struct):
    """A counter's last trusted value, the value under suspicion if any, and their boot times."""

    uj: int
    t_ns: int
    epoch: str | None = None
    suspect_uj: int | None = None
    suspect_t_ns: int = 0


class Step(msgspec.Struct, frozen=True):
    """What one reading means.

    `uj` is the energy since the baseline, None if unknown or not yet known. `after_suspect` is true if it counts
    from the suspect instead, the time before it being unknown.
    """

    verdict: Verdict
    uj: int | None
    after_suspect: bool = False


def compare(base: Baseline | None, now: Counter, t_ns: int, ceiling_w: float | None = None) -> Step:
    """What a counter's value at a boot time means, against its baseline.

    Args:
        base: the last trusted value; None if there is none in this boot.
        now: the reading.
        t_ns: its boot time; not before the baseline's.
        ceiling_w: more than the domain can draw, where the reading does not say.

    Returns:
        The verdict, and the energy in microjoules where it is known.
    """
    if base is None:
        return Step("first", None)
    if base.epoch is not None and now.epoch is not None and base.epoch != now.epoch:
        return Step("reset", None)
    if now.uj == base.uj and base.suspect_uj is None:
        # A range that the time since allows to be crossed whole is no stand-still.
        return Step("still", None) if len(_possible(base.uj, base.t_ns, now, t_ns)) == 1 else Step("ambiguous", None)
    found = _possible(base.uj, base.t_ns, now, t_ns, ceiling_w)
    if len(found) == 1:
        verdict: Verdict = "counted" if now.uj >= base.uj else "wrapped"
        return Step("healed" if base.suspect_uj is not None and verdict == "counted" else verdict, found[0])
    if found:
        return Step("ambiguous", None)
    if now.uj >= base.uj:
        return Step("jump", None)
    if now.max_uj is None and now.uj < base.uj // 2:
        return Step("reset", None)
    return _fallen(base, now, t_ns)


def _fallen(base: Baseline, now: Counter, t_ns: int) -> Step:
    if base.suspect_uj is None or now.uj < base.suspect_uj:
        return Step("held", None)
    found = _possible(base.suspect_uj, base.suspect_t_ns, now, t_ns)
    return Step("reset", found[0], after_suspect=True) if len(found) == 1 else Step("reset", None)


def _possible(before_uj: int, before_ns: int, now: Counter, t_ns: int, ceiling_w: float | None = None) -> list[int]:
    """The energies that fit both values and the domain's power; at most two, as more say no more."""
    rise = now.uj - before_uj
    if now.max_w is None and rise >= 0:
        return [rise] if ceiling_w is None or rise <= ceiling_w * (t_ns - before_ns + SLACK_NS) / 1000 else []
    # Where the limit is not known, it tells a wrap from a reset, and not how many wraps there were.
    most = round((now.max_w or DEFAULT_MAX_W) * (t_ns - before_ns + SLACK_NS) / 1000)
    if now.max_uj is None:
        return [rise] if 0 <= rise <= most else []
    first = rise if rise >= 0 else rise + now.max_uj
    wraps = (first,) if now.max_w is None else (first, first + now.max_uj)
    return [one for one in wraps if 0 <= one <= most]
