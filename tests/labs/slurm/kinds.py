"""One job of every kind that Slurm has, side by side on eight nodes, with whatever can befall it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import NamedTuple

from tests.labs.lab import until
from tests.labs.slurm.lab import SlurmLab

__all__ = ["HOSTILE", "KINDS", "Kind", "run_all"]

HOSTILE = "a|b\nc\x1fd \"quoted\" 'l\u00e9' \u6f22\u5b57; $(id)"
"""A name that a parser might trip over."""
CRASH_S = 10
"""After so long without an answer a node is down."""
SUSPENDED_S = 3
REVOKED_S = 2


class Kind(NamedTuple):
    """What becomes of one kind of job."""

    what: str
    incarnations: tuple[tuple[str, int], ...]
    """State and number of nodes of each row of sacct, by their times."""
    jobs: int = 1
    """How many raw ids it has."""


def _once(what: str, state: str = "COMPLETED", nodes: int = 1, jobs: int = 1) -> Kind:
    return Kind(what, ((state, nodes),), jobs)


def _twice(what: str, first: str = "REQUEUED", nodes: int = 1) -> Kind:
    return Kind(what, ((first, nodes), ("COMPLETED", nodes)))


KINDS = {
    "batch": _once("sbatch"),
    "srun": _once("srun"),
    "salloc": _once("salloc without srun"),
    "pair": _once("sbatch on two nodes without srun", nodes=2),
    "array": _once("array of three", jobs=3),
    "het": _once("heterogeneous job of two components, the second one without a step", jobs=2),
    "gpus": _once("two GPUs on each of two nodes, others on each", nodes=2),
    "zero": _once("`true`"),
    "hostile": _once(r"a name with `\|`, a newline, sacct's own delimiter, quotes and UTF-8"),
    "suspended": _once("scontrol suspend, scontrol resume"),
    "failed": _once("exit 3", "FAILED"),
    "oom": _once("more memory than it asked for", "OUT_OF_MEMORY"),
    "timeout": _once("beyond its time limit", "TIMEOUT"),
    "stubborn": _once("scancel while it runs, and it ignores SIGTERM", "CANCELLED"),
    "pending": _once("scancel while it is pending", "CANCELLED", 0),
    "never": _once("a dependency that can never hold", "CANCELLED", 0),
    "requeued": _twice("scontrol requeue while it runs"),
    "redone": _twice("scontrol requeue when it was COMPLETED and accounted for"),
    "withdrawn": Kind("scontrol requeue, then scancel while it is pending", (("REQUEUED", 1), ("CANCELLED", 0))),
    "preempted": _twice("preempted and requeued", "PREEMPTED"),
    "urgent": _once("what preempts it"),
    "crashed": _twice("its node dies and comes back, it is requeued there", "NODE_FAIL"),
    "maimed": _twice("one of its two nodes dies and comes back", "NODE_FAIL", 2),
}


def run_all(lab: SlurmLab, midway: Callable[[], None], timeout: float = 300) -> dict[str, str]:
    """Run them.

    Args:
        lab: eight nodes, all idle.
        midway: called when a node is dead, a job is requeued but not started again, and some are over.
        timeout: for how long to wait for anything, in seconds.

    Returns:
        The job id by key of `KINDS` (an array's and a het job's own).
    """
    with lab.settings(SlurmdTimeout=CRASH_S):
        return _Day(lab, timeout).run(midway)


class _Day:
    def __init__(self, lab: SlurmLab, timeout: float) -> None:
        self.lab, self.timeout = lab, timeout
        self.jobs: dict[str, str] = {}

    def run(self, midway: Callable[[], None]) -> dict[str, str]:
        lab, jobs = self.lab, self.jobs
        dying = lab.nodes[3]
        self._submit_those_with_a_fate(dying)
        self._submit_those_left_alone()
        lab.wait_running(
            *(jobs[name] for name in ("requeued", "withdrawn", "crashed", "maimed")), timeout=self.timeout
        )
        self._until(lambda: all((lab.home / f"step.{node}").exists() for node in range(2)))
        lab.kill_slurmd(dying)
        lab.run(["scontrol", "requeue", f"{jobs['requeued']},{jobs['withdrawn']}"])
        lab.scancel(jobs["pending"])
        lab.wait_running(
            *(jobs[name] for name in ("suspended", "stubborn", "preempted", "timeout")), timeout=self.timeout
        )
        lab.run(["scontrol", "suspend", jobs["suspended"]])
        suspended = time.monotonic()
        self._submit("urgent", "sleep 3", "-p", "urgent", "-w", lab.nodes[6], "--exclusive")
        lab.run(["scontrol", "update", f"jobid={jobs['timeout']}", "EndTime=now"], check=False)
        self._until((lab.home / "deaf").exists)
        lab.scancel(jobs["stubborn"])
        time.sleep(max(0.0, suspended + SUSPENDED_S - time.monotonic()))
        lab.run(["scontrol", "resume", jobs["suspended"]])
        lab.run(f"touch {lab.home}/resumed")
        lab.wait([jobs["redone"], jobs["batch"], jobs["failed"]], self.timeout)
        self._until(lambda: self._pending("withdrawn"))
        lab.scancel(jobs["withdrawn"])
        self._until(lambda: lab.node_states()[dying].startswith("down"))
        midway()
        lab.run(["scontrol", "requeue", jobs["redone"]])
        lab.start_slurmd(dying)
        for name, kind in KINDS.items():
            if kind.incarnations[1:] and name != "withdrawn":
                self._until(lambda name=name: self._begun_again(name))
        self._find("srun", "salloc")
        lab.wait(jobs.values(), self.timeout)
        return jobs

    def _submit_those_with_a_fate(self, dying: str) -> None:
        lab = self.lab
        nodes = lab.nodes
        self._submit("crashed", self._first_long(), "-w", dying)
        # Where Slurm leaves out the Prolog of the second life, the cgroup of a step still tells of it.
        step = f"srun sh -c 'touch {lab.home}/step.$SLURM_NODEID; {self._first_long()}'"
        self._submit("maimed", step, "-N2", "-w", f"{nodes[2]},{dying}")
        self._submit("requeued", self._first_long(), "-w", nodes[2])
        self._submit("withdrawn", self._first_long(), "-w", nodes[7])
        self._submit("pending", "true", "--begin=now+1hour")
        self._submit("suspended", self._wait_for("resumed"), "-w", nodes[2])
        self._submit("stubborn", f"trap '' TERM; touch {lab.home}/deaf; sleep 1000", "-w", nodes[1])
        self._submit("preempted", self._first_long(), "-w", nodes[6], "--exclusive")
        self._submit("timeout", "sleep 1000", "-w", nodes[1], "-t", "1")

    def _submit_those_left_alone(self) -> None:
        lab = self.lab
        nodes = lab.nodes
        self._submit("redone", "sleep 2", "-w", nodes[0])
        self._submit("failed", "sleep 1; exit 3", "-w", nodes[1])
        self._submit("never", "true", f"--dependency=afterok:{self.jobs['failed']}", "--kill-on-invalid-dep=yes")
        self._submit("batch", "sleep 3", "-w", nodes[0])
        self._submit("array", "sleep 2", "-w", nodes[0], "--array=0-2")
        self._submit("zero", "true", "-w", nodes[0])
        self.jobs["hostile"] = lab.sbatch("sleep 2", "-w", nodes[1], "-J", HOSTILE)
        self._submit("oom", "load --mem 400M --seconds 60", "-w", nodes[1], "--mem=100M")
        self._submit("pair", "sleep 3", "-N2", "-w", ",".join(nodes[:2]))
        # A GPU of the first node is taken, so that the pair's are 1 and 2 there, and 0 and 1 on the other.
        taken = lab.sbatch(self._wait_for("pair"), "-J", "kind-batch-gpu", "-w", nodes[4], "--gres=gpu:1")
        lab.wait_running(taken, timeout=self.timeout)
        self._submit("gpus", f"touch {lab.home}/pair; sleep 3", "-N2", "-w", ",".join(nodes[4:6]), "--gres=gpu:2")
        self._submit("het", "sleep 3", "-w", nodes[5], ":", "-w", nodes[7], "-J", "kind-het")
        for command in ("srun -J kind-srun -w {} sleep 3", "salloc -J kind-salloc -w {} sleep 3"):
            lab.run(f"setsid {command.format(nodes[0])} > /dev/null 2>&1 < /dev/null &", user="alice")

    def _submit(self, name: str, line: str, *options: str) -> None:
        self.jobs[name] = self.lab.sbatch(line, "-J", f"kind-{name}", *options)

    def _wait_for(self, name: str) -> str:
        return f"until [ -e {self.lab.home}/{name} ]; do sleep 0.2; done"

    @staticmethod
    def _first_long() -> str:
        """Runs until somebody ends it, and for two seconds when it is begun again."""
        return 'exec sleep $([ "${SLURM_RESTART_COUNT:-0}" = 0 ] && echo 1000 || echo 2)'

    def _find(self, *names: str) -> None:
        """Jobs that were not submitted by sbatch, by their names."""
        for name in names:
            asked = ("-X", f"--name=kind-{name}", "-o", "jobidraw")
            self._until(lambda asked=asked: bool(self.lab.sacct(*asked).strip()))
            self.jobs[name] = self.lab.sacct(*asked).strip()

    def _show(self, name: str) -> str:
        return self.lab.run(["scontrol", "--oneliner", "show", "job", self.jobs[name]]).stdout

    def _is_over(self, name: str) -> bool:
        """Its first life has been cleared away on all of its nodes, and not within this second.

        Begun before that, it fails: slurmd knows credentials that are revoked by whole seconds.
        """
        last = {run.node: run for run in self.lab.hook_runs() if run.job == self.jobs[name]}
        return all(run.event == "epilog" and time.time() - run.end_ns / 1e9 > REVOKED_S for run in last.values())

    def _pending(self, name: str) -> bool:
        return " JobState=PENDING " in self._show(name)

    def _begun_again(self, name: str) -> bool:
        """It has, after a word to the controller that it need not wait for two minutes."""
        said = self._show(name)
        if " JobState=PENDING " in said and " Reason=BeginTime " in said and self._is_over(name):
            self.lab.run(["scontrol", "update", f"jobid={self.jobs[name]}", "StartTime=now"], check=False)
        return bool(re.search(r" JobState=(RUNNING|COMPLETED) ", said)) and " Restarts=1 " in said

    def _until(self, done: Callable[[], bool]) -> None:
        until(done, self.timeout, lambda: self.lab.run(["scontrol", "--oneliner", "show", "job"]).stdout)
