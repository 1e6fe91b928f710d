"""What is asked and what is kept: estimates, means, limits, and nothing twice."""

from __future__ import annotations

import sqlite3
import threading
from datetime import UTC, datetime

import pytest
from tests.accounting.grid.world import DAY, GENERATION, HOUR, MIDNIGHT, NOW, Site
from tests.fakes.grid_servers import TOKEN

from jobimpact.core.config import Grid as Config
from jobimpact.core.config import GridCsv, Rte
from jobimpact.core.errors import ConfigError, SchemaTooNewError, StoreError
from jobimpact.grid.cache import SCHEMA, Cache
from jobimpact.grid.grid import Grid
from jobimpact.grid.slots import Hour

CONCERNED = "24 hours concerned"


def test_annual_asks_nobody_and_keeps_nothing(site: Site) -> None:
    """No file is made, and no hour known."""
    with site.grid("annual") as grid:
        assert grid.fill(MIDNIGHT - DAY, MIDNIGHT) == []
        assert grid.hours(MIDNIGHT - DAY, MIDNIGHT) == {}
        assert grid.provider == "annual"
    assert not site.cache.exists()


def test_hours_that_are_not_over_are_not_asked_for(site: Site) -> None:
    """At 03:20 the last one is that of 02:00."""
    site.now = NOW + 1200
    with site.grid("electricitymaps") as grid:
        assert grid.fill(MIDNIGHT, MIDNIGHT + DAY) == []
        assert list(grid.hours(MIDNIGHT, MIDNIGHT + DAY)) == [MIDNIGHT + n * HOUR for n in range(3)]
        assert grid.fill(MIDNIGHT + DAY, MIDNIGHT + 2 * DAY) == []
        assert grid.fill(MIDNIGHT, MIDNIGHT) == []
    assert [asked["end"] for _, asked, _ in site.server.asked] == ["2026-03-02T03:00:00Z"]


def test_a_part_of_an_hour_is_asked_for_as_the_hour(site: Site) -> None:
    """A job's seconds need the hour in which they lie."""
    with site.grid("electricitymaps") as grid:
        grid.fill(MIDNIGHT - 1.5, MIDNIGHT + 1.5)
        assert list(grid.hours(MIDNIGHT - 1.5, MIDNIGHT + 1.5)) == [MIDNIGHT - HOUR, MIDNIGHT]


def test_estimates_are_asked_for_again_and_give_way_to_what_is_final(site: Site) -> None:
    """Used and flagged meanwhile; after 30 days they are left as they are."""
    site.server.estimated = {MIDNIGHT - HOUR, MIDNIGHT - 2 * HOUR}
    with site.grid("electricitymaps") as grid:
        grid.fill(MIDNIGHT - DAY, MIDNIGHT)
        assert [hour.estimated for hour in grid.hours(MIDNIGHT - DAY, MIDNIGHT).values()] == [False] * 22 + [True] * 2
        site.server.odd = {MIDNIGHT - HOUR: 99, MIDNIGHT - 3 * HOUR: 99}
        site.server.estimated = {MIDNIGHT - 2 * HOUR}
        assert grid.fill(MIDNIGHT - DAY, MIDNIGHT) == []
        hours = grid.hours(MIDNIGHT - DAY, MIDNIGHT)
        assert (hours[MIDNIGHT - HOUR].kgco2e_per_kwh, hours[MIDNIGHT - HOUR].estimated) == (0.099, False)
        assert (hours[MIDNIGHT - 3 * HOUR].kgco2e_per_kwh, hours[MIDNIGHT - 2 * HOUR].estimated) == (0.071, True)
        site.now += 31 * DAY
        asked = len(site.server.asked)
        assert grid.fill(MIDNIGHT - DAY, MIDNIGHT) == []
        assert len(site.server.asked) == asked


def test_an_estimate_stays_while_the_provider_fails(site: Site) -> None:
    """The failure is told, and the hour is known as before."""
    site.server.estimated = {MIDNIGHT - HOUR}
    with site.grid("electricitymaps") as grid:
        grid.fill(MIDNIGHT - DAY, MIDNIGHT)
        site.server.gaps = {MIDNIGHT - HOUR}
        assert grid.fill(MIDNIGHT - DAY, MIDNIGHT) == []
        site.server.fault = "503"
        (problem,) = grid.fill(MIDNIGHT - DAY, MIDNIGHT)
        assert "HTTP 503" in problem
        assert len(grid.hours(MIDNIGHT - DAY, MIDNIGHT)) == 24


def test_a_final_value_is_not_replaced_and_another_one_is_told(site: Site) -> None:
    """A file that was corrected by hand."""
    path = site.folder / "intensity.csv"
    path.write_text(f"time,gco2e_per_kwh\n{MIDNIGHT - HOUR},30\n")
    with site.grid("csv", csv=GridCsv(path=str(path), basis="lifecycle")) as grid:
        assert grid.fill(MIDNIGHT - HOUR, MIDNIGHT) == []
        path.write_text(f"time,gco2e_per_kwh\n{MIDNIGHT - HOUR},60\n")
        assert grid.fill(MIDNIGHT - HOUR, MIDNIGHT) == [
            "csv: another value than the one that is kept, which stays: 2026-03-01T23:00Z: 1 hour concerned"
        ]
        assert grid.hours(MIDNIGHT - HOUR, MIDNIGHT)[MIDNIGHT - HOUR].kgco2e_per_kwh == 0.03


def test_providers_zones_and_factors_are_not_mixed(site: Site) -> None:
    """What one provider told is not known by another, in the same file."""
    for provider in ("electricitymaps", "entsoe"):
        with site.grid(provider) as grid:
            assert grid.hours(MIDNIGHT - DAY, MIDNIGHT) == {}
            assert grid.fill(MIDNIGHT - DAY, MIDNIGHT) == []
    other = {**GENERATION, "B14": (0.012, True)}
    with Grid(site.config("entsoe"), lambda: site.now, other) as grid:
        assert grid.hours(MIDNIGHT - DAY, MIDNIGHT) == {}
    with site.grid("entsoe") as grid:
        assert len(grid.hours(MIDNIGHT - DAY, MIDNIGHT)) == 24


def test_a_long_time_is_asked_for_in_several_calls_newest_first(site: Site) -> None:
    """40 stretches of ten days at once; the next call goes on where it ended."""
    from_s = MIDNIGHT - 450 * DAY
    with site.grid("electricitymaps") as grid:
        assert grid.fill(from_s, MIDNIGHT) == [
            "electricitymaps: asked 40 times, the rest is left for the next time: 1200 hours concerned"
        ]
        assert min(grid.hours(from_s, MIDNIGHT)) == MIDNIGHT - 400 * DAY
        assert grid.fill(from_s, MIDNIGHT) == []
        assert len(grid.hours(from_s, MIDNIGHT)) == 450 * 24
    assert len(site.server.asked) == 45


def test_a_provider_that_refuses_is_asked_once_and_one_that_fails_three_times(site: Site) -> None:
    """What is left is told with the reason for which it was left."""
    from_s = MIDNIGHT - 100 * DAY
    for fault, times in (("401", 1), ("429", 1), ("500", 3), ("html", 3)):
        site.server.fault = fault
        site.server.asked.clear()
        with site.grid("electricitymaps") as grid:
            (problem,) = grid.fill(from_s, MIDNIGHT)
        assert problem.endswith(": 2400 hours concerned")
        assert len(site.server.asked) == times


def test_one_stretch_that_fails_does_not_stop_the_others(site: Site) -> None:
    """The others are kept, and that one is asked for again."""
    from_s = MIDNIGHT - 30 * DAY
    site.server.fault, site.server.faulty = "500", lambda number: number == 1
    with site.grid("electricitymaps") as grid:
        (problem,) = grid.fill(from_s, MIDNIGHT)
        assert problem.endswith("HTTP 500 (it failed): 240 hours concerned")
        assert len(grid.hours(from_s, MIDNIGHT)) == 20 * 24
        assert grid.fill(from_s, MIDNIGHT) == []
    assert len(site.server.asked) == 4


def test_a_direct_hour_is_unknown_until_nine_tenths_of_the_year_before_are(site: Site) -> None:
    """And says so; once there is a mean, it stays for ever, whatever comes to be known of that year."""
    year = range(MIDNIGHT - DAY - 365 * DAY, MIDNIGHT - DAY, HOUR)
    assert len(year) == 8760
    site.server.gaps = set(year[:877])
    with site.grid("rte") as grid:
        assert grid.fill(MIDNIGHT - DAY, MIDNIGHT) == [
            f"rte: no mean of the 12 months before 2026-03: 7883 of 8760 hours are known, 7884 are needed: {CONCERNED}"
        ]
        assert grid.hours(MIDNIGHT - DAY, MIDNIGHT) == {}
        site.server.gaps = set(year[:876])
        assert grid.fill(MIDNIGHT - DAY, MIDNIGHT) == []
        first = grid.hours(MIDNIGHT - DAY, MIDNIGHT)
        assert len(first) == 24
        late = Cache(site.cache, "rte", "FR")
        assert late.keep({year[0]: Hour(3.0, estimated=False)}, NOW) == []
        late.close()
        assert grid.fill(MIDNIGHT - DAY, MIDNIGHT) == []
        assert grid.hours(MIDNIGHT - DAY, MIDNIGHT) == first


def test_the_year_before_is_fetched_in_as_many_calls_as_it_takes(site: Site) -> None:
    """A provider that fails in the middle: what came is kept, and only the rest is asked for."""
    site.server.fault, site.server.faulty = "503", lambda number: number == 5
    with site.grid("rte") as grid:
        problems = grid.fill(MIDNIGHT - DAY, MIDNIGHT)
        assert len(problems) == 2
        assert "HTTP 503" in problems[0]
        assert "no mean of the 12 months before 2026-03" in problems[1]
        assert grid.fill(MIDNIGHT - DAY, MIDNIGHT) == []
        assert len(grid.hours(MIDNIGHT - DAY, MIDNIGHT)) == 24
    assert len(site.server.asked) == 14


def test_the_mean_is_that_of_the_months_before_each_hours_own(site: Site) -> None:
    """An hour of February has another mean than one of March, with which February counts."""
    month_start = MIDNIGHT - DAY
    site.server.odd = dict.fromkeys(range(month_start - 28 * DAY, month_start, 900), 500)
    with site.grid("rte") as grid:
        assert grid.fill(month_start - HOUR, month_start + HOUR) == []
        february, march = grid.hours(month_start - HOUR, month_start + HOUR).values()
    assert (february.kgco2e_per_kwh, february.mean) == (0.5, pytest.approx(0.0315))
    assert (march.kgco2e_per_kwh, march.mean) == (0.02, pytest.approx((28 * 0.5 + 337 * 0.0315) / 365))


def test_a_year_of_zeros_has_no_shape(site: Site) -> None:
    """Nothing is divided by it."""
    path = site.folder / "zeros.csv"
    path.write_text("time,gco2e_per_kwh\n" + "".join(f"{MIDNIGHT - n * HOUR},0\n" for n in range(1, 9000)))
    with site.grid("csv", csv=GridCsv(path=str(path), basis="direct")) as grid:
        assert grid.fill(MIDNIGHT - DAY, MIDNIGHT) == [
            "csv: no mean of the 12 months before 2026-03: all are 0: 24 hours concerned"
        ]
        assert grid.hours(MIDNIGHT - DAY, MIDNIGHT) == {}


def test_two_nights_at_once_keep_every_hour(site: Site) -> None:
    """Each waits for the other's transaction; both know all of it in the end."""
    problems: list[str] = []

    def night() -> None:
        with site.grid("electricitymaps") as grid:
            problems.extend(grid.fill(MIDNIGHT - 60 * DAY, MIDNIGHT))

    nights = [threading.Thread(target=night) for _ in range(4)]
    for one in nights:
        one.start()
    for one in nights:
        one.join()
    with site.grid("electricitymaps") as grid:
        assert len(grid.hours(MIDNIGHT - 60 * DAY, MIDNIGHT)) == 60 * 24
    assert problems == []


@pytest.mark.parametrize("changed", ["2025-10-26", "2026-03-29"])
def test_nights_on_which_clocks_change_have_24_hours_of_utc(site: Site, changed: str) -> None:
    """Two local hours of one name are two, and one that is left out is not missed."""
    start = int(datetime.fromisoformat(changed).replace(tzinfo=UTC).timestamp())
    site.now = start + 40 * HOUR
    for provider in ("rte", "electricitymaps", "entsoe"):
        with site.grid(provider) as grid:
            assert grid.fill(start, start + DAY) == []
            hours = grid.hours(start, start + DAY)
        assert list(hours) == list(range(start, start + DAY, HOUR))
        assert len({hour.kgco2e_per_kwh for hour in hours.values()}) == 24


def test_a_cache_that_is_none_is_refused(site: Site) -> None:
    """Garbage, another program's, a newer release's, a folder: each by the name of the file, and left as it is."""
    site.cache.write_bytes(b"not a database at all " * 100)
    with pytest.raises(StoreError, match=str(site.cache)):
        site.grid("rte")
    site.cache.unlink()
    Cache(site.cache, "rte", "FR").close()
    Cache(site.cache, "rte", "FR").close()
    _sql(site, f"PRAGMA user_version={SCHEMA + 1}")
    with pytest.raises(SchemaTooNewError, match="written by a newer release"):
        site.grid("rte")
    _sql(site, "PRAGMA user_version=0")
    with pytest.raises(StoreError, match="holds no tables of ours"):
        site.grid("rte")
    site.cache.unlink()
    site.cache.mkdir()
    with pytest.raises(StoreError, match=str(site.cache)):
        site.grid("rte")


def _sql(site: Site, text: str) -> None:
    cache = sqlite3.connect(site.cache)
    cache.execute(text)
    cache.close()


def test_a_cache_keeps_what_is_final(site: Site) -> None:
    """An estimate never replaces it; the same again is no difference; another is told."""
    cache = Cache(site.folder / "new" / "grid.db", "one", "zone")
    assert cache.keep({0: Hour(0.1, estimated=True), HOUR: Hour(0.1, estimated=False)}, 0) == []
    assert cache.keep({0: Hour(0.2, estimated=True), HOUR: Hour(0.2, estimated=True)}, 0) == []
    assert cache.known(0, DAY) == {0: Hour(0.2, estimated=True), HOUR: Hour(0.1, estimated=False)}
    assert cache.keep({0: Hour(0.3, estimated=False), HOUR: Hour(0.3, estimated=False)}, 0) == [HOUR]
    assert cache.keep({0: Hour(0.3, estimated=False)}, 0) == []
    assert cache.known(0, DAY) == {0: Hour(0.3, estimated=False), HOUR: Hour(0.1, estimated=False)}
    cache.freeze("2026-03", 0.5, 8000, 0)
    cache.freeze("2026-03", 0.6, 8000, 0)
    assert cache.mean("2026-03") == 0.5
    cache.close()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"\n", "it is empty"),
        (b"s3cret\ns3cret\n", "the token alone, on one line"),
        (b"s3cret s3cret", "the token alone, on one line"),
        (b"\ns3cret", "the token alone, on one line"),
        (b"s3cret\xc3\xb6", "the token alone, on one line"),
        (b"s3cret" * 900, "the token alone, on one line"),
        (None, "No such file or directory"),
    ],
)
def test_a_token_file_that_is_none_is_refused_at_once(site: Site, content: bytes | None, said: str) -> None:
    """By its name, and without what is in it."""
    site.token_file.unlink()
    if content is not None:
        site.token_file.write_bytes(content)
    for provider in ("electricitymaps", "entsoe"):
        with pytest.raises(ConfigError, match=said) as caught:
            site.grid(provider)
        assert f"grid.{provider}.token_file: {site.token_file}" in str(caught.value)
        assert "s3cret" not in str(caught.value)
    assert not site.cache.exists()


def test_a_configuration_that_cannot_work_is_refused_at_once(site: Site) -> None:
    """RTE for another zone, no settings of the provider, no factors, a password in a url, no certificates."""
    for config, said in (
        (site.config("rte", zone="DEU"), "grid.zone must be FRA, and is DEU"),
        (Config(provider="entsoe"), "grid.entsoe: its settings are missing"),
        (Config(provider="electricitymaps"), "grid.electricitymaps: its settings are missing"),
        (Config(provider="csv"), "grid.csv: its settings are missing"),
    ):
        with pytest.raises(ConfigError, match=said):
            Grid(config, lambda: NOW, GENERATION)
    with pytest.raises(ConfigError, match="entsoe needs factors of generation"):
        Grid(site.config("entsoe"), lambda: NOW, {"B10": (0.0, False)})
    for url, said in (
        ("https://user:secret@host/", "without a user, a password"),
        ("https://", "a host and a path"),
        ("http://host:99999/", "grid.rte.url: "),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            site.grid("rte", rte=Rte(url=url))
        assert "secret" not in str(caught.value)
    for name, said in (("nowhere.pem", "No such file"), ("token", "not a file of certificates in PEM")):
        with pytest.raises(ConfigError, match=said) as caught:
            site.grid("rte", rte=Rte(url="https://host", ca_file=str(site.folder / name)))
        assert TOKEN not in str(caught.value)
