"""Sides beside each other: the thesis' comparisons, what is certain within ranges, and what is not to be compared."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.accounting.period_world import MONTH, Jobs
from tests.accounting.test_period_command import HOSTILE

from jobimpact.cli.main import main
from jobimpact.impact.ranges import Range
from jobimpact.report.compare import INDICATORS, Impact, Side, compare, with_work
from jobimpact.report.compare_json import dumps
from jobimpact.report.compare_text import compare_text

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = json.loads((DOCS / "schema" / "compare-1.json").read_text(encoding="utf-8"))
EXAMPLES = DOCS / "user" / "examples"
Captured = pytest.CaptureFixture[str]


def told(capsys: Captured, *words: str) -> tuple[dict[str, Any], str]:
    """The document and the text of a comparison."""
    assert main(["compare", *words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, SCHEMA)
    assert main(["compare", *words]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    return document, text


# -- the thesis ------------------------------------------------------------------------------------------------------

PRINTED = [
    ("gwp_kgco2e", 0.0783, 5e-5, 0.503, 5e-4),
    ("adp_kgsbe", 2.33e-6, 5e-9, 1.07e-4, 5e-7),
    ("pe_mj", 7.39, 5e-3, 29.0, 5e-2),
]
"""Totals of ResNet-50* on Apollo and Jetson, as the thesis prints them, with half a unit of the last digit."""


def test_apollo_beside_jetson(capsys: Captured) -> None:
    """The board that draws least takes most: 3.45 times the energy, 6.4 times the GWP, 46 times the ADP."""
    units = [f"{EXAMPLES / 'thesis.yaml'}#ResNet-50*, {where}" for where in ("Apollo 6500", "Jetson AGX Xavier")]
    document, text = told(capsys, *units)
    apollo, jetson = document["sides"]
    assert jetson["ratios"]["energy"]["value"] == pytest.approx(1.974036108 / 0.5723368444)
    assert jetson["ratios"]["time"]["value"] == pytest.approx(88.86541726 / 0.1876559211)
    for name, here, here_off, there, there_off in PRINTED:
        assert apollo["impacts"][name]["total"]["central"] == pytest.approx(here, abs=here_off)
        assert jetson["impacts"][name]["total"]["central"] == pytest.approx(there, abs=there_off)
        least, most = (there - there_off) / (here + here_off), (there + there_off) / (here - here_off)
        assert least <= jetson["ratios"][name]["value"] <= most
    assert {jetson["ratios"][name]["order"] for name in ("energy", *INDICATORS)} == {"more"}
    assert "more energy, GWP, ADP and PE" in " ".join(text.split())


def test_thirty_two_nodes_take_thirty_two_times_the_energy(capsys: Captured) -> None:
    """Stable Diffusion v1-1 by the thesis' lines: 470 kWh on one node, 15,000 on 32, for the same steps."""
    file = EXAMPLES / "stable-diffusion.yaml"
    document, text = told(capsys, f"{file}#v1-1", f"{file}#v1-1 on 32 nodes")
    one, many = document["sides"]
    assert one["energy_j"]["central"] / 3.6e6 == pytest.approx(470, abs=0.5)
    assert many["energy_j"]["central"] / 3.6e6 == pytest.approx(15000, abs=50)
    assert one["work"] == many["work"] == 431_000
    assert many["scaling"] == {"nodes": 32.0, "speed_up": None, "energy": pytest.approx(32)}
    assert "times the fewest nodes, for the same steps" in text


# -- ranges ----------------------------------------------------------------------------------------------------------


def side(name: str, **changes: Any) -> Side:
    fields: dict[str, Any] = {
        "name": name,
        "kind": "job",
        "jobs": 1,
        "state": "completed",
        "energy_j": Range(100.0, 100.0, 100.0),
        "time_s": 10.0,
        "nodes": 1,
        "cpus": 4,
        "gpus": 0,
        "coverage": 1.0,
        "methods": {"cpu": "counter"},
        "lacking": (),
        "impacts": {},
        "use_basis": "site",
        "embodied_basis": "node",
        "factors": "1",
    }
    return Side(**fields | changes)


def drawn(chosen: random.Random) -> Range:
    low, central, high = sorted(chosen.uniform(0.1, 10.0) for _ in range(3))
    return Range(low, central, high)


def at(found: Range, place: float) -> float:
    """From its least (0) over its middle (1) to its most (2)."""
    ends = (found.low, found.central, found.high)
    lower = min(int(place), 1)
    return ends[lower] + (ends[lower + 1] - ends[lower]) * (place - lower)


@pytest.mark.parametrize("shares", [("site", "node"), ("site", "other"), ("other", "node"), ("other", "other")])
def test_no_world_within_the_ranges_contradicts_the_ratio(shares: tuple[str, str]) -> None:
    """Wherever the factors lie, alike for both where they are shared, the ratio is within, and the order as told."""
    chosen = random.Random(7)
    orders = set()
    for _ in range(60):
        uses, makings = [drawn(chosen) for _ in range(2)], [drawn(chosen) for _ in range(2)]
        made = [
            side(
                name,
                impacts={"gwp_kgco2e": Impact(use, making, use + making)},
                use_basis=basis[0],
                embodied_basis=basis[1],
            )
            for name, use, making, basis in zip("ab", uses, makings, (("site", "node"), shares), strict=True)
        ]
        found = compare(made).ratios[1]["gwp_kgco2e"]
        assert found.low is not None
        assert found.high is not None
        orders.add(found.order)
        for _ in range(40):
            use, making = chosen.uniform(0, 2), chosen.uniform(0, 2)
            other_use = use if shares[0] == "site" else chosen.uniform(0, 2)
            other_making = making if shares[1] == "node" else chosen.uniform(0, 2)
            world = (at(uses[1], other_use) + at(makings[1], other_making)) / (
                at(uses[0], use) + at(makings[0], making)
            )
            assert found.low - 1e-9 <= world <= found.high + 1e-9
            assert not (found.order == "less" and world >= 1)
            assert not (found.order == "more" and world <= 1)
    assert "not known" in orders
    assert orders > {"not known"}


def test_what_so_many_steps_took_by_hand() -> None:
    """3.6 MJ over 1000 steps and 1.8 MJ over 250: for each 100 steps 360 and 720 kJ, and twice the energy."""
    impact = Impact(*(Range(part, part, part) for part in (0.1, 0.1, 0.2)))
    sides = [
        side("a", energy_j=Range(3.6e6, 3.6e6, 3.6e6), impacts=dict.fromkeys(("gwp_kgco2e",), impact)),
        side("b", energy_j=Range(1.8e6, 1.8e6, 1.8e6), impacts=dict.fromkeys(("gwp_kgco2e",), impact)),
    ]
    found = compare(with_work(sides, [1000.0, 250.0]), per=100.0)
    lines = [line.split() for line in compare_text(found).splitlines()]
    at = lines.index(["for", "each", "100", "steps"])
    assert lines[at + 1] == ["energy", "360", "kJ", "720", "kJ"]
    assert lines[at + 2] == ["GWP", "(climate)", "20.0", "g", "80.0", "g"]
    assert found.ratios[1]["energy"].value == pytest.approx(2.0)
    assert found.ratios[1]["gwp_kgco2e"].value == pytest.approx(4.0)


def test_a_shared_range_hides_no_difference() -> None:
    """Twice the same impact is twice, however wide the range; with factors of its own it may as well be less."""
    whole = Range(1.0, 4.0, 16.0)
    one = side("a", impacts={"pe_mj": Impact(whole, whole, whole + whole)})
    twice = one.impacts["pe_mj"].times(2.0)
    shared = compare([one, side("b", impacts={"pe_mj": twice})]).ratios[1]["pe_mj"]
    assert (shared.value, shared.order) == (2.0, "more")
    other = side("b", impacts={"pe_mj": twice}, use_basis="x", embodied_basis="y")
    own = compare([one, other])
    assert own.ratios[1]["pe_mj"].order == "not known"
    assert "b: which has less PE is not known: the ranges overlap." in own.verdicts


# -- what is not of the same kind ------------------------------------------------------------------------------------

NOT_ALIKE = [
    ({"coverage": 0.4}, "energy is known for 40 % only"),
    (
        {"methods": {"cpu": "counter", "rest": "gauge"}, "lacking": ()},
        "The rest of the node is in the energy of b, not of a",
    ),
    ({"methods": {"cpu": "modelled"}}, "Energy of b is modelled, not measured"),
    ({"energy_j": None, "methods": {}, "lacking": ("cpu",)}, "b: not measured"),
]


@pytest.mark.parametrize(("changes", "said"), NOT_ALIKE)
def test_sums_of_other_kinds_have_no_ratio(changes: dict[str, Any], said: str) -> None:
    """They are told side by side, with the reason, and never as a percentage or an order."""
    found = compare([side("a", lacking=("rest",)), side("b", **{"lacking": ("rest",)} | changes)])
    assert any(flag.startswith(said) or said in flag for flag in found.flags)
    ratio = found.ratios[1]["energy"]
    assert ratio.value is None
    assert ratio.why_not
    assert not any("less" in verdict or "more" in verdict for verdict in found.verdicts)
    jsonschema.validate(json.loads(dumps(found)), SCHEMA)
    compare_text(found)


def test_other_factors_compare_energy_alone() -> None:
    """Joules are joules; kilograms of two sets of factors are not the same."""
    impacts = {name: Impact(Range(1, 2, 3), Range(1, 2, 3), Range(2, 4, 6)) for name in INDICATORS}
    found = compare([side("a", impacts=impacts), side("b", impacts=impacts, factors="2", energy_j=Range(50, 50, 50))])
    assert found.ratios[1]["energy"].value == 0.5
    assert [found.ratios[1][name].why_not for name in INDICATORS] == ["other factors"] * 3
    assert any("different factors" in flag for flag in found.flags)
    assert found.verdicts == ("b: less energy than a.",)


# -- jobs ------------------------------------------------------------------------------------------------------------


def site(folder: Path) -> tuple[Jobs, list[str]]:
    jobs = Jobs(folder)
    return jobs, ["--config", str(jobs.world.config_file), "-u", "alice", "-S", "2026-10-01"]


def test_jobs_of_a_label(tmp_path: Path, capsys: Captured) -> None:
    """All runs of a model: their energy, with what failed, for the steps that were done."""
    jobs, words = site(tmp_path)
    for model, joules, steps in (("resnet50", 1000.0, "100"), ("resnet50", 3000.0, "300"), ("bert", 5000.0, "250")):
        jobs.add("alice", joules, labels={"model": model, "steps": steps})
    jobs.add("alice", 800.0, state="FAILED", labels={"model": "resnet50", "steps": "400"})
    jobs.add("bob", 1e9, labels={"model": "resnet50", "steps": "1"})
    jobs.add("alice", 1e9, MONTH - 60 * 86400, labels={"model": "resnet50", "steps": "1"})
    jobs.write()
    document, text = told(capsys, "model=resnet50", "model=bert", "--per", "100", *words)
    resnet, bert = document["sides"]
    assert (resnet["jobs"], resnet["energy_j"]["central"], resnet["work"]) == (3, 4800.0, 400.0)
    assert resnet["state"] == "1/3 failed"
    assert resnet["each"]["energy_j"]["central"] == 1200.0
    assert bert["each"]["energy_j"]["central"] == 2000.0
    assert bert["ratios"]["energy"]["value"] == pytest.approx(2000 / 1200)
    assert bert["ratios"]["gwp_kgco2e"]["value"] == pytest.approx(1 / 3 * 400 / 250)
    assert "for each 100 steps" in text


def test_more_jobs_than_one_answer_holds(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of a label are asked for in parts of their time; those on the edge of two count once."""
    monkeypatch.setattr("jobimpact.cli.compare._ROWS", 7)
    jobs, words = site(tmp_path)
    chosen = random.Random(3)
    for number in range(60):
        lasts = chosen.choice([100.0, 86400.0])
        end = MONTH + chosen.random() * 1e6
        model = "ab"[number % 2]
        jobs.add("alice", 1.0 + number, end, start_s=end - lasts, labels={"model": model})
    jobs.write()
    document, _ = told(capsys, "model=a", "model=b", *words)
    assert [one["jobs"] for one in document["sides"]] == [30, 30]
    sums = [sum(row.energy_j or 0.0 for row in jobs.rows if row.labels["model"] == model) for model in "ab"]
    assert [one["energy_j"]["central"] for one in document["sides"]] == pytest.approx(sums)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"start_s": None, "elapsed_s": None, "state": "CANCELLED"}, "it never ran"), ({"end_s": None}, "not over")],
)
def test_jobs_that_are_not_done(tmp_path: Path, capsys: Captured, changes: dict[str, Any], said: str) -> None:
    """One that never ran has no energy to compare; of one that runs the figures are told as those so far."""
    jobs, words = site(tmp_path)
    jobs.add("alice", 5.0)
    jobs.add("alice", 0.0 if "start_s" in changes else 7.0, **changes)
    jobs.write()
    document, text = told(capsys, "1", "2", *words)
    assert said in text
    assert (document["sides"][1]["energy_j"] is None) == ("start_s" in changes)


def test_more_nodes_for_the_same_steps(tmp_path: Path, capsys: Captured) -> None:
    """Four nodes that are three times as fast take a third more energy: told as scaling, by the fewest nodes."""
    jobs, words = site(tmp_path)
    for nodes, seconds, joules in ((4, 100.0, 4000.0), (1, 300.0, 3000.0)):
        names = tuple(f"node0{number}" for number in range(1, nodes + 1))
        jobs.add("alice", joules, elapsed_s=seconds, nodes=names, labels={"steps": "10"})
    jobs.write()
    document, _ = told(capsys, "1", "2", *words)
    many, one = document["sides"]
    assert one["scaling"] == {"nodes": 1.0, "speed_up": 1.0, "energy": 1.0}
    assert many["scaling"] == {"nodes": 4.0, "speed_up": pytest.approx(3), "energy": pytest.approx(4 / 3)}
    assert one["ratios"]["energy"]["value"] == pytest.approx(0.75)


@pytest.mark.parametrize("count", [2, 4, 5, 9])
def test_as_many_as_are_asked_for(tmp_path: Path, capsys: Captured, count: int) -> None:
    """Four stand beside each other, the others below, within 80 columns."""
    jobs, words = site(tmp_path)
    for number in range(count):
        jobs.add("alice", 1000.0 * 10**number)
    jobs.write()
    document, text = told(capsys, *map(str, range(1, count + 1)), "--steps", "7", *words)
    assert [one["ratios"]["energy"]["value"] for one in document["sides"]] == pytest.approx(
        [10**n for n in range(count)]
    )
    assert sum(line.split()[:1] == ["nodes"] for line in text.splitlines()) == -(-count // 4)


def test_what_is_not_measured_is_not_zero(tmp_path: Path, capsys: Captured) -> None:
    """A job without energy stands there with `-`, and nothing is told of its ratio."""
    jobs, words = site(tmp_path)
    jobs.add("alice", None)
    jobs.add("alice", 5.0)
    jobs.write()
    document, text = told(capsys, "2", "1", *words)
    assert document["sides"][1]["energy_j"] is None
    assert document["sides"][1]["ratios"]["energy"]["value"] is None
    assert "job 1: not measured." in text


@pytest.mark.parametrize("name", [one for one in HOSTILE if "=" not in one])
def test_hostile_labels(tmp_path: Path, capsys: Captured, name: str) -> None:
    """What a label says comes out clean."""
    jobs, words = site(tmp_path)
    jobs.add("alice", 5.0, labels={"model": name})
    jobs.add("alice", 6.0, labels={"model": "b"})
    jobs.write()
    document, text = told(capsys, f"model={name}", "model=b", *words)
    assert document["sides"][0]["name"] == f"model={name}"
    assert set(filter(lambda one: not one.isprintable(), text)) <= {"\n"}


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["1", "77"], 1, "job 77: unknown, or not yours"),
        (["1", "model=none"], 1, "model=none: no such jobs, or not yours"),
        (["1"], 2, "one alone cannot be compared"),
        (["1", "missing.yaml"], 2, "missing.yaml"),
        (["1", "soon"], 2, "neither a job's id"),
        (["1", "2", "--steps", "1,2,3"], 2, "--steps"),
        (["1", "2", "--steps", "none"], 2, "--steps"),
        (["1", "2", "--steps", "0"], 2, "--steps"),
        ([f"{EXAMPLES / 'thesis.yaml'}#nothing", "1"], 2, "no unit 'nothing'"),
    ],
)
def test_what_cannot_be_compared(tmp_path: Path, capsys: Captured, words: list[str], status: int, said: str) -> None:
    """Unknown jobs end with 1, wrong usage with 2, and nothing is compared."""
    jobs, more = site(tmp_path)
    jobs.add("alice")
    jobs.add("alice")
    jobs.write()
    assert main(["compare", *words, *more]) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
