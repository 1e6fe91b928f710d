"""Jobs that no node's books have, where the site asks for an estimate: flagged, and gone when a measurement comes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.accounting.world import CONFIG, T0, World

from jobimpact.nightly.estimate import ESTIMATED
from jobimpact.nightly.night import account, recompute
from jobimpact.results.read import Reader
from jobimpact.results.record import JobResult

NOW = T0 + 10_000.0
INVENTORY = """
pue: 1.5
types:
  thin:
    nodes: node[01-02]
    cpu: {model: Intel Xeon Gold 6148, count: 2, cores: 20}
    ram_gb: 100
    gpus: [{model: NVIDIA A100-SXM4-80GB, count: 4}]
    load_w: LOAD
"""
ALL = "{cpu: 400, ram: 100, gpu: 1600, rest: 200}"
GONE = "no file of this node in the store"


def site(folder: Path, load: str = ALL) -> World:
    return World(folder, CONFIG, INVENTORY.replace("LOAD", load))


def one(world: World, job: str = "1") -> JobResult:
    reader = Reader(world.config.results)
    [found] = reader.find(job)
    reader.close()
    return found


def test_an_unmeasured_job_is_estimated_by_its_shares(tmp_path: Path) -> None:
    """100 s with 10 of 40 CPUs, a tenth of the memory and one of four GPUs; the rest by the largest share."""
    world = site(tmp_path)
    world.say(cpus=10, mem_bytes=10 * 2**30, gpus=1)
    report = account(world.config, NOW)
    assert (report.new, report.estimated, report.not_measured) == (1, 1, 0)
    found = one(world)
    domains = found.energy["nodes"]["node01"]["domains"]
    assert {name: domain["energy_j"] for name, domain in domains.items()} == {
        "cpu": 10_000.0,
        "dram": 1_000.0,
        "gpu": 40_000.0,
        "rest": 5_000.0,
    }
    assert {domain["method"] for domain in domains.values()} == {"modelled"}
    assert found.energy_j == 56_000.0
    assert found.energy["nodes"]["node01"]["state"] == "estimated"
    assert set(found.energy["flags"]) >= {f"node01: {GONE}", f"node01: {ESTIMATED}"}
    gwp = found.impacts["gwp_kgco2e"]["use"]
    assert gwp["low"] < 0.6 * gwp["central"] < 1.5 * gwp["central"] < gwp["high"]
    assert sum(uj for _, uj in found.energy["nodes"]["node01"]["hours"]) == 56_000_000_000


def test_a_part_without_watts_is_unknown(tmp_path: Path) -> None:
    """`load_w` of the CPUs alone: the GPU that the job held is not in the total, and that is said."""
    world = site(tmp_path, "{cpu: 400}")
    world.say(cpus=10, gpus=1)
    account(world.config, NOW)
    found = one(world)
    assert found.energy_j == 10_000.0
    assert found.energy["domains"]["gpu"]["energy_j"] is None
    assert found.energy["domains"]["dram"]["energy_j"] is None
    assert "GPU not in the total: gpu of node01: load_w has no gpu" in found.energy["flags"]
    assert found.coverage < 1


def test_without_watts_nothing_is_estimated(tmp_path: Path) -> None:
    """The site did not ask: not measured."""
    world = site(tmp_path, "{}")
    world.say()
    report = account(world.config, NOW)
    assert (report.estimated, report.not_measured) == (0, 1)
    assert one(world).energy_j is None


def test_a_measurement_that_comes_later_takes_its_place(tmp_path: Path) -> None:
    """And stays, when the node's file is away again; twice changes nothing at each stage."""
    world = site(tmp_path)
    world.say(cpus=10)
    account(world.config, NOW)
    assert account(world.config, NOW).changed == 0
    world.node().measured(joules=5000.0)
    assert account(world.config, NOW).changed == 1
    assert one(world).energy_j == 5000.0
    for file in (tmp_path / "nodes").iterdir():
        file.rename(tmp_path / file.name)
    report = account(world.config, NOW)
    assert (report.changed, report.estimated) == (0, 0)
    assert one(world).energy_j == 5000.0


def test_only_the_nodes_that_are_missing_are_estimated(tmp_path: Path) -> None:
    """Two nodes, one of them measured: the sum has both, and says which is which."""
    world = site(tmp_path, "{cpu: 400, ram: 100, rest: 200}")
    world.say(nodes="node[01-02]", cpus=20, mem_bytes=20 * 2**30)
    world.node("node02").measured(joules=5000.0)
    account(world.config, NOW)
    found = one(world)
    states = {name: node["state"] for name, node in found.energy["nodes"].items()}
    assert states == {"node01": "estimated", "node02": "ended"}
    assert found.energy_j == pytest.approx(5000 + 100 * (0.25 * 400 + 0.1 * 100 + 0.25 * 200))
    assert found.impacts["gwp_kgco2e"]["embodied"]["central"] > 0


def test_recomputed_under_another_inventory_it_is_estimated_anew(tmp_path: Path) -> None:
    """What was guessed is guessed again; what was measured stays."""
    world = site(tmp_path)
    world.say(cpus=10)
    account(world.config, NOW)
    (tmp_path / "nodes.yaml").write_text(INVENTORY.replace("LOAD", "{cpu: 800}"))
    recompute(world.config, NOW, T0, T0 + 1000)
    assert one(world).energy_j == 20_000.0
    (tmp_path / "nodes.yaml").write_text(INVENTORY.replace("LOAD", "{}"))
    recompute(world.config, NOW, T0, T0 + 1000)
    found = one(world)
    assert (found.energy_j, found.energy["nodes"]["node01"]["reason"]) == (None, GONE)


def test_an_exclusive_job_is_estimated_by_the_whole_node(tmp_path: Path) -> None:
    """Whatever it asked for."""
    world = site(tmp_path)
    world.say(cpus=10, gpus=0, exclusive=True)
    account(world.config, NOW)
    assert one(world).energy_j == 100 * (400 + 100 + 1600 + 200)
