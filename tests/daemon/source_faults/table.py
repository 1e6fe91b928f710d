"""What was seen, source by source and fault by fault, in words."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import product

from tests.daemon.source_faults.stands import Kind, Stand
from tests.daemon.source_faults.world import Node, Seen, Worlds
from tests.fakes.curve import NS_PER_S

STATES = ("present", "absent", "refused", "dies", "back after dies", "hangs", "back after hangs")
TITLES = {
    "present": "present",
    "absent": "absent",
    "refused": "no permission",
    "dies": "dies midway",
    "back after dies": "comes back",
    "hangs": "hangs {seconds:.0f} s",
    "back after hangs": "comes back",
}
WHERE: dict[str, tuple[Kind, str]] = {
    "present": ("dies", "before"),
    "absent": ("absent", "during"),
    "refused": ("refused", "during"),
    "dies": ("dies", "during"),
    "back after dies": ("dies", "after"),
    "hangs": ("hangs", "during"),
    "back after hangs": ("hangs", "after"),
}
"""In which node, and in which phase, a state is seen."""

ROWS = (
    *("rapl", "nvml", "amdsmi", "hwmon", "pmcounters", "ipmi", "redfish"),
    *("wattmeter csv", "wattmeter kwollect", "model"),
)
REAL = {
    "/nonexistent": "/sys/class/powercap",
    "/hwmon/hwmon/": "/sys/class/hwmon/",
    "/hwmon/hwmon:": "/sys/class/hwmon:",
    "/pmcounters/pm_counters": "/sys/cray/pm_counters",
    "/wattmeter-csv/": "/var/log/",
}
"""Where a stand-in lies, and what it stands for."""


@dataclass
class Cell:
    """One source in one state.

    `known_s` and `unknown_s` are since the daemon's start.
    """

    row: str
    state: str
    how: str
    known_s: float | None = None
    told_s: float | None = None
    """From its first value in the recording to the last before the look."""
    unknown_s: float | None = None
    uj: int | None = None
    reason: str | None = None
    reads: int = 0
    failures: int = 0
    age_s: float | None = None
    problem: str | None = None
    findings: list[tuple[str, str]] = field(default_factory=list)
    lost_s: float | None = None
    """What the fault has added to the unknown time, for good."""
    check: list[str] = field(default_factory=list)
    status: int | None = None
    is_alive: bool = True
    log: str = ""

    @property
    def said(self) -> str:
        """All that `check` says of the source."""
        return "\n".join(self.check)

    @property
    def words(self) -> set[str]:
        """`ok`, `note`, `MEND`: those of its lines."""
        return {line.split()[0] for line in self.check}


def cells(worlds: Worlds) -> dict[tuple[str, str], Cell]:
    """By row and state."""
    found = {}
    for node in worlds.nodes.values():
        for part in node.parts:
            for state, (kind, phase) in WHERE.items():
                if node.kind == kind and not part.how[kind].startswith("n/a:"):
                    found[part.row, state] = _cell(node, part, state, phase)
    return found


def _cell(node: Node, part: Stand, state: str, phase: str) -> Cell:
    seen, before = node.seen[phase], node.seen["before"]
    cell = Cell(part.row, state, part.how[node.kind], is_alive="Traceback" not in node.log, log=node.log)
    cell.told_s = node.told_s(part, seen.t_ns)
    book, health = seen.domains.get(part.domain), seen.sources.get(part.source, {})
    if book is not None:
        cell.known_s, cell.unknown_s = book["known_ns"] / NS_PER_S, book["unknown_ns"] / NS_PER_S
        cell.uj, cell.reason = book["uj"], book["reason"]
        if state.startswith("back") and part.domain in before.domains:
            cell.lost_s = cell.unknown_s - before.domains[part.domain]["unknown_ns"] / NS_PER_S
    cell.reads, cell.failures = health.get("reads", 0), health.get("failures", 0)
    cell.age_s, cell.problem = health.get("age_s"), health.get("problem")
    cell.findings = [(kind, text) for kind, subject, text in seen.findings if subject == part.domain]
    checked = seen if seen.check else before
    cell.check, cell.status = _about(checked, part), checked.status
    return cell


def _about(seen: Seen, part: Stand) -> list[str]:
    """The lines of `check` that are about one source, or about its book."""
    lead = rf"(?:daemon, [^ ]+ [^ ]+ )?{part.source}: |books: {re.escape(part.domain)}: "
    own = re.compile(rf"(?:ok|note|MEND) +(?:{lead})|stderr: (?:Traceback|.*\b{part.source}\b)")
    return [line for line in seen.check if own.match(line)]


def plain(text: str, worlds: Worlds) -> str:
    """Without what differs from run to run: folders, ports, the time of day."""
    text = re.sub(rf"{worlds.folder}/[^/ ]+/(?:node/)?", "/", text)
    for here, there in REAL.items():
        text = text.replace(here, there)
    text = re.sub(r"http://127\.0\.0\.1:\d+/redfish", "https://bmc/redfish", text)
    text = re.sub(r"http://127\.0\.0\.1:\d+", "https://api", text)
    text = text.replace("BMC 127.0.0.1", "BMC bmc")
    text = re.sub(r"daemon, [-0-9]+ [0-9:]+Z:", "daemon:", text)
    return re.sub(r", [0-9.]+ ms each", "", " ".join(text.split()))


def books_said(cell: Cell) -> str:
    """What the books say, in words."""
    if not cell.is_alive and cell.state != "present":
        return "**the daemon has ended**"
    if cell.unknown_s is None or cell.known_s is None:
        return "no such domain"
    if cell.lost_s is not None:
        return "all of the gap's energy" if cell.lost_s < 1.5 else f"{cell.lost_s:.0f} s unknown for good"
    known = f"{cell.known_s:.0f} s known"
    unknown = f"{cell.unknown_s:.0f} s unknown" if cell.unknown_s >= 1 else ""
    return ", ".join(part for part in (known, unknown) if part) + (f": `{cell.reason}`" if cell.reason else "")


def markdown(worlds: Worlds) -> str:
    """The whole table, and that of the rates."""
    seconds = worlds.times.ms / 1000
    lines = ["| source | state | what happens | the books | `jobimpactd check` |", "| --- | --- | --- | --- | --- |"]
    found = cells(worlds)
    for row, state in product(ROWS, STATES):
        cell = found.get((row, state))
        if cell is not None:
            lines.append(_line(cell, seconds, worlds))
    return "\n".join([*lines, "", *_rates(worlds)]) + "\n"


def _line(cell: Cell, seconds: float, worlds: Worlds) -> str:
    how = "" if cell.state == "present" or cell.state.startswith("back") else cell.how
    said = "<br>".join(f"`{plain(line, worlds)}`" for line in cell.check) or "nothing"
    words = [cell.row, TITLES[cell.state].format(seconds=seconds), how, plain(books_said(cell), worlds), said]
    return "| " + " | ".join(one.replace("|", "\\|") for one in words) + " |"


def rates(worlds: Worlds, node: Node) -> dict[str, tuple[float, float]]:
    """The witness's readings per second, and the longest time between two, by phase."""
    times = worlds.times
    spans = {
        "before": (times.from_ns - worlds.lead_ns // 2, times.from_ns),
        "during": (times.from_ns, times.to_ns),
        "after": (times.to_ns, times.to_ns + worlds.after_ns),
    }
    return {phase: node.rate(*span) for phase, span in spans.items()}


def _rates(worlds: Worlds) -> list[str]:
    lines = ["| all others meanwhile | healthy source | before | during | after |", "| --- | --- | --- | --- | --- |"]
    for (_, kind), node in worlds.nodes.items():
        if kind in {"dies", "hangs"}:
            told = [f"{each:.2f}/s, longest gap {gap:.2f} s" for each, gap in rates(worlds, node).values()]
            others = ", ".join(part.row for part in node.parts)
            lines.append(f"| {others}: {kind} | {node.witness[0]} | " + " | ".join(told) + " |")
    return lines
