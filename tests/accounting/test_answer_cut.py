"""Jobs cut at a window: what is inside, and never more or less in all."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.accounting.answered import measured
from tests.accounting.world import World

from jobimpact.answers.cut import cut
from jobimpact.results.record import JobResult

HOUR = 3600
START = 1795190400  # a full hour


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> JobResult:
    """Of three hours from 15 minutes past one, whose energy is 1, 2, 3 and 0.5 kJ in the hours that it touches."""
    start, end = START + 900.0, START + 900.0 + 3 * HOUR
    world = World(tmp_path_factory.mktemp("site"))
    one = measured(world, "1", 6500.0, start_s=start, end_s=end, elapsed_s=3.0 * HOUR)
    node = one.energy["nodes"]["node01"]
    joules = (1000, 2000, 3000, 500)
    node |= {"hours": [[START + n * HOUR, j * 10**6] for n, j in enumerate(joules)], "elapsed_s": 3.0 * HOUR}
    return one


def total(one: JobResult, part: str = "total") -> float:
    found: dict[str, Any] = one.impacts["gwp_kgco2e"][part]
    return float(found["central"])


@pytest.mark.parametrize(
    ("from_s", "to_s", "joules", "hours"),
    [
        (START, START + HOUR, 1000, 0.75),
        (START + HOUR, START + 2 * HOUR, 2000, 1),
        (START + 1.5 * HOUR, START + 2 * HOUR, 1000, 0.5),
        (None, START + 2 * HOUR, 3000, 1.75),
        (START + 3 * HOUR, None, 500, 0.25),
        (START + 3 * HOUR, START + 3 * HOUR + 450, 250, 0.125),
    ],
)
def test_energy_by_its_hours_and_what_was_reserved_by_time(
    job: JobResult, from_s: float | None, to_s: float | None, joules: float, hours: float
) -> None:
    """And the parts of it, their sum, times; it says so."""
    found = cut(job, from_s, to_s)
    assert found.energy_j == pytest.approx(joules)
    assert found.energy["total_kwh"] == pytest.approx(joules / 3.6e6)
    assert found.energy["domains"]["cpu"]["energy_j"] == pytest.approx(joules)
    assert found.energy["nodes"]["node01"]["domains"]["package-0"]["energy_j"] == pytest.approx(joules)
    assert found.elapsed_s == pytest.approx(hours * HOUR)
    assert (found.start_s, found.end_s) == (max(job.start_s or 0, from_s or 0), min(job.end_s or 0, to_s or 1e12))
    assert total(found, "use") == pytest.approx(total(job, "use") * joules / 6500)
    assert total(found, "embodied") == pytest.approx(total(job, "embodied") * hours / 3)
    assert total(found) == pytest.approx(total(found, "use") + total(found, "embodied"))
    assert "cut at the window" in found.warnings[-1]


@given(edges=st.lists(st.floats(START, START + 5 * HOUR), max_size=6))
def test_the_parts_are_the_whole(job: JobResult, edges: list[float]) -> None:
    """However it is cut."""
    bounds = [None, *sorted(set(edges)), None]
    parts = [cut(job, low, high) for low, high in itertools.pairwise(bounds)]
    assert sum(one.energy_j or 0.0 for one in parts) == pytest.approx(6500)
    assert sum(one.elapsed_s or 0.0 for one in parts) == pytest.approx(3 * HOUR)
    assert sum(total(one) for one in parts) == pytest.approx(total(job))


def test_a_job_that_is_all_inside_is_as_it_was(job: JobResult) -> None:
    """No warning, nothing scaled."""
    assert cut(job, START, START + 5 * HOUR) is job
    assert cut(job, None, None) is job


def test_without_hours_its_energy_is_not_known(job: JobResult) -> None:
    """Not zero, and not a guess: with the reason; what was reserved is known."""
    energy = msgspec.json.decode(msgspec.json.encode(job.energy))
    energy["nodes"]["node01"]["hours"] = []
    found = cut(msgspec.structs.replace(job, energy=energy), START, START + HOUR)
    assert (found.energy_j, found.energy["total_j"], found.coverage) == (None, None, 0.0)
    assert found.energy["domains"]["cpu"]["energy_j"] is None
    assert "by the hour is not known on node01" in found.energy["reason"]
    gwp = found.impacts["gwp_kgco2e"]
    assert (gwp["use"], gwp["total"]) == (None, None)
    assert "by the hour is not known" in gwp["reason"]
    assert gwp["embodied"]["central"] == pytest.approx(total(job, "embodied") / 4)


def test_a_job_of_which_nothing_is_known_stays_so(tmp_path: Path) -> None:
    """Its reason is the first one."""
    one = measured(World(tmp_path), "1", None, start_s=float(START), end_s=START + 2.0 * HOUR, elapsed_s=2.0 * HOUR)
    found = cut(one, START, START + HOUR)
    assert (found.energy_j, found.energy["reason"]) == (None, one.energy["reason"])
    assert found.elapsed_s == HOUR


def test_a_job_that_never_started_is_as_it_was(tmp_path: Path) -> None:
    """There is nothing to cut."""
    one = measured(World(tmp_path), "1", start_s=None, elapsed_s=0.0, nodes=(), state="CANCELLED")
    assert cut(one, START, START + HOUR) is one
