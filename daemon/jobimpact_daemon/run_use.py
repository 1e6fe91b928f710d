"""What a run has used of what it held, for people: no energy goes by it. Pure.

A GPU's utilisation is a gauge that a driver tells now and then: each reading stands for the time since the one
before, but never for longer than a gap, and for one run only if that had the whole GPU to itself. All of it goes by
the run's own time, so that what is known of a GPU is never more than the run's time.
"""

from __future__ import annotations

from collections.abc import Mapping

from jobimpact.core.records import Usage
from jobimpact.core.units import NS
from jobimpact_daemon.holdings import GpuUtilisation, Holdings, Run

__all__ = ["add_utilisation", "miss", "used"]

SETTLED_NS = NS
"""Drivers tell the mean over up to a second: the first of a run's may still be of the run before."""
ENDED_NS = NS // 4
"""A run that ended longer ago is not told by this reading any more."""
ENOUGH = 10
"""Readings from which on a GPU of a run is judged."""
MISSED = 20
"""A run's memory is not told where more than one part in so many of its time was not looked at."""


def miss(holdings: Holdings, usage: Usage, max_gap_ns: int) -> None:
    """Note what nobody has seen: before the use is taken in.

    Args:
        holdings: advanced to the time of the reading, ends of runs taken in.
        usage: by run.
        max_gap_ns: readings that are further apart say nothing of a run's memory between.
    """
    for key, run in holdings.runs.items():
        use, since_ns = usage.jobs.get(key), run.time_ns - run.use_time_ns
        if run.seen_ns is not None and not run.cpu_known:
            run.missed_ns = run.time_ns  # an earlier release has looked at it, and kept no peak
        elif since_ns > max_gap_ns:
            run.missed_ns += since_ns
            # A cgroup holds the CPU time of the gap, its ancestor that of the dead; a session's dead have left none.
            run.cpu_missed = run.cpu_missed or (use is None and not run.cgroup_gone)
        if use is not None and not use.gone:
            run.cpu_missed = False


def add_utilisation(holdings: Holdings, told: Mapping[str, float], max_gap_ns: int) -> None:
    """Take in the utilisation of whole GPUs, from 0 to 1, as of now.

    Args:
        holdings: advanced to the time of the reading, ends of runs taken in.
        told: by UUID; a GPU that does not tell now is not there.
        max_gap_ns: two readings that are further apart say nothing of the time between.
    """
    runs = [run for run in holdings.runs.values() if run.gpus] if told else []
    for gpu, part in told.items():
        before_ns = holdings.utilisation_ns.get(gpu)
        holdings.utilisation_ns[gpu] = holdings.t_ns
        told_ns = holdings.t_ns - before_ns if before_ns is not None else 0
        fresh = 0 < told_ns <= max_gap_ns
        holders = [run for run in runs if _holds(holdings, run, gpu)]
        grown = {run.key: _grown_ns(run, gpu) for run in holders}
        for run in holders:
            others = [one for one in holders if one is not run and grown[one.key] and _meet(run, one)]
            whole = gpu in run.gpus and run.gpu_percent is None and run.shards is None
            ended = run.end_ns is not None and holdings.t_ns - run.end_ns > ENDED_NS
            if grown[run.key] and fresh and whole and not others and not ended and run.time_ns >= SETTLED_NS:
                # It may have the GPU for longer than anybody knows that it is this one.
                _add(run.utilisation[gpu], part, min(grown[run.key], told_ns))
            run.utilisation[gpu].time_ns = run.time_ns


def _holds(holdings: Holdings, run: Run, gpu: str) -> bool:
    slices = holdings.node.slices
    return any((slices[device].gpu if device in slices else device) == gpu for device in run.gpus)


def _grown_ns(run: Run, gpu: str) -> int:
    """For how long it has had the GPU since that was last read."""
    return run.time_ns - run.utilisation.setdefault(gpu, GpuUtilisation()).time_ns


def _meet(run: Run, other: Run) -> bool:
    """Whether both were there at one time."""
    return (other.end_ns is None or run.start_ns < other.end_ns) and (
        run.end_ns is None or other.start_ns < run.end_ns
    )


def _add(found: GpuUtilisation, part: float, grown_ns: int) -> None:
    found.busy_ns += round(part * grown_ns)
    found.known_ns += grown_ns
    found.readings += 1
    found.seen_busy = found.seen_busy or part > 0


def used(run: Run) -> dict[str, int]:
    """What is known of a run's use so far, named as in `RunUse`."""
    found: dict[str, int] = {}
    if run.cpu_known and not run.cpu_missed:
        found["cpu_ns"] = run.used.get("cpu", 0)
    if run.mem_peak is not None and run.missed_ns * MISSED <= run.time_ns:
        found["mem_peak_bytes"] = run.mem_peak
    gpus = [one for one in run.utilisation.values() if one.readings]
    if gpus:
        enough = [one for one in gpus if one.readings >= ENOUGH]
        found["gpu_busy_ns"] = sum(one.busy_ns for one in gpus)
        found["gpu_known_ns"] = sum(one.known_ns for one in gpus)
        found["gpus_seen"] = len(enough)
        found["gpus_unused"] = sum(not one.seen_busy for one in enough)
    return found
