"""A site's inventory, factors, electricity and node files: from a record to its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec

from jobimpact.core.config import Config
from jobimpact.core.records import JobEnergy, JobRecord, Stay
from jobimpact.energy.local import LocalEnergy
from jobimpact.energy.summary import EnergySummary, labels_of, summarise
from jobimpact.grid.grid import Grid
from jobimpact.impact.assess import Assessor, Held
from jobimpact.impact.assessment import Assessed
from jobimpact.impact.factors import Factors, load_factors
from jobimpact.impact.inventory import load_inventory
from jobimpact.impact.site import Keys
from jobimpact.mirror.refresh import books_folder, refresh
from jobimpact.results.record import Entry, JobResult

__all__ = ["Accounts"]


class Accounts:
    """A site, ready for many jobs.

    Args:
        config: the site's.
        keys: the idle keys; None: jobs that are not over, whose idle share comes with accounting.
        clock: the time, epoch seconds, for the grid's source; None: annual means, whatever the provider.
        folder: of the nodes' files; None: as the configuration says.

    Raises:
        ConfigError: the inventory or the factors are wrong, or the zone is not in the factors.
    """

    def __init__(
        self,
        config: Config,
        keys: Keys | None = None,
        clock: Callable[[], float] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._config = config
        whole = load_inventory(Path(config.inventory))
        one_of_several = config.scheduler.slurm is not None and config.cluster in config.scheduler.slurm.clusters
        self.inventory = whole.of_cluster(config.cluster) if one_of_several and whole.types else whole
        self.factors = load_factors(None if config.factors is None else Path(config.factors))
        # One server may have several clusters' points, and nodes of one name.
        whose = config.cluster if one_of_several or config.store.server else None
        self.energy = LocalEnergy(folder or books_folder(config.store), whose)
        self.grid = None if clock is None else Grid(config.grid, clock, _generation(self.factors))
        market = config.grid.market
        self.assessor = Assessor(
            self.factors,
            self.inventory,
            config.grid.zone,
            provider="annual" if self.grid is None else config.grid.provider,
            intensity=(lambda _, __: {}) if self.grid is None else self.grid.hours,
            keys=keys or (lambda _, __: {}),
            idle_mode=config.embodied.idle_share,
            no_key="it is told when the job is accounted for" if keys is None else "no month is closed yet",
            market=None if market is None else (market.gwp_kgco2e_per_kwh, market.source),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.energy.close()
        if self.grid is not None:
            self.grid.close()

    def refresh(self, from_s: float, now_s: float) -> list[str]:
        """Where a server is the store: take in what it has, before any energy is asked for.

        Args:
            from_s: of a time that will be asked for, its begin; look-back is added.
            now_s: the time.

        Returns:
            What was left out.

        Raises:
            StoreError: it cannot be read: nothing must be written that builds on its not being there.
        """
        return refresh(self._config, from_s, now_s)

    def result_of(self, record: JobRecord, energy: JobEnergy) -> JobResult:
        """One incarnation of a job, from energies that were read already, as if it had been alone on its nodes."""
        return self._result(record, summarise(record, energy), self.assessor.assess(record, energy))

    def entry_of(
        self, record: JobRecord, energy: JobEnergy, summary: EnergySummary, stays: Mapping[str, Stay], held: Held
    ) -> Entry:
        """The same beside other jobs, with what is booked of it."""
        found = self.assessor.assess(record, energy, held)
        result = self._result(record, summary, found)
        return Entry(result, dict(stays), found.charges)

    def _result(self, record: JobRecord, summary: EnergySummary, found: Assessed) -> JobResult:
        return JobResult.of(
            msgspec.structs.replace(record, labels=labels_of(record, summary)),
            energy_j=summary.total_j,
            coverage=summary.coverage,
            energy=_plain(summary),
            impacts=_plain(found.assessment.indicators()),
            factors=_plain(found.assessment.factors),
            inventory=self._inventory_of(record),
            warnings=found.assessment.warnings,
        )

    def _inventory_of(self, record: JobRecord) -> dict[str, Any]:
        types = {node: self.inventory.type_of_node.get(node) for node in record.nodes}
        return {"version": self.inventory.version, "types": types, "reason": self.inventory.reason}


def _plain(found: object) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(found)
    return plain


def _generation(factors: Factors) -> dict[str, tuple[float, bool]]:
    """Life-cycle intensity by kind of power plant, and whether it counts in a mix."""
    return {kind: (one.gwp_kgco2e_per_kwh.central, one.counted) for kind, one in factors.generation.items()}
