"""Nights that publish to real servers: sums, days that are rewritten, jobs that move, servers that are away."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.accounting.published import DAY, DAY_MS, Site, place, sums
from tests.accounting.world import CONFIG, INVENTORY, T0, World
from tests.needs import need_server
from tests.stores.servers import READER, Influx, Server, Victoria

from jobimpact.cli.main import main
from jobimpact.core.line import plain, tag_value
from jobimpact.nightly.night import account, recompute
from jobimpact.nightly.points import day_points, job_point
from jobimpact.results.outcome import has_failed
from jobimpact.results.published import Told
from jobimpact.results.write import Results

NOW = T0 + 1000.0
KINDS = ["influx", "influx_v2", "victoria"]
MakeSite = Callable[..., Site]


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> Server:
    """Each of them."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def new_site(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> MakeSite:
    """Makes sites of their own."""
    count = iter(range(1000))

    def make(server: Server, config: str = CONFIG, **more: Any) -> Site:
        name = f"{abs(hash(request.node.name)) % 10**9}-{next(count)}"
        config = config.replace("cluster: lab", f"cluster: c{name}")
        return Site(tmp_path_factory.mktemp("site"), server, name, config, **more)

    return make


@pytest.fixture
def site(server: Server, new_site: MakeSite) -> Site:
    """A site on each server."""
    return new_site(server)


def told(site: World, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(site.results)) as db:
        return db.execute(query).fetchall()


def check_sums(site: Site) -> None:
    """What is published is what the results say, by SQL that has nothing in common with what publishes."""
    gwp = "json_extract(impacts, '$.gwp_kgco2e.{}.{}')"
    query = f"""
      SELECT cast(end_s / 86400 AS INTEGER) * 86400000, nullif(user, ''), nullif(account, ''), nullif(partition, ''),
        count(*), sum(energy_j), sum({gwp.format("use", "central")}), sum({gwp.format("embodied", "high")}),
        sum(CASE WHEN state IN ('FAILED', 'TIMEOUT', 'CANCELLED', 'NODE_FAIL') THEN energy_j END),
        sum(cpus * elapsed_s) / 3600, sum(energy_j IS NULL), sum(json_array_length(nodes) * elapsed_s) / 3600
      FROM job_result GROUP BY 1, 2, 3, 4"""  # noqa: S608 (ours)
    names = ("jobs", "energy_j", "use_gwp_kgco2e", "embodied_gwp_kgco2e_high", "failed_energy_j", "cpu_hours")
    names += ("not_measured_jobs", "node_hours")
    rows = {tuple(row[:4]): dict(zip(names, row[4:], strict=True)) for row in told(site, query)}
    found = site.days()
    assert set(rows) <= set(found)
    for key, fields in found.items():
        for name in names:
            expected = rows.get(key, {}).get(name)
            assert fields.get(name) == pytest.approx(expected or 0.0) or (expected is None and name not in fields), (
                key,
                name,
            )


def three_jobs(site: Site) -> None:
    """Of two users on two days: one failed, one was not measured."""
    node = site.node()
    site.say("1", account="astro", partition="gpu")
    site.say("2", user="bob", state="FAILED", cpus=8)
    site.say("3", end=T0 + DAY)
    node.measured("1", joules=5000.0)
    node.measured("2", joules=700.25)


def test_days_and_jobs_are_those_of_the_results(site: Site) -> None:
    """By an SQL sum; each job has a point at its start; nothing is told, for nothing went wrong."""
    three_jobs(site)
    assert account(site.config, NOW + DAY).problems == ()
    check_sums(site)
    days = site.days()
    assert days[DAY_MS, "alice", "astro", "gpu"]["energy_j"] == 5000.0
    assert days[DAY_MS, "bob", None, None]["failed_energy_j"] == 700.25
    assert days[DAY_MS, "bob", None, None]["failed_jobs"] == 1
    nothing_known = days[DAY_MS + DAY * 1000, "alice", None, None]
    assert (nothing_known["jobs"], nothing_known["not_measured_jobs"]) == (1, 1)
    assert "energy_j" not in nothing_known
    assert nothing_known["coverage"] == 0.0
    jobs = {one.fields["job"]: one for one in site.jobs()}
    assert {job: one.stamp_ms for job, one in jobs.items()} == dict.fromkeys("123", T0 * 1000)
    assert jobs["1"].tags["run"] == f"1@{T0}"
    assert (jobs["1"].fields["energy_j"], jobs["1"].fields["state"], jobs["1"].fields["nodes"]) == (
        *(5000.0, "COMPLETED"),
        "node01",
    )
    assert "energy_j" not in jobs["3"].fields


def test_published_twice_changes_nothing(site: Site) -> None:
    """A night again, and a recomputation: the same points with the same values."""
    three_jobs(site)
    account(site.config, NOW + DAY)
    before = [site.points(name) for name in ("impact_day", "job_impact", "node_hour")]
    account(site.config, NOW + DAY)
    assert recompute(site.config, NOW + DAY, T0 - DAY, T0 + 2 * DAY).problems == ()
    assert [site.points(name) for name in ("impact_day", "job_impact", "node_hour")] == before


def test_a_job_that_moved_leaves_zeros(site: Site) -> None:
    """To another account, and to another day: where it was is nothing, and the sum over all is the results' own."""
    three_jobs(site)
    account(site.config, NOW + DAY)
    site.change("1", account="physics")
    site.change("2", end=T0 + DAY + 60)
    assert account(site.config, NOW + 2 * DAY).changed == 2
    check_sums(site)
    days = site.days()
    left = days[DAY_MS, "alice", "astro", "gpu"]
    assert set(left.values()) == {0}
    assert "coverage" in left
    assert days[DAY_MS, "alice", "physics", "gpu"]["energy_j"] == 5000.0
    assert days[DAY_MS, "bob", None, None]["jobs"] == 0
    assert days[DAY_MS + DAY * 1000, "bob", None, None]["failed_energy_j"] == 700.25
    assert sum(day["energy_j"] for day in days.values() if "energy_j" in day) == 5700.25
    # One point a job that counts; the other says what became of it.
    points = [one for one in site.points("job_impact") if one.fields["job"] == "1"]
    assert sorted(one.fields["energy_j"] for one in points) == [0.0, 5000.0]
    old = next(one for one in points if one.tags["account"] == "astro")
    assert {old.fields[name] for name in ("energy_j", "cpus", "end_ms", "use_gwp_kgco2e")} == {0}
    assert site.victoria or old.fields["state"] == "replaced"
    if site.victoria:  # it takes what it likes of samples of one stamp, and something else after a restart
        site.server.restart()
        assert site.days() == days


def test_a_number_that_is_not_known_any_more_is_taken_back(site: Site) -> None:
    """Energy that turned out to be another's: what was published of it does not stay."""
    # Long ago: VictoriaMetrics takes nothing of the future.
    begin = T0 - 20 * DAY
    site.say("1", submit=begin, start=begin, end=begin + 100, state="RESIZING")
    node = site.node()
    node.domain()
    node.charge(node.run("1", start=-20.0 * DAY, end=None), joules=50.0)
    account(site.config, begin + 150.0)
    assert [one.fields["energy_j"] for one in site.jobs()] == [50.0]
    # The job went on for days, and the run is of its second record.
    site.say("1", submit=begin + 100, start=begin + 103, end=begin + 9 * DAY)
    with node.db as db:
        db.execute("UPDATE run SET end_s = ?, state = 'ended', elapsed_ns = ?", (begin + 9.0 * DAY, 9 * DAY * 10**9))
    account(site.config, begin + 10.0 * DAY, begin + 8 * DAY)
    assert told(site, "SELECT energy_j FROM job_result ORDER BY key") == [(None,), (50.0,)]
    days = [day for _, day in sorted(site.days().items(), key=lambda one: one[0][0])]
    assert [(day["energy_j"], day["not_measured_jobs"]) for day in days] == [(0.0, 1), (50.0, 0)]
    points = {one.fields["state"]: one.fields for one in site.points("job_impact")}
    assert {state: one["energy_j"] for state, one in points.items()} == {"RESIZING": 0.0, "COMPLETED": 50.0}


def test_a_requeued_job_has_a_point_for_each_incarnation(site: Site) -> None:
    """The same id, twice begun, each with its own."""
    site.say("1", state="REQUEUED")
    site.say("1", submit=T0 + 200, start=T0 + 300, end=T0 + 400)
    account(site.config, NOW)
    assert [(one.tags["run"], one.stamp_ms, one.fields["state"]) for one in site.jobs()] == [
        (f"1@{T0}", T0 * 1000, "REQUEUED"),
        (f"1@{T0 + 200}", (T0 + 300) * 1000, "COMPLETED"),
    ]
    [day] = site.days().values()
    assert (day["jobs"], day["failed_jobs"]) == (2, 1)


def test_a_job_that_never_began_has_no_point_and_used_nothing(site: Site) -> None:
    """It is counted, and neither failed nor unmeasured."""
    site.say("1", start=None, state="CANCELLED", nodes=[], cpus=None)
    account(site.config, NOW)
    assert site.points("job_impact") == []
    [day] = site.days().values()
    assert {name: day[name] for name in ("jobs", "failed_jobs", "not_measured_jobs", "energy_j", "cpu_hours")} == {
        "jobs": 1,
        "failed_jobs": 0,
        "not_measured_jobs": 0,
        "energy_j": 0.0,
        "cpu_hours": 0.0,
    }


@pytest.mark.parametrize("kind", ["influx", "victoria"])
def test_what_a_server_missed_comes_with_the_next_night(
    kind: str, tmp_path: Path, new_site: MakeSite, capsys: pytest.CaptureFixture[str]
) -> None:
    """Away when all was redone with another PUE: told, no error, and afterwards as if it had been there."""
    need_server({"influx": "influxd", "victoria": "victoria-metrics"}[kind])
    with {"influx": Influx, "victoria": Victoria}[kind](tmp_path / kind) as server:
        site = new_site(server)
        three_jobs(site)
        account(site.config, NOW + DAY)
        before = site.days()
        server.stop()
        (site.folder / "nodes.yaml").write_text(INVENTORY.replace("pue: 1.3", "pue: 2.6"))
        words = ["--config", str(site.config_file), "--from", str(T0 - 60), "--to", str(T0 + 2 * DAY)]
        assert main(["account", "--recompute", *words]) == 0
        said = capsys.readouterr()
        assert "3 changed" in said.out
        waits = "not all is published, 2 days and nodes' hours wait for the next accounting"
        assert f"{waits}: {server.url}" in said.err
        server.start()
        assert account(site.config, NOW + DAY).unchanged == 3
        check_sums(site)
        key = (DAY_MS, "bob", None, None)
        assert site.days()[key]["use_gwp_kgco2e"] == pytest.approx(2 * before[key]["use_gwp_kgco2e"])
        assert len(site.jobs()) == 3


def test_a_server_that_takes_nothing_stops_no_accounting(tmp_path: Path) -> None:
    """Who may only read there: jobs come, and move, for two nights; all of it is there when writing is allowed."""
    need_server("influxd")
    with Influx(tmp_path / "influx", auth=True) as server:
        server.create()
        secret = tmp_path / "password"
        secret.write_text(READER[1])
        (tmp_path / "site").mkdir()
        site = Site(tmp_path / "site", server, username=READER[0], password_file=str(secret))
        three_jobs(site)
        for number, waits in ((1, 2), (2, 3)):
            report = account(site.config, NOW + number * DAY)
            assert report.new == {1: 3, 2: 1}[number]
            [problem] = [one for one in report.problems if "publish" in one]
            assert problem.startswith(f"not all is published, {waits} days and nodes' hours wait for the next ")
            assert "HTTP 403" in problem
            site.change("1", account="physics")
            site.say("4", submit=T0 + 2 * DAY, start=T0 + 2 * DAY, end=T0 + 2 * DAY + 100)
        server.query(f'GRANT ALL ON "jobimpact" TO {READER[0]}')
        assert account(site.config, NOW + 2 * DAY).problems == ()
        check_sums(site)
        assert site.days()[DAY_MS, "alice", "astro", "gpu"]["jobs"] == 0
        assert len(site.jobs()) == 4


def test_a_new_server_gets_all(influx: Influx, new_site: MakeSite) -> None:
    """Whatever was published elsewhere, or was accounted for with a store of files."""
    first = new_site(influx)
    three_jobs(first)
    site = new_site(influx)
    with first.config_file.open("r+") as file:
        text = file.read()
        file.seek(0)
        file.truncate()
        file.write(text.replace(first._store(), "{local: {path: nodes}}"))
    account(first.config, NOW + DAY)
    assert first.points("impact_day") == []
    assert told(first, "SELECT key FROM meta WHERE key LIKE 'unpublished%'") == []
    for database in (first.database, site.database):
        first.config_file.write_text(text.replace(f'"{first.database}"', f'"{database}"'))
        account(first.config, NOW + DAY)
        other = Site.__new__(Site)
        other.__dict__ |= first.__dict__ | {"database": database}
        check_sums(other)
        assert len(other.jobs()) == 3


def test_lines_that_a_server_refuses_are_told_and_hold_up_nothing(influx: Influx, new_site: MakeSite) -> None:
    """A field of another type there: those points are named, the others are delivered, and the days are done."""
    site = new_site(influx)
    wrong = f'job_impact,cluster={site.config.cluster} energy_j="words" {T0 * 1000}'
    where = {"db": site.database, "rp": "profile", "precision": "ms"}
    assert influx.ask("POST", "/write", where, wrong.encode())[0] == 204
    three_jobs(site)
    report = account(site.config, NOW + DAY)
    assert report.new == 3
    refused = [
        one for one in report.problems if one.startswith("not published, for the server refused it: job_impact")
    ]
    assert len(refused) == 2
    assert "field type conflict" in refused[0]
    assert any("the server refused 2 points" in one for one in report.problems)
    check_sums(site)
    assert account(site.config, NOW + DAY).problems == ()


def test_points_that_a_server_does_not_keep_are_not_sent(influx: Influx, new_site: MakeSite) -> None:
    """Jobs of before its retention: their days are there for ever, their points are not asked for."""
    # The server goes by its clock: some hundred days before T0, whenever this is.
    now = max(time.time(), NOW + DAY)
    days = int((now - T0) / DAY) + 100
    site = new_site(influx, retention={"profile_days": days})
    influx.query(f'ALTER RETENTION POLICY "profile" ON "{site.database}" DURATION {days}d')
    three_jobs(site)
    site.say("9", submit=T0 - 200 * DAY, start=T0 - 200 * DAY, end=T0 - 199 * DAY)
    report = account(site.config, now, T0 - 300 * DAY)
    assert not [one for one in report.problems if "publish" in one or "keep" in one]
    check_sums(site)
    assert {one.fields["job"] for one in site.jobs()} == {"1", "2", "3"}


def test_two_clusters_on_one_server(influx: Influx, new_site: MakeSite) -> None:
    """Each has its own notes and points; what one has not delivered is not the other's."""
    near, far = new_site(influx), new_site(influx)
    for one in (near, far):
        one.config_file.write_text(
            one.config_file.read_text().replace("sqlite:///results.db", f"sqlite:///{near.results}")
        )
        three_jobs(one)
    account(near.config, NOW + DAY)
    far.change("1", account="physics")
    account(far.config, NOW + DAY)
    with closing(Results(near.config.results)) as results:
        for one in (near, far):
            assert results.published(one.config.cluster).days() == []
        assert {one.tags["cluster"] for one in far.points("impact_day")} == {far.config.cluster}
    assert len(near.days()) == len(far.days()) == 3
    with closing(sqlite3.connect(near.results)) as db:
        assert db.execute("SELECT count(DISTINCT cluster) FROM job_result").fetchone() == (2,)


# -- hostile text ----------------------------------------------------------------------------------------------------

HOSTILE = [
    "o'brien \"the\" one",
    "a,b=c d",
    "two\nlines\r\nand\ttabs",
    "'; DROP MEASUREMENT impact_day; --",
    "\") OR 1=1; DROP DATABASE jobimpact; //",
    "back\\slash at the end\\",
    "\\",
    " blanks at the edges ",
    "%0A already",
    "é ü 漢字 \U0001f600 \u2028 \x00 \x7f \x85",
    "x" * 10_000,
    "y" * 9_999 + "z",
    "é" * 10_000,
    "#comment",
    "{__name__=~\".*\"}",
]  # fmt: skip


def test_hostile_names_come_back_as_they_were(site: Site) -> None:
    """Users, accounts, partitions and jobs, from the scheduler's records into the server and out again."""
    for number, name in enumerate(HOSTILE):
        site.say(str(number), user=name, account=name, partition=name, name=name)
    assert account(site.config, NOW).problems == ()
    count = len(HOSTILE)
    assert told(site, "SELECT count(*) FROM job_result") == [(count,)]

    def seen(name: str) -> str:
        return plain(tag_value(name))

    assert {place(one) for one in site.points("impact_day")} == {(seen(name),) * 3 for name in HOSTILE}
    assert len(site.points("impact_day")) == count
    jobs = {one.fields["job"]: one for one in site.jobs()}
    assert {job: one.tags["user"] for job, one in jobs.items()} == {
        str(n): seen(name) for n, name in enumerate(HOSTILE)
    }
    assert {one.fields["jobs"] for one in site.points("impact_day")} == {1}


def test_bytes_that_are_no_text_come_through_sacct(
    influx: Influx, new_site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm's own rows with bytes that are no UTF-8, and JSON with half a surrogate: read, or told, and no crash."""
    program = tmp_path / "bin" / "sacct"
    program.parent.mkdir()
    (tmp_path / "rows.py").write_text(SACCT)
    program.write_text(f'#!/bin/sh\nexec python3 "{tmp_path}/rows.py" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    site = new_site(influx, CONFIG.replace("{local: {path: jobs.jsonl}}", "{slurm: {}}"))
    account(site.config, NOW)
    assert sorted(place(one) for one in site.points("impact_day")) == [
        ("a\ufffdlice\ufffd\\", "', \"; DROP\ufffd\ufffd\ufffd", "x" * 480 + tag_value("x" * 5000)[480:]),
        ("bob", None, "p"),
    ]
    local = new_site(influx)
    local.say("1", user="ok")
    with (local.folder / "jobs.jsonl").open("a") as file:
        file.write('{"id": "2", "user": "half \\ud800", "name": "n", "state": "COMPLETED", "submit": 1}\n')
    report = account(local.config, NOW)
    assert any("jobs.jsonl" in problem or "line 2" in problem for problem in report.problems)
    assert [place(one) for one in local.points("impact_day")] == [("ok", None, None)]


SACCT = r"""
import sys
fields = None
mark = "|"
for last, word in zip(sys.argv, sys.argv[1:]):
    if word == "--helpformat":
        print("JobIDRaw JobID Cluster User UID Account Partition QOS JobName State ExitCode Submit Eligible Start End"
              " ElapsedRaw Suspended TimelimitRaw ReqTRES AllocTRES NCPUS NNodes NodeList")
        sys.exit()
    if last == "-o":
        fields = word.split(",")
    if word.startswith("--delimiter="):
        mark = word.partition("=")[2]
begin = 1795190300
times = {"submit": begin, "start": begin, "end": begin + 100, "elapsedraw": 100}
rows = [
    {"jobidraw": 7, "user": b"a\xfflice\xc3\\", "account": b"', \"; DROP\xed\xa0\x80", "partition": "x" * 5000},
    {"jobidraw": 8, "user": "bob", "account": "", "partition": "p"},
]
for row in rows:
    row |= times | {"jobid": row["jobidraw"], "jobname": b"\xfe" * 10000, "state": "COMPLETED", "nodelist": "node01"}
    row |= {"alloctres": "cpu=4,mem=1G,node=1", "exitcode": "0:0", "cluster": "lab"}
    cells = [row.get(field, "") for field in fields]
    cells = [cell if isinstance(cell, bytes) else str(cell).encode() for cell in cells]
    sys.stdout.buffer.write(mark.encode().join(cells) + b"\n")
"""


# -- whatever happens to jobs ----------------------------------------------------------------------------------------

step = st.tuples(
    st.sampled_from(["1", "2", "3"]),
    st.sampled_from(["alice", "bob"]),
    st.sampled_from([None, "astro"]),
    st.integers(1, 3),
    st.sampled_from(["COMPLETED", "FAILED", "TIMEOUT"]),
)


@pytest.mark.parametrize("kind", ["influx", "victoria"])
@settings(max_examples=5, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(nights=st.lists(st.lists(step, min_size=1, max_size=3), min_size=1, max_size=4))
def test_days_are_the_results_whatever_the_nights(
    kind: str, nights: list[list[tuple[str, str, str | None, int, str]]], request: pytest.FixtureRequest
) -> None:
    """Jobs that come, move between users, accounts and days, and change their state: the sums are the results'."""
    server: Server = request.getfixturevalue(kind)
    name = f"h{os.urandom(6).hex()}"
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), server, name, CONFIG.replace("cluster: lab", f"cluster: {name}"))
        node = site.node()
        for job in "123":
            node.measured(job, joules=10.0 ** int(job), start=0.5 - 3 * DAY, end=100.5 - 3 * DAY)
        for night in nights:
            for job, user, whose, days, state in night:
                begin = T0 - 3 * DAY
                times = {"submit": begin, "start": begin, "end": begin + days * DAY - 90}
                site.say(job, user=user, account=whose, state=state, **times)
            report = account(site.config, NOW, T0 - 4 * DAY)
            assert not [problem for problem in report.problems if "publish" in problem]
            check_sums(site)
            rows = list(site.days().values())
            [(count, joules)] = told(site, "SELECT count(*), sum(energy_j) FROM job_result")
            assert (sums(rows, "jobs"), sums(rows, "energy_j")) == (count, pytest.approx(joules))
            alive = [one for one in site.points("job_impact") if one.fields["end_ms"]]
            assert len(alive) == count
            assert sum(one.fields["energy_j"] for one in alive) == pytest.approx(joules)


@pytest.mark.parametrize(("state", "start_s", "energy_j", "failed"), [
    ("COMPLETED", 1.0, 5.0, False),
    ("RESIZING", 1.0, 5.0, False),
    ("REVOKED", 1.0, None, False),
    ("of a later Slurm", 1.0, 5.0, False),
    ("FAILED", 1.0, 0.0, True),
    ("OUT_OF_MEMORY", 1.0, None, True),
    ("CANCELLED", None, 0.0, False),
    ("REQUEUED", None, 3.0, True),
    ("REQUEUED", None, None, True),
])  # fmt: skip
def test_what_failed(state: str, start_s: float | None, energy_j: float | None, *, failed: bool) -> None:
    """What ran, and ended otherwise than by its own success; a start that Slurm forgot is none that never was."""
    assert has_failed(state, start_s, energy_j) is failed


told_job = st.builds(
    Told,
    key=st.uuids().map(str),
    job_id=st.just("1"),
    user=st.sampled_from(["", "alice", "bob"]),
    account=st.sampled_from([None, "", "astro"]),
    partition=st.sampled_from([None, "gpu"]),
    name=st.text(max_size=3),
    state=st.sampled_from(["COMPLETED", "FAILED", "CANCELLED", "odd"]),
    start_s=st.none() | st.floats(0, 2e9),
    end_s=st.just(2e9),
    elapsed_s=st.none() | st.floats(0, 1e6),
    cpus=st.none() | st.integers(0, 1000),
    gpus=st.none() | st.integers(0, 8),
    energy_j=st.none() | st.floats(0, 1e9),
    coverage=st.floats(0, 1),
    nodes=st.lists(st.sampled_from(["n1", "n2"]), unique=True).map(tuple),
    impacts=st.just({}),
)


@settings(deadline=None)
@given(st.lists(told_job, max_size=12))
def test_users_days_sum_to_the_whole_in_any_order(jobs: list[Told]) -> None:
    """Absent where nothing is known, and the parts are the whole."""
    points = day_points("lab", 0, jobs)
    assert points == day_points("lab", 0, list(reversed(jobs)))
    assert sum(int(point.fields["jobs"] or 0) for point in points) == len(jobs)
    ran = [job for job in jobs if job.start_s is not None or job.energy_j != 0]
    known = [job.energy_j for job in ran if job.energy_j is not None]
    assert sum(float(point.fields.get("energy_j") or 0.0) for point in points) == pytest.approx(sum(known))
    assert sum(int(point.fields["not_measured_jobs"] or 0) for point in points) == len(ran) - len(known)
    for point in points:
        assert 0 <= float(point.fields.get("coverage") or 0.0) <= 1
        failed, energy = (float(point.fields.get(name) or 0.0) for name in ("failed_energy_j", "energy_j"))
        assert failed <= energy * (1 + 1e-12)
    assert all(job_point("lab", job) is None for job in jobs if job.start_s is None)
