"""A real OAR cluster on one machine, in namespaces of its own: `with OarLab() as lab: lab.oarsub("sleep 1")`.

`python -m tests.labs.oar.lab` brings one up and opens a shell on its server.
"""

import os
import re
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.labs.lab import PATIENCE_S, Lab, LabError, enter, lacking, until
from tests.labs.leftovers import CGROUPS, LabLock, remove_cgroups
from tests.labs.oar import layout
from tests.labs.oar.layout import Plan

PROGRAMS = (
    *("oar-server", "oarsub", "oarnodesetting", "oarproperty", "oar-database", "oarhold", "oarresume", "sshd"),
    *("psql", "gcc", "unshare", "nsenter", "setpriv", "ip", "pgrep", "perl"),
)
LOCK = Path("/run/lock/jobimpact-oar-lab")
CONTROLLERS = ("cpuset", "cpu", "cpuacct", "devices", "freezer")
FILES = (str(layout.MANAGER), "/var/lib/oar/.ssh/id_rsa", "/usr/lib/postgresql/*/bin/initdb")
_ENDED = {"Terminated", "Error"}


class OarLab(Lab):
    """One cluster: PostgreSQL, OAR's server and `nodes` nodes, each with namespaces and cgroups of its own.

    A node's folders (/tmp, /run, /dev, oar's home) are its own, and so is what `run_on` sees of the cgroups. Commands
    of `run` run on the server.
    """

    def __init__(self, plan: Plan | None = None, lock: Path = LOCK) -> None:
        self.plan = plan or Plan()
        own = LabLock(lock, self.plan.prefix, f"*/{self.plan.prefix}")
        super().__init__(own, self.plan.names, self.plan.gpu_names)

    def _write(self) -> None:
        layout.write(self.plan, self.folder)

    def _first(self) -> list[str | Path]:
        return [layout.HERE / "lab.sh", "head"]

    def _environment(self) -> dict[str, str]:
        return {
            **super()._environment(),
            "TOP": self.plan.prefix,
            "HOSTN": self.plan.host,
            "GPUNODES": " ".join(self.gpu_nodes),
            "CORES": str(self.plan.cores),
            "KEEP": " ".join([str(self.folder), *layout.keep()]),
        }

    def _start_folder(self) -> str:
        return layout.HOME

    def _variables(self) -> dict[str, str]:
        return {**super()._variables(), "LANG": "C.UTF-8"}

    def enter_node(self, node: str) -> list[str]:
        """What to put before a command so that it runs on a node, as root; in the node's cgroup namespace."""
        return enter(self.node_init(node), "--cgroup")

    def run_on(self, node: str, command: str) -> subprocess.CompletedProcess[str]:
        """Run a line of bash on a node, as root."""
        return self.run(command, within=self.enter_node(node))

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

    def wait(self, jobs: str | Iterable[str], timeout: float = PATIENCE_S) -> dict[str, str]:
        """Wait for jobs' ends, with all that OAR does after them; returns job id -> state."""
        wanted = [jobs] if isinstance(jobs, str) else sorted(set(jobs))
        until(
            lambda: set(self.states(*wanted).values()) <= _ENDED,
            timeout,
            lambda: f"not ended: {self.states(*wanted)}\n{self.logs()}",
        )
        return self.states(*wanted)

    def wait_for(self, state: str, *jobs: str, timeout: float = PATIENCE_S) -> None:
        """Wait until all jobs are in a state."""
        until(
            lambda: set(self.states(*jobs).values()) == {state},
            timeout,
            lambda: f"not {state}: {self.states(*jobs)}\n{self.logs()}",
        )

    def wait_running(self, *jobs: str, timeout: float = PATIENCE_S) -> None:
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
        remove_cgroups(f"*/{self.plan.prefix}/{node}")

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
                timeout=PATIENCE_S,
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


def missing() -> str:
    """What this machine lacks for the lab, in words; empty if nothing."""
    cpus = "" if {0, 1} <= os.sched_getaffinity(0) else "needs CPUs 0 and 1"
    return lacking(PROGRAMS, FILES, CONTROLLERS, "--cgroup") or cpus


def main() -> None:
    """A lab to look around in."""
    with OarLab() as lab:
        lab.look_around(dsn=lab.dsn)


if __name__ == "__main__":
    main()
