"""The package is replaced while the service runs: it goes on with the release that it began with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.accounting.world import CONFIG, World
from tests.service.running import ENOUGH_S

import jobimpact
from jobimpact.answers.query import PeriodQuery, Query
from jobimpact.answers.remote import RemoteAnswers
from jobimpact.cli.main import main
from jobimpact.core.config import Service
from jobimpact.core.errors import StoreError

SERVE = "import sys; from jobimpact.cli.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who sees everybody's jobs")
@pytest.mark.parametrize("store", ["{local: {path: nodes}}", '{influxdb: {url: "http://127.0.0.1:9"}}'])
def test_nothing_is_loaded_later(tmp_path: Path, store: str) -> None:
    """All kinds of questions are answered when no file of the package is there any more."""
    (tmp_path / "run").mkdir()
    made = World(tmp_path, CONFIG + "service: {socket: run/s}\n")
    made.say("1")
    assert main(["account", "--config", str(made.config_file)]) == 0
    made.config_file.write_text(made.config_file.read_text().replace("{local: {path: nodes}}", store))
    package = tmp_path / "packages" / "jobimpact"
    shutil.copytree(Path(jobimpact.__path__[0]), package, ignore=shutil.ignore_patterns("__pycache__"))
    service = subprocess.Popen(
        [sys.executable, "-c", SERVE, "serve", "--config", str(made.config_file)],
        env=os.environ | {"PYTHONPATH": str(package.parent)},
        stderr=subprocess.PIPE,
    )
    try:
        assert service.stderr is not None
        assert b"answering at" in service.stderr.readline()
        # Data files are read when they are needed: only code must be of one release.
        for one in package.rglob("*.py"):
            one.unlink()
        shutil.rmtree(package.parent / "__pycache__", ignore_errors=True)
        for one in list(package.rglob("__pycache__")):
            shutil.rmtree(one)
        asked = RemoteAnswers(Service(socket=str(tmp_path / "run/s"), timeout_s=ENOUGH_S))
        assert asked.jobs(Query(("1",))).groups[0].sums is not None
        [unknown] = asked.jobs(Query(("2",))).groups
        assert unknown.sums is None
        assert ("local" in store) is (unknown.trouble is None)
        assert asked.period(PeriodQuery("user", "alice", 0.0, 2e9)).sums.jobs == 1
        with pytest.raises(StoreError, match="unknown, or not yours"):
            asked.period(PeriodQuery("user", "nobody-at-all", 0.0, 2e9))
        asked.details("lab", "1@1")
    finally:
        service.terminate()
        assert service.wait(ENOUGH_S) == 0
