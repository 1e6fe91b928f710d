"""Each provider's faults: what is told, and which hours are known. The table of docs/admin/grid.md is of these."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.accounting.grid.faults import FAULTS, PROVIDERS, Fault, Outcome, markdown, outcomes
from tests.fakes.grid_servers import TOKEN

CASES = [(provider, fault) for provider in PROVIDERS for fault in FAULTS if provider in fault.of]
DOC = Path(__file__).parents[3] / "docs/admin/grid.md"


@pytest.fixture(scope="module")
def played() -> list[Outcome]:
    """What came of all of them."""
    return list(outcomes())


@pytest.mark.parametrize(
    ("provider", "fault"), CASES, ids=[f"{provider}-{fault.name.replace(' ', '_')}" for provider, fault in CASES]
)
def test_a_fault_is_told_and_its_hours_stay_unknown_until_it_is_mended(
    provider: str, fault: Fault, played: list[Outcome]
) -> None:
    """Told in words without the token; what is not good is not kept; the next night has all of the day."""
    (found,) = (one for one in played if (one.provider, one.answers) == (provider, fault.name))
    assert found.hours == fault.left
    assert [line for line in found.problems if fault.says in line] or fault.name == "good"
    assert bool(found.problems) == (fault.name != "good")
    assert TOKEN not in "".join(found.problems)
    assert all(line.startswith(f"{provider}: ") and "\n" not in line for line in found.problems)
    assert found.afterwards == 24


def test_the_table_in_the_docs_is_what_the_code_does(played: list[Outcome]) -> None:
    """`python -m tests.accounting.grid.faults` prints it."""
    assert "\n".join(markdown(played)) in DOC.read_text(encoding="utf-8")
