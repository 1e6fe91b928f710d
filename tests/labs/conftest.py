"""Labs for the tests of this folder: real schedulers, where this machine can run them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.labs.oar import lab as oar
from tests.labs.oar.lab import OarLab
from tests.labs.slurm.lab import SlurmLab, missing
from tests.labs.slurm.layout import Plan
from tests.needs import need

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def slurm_lab() -> Iterator[SlurmLab]:
    """A cluster of eight nodes with the project's own hooks; one for all tests, so use ids and own files."""
    need("slurm", missing())
    hooks = ROOT / "prolog_epilog" / "slurm"
    with SlurmLab(Plan(nodes=8, prolog=hooks / "prolog", epilog=hooks / "epilog")) as lab:
        yield lab


@pytest.fixture(scope="session")
def oar_lab() -> Iterator[OarLab]:
    """A cluster of four nodes with the project's own notifier; one for all tests, so use ids and own files.

    Its `dsn` is OAR's database, to be read from outside of the lab.
    """
    need("oar", oar.missing())
    with OarLab() as lab:
        yield lab
