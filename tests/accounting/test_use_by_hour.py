"""Use hour by hour, from the nodes' points and a provider's answers to what a user is told: against sums by hand."""

from __future__ import annotations

import itertools
import json
import math
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.accounting.grid import results
from tests.accounting.grid.faults import FOUR, YESTERDAY
from tests.accounting.grid.results import CASES, CSV_CASES, KWH, Outcome, ask, night, site, stored, told, train
from tests.accounting.grid.world import DAY, HOUR, NOW
from tests.accounting.world import T0, World
from tests.fakes.grid_servers import GridServers, serving

from jobimpact.nightly.night import account, recompute

DATA = Path(__file__).parents[2] / "accounting/jobimpact/data"
DOC = Path(__file__).parents[2] / "docs/admin/grid.md"
PUE = 1.3
GAP = {FOUR + number * HOUR for number in range(5)}


def zone(name: str = "FRA") -> dict[str, list[float]]:
    """A zone's factors, as the file has them: low, central, high."""
    found = yaml.safe_load((DATA / "electricity.yaml").read_text(encoding="utf-8"))["zones"][name]
    return {key: value["values"] for key, value in found.items() if isinstance(value, dict)}


ANNUAL = zone()["gwp_kgco2e_per_kwh"][1]
GENERATION = yaml.safe_load((DATA / "generation.yaml").read_text(encoding="utf-8"))


def plant(kind: str) -> float:
    """Life-cycle kgCO2e/kWh of a kind of power plant, as the file has it."""
    return float(GENERATION["kinds"][kind]["gwp_kgco2e_per_kwh"][1])


def rte(hour: int) -> float:
    """20 to 43 g over a day, 31.5 on average over any whole days: a shape that scales the annual mean."""
    return ANNUAL * (20 + hour) / 31.5


def electricitymaps(hour: int) -> float:
    return (50 + hour) / 1000


def entsoe(hour: int) -> float:
    """40 GW of nuclear plants, and gas for 1 GW more each hour."""
    return (40 * plant("B14") + hour * plant("B04")) / (40 + hour)


def csv(hour: int) -> float:
    return (30 + hour) / 1000


SAYS: dict[str, Callable[[int], float]] = {
    "rte": rte,
    "electricitymaps": electricitymaps,
    "entsoe": entsoe,
    "csv": csv,
    "annual": lambda _: ANNUAL,
}
UNKNOWN: dict[tuple[str, str], set[int]] = {
    ("rte", "NaN in one slot"): set(),
    ("entsoe", "NaN in one slot"): {FOUR},
    ("electricitymaps", "NaN in one slot"): {FOUR},
    ("csv", "NaN"): {FOUR},
}
"""Hours that are lacking, where the fault's name does not tell."""
WHOLE = {"good", "five hours are estimates", "is not asked"}
NAMES = [
    ("annual", "is not asked"),
    *((provider, fault.name) for provider, fault in CASES),
    *(("csv", name) for name in CSV_CASES),
]


def by_hand(provider: str, lacking: set[int], kwh: Mapping[int, float] | None = None) -> float:
    """PUE x sum over hours of IF(h) x E(h), the annual mean in hours that are lacking."""
    return PUE * sum(
        energy * (ANNUAL if hour in lacking else SAYS[provider](hour // HOUR % 24))
        for hour, energy in (KWH if kwh is None else kwh).items()
    )


def lacking(provider: str, answers: str) -> set[int]:
    """The job's hours of which the first night knows nothing."""
    if answers in WHOLE:
        return set()
    return UNKNOWN.get((provider, answers), GAP if answers == "a gap of five hours" else set(KWH))


@pytest.fixture(scope="module")
def played() -> dict[tuple[str, str], Outcome]:
    """All providers under all faults."""
    return {(one.provider, one.answers): one for one in results.outcomes()}


@pytest.fixture
def server() -> Iterator[GridServers]:
    """All three providers."""
    with serving() as one:
        yield one


def write_csv(world: World, hours: Mapping[int, float], name: str = "intensity.csv") -> None:
    """A site's own file: grams by hour."""
    lines = ["time,gco2e_per_kwh", *(f"{at},{grams}" for at, grams in sorted(hours.items()))]
    (world.folder / name).write_text("\n".join(lines) + "\n", encoding="ascii")


DAYLONG = {YESTERDAY + hour * HOUR: 30.0 + hour for hour in range(24)}
each_case = pytest.mark.parametrize(("provider", "answers"), NAMES, ids=[" ".join(one) for one in NAMES])


@each_case
def test_use_is_pue_times_each_hour_s_energy_and_intensity(
    provider: str, answers: str, played: dict[tuple[str, str], Outcome]
) -> None:
    """The central value is the sum by hand, whatever was answered; low and high keep the annual mean's proportions."""
    found = played[provider, answers].first
    expected = by_hand(provider, lacking(provider, answers))
    assert found.use_kg == pytest.approx(expected, rel=1e-6)
    low, central, high = zone()["gwp_kgco2e_per_kwh"]
    use = found.impacts["gwp_kgco2e"]["use"]
    assert use["low"] <= use["central"] * low / central * (1 + 1e-9)
    assert use["high"] >= use["central"] * high / central * (1 - 1e-9)


@each_case
def test_metals_and_primary_energy_stay_on_annual_factors(
    provider: str, answers: str, played: dict[tuple[str, str], Outcome]
) -> None:
    """To the last bit, and so does all manufacture."""
    annual, found = played["annual", "is not asked"].first, played[provider, answers].first
    for name in ("adp_kgsbe", "pe_mj"):
        assert found.impacts[name] == annual.impacts[name]
        use = PUE * sum(KWH.values()) * zone()[f"{name}_per_kwh"][1]
        assert found.impacts[name]["use"]["central"] == pytest.approx(use, rel=1e-9)
    assert found.impacts["gwp_kgco2e"]["embodied"] == annual.impacts["gwp_kgco2e"]["embodied"]


@each_case
def test_a_row_says_how_its_hours_are_known(
    provider: str, answers: str, played: dict[tuple[str, str], Outcome]
) -> None:
    """In `factors.grid`, and as a warning where the annual mean or an estimate stands in."""
    found = played[provider, answers].first
    if provider == "annual":
        assert (found.factors["grid"], found.warnings) == (None, ())
        return
    unknown = len(lacking(provider, answers))
    estimated = 5 * (answers == "five hours are estimates")
    assert found.factors["grid"] == {
        "provider": provider,
        "hours": 8,
        "known": 8 - unknown,
        "estimated": estimated,
        "direct": 8 - unknown if provider == "rte" else 0,
        "gwp_kgco2e_per_kwh": pytest.approx(found.use_kg / PUE / sum(KWH.values()), rel=1e-9),
    }
    expected = [f"{provider} does not know {unknown} of 8 hours: the annual mean stands for them"] if unknown else []
    expected += [f"{provider} has but estimated 5 of 8 hours"] if estimated else []
    assert list(found.warnings) == expected


@each_case
def test_late_hours_make_a_revision_and_nothing_new_makes_none(
    provider: str, answers: str, played: dict[tuple[str, str], Outcome]
) -> None:
    """The same night again leaves the row alone; the next one has what was lacking, and a good night's figures."""
    found = played[provider, answers]
    assert found.first.revision == 1
    assert found.again == found.first
    anew = bool(lacking(provider, answers)) or answers == "five hours are estimates"
    assert found.mended.revision == 1 + anew
    good = played["annual", "is not asked"] if provider == "annual" else played[provider, "good"]
    assert found.mended.impacts == good.first.impacts
    assert (found.mended.factors["grid"], found.mended.warnings) == (good.first.factors["grid"], ())


def test_the_table_in_the_docs_is_what_the_results_say(played: dict[tuple[str, str], Outcome]) -> None:
    """`python -m tests.accounting.grid.results` prints it."""
    assert "\n".join(results.markdown(played.values())) in DOC.read_text(encoding="utf-8")


def test_what_a_user_is_shown_of_a_gap(tmp_path: Path, server: GridServers) -> None:
    """The note is in the answer, and all of it in the docs."""
    world = site(tmp_path, server.url, "electricitymaps")
    train(world)
    server.gaps = set(GAP)
    night(world, NOW)
    done = ask(world, "1")
    assert (done.returncode, done.stderr) == (0, "")
    note = "  Note: electricitymaps does not know 5 of 8 hours: the annual mean stands for\n  them.\n"
    assert note in done.stdout
    block = done.stdout.split("  Impact ")[1].split("  Accounted ")[0].rstrip()
    text = DOC.read_text(encoding="utf-8")
    assert f"  Impact {block}\n```" in text
    assert f'"grid": {json.dumps(told(world).factors["grid"])}\n```' in text
    assert "by electricitymaps" in done.stdout.split("\nMethod: ")[1]


def test_a_plant_that_is_late_leaves_its_hour_unknown_night_after_night(tmp_path: Path, server: GridServers) -> None:
    """ENTSO-E has no nuclear plants for an hour: asked for that hour alone, it has gas and nothing else."""
    server.types["B14"] = (HOUR, lambda at: math.nan if at == FOUR else 40000)
    world = site(tmp_path, server.url, "entsoe")
    train(world)
    first = night(world, NOW)
    assert first.use_kg == pytest.approx(by_hand("entsoe", {FOUR}), rel=1e-6)
    assert night(world, NOW) == first
    server.types["B14"] = (HOUR, lambda _: 40000)
    assert night(world, NOW + DAY).use_kg == pytest.approx(by_hand("entsoe", set()), rel=1e-6)


def test_hours_that_come_within_the_month_are_filled_in(tmp_path: Path, server: GridServers) -> None:
    """Long after the nights' window a night puts the row right."""
    world = site(tmp_path, server.url, "electricitymaps")
    train(world)
    server.gaps = set(GAP)
    first = night(world, NOW)
    assert night(world, NOW + 10 * DAY) == first
    server.gaps = set()
    found = night(world, NOW + 20 * DAY)
    assert (found.revision, found.known, found.warnings) == (2, "8 of 8", ())
    assert found.use_kg == pytest.approx(by_hand("electricitymaps", set()), rel=1e-6)


def test_hours_that_come_too_late_wait_for_the_admin(tmp_path: Path, server: GridServers) -> None:
    """After a month no night asks for them; accounting for the day once more does, and the row follows."""
    world = site(tmp_path, server.url, "electricitymaps")
    train(world)
    server.gaps = set(GAP)
    first = night(world, NOW)
    assert night(world, NOW + 38 * DAY) == first
    server.gaps = set()
    assert night(world, NOW + 40 * DAY) == first
    assert account(world.config, NOW + 40 * DAY, YESTERDAY, YESTERDAY + DAY).changed == 1
    found = stored(world)
    assert (found.revision, found.known) == (2, "8 of 8")
    assert found.use_kg == pytest.approx(by_hand("electricitymaps", set()), rel=1e-6)


def test_energy_without_points_is_taken_as_even(tmp_path: Path) -> None:
    """The ledger's sum alone: each hour has its part of the time, and a note says so."""
    world = site(tmp_path, "http://localhost:1", "csv")
    write_csv(world, DAYLONG)
    train(world)
    world.node().db.execute("DELETE FROM job_energy")
    seconds = {hour: min(hour + HOUR, results.END) - max(hour, results.START) for hour in KWH}
    even = {hour: sum(KWH.values()) * part / sum(seconds.values()) for hour, part in seconds.items()}
    found = night(world, NOW)
    assert found.use_kg == pytest.approx(by_hand("csv", set(), even), rel=1e-9)
    assert found.warnings == ("node01: its energy over time is not known: taken as even",)


ABROAD = """
version: "1"
pue: 1.3
types:
  here:
    nodes: node01
    cpu: {model: Intel Xeon Gold 6148, count: 2, cores: 20}
    ram_gb: 256
  there:
    nodes: node02
    zone: DEU
    cpu: {model: Intel Xeon Gold 6148, count: 2, cores: 20}
    ram_gb: 256
"""


def test_a_type_of_nodes_in_another_zone_keeps_its_annual_mean(tmp_path: Path) -> None:
    """One job on both: hours are counted where the provider tells of them, and nobody warns of the others."""
    world = site(tmp_path, "http://localhost:1", "csv", ABROAD)
    write_csv(world, DAYLONG)
    world.say("1", submit=results.START, start=results.START, end=results.END, nodes=["node01", "node02"])
    for node in ("node01", "node02"):
        train(world, node=node, say=False)
    found = night(world, NOW)
    there = PUE * sum(KWH.values()) * zone("DEU")["gwp_kgco2e_per_kwh"][1]
    assert found.use_kg == pytest.approx(by_hand("csv", set()) + there, rel=1e-9)
    assert (found.factors["zone"], found.factors["grid"]["hours"], found.warnings) == ("DEU,FRA", 8, ())
    mean = by_hand("csv", set()) / PUE / sum(KWH.values())
    assert found.factors["grid"]["gwp_kgco2e_per_kwh"] == pytest.approx(mean, rel=1e-9)


def test_a_contract_s_figure_stands_beside_the_location_s(tmp_path: Path) -> None:
    """PUE x energy x what the contract says, in its own place; the total is the location's, as without a contract."""
    found = {}
    for name, more in (("with", {"market": {"gwp_kgco2e_per_kwh": 0.011, "source": "hydro"}}), ("without", {})):
        (tmp_path / name).mkdir()
        world = site(tmp_path / name, "http://localhost:1", "csv", **more)
        write_csv(world, DAYLONG)
        train(world)
        found[name] = night(world, NOW)
    assert found["with"].impacts == found["without"].impacts
    assert found["without"].factors["market"] is None
    use = PUE * sum(KWH.values()) * 0.011
    expected = {"use_gwp_kgco2e": pytest.approx(use, rel=1e-9), "gwp_kgco2e_per_kwh": 0.011, "source": "hydro"}
    assert found["with"].factors["market"] == expected


def test_annual_means_need_no_file(tmp_path: Path) -> None:
    """Neither a cache is made, nor a token read that is not there."""
    world = site(tmp_path, "http://localhost:1", "annual")
    train(world)
    (tmp_path / "token").unlink()
    night(world, NOW)
    assert not (tmp_path / "grid.db").exists()


def test_a_cache_that_is_none_is_named(tmp_path: Path) -> None:
    """Garbage, another program's tables, a newer release's, a folder, a path through a file: status 3, no row."""
    world = site(tmp_path, "http://localhost:1", "csv")
    write_csv(world, DAYLONG)
    train(world)
    cache = tmp_path / "grid.db"
    cache.write_bytes(b"garbage " * 1000)
    assert told_of(world) == (3, f"jobimpact: {cache}: file is not a database\n")
    cache.unlink()
    for statement, says in (("CREATE TABLE mine (x)", "no tables of ours"), ("PRAGMA user_version = 99", "newer")):
        with sqlite3.connect(cache) as db:
            db.execute(statement)
        db.close()
        status, said = told_of(world)
        assert (status, said.startswith(f"jobimpact: {cache}: ")) == (3, True)
        assert says in said
        cache.unlink()
    cache.mkdir()
    status, said = told_of(world)
    assert (status, said.startswith(f"jobimpact: {cache}: ")) == (3, True)
    file = tmp_path / "file"
    file.touch()
    through = World(
        tmp_path_of(tmp_path, "through"), world.config_file.read_text().replace("grid.db", f"{file}/grid.db")
    )
    train(through)
    status, said = told_of(through)
    assert (status, said.startswith(f"jobimpact: {file}/grid.db: ")) == (3, True)
    assert world.rows() == {}


def tmp_path_of(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def told_of(world: World) -> tuple[int, str]:
    """What `jobimpact account` says on stderr, and its status: of the days of the job."""
    done = ask(world, "account", "--from", "2026-03-01", "--to", "2026-03-02")
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("provider", ["electricitymaps", "entsoe"])
@pytest.mark.parametrize("content", [None, "", "two words\n"])
def test_a_token_s_file_of_no_use_is_named(tmp_path: Path, provider: str, content: str | None) -> None:
    """Missing, empty, or not one word: status 2 before anything is accounted; what it holds is not said."""
    world = site(tmp_path, "http://localhost:1", provider)
    train(world)
    token = tmp_path / "token"
    token.unlink() if content is None else token.write_text(content, encoding="ascii")
    status, said = told_of(world)
    assert status == 2
    assert str(token) in said
    assert "words" not in said


def test_answers_of_jobs_in_progress_ask_nobody(tmp_path: Path, server: GridServers) -> None:
    """No question, no cache, no token: by annual means, whatever the provider."""
    for provider in ("rte", "electricitymaps", "entsoe", "csv"):
        world = site(tmp_path_of(tmp_path, provider), server.url, provider)
        (world.folder / "token").unlink()
        node = world.node()
        node.domain()
        run = node.run("7", results.START - T0, None)
        node.charge(run, joules=3.6e6)
        found = told(world, "7")
        assert found.use_kg == pytest.approx(PUE * ANNUAL, rel=1e-9)
        assert found.factors["grid"] is None
        assert not (world.folder / "grid.db").exists()
    assert server.asked == []


def test_answers_of_accounted_jobs_need_no_cache(tmp_path: Path, server: GridServers) -> None:
    """They are in the results: the server is not asked again, and a cache that is gone is not made."""
    world = site(tmp_path, server.url, "electricitymaps")
    train(world)
    row = night(world, NOW)
    asked = len(server.asked)
    for name in ("grid.db", "token"):
        (tmp_path / name).unlink()
    assert told(world) == row
    assert (len(server.asked), (tmp_path / "grid.db").exists()) == (asked, False)


def epoch(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


@pytest.mark.parametrize(
    ("day", "clock"),
    [
        ("2026-03-29", ["00:00+01:00", "01:00+01:00", "03:00+02:00", "04:00+02:00", "05:00+02:00"]),
        ("2025-10-26", ["00:00+02:00", "01:00+02:00", "02:00+02:00", "02:00+01:00", "03:00+01:00", "04:00+01:00"]),
    ],
)
def test_a_night_in_which_clocks_change_has_the_hours_that_pass(tmp_path: Path, day: str, clock: list[str]) -> None:
    """Told in local time with its offset, on a machine of that zone: a day of 23 or 25 hours, each by its own."""
    hours = [epoch(f"{day}T{time}") for time in clock]
    assert all(after - before == HOUR for before, after in itertools.pairwise(hours))
    world = site(tmp_path, "http://localhost:1", "csv")
    lines = [f"{day}T{time},{100 * number + 10}" for number, time in enumerate(clock)]
    (tmp_path / "intensity.csv").write_text("\n".join(["time,gco2e_per_kwh", *lines]) + "\n", encoding="ascii")
    kwh = {hour: 1.0 + number for number, hour in enumerate(hours)}
    train(world, kwh=kwh, start=hours[0], end=hours[-1] + HOUR)
    done = ask(world, "account", "--from", str(hours[0]), "--to", str(hours[-1] + DAY), TZ="Europe/Paris")
    assert (done.returncode, done.stdout.count("1 new")) == (0, 1)
    found = told(world)
    expected = PUE * sum(value * (100 * number + 10) / 1000 for number, value in enumerate(kwh.values()))
    assert found.use_kg == pytest.approx(expected, rel=1e-9)
    assert (found.known, found.warnings) == (f"{len(clock)} of {len(clock)}", ())


def test_another_provider_counts_when_the_time_is_redone(tmp_path: Path) -> None:
    """By annual means first; a file that comes later takes their place by recomputing, and the row has a revision."""
    world = site(tmp_path, "http://localhost:1", "annual")
    train(world)
    assert night(world, NOW).use_kg == pytest.approx(PUE * sum(KWH.values()) * ANNUAL, rel=1e-9)
    world.config_file.write_text(world.config_file.read_text().replace('"annual"', '"csv"'), encoding="utf-8")
    write_csv(world, DAYLONG)
    report = recompute(world.config, NOW + 90 * DAY, YESTERDAY, YESTERDAY + DAY)
    assert (report.changed, report.problems) == (1, ())
    found = told(world)
    assert (found.revision, found.known) == (2, "8 of 8")
    assert found.use_kg == pytest.approx(by_hand("csv", set()), rel=1e-6)
    assert recompute(world.config, NOW + 91 * DAY, YESTERDAY, YESTERDAY + DAY).unchanged == 1


@settings(max_examples=25, deadline=None)
@given(
    kwh=st.lists(st.floats(0, 50), min_size=1, max_size=30),
    grams=st.lists(st.one_of(st.none(), st.integers(0, 900)), min_size=30, max_size=30),
    into=st.integers(0, 3599),
)
def test_any_energies_and_intensities_sum_as_by_hand(kwh: list[float], grams: list[int | None], into: int) -> None:
    """Whatever is drawn and told, gaps included; the counts of hours are those of the run."""
    with tempfile.TemporaryDirectory() as folder:
        world = site(Path(folder), "http://localhost:1", "csv")
        hours = [YESTERDAY + number * HOUR for number in range(len(kwh))]
        known = {hour: value for hour, value in zip(hours, grams, strict=False) if value is not None}
        write_csv(world, known)
        energies = dict(zip(hours, kwh, strict=True))
        train(world, kwh=energies, start=hours[0] + into * (len(kwh) > 1), end=hours[-1] + HOUR)
        account(world.config, NOW + 3 * DAY, YESTERDAY, YESTERDAY + 3 * DAY)
        with sqlite3.connect(world.results) as db:
            found = {
                name: json.loads(data)
                for name, data in zip(
                    ("impacts", "factors"),
                    db.execute("SELECT impacts, factors FROM job_result").fetchone(),
                    strict=True,
                )
            }
        db.close()
    expected = PUE * sum(
        energy * (known[hour] / 1000 if hour in known else ANNUAL) for hour, energy in energies.items()
    )
    assert found["impacts"]["gwp_kgco2e"]["use"]["central"] == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert (found["factors"]["grid"]["hours"], found["factors"]["grid"]["known"]) == (len(kwh), len(known))
