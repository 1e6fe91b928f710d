"""Each provider's documented answers: good, with gaps, late, estimated."""

from __future__ import annotations

import pytest
from tests.accounting.grid.world import DAY, HOUR, MIDNIGHT, Site

from jobimpact.core.records import HourIntensity


def test_electricity_maps_gives_every_hour_of_a_day(site: Site) -> None:
    """24 life-cycle hours, in kilograms, and nothing to tell; the second night asks nothing."""
    with site.grid("electricitymaps") as grid:
        assert grid.fill(MIDNIGHT - DAY, MIDNIGHT) == []
        hours = grid.hours(MIDNIGHT - DAY, MIDNIGHT)
        assert {MIDNIGHT - DAY + n * HOUR: HourIntensity((50 + n) / 1000, "lifecycle") for n in range(24)} == hours
        assert len(site.server.asked) == 1
        assert grid.fill(MIDNIGHT - DAY, MIDNIGHT) == []
        assert len(site.server.asked) == 1


def test_rte_gives_the_shape_of_a_day_and_the_mean_of_the_year_before(site: Site) -> None:
    """24 direct hours, each with the mean of the twelve months before its month, which are fetched as well."""
    with site.grid("rte") as grid:
        assert grid.fill(MIDNIGHT - DAY, MIDNIGHT) == []
        hours = grid.hours(MIDNIGHT - DAY, MIDNIGHT)
    assert len(hours) == 24
    assert {"direct"} == {hour.basis for hour in hours.values()}
    (mean,) = {hour.mean for hour in hours.values()}
    assert mean == pytest.approx(0.0315)
    assert [(20 + n) / 1000 for n in range(24)] == pytest.approx([hour.kgco2e_per_kwh for hour in hours.values()])
    assert len(site.server.asked) <= 14
