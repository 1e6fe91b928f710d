"""Each provider's documented answers: good, with gaps, late, estimated."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.accounting.grid.world import DAY, HOUR, MIDNIGHT, Site

from jobimpact.core.errors import GridError
from jobimpact.core.records import HourIntensity
from jobimpact.grid.electricitymaps import ElectricityMaps
from jobimpact.grid.rte import Rte
from jobimpact.grid.slots import hourly


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


def asked_of(site: Site) -> list[tuple[str, str]]:
    """Data sets, and where their questions start."""
    return [(path.split("/")[-3], asked["where"][20:30]) for path, asked, _ in site.server.asked]


def test_rte_is_asked_by_pages_where_its_portal_has_no_exports(site: Site) -> None:
    """A hundred rows at a time, to the last: the same quarter hours."""
    whole = Rte(site.config("rte")).ask(MIDNIGHT - 3 * DAY, MIDNIGHT)
    site.server.exports = False
    assert Rte(site.config("rte")).ask(MIDNIGHT - 3 * DAY, MIDNIGHT) == whole
    assert [asked["offset"] for path, asked, _ in site.server.asked if path.endswith("/records")][:3] == [
        "0",
        "100",
        "200",
    ]


def test_rte_has_recent_and_older_hours_in_two_data_sets(site: Site) -> None:
    """The older has half hours; both together make the time, without a gap."""
    site.server.recent_from = MIDNIGHT - DAY + 10 * HOUR + 900
    answer = Rte(site.config("rte")).ask(MIDNIGHT - DAY, MIDNIGHT)
    hours = hourly(answer.slots)
    assert answer.refused == ()
    assert [round(hour.kgco2e_per_kwh * 1000) for hour in hours.values()] == [20 + n for n in range(24)]
    assert asked_of(site) == [("eco2mix-national-tr", "2026-03-01"), ("eco2mix-national-cons-def", "2026-03-01")]


def test_rte_keeps_what_one_data_set_told_where_the_other_fails(site: Site) -> None:
    """And says which."""
    site.server.until = MIDNIGHT - HOUR
    site.server.fault, site.server.faulty = "404", lambda number: number in (1, 2)
    with site.grid("rte") as grid:
        problems = grid.fill(MIDNIGHT - DAY, MIDNIGHT)
        assert len(grid.hours(MIDNIGHT - DAY, MIDNIGHT)) == 23
    assert "only a part of it answers: " in problems[0]
    assert "cons-def/exports/json: HTTP 404" in problems[0]
    assert problems[1] == "rte: no value: 2026-03-01T23:00Z: 1 hour concerned"


def test_rte_half_an_hour_that_is_not_measured_yet_is_no_matter_and_less_is_unknown(site: Site) -> None:
    """Null and 0 are both not measured yet; France is never at 0."""
    start = MIDNIGHT - 2 * HOUR
    site.server.odd = {start: None, start + 900: 0, start + 1800: 30, start + 2700: 50}
    site.server.odd |= {start + HOUR: None, start + HOUR + 900: None, start + HOUR + 1800: 0}
    hours = hourly(Rte(site.config("rte")).ask(start, MIDNIGHT).slots)
    assert {at: round(hour.kgco2e_per_kwh, 9) for at, hour in hours.items()} == {start: 0.04}


def test_rows_of_the_same_time_count_once_and_two_values_for_it_not_at_all(site: Site) -> None:
    """As portals have them in the nights on which clocks change."""
    rows = [{"date_heure": f"2026-03-01T23:{15 * n:02d}:00+00:00", "taux_co2": 40} for n in range(4)]
    site.server.raw = json.dumps([*rows, *rows, {**rows[0], "taux_co2": 60}, {**rows[0], "taux_co2": 80}]).encode()
    answer = Rte(site.config("rte")).ask(MIDNIGHT - HOUR, MIDNIGHT)
    assert [slot.start_s - MIDNIGHT for slot in answer.slots] == [-2700, -1800, -900]
    assert [one.what for one in answer.refused] == ["two values for one time"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("inf"), "carbonIntensity = inf"),
        (10**400, "carbonIntensity = 1000"),
        ("57", "carbonIntensity = '57'"),
        (True, "carbonIntensity = True"),
        ([57], "carbonIntensity = [57]"),
        (3001, "3001 gCO2e/kWh"),
        (-0.1, "-0.1 gCO2e/kWh"),
    ],
)
def test_a_value_that_is_no_carbon_intensity_is_named(site: Site, value: object, said: str) -> None:
    """The others of the answer count."""
    site.server.odd = {MIDNIGHT - HOUR: value}
    with site.grid("electricitymaps") as grid:
        (problem,) = grid.fill(MIDNIGHT - DAY, MIDNIGHT)
        assert len(grid.hours(MIDNIGHT - DAY, MIDNIGHT)) == 23
    assert problem.startswith(f"electricitymaps: not a carbon intensity: {said}")
    assert problem.endswith(" at 2026-03-01T23:00Z: 1 hour concerned")


def em_row(**changes: Any) -> dict[str, Any]:
    """The last hour of the day."""
    row = {"zone": "FR", "carbonIntensity": 57, "datetime": "2026-03-01T23:00:00.000Z", "isEstimated": False}
    return {**row, "emissionFactorType": "lifecycle", **changes}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"zone": "FR", "data": [em_row(emissionFactorType=None)]}, "the answer's is None"),
        ({"zone": "FR", "data": [em_row(emissionFactorType="marginal")]}, "the answer's is 'marginal'"),
        ({"zone": "FR", "data": [em_row(zone="DE")]}, "asked for zone FR, and the answer's is 'DE'"),
        ({"zone": "FR", "data": [em_row(temporalGranularity="daily")]}, "temporalGranularity hourly"),
        ({"zone": "FR", "data": [em_row(datetime="2026-03-01T23:30:00Z")]}, "not the start of an hour"),
        ({"zone": "FR", "data": [em_row(datetime="2026-03-01T23:00:00")]}, "not the start of an hour"),
        ({"zone": "FR", "data": [em_row(datetime=1772406000)]}, "not the start of an hour: datetime = 1772406000"),
        ({"zone": "FR", "data": [em_row(carbonIntensity=None)]}, "no value"),
        ({"zone": "FR", "data": []}, "no value"),
        ({"zone": "FR", "data": [7]}, "a row is not an object"),
        ({"zone": "FR", "data": {}}, "the answer has no list `data`"),
        ({"error": "no"}, "the answer has no list `data`"),
        ([], "the answer has no list `data`"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_an_answer_that_is_not_what_was_asked_for_is_refused(site: Site, answer: object, said: str) -> None:
    """And tells what it is instead."""
    site.server.raw = json.dumps(answer).encode()
    with site.grid("electricitymaps") as grid:
        problems = grid.fill(MIDNIGHT - HOUR, MIDNIGHT)
        assert grid.hours(MIDNIGHT - HOUR, MIDNIGHT) == {}
    assert any(said in line for line in problems)


def test_a_basis_that_is_told_once_for_all_rows_will_do_and_none_will_not(site: Site) -> None:
    """What does not say that it is final is an estimate."""
    row = em_row()
    del row["emissionFactorType"], row["zone"], row["isEstimated"]
    source = ElectricityMaps(site.config("electricitymaps"))
    site.server.raw = json.dumps({"zone": "FR", "emissionFactorType": "lifecycle", "data": [row]}).encode()
    assert [slot.estimated for slot in source.ask(MIDNIGHT - HOUR, MIDNIGHT).slots] == [True]
    site.server.raw = json.dumps({"zone": "FR", "data": [row]}).encode()
    with pytest.raises(GridError, match="asked for emissionFactorType lifecycle, and the answer's is not told"):
        source.ask(MIDNIGHT - HOUR, MIDNIGHT)


@pytest.mark.parametrize("fault", ["deep", "empty"])
def test_answers_that_are_no_json(site: Site, fault: str) -> None:
    """Nothing, and brackets without end."""
    site.server.fault = fault
    with pytest.raises(GridError, match="the answer is not JSON, or cut short"):
        Rte(site.config("rte")).ask(MIDNIGHT - HOUR, MIDNIGHT)


ODD = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=12) | st.lists(st.none(), max_size=2)
TIMES = st.sampled_from(["2026-03-01T23:00:00Z", "2026-03-01T23:15:00+00:00", "0001-01-01T00:00+23:59"]) | ODD
NAMES = st.sampled_from(["date_heure", "taux_co2", "datetime", "carbonIntensity", "zone", "emissionFactorType"])
ROWS = st.dictionaries(NAMES, TIMES) | ODD


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(ROWS, max_size=4) | ROWS)
def test_no_json_whatever_is_more_than_an_error(site: Site, rows: Any) -> None:
    """Slots that can be, refusals, or an error of ours."""
    for source, content in (
        (Rte(site.config("rte")), rows),
        (
            ElectricityMaps(site.config("electricitymaps")),
            {"zone": "FR", "emissionFactorType": "lifecycle", "data": rows},
        ),
    ):
        site.server.raw = json.dumps(content).encode()
        try:
            answer = source.ask(MIDNIGHT - HOUR, MIDNIGHT)
        except GridError:
            continue
        assert all(0 <= slot.kgco2e_per_kwh <= 3 for slot in answer.slots)
