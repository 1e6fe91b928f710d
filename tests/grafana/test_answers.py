"""Each panel's queries on a real InfluxDB that a site's real daemons and accounting have filled."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
from grafana.generate import FOLDER, VIEWS
from tests.grafana.asking import Asked, AskError, Frame, ask, interpolate, panels, targets
from tests.grafana.asking import Range as LookedAt
from tests.grafana.site import CHOSEN, CLUSTER, DAILY_J, HOSTILE, JOBS, RUNNING, TOP, WEEKS_DAYS, Site
from tests.needs import need_server
from tests.stores.servers import Influx

from jobimpact.core.config import Retention
from jobimpact.core.line import line, tag_value
from jobimpact.core.series import BOOKS, EVER, JOB_ENERGY, PROFILE, Point

KWH = 3.6e6


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site of twelve nodes up to now, with its database."""
    need_server("influxd")
    with Influx(tmp_path_factory.mktemp("influx")) as server:
        server.create()
        found = Site(tmp_path_factory.mktemp("site"), server)
        found.fill()
        assert [one for one in found.problems if "publish" in one or "server" in one] == []
        yield found


def panel_of(view: str, title: str) -> dict[str, Any]:
    """A panel by its title."""
    return next(one for one in panels(VIEWS[view]) if one["title"] == title)


def shown(site: Site, view: str, title: str, **chosen: str) -> list[Frame]:
    """All that a panel gets."""
    panel = panel_of(view, title)
    asked = Asked(CHOSEN | chosen)
    return [
        frame
        for target in panel["targets"]
        for frame in ask(site.server, VIEWS[view], panel, target, asked, site.now_s)
    ]


def put(site: Site, points: Iterable[Point]) -> None:
    """More points of books."""
    lines = "\n".join(map(line, points)).encode()
    status, said = site.server.ask("POST", "/write", {"db": "jobimpact", "rp": BOOKS, "precision": "ms"}, lines)
    assert status == 204, said


def row(site: Site, view: str, title: str, **chosen: str) -> dict[str, Any]:
    """A table's only row."""
    (frame,) = shown(site, view, title, **chosen)
    (only,) = frame.rows
    return dict(zip(frame.columns, only, strict=True))


def sums(frames: list[Frame]) -> dict[str, float]:
    """Each series' sum."""
    return {one.name: sum(one.column("Value")) for one in frames}


def every() -> list[Any]:
    """All targets of all views."""
    return [
        pytest.param(name, panel, target, id=f"{name}-{panel['title']}-{target['refId']}")
        for name, view in VIEWS.items()
        for panel, target in targets(view)
    ]


@pytest.mark.parametrize(("name", "panel", "target"), every())
def test_every_target_has_an_answer(
    site: Site, name: str, panel: Mapping[str, Any], target: Mapping[str, Any]
) -> None:
    """Rows, with a value in each of them that is not the time."""
    frames = ask(site.server, VIEWS[name], panel, target, Asked(CHOSEN), site.now_s)
    assert frames, target["query"]
    for frame in frames:
        assert frame.rows
        assert all(any(cell is not None for cell in cells[1:]) for cells in frame.rows)


def test_drop_downs_list_what_is_there(site: Site) -> None:
    """Clusters, nodes, users and labs, as they stand in the store."""
    found: dict[str, set[str]] = {}
    looked_at = LookedAt(site.begins_s, site.now_s)
    for view in VIEWS.values():
        for one in view["templating"]["list"]:
            if one["type"] == "query":
                query = interpolate(one["query"], Asked(CHOSEN), looked_at, 60)
                (result,) = json.loads(site.server.query(query, "jobimpact"))["results"]
                found[one["name"]] = {value for _, value in result["series"][0]["values"]}
    assert found == {
        "cluster": {CLUSTER},
        "node": {f"node{number:02}" for number in range(1, 13)},
        "user": {tag_value(job.user) for job in JOBS},
        "account": {tag_value(job.account) for job in JOBS if job.account},
    }


# -- sizes -----------------------------------------------------------------------------------------------------------


def test_power_now_is_that_of_the_last_points(site: Site) -> None:
    """Summed over the nodes that have sent something of late, by kind and of all; the meter's is not in it."""
    query = """SELECT d.kind, (max(p.measured_uj) - min(p.measured_uj)) / (max(p.wall_s) - min(p.wall_s)) / 1e6
        FROM domain d JOIN node_power p ON p.domain = d.name
        WHERE p.wall_s IN (SELECT DISTINCT wall_s FROM node_power ORDER BY wall_s DESC LIMIT 2) GROUP BY d.name"""
    expected: dict[str, float] = {}
    for number in range(1, site.count):
        for kind, watts in site.ask(query, f"node{number:02}"):
            expected[str(kind)] = expected.get(str(kind), 0.0) + float(str(watts))
    del expected["node"]
    expected["all"] = sum(expected.values())
    assert sums(shown(site, "cluster", "Power now")) == pytest.approx(expected, rel=1e-6)


def test_gpus_now_are_those_of_the_running_job(site: Site) -> None:
    """One node is silent, and one job still runs."""
    held = len(RUNNING.nodes) * len(RUNNING.gpus)
    read = 2 * (site.count - 1)
    assert row(site, "cluster", "GPUs now") | {"Time": 0} == {"Time": 0, "held": held, "idle": read - held}
    assert row(site, "cluster", "Idle GPUs")["idle"] == pytest.approx(1 - held / read, abs=0.01)


def test_gpus_over_time_are_those_that_jobs_held(site: Site) -> None:
    """GPUs x time of the held ones are those of the jobs."""
    found = {one.name: one.column("Value") for one in shown(site, "cluster", "GPUs that are held, and idle")}
    part = sum(len(job.nodes) * len(job.gpus) * ((job.ends or 1.0) - job.begins) for job in JOBS)
    assert sum(found["held"]) / len(found["held"]) == pytest.approx(part, rel=0.1)
    assert max(one + other for one, other in zip(found["held"], found["idle"], strict=True)) == 2 * site.count


def test_silent_nodes_and_failing_sources_are_counted(site: Site) -> None:
    """The twelfth node is silent, the eleventh cannot read its GPUs."""
    assert row(site, "cluster", "Live nodes")["nodes"] == site.count - 1
    assert row(site, "cluster", "Silent nodes")["nodes"] == 1
    assert row(site, "cluster", "Bad sources")["sources"] == 1
    (words,) = shown(site, "cluster", "Nodes, by their last word")
    assert min(words.rows, key=lambda one: one[2])[1] == "node12"
    (failed,) = shown(site, "cluster", "Failed readings")
    assert set(zip(failed.column("node"), failed.column("source"), strict=True)) == {("node11", "nvml")}


def test_energy_of_a_node_is_what_its_books_have(site: Site) -> None:
    """By domain, from its first point to its last, and by the hour in the books."""
    query = "SELECT domain, (max(measured_uj) - min(measured_uj)) / 3.6e12 FROM node_power GROUP BY domain"
    expected = {str(domain): kwh for domain, kwh in site.ask(query, "node11")}
    del expected["node:redfish"]
    assert sums(shown(site, "node", "Energy by domain")) == pytest.approx(expected)
    watts = {one.name: one.column("Value") for one in shown(site, "node", "Power by domain")}
    assert sum(watts["package-0"]) / len(watts["package-0"]) * site.seconds / KWH == pytest.approx(
        expected["package-0"], rel=0.02
    )


def test_holders_of_a_node_add_up_to_what_it_drew(site: Site) -> None:
    """Jobs, idle and system are all there is."""
    held = sums(shown(site, "node", "Power by holder"))
    drawn = sums([one for one in shown(site, "node", "Power by domain") if one.name != "meter"])
    # The holders' buckets are of five minutes, and spread over the whole of them.
    whole = max(len(one.rows) for one in shown(site, "node", "Power by domain"))
    assert set(held) == {"jobs", "idle", "system"}
    assert sum(held.values()) * 300 == pytest.approx(sum(drawn.values()) / whole * site.seconds, rel=0.03)


def test_jobs_that_follow_each_other_add_up_to_the_nodes_power(site: Site) -> None:
    """A job that covers part of a bucket does not count for the whole of it."""
    begin_ms = (site.now_s // 300 * 300 - 7200) * 1000
    points = [
        Point(
            JOB_ENERGY,
            (CLUSTER, "short", str(90_000 + number), "gpu:a", "gpu"),
            begin_ms + (number * 120 + after_s) * 1000,
            {"energy_uj": 300 * after_s * 1_000_000, "known_ns": after_s * 10**9},
        )
        for number in range(60)
        for after_s in (0, 60, 120)
    ]
    put(site, points)
    (jobs,) = [one for one in shown(site, "node", "Power by holder", node="short") if one.rows]
    watts = jobs.column("Value")
    assert max(watts) == pytest.approx(300)
    assert sum(watts) / (7200 / 300) == pytest.approx(300, rel=0.03)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.id)
def test_energy_of_a_job_is_that_of_its_nodes_books(site: Site, job: Any) -> None:
    """Running or ended, in sum, by kind, by node and under its power."""
    expected = site.energy_of(job)
    assert expected > 0
    assert row(site, "job", "Energy in the books", job=job.id)["energy"] == pytest.approx(expected)
    assert sum(sums(shown(site, "job", "Energy by kind of domain", job=job.id)).values()) == pytest.approx(expected)
    assert len(shown(site, "job", "Energy by node", job=job.id)) == len(job.nodes)
    power = shown(site, "job", "Power by kind of domain", job=job.id)
    mean_w = sum(sum(one.column("Value")) / len(one.rows) for one in power)
    lasted_s = ((job.ends or 1.0) - job.begins) * site.seconds
    assert mean_w * lasted_s / KWH == pytest.approx(expected, rel=0.05)
    assert len(shown(site, "job", "Power by GPU", job=job.id)) == len(job.nodes) * len(job.gpus)


def test_a_job_is_accounted_after_its_end(site: Site) -> None:
    """Then its results are there, the same energy among them; before that, nothing is."""
    assert row(site, "job", "Energy, accounted")["energy"] == pytest.approx(site.energy_of(TOP))
    assert row(site, "job", "State")["state"] == "COMPLETED"
    assert row(site, "job", "State on its nodes")["state"] == "ended"
    assert row(site, "job", "In the accounts")["user"] == "bob"
    gwp = row(site, "job", "GWP")
    ends = row(site, "job", "GWP, range")
    assert ends["use, low"] < gwp["use"] < ends["use, high"]
    assert row(site, "job", "State on its nodes", job=RUNNING.id)["state"] == "open"
    assert shown(site, "job", "Energy, accounted", job=RUNNING.id) == []


@pytest.mark.parametrize("job", ["10", "1", "", "102#", ".*"])
def test_a_part_of_a_number_is_no_job(site: Site, job: str) -> None:
    """Nor is a pattern."""
    for panel, target in targets(VIEWS["job"]):
        assert ask(site.server, VIEWS["job"], panel, target, Asked(CHOSEN | {"job": job}), site.now_s) == []


@pytest.mark.parametrize("user", ["bob", HOSTILE])
def test_days_add_up_to_the_jobs(site: Site, user: str) -> None:
    """A user's range is the jobs of today and one for each day before; a name with quotes, slashes and all is one."""
    jobs = [job for job in JOBS if job.user == user and job.ends is not None]
    before = 30 if site.begins_s // 86400 == site.now_s // 86400 else 29
    expected = sum(site.energy_of(job) for job in jobs) + before * DAILY_J / KWH
    who = {"user": tag_value(user)}
    assert before < WEEKS_DAYS
    assert row(site, "user", "Energy", **who)["energy"] == pytest.approx(expected)
    assert sums(shown(site, "user", "Energy by day", **who))["energy"] == pytest.approx(expected)
    assert row(site, "user", "Jobs", **who)["jobs"] == len(jobs) + before
    assert sum(sums(shown(site, "user", "Jobs by day", **who)).values()) == len(jobs) + before
    (top,) = shown(site, "user", "Jobs that used most energy", **who)
    assert {run.split("@")[0] for run in top.column("run")} == {job.id for job in jobs}
    assert sum(top.column("energy")) == pytest.approx(sum(map(site.energy_of, jobs)))


def test_labs_add_up_to_the_cluster(site: Site) -> None:
    """By lab, by partition and by day the energy is the same, and each lab's own view has its part of it."""
    (labs,) = shown(site, "cluster", "By lab")
    (partitions,) = shown(site, "cluster", "By partition")
    days = sums(shown(site, "cluster", "Energy by lab"))
    assert sum(labs.column("energy")) == pytest.approx(sum(partitions.column("energy")))
    assert sum(labs.column("energy")) == pytest.approx(sum(days.values()))
    assert set(labs.column("account")) == {"", "physics", "biology", tag_value(HOSTILE)}
    today = site.now_s // 86400 == site.begins_s // 86400
    mine = sum(site.energy_of(job) for job in JOBS if job.account == "biology" and job.ends) + (7 - (not today)) * 10
    assert dict(zip(labs.column("account"), labs.column("energy"), strict=True))["biology"] == pytest.approx(mine)


# -- hostile values --------------------------------------------------------------------------------------------------

VALUES = (
    *("'", '"', "\\", "\\'", "/", "\\/", "'; DROP DATABASE jobimpact; --", 'x/ OR "run" =~ /.*'),
    *("$/ OR time > 0 --", "1/; DROP DATABASE jobimpact; SELECT * FROM /.*", ".*", "(", "[a", "a|b", "(?i)LAB"),
    *("${cluster:raw}", "[[cluster:raw]]", "$__all", "$timeFilter", "{a,b}", "lab%", "x" * 10_000),
    *("\u2028", "\U0001f4a5", "a\tb"),
)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: ascii(value)[:20])
def test_values_stay_in_their_place(site: Site, value: str) -> None:
    """As any variable, in every query, they find nothing and change nothing, and the query is a valid one."""
    asked = Asked(dict.fromkeys(CHOSEN, value))
    for view in VIEWS.values():
        for panel, target in targets(view):
            assert ask(site.server, view, panel, target, asked, site.now_s) == [], panel["title"]


@pytest.mark.parametrize("value", ["a\nb", "\n; DROP DATABASE jobimpact", "$__interval"])
def test_some_values_are_refused_whole(site: Site, value: str) -> None:
    """InfluxQL has no regular expression with a new line, and few with what Grafana makes of an escaped interval.

    The server runs nothing of such a query.
    """
    refused = 0
    for view in VIEWS.values():
        for panel, target in targets(view):
            asked = Asked(dict.fromkeys(CHOSEN, value))
            try:
                assert ask(site.server, view, panel, target, asked, site.now_s) == []
            except AskError as error:
                assert "error parsing query" in str(error)  # noqa: PT017 (either is right)
                refused += 1
    assert refused
    assert shown(site, "job", "Energy in the books")


def test_a_value_is_not_a_pattern_where_another_matches(site: Site) -> None:
    """One hostile variable beside right ones widens nothing."""
    for name in CHOSEN:
        for view in VIEWS.values():
            if name not in {one["name"] for one in view["templating"]["list"]}:
                continue
            for panel, target in targets(view):
                asked = Asked(CHOSEN | {name: f"{CHOSEN[name]}|.*"})
                assert ask(site.server, view, panel, target, asked, site.now_s) == [], panel["title"]


def test_now_is_understood_by_the_server(site: Site) -> None:
    """Elsewhere the harness holds its clock; as they stand, the queries of what is now are valid, too."""
    live = [target["query"] for view in VIEWS.values() for _, target in targets(view) if "now()" in target["query"]]
    assert len(live) >= 8
    for query in live:
        site.server.query(interpolate(query, Asked(CHOSEN), LookedAt(site.begins_s, site.now_s), 60), "jobimpact")


def test_what_compose_makes_is_what_is_written_to(site: Site) -> None:
    """Its InfluxDB begins with these statements: a database with the policies, kept for as long as by default."""
    statements = (FOLDER.parent / "influxdb.iql").read_text(encoding="utf-8")
    site.server.query(statements.replace('"jobimpact"', '"composed"'))
    (result,) = json.loads(site.server.query('SHOW RETENTION POLICIES ON "composed"'))["results"]
    kept = {name: lasts for name, lasts, *_ in result["series"][0]["values"]}
    days = Retention()
    expected = {BOOKS: f"{24 * days.books_days}h0m0s", PROFILE: f"{24 * days.profile_days}h0m0s", EVER: "0s"}
    assert kept == {"autogen": "0s", **expected}


def test_a_requeue_and_a_gap_cost_no_energy(site: Site) -> None:
    """A job's incarnations are added; where minutes are missing, the counter tells; what is not known is no bar."""
    begin_ms = (site.now_s - 3600) * 1000

    def point(run: str, kind: str, minute: int, kwh: float, known_s: int) -> Point:
        fields: dict[str, int | float | str | None] = {
            "stamp_ms": begin_ms + minute * 60_000,
            "energy_uj": round(kwh * 3.6e12),
            "known_ns": known_s * 10**9,
        }
        return Point(JOB_ENERGY, (CLUSTER, "node01", run, f"{kind}-0", kind), begin_ms + minute * 60_000, fields)

    first = [point("900", "cpu", minute, minute / 20, 60 * minute) for minute in (0, 1, 2, 15, 20)]
    second = [point("900#1", "cpu", minute, (minute - 30) / 20, 60 * (minute - 30)) for minute in (30, 31, 40)]
    unknown = [point("900", "dram", minute, 0.0, 0) for minute in (0, 1, 20)]
    put(site, [*first, *second, *unknown])
    assert row(site, "job", "Energy in the books", job="900")["energy"] == pytest.approx(1.5)
    assert row(site, "job", "Energy in the books", job="900#1")["energy"] == pytest.approx(0.5)
    assert sums(shown(site, "job", "Energy by kind of domain", job="900")) == {"cpu": pytest.approx(1.5)}
    (power,) = shown(site, "job", "Power by kind of domain", job="900")
    # 1 kWh in 20 minutes, whether or not minutes are missing.
    assert power.column("Value") == [pytest.approx(3000)] * len(power.rows)
