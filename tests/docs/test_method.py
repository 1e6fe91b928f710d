"""The method's worked example is what the program computes, and its arithmetic is right."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.accounting.world import T0, World

from jobimpact.cli.main import main
from jobimpact.impact.factors import load_factors
from jobimpact.impact.inventory import load_inventory
from jobimpact.impact.parts import parts_of
from jobimpact.nightly.night import account
from jobimpact.report.json import job_document
from jobimpact.report.text import job_text, method_text
from jobimpact.results.read import Reader
from jobimpact.results.record import JobResult

ROOT = Path(__file__).parents[2]
METHOD = (ROOT / "docs/method.md").read_text(encoding="utf-8")
EXAMPLE = METHOD.split("\n## A worked example\n")[1].split("\n## ")[0]
BLOCKS = re.findall(r"^```\w*\n(.*?)^```$", EXAMPLE, re.MULTILINE | re.DOTALL)
CONFIG = """
cluster: lab
store: {local: {path: nodes}}
results: sqlite:///results.db
scheduler: {local: {path: jobs.jsonl}}
inventory: nodes.yaml
grid:
  zone: FRA
  provider: csv
  csv: {path: intensity.csv, basis: lifecycle}
  cache: grid.db
  market: {gwp_kgco2e_per_kwh: 0.012, source: contract of 2026}
"""
HOURS = """\
time,gco2e_per_kwh
2026-12-07T13:00:00Z,30
2026-12-07T14:00:00Z,45
2026-12-07T15:00:00Z,
"""
DRAWN_KWH = {"package-0": 0.15, "gpu:GPU-a": 0.75, "rest": 0.1}
IDLE_W = {"package-0": 100, "gpu:GPU-a": 200, "rest": 90}
IDLE_FROM_H = 180


def moment(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


NOVEMBER, START, END = moment("2026-11-01"), moment("2026-12-07T13:30"), moment("2026-12-07T16:00")


def site(folder: Path) -> World:
    """What the page describes: a node that one job had in November, and job 2 in December."""
    world = World(folder, CONFIG, BLOCKS[0])
    (folder / "intensity.csv").write_text(HOURS)
    whole = {"nodes": ["gpu1"], "cpus": 64, "mem_bytes": 512 * 2**30, "gpus": 4}
    world.say("1", submit=NOVEMBER, start=NOVEMBER, end=NOVEMBER + IDLE_FROM_H * 3600, **whole)
    mine = {"cpus": 8, "mem_bytes": 64 * 2**30}
    world.say("2", submit=START, start=START, end=END, nodes=["gpu1"], gpus=1, **mine)
    node = world.node("gpu1")
    node.domain()
    node.domain("gpu:GPU-a", "gpu", source="nvml")
    node.redfish()
    node.run("2", start=START - T0, end=END - T0, gpus=["GPU-a"], **mine)
    for domain, drawn_kwh in DRAWN_KWH.items():
        node.charge("2", domain, drawn_kwh * 3.6e6, END - START)
        for at_s, part in ((START, 0), (START + 1800, 0.2), (START + 5400, 0.6), (END, 1)):
            node.point("2", at_s - T0, drawn_kwh * part * 3.6e6, domain, at_s - START)
        for hour in range(30 * 24 + 1):
            idle_j = max(0, hour - IDLE_FROM_H) * 3600 * IDLE_W[domain]
            node.point("idle", NOVEMBER + hour * 3600 - T0, idle_j, domain, hour * 3600)
    node.db.commit()
    return world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The site after the night of 8 December."""
    found = site(tmp_path_factory.mktemp("site"))
    now_s = moment("2026-12-08")
    assert account(found.config, now_s, NOVEMBER, now_s).closed == ("2026-11",)
    return found


@pytest.fixture(scope="module")
def job(world: World) -> JobResult:
    """Job 2, accounted for."""
    reader = Reader(world.config.results)
    (found,) = reader.find("2")
    reader.close()
    return found


def lines() -> dict[str, tuple[float, str]]:
    """Each line of the arithmetic: what its left side comes to, and what is printed on its right."""
    found = {}
    for line in filter(None, BLOCKS[2].splitlines()):
        label, rest = re.split(r"  +|(?<=machines) ", line, maxsplit=1)
        expression, printed = rest.rpartition(": ")[2].split(" = ")
        assert re.fullmatch(r"[0-9.+*/() -]+", expression), line
        found[label] = (eval(expression), printed)  # noqa: S307 (digits and signs only)
    return found


def half_a_digit(printed: str) -> float:
    return 0.5 * 10.0 ** -len(printed.partition(".")[2])


def test_the_answer_is_the_one_that_is_printed(job: JobResult) -> None:
    """The text of the answer, to the letter."""
    assert job_text(job).rstrip() == BLOCKS[1].rstrip()


def test_each_line_of_the_arithmetic_comes_to_its_right_side() -> None:
    """What is printed is the left side, rounded; inputs that are rounded themselves may move the last digit by one."""
    for label, (found, printed) in lines().items():
        assert found == pytest.approx(float(printed), abs=2 * half_a_digit(printed)), label


def test_the_arithmetic_ends_at_what_the_program_says(job: JobResult) -> None:
    """Each figure that has its like in the answer is that one, to the digits that are printed."""
    document = job_document(job)
    gwp, factors = document["impacts"]["gwp_kgco2e"], document["factors"]
    idle: dict[str, Any] = gwp["idle_share"]
    same = {
        "use": gwp["use"]["central"],
        "embodied": gwp["embodied"]["central"],
        "total": gwp["total"]["central"],
        "idle making": idle["embodied"]["central"],
        "idle machines": idle["use"]["central"] + idle["embodied"]["central"],
        "switch": sum(gwp["shared"][part]["central"] for part in ("use", "embodied")),
        "contract": factors["market"]["use_gwp_kgco2e"],
        "use low": gwp["use"]["low"],
        "use high": gwp["use"]["high"],
    }
    told = lines()
    for label, kilograms in same.items():
        printed = told[label][1]
        assert kilograms * 1e3 == pytest.approx(float(printed), abs=2 * half_a_digit(printed)), label


def test_the_page_for_users_has_the_same_answer(job: JobResult) -> None:
    """Its example with lines beside the total, and its method paragraph, are this job's; versions apart."""
    page = (ROOT / "docs/user/answer.md").read_text(encoding="utf-8")
    (impacts,) = (part for part in job_text(job).split("\n\n") if part.startswith("  Impact"))
    assert impacts in page
    (shown,) = re.findall(r"^Method: .*?--json\.$", page, re.MULTILINE | re.DOTALL)
    plain = [re.sub(r"Factors: \S+;", "", " ".join(text.split())) for text in (shown, method_text(job))]
    assert plain[0] == plain[1]


def test_the_page_for_users_has_the_year_s_books(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Its example of `books --embodied` is how that output begins for this site."""
    assert main(["books", "--embodied", "2026", "--config", str(world.config_file)]) == 0
    head, gwp, *_ = capsys.readouterr().out.split("\n\n")
    assert f"```\n{head}\n\n{gwp}\n```" in (ROOT / "docs/user/answer.md").read_text(encoding="utf-8")


def test_what_the_example_does_not_know_is_told(job: JobResult) -> None:
    """The memory's idle energy has a reason, as the page says."""
    reason = job.factors["idle"]["reason"]
    assert reason == "idle electricity is not known: memory of gpu"


def test_the_apollo_of_the_checks_is_that_of_the_inventory_s_page(tmp_path: Path) -> None:
    """Its three sums, from the parts that are shown there."""
    page = (ROOT / "docs/admin/inventory.md").read_text(encoding="utf-8")
    file = tmp_path / "nodes.yaml"
    file.write_text(re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0])
    whole = parts_of(load_inventory(file).types["apollo"], load_factors()).whole
    told = re.findall(r"\| (\d+), (0\.\d+), ([\d,]+):", METHOD)[0]
    found = (whole.gwp_kgco2e.central, whole.adp_kgsbe.central, whole.pe_mj.central)
    assert [float(f"{one:.3g}") for one in found] == [float(one.replace(",", "")) for one in told]
