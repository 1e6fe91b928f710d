"""Where schedulers keep their jobs' cgroups, as trees of files: names, several layouts at once, suspended jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobimpact_daemon.jobs.cgroups import Group, JobFolder, Layout, layouts
from jobimpact_daemon.jobs.node import Packages

SLUID = "s5K1KKYAYG5D00"

PLACES = [
    ("cpuacct/slurm_n1", "uid_1000/job_5", 1000, "5"),
    ("cpu,cpuacct/slurm", "uid_0/job_123", 0, "123"),
    ("system.slice/n1_slurmstepd.scope", "job_5", None, "5"),
    ("system.slice/slurmstepd.scope", SLUID, None, SLUID),
    ("hpc.slice/slurmstepd.scope", "job_5", None, "5"),
    ("cpuacct/oar", "ana_5", None, "5"),
    ("cpuacct,cpu/oar", "j.doe_2-x_77", None, "77"),
    ("oar.slice", "oar-u1000.slice/oar-u1000-j5.slice", 1000, "5"),
    ("unified/oar.slice", "oar-u1000.slice/oar-u1000-j5.slice", 1000, "5"),
    ("unified/system.slice/slurmstepd.scope", "job_5", None, "5"),
]
OTHERS = [
    "system", "job_", "job_x", "job_5x", "xjob_5", "uid_x", "step_0", "S5K1KKYAYG5D00", "s5K1KKYAYG5D0",
    "s5K1KKYAYG5D0I", "s5K1KKYAYG5D000", "oar-u1000-j5", "oar-u1-jx.slice", "_5", "ana_", "ana_5x", "ana", "ana_5\n",
]  # fmt: skip


@pytest.mark.parametrize(("place", "path", "uid", "job"), PLACES)
def test_each_layout_is_found_with_its_jobs(tmp_path: Path, place: str, path: str, uid: int | None, job: str) -> None:
    """And nothing else that lies there is taken for a job; what is below a job is that job's."""
    folder = tmp_path / place / path
    (folder / "step_0").mkdir(parents=True)
    others = [name for name in OTHERS if not ("/oar" in place and name in ("xjob_5", "step_0"))]  # jobs of such users
    for name in others:
        for above in {tmp_path / place, folder.parent}:
            (above / name).mkdir(exist_ok=True)
    (layout,) = layouts(tmp_path, "n1")
    assert layout.cpu == tmp_path / place
    folders, jobs = layout.jobs()
    assert jobs == [JobFolder(job, path, uid)]
    assert set(folders) == {tmp_path / place, folder.parent}
    assert layout.jobs({path})[1] == []
    assert layout.came(folder.parent, folder.name) == (True, job)
    assert not any(layout.came(folder.parent, name)[1] for name in others)
    assert layout.job_at(f"/{path}/step_0/user/task_0") == job
    assert layout.job_at("/system") is None


@pytest.mark.parametrize(("place", "path", "uid", "job"), PLACES)
def test_what_the_kernel_says_of_a_process_leads_to_its_place(
    tmp_path: Path, place: str, path: str, uid: int | None, job: str
) -> None:
    """A layout's path is that of /proc/<pid>/cgroup: below its controller, or in v2 below the mount."""
    (tmp_path / place / path).mkdir(parents=True)
    (layout,) = layouts(tmp_path, "n1")
    first, _, rest = place.partition("/")
    assert layout.path == "/" + (rest if first.startswith("cpu") or first == "unified" else place)


@given(
    user=st.from_regex(r"[a-z0-9_.][a-z0-9_.-]{0,31}", fullmatch=True) | st.from_regex(r"\w+@[A-Z.]+", fullmatch=True),
    job=st.integers(1, 1 << 40),
)
@example(user="x_1", job=2)
@example(user="_", job=2)
@example(user="7", job=7)
@example(user="job", job=7)
def test_oar_logins_hold_anything(user: str, job: int) -> None:
    """Digits, `_`, `-` and `.`: OAR's id is what follows the last `_`."""
    layout = Layout(Path("/c/oar"), Path("/m/oar"), 1, "oar")
    assert layout.came(layout.cpu, f"{user}_{job}") == (True, str(job))
    assert layout.job_at(f"/{user}_{job}/{user}_{job}/0-1") == str(job)


def test_several_layouts_at_once(tmp_path: Path) -> None:
    """An empty folder that Slurm left beside OAR, and several slurmd: each is looked at; a stranger's is not."""
    for place in ("cpuacct/slurm", "cpuacct/slurm_n1", "cpuacct/slurm_n2", "cpuacct/slurm_n9", "cpuacct/oar"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "cpu,cpuacct").symlink_to("cpuacct")
    (tmp_path / "unified/system.slice/n1_slurmstepd.scope").mkdir(parents=True)
    found = layouts(tmp_path, "n1", ["n2", "n1"])
    assert [layout.path for layout in found] == [
        *["/slurm_n1", "/slurm_n2", "/slurm", "/oar", "/system.slice/n1_slurmstepd.scope"]
    ]
    assert [layout.path for layout in layouts(tmp_path, "n3")] == ["/slurm", "/oar"]


def test_a_slice_that_is_there_twice_is_one(tmp_path: Path) -> None:
    """On a hybrid host v2 is at `unified`; where the same slice is at the mount too, no job is counted twice."""
    for place in ("oar.slice", "unified/oar.slice"):
        (tmp_path / place).mkdir(parents=True)
    assert [layout.cpu for layout in layouts(tmp_path, "n1")] == [tmp_path / "oar.slice"]


class Job:
    """A job's cgroup as files, and its processes."""

    def __init__(self, root: Path, version: int) -> None:
        self.root, self.version, self.proc = root, version, root / "proc"
        place = "cpuacct/slurm" if version == 1 else "system.slice/slurmstepd.scope"
        self.path = "uid_1000/job_5" if version == 1 else "job_5"
        self.folder = root / place / self.path
        self.freezer = root / "freezer/slurm" / self.path if version == 1 else self.folder
        self.folder.mkdir(parents=True)
        self.freezer.mkdir(parents=True, exist_ok=True)
        (self.folder / "cgroup.procs").write_text("")
        (layout,) = layouts(root, "n1")
        self.group = Group(layout, JobFolder("5", self.path, 1000), Packages({}), self.proc)

    def freeze(self, below: str, *, frozen: bool = True) -> None:
        """Freeze or thaw the group, a step, or a part of a step."""
        folder = self.freezer / below
        folder.mkdir(parents=True, exist_ok=True)
        if self.version == 1:
            (folder / "freezer.state").write_text("FROZEN\n" if frozen else "THAWED\n")
        else:
            (folder / "cgroup.events").write_text(f"populated 1\nfrozen {int(frozen)}\n")

    def process(self, pid: int, state: str, *, below: str = "step_0/task_0", name: str = "python") -> None:
        """A process of the job."""
        procs = self.folder / below / "cgroup.procs"
        procs.parent.mkdir(parents=True, exist_ok=True)
        known = procs.read_text() if procs.exists() else ""
        if f"{pid}\n" not in known:
            procs.write_text(f"{known}{pid}\n")
        (self.proc / str(pid)).mkdir(parents=True, exist_ok=True)
        (self.proc / str(pid) / "stat").write_text(f"{pid} ({name}) {state} 1 1 1 0 -1 0")

    def still(self, readings: int = 1) -> bool:
        """What is told after so many readings without CPU time."""
        self.group.suspended(100)
        return [self.group.suspended(100) for _ in range(readings)][-1]


@pytest.fixture(params=[1, 2])
def job(tmp_path: Path, request: pytest.FixtureRequest) -> Job:
    """Of both versions of cgroups."""
    return Job(tmp_path, request.param)


def test_a_frozen_job_is_suspended(job: Job) -> None:
    """The whole group at once (OAR)."""
    job.freeze("")
    assert job.still()
    job.freeze("", frozen=False)
    assert not job.still()


@pytest.mark.parametrize("part", ["", "/user"])
def test_a_job_is_suspended_when_all_its_steps_are(job: Job, part: str) -> None:
    """Slurm freezes its steps one by one, in v2 only the user's part of each; the extern step may go on."""
    job.freeze(f"step_batch{part}")
    job.freeze(f"step_0{part}", frozen=False)
    job.freeze("step_extern", frozen=False)
    assert not job.still()
    job.freeze(f"step_0{part}")
    assert job.still()


def test_a_job_of_stopped_processes_is_suspended(job: Job) -> None:
    """Where there is no freezer, each process has been sent SIGSTOP; what has ended does not count."""
    job.process(10, "T")
    job.process(11, "T", below="step_1/task_0")
    job.process(12, "Z", below="step_1/task_0")
    (job.folder / "step_1/task_0/cgroup.procs").write_text("11\n12\n999\n")
    assert job.still()
    job.process(11, "S", below="step_1/task_0")
    assert not job.still()


def test_names_that_look_like_states_are_names(job: Job) -> None:
    """A user gives a process any name."""
    job.process(10, "S", name="x) T 1 (y")
    assert not job.still()


def test_a_job_without_processes_is_not_suspended(job: Job) -> None:
    """Nothing is stopped where nothing is."""
    assert not job.still()


def test_the_schedulers_own_process_does_not_count(job: Job) -> None:
    """Slurm's slurmstepd runs on in a stopped job; a user's process of that name is a process."""
    job.process(10, "T")
    job.process(11, "S", name="slurmstepd")
    owner = (job.proc / "11").stat().st_uid
    assert job.still() == (owner == 0)


def test_a_busy_job_is_not_asked(job: Job) -> None:
    """A job whose CPU time moves is not suspended, whatever its files say; a frozen one that moves no more is."""
    job.freeze("")
    assert [job.group.suspended(ns) for ns in (10, 20, 30)] == [False] * 3
    assert job.group.suspended(30)
    # slurmstepd wakes up every half minute: that is not the job's work.
    assert job.group.suspended(30 + 1_000_000)
    assert not job.group.suspended(30 + 1_000_000_000)
    assert job.group.suspended(30 + 1_000_000_000)
    job.freeze("", frozen=False)
    assert not job.group.suspended(31 + 1_000_000_000)


def test_a_job_that_waits_long_is_asked_seldom(job: Job) -> None:
    """It is seen to be suspended all the same, within 32 readings."""
    assert not job.still(40)
    job.freeze("")
    told = [job.group.suspended(100) for _ in range(32)]
    assert told[-1]
    assert told.count(True) < 32
