"""What the tests of all hooks share: the shells, and one real run."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HOOKS = Path(__file__).parents[2] / "prolog_epilog"
BOOT = "5d1c8a3e-6f0b-4c8e-9a57-0e6d2f1b7c44"
NAME = re.compile(r"\d+\.\d\d\.(\d+)\.(start|end)\.(\d+)")

Env = Mapping[str, str | bytes | Path]


@dataclass(frozen=True)
class Shell:
    """One shell that a site may have as /bin/sh."""

    name: str
    argv: tuple[str, ...]


def find_shells() -> list[Shell]:
    """The shells of this machine; dash is listed even where it is missing, so that its tests fail there."""
    shells = [Shell("dash", (shutil.which("dash") or "/bin/dash",))]
    if bash := shutil.which("bash"):
        shells.append(Shell("bash", (bash, "--posix")))
    if busybox := shutil.which("busybox"):
        shells.append(Shell("busybox", (busybox, "sh")))
    return shells


def start(argv: Sequence[str | Path], env: Env, cwd: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a hook as a scheduler does: this environment and no other, stdin empty, a process group of its own."""
    return subprocess.Popen(
        argv,
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[bytes], *, shell_may_warn: bool = False) -> int:
    """Wait for a hook, hold it to its promise (status 0, no output), and give its process id.

    Args:
        process: What `start` gave.
        shell_may_warn: The shell itself says something on stderr before it reads the hook's first line.
    """
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, b""), err
    assert shell_may_warn or err == b""
    return process.pid


def only_mark(folder: Path) -> Path:
    """The one file of the mark folder."""
    (found,) = folder.iterdir()
    return found


def script(text: str, *arguments: str | Path) -> list[str | Path]:
    """A small shell program around a hook; `$@` in it is what follows."""
    return ["/bin/sh", "-c", text, "sh", *arguments]
