"""GPUs: by NVML's names, else the NVIDIA driver's, AMD's by the kernel's; counted against the PCI bus."""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from jobimpact.probe.files import children, clean, number, pci_address, read_text, there

__all__ = ["Gpus", "Told", "ask_nvml", "find_gpus"]

DEADLINE_S = 10.0
"""A first call may load the driver; a hung driver never answers."""
MAX_OF_A_MODEL = 64
NVIDIA, AMD, INTEL = 0x10DE, 0x1002, 0x8086
_MAKERS = {NVIDIA: "NVIDIA", AMD: "AMD", INTEL: "Intel"}
_KINDS = {0x0300, 0x0302, 0x0380, 0x1200}
"""PCI classes: VGA, 3D and other display controllers, accelerators."""
_OF_INTEL = {0x0380}
"""Those that are VGA are part of the CPU."""


class Told(Struct):
    """What NVML answered: a name for each GPU, and what went wrong."""

    names: list[str] = []
    problems: list[str] = []


class Gpus(Struct, frozen=True):
    """GPUs by model; the notes say how they are known, and what is missing."""

    counts: dict[str, int]
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """Why there may be more than are counted."""


def ask_nvml(deadline_s: float = DEADLINE_S) -> Told:
    """The names of all NVIDIA GPUs, not of their MIG devices, asked on a thread that may hang with the driver."""
    told: list[Told] = []
    thread = threading.Thread(target=lambda: told.append(_names()), name="NVML", daemon=True)
    thread.start()
    thread.join(deadline_s)
    return told[0] if told else Told(problems=[f"NVML did not answer within {deadline_s:g} s: does `nvidia-smi -L`?"])


def _names() -> Told:
    try:
        import pynvml
    except ImportError as error:
        return Told(problems=[f"NVML cannot be asked: {error}"])
    told = Told()
    try:
        pynvml.nvmlInit()
        count = int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError as error:
        return Told(problems=[f"NVML: {error}"])
    for index in range(count):
        try:
            name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(index))
        except pynvml.NVMLError as error:
            told.problems.append(f"GPU {index} is not counted: NVML: {error}")
        else:
            told.names.append(name.decode("utf-8", "replace") if isinstance(name, bytes) else name)
    return told


def find_gpus(proc_root: Path, sys_root: Path, nvml: Callable[[], Told] = ask_nvml) -> Gpus:
    """Name and count the GPUs.

    Args:
        proc_root: where /proc is.
        sys_root: where /sys is.
        nvml: what asks NVML.
    """
    told = nvml()
    names, notes, problems = [name for one in told.names if (name := clean(one))], [], list(told.problems)
    if len(names) < len(told.names):
        problems.append(f"{len(told.names) - len(names)} GPUs have no name in NVML")
    listed = list(_by_driver(proc_root))
    if not names and listed:
        names = [name for name in listed if name]
        notes.append("the driver's names, not NVML's: compare with `nvidia-smi -L`, which says the memory as well")
    amd = list(_amd(sys_root))
    counts = Counter(names) + Counter(name for name in amd if name)
    if any("MI250" in name for name in counts):
        notes.append("one MI250 shows as two GPUs: the factors are of a whole card")
    if any(name.startswith(_NO_NAME) for name in counts):
        notes.append("only a number is told: see `amd-smi static`; take it out where it is part of the CPU")
    found = {NVIDIA: len(names), AMD: len(amd)}
    on_bus = _on_bus(sys_root)
    for vendor, shown in on_bus.items():
        named = found.get(vendor, 0)
        if shown > named:
            problems.append(f"the PCI bus has {shown} of {_MAKERS[vendor]}, of which {named} told their names")
    if not counts and not on_bus and there(sys_root / "bus/pci/devices"):
        problems.append("no GPU on the PCI bus")
    too_many = [name for name, count in counts.items() if count > MAX_OF_A_MODEL]
    problems += [f"{counts.pop(name)} of {name} cannot be" for name in too_many]
    return Gpus(dict(counts), tuple(notes), tuple(problems))


_NO_NAME = "AMD GPU 0x"


def _by_driver(proc_root: Path) -> Iterator[str | None]:
    for one in children(proc_root / "driver/nvidia/gpus"):
        found = re.search(r"^Model:\s*(.*)$", read_text(one / "information") or "", re.MULTILINE)
        name = clean(found[1]) if found else ""
        yield None if name in {"", "Unknown"} else name


def _amd(sys_root: Path) -> Iterator[str]:
    """One name a PCI device: partitions of a GPU have cards of their own."""
    seen = set()
    for card in children(sys_root / "class/drm", r"card\d+"):
        device = card / "device"
        place = os.path.realpath(device)
        if number(device / "vendor", 16) == AMD and place not in seen:
            seen.add(place)
            name = clean(read_text(device / "product_name") or "")
            yield name or f"{_NO_NAME}{number(device / 'device', 16) or 0:04x}"


def _on_bus(sys_root: Path) -> dict[int, int]:
    """How many GPUs the bus has by maker, virtual functions apart."""
    found: dict[int, set[object]] = {}
    for one in children(sys_root / "bus/pci/devices"):
        vendor, kind = number(one / "vendor", 16), (number(one / "class", 16) or 0) >> 8
        kinds = _OF_INTEL if vendor == INTEL else _KINDS
        if vendor in _MAKERS and kind in kinds and not there(one / "physfn"):
            found.setdefault(vendor, set()).add(pci_address(one) or one.name)
    return {vendor: len(places) for vendor, places in found.items()}
