"""The results' file: for its owner and its group, and a night says so where it is for all."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.accounting.world import World
from tests.labs.munged import folder_for_all

from jobimpact.cli.main import main
from jobimpact.results.rights import open_to_all
from jobimpact.results.write import Results


@pytest.fixture
def plain_umask() -> Iterator[None]:
    """That of most systems."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("plain_umask")
def test_the_file_is_made_for_its_group_alone(tmp_path: Path) -> None:
    """And so is the journal beside it."""
    path = tmp_path / "results.db"
    Results(f"sqlite:///{path}").close()
    assert mode(path) == 0o640
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO meta VALUES ('x', 1)")
        assert mode(tmp_path / "results.db-journal") == 0o640


@pytest.mark.usefixtures("plain_umask")
@pytest.mark.parametrize("before", [0o600, 0o644])
def test_what_an_admin_set_stays(tmp_path: Path, before: int) -> None:
    """Whatever it is."""
    path = tmp_path / "results.db"
    Results(f"sqlite:///{path}").close()
    path.chmod(before)
    Results(f"sqlite:///{path}").close()
    assert mode(path) == before


@pytest.mark.usefixtures("plain_umask")
def test_a_night_says_that_all_can_read(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the file and every folder above it are open to others; not where one of them is closed."""
    with folder_for_all() as folder:
        world = World(folder)
        said = list[bool]()
        for file, above in ((0o640, 0o755), (0o644, 0o755), (0o644, 0o750)):
            if world.results.exists():
                world.results.chmod(file)
            folder.chmod(above)
            assert main(["account", "--config", str(world.config_file)]) == 0
            said.append(f"{world.results}: every user of this host can read all jobs" in capsys.readouterr().err)
        assert said == [False, True, False]


def test_a_file_that_is_not_there_is_nobodys(tmp_path: Path) -> None:
    """Nothing to warn of."""
    assert open_to_all(tmp_path / "none" / "results.db") is None
