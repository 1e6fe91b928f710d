"""The node as the kernel tells it: its size, its CPUs by package, its busy time, its memory in use, its boot."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path

from jobimpact_daemon.kept import KeptFile

__all__ = ["NETWORK", "NodeProc", "Packages", "cpu_list", "file_system"]

NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "fuse.sshfs"})
"""File systems on which SQLite's WAL loses data."""

MAX_CPUS = 1 << 16
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_DIE = re.compile(r"package-(\d+)-die-\d+\Z", re.ASCII)
_CPU_DIR = re.compile(r"cpu(\d+)\Z", re.ASCII)


def cpu_list(text: str) -> set[int]:
    """The kernel's list of CPUs: `0-2,8` is 0, 1, 2 and 8.

    Raises:
        ValueError: it is none.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if first:
            found.update(range(int(first), int(last or first) + 1))
    return found


class Packages:
    """Which CPUs lie on which package.

    Args:
        cpus: logical CPUs by package, by RAPL's name of it (`package-0`, `package-0-die-1`).
    """

    def __init__(self, cpus: Mapping[str, Sequence[int]]) -> None:
        self.cpus = {name: tuple(found) for name, found in cpus.items() if found}
        self.sizes = {name: len(found) for name, found in self.cpus.items()}
        self._last = max((max(found) for found in self.cpus.values()), default=0)
        # The same one twice: with one place alone, itemgetter gives no tuple.
        self._pick = {name: itemgetter(*found, found[0]) for name, found in self.cpus.items()}

    def __len__(self) -> int:
        return len(self.cpus)

    def sums(self, each: Sequence[int]) -> dict[str, int] | None:
        """What each CPU has, by its number, summed by package; None where that is not told of all CPUs."""
        if len(each) <= self._last:
            return None
        sums = {}
        for name, pick in self._pick.items():
            found = pick(each)
            sums[name] = sum(found) - found[-1]
        return sums

    def counts(self, cpus: set[int]) -> dict[str, int]:
        """How many of some CPUs lie on each package."""
        return {name: sum(cpu in cpus for cpu in found) for name, found in self.cpus.items()}


class NodeProc:
    """The node's /proc.

    Args:
        root: where it is mounted.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[str, KeptFile] = {}
        self._each_busy_ns: list[int] = []

    @property
    def processes(self) -> Path:
        """Where processes are: a /proc that is only a stand-in for the node's numbers has none."""
        return self._root if (self._root / "self").exists() else Path("/proc")

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

    @staticmethod
    def packages(sys_root: Path, domains: Iterable[str] = ()) -> dict[str, tuple[int, ...]]:
        """The node's logical CPUs by package; those that are offline lie on none.

        Args:
            sys_root: where sysfs is mounted.
            domains: names of the power domains that are read: where a package's dies are metered one by one, the
                CPUs are told by die.

        Returns:
            `package-0` (or `package-0-die-1`) → CPUs; empty where the kernel does not tell.
        """
        dies: dict[str, list[str]] = {}
        for name in sorted(domains):
            if die := _DIE.match(name):
                dies.setdefault(f"package-{int(die[1])}", []).append(name)
        found: dict[str, list[int]] = {}
        base = sys_root / "devices/system/cpu"
        for cpu in _cpus_in(base):
            topology = base / f"cpu{cpu}" / "topology"
            package = _number_in(topology / "physical_package_id")
            if package is None or package < 0:
                continue
            name = f"package-{package}"
            if metered := dies.get(name):
                die_name = f"{name}-die-{_number_in(topology / 'die_id')}"
                # Dies that mirror one counter are read once, under the first one's name.
                name = die_name if die_name in metered else metered[0]
            found.setdefault(name, []).append(cpu)
        return {name: tuple(sorted(found[name])) for name in sorted(found)}

    def mem_bytes(self) -> int | None:
        """How much memory is there."""
        return self._memory().get(b"MemTotal")

    def busy_ns(self) -> int | None:
        """CPU time in use since boot, over all CPUs: user, nice, system, irq, softirq; not idle, iowait or steal."""
        text = self._read("stat", 256)
        if text is None or not text.startswith(b"cpu "):
            return None
        return _busy_ns(text.split(b"\n", 1)[0])

    def busy_by(self, packages: Packages) -> dict[str, int] | None:
        """The same by package; None where the kernel does not tell of each CPU.

        A CPU that has gone offline has no line any more: what it had done is kept, or its package would lose it.
        """
        text = self._read("stat", 128 * (len(self._each_busy_ns) + 1024))
        seen = False
        for line in (text or b"").split(b"\n")[1:]:
            if not line.startswith(b"cpu"):
                break
            number, busy_ns = line[3:].split(b" ", 1)[0], _busy_ns(line)
            if busy_ns is None or not number.isdigit() or int(number) >= MAX_CPUS:
                return None
            self._each_busy_ns += [0] * (int(number) + 1 - len(self._each_busy_ns))
            self._each_busy_ns[int(number)] = busy_ns
            seen = True
        return packages.sums(self._each_busy_ns) if seen else None

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


def _busy_ns(line: bytes) -> int | None:
    """One CPU line of /proc/stat: what is not idle, waiting or stolen."""
    fields = line.split()
    return None if len(fields) < 8 else sum(int(fields[place]) for place in (1, 2, 3, 6, 7)) * _TICK_NS


def _cpus_in(folder: Path) -> list[int]:
    try:
        return [int(found[1]) for name in os.listdir(folder) if (found := _CPU_DIR.match(name))]
    except OSError:
        return []


def _number_in(path: Path) -> int | None:
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):
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
