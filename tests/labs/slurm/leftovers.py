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
LOCK = Path("/run/lock/jobimpact-slurm-lab")


class LabLock:
    """A lock that the lab's processes inherit: while it is free, no lab is alive."""

    def __init__(self, prefix: str, path: Path = LOCK) -> None:
        self.prefix = prefix
        self.path = path
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
        remove_cgroups(self.prefix)

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


def remove_cgroups(prefix: str, timeout: float = 10) -> None:
    """Remove the nodes' cgroups under every v1 controller, and kill what still lives in them."""
    deadline = time.monotonic() + timeout
    while tops := leftover_cgroups(prefix):
        for top in tops:
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):  # a task of it is dying, or it is gone: the next round sees
                    for pid in Path(folder, "cgroup.procs").read_text().split():
                        os.kill(int(pid), signal.SIGKILL)
                    Path(folder).rmdir()
        if time.monotonic() > deadline:
            raise TimeoutError(f"cgroups that cannot be removed: {tops}")
        time.sleep(0.02)


def leftover_cgroups(prefix: str) -> list[Path]:
    """The nodes' top cgroups that exist."""
    return sorted(CGROUPS.glob(f"*/slurm_{prefix}[0-9][0-9]"))
