"""The model in place of a meter: idle power plus the rest of the TDP times utilisation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from jobimpact.core.records import Counter
from jobimpact.core.units import NS
from jobimpact_daemon.sources.model import Model


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.t_ns = 100 * NS

    def boot_ns(self) -> int:
        return self.t_ns

    def wall_s(self) -> float:
        return 0.0


@pytest.fixture(autouse=True)
def _own_proc() -> Iterator[None]:
    """The model tells psutil where /proc is; other tests have it back."""
    before = psutil.PROCFS_PATH
    yield
    psutil.PROCFS_PATH = before


def stat(proc: Path, busy_s: float) -> None:
    """A /proc/stat with this much user time."""
    proc.mkdir(exist_ok=True)
    (proc / "stat").write_text(f"cpu  {round(busy_s * 100)} 0 0 0 0 0 0 0 0 0\n")


def test_energy_is_idle_power_plus_utilisation(tmp_path: Path) -> None:
    """Ten seconds with half of the CPUs busy at 100 W TDP and 20 W idle are 600 J."""
    clock, proc, cpus = Clock(), tmp_path / "proc", psutil.cpu_count() or 1
    stat(proc, 0)
    model = Model(clock, proc, cpus, tdp_w=100, idle_w=20)  # type: ignore[arg-type]
    first = model.read()["cpu"]
    clock.t_ns += 10 * NS
    stat(proc, 5 * cpus)
    second = model.read()["cpu"]
    assert isinstance(first, Counter)
    assert isinstance(second, Counter)
    assert second.uj - first.uj == pytest.approx(600_000_000, abs=1)
    assert second.epoch == first.epoch


def test_utilisation_that_falls_is_none(tmp_path: Path) -> None:
    """A count that goes back adds idle power only, and the counter never falls."""
    clock, proc = Clock(), tmp_path / "proc"
    stat(proc, 50)
    model = Model(clock, proc, 2, tdp_w=100, idle_w=20)  # type: ignore[arg-type]
    model.read()
    clock.t_ns += NS
    stat(proc, 10)
    reading = model.read()["cpu"]
    assert isinstance(reading, Counter)
    assert reading.uj == 20_000_000


def test_a_model_says_that_it_is_one(tmp_path: Path) -> None:
    """Method, idle power and whether the TDP was guessed are told; two daemons have two epochs."""
    clock, proc = Clock(), tmp_path / "proc"
    stat(proc, 0)
    model = Model(clock, proc, 2)  # type: ignore[arg-type]
    (domain,) = model.discover()
    assert (domain.name, domain.kind, domain.method) == ("cpu", "cpu", "modelled")
    assert domain.idle_w
    assert model.problem is not None
    assert "archetype" in model.problem
    clock.t_ns += 1
    other = Model(clock, proc, 2, tdp_w=10)  # type: ignore[arg-type]
    epochs = [one.epoch for one in (model.read()["cpu"], other.read()["cpu"]) if isinstance(one, Counter)]
    assert len(set(epochs)) == 2
    assert other.problem is not None
    assert "configured" in other.problem
