"""When a run begins and ends: by its marks, by its cgroup, by a reboot, or by silence. Pure.

An end without a start, a start without an end, a requeue under the same id and a late epilog are all normal.
"""

from __future__ import annotations

from collections.abc import Callable

from jobimpact.core.records import JobUsage, Mark, Usage, run_key
from jobimpact.core.units import NS
from jobimpact_daemon.holdings import Holdings, Run

__all__ = [
    "by_job",
    "close_all",
    "close_gone",
    "discover",
    "end",
    "find",
    "is_left_over",
    "latest",
    "owner",
    "refine",
    "settled",
    "start",
]

LOST_NS = 300 * NS
"""A run whose processes have been gone for this long has ended, mark or no mark."""
LEFT_NS = 3600 * NS
"""A cgroup that was used and has had no process for this long is one that OAR left behind."""
GUESSES = ("cpu share from memory limit", "share not known: counted as one cpu")
"""Flags of a run whose cores nobody has told."""
NO_END = "no end mark"
RECENT_NS = 60 * NS
"""A closed run is remembered this long: its cgroup may outlive its end mark, its mark may be read twice."""

Taken = Callable[[str], bool]


def by_job(holdings: Holdings) -> dict[str, list[Run]]:
    """The runs by the names that a cgroup may have: job ids and Slurm's own ids of incarnations."""
    found: dict[str, list[Run]] = {}
    for run in holdings.runs.values():
        for name in {run.job, run.sluid or run.job}:
            found.setdefault(name, []).append(run)
    return found


def find(holdings: Holdings, job: str) -> Run | None:
    """The run that a mark of this job speaks of: the open one, else the last that closed lately."""
    return latest([run for run in holdings.runs.values() if job in (run.job, run.sluid)])


def latest(known: list[Run], *, gone: bool = False) -> Run | None:
    """Of one job's runs, the one that its cgroup belongs to: the open one, else the last that closed lately.

    A cgroup that is gone is the last one that was seen: a requeued run may be open before it has a cgroup.
    """
    if gone:
        known = [run for run in known if run.seen_ns is not None] or known
    return max(known, key=lambda run: (run.state == "open", run.restart), default=None)


def owner(known: list[Run], use: JobUsage) -> Run | None:
    """Of one job's runs, the one that has used this; None: a run that no mark has told of.

    Slurm may leave out the Prolog of a job that is begun again on its node within two minutes: its cgroup is new.
    """
    run = latest(known, gone=use.gone)
    anew = run is not None and run.state != "open" and run.cgroup_gone and not use.gone
    return None if anew else run


def start(holdings: Holdings, mark: Mark, wall_s: float, taken: Taken) -> Run | None:
    """A start mark: a new run, or the word that a discovered run was waiting for.

    Returns:
        The run; None if the mark says nothing new.
    """
    known = find(holdings, mark.job) or (find(holdings, mark.sluid) if mark.sluid else None)
    if known and known.start_ns == mark.t_ns:
        return None
    if known and known.state == "open":
        if not known.marked:
            # Its cgroup may have been named by Slurm's own id of the incarnation.
            known.job, known.marked, known.said = mark.job, True, mark.restart
            if known.uid is None:
                known.uid = mark.uid  # OAR's cgroups of v1 do not tell it
            if "no start mark" in known.flags:
                known.flags.remove("no start mark")
            _allocate(holdings, known, mark)
            return known
        if mark.restart <= known.said:
            return None
        known.flag(NO_END)
        close(known, holdings.t_ns, wall_s)
    elif known and known.end_ns is not None and mark.t_ns <= known.end_ns and mark.restart <= known.said:
        return None  # late: its end was here first
    run = _open(holdings, mark.job, mark.restart, mark.t_ns, wall_s, taken)
    run.uid, run.sid, run.said = mark.uid, mark.sid, mark.restart
    _allocate(holdings, run, mark)
    return run


def end(holdings: Holdings, mark: Mark, wall_s: float, taken: Taken) -> Run | None:
    """An end mark: closes the run of its incarnation, else the job's open one.

    Returns:
        The run; None if it had closed already.
    """
    known = [run for run in holdings.runs.values() if run.job in (mark.job, mark.sluid) or run.sluid == mark.job]
    still = [run for run in known if run.state == "open"]
    if still:
        run = max(still, key=lambda one: (one.said == mark.restart, one.restart))
        if run.said > mark.restart and (mark.t_ns <= run.start_ns or _is_past(known, mark, taken)):
            return None  # a late epilog: that incarnation has closed, and this one goes on
        close(run, min(max(mark.t_ns, run.start_ns), holdings.t_ns), wall_s)
        return run
    if known and NO_END in known[-1].flags and known[-1].said == mark.restart:
        known[-1].flags.remove(NO_END)  # its cgroup was gone a moment before
    if known or taken(run_key(mark.job, mark.restart)):
        return None
    run = _open(holdings, mark.job, mark.restart, mark.t_ns, wall_s, taken)
    run.uid, run.said = mark.uid, mark.restart
    run.flag("no start mark")
    close(run, holdings.t_ns, wall_s)
    return run


def _is_past(known: list[Run], mark: Mark, taken: Taken) -> bool:
    return any(run.said == mark.restart for run in known) or taken(run_key(mark.job, mark.restart))


def discover(holdings: Holdings, job: str, use: JobUsage, wall_s: float, taken: Taken) -> Run:
    """A cgroup that no mark announced: a run that starts when it is first seen."""
    # What it had used before is its own past only if somebody was looking when it was born.
    first_look = holdings.usage_ns is None
    anew = any(one.job == job and one.cgroup_gone for one in holdings.runs.values())
    run = _open(holdings, job, 0, holdings.t_ns, wall_s, taken)
    # A cgroup that outlives its run's books has had its past charged already.
    charged = first_look or (run.restart and not anew)
    run.marked, run.uid, run.read_cpu_ns = False, use.uid, use.cpu_ns if charged else 0
    run.cpus_by = use.cpus_by
    run.flag("no start mark")
    mem = use.mem_limit_bytes
    node = holdings.node
    if mem and mem < node.mem_bytes:
        run.mem_bytes = mem
        run.cpus = max(1, round(node.cpus * mem / node.mem_bytes))
        run.flag("cpu share from memory limit")
    else:
        run.cpus = 1
        run.mem_bytes = node.mem_bytes // max(1, node.cpus)
        run.flag("share not known: counted as one cpu")
    return run


def is_left_over(use: JobUsage) -> bool:
    """Whether a cgroup that is still there is nobody's any more.

    A node that a job holds and never uses has no process either, so it must have been used; or nobody has looked
    since it was made.
    """
    return use.empty_ns is not None and use.empty_ns >= LEFT_NS


def _take_cpuset(holdings: Holdings, run: Run, cpus: int) -> None:
    """What a job may run on is what it holds, and memory goes by it."""
    node = holdings.node
    run.flags = [flag for flag in run.flags if flag not in GUESSES]
    run.cpus = min(cpus, node.cpus) if node.cpus else cpus
    run.mem_bytes = node.mem_bytes * run.cpus // max(1, node.cpus)
    run.flag("memory share from cpus")


def refine(holdings: Holdings, run: Run, use: JobUsage) -> None:
    """The job's cgroup tells its cores, memory limit and owner where the mark could not."""
    if run.uid is None:
        run.uid = use.uid
    if use.cpus and any(flag in run.flags for flag in GUESSES):
        _take_cpuset(holdings, run, use.cpus)
    if use.shared:
        run.flag("last cpu time shared with others that ended")
    if use.cpus_by is not None:
        run.cpus_by = use.cpus_by
    limit = use.mem_limit_bytes
    if limit and limit < holdings.node.mem_bytes and "memory share from cpus" in run.flags:
        run.mem_bytes = limit
        run.flags.remove("memory share from cpus")


def close(run: Run, t_ns: int, wall_s: float) -> None:
    """The run holds nothing from now on."""
    run.state, run.end_ns, run.end_s = "ended", t_ns, max(wall_s, run.start_s)


def close_all(holdings: Holdings, wall_s: float) -> list[Run]:
    """A reboot: every open run ended when it was last heard of."""
    closed = holdings.open_runs()
    for run in closed:
        close(run, holdings.t_ns, wall_s)
        run.state = "rebooted"
        run.flag("node rebooted")
    return closed


def close_gone(holdings: Holdings, usage: Usage, wall_s: float) -> list[Run]:
    """Close the runs that only a cgroup announced and whose cgroup is gone, and those gone for too long."""
    closed = []
    for run in holdings.open_runs():
        use = usage.jobs.get(run.key)
        if use and not use.gone and use.cpu_ns and is_left_over(use):
            close(run, holdings.t_ns, wall_s)
            run.state = "lost"
            run.flag(NO_END)
        elif run.seen_ns is None or (use and not use.gone):
            continue
        elif not run.marked or (use and use.ended):
            close(run, holdings.t_ns, wall_s)
            run.flag(NO_END)
        elif holdings.t_ns - run.seen_ns > LOST_NS:
            close(run, holdings.t_ns, wall_s)
            run.state = "lost"
            run.flag(NO_END)
        else:
            continue
        closed.append(run)
    return closed


def settled(holdings: Holdings) -> list[Run]:
    """The closed runs that no cgroup and no mark speaks of any more."""
    known_ns = min(holdings.t_ns - RECENT_NS, holdings.t_ns if holdings.usage_ns is None else holdings.usage_ns)
    return [run for run in holdings.runs.values() if run.end_ns is not None and run.end_ns < known_ns]


def _open(holdings: Holdings, job: str, restart: int, t_ns: int, wall_s: float, taken: Taken) -> Run:
    while (key := run_key(job, restart)) in holdings.runs or taken(key):
        restart += 1
    run = Run(key, job, restart, min(t_ns, holdings.t_ns), wall_s, flags=[])
    for one in holdings.runs.values():
        if one.job == job:
            # What drivers tell of a job's processes goes on from one incarnation to the next.
            run.read_gpu_ns |= one.read_gpu_ns
    holdings.runs[key] = run
    return run


def _allocate(holdings: Holdings, run: Run, mark: Mark) -> None:
    node = holdings.node
    run.gpus, run.gpu_percent, run.shards = mark.gpus, mark.gpu_percent, mark.shards
    run.sluid = mark.sluid
    if mark.cpus is not None:
        run.flags = [flag for flag in run.flags if flag not in GUESSES]
        run.cpus = min(mark.cpus, node.cpus) if node.cpus else mark.cpus
    elif mark.mem_bytes and node.mem_bytes:
        run.cpus = max(1, round(node.cpus * mark.mem_bytes / node.mem_bytes))
        run.flag("cpu share from memory limit")
    elif run.cpus == 0:
        run.cpus = 1
        run.flag("share not known: counted as one cpu")
    if mark.mem_bytes is not None:
        run.mem_bytes = min(mark.mem_bytes, node.mem_bytes)
    else:
        run.mem_bytes = node.mem_bytes * run.cpus // max(1, node.cpus)
        run.flag("memory share from cpus")
