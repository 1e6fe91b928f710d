"""A real Slurm cluster on one machine, in namespaces of its own: `with SlurmLab() as lab: lab.sbatch("sleep 1")`.

`python -m tests.labs.slurm.lab` brings one up and opens a shell in it.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from tests.labs.slurm import layout
from tests.labs.slurm.layout import Plan
from tests.labs.slurm.leftovers import LOCK, LabLock, remove_cgroups

PROGRAMS = (
    *("slurmctld", "slurmd", "slurmdbd", "sbatch", "scancel", "munged", "mariadbd", "mariadb-install-db"),
    *(*layout.OUTSIDE_COMMANDS, "gcc", "unshare", "nsenter", "setpriv", "ip", "pgrep"),
)
_NAMESPACES = ("--net", "--uts", "--mount", "--ipc", "--pid")
_UNFINISHED = ("PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "CONFIGURING")


class LabError(Exception):
    """The lab, or a command in it, failed."""


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


class SlurmLab:
    """One cluster: slurmctld, slurmdbd, `nodes` slurmd (the upper half with four fake a100 each), alice and bob.

    Only one lab runs at a time on a machine; a second one waits. The lab dies with the process that made it.
    """

    def __init__(self, plan: Plan | None = None, lock: Path = LOCK) -> None:
        self.plan = plan or Plan()
        self.folder = Path()
        self.boot_seconds = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0
        self._lock = LabLock(self.plan.prefix, lock)

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    # -- life --------------------------------------------------------------------------------------------------

    def up(self, timeout: float = 60, lock_timeout: float = 600) -> None:
        """Start everything; returns when all nodes are idle."""
        self._lock.acquire(lock_timeout)
        start = time.monotonic()
        try:
            self.folder = Path(tempfile.mkdtemp(prefix=f"{self.plan.prefix}-"))
            self._lock.note(self.folder)
            layout.write(self.plan, self.folder)
            self._start()
            until(self._ready, timeout, lambda: f"the lab did not come up\n{self.logs()}")
            layout.outside_commands(self.folder, self._init)
        except BaseException:
            self.down()
            raise
        self.boot_seconds = time.monotonic() - start

    def down(self) -> None:
        """Kill everything and leave nothing behind; harmless when there is nothing."""
        if self._process:
            self._process.kill()  # and with it pid 1 of the namespace (--kill-child), and with that all the others
            self._process.wait()
            self._process, self._init = None, 0
        if self._lock.held:
            remove_cgroups(self.plan.prefix)
            if self.folder.name:
                shutil.rmtree(self.folder, ignore_errors=True)
            self._lock.release()

    def _start(self) -> None:
        environment = {
            "LAB": str(self.folder),
            "HOSTN": self.plan.host,
            "NODES": " ".join(self.nodes),
            "PATH": layout.SYSTEM_PATH,
        }
        # setpriv: a killed test run takes its lab along. The lock's descriptor lives as long as the lab does.
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", *_NAMESPACES, "--fork", "--mount-proc"]
        with (self.folder / "log/inside.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--kill-child=SIGKILL", layout.HERE / "lab.sh"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[self._lock.descriptor],
            )

    def _ready(self) -> bool:
        assert self._process
        if self._process.poll() is not None:
            raise LabError(f"the lab died\n{self.logs()}")
        if not (self.folder / "ready").exists():
            return False
        found = subprocess.run(["pgrep", "-P", str(self._process.pid)], capture_output=True, text=True, check=True)
        self._init = int(found.stdout)
        return True

    # -- jobs --------------------------------------------------------------------------------------------------

    def run(
        self,
        command: str | list[str],
        user: str = "root",
        check: bool = True,
        stdin: str = "",
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside the lab: a list, or a line of bash. `load` is on its PATH."""
        argv = ["bash", "-c", command] if isinstance(command, str) else command
        identity = [] if user == "root" else ["setpriv", "--reuid", user, "--regid", user, "--init-groups"]
        environment = {
            "HOME": str(self.home),
            "USER": user,
            "LAB": str(self.folder),
            "SLURM_CONF": str(self.folder / "etc/slurm.conf"),
            "PATH": f"{self.folder}/tools:{layout.SYSTEM_PATH}",
        }
        pairs = [f"{key}={value}" for key, value in environment.items()]
        enter = ["nsenter", "--target", str(self._init), *_NAMESPACES, "--root", "--", *identity]
        done = subprocess.run(
            [*enter, "env", "--ignore-environment", f"--chdir={self.home}", *pairs, *argv],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise LabError(f"{command!r} as {user} ended with {done.returncode}: {done.stderr}{done.stdout}")
        return done

    def sbatch(self, job: str, *options: str, user: str = "alice") -> str:
        """Submit a script (`#!...`) or a command line; returns the job id."""
        script = job if job.startswith("#!") else f"#!/bin/sh\n{job}\n"
        return self.run(["sbatch", "--parsable", *options], user=user, stdin=script).stdout.strip()

    def scancel(self, *args: str) -> None:
        """Cancel jobs, as root."""
        self.run(["scancel", *args])

    def wait(self, jobs: str | Iterable[str], timeout: float = 60) -> dict[str, str]:
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

    def wait_running(self, *jobs: str, timeout: float = 30) -> None:
        """Wait until jobs (raw ids) run: their Prologs are over, and batch scripts about to start."""

        def running() -> bool:
            states = self.run(["squeue", "--noheader", "--states=RUNNING", "--format=%A"]).stdout.split()
            return set(jobs) <= set(states)

        until(running, timeout, lambda: f"{jobs} do not all run")

    def wait_idle(self, timeout: float = 60) -> None:
        """Wait until no job and no Epilog runs."""
        until(lambda: set(self.node_states().values()) == {"idle"}, timeout, lambda: f"not idle: {self.node_states()}")

    def sacct(self, *args: str) -> str:
        """Raw `sacct -n -P -a ...`."""
        return self.run(["sacct", "-n", "-P", "-a", *args]).stdout

    def _queued(self) -> set[str]:
        return set(self.run(["squeue", "--noheader", "--format=%F %A"]).stdout.split())

    # -- nodes -------------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> list[str]:
        """The nodes' names."""
        return self.plan.names

    @property
    def gpu_nodes(self) -> list[str]:
        """The names of the nodes with GPUs."""
        return self.plan.gpu_names

    @property
    def home(self) -> Path:
        """Where jobs run and leave `slurm-<id>.out`; anyone may write."""
        return self.folder / "home"

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
        top = Path("/sys/fs/cgroup") / controller / self.cgroup_name(node)
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

    def logs(self, lines: int = 15) -> str:
        """The last lines of every log, for a failed test's message."""
        logs = sorted((self.folder / "log").glob("*"))
        return "\n".join(
            f"== {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) for log in logs
        )


def missing() -> str:
    """What this machine lacks for the lab, in words; empty if nothing."""
    if os.geteuid():
        return "needs root"
    absent = [name for name in PROGRAMS if not shutil.which(name, path=layout.SYSTEM_PATH)]
    if absent:
        return "not installed: " + " ".join(absent)
    controllers = [name for name in ("cpuacct", "freezer", "memory") if not Path("/sys/fs/cgroup", name).is_dir()]
    if controllers:
        return "no cgroup v1: " + " ".join(controllers)
    tried = subprocess.run(["unshare", *_NAMESPACES, "--fork", "true"], capture_output=True, text=True, check=False)
    return f"no namespaces: {tried.stderr.strip()}" if tried.returncode else ""


def until(done: Callable[[], bool], timeout: float, message: Callable[[], str], pause: float = 0.1) -> None:
    """Wait for a condition.

    Raises:
        LabError: it did not come; the message says what was there instead.
    """
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            raise LabError(f"after {timeout:.0f} s: {message()}")
        time.sleep(pause)


def main() -> None:
    """A lab to look around in."""
    with SlurmLab() as lab:
        facts = {"folder": str(lab.folder), "boot_seconds": round(lab.boot_seconds, 2)}
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the shell's own business
        enter = ["nsenter", "--target", str(lab._init), *_NAMESPACES, "--root", "--"]
        variables = {
            "SLURM_CONF": f"{lab.folder}/etc/slurm.conf",
            "PATH": f"{lab.folder}/tools:{layout.SYSTEM_PATH}",
        }
        subprocess.run([*enter, "bash"], env={**os.environ, **variables}, check=False)


if __name__ == "__main__":
    main()
