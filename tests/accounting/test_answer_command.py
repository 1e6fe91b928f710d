"""`jobimpact` asked for users, accounts and times, and its other forms: tables, CSV, JSON, pages, colours, pagers."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import pwd
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from tests.accounting.answered import array, measured, write
from tests.accounting.world import T0, World

from jobimpact.cli.main import main
from jobimpact.report.csv import COLUMNS

Captured = pytest.CaptureFixture[str]
ME = pwd.getpwuid(os.getuid()).pw_name
SINCE = ("-S", str(T0 - 86400), "-E", str(T0 + 86400))
HOSTILE = "=1+1|\x1b]0;x\x07\u202e,\"';\\\r\n\N{PILE OF POO}\x00"
SCHEMA = json.loads((Path(__file__).parents[2] / "docs/schema/answer-2.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Jobs of two users and accounts, a failed one, one that was never measured, arrays of 3 and of 25."""
    made = World(tmp_path_factory.mktemp("site"))
    one = measured(made, "1", 3.6e6, user="alice", account="lab1", name="train")
    write(
        made,
        one,
        measured(made, "2", 1800.0, user="alice", account="lab2", state="FAILED", exit_code="1:0"),
        measured(made, "3", None, user="alice", account="lab1", nodes=("elsewhere",)),
        measured(made, "4", 5000.0, user="bob", account="lab1", name=HOSTILE, labels={"model": HOSTILE}),
        *array(one, "50", 3, user="carol"),
        *array(one, "60", 25, user="carol"),
    )
    return made


def ask(world: World, capsys: Captured, *words: str) -> tuple[int, str, str]:
    status = main([*words, "--config", str(world.config_file)])
    said = capsys.readouterr()
    return status, said.out, said.err


def lines(text: str) -> list[str]:
    """The jobs and sums of a table."""
    return [line.split()[0] for line in text.splitlines() if re.match(r"[\d_]+ |sum ", line)]


# -- who and when ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "jobs"),
    [
        (["-u", "alice"], ["1", "2", "3"]),
        (["-u", "alice,bob"], ["1", "2", "3", "4"]),
        (["-u", "alice", "-A", "lab1"], ["1", "3"]),
        (["--user=bob"], ["4"]),
        (["-A", "lab1,lab2", "-u", "alice"], ["1", "2", "3"]),
        (["-M", "lab", "-u", "bob"], ["4"]),
        (["-M", "other", "-u", "bob"], []),
        (["1", "4", "-u", "bob", "--units", "J"], ["4"]),
        (["-j", "1,2", "-j", "4", "--units", "J"], ["1", "2", "4"]),
        (["1", "--units", "J", "2"], ["1", "2"]),
    ],
)
def test_a_table_of_those_asked_for(world: World, capsys: Captured, words: list[str], jobs: list[str]) -> None:
    """A line each, and the sum."""
    _, out, _ = ask(world, capsys, *words, *SINCE)
    assert lines(out) == [*jobs, *(["sum"] if jobs else [])]
    assert all(len(line) <= 80 for line in out.splitlines())


def test_nobody_but_root_asks_for_everybody(world: World, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time alone is one's own jobs, as for sacct."""
    status, out, _ = ask(world, capsys, *SINCE, "--me")
    day = time.strftime("%Y-%m-%d", time.localtime(T0 - 86400))
    assert (status, out.splitlines()[0].startswith(f"Jobs of {ME} from {day}")) == (0, True)
    monkeypatch.setattr(os, "geteuid", lambda: 4000)
    assert ask(world, capsys, *SINCE)[1] == out
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert len(lines(ask(world, capsys, *SINCE)[1])) == 4 + 3 + 25 + 1


def test_the_window_is_told_with_its_zone(world: World, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the local one."""
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    try:
        _, out, _ = ask(world, capsys, "-u", "bob", "-S", "2026-11-20", "-E", "2026-11-20T17:00")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert out.startswith("Jobs of bob from 2026-11-20 00:00:00 to 2026-11-20 17:00:00 (CET, UTC+01:00)\n")
    assert lines(out) == ["4", "sum"]


def test_the_page_of_answers_shows_such_a_table(
    world: World, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is."""
    text = (Path(__file__).parents[2] / "docs/user/answer.md").read_text(encoding="utf-8")
    words, shown = re.findall(r"^```\n\$ jobimpact (-u .*)\n((?:.*\n)*?)```$", text, re.MULTILINE)[0]
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        _, out, _ = ask(world, capsys, *words.split())
    finally:
        monkeypatch.undo()
        time.tzset()
    assert out.startswith(shown)


def test_jobs_are_cut_at_the_window(world: World, capsys: Captured) -> None:
    """What was reserved by time; energy whose hours are not known is not told."""
    half = ("-u", "bob", "-S", str(T0 - 10), "-E", str(T0 + 50), "--json")
    _, whole, _ = ask(world, capsys, *half)
    status, out, _ = ask(world, capsys, *half, "-T")
    [before], [after] = json.loads(whole)["jobs"], json.loads(out)["jobs"]
    assert (status, after["elapsed_s"], after["end"]) == (0, 50, "2026-11-20T15:59:10Z")
    assert (after["energy"]["total_j"], "by the hour" in after["energy"]["reason"]) == (None, True)
    embodied = [one["impacts"]["gwp_kgco2e"]["embodied"]["central"] for one in (before, after)]
    assert embodied[1] == pytest.approx(embodied[0] / 2)
    assert json.loads(out)["window"] == {"from": "2026-11-20T15:58:10Z", "to": "2026-11-20T15:59:10Z", "cut": True}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--colour", "1"], "'--colour': no such option: did you mean --no-color?"),
        (["1", "--jsn"], "'--jsn': no such option: did you mean --json?"),
        (["1", "-T"], "-T: cut at what? give -S or -E"),
        (["-T"], "no job id is given: see jobimpact --help"),
        (["1", "--json", "--csv"], "--json and --csv: one of them"),
        (["1", "--profile"], "--profile: only with --json"),
        (["1", "--units", "Wh"], "--units 'Wh': one of auto, J, kWh, and one of g, kg, like kWh,kg"),
        (["1", "-S", "soon"], "'soon': not a time: YYYY-MM-DD"),
        (["1", "-S", "2026-11-21", "-E", "2026-11-20"], "-S '2026-11-21' is not before -E"),
        (["-u", "alice", "-S", "now+1day"], "-S 'now+1day' is not before now"),
        (["1_[1-"], "'1_[1-': a range of tasks is written like 123_[1-5,7]"),
        (["alice"], "'alice' is neither a command nor a job id: see jobimpact --help"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(world: World, capsys: Captured, words: list[str], said: str) -> None:
    """With what was meant, perhaps."""
    status, out, err = ask(world, capsys, *words)
    assert (status, out) == (2, "")
    assert err.startswith(f"jobimpact: {said}")
    assert err.count("\n") == 1


# -- tables ----------------------------------------------------------------------------------------------------------


def test_what_was_spent_for_nothing_comes_first(world: World, capsys: Captured) -> None:
    """Then a line each, the sum, and what it lacks."""
    _, out, _ = ask(world, capsys, "-u", "alice", *SINCE)
    assert out.index("1.80 kJ spent on jobs that did not complete (1 of 3)") < out.index("\njob ")
    assert re.search(r"^2 +train +FAILED +1 min 40 s +1\.80 kJ +100 % ", out, re.MULTILINE)
    assert re.search(r"^3 +train +COMPLETED +1 min 40 s +- +- ", out, re.MULTILINE)
    assert re.search(r"^sum +3 jobs +3\.60 MJ ", out, re.MULTILINE)
    assert "The sum of energy lacks 1 of 3 that ran: not known." in out
    assert "Energy in all: 1.00 kWh." in out


@pytest.mark.parametrize(
    ("units", "energies"),
    [("kWh,g", ["1.00 kWh", "0.000500 kWh"]), ("J", ["3600000 J", "1800 J"]), ("kg", ["3.60 MJ", "1.80 kJ"])],
)
def test_all_in_one_unit(world: World, capsys: Captured, units: str, energies: list[str]) -> None:
    """To be compared and copied."""
    _, out, _ = ask(world, capsys, "1", "2", "--units", units)
    assert re.findall(r"s +(\d\S* (?:kWh|[kM]?J)) +100 %", out)[:2] == energies
    gwp = set(re.findall(r"100 % +\S+ (\S+)$", out, re.MULTILINE))
    assert gwp == {"kWh,g": {"g"}, "kg": {"kg"}}.get(units, gwp)


def test_an_array_is_told_together_and_with_array_task_by_task(world: World, capsys: Captured) -> None:
    """In order of the tasks."""
    status, out, _ = ask(world, capsys, "60")
    assert (status, "25 tasks" in out, "60_24" in out) == (0, True, False)
    _, out, _ = ask(world, capsys, "60", "--array")
    assert lines(out) == [*(f"60_{task}" for task in range(25)), "sum"]
    assert re.search(r"^sum +25 jobs ", out, re.MULTILINE)


def test_a_job_and_its_array_are_not_added_twice(world: World, capsys: Captured) -> None:
    """Each is told once."""
    _, out, _ = ask(world, capsys, "50_1", "50", "50_[0-2]", "1", "2", "4")
    assert lines(out) == ["50_1", "50_0", "50_2", "1", "2", "4", "sum"]
    assert re.search(r"^sum +6 jobs ", out, re.MULTILINE)


def test_a_task_and_its_array_that_is_not_listed_are_not_added_twice(
    world: World, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the array there are only sums, which the task is in."""
    monkeypatch.setattr("jobimpact.cli.asked.ROWS", 20)
    _, out, _ = ask(world, capsys, "60_3", "60", "50_1", "1", "2", "4")
    assert lines(out) == ["60_3", "50_1", "1", "2", "4", "60", "sum"]
    assert re.search(r"^sum +29 jobs ", out, re.MULTILINE)


def test_a_range_of_tasks(world: World, capsys: Captured) -> None:
    """Those that are there; the others are told, and cost status 1."""
    status, out, err = ask(world, capsys, "50_[0-6:2]", "1_[7]", "2")
    assert status == 1
    assert re.findall(r"^job (\S+)", out, re.MULTILINE) == [] or "50_2" in out
    assert err.splitlines() == [f"job {one}: unknown, or not yours" for one in ("50_4", "50_6", "1_7")]


@pytest.mark.parametrize("words", [["1.0"], ["1.batch", "1.extern", "2.0"], ["50_1.extern"]])
def test_a_step_is_answered_with_its_job_and_a_note(world: World, capsys: Captured, words: list[str]) -> None:
    """Once."""
    status, _, err = ask(world, capsys, *words)
    assert status == 0
    note = "jobimpact: steps are not metered by themselves: {} is answered with its whole job\n"
    assert err == note.format(words[0])


# -- rows for programs -----------------------------------------------------------------------------------------------


def test_csv_is_what_a_spreadsheet_reads(world: World, capsys: Captured) -> None:
    """RFC 4180: raw numbers, empty where nothing is known, and no formula of a user's."""
    status, out, _ = ask(world, capsys, "-u", "alice,bob", *SINCE, "--csv")
    head, *rows = csv.reader(io.StringIO(out, newline=""), strict=True)
    assert (status, head, len(rows)) == (0, list(COLUMNS), 4)
    assert out.endswith("\r\n")
    one, failed, unknown, hostile = (dict(zip(head, row, strict=True)) for row in rows)
    assert (one["energy_j"], one["cpu_j"], one["dram_j"], one["start_utc"]) == (
        *("3600000.0", "3600000.0", "", "2026-11-20T15:58:20Z"),
    )
    assert float(one["gwp_total_kgco2e"]) == pytest.approx(
        float(one["gwp_use_kgco2e"]) + float(one["gwp_embodied_kgco2e"])
    )
    assert (failed["state"], failed["exit_code"]) == ("FAILED", "1:0")
    assert (unknown["energy_j"], unknown["gwp_total_kgco2e"]) == ("", "")
    assert hostile["name"].startswith("'=1+1|")
    assert not re.search(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f\u202e]", out)


def test_parsable_is_as_sacct_parts_it(world: World, capsys: Captured) -> None:
    """By |, with those of a text escaped, and without headings if they are not wanted."""
    _, out, _ = ask(world, capsys, "4", "-P")
    head, row = out.splitlines()
    cells = [cell.replace("\\|", "|").replace("\\\\", "\\") for cell in re.split(r"(?<!\\)(?:\\\\)*\|", row)]
    found = dict(zip(head.split("|"), cells, strict=True))
    assert found["name"].startswith("=1+1|")
    assert found["energy_j"] == "5000.0"
    _, out, _ = ask(world, capsys, "4", "-P", "-n")
    assert out == f"{row}\n"


def test_too_many_for_rows_are_told(world: World, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums say nothing task by task."""
    monkeypatch.setattr("jobimpact.cli.asked.CSV_ROWS", 20)
    status, out, err = ask(world, capsys, "60", "1", "--csv")
    assert (status, out.count("\r\n")) == (1, 2)
    assert err == "job 60: 25 jobs are too many to be listed: ask for fewer, or a shorter time\n"
    status, _, err = ask(world, capsys, "60", "-T", *SINCE)
    assert (status, err) == (2, "jobimpact: -T: 60 is 25 jobs, too many to be cut each: ask for a shorter time\n")


# -- JSON ------------------------------------------------------------------------------------------------------------


def strict(schema: Any) -> Any:
    """The same without room for keys that it does not name."""
    if isinstance(schema, dict):
        closed = {key: strict(value) for key, value in schema.items()}
        return closed | ({"additionalProperties": False} if "properties" in schema else {})
    return [strict(one) for one in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize(
    "words",
    [
        ["1", "2", "3", "4", "99", "50", "60"],
        ["-u", "alice,bob,carol", *SINCE],
        ["-u", "alice", "-S", str(T0 + 50), "-E", str(T0 + 90), "-T"],
        ["1", "--profile"],
        ["77", "--profile"],
        ["99"],
        ["1\x1b]0;x\x07\u202e\N{PILE OF POO}|'\"\\"],
    ],
)
def test_json_is_as_its_schema_says(world: World, capsys: Captured, words: list[str]) -> None:
    """Every key is in it, and each has its type; what users wrote comes back as it was."""
    node = world.node("node02")
    if not node.db.execute("SELECT 1 FROM run WHERE job = '77'").fetchone():
        node.measured("77", start=10, end=None)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    status, out, _ = ask(world, capsys, *words, "--json")
    found = json.loads(out)
    jsonschema.validate(found, SCHEMA)
    jsonschema.validate(found, strict(SCHEMA))
    assert status == (1 if found["errors"] else 0)
    names = {job["job"]: job["name"] for job in found["jobs"]}
    assert names.get("4", HOSTILE) == HOSTILE


@pytest.mark.parametrize("job", ["70", "70_1", "71"])
def test_an_array_of_which_one_task_is_accounted_for_is_told_as_one(
    tmp_path: Path, capsys: Captured, job: str
) -> None:
    """By its own id; by that of the task it is the task. A heterogeneous job likewise."""
    made = World(tmp_path)
    one = measured(made, "1")
    part = msgspec.structs.replace(one, job_id="71+0", key="71+0")
    write(made, *array(one, "70", 2)[1:], part)
    _, out, _ = ask(made, capsys, job)
    first = {"70": "job 70: 1 task", "70_1": "job 70_1  COMPLETED", "71": "job 71: 1 part"}
    assert out.splitlines()[0] == first[job]
    assert ("that ended later are not among them" in out) == (job != "70_1")


def test_json_has_findings_sums_and_power_over_time(world: World, capsys: Captured) -> None:
    """Of each job, of each id, and where it is asked for."""
    _, out, _ = ask(world, capsys, "2", "60", "--json")
    found = json.loads(out)
    assert [finding["rule"] for finding in found["jobs"][0]["findings"]] == ["failed"]
    assert "profile" not in found["jobs"][0]
    one, tasks = found["groups"]
    assert (one["asked"], one["jobs"], one["failed"], one["energy_j"]) == ("2", 1, 1, 1800)
    assert (tasks["asked"], tasks["jobs"], tasks["failed"], tasks["listed"]) == ("60", 25, 3, True)
    assert tasks["energy_j"] == pytest.approx(25 * 3.6e6)
    assert (one["findings"], [finding["rule"] for finding in tasks["findings"]]) == ([], ["repeated_failed"])
    assert {end["state"]: end["jobs"] for end in tasks["endings"]} == {"COMPLETED": 22, "FAILED": 3}
    _, out, _ = ask(world, capsys, "2", "--json", "--profile")
    assert (json.loads(out)["jobs"][0]["profile"], json.loads(out)["jobs"][0]["progress"]) == (None, [])


# -- pages, colours, pagers ------------------------------------------------------------------------------------------


def test_a_page_goes_to_a_file_or_to_standard_output(world: World, capsys: Captured, tmp_path: Path) -> None:
    """The same one; hostile names are text in it."""
    file = tmp_path / "job.html"
    assert ask(world, capsys, "4", "--html", str(file)) == (0, "", "")
    status, out, _ = ask(world, capsys, "4", "--html", "-")
    assert (status, out) == (0, file.read_text(encoding="utf-8"))
    assert out.startswith("<!doctype html>")
    assert "\x1b" not in out
    status, _, err = ask(world, capsys, "4", "--html", str(tmp_path / "no" / "page"))
    assert (status, "No such file" in err) == (3, True)
    status, out, err = ask(world, capsys, "99", "--html", "-")
    assert (status, out, err) == (1, "", "job 99: unknown, or not yours\n")


def on_a_terminal(world: World, *words: str, rows: int = 50, columns: int = 100, **environment: str) -> str:
    """What a terminal of this size gets."""
    leader, follower = pty.openpty()
    subprocess.run(["stty", "rows", str(rows), "cols", str(columns)], stdin=follower, check=True)
    kept = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "PAGER", "LESS", "COLUMNS", "LINES"}}
    config = ["--config", str(world.config_file)] if words else []
    code = "import sys; from jobimpact.cli.main import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words, *config],
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
        env=kept | {"TERM": "xterm"} | environment,
    )
    os.close(follower)
    said = b""
    # The terminal hangs up when the last writer, the pager among them, is gone.
    while select.select([leader], [], [], 120)[0]:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        said += part
    assert process.wait(timeout=120) == 0
    os.close(leader)
    return said.decode().replace("\r\n", "\n")


def test_a_terminal_gets_colours_and_its_width(world: World) -> None:
    """Unless NO_COLOR or --no-color is there; FORCE_COLOR changes nothing for a pipe."""
    table = ("-u", "alice,carol", *SINCE, "--no-pager")
    coloured = on_a_terminal(world, *table)
    assert "\x1b[31m" in coloured
    assert " user " in coloured
    plain = re.sub(r"\x1b\[\d+m", "", coloured)
    assert on_a_terminal(world, *table, NO_COLOR="1") == plain
    assert on_a_terminal(world, *table, "--no-color") == plain


def test_a_long_answer_goes_through_the_pager(world: World, tmp_path: Path) -> None:
    """$PAGER, or less; a short one does not, nor where there is no pager, or none is wanted."""
    table = ("-u", "alice,carol", *SINCE)
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho paged\ncat\n")
    pager.chmod(0o755)
    assert on_a_terminal(world, *table, rows=10, PAGER=str(pager)).startswith("paged\n")
    assert "paged" not in on_a_terminal(world, *table, rows=100, PAGER=str(pager))
    assert "paged" not in on_a_terminal(world, *table, "--no-pager", rows=10, PAGER=str(pager))
    missing = on_a_terminal(world, *table, rows=10, PAGER="/nonexistent/pager -x")
    assert "sum" in missing


def test_help_alone_on_a_terminal(world: World) -> None:
    """Without words; status 0."""
    assert on_a_terminal(world).startswith("usage: jobimpact JOBID")


# -- who answers -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.getuid() != 0, reason="needs another user")
def test_who_may_not_read_the_results_and_finds_no_service_is_told_so(world: World, tmp_path: Path) -> None:
    """Exit 3 with one sentence."""
    made = World(tmp_path)
    write(made, measured(made))
    text = made.config_file.read_text() + "service: {socket: gone.sock}\n"
    made.config_file.write_text(text)
    made.results.chmod(0o600)
    # Asked once by root: what is loaded later another user may not be able to read.
    code = "import os, sys; from jobimpact.cli.main import main; main(); os.setuid(65534); sys.exit(main())"
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/") and folder.stat().st_uid == os.getuid() and folder.is_relative_to("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    done = subprocess.run(
        [sys.executable, "-c", code, "1", "--config", str(made.config_file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.count("COMPLETED")) == (3, 1), done.stderr
    assert done.stderr == (
        f"jobimpact: {made.results}: not yours to read, and no service answers at {tmp_path / 'gone.sock'}\n"
    )


def test_where_there_are_neither_results_nor_a_service(world: World, capsys: Captured, tmp_path: Path) -> None:
    """A login node that is not set up."""
    made = World(tmp_path)
    text = made.config_file.read_text().replace("///results.db", "///gone/results.db")
    made.config_file.write_text(text + "service: {socket: gone.sock}\n")
    status, _, err = ask(made, capsys, "1")
    assert status == 3
    assert err.count("\n") == 1
    assert "no such folder, or not yours to read, and no service answers" in err


def test_hostile_bytes_on_the_command_line(world: World) -> None:
    """No id, and no traceback."""
    code = "import sys; from jobimpact.cli.main import main; sys.exit(main())"
    for word in (b"\xff\xfe1", b"1\xc3(", b"-u\xff", b"--\xff"):
        done = subprocess.run(
            [sys.executable.encode(), b"-c", code.encode(), word, b"--config", os.fsencode(world.config_file)],
            capture_output=True,
            check=False,
        )
        assert done.returncode in {0, 1, 2}
        assert b"Traceback" not in done.stderr


def test_labels_of_a_job_are_told(world: World, capsys: Captured) -> None:
    """In JSON as they were written."""
    _, out, _ = ask(world, capsys, "4", "--json")
    assert json.loads(out)["jobs"][0]["labels"] == {"model": HOSTILE}
    assert msgspec.json.decode(out)["schema"] == 2
