"""Each shell, and folders, for hooks, which get the signals that a slurmd leaves them, even under `nohup` or `&`."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hooks.shells import BOOT, Shell, find_shells


@pytest.fixture(autouse=True, scope="session")
def _no_ignored_signals() -> Iterator[None]:
    """A shell cannot trap what it was started with ignored, and children inherit that."""
    ignored = [
        one for one in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT) if signal.getsignal(one) == signal.SIG_IGN
    ]
    for one in ignored:
        signal.signal(one, signal.SIG_DFL)
    yield
    for one in ignored:
        signal.signal(one, signal.SIG_IGN)


@pytest.fixture(params=find_shells(), ids=lambda shell: shell.name)
def shell(request: pytest.FixtureRequest) -> Shell:
    """Each shell that this machine has."""
    found: Shell = request.param
    return found


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """An empty mark folder."""
    folder = tmp_path / "marks"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A proc folder in which the uptime and the boot id are known."""
    folder = tmp_path / "proc"
    (folder / "sys/kernel/random").mkdir(parents=True)
    (folder / "uptime").write_text("113.82 400.12\n")
    (folder / "sys/kernel/random/boot_id").write_text(f"{BOOT}\n")
    return folder


@pytest.fixture
def settings(marks: Path, proc: Path) -> dict[str, str]:
    """The two settings that point a hook at the test's own folders."""
    return {"JOBIMPACT_MARKS": str(marks), "JOBIMPACT_PROC": str(proc)}


@pytest.fixture
def private_mounts() -> list[str]:
    """A command prefix that runs a program with mounts that nobody else sees."""
    prefix = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts a file system of its own")
    if subprocess.run([*prefix, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode:
        pytest.skip("needs unshare and mount: this machine refuses a mount namespace")
    return prefix
