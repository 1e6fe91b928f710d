"""Results as points for a time-series server. Pure.

A sum is of what is known; where nothing of it is, it is absent, and the numbers of jobs that are not measured or not
assessed say so. A server cannot take a value back: what was published and holds no more is overwritten with zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from functools import lru_cache
from math import fsum

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet
from msgspec.structs import replace

from jobimpact.core.line import LONGEST
from jobimpact.core.series import IMPACT_DAY, JOB_IMPACT, NODE_HOUR, Measurement, Point, Value
from jobimpact.core.units import joules
from jobimpact.energy.node_hours import KindHour
from jobimpact.results.outcome import coverage_of, has_failed, has_run, known_sum
from jobimpact.results.published import Impact, Place, Told

__all__ = ["REPLACED", "day_points", "hour_point", "job_point", "replaced_point"]

REPLACED = "replaced"
"""The state of a point whose job has another one now."""
HOUR_S = 3600.0


def day_points(cluster: str, day_s: int, jobs: Iterable[Told], left: AbstractSet[Place] = frozenset()) -> list[Point]:
    """A day by user, account and partition.

    Args:
        cluster: whose.
        day_s: its midnight (UTC), epoch seconds.
        jobs: all that ended on it.
        left: who had a point there that must not stay as it is: zeros, but for what is known now.

    Returns:
        `impact_day`, by its tags.
    """
    by_place: dict[Place, list[Told]] = {}
    for job in jobs:
        by_place.setdefault(job.place, []).append(job)
    places = sorted({*by_place, *left}, key=lambda place: tuple(text or "" for text in place))
    return [
        Point(
            IMPACT_DAY,
            (cluster, *place),
            day_s * 1000,
            _over(_zeros(IMPACT_DAY) if place in left else {}, _sums(by_place.get(place, []))),
        )
        for place in places
    ]


def job_point(cluster: str, job: Told) -> Point | None:
    """`job_impact` of one incarnation of a job; None: its start is not known, so it has none."""
    if job.start_s is None:
        return None
    fields: dict[str, Value | None] = {
        "cpus": job.cpus,
        "gpus": job.gpus,
        "start_ms": int(job.start_s * 1000),
        "end_ms": None if job.end_s is None else int(job.end_s * 1000),
        "energy_j": job.energy_j,
        "coverage": job.coverage,
        "elapsed_s": job.elapsed_s,
        "job": job.job_id,
        "name": job.name[:LONGEST],
        "state": job.state[:LONGEST],
        "nodes": _folded(job.nodes)[:LONGEST],
        **_indicators(job),
    }
    return Point(JOB_IMPACT, (cluster, *job.place, job.key), int(job.start_s * 1000), fields)


def replaced_point(cluster: str, job: Told, *, words_as_tags: bool) -> Point | None:
    """What takes the place of a job's point of before: zeros, and the state `replaced`.

    Args:
        cluster: whose.
        job: as it was.
        words_as_tags: the server knows a point by its words as well: they stay.
    """
    was = job_point(cluster, job)
    if was is None:
        return None
    words = {name: was.fields[name] for name in JOB_IMPACT.texts}
    return replace(was, fields=_zeros(JOB_IMPACT) | words | ({} if words_as_tags else {"state": REPLACED}))


def hour_point(cluster: str, one: KindHour) -> Point:
    """`node_hour` of one kind of parts of one node."""
    fields: dict[str, Value | None] = {"known_part": one.known_part}
    if one.sums is not None:
        jobs_uj, idle_uj, system_uj = one.sums
        fields["measured_j"] = joules(jobs_uj + idle_uj + system_uj)
        fields |= {"jobs_j": joules(jobs_uj), "idle_j": joules(idle_uj), "system_j": joules(system_uj)}
    return Point(NODE_HOUR, (cluster, one.node, one.kind), one.start_s * 1000, fields)


def _sums(jobs: list[Told]) -> dict[str, Value | None]:
    ran = [job for job in jobs if has_run(job.start_s, job.energy_j)]
    failed = [job for job in ran if has_failed(job.state, job.start_s, job.energy_j)]
    node_hours = [(_hours(job, len(job.nodes)) or 0.0, job.coverage) for job in ran]
    found: dict[str, Value | None] = {
        "jobs": len(jobs),
        "failed_jobs": len(failed),
        "not_measured_jobs": sum(job.energy_j is None for job in ran),
        "not_assessed_jobs": sum(not _is_assessed(job) for job in ran),
        "energy_j": known_sum(job.energy_j for job in ran),
        "failed_energy_j": known_sum(job.energy_j for job in failed),
        "gpu_hours": known_sum(_hours(job, job.gpus) for job in ran),
        "cpu_hours": known_sum(_hours(job, job.cpus) for job in ran),
        "node_hours": fsum(hours for hours, _ in node_hours),
        "covered_node_hours": fsum(hours * coverage for hours, coverage in node_hours),
        "coverage": coverage_of(node_hours),
    }
    each = [_indicators(job) for job in ran]
    return found | {name: known_sum(one[name] for one in each) for name in _INDICATORS}


def _hours(job: Told, many: int | None) -> float | None:
    """So many of something for as long as it ran, in hours."""
    if job.elapsed_s is not None:
        lasted_s = job.elapsed_s
    elif job.start_s is not None and job.end_s is not None:
        lasted_s = max(job.end_s - job.start_s, 0.0)
    else:
        return None
    return None if many is None else many * lasted_s / HOUR_S


def _is_assessed(job: Told) -> bool:
    gwp = job.impacts.get("gwp_kgco2e", Impact())
    return gwp.use is not None and gwp.embodied is not None


def _indicators(job: Told) -> dict[str, float | None]:
    return dict(_spans(job))


def _spans(job: Told) -> Iterator[tuple[str, float | None]]:
    for name in ("gwp_kgco2e", "adp_kgsbe", "pe_mj"):
        one = job.impacts.get(name, Impact())
        for of, span in (("use", one.use), ("embodied", one.embodied)):
            yield f"{of}_{name}", span.central if span else None
            if name == "gwp_kgco2e":
                yield f"{of}_{name}_low", span.low if span else None
                yield f"{of}_{name}_high", span.high if span else None


_INDICATORS = tuple(name for name in IMPACT_DAY.floats if name.startswith(("use_", "embodied_")))


def _zeros(of: Measurement) -> dict[str, Value | None]:
    return dict.fromkeys(of.ints, 0) | dict.fromkeys(of.floats, 0.0)


def _over(zeros: dict[str, Value | None], known: dict[str, Value | None]) -> dict[str, Value | None]:
    return zeros | {name: value for name, value in known.items() if value is not None}


@lru_cache(maxsize=4096)
def _folded(nodes: tuple[str, ...]) -> str:
    """`node[01-04]`."""
    return str(NodeSet.fromlist(list(nodes), resolver=RESOLVER_NOGROUP)) if nodes else ""
