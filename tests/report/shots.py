"""Pictures of what people get: `python -m tests.report.shots DIR` draws each story as page, mail and terminal.

`python -m tests.report.shots --docs` draws those that the documents show anew.
"""

from __future__ import annotations

import base64
import html
import io
import re
import sys
import tempfile
from pathlib import Path

from PIL import Image
from tests.report.looking import Looking, Theme
from tests.report.months import month
from tests.report.stories import Story, stories

from jobimpact.core.config import Findings
from jobimpact.findings.judge import of_array, of_job
from jobimpact.report.group import group_view
from jobimpact.report.job import job_view
from jobimpact.report.mail_body import Foot, MailBody, group_mail, job_mail
from jobimpact.report.page import group_page, job_page
from jobimpact.report.period_page import period_page
from jobimpact.report.text import group_text, job_text, method_text
from jobimpact.report.view import GroupView, JobView

__all__ = ["as_mail_program", "as_terminal", "faces", "group_of", "view_of"]

DOCUMENTS = Path(__file__).parents[2] / "docs" / "user" / "pictures"
FOOT = Foot(
    "You get this because the job used more than 1 kWh.",
    "To get none: https://hpc.example.org/no-mail",
    "Questions, and doubts about a number: hpc@example.org",
)
_COLOURS = {"1": "font-weight: bold", "31": "color: #ff8a80", "32": "color: #86d993", "33": "color: #ffd166"}


def view_of(story: Story) -> JobView:
    """One job, with its findings."""
    return job_view(story.job, findings=of_job(story.job, Findings(), 0.2), details=story.details)


def group_of(story: Story) -> GroupView:
    """An array, with its findings."""
    assert story.group is not None
    endings = story.group.sums.endings if story.group.sums else ()
    return group_view(story.group, findings=of_array(endings, story.jobs, Findings(), 0.2))


def faces(story: Story) -> tuple[str, MailBody, str]:
    """A story as a page, as a mail and as text in colours."""
    if story.group is not None:
        group = group_of(story)
        text = group_text(group, colour=True)
        return group_page(group, title=group.title), group_mail(group, FOOT), f"{text}\n{method_text(group)}"
    view = view_of(story)
    return (
        job_page([view], title=view.title),
        job_mail(view, FOOT),
        f"{job_text(view, colour=True)}\n{method_text(view)}",
    )


def as_mail_program(body: MailBody) -> str:
    """The HTML with its pictures where a mail program puts them."""
    shown = body.html
    for cid, png in body.images.items():
        shown = shown.replace(f'"cid:{cid}"', f'"data:image/png;base64,{base64.b64encode(png).decode()}"')
    return shown


def as_terminal(text: str, command: str) -> str:
    """Text with its colours as a terminal shows it."""
    lines = re.sub(
        r"\x1b\[(\d+)m(.*?)\x1b\[0m",
        lambda found: f'<span style="{_COLOURS[found[1]]}">{found[2]}</span>',
        html.escape(text.rstrip("\n"), quote=False),
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Terminal</title><style>body { margin: 0; '
        "background: #14181b; color: #dfe5e8; width: max-content; } pre { margin: 0; padding: 18px 22px; "
        'font: 14px/1.35 "DejaVu Sans Mono", monospace; } .prompt { color: #8fa0ab; }</style>'
        f'<pre><span class="prompt">$ {html.escape(command)}</span>\n{lines}</pre></html>'
    )


def shoot(browser: Looking, folder: Path, name: str, story: Story) -> None:
    """All pictures of one story."""
    page, mail, text = faces(story)
    (folder / f"{name}.html").write_text(page, encoding="utf-8")
    themes: tuple[Theme, ...] = ("light", "dark")
    for theme in themes:
        browser.open(page, theme)
        (folder / f"{name}-{theme}.png").write_bytes(browser.picture())
    browser.printed(folder, f"{name}-print")
    browser.open(page, "light", 390)
    (folder / f"{name}-phone.png").write_bytes(browser.picture())
    browser.open(as_mail_program(mail), "light", 660)
    (folder / f"{name}-mail.png").write_bytes(browser.picture())
    asked = story.group.asked if story.group else story.job.job_id
    browser.open(as_terminal(text, f"jobimpact {asked}"), "light", 740, 100)
    (folder / f"{name}-terminal.png").write_bytes(browser.picture())


def _small(png: bytes, file: Path) -> None:
    """With few colours: such pictures need no more."""
    Image.open(io.BytesIO(png)).convert("RGB").quantize(
        200, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
    ).save(file, optimize=True)


def _sheets(browser: Looking, folder: Path) -> bytes:
    """What is open as it prints, its first two sheets side by side."""
    sheets = [Image.open(one).convert("RGB") for one in browser.printed(folder, "sheet")[:2]]
    if not sheets:
        raise SystemExit("pdftoppm is not installed (Debian: poppler-utils)")
    gap = 16
    width, height = sheets[0].size
    whole = Image.new("RGB", (len(sheets) * (width + gap) + gap, height + 2 * gap), "#8a959d")
    for at, sheet in enumerate(sheets):
        whole.paste(sheet, (gap + at * (width + gap), gap))
    out = io.BytesIO()
    whole.save(out, "PNG")
    return out.getvalue()


def for_documents(browser: Looking, folder: Path) -> None:
    """The pictures of docs/user."""
    told = {name: faces(stories()[name]) for name in ("good", "idle_gpu", "array_300")}
    browser.open(told["good"][0], "light", 900)
    _small(browser.picture(), folder / "page.png")
    with tempfile.TemporaryDirectory() as sheets:
        _small(_sheets(browser, Path(sheets)), folder / "print.png")
    browser.open(told["idle_gpu"][0], "dark", 900)
    _small(browser.picture(height=960), folder / "page-dark.png")
    browser.open(told["array_300"][0], "light", 900)
    _small(browser.picture(height=1275), folder / "array.png")
    browser.open(as_mail_program(told["idle_gpu"][1]), "light", 660)
    _small(browser.picture(), folder / "mail.png")
    browser.open(as_terminal(told["idle_gpu"][2], "jobimpact 126"), "light", 740, 100)
    _small(browser.picture(), folder / "terminal.png")
    browser.open(period_page(month().alice), "light", 900)
    _small(browser.picture(), folder / "month.png")


def main(given: list[str]) -> int:
    """Draw them."""
    if not given:
        print(__doc__, file=sys.stderr)
        return 2
    if given[0] == "--docs":
        with tempfile.TemporaryDirectory() as own, Looking(Path(own)) as browser:
            for_documents(browser, DOCUMENTS)
        return 0
    folder, wanted = Path(given[0]), given[1:]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as own, Looking(Path(own)) as browser:
        for name, story in stories().items():
            if not wanted or name in wanted:
                shoot(browser, folder, name, story)
                print(name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
