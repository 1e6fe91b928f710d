"""Compiles the rig's C sources once per content."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "powerrig"
SOURCES = ("curve.h", "rig_node.h", "powerrig.c", "nvml_calls.h", "nvml.c")
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-unused-function", "-Werror")


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
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for name in SOURCES:
        digest.update((HERE / name).read_bytes())
    folder = CACHE / digest.hexdigest()[:16]
    built = Built(folder / "powerrig", folder / "lib")
    if folder.is_dir():
        return built
    if shutil.which("gcc") is None:
        raise NoCompilerError("the power rig needs gcc")
    # built beside, then renamed: two test runs may build at once
    work = folder.with_name(f"{folder.name}.{os.getpid()}")
    (work / "lib").mkdir(parents=True)
    _compile("powerrig.c", work / "powerrig")
    _compile("nvml.c", work / "lib" / "libnvidia-ml.so.1", "-shared", "-fPIC", "-fvisibility=hidden")
    try:
        work.rename(folder)
    except OSError:
        shutil.rmtree(work)
    return built


def _compile(source: str, target: Path, *flags: str) -> None:
    subprocess.run(["gcc", *FLAGS, *flags, "-o", str(target), str(HERE / source)], check=True)
