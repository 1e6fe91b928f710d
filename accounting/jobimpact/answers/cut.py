"""Jobs cut at the window that was asked for: what of them falls inside. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from jobimpact.results.record import JobResult

__all__ = ["cut"]

HOUR_S = 3600.0
_BY = "cut at the window: energy by its hours, what was reserved by time; the part of an hour by time"

Json = dict[str, Any]


def cut(one: JobResult, from_s: float | None, to_s: float | None) -> JobResult:
    """The part of a job inside [from_s, to_s), with a warning that says so; the job as it is where it is all inside.

    Args:
        one: a job.
        from_s: epoch seconds; None: no bound.
        to_s: likewise.

    Returns:
        Its energy by the hours that its nodes' books tell, and None with the reason where they tell none; the impact
        of its electricity by its energy, and what was reserved by time.
    """
    start_s = one.start_s
    end_s = one.end_s if one.end_s is not None else one.known_until_s
    if start_s is None or end_s is None or end_s <= start_s:
        return one
    low_s = start_s if from_s is None else min(max(start_s, from_s), end_s)
    high_s = end_s if to_s is None else max(min(end_s, to_s), low_s)
    if (low_s, high_s) == (start_s, end_s):
        return one
    time = (high_s - low_s) / (end_s - start_s)
    energy = _energy(one.energy, low_s, high_s, time)
    joules = energy["total_j"]
    use = time if not one.energy_j else None if joules is None else joules / one.energy_j
    impacts = {name: _indicator(found, use, time, energy["reason"]) for name, found in one.impacts.items()}
    market = one.factors.get("market")
    if market:
        scaled = None if use is None or market["use_gwp_kgco2e"] is None else market["use_gwp_kgco2e"] * use
        market = market | {"use_gwp_kgco2e": scaled}
    return msgspec.structs.replace(
        one,
        start_s=low_s,
        end_s=None if one.end_s is None else high_s,
        elapsed_s=None if one.elapsed_s is None else one.elapsed_s * time,
        energy_j=joules,
        coverage=one.coverage if joules is not None else 0.0,
        energy=energy,
        impacts=impacts,
        factors=one.factors | {"market": market} if market else one.factors,
        warnings=(*one.warnings, _BY),
    )


def _energy(energy: Json, low_s: float, high_s: float, time: float) -> Json:
    if not energy["total_j"]:
        return energy  # nothing is known of it, or there is nothing to be cut
    parts = {name: _part(node, low_s, high_s) for name, node in energy["nodes"].items() if _has_energy(node)}
    unknown = [name for name, part in parts.items() if part is None]
    if unknown:
        return _unknown(energy, f"cut at the window: its energy by the hour is not known on {', '.join(unknown)}")
    nodes = {name: _node(node, parts.get(name) or 0.0, time) for name, node in energy["nodes"].items()}
    domains = {kind: found | {"energy_j": _sum(kind, found, nodes)} for kind, found in energy["domains"].items()}
    total_j = sum(found["energy_j"] or 0.0 for found in domains.values())
    return energy | {"total_j": total_j, "total_kwh": total_j / 3.6e6, "domains": domains, "nodes": nodes}


def _unknown(energy: Json, reason: str) -> Json:
    nothing = {"energy_j": None, "coverage": 0.0, "reason": reason}
    domains = {k: found | nothing if found["energy_j"] else found for k, found in energy["domains"].items()}
    return energy | {"total_j": None, "total_kwh": None, "coverage": 0.0, "domains": domains, "reason": reason}


def _has_energy(node: Json) -> bool:
    return any(found["energy_j"] for found in node.get("domains", {}).values())


def _part(node: Json, low_s: float, high_s: float) -> float | None:
    """The part of a node's energy that falls inside; None: its hours are not known."""
    whole: float = sum(uj for _, uj in node.get("hours") or ())
    if not whole:
        return None
    end_s = node["end_s"] if node["end_s"] is not None else node["start_s"] + node["elapsed_s"]
    inside = 0.0
    for hour_s, uj in node["hours"]:
        first_s, last_s = max(hour_s, node["start_s"]), min(hour_s + HOUR_S, end_s)
        if last_s <= first_s:  # an edge that a late reading has booked in the next hour
            inside += uj * (low_s <= hour_s < high_s)
        else:
            inside += uj * max(min(last_s, high_s) - max(first_s, low_s), 0.0) / (last_s - first_s)
    return inside / whole


def _node(node: Json, part: float, time: float) -> Json:
    domains = {
        name: found | {"energy_j": None if found["energy_j"] is None else found["energy_j"] * part}
        for name, found in node.get("domains", {}).items()
    }
    elapsed_s = node.get("elapsed_s")
    return node | {"domains": domains, "elapsed_s": None if elapsed_s is None else elapsed_s * time}


def _sum(kind: str, found: Json, nodes: Json) -> float | None:
    if not found["energy_j"]:
        known: float | None = found["energy_j"]
        return known
    each = (domain for node in nodes.values() for domain in node["domains"].values() if domain["kind"] == kind)
    whole: float = sum(domain["energy_j"] for domain in each if domain["energy_j"] is not None)
    return whole


def _indicator(found: Json, use: float | None, time: float, reason: str | None) -> Json:
    scaled = found | {"use": _scaled(found["use"], use), "embodied": _scaled(found["embodied"], time)}
    both = scaled["use"] is not None and scaled["embodied"] is not None and found["total"] is not None
    scaled["total"] = {key: scaled["use"][key] + scaled["embodied"][key] for key in scaled["use"]} if both else None
    if use is None and reason:
        scaled["reason"] = f"use: {reason}" if not found["reason"] else f"{found['reason']}; use: {reason}"
    for beside in ("idle_share", "shared"):
        if found.get(beside) is not None:
            told = found[beside]
            scaled[beside] = told | {part: _scaled(told[part], time) for part in ("use", "embodied")}
    return scaled


def _scaled(amount: Json | None, by: float | None) -> Json | None:
    return None if amount is None or by is None else {key: value * by for key, value in amount.items()}
