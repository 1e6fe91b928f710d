"""The node as the kernel tells it: its size, its busy time, its memory in use, its boot."""

from __future__ import annotations

import os
from pathlib import Path

from jobimpact_daemon.kept import KeptFile

__all__ = ["NETWORK", "NodeProc", "file_system"]

NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "fuse.sshfs"})
"""File systems on which SQLite's WAL loses data."""

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class NodeProc:
    """The node's /proc.

    Args:
        root: where it is mounted.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[str, KeptFile] = {}

    def boot_id(self) -> str:
        """The kernel's random id of this boot; empty if it does not tell."""
        try:
            return (self._root / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:
            return ""

    def cpus(self) -> int | None:
        """How many logical CPUs are there."""
        lines = self._read("stat", 1 << 20)
        return (
            None if lines is None else sum(line[:3] == b"cpu" and line[3:4].isdigit() for line in lines.split(b"\n"))
        )

    def mem_bytes(self) -> int | None:
        """How much memory is there."""
        return self._memory().get(b"MemTotal")

    def busy_ns(self) -> int | None:
        """CPU time in use since boot, over all CPUs: user, nice, system, irq, softirq; not idle, iowait or steal."""
        text = self._read("stat", 256)
        if text is None or not text.startswith(b"cpu "):
            return None
        fields = text.split(b"\n", 1)[0].split()
        if len(fields) < 8:
            return None
        return sum(int(fields[place]) for place in (1, 2, 3, 6, 7)) * _TICK_NS

    def used_mem_bytes(self) -> int | None:
        """Memory that is neither free nor a cache that can be dropped."""
        memory = self._memory()
        total, available = memory.get(b"MemTotal"), memory.get(b"MemAvailable")
        return None if total is None or available is None else total - available

    def _memory(self) -> dict[bytes, int]:
        found = {}
        for line in (self._read("meminfo", 256) or b"").split(b"\n")[:4]:
            name, _, rest = line.partition(b":")
            size = rest.split()
            if len(size) == 2 and size[0].isdigit():
                found[name] = int(size[0]) << 10
        return found

    def _read(self, name: str, size: int) -> bytes | None:
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = KeptFile(self._root / name)
        try:
            return file.read(size)
        except OSError:
            return None


def file_system(path: Path) -> str:
    """The type of the file system that a path is, or will be, on."""
    here = str(path.resolve())
    best, kind = "", "unknown"
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return kind
    for line in mounts.splitlines():
        _, point, found, *_ = line.split()
        if (here == point or here.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, found
    return kind
