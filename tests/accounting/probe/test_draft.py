"""Drafts of whole machines: each loads as an inventory, and says what it guessed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.accounting.probe.machine import GIB_MB, Machine, Table, modules, xeon
from tests.fakes.curve import Curve
from tests.fakes.rig import RigNode
from tests.fakes.rig_child import ask_child
from tests.fakes.rig_gpu import ALL, FOREVER, Code, Delay, Fault, Mig, gpu

from jobimpact.cli.main import main
from jobimpact.core.errors import ConfigError
from jobimpact.impact.factors import load_factors
from jobimpact.impact.inventory import CpuParts, GpuParts, Inventory, NodeType, load_inventory
from jobimpact.impact.parts import parts_of
from jobimpact.probe.draft import quoted

V100, A100 = "Tesla V100-SXM2-32GB", "NVIDIA A100-SXM4-80GB"


def load(folder: Path, text: str) -> Inventory:
    file = folder / "nodes.yaml"
    file.write_text(text, encoding="utf-8")
    return load_inventory(file)


def loaded(folder: Path, text: str) -> NodeType:
    """The one type of a draft."""
    (found,) = load(folder, text).types.values()
    return found


def said(text: str, key: str) -> str:
    """A key's line and the comments that go before it."""
    lines = text.splitlines()
    at = next(number for number, line in enumerate(lines) if re.match(rf"[# ]*\b{key}: ", line))
    first = at
    while re.match(r"#? +# (?!\w+: (\.\.\.|0\.25))", lines[first - 1]):
        first -= 1
    return " ".join(line.strip(" #") for line in lines[first : at + 1])


def test_two_socket_xeon_with_gpus(tmp_path: Path) -> None:
    """Every part that the machine tells is in the entry, and its factors are known."""
    text = xeon(tmp_path).draft(*[V100] * 4, name="gpu01")
    inventory = load(tmp_path, text)
    found = inventory.type_of("gpu01")
    assert found is not None
    assert found.cpu == CpuParts(
        model="Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz", count=2, cores=20, threads_per_core=2
    )
    assert (found.ram_gb, found.ram_modules, found.psu, found.nic) == (384, 12, 2, 1)
    assert (found.gpus, found.ssd_gb, found.hdd_gb) == ([GpuParts(model=V100, count=4)], [480], [4000])
    assert "v100-sxm2-32gb-x4" in inventory.types
    assert parts_of(found, load_factors()).warnings == ()
    assert "CPUTot=80" in said(text, "cpu")
    assert "ib0/ib1/mlx5_0 at 0000:3b:00" in said(text, "nic")
    assert "of 2400, 2400 W" in said(text, "psu")
    assert "the firmware calls it a rack mount chassis" in said(text, "case")
    assert "on gpu01: Dell Inc. PowerEdge C4140" in text
    for key in ("purchased", "lifetime_years", "pue", "zone", "exclusive"):
        assert re.search(rf"^    # {key}: \.\.\.  # not found: ", text, re.MULTILINE), key


def test_the_page_shows_this_draft(tmp_path: Path) -> None:
    """What the documents show is what the program says."""
    page = (Path(__file__).parents[3] / "docs/admin/inventory-probe.md").read_text(encoding="utf-8")
    assert f"```\n{xeon(tmp_path).draft(*[V100] * 4, name='gpu01')}```" in page


def test_the_configured_number_of_cpus_says_what_the_scheduler_counts(tmp_path: Path) -> None:
    """As many CPUs as cores: the scheduler gives away cores; as threads: threads; another number is told."""
    machine = xeon(tmp_path)
    assert loaded(tmp_path, machine.draft(cpus=40)).cpu.threads_per_core == 1
    assert loaded(tmp_path, machine.draft(cpus=80)).cpu.threads_per_core == 2
    assert "not all of them" not in said(machine.draft(cpus=80), "cpu")
    assert "not all of them" in said(machine.draft(cpus=78), "cpu")


def test_apollo_like_epyc_with_multipath_nvme(tmp_path: Path) -> None:
    """Large modules by the extended size; a drive with two paths and two namespaces is one drive."""
    machine = Machine(tmp_path)
    machine.cpus(2, 64, 2, "AMD EPYC 7763 64-Core Processor")
    machine.memory(1_056_000_000)
    table = Table().system("HPE", "ProLiant XL675d Gen10 Plus").chassis(0x19)
    for _ in range(2):
        table.processor("Advanced Micro Devices, Inc.", "AMD EPYC 7763 64-Core Processor", 64, 128)
    modules(table, [64 * GIB_MB] * 16)
    for present in (True, True, True, True, False, False):
        table.supply(3000, present=present)
    machine.dmi(table.data)
    subsystem = "virtual/nvme-subsystem/nvme-subsys0"
    machine.disk("nvme0n1", 960, on=subsystem)
    machine.disk("nvme0n2", 960, on=subsystem)
    machine.write(machine.disk("nvme0c0n1", 960, on="pci0000:00/0000:41:00.0/nvme/nvme0") / "hidden", 1)
    for bus in range(8):
        machine.nvidia(f"0000:{bus + 1:02x}:00.0", "A100-SXM4-80GB")
    text = machine.draft(*[A100] * 8)
    found = loaded(tmp_path, text)
    assert (found.cpu.count, found.cpu.cores, found.ram_gb, found.ram_modules) == (2, 64, 1024, 16)
    assert (found.psu, found.gpus, found.case) == (4, [GpuParts(model=A100, count=8)], 1)
    assert len(found.ssd_gb) == 1
    assert 1900 < found.ssd_gb[0] < 1940
    assert "a multi-system chassis" in said(text, "case")
    assert "share them with other nodes?" in said(text, "psu")
    assert parts_of(found, load_factors()).warnings == ()


def test_grace_like_arm(tmp_path: Path) -> None:
    """No model name in cpuinfo: the firmware's; 144 cores by the kernel's topology."""
    machine = Machine(tmp_path)
    machine.cpus(2, 72, 1, words="CPU implementer\t: 0x41\nCPU part\t: 0xd4f")
    machine.memory(490_000_000)
    table = Table().system("NVIDIA", "Grace CPU P3880").chassis(0x17)
    for _ in range(2):
        table.processor("NVIDIA", "Grace A02", 72, 72)
    table.array().module(240 * GIB_MB, kind=0x23).module(240 * GIB_MB, kind=0x23)
    machine.dmi(table.data)
    found = loaded(tmp_path, machine.draft())
    assert found.cpu == CpuParts(model="NVIDIA Grace A02", count=2, cores=72)
    assert (found.ram_gb, found.ram_modules) == (480, 2)
    (machine.sys / "firmware/dmi/tables/DMI").unlink()
    text = machine.draft()
    assert loaded(tmp_path, text).cpu.model == "Arm Neoverse V2"
    assert "the design of its cores, not the product" in said(text, "cpu")


def test_virtual_machine_with_a_socket_for_each_cpu(tmp_path: Path) -> None:
    """It is one CPU, and everything says that the host is what counts."""
    machine = Machine(tmp_path)
    machine.cpus(128, 1, 1, "Intel(R) Xeon(R) Processor", words="flags\t\t: fpu hypervisor avx2")
    machine.memory(3_900_000)
    machine.write(machine.sys / "class/dmi/id/sys_vendor", "QEMU")
    machine.write(machine.sys / "class/dmi/id/product_name", "Standard PC (Q35 + ICH9, 2009)")
    machine.disk("vda", 40, 1, on="pci0000:00/0000:00:04.0/virtio1")
    text = machine.draft()
    found = loaded(tmp_path, text)
    assert (found.cpu.count, found.cpu.cores, found.ram_gb) == (1, 128, 4)
    assert "A VIRTUAL MACHINE: the firmware calls it QEMU Standard PC" in text
    assert "drafted as one CPU" in said(text, "cpu")
    assert "this name says no model" in said(text, "cpu")
    assert "guessed: virtual disks" in said(text, "hdd_gb")


def test_nothing_at_all_is_a_comment(tmp_path: Path) -> None:
    """Without CPU and memory there is no entry to be used unread: it is a comment, and each key says why."""
    text = Machine(tmp_path).draft(problem="NVML: NVML Shared Library Not Found")
    assert load(tmp_path, text).types == {}
    assert "NOT COMPLETE: fill in cpu, ram_gb" in text
    for key in ("cpu", "ram_gb", "gpus", "ssd_gb", "psu", "case", "nic", "purchased"):
        assert "not found: " in said(text, key), key
    assert "NVML Shared Library Not Found" in said(text, "gpus")
    bare = text.replace("types: {}", "types:").replace("\n#  ", "\n  ")
    with pytest.raises(ConfigError, match=r"types\.node\."):
        load(tmp_path, bare)
    filled = bare.replace('{model: "...", count: ..., cores: ...}', "{model: x, count: 1, cores: 2}")
    assert loaded(tmp_path, filled.replace("ram_gb: ...", "ram_gb: 8")).cpu.cores == 2


def test_unreadable_table_is_told(tmp_path: Path) -> None:
    """Modules, power supplies and cards say that root is needed, or that there is no table; memory is rounded up."""
    machine = xeon(tmp_path)
    (machine.sys / "firmware/dmi/tables/DMI").unlink()
    machine.write(machine.sys / "class/dmi/id/product_name", "PowerEdge C4140")
    text = machine.draft()
    found = loaded(tmp_path, text)
    assert (found.ram_gb, found.ram_modules) == (384, None)
    assert "rounded up from MemTotal, 376.6 GiB" in said(text, "ram_gb")
    for key in ("ram_modules", "psu", "nic"):
        assert "DMI is not there" in said(text, key), key
    assert "eno1/eno2 at 0000:04:00, ib0/ib1/mlx5_0 at 0000:3b:00: which of them are on the board?" in said(
        text, "nic"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_table_for_root_only_says_so(tmp_path: Path) -> None:
    """As kernels have it: 0400."""
    machine = xeon(tmp_path)
    (machine.sys / "firmware/dmi/tables/DMI").chmod(0)
    assert "may only be read by root: run this as root" in said(machine.draft(), "ram_modules")


def test_broken_lists_of_gpus_are_told(tmp_path: Path) -> None:
    """The bus counts: GPUs that NVML does not tell are missing, never silently fewer."""
    machine = xeon(tmp_path)
    text = machine.draft(V100, V100, V100, problem="GPU 2 is not counted: NVML: GPU is lost")
    assert loaded(tmp_path, text).gpus == [GpuParts(model=V100, count=3)]
    assert "GPU 2 is not counted" in said(text, "gpus")
    assert "the PCI bus has 4 of NVIDIA, of which 3 told their names" in said(text, "gpus")


def test_without_nvml_the_driver_names_gpus(tmp_path: Path) -> None:
    """/proc/driver/nvidia lists them, and the draft says whose names these are."""
    text = xeon(tmp_path).draft(problem="NVML: NVML Shared Library Not Found")
    assert loaded(tmp_path, text).gpus == [GpuParts(model=V100, count=4)]
    assert "the driver's names" in said(text, "gpus")


def test_amd_gpus_by_the_kernel(tmp_path: Path) -> None:
    """One a PCI device, however many partitions show; a card without a name shows its number."""
    machine = xeon(tmp_path)
    for number, address in enumerate(("0000:c1:00.0", "0000:c2:00.0", "0000:c3:00.0")):
        name = "AMD Instinct MI300X" if number < 2 else ""
        device = machine.pci(address, 0x1002, 0x120000, name)
        machine.write(device / "device", "0x74a1")
        for card in (number, number + 8):
            machine._link(machine.sys / f"class/drm/card{card}/device", device)
    text = machine.draft(*[V100] * 4)
    found = {one.model: one.count for one in loaded(tmp_path, text).gpus}
    assert found == {V100: 4, "AMD Instinct MI300X": 2, "AMD GPU 0x74a1": 1}
    assert "see `amd-smi static`" in said(text, "gpus")


HOSTILE = ["a: b", 'quo"te', "it's", "new\nline: 1", "nul\0s", "# no", "{x}", "[y", "&a", "*b", "!t", "%d", "@e", "`f"]
HOSTILE += ["yes", "null", "~", "1e5", "0x10", "2024-01-01", "- a", "? k", "| x", "> y", "\u2028z", "\x85", "\ufeff"]
HOSTILE += [
    "\U0001f600",
    "a\ttab",
    "<<",
    "=",
    "'",
    '"',
    "a #b",
    "a: #",
    "back\\slash",
    "\ud800",
    "\u202ereversed",
    "x" * 999,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(tmp_path: Path, name: str) -> None:
    """What a machine calls its parts adds no key, no line and no other type, wherever it appears."""
    text = called(tmp_path / "it", name)
    found, plain = loaded(tmp_path, text), loaded(tmp_path, called(tmp_path / "plain", "x"))
    assert [one for one in keys(found) if one not in keys(plain)] == []
    assert [one for one in keys(plain) if one not in keys(found)] == []
    assert len(found.gpus) in {1, 2}
    assert all(model == " ".join(model.split()) and model.isprintable() for model in [one.model for one in found.gpus])


def called(folder: Path, name: str) -> str:
    """The draft of a machine that calls all that it has so."""
    machine = xeon(folder)
    machine.cpus(2, 20, 2, name.replace("\n", " ").encode("utf-8", "replace").decode())
    machine.model(machine.sys / "block/sda", *[name.encode("utf-8", "replace").decode()] * 2)
    shown = name.encode("utf-8", "replace").decode()
    machine.dmi(modules(Table().system(shown, shown), [1024]).data)
    return machine.draft(name, f"GPU {name}", problem=name)


def keys(found: NodeType) -> list[str]:
    return [name for name in found.__struct_fields__ if getattr(found, name) not in (None, [])]


@given(st.text(max_size=60))
def test_quoted_text_is_read_as_it_was(text: str) -> None:
    """Any text without control characters comes back through YAML, on one line."""
    import yaml

    scalar = quoted(text)
    assert "\n" not in scalar
    read = yaml.safe_load(f"{{k: {scalar}, l: 1}}")
    assert read["l"] == 1
    assert isinstance(read["k"], str)
    if text.isprintable() and text == " ".join(text.split()):
        assert read["k"] == text


@given(st.binary(max_size=300), st.text(max_size=300), st.text(max_size=300))
def test_garbage_is_no_machine_and_no_crash(
    tmp_path_factory: pytest.TempPathFactory, dmi: bytes, cpuinfo: str, number: str
) -> None:
    """Whatever the files hold, the draft loads."""
    folder = tmp_path_factory.mktemp("garbage")
    machine = Machine(folder)
    machine.dmi(dmi)
    files = ("proc/cpuinfo", "proc/meminfo", "sys/class/dmi/id/chassis_type", "sys/devices/system/cpu/present")
    files += ("sys/devices/system/cpu/online", "sys/devices/system/cpu/cpu0/topology/physical_package_id")
    files += ("sys/devices/system/cpu/cpu0/topology/core_cpus_list", "sys/devices/system/edac/mc/mc0/dimm0/size")
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"processor: 0\nMemTotal: {number} kB\nmodel name: {cpuinfo}".encode("utf-8", "replace"))
    disk = machine.disk("sda", 480)
    for name in ("size", "queue/rotational", "removable", "wwid", "hidden"):
        machine.write(disk / name, number.encode("utf-8", "replace").decode())
    load(folder, machine.draft(cpuinfo, number))


@pytest.mark.usefixtures("compiled")
def test_nvml_names_gpus_and_not_their_mig_devices(tmp_path: Path) -> None:
    """The names are the driver's own; a lost GPU and a driver that hangs are told in time."""
    program = """
from jobimpact.probe.gpus import ask_nvml
told = ask_nvml(5)
out["names"], out["problems"] = told.names, told.problems
"""
    flat = Curve.flat(0, 0)
    mig = gpu("GPU-b", flat, 1, mig=True, instances=(Mig("MIG-1", 1, 3), Mig("MIG-2", 2, 3)))
    assert ask_child(tmp_path / "a", program, gpu("GPU-a", flat), mig) == {
        "names": ["NVIDIA A100-SXM4-40GB"] * 2,
        "problems": [],
    }
    lost = gpu("GPU-b", flat, 1, trouble=(Fault(Code.GPU_IS_LOST, 0, FOREVER, (ALL,)),))
    found = ask_child(tmp_path / "b", program, gpu("GPU-a", flat), lost)
    assert found["names"] == ["NVIDIA A100-SXM4-40GB"]
    assert "GPU 1 is not counted" in found["problems"][0]
    hung = [Delay(60_000, 0, FOREVER, (ALL,))]
    found = ask_child(tmp_path / "c", program.replace("(5)", "(0.3)"), gpu("GPU-a", flat), nvml_trouble=hung)
    assert found == {"names": [], "problems": ["NVML did not answer within 0.3 s: does `nvidia-smi -L`?"]}


@pytest.mark.usefixtures("compiled")
def test_the_command_drafts_this_node(tmp_path: Path) -> None:
    """`jobimpact inventory probe` on a node of the configuration's name and trees, with NVML's GPUs."""
    machine = xeon(tmp_path)
    rig = RigNode("r", tmp_path / "r", rapl={"package-0": Curve.flat(0, 1)}, gpus=[gpu("GPU-a", Curve.flat(0, 0))])
    config = tmp_path / "jobimpact.yaml"
    roots = {"name": "gpu07", "proc_root": str(machine.proc), "sys_root": str(machine.sys)}
    config.write_text(json.dumps({"node": roots}), encoding="utf-8")
    command = [sys.executable, "-c", "from jobimpact.cli.main import main; raise SystemExit(main())"]
    done = subprocess.run(
        [*command, "inventory", "probe", "--config", config],
        env={**os.environ, **rig.env, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = load(tmp_path, done.stdout).type_of("gpu07")
    assert found is not None
    assert found.gpus == [GpuParts(model="NVIDIA A100-SXM4-40GB", count=1)]
    assert done.stderr == ""


def test_the_command_needs_no_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where none is, this machine's own /proc and /sys are read; one that is given must be there."""
    monkeypatch.setenv("JOBIMPACT_CONFIG", str(tmp_path / "none.yaml"))
    assert main(["inventory", "probe"]) == 0
    load(tmp_path, capsys.readouterr().out)
    assert main(["inventory", "probe", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err
