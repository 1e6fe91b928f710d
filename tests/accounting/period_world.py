"""Results of many users, labs, partitions and models, from one real job's row, for the tests of periods."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from tests.accounting.world import World, batch, record

from jobimpact.nightly.accounts import Accounts
from jobimpact.results.record import Entry, JobResult
from jobimpact.results.write import Results

__all__ = ["DAY", "MONTH", "Jobs", "many", "within"]

DAY = 86400
MONTH = 1793491200
"""2026-11-01, 00:00 UTC."""


class Jobs:
    """A site whose results are written by hand: `add` jobs, then `write` them."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.world = World(folder)
        self.world.config_file.write_text(self.world.config_file.read_text() + more)
        batch(self.world, ["1"])
        accounts = Accounts(self.world.config)
        with accounts.energy as energy:
            self.base = accounts.result_of(record("1"), energy.job_energy(record("1")))
        self.rows: list[JobResult] = []

    def add(self, user: str = "alice", joules: float | None = 1000.0, at_s: float = MONTH + 3600, **more: Any) -> None:
        """A job of 100 s on one node that ended then; its CPU energy is all of it; None: not measured."""
        number = str(len(self.rows) + 1)
        cpu = {"energy_j": joules, "method": None if joules is None else "counter", "coverage": 1.0, "reason": None}
        if joules is None:
            cpu |= {"coverage": 0.0, "reason": "no books"}
        energy = self.base.energy | {
            "total_j": joules,
            "domains": self.base.energy["domains"] | {"cpu": cpu} | more.pop("domains", {}),
            "reason": None if joules is not None else "no books",
        }
        fields: dict[str, Any] = {
            "raw_id": number,
            "job_id": number,
            "key": f"{number}@1",
            "user": user,
            "account": "nlp",
            "energy_j": joules,
            "energy": energy,
            "coverage": 0.0 if joules is None else 1.0,
            "start_s": at_s - 100,
            "end_s": at_s,
        }
        self.rows.append(msgspec.structs.replace(self.base, **fields | more))

    def write(self, *covered: tuple[float, float]) -> None:
        """Into the results, and that these times are accounted for: all of 2026, if none is given."""
        results = Results(self.world.config.results)
        results.write((Entry(row, {}, ()) for row in self.rows), MONTH + 40 * DAY)
        for from_s, to_s in covered or ((MONTH - 304 * DAY, MONTH + 61 * DAY),):
            results.cover("lab", from_s, to_s)
        results.close()


def many(jobs: Jobs, seed: int, count: int = 400) -> None:
    """Jobs of all kinds in the autumn of 2026, of which some are not measured, and some never ran.

    Slurm forgets the start of some that were requeued; of some only an impact is not known.
    """
    chosen = random.Random(seed)
    for _ in range(count):
        state = chosen.choice(["COMPLETED"] * 5 + ["FAILED", "TIMEOUT", "CANCELLED", "REQUEUED", "RESIZING"])
        more: dict[str, Any] = {
            "account": chosen.choice(["nlp", "vision", None]),
            "partition": chosen.choice(["gpu", "cpu", None]),
            "state": state,
            "exit_code": chosen.choice(["0:0", "1:0", None]),
            "labels": chosen.choice([{}, {"model": "resnet50"}, {"model": "bert", "steps": "10"}]),
            "elapsed_s": chosen.choice([None, 0.0, chosen.random() * 9000]),
            "gpus": chosen.choice([None, 0, 4]),
        }
        joules = chosen.choice([None, chosen.random() * 1e6, chosen.random() * 1e3])
        if state == "CANCELLED" and chosen.random() < 0.5:
            joules, more["start_s"] = 0.0, None
        elif state == "REQUEUED" and chosen.random() < 0.5:
            more["start_s"] = None
        gap = chosen.choice(["use", "embodied", "total", None, None])
        more["impacts"] = {name: one | ({gap: None} if gap else {}) for name, one in jobs.base.impacts.items()}
        more["domains"] = {
            "gpu": {
                "energy_j": chosen.choice([None, 5.0 * chosen.random()]),
                "method": chosen.choice([None, "counter", "gauge", "counter+gauge", "none held"]),
                "coverage": 1.0,
                "reason": None,
            }
        }
        at_s = MONTH + chosen.randrange(-60 * DAY, 40 * DAY)
        jobs.add(chosen.choice(["alice", "bob", "çelik", "eve"]), joules, at_s, **more)


def within(rows: Iterable[JobResult], from_s: float, to_s: float, **fields: str) -> list[JobResult]:
    """Those that ended then, and have these fields."""
    return [
        row
        for row in rows
        if row.end_s is not None
        and from_s <= row.end_s < to_s
        and all(getattr(row, name) == value for name, value in fields.items())
    ]
