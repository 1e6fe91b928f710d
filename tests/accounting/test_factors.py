"""The files of factors: what ships is whole and cited, names are found, a site's own files stand in their place."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jobimpact.core.errors import ConfigError
from jobimpact.impact.factors import DATA, Factors, load_factors

FACTORS = load_factors()
GIVES_A_RANGE = {
    *("parametric", "span_nic", "densities", "ipcc_ar5", "ipcc_srren"),
    *("genoa_dies", "known_dies", "guessed_dies", "as_other", "as_renewable", "as_waste"),
    *("metrion", "nvml", "hdeem", "meter_assumption", "rest_assumption", "model_assumption"),
}
"""Sources that tell low and high themselves; of any other one a range must name whose its ends are."""
MODELS = [model for chip in FACTORS.cpus.chips.values() for model in chip.models]
FILES = sorted({path.name for path in DATA.glob("*.yaml")} - {"equivalents.yaml"})
"""What impacts are made with; everyday things that they are set beside are none."""


def triples(found: Any, where: str = "") -> Iterator[tuple[str, list[float], dict[str, Any]]]:
    """Every list of three numbers, where it is, and the record that it is in."""
    for key, value in found.items():
        if isinstance(value, dict):
            yield from triples(value, f"{where}{key}.")
        elif isinstance(value, list) and len(value) == 3 and not isinstance(value[0], str):
            yield f"{where}{key}", value, found


@pytest.mark.parametrize("name", FILES)
def test_every_number_has_low_central_high_and_sources_for_each(name: str) -> None:
    """Each triple is in order and finite, and each end that differs from the centre has a source of its own."""
    file = yaml.safe_load((DATA / name).read_text())
    found = list(triples(file))
    assert found
    for where, (low, central, high), record in found:
        assert 0 <= low <= central <= high < math.inf, where
        assert record["source"] in file["sources"], where
        if low < central or central < high:
            assert record.get("span") or record["source"] in GIVES_A_RANGE, where


@pytest.mark.parametrize("name", FILES)
def test_every_source_has_title_year_and_licence_and_is_cited(name: str) -> None:
    """No source is empty, and none stands in a file that nothing there cites."""
    file = yaml.safe_load((DATA / name).read_text())
    text = (DATA / name).read_text()
    for key, source in file["sources"].items():
        assert all(source[part] for part in ("title", "year", "licence")), key
        assert text.count(key) > 1, key
        assert FACTORS.cite(key) == f"{source['title']} ({source['year']}; {source['licence']})"


def test_no_part_of_a_node_is_a_single_number() -> None:
    """Of every part each indicator has a low below and a high above, or a stated reason why an end is the centre."""
    for name, part in msgspec.to_builtins(FACTORS.components.parts).items():
        for indicator in ("gwp_kgco2e", "adp_kgsbe", "pe_mj"):
            low, central, high = part[indicator]
            assert low < central, (name, indicator)
            assert central < high or "span_memory" in part["span"], (name, indicator)
        assert part["adp_kgsbe"][2] > 2.5 * part["adp_kgsbe"][1], name


def test_a_source_that_nobody_lists_is_an_error() -> None:
    """Citing what is in no file says so."""
    with pytest.raises(ConfigError, match="'hearsay'"):
        FACTORS.cite("hearsay")


def test_all_zones_have_all_indicators_with_a_span() -> None:
    """29 zones; GWP central as published; ADP and PE have a range too; no implausible world figures."""
    zones = FACTORS.electricity.zones
    assert len(zones) == 29
    assert {"FRA", "DEU", "TWN", "BRA", "WOR", "EEE"} <= set(zones)
    for name, zone in zones.items():
        per_kwh = zone.per_kwh
        for one in (per_kwh.adp_kgsbe, per_kwh.pe_mj):
            assert 0 < one.low < one.central < one.high, name
        assert 0 < per_kwh.gwp_kgco2e.low <= per_kwh.gwp_kgco2e.central <= per_kwh.gwp_kgco2e.high, name
    assert zones["FRA"].per_kwh.gwp_kgco2e.central == 0.04418
    assert zones["FRA"].per_kwh.pe_mj.high == 12.2
    assert zones["WOR"].per_kwh.pe_mj.low > 6


DRIVER_NAMES = [
    ("NVIDIA A100-SXM4-80GB", "A100-SXM4-80GB"),
    ("A100-SXM4-40GB", "A100-SXM4-40GB"),
    ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", "A100-SXM4-80GB"),
    ("NVIDIA A100-PCIE-40GB", "A100-PCIe-40GB"),
    ("NVIDIA A100 80GB PCIe", "A100-PCIe-80GB"),
    ("NVIDIA H100 80GB HBM3", "H100-SXM5-80GB"),
    ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "H100-SXM5-80GB"),
    ("NVIDIA H100 PCIe", "H100-PCIe-80GB"),
    ("NVIDIA H200", "H200-SXM-141GB"),
    ("NVIDIA GH200 480GB", "GH200-96GB"),
    ("NVIDIA B200", "B200-SXM-180GB"),
    ("NVIDIA L4", "L4"),
    ("NVIDIA L40S", "L40S"),
    ("NVIDIA A40", "A40"),
    ("NVIDIA A10", "A10"),
    ("NVIDIA RTX A6000", "RTX-A6000"),
    ("RTX A6000", "RTX-A6000"),
    ("Quadro RTX 6000", "Quadro-RTX-6000"),
    ("TITAN RTX", "TITAN-RTX"),
    ("NVIDIA GeForce RTX 4090", "RTX-4090"),
    ("GeForce GTX 1080 Ti", "GTX-1080-Ti"),
    ("Tesla K80", "K80"),
    ("Tesla P100-SXM2-16GB", "P100-SXM2-16GB"),
    ("Tesla V100-PCIE-32GB", "V100-PCIe-32GB"),
    ("Tesla T4", "T4"),
    ("AMD Instinct MI300X", "MI300X-192GB"),
    ("AMD Instinct MI300X OAM", "MI300X-192GB"),
    ("AMD Instinct MI250X / MI250", "MI250X-128GB"),
]


@pytest.mark.parametrize(("driver_says", "ours"), DRIVER_NAMES)
def test_a_driver_s_name_finds_its_card(driver_says: str, ours: str) -> None:
    """Names as NVML and ROCm give them, of cards and of MIG slices, need no rewriting."""
    assert FACTORS.gpu(driver_says) is FACTORS.gpus.gpus[ours]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "NVIDIA L40",
            "NVIDIA L4 Ada",
            "NVIDIA A100",
            "NVIDIA A10G",
            "NVIDIA A100X",
            "NVIDIA H100 NVL",
            "NVIDIA H20",
        ),
        *(
            "NVIDIA GH200 144G HBM3e",
            "NVIDIA RTX 6000 Ada Generation",
            "NVIDIA GeForce RTX 4090 D",
            "Tesla V100-SXM3-32GB",
        ),
        *(
            "NVIDIA Graphics Device",
            "NVIDIA",
            "",
            "AMD Instinct MI300A",
            "Tesla P100-PCIE-12GB",
            "NVIDIA GeForce RTX 3090 Ti",
        ),
    ],
)
def test_a_name_that_is_only_like_another_is_unknown(name: str) -> None:
    """A card that is not listed is not the nearest one."""
    assert FACTORS.gpu(name) is None


def test_every_card_is_found_by_each_of_its_names_and_no_two_share_one() -> None:
    """Keys and aliases lead to their own card, all 33 of them."""
    assert len(FACTORS.gpus.gpus) == 33
    for key, gpu in FACTORS.gpus.gpus.items():
        for name in (key, *gpu.aliases, f"NVIDIA {key} MIG 1g.5gb"):
            assert FACTORS.gpu(name) is gpu, name


@pytest.mark.parametrize(
    ("model", "mm2"),
    [
        ("AMD EPYC 7763 64-Core Processor", 1064),
        ("AMD EPYC 7742 64-Core Processor", 1008),
        ("AMD EPYC 7543P 32-Core Processor", 1064),
        ("AMD EPYC 9654 96-Core Processor", 1261),
        ("AMD EPYC 7551P 32-Core Processor", 852),
        ("Intel(R) Xeon(R) CPU E5-2698 v4 @ 2.20GHz", 456),
        ("Intel(R) Xeon(R) CPU E5-2650 0 @ 2.00GHz", 416),
        ("Intel(R) Xeon(R) CPU E5-2650 v2 @ 2.60GHz", 341),
        ("Intel(R) Xeon(R) CPU E5-2650 v4 @ 2.20GHz", 306),
        ("Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz", 485),
        ("Gold 6148", 485),
        ("Intel(R) Xeon(R) Gold 6248R CPU @ 3.00GHz", 694),
        ("Intel(R) Xeon(R) Silver 4114 CPU @ 2.20GHz", 325),
        ("Intel(R) Xeon(R) Platinum 8480+", 1600),
        ("Intel(R) Xeon(R) Platinum 8480C", 1600),
        ("INTEL(R) XEON(R) PLATINUM 8568Y+", 1526),
        ("Intel(R) Xeon(R) 6980P", 2276),
        ("AMD Ryzen Threadripper PRO 5995WX 64-Cores", 1064),
        ("NVIDIA Grace", 600),
    ],
)
def test_a_kernel_s_name_finds_its_cpu(model: str, mm2: float) -> None:
    """Names as /proc/cpuinfo gives them lead to the dies they are made of."""
    found = FACTORS.cpu(model)
    assert found is not None
    assert found.die_mm2.central == pytest.approx(mm2)
    assert found.die_mm2.low <= found.die_mm2.central <= found.die_mm2.high
    assert all(map(FACTORS.cite, found.sources))


@pytest.mark.parametrize(
    "model",
    [
        *(
            "Intel(R) Core(TM) i7-9700 CPU @ 3.00GHz",
            "Gold 614",
            "Intel(R) Xeon(R) Gold 614 CPU",
            "Gold 61480",
            "6148",
        ),
        *(
            "AMD EPYC",
            "AMD EPYC-Milan Processor",
            "EPYC 776",
            "Intel Xeon Processor (Skylake, IBRS)",
            "Zilog Z80",
            "",
            "@",
        ),
        *("Intel(R) Xeon(R) CPU E5-2697 v5 @ 2.20GHz", "Intel(R) Xeon(R) CPU E5-2670 v7 @ 2.60GHz"),
    ],
)
def test_a_cpu_that_is_not_listed_is_unknown(model: str) -> None:
    """A name of which another is a part, or which is a part of another, is not that one."""
    assert FACTORS.cpu(model) is None


def test_no_cpu_is_listed_twice() -> None:
    """Each model is of one chip only, whatever the order of the file."""
    assert len(MODELS) == len(set(MODELS)) > 300


@given(st.sampled_from(MODELS), st.sampled_from("0123456789ax"))
def test_one_character_more_is_another_cpu(model: str, more: str) -> None:
    """A listed model with a character glued to its end is never taken for it."""
    glued = model.rstrip("+") + more
    assert FACTORS.cpu(model) is not None
    assert FACTORS.cpu(glued) is None or glued.lower() in {one.lower().rstrip("+") for one in MODELS}


def test_the_longest_name_counts(tmp_path: Path) -> None:
    """Of two listed names that both fit, the one with more words is meant."""
    file = yaml.safe_load((DATA / "cpus.yaml").read_text())
    file["chips"] = {
        "one": {"dies": {"zeppelin": 1}, "source": "known_models", "models": ["EPYC 7763"]},
        "two": {"dies": {"zeppelin": 2}, "source": "known_models", "models": ["EPYC 7763 Special"]},
    }
    factors = replaced(tmp_path, "cpus.yaml", file)
    plain, special = (
        factors.cpu("AMD EPYC 7763 64-Core Processor"),
        factors.cpu("AMD EPYC 7763 Special 64-Core Processor"),
    )
    assert plain is not None
    assert special is not None
    assert special.die_mm2.central == 2 * plain.die_mm2.central


def test_generation_has_entso_e_s_kinds() -> None:
    """Each code that carries energy, with IPCC's medians; storage is not counted."""
    kinds = FACTORS.generation
    assert {f"B{at:02d}" for at in range(1, 21)} | {"B25"} == set(kinds)
    central = {code: one.gwp_kgco2e_per_kwh.central for code, one in kinds.items()}
    assert (central["B05"], central["B04"], central["B14"], central["B19"]) == (0.82, 0.49, 0.012, 0.011)
    assert {code for code, one in kinds.items() if not one.counted} == {"B10", "B25"}
    assert all(FACTORS.cite(source) for one in kinds.values() for source in one.sources)


@pytest.mark.parametrize("kind", ["cpu", "dram", "gpu", "rest", "node"])
@pytest.mark.parametrize("method", ["counter", "gauge", "modelled"])
def test_each_meter_has_a_factor_around_one(kind: str, method: str) -> None:
    """Whatever the meter, what it says is in the range; a model is less sure than a counter."""
    found = FACTORS.meter(kind, method)
    assert 0 < found.low < found.central == 1 < found.high
    modelled, counter = FACTORS.meter(kind, "modelled"), FACTORS.meter(kind, "counter")
    assert modelled.low < counter.low
    assert modelled.high > counter.high


@pytest.mark.parametrize(
    ("kind", "method"), [("fan", "counter"), ("cpu", "guess"), ("cpu", "range"), ("set", "counter")]
)
def test_an_unknown_meter_names_the_known(kind: str, method: str) -> None:
    """A kind or a method that there is not is an error."""
    with pytest.raises(ConfigError, match=r"not known; allowed: "):
        FACTORS.meter(kind, method)


def replaced(folder: Path, name: str, file: object) -> Factors:
    (folder / name).write_text(yaml.safe_dump(file), encoding="utf-8")
    return load_factors(folder)


def test_a_site_s_file_stands_in_place_of_ours(tmp_path: Path) -> None:
    """One file is enough; the others are the shipped ones; other things in the folder do not matter."""
    (tmp_path / "README.txt").write_text("ours")
    file = yaml.safe_load((DATA / "electricity.yaml").read_text())
    file["zones"]["FRA"]["gwp_kgco2e_per_kwh"]["values"] = [0.01, 0.02, 0.03]
    factors = replaced(tmp_path, "electricity.yaml", file)
    assert factors.zone("FRA").per_kwh.gwp_kgco2e.central == 0.02
    assert factors.gpus == FACTORS.gpus


def test_an_edited_file_is_never_taken_for_ours(tmp_path: Path) -> None:
    """Name and version unchanged, one digit or only a comment changed: another version; the same bytes: the same."""
    assert load_factors(None).version == FACTORS.version
    for name in FILES:
        assert FACTORS.files[name.removesuffix(".yaml")].startswith("2026.")
    text = (DATA / "meters.yaml").read_text()
    (tmp_path / "meters.yaml").write_text(text)
    assert load_factors(tmp_path).version.startswith(f"{FACTORS.version} with meters ")
    (tmp_path / "meters.yaml").write_text(text + "# more\n")
    other = load_factors(tmp_path)
    assert not other.version.startswith(FACTORS.version)
    assert {name for name in other.files if other.files[name] != FACTORS.files[name]} == {"meters"}


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (None, r"absent: the folder of factors: No such file"),
        ({}, r"absent: no file of factors in it; any of .*electricity\.yaml"),
        ({"readme.txt": "x"}, r"no file of factors in it"),
        ({"electricty.yaml": "x"}, r"electricty\.yaml: not a file of factors; allowed: .*electricity\.yaml"),
        ({"electricity.yml": "x"}, r"electricity\.yml: not a file of factors"),
        ({"meters.yaml": "a: [1"}, r"meters\.yaml: "),
        ({"meters.yaml": ""}, r"meters\.yaml: .*required"),
    ],
)
def test_a_wrong_folder_of_factors_is_named(tmp_path: Path, made: dict[str, str] | None, said: str) -> None:
    """No folder, nothing in it, a name misspelt, a file that is no YAML: told, and never the shipped ones instead."""
    folder = tmp_path / "absent"
    if made is not None:
        folder.mkdir()
        for name, text in made.items():
            (folder / name).write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_factors(folder)


def test_a_file_where_the_folder_should_be_is_named(tmp_path: Path) -> None:
    """A path to a file is not a folder of factors."""
    (tmp_path / "meters.yaml").write_text("x")
    with pytest.raises(ConfigError, match=r"meters\.yaml: the folder of factors: Not a directory"):
        load_factors(tmp_path / "meters.yaml")


FRANCE = "[0.04144, 0.04418, 0.098]"
AT_FRANCE = r"zones\.FRA\.gwp_kgco2e_per_kwh\.values"
DENSITY = "[0.42105, 0.80412, 1.6]"


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("electricity.yaml", FRANCE, "[0.2, 0.04418, 0.098]", rf"{AT_FRANCE}: low"),
        ("electricity.yaml", FRANCE, "[-0.1, 0.04418, 0.098]", rf"{AT_FRANCE}\[0\]"),
        ("electricity.yaml", FRANCE, "[0.0, .nan, 0.098]", AT_FRANCE),
        ("electricity.yaml", FRANCE, "[0.0, 0.04418, .inf]", AT_FRANCE),
        ("electricity.yaml", FRANCE, "[0.04418, 0.098]", AT_FRANCE),
        ("electricity.yaml", FRANCE, "0.04418", AT_FRANCE),
        ("electricity.yaml", "span: [jay_2024]", "span: [nobody]", r"zones\.FRA\.pe_mj_per_kwh\.span: no source"),
        ("gpus.yaml", "[164, 223, 313]", "[164, 400, 313]", r"gpus\.K80\.gwp_kgco2e: low"),
        ("gpus.yaml", "[164, 223, 313]", "[164, .nan, 313]", r"gpus\.K80\.gwp_kgco2e"),
        ("gpus.yaml", "source: span_nic", "source: nobody", r"nic\.source: no source 'nobody'"),
        ("components.yaml", "[34, 150, 225]", "[34, 150, .inf]", r"parts\.case\.gwp_kgco2e"),
        ("components.yaml", DENSITY, "[1.6, 0.80412, 0.42105]", r"quantities\.ram_cm2_per_gb\.values: low"),
        ("components.yaml", "  board: ", "  bord: ", r"parts\.bord: unknown key|parts.*board"),
        ("cpus.yaml", "dies: {zeppelin: 4}", "dies: {zepelin: 4}", r"chips\.naples\.dies: no die 'zepelin'"),
        ("cpus.yaml", "dies: {zeppelin: 4}", "dies: {zeppelin: 0}", r"chips\.naples\.dies"),
        ("cpus.yaml", "[EPYC 7251,", "[Intel CPU,", r"chips\.naples\.models: 'Intel CPU' names no model"),
        ("generation.yaml", "  B01:", "  biomass:", r"kinds"),
        ("generation.yaml", "[0.130, 0.230, 0.420]", "[0.130, 0.530, 0.420]", r"kinds\.B01\.gwp_kgco2e_per_kwh: low"),
        ("meters.yaml", "[0.84, 1, 1.16]", "[0.84, 1.01, 1.16]", r"meters\.dram\.counter: the central factor"),
        ("meters.yaml", "[0.84, 1, 1.16]", "[0.84, 1, .nan]", r"meters\.dram\.counter\.values"),
        ("meters.yaml", "  metrion: {title:", "  metrics: {title:", r"meters\.cpu\.counter\.source: no source"),
    ],
)  # fmt: skip
def test_a_wrong_factor_names_file_and_key(tmp_path: Path, name: str, old: str, new: str, said: str) -> None:
    """Numbers out of order, negative, not finite or missing, and unlisted sources are errors that say where."""
    text = (DATA / name).read_text()
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=said) as error:
        load_factors(tmp_path)
    assert str(tmp_path / name) in str(error.value)


def test_two_files_may_not_mean_two_sources_by_one_name(tmp_path: Path) -> None:
    """A citation must be clear, whichever file it comes from."""
    text = (DATA / "meters.yaml").read_text().replace("metrion", "boavizta")
    (tmp_path / "meters.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"meters\.yaml: sources\.boavizta: components\.yaml has another source"):
        load_factors(tmp_path)


def test_derived_figures_keep_their_licence_beside_them() -> None:
    """The GPU file's licence stands in a file of its own, and its sources say the same."""
    text = (DATA / "gpus.yaml.license").read_text()
    assert "SPDX-License-Identifier: CC-BY-SA-4.0" in text.splitlines()
    file = yaml.safe_load((DATA / "gpus.yaml").read_text())
    assert {source["licence"] for source in file["sources"].values()} == {"CC BY-SA 4.0"}
    for name in set(FILES) - {"gpus.yaml"}:
        assert "BY-SA" not in (DATA / name).read_text(), name
