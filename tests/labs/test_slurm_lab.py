"""What the daemon and accounting take for granted about Slurm, on a real one."""

import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from tests.labs.lab import PATIENCE_S, SYSTEM_PATH
from tests.labs.leftovers import CGROUPS
from tests.labs.slurm.lab import SlurmLab
from tests.labs.slurm.layout import Plan

pytestmark = pytest.mark.lab
T = TypeVar("T")


@dataclass(frozen=True)
class History:
    """Jobs of every kind, over and recorded."""

    whole: str
    array: str
    failing: str
    cancelled: str
    two_nodes: str
    gpu: str
    states: dict[str, str]


@pytest.fixture(scope="module")
def history(slurm_lab: SlurmLab) -> History:
    """Run one job of every kind side by side."""
    lab = slurm_lab
    first, second = lab.nodes[:2]
    cancelled = lab.sbatch("sleep 60", "-w", second, "--mem=100M")
    two_nodes = lab.sbatch("load --cpu 0.2 --seconds 1", "-N2", "-w", ",".join(lab.gpu_nodes[:2]), "--mem=100M")
    gpu = lab.sbatch('echo "$CUDA_VISIBLE_DEVICES"; sleep 1', "--gres=gpu:2", "-w", lab.gpu_nodes[0], "--mem=100M")
    array = lab.sbatch("true", "--array=0-2", "-w", second, "--mem=100M")
    failing = lab.sbatch("exit 3", "-w", second, "--mem=100M")
    whole = lab.sbatch("load --cpu 0.5 --seconds 1", "--exclusive", "-w", first, "--mem=0", user="bob")
    lab.wait_running(cancelled)
    lab.scancel(cancelled)
    states = lab.wait([whole, array, failing, cancelled, two_nodes, gpu])
    return History(whole, array, failing, cancelled, two_nodes, gpu, states)


def marks(lab: SlurmLab, node: str, job: str) -> dict[str, str]:
    """What the project's hooks wrote about a job on a node: event -> text."""
    files = (lab.node_dir(node) / "marks").iterdir()
    fields = {file: file.name.rsplit(".", 3) for file in files}
    return {event: file.read_text() for file, (_, named, event, _) in fields.items() if named == job}


def eventually(value: Callable[[], T], timeout: float = PATIENCE_S) -> T:
    """The first truthy value."""
    deadline = time.monotonic() + timeout
    while not (result := value()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
    return result


def total_rss(memory: Path) -> int:
    """Resident bytes of a memory cgroup and all below."""
    fields = dict(line.split() for line in (memory / "memory.stat").read_text().splitlines())
    return int(fields["total_rss"])


def test_nodes_come_up_idle(slurm_lab: SlurmLab) -> None:
    """Four nodes with names of their own are up."""
    assert sorted(slurm_lab.node_states()) == slurm_lab.nodes == [f"jilab0{n}" for n in range(1, 9)]


def test_states_are_those_of_a_real_cluster(history: History) -> None:
    """Completed, failed and cancelled jobs are told apart in the records."""
    states = history.states
    assert states[history.whole] == states[history.two_nodes] == states[history.gpu] == "COMPLETED"
    assert states[history.failing] == "FAILED"
    assert states[history.cancelled] == "CANCELLED by 0"


def test_array_tasks_have_raw_ids_of_their_own(slurm_lab: SlurmLab, history: History) -> None:
    """Hooks know array tasks by JobIDRaw, one of which is the array's own id."""
    rows = slurm_lab.sacct("-X", "-j", history.array, "-o", "jobid,jobidraw").split()
    raws = dict(row.split("|") for row in rows)
    assert sorted(raws) == [f"{history.array}_{task}" for task in range(3)]
    assert history.array in raws.values()
    assert {run.job for run in slurm_lab.hook_runs()} >= set(raws.values())


def test_prolog_and_epilog_run_on_every_node(slurm_lab: SlurmLab, history: History) -> None:
    """With PrologFlags=Alloc, both nodes of a batch job without srun see its start and its end."""
    runs = {(run.event, run.node) for run in slurm_lab.hook_runs() if run.job == history.two_nodes}
    assert runs == {(event, node) for event in ("prolog", "epilog") for node in slurm_lab.gpu_nodes[:2]}


def test_hooks_succeed_and_never_drain(slurm_lab: SlurmLab, history: History) -> None:
    """Every hook exits 0, and no node is drained by them (how long they take: tests/hooks/bench_hooks.py)."""
    runs = slurm_lab.hook_runs()
    assert len(runs) >= 2 * (3 + 5) + 2
    assert {run.status for run in runs} == {0}
    assert not [state for state in slurm_lab.node_states().values() if state.startswith(("drain", "down"))]


def test_real_hooks_leave_marks(slurm_lab: SlurmLab, history: History) -> None:
    """The hooks' marks name the job, its uid and this node's CPUs."""
    found = marks(slurm_lab, slurm_lab.nodes[0], history.whole)
    assert sorted(found) == ["end", "start"]
    assert {f"job={history.whole}", "uid=2002", "cpus_per_node=8"} <= set(found["start"].splitlines())


def test_gpus_are_known_by_node_local_index(slurm_lab: SlurmLab, history: History) -> None:
    """Hook and job agree on the node's GPUs, and the records count them."""
    start = marks(slurm_lab, slurm_lab.gpu_nodes[0], history.gpu)["start"]
    visible = (slurm_lab.home / f"slurm-{history.gpu}.out").read_text().strip()
    assert f"gpus={visible}" in start.splitlines()
    assert len(visible.split(",")) == 2
    assert "gres/gpu=2" in slurm_lab.sacct("-X", "-j", history.gpu, "-o", "alloctres").strip().split(",")


def test_job_cgroup_lives_with_its_job_and_its_time_stays(slurm_lab: SlurmLab) -> None:
    """Cgroup v1: the job's CPU time and memory limit are readable while it runs; the parent keeps the CPU time."""
    lab, node = slurm_lab, slurm_lab.nodes[0]
    parent = lab.cgroup("cpuacct", node)
    before = int((parent / "cpuacct.usage").read_text()) if parent.is_dir() else 0
    seen = lab.home / "cgroup-seen"
    line = f"load --cpu 0.75 --mem 20M --seconds 3; until [ -e {seen} ]; do load --mem 20M --seconds 1; done"
    job = lab.sbatch(line, "-w", node, "--mem=64M")
    memory = lab.cgroup("memory", node, job)
    folder = lab.cgroup("cpuacct", node, job)
    assert str(folder) == f"/sys/fs/cgroup/cpuacct/slurm_{node}/uid_2001/job_{job}"
    eventually(lambda: (memory / "step_batch/task_0").is_dir())
    assert int((memory / "memory.limit_in_bytes").read_text()) == 64 << 20
    assert eventually(lambda: total_rss(memory) >= 20 << 20)
    assert total_rss(memory) < 40 << 20
    assert eventually(lambda: int((folder / "cpuacct.usage").read_text())) > 0
    seen.touch()
    lab.wait(job)
    spent = sum(float(told.split()[0]) for told in (lab.home / f"slurm-{job}.out").read_text().splitlines())
    assert not folder.exists()
    # More by the CPU time of the shells and of Slurm's own step, which a slow machine needs more of.
    assert spent - 0.05 <= (int((parent / "cpuacct.usage").read_text()) - before) / 1e9 <= spent * 1.05 + 0.5


def test_load_uses_the_cpu_it_was_told_to(slurm_lab: SlurmLab) -> None:
    """`load` burns its fraction of a core, by its own CPU clock, once the machine has that much to give."""

    def burnt() -> bool:
        spent, wall = map(float, slurm_lab.run("load --cpu 0.4 --seconds 1").stdout.split())
        assert wall >= 1
        assert spent <= 0.4 * wall + 0.03, "never more"
        return spent >= 0.37 and wall <= 1.3

    assert eventually(burnt)


def test_sacct_works_from_outside(slurm_lab: SlurmLab, history: History) -> None:
    """A process outside of the lab runs the real sacct by its PATH, with its own environment."""
    environment = {"PATH": f"{slurm_lab.bin_dir}:{SYSTEM_PATH}", "SLURM_TIME_FORMAT": "%s"}
    command = ["sacct", "-a", "-X", "-n", "-P", "-j", history.gpu, "-o", "user,start"]
    user, start = subprocess.check_output(command, env=environment, text=True).strip().split("|")
    assert user == "alice"
    assert abs(int(start) - time.time()) < 600


def test_one_clock_and_boot_inside_and_outside(slurm_lab: SlurmLab) -> None:
    """Marks written inside can be compared with clocks read outside."""
    proc = slurm_lab.node_dir(slurm_lab.nodes[0]) / "proc"
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    inside = slurm_lab.run(f"cat {proc}/sys/kernel/random/boot_id {proc}/uptime").stdout.split()
    assert inside[0] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert before - 0.01 <= float(inside[1]) <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_lock_kills_what_lives_in_leftover_cgroups(slurm_lab: SlurmLab, tmp_path: Path) -> None:
    """A process that outlived its lab in a job's cgroup is killed, so that the cgroup can go."""
    folder = CGROUPS / "cpuacct/slurm_jistale01/uid_1/job_1"
    folder.mkdir(parents=True)
    stale = Path(tempfile.mkdtemp(prefix="jistale-"))
    (tmp_path / "lock").write_text(f"{stale}\n")
    with subprocess.Popen(["sleep", "1000"]) as outlived:
        (folder / "cgroup.procs").write_text(str(outlived.pid))
        lab, other = (SlurmLab(Plan(prefix="jistale"), tmp_path / "lock") for _ in range(2))
        lab.clear(lock_timeout=1)
        assert outlived.wait(timeout=PATIENCE_S) == -signal.SIGKILL
    with pytest.raises(TimeoutError, match="another lab"):
        other.clear(lock_timeout=0)
    lab.down()
    assert not stale.exists()
    assert not list(CGROUPS.glob("*/slurm_jistale*"))
