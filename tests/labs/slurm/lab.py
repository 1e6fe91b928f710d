"""A real Slurm cluster on one machine, in namespaces of its own: `with SlurmLab() as lab: lab.sbatch("sleep 1")`.

`python -m tests.labs.slurm.lab` brings one up and opens a shell in it.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.labs.lab import PATIENCE_S, Lab, lacking, until
from tests.labs.leftovers import CGROUPS, LabLock
from tests.labs.slurm import layout
from tests.labs.slurm.layout import Plan

PROGRAMS = (
    *("slurmctld", "slurmd", "slurmdbd", "sbatch", "scancel", "munged", "mariadbd", "mariadb-install-db"),
    *(*layout.OUTSIDE_COMMANDS, "gcc", "unshare", "nsenter", "setpriv", "ip", "pgrep"),
)
LOCK = Path("/run/lock/jobimpact-slurm-lab")
_UNFINISHED = ("PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "CONFIGURING")


class HookRun(NamedTuple):
    """One run of a hook, by the wall clock."""

    event: str
    node: str
    job: str
    start_ns: int
    end_ns: int
    status: int
    restart: int
    """SLURM_JOB_RESTART_COUNT."""


class SlurmLab(Lab):
    """One cluster: slurmctld, slurmdbd, `nodes` slurmd (the upper half with four fake a100 each), alice and bob."""

    def __init__(self, plan: Plan | None = None, lock: Path = LOCK) -> None:
        self.plan = plan or Plan()
        cgroups = f"*/{self.cgroup_name(f'{self.plan.prefix}[0-9][0-9]')}"
        super().__init__(LabLock(lock, self.plan.prefix, cgroups), self.plan.names, self.plan.gpu_names)

    def _write(self) -> None:
        layout.write(self.plan, self.folder)

    def _first(self) -> list[str | Path]:
        return [layout.HERE / "lab.sh"]

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "HOSTN": self.plan.host}

    def _ready(self) -> bool:
        if ready := super()._ready():
            layout.outside_commands(self.folder, self._init)
        return ready

    def _start_folder(self) -> str:
        return str(self.home)

    def _variables(self) -> dict[str, str]:
        return {**super()._variables(), "SLURM_CONF": f"{self.folder}/etc/slurm.conf"}

    # -- jobs --------------------------------------------------------------------------------------------------

    def sbatch(self, job: str, *options: str, user: str = "alice") -> str:
        """Submit a script (`#!...`) or a command line; returns the job id."""
        script = job if job.startswith("#!") else f"#!/bin/sh\n{job}\n"
        return self.run(["sbatch", "--parsable", *options], user=user, stdin=script).stdout.strip()

    def scancel(self, *args: str) -> None:
        """Cancel jobs, as root."""
        self.run(["scancel", *args])

    def wait(self, jobs: str | Iterable[str], timeout: float = PATIENCE_S) -> dict[str, str]:
        """Wait for jobs' ends, Epilogs and records; returns raw job id -> state, for array tasks too."""
        wanted = {jobs} if isinstance(jobs, str) else set(jobs)
        until(lambda: not wanted & self._queued(), timeout, lambda: f"still queued: {self._queued()}")
        listed = [self.run(["scontrol", "--oneliner", "show", "job", job]).stdout for job in sorted(wanted)]
        jobs_known = re.findall(r"^JobId=(\d+)( ArrayJobId=)?", "".join(listed), flags=re.MULTILINE)
        states: dict[str, str] = {}

        def recorded() -> bool:
            output = self.sacct("-X", "-j", ",".join(sorted(wanted)), "-o", "jobid,jobidraw,state")
            rows = {raw: (job, state) for job, raw, state in (line.split("|") for line in output.splitlines())}
            states.update({raw: state for raw, (_, state) in rows.items()})
            # for seconds sacct has an array as one finished job, without its tasks
            complete = all(raw in rows and ("_" in rows[raw][0] or not array) for raw, array in jobs_known)
            return complete and not any(state.startswith(_UNFINISHED) for state in states.values())

        until(recorded, timeout, lambda: f"accounting has {states}")
        return states

    def wait_running(self, *jobs: str, timeout: float = PATIENCE_S) -> None:
        """Wait until jobs (raw ids) run: their Prologs are over, and batch scripts about to start."""

        def running() -> bool:
            states = self.run(["squeue", "--noheader", "--states=RUNNING", "--format=%A"]).stdout.split()
            return set(jobs) <= set(states)

        until(running, timeout, lambda: f"{jobs} do not all run")

    def wait_idle(self, timeout: float = PATIENCE_S) -> None:
        """Wait until no job and no Epilog runs."""
        until(lambda: set(self.node_states().values()) == {"idle"}, timeout, lambda: f"not idle: {self.node_states()}")

    def sacct(self, *args: str) -> str:
        """Raw `sacct -n -P -a ...`."""
        return self.run(["sacct", "-n", "-P", "-a", *args]).stdout

    def _queued(self) -> set[str]:
        return set(self.run(["squeue", "--noheader", "--format=%F %A"]).stdout.split())

    # -- nodes -------------------------------------------------------------------------------------------------

    @property
    def bin_dir(self) -> Path:
        """Put it on the PATH of a process outside of the lab: real `sacct`, `squeue`, ... (root only)."""
        return self.folder / "bin"

    def node_dir(self, node: str) -> Path:
        """The node's own `marks` and `proc` (a link to /proc: one kernel, one boot, one clock)."""
        return self.folder / "nodes" / node

    def cgroup_name(self, node: str) -> str:
        """The folder under each cgroup v1 controller that holds the node's jobs."""
        return f"slurm_{node}"

    def cgroup(self, controller: str, node: str, job: str = "", user: str = "alice") -> Path:
        """The cgroup v1 folder of a node, or of a job on it."""
        top = CGROUPS / controller / self.cgroup_name(node)
        return top / f"uid_{layout.USERS[user]}" / f"job_{job}" if job else top

    def node_states(self) -> dict[str, str]:
        """Each node's state, as sinfo says it: `idle`, `drained`, ..."""
        lines = self.run(["sinfo", "--noheader", "--Node", "--format=%N %T"]).stdout.splitlines()
        return dict(line.split(maxsplit=1) for line in lines)

    def kill_slurmd(self, node: str) -> None:
        """`kill -9` a node's slurmd; its jobs' processes go on."""
        self.run(f"kill -9 $(cat {self.folder}/run/slurmd.{node}.pid)")

    def start_slurmd(self, node: str) -> None:
        """Start a node's slurmd again."""
        self.run(["slurmd", "-N", node])

    @contextmanager
    def settings(self, **values: object) -> Iterator[None]:
        """Other values in slurm.conf, for a while."""
        path = self.folder / "etc/slurm.conf"
        before = path.read_text()
        text = before
        for key, value in values.items():
            text = re.sub(rf"^{key}=.*$", f"{key}={value}", text, flags=re.MULTILINE)
        try:
            path.write_text(text)
            self.run(["scontrol", "reconfigure"])
            yield
        finally:
            path.write_text(before)
            self.run(["scontrol", "reconfigure"])

    def hook_runs(self) -> list[HookRun]:
        """Every Prolog and Epilog that has ended, in the order of their ends."""
        log = self.folder / "hooklog"
        rows = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        return [HookRun(event, node, job, *map(int, numbers)) for event, node, job, *numbers in rows]


def missing() -> str:
    """What this machine lacks for the lab, in words; empty if nothing."""
    return lacking(PROGRAMS, (), ("cpuacct", "freezer", "memory"))


def main() -> None:
    """A lab to look around in."""
    with SlurmLab() as lab:
        lab.look_around()


if __name__ == "__main__":
    main()
