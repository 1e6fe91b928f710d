"""Labs for the tests of this folder: real schedulers, where this machine can run them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.labs.oar import lab as oar
from tests.labs.oar.lab import OarLab
from tests.labs.slurm.lab import SlurmLab, missing
from tests.labs.slurm.layout import Plan

ROOT = Path(__file__).parents[2]
SKIPPED = pytest.StashKey[dict[str, str]]()


@pytest.fixture(scope="session")
def slurm_lab(pytestconfig: pytest.Config) -> Iterator[SlurmLab]:
    """A cluster of eight nodes with the project's own hooks; one for all tests, so use ids and own files."""
    _need(pytestconfig, "slurm", missing())
    hooks = ROOT / "prolog_epilog" / "slurm"
    with SlurmLab(Plan(nodes=8, prolog=hooks / "prolog", epilog=hooks / "epilog")) as lab:
        yield lab


@pytest.fixture(scope="session")
def oar_lab(pytestconfig: pytest.Config) -> Iterator[OarLab]:
    """A cluster of four nodes with the project's own notifier; one for all tests, so use ids and own files.

    Its `dsn` is OAR's database, to be read from outside of the lab.
    """
    _need(pytestconfig, "oar", oar.missing())
    with OarLab() as lab:
        yield lab


def _need(config: pytest.Config, lab: str, reason: str) -> None:
    """Skip, or with REQUIRE_LABS=1 fail, when there is a reason why the lab cannot be."""
    if not reason:
        return
    if os.environ.get("REQUIRE_LABS") == "1":
        pytest.fail(f"{lab} lab: {reason}", pytrace=False)
    config.stash.setdefault(SKIPPED, {})[lab] = reason
    pytest.skip(f"{lab} lab: {reason}")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Say which labs were skipped, after pytest's own closing line: what was not tested must be the last word."""
    result = yield
    skipped = session.config.stash.get(SKIPPED, {})
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if skipped and reporter:
        reporter.write_line("SKIPPED LABS: " + "; ".join(f"{lab} ({why})" for lab, why in sorted(skipped.items())))
    return result
