"""Every kind of job on a real Slurm: scheduler, hooks, daemon and accounting join, nothing doubled, nothing lost."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from ClusterShell.NodeSet import NodeSet
from tests.labs.cluster import MeasuredCluster
from tests.labs.lab import PATIENCE_S
from tests.labs.measured import uuid
from tests.labs.slurm.kinds import HOSTILE, KINDS, run_all
from tests.labs.slurm.lab import SlurmLab

pytestmark = pytest.mark.lab

PAGE = "KINDS_PAGE"
"""Where this is set, the table is written into that file, below its last heading."""
ROW = "\x1e"
FIELD = "\x1f\x1f\x1f"


@dataclass(frozen=True)
class Row:
    """One row of sacct -D."""

    raw: str
    job: str
    name: str
    state: str
    submit_s: int
    start_s: int | None
    end_s: int
    nodes: tuple[str, ...]

    @property
    def key(self) -> str:
        """That of its result."""
        return f"{self.raw}@{self.submit_s}"


@dataclass(frozen=True)
class Booked:
    """One run in a node's books."""

    node: str
    key: str
    job: str
    start_s: float
    end_s: float | None
    state: str
    gpus: tuple[str, ...]
    flags: tuple[str, ...]
    uj: int


@dataclass
class Day:
    """What happened, and who says what of it."""

    cluster: MeasuredCluster
    from_s: int
    ids: dict[str, str] = field(default_factory=dict)
    said: list[tuple[str, str]] = field(default_factory=list)
    """What each `jobimpact account` printed, and complained of."""
    rows: list[Row] = field(default_factory=list)
    runs: list[Booked] = field(default_factory=list)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    midway: dict[str, dict[str, Any]] = field(default_factory=dict)
    again: dict[str, dict[str, Any]] = field(default_factory=dict)

    def account(self) -> dict[str, dict[str, Any]]:
        """Account for this day; gives the results by key."""
        done = self.cluster.command("account", "--from", str(self.from_s))
        assert done.returncode == 0, done.stderr
        self.said.append((done.stdout, done.stderr))
        with sqlite3.connect(self.cluster.folder / "results.db") as db:
            db.row_factory = sqlite3.Row
            found = [dict(row) for row in db.execute("SELECT * FROM job_result")]
        return {one["key"]: {**one, "energy": json.loads(one["energy"])} for one in found}

    def rows_of(self, kind: str) -> list[list[Row]]:
        """The incarnations of each of a kind's jobs, by their ids."""
        job = re.compile(rf"{self.ids[kind]}([_+]\d+)?\Z")
        mine = sorted((row for row in self.rows if job.match(row.job)), key=lambda row: (row.raw, row.submit_s))
        return [list(some) for _, some in groupby(mine, key=lambda row: row.raw)]

    def runs_of(self, row: Row) -> list[Booked]:
        """The runs that the result of a row has its energy from."""
        nodes = self.results[row.key]["energy"]["nodes"]
        return [
            run for run in self.runs if run.job == row.raw and nodes.get(run.node, {}).get("start_s") == run.start_s
        ]


@pytest.fixture(scope="module")
def day(slurm_lab: SlurmLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """All kinds of jobs on eight measured nodes; accounted for in the middle of it, at its end, and once more."""
    with MeasuredCluster(slurm_lab, slurm_lab.nodes, tmp_path_factory.mktemp("kinds")) as cluster:
        cluster.wait_reading(PATIENCE_S)
        day = Day(cluster, int(time.time()))

        def midway() -> None:
            cluster.wait_booked(PATIENCE_S)
            day.midway |= day.account()

        day.ids = run_all(slurm_lab, midway, PATIENCE_S)
        cluster.wait_booked(PATIENCE_S)
        for node in cluster.nodes:
            assert cluster.stop(node) == 0
        cluster.rig.stop()
        day.rows, day.runs = _rows(day), _runs(cluster)
        day.results, day.again = day.account(), day.account()
        yield day


def _rows(day: Day) -> list[Row]:
    fields = "jobidraw,jobid,jobname,state,submit,start,end,nodelist"
    options = f"-X -D --delimiter='{FIELD}' -S uts{day.from_s} -E now -s CD,F,TO,CA,NF,OOM,PR,RQ"
    said = day.cluster.lab.run(f"SLURM_TIME_FORMAT=%s sacct -n -P -a {options} -o {fields}").stdout
    found = []
    # A name may hold a newline: rows begin where an id does.
    for text in re.split(rf"^(?=\d+{FIELD})", said, flags=re.MULTILINE)[1:]:
        raw, job, name, state, submit, start, end, nodes = text.rstrip("\n").split(FIELD)
        names = () if nodes == "None assigned" else tuple(NodeSet(nodes))
        start_s = None if start in ("None", "Unknown") else int(start)
        found.append(Row(raw, job, name, state.split()[0], int(submit), start_s, int(end), names))
    return found


def _runs(cluster: MeasuredCluster) -> list[Booked]:
    found = []
    for node in cluster.nodes:
        with sqlite3.connect(cluster.store / f"{node}.sqlite") as db:
            for key, *run, gpus, flags in db.execute("SELECT run, job, start_s, end_s, state, gpus, flags FROM run"):
                (uj,) = db.execute("SELECT coalesce(sum(uj), 0) FROM ledger WHERE holder = ?", (key,)).fetchone()
                found.append(Booked(node, key, *run, tuple(json.loads(gpus)), tuple(json.loads(flags)), uj))
    return found


def test_table(day: Day) -> None:
    """The table of it all."""
    table = _table(day)
    print("\n" + table)
    if PAGE in os.environ:
        page = Path(os.environ[PAGE])
        head, _, _ = page.read_text(encoding="utf-8").partition("\n| job |")
        page.write_text(f"{head}\n{table}\n", encoding="utf-8")


def _table(day: Day) -> str:
    lines = ["| job | JobID | JobIDRaw | state | nodes | marks | runs in the books | result |", "| --- " * 8 + "|"]
    for name, kind in KINDS.items():
        for row in (row for rows in day.rows_of(name) for row in rows):
            runs, result = day.runs_of(row), day.results[row.key]
            shown = [
                kind.what,
                row.job,
                row.raw,
                row.state,
                str(NodeSet.fromlist(row.nodes)).replace("jilab", "n") if row.nodes else "",
                ", ".join("+".join(_marks_of(day, run)) for run in runs),
                ", ".join(f"{run.key}: {run.uj / 1e6:.1f} J" for run in runs),
                _told(row, result["energy_j"]),
            ]
            lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _marks_of(day: Day, run: Booked) -> list[str]:
    """The marks that are nearest to this run's begin, or to its end, of all runs of that job on the node."""
    mine = [one for one in day.runs if (one.node, one.job) == (run.node, run.job)]
    found = []
    for mark in day.cluster.marks_taken(run.node):
        if mark["job"] == run.job:
            edge = attrgetter("start_s" if mark["event"] == "start" else "end_s")
            if min(mine, key=lambda one: abs(edge(one) - mark["wall"])) == run:
                found.append(mark["event"])
    return found


def test_page_has_every_kind() -> None:
    """`docs/admin/slurm-kinds.md` has the table of such a run."""
    lines = (Path(__file__).parents[2] / "docs/admin/slurm-kinds.md").read_text(encoding="utf-8").splitlines()
    rows = Counter(line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| "))
    assert {kind.what: rows[kind.what] for kind in KINDS.values()} == {
        kind.what: kind.jobs * len(kind.incarnations) for kind in KINDS.values()
    }


def test_every_kind_ends_as_slurm_has_it(day: Day) -> None:
    """Each kind's jobs have the incarnations that are meant, so that what follows is about these kinds."""
    found = {
        name: [tuple((row.state, len(row.nodes)) for row in rows) for rows in day.rows_of(name)] for name in KINDS
    }
    assert found == {name: [kind.incarnations] * kind.jobs for name, kind in KINDS.items()}


def test_each_mark_is_taken_once(day: Day) -> None:
    """What the hooks wrote is what the daemons read, on every node."""
    hooks = Counter((run.node, run.event, run.job, run.restart) for run in _hooks(day))
    names = {"start": "prolog", "end": "epilog"}
    taken = Counter(
        (node, names[mark["event"]], mark["job"], mark.get("restart", 0))
        for node in day.cluster.nodes
        for mark in day.cluster.marks_taken(node)
    )
    assert taken == hooks


def test_each_run_has_its_own_marks(day: Day) -> None:
    """One end mark, and one start mark but where Slurm ran no Prolog for a second life: then the run says so."""
    for run in day.runs:
        marks = _marks_of(day, run)
        told = marks == ["end"] and "no start mark" in run.flags and run.key != run.job
        assert marks == ["start", "end"] or told, run


def _hooks(day: Day) -> list[Any]:
    return [run for run in day.cluster.lab.hook_runs() if run.start_ns / 1e9 >= day.from_s]


def test_each_incarnation_is_one_result(day: Day) -> None:
    """Rows of sacct and results are the same, by job and time of submission, and each has its own name."""
    assert sorted(row.key for row in day.rows) == sorted(day.results)
    for row in day.rows:
        assert day.results[row.key]["state"] == row.state
        assert day.results[row.key]["name"] == row.name
    (hostile,) = (row for rows in day.rows_of("hostile") for row in rows)
    # Slurm itself stores a double quote as a back quote, and what Latin-1 does not have as a question mark.
    assert hostile.name == HOSTILE.replace('"', "`").encode("latin-1", "replace").decode("latin-1")


def test_each_run_is_in_one_result(day: Day) -> None:
    """An incarnation has one run on each of its nodes, and no run is left over or in two results."""
    for row in day.rows:
        assert sorted(run.node for run in day.runs_of(row)) == sorted(row.nodes), row
    used = Counter(run for row in day.rows for run in day.runs_of(row))
    assert used == Counter(day.runs)
    assert {run.state for run in day.runs} == {"ended"}


def test_a_result_is_the_energy_of_its_runs(day: Day) -> None:
    """To the microjoule; what never ran used nothing."""
    for row in day.rows:
        assert _uj(day.results[row.key]) == sum(run.uj for run in day.runs_of(row)), row
        assert bool(row.nodes) == (_uj(day.results[row.key]) > 0), row


def test_sums_are_the_same_in_books_and_results(day: Day) -> None:
    """All results together have what all jobs have in the nodes' ledgers, which balance."""
    jobs_uj = 0
    for node in day.cluster.nodes:
        with sqlite3.connect(day.cluster.store / f"{node}.sqlite") as db:
            query = "SELECT sum(uj) FROM ledger WHERE holder NOT IN ('idle', 'system')"
            jobs_uj += db.execute(query).fetchone()[0]
            (out,) = db.execute(
                "SELECT (SELECT sum(measured_uj) FROM domain) - (SELECT sum(uj) FROM ledger)"
            ).fetchone()
            assert out == 0
    assert sum(map(_uj, day.results.values())) == jobs_uj
    assert "measured = jobs + idle + system" in day.cluster.jobimpact("books")


def test_accounting_again_changes_nothing(day: Day) -> None:
    """Not a revision, not a row; and nothing is complained of."""
    assert f"{len(day.results)} unchanged" in day.said[-1][0]
    assert " 0 new, 0 changed" in day.said[-1][0]
    assert day.again == day.results
    assert [problems for _, problems in day.said] == ["", "", ""]


def test_what_was_accounted_midway_is_not_doubled(day: Day) -> None:
    """A job that was accounted for while COMPLETED and requeued then keeps its row, and has its own energy in it."""
    first, second = day.rows_of("redone")[0]
    assert day.midway[first.key]["state"] == "COMPLETED"
    assert day.results[first.key]["state"] == "REQUEUED"
    assert day.results[first.key]["revision"] == day.midway[first.key]["revision"] + 1
    assert day.results[first.key]["energy_j"] == day.midway[first.key]["energy_j"]
    assert second.key not in day.midway


def test_gpus_are_each_nodes_own(day: Day) -> None:
    """The books' GPUs are those of the node: minors 1 and 2 on the first, 0 and 1 on the second."""
    first, second = day.cluster.lab.gpu_nodes[:2]
    (row,) = (row for rows in day.rows_of("gpus") for row in rows)
    held = {run.node: set(run.gpus) for run in day.runs_of(row)}
    assert held == {
        first: {uuid(first, 1), uuid(first, 2)},
        second: {uuid(second, 0), uuid(second, 1)},
    }


def test_no_node_is_drained(day: Day) -> None:
    """After all of it every node is as it was, and every hook has ended well."""
    assert set(day.cluster.lab.node_states().values()) <= {"idle", "completing"}
    assert {run.status for run in _hooks(day)} == {0}


def _uj(result: dict[str, Any]) -> int:
    return round((result["energy_j"] or 0) * 1e6)


def _told(row: Row, energy_j: float | None) -> str:
    if energy_j is None:
        return "not measured"
    return f"{energy_j:.1f} J" if row.nodes else "never ran"
