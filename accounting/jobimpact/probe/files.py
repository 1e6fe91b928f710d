"""Reading a tree of small files that may not be there, may not be readable, and may say anything."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["children", "clean", "number", "one_line", "pci_address", "read_bytes", "read_text", "there"]

LIMIT = 1 << 24
"""Bytes read of one file: a cpuinfo of thousands of CPUs fits."""
MAX_TEXT = 120
_PCI = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.[0-7]")


def read_bytes(path: Path) -> bytes | str:
    """A file's first 16 MiB; text instead is why it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(LIMIT)
    except FileNotFoundError:
        return f"{path} is not there"
    except OSError as error:
        root = os.geteuid() and isinstance(error, PermissionError)
        return f"{path} may only be read by root: run this as root" if root else f"{path}: {error.strerror}"


def read_text(path: Path) -> str | None:
    """A file as text, whatever its bytes; None: it cannot be read, or is empty."""
    found = read_bytes(path)
    return found.decode("utf-8", "replace").strip("\0 \t\n") or None if isinstance(found, bytes) else None


def number(path: Path, base: int = 10) -> int | None:
    """A file that holds one whole number; None: it does not."""
    text = read_text(path)
    try:
        return None if text is None or len(text) > 20 else int(text, base)
    except ValueError:
        return None


def children(folder: Path, pattern: str = ".*") -> list[Path]:
    """What a folder holds by names that match as a whole, sda2 before sda10; nothing where it cannot be listed."""
    try:
        names = [name for name in os.listdir(folder) if re.fullmatch(pattern, name)]
    except OSError:
        return []
    return [folder / name for name in sorted(names, key=_natural)]


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"([0-9]+)", name)]


def there(path: Path) -> bool:
    """Whether something is there, as far as we may look."""
    return os.access(path, os.F_OK)


def one_line(text: str) -> str:
    """Text without control characters, line ends of any kind, surrogates, or what changes the direction of writing."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def clean(text: str) -> str:
    """A machine's text on one line, of no more than 120 characters."""
    return one_line(text)[:MAX_TEXT].strip()


def pci_address(device: Path) -> tuple[int, int, int] | None:
    """The domain, bus and device of the PCI function that a device hangs on; None: on none."""
    found = _PCI.findall(os.path.realpath(device))
    if not found:
        found = _PCI.findall(read_text(device / "uevent") or "")
    return None if not found else _numbers(found[-1])


def _numbers(address: tuple[str, str, str]) -> tuple[int, int, int]:
    domain, bus, device = (int(part, 16) for part in address)
    return domain, bus, device
