"""`jobimpact` as a user meets it: answers, exit codes, and no tracebacks."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.accounting.world import T0, World, batch

from jobimpact.cli.account import moment
from jobimpact.cli.main import main
from jobimpact.core import config
from jobimpact.core.errors import ConfigError
from jobimpact.nightly.night import account

NOW = T0 + 1000.0
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A site with one measured job on node01."""
    site = World(tmp_path)
    batch(site, ["1"])
    return site


def ask(world: World, *words: str) -> int:
    return main([*words, "--config", str(world.config_file)])


def answer(world: World, capsys: Captured, *words: str) -> tuple[int, dict[str, Any]]:
    status = ask(world, *words, "--json")
    return status, json.loads(capsys.readouterr().out)


def test_a_finished_job_in_json(world: World, capsys: Captured) -> None:
    """Schema 2: energy by domain with method and coverage, three indicators, factors, inventory, revision."""
    account(world.config, NOW)
    status, said = answer(world, capsys, "1")
    assert (status, said["schema"], said["errors"]) == (0, 2, [])
    [job] = said["jobs"]
    assert (job["job"], job["user"], job["state"], job["revision"]) == ("1", "alice", "COMPLETED", 1)
    assert (job["start"], job["end"]) == ("2026-11-20T15:58:20Z", "2026-11-20T16:00:00Z")
    assert job["energy"]["total_j"] == 5000
    assert job["energy"]["total_kwh"] == pytest.approx(5000 / 3.6e6)
    assert job["energy"]["domains"]["cpu"] == {"energy_j": 5000, "method": "counter", "coverage": 1.0}
    assert job["energy"]["domains"]["dram"]["energy_j"] is None
    assert job["energy"]["nodes"]["node01"]["domains"]["package-0"]["known_s"] == 100
    gwp = job["impacts"]["gwp_kgco2e"]
    assert gwp["use"]["central"] == pytest.approx(5000 / 3.6e6 * 0.04418 * 1.3)
    assert gwp["total"]["central"] == pytest.approx(gwp["use"]["central"] + gwp["embodied"]["central"])
    assert (job["factors"]["zone"], job["factors"]["pue"]) == ("FRA", 1.3)
    assert job["inventory"]["version"] == "2026-11"


def no_null_without_a_reason(found: Any, where: str = "") -> list[str]:
    """Energies and impacts that are null in an object that gives no reason."""
    bad: list[str] = []
    if isinstance(found, dict):
        nulls = {"use", "embodied", "total", "energy_j", "total_j"} & {k for k, v in found.items() if v is None}
        if nulls and not found.get("reason"):
            bad.append(f"{where}: {nulls}")
        for key, value in found.items():
            bad += no_null_without_a_reason(value, f"{where}.{key}")
    return bad


def test_null_never_comes_without_a_reason(world: World, capsys: Captured) -> None:
    """Measured, half measured, not measured, not in the inventory, in progress."""
    node = world.node("node02")
    node.domain()
    node.domain("dram-0", "dram", reason="EIO")
    node.charge(node.run("2"))
    node.run("4", start=500, end=None)
    world.say("2", nodes=["node02", "node01"])
    world.say("3", nodes=["elsewhere"])
    account(world.config, NOW)
    _, said = answer(world, capsys, "1", "2", "3", "4")
    assert len(said["jobs"]) == 4
    for job in said["jobs"]:
        assert no_null_without_a_reason(job["energy"]) == []
        assert no_null_without_a_reason(job["impacts"]) == []


def test_ids_after_an_unknown_one_are_still_answered(world: World, capsys: Captured) -> None:
    """By spaces or commas; the unknown one costs exit status 1 and one line."""
    account(world.config, NOW)
    assert ask(world, "99,1", "1.0") == 1
    said = capsys.readouterr()
    unknown, step = said.err.splitlines()
    assert unknown == "job 99: unknown, or not yours"
    assert step == "jobimpact: steps are not metered by themselves: 1.0 is answered with its whole job"
    assert said.out.count("job 1  COMPLETED") == 1


def test_a_job_that_runs_is_in_progress(world: World, capsys: Captured) -> None:
    """From the node's books, with its energy so far; without `account` having run."""
    node = world.node()
    node.charge(node.run("7", start=10, end=None), joules=123, known_s=50)
    status, said = answer(world, capsys, "7")
    [job] = said["jobs"]
    assert (status, job["state"], job["end"], job["accounted_at"]) == (0, "in progress", None, None)
    assert job["energy"]["total_j"] == 123
    assert job["impacts"]["gwp_kgco2e"]["total"]["central"] > 0


def test_numbers_of_a_job_that_runs_say_up_to_when(world: World, capsys: Captured) -> None:
    """As far as the slowest node has written; with the day where it is another one."""
    world.node().measured("7", start=10, end=None)
    world.node("node02").measured("7", start=8, end=None)
    _, said = answer(world, capsys, "7")
    [job] = said["jobs"]
    assert (job["elapsed_s"], job["known_until"]) == (50, "2026-11-20T15:59:18Z")
    ask(world, "7")
    said_text = capsys.readouterr().out
    assert "  since 2026-11-20 15:58:28 UTC; so far, books up to 15:59:18 UTC\n" in said_text
    assert "50 s" not in said_text
    assert "still open" not in said_text
    world.node().db.execute("UPDATE run SET elapsed_ns = 86400000000000")
    world.node("node02").db.execute("UPDATE run SET elapsed_ns = 86400000000000")
    ask(world, "7")
    assert "books up to 2026-11-21 15:58:28 UTC" in capsys.readouterr().out


def test_a_job_that_is_over_has_no_time_up_to_which_it_is_known(world: World, capsys: Captured) -> None:
    """It is known to its end."""
    account(world.config, NOW)
    _, said = answer(world, capsys, "1")
    assert said["jobs"][0]["known_until"] is None


@pytest.mark.parametrize(
    ("domains", "said"),
    [
        (
            {"package-0": "counter", "dram-0": "counter"},
            "Method: meters of CPU packages and memory; the sum is theirs",
        ),
        (
            {"package-0": "modelled"},
            "Method: CPU packages modelled from CPU use, not metered; the sum is theirs",
        ),
        (
            {"package-0": "modelled", "gpu:a": "counter"},
            "Method: meters of GPUs, CPU packages modelled from CPU use, not metered; the sum is theirs",
        ),
        (
            {"package-0": "modelled", "package-1": "counter"},
            "Method: meters of CPU packages, CPU packages in part modelled from CPU use, not metered; the sum is",
        ),
    ],
)
def test_the_method_says_what_was_metered(world: World, capsys: Captured, domains: dict[str, str], said: str) -> None:
    """And what was modelled: never the one for the other."""
    node = world.node("node03")
    run = node.run("5", gpus=["a"] if "gpu:a" in domains else [])
    for name, method in domains.items():
        node.domain(name, {"p": "cpu", "d": "dram", "g": "gpu"}[name[0]], method)
        node.charge(run, name)
    world.say("5", nodes=["node03"])
    account(world.config, NOW)
    ask(world, "5")
    assert said in " ".join(capsys.readouterr().out.split())


def test_the_rest_of_a_node_is_a_line_with_its_method(world: World, capsys: Captured) -> None:
    """A gauge less the parts; the method says what it is, and nothing is said to be missing."""
    node = world.node("node02").redfish()
    node.measured("5").settle({"5": 2500})
    world.say("5", nodes=["node02"])
    account(world.config, NOW)
    ask(world, "5")
    said = capsys.readouterr().out
    assert "\n  Energy        7.50 kJ " in said
    assert "\n    rest        2.50 kJ  node's power, integrated, less the parts\n" in said
    paragraph = " ".join(said.split())
    assert (
        "rest (fans, disks, network and power supplies): what the node's own meter saw beyond them. Use:" in paragraph
    )
    assert "Incomplete" not in said
    assert "Note" not in said


def test_a_node_without_a_meter_of_its_own_is_told_of(world: World, capsys: Captured) -> None:
    """A dash in the table, the method that says what is not in the sum, and no note that says it again."""
    account(world.config, NOW)
    ask(world, "1")
    said = capsys.readouterr().out
    assert "\n    rest              -  not measured: no node meter on node01\n" in said
    assert "the sum is theirs: fans, disks, network and power supplies are not in it" in " ".join(said.split())
    assert "Incomplete" not in said
    assert "Note" not in said


def test_a_job_on_nodes_with_and_without_a_meter(world: World, capsys: Captured) -> None:
    """On how many nodes the rest is known, and which lack it; JSON has it as a flag."""
    world.node("node02").redfish().measured("5").settle({"5": 2500}, known_s=50)
    world.node("node01").measured("5")
    world.say("5", nodes=["node01", "node02"])
    account(world.config, NOW)
    ask(world, "5")
    said = capsys.readouterr().out
    assert "  node's power, integrated, less the parts,\n" in said
    assert f"\n{'':25}on 1 of 2 nodes, known for 50 % of the run\n" in said
    assert "saw beyond them; not in the sum on node01. Use:" in " ".join(said.split())
    assert "Note" not in said
    _, document = answer(world, capsys, "5")
    energy = document["jobs"][0]["energy"]
    assert energy["domains"]["rest"]["coverage"] == 0.5
    assert [flag for flag in energy["flags"] if "rest" in flag] == [
        "rest of the node (fans, board, losses) not measured on node01: there the sum is that of its parts"
    ]


def test_a_calibrated_rest_is_modelled(world: World, capsys: Captured) -> None:
    """It is never told as a measurement."""
    node = world.node("node02").measured("5")
    node.domain("rest", "rest", "modelled", source="calibration")
    node.charge("5", "rest", 2500)
    world.say("5", nodes=["node02"])
    account(world.config, NOW)
    ask(world, "5")
    said = capsys.readouterr().out
    assert "\n    rest        2.50 kJ  by calibration, not measured\n" in said
    assert "power supplies): modelled from them, as calibrated once" in " ".join(said.split())


def test_a_job_that_runs_waits_for_its_rest(world: World, capsys: Captured) -> None:
    """The meter's window is open: what is known of the rest stops before the parts do, and a note says why."""
    node = world.node("node02").redfish()
    node.charge(node.run("7", start=10, end=None), "rest", 400, known_s=20)
    ask(world, "7")
    said = " ".join(capsys.readouterr().out.split())
    assert "Note: the rest of the node comes minutes later: it is settled with the node's meter." in said
    node.db.execute("DELETE FROM ledger WHERE domain = 'rest'")
    ask(world, "7")
    said = " ".join(capsys.readouterr().out.split())
    assert "Note: the rest of the node comes minutes later" in said


def test_what_is_odd_is_told_in_words(world: World, capsys: Captured) -> None:
    """The text has no flag of the daemon's; JSON has them as they are."""
    world.node("node02").measured("5", flags=["package-0 stuck", "node:redfish gap"])
    world.say("5", nodes=["node02"])
    account(world.config, NOW)
    ask(world, "5")
    said = " ".join(capsys.readouterr().out.split())
    assert "Note: node02: the meter of CPU 0 stood still for a time: energy meanwhile is not known." in said
    assert "Note: node02: the node's meter (redfish) was silent for a time: the rest of the node is not known" in said
    _, document = answer(world, capsys, "5")
    assert document["jobs"][0]["energy"]["nodes"]["node02"]["flags"] == ["package-0 stuck", "node:redfish gap"]


def test_a_result_of_an_earlier_release_is_still_told(world: World, capsys: Captured) -> None:
    """It knows nothing of a rest: the line is not there, and the method is that of the parts."""
    account(world.config, NOW)
    with sqlite3.connect(world.results) as db:
        [text] = db.execute("SELECT energy FROM job_result").fetchone()
        energy = json.loads(text)
        del energy["domains"]["rest"]
        db.execute("UPDATE job_result SET energy = ?", (json.dumps(energy),))
    assert ask(world, "1") == 0
    said = capsys.readouterr().out
    assert "    rest" not in said
    assert "the sum is theirs" in " ".join(said.split())


def test_a_range_beside_no_total_says_what_it_covers(world: World, capsys: Captured) -> None:
    """Use only, embodied only, or no table at all."""
    world.node("login7").measured("2")
    world.say("2", nodes=["login7"])
    world.say("3", nodes=["node02"])
    world.say("4", nodes=["login8"])
    account(world.config, NOW)
    for job, expected in (("1", "range\n"), ("2", "range (use only)\n"), ("3", "range (embodied only)\n")):
        ask(world, job)
        assert f"     total  {expected}" in capsys.readouterr().out
    ask(world, "4")
    said = " ".join(capsys.readouterr().out.split())
    assert "Impact not known: use: no energy was measured; embodied: not in the inventory: login8." in said
    assert "Method" not in said
    assert " - " not in said


def test_a_job_that_never_started_says_so_once(world: World, capsys: Captured) -> None:
    """Without figures, and so without their method."""
    world.say("5", state="CANCELLED", start=None, nodes=[])
    account(world.config, NOW)
    ask(world, "5")
    said = capsys.readouterr().out
    assert said.count("never started") == 1
    assert "asked for 4 CPUs, 1 GiB" in said
    assert "Method" not in said


def test_a_job_that_ended_is_preliminary_until_it_is_accounted(world: World, capsys: Captured) -> None:
    """It says so."""
    _, said = answer(world, capsys, "1")
    assert said["jobs"][0]["state"] == "ended, preliminary until the next accounting"


def test_a_requeued_job_shows_the_run_that_is_on_now_too(world: World, capsys: Captured) -> None:
    """The first incarnation from the results, the second from the node."""
    world.say("1", state="REQUEUED")
    account(world.config, NOW)
    node = world.node()
    node.charge(node.run("1", start=300, end=None, restart=1), joules=7, known_s=50)
    _, said = answer(world, capsys, "1")
    assert [(job["state"], job["energy"]["total_j"]) for job in said["jobs"]] == [
        ("REQUEUED", 5000),
        ("in progress", 7),
    ]
    assert [job["name"] for job in said["jobs"]] == ["train", "train"]


def test_a_failed_run_leads_with_what_it_wasted(world: World, capsys: Captured) -> None:
    """5 kJ are visible, and named before anything else."""
    world.say("1", state="FAILED", exit_code="1:0")
    account(world.config, NOW)
    ask(world, "1")
    said = capsys.readouterr().out
    assert "5.00 kJ (0.00139 kWh) spent on a run that failed." in said
    assert said.index("spent on") < said.index("Energy") < said.index("Impact") < said.index("Method")


def test_coverage_below_all_is_said_in_words(world: World, capsys: Captured) -> None:
    """A reader of the text alone learns that half is missing."""
    world.say("1", nodes=["node01", "node02"])
    account(world.config, NOW)
    ask(world, "1")
    assert "Incomplete: energy is known for 50 % of what it held" in capsys.readouterr().out


def test_an_array_is_a_table_with_its_sum(world: World, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line a task; what failed is summed."""
    world.say("6_0")
    world.say("6_1", state="FAILED")
    world.node().measured("6_0")
    world.node().measured("6_1", joules=1000)
    account(world.config, NOW)
    assert ask(world, "6") == 0
    said = capsys.readouterr().out
    assert "job 6: 2 tasks" in said
    assert "1.00 kJ (0.000278 kWh) spent on tasks that did not complete (1 of 2)." in said
    assert re.search(r"^  Energy +6\.00 kJ  0\.00167 kWh$", said, re.MULTILINE)
    assert re.search(r"^  6_1 +FAILED .* 1\.00 kJ +100 % +[\d.]+ mg$", said, re.MULTILINE)
    assert "GWP (climate)" in said
    assert "lacks" not in said
    assert "Accounted 2026-11-20 16:15:00 UTC; tasks that ended later are not among them." in said
    assert max(map(len, said.splitlines())) <= 80


def test_an_array_s_sums_say_what_they_lack(world: World, capsys: Captured) -> None:
    """A part that was not measured is in neither; one half metered is said to be."""
    world.say("6_0", nodes=["node01", "node02"])
    world.say("6_1", nodes=["node02"])
    world.node().measured("6_0")
    account(world.config, NOW)
    ask(world, "6")
    said = capsys.readouterr().out
    assert "The sum of energy lacks 1 of 2: not known.\n  The sum of GWP lacks 1 of 2: not known." in said
    assert "Incomplete: energy is known for 33.3 % of what they held" in said


def test_every_line_fits_80_columns(world: World, capsys: Captured) -> None:
    """Long names, many nodes, long reasons."""
    world.say("2", name="n" * 300, nodes=[f"a-very-long-node-name-{n}" for n in range(40)], account="x" * 90)
    account(world.config, NOW)
    ask(world, "1", "2")
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_hostile_names_reach_no_terminal(world: World, capsys: Captured) -> None:
    """No escape, no control character, no turned direction in the text; JSON keeps the name, escaped."""
    name = "a\x1b]0;owned\x07b\x1b[31mc\r\x00\u202ed\ne"
    world.say("1", name=name, user="al\x1b[2Jice", account="\x9b31m")
    account(world.config, NOW)
    ask(world, "1", "\x1b[31m9")
    said = capsys.readouterr()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", said.out + said.err)
    assert "  abcd e\n" in said.out
    assert ask(world, "1", "--json") == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out)["jobs"][0]["name"] == name


@pytest.mark.parametrize("words", [[], ["--json"], ["1", "--colour"], ["account", "7"], ["account", "--from", "soon"]])
def test_wrong_usage_is_exit_2(world: World, capsys: Captured, words: list[str]) -> None:
    """With a word of help, and no traceback."""
    try:
        status = ask(world, *words)
    except SystemExit as stopped:
        status = int(stopped.code or 0)
    assert status == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["acount", "--from", "2026-11-20"], "'acount' is neither a command nor a job id: did you mean 'account'?"),
        (["1", "boks"], "'boks' is neither a command nor a job id: did you mean 'books'?"),
        (["x\x1b[m"], r"'x\x1b[m' is neither a command nor a job id: see jobimpact --help"),
        (["1", "books"], "'books': a command comes first, and alone"),
        ([""], "no job id is given: see jobimpact --help"),
        ([","], "no job id is given: see jobimpact --help"),
        (["1", " , "], "no job id is given: see jobimpact --help"),
    ],
)
def test_a_word_that_is_no_id_is_wrong_usage(world: World, capsys: Captured, words: list[str], hint: str) -> None:
    """One line with what it may have meant."""
    account(world.config, NOW)
    assert ask(world, *words) == 2
    assert capsys.readouterr() == ("", f"jobimpact: {hint}\n")


def test_demo_takes_no_configuration(world: World, capsys: Captured) -> None:
    """It makes its own: one that is given is refused, not ignored."""
    with pytest.raises(SystemExit) as stopped:
        ask(world, "demo", "--dir", str(world.folder / "demo"))
    assert stopped.value.code == 2
    assert "--config" in capsys.readouterr().err
    assert not (world.folder / "demo").exists()


def test_help_names_the_default_configuration(capsys: Captured) -> None:
    """The one that is read."""
    with pytest.raises(SystemExit):
        main(["books", "--help"])
    assert f"$JOBIMPACT_CONFIG or {config.DEFAULT_PATH}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("command", "module"), [("account", "sqlalchemy"), ("schedule", "sqlalchemy"), ("schedule", "apscheduler")]
)
def test_accounting_without_its_extra_names_it(world: World, command: str, module: str) -> None:
    """One line, exit 2; answers and books need no extra."""
    code = f"import sys; sys.modules[{module!r}] = None; from jobimpact.cli.main import main; sys.exit(main())"
    call = [sys.executable, "-c", code]
    option = ["--config", str(world.config_file)]
    done = subprocess.run([*call, command, *option], capture_output=True, text=True, check=False)
    said = f"jobimpact: {module} is not installed: install the extra, jobimpact[accounting]\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
    assert subprocess.run([*call, "1", *option], capture_output=True, check=False).returncode == 0
    assert subprocess.run([*call, "books", *option], capture_output=True, check=False).returncode == 0


def test_a_wrong_configuration_is_exit_2(world: World, capsys: Captured) -> None:
    """One line, with file and key."""
    world.config_file.write_text("clutser: lab\n")
    assert ask(world, "1") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "clutser: unknown key" in said


def test_the_configuration_is_read_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer waits for it; and a mapping's wrong entry is called by its name."""
    read: list[Path] = []
    whole = config.read_yaml
    monkeypatch.setattr(config, "read_yaml", lambda path: read.append(path) or whole(path))
    assert config.load_config(world.config_file).cluster == "lab"
    assert read == [world.config_file]
    text = world.config_file.read_text()
    world.config_file.write_text(f"{text}node: {{sources: {{rapl: {{idle_w: {{package-0: 3, dram-1: -1}}}}}}}}\n")
    with pytest.raises(ConfigError, match=r": node\.sources\.rapl\.idle_w\.dram-1: expected"):
        config.load_config(world.config_file)


@pytest.mark.parametrize("how", ["corrupt", "newer", "no folder"])
def test_results_that_cannot_be_read_are_exit_3(world: World, capsys: Captured, how: str) -> None:
    """One line, and no traceback."""
    account(world.config, NOW)
    if how == "corrupt":
        world.results.write_bytes(b"garbage" * 1000)
    elif how == "newer":
        with sqlite3.connect(world.results) as db:
            db.execute("PRAGMA user_version = 9")
    else:
        world.config_file.write_text(world.config_file.read_text().replace("///results.db", "///gone/results.db"))
    assert ask(world, "1") == 3
    assert capsys.readouterr().err.count("\n") == 1


def test_what_is_accounted_is_answered_when_the_store_is_away(world: World, capsys: Captured) -> None:
    """The others are told with the reason, once; a job that was started anew may have gone on since."""
    batch(world, ["2"])
    world.say("2", state="NODE_FAIL")
    account(world.config, NOW)
    text = world.config_file.read_text()
    away = 'store: {influxdb: {url: "http://127.0.0.1:9", path: nodes}}'
    world.config_file.write_text(re.sub(r"^store:.*$", away, text, flags=re.MULTILINE))
    assert ask(world, "8", "1", "9", "2") == 3
    said = capsys.readouterr()
    assert re.findall(r"^job (\w+)  (\w+)$", said.out, re.MULTILINE) == [("1", "COMPLETED"), ("2", "NODE_FAIL")]
    *jobs, why = said.err.splitlines()
    assert why == "jobimpact: http://127.0.0.1:9: Connection refused"
    assert [one.partition(", and")[0] for one in jobs] == [
        *("job 8: not in the results", "job 9: not in the results", "job 2: perhaps not all")
    ]
    status, whole = answer(world, capsys, "8", "1")
    assert (status, [one["job"] for one in whole["jobs"]]) == (3, ["1"])
    assert whole["errors"][-1] == why.removeprefix("jobimpact: ")
    assert ask(world, "1") == 0


def test_a_scheduler_that_does_not_answer_is_exit_3(world: World, capsys: Captured) -> None:
    """`account` says which."""
    (world.folder / "jobs.jsonl").unlink()
    assert ask(world, "account") == 3
    assert "jobs.jsonl" in capsys.readouterr().err


def test_account_says_what_it_did(world: World, capsys: Captured) -> None:
    """Twice: new, then unchanged."""
    window = ("--from", "2026-11-20", "--to", "2026-11-20T23:59:59Z")
    assert ask(world, "account", *window) == 0
    assert ask(world, "account", *window) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "1 new, 0 changed, 0 unchanged" in first
    assert "0 new, 0 changed, 1 unchanged" in second


def test_books_balance_or_say_so(world: World, capsys: Captured) -> None:
    """Exit 0 with a difference of 0; 1 and a loud line otherwise."""
    assert ask(world, "books") == 0
    assert "measured = jobs + idle + system" in capsys.readouterr().out
    world.node().db.execute("UPDATE domain SET measured_uj = measured_uj + 1")
    assert ask(world, "books", "--json") == 1
    [line] = json.loads(capsys.readouterr().out)["books"]
    assert (line["measured_uj"], line["jobs_uj"], line["difference_uj"]) == (5_000_000_001, 5_000_000_000, 1)
    assert ask(world, "books") == 1
    said = capsys.readouterr().out
    assert "DO NOT BALANCE" in said
    assert "0.000001" in said


def test_books_of_a_domain_that_nothing_is_known_of_are_not_zero(world: World, capsys: Captured) -> None:
    """A dash, and null with the reason; the totals say that it is not in them."""
    world.node().domain("dram-0", "dram", reason="EIO")
    world.node().domain("dram-1", "dram")
    assert ask(world, "books") == 0
    said = capsys.readouterr().out
    assert re.search(r"^node01  dram-0 +(- +){5}0\.0$", said, re.MULTILINE)
    assert re.search(r"^all +5000\.000000 ", said, re.MULTILINE)
    assert "Not in the totals: 2 of 3 domains.\n  node01 dram-0: EIO\n" in said
    assert ask(world, "books", "--json") == 0
    cpu, dram, other = json.loads(capsys.readouterr().out)["books"]
    assert (cpu["measured_uj"], cpu["known_s"], "reason" in cpu) == (5_000_000_000, 100, False)
    assert {dram[key] for key in dram if key.endswith("_uj")} == {None}
    assert (dram["reason"], other["reason"]) == ("EIO", "nothing is known of it yet")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1795190300", T0),
        ("2026-11-20T15:58:20", T0),
        ("2026-11-20T16:58:20+01:00", T0),
        ("2026-11-20", T0 - 15 * 3600 - 58 * 60 - 20),
    ],
)
def test_times_as_people_write_them(text: str, expected: int) -> None:
    """UTC where no zone is given, whatever the machine's is."""
    assert moment(text) == expected


def test_a_time_that_is_none_is_told() -> None:
    """With how one looks."""
    with pytest.raises(ConfigError, match="'soon': not a time"):
        moment("soon")


def test_a_finished_job_is_answered_without_heavy_imports(world: World) -> None:
    """No SQLAlchemy, no APScheduler, no ClusterShell, no scheduler: they cost more than the answer."""
    account(world.config, NOW)
    code = (
        "import sys; from jobimpact.cli.main import main; "
        f"status = main(['1', '--config', {str(world.config_file)!r}]); "
        "heavy = {'sqlalchemy', 'apscheduler', 'ClusterShell', 'asyncio', 'jobimpact.nightly'} & set(sys.modules); "
        "print(sorted(heavy), status, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[] 0\n"


def test_the_schedule_waits_for_its_hour(world: World) -> None:
    """It says when, and goes on until it is told to stop."""
    code = "import sys; from jobimpact.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "schedule", "--config", str(world.config_file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        while "02:30" not in said and process.poll() is None:
            said += process.stderr.readline()
        assert process.poll() is None
        process.terminate()
    assert "accounting every night at 02:30" in said
