"""What kind of machine this is: its name in the shop, its housing, and whether it is one at all."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

from jobimpact.probe.files import read_text
from jobimpact.probe.smbios import Firmware

__all__ = ["CHASSIS", "Host", "find_host"]

CHASSIS = {
    0x03: "a desktop",
    0x07: "a tower",
    0x11: "a main server chassis",
    0x17: "a rack mount chassis",
    0x19: "a multi-system chassis",
    0x1C: "a blade",
    0x1D: "a blade enclosure",
}
"""What SMBIOS calls the housing, of those that matter here."""
_VIRTUAL = re.compile(
    r"qemu|kvm|vmware|virtualbox|virtual machine|bochs|hvm domu|openstack|parallels|google compute engine|rhev|ovirt"
    r"|amazon ec2 (?!.*metal)|bhyve|nutanix ahv|proxmox|cloud hypervisor|firecracker",
    re.IGNORECASE,
)


class Host(Struct, frozen=True):
    """The machine as a whole; None: it does not say."""

    name: str | None
    """Vendor and product."""
    product: str | None
    chassis: int | None
    virtual: str | None = None
    """What says that this is a virtual machine."""


def find_host(proc_root: Path, sys_root: Path, firmware: Firmware) -> Host:
    """Ask the firmware, and the kernel whether it runs on a hypervisor."""
    vendor, product = firmware.vendor, firmware.product
    name = product if vendor and product and product.lower().startswith(vendor.lower()) else None
    name = name or " ".join(one for one in (vendor, product) if one) or None
    flags = re.search(r"^flags\s*:.*\bhypervisor\b", read_text(proc_root / "cpuinfo") or "", re.MULTILINE)
    guest = read_text(sys_root / "hypervisor/type")
    virtual = None
    if name and _VIRTUAL.search(name):
        virtual = f"the firmware calls it {name}"
    elif flags:
        virtual = "its CPU has the flag `hypervisor`"
    elif guest:
        virtual = f"the kernel names a hypervisor, {guest:.20}"
    return Host(name, product, firmware.chassis, virtual)
