"""Lines over steps: least squares against exact arithmetic, Student's t against tables, intervals and their gaps."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.accounting.assess.asking import assessed

from jobimpact.core.errors import ConfigError
from jobimpact.impact.extrapolation import least_squares, student_t

STUDENT_T = {
    1: 12.706204736174705,
    2: 4.302652729749464,
    3: 3.18244630528371,
    4: 2.7764451051977944,
    5: 2.5705818356363155,
    6: 2.44691185114497,
    7: 2.3646242515927853,
    8: 2.306004135204167,
    9: 2.2621571627982055,
    10: 2.2281388519862747,
    15: 2.1314495455597757,
    20: 2.0859634472658648,
    30: 2.0422724563012383,
    60: 2.0002978220142605,
    100: 1.9839715185235523,
    120: 1.9799304050824408,
    1000: 1.9623390808264085,
}
"""The 97.5 % quantiles, by the incomplete beta function to 30 digits."""
NOISY = [[100, 0.19], [200, 0.38], [400, 0.72], [800, 1.45], [1000, 1.79]]

points = st.lists(
    st.tuples(st.integers(0, 10**6).map(float), st.integers(0, 10**6).map(lambda mwh: mwh / 1e3)),
    min_size=3,
    max_size=20,
).filter(lambda found: len({steps for steps, _ in found}) > 1)


def phase_of(folder: Path, phase: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A unit of one phase, and its phase."""
    unit = assessed(folder, {"name": "one", "extrapolate": {"phases": [phase]}})["one"]
    return unit, unit["extrapolation"][0]


@pytest.mark.parametrize("degrees", STUDENT_T)
def test_student_t_is_the_tables(degrees: int) -> None:
    """To 1e-9 for 1 to 1000 degrees of freedom."""
    assert student_t(degrees) == pytest.approx(STUDENT_T[degrees], rel=1e-9)


def test_student_t_of_many_is_the_normal() -> None:
    """A million degrees of freedom are as good as the normal distribution."""
    assert student_t(10**6) == pytest.approx(1.959964, abs=5e-6)


@given(points)
def test_least_squares_is_exact_arithmetics(found: list[tuple[float, float]]) -> None:
    """Slope, intercept and scatter are those of the textbook's sums in rational numbers."""
    x, y = ([Fraction(value) for value in column] for column in zip(*found, strict=True))
    n, mean_x, mean_y = len(x), sum(x) / len(x), sum(y) / len(y)
    spread = sum((one - mean_x) ** 2 for one in x)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    intercept = mean_y - slope * mean_x
    squares = sum((b - intercept - slope * a) ** 2 for a, b in zip(x, y, strict=True))
    fit = least_squares(found)
    assert fit.slope_kwh_per_step == pytest.approx(float(slope), rel=1e-9, abs=1e-12)
    assert fit.intercept_kwh == pytest.approx(float(intercept), rel=1e-9, abs=1e-8)
    assert fit.standard_error_kwh == pytest.approx(math.sqrt(squares / (n - 2)), rel=1e-6, abs=1e-7)


def test_steps_far_from_zero_lose_no_digits() -> None:
    """A run logged from step 10^12 on gives the slope of one logged from 0."""
    near = least_squares([(0.0, 5.0), (1.0, 7.1), (2.0, 8.9), (3.0, 11.0)])
    far = least_squares([(1e12, 5.0), (1e12 + 1, 7.1), (1e12 + 2, 8.9), (1e12 + 3, 11.0)])
    assert far.slope_kwh_per_step == pytest.approx(near.slope_kwh_per_step, rel=1e-9)
    assert far.standard_error_kwh == pytest.approx(near.standard_error_kwh, rel=1e-6)


@given(points, st.integers(0, 10**7))
def test_the_intervals_hold_the_line_and_each_other(found: list[tuple[float, float]], steps: int) -> None:
    """One training scatters more than the line does, and both more the further from what was measured."""
    fit = least_squares(found)
    at, further = fit.at(steps), fit.at(steps + 10**7)
    assert at.confidence_kwh is not None
    assert at.prediction_kwh is not None
    assert further.confidence_kwh is not None
    low, high = at.confidence_kwh
    assert at.prediction_kwh[0] <= low <= at.energy_kwh <= high <= at.prediction_kwh[1]
    assert further.confidence_kwh[1] - further.energy_kwh >= (high - at.energy_kwh) * (1 - 1e-9)


def test_a_textbook_regression() -> None:
    """Five measurements worked by hand: slope 0.95, intercept 1.15, squares left 0.475, 3 degrees of freedom."""
    fit = least_squares([(1.0, 2.0), (2.0, 3.0), (3.0, 4.5), (4.0, 4.5), (5.0, 6.0)])
    assert (fit.slope_kwh_per_step, fit.intercept_kwh) == pytest.approx((0.95, 1.15), rel=1e-12)
    assert fit.standard_error_kwh == pytest.approx(math.sqrt(0.475 / 3), rel=1e-12)
    assert fit.r2 == pytest.approx(1 - 0.475 / 9.5, rel=1e-12)
    ends = fit.at(6.0)
    half = 3.18244630528371 * math.sqrt(0.475 / 3)
    assert ends.confidence_kwh == pytest.approx((6.85 - half * math.sqrt(1.1), 6.85 + half * math.sqrt(1.1)))
    assert ends.prediction_kwh == pytest.approx((6.85 - half * math.sqrt(2.1), 6.85 + half * math.sqrt(2.1)))


def test_the_command_says_all_of_a_fit(tmp_path: Path) -> None:
    """Line, scatter, quantile, both intervals, and how far beyond what was measured; the unit's range is the wider."""
    unit, phase = phase_of(tmp_path, {"steps": 90000, "measured": NOISY})
    fit = least_squares([(steps, kwh) for steps, kwh in NOISY])
    assert (phase["slope_kwh_per_step"], phase["intercept_kwh"]) == (fit.slope_kwh_per_step, fit.intercept_kwh)
    assert (phase["n"], phase["confidence"], phase["t_quantile"]) == (5, 0.95, pytest.approx(STUDENT_T[3]))
    assert (phase["measured_steps"], phase["times_the_longest_measured"]) == ([100, 1000], 90)
    for key in ("r2", "standard_error_kwh", "slope_error_kwh_per_step", "intercept_error_kwh"):
        assert phase[key] > 0, key
    assert unit["energy_kwh"] == phase["energy_kwh"]
    assert unit["ranges"]["energy_kwh"] == phase["prediction_interval_kwh"]
    assert phase["prediction_interval_kwh"][0] < phase["confidence_interval_kwh"][0] < phase["energy_kwh"]
    assert any("90 times the longest measurement" in note for note in unit["notes"])
    assert phase["reason"] is None


def test_two_points_and_a_published_line_have_no_interval(tmp_path: Path) -> None:
    """None with the reason: not an interval of no width."""
    for line, why in (
        ({"measured": NOISY[:2]}, "two points"),
        ({"slope_kwh_per_step": 0.002, "intercept_kwh": -0.1}, "published"),
    ):
        unit, phase = phase_of(tmp_path, {"steps": 5000} | line)
        assert (phase["confidence_interval_kwh"], phase["prediction_interval_kwh"]) == (None, None)
        assert phase["r2" if why == "two points" else "n"] == (1 if why == "two points" else None)
        assert why in phase["reason"]
        assert any(why in note for note in unit["notes"])


def test_phases_add_up_and_nodes_multiply(tmp_path: Path) -> None:
    """Energies and both ends of the range, over phases and times nodes; the hardware follows the nodes."""
    one = {"steps": 90000, "measured": NOISY}
    two = {"steps": 1000, "slope_kwh_per_step": 0.002, "intercept_kwh": 0.1}
    hours = {"duration_hours": 10, "hardware": {"gwp_kgco2e": 1000}}
    units = [{"name": "alone", "extrapolate": {"phases": [one]}}]
    units += [{"name": "both", "extrapolate": {"phases": [one, two], "nodes": 32}} | hours]
    found = assessed(tmp_path, {"units": units})
    alone, both = found["alone"], found["both"]
    assert both["energy_kwh"] == pytest.approx(32 * (alone["energy_kwh"] + 2.1), rel=1e-12)
    for end in (0, 1):
        ours = both["ranges"]["energy_kwh"][end]
        assert ours == pytest.approx(32 * (alone["ranges"]["energy_kwh"][end] + 2.1), rel=1e-12)
    assert both["method"]["nodes"] == {"value": 32, "source": "extrapolate.nodes"}
    assert both["embodied"]["gwp_kgco2e"] == pytest.approx(32 * 1000 * 10 / 35064, rel=1e-12)
    assert not any("the energy is that of" in note for note in both["notes"])
    four = assessed(tmp_path, units[-1] | {"nodes": 4})["both"]
    assert four["embodied"]["gwp_kgco2e"] == pytest.approx(4 * 1000 * 10 / 35064, rel=1e-12)
    assert "the energy is that of 32 nodes, the hardware of 4" in four["notes"]


def test_a_range_does_not_go_below_zero_and_says_so(tmp_path: Path) -> None:
    """Where the scatter is wide the interval stays as it is; only the range of impacts starts at 0, with a note."""
    scattered = [[100, 5.0], [200, 0.1], [300, 9.0], [400, 2.0]]
    unit, phase = phase_of(tmp_path, {"steps": 500, "measured": scattered})
    assert phase["prediction_interval_kwh"][0] < 0
    assert unit["ranges"]["energy_kwh"][0] == 0
    assert any("below 0" in note for note in unit["notes"])


def test_energies_all_alike_have_no_r2() -> None:
    """Nothing varies, so nothing is explained: None, and no division by zero."""
    fit = least_squares([(1.0, 2.0), (2.0, 2.0), (3.0, 2.0)])
    assert (fit.r2, fit.slope_kwh_per_step, fit.standard_error_kwh) == (None, 0, 0)


@pytest.mark.parametrize("found", [[], [(5.0, 1.0)], [(5.0, 1.0), (5.0, 2.0), (5.0, 3.0)]])
def test_a_line_needs_two_different_steps(found: list[tuple[float, float]]) -> None:
    """However many measurements of the same number there are."""
    with pytest.raises(ConfigError, match="at least two different numbers of steps"):
        least_squares(found)
