"""What was accounted for stays when the mirror is lost, and the server has forgotten a part of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.stores.servers import Influx, Victoria
from tests.stores.test_mirror import NOW, WALL, KeptFor, Site, kept_for, rows

from jobimpact.nightly.night import account

__all__ = ["kept_for"]


@pytest.mark.parametrize("forgotten_s", [0, 1500, 3000, 5000, 10_000])
def test_a_mirror_begun_anew_changes_no_result(
    influx: Influx,
    tmp_path: Path,
    kept_for: KeptFor,
    forgotten_s: int,
) -> None:
    """Neither energies nor the hours in which they were used, whose electricity is not the same."""
    site = Site(tmp_path, influx, kept_for)
    site.publish()
    first = account(site.far.config, NOW)
    before = rows(site.far)
    assert first.new > 5
    shutil.rmtree(tmp_path / "far" / "books" / "mirror")
    for one in ("job_run", "job_energy", "node_domain", "node_books"):
        influx.query(f'DELETE FROM "{one}" WHERE time < {int(WALL + forgotten_s)}s', "jobimpact")  # noqa: S608 (our own words)
    again = account(site.far.config, NOW + 60)
    assert (again.new, again.changed, again.unchanged) == (0, 0, first.new)
    assert rows(site.far) == before


def test_a_node_s_outbox_that_comes_two_days_late_corrects_the_jobs(
    influx: Influx,
    tmp_path: Path,
    kept_for: KeptFor,
) -> None:
    site = Site(tmp_path, influx, kept_for)
    lines = site.lines
    site.lines = [line for line in lines if ",node=n2" in line]
    site.publish()
    first = account(site.far.config, NOW)
    assert 0 < first.not_measured < first.new
    assert account(site.far.config, NOW + 86400).changed == 0
    site.lines = [line for line in lines if ",node=n1" in line]
    site.publish()
    late = account(site.far.config, NOW + 2 * 86400)
    assert (late.changed, late.not_measured) == (first.not_measured, 0)
    account(site.near.config, NOW + 2 * 86400)
    of_when = ("revision", "accounted_s")
    found, wanted = (
        [{name: value for name, value in row.items() if name not in of_when} for row in rows(world)]
        for world in (site.far, site.near)
    )
    assert found == wanted


def test_a_node_that_writes_fractions_stops_no_night(victoria: Victoria, tmp_path: Path, kept_for: KeptFor) -> None:
    """A server that keeps floats takes them; the row is told, and all others are read."""
    site = Site(tmp_path, victoria, kept_for)
    fields = "energy_uj=1.5,known_ns=-3,stamp_ms=7.25"
    strange = f"job_energy,cluster=lab,node=n9,run=7,domain=package-0,kind=cpu {fields} {int(WALL + 500) * 1000}"
    site.lines = [*site.lines, strange]
    site.publish()
    found = account(site.far.config, NOW)
    assert found.not_measured == 0
    assert len(found.problems) == 1
    assert "node='n9'" in found.problems[0]
    account(site.near.config, NOW)
    assert rows(site.far) == rows(site.near)
