"""A program in a child process that meets the NVML stand-in: the library is found when a process starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from tests.fakes.curve import NS_PER_S, Curve, boot_ns
from tests.fakes.rig import RigNode
from tests.fakes.rig_gpu import Gpu


@cache
def _start_ns() -> int:
    """How long a child needs to begin."""
    begun_ns = boot_ns()
    subprocess.run([sys.executable, "-c", "import json; from jobimpact_daemon.sources import nvml"], check=True)
    return boot_ns() - begun_ns


def soon_ns() -> int:
    """When a script's clock may begin, so that what starts now is there a second later: now, if it is quick."""
    return boot_ns() + max(0, 5 * _start_ns() - NS_PER_S)


def ask_child(folder: Path, program: str, *gpus: Gpu, **node: Any) -> Any:
    """Run `program` with these GPUs, and give back what it left in `out`."""
    one = RigNode("n1", folder / "n1", rapl={"package-0": Curve.flat(0, 1)}, gpus=gpus, **node)
    source = f"import json\nout = {{}}\n{program}\nprint(json.dumps(out))"
    environment = {**os.environ, **one.env}
    done = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
