"""Pages and mails in a real browser: for everybody, in light and dark, and whatever users have written."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.report.looking import Looking, Theme
from tests.report.made_views import HOSTILE, bare_view, full_view, hostile_group, hostile_view, profile
from tests.report.shots import FOOT, as_mail_program, group_of, view_of
from tests.report.stories import stories

from jobimpact.report.columns import width_of
from jobimpact.report.mail_body import Foot, group_mail, job_mail, job_subject
from jobimpact.report.page import energy_lines, energy_shares, group_page, impact_lines, job_page, keys
from jobimpact.report.view import EnergyRow, GroupView, ImpactRow, JobView

AXE = (Path(__file__).parent / "axe.js").read_text(encoding="utf-8")
THEMES: tuple[Theme, ...] = ("light", "dark")


@cache
def page(name: str) -> str:
    view = VIEWS[name]()
    return job_page([view], title=view.title)


@cache
def mail(name: str) -> str:
    return as_mail_program(job_mail(VIEWS[name](), FOOT))


@cache
def laid_out_group(name: str) -> tuple[str, str]:
    """An array's page and its mail."""
    view = GROUPS[name]()
    return group_page(view, title=view.title), as_mail_program(group_mail(view, FOOT))


@cache
def three(name: str) -> str:
    """Beside another job and an array."""
    return job_page([VIEWS[name](), bare_view(), hostile_group()], title="3 reports")


VIEWS: dict[str, Callable[[], JobView]] = {
    "full": full_view,
    "bare": bare_view,
    "hostile": hostile_view,
    **{
        name: lambda name=name: view_of(stories()[name])  # type: ignore[misc]
        for name in ("good", "crash", "idle_gpu", "part_measured", "not_measured")
    },
    "hostile job": lambda: view_of(stories()["hostile"]),
}


@pytest.mark.parametrize(
    ("laid_out", "theme", "name"),
    [
        *((page, theme, name) for theme in THEMES for name in VIEWS),
        *((mail, "light", name) for name in VIEWS),
        *((three, theme, "full") for theme in THEMES),
    ],
)
def test_everybody_can_read_it(browser: Looking, laid_out: Callable[[str], str], theme: Theme, name: str) -> None:
    """Contrast, names of pictures, heads of tables, headings, keyboard: axe.js finds nothing, at any width."""
    shown = laid_out(name)
    for width in (1000, 390):
        browser.open(shown, theme, width)
        assert browser.evaluate(AXE) == []


@pytest.mark.parametrize("name", ["good", "idle_gpu", "part_measured"])
def test_on_a_phone_tables_are_seen_whole(browser: Looking, name: str) -> None:
    """Nothing of a job's tables lies beyond the edge of a screen of 390 pixels, nor of the page itself."""
    browser.open(page(name), "light", 390)
    beyond = (
        "[...document.querySelectorAll('.wide')].filter(one => one.querySelector('table') && one.scrollWidth > {})"
    )
    assert browser.evaluate(f"{beyond.format('one.clientWidth')}.length") == 0
    assert browser.evaluate(f"{beyond.format('0')}.length") >= 2
    assert browser.evaluate("document.documentElement.scrollWidth <= 390")


GROUPS: dict[str, Callable[[], GroupView]] = {
    "array_300": lambda: group_of(stories()["array_300"]),
    "array_100k": lambda: group_of(stories()["array_100k"]),
    "hostile": hostile_group,
}


@pytest.mark.parametrize("name", GROUPS)
def test_everybody_can_read_of_an_array(browser: Looking, name: str) -> None:
    """The same for arrays, of whatever size; nothing is run, and nothing loaded."""
    for theme in THEMES:
        for shown in laid_out_group(name):
            for width in (1000, 390):
                browser.open(shown, theme, width)
                assert browser.evaluate(AXE) == []
                assert browser.evaluate("document.title") != "hit"
                assert browser.evaluate("document.querySelectorAll('script, iframe, object, form').length") == 0


@pytest.mark.parametrize("name", GROUPS)
def test_text_page_and_mail_say_the_same_of_an_array(browser: Looking, name: str) -> None:
    """Every sentence and number of its view stands in both."""
    view = GROUPS[name]()
    said = [*view.facts, *view.lead, *view.equivalents, *view.notes, view.not_known, view.method, view.accounted]
    said += [part for one in view.advice for part in (one.title, one.measured, one.cost, one.do)]
    said += [part for one in view.endings for part in (one.state, f"{one.jobs:,}", one.energy)]
    said += [part for one in view.tasks for part in (one.job, one.state, one.elapsed, one.energy, one.gwp)]
    said += [part for one in view.impacts for part in (one.use, one.embodied, one.total, one.span)]
    for shown in laid_out_group(name):
        browser.open(shown)
        text = _plain(browser.evaluate("document.body.textContent"))
        for one in said:
            if one not in {"", "-"}:
                assert _plain(one) in text, one


def test_an_array_of_any_size_is_a_small_page() -> None:
    """A hundred thousand tasks are no rows."""
    shown, sent = laid_out_group("array_100k")
    assert len(shown) < 30_000
    assert len(sent) < 40_000
    assert "99,900 tasks" in shown


def test_an_arrays_subject_says_how_many_failed() -> None:
    """One line for all of it."""
    body = group_mail(group_of(stories()["array_300"]), FOOT)
    assert re.fullmatch(r"Job 200 \(sweep\): 300 tasks, [0-9.]+ kWh, 43 did not complete", body.subject)


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("<p style='color: #999'>pale</p>", "contrast"),
        ("<table><tr><td>1</td></tr></table>", "a table without a caption"),
        ("<img src=''>", "a picture without words"),
        ("<h4>deep</h4>", "a level of headings"),
        ("<div style='width: 3000px'>wide</div>", "wider than its window"),
        ("<p id='job-1'>again</p>", "an id twice"),
    ],
)
def test_what_nobody_could_read_would_be_found(browser: Looking, broken: str, told: str) -> None:
    """The checks above see what they look for."""
    browser.open(page("full").replace("</main>", f"{broken}</main>"))
    assert any(one.startswith(told) for one in browser.evaluate(AXE))


@pytest.mark.parametrize("laid_out", [page, mail, three])
@pytest.mark.parametrize("name", ["hostile", "hostile job"])
def test_nothing_that_users_write_is_run(browser: Looking, name: str, laid_out: Callable[[str], str]) -> None:
    """Names, states, labels and metrics are text: no element, no handler, no request comes of them."""
    browser.open(laid_out(name))
    assert browser.evaluate("document.title") != "hit"
    assert browser.evaluate("document.querySelectorAll('script, iframe, object, embed, link, base, form').length") == 0
    assert browser.evaluate("[...document.querySelectorAll('*')].flatMap((one) => [...one.attributes])"
                            ".filter((one) => one.name.startsWith('on')).length") == 0  # fmt: skip
    assert browser.evaluate("[...document.querySelectorAll('a')].filter((one) => !/^#|^https?:/.test(one.getAttribute"
                            "('href'))).length") == 0  # fmt: skip
    assert browser.evaluate("performance.getEntriesByType('resource').filter((one) => !one.name.startsWith('data:'))"
                            ".length") == 0  # fmt: skip
    assert browser.said == []
    # It stands there as it was written, less what cannot be seen.
    if name == "hostile":
        assert "<img src=x onerror=\"document.title='hit'\">" in browser.evaluate("document.body.innerText")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", laid_out(name))


def test_a_script_would_not_run(browser: Looking) -> None:
    """Behind the escaping stands the page's own policy: even what got in does nothing, and loads nothing."""
    shown = page("full").replace(
        "</main>",
        "<script>document.title = 'hit'</script><img alt='' src='data:,' onerror=\"document.title = 'hit'\"></main>",
    )
    browser.open(shown)
    assert browser.evaluate("document.querySelectorAll('script').length") == 1
    assert browser.evaluate("document.title") != "hit"
    # It would have, but for the policy.
    without = re.sub(r"<meta http-equiv=[^>]+>", "", shown)
    assert without != shown
    browser.open(without)
    assert browser.evaluate("document.title") == "hit"


def test_dark_is_dark_and_print_is_not(browser: Looking) -> None:
    """The theme is the reader's; paper stays white."""
    ground = "getComputedStyle(document.body).backgroundColor"
    shown = page("full")
    browser.open(shown, "light")
    assert browser.evaluate(ground) == "rgb(255, 255, 255)"
    browser.open(shown, "dark")
    assert browser.evaluate(ground) == "rgb(20, 24, 27)"
    with browser.printing("dark"):
        assert browser.evaluate(ground) == "rgb(255, 255, 255)"


def test_it_prints_on_few_sheets(browser: Looking) -> None:
    """A full report is three pages of A4."""
    browser.open(page("full"))
    pdf = browser.pdf()
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 3


@pytest.mark.parametrize("name", VIEWS)
def test_text_page_and_mail_say_the_same(browser: Looking, name: str) -> None:
    """Every sentence and number of the view stands in all of them."""
    view = VIEWS[name]()
    said = [view.state, *view.facts, *view.lead, view.not_known, *view.equivalents, *view.activity, *view.notes]
    said += [part for one in view.advice for part in (one.title, one.measured, one.cost, one.do)]
    said += [part for one in view.energy for part in (one.amount, *one.said)]
    said += [part for one in view.impacts for part in (one.label, one.use, one.embodied, one.total, one.span)]
    said += [part for one in view.beside for part in (one.label, one.gwp, one.adp, one.pe, one.said)]
    said += [view.total, view.total_kwh, view.method, view.accounted]
    for shown in (page(name), mail(name)):
        browser.open(shown)
        text = _plain(browser.evaluate("document.body.textContent"))
        for one in said:
            if one not in {"", "-"}:
                assert _plain(one) in text, one


def _plain(text: str) -> str:
    """Without what is cleaned away, and with single spaces."""
    from jobimpact.report.words import clean

    return " ".join(clean(text).split())


def test_what_is_not_known_is_no_zero() -> None:
    """No figure, no bar and no picture of a job that nobody measured; and it says why."""
    view = view_of(stories()["not_measured"])
    shown = page("not_measured")
    text = re.sub(r"<[^>]+>", " ", shown[shown.index("<main>") :])
    assert "Not measured: " in text
    assert not re.search(r"\b0(\.0+)? ?(J|kWh|g|mg|%)\b", text)
    assert '<svg role="img"' not in shown
    assert energy_shares(view.energy) == ()


@pytest.mark.parametrize(("name", "whole"), [("good", True), ("part_measured", False), ("crash", False)])
def test_a_sum_is_of_all_only_where_all_is_known(name: str, whole: bool) -> None:
    """Of each part, and for all of the time."""
    page = job_page([view_of(stories()[name])], title=name)
    assert ("in all, as far as it is known" in page) is not whole
    assert "in all" in page


def test_shares_are_of_what_is_known() -> None:
    """A part that is not known has no share, and the others' come to one."""
    rows = (
        EnergyRow("cpu", "CPU", 30.0, "30.0 J", ()),
        EnergyRow("gpu", "GPU", 70.0, "70.0 J", ()),
        EnergyRow("rest", "rest", None, "-", ("not measured: no node meter",)),
    )
    assert [(one.colour, one.share) for one in energy_shares(rows)] == [("cpu", 0.3), ("gpu", 0.7)]
    assert [(one.label, one.share) for one in energy_lines(rows)] == [("CPU", "30 %"), ("GPU", "70 %"), ("Rest", "")]


def row(**changed: object) -> ImpactRow:
    found: dict[str, object] = {
        "name": "gwp_kgco2e", "label": "GWP", "unit": "CO2e", "use": "2 g", "embodied": "3 g", "total": "5 g",
        "span": "4 - 10 g", "use_central": 2.0, "embodied_central": 3.0, "low": 4.0, "high": 10.0,
    }  # fmt: skip
    return ImpactRow(**(found | changed))  # type: ignore[arg-type]


def test_a_range_bar_is_linear_from_zero() -> None:
    """Lengths are amounts: the row's most is the whole width."""
    (line,) = impact_lines([row()])
    assert line.bar is not None
    assert (line.bar.use, line.bar.embodied, line.bar.low, line.bar.high) == (20.0, 30.0, 40.0, 100.0)


@pytest.mark.parametrize(
    "changed",
    [
        {"use_central": None, "embodied_central": None, "low": None, "high": None},
        {"use_central": 0.0, "embodied_central": 0.0, "low": 0.0, "high": 0.0},
    ],
)
def test_nothing_has_no_bar(changed: dict[str, object]) -> None:
    """Neither of what is not known nor of nothing."""
    (line,) = impact_lines([row(**changed)])
    assert line.bar is None


def test_large_figures_of_a_part_say_so() -> None:
    """Where only the use is known that stands there, and is called so."""
    found = keys(full_view(impacts=(row(total="-", embodied="-", embodied_central=None),)))
    assert [(one.label, one.value, one.small) for one in found][1] == ("GWP", "2 g", "4 - 10 g CO2e, use only")


@pytest.mark.parametrize(
    ("joules", "kwh", "first"),
    [
        ("6.19 MJ", "1.72 kWh", "1.72 kWh"),
        ("36.0 kJ", "0.0100 kWh", "0.0100 kWh"),
        ("5.01 kJ", "0.00139 kWh", "5.01 kJ"),
    ],
)
def test_a_small_energy_is_seen(joules: str, kwh: str, first: str) -> None:
    """The larger figure is in the unit that fits; the other one stands below."""
    found = keys(full_view(total=joules, total_kwh=kwh))[0]
    assert found.value == first
    assert {found.value, found.small} == {joules, kwh}


@pytest.mark.parametrize("name", VIEWS)
def test_a_mail_is_whole_for_mail_programs(name: str) -> None:
    """Nothing that they drop: no variables, no SVG, no style sheet, no script; each picture is there and has words."""
    body = job_mail(VIEWS[name](), FOOT)
    assert not re.search(r"var\(--|<svg|<style|<script|<link|@media", body.html)
    assert sorted(re.findall(r'src="cid:([^"]+)"', body.html)) == sorted(body.images)
    assert all(png.startswith(b"\x89PNG") and len(png) < 150_000 for png in body.images.values())
    assert len(body.html) < 100_000  # more is cut off by some
    assert all(words for words in re.findall(r'<img[^>]* alt="([^"]*)"', body.html))
    for line in (FOOT.why, FOOT.stop, FOOT.contact):
        assert " ".join(line.split()) in " ".join(body.text.split())
        assert line in body.html


def test_a_mail_is_no_wider_than_600(browser: Looking) -> None:
    """On a wide screen as well."""
    browser.open(mail("full"), "light", 1200)
    assert browser.evaluate("Math.max(...[...document.querySelectorAll('td, img')].map((one) => "
                            "one.getBoundingClientRect().width).filter((wide) => wide < 1199))") <= 600  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "subject"),
    [
        ({"state": "COMPLETED", "tone": "good"}, "Job 124_4 (train-resnet50): 1.72 kWh, completed"),
        ({}, "Job 124_4 (train-resnet50) failed after 1.72 kWh"),
        ({"state": "TIMEOUT"}, "Job 124_4 (train-resnet50) hit its time limit after 1.72 kWh"),
        ({"total": "5.01 kJ", "total_kwh": "0.00139 kWh"}, "Job 124_4 (train-resnet50) failed after 5.01 kJ"),
        ({"state": "OUT_OF_MEMORY", "total": ""}, "Job 124_4 (train-resnet50) was out of memory"),
        ({"state": "COMPLETED", "total": "", "name": ""}, "Job 124_4: energy not known, completed"),
        ({"state": "CANCELLED by 1000", "name": ""}, "Job 124_4 was cancelled after 1.72 kWh"),
    ],
)
def test_a_subject_says_what_happened(changed: dict[str, object], subject: str) -> None:
    """The job, how it ended and what it took."""
    assert job_subject(full_view(**changed)) == subject


@given(name=st.text(), title=st.text(), state=st.text())
def test_a_subject_is_one_line(name: str, title: str, state: str) -> None:
    """Whatever a job is called: no control characters, and not long."""
    subject = job_subject(full_view(name=name, title=title, state=state))
    assert width_of(subject) <= 120
    assert len(subject) <= 240
    assert subject.isprintable() or all(char.isprintable() or char == "\u00a0" for char in subject)
    assert not set(subject) & set("\r\n\t\0\x0b\x0c\x85\u2028\u2029")


@pytest.mark.parametrize("link", ["javascript:alert(1)", "data:text/html,x", " https://x", "//x"])
def test_a_link_that_is_no_web_address_is_left_out(link: str) -> None:
    """In HTML and in text."""
    body = job_mail(bare_view(), Foot("why", link=link))
    assert "<a " not in body.html
    assert link.strip() not in body.text


def test_several_jobs_stand_on_one_page() -> None:
    """Each with its own ids, and a list of them at the top."""
    shown = job_page([full_view(profile=profile()), full_view(title=HOSTILE[0])], title="two")
    ids = re.findall(r'\sid="([^"]+)"', shown)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#(job-\d)"', shown)) == {"job-1", "job-2"}


def test_of_very_many_jobs_the_largest_are_shown() -> None:
    """In their order, with the number of all."""
    views = [
        bare_view() if at % 3 else full_view(title=f"job {at}", profile=None, progress=(), energy=(
            EnergyRow("cpu", "CPU", float(at), f"{at} J", ()),
        ))
        for at in range(300)
    ]  # fmt: skip
    shown = job_page(views, title="300 jobs")
    titles = [int(one) for one in re.findall(r'<h2 class="title">Job (\d+)</h2>', shown)]
    assert titles == [at for at in range(300) if at % 3 == 0][-50:]
    assert "The 50 of 300 with the most energy." in shown
