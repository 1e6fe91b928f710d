"""Months that close, idle keys that are frozen, and years whose books of manufacture balance."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.accounting.world import CONFIG, World

from jobimpact.impact.factors import load_factors
from jobimpact.impact.inventory import load_inventory
from jobimpact.impact.months import closes_s, edges_of, month_of, months
from jobimpact.impact.parts import parts_of
from jobimpact.nightly.night import account, recompute

HOUR = 3600
DAY = 24 * HOUR
INDICATORS = ("gwp_kgco2e", "adp_kgsbe", "pe_mj")
SITE = """
version: "1"
pue: 1.3
types:
  gpu:
    nodes: gpu[1-2]
    cpu: {model: Intel Xeon Gold 6148, count: 2, cores: 20}
    ram_gb: 384
    ram_modules: 12
    gpus: [{model: Tesla V100-SXM2-32GB, count: 4}]
    purchased: PURCHASED
    lifetime_years: LIFETIME
  cpu:
    nodes: cpu1
    cpu: {model: Intel Xeon Gold 6148, count: 2, cores: 20}
    ram_gb: 192
shared:
  switch: {count: 2, power_w: 100, gwp_kgco2e: 300, adp_kgsbe: [0.01, 0.02, 0.06], lifetime_years: 5}
"""


def moment(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


FROM, TO = moment("2024-11-01"), moment("2026-01-10")
"""A year with something before and after it."""


def site(folder: Path, purchased: str = "2020-01-01", lifetime: str = "20", config: str = "") -> World:
    inventory = SITE.replace("PURCHASED", purchased).replace("LIFETIME", lifetime)
    return World(folder, CONFIG + config, inventory)


def tables(world: World) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in the results but when it was written."""
    found = {}
    with sqlite3.connect(world.results) as db:
        db.row_factory = sqlite3.Row
        for name in ("job_result", "stay", "charge", "idle_month", "true_up", "covered"):
            rows = [dict(row) for row in db.execute(f"SELECT * FROM {name}")]  # noqa: S608 (our own names)
            kept = [tuple(v for k, v in row.items() if k not in ("accounted_s", "closed_s")) for row in rows]
            found[name] = sorted(kept, key=repr)
    return found


def ask(world: World, query: str, *values: object) -> list[tuple[Any, ...]]:
    with sqlite3.connect(world.results) as db:
        return db.execute(query, values).fetchall()


def true_ups(world: World, year: str = "2025") -> dict[tuple[str, str], dict[str, Any]]:
    rows = ask(world, "SELECT node_type, component, data FROM true_up WHERE year = ?", year)
    return {(kind, component): json.loads(data) for kind, component, data in rows}


def gpu_job(job: str, start: int, hours: float, node: str = "gpu1", **more: Any) -> dict[str, Any]:
    held = {"cpus": 10, "mem_bytes": 96 * 2**30, "gpus": 1}
    return {"job": job, "submit": start, "start": start, "end": start + hours * HOUR, "nodes": [node]} | held | more


jobs = st.lists(
    st.builds(
        lambda start, hours, node, cpus, gpus, mem, exclusive: {
            "start": start,
            "hours": hours,
            "node": node,
            "cpus": cpus,
            "gpus": gpus,
            "mem_bytes": mem,
            "exclusive": exclusive,
        },
        st.integers(FROM, TO),
        st.one_of(st.integers(0, 72), st.integers(500, 3000)),
        st.sampled_from(["gpu1", "gpu2", "cpu1"]),
        st.one_of(st.none(), st.integers(0, 40)),
        st.integers(0, 4),
        st.one_of(st.none(), st.integers(0, 400 * 2**30)),
        st.booleans(),
    ),
    max_size=14,
)


@settings(max_examples=20, deadline=None, phases=[Phase.generate])
@given(jobs, st.sampled_from(["2020-01-01", "2025-03-15", "2024-12-31"]), st.sampled_from(["0.3", "4", "20"]))
def test_over_a_year_the_books_of_manufacture_close(some: list[dict[str, Any]], bought: str, lifetime: str) -> None:
    """Jobs + idle shares + true-up = hardware x time in life / lifetime, whatever ran; again changes nothing."""
    with tempfile.TemporaryDirectory() as folder:
        world = site(Path(folder), bought, lifetime)
        world.say(**gpu_job("1000", FROM, 1, "cpu1", gpus=0))  # from here on there are books
        for number, one in enumerate(some):
            gpus = one["gpus"] if one["node"] != "cpu1" else 0
            more = {"cpus": one["cpus"], "mem_bytes": one["mem_bytes"], "exclusive": one["exclusive"]}
            world.say(**gpu_job(str(number), one["start"], one["hours"], one["node"], **more | {"gpus": gpus}))
        account(world.config, TO, FROM, TO)
        first = tables(world)
        lines = true_ups(world)
        assert set(lines) == {
            *(("gpu", c) for c in ("cpu", "ram", "gpu", "rest")),
            *(("cpu", c) for c in ("cpu", "ram", "rest")),
            ("shared", "switch"),
        }
        for (kind, component), line in lines.items():
            expected = hardware(world, kind, component)
            for at in range(3):
                if expected[at] is None:
                    assert line["hardware"][at] is line["true_up"][at] is None
                    continue
                assert line["hardware"][at] == pytest.approx(expected[at], rel=1e-9)
                booked = booked_of(world, kind, component, at)
                assert sum(booked) + line["true_up"][at] == pytest.approx(expected[at], rel=1e-9, abs=1e-12)
                assert booked[0] <= expected[at] * (1 + 1e-9)
        account(world.config, TO + 9, FROM, TO)
        assert tables(world) == first


def hardware(world: World, kind: str, component: str) -> list[float | None]:
    """The whole of it x its time in life in 2025 / its lifetime, from the inventory alone."""
    inventory = load_inventory(world.folder / "nodes.yaml")
    begin, end = moment("2025-01-01"), moment("2026-01-01")
    if kind == "shared":
        years = (end - begin) / (365.25 * DAY) / 5
        return [2 * 300 * years, 2 * 0.02 * years, None]
    node_type = inventory.types[kind]
    life = node_type.lifetime_years * 365.25 * DAY
    if node_type.purchased:
        bought = moment(str(node_type.purchased))
        begin, end = max(begin, bought), min(end, bought + life)
    nodes = list(inventory.type_of_node.values()).count(kind)
    whole = getattr(parts_of(node_type, load_factors()), component)
    return [getattr(whole, name).central * nodes * max(end - begin, 0) / life for name in INDICATORS]


def booked_of(world: World, kind: str, component: str, at: int) -> tuple[float, float]:
    """What jobs carry of the year, their own and their idle share."""
    name = ("gwp", "adp", "pe")[at]
    where = "component = ? AND node_type = ?" if kind != "shared" else "component = 'shared.' || ? AND ? = 'shared'"
    [(own, idle)] = ask(
        world,
        f"SELECT total(own_{name}), total(idle_{name}) FROM charge WHERE {where} AND month LIKE '2025-%'",  # noqa: S608
        component,
        kind,
    )
    return own, idle


def test_night_by_night_is_the_same_as_at_once(tmp_path: Path) -> None:
    """Accounted every few days, with jobs that run through months and closings, or a year later in one go."""
    lists = []
    for name, step in (("once", TO - FROM), ("nightly", 3 * DAY)):
        (tmp_path / name).mkdir()
        world = site(tmp_path / name)
        for number in range(60):
            start = FROM + number * 7 * DAY + 5 * HOUR
            hours = (3, 50, 400, 1500)[number % 4]
            if start + hours * HOUR < TO:
                cpus = (10, 40, 20)[number % 3]
                world.say(
                    **gpu_job(str(number), start, hours, ("gpu1", "gpu2", "cpu1")[number % 3], cpus=cpus, gpus=0)
                )
        at = FROM
        while at < TO:
            account(world.config, min(at + step, TO), at, min(at + step, TO))
            at += step
        rows = tables(world)
        lists.append({key: rows[key] for key in ("stay", "charge", "idle_month")})
        lists[-1]["true_up"] = ask(world, "SELECT year, node_type, component, data FROM true_up ORDER BY 1, 2, 3")
        lists[-1]["impacts"] = ask(world, "SELECT key, impacts FROM job_result ORDER BY key")
    assert lists[0] == lists[1]


def test_keys_are_those_of_the_months_closed_when_the_job_ended(tmp_path: Path) -> None:
    """Half of the node's GPUs held all January: an hour of February brings an idle one with it."""
    world = site(tmp_path)
    january, february = edges_of("2025-01"), edges_of("2025-02")
    for gpu in range(2):
        for node in ("gpu1", "gpu2"):
            hours = (january[1] - january[0]) / HOUR
            world.say(**gpu_job(f"{node}{gpu}", int(january[0]), hours, node))
    world.say(**gpu_job("7", int(january[1] + 2 * DAY), 10))
    world.say(**gpu_job("8", int(closes_s("2025-01")), 10))
    account(world.config, february[1], int(january[0]), int(february[1]))
    impacts = {key: json.loads(text) for key, text in ask(world, "SELECT job_id, impacts FROM job_result")}
    early, late = (impacts[job]["gwp_kgco2e"] for job in ("7", "8"))
    assert early["idle_share"]["embodied"] is None
    assert "no month is closed" in early["idle_share"]["reason"]
    assert late["idle_share"]["embodied"]["central"] == pytest.approx(late["embodied"]["central"], rel=1e-9)


def test_a_month_that_is_closed_stays_as_it_is(tmp_path: Path) -> None:
    """A record that comes late changes neither the month nor the keys, but the year's true-up."""
    world = site(tmp_path)
    for number, month in enumerate(months(FROM, TO)):
        world.say(**gpu_job(str(number), int(edges_of(month)[0]) + DAY, 100))
    account(world.config, TO, FROM, TO)
    before, was = tables(world), true_ups(world)
    world.say(**gpu_job("999", moment("2025-05-05"), 200, "gpu2"))
    report = account(world.config, TO + DAY, FROM, TO)
    after, now = tables(world), true_ups(world)
    assert (report.new, report.changed, report.closed) == (1, 0, ())
    assert before["idle_month"] == after["idle_month"]
    line, other = was["gpu", "gpu"], now["gpu", "gpu"]
    assert other["hardware"] == line["hardware"]
    assert other["true_up"][0] < line["true_up"][0]
    assert other["jobs"][0] + other["idle"][0] + other["true_up"][0] == pytest.approx(line["hardware"][0])


def test_a_late_record_that_shares_a_node_makes_the_others_smaller(tmp_path: Path) -> None:
    """Two jobs that were each given the whole node: the first one's row is put right when the second is known."""
    world = site(tmp_path)
    start = moment("2025-05-05")
    whole = {"cpus": 40, "mem_bytes": 384 * 2**30, "gpus": 4}
    world.say(**gpu_job("1", start, 10, **whole))
    account(world.config, TO, FROM, TO)
    [(alone,)] = ask(world, "SELECT json_extract(impacts, '$.gwp_kgco2e.embodied.central') FROM job_result")
    world.say(**gpu_job("2", start, 10, **whole))
    report = account(world.config, TO, FROM, TO)
    assert (report.new, report.changed) == (1, 1)
    rows = ask(world, "SELECT json_extract(impacts, '$.gwp_kgco2e.embodied.central'), revision FROM job_result")
    assert sorted(revision for _, revision in rows) == [1, 2]
    assert [gwp for gwp, _ in rows] == pytest.approx([alone / 2, alone / 2])


def test_a_job_that_still_runs_holds_its_part(tmp_path: Path) -> None:
    """A finished job beside a running one: its row is right at once, and the same when the other has ended."""
    world = site(tmp_path)
    start = moment("2025-05-05")
    whole = {"cpus": 40, "mem_bytes": 384 * 2**30, "gpus": 4}
    world.say(**gpu_job("1", start, 10, **whole))
    world.say(**gpu_job("2", start, 1000, **whole) | {"end": None, "state": "RUNNING"})
    account(world.config, start + DAY, start - DAY, start + DAY)
    before = ask(world, "SELECT digest FROM job_result WHERE job_id = '1'")
    world.say(**gpu_job("2", start, 1000, **whole))
    account(world.config, start + 60 * DAY, start - DAY, start + 60 * DAY)
    assert ask(world, "SELECT digest FROM job_result WHERE job_id = '1'") == before


def test_days_that_nobody_accounted_close_no_month(tmp_path: Path) -> None:
    """A month of which a week was never asked for is not taken for an idle one."""
    world = site(tmp_path)
    a, b = int(edges_of("2025-03")[0]), int(closes_s("2025-03"))
    world.say(**gpu_job("1", a, 1))
    account(world.config, b, a, a + 10 * DAY)
    assert account(world.config, b, a + 17 * DAY, b).closed == ()
    assert account(world.config, b, a + 10 * DAY, a + 17 * DAY).closed == ("2025-03",)


def test_days_that_follow_each_other_leave_no_gap(tmp_path: Path) -> None:
    """Windows from midnight to the last second of a day: a month closes by them."""
    world = site(tmp_path)
    begin, end = int(edges_of("2025-03")[0]), int(closes_s("2025-03"))
    world.say(**gpu_job("1", begin, 1))
    reports = [account(world.config, end + DAY, at, at + DAY - 1) for at in range(begin, end + DAY, DAY)]
    assert [month for report in reports for month in report.closed] == ["2025-03"]
    assert ask(world, "SELECT from_s, to_s FROM covered") == [(begin, end + DAY - 1)]


def test_recompute_leaves_a_revision_and_asks_nobody(tmp_path: Path) -> None:
    """Under another lifetime each job, month and year is redone, though scheduler and nodes have forgotten it all."""
    world = site(tmp_path)
    for number, month in enumerate(months(FROM, TO)):
        world.say(**gpu_job(str(number), int(edges_of(month)[0]) + DAY, 100))
    account(world.config, TO, FROM, TO)
    was = true_ups(world)
    (world.folder / "jobs.jsonl").write_text("")
    assert recompute(world.config, TO + DAY, FROM, TO).changed == 0
    inventory = (world.folder / "nodes.yaml").read_text()
    (world.folder / "nodes.yaml").write_text(inventory.replace("lifetime_years: 20", "lifetime_years: 10"))
    report = recompute(world.config, TO + DAY, FROM, TO)
    assert report.changed == len(list(months(FROM, TO)))
    assert {row[0] for row in ask(world, "SELECT revision FROM job_result")} == {2}
    now = true_ups(world)
    assert now["gpu", "gpu"]["hardware"][0] == pytest.approx(2 * was["gpu", "gpu"]["hardware"][0])
    assert now["gpu", "gpu"]["jobs"][0] == pytest.approx(2 * was["gpu", "gpu"]["jobs"][0])
    assert now["gpu", "gpu"]["idle"][0] == pytest.approx(2 * was["gpu", "gpu"]["idle"][0])


def test_fixed_utilisation_is_the_published_tables_idle_share(tmp_path: Path) -> None:
    """With 0.65, own part + idle share = own part / 0.65, from the first day on."""
    world = site(tmp_path, config="embodied: {idle_share: fixed, active_utilisation: 0.65}\n")
    world.say(**gpu_job("1", FROM, 10))
    account(world.config, FROM + DAY, FROM, FROM + DAY)
    [(text,)] = ask(world, "SELECT impacts FROM job_result")
    found = json.loads(text)["gwp_kgco2e"]
    whole = found["embodied"]["central"] + found["idle_share"]["embodied"]["central"]
    assert whole == pytest.approx(found["embodied"]["central"] / 0.65)


def test_past_its_life_a_node_costs_nothing_more_or_goes_on(tmp_path: Path) -> None:
    """`zero` is paid off and says so, also for the part of a job beyond; `continue` charges on."""
    start = moment("2025-06-01")
    for name, rule in (("zero", "zero"), ("on", "continue")):
        (tmp_path / name).mkdir()
        world = site(tmp_path / name, "2021-06-01", f"4\n    past_lifetime: {rule}")
        world.say(**gpu_job("1", start - 5 * HOUR, 10))
        world.say(**gpu_job("2", start + DAY, 10))
        world.say(**gpu_job("3", start - 2 * DAY, 10))
        account(world.config, start + 3 * DAY, start - 5 * DAY, start + 3 * DAY)
        rows = ask(world, "SELECT impacts, warnings FROM job_result ORDER BY job_id")
        over, past, before = (json.loads(one)["gwp_kgco2e"]["embodied"]["central"] for one, _ in rows)
        said = ["past its lifetime" in warnings for _, warnings in rows]
        if rule == "zero":
            assert (past, said) == (0.0, [True, True, False])
            assert over == pytest.approx(before / 2)
        else:
            assert over == pytest.approx(past) == pytest.approx(before)
            assert not any(said)


def test_a_job_over_new_year_is_booked_in_both(tmp_path: Path) -> None:
    """By its hours in each month."""
    world = site(tmp_path)
    world.say(**gpu_job("1", moment("2024-12-31") + 14 * HOUR, 40))
    account(world.config, TO, FROM, TO)
    rows = ask(world, "SELECT month, hours FROM charge WHERE component = 'gpu' ORDER BY month")
    assert rows == [("2024-12", pytest.approx(2.5)), ("2025-01", pytest.approx(7.5))]


@given(st.floats(0, 4e9))
def test_a_moment_lies_in_its_month(at_s: float) -> None:
    """Months follow each other without a gap."""
    begin, end = edges_of(month_of(at_s))
    assert begin <= at_s < end


def test_a_running_job_that_its_scheduler_forgets_frees_its_node(tmp_path: Path) -> None:
    """Seen once, never again: who is beside it from then on has the node alone."""
    world = site(tmp_path)
    start = moment("2025-05-05")
    whole = {"cpus": 40, "mem_bytes": 384 * 2**30, "gpus": 4}
    world.say(**gpu_job("9", start, 1, **whole) | {"end": None, "state": "RUNNING"})
    account(world.config, start + HOUR, start - DAY, start + HOUR)
    assert ask(world, "SELECT key FROM stay") == [(f"9@{start}",)]
    (world.folder / "jobs.jsonl").write_text("")
    world.say(**gpu_job("1", start, 4, **whole))
    account(world.config, start + DAY, start - DAY, start + DAY)
    assert ask(world, "SELECT hours FROM charge WHERE component = 'gpu'") == [(4.0,)]


def test_months_that_a_clock_ahead_has_closed_are_opened_again(tmp_path: Path) -> None:
    """One night believes that it is a year later: the months to come close when they do, as if it had never been."""
    worlds = []
    for name in ("ahead", "right"):
        (tmp_path / name).mkdir()
        worlds.append(site(tmp_path / name))
        for number, day in enumerate(("2025-05-05", "2025-06-20", "2025-07-03")):
            worlds[-1].say(**gpu_job(str(number), moment(day), 30))
    ahead, right = worlds
    begin = moment("2025-04-25")
    (ahead.folder / "later.jsonl").write_text((ahead.folder / "jobs.jsonl").read_text())
    (ahead.folder / "jobs.jsonl").write_text((ahead.folder / "later.jsonl").read_text().splitlines()[0] + "\n")
    account(ahead.config, moment("2025-05-08"), begin, moment("2025-05-08"))
    account(ahead.config, moment("2025-05-08"), None, None)
    assert "2026-02" in account(ahead.config, moment("2026-05-08"), None, None).closed
    (ahead.folder / "jobs.jsonl").write_text((ahead.folder / "later.jsonl").read_text())
    report = account(ahead.config, moment("2025-05-09"), None, None)
    assert any("closed by a clock that was ahead, and open again: 2025-05, 2025-06" in one for one in report.problems)
    for world in worlds:
        account(world.config, moment("2025-05-09"), begin, moment("2025-05-09"))
        account(world.config, moment("2025-05-09"), None, None)
        last = account(world.config, moment("2025-08-10"), None, None)
        assert {"2025-05", "2025-06", "2025-07"} <= set(last.closed)
    idle = "SELECT month, node_type, component, idle, key FROM idle_month ORDER BY 1, 2, 3"
    assert ask(ahead, idle) == ask(right, idle)
    assert {month for month, *_ in ask(ahead, idle)} == {"2025-05", "2025-06", "2025-07"}
