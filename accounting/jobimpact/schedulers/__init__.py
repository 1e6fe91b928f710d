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


def job_source(config: Config, cluster: str | None = None) -> JobSource:
    """The scheduler that the configuration names.

    Args:
        config: which scheduler, and the cluster's name.
        cluster: in place of the configuration's: one of `scheduler.slurm.clusters`.
    """
    if config.scheduler.local:
        return LocalRecords(Path(config.scheduler.local.path), cluster or config.cluster)
    if config.scheduler.oar:
        return OarRecords(config.scheduler.oar, config.cluster)
    slurm = config.scheduler.slurm or Slurm()
    name = cluster or config.cluster
    ask = name if slurm.clusters else None
    if slurm.via == "pyslurm":
        return PySlurm(name, slurm.timeout_s, ask, slurm.python)
    return Sacct(name, slurm.timeout_s, ask)
