"""Job records from schedulers: one file, one scheduler."""

from __future__ import annotations

from pathlib import Path

from jobimpact.core.config import Config, Slurm
from jobimpact.schedulers.base import Finished, JobSource
from jobimpact.schedulers.local import LocalRecords
from jobimpact.schedulers.sacct import Sacct

__all__ = ["Finished", "JobSource", "job_source"]


def job_source(config: Config) -> JobSource:
    """The scheduler that the configuration names."""
    if config.scheduler.local:
        return LocalRecords(Path(config.scheduler.local.path), config.cluster)
    return Sacct(config.cluster, (config.scheduler.slurm or Slurm()).timeout_s)
