"""Network cards: controllers by PCI device, told apart from those on the board where the firmware lists these."""

from __future__ import annotations

import os
import re
from pathlib import Path

from msgspec import Struct

from jobimpact.probe.files import children, pci_address, there
from jobimpact.probe.smbios import Firmware

__all__ = ["Network", "find_network"]

Place = tuple[int, int, int]


class Network(Struct, frozen=True):
    """Cards beyond the board's own; None: which are on the board cannot be told."""

    cards: int | None
    notes: tuple[str, ...] = ()


def find_network(sys_root: Path, firmware: Firmware, *, virtual: bool) -> Network:
    """Count cards: ports of one PCI device are one, and virtual functions, USB and hypervisors' cards are none."""
    nets = sys_root / "class/net"
    if not there(nets):
        return Network(None, (f"{nets} is not there",))
    ports: dict[Place, list[str]] = {}
    # A port of InfiniBand has no network interface until IPoIB is set up.
    for port in (*children(nets), *children(sys_root / "class/infiniband")):
        device = port / "device"
        place = pci_address(device) if there(device) else None
        on_usb = re.search(r"/usb\d", os.path.realpath(device))
        if place is not None and not on_usb and not there(device / "physfn"):
            ports.setdefault(place, []).append(port.name)
    if virtual:
        return Network(None, ("in a virtual machine: the host's cards are not seen",))
    if not ports:
        return Network(None, ("no network card on the PCI bus: in a container only its own are seen",))
    board = {place: names for place, names in ports.items() if place in firmware.onboard}
    cards = {place: names for place, names in ports.items() if place not in firmware.onboard}
    if not firmware.onboard:
        why = firmware.reason or "the firmware does not list what is on the board"
        return Network(None, (f"{_told(ports)}: which of them are on the board? {why}",))
    told = f"add-in: {_told(cards)}" if cards else "none but those on the board"
    return Network(len(cards), (f"guessed: {told}" + (f"; on the board: {_told(board)}" if board else ""),))


def _told(ports: dict[Place, list[str]]) -> str:
    shown = (f"{'/'.join(sorted(names))} at {d:04x}:{b:02x}:{f:02x}" for (d, b, f), names in sorted(ports.items()))
    return ", ".join(shown)
