"""Job records from schedulers: one file, one scheduler."""

from __future__ import annotations

from pathlib import Path

from jobimpact.core.config import Config, Slurm
from jobimpact.schedulers.base import Finished, JobSource
from jobimpact.schedulers.local import LocalRecords
from jobimpact.schedulers.oar import OarRecords
from jobimpact.schedulers.pyslurm import PySlurm
from jobimpact.schedulers.sacct import Sacct

__all__ = ["Finished", "JobSource", "job_source"]


def job_source(config: Config) -> JobSource:
    """The scheduler that the configuration names; of several clusters, that of the one in `cluster`."""
    if config.scheduler.local:
        return LocalRecords(Path(config.scheduler.local.path), config.cluster)
    if config.scheduler.oar:
        return OarRecords(config.scheduler.oar, config.cluster)
    slurm = config.scheduler.slurm or Slurm()
    ask = config.cluster if slurm.clusters else None
    if slurm.via == "pyslurm":
        return PySlurm(config.cluster, slurm.timeout_s, ask, slurm.python)
    return Sacct(config.cluster, slurm.timeout_s, ask)
