"""Something that mails are made with is not installed, or not set: it is said, and no mail is lost for it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.accounting.world import T0
from tests.mail.smtp_server import Server
from tests.mail.world import Site


@pytest.mark.parametrize(
    ("module", "name"), [("sqlalchemy", "sqlalchemy"), ("jinja2", "Jinja2"), ("matplotlib", "matplotlib")]
)
def test_a_package_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> None:
    """It is named, once; mails wait as they are, and go when it is there."""
    with Server() as server:
        world = Site(tmp_path, server.port)
        text = world.config_file.read_text()
        world.config_file.write_text(f"{text}report: {{profile_kwh: 0}}\n")
        begin_s = world.now_s - 700 - T0
        for job in ("1", "2"):
            world.job(job)
            for at_s in range(0, 101, 10):
                world.node().point(job, begin_s + at_s, 50.0 * at_s, known_s=at_s)
        world.account().begin()
        absent = tmp_path / "absent"
        absent.mkdir()
        (absent / f"{module}.py").write_text(f"raise ModuleNotFoundError('no', name={module!r})\n")
        monkeypatch.setenv("PYTHONPATH", str(absent), prepend=os.pathsep)
        status, _, said = world.run("mail")
        assert (status != 0, "Traceback" in said, said.count(name)) == (True, False, 1)
        assert "jobimpact[accounting]" in said
        assert server.mails == []
        assert {(row.state, row.attempts) for row in world.mails().values()} <= {("planned", 0)}
        monkeypatch.delenv("PYTHONPATH")
        assert world.run("mail")[:2] == (0, "mail: 2 sent\n")


def test_a_row_that_nobody_thought_of_is_no_error_of_the_accounting(tmp_path: Path) -> None:
    """The night's mails fail with what went wrong and where; the accounting before them stands, with status 0."""
    with Server() as server:
        world = Site(tmp_path, server.port)
        world.job("1")
        world.account().begin()
        assert world.run("mail")[0] == 0
        with closing(sqlite3.connect(world.results)) as db:
            db.execute("UPDATE mail SET made_s = 'long ago'")
            db.commit()
        world.job("2")
        status, out, said = world.run("account")
        assert (status, "1 new" in out) == (0, True)
        assert "Traceback" in said
        assert "jobimpact: mail: TypeError: " in said.splitlines()[-1]
