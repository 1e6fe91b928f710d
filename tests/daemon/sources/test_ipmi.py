"""The node's power by its BMC: both real programs against OpenIPMI's simulator, and their output's odd cases."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from tests.fakes import ipmi_sim

from jobimpact.core import config
from jobimpact.core.records import Absent, Failed, Gauge
from jobimpact_daemon.sources.ipmi import Ipmi, _quoted

Via = Literal["ipmitool", "freeipmi"]
PROGRAMS: dict[str, str] = {"ipmitool": "ipmitool", "freeipmi": "ipmi-dcmi"}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ipmi_sim.Bmc]:
    """One simulated BMC for all tests."""
    _need(ipmi_sim.missing())
    with ipmi_sim.Bmc(tmp_path_factory.mktemp("bmc")) as bmc:
        yield bmc


@pytest.fixture
def bmc(simulated: ipmi_sim.Bmc) -> ipmi_sim.Bmc:
    """The BMC, well and at 300 W."""
    simulated.set(300)
    return simulated


@pytest.fixture(params=["ipmitool", "freeipmi"])
def via(request: pytest.FixtureRequest) -> Via:
    """Each of the programs."""
    found: Via = request.param
    path = os.environ["PATH"] + ":/usr/sbin"
    _need("" if _which(PROGRAMS[found], path) else f"{PROGRAMS[found]}: not installed")
    return found


def _which(name: str, path: str) -> bool:
    return shutil.which(name, path=path) is not None


def _need(reason: str) -> None:
    if reason and os.environ.get("REQUIRE_LABS") == "1":
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)


def over_lan(bmc: ipmi_sim.Bmc, via: Via, **changes: object) -> Ipmi:
    """The meter of the simulated BMC."""
    settings: dict[str, object] = {
        "via": via,
        "host": "{node}",
        "port": bmc.port,
        "username": "reader",
        "password_file": str(bmc.password_file),
        "deadline_s": 5.0,
    }
    return Ipmi(config.Ipmi(**(settings | changes)), bmc.host)  # type: ignore[arg-type]


def fake(folder: Path, program: str, script: str) -> None:
    """A program on PATH that is not the real one."""
    path = folder / program
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_current_power_only(bmc: ipmi_sim.Bmc, via: Via) -> None:
    """Power is the current one, and not those of other days; the way that the BMC agreed to is found."""
    meter = over_lan(bmc, via)
    (node,) = meter.discover()
    assert (node.name, node.kind, node.source, node.method, node.latency_s) == ("node", "node", "ipmi", "gauge", 15.0)
    assert meter.poll() == {"node": Gauge(300.0)}
    bmc.set(344)
    assert meter.poll() == {"node": Gauge(344.0)}
    assert meter.problem is None


def test_switched_off_measurement_is_absent(bmc: ipmi_sim.Bmc, via: Via) -> None:
    """A BMC that does not measure has no power to tell, whatever stands in its answer."""
    bmc.set(200, active=False)
    meter = over_lan(bmc, via)
    assert meter.discover()
    (reading,) = meter.poll().values()
    assert isinstance(reading, Absent)
    assert "switch it on" in reading.reason


def test_zero_is_no_reading(bmc: ipmi_sim.Bmc, via: Via) -> None:
    """A running node cannot draw 0 W: absent is not zero."""
    meter = over_lan(bmc, via)
    meter.discover(), meter.poll()
    for watts in (0, 65535):
        bmc.set(watts)
        reading = meter.poll()["node"]
        assert isinstance(reading, Failed)
        assert f"{watts} W" in reading.error


def test_bmc_without_dcmi_has_no_domain(bmc: ipmi_sim.Bmc, via: Via) -> None:
    """A BMC that does not know the command is no meter, and the problem says so."""
    bmc.set(300, code=0xC1)
    meter = over_lan(bmc, via)
    assert meter.discover() == []
    assert "ommand" in str(meter.problem)


def test_busy_then_well(bmc: ipmi_sim.Bmc, via: Via) -> None:
    """A busy BMC fails this time, and is well the next."""
    meter = over_lan(bmc, via)
    meter.discover(), meter.poll()
    bmc.set(300, code=0xC0)
    reading = meter.poll()["node"]
    assert isinstance(reading, Failed)
    assert "busy" in reading.error
    bmc.set(310)
    assert meter.poll() == {"node": Gauge(310.0)}
    assert meter.problem is None


def test_wrong_password_is_asked_once(
    bmc: ipmi_sim.Bmc, via: Via, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BMCs lock accounts: a wrong password is not tried with every level and cipher."""
    real = shutil.which(PROGRAMS[via], path=os.environ["PATH"] + ":/usr/sbin")
    fake(tmp_path, PROGRAMS[via], f'echo >> {tmp_path}/asked; exec {real} "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    wrong = tmp_path / "password"
    wrong.write_text("hushed\n")
    meter = over_lan(bmc, via, password_file=str(wrong))
    for _ in range(3):
        assert meter.discover() == []
    assert "hushed" not in str(meter.problem)
    assert "assword" in str(meter.problem) or "establish" in str(meter.problem)
    # The simulator has one cipher, and freeipmi tells a workaround's need apart only by trying: at most two.
    assert len((tmp_path / "asked").read_text()) <= 2


def test_missing_password_file_is_named(bmc: ipmi_sim.Bmc, via: Via) -> None:
    """The file is named."""
    meter = over_lan(bmc, via, password_file="/nonexistent/password")  # noqa: S106
    assert meter.discover() == []
    assert "/nonexistent/password: No such file" in str(meter.problem)


def test_hangs_dies_and_comes_back(bmc: ipmi_sim.Bmc, via: Via) -> None:
    """A BMC that hangs or is gone costs its deadline, is failed, and is well again when it is back."""
    meter = over_lan(bmc, via, deadline_s=2.0)
    assert meter.discover()
    meter.poll()
    bmc.set(300, hangs=True)
    start = time.monotonic()
    assert isinstance(meter.poll()["node"], Failed)
    assert time.monotonic() - start < 15
    bmc.stop()
    assert isinstance(meter.poll()["node"], Failed)
    bmc.set(320)
    bmc.start()
    assert meter.poll() == {"node": Gauge(320.0)}


def test_password_stands_in_no_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, via: Via) -> None:
    """What the program is given: its arguments lack the password, its file has it, LC_ALL is C."""
    fake(
        tmp_path,
        PROGRAMS[via],
        f"""printf '%s\\n' "$@" > {tmp_path}/argv
for argument; do case $argument in /proc/self/fd/*) cat "$argument" > {tmp_path}/file;; esac; done
echo "$LC_ALL" > {tmp_path}/locale
echo 'Warning: a line on stderr' >&2
echo 'Current Power                        : 210 Watts'
echo 'Power Measurement                    : Active'""",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "password").write_text("hush\n")
    settings = config.Ipmi(
        via=via, host="bmc-{node}", username="u", password_file=str(tmp_path / "password"), deadline_s=5.0
    )
    meter = Ipmi(settings, "node7")
    meter.discover()
    assert meter.poll() == {"node": Gauge(210.0)}
    argv = (tmp_path / "argv").read_text()
    assert "hush" not in argv
    assert "bmc-node7" in argv
    assert "hush" in (tmp_path / "file").read_text()
    assert (tmp_path / "locale").read_text() == "C\n"


def test_program_missing_is_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No program: no domain, and its name; it is found once it is installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("jobimpact_daemon.sources.ipmi._SBIN", "")
    meter = Ipmi(config.Ipmi(), "n1")
    assert meter.discover() == []
    assert meter.problem == "BMC in band: ipmitool or ipmi-dcmi: not installed"
    fake(tmp_path, "ipmitool", "echo '    Instantaneous power reading:                   90 Watts'")
    assert meter.discover()
    assert meter.poll() == {"node": Gauge(90.0)}


def test_no_device_in_band(via: Via) -> None:
    """Without the kernel's device the program's own word stands in the problem."""
    if Path("/dev/ipmi0").exists():
        pytest.skip("this machine has a BMC")
    meter = Ipmi(config.Ipmi(via=via), "n1")
    assert meter.discover() == []
    assert meter.problem is not None
    # Not root may not even ask: the program says so.
    assert "device" in meter.problem or "permission denied" in meter.problem


def test_hung_program_ends_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrapper's child holds the pipes open: the whole group is ended, in time."""
    fake(tmp_path, "ipmitool", f"sleep 300 & echo $! > {tmp_path}/pid; wait")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    meter = Ipmi(config.Ipmi(via="ipmitool", deadline_s=0.5), "n1")
    start = time.monotonic()
    assert meter.discover() == []
    assert time.monotonic() - start < 60
    assert "timeout" in str(meter.problem)
    stat = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    deadline = time.monotonic() + 60
    while stat.exists() and stat.read_text().split()[2] not in {"Z", "X"}:
        assert time.monotonic() < deadline, "the child goes on"
        time.sleep(0.01)


def test_other_output_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer without power is a failure, and never 0 W; control signs do not reach the log."""
    fake(tmp_path, "ipmitool", "echo 'Maximum during sampling period: 99 Watts'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    meter = Ipmi(config.Ipmi(via="ipmitool"), "n1")
    assert meter.discover() == []
    assert "no power in the program's answer" in str(meter.problem)
    fake(tmp_path, "ipmitool", "printf 'bad\\033[31m thing\\n' >&2; exit 1")
    assert meter.discover() == []
    assert meter.problem == "BMC in band: ipmitool: bad?[31m thing"


def test_runs_with_the_streams_closed(bmc: ipmi_sim.Bmc, via: Via) -> None:
    """A daemon may have no standard input, output or error at all."""
    script = f"""
import os
for fd in (0, 1, 2):
    os.close(fd)
from jobimpact.core import config
from jobimpact_daemon.sources.ipmi import Ipmi
meter = Ipmi(config.Ipmi(via={via!r}, host={bmc.host!r}, port={bmc.port}, username="reader",
                         password_file={str(bmc.password_file)!r}), "n")
meter.discover()
os._exit(0 if meter.poll()["node"].w == 300.0 else 7)
"""
    path = os.pathsep.join(str(Path(__file__).parents[3] / room) for room in ("daemon", "accounting"))
    child = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}, timeout=60, check=False
    )
    assert child.returncode == 0


def test_quoted_for_freeipmi() -> None:
    """Signs that freeipmi's configuration would take for its own are escaped."""
    assert _quoted('a#b"c\\d e') == '"a\\#b\\"c\\\\d e"'
