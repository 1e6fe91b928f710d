"""IPMI: a node's power as its BMC tells it by DCMI's *Get Power Reading*, through ipmitool or freeipmi.

Only the current power is used: minimum, maximum and average are over days. A BMC's own time stamp may be anything, so
a reading is one of now. `ipmitool(1)`, `ipmi-dcmi(8)`; DCMI 1.5, 6.6.1.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import msgspec

from jobimpact.core import config
from jobimpact.core.records import Absent, Domain, Failed, Gauge, Reading
from jobimpact_daemon.sources.passwords import PasswordError, password

__all__ = ["Ipmi"]

NO_READING_W = 65535
"""All bits set: a BMC's way to say that it does not know."""

_SBIN = ":/usr/local/sbin:/usr/sbin:/sbin"
_POWER = re.compile(r"(?im)^\s*(?:Instantaneous power reading|Current Power)\s*:\s*(\d+)\s*Watts?\s*$")
_STATE = re.compile(r"(?im)^\s*(?:Power reading state is|Power Measurement)\s*:\s*(\S.*?)\s*$")
_ACTIVE = {"activated", "active"}
_ANOTHER_WAY = re.compile(r"privilege|cipher|authentication algorithm", re.IGNORECASE)
"""A refusal after which another privilege level or cipher may do. A wrong password is none: BMCs lock accounts."""
_REFUSED = re.compile(r"(?:password|username) invalid", re.IGNORECASE)
_MAY_BE_REFUSED = re.compile(r"unable to establish", re.IGNORECASE)
"""All that ipmitool says of a wrong password, and of a BMC that is not there."""
LOCKED_OUT_S = 300.0
"""How long a refused login is not tried again."""
_UNSUPPORTED = re.compile(r"invalid command|command invalid|\(c1\)", re.IGNORECASE)
_NOISE = re.compile(r"HPM\.x|Cipher Suites", re.IGNORECASE)


class _Way(msgspec.Struct, frozen=True):
    """How a session is opened, where BMCs differ."""

    level: str
    quirk: str | None


_LEVELS = ("USER", "OPERATOR", "ADMINISTRATOR")
"""The least privilege first: DCMI asks for no more than the first, and some BMCs for the last."""
_TOOL_WAYS = [_Way(level, cipher) for level, cipher in product(_LEVELS, ("17", "3"))]
"""A cipher is named so that ipmitool need not ask: some BMCs leave that question unanswered, which takes 10 s."""
_FREE_WAYS = [_Way(level, quirk) for level, quirk in product(_LEVELS, (None, "opensesspriv"))]
_FREE_LEVELS = {"USER": "user", "OPERATOR": "operator", "ADMINISTRATOR": "admin"}
_FILE = "<file>"
"""Where an argument is to be the file with the password."""
_PROGRAMS = {"ipmitool": "ipmitool", "freeipmi": "ipmi-dcmi"}


class _CallError(Exception):
    """The program brought no reading; its own words."""


class Ipmi:
    """The node's BMC, in band or, with `host`, over the network.

    Args:
        settings: of the configuration; `{node}` in the host stands for the node's name.
        node: the node's name.
    """

    name = "ipmi"

    def __init__(self, settings: config.Ipmi, node: str) -> None:
        self.problem: str | None = None
        self._settings = settings
        self._host = settings.host.replace("{node}", node) if settings.host else None
        self._where = f"BMC {self._host}" if self._host else "BMC in band"
        self._program: str | None = None
        self._is_tool = True
        self._way: _Way | None = None
        self._domains: list[Domain] = []
        self._first: Reading | None = None
        self._locked_out_until = 0.0

    def discover(self) -> list[Domain]:
        """The node, once the BMC has answered; from then on it stays."""
        if not self._domains:
            self._first = self._asked()
            if isinstance(self._first, Gauge) or (isinstance(self._first, Absent) and self.problem is None):
                on = self._settings
                self._domains = [
                    Domain(
                        "node",
                        "node",
                        "ipmi",
                        "gauge",
                        latency_s=on.latency_s,
                        excludes=on.excludes,
                        period_s=on.period_s,
                    )
                ]
        return self._domains

    def poll(self) -> dict[str, Reading]:
        """The current power, in watts."""
        if not self._domains:
            return {}
        # The discovery's own answer is not asked for twice.
        reading, self._first = self._first or self._asked(), None
        return {"node": reading}

    def close(self) -> None:
        """Nothing is held between polls."""

    def _asked(self) -> Reading:
        if self.problem is not None and time.monotonic() < self._locked_out_until:
            return Failed(self.problem)
        self.problem = None
        try:
            reading = self._read(self._output())
        except (_CallError, PasswordError) as error:
            self.problem = f"{self._where}: {error}"
            self._program = None  # it may have been installed, or taken away
            if _REFUSED.search(str(error)) or (self._way is None and _MAY_BE_REFUSED.search(str(error))):
                hint = "" if _REFUSED.search(str(error)) else "; no BMC there, or the wrong user or password"
                self.problem += f"{hint}; tried again every {LOCKED_OUT_S / 60:.0f} min, or after a restart"
                self._locked_out_until = time.monotonic() + LOCKED_OUT_S
            return Absent(self.problem) if _UNSUPPORTED.search(str(error)) else Failed(self.problem)
        if isinstance(reading, Failed):
            self.problem = reading.error
        return reading

    def _read(self, output: str) -> Reading:
        state, power = _STATE.search(output), _POWER.search(output)
        if state and state[1].lower() not in _ACTIVE:
            return Absent(f"{self._where}: power measurement is {state[1].lower()}: switch it on in the BMC")
        if not power:
            return Failed(f"{self._where}: no power in the program's answer")
        watts = int(power[1])
        if watts in {0, NO_READING_W}:
            return Failed(f"{self._where}: {watts} W, which a running node cannot draw")
        return Gauge(float(watts))

    def _output(self) -> str:
        """What the program prints; the way that the BMC agreed to is kept."""
        program = self._find()
        until = time.monotonic() + self._settings.deadline_s
        if self._host is None:
            return self._run(program, None, until)
        if self._way is not None:
            return self._run(program, self._way, until)
        refusal = _CallError("no way to ask")
        for way in _TOOL_WAYS if self._is_tool else _FREE_WAYS:
            try:
                output = self._run(program, way, until)
            except _CallError as error:
                if not _ANOTHER_WAY.search(str(error)):
                    raise
                refusal = error
            else:
                self._way = way
                return output
        raise refusal

    def _find(self) -> str:
        """The program; looked for anew where it is not there, since it may be installed later."""
        if self._program is not None:
            return self._program
        via = self._settings.via
        # In band ipmitool goes by the kernel's driver; over the network freeipmi costs a tenth of the CPU time.
        order = ("freeipmi", "ipmitool") if self._settings.host else ("ipmitool", "freeipmi")
        wanted = [name for name in order if via in {"auto", name}]
        for name in wanted:
            self._program = shutil.which(_PROGRAMS[name], path=os.environ.get("PATH", os.defpath) + _SBIN)
            if self._program is not None:
                self._is_tool = name == "ipmitool"
                return self._program
        raise _CallError(" or ".join(_PROGRAMS[name] for name in wanted) + ": not installed")

    def _run(self, program: str, way: _Way | None, until: float) -> str:
        arguments, secret = self._tool(way) if self._is_tool else self._free(way)
        if secret is None:
            return _called([program, *arguments], [], until - time.monotonic())
        with _in_memory(secret) as fd:
            filled = [f"/proc/self/fd/{fd}" if argument == _FILE else argument for argument in arguments]
            return _called([program, *filled], [fd], until - time.monotonic())

    def _tool(self, way: _Way | None) -> tuple[list[str], str | None]:
        """Ipmitool's arguments, and what its password file holds."""
        asked = ["dcmi", "power", "reading"]
        if way is None or self._host is None:
            return asked, None
        on = self._settings
        session = ["-I", "lanplus", "-H", self._host, "-p", str(on.port), "-L", way.level, "-C", way.quirk or "3"]
        session += ["-U", on.username] if on.username else []
        if on.password_file is None:
            return [*session, *asked], None
        return [*session, "-f", _FILE, *asked], password(on.password_file) + "\n"

    def _free(self, way: _Way | None) -> tuple[list[str], str | None]:
        """Freeipmi's arguments, and what its configuration holds: it knows no file for a password alone."""
        asked = "--get-system-power-statistics"
        if way is None or self._host is None:
            return [asked], None
        on = self._settings
        lines = ["driver-type LAN_2_0", f"privilege-level {_FREE_LEVELS[way.level]}"]
        lines += [f"workaround-flags {way.quirk}"] if way.quirk else []
        lines += [f"username {_quoted(on.username)}"] if on.username else []
        lines += [f"password {_quoted(password(on.password_file))}"] if on.password_file else []
        host = f"[{self._host}]" if ":" in self._host else self._host
        return ["--config-file", _FILE, "-h", f"{host}:{on.port}", asked], "\n".join(lines) + "\n"


@contextlib.contextmanager
def _in_memory(text: str) -> Iterator[int]:
    """A file that no other user can open and no disk keeps; above the numbers of the standard streams."""
    low = os.memfd_create("jobimpact", os.MFD_CLOEXEC)
    try:
        fd = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(low)
    try:
        os.write(fd, text.encode())
        yield fd
    finally:
        os.close(fd)


def _called(command: list[str], passed: list[int], left_s: float) -> str:
    """Standard output of a program, without a shell; what it started ends with it.

    Raises:
        _CallError: it failed, in its own words, or took too long.
    """
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
            pass_fds=passed,
            start_new_session=True,
        )
    except OSError as error:
        raise _CallError(f"{command[0]}: {error.strerror}") from None
    try:
        out, err = child.communicate(timeout=max(left_s, 0.0))
    except subprocess.TimeoutExpired:
        raise _CallError(f"timeout: {Path(command[0]).name} has not answered within deadline_s") from None
    finally:
        _end(child)
    output = out.decode("utf-8", "replace")
    if child.returncode != 0:
        raise _CallError(_words(err.decode("utf-8", "replace") + output, Path(command[0]).name, child.returncode))
    return output


def _end(child: subprocess.Popen[bytes]) -> None:
    """The whole group: a wrapper's own child would keep the BMC's session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()


def _words(text: str, program: str, code: int) -> str:
    printable = "".join(one if one.isprintable() or one == "\n" else "?" for one in text)
    lines = [line.strip() for line in printable.splitlines() if line.strip() and not _NOISE.search(line)]
    said = "; ".join(dict.fromkeys(lines[-3:]))[:300] or f"ended with {code} and no word"
    return said if said.startswith(program) else f"{program}: {said}"


def _quoted(text: str) -> str:
    """As freeipmi's configuration wants a word that may hold its signs."""
    return '"' + re.sub(r'([\\"#])', r"\\\1", text) + '"'
