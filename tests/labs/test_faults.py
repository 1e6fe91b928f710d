"""What goes wrong on a real cluster: killed daemons, mark folders gone, read-only or full, 64 jobs at once."""

from __future__ import annotations

import signal
import sqlite3
import statistics
import time
from collections.abc import Iterator

import pytest
from tests.fakes.curve import boot_ns
from tests.labs.cluster import MeasuredCluster
from tests.labs.lab import PATIENCE_S
from tests.labs.measured import IDLE_W
from tests.labs.oracle import Window, node_truth
from tests.labs.slurm.lab import SlurmLab
from tests.labs.test_truth import HOOK_NS, LATE, late_after_marks_s, reading_times

pytestmark = pytest.mark.lab


class BadDay:
    """The jobs of each fault, and the cluster."""

    def __init__(self, cluster: MeasuredCluster) -> None:
        self.cluster = cluster
        self.jobs: dict[str, str] = {}
        self.tasks: list[str] = []
        self.marks_seen: list[int] = []
        self.counter_gap_s = 0.0

    def run(self, job: str) -> dict[str, object]:
        """The one run of a job in its node's books, with its energy in J."""
        (found,) = self.runs(job)
        return found

    def runs(self, job: str) -> list[dict[str, object]]:
        """The runs of a job on all nodes."""
        found = []
        for node in self.cluster.nodes:
            with sqlite3.connect(self.cluster.store / f"{node}.sqlite") as db:
                db.row_factory = sqlite3.Row
                for row in db.execute("SELECT * FROM run WHERE job = ?", (job,)):
                    (uj,) = db.execute("SELECT sum(uj) FROM ledger WHERE holder = ?", (row["run"],)).fetchone()
                    found.append({**row, "node": node, "energy_j": (uj or 0) / 1e6})
        return found


@pytest.fixture(scope="module")
def bad_day(slurm_lab: SlurmLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BadDay]:
    """All the faults, one after the other, on eight nodes."""
    cpu, gpu = slurm_lab.nodes[:4], slurm_lab.gpu_nodes
    with MeasuredCluster(slurm_lab, slurm_lab.nodes, tmp_path_factory.mktemp("faults")) as cluster:
        day = BadDay(cluster)

        def load(name: str, node: str, seconds: float) -> str:
            line = f"load --period-ms 5 --cpu 0.2 --seconds {seconds} --mem 20M"
            day.jobs[name] = slurm_lab.sbatch(line, "-J", name, "-w", node, "-c2")
            return day.jobs[name]

        cluster.wait_reading(PATIENCE_S)
        time.sleep(1.3)
        load("killed", cpu[0], 3000)  # until it is cancelled, below
        time.sleep(8.2)
        cluster.stop(cpu[0], signal.SIGKILL)
        killed_at = time.monotonic()
        _without_a_daemon(day, load, cpu[1])
        _without_a_mark_folder(day, load, gpu[2])
        time.sleep(max(0.0, 20 - (time.monotonic() - killed_at)))
        cluster.start(cpu[0])
        day.counter_gap_s = time.monotonic() - killed_at
        time.sleep(8.3)
        slurm_lab.scancel(day.jobs["killed"])
        slurm_lab.wait(day.jobs["killed"])
        _many_at_once(day, gpu)
        time.sleep(2.2)
        for name in slurm_lab.nodes:
            assert cluster.stop(name) == 0
        cluster.rig.stop()
        yield day


def _without_a_daemon(day: BadDay, load: object, node: str) -> None:
    assert callable(load)
    day.cluster.stop(node)
    for name in ("alone", "alone too"):
        day.cluster.lab.wait(load(name, node, 2.6))
    day.cluster.start(node)


def _without_a_mark_folder(day: BadDay, load: object, node: str) -> None:
    """Missing; then, for the hooks alone, read-only and full."""
    assert callable(load)
    marks = day.cluster.lab.node_dir(node) / "marks"
    marks.rmdir()
    day.cluster.lab.wait(load("missing", node, 2.6))
    for name, options in (("read-only", "ro"), ("full", "size=4k,nr_inodes=1")):
        day.cluster.lab.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(marks)])
        day.cluster.lab.wait(load(name, node, 2.6))
        day.marks_seen.append(int(day.cluster.lab.run(f"ls -A {marks} | wc -l").stdout))
        day.cluster.lab.run(["umount", str(marks)])


def _many_at_once(day: BadDay, dead: list[str]) -> None:
    """64 tasks on 64 CPUs, with half of the daemons dead."""
    lab = day.cluster.lab
    for node in dead:
        day.cluster.stop(node)
    array = lab.sbatch("sleep 0.4", "-J", "many", "--array=0-63", "-c1", "--mem=50M")
    day.tasks = list(lab.wait(array, timeout=120))
    for node in dead:
        marks = [path for path in (lab.node_dir(node) / "marks").iterdir() if path.name != "rejected"]
        day.marks_seen += [0 if path.stat().st_size else 1 for path in marks]
    for node in dead:
        day.cluster.start(node)


def test_a_killed_daemon_loses_nothing(bad_day: BadDay) -> None:
    """`kill -9` in mid job, restart after 20 s: within 1 % of the truth, and flagged."""
    cluster, job = bad_day.cluster, bad_day.jobs["killed"]
    run = bad_day.run(job)
    node = str(run["node"])
    offset = time.time_ns() - boot_ns()
    hooks = [hook for hook in cluster.lab.hook_runs() if hook.job == job]
    edges = {hook.event: hook.start_ns - offset for hook in hooks}
    windows = [Window(job, edges["prolog"], edges["epilog"], 2, 200 << 20)]
    trace = cluster.rig.trace()
    truth = node_truth(cluster.rig, trace, node, windows, reading_times(cluster.recording(node)), IDLE_W)
    true_j = sum(uj for (_, holder), uj in truth.items() if holder == job) / 1e6
    print(f"daemon dead for {bad_day.counter_gap_s:.1f} s: true {true_j:.1f} J, ours {run['energy_j']:.1f} J")
    # Hooks, readings and the rig may be late on a busy machine, by their own account.
    late_s = late_after_marks_s(cluster.recording(node)) + trace.late_s()
    late_s += sum(max(0, hook.end_ns - hook.start_ns - HOOK_NS) for hook in hooks) / 1e9
    mean_w = true_j * 1e9 / (edges["epilog"] - edges["prolog"])
    assert run["energy_j"] == pytest.approx(true_j, abs=true_j * 0.01 + LATE * late_s * mean_w)
    assert "package-0 gap" in str(run["flags"])


def test_every_job_of_a_fault_is_in_the_books(bad_day: BadDay) -> None:
    """Daemon dead, mark folder missing, read-only or full: the job is there, with its energy, and says how."""
    for name in ("alone", "alone too", "missing", "read-only", "full"):
        run = bad_day.run(bad_day.jobs[name])
        seconds = int(str(run["elapsed_ns"])) / 1e9
        print(f"{name}: {run['energy_j']:.1f} J in {seconds:.2f} s, {run['flags']}")
        assert run["state"] == "ended"
        begin, end = sorted(
            (hook for hook in bad_day.cluster.lab.hook_runs() if hook.job == bad_day.jobs[name]),
            key=lambda hook: hook.start_ns,
        )
        # A mark is from between its hook's start and end; without one, the job begins when it is first seen.
        least_s = 2.4 if "no start mark" in str(run["flags"]) else (end.start_ns - begin.end_ns) / 1e9
        assert least_s - 0.02 <= seconds <= (end.end_ns - begin.start_ns) / 1e9 + 0.02
        assert float(str(run["energy_j"])) > 100
    assert "gap" in str(bad_day.run(bad_day.jobs["alone"])["flags"])
    assert "no start mark" in str(bad_day.run(bad_day.jobs["read-only"])["flags"])
    assert "no start mark" in str(bad_day.run(bad_day.jobs["full"])["flags"])


def test_sixty_four_prologs_at_once_are_all_in_the_books(bad_day: BadDay) -> None:
    """64 tasks on eight nodes, half of them without a daemon: 64 runs, no empty mark."""
    assert len(bad_day.tasks) == 64
    assert [len(bad_day.runs(task)) for task in bad_day.tasks] == [1] * 64
    assert set(bad_day.marks_seen) == {0}
    hooks = [hook for hook in bad_day.cluster.lab.hook_runs() if hook.job in bad_day.tasks]
    times = [(hook.end_ns - hook.start_ns) / 1e6 for hook in hooks]
    print(f"{len(times)} hooks: median {statistics.median(times):.1f} ms, max {max(times):.1f} ms")


def test_no_fault_drains_a_node(bad_day: BadDay) -> None:
    """Every hook ended with 0, every node is as Slurm wants it, and the books still balance."""
    assert {hook.status for hook in bad_day.cluster.lab.hook_runs()} == {0}
    assert set(bad_day.cluster.lab.node_states().values()) <= {"idle", "completing"}
    assert "measured = jobs + idle + system" in bad_day.cluster.jobimpact("books")
