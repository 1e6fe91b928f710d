"""Redfish: a node's power as its BMC tells it over HTTP, with one session for the daemon's life.

The newer model (a chassis' EnvironmentMetrics) comes before the older one (its Power), and both before single
sensors. A BMC may know several chassis and several power controls, of which one contains the others: the node's is
chosen, they are never added, and where that stays open nothing is read. After that each poll is one request.
DMTF DSP0266, DSP0268.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from jobimpact.core import config
from jobimpact.core.records import Absent, Domain, Failed, Gauge, Reading
from jobimpact_daemon.sources.web import Web, WebError

__all__ = ["Redfish"]

ROOT = "/redfish/v1/"
MOST_CHASSIS = 32
MOST_SENSORS = 64
LOCKED_OUT_S = 300.0
"""How long a refused login is not tried again: BMCs lock accounts."""
MOST_W = 1e6

_NO_SESSIONS = {400, 404, 405, 501}
_GONE = {404, 410}
_WHOLE = re.compile(r"(?i)^(?:(?:total|system|server|node|chassis)\s*(?:input\s*)?power|server|system|total)\b")
_PART = re.compile(r"(?i)cpu|processor|memory|dimm|gpu|accelerator|\bfan|drive|storage|psu|supply|pcie|slot")

_Document = dict[str, Any]


class _Place(msgspec.Struct, frozen=True):
    """Where a power stands: a document, and which of its power controls."""

    path: str
    control: str | None = None
    """The member's id; None: the document has one power."""
    kind: str = "environment"

    def __str__(self) -> str:
        return self.path if self.control is None else f"{self.path}#PowerControl/{self.control}"


class _NowhereError(Exception):
    """The BMC answers, and which power is the node's cannot be said; the text is for an administrator."""


class Redfish:
    """The node's BMC by Redfish.

    Args:
        settings: of the configuration; `{node}` in the URL stands for the node's name.
        node: the node's name.
    """

    name = "redfish"

    def __init__(self, settings: config.Redfish, node: str) -> None:
        self.problem: str | None = None
        self._settings = settings
        self._url = settings.url.replace("{node}", node)
        self._bmc: _Bmc | None = None
        self._place: _Place | None = None
        self._domains: list[Domain] = []
        self._first: Reading | None = None

    def discover(self) -> list[Domain]:
        """The node, once the BMC has said where its power stands; from then on it stays."""
        if not self._domains:
            reading = self._asked()
            if self._place is not None:
                on = self._settings
                self._domains = [
                    Domain(
                        "node",
                        "node",
                        "redfish",
                        "gauge",
                        latency_s=on.latency_s,
                        excludes=on.excludes,
                        period_s=on.period_s,
                    )
                ]
                self._first = reading
        return self._domains

    def poll(self) -> dict[str, Reading]:
        """The power now, in watts: one request, but after a change of the BMC."""
        if not self._domains:
            return {}
        reading, self._first = self._first or self._asked(), None
        return {"node": reading}

    def close(self) -> None:
        """End the session: BMCs have few."""
        if self._bmc is not None:
            self._bmc.close()
            self._bmc = None

    def _asked(self) -> Reading:
        self.problem = None
        try:
            reading = self._read()
        except (WebError, _NowhereError) as error:
            reading = Failed(str(error))
        if isinstance(reading, Failed):
            self.problem = reading.error
        return reading

    def _read(self) -> Reading:
        if self._bmc is None:
            self._bmc = _Bmc(self._url, self._settings)
        if self._place is not None:
            try:
                return _reading(self._place, self._bmc.get(self._place.path), self._url)
            except WebError as error:
                if error.status not in _GONE:
                    raise
                self._place = None  # the BMC's firmware has moved it
        self._place = _Search(self._bmc, self._settings).place()
        return _reading(self._place, self._bmc.get(self._place.path), self._url)


class _Bmc:
    """A BMC's documents, with a session where it offers them."""

    def __init__(self, url: str, settings: config.Redfish) -> None:
        self._web = Web(
            url,
            username=settings.username,
            password_file=settings.password_file,
            ca_file=settings.ca_file,
            verify=settings.verify,
            deadline_s=settings.deadline_s,
        )
        self._token: str | None = None
        self._session: str | None = None
        self._basic = False
        self._refused: tuple[float, WebError] | None = None

    def root(self) -> _Document:
        """The service's root, which needs no login."""
        return _document(self._web.request("GET", ROOT, anonymous=True).json(), ROOT)

    def get(self, path: str) -> _Document:
        """A document; logs in where need be, and once more where the session has ended.

        Raises:
            WebError: it cannot be had.
        """
        self._check_refused()
        if self._token is None and not self._basic:
            self._log_in()
        try:
            return self._get(path)
        except WebError as error:
            if error.status != 401:
                raise
            if self._token is None:
                self._refuse(error)
                raise
        self._token = self._session = None
        self._log_in()
        return self._get(path)

    def members(self, path: str, most: int) -> Iterator[_Document]:
        """A collection's documents; one that cannot be had does not cost the others."""
        failed: WebError | None = None
        good = 0
        for link in _links(self.get(path).get("Members"))[:most]:
            try:
                document = self.get(link)
            except WebError as error:
                if error.status is None:
                    raise  # no answer at all: the next would only take as long
                failed = error
                continue
            good += 1
            yield document
        if failed is not None and not good:
            raise failed

    def close(self) -> None:
        """Log out."""
        if self._session is not None and self._token is not None:
            with contextlib.suppress(WebError):  # the BMC ends it by itself, later
                self._web.request("DELETE", self._session, headers={"X-Auth-Token": self._token})
        self._token = self._session = None
        self._web.close()

    def _get(self, path: str) -> _Document:
        headers = {"X-Auth-Token": self._token} if self._token else None
        return _document(self._web.get_json(path, headers=headers), path)

    def _log_in(self) -> None:
        known = self._web.credentials()
        if known is None:
            self._basic = True  # no credentials at all: some BMCs let anyone read
            return
        sessions = _link(_part(self.root(), "Links").get("Sessions")) or f"{ROOT}SessionService/Sessions"
        body = {"UserName": known[0], "Password": known[1]}
        answer = self._web.request("POST", sessions, body=body, anonymous=True)
        if answer.status in _NO_SESSIONS:
            self._basic = True
            return
        try:
            answer.json()
        except WebError as error:
            if error.status in {401, 403}:
                self._refuse(error)
            if not 200 <= answer.status < 300:
                raise
        token = answer.headers.get("X-Auth-Token")
        if token is None:
            self._basic = True
            return
        self._token, self._session = token, answer.headers.get("Location")

    def _refuse(self, error: WebError) -> None:
        self._refused = (time.monotonic() + LOCKED_OUT_S, error)

    def _check_refused(self) -> None:
        if self._refused is None:
            return
        until, error = self._refused
        if time.monotonic() < until:
            raise WebError(f"{error}; tried again every {LOCKED_OUT_S / 60:.0f} min, or after a restart", error.status)
        self._refused = None


class _Search:
    """Which power is the node's."""

    def __init__(self, bmc: _Bmc, settings: config.Redfish) -> None:
        self._bmc = bmc
        self._chassis = settings.chassis
        self._control = settings.control

    def place(self) -> _Place:
        """The one place.

        Raises:
            _NowhereError: there is none, or more than one.
            WebError: the BMC does not answer.
        """
        root = self._bmc.root()
        collection = _link(root.get("Chassis"))
        if collection is None:
            raise _NowhereError(f"{ROOT}: lists no Chassis")
        known = list(self._bmc.members(collection, MOST_CHASSIS))
        found = [(chassis, place) for chassis in self._nodes(root, known) if (place := self._power(chassis))]
        if not found:
            raise _NowhereError(f"{collection}: no chassis of the node tells its power ({_names(known) or 'none'})")
        if len(found) > 1:
            names = _names([chassis for chassis, _ in found])
            raise _NowhereError(f"{collection}: {names} all tell a power: set chassis to the node's")
        return found[0][1]

    def _nodes(self, root: _Document, known: list[_Document]) -> list[_Document]:
        """The chassis that may be the node's."""
        if self._chassis is not None:
            named = [one for one in known if self._chassis in {one.get("Id"), one.get("Name"), one.get("@odata.id")}]
            if not named:
                raise _NowhereError(f"chassis {self._chassis}: not there; there are {_names(known)}")
            return named
        if len(known) == 1:
            return known
        own = [one for one in known if _links(_part(one, "Links").get("ComputerSystems"))]
        return own or self._of_systems(root, known) or known

    def _of_systems(self, root: _Document, known: list[_Document]) -> list[_Document]:
        systems = _link(root.get("Systems"))
        if systems is None:
            return []
        paths = {
            path.rstrip("/")
            for system in self._bmc.members(systems, MOST_CHASSIS)
            for path in _links(_part(system, "Links").get("Chassis"))
        }
        return [one for one in known if str(one.get("@odata.id")).rstrip("/") in paths]

    def _power(self, chassis: _Document) -> _Place | None:
        ways: list[Callable[[_Document], _Place | None]] = [self._by_control, self._by_sensor]
        if self._control is None:
            ways = [self._by_environment, *ways, self._by_null]
        for way in ways:
            try:
                place = way(chassis)
            except WebError as error:
                # A link that leads nowhere is a BMC's slip; a refusal or a silence is not.
                if error.status not in _GONE | {400, 405, 500, 501}:
                    raise
                continue
            if place is not None:
                return place
        return None

    def _by_environment(self, chassis: _Document) -> _Place | None:
        path = _link(chassis.get("EnvironmentMetrics"))
        if path is None or _watts(_part(self._bmc.get(path), "PowerWatts").get("Reading")) is None:
            return None
        return _Place(path)

    def _by_null(self, chassis: _Document) -> _Place | None:
        """The newer model's power, not known now, where nothing else tells one."""
        path = _link(chassis.get("EnvironmentMetrics"))
        return _Place(path) if path and "Reading" in _part(self._bmc.get(path), "PowerWatts") else None

    def _by_control(self, chassis: _Document) -> _Place | None:
        path = _link(chassis.get("Power"))
        if path is None:
            return None
        controls = _controls(self._bmc.get(path))
        if self._control is not None:
            wanted = {self._control}
            named = [key for key, one in controls.items() if wanted & {key, one.get("Name"), one.get("@odata.id")}]
        else:
            named = _node_controls(controls, str(chassis.get("@odata.id")))
        if len(named) == 1:
            return _Place(path, named[0], "control")
        if controls and self._control is None:
            names = ", ".join(f"{key} ({one.get('Name')})" for key, one in controls.items())
            raise _NowhereError(f"{path}: which PowerControl is the node's? Set control to one of {names}")
        return None

    def _by_sensor(self, chassis: _Document) -> _Place | None:
        path = _link(chassis.get("Sensors"))
        if path is None:
            return None
        found = []
        for sensor in self._bmc.members(path, MOST_SENSORS):
            named = {sensor.get("Id"), sensor.get("Name"), sensor.get("@odata.id")}
            if self._control is not None:
                fits = self._control in named
            else:
                fits = any(_is_whole(name) for name in (sensor.get("Id"), sensor.get("Name")))
            link = _link(sensor)
            if fits and link and (sensor.get("ReadingType") == "Power" or sensor.get("ReadingUnits") == "W"):
                found.append(link)
        if len(found) > 1:
            raise _NowhereError(
                f"{path}: which sensor is the node's? Set control to the Id of one of {', '.join(found)}"
            )
        return _Place(found[0], kind="sensor") if found else None


def _controls(document: _Document) -> dict[str, _Document]:
    """Power controls that tell a power at all, null or not, by member id."""
    members = document.get("PowerControl")
    controls = {}
    for index, one in enumerate(members if isinstance(members, list) else []):
        if isinstance(one, dict) and "PowerConsumedWatts" in one:
            controls[str(one.get("MemberId", index))] = one
    return controls


def _node_controls(controls: dict[str, _Document], chassis: str) -> list[str]:
    """Those that may be the whole node: by name, else by what they relate to, else those that are no part."""
    if len(controls) == 1:
        return list(controls)
    by_name = [key for key, one in controls.items() if _is_whole(one.get("Name"))]
    if len(by_name) == 1:
        return by_name
    related = [key for key in by_name or controls if _relates(controls[key], chassis)]
    if len(related) == 1:
        return related
    whole = [
        key for key, one in controls.items() if not _PART.search(f"{one.get('Name')} {one.get('PhysicalContext')}")
    ]
    return by_name or whole


def _is_whole(name: object) -> bool:
    text = str(name).replace("_", " ")
    return bool(_WHOLE.search(text)) and not _PART.search(text)


def _relates(control: _Document, chassis: str) -> bool:
    paths = {path.rstrip("/") for path in _links(control.get("RelatedItem"))}
    return chassis.rstrip("/") in paths or any(re.fullmatch(r".*/Systems/[^/]+", path) for path in paths)


def _reading(place: _Place, document: _Document, url: str) -> Reading:
    if place.kind == "control":
        controls = _controls(document)
        if place.control not in controls:
            raise WebError(f"{url.rstrip('/')}{place}: not there any more", 404)
        value = controls[place.control].get("PowerConsumedWatts")
    elif place.kind == "sensor":
        value = document.get("Reading")
    else:
        value = _part(document, "PowerWatts").get("Reading")
    where = f"{url.rstrip('/')}{place}"
    if value is None:
        return Absent(f"{where}: the BMC knows no power now (null)")
    watts = _watts(value)
    if watts is None or not 0 < watts < MOST_W:
        return Failed(f"{where}: {str(value)[:40]!r} is no power of a running node, in W")
    return Gauge(watts)


def _watts(value: object) -> float | None:
    """A power in watts; some BMCs write it as text."""
    if isinstance(value, str):
        number = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:W|Watts?)?\s*", value, re.IGNORECASE)
        return float(number[1]) if number else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _document(found: object, path: str) -> _Document:
    if not isinstance(found, dict):
        raise WebError(f"{path}: not a Redfish document")
    return found


def _part(document: _Document, key: str) -> _Document:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _link(found: object) -> str | None:
    path = found.get("@odata.id") if isinstance(found, dict) else None
    return path if isinstance(path, str) and path.startswith("/") else None


def _links(found: object) -> list[str]:
    return [path for one in found if (path := _link(one))] if isinstance(found, list) else []


def _names(chassis: list[_Document]) -> str:
    return ", ".join(str(one.get("Id") or one.get("@odata.id")) for one in chassis)
