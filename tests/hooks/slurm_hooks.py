"""What the tests and the measurement of the Slurm hooks share: the shells, a job's environment, one real run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HOOKS = Path(__file__).parents[2] / "prolog_epilog" / "slurm"
PROLOG = HOOKS / "prolog"
EPILOG = HOOKS / "epilog"

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


# What slurmd 22.05 gives to the Prolog of a batch job without GPUs: no PATH, no HOME, no USER.
BATCH: dict[str, str] = {
    "SLURMD_NODENAME": "node01",
    "SLURM_CLUSTER_NAME": "labia",
    "SLURM_CONF": "/etc/slurm/slurm.conf",
    "SLURM_JOBID": "123",
    "SLURM_JOB_ACCOUNT": "physics",
    "SLURM_JOB_CPUS_PER_NODE": "2",
    "SLURM_JOB_GID": "2001",
    "SLURM_JOB_ID": "123",
    "SLURM_JOB_NUM_NODES": "1",
    "SLURM_JOB_PARTITION": "main",
    "SLURM_JOB_RESTART_COUNT": "0",
    "SLURM_JOB_STDIN": "/dev/null",
    "SLURM_JOB_STDOUT": "/home/ann/slurm-123.out",
    "SLURM_JOB_UID": "2001",
    "SLURM_JOB_USER": "ann",
    "SLURM_JOB_WORK_DIR": "/home/ann",
    "SLURM_NODELIST": "node01",
    "SLURM_SCRIPT_CONTEXT": "prolog_slurmd",
    "SLURM_UID": "2001",
}


def ended(env: Mapping[str, str], wait_status: str = "0") -> dict[str, str]:
    """The environment of the same job's Epilog."""
    return {
        **env,
        "SLURM_SCRIPT_CONTEXT": "epilog_slurmd",
        "SLURM_JOB_EXIT_CODE": wait_status,
        "SLURM_JOB_EXIT_CODE2": "0:0",
        "SLURM_JOB_DERIVED_EC": "0",
    }


def start(argv: Sequence[str | Path], env: Env, cwd: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a hook as slurmd does: this environment and no other, stdin empty, a process group of its own."""
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
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, b""), err
    assert shell_may_warn or err == b""
    return process.pid
