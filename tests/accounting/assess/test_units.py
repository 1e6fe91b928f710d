"""Units that are not published anywhere: the arithmetic's laws, defaults that are said, and what is not known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.accounting.assess.asking import INDICATORS, ask, assessed, refused, written
from tests.accounting.world import World

from jobimpact.impact.factors import load_factors
from jobimpact.impact.functional_unit import Site, assess
from jobimpact.impact.inventory import load_inventory
from jobimpact.impact.parts import parts_of
from jobimpact.impact.unit_file import Electricity, Hardware, Unit

PER_KWH = {"gwp_kgco2e_per_kwh": [0.04, 0.05, 0.1], "adp_kgsbe_per_kwh": 5.0e-8, "pe_mj_per_kwh": [9, 11, 12]}
HARDWARE = {"gwp_kgco2e": [1000, 2000, 4000], "adp_kgsbe": 0.2, "pe_mj": [20000, 30000, 40000]}
WHOLE = {"name": "one", "energy_kwh": [1, 2, 3], "duration_hours": 100, "electricity": PER_KWH, "hardware": HARDWARE}

amounts = st.floats(0, 1e9)
ranges = st.lists(amounts, min_size=3, max_size=3).map(sorted)
quantities = amounts | ranges


@given(quantities, quantities, st.floats(1, 5), st.floats(0, 1), st.floats(1, 1e6), st.floats(0.01, 1))
def test_total_is_use_and_embodied_by_the_formula(
    energy: Any, hours: Any, pue: float, share: float, lifetime: float, used: float
) -> None:
    """PUE x IF x E + T / (U x L) x share x I at the low, the central and the high end, and they stay in order."""
    unit = Unit(
        energy_kwh=energy,
        duration_hours=hours,
        pue=pue,
        share=share,
        lifetime_hours=lifetime,
        active_utilisation=used,
        electricity=Electricity(gwp_kgco2e_per_kwh=PER_KWH["gwp_kgco2e_per_kwh"]),
        hardware=Hardware(gwp_kgco2e=HARDWARE["gwp_kgco2e"]),
    )
    found = assess(unit, Site()).total["gwp_kgco2e"]
    assert found is not None
    for at, ours in enumerate((found.low, found.central, found.high)):
        kwh, held = (one[at] if isinstance(one, list) else one for one in (energy, hours))
        use = pue * kwh * PER_KWH["gwp_kgco2e_per_kwh"][at]
        assert ours == pytest.approx(use + held / (used * lifetime) * share * HARDWARE["gwp_kgco2e"][at], rel=1e-9)
    assert found.low <= found.central <= found.high


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(sum), st.floats(0, 1e4))
def test_shares_of_a_node_add_up_to_it(parts: list[float], hours: float) -> None:
    """What those who hold a node between them carry is what one who holds all of it does."""
    shares = [part / math.fsum(parts) for part in parts]
    hardware = Hardware(gwp_kgco2e=3858.0)

    def gwp(share: float) -> float:
        found = assess(Unit(duration_hours=hours, hardware=hardware, share=share), Site()).embodied["gwp_kgco2e"]
        assert found is not None
        return found.central

    assert math.fsum(gwp(min(one, 1.0)) for one in shares) == pytest.approx(gwp(1.0), rel=1e-9)


def test_ranges_and_centrals_in_json(tmp_path: Path) -> None:
    """Central values are plain numbers, low and high are beside them, and the method has every input as given."""
    one = assessed(tmp_path, WHOLE)["one"]
    assert one["use"]["gwp_kgco2e"] == pytest.approx(0.1)
    assert one["ranges"]["use"]["gwp_kgco2e"] == pytest.approx([0.04, 0.3])
    assert one["embodied"]["pe_mj"] == pytest.approx(30000 * 100 / 35064)
    assert one["ranges"]["total"]["pe_mj"] == pytest.approx([9 + 2000000 / 35064, 36 + 4000000 / 35064])
    assert one["ranges"]["energy_kwh"] == [1, 3]
    method = one["method"]
    assert method["energy_kwh"] == {"value": [1, 2, 3], "source": "given"}
    assert method["electricity"]["value"]["adp_kgsbe"] == [5.0e-8] * 3
    assert method["hardware"]["value"]["gwp_kgco2e"] == [1000, 2000, 4000]
    assert (method["share"]["value"], method["nodes"]["value"]) == (1, 1)
    assert one["reasons"] == {}


def test_what_is_assumed_is_said(tmp_path: Path) -> None:
    """PUE 1, 4 years of 8766 h and no idle time, each in the method with its source and in the notes where assumed."""
    one = assessed(tmp_path, WHOLE)["one"]
    assert one["method"]["pue"] == {"value": 1, "source": "assumed: none is given"}
    assert one["method"]["lifetime_hours"]["value"] == 35064
    assert one["method"]["lifetime_hours"]["source"].startswith("assumed")
    assert one["method"]["active_utilisation"]["value"] is None
    assert [note.split(" is assumed")[0] for note in one["notes"]] == ["PUE 1", "a service life of 35064 h (4 years)"]
    given = {"pue": 1.0, "lifetime_hours": 35064, "active_utilisation": 1.0}
    other = assessed(tmp_path, WHOLE | given)["one"]
    assert (other["notes"], other["total"]) == ([], one["total"])


@pytest.mark.parametrize(
    ("missing", "part", "why"),
    [
        ("energy_kwh", "use", "no energy is given"),
        ("electricity", "use", "no electricity is given"),
        ("duration_hours", "embodied", "no duration_hours is given"),
        ("hardware", "embodied", "no hardware is given"),
    ],
)
def test_what_is_missing_is_null_with_the_reason(tmp_path: Path, missing: str, part: str, why: str) -> None:
    """Without an input its part and the total are null, not zero; the other part stands."""
    one = assessed(tmp_path, {key: value for key, value in WHOLE.items() if key != missing})["one"]
    other = "embodied" if part == "use" else "use"
    for indicator in INDICATORS:
        assert (one[part][indicator], one["total"][indicator]) == (None, None)
        assert one["ranges"][part][indicator] is None
        assert why in one["reasons"][part][indicator]
        assert why in one["reasons"]["total"][indicator]
        assert one[other][indicator] > 0
    assert other not in one["reasons"]


def test_an_indicator_that_is_missing_is_null_alone(tmp_path: Path) -> None:
    """Electricity without ADP: the use's ADP and the total's are not known; all else is."""
    per_kwh = {key: value for key, value in PER_KWH.items() if key != "adp_kgsbe_per_kwh"}
    one = assessed(tmp_path, WHOLE | {"electricity": per_kwh})["one"]
    assert one["use"] == {"gwp_kgco2e": pytest.approx(0.1), "adp_kgsbe": None, "pe_mj": pytest.approx(22)}
    assert one["embodied"]["adp_kgsbe"] > 0
    assert one["total"]["adp_kgsbe"] is None
    assert one["reasons"]["use"] == {"adp_kgsbe": "electricity.adp_kgsbe_per_kwh is not given"}
    assert list(one["reasons"]["total"]) == ["adp_kgsbe"]
    assert one["method"]["electricity"]["value"]["adp_kgsbe"] is None


def test_zero_is_a_value(tmp_path: Path) -> None:
    """No energy, no time, no share and clean electricity are zeros, not gaps."""
    zero = {"energy_kwh": 0, "duration_hours": 0, "share": 0}
    one = assessed(tmp_path, WHOLE | zero | {"electricity": dict.fromkeys(PER_KWH, 0)})["one"]
    assert one["total"] == dict.fromkeys(INDICATORS, 0)
    assert one["reasons"] == {}


def test_longer_than_its_life_is_noted(tmp_path: Path) -> None:
    """More than the whole hardware is counted, and said to be."""
    one = assessed(tmp_path, WHOLE | {"lifetime_hours": 100, "active_utilisation": 0.5})["one"]
    assert one["embodied"]["gwp_kgco2e"] == pytest.approx(4000)
    assert any("longer than the service life" in note for note in one["notes"])


def test_a_zone_needs_no_configuration(tmp_path: Path) -> None:
    """The shipped factors, with their sources and version, on a machine where nothing is configured."""
    unit = {"name": "one", "energy_kwh": 2, "zone": "FRA"}
    one = assessed(tmp_path, unit)["one"]
    per_kwh = load_factors().zone("FRA").per_kwh
    for indicator in INDICATORS:
        low, high = one["ranges"]["use"][indicator]
        expected = getattr(per_kwh, indicator)
        ours = (low, one["use"][indicator], high)
        assert ours == pytest.approx((2 * expected.low, 2 * expected.central, 2 * expected.high), rel=1e-12)
    assert "FRA" in one["method"]["electricity"]["source"]
    assert one["method"]["electricity"]["sources"]
    assert one["method"]["factors"] == load_factors().version


def test_a_node_of_the_inventory(tmp_path: Path) -> None:
    """Its parts, PUE and lifetime, and the site's zone, with the inventory's version; what is given comes first."""
    site = World(tmp_path)
    unit = {"name": "site", "energy_kwh": 2, "duration_hours": 10, "node": "a100", "nodes": 3, "share": 0.5}
    own = unit | {"name": "own", "pue": 1.1, "lifetime_hours": 1000, "zone": "DEU"}
    found = assessed(tmp_path, {"units": [unit, own]}, "--config", site.config_file)
    factors, inventory = load_factors(), load_inventory(tmp_path / "nodes.yaml")
    whole = parts_of(inventory.types["a100"], factors).whole
    gwp = factors.zone("FRA").per_kwh.gwp_kgco2e.central
    assert found["site"]["use"]["gwp_kgco2e"] == pytest.approx(2 * 1.3 * gwp, rel=1e-9)
    for indicator in INDICATORS:
        held = 1.5 * getattr(whole, indicator).central
        assert found["site"]["embodied"][indicator] == pytest.approx(held * 10 / 35064, rel=1e-9)
        assert found["own"]["embodied"][indicator] == pytest.approx(held * 10 / 1000, rel=1e-9)
    gwp = factors.zone("DEU").per_kwh.gwp_kgco2e.central
    assert found["own"]["use"]["gwp_kgco2e"] == pytest.approx(2 * 1.1 * gwp, rel=1e-9)
    assert found["site"]["method"]["inventory"] == "2026-11"
    assert found["site"]["method"]["pue"] == {"value": 1.3, "source": "the inventory's"}
    assert found["site"]["method"]["lifetime_hours"] == {"value": 35064, "source": "the inventory's"}


def test_a_node_needs_a_configuration_and_a_type(tmp_path: Path) -> None:
    """Each missing piece is named: the configuration, the inventory, the type with those that there are."""
    unit = {"units": [{"energy_kwh": 1, "node": "v100"}]}
    said = refused(tmp_path, unit, "--config", tmp_path / "none.yaml")
    assert said.startswith("units[0].node: the inventory is found by the configuration: ")
    assert "none.yaml: No such file" in said
    site = World(tmp_path)
    said = refused(tmp_path, unit, "--config", site.config_file)
    assert said == "units[0].node: 'v100': not a type of the inventory; allowed: cpu, a100"
    (tmp_path / "nodes.yaml").unlink()
    assert "no inventory" in refused(tmp_path, unit, "--config", site.config_file)


def test_a_broken_configuration_does_not_stop_what_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Units with their own figures are answered whatever $JOBIMPACT_CONFIG says; a zone is not."""
    broken = tmp_path / "broken.yaml"
    broken.write_text("clutser: lab\n", encoding="utf-8")
    monkeypatch.setenv("JOBIMPACT_CONFIG", str(broken))
    assert ask(written(tmp_path, WHOLE))[0] == 0
    status, _, err = ask(written(tmp_path, {"energy_kwh": 1, "zone": "FRA"}))
    assert (status, "clutser: unknown key" in err) == (2, True)


def test_names(tmp_path: Path) -> None:
    """A unit at the top is named by its file, those of a list by their place, if they have no name."""
    assert list(assessed(tmp_path, {"energy_kwh": 1})) == ["units"]
    assert list(assessed(tmp_path, {"units": [{"energy_kwh": 1}, {"name": "b", "energy_kwh": 1}]})) == [
        "units[0]",
        "b",
    ]
