"""What a report says of a job and of an array, and how it is printed: of jobs that were really accounted for."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.report.stories import Site, Story, stories

from jobimpact.answers.query import Group
from jobimpact.cli.asked import CSV_ROWS
from jobimpact.core.config import Findings
from jobimpact.core.errors import ConfigError
from jobimpact.core.records import Progress
from jobimpact.findings.judge import of_array, of_job
from jobimpact.report.activity import activity_lines, gain
from jobimpact.report.equivalents import equivalents, load_equivalents
from jobimpact.report.group import group_view
from jobimpact.report.job import job_view
from jobimpact.report.page import group_page
from jobimpact.report.text import MOST_ADVICE, MOST_LINES, group_text, job_text, method_text
from jobimpact.report.view import Advice, EndingRow, GroupView, JobView
from jobimpact.results.outcome import FAILED
from jobimpact.results.read import Reader
from jobimpact.results.select import Selection
from jobimpact.results.sums import Ending, Sums, sums_of

NAMES = (
    *("good", "crash", "idle_gpu", "part_measured", "not_measured", "asked_too_much", "starved", "hostile"),
    *("array_300", "array_100k"),
)
PARTS = ("use", "embodied")
COLOURS = re.compile(r"\x1b\[\d+m")


def view_of(story: Story) -> JobView | GroupView:
    if story.group is None:
        return job_view(story.job, findings=of_job(story.job, Findings(), 0.2), details=story.details)
    endings = story.group.sums.endings if story.group.sums else ()
    return group_view(story.group, findings=of_array(endings, story.jobs, Findings(), 0.2))


def printed(view: JobView | GroupView, *, colour: bool = False, cluster: bool = False) -> str:
    if isinstance(view, JobView):
        return job_text(view, colour=colour, cluster=cluster)
    return group_text(view, colour=colour, cluster=cluster)


@pytest.fixture(name="story", params=NAMES, scope="module")
def _story(request: pytest.FixtureRequest) -> Story:
    return stories()[request.param]


def test_every_story_is_told() -> None:
    """None is left out here."""
    assert set(NAMES) == set(stories())


def test_text_fits_80_columns_and_moves_no_cursor(story: Story) -> None:
    """Whatever the job is called; the method as well."""
    view = view_of(story)
    for text in (printed(view), printed(view, cluster=True), method_text(view)):
        assert max(map(len, text.splitlines()), default=0) <= 80
        assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text) is None


def test_colours_only_paint(story: Story) -> None:
    """What is said is the same without, and red stands for failures alone."""
    view = view_of(story)
    painted = printed(view, colour=True)
    assert COLOURS.sub("", painted) == printed(view)
    red = re.findall(r"\x1b\[31m(.*?)\x1b\[0m", painted)
    assert all(text.split()[0] in FAILED for text in red)
    assert bool(re.search(r"\x1b\[33m", painted)) == any(one.tone == "bad" for one in view.advice)


def test_each_figure_of_a_report_by_hand() -> None:
    """8 h of 1802 W: 14.416 kWh, x PUE 1.3, x France's 44.18 g, 48.58 µg and 11.289 MJ a kWh."""
    one = stories()["good"].job
    view = job_view(one)
    assert (view.total, view.total_kwh) == ("51.9 MJ", "14.4 kWh")
    assert {row.kind: row.amount for row in view.energy} == {
        "cpu": "3.40 MJ",
        "dram": "605 kJ",
        "gpu": "40.4 MJ",
        "rest": "7.49 MJ",
    }
    gwp, adp, pe = view.impacts
    assert (gwp.use, adp.use, pe.use) == ("828 g", "910 µg", "212 MJ")
    kwh = 1802 * 8 / 1000 * 1.3
    assert gwp.use_central == pytest.approx(kwh * 0.04418)
    assert adp.use_central == pytest.approx(kwh * 4.858e-8)
    assert pe.use_central == pytest.approx(kwh * 11.289)
    for row in view.impacts:
        found = one.impacts[row.name]
        assert row.use_central == found["use"]["central"]
        assert row.embodied_central == found["embodied"]["central"]
        assert found["total"]["central"] == pytest.approx(found["use"]["central"] + found["embodied"]["central"])
        assert (row.low, row.high) == (found["total"]["low"], found["total"]["high"])
    assert (gwp.embodied, gwp.total, gwp.span) == ("332 g", "1.16 kg", "885 g - 2.57 kg")
    assert (pe.embodied, pe.total, pe.span) == ("4.47 MJ", "216 MJ", "164 - 253 MJ")
    assert "FRA, 44.2 gCO2e/kWh" in view.method
    lines = job_text(view).splitlines()
    assert any(line.split() == ["Energy", "51.9", "MJ", "14.4", "kWh"] for line in lines)
    assert any(line.split()[:6] == ["PE", "(energy)", "212", "MJ", "4.47", "MJ"] for line in lines)


def test_what_stands_beside_the_total_is_use_and_embodied_together() -> None:
    """And says so where one of them is not known."""
    one = stories()["good"].job

    def beside(**changed: Any) -> tuple[str, str, str, str]:
        share = {part: {"low": 0.001, "central": 0.002 if part == "use" else 0.003, "high": 0.004} for part in PARTS}
        impacts = {name: found | {"shared": share | {"reason": None} | changed} for name, found in one.impacts.items()}
        (row,) = job_view(msgspec.structs.replace(one, impacts=impacts)).beside
        return row.label, row.gwp, row.pe, row.said

    assert beside() == ("shared parts", "5.00 g", "5.00 kJ", "")
    assert beside(use=None, reason="no meter") == ("shared parts", "3.00 g", "3.00 kJ", "embodied only")
    assert beside(embodied=None, reason="unknown") == ("shared parts", "2.00 g", "2.00 kJ", "use only")
    assert beside(reason="one of two") == ("shared parts", "5.00 g", "5.00 kJ", "in part")


def test_text_says_what_the_view_says(story: Story) -> None:
    """Each sentence of it, in its order, whatever the lines."""
    view = view_of(story)
    text = " ".join(printed(view).split())
    said = [*view.facts, *view.lead]
    said += [part for one in view.advice[:MOST_ADVICE] for part in (one.title, one.measured, one.cost, one.do) if part]
    said += [view.total, *view.equivalents, *view.notes, view.accounted]
    at = 0
    for sentence in filter(None, said):
        found = text.find(" ".join(sentence.split()), at)
        assert found >= 0, sentence
        at = found


def test_findings_come_before_the_figures() -> None:
    """What can be acted on first."""
    text = printed(view_of(stories()["asked_too_much"]))
    assert text.index("The CPUs were little used") < text.index("Energy")


def test_a_failed_run_s_energy_is_told_once() -> None:
    """By the first line: the finding adds what to do."""
    view = view_of(stories()["crash"])
    assert view.lead == ("5.01 kJ (0.00139 kWh) spent on a run that failed.",)
    (told,) = view.advice
    assert (told.cost, told.title) == ("", "The run failed")
    assert printed(view).count("5.01 kJ") == 2  # there, and as the sum


def test_what_is_not_known_is_no_zero() -> None:
    """Neither energy nor impact, nor a thing of everyday life, nor a finding."""
    view = view_of(stories()["not_measured"])
    assert isinstance(view, JobView)
    assert (view.total, view.energy, view.impacts, view.equivalents, view.advice) == ("", (), (), (), ())
    assert re.search(r"\b0(\.0+)? (J|g|kWh)", printed(view)) is None
    assert "Not measured: node09" in printed(view)


def test_what_is_known_in_part_is_told_so_and_is_not_judged() -> None:
    """40 %: of which no thing of everyday life is as much."""
    view = view_of(stories()["part_measured"])
    assert isinstance(view, JobView)
    assert view.impacts
    assert view.equivalents == ()
    assert view.lead[0].startswith("Incomplete: energy is known for 40 % of what it held")
    (told,) = view.advice
    assert (told.tone, told.cost) == ("plain", "")


@pytest.mark.parametrize("name", ["array_300", "array_100k"])
def test_an_array_is_a_page_whatever_its_size(name: str) -> None:
    """A line for each way to end, not for each task; those that stand out are at most five."""
    view = view_of(stories()[name])
    assert isinstance(view, GroupView)
    assert len(printed(view).splitlines()) < 60
    assert len(view.tasks) <= 5
    group = stories()[name].group
    assert group is not None
    assert group.sums is not None
    assert sum(row.jobs for row in view.endings) == group.sums.jobs
    assert view.advice[0].title.endswith("tasks failed alike")
    assert MOST_LINES == CSV_ROWS
    assert ("a line for each: --array" in printed(view)) is (group.sums.jobs <= CSV_ROWS)


def test_the_tasks_that_stand_out_are_the_dearest_of_those_that_failed() -> None:
    """And of an array of which none failed, of all; whatever is not known comes last."""
    tasks = stories()["array_300"].jobs[:30]
    each = [
        msgspec.structs.replace(one, job_id=f"7_{n}", state="FAILED" if n % 3 == 0 else "COMPLETED", energy_j=float(n))
        for n, one in enumerate(tasks)
    ]
    each[27] = msgspec.structs.replace(each[27], energy_j=None)
    view = group_view(Group("7", tuple(each), sums_of(each)))
    assert [row.job for row in view.tasks] == ["7_24", "7_21", "7_18", "7_15", "7_12"]
    done = [msgspec.structs.replace(one, state="COMPLETED") for one in each]
    view = group_view(Group("7", tuple(done), sums_of(done)))
    assert [row.job for row in view.tasks] == ["7_29", "7_28", "7_26", "7_25", "7_24"]
    assert view.tasks_are == "Most energy"


def test_arrays_of_one_id_on_two_clusters_are_told_to_be_two() -> None:
    """Before the sums, which are of both."""
    tasks = stories()["array_300"].jobs[:20]
    both = [msgspec.structs.replace(one, cluster=f"far{n % 2}") for n, one in enumerate(tasks)]
    view = group_view(Group("200", tuple(both), sums_of(both)))
    assert view.lead[0].endswith("these are their sums: far0 and far1. -M asks for one.")
    assert not any("-M" in line for line in group_view(Group("200", tasks, sums_of(tasks))).lead)


def test_an_arrays_ranges_are_the_sums_of_its_tasks_ends() -> None:
    """Low and high of the total, as the rows have them."""
    tasks = stories()["array_300"].jobs
    view = group_view(Group("200", tasks, sums_of(tasks)))
    for row in view.impacts:
        ends = [math.fsum(one.impacts[row.name]["total"][end] for one in tasks) for end in ("low", "high")]
        assert [row.low, row.high] == pytest.approx(ends)
        parts = [math.fsum(one.impacts[row.name][part]["central"] for one in tasks) for part in ("use", "embodied")]
        assert [row.use_central, row.embodied_central] == pytest.approx(parts)


def test_an_array_of_sums_alone_names_its_method(tmp_path: Path) -> None:
    """How each part was measured, of how much, and by which factors: of rows that nobody reads in full."""
    site = Site(tmp_path)
    for number in range(3):
        site.job(f"300_{number}", "node03", 600.0, {"package-0": 100.0, "rest": 60.0}, start=number * 700.0)
    site.job("300_9", "node04", 600.0, {"package-0": 100.0, "gpu:GPU-node04-0": 60.0}, gpus=1, known=0.5)
    site.night()
    reader = Reader(site.world.config.results)
    many, few = reader.select(Selection(job="300"), rows=3), reader.select(Selection(job="300"), rows=4)
    reader.close()
    assert many is not None
    assert few is not None
    assert many.jobs == ()
    assert (many.sums.methods, many.sums.factors) == (few.sums.methods, few.sums.factors)
    assert many.sums.methods == {"cpu": ("counter",), "gpu": ("counter",), "rest": ("gauge",)}
    view = group_view(Group("300", (), many.sums))
    (version,) = many.sums.factors
    # Nobody read the memory's meter: of three domains two are known, and of the last task's three a half of two.
    assert many.sums.coverage == pytest.approx((3 * 2 / 3 + 1 / 3) / 4)
    assert view.method == (
        "Method: CPU and GPU by energy counters; rest by power, integrated; memory not measured, and in no sum; known"
        " for 58.3 % of what was held. Ranges"
        f" are the least and the most of factors and meters, taken together. Factors: {version}."
    )
    assert " ".join(method_text(view).split()) == view.method
    assert "energy counters" in group_page(view, title="300")


def test_a_few_parts_are_told_one_by_one() -> None:
    """Of a heterogeneous job, which has parts and no tasks."""
    base = stories()["good"].job
    parts = tuple(msgspec.structs.replace(base, job_id=f"10+{n}", key=f"k{n}") for n in range(3))
    view = group_view(Group("10", parts, sums_of(parts)))
    assert (view.title, view.tasks_are, len(view.tasks)) == ("job 10: 3 parts", "", 3)
    assert view.name == "train-resnet50"
    assert view.method == job_view(base).method
    assert "parts that ended later are not among them" in view.accounted


def _sums(**changes: Any) -> Sums:
    fields: dict[str, Any] = {
        "jobs": 12,
        "ran": 11,
        "failed": 0,
        "measured": 4,
        "energy_j": 1e6,
        "failed_energy_j": 0.0,
        "coverage": 0.5,
        "cpu_hours": 1.0,
        "gpu_hours": 0.0,
        "node_hours": 1.0,
        "impacts": {},
    }
    return Sums(**fields | changes)


def test_a_sum_says_what_it_lacks() -> None:
    """Of how many jobs energy and GWP are not known, which never ran, and how much of the others is."""
    view = group_view(Group("9", (), _sums()))
    assert "The sum of energy lacks 7 of 11: not known." in view.notes
    assert "The sum of GWP lacks 11 of 11: not known." in view.notes
    assert "1 task never started." in view.notes
    assert view.lead == ("Incomplete: energy is known for 50 % of what they held; the sum is of this part.",)
    assert view.not_known == "Impact not known: of no task."


def test_an_array_of_which_nothing_is_known_has_no_sum() -> None:
    """A dash, and the reason first."""
    view = group_view(Group("9", (), _sums(energy_j=None, measured=0, failed_energy_j=None, coverage=0.0)))
    assert (view.total, view.total_kwh) == ("", "")
    assert view.lead == ("Not measured: of none of the 11 tasks that ran the energy is known.",)
    assert re.search(r"^  Energy +-$", group_text(view), re.MULTILINE)


def test_tasks_that_failed_and_were_not_measured_are_told() -> None:
    """Not as none, and not as nothing."""
    view = group_view(Group("9", (), _sums(failed=3, failed_energy_j=None, coverage=1.0)))
    assert view.lead == ("3 of 12 tasks did not complete: what they used is not known.",)
    assert group_view(Group("9", (), _sums(failed=3, failed_energy_j=0.0, coverage=1.0))).lead == ()


def test_a_total_of_some_tasks_is_as_much_as_nothing() -> None:
    """Only the total of all is set beside other things."""
    group = stories()["array_300"].group
    assert group is not None
    assert group.sums is not None
    assert group_view(group).equivalents
    impacts = {name: msgspec.structs.replace(one, known=one.known - 1) for name, one in group.sums.impacts.items()}
    part = msgspec.structs.replace(group, sums=msgspec.structs.replace(group.sums, impacts=impacts))
    assert group_view(part).equivalents == ()
    assert "The sum of GWP lacks 1 of 300: not known." in group_view(part).notes


def test_a_failed_run_has_not_done_the_steps_that_it_was_to_do() -> None:
    """Its labels stand there all the same, clean."""
    view = view_of(stories()["hostile"])
    assert isinstance(view, JobView)
    assert view.activity == ("model red <script>alert(1)</script> &amp; evil Bcc: x@y é.",)


def test_many_ways_to_end_are_counted() -> None:
    """After the first seven, in a row: so the rows, and their shares on a page, are of all tasks."""
    endings = tuple(Ending("FAILED", f"{n}:0", 20 - n, None if n == 19 else 1.0) for n in range(20))
    view = group_view(Group("9", (), _sums(endings=endings)))
    assert len(view.endings) == 8
    assert sum(row.jobs for row in view.endings) == 210
    assert view.endings[-1] == EndingRow("in 13 other ways", "plain", 91, "12.0 J")
    assert len(group_view(Group("9", (), _sums(endings=endings[:8]))).endings) == 8


def test_a_group_without_sums_is_an_error() -> None:
    """There is nothing to say, and that is the caller's to tell."""
    with pytest.raises(ValueError, match="nothing was found"):
        group_view(Group("9"))


def test_more_findings_than_three_are_counted() -> None:
    """They are in the view, for whoever has the room."""
    view = view_of(stories()["good"])
    assert isinstance(view, JobView)
    many = msgspec.structs.replace(view, advice=tuple(Advice(f"title {n}", "", "", "") for n in range(5)))
    text = job_text(many)
    assert "title 2" in text
    assert "title 3" not in text
    assert "And 2 more: see --json." in text


def test_a_cluster_is_named_where_there_are_several() -> None:
    """And nowhere else."""
    view = view_of(stories()["crash"])
    assert "  cluster lab\n" in printed(view, cluster=True)
    assert "cluster lab" not in printed(view)


def test_the_page_of_findings_shows_what_is_printed() -> None:
    """To the letter."""
    page = (Path(__file__).parents[2] / "docs/user/findings.md").read_text(encoding="utf-8")
    report, activity = re.findall(r"^```\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert report in printed(view_of(stories()["idle_gpu"]))
    assert activity in printed(view_of(stories()["good"]))


# -- equivalents -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kgco2e", "said"),
    [
        (0.001, ["0.34 km by high-speed train"]),
        (0.083, ["28 km by high-speed train", "0.38 km by petrol"]),
        (1.16, ["5.3 km by petrol", "400 km by high-speed train"]),
        (165.0, ["760 km by petrol"]),
        (20_000.0, ["11 return flights"]),
    ],
)
def test_equivalents_fit_the_size(kgco2e: float, said: list[str]) -> None:
    """At most two, what is easiest to grasp first, each with source and year."""
    found = equivalents(kgco2e)
    assert [text in sentence for text, sentence in zip(said, found, strict=True)] == [True] * len(said)
    assert all(re.search(r"\(ADEME Base Empreinte, 20\d\d", sentence) for sentence in found)


@pytest.mark.parametrize("kgco2e", [None, 0.0, -1.0, 1e-5, math.inf, math.nan, 1e12])
def test_what_is_too_small_or_not_known_has_no_equivalent(kgco2e: float | None) -> None:
    """Not one of zero, either."""
    assert equivalents(kgco2e) == ()


def test_an_equivalent_tells_its_range_upside_down() -> None:
    """The dearest kilometre gives the fewest."""
    (sentence, _) = equivalents(2.176)
    assert "10 km by petrol or diesel car" in sentence
    assert "8.9 - 20 by EEA, 2022 and US EPA, 2024" in sentence


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("source: nobody", "nobody: no such source"),
        ("source: s\n    kgco2e: [2, 1, 3]", "must rise"),
        ("source: s\n    kgco2e: [0, 1, 3]", "kgco2e"),
        ("source: s\n    colour: red", "unknown key"),
    ],
)
def test_a_wrong_file_of_equivalents_is_named(tmp_path: Path, text: str, wrong: str) -> None:
    """With what is wrong in it."""
    file = tmp_path / "equivalents.yaml"
    values = "" if "kgco2e" in text else "    kgco2e: [1, 1, 1]\n"
    file.write_text(
        "set: {name: e, version: '1'}\nsources: {s: {title: t, year: '2024', licence: l}}\n"
        f"equivalents:\n  - name: x\n    text: km\n{values}    {text}\n"
    )
    with pytest.raises(ConfigError, match=wrong):
        load_equivalents(file)


# -- activity --------------------------------------------------------------------------------------------------------


def marks(*points: tuple[float, int | None], name: str = "acc", step: int = 10) -> tuple[Progress, ...]:
    return tuple(Progress(float(n), step * (n + 1), {name: value}, uj) for n, (value, uj) in enumerate(points))


KWH = 3_600_000_000_000


@pytest.mark.parametrize(
    ("points", "name", "expected"),
    [
        (((0.2, 1), (0.65, 4), (0.70, 8), (0.6, 9)), "acc", (0.70, 8, 0.65, 4)),
        (((0.2, 1), (0.7, 4), (0.7, 8)), "acc", (0.7, 4, 0.7, 4)),
        (((2.0, 1), (1.1, 3), (1.0, 9)), "val_loss", (1.0, 9, 1.1, 3)),
        (((0.2, 1), (0.5, None), (0.7, 9)), "acc", (0.7, 9, 0.7, 9)),
        (((-1.7e308, 1), (0.0, 2), (1.7e308, 3)), "acc", (1.7e308, 3, 1.7e308, 3)),
    ],
)
def test_the_last_of_a_gain_and_its_energy(
    points: tuple[tuple[float, int | None], ...], name: str, expected: tuple[float, int, float, int]
) -> None:
    """The best, and the first with nine tenths of the gain; less is better of a loss; the unknown does not count."""
    for given_order in (marks(*points, name=name), marks(*points, name=name)[::-1]):
        found = gain(given_order, name)
        assert found is not None
        assert (found.best, found.best_uj, found.most, found.most_uj) == expected


@pytest.mark.parametrize(
    ("name", "less"),
    [
        *(
            (name, True)
            for name in ("loss", "val_loss", "trainLoss", "testMSE", "top1_err", "top1err", "WER", "FID/10k")
        ),
        *((name, True) for name in ("eval/perplexity", "mae", "error_rate", "classification-error", "nll", "valloss")),
        *((name, False) for name in ("acc", "answer_acc", "power_score", "fidelity", "confidence", "terrain_iou")),
        *(
            (name, False)
            for name in ("lossless_ratio", "reward", "mAP", "bleu", "maestro_f1", "cerebrum_dice", "日本")
        ),
    ],
)
def test_whether_less_is_better_is_in_the_words_of_a_metric_s_name(name: str, less: bool) -> None:
    """Not in a part of another word: else the report would call what got better the loss of it."""
    found = gain(marks((0.2, 1), (0.9, 5), (0.1, 9), name=name), name)
    assert found is not None
    assert found.best == (0.1 if less else 0.9)


@pytest.mark.parametrize(
    "points",
    [(), ((0.5, 1),), ((0.5, 1), (0.4, 2)), ((0.5, 1), (0.5, 2)), ((0.5, None), (0.9, None)), ((math.nan, 1),) * 3],
)
def test_without_a_gain_nothing_is_told_of_it(points: tuple[tuple[float, int | None], ...]) -> None:
    """One point, none, no better, or its energy not known."""
    assert gain(marks(*points), "acc") is None
    lines = activity_lines({}, marks(*points), 1.0, coverage=1.0, completed=True)
    assert not any("acc" in line for line in lines)


def test_the_last_point_s_cost_is_a_sentence() -> None:
    """And what brought no more."""
    points = marks((0.30, 0), (0.70, int(1.8 * KWH)), (0.71, int(3.2 * KWH)), (0.705, 4 * KWH))
    (_, line) = activity_lines({}, points, 4 * 3.6e6, coverage=1.0, completed=True)
    assert line == (
        "acc 0.71 at 3.20 kWh; the last 0.01 of it took 1.40 kWh (43.7 %); the 0.800 kWh after that brought no more."
    )


@pytest.mark.parametrize(
    ("labels", "completed", "points", "expected"),
    [
        ({"steps": "100"}, True, (), "1.00 J for each step, over 100."),
        ({"steps": "100", "unit": "image"}, True, (), "1.00 J for each image, over 100."),
        ({"steps": "100"}, False, (), None),
        ({"steps": "100"}, False, ((0.1, 20_000_000), (0.2, 40_000_000)), "2.00 J for each step, over 20."),
        ({"steps": "0"}, True, (), None),
        ({"steps": "\u0665"}, True, (), None),
        ({"steps": "-5"}, True, (), None),
        ({"steps": "9" * 200}, True, (), None),
        ({}, True, ((0.1, None),), None),
    ],
)
def test_energy_for_each_step(
    labels: dict[str, str], completed: bool, points: tuple[tuple[float, int | None], ...], expected: str | None
) -> None:
    """By the label of a run that did them all; else by what it had used at the last step that it told."""
    lines = activity_lines(labels, marks(*points), 100.0, coverage=1.0, completed=completed)
    found = next((line for line in lines if "for each" in line), None)
    assert found == expected


def test_energy_known_in_part_is_told_so() -> None:
    """And none where it is not known."""
    (line,) = activity_lines({"steps": "10"}, (), 100.0, coverage=0.4, completed=True)
    assert line == "10.0 J for each step, over 10, of the 40 % that is known."
    assert activity_lines({"steps": "10"}, (), None, coverage=0.0, completed=True) == ()
    (*_, last) = activity_lines({}, marks((0.3, 0), (0.7, KWH), (0.71, 2 * KWH)), 7.2e6, coverage=0.4, completed=True)
    assert last == "acc 0.71 at 2.00 kWh; the last 0.01 of it took 1.00 kWh (50 %), of the 40 % that is known."


LABELS = st.dictionaries(st.text(max_size=40), st.text(max_size=300), max_size=12)
MARKS = st.lists(
    st.builds(
        Progress,
        wall_s=st.floats(0, 1e10),
        step=st.none() | st.integers(-5, 10**12),
        metrics=st.dictionaries(st.sampled_from(["acc", "loss", "\x1b[31m"]), st.floats(), max_size=2),
        uj=st.none() | st.integers(0, 10**18),
    ),
    max_size=8,
)


@given(LABELS, MARKS, st.none() | st.floats(0, 1e12))
def test_whatever_a_job_says_of_itself_is_borne(
    labels: dict[str, str], progress: list[Progress], energy_j: float | None
) -> None:
    """In lines of a bounded length, without what moves a cursor; the last part never costs more than all."""
    for line in activity_lines(labels, progress, energy_j, coverage=0.9, completed=True):
        assert len(line) < 1200
        assert re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e]", line) is None
    for name in ("acc", "loss"):
        found = gain(progress, name)
        assert found is None or found.last_uj <= found.best_uj
