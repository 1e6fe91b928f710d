"""What a job says that it is: its model, energy per step, and what the last part of its quality cost. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from jobimpact.core.records import Progress
from jobimpact.report.numbers import energy, kwh, percent
from jobimpact.report.words import clean

__all__ = ["Gain", "activity_lines", "gain"]

MOST_LABELS = 8
MOST_METRICS = 2
LONGEST = 60
"""Of a label's text and a metric's name."""
PART = 0.9
"""What comes after this part of the gain is the last of it."""
_NUMBERS = frozenset({"steps", "unit"})
_LESS_IS_BETTER = frozenset({"err", "ppl", "mae", "mse", "rmse", "mape", "wer", "cer", "fid", "nll", "bpb", "bpc"})
"""Words of a metric's name, and what its words may end with."""
_ENDS_OF_LESS = ("loss", "losses", "error", "errors", "perplexity")
_WORDS = r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+"


class Gain(msgspec.Struct, frozen=True):
    """A metric against energy. Energies are microjoules since the job's start."""

    name: str
    first: float
    best: float
    best_uj: int
    """What had been used when the best was told."""
    most: float
    """The first value with nine tenths of the gain, and what had been used by then."""
    most_uj: int

    @property
    def last(self) -> float:
        """The last part of the gain."""
        return abs(self.best - self.most)

    @property
    def last_uj(self) -> int:
        """What that part took."""
        return self.best_uj - self.most_uj


def gain(progress: Sequence[Progress], name: str) -> Gain | None:
    """How a metric got better, and at what energy.

    Args:
        progress: what the job told, in any order; a point whose energy is not known does not count.
        name: the metric's. Less is better where a word of its name says so (`loss`, `err`, `ppl`, ...), else more.

    Returns:
        None: there are not two points of it, or it never got better.
    """
    points = [
        (one.uj, one.metrics[name])
        for one in sorted(progress, key=lambda one: one.wall_s)
        if one.uj is not None and name in one.metrics and math.isfinite(one.metrics[name])
    ]
    if len(points) < 2:
        return None
    sign = -1.0 if _less_is_better(name) else 1.0
    first = points[0][1]
    best_uj, best = max(points, key=lambda point: (sign * point[1], -point[0]))
    if sign * (best - first) <= 0:
        return None
    enough = first + PART * (best - first)
    # The gain of the largest floats is infinite: then only the best is enough.
    most_uj, most = next((point for point in points if sign * (point[1] - enough) >= 0), (best_uj, best))
    return Gain(name, first, best, best_uj, most, most_uj)


def _less_is_better(name: str) -> bool:
    """By whole words: `answer_acc` has no word error rate in it."""
    words = [word.lower() for word in re.findall(_WORDS, name)]
    return any(word in _LESS_IS_BETTER or word.endswith(_ENDS_OF_LESS) for word in words)


def activity_lines(
    labels: Mapping[str, str],
    progress: Sequence[Progress],
    energy_j: float | None,
    *,
    coverage: float,
    completed: bool,
) -> tuple[str, ...]:
    """What is told of a job's work.

    Args:
        labels: what it says that it is. `steps` is how many it was to do, `unit` what one is.
        progress: what it told in mid run.
        energy_j: its energy; None: not known.
        coverage: for which part of what it held that is known, 0 to 1.
        completed: it did all that it was to do.
    """
    return (
        *_labels(labels),
        *_steps(labels, progress, energy_j, coverage=coverage, completed=completed),
        *_gains(progress, energy_j, coverage),
    )


def _labels(labels: Mapping[str, str]) -> Iterator[str]:
    told = [(name, value) for name, value in labels.items() if name not in _NUMBERS]
    told.sort(key=lambda one: (one[0] != "model", one[0] != "activity"))
    if told:
        more = f" and {len(told) - MOST_LABELS} more" if len(told) > MOST_LABELS else ""
        yield "; ".join(f"{_short(name)} {_short(value)}" for name, value in told[:MOST_LABELS]) + more + "."


def _steps(
    labels: Mapping[str, str],
    progress: Sequence[Progress],
    energy_j: float | None,
    *,
    coverage: float,
    completed: bool,
) -> Iterator[str]:
    """By the label of a job that completed; of another one by the last step that it told."""
    steps = _number(labels.get("steps", "")) if completed else None
    joules = energy_j
    if steps is None:
        told = [one for one in progress if one.step is not None and one.step > 0]
        last = max(told, key=lambda one: one.wall_s, default=None)
        if last is None or last.uj is None:
            return
        steps, joules = last.step, last.uj / 1e6
    if not steps or joules is None:
        return
    unit = _short(labels.get("unit", "")) or "step"
    yield f"{energy(joules / steps)} for each {unit}, over {steps:,}{_part(coverage)}."


def _part(coverage: float) -> str:
    return "" if coverage >= 1 else f", of the {percent(coverage)} that is known"


def _gains(progress: Sequence[Progress], energy_j: float | None, coverage: float) -> Iterator[str]:
    names = dict.fromkeys(name for one in progress for name in one.metrics)
    found = [one for one in (gain(progress, name) for name in names) if one is not None]
    for one in found[:MOST_METRICS]:
        said = f"{_short(one.name)} {one.best:.4g} at {kwh(one.best_uj / 3.6e12)}"
        if one.last_uj > 0 and one.last > 0:
            share = percent(one.last_uj / one.best_uj)
            said += f"; the last {one.last:.2g} of it took {kwh(one.last_uj / 3.6e12)} ({share})"
        after_uj = 0.0 if energy_j is None else energy_j * 1e6 - one.best_uj
        if after_uj > 0.05 * one.best_uj:
            said += f"; the {kwh(after_uj / 3.6e12)} after that brought no more"
        yield f"{said}{_part(coverage)}."


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 and int(text) > 0 else None


def _short(text: str) -> str:
    plain = " ".join(clean(text).split())
    return plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 3]}..."
