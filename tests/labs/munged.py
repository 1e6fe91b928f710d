"""Real munge daemons with keys, sockets and clocks of their own: a host's munge each, all on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.labs.lab import PATIENCE_S, until

__all__ = ["AS_USER", "Host", "folder_for_all", "missing", "munged"]

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_CLOCK = """
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
time_t time(time_t *out) {
  struct timespec now;
  syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
  time_t shifted = now.tv_sec + atol(getenv("SHIFT_S"));
  if (out) *out = shifted;
  return shifted;
}
"""
_LIGHT = (
    r"jobimpact\.(core\.(?!server)|answers\.(?!live|local|period)|cli\.(answer|ids|options|pager|times)|findings"
    r"|report\.(?!assess|books|compare|inventory|mail|page|period|plots)|results\.(outcome|record|select|sums))"
)
AS_USER = f"""
import importlib, os, pkgutil, re, sys
import ctypes, difflib, encodings.idna, json, textwrap, threading, zlib
import jobimpact
for one in pkgutil.walk_packages(jobimpact.__path__, "jobimpact."):
    if re.match({_LIGHT!r}, one.name):
        importlib.import_module(one.name)
uid = int(sys.argv[1])
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
del sys.argv[1]
"""
"""The beginning of a program that gives root up for the uid of its first argument. All is loaded before: the Python
that runs the tests may lie where others cannot read. What an answer must not load is not."""


class Host:
    """One host's munge.

    Args:
        socket: of its daemon.
        pid: the daemon's.
    """

    def __init__(self, socket: Path, pid: int) -> None:
        self.socket = str(socket)
        self.pid = pid

    def credential(self, payload: str, *options: str) -> bytes:
        """Made by munge's own command, as this process's user."""
        command = ["munge", "--socket", self.socket, "--string", payload, *options]
        done = subprocess.run(command, env={"PATH": _PATH}, capture_output=True, check=True)
        return done.stdout.strip()


def missing() -> str:
    """What this machine lacks, in words; empty if nothing."""
    if os.geteuid():
        return "needs root"
    absent = [name for name in ("munged", "munge", "setpriv", "gcc") if not shutil.which(name, path=_PATH)]
    return f"not installed: {' '.join(absent)}" if absent else ""


@contextmanager
def folder_for_all() -> Iterator[Path]:
    """A folder that every user can look into, and root alone may write."""
    with tempfile.TemporaryDirectory(prefix="jobimpact-munge-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextmanager
def munged(folder: Path, name: str, key: bytes, shift_s: int = 0) -> Iterator[Host]:
    """A host's daemon.

    Args:
        folder: where it gets a folder of its own.
        name: of the host.
        key: at least 32 bytes; hosts of one site have the same.
        shift_s: by how much its clock is ahead.
    """
    home = folder / name
    home.mkdir()
    (home / "key").write_bytes(key)
    (home / "key").chmod(0o600)
    for path in (home, home / "key"):
        shutil.chown(path, "munge", "munge")
    environment = {"PATH": _PATH}
    if shift_s:
        (home / "clock.c").write_text(_CLOCK)
        library = home / "clock.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, home / "clock.c"], check=True)
        environment |= {"LD_PRELOAD": str(library), "SHIFT_S": str(shift_s)}
    options = [f"--{name}={home / file}" for name, file in _FILES.items()]
    drop = ["setpriv", "--reuid", "munge", "--regid", "munge", "--clear-groups", "--pdeathsig", "KILL"]
    with (home / "words").open("wb") as words:
        daemon = subprocess.Popen(
            [*drop, "munged", "--foreground", "--force", *options],
            env=environment,
            stdout=words,
            stderr=subprocess.STDOUT,
        )
    host = Host(home / "socket", daemon.pid)
    try:
        until(lambda: _answers(host), PATIENCE_S, (home / "words").read_text)
        yield host
    finally:
        daemon.kill()
        daemon.wait()


_FILES = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}


def _answers(host: Host) -> bool:
    try:
        return bool(host.credential("hello"))
    except subprocess.CalledProcessError:
        return False
