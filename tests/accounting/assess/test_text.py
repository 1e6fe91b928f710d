"""What people read: 80 columns, nothing that is not said, no control characters; and the page of the documents."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.accounting.assess.asking import ask, assessed, facts, units_in, written
from tests.accounting.assess.test_published import half_a_digit

DOCS = Path(__file__).parents[3] / "docs" / "user"
EXAMPLES = sorted((DOCS / "examples").glob("*.yaml"))
PAGE = (DOCS / "assess.md").read_text(encoding="utf-8")


def text(folder: Path, content: Any) -> str:
    """The answer for people."""
    status, out, err = ask(written(folder, content))
    assert (status, err) == (0, "")
    return out


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_every_example_is_answered_in_80_columns(file: Path) -> None:
    """Each file of the documents, as text and as JSON."""
    status, out, err = ask(file)
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert not re.search(r"\bnan\b|\binf\b|None", out)
    assert len(units_in(ask(file, "--json")[1])) == out.count("Method: ")


def test_the_example_of_the_thesis_prints_its_tables() -> None:
    """Every total is the printed one, within its last digit and that of the energy."""
    thesis = facts("thesis.yaml")
    units = units_in(ask(DOCS / "examples" / "thesis.yaml", "--json")[1])
    for ours, unit in zip(units.values(), thesis["units"].values(), strict=True):
        for indicator, printed in unit["total"].items():
            low, high = ours["ranges"]["total"][indicator]
            slack = half_a_digit(printed) * 1.001
            assert low - slack <= float(printed) <= high + slack, (ours["name"], indicator)


def test_the_page_shows_what_the_command_prints() -> None:
    """Each answer in the documents is the command's own, from its beginning."""
    shown = re.findall(r"^```\n\$ jobimpact assess (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(shown) >= 2
    for name, said in shown:
        assert ask(DOCS / name)[1].startswith(said), name


def test_every_key_is_in_the_page(tmp_path: Path) -> None:
    """What the files may have: each key that a message lists as allowed stands in the documents."""
    bad = [
        {"no": 1},
        {"electricity": {"no": 1}},
        {"hardware": {"no": 1}},
        {"extrapolate": {"no": 1}},
        {"extrapolate": {"phases": [{"no": 1}]}},
        {"nn_ci": {"no": 1}},
        {"nn_ci": {"training": {"no": 1}}},
        {"nn_ci": {"query": {"hardware": [{"no": 1}]}}},
    ]
    for content in bad:
        allowed = ask(written(tmp_path, content))[2].partition("allowed: ")[2].split(", ")
        assert len(allowed) > 1
        for key in allowed:
            assert f"`{key.strip()}`" in PAGE, key


def test_json_keys_are_in_the_page(tmp_path: Path) -> None:
    """Each key at the top of a unit in JSON stands in the documents."""
    line = {"steps": 5, "measured": [[1, 1], [2, 2], [3, 4]]}
    units = [
        {"name": "a", "extrapolate": {"phases": [line]}},
        {"name": "b", "nn_ci": {"query": {"energy_kwh": 1, "gco2e_per_kwh": 1}}},
    ]
    found = assessed(tmp_path, {"units": units})
    for key in {*found["a"], *found["a"]["extrapolation"][0], *found["b"]["nn_ci"]}:
        assert f"`{key}`" in PAGE, key


def test_a_hostile_name_is_harmless(tmp_path: Path) -> None:
    """Escape sequences, line breaks and direction marks do not reach the terminal; a long name is cut."""
    name = "\x1b[31mred\x07\n\u202egnp.exe " + "x" * 150
    said = text(tmp_path, {"name": name, "energy_kwh": 1})
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e]", said) is None
    assert said.splitlines()[0].startswith("red gnp.exe xxx")
    assert max(map(len, said.splitlines())) <= 80


def test_a_dash_and_the_reason_for_what_is_not_known(tmp_path: Path) -> None:
    """No zero, and no total where a part is missing."""
    unit = {"energy_kwh": 2, "electricity": {"gwp_kgco2e_per_kwh": 0.05}, "duration_hours": 1}
    said = text(tmp_path, unit)
    assert re.search(r"GWP \(climate\) +100 g +- +-  CO2e", said)
    assert re.search(r"ADP \(minerals\) +- +- +-$", said, re.MULTILINE)
    assert "Not known: use ADP: electricity.adp_kgsbe_per_kwh is not given." in said
    assert "Not known: embodied: no hardware is given (hardware or node)." in said


def test_kilograms_in_place_of_grams_are_asked_about(tmp_path: Path) -> None:
    """NN-CI's README has kg per kWh, its manifest g: a figure below 1 is told."""
    said = text(tmp_path, {"nn_ci": {"query": {"energy_kwh": 1, "gco2e_per_kwh": 0.389}}})
    assert "grams are meant; are these kilograms?" in said


def test_an_estimate_without_lifetime_says_so(tmp_path: Path) -> None:
    """No amortised figure, and why; zero energy and zero hardware are values, and have no share."""
    made = {"name": "gpu", "count": 0, "manufacturing_kwh": 1000, "gco2e_per_kwh": 633}
    query = {"energy_kwh": 0, "gco2e_per_kwh": 400, "tau": 0.9, "hardware": [made]}
    said = text(tmp_path, {"nn_ci": {"query": query}})
    assert "not known: no lifetime_hours is given" in said
    one = assessed(tmp_path, {"name": "a", "nn_ci": {"query": query}})["a"]
    assert (one["nn_ci"]["sum_gco2e"], one["nn_ci"]["embodied_share"], one["nn_ci"]["amortised"]) == (0, None, None)
    assert one["nn_ci"]["reason"] == "no lifetime_hours is given"
    assert one["nn_ci"]["nn_et_kwh"] is None
