"""Several clusters of one slurmdbd: each one's jobs, nodes, idle time, PUE and electricity are its own."""

from __future__ import annotations

import json
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.accounting.world import T0, World, record

from jobimpact.cli.main import main
from jobimpact.core.config import each_cluster
from jobimpact.core.errors import ConfigError
from jobimpact.nightly.accounts import Accounts
from jobimpact.nightly.night import account
from jobimpact.schedulers.sacct_rows import FIELDS

CONFIG = """
store: {local: {path: nodes}}
results: sqlite:///results.db
scheduler: {slurm: {clusters: [near, far]}}
inventory: nodes.yaml
grid: {zone: FRA}
"""
INVENTORY = """
types:
  near:
    cluster: near
    nodes: node[01-02]
    pue: 1.2
    cpu: {model: Intel Xeon Gold 6148, count: 2, cores: 20}
    ram_gb: 100
  far:
    cluster: far
    nodes: arctic01
    pue: 1.6
    zone: POL
    cpu: {model: Intel Xeon Gold 6148, count: 2, cores: 20}
    ram_gb: 100
shared:
  switch: {gwp_kgco2e: 300, power_w: 100}
"""
SACCT = """#!/bin/sh
# Answers for the cluster that -M names; which fields there are goes by how it is asked.
for word; do
  case "$last" in -M) cluster=$word ;; esac
  case "$word" in --helpformat) cat "$ROWS/fields"; exit 0 ;; --delimiter=*) mark=${word#--delimiter=} ;; esac
  case "$last" in -o) fields=$word ;; esac
  last=$word
done
no="sacct: error: '$cluster' can't be reached now, or it is an invalid entry for --cluster"
[ -e "$ROWS/$cluster" ] || { echo "$no" >&2; exit 1; }
exec python3 "$ROWS/answer.py" "$ROWS/$cluster" "$fields" "$mark"
"""
ANSWER = """
import json, sys
path, fields, mark = sys.argv[1:]
for row in json.load(open(path)):
    print(mark.join(row.get(field, "") for field in fields.split(",")))
"""


def row(cluster: str, job: str, node: str) -> dict[str, str]:
    times = {"submit": str(T0), "start": str(T0), "end": str(T0 + 100), "elapsedraw": "100"}
    who = {"cluster": cluster, "jobidraw": job, "jobid": job, "user": "alice", "state": "COMPLETED", "jobname": "j"}
    return who | times | {"nodelist": node, "alloctres": "cpu=10,mem=10G,node=1", "exitcode": "0:0"}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Two clusters with a job of the same id each, measured at the same joules."""
    world = World(tmp_path, CONFIG, INVENTORY)
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "answer.py").write_text(ANSWER)
    (rows / "fields").write_text(" ".join(FIELDS))
    for cluster, node in (("near", "node01"), ("far", "arctic01")):
        (rows / cluster).write_text(json.dumps([row(cluster, "7", node)]))
        db = world.node(node).measured("7", joules=3.6e6).db
        db.execute("INSERT OR REPLACE INTO meta VALUES ('cluster', ?)", (cluster,))
    program = tmp_path / "bin" / "sacct"
    program.parent.mkdir()
    program.write_text(SACCT)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("ROWS", str(rows))
    return world


def told(world: World, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(world.results) as db:
        return db.execute(query).fetchall()


def test_each_cluster_has_its_own_rows_pue_and_electricity(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The same id in both: two rows, each with the PUE and the zone of its nodes."""
    window = ["--from", str(T0 - 60), "--to", str(T0 + 200)]
    assert main(["account", "--config", str(world.config_file), *window]) == 0
    said = capsys.readouterr()
    assert [line.partition(":")[0] for line in said.out.splitlines()] == ["near", "far"]
    assert said.out.count("1 new") == 2
    assert said.err == ""
    factors = {cluster: json.loads(text) for cluster, text in told(world, "SELECT cluster, factors FROM job_result")}
    assert {cluster: one["pue"] for cluster, one in factors.items()} == {"near": 1.2, "far": 1.6}
    assert main(["account", "--config", str(world.config_file), *window]) == 0
    assert capsys.readouterr().out.count("0 new, 0 changed, 1 unchanged") == 2


def test_jobs_of_one_id_are_two_before_they_are_accounted_for(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with its own node, joules and PUE, as they will be in the results."""
    assert main(["7", "--json", "--config", str(world.config_file)]) == 0
    jobs = json.loads(capsys.readouterr().out)["jobs"]
    assert {one["cluster"]: one["nodes"] for one in jobs} == {"near": ["node01"], "far": ["arctic01"]}
    assert {one["cluster"]: one["factors"]["pue"] for one in jobs} == {"near": 1.2, "far": 1.6}
    assert [one["energy"]["total_j"] for one in jobs] == [3.6e6, 3.6e6]


def test_of_several_clusters_each_report_names_its_own(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Of one there is nothing to name."""
    window = ["--from", str(T0 - 60), "--to", str(T0 + 200)]
    assert main(["account", "--config", str(world.config_file), *window]) == 0
    capsys.readouterr()
    assert main(["7", "--config", str(world.config_file)]) == 0
    out = capsys.readouterr().out
    named = sorted(line.strip() for line in out.splitlines() if line.startswith("  cluster "))
    assert named == ["cluster far", "cluster near"]
    assert main(["7", "-M", "near", "--config", str(world.config_file)]) == 0
    assert "  cluster " not in capsys.readouterr().out


def test_a_cluster_that_does_not_answer_holds_up_no_other(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Its error is told, the status is 3, and the other's jobs are accounted for."""
    (world.folder / "rows" / "near").unlink()
    assert main(["account", "--config", str(world.config_file), "--from", str(T0 - 60), "--to", str(T0 + 200)]) == 3
    said = capsys.readouterr()
    assert said.out.startswith("far: jobs that ended")
    assert "invalid entry for --cluster" in said.err
    assert told(world, "SELECT cluster FROM job_result") == [("far",)]


def test_a_cluster_that_is_configured_wrongly_holds_up_no_other(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A zone that is none is told; the other cluster's jobs are accounted for. What is wrong for all is said once."""
    window = ["--config", str(world.config_file), "--from", str(T0 - 60), "--to", str(T0 + 200)]
    file = world.folder / "nodes.yaml"
    file.write_text(INVENTORY.replace("cluster: near", "cluster: near\n    zone: XXX"))
    assert main(["account", *window]) == 2
    assert "types.near.zone" in capsys.readouterr().err
    assert told(world, "SELECT cluster FROM job_result") == [("far",)]
    file.write_text("types: 7")
    assert main(["account", *window]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_another_cluster_s_nodes_are_no_strangers_and_not_idle(world: World) -> None:
    """Runs in the books of one cluster's nodes are not asked for in the other's records; each has its own nodes."""
    near, far = each_cluster(world.config)
    for one, nodes in ((near, {"node01", "node02"}), (far, {"arctic01"})):
        report = account(one, T0 + 30 * 86400.0, T0 - 60, T0 + 29 * 86400)
        assert report.problems == ()
        with Accounts(one) as accounts:
            assert set(accounts.inventory.type_of_node) == nodes
            assert [run.node for run in accounts.energy.ended(0, 2e9)[0]] == [min(nodes - {"node02"})]
            # The switch is of all three.
            assert accounts.inventory.served == {"switch": ("node01", "node02", "arctic01")}
            assert accounts.assessor.shared(min(nodes))[0].embodied["gwp_kgco2e"].central * 3 == pytest.approx(
                300 / (4 * 8766)
            )


def test_each_cluster_s_manufacture_has_books_of_its_own(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """November closes in December: hardware = jobs + idle shares + true-up, for each cluster's nodes alone."""
    begin = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp())
    for one in each_cluster(world.config):
        assert account(one, T0 + 30 * 86400.0, begin, T0 + 29 * 86400).closed == ("2026-11",)
    books = ["books", "--embodied", "2026", "--config", str(world.config_file)]
    assert main([*books, "--json"]) == 0
    found = {one["cluster"]: one["lines"] for one in json.loads(capsys.readouterr().out)["clusters"]}
    cpus = {cluster: line for cluster, lines in found.items() for line in lines if line["component"] == "cpu"}
    assert {cluster: line["node_type"] for cluster, line in cpus.items()} == {"near": "near", "far": "far"}
    assert {cluster: line["available_h"] for cluster, line in cpus.items()} == {"near": 1440, "far": 720}
    switch = {cluster: line for cluster, lines in found.items() for line in lines if line["component"] == "switch"}
    assert switch["near"]["hardware"][0] == pytest.approx(2 * switch["far"]["hardware"][0])
    assert main(books) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.startswith("Cluster")] == ["Cluster near", "Cluster far"]


def test_a_type_that_does_not_say_whose_it_is_is_refused(world: World) -> None:
    """With several clusters, its idle time would be both's."""
    (world.folder / "nodes.yaml").write_text(INVENTORY.replace("    cluster: far\n", ""))
    with pytest.raises(ConfigError, match=r"nodes\.yaml: types\.far\.cluster: missing"):
        account(each_cluster(world.config)[0], T0 + 1000.0)


def test_one_cluster_s_configuration_is_as_it_was(tmp_path: Path) -> None:
    """Without `clusters` there is the one that `cluster` names, and no type needs to say so."""
    world = World(tmp_path)
    assert each_cluster(world.config) == [world.config]
    assert record().cluster == world.config.cluster
