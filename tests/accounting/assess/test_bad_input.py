"""Files that are not taken: exit status 2, one line, the file and the key; never a traceback or half an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.accounting.assess.asking import ask, refused

GOOD: dict[str, Any] = {"name": "good", "energy_kwh": 1}
LINE = {"slope_kwh_per_step": 0.001, "intercept_kwh": 0.1}
POINTS = [[100, 0.2], [200, 0.4], [300, 0.6]]
CENTRE = {"energy_kwh": 1, "gco2e_per_kwh": 400}
POWERED = {"gco2e_per_kwh": 400, "duration_hours": 1, "servers": 1, "server_power_w": 250}
MADE = {"name": "gpu", "count": 1, "manufacturing_kwh": 1000, "gco2e_per_kwh": 633}


def configured(folder: Path) -> Path:
    """A configuration of defaults: `node` asks for one."""
    config = folder / "site.yaml"
    config.write_text("{}", encoding="utf-8")
    return config


def phases(*given: dict[str, Any]) -> dict[str, Any]:
    return {"extrapolate": {"phases": list(given)}}


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ({"energy_kwh": -1}, "energy_kwh: expected `float` >= 0.0"),
        ({"energy_kwh": float("nan")}, "energy_kwh: expected `float` >= 0.0"),
        ({"energy_kwh": float("inf")}, "energy_kwh: expected `float` <= "),
        ({"energy_kwh": "much"}, "energy_kwh: expected `float | array | null`, got `str`"),
        ({"energy_kwh": True}, "energy_kwh: expected `float | array | null`, got `bool`"),
        ({"energy_kwh": [1, 2]}, "energy_kwh: expected `array` of length >= 3"),
        ({"energy_kwh": [1, 2, 3, 4]}, "energy_kwh: expected `array` of length <= 3"),
        ({"energy_kwh": [3, 2, 1]}, "energy_kwh: low, central, high are not in order"),
        ({"energy_kwh": [1, float("nan"), 3]}, "energy_kwh[1]: expected `float` >= 0.0"),
        ({"energy_kwh": 10**400}, "energy_kwh: "),
        ({"duration_hours": -1}, "duration_hours: expected `float` >= 0.0"),
        ({"duration_hours": [2, 1, 3]}, "duration_hours: low, central, high are not in order"),
        ({"share": 1.01}, "share: expected `float` <= 1.0"),
        ({"share": -0.1}, "share: expected `float` >= 0.0"),
        ({"share": float("nan")}, "share: expected `float` >= 0.0"),
        ({"lifetime_hours": 0}, "lifetime_hours: expected `float` >= 1.0"),
        ({"active_utilisation": 0}, "active_utilisation: expected `float` >= "),
        ({"active_utilisation": 1.1}, "active_utilisation: expected `float` <= 1.0"),
        ({"pue": 0.99}, "pue: expected `float` >= 1.0"),
        ({"nodes": 0}, "nodes: expected `int` >= 1"),
        ({"nodes": 1.5}, "nodes: expected `int"),
        ({"name": ""}, "name: expected `str` of length >= 1"),
        ({"energy_kWh": 1}, "energy_kWh: unknown key; allowed: active_utilisation, "),
        ({"electricity": {"gwp": 1}}, "electricity.gwp: unknown key; allowed: adp_kgsbe_per_kwh, "),
        ({"electricity": {"gwp_kgco2e_per_kwh": -1}}, "electricity.gwp_kgco2e_per_kwh: expected `float` >= 0.0"),
        ({"electricity": {"pe_mj_per_kwh": [3, 2, 1]}}, "electricity.pe_mj_per_kwh: low, central, high are not"),
        ({"hardware": {"pe_mj": [3, 2, 1]}, "duration_hours": 1}, "hardware.pe_mj: low, central, high are not"),
        ({"electricity": {}, "zone": "FRA"}, "zone: either electricity or zone, not both"),
        ({"hardware": {}, "node": "a100"}, "node: either hardware or node, not both"),
        (phases({"steps": 1} | LINE), "extrapolate: either energy_kwh or extrapolate, not both"),
    ],
)
def test_a_bad_unit_is_named(tmp_path: Path, unit: dict[str, Any], said: str) -> None:
    """The key, with its unit's place in the list; alone in a file, the key alone."""
    options = ["--config", configured(tmp_path)] if "node" in unit else []
    assert refused(tmp_path, {"units": [{"energy_kwh": 1}, GOOD | unit]}, *options).startswith(f"units[1].{said}")
    assert refused(tmp_path, GOOD | unit, *options).startswith(said)


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        ({"steps": -1} | LINE, ".steps: expected `float` >= 0.0"),
        ({"steps": 1.5} | LINE, ".steps: 1.5: not a whole number"),
        ({"steps": "1e5"} | LINE, ".steps: expected `float`, got `str`"),
        (LINE, ": object missing required field `steps`"),
        ({"steps": 1}, ": either measured, or slope_kwh_per_step and intercept_kwh"),
        ({"steps": 1, "measured": POINTS} | LINE, ": either measured, or slope_kwh_per_step and intercept_kwh"),
        ({"steps": 1, "slope_kwh_per_step": 1}, ".intercept_kwh: missing"),
        ({"steps": 1, "intercept_kwh": 1}, ".slope_kwh_per_step: missing"),
        ({"steps": 1, "slope_kwh_per_step": -1, "intercept_kwh": 1}, ".slope_kwh_per_step: expected `float` >= 0.0"),
        ({"steps": 1, "slope_kwh_per_step": 1, "intercept_kwh": float("nan")}, ".intercept_kwh: expected `float`"),
        ({"steps": 1, "slope_kwh_per_step": 0, "intercept_kwh": -1}, ": its line gives -1 kWh at 1 steps"),
        ({"steps": 9, "measured": []}, ".measured: a line needs measurements"),
        ({"steps": 9, "measured": [[1, 1], [1, 2]]}, ".measured: a line needs measurements"),
        ({"steps": 9, "measured": [[1, 1], [2]]}, ".measured[1]: expected `array` of length >= 2"),
        ({"steps": 9, "measured": [[1, 1], [2, -1]]}, ".measured[1][1]: expected `float` >= 0.0"),
        ({"steps": 9, "measured": [[1, 1], [2.5, 1]]}, ".measured[1][0]: 2.5: not a whole number"),
        ({"steps": 99, "measured": [[1, 3], [2, 2]]}, ": its line gives -95 kWh at 99 steps"),
        ({"steps": 9, "measured": {"1": 1}}, ".measured: expected `array | null`, got `object`"),
    ],
)
def test_a_bad_extrapolation_is_named(tmp_path: Path, phase: dict[str, Any], said: str) -> None:
    """The phase, its key, and of measurements which one."""
    found = refused(tmp_path, {"units": [phases({"steps": 1} | LINE, phase)]})
    assert found.startswith(f"units[0].extrapolate.phases[1]{said}")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, ".training: missing"),
        ({"query": CENTRE, "lifetime_hours": 0}, ".lifetime_hours: expected `float` >= 1.0"),
        ({"query": CENTRE | {"tau": 0}}, ".query.tau: expected `float` >= "),
        ({"query": CENTRE | {"tau": 1.01}}, ".query.tau: expected `float` <= 1.0"),
        ({"query": CENTRE | {"gco2e_per_kwh": -1}}, ".query.gco2e_per_kwh: expected `float` >= 0.0"),
        ({"query": {"energy_kwh": 1}}, ".query: object missing required field `gco2e_per_kwh`"),
        ({"query": {"gco2e_per_kwh": 1}}, ".query: no energy"),
        ({"query": CENTRE | {"servers": 1, "server_power_w": 1}}, ".query.servers: either energy_kwh, or machines"),
        ({"query": CENTRE | {"pue": 1.1}}, ".query.pue: either energy_kwh, or machines"),
        ({"query": POWERED | {"pue": 0.9}}, ".query.pue: expected `float` >= 1.0"),
        ({"query": POWERED | {"accelerators": 1}}, ".query.accelerators: unknown key"),
        ({"training": POWERED | {"accelerators": 1}}, ".training.accelerator_power_w: missing"),
        ({"training": POWERED | {"accelerator_power_w": 1}}, ".training.accelerators: missing"),
        ({"training": {**POWERED, "duration_hours": None}}, ".training.duration_hours: missing"),
        ({"training": {**POWERED, "servers": -1}}, ".training.servers: expected `float` >= 0.0"),
        ({"training": CENTRE | {"hardware": [MADE, MADE]}}, ".training.hardware[1].name: 'gpu' is there already"),
        ({"training": CENTRE | {"hardware": [MADE | {"tau": 0}]}}, ".training.hardware[0].tau: expected `float`"),
        ({"training": CENTRE | {"hardware": [{"name": "x"}]}}, ".training.hardware[0]: object missing required"),
    ],
)
def test_bad_estimates_are_named(tmp_path: Path, asked: dict[str, Any], said: str) -> None:
    """The phase and its key."""
    assert refused(tmp_path, {"units": [{"nn_ci": asked}]}).startswith(f"units[0].nn_ci{said}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no units"),
        ("units: []", "no units"),
        ("{}", "no units"),
        ("- energy_kwh: 1", "no units"),
        ("just words", "no units"),
        ("units:", "units: expected `array`, got `null`"),
        ("units: {energy_kwh: 1}", "units: expected `array`, got `object`"),
        ("units: [{energy_kwh: 1}]\npue: 1", "pue: unknown key; allowed: units"),
        ("units: [1]", "units[0]: expected `object`, got `int`"),
        ("units: [{name: a, energy_kwh: 1}, {name: a, energy_kwh: 2}]", "units[1].name: 'a' is the name of units[0]"),
        ("energy_kwh: 1\nenergy_kwh: 2", "key 'energy_kwh' twice"),
        ("energy_kwh: [1", "while parsing"),
        ("energy_kwh: 1\nzone: XYZ", "zone 'XYZ': not known; allowed: "),
        ("units: [{energy_kwh: 1, zone: XYZ}]", "units[0].zone 'XYZ': not known; allowed: "),
        ("name: empty", "energy_kwh: missing"),
        ("energy_kwh: 1\nnn_ci: {query: {energy_kwh: 1, gco2e_per_kwh: 1}}", "energy_kwh: not beside nn_ci"),
        ("share: 1.0\nnode: a\nnn_ci: {query: {energy_kwh: 1, gco2e_per_kwh: 1}}", "node: not beside nn_ci"),
        ("energy_kwh: 1\nelectricity: {adp_kgsbe_per_kwh: 5e-8}", "electricity.adp_kgsbe_per_kwh: expected"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    """No units, YAML that is none, a key or a name twice, an unknown zone with those that there are."""
    options = ["--config", configured(tmp_path)] if "node:" in text else []
    assert refused(tmp_path, text, *options).startswith(said)


def test_an_exponent_that_yaml_takes_for_text_is_explained(tmp_path: Path) -> None:
    """5e-8 is text to YAML 1.1: the message says how to write it."""
    said = refused(tmp_path, "energy_kwh: 1\nelectricity: {adp_kgsbe_per_kwh: 5e-8}")
    assert said.endswith("a number with an exponent is written with a point and a sign: 5.0e-8")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Not there, a folder, and not text."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, said in (("none", "No such file"), (".", "Is a directory"), ("binary", "not UTF-8")):
        status, out, err = ask(tmp_path / name)
        assert (status, out) == (2, "")
        assert said in err
