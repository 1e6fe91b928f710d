"""Who may see what: rows, their numbers, sums and live answers."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Iterator, Sequence
from math import fsum
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.accounting.answered import array, measured, write
from tests.accounting.world import T0, World

from jobimpact.answers.live import user_of
from jobimpact.answers.local import LocalAnswers
from jobimpact.answers.query import Answers, Details, Group, Query, Who
from jobimpact.core.records import Profile, Progress
from jobimpact.report.group import group_view
from jobimpact.results.chosen import Chosen
from jobimpact.results.outcome import FAILED, coverage_of, has_failed, has_run, known_sum
from jobimpact.results.read import Reader
from jobimpact.results.record import JobResult
from jobimpact.results.select import Seen, Selection, condition
from jobimpact.results.sums import INDICATORS, Ending, SumImpact, Sums, merged, sums_of

ALICE, BOB, HEAD, ADMIN = (
    Who(1001, "alice"),
    Who(1002, "bob"),
    Who(1003, "carol", labs=("lab1",)),
    Who(0, "root", admin=True),
)


def of(*jobs: JobResult) -> Sums:
    found = sums_of(jobs)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Jobs of alice, bob and a uid without a name; an array of both, and one of bob alone."""
    made = World(tmp_path_factory.mktemp("site"))
    mine = measured(made, "1", user="alice", account="lab1")
    mixed = array(mine, "50", 4)
    write(
        made,
        mine,
        measured(made, "2", user="bob", account="lab2", state="FAILED", exit_code="1:0"),
        measured(made, "3", user="1001", account=None),
        measured(made, "4", None, user="bob", account="lab1"),
        *mixed[:2],
        *(msgspec.structs.replace(one, user="bob", account="lab2") for one in mixed[2:]),
        *array(mine, "60", 30, user="bob", account="lab2"),
    )
    return made


@pytest.fixture
def asking(world: World) -> Iterator[dict[str, LocalAnswers]]:
    """Each asker, by name; `file` is whoever can read the file."""
    found = {who.name: LocalAnswers(world.config, who) for who in (ALICE, BOB, HEAD, ADMIN)}
    found["file"] = LocalAnswers(world.config, None)
    yield found
    for one in found.values():
        one.close()


def ids(group: Group) -> list[str]:
    return [one.job_id for one in group.jobs]


@pytest.mark.parametrize(
    ("who", "job", "seen"),
    [
        ("alice", "1", ["1"]),
        ("alice", "2", []),
        ("alice", "3", ["3"]),  # under the digits of her uid
        ("alice", "4", []),
        ("alice", "50", ["50_0", "50_1"]),  # of an array, row by row
        ("bob", "50", ["50_2", "50_3"]),
        ("bob", "1", []),
        ("carol", "1", ["1"]),  # a head sees her lab's
        ("carol", "4", ["4"]),
        ("carol", "2", []),
        ("carol", "3", []),
        ("root", "2", ["2"]),
        ("root", "50", ["50_0", "50_1", "50_2", "50_3"]),
        ("file", "2", ["2"]),
    ],
)
def test_by_id_everybody_sees_their_own(asking: dict[str, LocalAnswers], who: str, job: str, seen: list[str]) -> None:
    """Rows, and sums over these rows alone."""
    [group] = asking[who].jobs(Query((job,), live=False)).groups
    assert ids(group) == seen
    assert (group.sums.jobs if group.sums else 0) == len(seen)


def test_jobs_of_a_time_that_began_at_once_stand_in_the_order_of_their_numbers(
    asking: dict[str, LocalAnswers],
) -> None:
    """Tasks of an array too: 60_10 after 60_9."""
    [group] = asking["root"].jobs(Query(from_s=T0 - 1, live=False)).groups
    assert ids(group) == ["1", "2", "3", "4", *(f"50_{task}" for task in range(4)), *(f"60_{n}" for n in range(30))]


def test_what_is_not_theirs_looks_like_what_is_not_there(asking: dict[str, LocalAnswers]) -> None:
    """A job, an array in full, an array by its sums, a raw id: each the same answer as of an unknown id."""
    for rows, job in itertools.product((0, 1, 2000), ("2", "60", "60_3", "60000003")):
        mine = asking["alice"].jobs(Query((job,), rows=rows))
        unknown = asking["alice"].jobs(Query(("99",), rows=rows))
        renamed = [msgspec.structs.replace(group, asked="99") for group in mine.groups]
        assert msgspec.structs.replace(mine, groups=tuple(renamed)) == unknown


@pytest.mark.parametrize("who", ["alice", "bob", "carol", "root", "file"])
def test_without_ids_nobody_sees_more_than_by_id(asking: dict[str, LocalAnswers], who: str) -> None:
    """However it is narrowed: by others' names too."""
    theirs = {
        one.job_id
        for job in ("1", "2", "3", "4", "50", "60")
        for one in asking[who].jobs(Query((job,), live=False)).groups[0].jobs
    }
    for query in (Query(), Query(from_s=0.0), Query(users=("alice", "bob", "1001")), Query(clusters=("lab",))):
        [group] = asking[who].jobs(query).groups
        assert set(ids(group)) == theirs
    [group] = asking[who].jobs(Query(users=("bob",), rows=0)).groups
    assert (group.sums.jobs if group.sums else 0) == len(
        [one for one in asking[who].jobs(Query()).groups[0].jobs if one.user == "bob"]
    )


def test_more_than_was_asked_for_in_full_are_sums_alone(asking: dict[str, LocalAnswers]) -> None:
    """The same sums as of the rows."""
    [whole] = asking["bob"].jobs(Query(("60",), rows=30)).groups
    [sums] = asking["bob"].jobs(Query(("60",), rows=29)).groups
    assert len(whole.jobs) == 30
    assert not sums.jobs
    assert sums.sums is not None
    assert whole.sums is not None
    assert close(sums.sums, whole.sums)
    assert (sums.sums.failed, sums.sums.ran) == (3, 30)
    told, shown = group_view(sums), group_view(whole)
    assert (told.name, told.cluster, told.facts) == (shown.name, shown.cluster, shown.facts)
    assert "bob" in told.facts[0]


def test_what_not_all_jobs_have_is_told_of_none(asking: dict[str, LocalAnswers]) -> None:
    """Of jobs of several users and accounts, some of none, only the cluster is said."""
    [group] = asking[ADMIN.name].jobs(Query(rows=0)).groups
    assert "user" not in group.shared
    assert "account" not in group.shared
    assert group.shared["cluster"] == "lab"


def test_a_job_that_runs_is_its_owners(tmp_path: Path) -> None:
    """By the run's uid; one without a uid is for admins, and one whose nodes do not agree as well."""
    made = World(tmp_path)
    node = made.node()
    node.measured("7", start=10, end=None, uid=1001)
    node.measured("8", start=10, end=None)
    node.measured("9", start=10, end=None, uid=1001)
    made.node("node02").measured("9", start=10, end=None, uid=1002)
    seen = {}
    for who in (ALICE, BOB, HEAD, ADMIN, None):
        answers = LocalAnswers(made.config, who)
        found = answers.jobs(Query(("7", "8", "9")))
        seen[who and who.name] = [one.raw_id for group in found.groups for one in group.jobs]
        unknown = [group for group in found.groups if group.sums is None]
        assert all(group == Group(group.asked) for group in unknown)
        answers.close()
    assert seen == {"alice": ["7"], "bob": [], "carol": [], "root": ["7", "8", "9"], None: ["7", "8", "9"]}


def test_what_a_job_did_after_it_was_requeued_is_seen_by_who_sees_the_job(tmp_path: Path) -> None:
    """Its head too, who is not the run's uid; and another job that has its raw id since is not."""
    made = World(tmp_path)
    me = user_of(os.getuid())
    write(made, measured(made, "1", state="REQUEUED", user=me, account="lab1"))
    made.node().measured("1", start=300, end=None, restart=1, uid=os.getuid())
    made.node("node02").measured("1", start=300, end=None, restart=2, uid=os.getuid() + 1)
    for who, states in (
        (Who(os.getuid(), me), ["REQUEUED", "in progress"]),
        (HEAD, ["REQUEUED", "in progress"]),
        (ADMIN, ["REQUEUED", "in progress", "in progress"]),
        (BOB, []),
    ):
        answers = LocalAnswers(made.config, who)
        [group] = answers.jobs(Query(("1",))).groups
        assert [one.state for one in group.jobs] == states
        answers.close()


def test_nodes_that_cannot_be_asked_are_told_as_trouble(tmp_path: Path) -> None:
    """What is accounted is answered."""
    made = World(tmp_path)
    write(made, measured(made, "1"))
    text = made.config_file.read_text()
    made.config_file.write_text(text.replace("{local: {path: nodes}}", '{influxdb: {url: "http://127.0.0.1:9"}}'))
    answers = LocalAnswers(made.config, None)
    known, other = answers.jobs(Query(("1", "2"))).groups
    assert (ids(known), known.trouble) == (["1"], None)
    assert other.trouble is not None
    assert answers.jobs(Query(("2",), live=False)) == Answers((Group("2"),))
    answers.close()


def test_nothing_was_ever_accounted(tmp_path: Path) -> None:
    """It is said, and nothing else is there."""
    answers = LocalAnswers(World(tmp_path).config, None)
    assert answers.jobs(Query(("1",), live=False)) == Answers((Group("1"),), nothing_yet=True)
    assert answers.jobs(Query(users=("alice",))) == Answers((Group(""),), nothing_yet=True)
    assert answers.details("lab", "1@1") == Details()
    answers.close()


def test_power_over_time_is_their_own(tmp_path: Path) -> None:
    """Of a job that is not theirs, of one that has none and of one that is not there: nothing."""
    made = World(tmp_path)
    write(made, measured(made, "1"), measured(made, "2"))
    profile = Profile(float(T0), (0.0, 60.0, 100.0), {"cpu": (50.0, None)})
    progress = (Progress(T0 + 5.0, 3, {"acc": 0.71}, 12), Progress(T0 + 6.0))
    with sqlite3.connect(made.results) as db:
        row = ("lab", f"1@{T0}", msgspec.json.encode(profile).decode(), msgspec.json.encode(progress).decode())
        db.execute("INSERT INTO job_profile (cluster, key, profile, progress) VALUES (?, ?, ?, ?)", row)
    for who, key, expected in (
        (ALICE, f"1@{T0}", Details(profile, progress)),
        (None, f"1@{T0}", Details(profile, progress)),
        (BOB, f"1@{T0}", Details()),
        (ALICE, f"2@{T0}", Details()),
        (ALICE, "x", Details()),
    ):
        answers = LocalAnswers(made.config, who)
        assert answers.details("lab", key) == expected
        answers.close()


@pytest.mark.parametrize("name", ["x' OR 1=1 --", "\x00", "%", "_", "a\udc80", "\N{PILE OF POO}", "1" * 5000, ""])
def test_hostile_words_find_nothing(asking: dict[str, LocalAnswers], name: str) -> None:
    """As an id, a user, an account, a cluster, or the asker's own name."""
    for query in (Query((name,)), Query(users=(name,)), Query(accounts=(name,)), Query(clusters=(name,))):
        if name or query.ids:
            assert all(group.sums is None for group in asking["file"].jobs(query).groups)
    answers = LocalAnswers(asking["file"]._config, Who(4000, name, labs=(name,)))
    assert answers.jobs(Query()).groups == (Group(""),)
    answers.close()


# -- which rows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("from_s", "to_s", "seen"),
    [
        (None, None, "abcd"),
        (0, 100, "ad"),  # b begins at 100: not before it
        (100, 200, "bd"),  # a ended at 100, and was not there any more
        (99, 100, "ad"),
        (200, 300, "cd"),  # c took no time at all, at 200
        (201, None, "d"),
        (None, 50, "ad"),
        (None, 0, ""),
        (150, 150.5, "bd"),
    ],
)
def test_jobs_of_a_window_are_those_that_were_there(
    tmp_path: Path, from_s: float | None, to_s: float | None, seen: str
) -> None:
    """At any time in [from, to), sacct's rule."""
    made = World(tmp_path)
    spans = {"a": (0, 100), "b": (100, 200), "c": (200, 200), "d": (0, 1000)}
    one = measured(made, "1")
    write(
        made,
        *(
            msgspec.structs.replace(one, job_id=f"{n}1", raw_id=f"{n}1", key=n, start_s=float(s), end_s=float(e))
            for n, (s, e) in spans.items()
        ),
    )
    for users in ((), ("alice",)):
        answers = LocalAnswers(made.config, None)
        [group] = answers.jobs(Query(users=users, from_s=from_s, to_s=to_s)).groups
        assert sorted(found.key for found in group.jobs) == list(seen)
        answers.close()


@pytest.mark.parametrize("seen_by", [None, Seen(("bob", "1002")), Seen(("bob",), ("lab1", "lab2"))])
@pytest.mark.parametrize(
    ("asked", "by"),
    [
        ({"job": "7"}, "INTEGER PRIMARY KEY"),
        ({"users": ("a", "b"), "from_s": 1.0, "to_s": 9.0}, "job_result_by_user (user=? AND end_s>?)"),
        ({"users": ("a",), "clusters": ("lab",), "from_s": 1.0}, "job_result_by_user (user=? AND end_s>?)"),
        ({"accounts": ("x",), "from_s": 1.0}, "job_result_by_account (account=? AND end_s>?)"),
        ({"users": ("a",), "accounts": ("x",)}, "job_result_by_user (user=?)"),
        ({"clusters": ("lab",), "from_s": 1.0, "to_s": 2.0}, "end_s>?"),
    ],
)
def test_each_selection_goes_by_an_index(
    world: World, asked: dict[str, tuple[str, ...]], by: str, seen_by: Seen | None
) -> None:
    """However many jobs others have: SQLite's own plan has no scan of the jobs."""
    where, parameters = condition(Selection(**asked, seen_by=seen_by))  # type: ignore[arg-type]
    with sqlite3.connect(world.results) as db:
        query = f"EXPLAIN QUERY PLAN SELECT * FROM job_result WHERE {where}"  # noqa: S608 (ours)
        plan = [row[3] for row in db.execute(query, parameters)]
    steps = [step for step in plan if "job_result" in step]
    assert all(step.startswith("SEARCH") for step in steps)
    assert by in steps[0]


# -- sums ------------------------------------------------------------------------------------------------------------


def close(one: Sums, other: Sums) -> bool:
    """The same but for the order in which floats were added, and for how it was measured, which splits do not tell."""
    one, other = (msgspec.structs.replace(sums, methods={}, factors=(), kinds={}, lacking={}) for sums in (one, other))

    def flat(found: object) -> list[object]:
        if isinstance(found, dict):
            return [part for key in found for part in [key, *flat(found[key])]]
        if isinstance(found, list | tuple):
            return [part for item in found for part in flat(item)]
        return [pytest.approx(found, rel=1e-9, abs=1e-12) if isinstance(found, float) else found]

    return bool(flat(msgspec.to_builtins(one)) == flat(msgspec.to_builtins(other)))


def folded(rows: Sequence[JobResult]) -> Sums:
    """What they come to, a row after the other, by what `outcome` says of each."""
    ran = [row for row in rows if has_run(row.start_s, row.energy_j)]
    failed = [row for row in ran if has_failed(row.state, row.start_s, row.energy_j)]
    hours = [(row, _held_s(row) / 3600) for row in ran]
    endings = {how: [row for row in rows if (row.state, row.exit_code) == how] for how in map(_how, rows)}
    order = sorted(endings, key=lambda how: (-len(endings[how]), how[0], how[1] or ""))
    return Sums(
        jobs=len(rows),
        ran=len(ran),
        failed=len(failed),
        measured=sum(row.energy_j is not None for row in ran),
        energy_j=known_sum(row.energy_j for row in ran),
        failed_energy_j=known_sum(row.energy_j for row in failed),
        coverage=coverage_of([(len(row.nodes) * held, row.coverage) for row, held in hours]),
        cpu_hours=fsum((row.cpus or 0) * held for row, held in hours),
        gpu_hours=fsum((row.gpus or 0) * held for row, held in hours),
        node_hours=fsum(len(row.nodes) * held for row, held in hours),
        impacts={name: _impact([row.impacts[name] for row in ran]) for name in INDICATORS},
        endings=tuple(
            Ending(
                *how,
                len(each),
                known_sum(row.energy_j for row in each if row in ran) if _any(each, ran) else None,
                sum(row in ran and row.energy_j is not None for row in each),
            )
            for how, each in ((how, endings[how]) for how in order)
        ),
        first_start_s=min((row.start_s for row in ran if row.start_s is not None), default=None),
        last_end_s=max((row.end_s for row in ran if row.end_s is not None), default=None),
        accounted_s=max((row.accounted_s for row in rows if row.accounted_s is not None), default=None),
    )


def _kinds(rows: Sequence[JobResult]) -> tuple[dict[str, Any], dict[str, int]]:
    """Joules by kind of part that any had, and of how many they are not known."""
    joules: dict[str, Any] = {}
    lacking: dict[str, int] = {}
    for row in rows:
        for kind, one in row.energy["domains"].items() if has_run(row.start_s, row.energy_j) else ():
            if one["energy_j"] is None:
                lacking[kind] = lacking.get(kind, 0) + 1
                joules.setdefault(kind, None)
            elif one["method"] not in {"none held", "never started"}:
                joules[kind] = (joules.get(kind) or 0.0) + one["energy_j"]
    return pytest.approx(joules), lacking


def _how(row: JobResult) -> tuple[str, str | None]:
    return row.state, row.exit_code


def _any(rows: Sequence[JobResult], of: Sequence[JobResult]) -> bool:
    return any(row in of for row in rows)


def _held_s(row: JobResult) -> float:
    if row.elapsed_s is not None:
        return row.elapsed_s
    return 0.0 if row.start_s is None or row.end_s is None else max(row.end_s - row.start_s, 0.0)


def _impact(found: list[dict[str, Any]]) -> SumImpact:
    parts: dict[str, Any] = {}
    for part in ("use", "embodied", "total"):
        known = [one[part] for one in found if one[part] is not None]
        parts[part] = tuple(fsum(one[end] for one in known) for end in ("low", "central", "high")) if known else None
    return SumImpact(**parts, known=sum(one["total"] is not None for one in found))


JOBS = st.lists(
    st.tuples(
        st.sampled_from((*sorted(FAILED), "COMPLETED", "RESIZING", "REVOKED")),
        st.sampled_from((None, "0:0", "1:0")),
        st.sampled_from((None, 0.0, 1.5, 5e9)),  # joules
        st.sampled_from((None, 0.0, 100.0)),  # elapsed
        st.sampled_from((None, 0, 150)),  # it began, and so much later than said: then it ended before it began
        st.sampled_from(((), ("node01",), ("node01", "node02"))),
        st.sampled_from((None, 0, 8)),
        st.sampled_from(("use", "embodied", "total", "")),  # of which nothing is known
    ),
    max_size=8,
)


@pytest.fixture(scope="module")
def summing(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, JobResult, Iterator[str]]:
    """A site, a job of it, and names of clusters that are still empty."""
    made = World(tmp_path_factory.mktemp("sums"))
    return made, measured(made), (f"c{number}" for number in itertools.count())


@settings(deadline=None, max_examples=40)
@given(jobs=JOBS, cut=st.integers(0, 8))
@example(jobs=[("FAILED", None, None, 100.0, 0, (), 8, "use"), ("FAILED", None, 0.0, None, None, (), 8, "")], cut=1)
def test_sums_by_the_database_are_those_of_the_rows(
    jobs: list[tuple[Any, ...]], cut: int, summing: tuple[World, JobResult, Iterator[str]]
) -> None:
    """Whatever is not known, by their law, however they are added; and two parts together are the whole."""
    made, one, names = summing
    cluster = next(names)
    rows = []
    for number, (state, code, joules, elapsed, begin, nodes, cpus, gap) in enumerate(jobs):
        impacts = {name: found | ({gap: None} if gap else {}) for name, found in one.impacts.items()}
        changes = {"state": state, "exit_code": code, "energy_j": joules, "elapsed_s": elapsed, "nodes": nodes}
        changes |= {
            "cpus": cpus,
            "gpus": cpus,
            "start_s": None if begin is None else float(T0 + begin),
            "impacts": impacts,
        }
        changes |= {"cluster": cluster, "key": f"k{number}", "coverage": number / 8, "accounted_s": T0 + 9999.0}
        rows.append(msgspec.structs.replace(one, **changes))
    write(made, *rows)
    with sqlite3.connect(made.results) as db:
        chosen = Chosen(db, "cluster = :on", {"on": cluster}, {"state": "state"})
        found = chosen.with_kinds(chosen.sums()[()]) if rows else None
        split = chosen.sums("state")
    expected = folded(rows) if rows else None
    parts = [part for part in (sums_of(rows[:cut]), sums_of(rows[cut:])) if part is not None]
    together = merged(parts)
    assert sum(part.jobs for part in split.values()) == len(rows)
    in_rows = sums_of(rows)
    if expected is None or found is None or together is None or in_rows is None:
        assert expected is found is together is in_rows is None
        return
    for sums in (found, together, in_rows):
        assert close(sums, expected)
        assert (sums.methods, sums.factors) == (in_rows.methods, in_rows.factors)
    for (state,), sums in split.items():
        assert close(sums, folded([row for row in rows if row.state == state]))


def test_a_task_is_in_the_order_of_its_number_and_a_time_in_the_order_of_starts(tmp_path: Path) -> None:
    """As one reads them."""
    made = World(tmp_path)
    tasks = array(measured(made), "5", 12)
    late = [msgspec.structs.replace(one, start_s=one.start_s - n) for n, one in enumerate(tasks)]  # type: ignore[operator]
    write(made, *late)
    reader = Reader(made.config.results)
    by_id, by_time = reader.select(Selection(job="5"), None), reader.select(Selection(users=("alice",)), None)
    assert by_id is not None
    assert by_time is not None
    assert [one.job_id for one in by_id.jobs] == [f"5_{n}" for n in range(12)]
    assert [one.job_id for one in by_time.jobs] == [f"5_{n}" for n in reversed(range(12))]
    reader.close()


def test_a_node_that_cannot_be_asked_makes_no_job_unknown(tmp_path: Path) -> None:
    """What another node knows is told; else it is said which file it is, to whoever asks and of whatever id."""
    made = World(tmp_path)
    write(made, measured(made, "1"))
    node = made.node("node01")
    node.domain()
    node.run("2", end=None, uid=1001)
    node.db.commit()
    (made.folder / "nodes/node02.sqlite").write_bytes(b"no database at all, but longer than its header" * 99)
    for who, job, told in ((ALICE, "2", True), (BOB, "2", False), (ALICE, "3", False), (ADMIN, "3", False)):
        answers = LocalAnswers(made.config, who)
        [group] = answers.jobs(Query((job,))).groups
        answers.close()
        assert bool(group.jobs) == told
        assert ("node02.sqlite" in (group.trouble or "")) != told


def test_an_inventory_that_is_wrong_keeps_back_no_job_that_is_accounted_for(tmp_path: Path) -> None:
    """Only those that need it: they are told apart from unknown ones, and the reason is said."""
    made = World(tmp_path)
    write(made, measured(made, "1"))
    node = made.node()
    node.domain()
    node.run("2", end=None, uid=1001)
    node.db.commit()
    (made.folder / "nodes.yaml").write_text("version: [")
    answers = LocalAnswers(made.config, ALICE)
    done, running = answers.jobs(Query(("1", "2"))).groups
    answers.close()
    assert (ids(done), done.trouble) == (["1"], None)
    assert (ids(running), "nodes.yaml" in (running.trouble or "")) == ([], True)
