"""One lab at a time on a machine, and nothing of a crashed one left."""

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


class LabLock:
    """A lock that the lab's processes inherit: while it is free, no lab is alive.

    Args:
        path: the lock's file.
        prefix: of the names of the lab's folders.
        cgroups: a pattern of the lab's top cgroups below /sys/fs/cgroup.
    """

    def __init__(self, path: Path, prefix: str, cgroups: str) -> None:
        self.path, self.prefix, self.cgroups = path, prefix, cgroups
        self.descriptor = -1

    @property
    def held(self) -> bool:
        """Whether this process has it."""
        return self.descriptor >= 0

    def acquire(self, timeout: float) -> None:
        """Wait for the lock, then clear away what a crashed lab has left."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    raise TimeoutError(f"another lab is running ({self.path})") from None
                time.sleep(0.2)
        self.descriptor = descriptor
        stale = Path(os.pread(descriptor, 4096, 0).decode().strip())
        if stale.parent == Path(tempfile.gettempdir()) and stale.name.startswith(f"{self.prefix}-"):
            shutil.rmtree(stale, ignore_errors=True)
        remove_cgroups(self.cgroups)

    def note(self, folder: Path) -> None:
        """Remember the lab's folder for whoever comes after a crash."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{folder}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock back. The file stays: a new one would let in a second lab while one waits for this."""
        os.ftruncate(self.descriptor, 0)
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        os.close(self.descriptor)
        self.descriptor = -1


def remove_cgroups(pattern: str, timeout: float = 120) -> None:
    """Remove cgroups under every v1 controller, and kill what still lives in them."""
    deadline = time.monotonic() + timeout
    while tops := sorted(CGROUPS.glob(pattern)):
        for top in tops:
            for folder, _, _ in os.walk(top, topdown=False):
                _remove(Path(folder))
        if time.monotonic() > deadline:
            raise TimeoutError(f"cgroups that cannot be removed: {tops}")
        time.sleep(0.02)


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):  # a task of it is dying, or it is gone: the next round sees
        for pid in (folder / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        if (folder / "freezer.state").exists():
            (folder / "freezer.state").write_text("THAWED")  # a frozen process does not die
        folder.rmdir()
