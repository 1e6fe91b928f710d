"""What the tests and the measurement of the Slurm hooks share: the hooks and a job's environment."""

from __future__ import annotations

from collections.abc import Mapping

from tests.hooks.shells import HOOKS

PROLOG = HOOKS / "slurm/prolog"
EPILOG = HOOKS / "slurm/epilog"

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
