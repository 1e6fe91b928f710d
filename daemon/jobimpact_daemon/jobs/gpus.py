"""Which device a job holds: by UUID, or by the driver's minor numbers; never from the job's own environment."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from jobimpact.core.records import Mark
from jobimpact_daemon.holdings import Run

__all__ = ["name_devices", "named"]


def named(mark: Mark, minors: Mapping[str, str]) -> Mark:
    """The mark with UUIDs for the minor numbers that are known."""
    return msgspec.structs.replace(mark, gpus=_named(mark.gpus, minors)) if mark.gpus else mark


def name_devices(runs: list[Run], minors: Mapping[str, str]) -> None:
    """Open runs learn the UUIDs that were not known when their mark came."""
    for run in runs:
        run.gpus = _named(run.gpus, minors)


def _named(gpus: tuple[str, ...], minors: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(minors.get(gpu, gpu) for gpu in gpus)
