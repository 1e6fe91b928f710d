"""The energy of an array by kind of part."""

from __future__ import annotations

import re
from math import fsum

import msgspec
import pytest
from tests.report.shots import group_of
from tests.report.stories import stories

from jobimpact.answers.query import Group
from jobimpact.report.group import group_view
from jobimpact.report.numbers import energy
from jobimpact.results.record import JobResult
from jobimpact.results.sums import sums_of


def said(jobs: tuple[JobResult, ...]) -> str:
    """The sentence, or nothing."""
    notes = group_view(Group("1", jobs, sums_of(jobs))).notes
    return next((one for one in notes if one.startswith("Energy by part")), "")


def test_parts_are_those_of_the_tasks() -> None:
    """Each is the sum of all tasks'; a part without a meter is named, and one that no task held is not."""
    story = stories()["array_300"]
    cpu, memory = (fsum(one.energy["domains"][kind]["energy_j"] for one in story.jobs) for kind in ("cpu", "dram"))
    wanted = f"Energy by part: CPU {energy(cpu)}, memory {energy(memory)}; not measured: rest."
    assert wanted in group_of(story).notes
    assert cpu + memory == pytest.approx(fsum(one.energy_j or 0.0 for one in story.jobs))


def test_what_is_not_known_of_some_is_counted() -> None:
    """It is no zero among the others."""
    good, idle, lost = (stories()[name].job for name in ("good", "idle_gpu", "not_measured"))
    gpu = energy(good.energy["domains"]["gpu"]["energy_j"] + idle.energy["domains"]["gpu"]["energy_j"])
    rest = energy(good.energy["domains"]["rest"]["energy_j"])
    tasks = tuple(msgspec.structs.replace(one, array_id="1") for one in (good, idle))
    assert f"GPU {gpu}, rest {rest} (not known of 1 task)." in said(tasks)
    assert said((lost,)) == ""


def test_an_array_of_any_size_tells_them() -> None:
    """Sums are enough."""
    (told,) = (one for one in group_of(stories()["array_100k"]).notes if one.startswith("Energy by part"))
    assert re.fullmatch(r"Energy by part: CPU \S+ GJ, memory \S+ MJ; not measured: rest\.", told)
