"""A site twice: its nights read the nodes' own files, and a mirror that came through a real server."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.accounting.mirror_world import CLUSTER, Day, keep_day
from tests.accounting.world import World
from tests.bench.store_day import DayJob, jobs_of
from tests.stores.servers import Server

from jobimpact.cli.main import main
from jobimpact.core.config import InfluxStore, VictoriaStore
from jobimpact.core.line import line
from jobimpact.core.nodefile import node_file
from jobimpact.core.records import Profile
from jobimpact.core.series import JOB_LABEL, JOB_PROGRESS, Point
from jobimpact.core.server import Server as Way
from jobimpact.energy.profile import SHORT_S
from jobimpact.nightly.night import account

DAY_S = 86400
MIDNIGHT = time.time() // DAY_S * DAY_S - DAY_S
"""Yesterday's first: servers, and what a mirror keeps, go by the clock."""
WALL = MIDNIGHT - 2400
LASTS = 6000
NOW = WALL + LASTS + 100
INVENTORY = """
version: "2026-11"
pue: 1.2
types:
  gpu:
    nodes: n[1-2]
    cpu: {model: AMD EPYC 7763 64-Core Processor, count: 2, cores: 64}
    ram_gb: 1024
    ram_modules: 16
    gpus: [{model: NVIDIA A100-SXM4-80GB, count: 2}]
"""
CONFIG = """
cluster: lab
store: STORE
results: sqlite:///results.db
scheduler: {local: {path: jobs.jsonl}}
inventory: nodes.yaml
grid: {zone: FRA}
"""


class Kept:
    """Two nodes' books, of the real ledger, and the lines that they send to one kind of server."""

    def __init__(self, folder: Path, store: InfluxStore | VictoriaStore) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self.jobs: dict[str, list[DayJob]] = {}
        for number in (1, 2):
            # Times that a float has exactly: a server keeps milliseconds.
            some = [
                DayJob(job.id, round(job.start_s), round(job.end_s), job.gpus)
                for job in jobs_of(number, 8, LASTS, gpus=2, mean_s=1500.0)
            ]
            self.jobs[f"n{number}"] = some
            self.lines += keep_day(folder, Day(f"n{number}", some, WALL), LASTS, store)
        words_as_tags = isinstance(store, VictoriaStore)
        self.lines += [line(point, words_as_tags=words_as_tags) for point in _said(folder, self.jobs["n1"][0])]


def _said(folder: Path, job: DayJob) -> Iterator[Point]:
    """What a job said of itself: into its node's file, and as points."""
    at = int(WALL + job.start_s + 30)
    labels = {"model": 'resnet50, 50% \\ "so"', "activity": "learning"}
    progress = (("acc", 7, 0.71, 900), ("loss", 7, 1e-300, 900), ("", 7, None, 900))
    with closing(sqlite3.connect(node_file(folder, "n1"))) as db, db:
        for name, value in labels.items():
            db.execute("INSERT INTO label VALUES (?, ?, ?, ?)", (job.id, name, value, at))
            yield Point(JOB_LABEL, (CLUSTER, "n1", job.id, name), at * 1000, {"stamp_ms": at * 1000, "value": value})
        for metric, step, value, uj in progress:
            db.execute("INSERT INTO progress VALUES (?, ?, ?, ?, ?, ?)", (job.id, at, metric, step, value, uj))
            fields: dict[str, Any] = {"stamp_ms": at * 1000, "step": step, "value": value, "energy_uj": uj}
            yield Point(JOB_PROGRESS, (CLUSTER, "n1", job.id, metric or None), at * 1000, fields)


KeptFor = Callable[[InfluxStore | VictoriaStore], Kept]


@pytest.fixture(scope="module")
def kept_for(tmp_path_factory: pytest.TempPathFactory) -> KeptFor:
    """The books for a kind of server: kept once, however many tests read them."""
    there: dict[type, Kept] = {}

    def found(store: InfluxStore | VictoriaStore) -> Kept:
        if type(store) not in there:
            there[type(store)] = Kept(tmp_path_factory.mktemp("kept"), store)
        return there[type(store)]

    return found


class Site:
    """One folder, two configurations: nodes' own files, and a server with their lines."""

    def __init__(self, folder: Path, server: Server, kept_for: KeptFor) -> None:
        self.server = server
        found = server.store(folder / "far" / "books").server
        assert found is not None
        self.settings = found
        kind = "influxdb" if hasattr(found, "database") else "victoriametrics"
        said = {name: one for name, one in msgspec.to_builtins(found).items() if one is not None} | {"path": "books"}
        for name in ("near", "far"):
            (folder / name).mkdir(exist_ok=True)
        self.near = World(folder / "near", CONFIG.replace("STORE", "{local: {path: nodes}}"), INVENTORY)
        self.far = World(folder / "far", CONFIG.replace("STORE", json.dumps({kind: said})), INVENTORY)
        kept = kept_for(found)
        shutil.copytree(kept.folder, folder / "near" / "nodes", dirs_exist_ok=True)
        self.lines, self.jobs = kept.lines, kept.jobs
        for node, jobs in kept.jobs.items():
            for job in jobs:
                self._say(node, job)

    def _say(self, node: str, job: DayJob) -> None:
        start, end = int(WALL + job.start_s), int(WALL + job.end_s)
        for world in (self.near, self.far):
            if end < NOW:
                world.say(job.id, submit=start, start=start, end=end, nodes=[node], cpus=job.cpus, gpus=len(job.gpus))

    def publish(self) -> None:
        way = Way(self.settings)
        for at in range(0, len(self.lines), 2000):
            outcome = way.write("books", self.lines[at : at + 2000])
            assert outcome.kind == "delivered", outcome
        way.close()
        assert self.server.settle()


@pytest.fixture
def site(server: Server, tmp_path: Path, kept_for: KeptFor) -> Site:
    found = Site(tmp_path, server, kept_for)
    found.publish()
    return found


def rows(world: World) -> list[Any]:
    with closing(sqlite3.connect(world.results)) as db:
        db.row_factory = sqlite3.Row
        found = [dict(row) for row in db.execute("SELECT * FROM job_result ORDER BY key")]
    return [{name: value for name, value in row.items() if name not in ("computed_s", "computed_at")} for row in found]


def profiles(world: World) -> dict[str, tuple[Profile, list[Any]]]:
    with closing(sqlite3.connect(world.results)) as db:
        rows = db.execute("SELECT key, profile, progress FROM job_profile WHERE profile IS NOT NULL").fetchall()
    return {key: (msgspec.json.decode(one, type=Profile), json.loads(progress)) for key, one, progress in rows}


def joules(profile: Profile, kind: str) -> float:
    spans = zip(pairwise(profile.edges_s), profile.watts[kind], strict=True)
    return sum((until - since) * (watts or 0.0) for (since, until), watts in spans)


def test_a_night_through_a_server_is_the_same_night(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows, digests, books of all time and of days; and a second night changes nothing."""
    reports = [account(world.config, NOW) for world in (site.near, site.far)]
    assert reports[0].new > 5
    assert [one for one in reports[1].problems if "publish" not in one] == list(reports[0].problems)
    assert rows(site.far) == rows(site.near)
    assert any(json.loads(row["labels"]).get("model") == 'resnet50, 50% \\ "so"' for row in rows(site.far))
    near, far = profiles(site.near), profiles(site.far)
    assert len(near) > 5
    assert near.keys() == far.keys()
    assert any(progress for _, progress in far.values())
    for key, (profile, progress) in near.items():
        other = far[key][0]
        assert far[key][1] == progress
        assert other.watts.keys() == profile.watts.keys()
        if (
            profile.edges_s[-1] <= SHORT_S
        ):  # no server is asked for these: the mirror has fewer points, of the same energy
            assert {0.0, profile.edges_s[-1]} <= set(other.edges_s) <= set(profile.edges_s)
            for kind in profile.watts:
                assert joules(other, kind) == pytest.approx(joules(profile, kind), rel=2e-3)
            continue
        assert other.edges_s == profile.edges_s
        for kind, watts in profile.watts.items():
            assert [one or 0.0 for one in other.watts[kind]] == pytest.approx([one or 0.0 for one in watts], rel=2e-3)
    again = account(site.far.config, NOW + 60)
    assert (again.new, again.changed, again.unchanged) == (0, 0, reports[0].new)
    capsys.readouterr()
    days = [time.strftime("%Y-%m-%d", time.gmtime(at)) for at in (MIDNIGHT - 1, MIDNIGHT)]
    for words in (["--day", days[0]], ["--day", days[1]], ["--month", days[0][:7]], [], ["--json"]):
        said = []
        for world in (site.near, site.far):
            assert main(["books", *words, "--config", str(world.config_file)]) == 0
            said.append(capsys.readouterr())
        assert said[0] == said[1]
        assert "n2" in said[0].out


def test_a_job_that_is_not_accounted_for_is_asked_of_the_server(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By somebody who may not write where the mirror is. A server that is away is told, with status 3."""
    monkeypatch.setattr("time.time", lambda: NOW)
    job = site.jobs["n1"][-1].id
    said = []
    for world in (site.near, site.far):
        assert main([job, "--json", "--config", str(world.config_file)]) == 0
        said.append(json.loads(capsys.readouterr().out)["jobs"])
    assert said[0][0]["energy"]["total_j"] > 0
    assert said[0] == said[1]
    assert not (site.far.folder / "books" / "mirror").exists()
    assert main(["999", "--config", str(site.far.config_file)]) == 1
    capsys.readouterr()
    site.server.stop()
    assert main([job, "--config", str(site.far.config_file)]) == 3
    assert site.server.url in capsys.readouterr().err


def test_a_server_that_is_away_stops_the_night_and_books_say_until_when_they_know(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    window = ["--from", str(int(WALL) - 60), "--config", str(site.far.config_file)]
    site.server.stop()
    assert main(["account", *window]) == 3
    assert main(["books", "--config", str(site.far.config_file)]) == 3
    assert site.server.url in capsys.readouterr().err
    assert not rows_are_there(site.far)
    site.server.start()
    assert main(["account", *window]) == 0
    capsys.readouterr()
    site.server.stop()
    assert main(["books", "--config", str(site.far.config_file)]) == 1
    said = capsys.readouterr()
    assert "measured = jobs + idle + system" in said.out
    day = time.strftime("%Y-%m-%d", time.gmtime(MIDNIGHT))
    assert f"{CLUSTER} is known until {day} 01:0" in said.err


def rows_are_there(world: World) -> bool:
    return world.results.exists() and bool(world.rows())


def test_a_secret_that_is_not_for_everybody_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who may not read the token has an answer in words."""
    more = json.dumps({"influxdb": {"url": "http://127.0.0.1:9", "token_file": "no-such-token", "path": "books"}})
    world = World(tmp_path, CONFIG.replace("STORE", more), INVENTORY)
    assert main(["1", "--config", str(world.config_file)]) == 3
    said = capsys.readouterr().err
    assert said.startswith("job 1: not in the results, and the nodes' books cannot be asked\njobimpact: what is not ")
    assert "no-such-token" in said
