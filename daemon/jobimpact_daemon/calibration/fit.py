"""A straight line from what a node's parts measure to what its plug draws. Pure.

Both are cut into equal windows, long enough that a meter's lag and averaging matter little; the lag that is left is
the one that gives the best r², and is taken out. A window of which anything is not known is skipped, and counted.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from jobimpact.core.errors import CalibrationError
from jobimpact.core.units import NS

__all__ = ["METER", "Curve", "Fit", "Piece", "fit"]

METER = "the meter"
MIN_WINDOWS = 30
MIN_RANGE_W = 10.0
MIN_RANGE = 0.2
"""The load must change by this part of its largest: through two points that are one, any line fits."""
SLOPES = (0.5, 3.0)
"""A watt of the parts costs more at the plug (conversion, fans) and never three times as much."""
MIN_R2 = 0.5
BENT = 0.15
"""The slopes of the lower and the upper half of the load may differ by this part before a line is doubted."""
FEW = 10
"""Windows in a half of the load, below which nothing is said of its slope."""
SURE = 3.0
"""Standard errors by which they must differ too."""
COARSE_NS = NS // 2
FINE_NS = NS // 10


class Piece(msgspec.Struct, frozen=True):
    """A time for which the energy is known; power is taken to change evenly in it."""

    start_ns: int
    end_ns: int
    from_w: float
    to_w: float


class Curve:
    """Power over time, as far as it is known.

    Args:
        pieces: in order of time, without overlaps.
        longest_ns: a longer piece says too little of when its energy flowed, and is not known.
    """

    def __init__(self, pieces: Iterable[Piece], longest_ns: float = math.inf) -> None:
        self._pieces = [piece for piece in pieces if piece.end_ns - piece.start_ns <= longest_ns]
        self._starts = [piece.start_ns for piece in self._pieces]
        self._before: list[tuple[float, int]] = []
        energy, known_ns = 0.0, 0
        for piece in self._pieces:
            self._before.append((energy, known_ns))
            length_ns = piece.end_ns - piece.start_ns
            energy += (piece.from_w + piece.to_w) / 2 * length_ns
            known_ns += length_ns

    @property
    def span(self) -> tuple[int, int] | None:
        """From when to when anything is known, in ns; None: nothing is."""
        return (self._pieces[0].start_ns, self._pieces[-1].end_ns) if self._pieces else None

    def mean_w(self, start_ns: int, end_ns: int) -> float | None:
        """Mean power of a time; None: not all of it is known."""
        (energy, known_ns), (energy_after, known_after_ns) = self._until(start_ns), self._until(end_ns)
        whole_ns = end_ns - start_ns
        return (energy_after - energy) / whole_ns if known_after_ns - known_ns == whole_ns else None

    def _until(self, t_ns: int) -> tuple[float, int]:
        """Energy (W ns) and known time (ns) up to a time."""
        index = bisect_right(self._starts, t_ns) - 1
        if index < 0:
            return 0.0, 0
        piece, (energy, known_ns) = self._pieces[index], self._before[index]
        length_ns = piece.end_ns - piece.start_ns
        x_ns = min(t_ns - piece.start_ns, length_ns)
        rise = (piece.to_w - piece.from_w) / length_ns
        return energy + (piece.from_w + rise * x_ns / 2) * x_ns, known_ns + x_ns


class Fit(msgspec.Struct, frozen=True):
    """meter_w = slope x parts_w + offset_w, and how well."""

    slope: float
    offset_w: float
    residual_w: float
    """Standard deviation of a window from the line."""
    max_residual_w: float
    mean_error: float
    """Mean of |residual| / meter."""
    r2: float
    windows: int
    skipped: dict[str, int]
    """Windows that were left out, by the part that was not known in them."""
    lag_s: float
    from_w: float
    """The parts' least mean power of a window."""
    to_w: float
    meter_from_w: float
    meter_to_w: float
    bent: tuple[float, float] | None
    """The slopes of the lower and the upper half of the load, where they differ too much for one line."""


class _Window(msgspec.Struct, frozen=True):
    start_ns: int
    end_ns: int
    parts_w: float


Pairs = tuple[list[float], list[float]]


def fit(parts: Mapping[str, Curve], meter: Curve, window_ns: int, lags_ns: tuple[int, int]) -> Fit:
    """Fit the meter to the sum of the parts.

    Args:
        parts: power of each part over time.
        meter: power of the whole node, on the same axis of time.
        window_ns: the length of a window.
        lags_ns: the least and the most by which the meter may lag.

    Raises:
        CalibrationError: too little data, too little variation of load, or no line that a node can have.
    """
    windows, skipped = _windows(parts, meter, window_ns)
    if len(windows) >= MIN_WINDOWS:
        _check_range([window.parts_w for window in windows])
    lag_ns = _best_lag(windows, meter, lags_ns)
    x, y = _pairs(windows, meter, lag_ns)
    skipped[METER] = len(windows) - len(x)
    skipped = {name: count for name, count in skipped.items() if count}
    _check_number(len(x), window_ns, skipped)
    _check_range(x)
    slope, offset_w = statistics.linear_regression(x, y)
    r2 = _r2(x, y)
    _check_line(slope, r2)
    residuals = [meter_w - (slope * parts_w + offset_w) for parts_w, meter_w in zip(x, y, strict=True)]
    return Fit(
        slope=slope,
        offset_w=offset_w,
        residual_w=_deviation(residuals),
        max_residual_w=max(map(abs, residuals)),
        mean_error=statistics.fmean(abs(one) / meter_w for one, meter_w in zip(residuals, y, strict=True) if meter_w),
        r2=r2,
        windows=len(x),
        skipped=skipped,
        lag_s=lag_ns / NS,
        from_w=min(x),
        to_w=max(x),
        meter_from_w=min(y),
        meter_to_w=max(y),
        bent=_bent(x, y),
    )


def _windows(parts: Mapping[str, Curve], meter: Curve, window_ns: int) -> tuple[list[_Window], dict[str, int]]:
    """Windows in which every part is known; how often each was not."""
    spans = [curve.span for curve in (*parts.values(), meter)]
    known = [span for span in spans if span is not None]
    skipped = dict.fromkeys(parts, 0)
    windows: list[_Window] = []
    start_ns, end_ns = max(span[0] for span in known), min(span[1] for span in known)
    for begin_ns in range(start_ns, end_ns - window_ns + 1, window_ns):
        sum_w = 0.0
        for name, curve in parts.items():
            part_w = curve.mean_w(begin_ns, begin_ns + window_ns)
            if part_w is None:
                skipped[name] += 1
                break
            sum_w += part_w
        else:
            windows.append(_Window(begin_ns, begin_ns + window_ns, sum_w))
    return windows, skipped


def _pairs(windows: Sequence[_Window], meter: Curve, lag_ns: int) -> Pairs:
    x: list[float] = []
    y: list[float] = []
    for window in windows:
        meter_w = meter.mean_w(window.start_ns + lag_ns, window.end_ns + lag_ns)
        if meter_w is not None:
            x.append(window.parts_w)
            y.append(meter_w)
    return x, y


def _best_lag(windows: Sequence[_Window], meter: Curve, lags_ns: tuple[int, int]) -> int:
    """The lag with the best r²: by half seconds, then by tenths around the best."""
    least_ns, most_ns = lags_ns

    def goodness(lag_ns: int) -> tuple[float, int]:
        x, y = _pairs(windows, meter, lag_ns)
        return (_r2(x, y) if len(x) >= MIN_WINDOWS else -1.0, -abs(lag_ns))

    coarse_ns = max(range(least_ns, most_ns + 1, COARSE_NS), key=goodness)
    around = range(max(least_ns, coarse_ns - COARSE_NS), min(most_ns, coarse_ns + COARSE_NS) + 1, FINE_NS)
    return max(around, key=goodness)


def _r2(x: Sequence[float], y: Sequence[float]) -> float:
    try:
        return statistics.correlation(x, y) ** 2
    except statistics.StatisticsError:
        return 0.0


def _deviation(residuals: Sequence[float]) -> float:
    """Two parameters were fitted, so two degrees of freedom are gone."""
    return math.sqrt(math.fsum(one * one for one in residuals) / (len(residuals) - 2))


def _check_number(found: int, window_ns: int, skipped: Mapping[str, int]) -> None:
    if found >= MIN_WINDOWS:
        return
    why = ", ".join(f"{count} without {name}" for name, count in skipped.items())
    raise CalibrationError(
        f"only {found} windows of {window_ns / NS:g} s could be used, and {MIN_WINDOWS} are needed"
        f"{f' ({why})' if why else ''}: record for longer, or choose shorter windows"
    )


def _check_range(x: Sequence[float]) -> None:
    low_w, *_, high_w = statistics.quantiles(x, n=20)
    if high_w - low_w < max(MIN_RANGE_W, MIN_RANGE * high_w):
        raise CalibrationError(
            f"the load hardly changed (the parts drew {low_w:.0f} to {high_w:.0f} W): "
            "record the node both idle and loaded"
        )


def _check_line(slope: float, r2: float) -> None:
    if not SLOPES[0] <= slope <= SLOPES[1]:
        raise CalibrationError(
            f"the meter changes by {slope:.2f} W for each watt of the parts, and a node's by "
            f"{SLOPES[0]:g} to {SLOPES[1]:g} W: is it the meter of this node, of this node alone, and of all of it?"
        )
    if r2 < MIN_R2:
        raise CalibrationError(
            f"the meter does not follow the parts (r² {r2:.2f}): is it this node's, and do the clocks agree?"
        )


def _bent(x: Sequence[float], y: Sequence[float]) -> tuple[float, float] | None:
    """The slopes of both halves of the load, where they surely differ by more than a line allows."""
    middle_w = (min(x) + max(x)) / 2
    pairs = list(zip(x, y, strict=True))
    halves = [_slope([one for one in pairs if (one[0] > middle_w) is upper]) for upper in (False, True)]
    if halves[0] is None or halves[1] is None:
        return None
    (low, low_error), (high, high_error) = halves[0], halves[1]
    differ = abs(high - low)
    mean = (abs(low) + abs(high)) / 2
    return (low, high) if differ > BENT * mean and differ > SURE * math.hypot(low_error, high_error) else None


def _slope(pairs: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """A slope and its standard error; None: too few points, or all at one load."""
    if len(pairs) < FEW:
        return None
    x, y = [one[0] for one in pairs], [one[1] for one in pairs]
    spread = math.fsum((one - statistics.fmean(x)) ** 2 for one in x)
    if not spread:
        return None
    slope, offset = statistics.linear_regression(x, y)
    error = _deviation([meter_w - slope * parts_w - offset for parts_w, meter_w in pairs]) / math.sqrt(spread)
    return slope, error
