"""What the firmware says of the machine's parts: the SMBIOS table (DMTF DSP0134), which only root may read.

Firmware is sloppy: a table may be cut off, point nowhere, or hold placeholders. What does not fit is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from jobimpact.probe.files import clean, number, read_bytes, read_text

__all__ = ["Firmware", "Processor", "parse", "read_firmware"]

SYSTEM, CHASSIS, PROCESSOR, ARRAY, MODULE, SUPPLY, ONBOARD, END = 1, 3, 4, 16, 17, 39, 41, 127
_CPU, _POPULATED = 3, 1 << 6
_SYSTEM_MEMORY, _FLASH = 3, 9
_PERSISTENT = range(4, 8)
"""Memory technologies: NVDIMM-N, -F, -P, and Optane."""
_PRESENT = 1 << 1
_NETWORK = (5, 11)
"""On-board devices: Ethernet, wireless."""
_PLACEHOLDER = re.compile(
    r"(to be filled.*|default( string)?|not (specified|available|applicable|present|provided)|none|unknown|n/?a|empty"
    r"|o\.?e\.?m\.?|system (product name|manufacturer|version|serial number)|no (dimm|module).*|undefined|[0x .-]*)",
    re.IGNORECASE,
)


class Processor(Struct, frozen=True):
    """One populated socket; None: the firmware does not say."""

    name: str | None
    cores: int | None
    threads: int | None


class Firmware(Struct, frozen=True):
    """What the table lists. `reason`: why it cannot be read; all but product and chassis are then not known."""

    vendor: str | None = None
    product: str | None = None
    chassis: int | None = None
    processors: tuple[Processor, ...] = ()
    modules_kib: tuple[int, ...] = ()
    """Memory modules that are there."""
    unsized_modules: int = 0
    """Modules that are there, of a size that the firmware does not know."""
    persistent_kib: tuple[int, ...] = ()
    """Modules that keep their data without power; not among `modules_kib`."""
    supplies_w: tuple[int | None, ...] = ()
    """Power supplies that are present."""
    listed_supplies: int = 0
    """Power supplies that the table lists, present or not."""
    onboard: frozenset[tuple[int, int, int]] = frozenset()
    """PCI domain, bus and device of network controllers on the board."""
    reason: str | None = None


class _Entry(Struct, frozen=True):
    type: int
    handle: int
    body: bytes
    strings: tuple[bytes, ...]

    def number(self, offset: int, size: int = 1) -> int | None:
        """A little-endian number; None: the structure is too short to have it."""
        found = self.body[offset : offset + size]
        return int.from_bytes(found, "little") if len(found) == size else None

    def text(self, offset: int) -> str | None:
        """A string by its number in the structure; None: none, or a placeholder."""
        index = self.number(offset)
        if not index or index > len(self.strings):
            return None
        return _told(self.strings[index - 1].decode("utf-8", "replace"))


def read_firmware(sys_root: Path) -> Firmware:
    """Read the table; where it cannot be, what the kernel shows everybody of it (product and chassis)."""
    found = read_bytes(sys_root / "firmware/dmi/tables/DMI")
    if isinstance(found, bytes) and found:
        return parse(found)
    ids = sys_root / "class/dmi/id"
    tree = read_text(sys_root / "firmware/devicetree/base/model")
    return Firmware(
        vendor=_told(read_text(ids / "sys_vendor")),
        product=_told(read_text(ids / "product_name")) or _told(tree),
        chassis=number(ids / "chassis_type"),
        reason=found if isinstance(found, str) else f"{sys_root / 'firmware/dmi/tables/DMI'} is empty",
    )


def parse(data: bytes) -> Firmware:
    """What a table lists, up to its first structure that cannot be one."""
    entries = list(_entries(data))
    by_type: dict[int, list[_Entry]] = {}
    for entry in entries:
        by_type.setdefault(entry.type, []).append(entry)

    def of(type_: int) -> list[_Entry]:
        return by_type.get(type_, [])

    if not entries:
        return Firmware(reason="the firmware's table (DMI) holds nothing that can be read")
    use = {one.handle: one.number(0x05) for one in of(ARRAY)}
    modules = [one for one in of(MODULE) if use.get(one.number(0x04, 2) or 0, _SYSTEM_MEMORY) == _SYSTEM_MEMORY]
    sized = [(one, _kib(one)) for one in modules if one.number(0x12) != _FLASH]
    supplies = [one for one in of(SUPPLY) if (one.number(0x0E, 2) or 0) & _PRESENT]
    chassis = next((one.number(0x05) for one in of(CHASSIS)), None)
    return Firmware(
        vendor=next((one.text(0x04) for one in of(SYSTEM)), None),
        product=next((one.text(0x05) for one in of(SYSTEM)), None),
        chassis=None if chassis is None else chassis & 0x7F,
        processors=tuple(_processor(one) for one in of(PROCESSOR) if _is_cpu(one)),
        modules_kib=tuple(kib for one, kib in sized if kib and not _is_persistent(one)),
        unsized_modules=sum(kib is None for _, kib in sized),
        persistent_kib=tuple(kib for one, kib in sized if kib and _is_persistent(one)),
        supplies_w=tuple(_watts(one) for one in supplies),
        listed_supplies=len(of(SUPPLY)),
        onboard=frozenset(_places(of(ONBOARD))),
    )


def _entries(data: bytes) -> Iterator[_Entry]:
    """Each structure: a head of four bytes, its body, and its strings, which end with an empty one."""
    at = 0
    while at + 4 <= len(data):
        type_, length = data[at], data[at + 1]
        end = data.find(b"\0\0", at + length)
        if length < 4 or type_ == END or end < 0:
            return
        strings = tuple(data[at + length : end].split(b"\0"))
        yield _Entry(type_, int.from_bytes(data[at + 2 : at + 4], "little"), data[at : at + length], strings)
        at = end + 2


def _told(text: str | None) -> str | None:
    found = clean(text or "")
    return None if _PLACEHOLDER.fullmatch(found) else found


def _is_cpu(one: _Entry) -> bool:
    return one.number(0x05) == _CPU and bool((one.number(0x18) or 0) & _POPULATED)


def _processor(one: _Entry) -> Processor:
    maker, version = one.text(0x07), one.text(0x10)
    if maker and version and not version.lower().startswith(re.split(r"\W", maker.lower())[0]):
        version = f"{maker} {version}"
    return Processor(version, _count(one, 0x23, 0x2A), _count(one, 0x25, 0x2E))


def _count(one: _Entry, offset: int, wide: int) -> int | None:
    """A number of cores or threads: 255 means that it stands in the wider field; 0 is not known."""
    found = one.number(offset)
    if found == 0xFF:
        found = one.number(wide, 2) or found
    return None if found in {0, 0xFFFF} else found


def _kib(module: _Entry) -> int | None:
    """A module's size; 0: an empty slot; None: the firmware does not know."""
    size = module.number(0x0C, 2)
    if size == 0x7FFF:
        wide = module.number(0x1C, 4)
        return None if wide is None else (wide & 0x7FFFFFFF) * 1024
    if size is None or size == 0xFFFF:
        return None
    return size & 0x7FFF if size & 0x8000 else size * 1024


def _is_persistent(module: _Entry) -> bool:
    return module.number(0x28) in _PERSISTENT


def _watts(supply: _Entry) -> int | None:
    found = supply.number(0x0C, 2)
    return None if found in {0, 0x8000} else found


def _places(devices: list[_Entry]) -> Iterator[tuple[int, int, int]]:
    for one in devices:
        segment, bus, function = one.number(0x07, 2), one.number(0x09), one.number(0x0A)
        if (one.number(0x05) or 0) & 0x7F in _NETWORK and None not in {segment, bus, function}:
            yield segment or 0, bus or 0, (function or 0) >> 3
