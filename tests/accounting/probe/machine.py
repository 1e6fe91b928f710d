"""Trees of /proc and /sys as the kernel makes them, and SMBIOS tables as firmware does."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from jobimpact.core.config import Node
from jobimpact.probe.draft import draft
from jobimpact.probe.gpus import Told

GIB_MB = 1024


class Table:
    """An SMBIOS table, structure by structure."""

    def __init__(self) -> None:
        self._entries: list[bytes] = []

    @property
    def data(self) -> bytes:
        return b"".join([*self._entries, b"\x7f\x04\xff\xfe\0\0"])

    def add(self, type_: int, length: int, fields: dict[int, bytes], *strings: str) -> Table:
        """One structure: its fields by offset; its handle is its number, from 256 on."""
        body = bytearray(length)
        body[:4] = bytes([type_, length]) + (256 + len(self._entries)).to_bytes(2, "little")
        for offset, value in fields.items():
            body[offset : offset + len(value)] = value
        text = b"".join(one.encode() + b"\0" for one in strings) or b"\0"
        self._entries.append(bytes(body) + text + b"\0")
        return self

    def system(self, vendor: str, product: str) -> Table:
        return self.add(1, 0x1B, {4: b"\1\2"}, vendor, product)

    def chassis(self, kind: int) -> Table:
        return self.add(3, 0x16, {5: bytes([kind | 0x80])})

    def processor(self, maker: str, name: str, cores: int, threads: int, *, populated: bool = True) -> Table:
        fields = {5: b"\3", 7: b"\1", 0x10: b"\2", 0x18: bytes([0x41 if populated else 0])}
        for offset, wide, value in ((0x23, 0x2A, cores), (0x25, 0x2E, threads)):
            fields |= {offset: bytes([min(value, 255)]), wide: value.to_bytes(2, "little")}
        return self.add(4, 0x30, fields, maker, name)

    def array(self, use: int = 3) -> Table:
        """What the modules after it belong to: 3 is the system's memory."""
        self._array = 256 + len(self._entries)
        return self.add(16, 0x17, {5: bytes([use])})

    def module(self, mb: int, *, technology: int = 3, kind: int = 0x1A) -> Table:
        """A slot; 0 is empty."""
        size = mb.to_bytes(2, "little") if mb < 0x7FFF else b"\xff\x7f"
        fields = {4: self._array.to_bytes(2, "little"), 0x0C: size, 0x12: bytes([kind])}
        fields |= {0x1C: mb.to_bytes(4, "little"), 0x28: bytes([technology])}
        return self.add(17, 0x54, fields, "DIMM")

    def supply(self, watts: int, *, present: bool = True) -> Table:
        return self.add(39, 0x16, {0x0C: watts.to_bytes(2, "little"), 0x0E: bytes([2 if present else 0, 0])})

    def onboard(self, address: str, kind: int = 5) -> Table:
        domain, bus, rest = address.split(":")
        function = int(rest[:2], 16) << 3 | int(rest[3])
        place = int(domain, 16).to_bytes(2, "little") + bytes([int(bus, 16), function])
        return self.add(41, 0x0B, {5: bytes([kind | 0x80]), 7: place}, "NIC")


class Machine:
    """A machine in a folder: nothing is there until it is put there."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.sys = folder / "proc", folder / "sys"
        self.proc.mkdir(parents=True)
        self.sys.mkdir()

    def write(self, path: Path, text: str | int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8")

    def cpus(
        self, sockets: int, cores: int, threads: int, model: str = "", *, words: str = "", topology: bool = True
    ) -> None:
        """CPUs numbered as Linux does: all first threads, then all second ones; `words` is more of each block."""
        blocks = []
        for number in range(sockets * cores * threads):
            socket, core = divmod(number % (sockets * cores), cores)
            lines = [f"processor\t: {number}", f"model name\t: {model}"] if model else [f"processor\t: {number}"]
            if model and topology:
                lines += [f"physical id\t: {socket}", f"core id\t\t: {core}"]
            blocks.append("\n".join([*lines, words, ""]))
            if topology:
                self.topology(number, socket, number % (sockets * cores))
        self.write(self.proc / "cpuinfo", "\n".join(blocks))

    def topology(self, number: int, socket: int, core: int) -> None:
        folder = self.sys / f"devices/system/cpu/cpu{number}/topology"
        self.write(folder / "physical_package_id", socket)
        self.write(folder / "core_cpus_list", core)

    def memory(self, kib: int) -> None:
        self.write(self.proc / "meminfo", f"MemTotal:       {kib} kB\nMemFree:        1 kB")

    def dmi(self, data: bytes) -> None:
        file = self.sys / "firmware/dmi/tables/DMI"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def disk(
        self, name: str, gb: float, rotational: int | str = 0, *, on: str = "pci0000:00/0000:00:17.0/ata1"
    ) -> Path:
        """A drive; gives its folder."""
        device = self.sys / "devices" / on
        real = device / "block" / name
        self.write(real / "size", round(97_696_368 + 1_953_504 * (gb - 50)))
        self.write(real / "queue/rotational", rotational)
        self._link(real / "device", device)
        self._link(self.sys / "block" / name, real)
        return real

    def model(self, disk: Path, vendor: str, model: str) -> None:
        self.write(disk / "device/vendor", vendor)
        self.write(disk / "device/model", model)

    def port(self, name: str, address: str, kind: str = "net") -> Path:
        """A network card's port; gives its PCI device."""
        device = self.sys / f"devices/pci0000:00/{address}"
        self._link(device / kind / name / "device", device)
        self._link(self.sys / "class" / kind / name, device / kind / name)
        return device

    def bare(self, group: str, name: str) -> None:
        """A device of the kernel's own making, as `lo` and `loop0` are."""
        real = self.sys / f"devices/virtual/{group}/{name}"
        real.mkdir(parents=True)
        self._link(self.sys / ("block" if group == "block" else f"class/{group}") / name, real)

    def pci(self, address: str, vendor: int, kind: int, product: str | None = None) -> Path:
        device = self.sys / f"devices/pci0000:00/{address}"
        self.write(device / "vendor", f"{vendor:#06x}")
        self.write(device / "class", f"{kind:#08x}")
        if product is not None:
            self.write(device / "product_name", product)
        self._link(self.sys / "bus/pci/devices" / address, device)
        return device

    def nvidia(self, address: str, model: str) -> None:
        self.pci(address, 0x10DE, 0x030200)
        self.write(self.proc / f"driver/nvidia/gpus/{address}/information", f"Model: \t\t {model}\nIRQ: 1")

    def draft(self, *gpus: str, problem: str | None = None, name: str = "n1", cpus: int | None = None) -> str:
        """What the probe says; NVML tells these GPUs."""
        node = Node(name=name, cpus=cpus, proc_root=str(self.proc), sys_root=str(self.sys))
        return draft(node, lambda: Told(list(gpus), [problem] if problem else []))

    def _link(self, link: Path, target: Path) -> None:
        link.parent.mkdir(parents=True, exist_ok=True)
        target.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)


def modules(table: Table, sizes_mb: Iterable[int]) -> Table:
    table.array()
    for size in sizes_mb:
        table.module(size)
    return table


def xeon_table() -> bytes:
    """The firmware's words on `xeon`."""
    table = Table().system("Dell Inc.", "PowerEdge C4140").chassis(0x17)
    for _ in range(2):
        table.processor("Intel", "Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz", 20, 40)
    modules(table, [32 * GIB_MB, 0] * 12)
    table.supply(2400).supply(2400).onboard("0000:04:00.0").onboard("0000:04:00.1").onboard("0000:03:00.0", 3)
    return table.data


def xeon(folder: Path) -> Machine:
    """Two sockets, 12 of 24 slots filled, four GPUs, two on-board ports and an add-in card of two."""
    machine = Machine(folder)
    machine.cpus(2, 20, 2, "Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz")
    machine.memory(394_906_312)
    machine.dmi(xeon_table())
    for bus in ("1a", "1c", "1d", "1e"):
        machine.nvidia(f"0000:{bus}:00.0", "Tesla V100-SXM2-32GB")
    machine.model(machine.disk("sda", 480), "ATA", "SSDSC2KB480G8R")
    machine.disk("sdb", 4000, 1, on="pci0000:00/0000:00:17.0/ata2")
    machine.bare("block", "loop0")
    for name, address in {"eno1": "04:00.0", "eno2": "04:00.1", "ib0": "3b:00.0", "ib1": "3b:00.1"}.items():
        machine.port(name, f"0000:{address}")
    machine.port("mlx5_0", "0000:3b:00.0", "infiniband")
    machine.bare("net", "lo")
    return machine
