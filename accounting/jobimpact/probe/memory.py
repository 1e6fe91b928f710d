"""Memory: by the firmware's table, else EDAC, else what the kernel may use of it, rounded up."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

from jobimpact.probe.files import children, number, read_text
from jobimpact.probe.smbios import Firmware

__all__ = ["Memory", "find_memory"]

MIB, GIB = 1 << 10, 1 << 20
"""In KiB."""
MIN_GIB, MAX_GIB = 0.001, 1e7
MAX_MODULES = 4096
_STEPS = (8, 9, 12)
"""Installed sizes are these times a power of two: 1, 2, 4, 8 modules, 3, 6, 12, and 9 for 12 modules of 48 or 96."""
_HIDDEN = 1 / 16
"""The kernel and firmware keep less than this of the memory for themselves."""


class Memory(Struct, frozen=True):
    """GiB and modules installed, None where not known; the notes say why, or what is doubtful."""

    gib: float | None = None
    modules: int | None = None
    notes: tuple[str, ...] = ()
    module_notes: tuple[str, ...] = ()


def find_memory(proc_root: Path, sys_root: Path, firmware: Firmware) -> Memory:
    """Add up the modules; where none are told, take the kernel's total."""
    total = _mem_total(proc_root)
    found = _by_firmware(firmware, total) or _by_edac(sys_root, total, firmware) or _by_kernel(total, firmware)
    if found.gib is not None and not MIN_GIB <= found.gib <= MAX_GIB:
        return Memory(notes=(f"what was found cannot be: {found.gib:g} GiB",))
    return found


def _mem_total(proc_root: Path) -> int | None:
    """In KiB."""
    found = re.search(r"^MemTotal:\s*(\d{1,18}) kB", read_text(proc_root / "meminfo") or "", re.MULTILINE)
    return int(found[1]) if found and int(found[1]) else None


def _by_firmware(firmware: Firmware, total: int | None) -> Memory | None:
    sizes = firmware.modules_kib
    if not sizes or len(sizes) > MAX_MODULES:
        return None
    notes = []
    if total is not None and total > sum(sizes) * (1 + _HIDDEN):
        notes.append(
            f"the firmware lists {_gib(sum(sizes))} GiB, the kernel has {_gib(total)}: a GPU's on a superchip?"
        )
    elif total is not None and total < sum(sizes) * (1 - 2 * _HIDDEN):
        notes.append(f"the kernel has {_gib(total)} GiB of it: is a module off, mirrored, or kept for something else?")
    if firmware.persistent_kib:
        size = _gib(sum(firmware.persistent_kib))
        notes.append(f"{len(firmware.persistent_kib)} persistent modules, {size} GiB, are not counted")
    if firmware.unsized_modules:
        notes.append(f"{firmware.unsized_modules} modules of unknown size are not counted")
    return Memory(sum(sizes) / GIB, len(sizes), tuple(notes))


def _by_edac(sys_root: Path, total: int | None, firmware: Firmware) -> Memory | None:
    """The memory controllers' drivers list modules as well; where they miss some, they are not believed."""
    controllers = children(sys_root / "devices/system/edac/mc", r"mc\d+")
    sizes = [number(dimm / "size") or 0 for one in controllers for dimm in children(one, r"dimm\d+")]
    sizes = [size for size in sizes if size > 0]
    if not sizes or len(sizes) > MAX_MODULES or (total is not None and total > sum(sizes) * MIB * (1 + _HIDDEN)):
        return None
    note = f"by EDAC, the memory controllers' driver, as {_why(firmware)}"
    return Memory(sum(sizes) * MIB / GIB, len(sizes), (note,))


def _by_kernel(total: int | None, firmware: Firmware) -> Memory:
    why = _why(firmware)
    if total is None:
        return Memory(notes=(f"{why}, and /proc/meminfo tells no MemTotal",), module_notes=(why,))
    installed = _installed(total)
    how = f"rounded up from MemTotal, {_gib(total)} GiB" if installed > total else f"MemTotal, {_gib(total)} GiB"
    return Memory(installed / GIB, None, (f"guessed: {how}: {why}",), (why,))


def _installed(total: int) -> int:
    """The next likely size, if it is near; else the next GiB."""
    power = max(total.bit_length() - 4, 0)
    likely = min(size for step in _STEPS for up in (0, 1) if (size := step << power + up) >= total)
    room = max(total * _HIDDEN, GIB / 2)
    return likely if likely - total <= room else -(-total // GIB) * GIB


def _why(firmware: Firmware) -> str:
    return firmware.reason or "the firmware lists no memory modules"


def _gib(kib: int) -> str:
    return f"{kib / GIB:.1f}".removesuffix(".0")
