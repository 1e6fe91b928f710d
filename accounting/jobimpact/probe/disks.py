"""Disks: what /sys/block lists and this machine holds, each drive once, by the size it was sold as."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from jobimpact.probe.files import children, clean, number, read_text, there

__all__ = ["Disks", "find_disks"]

SECTOR = 512
"""Bytes: the unit of `size`, whatever the drive's own."""
_NO_DRIVE = re.compile(
    r"(loop|ram|zram|dm-|md|sr|nbd|fd|zd|rbd|drbd|bcache|pmem)\d.*|nvme\d+c\d+n\d+|mmcblk\d+(boot|rpmb).*"
)
_NAMESPACE = re.compile(r"(nvme\d+)n\d+")
_NO_NAME = re.compile(r"(\w+\.)?[0-]*")
"""A world-wide name that the maker left empty."""
_RAID = re.compile(r"perc|megaraid|\bmr\d{4}|logical volume|raid|avago|broadcom|lsi\b", re.IGNORECASE)
_ELSEWHERE = re.compile(r"/(session|rport-)\d+")
"""iSCSI and Fibre Channel, in the path of the device."""
_NETWORKED = {"rdma", "tcp", "fc", "loop"}
"""Transports of NVMe over a network."""
# LBA1-02 of IDEMA: how many sectors a drive sold as so many GB has.
_LBA_AT_50, _LBA_PER_GB = 97_696_368, 1_953_504


class Disks(Struct, frozen=True):
    """Sizes in decimal GB, and what is doubtful about them."""

    ssd_gb: tuple[int, ...] = ()
    hdd_gb: tuple[int, ...] = ()
    ssd_notes: tuple[str, ...] = ()
    hdd_notes: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    """Drives that are not counted, and why."""
    reason: str | None = None
    """Why nothing could be looked at."""


class _Drive(Struct):
    name: str
    sectors: int
    rotational: int | None
    model: str
    why_not: str | None


def find_disks(sys_root: Path, *, virtual: bool) -> Disks:
    """List the drives; USB, removable and remote ones are not the node's."""
    if not there(sys_root / "block"):
        return Disks(reason=f"{sys_root / 'block'} is not there")
    drives = list(_drives(sys_root / "block"))
    inside = [one for one in drives if one.why_not is None]
    ssd, hdd = ([one for one in inside if one.rotational == kind] for kind in (0, 1))
    return Disks(
        ssd_gb=tuple(map(_gb, ssd)),
        hdd_gb=tuple(map(_gb, hdd)),
        ssd_notes=tuple(_notes(ssd, virtual=virtual)),
        hdd_notes=tuple(_notes(hdd, virtual=virtual)),
        other=tuple(f"{one.name}, {_label(one)}: {one.why_not}" for one in drives if one.why_not),
    )


def _drives(block: Path) -> Iterator[_Drive]:
    """Each drive once: by its world-wide name if it has several paths, its namespaces together."""
    seen: set[str] = set()
    whole: dict[str, _Drive] = {}
    for path in children(block):
        sectors = number(path / "size") or 0
        known = _world_wide(path)
        if _NO_DRIVE.fullmatch(path.name) or not there(path / "device") or number(path / "hidden") == 1:
            continue
        if sectors <= 0 or known in seen:
            continue
        seen |= {known} if known else set()
        named = _NAMESPACE.fullmatch(path.name)
        name = named[1] if named else path.name
        if name in whole:
            whole[name].sectors += sectors
        else:
            whole[name] = _drive(path, name, sectors)
    yield from whole.values()


def _world_wide(path: Path) -> str | None:
    found = read_text(path / "wwid") or read_text(path / "device/wwid")
    return None if found is None or _NO_NAME.fullmatch(found) else found


def _drive(path: Path, name: str, sectors: int) -> _Drive:
    words = (read_text(path / "device" / word) for word in ("vendor", "model"))
    rotational = number(path / "queue/rotational")
    why_not = _why_not(path)
    if why_not is None and rotational not in {0, 1}:
        why_not = "it does not say whether it is an SSD: `lsblk -d -o NAME,ROTA,SIZE,MODEL`"
    return _Drive(
        name, sectors, rotational, clean(" ".join(one for one in words if one and not one.startswith("0x"))), why_not
    )


def _why_not(path: Path) -> str | None:
    place = os.path.realpath(path / "device") + "\n" + os.path.realpath(path)
    device = path / "device"
    transports = {read_text(one / "transport") for one in (device, *children(device, r"nvme\d+"))}
    if number(path / "removable") == 1:
        return "removable"
    if re.search(r"/usb\d", place):
        return "on USB"
    if _ELSEWHERE.search(place) or transports & _NETWORKED:
        return "over a network: count it where it stands, under `shared`"
    return None


def _gb(drive: _Drive) -> int:
    """Decimal GB as sold, where the number of sectors is the standard's for a whole number of them."""
    sold = 50 + (drive.sectors - _LBA_AT_50) / _LBA_PER_GB
    if sold > 1 and abs(sold - round(sold)) < 0.01:
        return round(sold)
    return max(round(drive.sectors * SECTOR / 1e9), 1)


def _label(drive: _Drive) -> str:
    return f"{_gb(drive)} GB" + (f" {drive.model}" if drive.model else "")


def _notes(drives: list[_Drive], *, virtual: bool) -> Iterator[str]:
    if not drives:
        return
    yield ", ".join(f"{one.name} {one.model}".strip() for one in drives)
    if virtual:
        yield "guessed: virtual disks: what they lie on is the host's"
    for one in drives:
        if _RAID.search(one.model):
            yield f"guessed: {one.name} looks like a volume of a RAID controller: list the drives behind it instead"
