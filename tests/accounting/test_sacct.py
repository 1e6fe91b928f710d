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

from jobimpact.core.config import each_cluster, load_config
from jobimpact.core.errors import SchedulerError
from jobimpact.schedulers import job_source
from jobimpact.schedulers.sacct import Sacct
from jobimpact.schedulers.sacct_rows import FIELDS, UNIT_SEPARATOR, parse_rows, parse_tres, read_rows

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
how = json.load(open(os.path.join(folder, "how.json")))
if os.path.basename(sys.argv[0]) == "sacctmgr":
    print(*how["clusters"], sep="\\n")
    sys.exit(0)
if sys.argv[1:] == ["--helpformat"]:
    print(*how.get("fields", @FIELDS@), sep="   ")
    sys.exit(0)
with open(os.path.join(folder, "asked.json"), "w") as file:
    json.dump({{"argv": sys.argv[1:], "env": dict(os.environ)}}, file)
delimiter = next(a.partition("=")[2] for a in sys.argv if a.startswith("--delimiter="))[: how["keeps"]]
for row in how["rows"]:
    sys.stdout.buffer.write(delimiter.join(row).encode("utf-8", "surrogateescape") + b"\\n")
sys.stderr.write(how["stderr"])
sys.exit(how["rc"])
""".replace("@FIELDS@", repr(FIELDS))


def row(**changes: str) -> list[str]:
    return [(ROW | changes)[field] for field in FIELDS]


def text(*rows: list[str], delimiter: str = UNIT_SEPARATOR) -> str:
    return "".join(delimiter.join(one) + "\n" for one in rows)


Fake = Callable[..., Path]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """A `sacct` on PATH that prints what it is told to, parted by the delimiter that it is given."""

    def make(*rows: list[str], rc: int = 0, stderr: str = "", keeps: int | None = None, **more: object) -> Path:
        for name in ("sacct", "sacctmgr"):
            program = tmp_path / name
            program.write_text(FAKE.format(python=sys.executable))
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        how = {"rows": rows, "rc": rc, "stderr": stderr, "keeps": keeps, "clusters": ["lab", "other"], **more}
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
    assert (job.key, job.job_id, job.raw_id, job.cluster) == ("123@1795190300", "123", "123", "here")
    assert (job.start_s, job.end_s, job.elapsed_s) == (1795190301, 1795190401, 100)
    assert (job.nodes, job.cpus, job.mem_bytes, job.gpus) == (("node03", "node04"), 2, 500 * 2**20, 2)
    assert job.raw["timelimitraw"] == "60"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("60", 3600.0),
        *((none, None) for none in ("", "0", "UNLIMITED", "Partition_Limit", "4294967295", "-5", "\u0663", "9" * 40)),
    ],
)
def test_a_time_limit_is_minutes_or_none(told: str, expected: float | None) -> None:
    """What is no number of minutes is no limit that is known, and costs no record."""
    found = parse_rows(text(row(timelimitraw=told)), UNIT_SEPARATOR, "lab")
    assert ([one.time_limit_s for one in found.records], found.problems) == ([expected], ())


@pytest.mark.parametrize(("ask", "of"), [(None, ["--local"]), ("lab", ["-M", "lab"])])
def test_the_command_is_the_one_every_version_has(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, ask: str | None, of: list[str]
) -> None:
    """All users, one cluster, allocations only, duplicates, epochs in UTC, ended states, a secret delimiter."""
    folder = fake(row())
    monkeypatch.setenv("TZ", "Europe/Paris")
    monkeypatch.setenv("SACCT_FEDERATION", "1")
    Sacct("here", ask=ask).finished(0, 1795200000)
    asked = json.loads((folder / "asked.json").read_text())
    assert (asked["env"]["TZ"], asked["env"]["SLURM_TIME_FORMAT"]) == ("UTC", "%s")
    assert "SACCT_FEDERATION" not in asked["env"]
    argv = asked["argv"]
    assert argv[:5] == ["-a", "-X", "-D", "-n", "-P"]
    window = ["-S", "uts1000000", "-E", "uts1795200000", "-s", "CD,F,TO,CA,NF,OOM,PR,DL,BF,RQ,RS"]
    assert argv[6:] == [*of, *window, "-o", ",".join(FIELDS)]
    first = argv[5]
    Sacct("here").finished(0, 1795200000)
    assert first.startswith("--delimiter=\x1f")
    assert json.loads((folder / "asked.json").read_text())["argv"][5] != first


COMMENTED = (*FIELDS, "comment", "dbindex")


@pytest.mark.parametrize(
    ("comment", "labels"),
    [
        ("", {}),
        ("for Tuesday's talk", {}),
        ("run 7 jobimpact:model=resnet50,steps=90000 again", {"model": "resnet50", "steps": "90000"}),
        ("a\nb\n123\x1f124|x\njobimpact:model=gpt\n", {"model": "gpt"}),
        ("jobimpact:model=\x1b[31m,steps=7", {"steps": "7"}),
        ("jobimpact:" + "x" * 60_000 + ",model=a", {"model": "a"}),
    ],
)
def test_labels_are_read_from_comments_of_which_nothing_else_is_kept(
    fake: Fake, comment: str, labels: dict[str, str]
) -> None:
    """Whatever a user wrote there, newlines and separators too: this row is whole, and so is the next."""
    fake([*row(), comment, "7"], [*row(jobidraw="124"), "", "8"], fields=COMMENTED)
    found = Sacct("here").finished(0, 1)
    assert found.problems == ()
    assert [(one.raw_id, one.labels, one.raw["dbindex"]) for one in found.records] == [
        ("123", labels, "7"),
        ("124", {}, "8"),
    ]
    assert all("comment" not in one.raw for one in found.records)


def test_a_comment_is_never_asked_for_as_the_last_field(fake: Fake) -> None:
    """There a newline in it would look like the row's end."""
    folder = fake(row(), fields=(*FIELDS, "Comment"))
    assert len(Sacct("here").finished(0, 1).records) == 1
    assert json.loads((folder / "asked.json").read_text())["argv"][-1] == ",".join(FIELDS)


def test_fields_are_asked_for_where_the_version_has_them(fake: Fake) -> None:
    """Case does not matter, others are left alone, and an index beyond 64 bits with a sign stays a text."""
    index = "17633430817157663744"
    fields = [field.upper() for field in (*FIELDS, "DBIndex", "Restarts", "Exclusive", "WorkDir")]
    folder = fake([*row(), index, "NODE", "2"], [*row(jobidraw="124"), index, "USER", "0"], fields=fields)
    job, other = Sacct("here").finished(0, 1).records
    assert (job.raw["dbindex"], job.raw["restarts"], job.raw["nodelist"]) == (index, "2", "node[03-04]")
    assert (job.exclusive, other.exclusive) == (True, False)
    assert json.loads((folder / "asked.json").read_text())["argv"][-1] == ",".join(
        (*FIELDS, "dbindex", "exclusive", "restarts")
    )
    fake(row(), fields=[field for field in FIELDS if field not in {"uid", "elapsedraw"}])
    with pytest.raises(SchedulerError, match=r"no field uid, elapsedraw: Slurm 21\.08 or later"):
        Sacct("here").finished(0, 1)


def test_rows_of_another_cluster_are_no_records(fake: Fake) -> None:
    """Their ids could be those of this cluster's jobs. Case does not matter to Slurm."""
    fake(row(), row(jobidraw="124", cluster="other"), row(jobidraw="125"))
    found = Sacct("here", ask="Lab").finished(0, 1)
    assert [(job.raw_id, job.cluster) for job in found.records] == [("123", "here"), ("125", "here")]
    assert "of cluster 'other'" in str(found.problems[0])


def test_a_cluster_that_slurmdbd_does_not_have_is_told(fake: Fake) -> None:
    """Slurm itself answers with no jobs; so it does for a cluster that had none."""
    fake()
    assert Sacct("here", ask="OTHER").finished(0, 1).records == ()
    with pytest.raises(SchedulerError, match=r"no cluster 'lap' \(it has lab, other\)"):
        Sacct("here", ask="lap").finished(0, 1)


def test_each_configured_cluster_has_a_source_that_asks_for_it(fake: Fake, tmp_path: Path) -> None:
    """Under its own name; without a list, the one that sacct is set up for."""
    folder = fake(row(cluster="other"))
    config = tmp_path / "jobimpact.yaml"
    config.write_text("cluster: mine\nscheduler: {slurm: {clusters: [lab, other]}}\n")
    _, other = each_cluster(load_config(config))
    [job] = job_source(other).finished(0, 1).records
    assert job.cluster == "other"
    assert json.loads((folder / "asked.json").read_text())["argv"][6:8] == ["-M", "other"]
    config.write_text("cluster: mine\nscheduler: {slurm: {}}\n")
    [job] = job_source(load_config(config)).finished(0, 1).records
    assert job.cluster == "mine"
    assert "-M" not in json.loads((folder / "asked.json").read_text())["argv"]


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
        ({"cluster": "lab"}, {"cluster": "here"}),
        ({"start": "0", "end": "0"}, {"start_s": None, "end_s": None}),
        ({"end": "Unknown", "state": "RUNNING"}, {"end_s": None, "elapsed_s": 100}),
        ({"end": "1795190301", "elapsedraw": "0"}, {"end_s": 1795190301, "elapsed_s": 0}),
        ({"suspended": "00:00:40", "elapsedraw": "60"}, {"start_s": 1795190301, "end_s": 1795190401, "elapsed_s": 60}),
        ({"state": "REVOKED"}, {"start_s": None, "nodes": ()}),
        ({"state": "PENDING", "jobid": "6_[0-99999%4]"}, {"start_s": None, "nodes": (), "array_id": "6"}),
        ({"start": "1795190200", "elapsedraw": "201"}, {"start_s": 1795190300, "elapsed_s": 101}),
        ({"alloctres": "cpu=2,energy=18446744073709551613,mem=1M,bb/x=a"}, {"cpus": 2, "mem_bytes": 2**20}),
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
        ({"nodelist": "../../etc/passwd"}, "not one of nodes' names"),
        ({"nodelist": "node[1-99999999]"}, "more nodes than there can be"),
        ({"nodelist": "n[1-999]m[1-999]"}, "more nodes than there can be"),
        ({"nodelist": "node[1-99999999999999999999]"}, "more nodes than there can be"),
        ({"nodelist": "node[1 - 99999999]"}, "not one of nodes' names"),
        ({"alloctres": f"cpu={'9' * 400}"}, "resource"),
        ({"submit": "0"}, "no submit time"),
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


def test_an_output_that_breaks_off_within_the_last_field_is_a_problem() -> None:
    """`node01` may have been to be `node012`: a row without its newline is no row."""
    found = parse_rows(text(row(), row(jobidraw="124"))[:-1], UNIT_SEPARATOR, "here")
    assert [job.raw_id for job in found.records] == ["123"]
    assert "it breaks off" in str(found.problems[0])


TOKEN = f"{UNIT_SEPARATOR}0123456789abcdef"


@pytest.mark.parametrize("cut", [1, 5, 12, len(FIELDS) - 1])
def test_a_row_that_lost_fields_costs_no_other(cut: int) -> None:
    """Not even one whose name has newlines, digits and the delimiter's first character."""
    name = "a\n5\x1f6\x1f\n7"
    short = text(row(jobidraw="1")[:cut], delimiter=TOKEN)
    good = text(row(jobidraw="2", jobname=name), row(jobidraw="3"), delimiter=TOKEN)
    found = parse_rows(short + good + short + good, TOKEN, "here")
    assert [(job.raw_id, job.name) for job in found.records] == [("2", name), ("3", "train")] * 2
    assert [f"{cut} fields, not {len(FIELDS)}" in str(problem) for problem in found.problems] == [True, True]


def test_what_never_ends_is_given_up_and_the_rows_after_it_are_read() -> None:
    """Lines without fields, and a line without an end, are no rows; they are not held as a whole either."""
    noise = ("x" * 99 + "\n") * 20000 + "y" * (1 << 21) + "\n"
    found = parse_rows(text(row(), delimiter=TOKEN) + noise + text(row(), delimiter=TOKEN), TOKEN, "here")
    assert [job.raw_id for job in found.records] == ["123", "123"]
    assert 2 <= len(found.problems) <= 30
    assert all(len(str(problem)) < 200 for problem in found.problems)


def test_rows_are_read_alike_whatever_the_pieces() -> None:
    """The pipe cuts anywhere."""
    rows = [row(jobidraw=str(number), jobname="caf\N{LATIN SMALL LETTER E WITH ACUTE}\n\n") for number in range(9)]
    whole = text(*rows, delimiter=TOKEN).encode()
    expected = read_rows([whole], TOKEN, "here")
    assert len(expected.records) == 9
    for size in (1, 2, 7, 300):
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        assert read_rows(pieces, TOKEN, "here") == expected


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


@pytest.mark.parametrize("script", ["exec sleep 600", "sleep 600", "echo; exec >&-; sleep 600", "sleep 600 &"])
def test_a_sacct_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """After the deadline there is an error, not a stuck night; nor does what a wrapper has started stay."""
    program = tmp_path / "sacct"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(SchedulerError, match=r"no answer within 0\.2 s"):
        Sacct("here", timeout_s=0.2).finished(0, 1)


def test_words_beside_the_rows_are_told(fake: Fake) -> None:
    """A complaint with exit status 0 is a problem beside rows, and an error in place of them."""
    fake(row(), stderr="sacct: error: Too wide of a date range in query\n" * 9000)
    found = Sacct("here").finished(0, 1)
    assert [job.raw_id for job in found.records] == ["123"]
    assert "sacct said: sacct: error: Too wide" in str(found.problems[0])
    fake(stderr="sacct: error: Too wide of a date range in query\n")
    with pytest.raises(SchedulerError, match="Too wide of a date range"):
        Sacct("here").finished(0, 1)
    fake(row(), stderr="slurm: warning: old\n")
    assert Sacct("here").finished(0, 1).problems == ()
