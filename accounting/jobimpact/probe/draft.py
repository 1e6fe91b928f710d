"""The entry of `nodes.yaml`: what was found, and beside it what was guessed, what was not found, and how to know."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

import yaml
from msgspec import Struct

from jobimpact.core.config import Node
from jobimpact.probe.cpu import Cpus, find_cpus
from jobimpact.probe.disks import Disks, find_disks
from jobimpact.probe.files import one_line
from jobimpact.probe.gpus import Gpus, Told, ask_nvml, find_gpus
from jobimpact.probe.host import CHASSIS, Host, find_host
from jobimpact.probe.memory import Memory, find_memory
from jobimpact.probe.network import Network, find_network
from jobimpact.probe.smbios import Firmware, read_firmware

__all__ = ["draft", "quoted"]

WIDTH = 119
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9 ._()/@+-]*[A-Za-z0-9)]")
_NODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MULTI_NODE = {0x19, 0x1C, 0x1D}


class _Line(Struct, frozen=True):
    """A key of the entry. Without a value it stands as a comment, or, if required, with dots that do not load."""

    key: str
    value: str | None
    notes: tuple[str, ...] = ()
    example: str = "..."
    required: bool = False

    def text(self) -> list[str]:
        """Its lines: what is to be said of it goes before it where it does not fit beside."""
        missing = self.value is None
        notes = [one_line(note) for note in self.notes]
        if missing:
            notes[0] = f"not found: {notes[0]}"
        head = f"{self.key}: {self.example if missing else self.value}"
        if missing and not self.required:
            head = f"# {head}"
        beside = f"{head}  # {notes[0]}" if notes else head
        if len(notes) <= 1 and len(beside) <= WIDTH - 4:
            return [f"    {beside}"]
        return [*_comment("    ", notes), f"    {head}"]


def draft(node: Node, nvml: Callable[[], Told] = ask_nvml) -> str:
    """An inventory with the entry of this machine, as YAML that loads.

    Where a part without which there is no entry is not found, the entry is a comment, and the inventory has no types.

    Args:
        node: its name, how the scheduler counts its CPUs, and where /proc and /sys are.
        nvml: what asks NVML.
    """
    proc_root, sys_root = Path(node.proc_root), Path(node.sys_root)
    firmware = read_firmware(sys_root)
    host = find_host(proc_root, sys_root, firmware)
    virtual = host.virtual is not None
    cpus = find_cpus(proc_root, sys_root, firmware, virtual=virtual)
    gpus = find_gpus(proc_root, sys_root, nvml)
    lines = [
        _nodes(node.name),
        _cpu(cpus, node.cpus),
        *_memory(find_memory(proc_root, sys_root, firmware)),
        _gpus(gpus, host),
        *_disks(find_disks(sys_root, virtual=virtual)),
        *_housing(host, firmware),
        _nic(find_network(sys_root, firmware, virtual=virtual)),
        *_UNKNOWABLE,
    ]
    head = [f"Drafted by `jobimpact inventory probe` on {one_line(node.name)}: {host.name or 'product not found'}."]
    if host.virtual:
        head.append(
            f"A VIRTUAL MACHINE: {host.virtual}. Its parts are what its host shows: describe the host instead."
        )
    head.append("Read each comment, edit, and put the entry below `types:` of the inventory.")
    name = quoted(_type_name(host, gpus, cpus))
    entry = [f"  {name}:  # a name of your choice", *(text for line in lines for text in line.text())]
    missing = [line.key for line in lines if line.required and line.value is None]
    if missing:
        head.append(f"NOT COMPLETE: fill in {', '.join(missing)}, take the first # of each line away, and `{{}}`.")
        body = ["types: {}", *(f"#{line}" for line in entry)]
    else:
        body = ["types:", *entry]
    return "\n".join([*_comment("", head), *body]) + "\n"


def quoted(text: str) -> str:
    """Any text as a YAML scalar on one line that is read as this text, its control characters taken out."""
    text = one_line(text)
    if _PLAIN.fullmatch(text) and yaml.safe_load(text) == text:
        return text
    return yaml.safe_dump(text, default_style='"', width=float("inf")).rstrip("\n")


def _comment(indent: str, notes: Iterable[str]) -> list[str]:
    prefix = f"{indent}# "
    return [
        line
        for note in notes
        for line in textwrap.wrap(
            one_line(note), WIDTH, initial_indent=prefix, subsequent_indent=f"{prefix}  ", break_on_hyphens=False
        )
    ]


def _nodes(name: str) -> _Line:
    if not _NODE.fullmatch(name):
        return _Line("nodes", None, (f"the host's name, {name!r:.80}, is none for a node",), "node01", required=True)
    return _Line("nodes", quoted(name), ("add the nodes that are built alike: node[01-16]",), required=True)


def _cpu(cpus: Cpus, scheduled: int | None) -> _Line:
    if cpus.count is None or cpus.cores is None or cpus.threads is None:
        example = f"{{model: {quoted(cpus.model or '...')}, count: ..., cores: ...}}"
        why = (*cpus.notes, *cpus.model_notes) or ("/proc/cpuinfo and /sys list no CPU",)
        return _Line("cpu", None, (*why, "see `lscpu`; cores are those of one CPU"), example, required=True)
    notes = list(cpus.model_notes)
    if cpus.model is None:
        notes.insert(0, "not found: the model: no name in /proc/cpuinfo or the firmware's table: see the invoice")
    notes += cpus.notes
    threads = cpus.threads
    cores = cpus.count * cpus.cores
    if scheduled is not None:
        counted = "threads" if scheduled > cores else "cores"
        threads = threads if scheduled > cores else 1
        notes.append(f"the configuration's node.cpus is {scheduled}, of {cores} cores: the scheduler counts {counted}")
        if scheduled not in {cores, cores * cpus.threads}:
            notes[-1] += ", but not all of them"
    elif threads > 1:
        notes.append(
            f"threads_per_core: {threads} is right where the scheduler counts threads as CPUs (`scontrol show node`: "
            f"CPUTot={cores * threads}); take it out where it counts cores (CPUTot={cores})"
        )
    more = f", threads_per_core: {threads}" if threads > 1 else ""
    model = quoted(cpus.model or "unknown")
    value = f"{{model: {model}, count: {cpus.count}, cores: {cpus.cores}{more}}}"
    return _Line("cpu", value, tuple(notes), required=True)


def _memory(memory: Memory) -> list[_Line]:
    if memory.gib is None:
        return [_Line("ram_gb", None, memory.notes, required=True)]
    lines = [_Line("ram_gb", _plain(memory.gib), memory.notes, required=True)]
    if memory.modules:
        return [*lines, _Line("ram_modules", str(memory.modules))]
    why = (*memory.module_notes, "without it, one module for each 32 GB is assumed")
    return [*lines, _Line("ram_modules", None, why)]


def _gpus(gpus: Gpus, host: Host) -> _Line:
    if not gpus.counts and "jetson" in (host.name or "").lower():
        return _Line("gpus", None, ("a Jetson's GPU is in its module, which the factors list as one GPU",))
    if not gpus.counts:
        return _Line("gpus", None, ("; ".join(gpus.problems) or "no GPU",))
    listed = ", ".join(f"{{model: {quoted(name)}, count: {count}}}" for name, count in sorted(gpus.counts.items()))
    return _Line("gpus", f"[{listed}]", (*gpus.notes, *(f"not found: {one}" for one in gpus.problems)))


def _disks(disks: Disks) -> list[_Line]:
    reason = disks.reason or "; ".join(disks.other)
    lines = []
    for key, sizes, notes in (("ssd_gb", disks.ssd_gb, disks.ssd_notes), ("hdd_gb", disks.hdd_gb, disks.hdd_notes)):
        if sizes:
            left = tuple(f"not counted: {one}" for one in disks.other) if key == "ssd_gb" else ()
            lines.append(_Line(key, f"[{', '.join(map(str, sizes))}]", (*notes, *left)))
        else:
            kind = "SSD" if key == "ssd_gb" else "hard disk"
            lines.append(_Line(key, None, (f"no {kind}" + (f" ({reason})" if reason else ""),)))
    return lines


def _housing(host: Host, firmware: Firmware) -> list[_Line]:
    kind = CHASSIS.get(host.chassis or 0) or f"type {host.chassis}"
    calls = f"the firmware calls it {kind}" if host.chassis else f"the firmware names no chassis ({firmware.reason})"
    share = "this node's share of its chassis, 0.25 for one of four nodes; without it, 1 is assumed"
    case = _Line("case", None, (f"{share}: {calls}",), "0.25")
    supplies = firmware.supplies_w
    if not supplies:
        why = firmware.reason or (
            f"the firmware lists {firmware.listed_supplies} power supplies, and none as present"
            if firmware.listed_supplies
            else "the firmware lists no power supplies"
        )
        return [
            _Line("psu", None, (why, "see `ipmitool sdr type 'Power Supply'`; without it, 2 are assumed")),
            case,
        ]
    watts = ", ".join("?" if one is None else str(one) for one in supplies)
    shared = "; does it share them with other nodes?" if host.chassis in _MULTI_NODE else ""
    return [_Line("psu", str(len(supplies)), (f"of {watts} W{shared}",)), case]


def _nic(network: Network) -> _Line:
    if network.cards is None:
        return _Line("nic", None, (*network.notes, "cards beyond the board's own; without it, 0 are assumed"))
    return _Line("nic", str(network.cards), network.notes)


_UNKNOWABLE = (
    _Line("purchased", None, ("see the invoice: its life is counted from here",)),
    _Line("lifetime_years", None, ("how long you keep such nodes; without it, 4 is assumed",)),
    _Line("pue", None, ("the building's, or of what cools these nodes; without it, the inventory's `pue`",)),
    _Line("zone", None, ("of its electricity; without it, the configuration's grid.zone",)),
    _Line("exclusive", None, ("does the scheduler give whole nodes of this type? without it: no",)),
)


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(round(number, 3))


def _type_name(host: Host, gpus: Gpus, cpus: Cpus) -> str:
    """By the GPUs, else the product, else the CPU."""
    if gpus.counts:
        parts = [f"{name} x{count}" for name, count in sorted(gpus.counts.items())]
        found = " ".join(re.sub(r"\b(nvidia|tesla|amd|instinct)\b", "", part, flags=re.IGNORECASE) for part in parts)
    else:
        found = host.product or cpus.model or ""
    return re.sub(r"[^a-z0-9]+", "-", found.lower()).strip("-")[:40].strip("-") or "node"
