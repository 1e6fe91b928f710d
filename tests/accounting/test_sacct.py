"""Slurm's records: the command that is run, and rows as hostile as users can make them."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobimpact.core.errors import SchedulerError
from jobimpact.schedulers.sacct import FIELDS, UNIT_SEPARATOR, Sacct, parse_rows, parse_tres

ROW = {
    "jobidraw": "123",
    "jobid": "123",
    "cluster": "lab",
    "user": "alice",
    "uid": "2001",
    "account": "physics",
    "partition": "main",
    "qos": "normal",
    "jobname": "train",
    "state": "COMPLETED",
    "exitcode": "0:0",
    "submit": "1795190300",
    "eligible": "1795190300",
    "start": "1795190301",
    "end": "1795190401",
    "elapsedraw": "100",
    "suspended": "00:00:00",
    "timelimitraw": "60",
    "reqtres": "billing=2,cpu=2,mem=500M,node=1",
    "alloctres": "billing=2,cpu=2,gres/gpu:a100=2,gres/gpu=2,mem=500M,node=1",
    "ncpus": "2",
    "nnodes": "2",
    "nodelist": "node[03-04]",
}

FAKE = """#!{python}
import json, os, sys
folder = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(folder, "asked.json"), "w") as file:
    json.dump({{"argv": sys.argv[1:], "TZ": os.environ.get("TZ"), "form": os.environ.get("SLURM_TIME_FORMAT")}}, file)
how = json.load(open(os.path.join(folder, "how.json")))
delimiter = next(a.partition("=")[2] for a in sys.argv if a.startswith("--delimiter="))[: how["keeps"]]
for row in how["rows"]:
    sys.stdout.buffer.write(delimiter.join(row).encode("utf-8", "surrogateescape") + b"\\n")
sys.stderr.write(how["stderr"])
sys.exit(how["rc"])
"""


def row(**changes: str) -> list[str]:
    return [(ROW | changes)[field] for field in FIELDS]


def text(*rows: list[str], delimiter: str = UNIT_SEPARATOR) -> str:
    return "".join(delimiter.join(one) + "\n" for one in rows)


Fake = Callable[..., Path]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """A `sacct` on PATH that prints what it is told to, parted by the delimiter that it is given."""

    def make(*rows: list[str], rc: int = 0, stderr: str = "", keeps: int | None = None) -> Path:
        program = tmp_path / "sacct"
        program.write_text(FAKE.format(python=sys.executable))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        how = {"rows": rows, "rc": rc, "stderr": stderr, "keeps": keeps}
        (tmp_path / "how.json").write_text(json.dumps(how))
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        return tmp_path

    return make


def test_a_record_of_every_kind_of_field(fake: Fake) -> None:
    """Times are epochs, nodes are names, GPUs are counted once, and Slurm's own words are kept."""
    fake(row())
    found = Sacct("here").finished(1795190000, 1795200000)
    assert found.problems == ()
    [job] = found.records
    assert (job.key, job.job_id, job.raw_id, job.cluster) == ("123@1795190300", "123", "123", "lab")
    assert (job.start_s, job.end_s, job.elapsed_s) == (1795190301, 1795190401, 100)
    assert (job.nodes, job.cpus, job.mem_bytes, job.gpus) == (("node03", "node04"), 2, 500 * 2**20, 2)
    assert job.raw["timelimitraw"] == "60"


def test_the_command_is_the_one_every_version_has(fake: Fake) -> None:
    """All users, allocations only, duplicates, epochs in UTC, finished states, and a delimiter nobody can guess."""
    folder = fake(row())
    Sacct("here").finished(0, 1795200000)
    asked = json.loads((folder / "asked.json").read_text())
    assert (asked["TZ"], asked["form"]) == ("UTC", "%s")
    argv = asked["argv"]
    assert argv[:5] == ["-a", "-X", "-D", "-n", "-P"]
    assert argv[6:] == [
        "-S",
        "uts1000000",
        "-E",
        "uts1795200000",
        "-s",
        "CD,F,TO,CA,NF,OOM,PR,DL,BF,RQ",
        "-o",
        ",".join(FIELDS),
    ]
    first = argv[5]
    Sacct("here").finished(0, 1795200000)
    assert first.startswith("--delimiter=\x1f")
    assert json.loads((folder / "asked.json").read_text())["argv"][5] != first


def test_a_sacct_that_keeps_one_character_of_the_delimiter_is_read_too(fake: Fake) -> None:
    """The fields are then parted by the unit separator."""
    fake(row(), row(jobidraw="124"), keeps=1)
    assert [job.raw_id for job in Sacct("here").finished(0, 1).records] == ["123", "124"]


def test_a_name_cannot_forge_a_row(fake: Fake) -> None:
    """A job whose name is a whole row of another user, in unit separators, is one job with a strange name."""
    forged = "x\n" + UNIT_SEPARATOR.join(row(jobidraw="666", user="bob")) + "\ny"
    fake(row(jobname=forged), row(jobidraw="124"))
    found = Sacct("here").finished(0, 1)
    assert [(job.raw_id, job.user) for job in found.records] == [("123", "alice"), ("124", "alice")]
    assert found.records[0].name == forged


def test_bytes_that_are_no_utf8_are_replaced(fake: Fake) -> None:
    """A name in Latin-1 costs its letters, not the night."""
    fake(row(jobname="caf\udce9"), row(jobidraw="124"))
    names = [job.name for job in Sacct("here").finished(0, 1).records]
    assert names == ["caf\N{REPLACEMENT CHARACTER}", "train"]


hostile = st.text(st.characters(codec="utf-8")).map(lambda name: name.replace("\x1fdelimiter", ""))


@given(st.lists(hostile, max_size=5))
def test_every_name_survives(names: list[str]) -> None:
    """Pipes, newlines, separators, quotes, emoji: names come out as they went in, and rows stay whole."""
    rows = [row(jobidraw=str(number), jobname=name) for number, name in enumerate(names)]
    found = parse_rows(text(*rows, delimiter="\x1fdelimiter"), "\x1fdelimiter", "here")
    assert found.problems == ()
    assert [(job.raw_id, job.name) for job in found.records] == [(str(n), name) for n, name in enumerate(names)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"state": "CANCELLED by 2001"}, {"state": "CANCELLED"}),
        (
            {"start": "None", "nodelist": "None assigned", "alloctres": ""},
            {"start_s": None, "nodes": (), "gpus": None},
        ),
        ({"start": "Unknown"}, {"start_s": None}),
        ({"nodelist": "None assigned", "alloctres": ""}, {"start_s": None, "cpus": None, "elapsed_s": 100}),
        ({"user": ""}, {"user": "2001"}),
        ({"account": "", "partition": ""}, {"account": None, "partition": None}),
        ({"cluster": ""}, {"cluster": "here"}),
        ({"jobid": "6_3", "jobidraw": "6"}, {"job_id": "6_3", "raw_id": "6"}),
        ({"jobid": "10+1", "jobidraw": "11"}, {"job_id": "10+1", "key": "11@1795190300"}),
        ({"alloctres": "cpu=2,mem=1.50G,node=1"}, {"mem_bytes": 3 * 2**29, "gpus": 0}),
        ({"alloctres": "cpu=2,gres/gpu:a100=1,gres/gpu:v100=2"}, {"gpus": 3}),
    ],
)
def test_slurm_s_ways_of_saying_things(change: dict[str, str], expected: dict[str, object]) -> None:
    """States with a name in them, times that are not, unassigned nodes, arrays and heterogeneous jobs."""
    [job] = parse_rows(text(row(**change)), UNIT_SEPARATOR, "here").records
    assert {name: getattr(job, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"jobidraw": "abc"}, "jobidraw 'abc'"),
        ({"submit": "Unknown"}, "no submit time"),
        ({"start": "soon"}, "start 'soon'"),
        ({"alloctres": "cpu=lots"}, "cpu=lots"),
        ({"nodelist": "node[1-"}, "node list"),
        ({"nodelist": "../../etc/passwd"}, "not a node's name"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_and_the_others_go_on(change: dict[str, str], said: str) -> None:
    """One bad row is one problem."""
    found = parse_rows(text(row(jobidraw="1"), row(**change), row(jobidraw="2")), UNIT_SEPARATOR, "here")
    assert [job.raw_id for job in found.records] == ["1", "2"]
    [problem] = found.problems
    assert said in str(problem)


def test_an_output_that_breaks_off_is_a_problem() -> None:
    """The last row without all its fields is named, not dropped."""
    whole = text(row(), row(jobidraw="124"))
    found = parse_rows(whole[:-40], UNIT_SEPARATOR, "here")
    assert [job.raw_id for job in found.records] == ["123"]
    assert "124" in str(found.problems[0])


@pytest.mark.parametrize(("given", "mem"), [("1K", 2**10), ("2M", 2**21), ("3", 3 * 2**20), ("1.5T", 3 * 2**39)])
def test_memory_s_suffixes(given: str, mem: int) -> None:
    """K, M, G, T are binary; without one it is MiB."""
    assert parse_tres(f"mem={given}")["mem"] == mem


def test_a_sacct_that_fails_is_told_in_its_own_words(fake: Fake) -> None:
    """Exit status and stderr are in the error."""
    fake(rc=1, stderr="sacct: error: Problem talking to the database\n")
    with pytest.raises(SchedulerError, match="exit 1: sacct: error: Problem talking to the database"):
        Sacct("here").finished(0, 1)


def test_no_sacct_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Slurm."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SchedulerError, match="not found on PATH"):
        Sacct("here").finished(0, 1)


def test_a_sacct_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the deadline there is an error, not a stuck night."""
    program = tmp_path / "sacct"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(SchedulerError, match=r"no answer within 0\.2 s"):
        Sacct("here", timeout_s=0.2).finished(0, 1)
