"""What jobs say of themselves, on its way through a server into the mirror."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.accounting.mirror_world import CLUSTER, SERVER, Day, MemoryReader, dump, keep_day
from tests.bench.store_day import DayJob
from tests.daemon.test_progress import Node, place, send

from jobimpact.core.config import Config, load_config
from jobimpact.core.line import line
from jobimpact.core.progress import Said
from jobimpact.core.records import JobUsage, Progress, RunEnergy, Usage
from jobimpact.core.series import JOB_LABEL, JOB_PROGRESS, Point
from jobimpact.core.units import NS
from jobimpact.energy.local import LocalEnergy
from jobimpact.mirror.job import copy_job
from jobimpact.mirror.refresh import Mirror
from jobimpact_daemon.outbox import Outbox, unpack

__all__ = ["place"]

WALL = 1795208400.0
LASTS = 900
MS = int(WALL * 1000)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A quarter of an hour of one node, and its job 1."""
    return keep_day(tmp_path_factory.mktemp("nodes"), Day("n1", [DayJob("1", 60, 600, (0,))], WALL), LASTS)


def said(at: int, metric: str | None = None, run: str = "1", **fields: Any) -> str:
    """A point of progress, `at` seconds after the begin."""
    return line(
        Point(JOB_PROGRESS, (CLUSTER, "n1", run, metric), MS + at * 1000, {"stamp_ms": MS + at * 1000} | fields)
    )


def label(at: int, name: str, value: str, run: str = "1") -> str:
    fields = {"stamp_ms": MS + at * 1000, "value": value}
    return line(Point(JOB_LABEL, (CLUSTER, "n1", run, name), MS + at * 1000, fields))


def mirrored(reader: MemoryReader, folder: Path) -> list[str]:
    with Mirror(reader, folder, CLUSTER) as mirror:
        return mirror.refresh(WALL - 10, WALL + LASTS + 100)


def run_of(folder: Path) -> RunEnergy:
    with LocalEnergy(folder) as energy:
        ((run,), unread) = energy.runs_of("1")
    assert unread == []
    return run


SAID = [
    said(120, step=1, energy_uj=500),
    said(180, "acc", step=2, value=0.5, energy_uj=900),
    said(180, "loss", step=2, value=3.0, energy_uj=900),
    label(120, "model", "resnet50"),
    label(180, "model", 'gpt, the "large" one'),
    label(120, "steps", "90"),
]
PROGRESS = (
    Progress(WALL + 120, 1, {}, 500),
    Progress(WALL + 180, 2, {"acc": 0.5, "loss": 3.0}, 900),
)
LABELS = {"model": 'gpt, the "large" one', "steps": "90"}


def test_the_mirror_has_what_a_job_said(lines: list[str], tmp_path: Path) -> None:
    """The latest of each label, and every point; read again, it is the same."""
    reader = MemoryReader([*lines, *SAID])
    assert mirrored(reader, tmp_path) == []
    run = run_of(tmp_path)
    assert (run.labels, run.progress) == (LABELS, PROGRESS)
    before = dump(tmp_path)
    assert mirrored(reader, tmp_path) == []
    assert (dump(tmp_path), run_of(tmp_path)) == (before, run)


def test_a_label_that_comes_late_and_is_older_changes_nothing(lines: list[str], tmp_path: Path) -> None:
    """By the stamps, not by the order in which they come."""
    reader = MemoryReader([*lines, label(180, "model", "b")])
    mirrored(reader, tmp_path)
    other = MemoryReader([*lines, label(120, "model", "a")])
    mirrored(other, tmp_path)
    assert run_of(tmp_path).labels == {"model": "b"}


@pytest.mark.parametrize(
    "row",
    [
        said(200, "acc\nrm -rf", step=1, value=1.0),
        said(200, "x" * 40, step=1, value=1.0),
        said(200, "acc", run="idle", step=1, value=1.0),
        f"job_progress,cluster={CLUSTER},node=n1,run=1,metric=acc stamp_ms={MS}i,value=inf {MS}",
        f'job_progress,cluster={CLUSTER},node=n1,run=1,metric=acc stamp_ms={MS}i,value="high" {MS}',
        f"job_progress,cluster={CLUSTER},node=../n1,run=1 stamp_ms={MS}i,step=1i {MS}",
        f"job_progress,cluster={CLUSTER},node=n1,run=1 stamp_ms={MS}i,step=1i,energy_uj=-5i {MS}",
        f"job_progress,cluster={CLUSTER},node=n1,run=1 stamp_ms={MS}i,step={2**63}i {MS}",
        label(200, "data", "x" * 201),
        label(200, "a b", "x"),
        f'job_label,cluster={CLUSTER},node=n1,run=1,label=data stamp_ms={MS}i,value="\x1b[31m" {MS}',
        label(200, "model", "x", run="past"),
    ],
)
def test_a_row_that_no_node_writes_is_left_out_and_told(lines: list[str], tmp_path: Path, row: str) -> None:
    """And costs no other."""
    problems = mirrored(MemoryReader([*lines, *SAID, row]), tmp_path)
    assert len(problems) == 1
    assert problems[0].endswith("left out")
    assert "\n" not in problems[0]
    assert (run_of(tmp_path).labels, run_of(tmp_path).progress) == (LABELS, PROGRESS)


def test_a_job_that_runs_is_copied_with_what_it_said(lines: list[str], tmp_path: Path) -> None:
    """For who asks before the night."""
    (tmp_path / "c.yaml").write_text(f"cluster: {CLUSTER}\nscheduler: {{local: {{path: jobs}}}}\n")
    config: Config = load_config(tmp_path / "c.yaml")
    copy_job(MemoryReader([*lines, *SAID]), tmp_path / "copy", config, "1", WALL + LASTS)
    run = run_of(tmp_path / "copy")
    assert (run.labels, run.progress) == (LABELS, PROGRESS)
    assert run.use is not None


def test_what_a_job_tells_a_real_daemon_comes_through_as_its_node_has_it(tmp_path: Path, place: Path) -> None:
    """From the socket into the books, their outbox, a server's lines and the mirror."""
    node = Node(tmp_path, place, outbox=Outbox(SERVER, "c", "n1"))
    for number, said_then in enumerate((Said("1", 7, {"acc": 0.5, "loss": 2.0}, {"model": "a b"}), Said("1", 8))):
        send(place, said_then)
        node.hear()
        node.tick(2 + number, usage=Usage({"1": JobUsage((2 + number) * NS, 2**30)}))
    for _ in range(3):
        node.tick(20, usage=Usage({"1": JobUsage(5 * NS, 2**29)}))
    packed = node.ask("SELECT lines FROM outbox WHERE kept = 'books' ORDER BY id")
    reader = MemoryReader(one for (lines,) in packed for one in unpack(lines).decode().split("\n"))
    with Mirror(reader, tmp_path / "mirror", "c") as mirror:
        assert mirror.refresh(node.wall_s - 1000, node.wall_s + 100) == []
    node.close()
    own, far = run_of(tmp_path), run_of(tmp_path / "mirror")
    assert [one.step for one in own.progress] == [7, 8]
    assert own.labels == {"model": "a b"}
    assert own.use is not None
    assert (own.use.cpu_ns, own.use.mem_peak_bytes) == (5 * NS, 2**30)
    assert (far.labels, far.progress, far.use) == (own.labels, own.progress, own.use)
