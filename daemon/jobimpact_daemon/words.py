"""What runs have said since the last commit: what the ledger writes, and how much of it a run may keep. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from jobimpact_daemon.holdings import Run

__all__ = ["MAX_ROWS", "RunWords"]

MAX_ROWS = 10_000
"""Points of progress (of one metric each) that a run keeps: beyond, every other one is dropped."""
MAX_PENDING = 20_000
"""While nothing can be written, so many are kept for when it can."""


class RunWords:
    """Points and labels that the ledger does not have yet."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, float, str], tuple[int | None, float | None, int | None]] = {}
        """By run, stamp and metric ('': a step alone): step, value, and the run's microjoules then."""
        self.labels: dict[tuple[str, str], tuple[str, float]] = {}
        """By run and name: the text, and when it was said."""
        self.full: dict[str, Run] = {}
        """Runs of which every other point is to be dropped."""

    def point(self, run: Run, wall_s: float, step: int | None, values: Mapping[str, float], uj: int | None) -> None:
        """A run's point: one of its own, or in place of the one that is too near.

        Args:
            run: whose.
            wall_s: when it came, epoch seconds.
            step: how far it is.
            values: by metric; none: a step alone.
            uj: what the run has in the books; None: nothing is known.
        """
        words = run.words
        if len(self.rows) >= MAX_PENDING:
            return
        if not 0 <= wall_s - words.wall_s < words.gap_s:
            words.wall_s = wall_s
        for metric, value in values.items() or (("", None),):
            key = run.key, words.wall_s, metric
            words.rows += key not in self.rows
            self.rows[key] = step, value, uj
        if words.rows > MAX_ROWS:
            self.full[run.key] = run

    def clear(self) -> None:
        """All of it is written."""
        self.rows.clear()
        self.labels.clear()
        self.full.clear()
