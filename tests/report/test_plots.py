"""Pictures of power and of quality: true to their numbers, alike each time, and safe with any name."""

from __future__ import annotations

import io
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import accumulate, combinations, pairwise, product
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.report.made_views import HOSTILE, START_S, profile, progress

from jobimpact.core.records import Profile, Progress
from jobimpact.report import plots
from jobimpact.report.palette import DARK, FILLS, LIGHT, TEXTS
from jobimpact.report.plots import power_picture, quality_picture

CVD = {
    "protan": ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)),
    "deutan": ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)),
    "tritan": ((1.256, -0.077, -0.179), (-0.078, 0.931, 0.148), (0.005, 0.691, 0.304)),
    "all hues": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
}
"""What is seen of linear red, green and blue with one kind of cones missing (Machado, Oliveira, Fernandes 2009)."""


def linear(colour: str) -> list[float]:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it."""
    low, high = sorted(
        sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear(colour), strict=True))
        for colour in (one, other)
    )
    return (high + 0.05) / (low + 0.05)


def lab(colour: str, eyes: str) -> tuple[float, float, float]:
    seen = linear(colour)
    red, green, blue = (min(1.0, max(0.0, sum(a * b for a, b in zip(row, seen, strict=True)))) for row in CVD[eyes])
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883
    a, b, c = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in (x, y, z))
    return 116 * b - 16, 500 * (a - b), 200 * (b - c)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_can_be_read(colours: dict[str, str]) -> None:
    """Text has 4.5:1 on each ground that it stands on, and what is drawn 3:1."""
    for ground, texts in TEXTS.items():
        for text in texts:
            assert contrast(colours[ground], colours[text]) >= 4.5, (ground, text)
    for fill in (*FILLS, "node", "use", "embodied", "bad", "good", "accent"):
        assert contrast(colours["paper"], colours[fill]) >= 3, fill


@pytest.mark.parametrize("eyes", CVD)
@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_parts_are_told_apart_without_hues(colours: dict[str, str], eyes: str) -> None:
    """Any two parts differ clearly for those who lack one kind of cones."""
    for one, other in [*combinations(FILLS, 2), ("use", "embodied")]:
        assert math.dist(lab(colours[one], eyes), lab(colours[other], eyes)) >= 17, (one, other)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_use_and_embodied_look_like_no_part_of_a_node(colours: dict[str, str]) -> None:
    """On one page a colour means one thing."""
    for part, other in product(("use", "embodied"), (*FILLS, "node")):
        assert math.dist(lab(colours[part], "all hues"), lab(colours[other], "all hues")) >= 20, (part, other)


def test_both_themes_have_the_same_names() -> None:
    """No colour is missing in one of them."""
    assert LIGHT.keys() == DARK.keys()


def pixels(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


def colours_of(image: Image.Image, at: float) -> set[str]:
    """The parts' colours in the column at a part of the plot's width; `soft` is the ground of the hatching."""
    left, right = 0.52 / 6.0 * image.width, (1 - 0.09 / 6.0) * image.width / 1.004 + 0.004 * 0.52 / 6.0 * image.width
    x = round(left + (right - left) * at)
    # Below the legend.
    column = {image.getpixel((x, y)) for y in range(round(image.height * 0.14), image.height)}
    of = {tuple(int(LIGHT[kind][i : i + 2], 16) for i in (1, 3, 5)): kind for kind in (*FILLS, "soft")}
    return {of[colour] for colour in column if colour in of}


def test_a_gap_is_drawn_as_a_gap() -> None:
    """Where nothing is known no part has any area; beside it all have."""
    picture = power_picture(profile(100, gap=(40, 60)), of="job 1", form="png")
    assert picture is not None
    image = pixels(picture.png)
    for at in (0.05, 0.35, 0.65, 0.95):
        assert colours_of(image, at) == set(FILLS), at
    for at in (0.42, 0.5, 0.58):
        assert colours_of(image, at) == {"soft"}, at
    assert "Not known, in part at least, for 20 min 0 s (20 %)" in picture.desc


def test_a_part_that_is_not_known_for_a_time_is_not_drawn_as_zero() -> None:
    """The others keep their place in the stack, and the gap is told."""
    full = profile(100, gap=(0, 0))
    rest = tuple(None if at >= 80 else value for at, value in enumerate(full.watts["rest"]))
    picture = power_picture(msgspec.structs.replace(full, watts=full.watts | {"rest": rest}), of="job 1", form="png")
    assert picture is not None
    assert colours_of(pixels(picture.png), 0.9) == {"cpu", "dram", "gpu", "soft"}
    assert "not known" in picture.desc.lower()


def test_a_part_that_is_never_known_is_no_gap() -> None:
    """A node without a meter of its own has no rest: that is said elsewhere, and the picture is not hatched for it."""
    full = profile(100, gap=(0, 0))
    picture = power_picture(
        msgspec.structs.replace(full, watts=full.watts | {"rest": (None,) * 100}), of="job 1", form="svg"
    )
    assert picture is not None
    assert "not known" not in picture.svg
    assert "not known" not in picture.desc.lower()


@pytest.mark.parametrize(
    "found",
    [
        None,
        Profile(START_S, (0.0,), {}),
        Profile(START_S, (0.0, 1.0), {}),
        Profile(START_S, (0.0, 1.0), {"cpu": (None,)}),
        Profile(START_S, (0.0, 1.0), {"cpu": (math.nan,)}),
        Profile(START_S, (0.0, 1.0), {"cpu": (1.0, 2.0)}),
        Profile(START_S, (0.0, 1.0, 1.0), {"cpu": (1.0, 2.0)}),
        Profile(START_S, (0.0, math.nan, 2.0), {"cpu": (1.0, 2.0)}),
    ],
)
def test_without_anything_to_draw_there_is_no_picture(found: Profile | None) -> None:
    """None, and not an empty plot, which would read as no power."""
    assert power_picture(found, of="job 1", form="svg") is None


@pytest.mark.parametrize("form", ["png", "svg"])
def test_the_same_numbers_make_the_same_bytes(form: plots.Form) -> None:
    """Nothing in a file is of the moment that it was drawn in."""
    assert power_picture(profile(), progress(), of="job 1", form=form) == power_picture(
        profile(), progress(), of="job 1", form=form
    )


@given(
    spans=st.lists(st.tuples(st.floats(0, 1e6), st.floats(0.1, 1e4)), min_size=1, max_size=30),
    times=st.integers(1, 60),
)
def test_fewer_spans_have_the_same_energy(spans: list[tuple[float, float]], times: int) -> None:
    """A long profile is drawn with fewer spans, by means: its energy stays."""
    watts = [power for power, _ in spans] * times
    edges = [0.0, *accumulate(length for _, length in spans * times)]
    found = plots._fewer(Profile(START_S, tuple(edges), {"cpu": tuple(watts)}))
    assert len(found.edges_s) - 1 <= plots.MOST_SPANS

    def joules(values: tuple[float | None, ...], at: tuple[float, ...]) -> float:
        return math.fsum((value or 0) * (b - a) for value, (a, b) in zip(values, pairwise(at), strict=True))

    assert joules(found.watts["cpu"], found.edges_s) == pytest.approx(joules(tuple(watts), tuple(edges)), rel=1e-9)


@pytest.mark.parametrize(("unknown", "shown"), [(3, 10.0), (6, None)])
def test_spans_drawn_together_are_a_gap_where_most_is_not_known(unknown: int, shown: float | None) -> None:
    """Of ten that become one: a moment that is not known is no gap, and a known moment is not all of it."""
    spans = 10 * plots.MOST_SPANS
    watts = tuple(None if at % 10 < unknown else 10.0 for at in range(spans))
    found = plots._fewer(Profile(START_S, tuple(map(float, range(spans + 1))), {"cpu": watts}))
    assert set(found.watts["cpu"]) == {shown}


def test_a_mean_is_over_the_time_that_is_known() -> None:
    """Of two minutes one is: its power is not spread over both."""
    one = Profile(START_S, (0.0, 60.0, 120.0), {"cpu": (100.0, None), "dram": (20.0, None)})
    picture = power_picture(one, of="job 1", form="svg")
    assert picture is not None
    assert "120 W on average. On average: CPU 100 W, memory 20.0 W." in picture.desc
    assert "Not known, in part at least, for 1 min 0 s (50 %)." in picture.desc


def test_power_below_zero_is_drawn_as_none() -> None:
    """A rest that its node's meter cannot bear is no area under the axis, and takes nothing from the other parts."""
    one = Profile(START_S, (0.0, 60.0, 120.0), {"cpu": (100.0, 100.0), "rest": (-80.0, 20.0)})
    picture = power_picture(one, of="job 1", form="png")
    assert picture is not None
    assert "On average: CPU 100 W, rest of the node 10.0 W." in picture.desc
    assert colours_of(pixels(picture.png), 0.2) == {"cpu"}


def test_a_long_profile_stays_a_small_picture() -> None:
    """A month in minutes is drawn in a page's few kilobytes."""
    picture = power_picture(profile(30 * 1440), of="job 1", form="svg")
    assert picture is not None
    assert len(picture.svg) < 150_000


def parsed(svg: str) -> ET.Element:
    """It is well-formed, or this raises."""
    return ET.fromstring(svg)  # noqa: S314 (our own)


def svg_of(**options: object) -> str:
    found = power_picture(profile(), progress(), of="job 1", form="svg", **options)  # type: ignore[arg-type]
    assert found is not None
    return found.svg


def test_an_svg_has_the_colours_of_its_page() -> None:
    """No colour is fixed: light and dark are the page's."""
    assert not re.search(r"#[0-9a-fA-F]{6}\b", svg_of())
    assert {f"var(--{kind})" for kind in FILLS} <= set(re.findall(r"var\(--[a-z]+\)", svg_of()))


def test_an_svg_is_named_and_described() -> None:
    """Those who do not see it hear its title and its numbers."""
    root = parsed(svg_of(prefix="job-1-power"))
    assert root.get("role") == "img"
    named = [root.find(f"*[@id='{one}']") for one in (root.get("aria-labelledby") or "").split()]
    assert [one is not None and bool(one.text) for one in named] == [True, True]
    assert "W on average" in (named[1].text or "")  # type: ignore[union-attr]


def test_ids_of_pictures_on_one_page_do_not_meet() -> None:
    """Each has its own prefix, and what refers to an id finds it."""
    first, second = svg_of(prefix="a"), svg_of(prefix="b")
    ids = [set(re.findall(r'\bid="([^"]+)"', one)) for one in (first, second)]
    assert not ids[0] & ids[1]
    for svg, own in zip((first, second), ids, strict=True):
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) <= own


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("form", ["png", "svg"])
def test_any_name_is_drawn_as_text(name: str, form: plots.Form) -> None:
    """What a job calls its metric is neither markup nor a formula."""
    found = quality_picture(progress(name=name), of=f"job {name}", form=form)
    assert found is not None
    if form == "svg":
        kinds = {one.tag for one in parsed(found.svg).iter()}
        assert kinds <= {"svg", "title", "desc", "defs", "style", "g", "path", "text", "use", "clipPath", "rect"}
        assert not re.search(r"\son\w+\s*=", re.sub(r">[^<]*<", "><", found.svg))


def test_progress_without_energy_or_number_is_left_out() -> None:
    """Two points with both are the least that makes a curve."""
    points = (
        Progress(START_S, 1, {"acc": 0.1}, None),
        Progress(START_S, 2, {"acc": math.nan}, 10**12),
        Progress(START_S, 3, {"acc": 0.3}, 2 * 10**12),
    )
    assert quality_picture(points, of="job 1", form="svg") is None
    found = quality_picture((*points, Progress(START_S, 4, {"acc": 0.4}, 3 * 10**12)), of="job 1", form="svg")
    assert found is not None
    assert found.desc == "acc was 0.300 after 0.556 kWh and 0.400 after 0.833 kWh, told 2 times."


@pytest.mark.parametrize(("running", "words"), [(True, "so far"), (False, "end")])
def test_the_end_is_said_only_of_a_run_that_is_over(running: bool, words: str) -> None:
    """Of one that runs the last edge is only how far its books are written."""
    texts = [one.text for one in parsed(svg_of(running=running)).iter("text")]
    assert words in texts
    assert "start" in texts


@pytest.mark.parametrize(
    ("span_s", "watts", "time", "power"),
    [
        (0.5, 1.0, "time since start (s)", "power (W)"),
        (60.0, 900.0, "time since start (h)", "power (W)"),
        (10.0, 5e3, "time since start (min)", "power (kW)"),
        (3600.0, 2e6, "time since start (d)", "power (MW)"),
        (60.0, 0.0, "time since start (h)", "power (W)"),
        (60.0, 0.02, "time since start (h)", "power (mW)"),
    ],
)
def test_axes_fit_the_size(span_s: float, watts: float, time: str, power: str) -> None:
    """Units are chosen by what there is."""
    edges = tuple(at * span_s for at in range(121))
    found = power_picture(Profile(START_S, edges, {"cpu": (watts,) * 120}), of="job 1", form="svg")
    assert found is not None
    texts = [one.text for one in parsed(found.svg).iter("text")]
    assert {time, power} <= set(texts)
    assert 3 <= sum(bool(re.fullmatch(r"[0-9.]+", one or "")) for one in texts) <= 24


@pytest.mark.parametrize("module", ["plots", "page", "mail_body"])
def test_nothing_is_loaded_until_something_is_drawn(module: str) -> None:
    """Importing costs neither matplotlib nor Jinja2: who writes text alone never pays for them, and needs them not."""
    program = (
        f"import sys, jobimpact.report.{module}; print(sorted({{'matplotlib', 'numpy', 'jinja2'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("absent", ["matplotlib", "jinja2"])
def test_what_is_not_installed_is_named(absent: str) -> None:
    """Where only the command is installed, one line says what is wanted."""
    program = (
        f"import sys; sys.path.insert(0, '.'); sys.modules['{absent}'] = None\n"
        "from jobimpact.core.errors import JobImpactError\n"
        "from jobimpact.report.page import job_page\n"
        "from tests.report.made_views import full_view\n"
        "try: job_page([full_view()], title='x')\n"
        "except JobImpactError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert re.fullmatch(r"(pages|pictures) need \w+: install jobimpact\[accounting\]", done.stdout.strip())
    assert absent in done.stdout.lower()
