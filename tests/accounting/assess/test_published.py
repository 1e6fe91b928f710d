"""Published tables through the command: the thesis's functional units and Stable Diffusion, NN-CI's GPT-3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.accounting.assess.asking import INDICATORS, as_process, assessed, facts, units_in, written

from jobimpact.impact.nn_ci import nn_c, nn_emb, nn_eq, nn_et

THESIS = facts("thesis.yaml")
NN_CI = facts("nn_ci.yaml")
PARTS = ("use", "embodied", "total")


def half_a_digit(printed: str) -> float:
    mantissa, _, exponent = printed.upper().partition("E")
    return 0.5 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def hours_of(unit: dict[str, Any]) -> float:
    return float(unit["hours"] if "hours" in unit else unit["minutes"] / 60)


def thesis_units(lifetime_hours: int, utilisation: float) -> list[dict[str, Any]]:
    """The file that a reader of the slides would write."""
    per_kwh = {f"{name}_per_kwh": value for name, value in THESIS["per_kwh"].items()}
    return [
        {
            "name": name,
            "energy_kwh": unit["energy_kwh"],
            "duration_hours": hours_of(unit),
            "pue": THESIS["pue"],
            "electricity": per_kwh,
            "hardware": THESIS["lifetimes"][lifetime_hours][unit["node"]],
            "lifetime_hours": lifetime_hours,
            "active_utilisation": utilisation,
        }
        for name, unit in THESIS["units"].items()
    ]


def misses(folder: Path, lifetime_hours: int, utilisation: float) -> tuple[int, list[str]]:
    """How many printed figures there are, and which are not met: within their last digit and that of the inputs."""
    file = written(folder, {"units": thesis_units(lifetime_hours, utilisation)})
    found = units_in(as_process(file, "--json"))
    count, missed = 0, []
    for name, unit in THESIS["units"].items():
        node = THESIS["lifetimes"][lifetime_hours][unit["node"]]
        for part in PARTS:
            for indicator, printed in unit.get(part, {}).items():
                used = unit.get("energy_off", 0) * THESIS["per_kwh"][indicator]
                held = unit.get("minutes_off", 0) / 60 * node[indicator] / (lifetime_hours * utilisation)
                slack = half_a_digit(printed) + (used if part != "embodied" else 0) + (held if part != "use" else 0)
                count += 1
                if abs(found[name][part][indicator] - float(printed)) > slack * (1 + 1e-9):
                    missed.append(f"{name} {part} {indicator}")
    return count, missed


@pytest.mark.parametrize("lifetime_hours", THESIS["lifetimes"])
def test_all_36_figures_of_the_thesis_come_out_as_printed(tmp_path: Path, lifetime_hours: int) -> None:
    """Within half a unit of the last printed digit, and what that of printed energies and times carries over."""
    assert misses(tmp_path, lifetime_hours, THESIS["active_utilisation"]) == (36, [])


@pytest.mark.parametrize("lifetime_hours", THESIS["lifetimes"])
def test_an_active_utilisation_of_a_half_misses_30_of_36(tmp_path: Path, lifetime_hours: int) -> None:
    """All but the six figures of use alone: the slides' 0.5 did not make their tables."""
    count, missed = misses(tmp_path, lifetime_hours, 0.5)
    assert (count, len(missed)) == (36, 30)
    assert not any(" use " in one for one in missed)


def test_stable_diffusion_by_its_lines(tmp_path: Path) -> None:
    """The energy is the published line's to 1e-9, and prints as on the slide, on one node and on 32."""
    lines, versions = THESIS["stable_diffusion"]["lines"], THESIS["stable_diffusion"]["versions"]
    units = [
        {
            "name": f"{name} {nodes}",
            "extrapolate": {
                "phases": [{"steps": steps} | lines[size] for size, steps in version["phases"]],
                "nodes": nodes,
            },
        }
        for name, version in versions.items()
        for nodes in (1, 32)
    ]
    found = assessed(tmp_path, {"units": units})
    for name, version in versions.items():
        exact = sum(
            lines[size]["slope_kwh_per_step"] * steps + lines[size]["intercept_kwh"]
            for size, steps in version["phases"]
        )
        for nodes, key in ((1, "one_node"), (32, "nodes_32")):
            ours = found[f"{name} {nodes}"]["energy_kwh"]
            assert ours == pytest.approx(nodes * exact, rel=1e-9)
            assert abs(ours - float(version[key])) <= half_a_digit(version[key])
    assert found["v1-1 1"]["energy_kwh"] == pytest.approx(470.0185, rel=1e-9)


@pytest.fixture(scope="module")
def gpt3(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """GPT-3 by NN-CI's manifest, its hardware lasting 22776 h."""
    asked = {name: NN_CI["gpt3"][name] for name in ("training", "query")}
    unit = {"name": "gpt3", "nn_ci": asked | {"lifetime_hours": 22776}}
    return assessed(tmp_path_factory.mktemp("gpt3"), unit)["gpt3"]


def test_nn_ci_of_gpt3(gpt3: dict[str, Any]) -> None:
    """All four estimates, their sum and their parts are the formulas' to 1e-9, and kilograms are grams / 1000."""
    said = gpt3["nn_ci"]
    for key, value in NN_CI["gpt3_results"].items():
        assert said[key] == pytest.approx(value, rel=1e-9), key
    for name, parts in NN_CI["gpt3_parts"].items():
        phase = said["phases"][name]
        assert phase["operation_gco2e"] == pytest.approx(parts["operation_gco2e"], rel=1e-9)
        hardware = {key: value for key, value in parts.items() if key != "operation_gco2e"}
        assert phase["hardware_gco2e"] == pytest.approx(hardware, rel=1e-9)
    assert said["embodied_share"] == pytest.approx(8810681052.63158 / 9385887413.684212, rel=1e-9)
    assert gpt3["energy_kwh"] == pytest.approx(1249875 + 23892, rel=1e-9)
    for part, key in (("use", "nn_c"), ("embodied", "nn_emb"), ("total", "sum")):
        assert gpt3[part]["gwp_kgco2e"] == pytest.approx(said[f"{key}_gco2e"] / 1000, rel=1e-12)
        assert gpt3[part]["gwp_kgco2e"] == said[f"{key}_kgco2e"]


def test_nn_ci_of_gpt3_by_hours_of_use(gpt3: dict[str, Any]) -> None:
    """Beside the whole hardware stands what of it falls on the hours of use: 110 t and 1.9 t over 22776 h."""
    said = gpt3["nn_ci"]
    phases = {name: phase["amortised_gco2e"] / 1e6 for name, phase in said["phases"].items()}
    assert phases == pytest.approx({"training": 110.3, "query": 1.93}, rel=5e-3)
    amortised = said["amortised"]
    assert amortised["embodied_gco2e"] == pytest.approx(sum(phases.values()) * 1e6, rel=1e-12)
    assert amortised["sum_gco2e"] == pytest.approx(amortised["embodied_gco2e"] + said["nn_c_gco2e"], rel=1e-12)
    assert amortised["embodied_share"] == pytest.approx(0.1633, abs=1e-4)
    assert any("not amortised" in note for note in gpt3["notes"])


@pytest.mark.parametrize("case", NN_CI["nn_et"])
def test_nn_et_by_its_own_test(case: dict[str, Any]) -> None:
    """NN-CI's unit test of the training's energy."""
    assert nn_et(*case["given"]) == pytest.approx(case["kwh"], rel=1e-9)


@pytest.mark.parametrize("case", NN_CI["nn_eq"])
def test_nn_eq_by_its_own_test(case: dict[str, Any]) -> None:
    """NN-CI's unit test of the queries' energy."""
    assert nn_eq(*case["given"]) == pytest.approx(case["kwh"], rel=1e-9)


@pytest.mark.parametrize("case", NN_CI["nn_c"])
def test_nn_c_by_its_own_examples(case: dict[str, Any]) -> None:
    """NN-CI's unit test and README example of the electricity."""
    assert nn_c(tuple(one) for one in case["given"]) == pytest.approx(case["emitted"], rel=1e-9)


@pytest.mark.parametrize("case", NN_CI["nn_emb"])
def test_nn_emb_by_its_own_examples(case: dict[str, Any]) -> None:
    """NN-CI's unit test and README example of the hardware."""
    assert nn_emb(tuple(one) for one in case["given"]) == pytest.approx(case["emitted"], rel=1e-9)


def test_single_formulas_through_the_command(tmp_path: Path) -> None:
    """A given energy and kilograms turned to grams give NN-CI's own examples; so does a factory's own tau."""
    centre = {"energy_kwh": 100, "gco2e_per_kwh": 389, "tau": 1}
    made = [
        {"name": f"kind {at}", "count": n, "manufacturing_kwh": kwh, "gco2e_per_kwh": ci * 1000, "tau": tau}
        for at, (n, kwh, ci, tau) in enumerate(NN_CI["nn_emb"][1]["given"])
    ]
    units = [
        {"name": "nn-c", "nn_ci": {"query": centre}},
        {"name": "nn-emb", "nn_ci": {"training": centre | {"hardware": made}}},
    ]
    found = assessed(tmp_path, {"units": units})
    assert found["nn-c"]["nn_ci"]["nn_c_kgco2e"] == pytest.approx(38.9, rel=1e-9)
    assert found["nn-c"]["nn_ci"]["nn_emb_gco2e"] == 0
    assert found["nn-emb"]["nn_ci"]["nn_emb_kgco2e"] == pytest.approx(5073771.929824561, rel=1e-9)
    assert found["nn-emb"]["embodied"] == {"gwp_kgco2e": pytest.approx(5073771.929824561)} | dict.fromkeys(
        INDICATORS[1:]
    )
