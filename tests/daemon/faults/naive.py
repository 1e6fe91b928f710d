"""What a plain tool makes of the same recording: differences of counters, power times time, CPU time of running jobs.

Falls wrap if the counter has a range (plus one) and are zero otherwise; a gauge counts for the whole wall-clock time
since the last reading; the rest of the node is clamped at each reading; nothing is idle while a job runs; a job has
whole samples, from the first that sees it to the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["naive_joules"]

Json = dict[str, Any]


def naive_joules(lines: Sequence[Json]) -> dict[str, float]:
    """Joules by job id, `idle` for what no job was there for."""
    last: dict[str, Json] = {}
    read_at: dict[str, float] = {}
    cpu: dict[str, float] = {}
    holders: dict[str, float] = {}
    held: dict[str, list[str]] = {}
    running: set[str] = set()
    parts_j, meter = 0.0, ""
    for line in lines:
        mark = line.get("mark")
        if mark:
            (running.add if mark["event"] == "start" else running.discard)(mark["job"])
            held[mark["job"]] = mark.get("gpus", held.get(mark["job"], []))
        if "read" not in line:
            continue
        used = {job: use["cpu_s"] for job, use in line.get("usage", {}).get("jobs", {}).items()}
        ran = {job: max(0.0, used.get(job, 0.0) - cpu.get(job, 0.0)) for job in running}
        cpu |= used
        for source, found in line["read"].items():
            for name, reading in found.items():
                joules = _energy(f"{source}/{name}", reading, line["wall"], last, read_at)
                if name == "node":
                    meter = meter or source
                    if source == meter:
                        _share(max(0.0, joules - parts_j), ran, holders)
                        parts_j = 0.0
                    continue
                parts_j += joules
                gpu = name.partition(":")[2]
                jobs = {job: ran[job] for job in running if not gpu or gpu in held.get(job, [])}
                _share(joules, jobs, holders)
    return holders


def _energy(key: str, reading: Json, wall: float, last: dict[str, Json], read_at: dict[str, float]) -> float:
    before, then = last.get(key), read_at.get(key, wall)
    if "uj" not in reading and "w" not in reading:
        return 0.0
    last[key], read_at[key] = reading, wall
    if before is None:
        return 0.0
    if "w" in reading:
        return float(reading["w"] * (wall - then))
    rise = reading["uj"] - before["uj"]
    if rise < 0:
        rise = rise + reading["max_uj"] + 1 if "max_uj" in reading else 0
    return float(rise / 1e6)


def _share(joules: float, ran: dict[str, float], holders: dict[str, float]) -> None:
    weights = ran if sum(ran.values()) else dict.fromkeys(ran, 1.0)
    whole = sum(weights.values())
    for job, weight in weights.items():
        holders[job] = holders.get(job, 0.0) + joules * weight / whole
    if not weights:
        holders["idle"] = holders.get("idle", 0.0) + joules
