"""The energy of a long training from a measured fraction of it: a straight line over its steps. Pure.

Ordinary least squares, and two intervals at the steps asked for: of the line (confidence), and of one training
around it (prediction). Both rest on the line going on as it was measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from jobimpact.core.errors import ConfigError

__all__ = [
    "CONFIDENCE",
    "Extrapolate",
    "Extrapolated",
    "Fit",
    "Forecast",
    "Interval",
    "doubts",
    "extrapolated",
    "least_squares",
    "student_t",
]

CONFIDENCE = 0.95

Number = Annotated[float, Meta(ge=0, le=1e12)]
Pair = Annotated[list[Number], Meta(min_length=2, max_length=2)]
Interval = tuple[float, float]


class _Keys(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Steps(_Keys, frozen=True):
    """A phase of a training: its steps, and the line that gives their energy, published or through measurements."""

    steps: Number
    slope_kwh_per_step: Number | None = None
    intercept_kwh: Annotated[float, Meta(ge=-1e12, le=1e12)] | None = None
    measured: list[Pair] | None = None
    """Steps, and the kWh that they took."""


class Extrapolate(_Keys, frozen=True):
    """A long training's phases. `nodes` take so many times the energy for the same steps."""

    phases: Annotated[list[Steps], Meta(min_length=1)]
    nodes: Annotated[int, Meta(ge=1, le=1_000_000)] = 1


class Forecast(Struct, frozen=True):
    """What a line says at so many steps; intervals are None where there is no telling."""

    steps: float
    energy_kwh: float
    confidence_kwh: Interval | None
    prediction_kwh: Interval | None
    beyond: float | None
    """How many times the longest measurement that is."""


class Fit(Struct, frozen=True):
    """A line through measurements, or a published one (`points` 0, and nothing else known of it)."""

    slope_kwh_per_step: float
    intercept_kwh: float
    points: int = 0
    r2: float | None = None
    """None also where all energies are alike."""
    standard_error_kwh: float | None = None
    """Of one measurement around the line."""
    slope_error_kwh_per_step: float | None = None
    intercept_error_kwh: float | None = None
    t_quantile: float | None = None
    """Student's t for two-sided 95 % and two fewer degrees of freedom than points."""
    mean_steps: float = 0.0
    spread_steps2: float = 0.0
    """Sum of squared distances from `mean_steps`."""
    measured_steps: Interval | None = None
    """The shortest and the longest measurement."""

    @property
    def reason(self) -> str | None:
        """Why there are no intervals; None: there are."""
        if not self.points:
            return "a published fit: its scatter is not known"
        return "two points: their scatter is not known" if self.t_quantile is None else None

    def at(self, steps: float) -> Forecast:
        """The energy of so many steps, kWh."""
        energy_kwh = self.slope_kwh_per_step * steps + self.intercept_kwh
        beyond = steps / self.measured_steps[1] if self.measured_steps else None
        if self.t_quantile is None or self.standard_error_kwh is None:
            return Forecast(steps, energy_kwh, None, None, beyond)
        leverage = 1 / self.points + (steps - self.mean_steps) ** 2 / self.spread_steps2
        mean, one = (self.t_quantile * self.standard_error_kwh * math.sqrt(part) for part in (leverage, 1 + leverage))
        return Forecast(
            steps,
            energy_kwh,
            (energy_kwh - mean, energy_kwh + mean),
            (energy_kwh - one, energy_kwh + one),
            beyond,
        )


class Extrapolated(Struct, frozen=True):
    """A phase's line, and what it says at the phase's steps, on one node."""

    fit: Fit
    forecast: Forecast


def extrapolated(key: str, phase: Steps) -> Extrapolated:
    """A phase's line and its energy.

    Args:
        key: what messages call the phase.
        phase: as the file has it.

    Raises:
        ConfigError: names the key: too few measurements, both or neither kind of line, an energy below 0.
    """
    published = (phase.slope_kwh_per_step, phase.intercept_kwh)
    if (phase.measured is not None) == any(one is not None for one in published):
        raise ConfigError(f"{key}: either measured, or slope_kwh_per_step and intercept_kwh")
    _check_whole(f"{key}.steps", phase.steps)
    if phase.measured is not None:
        for at, (steps, _) in enumerate(phase.measured):
            _check_whole(f"{key}.measured[{at}][0]", steps)
        try:
            fit = least_squares([(steps, kwh) for steps, kwh in phase.measured])
        except ConfigError as error:
            raise ConfigError(f"{key}.measured: {error}") from error
    elif phase.slope_kwh_per_step is None or phase.intercept_kwh is None:
        missing = "slope_kwh_per_step" if phase.slope_kwh_per_step is None else "intercept_kwh"
        raise ConfigError(f"{key}.{missing}: missing: slope and intercept go together")
    else:
        fit = Fit(phase.slope_kwh_per_step, phase.intercept_kwh)
    forecast = fit.at(phase.steps)
    if forecast.energy_kwh < 0:
        raise ConfigError(f"{key}: its line gives {forecast.energy_kwh:g} kWh at {phase.steps:g} steps: no energy")
    return Extrapolated(fit, forecast)


def _check_whole(key: str, steps: float) -> None:
    if not steps.is_integer():
        raise ConfigError(f"{key}: {steps:g}: not a whole number")


def doubts(name: str, one: Extrapolated) -> list[str]:
    """What a reader should know before trusting a line."""
    fit, forecast = one.fit, one.forecast
    notes = [f"{name}: no interval: {fit.reason}"] if fit.reason else []
    if forecast.beyond is not None and forecast.beyond > 1:
        notes.append(
            f"{name}: {forecast.beyond:.3g} times the longest measurement; the intervals take the line as true"
        )
    if fit.slope_kwh_per_step < 0:
        notes.append(f"{name}: energy falls with steps: the line cannot go on")
    if forecast.prediction_kwh is not None and forecast.prediction_kwh[0] < 0:
        notes.append(f"{name}: its prediction interval reaches below 0: the range starts at 0")
    return notes


def least_squares(points: Sequence[tuple[float, float]]) -> Fit:
    """The line that is nearest to all measurements.

    Args:
        points: steps, and the kWh that they took.

    Raises:
        ConfigError: there are fewer than two different numbers of steps.
    """
    if len({steps for steps, _ in points}) < 2:
        raise ConfigError("a line needs measurements of at least two different numbers of steps")
    count = len(points)
    mean_steps = math.fsum(steps for steps, _ in points) / count
    mean_kwh = math.fsum(kwh for _, kwh in points) / count
    # Distances from the means: sums of raw squares would lose what little differs.
    spread = math.fsum((steps - mean_steps) ** 2 for steps, _ in points)
    slope = math.fsum((steps - mean_steps) * (kwh - mean_kwh) for steps, kwh in points) / spread
    squared_kwh = math.fsum((kwh - mean_kwh) ** 2 for _, kwh in points)
    left_kwh2 = math.fsum((kwh - mean_kwh - slope * (steps - mean_steps)) ** 2 for steps, kwh in points)
    error = math.sqrt(left_kwh2 / (count - 2)) if count > 2 else None
    return Fit(
        slope_kwh_per_step=slope,
        intercept_kwh=mean_kwh - slope * mean_steps,
        points=count,
        r2=1 - left_kwh2 / squared_kwh if squared_kwh else None,
        standard_error_kwh=error,
        slope_error_kwh_per_step=None if error is None else error / math.sqrt(spread),
        intercept_error_kwh=None if error is None else error * math.sqrt(1 / count + mean_steps**2 / spread),
        t_quantile=student_t(count - 2) if count > 2 else None,
        mean_steps=mean_steps,
        spread_steps2=spread,
        measured_steps=(min(steps for steps, _ in points), max(steps for steps, _ in points)),
    )


def student_t(degrees: int) -> float:
    """Student's t within which 95 % of its distribution lie, on both sides together.

    Args:
        degrees: of freedom, at least 1.
    """

    def outside(t: float) -> float:
        return _incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t))

    low, high = 1.0, 16.0  # 1.96 to 12.71
    while (middle := (low + high) / 2) not in {low, high}:
        low, high = (middle, high) if outside(middle) > 1 - CONFIDENCE else (low, middle)
    return high


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function."""
    if x > (a + 1) / (a + b + 2):  # there the fraction converges slowly: by symmetry
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    return front / a * _beta_fraction(a, b, x)


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Its continued fraction (DLMF 8.17.22), two terms at a time by Lentz's method."""
    c = 1.0
    d = 1 / (1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 1000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        before = value
        for term in (even, odd):
            d = 1 / (1 + term * d)
            c = 1 + term / c
            value *= c * d
        if abs(value - before) <= 1e-16 * abs(value):
            break
    return value
