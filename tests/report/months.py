"""A lab's autumn by the real accounting: `python -m tests.report.months` prints what the documents show of it."""

from __future__ import annotations

import functools
import io
import random
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import msgspec
from tests.accounting.world import T0
from tests.report.stories import HOUR, Site, _gpu_watts, _training, _use

from jobimpact.answers.local import LocalAnswers
from jobimpact.answers.query import PeriodQuery, Who
from jobimpact.cli.main import main
from jobimpact.core.config import Config, load_config
from jobimpact.nightly.night import account
from jobimpact.report.period import PeriodView, period_view
from jobimpact.report.period_text import period_text

__all__ = ["COMPARE", "Month", "month", "samples"]

DAY = 86400
NOVEMBER, DECEMBER = 1793491200.0, 1796083200.0
NIGHT = NOVEMBER + 20 * DAY + 2.5 * HOUR
"""The last accounting: 2026-11-21, 02:30 UTC."""
MORE = """
labs: {nlp: {name: Language lab, heads: [ines]}}
report: {price_per_kwh: 0.2}
"""
COMPARE = ("compare", "model=resnet50", "model=bert-large", "--per", "1000", "-S", "2026-08-01")
USERS = ("ben", "chloe", "david", "farid", "gita", "ines")


def _site(folder: Path) -> Config:
    """Alice trains two models, of which some runs end badly; six others of her lab do likewise, for less."""
    site = Site(folder)
    site.world.config_file.write_text(site.world.config_file.read_text() + MORE)
    chosen = random.Random(4)
    number = 1300

    def train(
        user: str, day: float, hours: float, gpus: int, *, unused: int = 0, model: str = "", **more: str
    ) -> None:
        nonlocal number
        number += chosen.randrange(1, 9)
        lasts = hours * HOUR
        watts = [chosen.uniform(190, 330) if gpu >= unused else 55.0 for gpu in range(gpus)]
        labels = {"model": model, "steps": str(round(hours * 900) * 10)} if model else None
        site.job(
            str(number),
            "node03",
            lasts,
            _gpu_watts("node03", gpus, watts, 70.0 + 4 * gpus, 20.0) | {"rest": 95.0},
            gpus=gpus,
            cpus=8 * gpus,
            mem_gib=64,
            use=_use(lasts, gpus, 0.78 * (gpus - unused) / gpus, unused, 8 * gpus, 0.6, 40),
            labels=labels,
            shape=_training,
            start=NOVEMBER + day * DAY - T0,
            user=user,
            account="nlp",
            partition="gpu",
            time_limit_s=2 * lasts,
            **more,
        )

    for day, hours in ((-18.5, 6.0), (-12.2, 11.0), (-5.4, 8.0)):
        train("alice", day, hours, 2, model="resnet50", name="resnet50")
    train("alice", 1.3, 7.0, 2, model="resnet50", name="resnet50-lr3")
    train("alice", 2.4, 1.6, 4, name="test-2", state="FAILED", exit_code="1:0")
    train("alice", 8.2, 9.0, 4, name="ablation", unused=3)
    train("alice", 9.5, 8.5, 2, model="bert-large", name="bert-large")
    train("alice", 12.6, 10.0, 2, model="bert-large", name="sweep-lr", state="TIMEOUT")
    train("alice", 16.3, 5.0, 2, model="resnet50", name="resnet50-long")
    train("alice", 18.1, 9.0, 2, model="bert-large", name="bert-large-2")
    for at, user in enumerate(USERS):
        for again in range(1 + at % 3):
            train(user, 0.7 + 2.9 * at + 0.4 * again, chosen.uniform(2, 9), 1 + again, model="gpt2", name="gpt2")
    account(site.world.config, NIGHT, NOVEMBER - 90 * DAY, NIGHT)
    return load_config(site.world.config_file)


class Month(msgspec.Struct, frozen=True):
    """What is shown of it."""

    alice: PeriodView
    lab: PeriodView
    compared: str
    """What `jobimpact compare` prints of two models."""


@functools.cache
def month() -> Month:
    """November 2026, so far, of alice and of her lab."""
    with tempfile.TemporaryDirectory(prefix="jobimpact-month-") as folder:
        config = _site(Path(folder))
        answers = LocalAnswers(config, Who(0, "root", admin=True))
        try:
            alice = answers.period(PeriodQuery("user", "alice", NOVEMBER, DECEMBER))
            lab = answers.period(PeriodQuery("lab", "nlp", NOVEMBER, DECEMBER))
        finally:
            answers.close()
        mine, whole = (period_view(one, config.findings, config.report) for one in (alice, lab))
        said = io.StringIO()
        with redirect_stdout(said):
            main([*COMPARE, "-u", "alice", "--config", f"{folder}/jobimpact.yaml"])
        return Month(mine, whole, said.getvalue())


def samples() -> tuple[str, str, str]:
    """Alice's report, the table of users in her lab's, and her comparison of two models."""
    found = month()
    users = period_text(found.lab).split("\n  By user")[1].split("\n\n")[0]
    return period_text(found.alice), f"  By user{users}\n", found.compared


if __name__ == "__main__":
    print("\n".join(samples()))
