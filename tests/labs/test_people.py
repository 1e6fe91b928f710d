"""Users of a real Slurm, from their jobs to what they are told: reports, mails, pages, and nobody else's."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.labs.lab import PATIENCE_S, until
from tests.labs.people import HOSTILE, JOBS, LOGIN, STEPS, Site, site
from tests.labs.slurm.lab import SlurmLab
from tests.mail.smtp_server import Mail
from tests.needs import need
from tests.report.looking import Looking

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]
UNKNOWN = "987654"
HOW = ["jobimpact.yaml", LOGIN]
Done = subprocess.CompletedProcess[str]


class Day:
    """What users were told while jobs ran, when they had ended, and after the night."""

    def __init__(self, host: Site) -> None:
        self.site = host
        self.first = host.night()
        host.submit()
        long, idle = host.ids["long"], host.ids["idle"]
        host.lab.wait_running(long, idle)
        with host.serving():
            until(lambda: self._reads(long), PATIENCE_S, lambda: str(self.ask("alice", "long")))
            self.running = {
                (user, how): self.ask(user, "long", how=how)
                for user in ("alice", "bob", "carol", "dora", "root")
                for how in HOW
            }
            self.nobodys = {how: host.ask("bob", UNKNOWN, config=how) for how in HOW}
            until(self._judges_gpus, PATIENCE_S, lambda: str(self.json("root", "idle")))
            host.go()
            self.ended = self.json("alice", "long")
            self.ended_array = self.ask("alice", "sweep")
            host.cluster.stop(host.cluster.nodes[0])
            self.of_stopped = self.ask("alice", "crash")
        self.nights = [host.night(), host.night()]

    def _reads(self, job: str) -> bool:
        """Until its node has taken the mark, and has metered it once."""
        done = self.site.ask("root", "--json", job)
        return done.returncode == 0 and bool(json.loads(done.stdout)["jobs"][0]["energy"]["total_j"])

    def _judges_gpus(self) -> bool:
        """Until the node has read how busy they are often enough."""
        (idle,) = self.json("root", "idle")["jobs"]
        return all(node.get("use", {}).get("gpus_seen") == 2 for node in idle["energy"]["nodes"].values())

    def ask(self, user: str, job: str, *words: str, how: str = HOW[0]) -> Done:
        """What a user is told of a job, given its name."""
        return self.site.ask(user, *words, self.site.ids.get(job, job), config=how)

    def json(self, user: str, job: str, *words: str, how: str = HOW[0]) -> dict[str, Any]:
        """The same as a document."""
        done = self.ask(user, job, "--json", *words, how=how)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def rows(self, query: str) -> list[Any]:
        """Of the results."""
        with sqlite3.connect(self.site.results) as db:
            return db.execute(query).fetchall()

    def printed(self, job: str) -> str:
        """What a job wrote."""
        return (self.site.lab.home / f"slurm-{self.site.ids[job]}.out").read_text()

    def mails(self) -> dict[str, Mail]:
        """By the name of the job that they are about."""
        found = {}
        for mail in self.site.mail.mails:
            job = re.match(r"Job (\d+) ", str(mail.message["Subject"]))
            assert job, mail.message["Subject"]
            found[next(name for name, own in self.site.ids.items() if own == job[1])] = mail
        return found


@pytest.fixture(scope="module")
def day(slurm_lab: SlurmLab) -> Iterator[Day]:
    """Everything that happens before and at night, and the service, for all tests but the last."""
    need("openssl", "" if shutil.which("openssl") else "not installed")
    with site(slurm_lab) as host:
        found = Day(host)
        with host.serving():
            yield found


# -- while it runs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW, ids=["socket", "munge"])
def test_a_running_job_is_told_to_its_user_and_to_admins(day: Day, how: str) -> None:
    """Live, by the nodes' books. A lab's head does not see it yet: nodes know no accounts."""
    told = {user for (user, asked_how), done in day.running.items() if asked_how == how and done.returncode == 0}
    assert told == {"alice", "dora", "root"}
    for user in told:
        assert f"job {day.site.ids['long']}  in progress" in day.running[user, how].stdout
    for user in ("bob", "carol"):
        assert _same_but_the_id(day.running[user, how], day.nobodys[how], day.site.ids["long"])


def test_what_is_preliminary_becomes_final(day: Day) -> None:
    """Its energy is that of the nodes' books, before the night and after it."""
    (before,), (after,) = day.ended["jobs"], day.json("alice", "long")["jobs"]
    assert before["state"] == "ended, preliminary until the next accounting"
    assert after["state"] == "COMPLETED"
    assert before["energy"]["total_j"] == after["energy"]["total_j"] > 0


def test_a_node_whose_daemon_has_ended_still_tells(day: Day) -> None:
    """The service may read its file and write nothing, and SQLite can do with that."""
    assert (day.of_stopped.returncode, day.of_stopped.stderr) == (0, "")
    assert f"job {day.site.ids['crash']}  ended, preliminary" in day.of_stopped.stdout


def test_an_array_that_is_not_accounted_for_is_one_task_and_says_so(day: Day) -> None:
    """Its id is the raw one of a task of it, and nodes know no more."""
    said = f"Nodes know no arrays: if {day.site.ids['sweep']} is one,"
    assert (day.ended_array.returncode, said in day.ended_array.stdout) == (0, True)
    assert said not in day.ask("alice", "sweep").stdout


# -- what is in the results ------------------------------------------------------------------------------------------


def test_what_a_job_said_and_used_is_in_its_result(day: Day) -> None:
    """Labels of its comment and its own, the time limit, CPU time as its shell counted it, the memory that it had."""
    (told,) = day.json("alice", "train")["jobs"]
    assert told["labels"] == {"model": "resnet50", "steps": "100", "data": "cifar10"}
    assert told["time_limit_s"] == 120 * 60
    (node,) = told["energy"]["nodes"].values()
    spent = re.findall(r"(\d+)m([\d.]+)s", day.printed("train"))
    spent_s = sum(60 * int(minutes) + float(seconds) for minutes, seconds in spent)
    assert len(spent) == 4
    # More by what Slurm's own step needs to start and end; less by what the shell used when it had counted.
    assert spent_s * 0.98 - 0.05 <= node["use"]["cpu_ns"] / 1e9 <= spent_s * 1.1 + 1
    assert 40 << 20 <= node["use"]["mem_peak_bytes"] <= 200 << 20


def test_progress_stands_beside_energy(day: Day) -> None:
    """Each step that it told, with what it had used by then: rising, and at most what it used in all."""
    (told,) = day.json("alice", "train", "--profile")["jobs"]
    assert [one["step"] for one in told["progress"]] == list(STEPS)
    assert [one["metrics"] for one in told["progress"]] == [{"acc": (20 + step // 2) / 100} for step in STEPS]
    joules = [one["uj"] / 1e6 for one in told["progress"]]
    assert joules == sorted(set(joules))
    assert 0 < joules[0] < joules[-1] <= told["energy"]["total_j"]
    assert "acc 0.7 at " in day.ask("alice", "train").stdout


def test_power_over_time_comes_to_the_energy(day: Day) -> None:
    """Every job that ran has a profile, whose power by time is its energy."""
    found = day.rows("SELECT r.energy_j, p.profile FROM job_result r JOIN job_profile p USING (cluster, key)")
    assert len(found) == len(day.rows("SELECT 1 FROM job_result")) == 5 + 2 + len(JOBS) - 2
    for energy_j, text in found:
        profile = json.loads(text)
        edges = profile["edges_s"]
        spans = [end - begin for begin, end in itertools.pairwise(edges)]
        parts = [zip(watts, spans, strict=True) for watts in profile["watts"].values()]
        assert sum(watts * seconds for part in parts for watts, seconds in part) == pytest.approx(energy_j, rel=0.02)


def test_the_results_are_for_the_service_alone(day: Day) -> None:
    """The file and its folder; a user cannot read it by themselves."""
    assert day.site.results.stat().st_mode & 0o777 == 0o640
    assert day.site.lab.run(["cat", str(day.site.results)], user="alice", check=False).returncode == 1


@pytest.mark.parametrize(
    "words", [["account"], ["books"], ["mail", "status"], ["mail", "--night", "2026-01-01"]], ids=" ".join
)
def test_what_is_the_admins_is_refused_in_a_line(day: Day, words: list[str]) -> None:
    """To a user who may not read the results: no trace of the program, and which file it is."""
    done = day.site.ask("alice", *words)
    assert (done.returncode, done.stdout) == (3, "")
    assert {line.partition(":")[0] for line in done.stderr.splitlines()} == {"jobimpact"}
    assert f"{day.site.var}/" in done.stderr


# -- the night's mails -----------------------------------------------------------------------------------------------


def test_each_job_is_mailed_once_and_by_tls(day: Day) -> None:
    """One a job, an array, a heterogeneous job; to its user's address; the first night and the third send none."""
    assert [done.returncode for done in (day.first, *day.nights)] == [0, 0, 0]
    assert "the first night" in day.first.stdout
    assert f"{len(JOBS)} sent" in day.nights[0].stdout
    assert "0 sent" in day.nights[1].stdout
    assert len(day.site.mail.mails) == len(JOBS) == len(day.mails())
    to = {"alice": "alice@site.example", "bob": "Robert.B@elsewhere.example"}
    assert {name: mail.to for name, mail in day.mails().items()} == {
        name: [to[user]] for name, (_, user, _) in JOBS.items()
    }
    assert set(day.site.mail.secret) == {True}


SUBJECTS = {
    "train": r"Job \d+ \(train\): [\d.]+ k?J, completed",
    "crash": r"Job \d+ \(crash\) failed after [\d.]+ k?J",
    "sweep": r"Job \d+ \(sweep\): 5 tasks, [\d.]+ k?J, 3 did not complete",
    "pair": r"Job \d+ \(pair\): 2 parts, [\d.]+ k?J",
    HOSTILE: r"Job \d+ \(<b>x</b> Bcc: eve@site\.example\): [\d.]+ k?J, completed",
}


@pytest.mark.parametrize("job", SUBJECTS, ids=lambda name: name[:5])
def test_a_mail_says_what_the_command_says(day: Day, job: str) -> None:
    """Subject, text as on a terminal, HTML with the same energy, pictures that the HTML shows."""
    message = day.mails()[job].message
    assert re.fullmatch(SUBJECTS[job], str(message["Subject"]))
    assert message["Bcc"] is None
    text, html = (message.get_body((kind,)) for kind in ("plain", "html"))
    assert text is not None
    assert html is not None
    said = day.ask(JOBS[job][1], job).stdout.rstrip()
    assert text.get_content().replace("\r\n", "\n").startswith(said)
    energy = re.search(r"^  Energy +([\d.]+ k?J)", said, re.MULTILINE)
    assert energy
    assert energy[1] in html.get_content()
    assert "<b>x</b>" not in html.get_content()
    pictures = [part for part in message.walk() if part.get_content_type() == "image/png"]
    shown = set(re.findall(r'src="cid:([^"]+)"', html.get_content()))
    assert {str(part["Content-ID"]).strip("<>") for part in pictures} == shown
    assert len(pictures) == {"train": 2, "sweep": 0, "pair": 0}.get(job, 1)
    assert all(part.get_content().startswith(b"\x89PNG") for part in pictures)


# -- who asks --------------------------------------------------------------------------------------------------------


def _same_but_the_id(theirs: Done, unknown: Done, job: str) -> bool:
    mine = tuple(text.replace(UNKNOWN, job) for text in (unknown.stdout, unknown.stderr))
    return (theirs.returncode, theirs.stdout, theirs.stderr) == (1, *mine)


@pytest.mark.parametrize("how", HOW, ids=["socket", "munge"])
@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"], ["--array"]], ids=" ".join)
def test_anothers_job_is_none(day: Day, how: str, form: list[str]) -> None:
    """One's own is told; another's is what a job is that never was, to the byte."""
    assert day.ask("alice", "train", *form, how=how).returncode == 0
    for job in ("train", "sweep", "pair"):
        unknown = day.site.ask("bob", *form, UNKNOWN, config=how)
        assert _same_but_the_id(day.ask("bob", job, *form, how=how), unknown, day.site.ids[job])


@pytest.mark.parametrize("how", HOW, ids=["socket", "munge"])
def test_a_head_and_admins_see_more(day: Day, how: str) -> None:
    """The head of the lab of all these jobs, and dora who is in the admins' group."""
    for user in ("carol", "dora", "root"):
        for job in JOBS:
            assert day.ask(user, job, how=how).returncode == 0, (user, job)


def test_both_ways_tell_the_same(day: Day) -> None:
    """A login node, whose configuration says nothing but where to ask, prints what the accounting host prints."""
    for job in ("train", "sweep", "idle"):
        assert day.ask("alice", job, how=LOGIN).stdout == day.ask("alice", job).stdout
        assert day.json("alice", job, how=LOGIN) == day.json("alice", job)
    reports = [day.site.ask("alice", "report", "--json", config=how).stdout for how in HOW]
    assert reports[0] == reports[1]


def test_findings_are_what_was_done(day: Day) -> None:
    """Time that was not needed, tasks that failed alike, GPUs that nobody used."""
    (train,), (idle,) = (day.json("alice", job)["jobs"] for job in ("train", "idle"))
    assert [one["rule"] for one in train["findings"]] == ["time_low"]
    unused = next(one for one in idle["findings"] if one["rule"] == "gpus_unused")
    assert (unused["value"], unused["of"]) == (2, 2)
    (sweep,) = day.json("alice", "sweep")["groups"]
    assert [(one["rule"], one["value"]) for one in sweep["findings"]] == [("repeated_failed", 3)]
    assert "3 of 5 tasks failed alike" in day.ask("alice", "sweep").stdout


def test_documents_are_of_their_schemas(day: Day) -> None:
    """An answer, a period, a comparison, as users get them."""
    schemas = {
        "answer-2": ["--json", day.site.ids["train"], day.site.ids["sweep"], day.site.ids["pair"]],
        "period-1": ["report", "--json"],
        "compare-1": ["compare", "--json", day.site.ids["train"], day.site.ids["crash"]],
    }
    for name, words in schemas.items():
        schema = json.loads((ROOT / f"docs/schema/{name}.json").read_text())
        for how in HOW:
            done = day.site.ask("alice", *words, config=how)
            assert done.returncode == 0, done.stderr
            jsonschema.validate(json.loads(done.stdout), schema)


def test_ones_own_time(day: Day) -> None:
    """--me and report are one's own jobs, whose energies come to the same; a lab's report is its head's."""
    me = json.loads(day.site.ask("alice", "--me", "--json").stdout)
    energies = day.rows("SELECT energy_j FROM job_result WHERE user = 'alice'")
    whole = sum(energy for (energy,) in energies)
    assert {job["user"] for job in me["jobs"]} == {"alice"}
    assert sum(job["energy"]["total_j"] for job in me["jobs"]) == pytest.approx(whole)
    report = json.loads(day.site.ask("alice", "report", "--json").stdout)["period"]
    assert report["sums"]["energy_j"] == pytest.approx(whole)
    labs = day.site.ask("carol", "report", "-A", "physics")
    assert (labs.returncode, "Lab physics" in labs.stdout) == (0, True)
    theirs, unknown = (day.site.ask("alice", "report", "-A", lab) for lab in ("physics", "no-such"))
    assert theirs.returncode == unknown.returncode != 0
    assert (theirs.stdout, theirs.stderr) == ("", unknown.stderr.replace("no-such", "physics"))


def test_comparisons_are_of_ones_own(day: Day) -> None:
    """Two jobs side by side; of another's not even that it is there."""
    ids = [day.site.ids[job] for job in ("train", "crash")]
    assert day.site.ask("alice", "compare", *ids).returncode == 0
    theirs = day.site.ask("bob", "compare", *ids)
    assert (theirs.returncode, theirs.stdout) == (1, "")


def test_a_page_opens_in_a_browser(day: Day, tmp_path: Path) -> None:
    """As the user wrote it; nothing is asked of any network, and the console stays empty."""
    need("chromium", "" if shutil.which("chromium") else "not installed (Debian: chromium)", "browser")
    page = day.site.lab.home / "people.html"
    ids = [day.site.ids[job] for job in ("train", "sweep")]
    assert day.site.ask("alice", *ids, "--html", str(page)).returncode == 0
    with Looking(tmp_path) as browser:
        browser.open(page.read_text(encoding="utf-8"))
        text = browser.evaluate("document.body.innerText")
        assert "train" in text
        assert "3 of 5 tasks failed alike" in text
        assert browser.evaluate("document.querySelectorAll('svg').length") > 0
        assert browser.evaluate("performance.getEntriesByType('resource').length") == 0
        assert browser.said == []


def test_a_service_that_is_gone(slurm_lab: SlurmLab, day: Day) -> None:
    """Status 3 and one line, by both ways; what root may read itself is answered all the same."""
    day.site.end_service()
    for how in HOW:
        done = day.ask("alice", "train", how=how)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert day.ask("root", "train").returncode == 0
