"""What is odd about a job's runs, in words: from the flags that the nodes keep to one line for each oddity. Pure."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["in_words"]

_RUN = {
    "start interpolated": "the start was told late: energy around it is split by time",
    "end interpolated": "the end was told late: energy around it is split by time",
    "no start mark": "no start hook was heard: the job was found by its processes, or by its end",
    "no end mark": "no end hook was heard: the job is taken to have ended when its processes were gone",
    "cpu share from memory limit": "how many CPUs it held was not told: taken by its part of the memory",
    "share not known: counted as one cpu": "what it held was not told: counted as one CPU",
    "memory share from cpus": "how much memory it held was not told: taken by its part of the CPUs",
    "last cpu time shared with others that ended": (
        "it ended along with others: their last CPU time is split by CPUs"
    ),
    "suspended for a time: no share of the CPUs": "suspended for a time: no share of the CPUs meanwhile",
    "node rebooted": "the node booted anew in mid run: what came after its last reading is not known",
}
"""A run's flags that name no meter."""
_METER = {
    "gap": "readings of {what} failed for a time: energy meanwhile is split by time, or not known if it was long",
    "stuck": "{what} stood still for a time: energy meanwhile is not known",
    "reset": "{what} started anew: energy since the reading before is not known",
    "jump": "{what} rose by more than can be drawn: that energy is not counted",
    "ambiguous": "{what} was not read for too long: energy meanwhile is not known",
    "unknown": "a meter of another part failed: {what} is not known meanwhile",
}
INCLUDES = "rest includes "
_NODE_METER = {
    "gap": "{what} was silent for a time: the rest of the node is not known meanwhile",
    "stuck": "{what} stood still for a time: the rest of the node is not known meanwhile",
}
"""By the last word of a flag, the meter being what stands before it."""


def in_words(flags: Iterable[str], nodes: Iterable[str]) -> list[str]:
    """What a user is told.

    Args:
        flags: a job's, those of a node with its name before (`node01: package-0 gap`).
        nodes: the names of the job's nodes.

    Returns:
        One text for each oddity, with all nodes and meters that have it; what is in plain words already stays so.
    """
    known = sorted(nodes, key=len, reverse=True)
    meters: dict[tuple[str, str], list[str]] = {}
    """What is odd, and of which sort of meter → node and meter."""
    found: dict[str, dict[str, None]] = {}
    for flag in dict.fromkeys(flags):
        node = next((one for one in known if flag.startswith(f"{one}: ")), None)
        said = flag if node is None else flag[len(node) + 2 :]
        domain, _, event = said.rpartition(" ")
        if node is not None and said.startswith(INCLUDES):
            text = (
                f"the rest of the node includes what {_part(said.removeprefix(INCLUDES))} drew while it was not known"
            )
            found.setdefault(text, {})[node] = None
            continue
        if node is not None and domain and event in _METER and " " not in domain:
            meters.setdefault((node, event), []).append(domain)
            continue
        found.setdefault(_RUN.get(said, said), {})[node or ""] = None
    for (node, event), domains in meters.items():
        for text in _of_meters(event, domains):
            found.setdefault(text, {})[node] = None
    return [f"{', '.join(where)}: {text}" if any(where) else text for text, where in found.items()]


def _of_meters(event: str, domains: list[str]) -> list[str]:
    """Alike for all parts; the node's own meters apart."""
    whole = [domain.partition(":")[2] for domain in domains if domain.startswith("node:")]
    parts = [domain for domain in domains if not domain.startswith("node:")]
    names = ", ".join(map(_part, parts))
    what = names if event == "unknown" else f"the meter of {names}"
    texts = [_METER[event].format(what=what)] if parts else []
    if whole:
        form = _NODE_METER.get(event, _NODE_METER["gap"])
        texts.append(form.format(what=f"the node's meter ({', '.join(whole)})"))
    return texts


def _part(domain: str) -> str:
    """`package-0` and `gpu:GPU-4f…` as a person calls them."""
    kind, _, which = domain.partition(":")
    if domain == "rest":
        return "the rest of the node"
    if kind == "gpu":
        return which if which.startswith("GPU") else f"GPU {which}"
    name, _, number = domain.partition("-")
    return {"package": f"CPU {number}", "dram": f"memory {number}"}.get(name, domain).strip()
