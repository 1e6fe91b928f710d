"""`jobimpact inventory` as a program: text, JSON, and what is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.accounting.world import CONFIG, World

from jobimpact.cli.main import main
from jobimpact.impact.factors import DATA, load_factors
from jobimpact.impact.inventory import load_inventory
from jobimpact.impact.parts import parts_of

ROOT = Path(__file__).parents[2]
NODES = """
version: "2026-11"
pue: 1.3
types:
  apollo:
    nodes: gemini[01-02]
    cpu: {model: AMD EPYC 7763 64-Core Processor, count: 2, cores: 64}
    ram_gb: 1024
    ram_modules: 16
    gpus: [{model: NVIDIA A100-SXM4-80GB, count: 8}]
    psu: 4
  dgx1:
    nodes: dgx1
    cpu: {model: Intel(R) Xeon(R) CPU E5-2698 v4 @ 2.20GHz, count: 2, cores: 20}
    ram_gb: 512
    ssd_gb: [1920, 1920, 1920, 1920]
    gpus: [{model: Tesla V100-SXM2-32GB, count: 7}, {model: Frob 9000, count: 1}]
    psu: 4
    nic: 1
    purchased: 2018-09-01
    exclusive: true
    zone: POL
shared:
  switches: {count: 8, power_w: 375, gwp_kgco2e: [200, 400, 800], source: "the maker's footprint"}
  storage: {nodes: dgx1}
"""


def site(folder: Path, inventory: str | None = NODES, config: str = CONFIG) -> str:
    return str(World(folder, config, inventory).config_file)


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["inventory", *words])
    out, err = capsys.readouterr()
    return status, out, err


def text(folder: Path, capsys: pytest.CaptureFixture[str], *words: str, inventory: str = NODES) -> str:
    status, out, err = told(capsys, *words, "--config", site(folder, inventory))
    assert (status, err) == (0, "")
    return out


def document(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text(folder, capsys, "--json", *words))
    return found


def test_each_type_is_a_table_of_eighty_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Parts with count, model, range and share; a node, all nodes, an hour; what dominates and what is guessed."""
    out = text(tmp_path, capsys)
    assert max(map(len, out.splitlines())) <= 80
    assert not any(line != line.rstrip() for line in out.splitlines())
    plain = " ".join(out.split())
    for said in (
        *("apollo: 2 nodes, gemini[01-02]", "8 x GPU NVIDIA A100-SXM4-80GB 1390 912 - 2330 36 % 45.6 19.2"),
        *(
            "one node 3860 1800 - 7120 100 %",
            "All 2 nodes: 7.72 t CO2e, 577 g Sb-e, 102 GJ.",
            "GWP 3.86 t CO2e (1.80 - 7.12 t) 110 g CO2e",
        ),
        *("Most of the GWP: memory 49 %, GPU 36 %; of its range: memory 57 %", "- power supply: weight 0.9-4 kg"),
        *("E5-2698 v4 @ 2.20GHz", "Note: GPU 'Frob 9000' is not in the factors", "- memory: modules of 32 GB"),
        *(
            "A job is given whole nodes. Zone POL. PUE 1.3.",
            "4 years were over on 2022-09-01: its manufacture is paid",
        ),
        *("switches: 8 of them, shared by 3 nodes", "One draws 375 W on average", "Source: the maker's footprint."),
        *("Not known, and not counted: adp_kgsbe, pe_mj.", "storage: one, shared by 1 node"),
        *("Not known, and not counted: power_w, gwp_kgco2e, adp_kgsbe, pe_mj.", "(release 2.5.0; figures cited)"),
        *("Inventory: 2026-11.", "2026."),
    ):
        assert said in plain, said


def test_a_type_alone_is_told_with_what_serves_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Asked for one type (twice), there is one, without the storage of others and without their sources."""
    out = text(tmp_path, capsys, "apollo", "apollo")
    assert out.count("apollo: ") == 1
    assert "dgx1" not in out
    assert "switches" in out
    assert "storage" not in out
    assert "network card" not in out


def test_json_is_what_the_parts_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One document: unrounded ranges that add up, shares that make 1, each source cited and described."""
    found = document(tmp_path, capsys)
    assert (found["schema"], found["inventory"], found["factors"]) == (1, "2026-11", load_factors().version)
    parts = parts_of(load_inventory(tmp_path / "nodes.yaml").types["apollo"], load_factors())
    apollo = found["types"]["apollo"]
    for end in ("low", "central", "high"):
        assert apollo["node"]["gwp_kgco2e"][end] == getattr(parts.whole.gwp_kgco2e, end)
        assert sum(one["pe_mj"][end] for one in apollo["parts"]) == pytest.approx(apollo["node"]["pe_mj"][end])
        hours = apollo["lifetime_hours"]
        assert apollo["per_node_hour"]["adp_kgsbe"][end] * hours == pytest.approx(apollo["node"]["adp_kgsbe"][end])
    assert hours == 4 * 8766
    assert sum(one["share_of_gwp"] for one in apollo["parts"]) == pytest.approx(1)
    assert apollo["nodes"] == ["gemini01", "gemini02"]
    assert [one["part"] for one in apollo["parts"]][:3] == ["CPU", "memory", "GPU"]
    assert set(apollo["components"]) == {"cpu", "ram", "gpu", "rest"}
    assert next(iter(apollo["dominant"]["gwp_kgco2e"])) == "memory"
    assert apollo["purchased"] is apollo["ends"] is None
    cited = {source for one in found["types"].values() for part in one["parts"] for source in part["sources"]}
    assert cited == set(found["sources"])
    assert all(source["title"] and source["year"] and source["licence"] for source in found["sources"].values())


def test_json_of_a_doubtful_node_and_of_shared_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guesses, warnings, the end of a life, and null for what is not known of shared parts."""
    found = document(tmp_path, capsys)
    dgx1 = found["types"]["dgx1"]
    assert (dgx1["purchased"], dgx1["ends"], dgx1["past_lifetime"]) == ("2018-09-01", "2022-09-01", "zero")
    assert (dgx1["exclusive"], dgx1["zone"], dgx1["pue"]) == (True, "POL", 1.3)
    assert next(one for one in dgx1["parts"] if one["what"] == "Frob 9000")["guess"]
    assert any("Frob 9000" in one for one in dgx1["warnings"])
    switches, storage = found["shared"]["switches"], found["shared"]["storage"]
    assert switches["gwp_kgco2e"] == {"low": 200, "central": 400, "high": 800}
    assert switches["per_node_hour"]["gwp_kgco2e"]["central"] == pytest.approx(8 * 400 / 3 / (4 * 8766))
    assert switches["per_node_hour"]["kwh"] == pytest.approx(8 * 0.375 / 3)
    assert switches["per_node_hour"]["adp_kgsbe"] is None
    assert switches["unknown"] == ["adp_kgsbe", "pe_mj"]
    assert storage["unknown"] == ["power_w", "gwp_kgco2e", "adp_kgsbe", "pe_mj"]
    assert storage["nodes"] == ["dgx1"]


@pytest.mark.parametrize(
    ("purchased", "years", "more", "said"),
    [
        ("2018-09-01", 4, "", "since 2018-09-01; 4 years were over on 2022-09-01: its manufacture is paid off"),
        ("2018-09-01", 1, "", "1 year were over on 2019-09-01"),
        ("2018-09-01", 4, "past_lifetime: continue", "over on 2022-09-01: its manufacture is charged on as before"),
        ("2018-09-01", 100, "", "since 2018-09-01, for 100 years, until 2118-09-02; then its manufacture is"),
        ("2900-01-01", 4, "", "In service from 2900-01-01, for 4 years"),
    ],
)  # fmt: skip
def test_the_life_of_a_type_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], purchased: str, years: int, more: str, said: str
) -> None:
    """Since when, how long, whether it is over, and what is charged then; no calendar is too short for it."""
    old = "purchased: 2018-09-01"
    new = f"purchased: {purchased}\n    lifetime_years: {years}\n    {more}"
    assert said in " ".join(text(tmp_path, capsys, "dgx1", inventory=NODES.replace(old, new)).split())


def test_without_a_pue_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """1 is assumed, and called an assumption."""
    assert "No PUE is given: 1 is assumed." in text(tmp_path, capsys, inventory=NODES.replace("pue: 1.3\n", ""))


def test_no_inventory_is_an_error_that_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is shown in its place."""
    status, out, err = told(capsys, "--config", site(tmp_path, None))
    assert (status, out) == (2, "")
    assert f"no inventory: {tmp_path / 'nodes.yaml'} is not there" in err


def test_an_unknown_type_names_the_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A type misspelt is told with those there are, even beside one that there is."""
    status, out, err = told(capsys, "apollo", "appolo", "--config", site(tmp_path))
    assert (status, out) == (2, "")
    assert re.search(r"nodes\.yaml: no type 'appolo'; it has apollo, dgx1", err)


def test_an_inventory_without_types_is_no_crash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No type, and shared parts that serve nobody: said."""
    config = site(tmp_path, "types: {}\nshared: {switch: {power_w: 5, gwp_kgco2e: 7}}")
    status, out, err = told(capsys, "--config", config)
    assert (status, err) == (0, "")
    assert "switch: one, shared by 0 nodes" in out
    status, out, _ = told(capsys, "--json", "--config", config)
    assert json.loads(out)["shared"]["switch"]["per_node_hour"] is None


def test_a_type_without_nodes_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bought and not yet there: what one costs."""
    out = text(tmp_path, capsys, inventory=NODES.replace("nodes: gemini[01-02]", "nodes: []"))
    assert "apollo: 0 nodes\n" in out


def test_what_the_inventory_says_cannot_turn_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Escapes and control characters in names, models and sources are left out."""
    bad = NODES.replace("AMD EPYC 7763 64-Core Processor", '"Zilog\\e[31m Z80\\u202e\\a"')
    bad = bad.replace('"the maker\'s footprint"', '"a\\e]0;x\\a b"').replace("  switches:", '  "swi\\e[2Jtches":')
    out = text(tmp_path, capsys, inventory=bad.replace("  apollo:", '  "apo\\e[1mllo":'))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", out)
    assert "apollo: " in out
    assert "switches: " in out


def test_a_very_long_name_stays_in_its_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model of 500 characters and 1000 nodes wrap; nothing is cut off."""
    long = "x" * 500
    bad = NODES.replace("AMD EPYC 7763 64-Core Processor", long)
    bad = bad.replace("gemini[01-02]", "gemini[" + ",".join(map(str, range(1, 2000, 2))) + "]")
    out = text(tmp_path, capsys, "apollo", inventory=bad)
    assert max(map(len, out.splitlines())) <= 80
    assert out.count("x") >= 500


def test_the_site_s_own_factors_are_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`factors` names a folder; a card that is listed there costs what it says, and the version tells."""
    own = tmp_path / "factors"
    own.mkdir()
    file = yaml.safe_load((DATA / "gpus.yaml").read_text())
    file["gpus"]["Frob 9000"] = file["gpus"]["K80"] | {"gwp_kgco2e": [1, 2, 3]}
    (own / "gpus.yaml").write_text(yaml.safe_dump(file))
    status, out, _ = told(capsys, "--json", "--config", site(tmp_path, config=CONFIG + "factors: factors\n"))
    assert status == 0
    found = json.loads(out)
    frob = next(one for one in found["types"]["dgx1"]["parts"] if one["what"] == "Frob 9000")
    assert frob["gwp_kgco2e"] == {"low": 1, "central": 2, "high": 3}
    assert found["types"]["dgx1"]["warnings"] == []
    assert found["factors"] != load_factors().version
    (own / "gpus.yaml").rename(own / "gpu.yaml")
    status, out, err = told(capsys, "--config", str(tmp_path / "jobimpact.yaml"))
    assert (status, out) == (2, "")
    assert "not a file of factors" in err


def test_the_shipped_sample_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """deploy/nodes.yaml: all of its types, without a warning."""
    out = text(tmp_path, capsys, inventory=(ROOT / "deploy" / "nodes.yaml").read_text())
    assert "Note:" not in out
    assert "0.25 x case" in out


def test_the_page_shows_what_the_command_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table on the inventory's page is that of the inventory on the page."""
    page = (ROOT / "docs" / "admin" / "inventory.md").read_text(encoding="utf-8")
    inventory, shown = re.findall(r"^```(?:yaml)?\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert shown.startswith("apollo: 2 nodes")
    assert text(tmp_path, capsys, inventory=inventory).startswith(shown)
