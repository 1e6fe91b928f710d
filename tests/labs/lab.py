"""What every lab is: a real cluster on one machine, in namespaces of its own, that dies with who made it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Self

from tests.labs.leftovers import CGROUPS, LabLock, remove_cgroups

SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
PATIENCE_S = 300
"""For how long to wait for anything: the machine may be slow and busy."""
_NAMESPACES = ("--net", "--uts", "--mount", "--ipc", "--pid")


class LabError(Exception):
    """The lab, or a command in it, failed."""


class Lab(ABC):
    """One cluster. Only one lab of a kind runs at a time on a machine; a second one waits.

    Args:
        lock: of all labs of this kind.
        nodes: the nodes' names.
        gpu_nodes: the names of the nodes with GPUs.
    """

    def __init__(self, lock: LabLock, nodes: list[str], gpu_nodes: list[str]) -> None:
        self.nodes, self.gpu_nodes = nodes, gpu_nodes
        self.folder = Path()
        self.boot_seconds = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0
        self._lock = lock

    @abstractmethod
    def _write(self) -> None:
        """Fill the lab's empty folder."""

    @abstractmethod
    def _first(self) -> list[str | Path]:
        """The command that is pid 1; it makes the file `ready` when all is up."""

    @abstractmethod
    def _start_folder(self) -> str:
        """Where commands begin, seen from inside."""

    def _environment(self) -> dict[str, str]:
        """That of pid 1."""
        return {"LAB": str(self.folder), "NODES": " ".join(self.nodes), "PATH": SYSTEM_PATH}

    def _variables(self) -> dict[str, str]:
        """What a command in the lab has in its environment, beside what tells of its user."""
        return {"LAB": str(self.folder), "PATH": f"{self.folder}/tools:{SYSTEM_PATH}"}

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    # -- life --------------------------------------------------------------------------------------------------

    def up(self, timeout: float = PATIENCE_S, lock_timeout: float = 1800) -> None:
        """Start everything; returns when all nodes are up."""
        self.clear(lock_timeout)
        start = time.monotonic()
        try:
            self.folder = Path(tempfile.mkdtemp(prefix=f"{self._lock.prefix}-"))
            self._lock.note(self.folder)
            self._write()
            self._start()
            until(self._ready, timeout, lambda: f"the lab did not come up\n{self.logs()}")
        except BaseException:
            self.down()
            raise
        self.boot_seconds = time.monotonic() - start

    def clear(self, lock_timeout: float = 1800) -> None:
        """Wait for the lock, then clear away what a crashed lab has left; `down` gives the lock back."""
        self._lock.acquire(lock_timeout)

    def down(self) -> None:
        """Kill everything and leave nothing behind; harmless when there is nothing."""
        if self._process:
            self._process.kill()  # and with it pid 1 of the namespace (--kill-child), and with that all the others
            self._process.wait()
            self._process, self._init = None, 0
        if self._lock.held:
            remove_cgroups(self._lock.cgroups)
            if self.folder.name:
                shutil.rmtree(self.folder, ignore_errors=True)
            self._lock.release()

    def _start(self) -> None:
        # setpriv: a killed test run takes its lab along. The lock's descriptor lives as long as the lab does.
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", *_NAMESPACES, "--fork", "--mount-proc"]
        with (self.folder / "log/inside.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--kill-child=SIGKILL", *self._first()],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[self._lock.descriptor],
            )

    def _ready(self) -> bool:
        assert self._process
        if self._process.poll() is not None:
            raise LabError(f"the lab died\n{self.logs()}")
        if not (self.folder / "ready").exists():
            return False
        found = subprocess.run(["pgrep", "-P", str(self._process.pid)], capture_output=True, text=True, check=True)
        self._init = int(found.stdout)
        return True

    @property
    def home(self) -> Path:
        """Where jobs run and leave their output, seen from outside; anyone may write."""
        return self.folder / "home"

    def logs(self, lines: int = 25) -> str:
        """The last lines of every log, for a failed test's message."""
        logs = sorted((self.folder / "log").glob("*"))
        return "\n".join(
            f"== {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) for log in logs
        )

    # -- commands ----------------------------------------------------------------------------------------------

    def enter(self) -> list[str]:
        """What to put before a command so that it runs inside the lab, as root."""
        return enter(self._init)

    def run(
        self,
        command: str | list[str],
        user: str = "root",
        check: bool = True,
        stdin: str = "",
        timeout: float = PATIENCE_S,
        within: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside the lab: a list, or a line of bash. `load` is on its PATH.

        Args:
            command: what to run.
            user: who runs it.
            check: whether it must end with 0.
            stdin: what it can read.
            timeout: in seconds.
            within: what to put before it instead of `enter()`.
        """
        argv = ["bash", "-c", command] if isinstance(command, str) else command
        identity = [] if user == "root" else ["setpriv", "--reuid", user, "--regid", user, "--init-groups"]
        home = self._start_folder()
        environment = {"HOME": home, "PWD": home, "USER": user, **self._variables()}
        pairs = [f"{key}={value}" for key, value in environment.items()]
        done = subprocess.run(
            [*(within or self.enter()), *identity, "env", "--ignore-environment", f"--chdir={home}", *pairs, *argv],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise LabError(f"{command!r} as {user} ended with {done.returncode}: {done.stderr}{done.stdout}")
        return done

    def look_around(self, **facts: str) -> None:
        """Say where the lab is, and open a shell in it."""
        told = {"folder": str(self.folder), "boot_seconds": round(self.boot_seconds, 2), **facts}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the shell's own business
        subprocess.run([*self.enter(), "bash"], env={**os.environ, **self._variables()}, check=False)


def enter(pid: int, *more: str) -> list[str]:
    """What to put before a command so that it runs in the namespaces of a process, and in `more` of them."""
    return ["nsenter", "--target", str(pid), *_NAMESPACES, *more, "--root", "--"]


def lacking(programs: Iterable[str], files: Iterable[str], controllers: Iterable[str], *namespaces: str) -> str:
    """What this machine lacks for a lab, in words; empty if nothing. Files are patterns."""
    if os.geteuid():
        return "needs root"
    absent = [name for name in programs if not shutil.which(name, path=SYSTEM_PATH)]
    absent += [pattern for pattern in files if not any(Path("/").glob(pattern.removeprefix("/")))]
    if absent:
        return "not installed: " + " ".join(absent)
    if unknown := [name for name in controllers if not (CGROUPS / name / "tasks").exists()]:
        return "no cgroup v1: " + " ".join(unknown)
    command = ["unshare", *_NAMESPACES, *namespaces, "--fork", "true"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"no namespaces: {tried.stderr.strip()}" if tried.returncode else ""


def until(done: Callable[[], bool], timeout: float, message: Callable[[], str], pause: float = 0.1) -> None:
    """Wait for a condition.

    Raises:
        LabError: it did not come; the message says what was there instead.
    """
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            raise LabError(f"after {timeout:.0f} s: {message()}")
        time.sleep(pause)
