"""A real OAR cluster on one machine, in namespaces of its own: `with OarLab() as lab: lab.oarsub("sleep 1")`.

`python -m tests.labs.oar.lab` brings one up and opens a shell on its server.
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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from tests.labs.oar import layout
from tests.labs.oar.layout import Plan
from tests.labs.slurm.leftovers import LabLock

PROGRAMS = (
    *("oar-server", "oarsub", "oarnodesetting", "oarproperty", "oar-database", "oarhold", "oarresume", "sshd"),
    *("psql", "gcc", "unshare", "nsenter", "setpriv", "ip", "pgrep", "perl"),
)
LOCK = Path("/run/lock/jobimpact-oar-lab")
CONTROLLERS = ("cpuset", "cpu", "cpuacct", "devices", "freezer")
CGROUPS = Path("/sys/fs/cgroup")
_NAMESPACES = ("--net", "--uts", "--mount", "--ipc", "--pid")
_ENDED = {"Terminated", "Error"}


class LabError(Exception):
    """The lab, or a command in it, failed."""


class OarLab:
    """One cluster: PostgreSQL, OAR's server and `nodes` nodes, each with namespaces and cgroups of its own.

    A node's folders (/tmp, /run, /dev, oar's home) are its own, and so is what `run_on` sees of the cgroups. Only one
    lab runs at a time on a machine; a second one waits. The lab dies with the process that made it.
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

    def up(self, timeout: float = 120, lock_timeout: float = 600) -> None:
        """Start everything; returns when all nodes are alive."""
        self.clear(lock_timeout)
        start = time.monotonic()
        try:
            self.folder = Path(tempfile.mkdtemp(prefix=f"{self.plan.prefix}-"))
            self._lock.note(self.folder)
            layout.write(self.plan, self.folder)
            self._start()
            until(self._ready, timeout, lambda: f"the lab did not come up\n{self.logs()}")
        except BaseException:
            self.down()
            raise
        self.boot_seconds = time.monotonic() - start

    def clear(self, lock_timeout: float = 600) -> None:
        """Wait for the lock, then clear away what a crashed lab has left; `down` gives the lock back."""
        self._lock.acquire(lock_timeout)
        remove_cgroups(self.plan.prefix)

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

    def _environment(self) -> dict[str, str]:
        return {
            "LAB": str(self.folder),
            "TOP": self.plan.prefix,
            "HOSTN": self.plan.host,
            "NODES": " ".join(self.nodes),
            "GPUNODES": " ".join(self.gpu_nodes),
            "CORES": str(self.plan.cores),
            "KEEP": " ".join([str(self.folder), *layout.keep()]),
            "PATH": layout.SYSTEM_PATH,
        }

    def _start(self) -> None:
        # setpriv: a killed test run takes its lab along. The lock's descriptor lives as long as the lab does.
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", *_NAMESPACES, "--fork", "--mount-proc"]
        with (self.folder / "log/head.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--kill-child=SIGKILL", layout.HERE / "lab.sh", "head"],
                env=self._environment(),
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

    # -- commands ----------------------------------------------------------------------------------------------

    def enter(self) -> list[str]:
        """What to put before a command so that it runs on the server, as root."""
        return ["nsenter", "--target", str(self._init), *_NAMESPACES, "--root", "--"]

    def run(
        self, command: str | list[str], user: str = "root", check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the server: a list, or a line of bash. `load` is on its PATH."""
        return self._run(self.enter(), command, user, check, timeout)

    def enter_node(self, node: str) -> list[str]:
        """What to put before a command so that it runs on a node, as root; in the node's cgroup namespace."""
        namespaces = [*_NAMESPACES, "--cgroup"]
        return ["nsenter", "--target", str(self.node_init(node)), *namespaces, "--root", "--"]

    def run_on(
        self, node: str, command: str | list[str], user: str = "root", check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a node."""
        return self._run(self.enter_node(node), command, user, check, timeout)

    def _run(
        self, enter: list[str], command: str | list[str], user: str, check: bool, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        argv = ["bash", "-c", command] if isinstance(command, str) else command
        identity = [] if user == "root" else ["setpriv", "--reuid", user, "--regid", user, "--init-groups"]
        environment = {
            "HOME": layout.HOME,
            "PWD": layout.HOME,
            "USER": user,
            "LANG": "C.UTF-8",
            "LAB": str(self.folder),
            "PATH": f"{self.folder}/tools:{layout.SYSTEM_PATH}",
        }
        pairs = [f"{key}={value}" for key, value in environment.items()]
        done = subprocess.run(
            [*enter, *identity, "env", "--ignore-environment", f"--chdir={layout.HOME}", *pairs, *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise LabError(f"{command!r} as {user} ended with {done.returncode}: {done.stderr}{done.stdout}")
        return done

    # -- jobs --------------------------------------------------------------------------------------------------

    def oarsub(self, command: str, *options: str, user: str = "ana") -> str:
        """Submit a command line; returns the job id, of an array the first."""
        return self.oarsub_all(command, *options, user=user)[0]

    def oarsub_all(self, command: str, *options: str, user: str = "ana") -> list[str]:
        """Submit a command line; returns the ids of all jobs that it made."""
        line = f"PATH={self.folder}/tools:$PATH; {command}"
        done = self.run(["oarsub", *options, line], user=user)
        found = re.findall(r"^OAR_JOB_ID=(\d+)$", done.stdout, re.MULTILINE)
        if not found:
            raise LabError(f"oarsub {options} {command!r} as {user}: {done.stdout}{done.stderr}")
        return found

    def states(self, *jobs: str) -> dict[str, str]:
        """Each job's state, as OAR's database has it."""
        which = f"where job_id in ({','.join(jobs)})" if jobs else ""
        rows = self.sql(f"select job_id, state from jobs {which}")  # noqa: S608 (ours)
        return dict(line.split("|") for line in rows)

    def wait(self, jobs: str | Iterable[str], timeout: float = 120) -> dict[str, str]:
        """Wait for jobs' ends, with all that OAR does after them; returns job id -> state."""
        wanted = [jobs] if isinstance(jobs, str) else sorted(set(jobs))
        until(
            lambda: set(self.states(*wanted).values()) <= _ENDED,
            timeout,
            lambda: f"not ended: {self.states(*wanted)}\n{self.logs()}",
        )
        return self.states(*wanted)

    def wait_for(self, state: str, *jobs: str, timeout: float = 60) -> None:
        """Wait until all jobs are in a state."""
        until(
            lambda: set(self.states(*jobs).values()) == {state},
            timeout,
            lambda: f"not {state}: {self.states(*jobs)}\n{self.logs()}",
        )

    def wait_running(self, *jobs: str, timeout: float = 60) -> None:
        """Wait until all jobs run."""
        self.wait_for("Running", *jobs, timeout=timeout)

    def suspend(self, job: str) -> None:
        """Suspend a running job, as root; returns when OAR says that it is."""
        self.run(["oarhold", "-r", job])
        self.wait_for("Suspended", job)

    def resume(self, job: str) -> None:
        """Let a suspended job go on; returns when OAR says that it does."""
        self.run(["oarresume", job])
        self.wait_running(job)

    def told(self, job: str, *columns: str) -> list[str]:
        """What OAR's table of jobs has of a job."""
        (row,) = self.sql(f"select {', '.join(columns)} from jobs where job_id = {int(job)}")  # noqa: S608 (ours)
        return row.split("|")

    def events(self, job: str) -> set[str]:
        """The types of the events that OAR has logged of a job."""
        return set(self.sql(f"select type from event_logs where job_id = {int(job)}"))  # noqa: S608 (ours)

    def assigned(self, job: str) -> dict[str, tuple[int, list[int]]]:
        """What a job got on each node: how many cores, and which GPUs by minor number."""
        rows = self.sql(
            "select r.network_address, r.gpudevice from jobs j join assigned_resources a"  # noqa: S608 (ours)
            " on a.moldable_job_id = j.assigned_moldable_job join resources r using (resource_id)"
            f" where j.job_id = {int(job)} order by 1, 2"
        )
        found: dict[str, tuple[int, list[int]]] = {}
        for node, device in (row.split("|") for row in rows):
            cores, gpus = found.get(node, (0, []))
            found[node] = cores + 1, gpus + ([int(device)] if device else [])
        return found

    # -- the database ------------------------------------------------------------------------------------------

    @property
    def dsn(self) -> str:
        """OAR's PostgreSQL by its unix socket, as the role that may only read; works from outside of the lab."""
        return f"host={self.folder}/run port=55432 dbname=oar user=oar_ro"

    def sql(self, query: str) -> list[str]:
        """The rows of a query, columns between bars."""
        argv = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", self.dsn, "--command", query]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"{query}: {done.stderr}")
        return done.stdout.splitlines()

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
        """Where jobs run and leave their output, seen from outside; anyone may write."""
        return self.folder / "home"

    @property
    def measured(self) -> Path:
        """A folder that server and nodes see at the same place, for meters and stores of a test."""
        return self.folder / "measured"

    def boot_id(self, node: str) -> Path:
        """What the node shows as its boot id, from its next start on."""
        return self.folder / "nodes" / node / "boot_id"

    def cgroup(self, controller: str, node: str) -> Path:
        """Where a node's own cgroups are, seen from outside: `oar/<user>_<id>` lies below it."""
        return CGROUPS / controller / self.plan.prefix / node

    def node_init(self, node: str) -> int:
        """The process id of a node's pid 1, seen from outside."""
        for pid in (self.cgroup("cpuset", node) / "cgroup.procs").read_text().split():
            try:
                inside = re.search(r"^NSpid:(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
            except OSError:
                continue
            if inside and len(inside[1].split()) == 3 and inside[1].split()[-1] == "1":
                return int(pid)
        raise LabError(f"{node} is down")

    def crash(self, node: str) -> None:
        """The node loses its power: all its processes die at once, and its cgroups are gone."""
        os.kill(self.node_init(node), signal.SIGKILL)
        remove_cgroups(f"{self.plan.prefix}/{node}")

    def boot(self, node: str) -> None:
        """Switch a node on; returns when the server can reach it."""
        argv = [layout.HERE / "lab.sh", "node", node, str(self.plan.place(node))]
        pairs = [f"{key}={value}" for key, value in self._environment().items()]
        with (self.folder / f"log/{node}.boot.log").open("wb") as log:
            subprocess.run(
                [*self.enter(), "env", "--ignore-environment", *pairs, *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=60,
                check=True,
            )

    def node_states(self) -> dict[str, set[str]]:
        """The states of each node's cores: `Alive`, `Suspected`, ..."""
        found: dict[str, set[str]] = {}
        for line in self.sql("select network_address, state from resources"):
            node, state = line.split("|")
            found.setdefault(node, set()).add(state)
        return found

    def queue_states(self) -> set[str]:
        """The states of all queues; one that was stopped is `notActive`."""
        return set(self.sql("select distinct state from queues"))

    def logs(self, lines: int = 25) -> str:
        """The last lines of every log, for a failed test's message."""
        logs = sorted((self.folder / "log").glob("*"))
        return "\n".join(
            f"== {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) for log in logs
        )


def remove_cgroups(top: str, timeout: float = 10) -> None:
    """Remove a cgroup under every controller, and kill what still lives in it."""
    deadline = time.monotonic() + timeout
    while tops := [found for one in CONTROLLERS if (found := CGROUPS / one / top).is_dir()]:
        for folder in tops:
            for inner, _, _ in os.walk(folder, topdown=False):
                _remove(Path(inner))
        if time.monotonic() > deadline:
            raise TimeoutError(f"cgroups that cannot be removed: {tops}")
        time.sleep(0.02)


def _remove(folder: Path) -> None:
    try:
        for pid in (folder / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        if (folder / "freezer.state").exists():
            (folder / "freezer.state").write_text("THAWED")  # a frozen process does not die
        folder.rmdir()
    except OSError:
        pass  # a task of it is dying, or it is gone: the next round sees


def missing() -> str:
    """What this machine lacks for the lab, in words; empty if nothing."""
    if os.geteuid():
        return "needs root"
    absent = [name for name in PROGRAMS if not shutil.which(name, path=layout.SYSTEM_PATH)]
    absent += [str(path) for path in (layout.MANAGER, Path("/var/lib/oar/.ssh/id_rsa")) if not path.exists()]
    absent += [] if list(Path("/usr/lib/postgresql").glob("*/bin/initdb")) else ["postgresql"]
    if absent:
        return "not installed: " + " ".join(absent)
    if controllers := [name for name in CONTROLLERS if not (CGROUPS / name / "tasks").exists()]:
        return "no cgroup v1: " + " ".join(controllers)
    if not {0, 1} <= os.sched_getaffinity(0):
        return "needs CPUs 0 and 1"
    command = ["unshare", *_NAMESPACES, "--cgroup", "--fork", "true"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"no namespaces: {tried.stderr.strip()}" if tried.returncode else ""


def until(done: Callable[[], bool], timeout: float, message: Callable[[], str], pause: float = 0.1) -> None:
    """Wait for a condition.

    Raises:
        LabError: it did not come in time.
    """
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            raise LabError(f"after {timeout:.0f} s: {message()}")
        time.sleep(pause)


def main() -> None:
    """A lab to look around in."""
    with OarLab() as lab:
        facts = {"folder": str(lab.folder), "dsn": lab.dsn, "boot_seconds": round(lab.boot_seconds, 2)}
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the shell's own business
        path = {"PATH": f"{lab.folder}/tools:{layout.SYSTEM_PATH}"}
        subprocess.run([*lab.enter(), "bash"], env={**os.environ, **path}, check=False)


if __name__ == "__main__":
    main()
