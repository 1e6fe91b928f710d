"""Every fault recording through the real replay: the truth within its tolerance, books that balance, faults told."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from tests.daemon.faults.__main__ import row
from tests.daemon.faults.outcome import Outcome, counted, outcome, write
from tests.daemon.faults.scenarios import stories
from tests.daemon.faults.story import Story
from tests.daemon.faults.tape import Span

ALL = {story.name: story for story in stories()}


def marked(story: Story, *, always: bool = False) -> object:
    """A story whose law is not kept yet is expected to fail, strictly."""
    marks = [pytest.mark.xfail(strict=True, reason=f"law {story.law}")] if story.law and not always else []
    return pytest.param(story.name, id=story.name, marks=marks)


@cache
def played(name: str) -> Outcome:
    """Each is played once."""
    return outcome(ALL[name])


@pytest.mark.parametrize("name", [marked(story) for story in stories()])
def test_the_books_tell_the_truth(name: str) -> None:
    """Every holder within the tolerance, what cannot be known told as unknown, every fault noticed."""
    one = played(name)
    for holder, true_j in one.truth.items():
        assert one.ours[holder] == pytest.approx(true_j, rel=0, abs=one.within(holder)), holder
    check_unknown(one)
    check_told(one)


@pytest.mark.parametrize("name", [marked(story, always=True) for story in stories()])
def test_the_books_balance(name: str) -> None:
    """Law 1: the holders' sum is what each domain measured, and parts and rest are the meter, to the microjoule."""
    one = played(name)
    domains = one.told["domains"]
    for domain, book in domains.items():
        assert all(uj >= 0 for uj in book["holders"].values()), domain
        assert sum(book["holders"].values()) == (book["measured_uj"] or 0), domain
    for job in one.told["jobs"].values():
        assert all(0 <= share <= 1 for share in job["coverage"].values())
    if one.story.meter:
        whole = domains["node"]
        assert whole["measured_uj"] - whole["deficit_uj"] == one.told["meters"][one.story.meter]["measured_uj"]


@pytest.mark.parametrize("name", [story.name for story in stories() if story.plain])
def test_plain_differences_do_not(name: str) -> None:
    """Where that is the point, a plain tool is outside the very same tolerance: in the sum, or in the shares."""
    one = played(name)
    if one.story.plain == "sum":
        true_j = sum(one.whole.values())
        assert abs(sum(one.naive.values()) - true_j) > one.story.within.of(true_j)
    else:
        holder = one.story.watch
        assert abs(one.naive.get(one.story.job, 0.0) - one.whole[holder]) > one.story.within.of(one.whole[holder])


def check_unknown(one: Outcome) -> None:
    """Law 2: the times that nobody can know are told, no others are, and the coverage of the jobs says so."""
    slack = 2 * one.tape.interval_s + 4 * max((meter.every_s for meter in one.tape.meters), default=0)
    for domain in counted(one.story, one.tape):
        hidden = one.story.hidden.get(domain, ())
        told = one.told["domains"][domain]["unknown_s"]
        assert told == pytest.approx(sum(b - a for a, b in hidden), abs=slack if hidden else one.story.unknown_s), (
            domain
        )
    for job in one.tape.world.jobs:
        books = one.told["jobs"].get(job.run)
        if books is None:
            continue
        for domain, known in books["coverage"].items():
            if domain not in counted(one.story, one.tape):
                continue
            lost = overlap(one.story.hidden.get(domain, ()), job.start, job.end)
            held = job.end - job.start
            assert (known < 1) >= (lost > 0), (job.run, domain)
            assert known == pytest.approx(1 - lost / held, abs=0.01 + (slack / held if lost else 0.05 / held))


def overlap(spans: tuple[Span, ...] | list[Span], a: float, b: float) -> float:
    """For how long a job was there in these times."""
    return sum(max(0.0, min(end, b) - max(begin, a)) for begin, end in spans)


def check_told(one: Outcome) -> None:
    """Findings, flags and states."""
    findings = {(found["kind"], found["subject"]) for found in one.told["findings"]}
    assert set(one.story.told) <= findings
    quiet = {"stuck", "negative rest", "jump", "reset", "ambiguous", "lost"} - {kind for kind, _ in one.story.told}
    assert not {(kind, what) for kind, what in findings if kind in quiet}
    meters = {found for found in findings if found[0] == "stuck" and found[1].startswith("node:")}
    assert meters <= set(one.story.told)
    for run, flag in one.story.flags.items():
        assert any(flag in said for said in one.told["jobs"][run]["flags"]), one.told["jobs"][run]["flags"]
    for run in one.story.doubt:
        job = one.told["jobs"][run]
        assert job["coverage"]["rest"] < 1 or job["flags"], run
    for run, state in one.story.states.items():
        assert one.told["jobs"][run]["state"] == state


def test_a_gpu_is_flagged_for_its_holders_alone() -> None:
    """What is odd about the first GPU is not said of B, which holds the second."""
    for name in ("stuck counter", "GPU lost and back"):
        assert not [flag for flag in played(name).told["jobs"]["B"]["flags"] if flag.startswith("gpu:GPU-a")]


def test_a_reset_is_flagged_on_the_jobs_of_its_time() -> None:
    """The coverage says that something is unknown, the flag says why."""
    jobs = played("RAPL starts anew").told["jobs"]
    assert all("package-0 reset" in jobs[run]["flags"] for run in ("A", "B"))


def test_there_are_enough() -> None:
    """Names are unique: each is a row of the table."""
    assert len(ALL) == len(stories()) >= 24


def test_the_real_command_says_the_same(tmp_path: Path) -> None:
    """`jobimpactd replay --config` in a process of its own gives the very books."""
    story = ALL["MIG, 3g and 2g"]
    recording = write(tmp_path / "node01.jsonl", story.make().lines())
    idle = json.dumps(dict(story.idle_w))
    config = tmp_path / "jobimpact.yaml"
    config.write_text(f"cluster: lab\nnode: {{name: n1, idle_w: {idle}}}\n")
    code = "import sys; from jobimpact_daemon.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "replay", "--config", str(config), str(recording)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == played(story.name).told


def test_the_page_has_the_table() -> None:
    """`docs/admin/faults.md` has a row for each recording as `python -m tests.daemon.faults` prints it."""
    page = Path(__file__).parents[3] / "docs/admin/faults.md"
    rows = [line.split(" | ") for line in page.read_text().splitlines() if line.startswith("| ")]
    told = {cells[0][2:]: cells for cells in rows}
    assert told.keys() >= ALL.keys()
    for name in ("two sockets", "machine suspended", "a bad day"):
        cells = row(played(name)).split(" | ")
        assert (told[name][:5], len(told[name])) == (cells[:5], len(cells))
