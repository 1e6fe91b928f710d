"""The node's power by Redfish: which of a BMC's powers is the node's, sessions, TLS, and a BMC's troubles."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.bmc_redfish import CHASSIS, PASSWORD, USER, Bmc, Fault, certificate, linked, tree

from jobimpact.core import config
from jobimpact.core.records import Absent, Failed, Gauge, Reading
from jobimpact_daemon.sources.redfish import Redfish

OWN = {"ComputerSystems": linked("/redfish/v1/Systems/1")}


def power(*controls: dict[str, Any]) -> dict[str, Any]:
    """A Power document."""
    return {"PowerControl": [{"MemberId": str(index), **one} for index, one in enumerate(controls)]}


def simple(watts: object = 344) -> dict[str, Any]:
    """One chassis with one power control."""
    return tree({"1": {"Links": OWN, "Power": power({"PowerConsumedWatts": watts})}})


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    """The right password."""
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n", encoding="utf-8")
    return path


def meter_of(bmc: Bmc, password_file: Path, **changes: object) -> Redfish:
    """The meter of a BMC."""
    settings: dict[str, object] = {
        "url": bmc.url,
        "username": USER,
        "password_file": str(password_file),
        "deadline_s": 5.0,
    }
    return Redfish(config.Redfish(**(settings | changes)), "n1")  # type: ignore[arg-type]


def read(documents: dict[str, Any], password_file: Path, **changes: object) -> tuple[Reading | None, str | None]:
    """The first reading and the problem of a BMC with these documents."""
    with Bmc(documents) as bmc:
        meter = meter_of(bmc, password_file, **changes)
        meter.discover()
        return meter.poll().get("node"), meter.problem


def test_one_session_and_one_request_a_poll(password_file: Path) -> None:
    """One login and one connection for the daemon's life, one request a poll, and a logout."""
    with Bmc(simple()) as bmc:
        meter = meter_of(bmc, password_file)
        (node,) = meter.discover()
        assert (node.name, node.kind, node.source, node.method) == ("node", "node", "redfish", "gauge")
        assert meter.poll() == {"node": Gauge(344.0)}
        bmc.asked.clear()
        for watts in (350, 360, 370):
            bmc.documents[f"{CHASSIS}/1/Power"] = power({"PowerConsumedWatts": watts})
            assert meter.discover() == [node]
            assert meter.poll() == {"node": Gauge(float(watts))}
        assert bmc.asked == [f"GET {CHASSIS}/1/Power"] * 3
        assert (bmc.logins, bmc.connections, len(bmc.tokens)) == (1, 1, 1)
        meter.close()
        assert bmc.tokens == set()


def test_newer_model_first(password_file: Path) -> None:
    """EnvironmentMetrics comes before the older Power, and without it Power is read."""
    newer = {"Links": OWN, "EnvironmentMetrics": {"PowerWatts": {"Reading": 412.5, "DataSourceUri": "/x"}}}
    old = {"Power": power({"PowerConsumedWatts": 400})}
    assert read(tree({"1": newer | old}), password_file) == (Gauge(412.5), None)
    newer["EnvironmentMetrics"] = {"PowerWatts": {"Reading": None}}
    assert read(tree({"1": newer | old}), password_file) == (Gauge(400.0), None)


def test_power_controls_are_never_added(password_file: Path) -> None:
    """One contains the others: the system's is read, wherever it stands, and not the sum."""
    documents = tree(
        {
            "1": {
                "Links": OWN,
                "Power": power(
                    {"Name": "CPU Sub-system Power", "PowerConsumedWatts": 53},
                    {"Name": "System Power Control", "PowerConsumedWatts": 344},
                    {"Name": "Memory Sub-system Power", "PowerConsumedWatts": 20},
                ),
            }
        }
    )
    assert read(documents, password_file) == (Gauge(344.0), None)
    assert read(documents, password_file, control="2") == (Gauge(20.0), None)


def test_power_control_by_what_it_relates_to(password_file: Path) -> None:
    """Where names tell nothing, the one that relates to the chassis is the node's."""
    documents = tree(
        {
            "1": {
                "Links": OWN,
                "Power": power(
                    {"Name": "A", "PowerConsumedWatts": 53, "RelatedItem": linked(f"{CHASSIS}/1/Drives/1")},
                    {"Name": "B", "PowerConsumedWatts": 344, "RelatedItem": linked(f"{CHASSIS}/1")},
                ),
            }
        }
    )
    assert read(documents, password_file) == (Gauge(344.0), None)


def test_ambiguous_controls_are_not_guessed(password_file: Path) -> None:
    """Two that may both be the node's: none is read, and the problem names them and the key."""
    documents = tree({"1": {"Power": power({"Name": "A", "PowerConsumedWatts": 344}, {"PowerConsumedWatts": 53})}})
    reading, problem = read(documents, password_file)
    assert reading is None
    assert problem is not None
    assert "Set control to one of 0 (A), 1 (None)" in problem


def test_node_chassis_among_several(password_file: Path) -> None:
    """The chassis with the computer system is the node's; the enclosure's power is not added."""
    enclosure = {"Power": power({"PowerConsumedWatts": 2000})}
    blade = {"Links": OWN, "Power": power({"PowerConsumedWatts": 344})}
    assert read(tree({"enclosure": enclosure, "blade": blade}), password_file) == (Gauge(344.0), None)
    del blade["Links"]
    documents = tree({"enclosure": enclosure, "blade": blade})
    reading, problem = read(documents, password_file)
    assert reading is None
    assert "set chassis to the node's" in str(problem)
    assert read(documents, password_file, chassis="blade") == (Gauge(344.0), None)
    documents["/redfish/v1/Systems/1"]["Links"] = {"Chassis": linked(f"{CHASSIS}/blade")}
    assert read(documents, password_file) == (Gauge(344.0), None)
    reading, problem = read(documents, password_file, chassis="other")
    assert problem == "chassis other: not there; there are enclosure, blade"


def test_sensor_where_nothing_else_is(password_file: Path) -> None:
    """A sensor of the whole power is the last resort; those of parts and of other kinds are not taken."""
    sensors = {
        "CPU_Power": {"ReadingType": "Power", "Reading": 90},
        "TotalPower": {"ReadingType": "Power", "ReadingUnits": "W", "Reading": 377.5},
        "System_Temp": {"ReadingType": "Temperature", "Reading": 30},
    }  # fmt: skip
    assert read(tree({"1": {"Links": OWN, "Sensors": sensors}}), password_file) == (Gauge(377.5), None)


@pytest.mark.parametrize(("watts", "expected"), [("344", 344.0), ("344 W", 344.0), (344.25, 344.25)])
def test_power_as_text(password_file: Path, watts: object, expected: float) -> None:
    """Some BMCs write numbers as text."""
    assert read(simple(watts), password_file) == (Gauge(expected), None)


def test_null_is_absent(password_file: Path) -> None:
    """A power that the BMC does not know is absent, and the node stays known."""
    newer = tree({"1": {"Links": OWN, "EnvironmentMetrics": {"PowerWatts": {"Reading": None}}}})
    for documents in (simple(None), newer):
        reading, _ = read(documents, password_file)
        assert isinstance(reading, Absent)


@pytest.mark.parametrize("watts", [0, -5, True, "N/A", 1e300, [], {}])
def test_no_power_of_a_running_node(password_file: Path, watts: object) -> None:
    """What a running node cannot draw is a failure, and never a number."""
    reading, problem = read(simple(watts), password_file)
    assert isinstance(reading, Failed)
    assert "PowerControl/0" in str(problem)


def test_basic_without_sessions(password_file: Path) -> None:
    """A BMC without sessions is asked by basic authentication."""
    with Bmc(simple(), sessions=False) as bmc:
        meter = meter_of(bmc, password_file)
        meter.discover()
        assert meter.poll() == {"node": Gauge(344.0)}


def test_session_that_ended_is_renewed_once(password_file: Path) -> None:
    """The BMC forgot the session: one more login, no failed reading."""
    with Bmc(simple()) as bmc:
        meter = meter_of(bmc, password_file)
        meter.discover(), meter.poll()
        bmc.tokens.clear()
        assert meter.poll() == {"node": Gauge(344.0)}
        assert bmc.logins == 2


def test_refused_login_is_not_repeated(password_file: Path) -> None:
    """BMCs lock accounts: a wrong password is sent once, and stands in no word of ours."""
    password_file.write_text("wrong\n")
    with Bmc(simple()) as bmc:
        meter = meter_of(bmc, password_file)
        for _ in range(3):
            assert meter.discover() == []
        assert bmc.logins == 1
        assert "password_file" in str(meter.problem)
        assert "wrong" not in str(meter.problem)


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("forbidden", "HTTP 403"),
        ("busy", "HTTP 503"),
        ("broken", "not JSON"),
        ("half", ""),
        ("reset", ""),
        ("huge", "larger than 4 MiB"),
        ("hang", "no answer within deadline_s"),
        ("drip", "no answer within deadline_s"),
        ("elsewhere", "leads to another server"),
        ("missing", "HTTP 404"),
    ],
)
def test_troubles_fail_and_heal(password_file: Path, fault: Fault, word: str) -> None:
    """Each trouble is failed with its URL, in time, and over when the BMC is well."""
    with Bmc(simple()) as bmc:
        meter = meter_of(bmc, password_file, deadline_s=1.5 if "deadline" in word else 30)
        meter.discover(), meter.poll()
        bmc.fault = fault
        start = time.monotonic()
        reading = meter.poll()["node"]
        assert time.monotonic() - start < 30
        assert isinstance(reading, Failed)
        assert bmc.url in reading.error
        assert word in reading.error
        assert meter.problem == reading.error
        bmc.fault = "none"
        assert meter.poll() == {"node": Gauge(344.0)}
        assert meter.problem is None


def test_gone_and_back(password_file: Path) -> None:
    """A BMC that reboots: refused, then read again, with its sessions lost."""
    with Bmc(simple()) as bmc:
        meter = meter_of(bmc, password_file)
        meter.discover(), meter.poll()
        bmc.stop()
        bmc.tokens.clear()
        meter._bmc._web.close()  # type: ignore[union-attr]
        reading = meter.poll()["node"]
        assert isinstance(reading, Failed)
        assert "Connection refused" in reading.error
        bmc.start()
        assert meter.poll() == {"node": Gauge(344.0)}


def test_new_firmware_is_searched_anew(password_file: Path) -> None:
    """The older Power went with an update: the power is found where it now stands."""
    with Bmc(simple()) as bmc:
        meter = meter_of(bmc, password_file)
        meter.discover(), meter.poll()
        bmc.documents = tree({"Self": {"Links": OWN, "EnvironmentMetrics": {"PowerWatts": {"Reading": 355}}}})
        assert meter.poll() == {"node": Gauge(355.0)}


def test_tls(password_file: Path, tmp_path: Path) -> None:
    """An own authority is trusted by ca_file; a stranger is not, unless verify is off."""
    made = certificate(tmp_path)
    if made is None and os.environ.get("REQUIRE_LABS") == "1":
        pytest.fail("no openssl program", pytrace=False)
    if made is None:
        pytest.skip("no openssl program")
    ca, cert, key = made
    with Bmc(simple(), tls=(cert, key)) as bmc:
        stranger = meter_of(bmc, password_file)
        assert stranger.discover() == []
        assert "certificate is not trusted" in str(stranger.problem)
        assert bmc.logins == 0
        for changes in ({"ca_file": str(ca)}, {"verify": False}):
            meter = meter_of(bmc, password_file, **changes)
            meter.discover()
            assert meter.poll() == {"node": Gauge(344.0)}
        missing = meter_of(bmc, password_file, ca_file="/nonexistent/ca.pem")
        assert missing.discover() == []
        assert missing.problem == "/nonexistent/ca.pem: No such file or directory"


def test_password_in_the_url_is_refused() -> None:
    """It would stand in every log."""
    meter = Redfish(config.Redfish(url="https://u:hush@bmc-{node}"), "n1")
    assert meter.discover() == []
    assert "hush" not in str(meter.problem)
    assert "bmc-n1" in str(meter.problem)
