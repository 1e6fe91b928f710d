"""CPUs: by the kernel's topology, else /proc/cpuinfo, else the firmware's table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from jobimpact.probe.files import children, clean, read_text
from jobimpact.probe.smbios import Firmware, Processor

__all__ = ["Cpus", "find_cpus"]

MAX_SOCKETS, MAX_CORES, MAX_THREADS = 64, 4096, 8
"""What an inventory takes."""
_MODEL_KEYS = ("model name", "Model Name", "cpu")
_VAGUE = re.compile(
    r"(ARMv\d|AArch64).*|Intel\(R\) Xeon\(R\) (Processor|CPU)( @.*)?|AMD EPYC(-\w+)? Processor.*"
    r"|.*(QEMU|Virtual CPU|Common KVM).*",
    re.IGNORECASE,
)
"""Names that say no model, as hypervisors and old kernels give them."""
_ARM = {
    (0x41, 0xD0C): "Arm Neoverse N1",
    (0x41, 0xD40): "Arm Neoverse V1",
    (0x41, 0xD42): "Arm Cortex-A78AE",
    (0x41, 0xD49): "Arm Neoverse N2",
    (0x41, 0xD4F): "Arm Neoverse V2",
    (0x43, 0x0AF): "Marvell ThunderX2",
    (0x46, 0x001): "Fujitsu A64FX",
    (0x48, 0xD01): "HiSilicon TaiShan v110",
    (0x4E, 0x004): "NVIDIA Carmel",
    (0xC0, 0xAC3): "Ampere-1",
}
"""Cores by implementer and part, as ARM's MIDR_EL1 has them."""

Block = dict[str, str]
Topology = dict[str, dict[str, int]]
"""Per socket, per core: its threads."""


class Cpus(Struct, frozen=True):
    """What was found, None where nothing was; the notes say what is doubtful, and how to find out."""

    model: str | None = None
    count: int | None = None
    cores: int | None = None
    threads: int | None = None
    model_notes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def find_cpus(proc_root: Path, sys_root: Path, firmware: Firmware, *, virtual: bool) -> Cpus:
    """Count sockets, cores of one socket and threads of one core, and name the model."""
    blocks = list(_blocks(read_text(proc_root / "cpuinfo") or ""))
    model, model_notes = _model(blocks, firmware.processors)
    system = sys_root / "devices/system/cpu"
    found = _by_kernel(system) or _by_cpuinfo(blocks)
    notes: list[str] = []
    if not found:
        return _without_topology(len(blocks), firmware.processors, model, model_notes)
    per_core = [threads for cores in found.values() for threads in cores.values()]
    count, cores, threads = len(found), max(map(len, found.values())), max(per_core)
    kernel = f"the kernel sees {count} sockets of {cores} cores"
    if count > 1 and (count > MAX_SOCKETS or (virtual and cores == 1)):
        notes.append(f"{kernel}, as a hypervisor may show them: drafted as one CPU")
        count, cores = 1, len(per_core)
    elif len({len(one) for one in found.values()}) > 1:
        notes.append(f"the sockets differ in cores: {', '.join(str(len(one)) for one in found.values())}")
    if len(set(per_core)) > 1:
        kinds = ", ".join(f"{times} with {size}" for size, times in sorted(Counter(per_core).items()))
        notes.append(f"cores differ in threads ({kinds}: hybrid, or threads are offline): drafted with one each")
        threads = 1
    notes += _offline(system)
    told = [one.cores for one in firmware.processors if one.cores]
    differs = told and not virtual and (len(firmware.processors), max(told)) != (count, cores)
    if differs:
        notes.append(f"{kernel}, the firmware {len(firmware.processors)} of {max(told)}: compare with the data sheet")
        if not any("physical id" in block for block in blocks) and max(told) <= MAX_CORES:
            # Kernels for ARM took clusters for sockets.
            count, cores = len(firmware.processors), max(told)
    return _checked(Cpus(model, count, cores, threads, model_notes, tuple(notes)))


def _blocks(text: str) -> Iterator[Block]:
    """Each processor of a cpuinfo."""
    for part in re.split(r"\n\s*\n", text):
        pairs = (line.partition(":") for line in part.splitlines())
        block = {key.strip(): value.strip() for key, _, value in pairs}
        if block.get("processor", "").isdecimal():
            yield block


def _by_kernel(system: Path) -> Topology:
    """Sockets and cores of the CPUs that are online: an offline one has no topology."""
    found: Topology = {}
    for cpu in children(system, r"cpu\d+"):
        folder = cpu / "topology"
        socket = read_text(folder / "physical_package_id")
        siblings = (read_text(folder / name) for name in ("core_cpus_list", "thread_siblings_list", "core_id"))
        core = next((one for one in siblings if one is not None), None)
        if socket is not None and core is not None:
            cores = found.setdefault(socket, {})
            cores[core] = cores.get(core, 0) + 1
    return found


def _by_cpuinfo(blocks: list[Block]) -> Topology:
    found: Topology = {}
    for block in blocks:
        if "physical id" in block and "core id" in block:
            cores = found.setdefault(block["physical id"], {})
            cores[block["core id"]] = cores.get(block["core id"], 0) + 1
    return found


def _without_topology(
    processors: int, sockets: tuple[Processor, ...], model: str | None, model_notes: tuple[str, ...]
) -> Cpus:
    """By the firmware; else every processor is a core of one socket; else nothing is known."""
    told = [one for one in sockets if one.cores]
    if told:
        cores = told[0].cores or 1
        note = "by the firmware's table: the kernel shows no topology"
        return _checked(Cpus(model, len(sockets), cores, (told[0].threads or cores) // cores, model_notes, (note,)))
    if not processors:
        return Cpus(model, model_notes=model_notes)
    note = f"guessed: /proc/cpuinfo lists {processors} processors, and neither sockets nor cores: see `lscpu`"
    return _checked(Cpus(model, 1, processors, 1, model_notes, (note,)))


def _checked(cpus: Cpus) -> Cpus:
    """Counts that no machine has are none."""
    wanted = ((cpus.count, MAX_SOCKETS), (cpus.cores, MAX_CORES), (cpus.threads, MAX_THREADS))
    if all(value is not None and 1 <= value <= most for value, most in wanted):
        return cpus
    told = " x ".join(str(value) for value, _ in wanted)
    note = f"what was found cannot be: {told} (sockets, cores, threads)"
    return Cpus(cpus.model, model_notes=cpus.model_notes, notes=(*cpus.notes, note))


def _offline(system: Path) -> Iterator[str]:
    present, online = (_listed(read_text(system / name)) for name in ("present", "online"))
    if present and online and online < present:
        yield f"{present - online} of {present} CPUs are offline (threads switched off, or see `lscpu`): not counted"


def _listed(text: str | None) -> int | None:
    """How many CPUs a list such as 0-3,8 names."""
    total = 0
    for part in (text or "").split(","):
        ends = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part.strip())
        if ends is None:
            return None
        total += int(ends[2] or ends[1]) - int(ends[1]) + 1
    return total


def _model(blocks: list[Block], sockets: tuple[Processor, ...]) -> tuple[str | None, tuple[str, ...]]:
    """The name, and what is doubtful about it."""
    names = Counter(name for block in blocks for key in _MODEL_KEYS if (name := clean(block.get(key, ""))))
    socket = next((one.name for one in sockets if one.name), None)
    if names:
        name = names.most_common(1)[0][0]
        others = [one for one in names if one != name]
        if _VAGUE.fullmatch(name) and socket and not _VAGUE.fullmatch(socket):
            return socket, (f"the firmware's name; the kernel only says {name}",)
        if _VAGUE.fullmatch(name):
            return name, ("this name says no model: see the host, or the invoice",)
        return name, ((f"some are {', '.join(others)}",) if others else ())
    if socket:
        return socket, ("the firmware's name: /proc/cpuinfo has none",)
    cores = Counter(core for block in blocks if (core := _arm(block)))
    if cores:
        return cores.most_common(1)[0][0], ("the design of its cores, not the product: see the invoice",)
    return None, ()


def _arm(block: Block) -> str | None:
    try:
        implementer, part = int(block["CPU implementer"], 16), int(block["CPU part"], 16)
    except (KeyError, ValueError):
        return None
    return _ARM.get((implementer, part), f"ARM implementer {implementer:#x} part {part:#x}")
