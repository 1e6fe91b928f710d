"""hwmon on trees as Grace, Jetson boards and ACPI servers show them, and with every way in which a file can fail."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fakes.trees import EIO, holds_without_permission, write_tree

from jobimpact.core.clock import SystemClock
from jobimpact.core.records import Absent, Counter, Domain, Failed, Gauge
from jobimpact.core.units import NS
from jobimpact_daemon.sources.hwmon import Hwmon
from jobimpact_daemon.sources.poller import Poller


def acpi(number: int, label: str | None, watts: float, below: str = "device/") -> dict[str, object]:
    """An ACPI power meter: `below` is where the kernel puts its files."""
    base = f"hwmon{number}/{below}"
    files: dict[str, object] = {f"{base}name": "power_meter", f"{base}power1_average": round(watts * 1e6)}
    files |= {f"{base}power1_average_interval": 50, f"{base}power1_is_battery": 0}
    return files if label is None else files | {f"{base}power1_oem_info": label}


def ina3221(number: int, rails: dict[str, tuple[int, int]]) -> dict[str, object]:
    """A Jetson's sensor: by rail its mV and mA; channel 7 adds up shunt voltages in uV."""
    base = f"hwmon{number}"
    files: dict[str, object] = {f"{base}/name": "ina3221", f"{base}/update_interval": 2}
    for channel, (label, (mv, ma)) in enumerate(rails.items(), 1):
        files |= {f"{base}/in{channel}_label": label, f"{base}/in{channel}_input": mv}
        files |= {f"{base}/curr{channel}_input": ma, f"{base}/in{channel}_enable": 1}
    return files | {f"{base}/in7_label": "sum of shunt voltages", f"{base}/in7_input": 9_000_000}


GRACE_HOPPER = (
    {"hwmon0/name": "nvme", "hwmon0/temp1_input": 40_000}
    | acpi(1, "Module Power Socket 0", 600)
    | acpi(2, "Grace Power Socket 0", 180.5)
    | acpi(3, "CPU Power Socket 0", 120)
    | acpi(4, "SysIO Power Socket 0", 20)
)
ORIN_NX = ina3221(1, {"VDD_IN": (5000, 2400), "VDD_CPU_GPU_CV": (5000, 900), "VDD_SOC": (5000, 700)})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty hwmon tree."""
    (tmp_path / "hwmon").mkdir()
    return tmp_path / "hwmon"


def watts(root: Path) -> dict[str, float]:
    """What a new source reads there, in watts."""
    source = Hwmon(root)
    source.discover()
    found = {name: reading.w for name, reading in source.poll().items() if isinstance(reading, Gauge)}
    source.close()
    return found


def test_grace_is_its_sockets_and_nothing_twice(root: Path) -> None:
    """The module has the GPU in it, the CPU rail and SysIO are inside the Grace socket: one domain for each socket."""
    averages = {"hwmon2/device/power1_average_interval": 250, "hwmon7/power1_average_interval": 50}
    write_tree(root, GRACE_HOPPER | acpi(7, "Grace Power Socket 1", 90, below="") | acpi(9, "CPU Power Socket 1", 60))
    write_tree(root, averages)
    source = Hwmon(root)
    assert source.discover() == [
        Domain("package-0", "cpu", "hwmon", "gauge", latency_s=0.25),
        Domain("package-1", "cpu", "hwmon", "gauge", latency_s=0.1),
    ]
    assert source.poll() == {"package-0": Gauge(180.5), "package-1": Gauge(90.0)}
    assert source.problem is None
    source.close()


def test_a_socket_without_its_own_meter_is_its_cpu_rail_and_a_module_is_nothing(root: Path) -> None:
    """Less than the socket is better than the GPU charged to the CPU."""
    write_tree(root, acpi(0, "Module Power Socket 0", 600) | acpi(1, "SysIO Power Socket 0", 20))
    assert watts(root) == {}
    write_tree(root, acpi(2, "CPU Power Socket 0", 120))
    assert watts(root) == {"package-0": 120.0}


@pytest.mark.parametrize("label", [None, "", "Intel(R) Node Manager"])
def test_a_plain_acpi_meter_is_the_node(root: Path, label: str | None) -> None:
    """It names no socket: it is what the machine's firmware offers as the machine's power."""
    write_tree(root, acpi(3, label, 412.25) | {"hwmon0/name": "coretemp", "hwmon0/power1_average": 1})
    assert watts(root) == {"node": 412.25}


def test_two_plain_meters_and_a_battery_are_not_guessed(root: Path) -> None:
    """Which of two is the node nobody knows, and their sum could be twice the node; a battery is no load."""
    write_tree(root, acpi(0, "A", 100) | acpi(1, "B", 100))
    source = Hwmon(root)
    assert source.discover() == []
    assert (
        source.problem
        == f"{root}: hwmon0, hwmon1: which of these power meters is the node's is not known: none is used"
    )
    write_tree(root, {"hwmon1/device/power1_is_battery": 1})
    assert watts(root) == {"node": 100.0}


def test_grace_without_the_modules_option_says_what_to_do(root: Path) -> None:
    """The kernel hides the readings until the driver is told to show them."""
    write_tree(root, GRACE_HOPPER)
    (root / "hwmon2" / "device" / "power1_average").unlink()
    (root / "hwmon3" / "device" / "power1_average").unlink()
    source = Hwmon(root)
    assert source.discover() == []
    assert "hwmon2 (Grace Power Socket 0) has no power1_average (load acpi_power_meter with force_cap_on=y)" in str(
        source.problem
    )


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (ORIN_NX, 12.0),
        (ina3221(0, {"POM_5V_IN": (5000, 500), "POM_5V_GPU": (5000, 20), "POM_5V_CPU": (5000, 100)}), 2.5),
        (
            ina3221(0, {"VDD_SYS_GPU": (19000, 100), "VDD_SYS_SOC": (19000, 50), "VDD_4V0_WIFI": (19000, 1)})
            | ina3221(1, {"VDD_IN": (19000, 400), "VDD_SYS_CPU": (19000, 60), "VDD_SYS_DDR": (19000, 60)}),
            7.6,
        ),
        (
            ina3221(0, {"VDD_GPU_SOC": (20000, 300), "VDD_CPU_CV": (20000, 100), "VIN_SYS_5V0": (5000, 800)})
            | ina3221(1, {"NC": (0, 0), "VDDQ_VDD2_1V8AO": (5000, 200)}),
            12.0,
        ),
        (
            ina3221(0, {"GPU": (19000, 100), "CPU": (19000, 100), "SOC": (19000, 100)})
            | ina3221(1, {"CV": (19000, 0), "VDDRQ": (19000, 100), "SYS5V": (5000, 200)}),
            8.6,
        ),
        (
            ina3221(0, {"VDD_GPU": (20000, 100), "VDD_CPU_SOC_MSS": (20000, 100), "VIN_SYS_5V0": (5000, 100)})
            | {"hwmon1/name": "ina238", "hwmon1/power1_input": 43_210_000},
            43.21,
        ),
    ],
    ids=["Orin NX", "Nano", "TX2", "AGX Orin", "AGX Xavier", "AGX Thor"],
)
def test_a_jetson_is_its_input_rail_or_the_rails_side_by_side(
    root: Path, files: dict[str, object], expected: float
) -> None:
    """Rails behind the input rail are never added; a board without one is the sum of those that feed it."""
    write_tree(root, files)
    assert watts(root) == {"node": pytest.approx(expected)}


def test_a_board_whose_rails_are_not_known_says_which_it_has(root: Path) -> None:
    """No guess: a sum of rails may hold one twice. A channel that is switched off is not there."""
    write_tree(root, ina3221(0, {"VDD_A": (1, 1), "VDD_B": (1, 1)}))
    source = Hwmon(root)
    assert source.discover() == []
    assert source.problem == f"{root}: ina3221: none of its rails is known as the board's input (VDD_A, VDD_B)"
    write_tree(root, ORIN_NX | {"hwmon1/in1_enable": 0})
    assert watts(root) == {}


def test_no_tree_and_no_sensor_say_why_and_one_may_come_later(tmp_path: Path) -> None:
    """No hwmon at all, and none that is known; a driver that is loaded later is found."""
    root = tmp_path / "hwmon"
    source = Hwmon(root, rescan_s=0)
    assert (source.discover(), source.problem) == ([], f"{root}: No such file or directory")
    write_tree(root, {"hwmon0/name": "coretemp", "hwmon1/temp1_input": 1, "other/name": "power_meter"})
    assert source.discover() == []
    assert source.problem == f"{root}: no power sensor of a known kind (power_meter, ina3221)"
    write_tree(root, ORIN_NX)
    assert [domain.name for domain in source.discover()] == ["node"]
    assert source.problem is None
    source.close()


def test_an_empty_tree_is_not_looked_through_at_each_poll(tmp_path: Path) -> None:
    """A poller without domains looks for them at each poll: most nodes have none, and must not pay for it."""
    root = tmp_path / "hwmon"
    source = Hwmon(root, rescan_s=3600)
    assert source.discover() == []
    write_tree(root, ORIN_NX)
    assert source.discover() == []
    assert Hwmon(root).discover() != []


@pytest.mark.parametrize("fault", ["eio", "pipe", "gone", "empty", "text", "negative"])
def test_a_sensor_that_dies_midway_is_failed_alone_and_comes_back(root: Path, fault: str) -> None:
    """Whatever lies in its place: the error names the file, the other socket goes on, and nothing hangs."""
    write_tree(root, acpi(1, "Grace Power Socket 0", 100) | acpi(2, "Grace Power Socket 1", 50))
    source = Hwmon(root, rescan_s=0)
    assert len(source.discover()) == 2
    file = root / "hwmon1" / "device" / "power1_average"
    file.unlink()
    if fault == "eio":
        file.symlink_to(EIO)
    elif fault == "pipe":
        os.mkfifo(file)
    elif fault != "gone":
        file.write_text({"empty": "", "text": "N/A\n", "negative": "-1\n"}[fault])
    for _ in range(2):
        found = source.poll()
        assert isinstance(found["package-0"], Failed)
        assert found["package-0"].error.startswith(f"{file}: ")
        assert found["package-1"] == Gauge(50.0)
    file.unlink(missing_ok=True)
    file.write_text("101000000\n")
    assert source.poll()["package-0"] == Gauge(101.0)
    source.close()


def test_a_power_that_the_firmware_does_not_know_is_no_four_megawatts(root: Path) -> None:
    """ACPI says so by all ones, which the driver multiplies like any other number."""
    write_tree(root, acpi(1, None, 0xFFFFFFFF / 1000))
    source = Hwmon(root)
    source.discover()
    path = root / "hwmon1" / "device" / "power1_average"
    assert source.poll() == {"node": Failed(f"{path}: the firmware does not know the power")}
    source.close()


def test_one_rail_of_a_sum_that_fails_fails_the_sum(root: Path) -> None:
    """A part of the rails is not the board."""
    write_tree(root, ina3221(0, {"VDD_GPU_SOC": (1, 1), "VDD_CPU_CV": (1, 1), "VIN_SYS_5V0": (1, 1)}))
    source = Hwmon(root)
    source.discover()
    write_tree(root, {"hwmon0/curr2_input": EIO})
    assert source.poll() == {"node": Failed(f"{root}/hwmon0/curr2_input: Input/output error")}
    source.close()


def test_a_sensor_that_comes_back_under_another_number_is_the_same(root: Path) -> None:
    """Folders are numbered as drivers are loaded: a sensor is known by its label, and may not be mixed with others."""
    write_tree(root, acpi(1, "Grace Power Socket 0", 100) | acpi(2, "Grace Power Socket 1", 50))
    source = Hwmon(root, rescan_s=0)
    source.discover()
    shutil.rmtree(root)
    assert all(isinstance(reading, Failed) for reading in source.poll().values())
    write_tree(root, acpi(4, "Grace Power Socket 1", 51) | acpi(5, "Grace Power Socket 0", 101))
    assert source.poll() == {"package-0": Gauge(101.0), "package-1": Gauge(51.0)}
    source.close()


def test_a_narrower_meter_does_not_stand_in_for_one_that_is_away(root: Path) -> None:
    """Half of the sensors are back: the CPU rail is not the socket. The other way round the wider one is taken."""
    write_tree(root, acpi(1, "CPU Power Socket 0", 60))
    source = Hwmon(root, rescan_s=0)
    source.discover()
    write_tree(root, acpi(2, "Grace Power Socket 0", 100))
    source.discover()
    assert source.poll() == {"package-0": Gauge(100.0)}
    shutil.rmtree(root / "hwmon2")
    assert isinstance(source.poll()["package-0"], Failed)
    write_tree(root, acpi(3, "Grace Power Socket 0", 101))
    assert source.poll() == {"package-0": Gauge(101.0)}
    source.close()


def test_a_sensor_that_this_user_may_not_read_is_absent_and_says_so(root: Path) -> None:
    """Not a failure to retry; some kernels let root alone read them."""
    write_tree(root, GRACE_HOPPER)
    source = Hwmon(root)

    def absent() -> bool:
        source.discover()
        return all(isinstance(one, Absent) and "not readable" in one.reason for one in source.poll().values())

    assert holds_without_permission(root.glob("*/device/power1_average"), absent)


def test_it_becomes_a_counter_behind_a_poller(root: Path) -> None:
    """As the service runs it: polled ten times a second and integrated, its domain says `gauge`."""
    write_tree(root, ORIN_NX)
    clock = SystemClock()
    start_ns, found = clock.boot_ns(), Counter(0)
    poller = Poller(Hwmon(root), clock, period_s=0.02, deadline_s=60, integrate=True)
    assert [domain.method for domain in poller.discover()] == ["gauge"]
    while found.uj < 1_000_000:
        assert clock.boot_ns() - start_ns < 120 * NS
        time.sleep(0.02)
        reading = poller.read().get("node", found)
        assert isinstance(reading, Counter)
        found = reading
    took_s = (clock.boot_ns() - start_ns) / NS
    assert found.uj / 1e6 <= 12.0 * took_s
    poller.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(
    folders=st.permutations(range(6)),
    powers=st.lists(st.integers(0, 10**9), min_size=4, max_size=4),
)
def test_the_order_of_folders_means_nothing(tmp_path: Path, folders: list[int], powers: list[int]) -> None:
    """Law: whatever numbers the folders have, the same labels give the same domains and the same watts."""
    labels = ["Module Power Socket 0", "Grace Power Socket 0", "CPU Power Socket 0", "Grace Power Socket 1"]
    root = tmp_path / "hwmon"
    shutil.rmtree(root, ignore_errors=True)
    for number, label, uw in zip(folders, labels, powers, strict=False):
        write_tree(root, acpi(number, label, uw / 1e6))
    assert watts(root) == {"package-0": powers[1] / 1e6, "package-1": powers[3] / 1e6}
