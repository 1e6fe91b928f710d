"""Compiles the rig's C sources once per content."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "powerrig"
SOURCES = ("curve.h", "trouble.h", "rig_node.h", "powerrig.c", "nvml_calls.h", "nvml.c")
AMD_SOURCES = ("curve.h", "trouble.h", "amdsmi.c")
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-unused-function", "-Werror")
SHARED = ("-shared", "-fPIC", "-fvisibility=hidden")


class NoCompilerError(Exception):
    """gcc is absent; its message is the reason to skip."""


@dataclass(frozen=True, slots=True)
class Built:
    """What `build` made: the player, and the folder for LD_LIBRARY_PATH with libnvidia-ml.so.1."""

    powerrig: Path
    library_dir: Path


def build() -> Built:
    """Compile `powerrig` and `libnvidia-ml.so.1` into a cache keyed by their sources.

    Raises:
        NoCompilerError: where gcc is not installed and the cache is empty.
    """
    folder = CACHE / _digest(*(HERE / name for name in SOURCES))
    with _fresh(folder) as work:
        if work is not None:
            (work / "lib").mkdir()
            _compile(HERE / "powerrig.c", work / "powerrig")
            _compile(HERE / "nvml.c", work / "lib" / "libnvidia-ml.so.1", *SHARED)
    return Built(folder / "powerrig", folder / "lib")


def build_amdsmi(wrapper: Path) -> Path:
    """Compile `lib/libamd_smi.so` for the Python package with this amdsmi_wrapper.py, which binds all names at once.

    Returns:
        The folder for ROCM_PATH.

    Raises:
        NoCompilerError: where gcc is not installed and the cache is empty.
    """
    folder = CACHE / _digest(*(HERE / name for name in AMD_SOURCES), wrapper)
    with _fresh(folder) as work:
        if work is not None:
            (work / "lib").mkdir()
            bound = set(re.findall(r"_libraries\['libamd_smi\.so'\]\.(\w+)", wrapper.read_text()))
            written = set(re.findall(r"^API int (\w+)\(", (HERE / "amdsmi.c").read_text(), re.MULTILINE))
            rest = work / "rest.c"
            rest.write_text("".join(f"int {name}(void) {{ return 2; }}\n" for name in sorted(bound - written)))
            _compile(HERE / "amdsmi.c", work / "lib" / "libamd_smi.so", str(rest), "-shared", "-fPIC")
    return folder


def _digest(*files: Path) -> str:
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _fresh(folder: Path) -> Iterator[Path | None]:
    """A folder to build in, which takes its name at the end; None: it was built before."""
    if folder.is_dir():
        yield None
        return
    if shutil.which("gcc") is None:
        raise NoCompilerError("the power rig needs gcc")
    # built beside, then renamed: two test runs may build at once
    work = folder.with_name(f"{folder.name}.{os.getpid()}")
    work.mkdir(parents=True)
    yield work
    try:
        work.rename(folder)
    except OSError:
        shutil.rmtree(work)


def _compile(source: Path, target: Path, *flags: str) -> None:
    subprocess.run(["gcc", *FLAGS, *flags, "-o", str(target), str(source)], check=True)
