"""What tries to break the books: records that change their mind, odd inventories, kills, windows in any order."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.accounting.test_months import (
    DAY,
    FROM,
    HOUR,
    TO,
    ask,
    booked_of,
    gpu_job,
    hardware,
    moment,
    site,
    tables,
    true_ups,
)
from tests.accounting.test_sacct import FAKE, row
from tests.accounting.world import CONFIG, T0, World

from jobimpact.cli.main import main
from jobimpact.core.errors import ConfigError
from jobimpact.impact.factors import load_factors
from jobimpact.impact.months import closes_s, edges_of, month_of, months
from jobimpact.nightly.night import account, recompute

Captured = pytest.CaptureFixture[str]
GIB = 2**30
WHOLE: dict[str, Any] = {"cpus": 40, "mem_bytes": 384 * GIB, "gpus": 4}
BEGIN = moment("2025-01-30")
"""When the jobs of the brute force begin: they run over the end of a month."""
STEP = 1800
STEPS = 60
CPUS = {"gpu1": 40, "gpu2": 40, "cpu1": 40}
MEM_GIB = {"gpu1": 384, "gpu2": 384, "cpu1": 192}
GPUS = {"gpu1": 4, "gpu2": 4, "cpu1": 0}

asked = st.fixed_dictionaries(
    {
        "start": st.one_of(st.none(), st.integers(0, STEPS - 20)),
        "lasts": st.integers(0, 20),
        "nodes": st.sets(st.sampled_from(["gpu1", "gpu2", "cpu1", "ghost"]), min_size=1, max_size=3),
        "cpus": st.one_of(st.none(), st.integers(0, 100)),
        "mem": st.one_of(st.none(), st.integers(0, 900)),
        "gpus": st.one_of(st.none(), st.integers(0, 9)),
        "exclusive": st.booleans(),
    }
)


def say(world: World, job: str, one: dict[str, Any]) -> None:
    """A record of the brute force, its times in steps."""
    start = None if one["start"] is None else BEGIN + one["start"] * STEP
    world.say(
        job,
        submit=BEGIN - 100,
        start=start,
        end=BEGIN if start is None else start + one["lasts"] * STEP,
        nodes=sorted(one["nodes"]),
        cpus=one["cpus"],
        mem_bytes=None if one["mem"] is None else one["mem"] * GIB,
        gpus=one["gpus"],
        exclusive=one["exclusive"],
    )


def part(held: float | None, there: int, nodes: int) -> float | None:
    """A job's part of something on one of its nodes; None: it is not tracked."""
    if held is None:
        return None
    return min(held / nodes / there, 1.0) if there else 0.0


def four(one: dict[str, Any], node: str) -> tuple[float, float, float, float]:
    """A job's parts of a node, by what was asked for."""
    if one["exclusive"]:
        return (1.0, 1.0, 1.0 if GPUS[node] else 0.0, 1.0)
    of = len(one["nodes"])
    cpu, ram, gpu = (
        part(one["cpus"], CPUS[node], of),
        part(one["mem"], MEM_GIB[node], of),
        part(one["gpus"], GPUS[node], of),
    )
    rest = max((share for share in (cpu, ram, gpu) if share is not None), default=1.0)
    bare = rest if GPUS[node] else 0.0
    return (rest if cpu is None else cpu, rest if ram is None else ram, bare if gpu is None else gpu, rest)


def step_by_step(jobs: dict[str, dict[str, Any]]) -> dict[tuple[str, str, str, str], float]:
    """Hours by job, node, month and component, by looking at each half hour of each node."""
    found: dict[tuple[str, str, str, str], float] = {}
    ran = {job: one for job, one in jobs.items() if one["start"] is not None}
    for node in CPUS:
        mine = [(job, one, four(one, node)) for job, one in ran.items() if node in one["nodes"]]
        for step in range(STEPS):
            there = [(job, shares) for job, one, shares in mine if 0 <= step - one["start"] < one["lasts"]]
            month = month_of(BEGIN + step * STEP)
            for at, component in enumerate(("cpu", "ram", "gpu", "rest")):
                whole = max(sum(shares[at] for _, shares in there), 1.0)
                for job, shares in there:
                    key = (job, node, month, component)
                    found[key] = found.get(key, 0.0) + shares[at] / whole * STEP / HOUR
    return found


def booked(world: World) -> dict[tuple[str, str, str, str], float]:
    """The same by what is booked."""
    rows = ask(world, "SELECT key, node, month, component, hours FROM charge WHERE component NOT LIKE 'shared.%'")
    return {(key.partition("@")[0], node, month, what): hours for key, node, month, what, hours in rows}


def check(world: World, jobs: dict[str, dict[str, Any]]) -> None:
    """What is booked is what a look at each half hour gives."""
    found, expected = booked(world), step_by_step(jobs)
    for key in {*found, *expected}:
        assert found.get(key, 0.0) == pytest.approx(expected.get(key, 0.0), abs=1e-6), key


@settings(max_examples=20, deadline=None)
@given(st.lists(asked, max_size=7), st.lists(st.integers(1, STEPS), max_size=3), st.randoms(use_true_random=False))
def test_hours_are_those_of_a_look_at_each_half_hour(
    some: list[dict[str, Any]], cuts: list[int], chance: random.Random
) -> None:
    """Whatever overlaps, is not tracked or is asked for too much, and in whatever order windows are accounted."""
    with tempfile.TemporaryDirectory() as folder:
        world = site(Path(folder))
        jobs = {str(number): one for number, one in enumerate(some)}
        for job, one in jobs.items():
            say(world, job, one)
        end = BEGIN + STEPS * STEP
        edges = sorted({BEGIN - HOUR, end, *(BEGIN + cut * STEP for cut in cuts)})
        windows = list(pairwise(edges))
        chance.shuffle(windows)
        for from_s, to_s in windows:
            account(world.config, end, from_s, to_s)
        check(world, jobs)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), asked), min_size=1, max_size=6))
def test_records_that_change_their_mind_leave_nothing_behind(told: list[tuple[int, dict[str, Any]]]) -> None:
    """Each record anew with other times, nodes and sizes, each told to a night: the last words are what is booked."""
    with tempfile.TemporaryDirectory() as folder:
        world = site(Path(folder))
        jobs: dict[str, dict[str, Any]] = {}
        end = BEGIN + STEPS * STEP
        for number, one in told:
            jobs[str(number)] = one | {"start": one["start"] or 0}
            say(world, str(number), jobs[str(number)])
            account(world.config, end, BEGIN - HOUR, end)
        check(world, jobs)
        before = ask(world, "SELECT key, revision, digest FROM job_result ORDER BY key")
        assert account(world.config, end + 1, BEGIN - HOUR, end).changed == 0
        assert ask(world, "SELECT key, revision, digest FROM job_result ORDER BY key") == before


@pytest.mark.parametrize(
    "change", [{"nodes": ["gpu2"]}, {"start": moment("2025-05-09")}, {"start": None, "state": "CANCELLED"}]
)
def test_a_job_that_was_never_there_gives_back_what_it_took(tmp_path: Path, change: dict[str, Any]) -> None:
    """Its neighbour ended long before the window, and is whole again all the same."""
    world = site(tmp_path)
    start = moment("2025-05-05")
    world.say(**gpu_job("1", start, 10, **WHOLE))
    world.say(**gpu_job("2", start, 400, **WHOLE))
    account(world.config, start + 30 * DAY, start - DAY, start + 30 * DAY)
    halved = booked(world)["1", "gpu1", "2025-05", "gpu"]
    world.say(**gpu_job("2", start, 400, **WHOLE) | change)
    account(world.config, start + 30 * DAY, start + 10 * DAY, start + 30 * DAY)
    assert [halved, booked(world)["1", "gpu1", "2025-05", "gpu"]] == pytest.approx([5, 10])


def test_a_window_that_reaches_into_the_future_ends_now(tmp_path: Path) -> None:
    """No month is closed that is not over, and the nights to come still close them."""
    world = site(tmp_path)
    now = moment("2025-03-10")
    world.say(**gpu_job("1", now - 5 * DAY, 10))
    assert account(world.config, now, moment("2025-03-01"), moment("2025-06-30")).closed == ()
    assert account(world.config, moment("2025-04-06"), now, moment("2025-04-06")).closed == ("2025-03",)


def test_all_there_is_can_be_asked_for_and_nights_go_on_from_there(tmp_path: Path) -> None:
    """`--from 0` closes no month before the first job, and the running month closes in its time."""
    world = site(tmp_path)
    now = moment("2025-03-10")
    world.say(**gpu_job("1", moment("2025-02-10"), 10))
    assert account(world.config, now, 0, now).closed == ("2025-02",)
    closed = [account(world.config, now + day * DAY).closed for day in range(1, 31)]
    assert [one for one in closed if one] == [("2025-03",)]


def test_months_that_are_accounted_after_their_december_come_into_the_year(tmp_path: Path) -> None:
    """The second half of a year first, its books closed; then the first half: hardware of all of it."""
    world = site(tmp_path)
    for number, month in enumerate(months(FROM, TO)):
        world.say(**gpu_job(str(number), int(edges_of(month)[0]) + DAY, 900))
    account(world.config, TO, moment("2025-07-01"), TO)
    half = true_ups(world)["gpu", "gpu"]
    assert half["jobs"][0] <= half["hardware"][0]
    account(world.config, TO, FROM, moment("2025-07-06"))
    for (kind, component), line in true_ups(world).items():
        expected = hardware(world, kind, component)[0]
        assert line["hardware"][0] == pytest.approx(expected)
        assert sum(booked_of(world, kind, component, 0)) + line["true_up"][0] == pytest.approx(expected)


def test_a_type_by_another_name_keeps_its_books(tmp_path: Path) -> None:
    """Renamed in July: what is booked under both names is in the year's lines; recomputed, only the new one is."""
    world = site(tmp_path)
    for number, month in enumerate(months(FROM, TO)):
        world.say(**gpu_job(str(number), int(edges_of(month)[0]) + DAY, 100))
    middle = moment("2025-07-10")
    account(world.config, middle, FROM, middle)
    inventory = world.folder / "nodes.yaml"
    inventory.write_text(inventory.read_text().replace("  gpu:\n", "  v100:\n"))
    account(world.config, TO, middle - 3 * DAY, TO)
    lines = true_ups(world)
    [(own,)] = ask(world, "SELECT total(own_gwp) FROM charge WHERE component = 'gpu' AND month LIKE '2025-%'")
    assert sum(lines[kind, "gpu"]["jobs"][0] for kind in ("gpu", "v100")) == pytest.approx(own)
    whole = sum(line["hardware"][0] for line in lines.values())
    recompute(world.config, TO, FROM, TO)
    assert {kind for kind, _ in true_ups(world)} == {"cpu", "shared", "v100"}
    assert sum(line["hardware"][0] for line in true_ups(world).values()) == pytest.approx(whole)


def test_a_node_that_is_taken_out_was_there_before(tmp_path: Path) -> None:
    """Held whole for five months, then sold: its hardware is in the books, and none is held twice."""
    world = site(tmp_path)
    world.say(**gpu_job("1", moment("2025-01-01"), 24 * 150, "gpu2", **WHOLE))
    world.say(**gpu_job("2", moment("2025-01-01"), 24 * 360, "gpu1", **WHOLE))
    middle = moment("2025-07-10")
    account(world.config, middle, FROM, middle)
    inventory = world.folder / "nodes.yaml"
    inventory.write_text(inventory.read_text().replace("gpu[1-2]", "gpu1"))
    account(world.config, TO, middle - 3 * DAY, TO)
    line = true_ups(world)["gpu", "gpu"]
    assert line["held_h"] == pytest.approx(24 * 510)
    assert line["held_h"] <= line["available_h"]
    assert line["jobs"][0] <= line["hardware"][0]


def test_recompute_knows_of_jobs_that_still_run(tmp_path: Path) -> None:
    """A month that a running job held is the same when it is redone."""
    world = site(tmp_path)
    start, to = moment("2025-01-02"), moment("2025-02-10")
    world.say(**gpu_job("1", start, 5, "gpu2"))
    world.say(**gpu_job("2", start, 1000, **WHOLE) | {"end": None, "state": "RUNNING"})
    account(world.config, to, moment("2025-01-01"), to)
    before = tables(world)
    recompute(world.config, to + 60, moment("2025-01-01"), to)
    assert tables(world) == before


def test_a_year_that_is_recomputed_leaves_the_one_before(tmp_path: Path) -> None:
    """Under another lifetime from January on: December's books stay as they were closed."""
    world = site(tmp_path)
    begin = moment("2023-11-01")
    for number, month in enumerate(months(begin, TO)):
        world.say(**gpu_job(str(number), int(edges_of(month)[0]) + DAY, 100))
    account(world.config, TO, begin, TO)
    before = true_ups(world, "2024")
    inventory = world.folder / "nodes.yaml"
    inventory.write_text(inventory.read_text().replace("lifetime_years: 20", "lifetime_years: 10"))
    recompute(world.config, TO, moment("2025-01-01"), TO)
    assert true_ups(world, "2024") == before


def test_fixed_and_back_is_as_it_was(tmp_path: Path) -> None:
    """Recomputed with a fixed utilisation and again with the measured one: jobs, months and years as before."""
    world = site(tmp_path)
    busy(world, 40)
    found: list[tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]] = []
    for mode in ("measured", "fixed", "measured"):
        world.config_file.write_text(CONFIG + f"embodied: {{idle_share: {mode}}}\n")
        if not found:
            account(world.config, TO, FROM, TO)
        else:
            recompute(world.config, TO, FROM, TO)
        found.append((ask(world, "SELECT key, impacts FROM job_result ORDER BY key"), keys_of(world)))
    assert found[0] == found[2]
    assert found[0][0] != found[1][0]
    assert found[0][1] == found[1][1]


def busy(world: World, count: int) -> None:
    """Jobs of an hour to two weeks, at random."""
    chance = random.Random(count)
    for number in range(count):
        start = FROM + chance.randrange(410 * 24) * HOUR
        held: dict[str, Any] = {"cpus": chance.randrange(1, 41), "gpus": chance.randrange(5)}
        node = chance.choice(("gpu1", "gpu2", "cpu1"))
        world.say(**gpu_job(str(number), start, chance.choice((1, 30, 300)), node, **held))


def keys_of(world: World) -> list[tuple[Any, ...]]:
    """The idle keys of the closed months."""
    return ask(world, "SELECT month, node_type, component, idle, key FROM idle_month ORDER BY 1, 2, 3")


KILLED = """
import os, sys
from pathlib import Path
import sqlalchemy as sa
from jobimpact.core.config import load_config
from jobimpact.nightly.night import account
left = int(sys.argv[2])
@sa.event.listens_for(sa.engine.Engine, "commit")
def count(_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), 9)
account(load_config(Path(sys.argv[1])), *map(int, sys.argv[3:]))
print(int(sys.argv[2]) - left)
"""


def test_a_night_killed_anywhere_is_made_good_by_the_next(tmp_path: Path) -> None:
    """By kill -9 at commits through a year's closing: then one more night, and all is as if nothing had happened."""

    def killed(world: World, commit: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(world.config_file), *map(str, (commit, TO, FROM, TO))]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    def all_of(world: World) -> tuple[Any, ...]:
        rows = ask(world, "SELECT key, impacts, revision FROM job_result ORDER BY key")
        return rows, keys_of(world), true_ups(world)

    worlds = []
    for name in ("whole", "first", "middle", "late", "last"):
        (tmp_path / name).mkdir()
        worlds.append(site(tmp_path / name))
        for number, month in enumerate(months(FROM, TO)):
            worlds[-1].say(**gpu_job(str(number), int(edges_of(month)[0]) + DAY, 100))
    commits = int(killed(worlds[0], 10**9).stdout)
    expected = all_of(worlds[0])
    for world, commit in zip(worlds[1:], (1, commits // 2, commits - 3, commits), strict=True):
        assert killed(world, commit).returncode == -9
        account(world.config, TO, FROM, TO)
        assert all_of(world) == expected


def test_no_order_of_names_is_left_to_chance(tmp_path: Path) -> None:
    """A job over nodes of two types, accounted by processes that hash otherwise: the same row."""
    world = World(tmp_path)
    world.say("1", nodes=["node01", "node03"], cpus=8, gpus=2)
    code = "import sys; from jobimpact.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "account", "--from", str(T0), "--config", str(world.config_file)]
    said = set()
    for seed in "0123":
        env = {"PYTHONHASHSEED": seed, "PATH": "/nowhere"}
        said.add(subprocess.run(command, env=env, capture_output=True, check=True, timeout=60).returncode)
    assert said == {0}
    assert {rev for rev, _ in world.rows().values()} == {1}


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("purchased: 2020-01-01", "purchased: 2024-02-30", "day is out of range"),
        ("purchased: 2020-01-01", "zone: XYZ", "types.gpu.zone"),
        ("lifetime_years: 20", "lifetime_years: 0", "lifetime_years"),
        ("lifetime_years: 20", "lifetime_years: 1.0e-300", "lifetime_years"),
        ("lifetime_years: 20", "lifetime_years: .nan", "lifetime_years"),
        ("pue: 1.3", "pue: .nan", "pue"),
        ("ram_gb: 384", "ram_gb: .nan", "ram_gb"),
        ("power_w: 100", "power_w: .inf", "power_w"),
        ("gwp_kgco2e: 300", "gwp_kgco2e: .nan", "gwp_kgco2e"),
        ("[0.01, 0.02, 0.06]", "[0.01, .nan, 0.06]", "adp_kgsbe"),
        ("switch: {", "switch: {nodes: [], ", "switch"),
        ("switch: {", "switch: {nodes: gpu1!gpu1, ", "switch"),
    ],
)
def test_an_inventory_that_cannot_be_is_told_by_its_key(tmp_path: Path, old: str, new: str, word: str) -> None:
    """Nothing is accounted with it."""
    world = site(tmp_path)
    inventory = world.folder / "nodes.yaml"
    inventory.write_text(inventory.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=word):
        account(world.config, FROM + DAY, FROM, FROM + DAY)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("grid: {market: {gwp_kgco2e_per_kwh: -1, source: x}}", "market"),
        ("grid: {market: {gwp_kgco2e_per_kwh: .nan, source: x}}", "market"),
        ("grid: {market: {gwp_kgco2e_per_kwh: 1}}", "source"),
        ("grid: {provider: foo}", "provider"),
        ("grid: {provider: csv}", "csv"),
        ("embodied: {window_months: 0}", "window_months"),
        ("embodied: {active_utilisation: 0}", "active_utilisation"),
        ("embodied: {active_utilisation: .nan}", "active_utilisation"),
        ("embodied: {idle_share: none}", "idle_share"),
        ("factors: nowhere", "nowhere"),
    ],
)
def test_a_setting_that_cannot_be_is_told_by_file_and_key(tmp_path: Path, text: str, word: str) -> None:
    """Before anything is written."""
    world = World(tmp_path, CONFIG.replace("grid: {zone: FRA}", text))
    with pytest.raises(ConfigError, match=word) as error:
        account(world.config, T0 + 1000)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    "bad",
    [
        {"end": "999999999999999999"},
        {"alloctres": "cpu=1,mem=99999999999E,node=1"},
        {"start": "1795190500"},
        {"start": "Unknown"},
        {"elapsedraw": "999999999999999999"},
        {"alloctres": "cpu=0,mem=0,gres/gpu=0"},
    ],
)
def test_one_absurd_row_does_not_stop_a_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: dict[str, str]
) -> None:
    """The other job is accounted, and so it is the night after."""
    world = World(tmp_path, CONFIG.replace("{local: {path: jobs.jsonl}}", "{slurm: {}}"))
    rows = [row(), row(jobidraw="124", jobid="124", nodelist="node[01-03]", **bad)]
    (tmp_path / "how.json").write_text(json.dumps({"rows": rows, "keeps": 99, "stderr": "", "rc": 0}))
    (tmp_path / "sacct").write_text(FAKE.format(python=sys.executable))
    (tmp_path / "sacct").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    report = account(world.config, T0 + 1000)
    assert f"123@{T0}" in world.rows()
    assert report.new == 2 or report.problems
    assert account(world.config, T0 + 2000).changed == 0


ODD: tuple[dict[str, Any], ...] = (
    {},
    {"nodes": ["cpu1"], "gpus": 0},
    {"nodes": ["gpu1", "stranger"]},
    {"nodes": ["stranger"]},
    {"nodes": []},
    {"nodes": ["gpu1", "cpu1"]},
    {"start": None},
    {"hours": 0.0},
)


@pytest.mark.parametrize("mode", ["measured", "fixed"])
def test_null_always_has_a_reason_beside_it(tmp_path: Path, capsys: Captured, mode: str) -> None:
    """For nodes that nobody knows, jobs of no time, both ways to find the idle share; 80 columns in text."""
    world = site(tmp_path, config=f"embodied: {{idle_share: {mode}}}\n")
    begin, closed = int(edges_of("2025-01")[0]), int(closes_s("2025-01"))
    world.say(**gpu_job("100", begin, 700, **WHOLE))
    for number, odd in enumerate(ODD):
        job = gpu_job(str(number + 1), closed + 5, odd.get("hours", 5.0))
        world.say(**job | {name: value for name, value in odd.items() if name != "hours"})
    account(world.config, closed + DAY, begin, closed + DAY)
    ids = [str(number + 1) for number in range(len(ODD))]
    assert main([*ids, "--json", "--config", str(world.config_file)]) == 0
    for job in json.loads(capsys.readouterr().out)["jobs"]:
        assert list(bare_nulls(job["impacts"])) == []
    assert main([*ids, "--config", str(world.config_file)]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def bare_nulls(found: object, path: str = "impacts") -> Iterable[str]:
    """Where a null stands without a reason beside it."""
    if isinstance(found, dict):
        if None in found.values() and not found.get("reason"):
            yield path
        for name, value in found.items():
            yield from bare_nulls(value, f"{path}.{name}")


def test_idle_electricity_is_told_or_in_the_true_up_past_life_too(tmp_path: Path) -> None:
    """Machines that are paid off still draw 100 W while idle: used = told + true-up, and nothing for manufacture."""
    world = site(tmp_path, "2015-01-01", "4")
    begin, new_year = moment("2025-01-01"), moment("2026-01-01")
    for name in ("gpu1", "gpu2"):
        db = world.node(name)
        db.domain()
        db.db.execute("BEGIN")
        for hour in range(begin, TO + 1, HOUR):
            db.point("idle", hour - T0, (hour - begin) * 100.0, known_s=hour - begin)
            db.point("system", hour - T0, 0.0, known_s=hour - begin)
        db.db.execute("COMMIT")
    for number, month in enumerate(months(begin, TO - 30 * DAY)):
        world.say(**gpu_job(str(number), int(edges_of(month)[0]) + 8 * DAY, 400, "gpu1", **WHOLE))
    account(world.config, TO, begin, TO)
    line = true_ups(world)["gpu", "cpu"]
    per_kwh = load_factors().zone("FRA").per_kwh.gwp_kgco2e.central
    assert line["idle_use"][0] == pytest.approx(2 * (new_year - begin) / HOUR * 0.1 * 1.3 * per_kwh)
    assert line["idle_use_told"][0] > 0
    assert line["idle_use"][0] == pytest.approx(line["idle_use_told"][0] + line["idle_use_true_up"][0])
    assert line["hardware"] == line["jobs"] == [0.0, 0.0, 0.0]


def test_hostile_names_reach_no_terminal(tmp_path: Path, capsys: Captured) -> None:
    """Escape sequences and newlines in names of types and shared parts."""
    world = site(tmp_path)
    inventory = world.folder / "nodes.yaml"
    text = inventory.read_text().replace("  switch:", '  "sw\\e[31m\\nitch":').replace("  gpu:\n", '  "g\\e[2Jpu":\n')
    inventory.write_text(text)
    world.say(**gpu_job("1", moment("2025-05-05"), 10))
    account(world.config, TO, FROM, TO)
    main(["1", "--config", str(world.config_file)])
    main(["books", "--embodied", "2025", "--config", str(world.config_file)])
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "sw\n" not in said
    assert max(map(len, said.splitlines())) <= 80
