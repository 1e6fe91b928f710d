"""Each part by each of its ways: firmware, kernel, and what both of them may get wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.accounting.probe.machine import GIB_MB, Machine, Table, modules, xeon_table

from jobimpact.probe.cpu import Cpus, find_cpus
from jobimpact.probe.disks import find_disks
from jobimpact.probe.gpus import Told, find_gpus
from jobimpact.probe.host import find_host
from jobimpact.probe.memory import Memory, find_memory
from jobimpact.probe.network import Network, find_network
from jobimpact.probe.smbios import Firmware, Processor, parse, read_firmware

GIB = 1 << 20
MODEL = "Intel(R) Core(TM) i9-13900"


def cpus(machine: Machine, firmware: Firmware | None = None, *, virtual: bool = False) -> Cpus:
    return find_cpus(machine.proc, machine.sys, firmware or Firmware(), virtual=virtual)


def memory(machine: Machine, firmware: Firmware | None = None) -> Memory:
    return find_memory(machine.proc, machine.sys, firmware or Firmware(reason="no table"))


def network(machine: Machine, *onboard: tuple[int, int, int]) -> Network:
    return find_network(machine.sys, Firmware(onboard=frozenset(onboard)), virtual=False)


def test_hybrid_cores_are_counted_once(tmp_path: Path) -> None:
    """8 cores with two threads and 16 with one are 24 cores, with one thread each, and it is said."""
    machine = Machine(tmp_path)
    machine.cpus(1, 32, 1, MODEL)
    for number in range(32):
        machine.topology(number, 0, number // 2 if number < 16 else number)
    found = cpus(machine)
    assert (found.count, found.cores, found.threads) == (1, 24, 1)
    assert "16 with 1, 8 with 2" in found.notes[0]


def test_offline_cpus_are_told(tmp_path: Path) -> None:
    """An offline CPU has no topology: those there are count, and the firmware's numbers stand beside them."""
    machine = Machine(tmp_path)
    machine.cpus(2, 4, 1, MODEL)
    for number in (6, 7):
        for file in (machine.sys / f"devices/system/cpu/cpu{number}/topology").iterdir():
            file.unlink()
    machine.write(machine.sys / "devices/system/cpu/present", "0-7")
    machine.write(machine.sys / "devices/system/cpu/online", "0-5")
    found = cpus(machine, Firmware(processors=(Processor(MODEL, 6, 6),) * 2))
    assert (found.count, found.cores) == (2, 4)
    assert [note.split(":")[0] for note in found.notes] == [
        "the sockets differ in cores",
        "2 of 8 CPUs are offline (threads switched off, or see `lscpu`)",
        "the kernel sees 2 sockets of 4 cores, the firmware 2 of 6",
    ]


@pytest.mark.parametrize("listed", ["0-999999999999", "x", "3-1,", "-", "0-7,,8"])
def test_lists_of_cpus_that_are_none_say_nothing(tmp_path: Path, listed: str) -> None:
    """They are neither counted out nor believed."""
    machine = Machine(tmp_path)
    machine.cpus(1, 4, 1, MODEL)
    machine.write(machine.sys / "devices/system/cpu/present", listed)
    machine.write(machine.sys / "devices/system/cpu/online", "0-3")
    assert cpus(machine) == Cpus(MODEL, 1, 4, 1)


def test_clusters_of_arm_are_no_sockets(tmp_path: Path) -> None:
    """Where the kernel has no socket numbers of x86, the firmware's sockets count."""
    machine = Machine(tmp_path)
    machine.cpus(8, 4, 1, words="CPU implementer\t: 0x41\nCPU part\t: 0xd0c")
    found = cpus(machine, Firmware(processors=(Processor("Ampere Altra", 32, 32),)))
    assert (found.model, found.count, found.cores) == ("Ampere Altra", 1, 32)


def test_cpuinfo_alone_is_enough(tmp_path: Path) -> None:
    """Sockets and cores of x86 stand in it; without them, each processor is a core, guessed."""
    machine = Machine(tmp_path)
    block = "processor: {}\nmodel name: {}\nphysical id: {}\ncore id: {}\n"
    machine.write(machine.proc / "cpuinfo", "\n".join(block.format(n, MODEL, n // 4, n % 2) for n in range(8)))
    assert cpus(machine) == Cpus(MODEL, 2, 2, 2)
    machine.cpus(1, 6, 1, MODEL, topology=False)
    found = cpus(machine)
    assert (found.count, found.cores, found.threads) == (1, 6, 1)
    assert "guessed" in found.notes[0]
    assert cpus(machine, Firmware(processors=(Processor(None, 3, 6),) * 2)).count == 2


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("AMD EPYC-Milan Processor", True), ("Intel(R) Xeon(R) CPU @ 2.20GHz", True), ("AMD EPYC 7763 64-Core", False)],
)
def test_names_without_a_model_are_told(tmp_path: Path, name: str, *, wanted: bool) -> None:
    """Hypervisors' names say no model; the firmware's does, where there is one."""
    machine = Machine(tmp_path)
    machine.cpus(1, 2, 1, name)
    assert bool(cpus(machine).model_notes) is wanted
    assert cpus(machine, Firmware(processors=(Processor(MODEL, 2, 2),))).model == (MODEL if wanted else name)


@pytest.mark.parametrize(
    ("total", "gib"),
    [
        (394_906_312, 384),
        (1_056_464_216, 1024),
        (65_660_000, 64),
        (263_800_000, 256),
        (197_000_000, 192),
        (1_584_000_000, 1536),
        (1_187_000_000, 1152),
        (16_200_000, 16),
        (3_900_000, 4),
        (50 * GIB - 10, 50),
        (1024 * GIB, 1024),
        (1, None),
    ],
)
def test_memory_is_rounded_up_to_what_is_sold(tmp_path: Path, total: int, gib: int | None) -> None:
    """From real machines' MemTotal; where no size is near, to the next GiB."""
    machine = Machine(tmp_path)
    machine.memory(total)
    found = memory(machine)
    assert (found.gib, found.modules) == (gib, None)
    assert found.notes[0].startswith("guessed" if gib else "what was found cannot be")


@given(st.integers(1, 1 << 45))
@example(1025)
def test_rounding_never_makes_memory_less_or_much_more(tmp_path_factory: pytest.TempPathFactory, total: int) -> None:
    """What the kernel has is there; at most a sixteenth or a GiB comes on top."""
    machine = Machine(tmp_path_factory.mktemp("memory"))
    machine.memory(total)
    gib = memory(machine).gib
    if gib is None:  # what no inventory takes
        assert total / GIB < 0.001 or total * 17 / 16 / GIB > 1e7
    else:
        assert total <= gib * GIB <= max(total * 17 / 16, total + GIB)


def test_edac_lists_modules_too(tmp_path: Path) -> None:
    """Where the table is not to be had; not where it misses half of the memory."""
    machine = Machine(tmp_path)
    machine.memory(257_000_000)
    for controller in range(2):
        for slot in range(8):
            folder = machine.sys / f"devices/system/edac/mc/mc{controller}/dimm{slot}"
            machine.write(folder / "size", 32 * GIB_MB if slot < 4 else 0)
    found = memory(machine)
    assert (found.gib, found.modules) == (256, 8)
    assert "EDAC" in found.notes[0]
    machine.memory(515_000_000)
    assert memory(machine).modules is None


def test_only_modules_of_the_systems_memory_count(tmp_path: Path) -> None:
    """Not flash, not persistent memory, not empty slots; small and large sizes have codes of their own."""
    made = modules(Table(), [16 * GIB_MB, 0, 64 * GIB_MB])
    made.module(128 * GIB_MB, technology=7).module(16, kind=9).module(0xFFFF)
    made.add(17, 0x28, {4: made._array.to_bytes(2, "little"), 0x0C: b"\0\x84"})
    made.add(17, 0x28, {4: made._array.to_bytes(2, "little"), 0x0C: b"\xff\xff"})
    made.array(use=5).module(32)
    found = parse(made.data)
    assert found.modules_kib == (16 * GIB, 64 * GIB, 0xFFFF * 1024, 1024)
    assert (found.persistent_kib, found.unsized_modules) == ((128 * GIB,), 1)
    notes = " ".join(memory(Machine(tmp_path), found).notes)
    assert "1 persistent modules, 128 GiB, are not counted" in notes
    assert "1 modules of unknown size" in notes


def test_modules_and_kernel_are_compared(tmp_path: Path) -> None:
    """A module that is off, and memory that no slot holds, are told."""
    machine = Machine(tmp_path)
    machine.memory(190 * GIB)
    firmware = Firmware(modules_kib=(32 * GIB,) * 8)
    assert "is a module off" in memory(machine, firmware).notes[0]
    machine.memory(590 * GIB)
    assert "on a superchip?" in memory(machine, firmware).notes[0]
    machine.memory(250 * GIB)
    assert memory(machine, firmware) == Memory(256, 8)


def test_empty_sockets_and_wide_counts() -> None:
    """A socket without a CPU is none; 255 cores and more stand in a field of their own."""
    made = Table().processor("AMD", "AMD EPYC 9965", 384, 768).processor("AMD", "x", 0, 0, populated=False)
    assert parse(made.data).processors == (Processor("AMD EPYC 9965", 384, 768),)


@pytest.mark.parametrize("text", ["To Be Filled By O.E.M.", "Default string", " ", "N/A", "System Product Name", "0"])
def test_placeholders_are_no_names(text: str) -> None:
    """Makers forget to fill in."""
    assert parse(Table().system(text, text).data) == Firmware(chassis=None)


def test_supplies_that_are_not_present_do_not_count() -> None:
    """Listed is not present; their watts are told where they are known."""
    found = parse(Table().supply(800).supply(0x8000).supply(750, present=False).data)
    assert (found.supplies_w, found.listed_supplies) == ((800, None), 3)


@given(st.data())
def test_any_damage_to_a_table_is_survived(data: st.DataObject) -> None:
    """Cut off, or with bytes changed: no crash, no loop, and never a part more than there are structures."""
    whole = bytearray(xeon_table())
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=8)):
        whole[at] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    found = parse(cut)
    assert len(found.modules_kib) + len(found.processors) + len(found.supplies_w) <= len(cut) / 6


def test_every_beginning_of_a_table_is_read() -> None:
    """The parts before the cut are those of the whole table."""
    whole = xeon_table()
    parts = parse(whole).modules_kib
    assert len(parts) == 12
    for end in range(len(whole)):
        found = parse(whole[:end]).modules_kib
        assert parts[: len(found)] == found


def test_what_is_no_disk_of_the_node_is_left_out_and_told(tmp_path: Path) -> None:
    """Virtual devices say nothing; USB, removable, remote and unclear drives are told."""
    machine = Machine(tmp_path)
    for name in ("loop0", "zram0", "dm-0", "md127", "ram3", "nbd0", "nvme9n9"):
        machine.bare("block", name)
    pci = "pci0000:00/0000:00:17.0"
    machine.disk("sr0", 4, 1)
    machine.disk("sda", 1920.0, 0)
    machine.disk("sdb", 16, 1, on=f"{pci}/usb3/3-1/host9")
    machine.write(machine.disk("sdc", 32, 1, on=f"{pci}/card") / "removable", 1)
    machine.disk("sdd", 8000, 1, on="platform/host3/session1/target3:0:0")
    machine.disk("sde", 8000, 1, on=f"{pci}/host4/rport-4:0-1/target4:0:0")
    machine.write(machine.disk("nvme1n1", 3840, on="nvme-fabrics/ctl/nvme1") / "device/transport", "tcp")
    machine.disk("sdf", 100, "", on=f"{pci}/odd")
    machine.write(machine.disk("sdg", 960, on=f"{pci}/none") / "size", 0)
    found = find_disks(machine.sys, virtual=False)
    assert (found.ssd_gb, found.hdd_gb) == ((1920,), ())
    assert [note.split(",")[0] for note in found.other] == ["nvme1", "sdb", "sdc", "sdd", "sde", "sdf"]


def test_drives_with_several_paths_are_one(tmp_path: Path) -> None:
    """By their world-wide name, unless the maker left it empty."""
    machine = Machine(tmp_path)
    for name, known in {"sda": "naa.5000c500a", "sdb": "naa.5000c500a", "sdc": "eui.0000", "sdd": "eui.0000"}.items():
        machine.write(machine.disk(name, 7680, on=f"pci0000:00/{name}") / "device/wwid", known)
    assert find_disks(machine.sys, virtual=False).ssd_gb == (7680, 7680, 7680)


@pytest.mark.parametrize("gb", [120, 240, 480, 960, 1600, 1920, 3840, 7680, 12000, 30720])
def test_sizes_are_as_sold(tmp_path: Path, gb: int) -> None:
    """A drive of 480 GB has 480.1 billion bytes."""
    machine = Machine(tmp_path)
    machine.disk("sda", gb)
    assert find_disks(machine.sys, virtual=False).ssd_gb == (gb,)


def test_volumes_of_raid_controllers_are_guesses(tmp_path: Path) -> None:
    """What the controller shows is not what is built in."""
    machine = Machine(tmp_path)
    machine.model(machine.disk("sda", 960), "DELL", "PERC H740P Mini")
    assert "list the drives behind it" in " ".join(find_disks(machine.sys, virtual=False).ssd_notes)


def test_cards_are_counted_by_pci_device(tmp_path: Path) -> None:
    """Ports of one card are one; virtual functions, USB and bridges are none."""
    machine = Machine(tmp_path)
    machine.port("eno1", "0000:04:00.0")
    for function in range(4):
        machine.port(f"ens1f{function}", f"0000:5e:00.{function}")
    (machine.port("ens1v0", "0000:5f:02.0") / "physfn").mkdir()
    machine.port("mlx5_0", "0000:c1:00.0", "infiniband")
    machine.port("usb0", "0000:00:14.0/usb1/1-1")
    machine.bare("net", "br0")
    assert network(machine, (0, 4, 0)).cards == 2
    assert network(machine).cards is None
    assert "which of them are on the board?" in network(machine).notes[0]


def test_only_the_board(tmp_path: Path) -> None:
    """No card is a number, too: 0, since the board's own are listed."""
    machine = Machine(tmp_path)
    machine.port("eno1", "0000:04:00.0")
    assert network(machine, (0, 4, 0)) == Network(
        0, ("guessed: none but those on the board; on the board: eno1 at 0000:04:00",)
    )
    assert find_network(machine.sys, Firmware(), virtual=True).cards is None


def test_gpus_of_intel_and_virtual_functions(tmp_path: Path) -> None:
    """A GPU that nobody names is told; one that is part of the CPU, or a slice of another, is none."""
    machine = Machine(tmp_path)
    machine.pci("0000:00:02.0", 0x8086, 0x030000)
    machine.pci("0000:29:00.0", 0x8086, 0x038000)
    (machine.pci("0000:29:00.1", 0x8086, 0x038000) / "physfn").mkdir()
    found = find_gpus(machine.proc, machine.sys, Told)
    assert (found.counts, found.problems) == ({}, ("the PCI bus has 1 of Intel, of which 0 told their names",))


def test_absurd_numbers_of_gpus_are_not_believed(tmp_path: Path) -> None:
    """An inventory takes 64 of a model."""
    machine = Machine(tmp_path)
    found = find_gpus(machine.proc, machine.sys, lambda: Told(["x"] * 65 + ["y"]))
    assert (found.counts, found.problems) == ({"y": 1}, ("65 of x cannot be",))


def test_a_board_without_firmware_tables_names_itself(tmp_path: Path) -> None:
    """A device tree ends its name with a NUL."""
    machine = Machine(tmp_path)
    machine.write(machine.sys / "firmware/devicetree/base/model", "NVIDIA Jetson AGX Orin Developer Kit\0")
    host = find_host(machine.proc, machine.sys, read_firmware(machine.sys))
    assert (host.name, host.virtual) == ("NVIDIA Jetson AGX Orin Developer Kit", None)


@pytest.mark.parametrize(
    ("vendor", "product", "virtual"),
    [
        ("Amazon EC2", "c6g.large", True),
        ("Amazon EC2", "c6g.metal", False),
        ("Microsoft Corporation", "Virtual Machine", True),
        ("QEMU", "QEMU Virtual Machine", True),
        ("Supermicro", "AS-4124GO-NART", False),
    ],
)
def test_virtual_machines_are_known_by_their_firmware(
    tmp_path: Path, vendor: str, product: str, *, virtual: bool
) -> None:
    """ARM's cpuinfo has no flag that says so."""
    machine = Machine(tmp_path)
    found = find_host(machine.proc, machine.sys, Firmware(vendor=vendor, product=product))
    assert (found.virtual is not None) is virtual


def test_folders_in_place_of_files_are_no_files(tmp_path: Path) -> None:
    """Whatever is odd about a tree is one more thing that is not found."""
    machine = Machine(tmp_path)
    for name in ("cpuinfo", "meminfo"):
        (machine.proc / name).mkdir()
    (machine.sys / "firmware/dmi/tables/DMI").mkdir(parents=True)
    (machine.sys / "block").mkdir()
    (machine.sys / "block/sda").symlink_to(machine.sys / "block/sda")
    machine.write(machine.sys / "class", "no folder")
    text = machine.draft()
    assert "Is a directory" in " ".join(text.replace("#", " ").split())  # lines break by the path
    assert "NOT COMPLETE" in text
