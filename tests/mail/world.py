"""A site whose users get mail: jobs accounted for by the real accounting, minutes before now."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml
from tests.accounting.world import CONFIG, T0, World

from jobimpact.nightly.night import account
from jobimpact.results.mailing import Mailing, MailRow

__all__ = ["DAYS", "Site"]

DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
ROOT = Path(__file__).parents[2]


class Site(World):
    """The folder of a site, with mail switched on.

    Args:
        folder: where it is.
        port: of its mail server.
        mail: settings beside or in place of these.
    """

    def __init__(self, folder: Path, port: int = 9, **mail: Any) -> None:
        smtp = {"host": "127.0.0.1", "port": port, "tls": "none", "timeout_s": 20} | mail.pop("smtp", {})
        settings = {
            "enabled": True,
            "send": True,
            "preview": "preview",
            "sender": "jobimpact@site.example",
            "addresses": {"domain": "site.example"},
            "min_kwh": 0.001,
            "min_failed_kwh": 0.0001,
            "digest": "off",
            "per_user": 1000,
            "per_night": 1000,
            "days": DAYS,
            "smtp": smtp,
        }
        self.now_s = time.time()
        super().__init__(folder, CONFIG + yaml.safe_dump({"mail": settings | mail}))

    def job(self, job: str = "1", joules: float = 5000.0, ago_s: float = 600.0, **more: Any) -> None:
        """A job of 100 s that ended so long ago, in the scheduler's records and a node's books."""
        end_s = self.now_s - ago_s
        self.say(job, submit=int(end_s - 200), start=end_s - 100, end=end_s, **more)
        self.node().measured(str(more.get("raw_id", job)), joules, start=end_s - 100 - T0, end=end_s - T0)

    def account(self) -> Site:
        """Put all there is into the results."""
        account(self.config, self.now_s)
        return self

    def begin(self, days_ago: float = 13.0) -> Site:
        """Mails have been sent for some days."""
        with closing(self.mailing()) as mailing:
            mailing.begin(self.now_s - days_ago * 86400)
        return self

    def mailing(self) -> Mailing:
        """The mails' rows."""
        return Mailing(f"sqlite:///{self.results}", "lab")

    def mails(self) -> dict[str, MailRow]:
        """By key."""
        with closing(self.mailing()) as mailing:
            return {row.subject: row for row in mailing.rows()}

    def states(self) -> dict[str, str]:
        """By what they are about: `job 1`, `digest alice`."""
        found = {}
        for key, row in self.mails().items():
            topic, _, rest = key.partition("/")
            found[f"{topic} {rest.rpartition('/')[2]}"] = row.state
        return found

    def start(self, *words: str) -> subprocess.Popen[str]:
        """`jobimpact ...` as a process of its own."""
        argv = [sys.executable, "-m", "jobimpact.cli.main", *words, "--config", str(self.config_file)]
        argv[1:3] = ["-c", "import sys; from jobimpact.cli.main import main; sys.exit(main())"]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            argv, stdout=pipe, stderr=pipe, text=True, env=os.environ | {"COLUMNS": "200"}, cwd=ROOT
        )

    def run(self, *words: str) -> tuple[int, str, str]:
        """The same, to its end: exit status, and what it said."""
        process = self.start(*words)
        out, said = process.communicate(timeout=300)
        return process.returncode, out, said
