"""A BMC on the loopback: OpenIPMI's ipmi_sim, with a module of ours that answers DCMI."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

SOURCE = Path(__file__).with_name("ipmi_dcmi.c")
PASSWORD = "a#b"  # noqa: S105 (the simulator's)
"""With a sign that freeipmi's configuration takes for a comment."""


def missing() -> str:
    """Why the simulator cannot be here; empty: it can."""
    needed = [name for name in ("ipmi_sim", "gcc") if shutil.which(name) is None]
    if not Path("/usr/include/OpenIPMI/mcserv.h").exists():
        needed.append("libopenipmi-dev")
    return f"not installed: {', '.join(needed)}" if needed else ""


class Bmc:
    """A BMC with the user `reader`.

    Args:
        folder: for its files.
    """

    def __init__(self, folder: Path) -> None:
        self.host = "127.0.0.1"
        self.port = _free_port()
        self._folder = folder
        self._said = folder / "said"
        self.password_file = folder / "password"
        self.password_file.write_text(f"{PASSWORD}\n")
        self.password_file.chmod(0o600)
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        module = self._folder / "dcmi.so"
        command = ["gcc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o", str(module), str(SOURCE)]
        subprocess.run(command, check=True, timeout=60)
        self.set(300)
        (self._folder / "state").mkdir()
        (self._folder / "lan.conf").write_text(
            f'name "bmc"\nloadlib "{module}" "{self._said}"\nstartlan 1\n  addr {self.host} {self.port}\n'
            "  priv_limit admin\n"
            + "".join(f"  allowed_auths_{level} md5\n" for level in ("callback", "user", "operator", "admin"))
            + "  guid a123456789abcdefa123456789abcdef\nendlan\n"
            f'user 2 true "reader" "{PASSWORD}" admin 10 md5\n'
        )
        (self._folder / "commands").write_text(
            "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\nmc_enable 0x20\n"
        )
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def set(self, watts: int, *, active: bool = True, code: int = 0, hangs: bool = False) -> None:
        """What it answers from now on; minimum, maximum and average are those of other days."""
        new = self._said.with_suffix(".new")
        new.write_text(f"{watts} 12 900 433 {active:d} {code} {hangs:d}\n")
        new.replace(self._said)

    def start(self) -> None:
        """Switch it on, and wait until it listens."""
        command = ["ipmi_sim", "-n", "-c", "lan.conf", "-f", "commands", "-s", "state"]
        log = (self._folder / "log").open("wb")
        self._child = subprocess.Popen(command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        until = time.monotonic() + 10
        while not _listens(self.port):
            if time.monotonic() > until or self._child.poll() is not None:
                raise RuntimeError((self._folder / "log").read_text())
            time.sleep(0.02)

    def stop(self) -> None:
        """Pull its plug."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
