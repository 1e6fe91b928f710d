"""Each provider's faults: what is told, and which hours are known. The table of docs/admin/grid.md is of these."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.accounting.grid.faults import FAULTS, PROVIDERS, Fault, markdown, play, prepared
from tests.accounting.grid.world import Site
from tests.fakes.grid_servers import TOKEN, serving

CASES = [(provider, fault) for provider in PROVIDERS for fault in FAULTS if provider in fault.of]
DOC = Path(__file__).parents[3] / "docs/admin/grid.md"


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache in which the days before are known."""
    with serving() as server:
        yield prepared(Site(tmp_path_factory.mktemp("before"), server))


@pytest.mark.parametrize(
    ("provider", "fault"), CASES, ids=[f"{provider}-{fault.name.replace(' ', '_')}" for provider, fault in CASES]
)
def test_a_fault_is_told_and_its_hours_stay_unknown_until_it_is_mended(
    provider: str, fault: Fault, before: Path, tmp_path: Path
) -> None:
    """Told in words without the token; what is not good is not kept; the next night has all of the day."""
    found = play(provider, fault, before, tmp_path)
    assert found.hours == fault.left
    assert [line for line in found.problems if fault.says in line] or fault.name == "good"
    assert bool(found.problems) == (fault.name != "good")
    assert TOKEN not in "".join(found.problems)
    assert all(line.startswith(f"{provider}: ") and "\n" not in line for line in found.problems)
    assert TOKEN.encode() not in (tmp_path / "played.db").read_bytes()
    assert found.afterwards == 24


def test_the_table_in_the_docs_is_what_the_code_does() -> None:
    """`python -m tests.accounting.grid.faults` prints it."""
    assert "\n".join(markdown()) in DOC.read_text()
