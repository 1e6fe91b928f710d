"""ENTSO-E's documents: curves, resolutions, kinds of generation, and those that cannot be what they claim."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.accounting.grid.world import DAY, GENERATION, HOUR, MIDNIGHT, Site
from tests.fakes.grid_servers import DOMAIN

from jobimpact.core.errors import GridError
from jobimpact.grid.entsoe import Entsoe


def by_hour(site: Site) -> dict[int, float]:
    """Grams by hour of the day before."""
    with site.grid("entsoe") as grid:
        site.problems = grid.fill(MIDNIGHT - DAY, MIDNIGHT)
        return {
            (at - MIDNIGHT + DAY) // HOUR: hour.kgco2e_per_kwh * 1000
            for at, hour in grid.hours(MIDNIGHT - DAY, MIDNIGHT).items()
        }


def expected(hour: int) -> float:
    """Nuclear and gas as the server has them; what storage takes counts nowhere."""
    gas = 1000 * hour
    return 1000 * (40000 * 0.006 + gas * 0.418) / (40000 + gas)


@pytest.mark.parametrize("curve", ["A01", "A03"])
def test_generation_is_weighted_with_factors(site: Site, curve: str) -> None:
    """Hourly nuclear power and quarters of gas, whether what repeats is told or left out."""
    site.server.curve = curve
    assert by_hour(site) == pytest.approx({hour: expected(hour) for hour in range(24)})
    assert site.problems == []
    (path, asked, _) = site.server.asked[0]
    assert (path, asked["in_Domain"]) == ("/entsoe/api", DOMAIN)
    assert (asked["periodStart"], asked["periodEnd"]) == ("202602280000", "202603020000")


def test_what_does_not_count_is_left_out(site: Site) -> None:
    """Storage that empties itself is in neither sum."""
    site.server.types["B10"] = (HOUR, lambda _: 5000)
    assert by_hour(site)[12] == pytest.approx(expected(12))


def test_a_kind_without_a_factor_makes_its_hours_unknown(site: Site) -> None:
    """Where it generates; a kind of nothing is no matter."""
    site.server.types["B21"] = (HOUR, lambda at: 500 if at == MIDNIGHT - HOUR else 0)
    assert list(by_hour(site)) == list(range(23))
    assert site.problems == [
        "entsoe: a kind of generation has no factor: B21 at 2026-03-01T23:00Z, and 3 more: 1 hour concerned"
    ]


def test_a_kind_that_is_late_makes_no_hour_dirty(site: Site) -> None:
    """The last hours' nuclear power is not there yet; they are not known. A small kind may be late."""
    late = MIDNIGHT - 3 * HOUR
    site.server.curve = "A01"
    site.server.types["B14"] = (HOUR, lambda at: 40000 if at < late else None)
    site.server.types["B16"] = (HOUR, lambda at: 10 if at < late else None)
    assert list(by_hour(site)) == list(range(21))
    assert site.problems == [
        "entsoe: a kind of generation is missing: B14 at 2026-03-01T21:00Z, and 11 more: 3 hours concerned"
    ]
    site.server.types["B14"] = (HOUR, lambda _: 40000)
    assert list(by_hour(site)) == list(range(24))


def solar(at: int) -> int:
    """From 06:00 to 18:00, with a ramp that starts at next to nothing."""
    quarter = at % DAY // 900
    return max(0, 12000 - 500 * abs(quarter - 48)) if 24 <= quarter <= 72 else -1


def test_the_sun_that_is_left_out_at_night_is_nothing(site: Site) -> None:
    """Also where the answer ends in the evening; a noon without sun is not known, nor what is late for long."""
    site.server.curve = "A01"
    site.server.types["B16"] = (900, lambda at: None if solar(at) < 0 else solar(at))
    hours = by_hour(site)
    assert site.problems == []
    assert hours[3] == pytest.approx(expected(3))
    assert hours[22] == pytest.approx(expected(22))
    assert hours[12] < expected(12)


@pytest.mark.parametrize(
    ("known", "hours"),
    [
        (lambda at: solar(at) >= 0 and at != MIDNIGHT - 12 * HOUR, set()),
        (lambda at: solar(at) >= 0 and not MIDNIGHT - 13 * HOUR <= at < MIDNIGHT - 11 * HOUR, {11, 12}),
        (lambda at: solar(at) >= 0 and at < MIDNIGHT - 8 * HOUR, set(range(16, 24))),
        (lambda at: solar(at) >= 0 and at > MIDNIGHT - 12 * HOUR, set(range(12))),
    ],
    ids=["a quarter of noon", "noon", "from the afternoon on", "until noon"],
)
def test_the_sun_that_is_left_out_by_day_makes_its_hours_unknown(
    site: Site, known: Callable[[int], bool], hours: set[int]
) -> None:
    """It had not faded before, or had not when it came back."""
    site.server.curve = "A01"
    site.server.types["B16"] = (900, lambda at: solar(at) if known(at) else None)
    assert set(range(24)) - by_hour(site).keys() == hours
    assert "a kind of generation is missing: B16 at" in site.problems[0]


@pytest.mark.parametrize("value", ["NaN", "inf", "-1", "1e9", "9999999", "1_0", "", "&lt;", "-0.5"])
def test_a_number_that_is_no_power_is_unknown_until_the_next(site: Site, value: str) -> None:
    """In a curve that leaves out what repeats as well: the one before does not hold in its place."""
    site.server.types["B14"] = (HOUR, lambda at: value if at == MIDNIGHT - 6 * HOUR else 40000)
    assert sorted(set(range(24)) - by_hour(site).keys()) == [18]
    assert "not a power: " in site.problems[0]
    assert "MW of B14 at 2026-03-01T18:00Z: 1 hour concerned" in site.problems[0]


def test_nothing_generated_is_not_known(site: Site) -> None:
    """There is nothing to weight."""
    site.server.types = {"B14": (HOUR, lambda _: 0)}
    assert by_hour(site) == {}


def document(period: str, *, head: str = "", series: str = "") -> bytes:
    """A document of one series of nuclear power."""
    return (
        '<?xml version="1.0"?><GL_MarketDocument xmlns="urn:x">'
        f"{head or '<type>A75</type><process.processType>A16</process.processType>'}<TimeSeries>"
        f"{series or f'<inBiddingZone_Domain.mRID>{DOMAIN}</inBiddingZone_Domain.mRID>'}"
        "<quantity_Measure_Unit.name>MAW</quantity_Measure_Unit.name><curveType>A03</curveType>"
        f"<MktPSRType><psrType>B14</psrType></MktPSRType>{period}</TimeSeries></GL_MarketDocument>"
    ).encode()


def period(
    points: str, *, start: str = "2026-03-01T00:00Z", end: str = "2026-03-02T00:00Z", step: str = "PT60M"
) -> str:
    """A period of a day."""
    return (
        f"<Period><timeInterval><start>{start}</start><end>{end}</end></timeInterval><resolution>{step}</resolution>"
        f"{points}</Period>"
    )


ONE = "<Point><position>1</position><quantity>100</quantity></Point>"


@pytest.mark.parametrize(
    ("body", "said", "known"),
    [
        (document(period(ONE)), None, 24),
        (document(period(ONE, start="2026-02-28T00:00Z", end="2026-03-03T00:00Z")), None, 24),
        (document(period(ONE, start="0001-01-01T00:00Z", end="9999-12-31T00:00Z")), None, 24),
        (document(period(ONE, step="PT30M")), None, 24),
        (document(period(ONE, step="P1D")), "not a period of quarter, half or whole hours: B14", 0),
        (document(period(ONE, start="2026-03-01T00:07Z")), "not a period of quarter, half or whole hours", 0),
        (document(period(ONE, start="2026-03-01T00:00")), "not a period of quarter, half or whole hours", 0),
        (document(period(ONE, end="2026-03-01T00:00Z")), "not a period of quarter, half or whole hours", 0),
        (document(period(ONE + ONE.replace("100", "200"))), "two values for one time: B14 at 2026-03-01T00:00Z", 0),
        (document(period(ONE) + period(ONE.replace("100", "7"))), "two values for one time: B14", 0),
        (document(period(ONE.replace("<position>1", "<position>0") + ONE)), "not a point: a position of B14", 24),
        (document(period(ONE.replace("<position>1", "<position>x"))), "not a point: a position of B14", 0),
        (document(period(ONE.replace("<position>1", "<position>99"))), "no value", 0),
        (document(period(ONE), head="<type>A65</type>"), "asked for type A75, and the answer's is A65", 0),
        (document(period(ONE), head="<type>A75</type>"), "asked for process A16, and the answer's is not told", 0),
        (
            document(period(ONE), series="<mRID>1</mRID>"),
            "asked for zone 10YFR-RTE------C, and the answer's is None",
            0,
        ),
        (document(period(ONE)).replace(b"MAW", b"KWT"), "asked for unit MAW, and the answer's is KWT", 0),
        (document(period(ONE)).replace(b">B14<", b"><"), "a series has no psrType", 0),
        (document(period(ONE))[:-9], "not XML, or cut short", 0),
        (b"<a/>", "asked for document GL_MarketDocument, and the answer's is a", 0),
        (b"", "not XML, or cut short", 0),
        (b"{}", "not XML, or cut short", 0),
        (b'<?xml version="1.0" encoding="nonsense"?><a/>', "not XML, or cut short", 0),
        (b"<a>" * 300_001, "more than 300000 elements", 0),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else "",
)
def test_documents_as_they_may_come(site: Site, body: bytes, said: str | None, known: int) -> None:
    """What cannot be what it claims to be is told, and does not count."""
    site.server.raw = body
    assert len(by_hour(site)) == known
    assert any(said in line for line in site.problems) if said else site.problems == []


GOOD = document(period(ONE) + period(ONE, step="PT15M", start="2026-03-02T00:00Z", end="2026-03-02T01:00Z"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 30), st.binary(max_size=8) | st.sampled_from([b"99", b"-", b">"]))
def test_a_damaged_document_is_never_more_than_an_error(site: Site, at: int, length: int, by: bytes) -> None:
    """Slots that can be, refusals, or an error of ours."""
    site.server.raw = GOOD[:at] + by + GOOD[at + length :]
    try:
        answer = Entsoe(site.config("entsoe"), GENERATION).ask(MIDNIGHT - DAY, MIDNIGHT)
    except GridError:
        return
    assert all(MIDNIGHT - DAY <= slot.start_s < MIDNIGHT for slot in answer.slots)
    assert all(0 <= slot.kgco2e_per_kwh <= 3 for slot in answer.slots)
