"""Rows of the results that are summed in several ways: chosen once, and added up by the database."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from jobimpact.results.figures import FACTOR_SET, IMPACTS, KINDS, expressions
from jobimpact.results.outcome import FAILED
from jobimpact.results.sums import NONE, Adder, Alike, Sums

__all__ = ["Chosen"]

_NUMBERS = itertools.count()
# As has_run says it.
_RAN = "(start_s IS NOT NULL OR energy_j IS NOT 0)"
_HELD_S = "coalesce(elapsed_s, max(end_s - start_s, 0))"
# Hours are of what is known to have been held: a job of which the scheduler told no CPUs has none here.
# In order of the file: rows are long, and those of one user lie apart.
_CHOOSE = f"""
CREATE TEMP TABLE {{name}} AS
SELECT rowid AS row, state, exit_code, {_RAN} AS ran, accounted_s, energy_j, coverage,
  json_array_length(nodes) * {_HELD_S} AS node_s, cpus * {_HELD_S} AS cpu_s, gpus * {_HELD_S} AS gpu_s,
  start_s, end_s{{by}}
FROM job_result WHERE rowid IN (SELECT rowid FROM job_result WHERE {{where}})
"""  # noqa: S608 (ours)
_ALIKE = """
SELECT state, exit_code, ran, count(*), max(accounted_s), count(energy_j), total(energy_j), total(node_s),
  total(coverage * node_s), total(cpu_s), total(gpu_s), min(start_s), max(end_s){by}
FROM temp.{name} GROUP BY state, exit_code, ran{by}
"""
_OWN = 13
"""So many columns of `_ALIKE` come before those of the split."""
_OF_EACH = """
SELECT {columns} FROM temp.{name} chosen CROSS JOIN job_result ON job_result.rowid = chosen.row WHERE chosen.ran
"""
_NONE = ", ".join(f"'{one}'" for one in sorted(NONE))
_WHOSE = ("cluster", "user", "account", "partition", "name")
_SHARED = ", ".join(f"min(coalesce({name}, '')), max(coalesce({name}, ''))" for name in _WHOSE)
_FAILED = ", ".join(f"'{state}'" for state in sorted(FAILED))


class Chosen:
    """Some rows, in a table of this connection that its transaction's end takes away.

    Args:
        db: the results, in a transaction.
        where: which rows: SQL of ours, never text of users.
        parameters: what it refers to.
        by: SQL of ours for each word that they may be split by.

    Raises:
        sqlite3.Error: they cannot be read.
    """

    def __init__(
        self, db: sqlite3.Connection, where: str, parameters: Mapping[str, Any], by: Mapping[str, str] | None = None
    ) -> None:
        self._db = db
        has = "SELECT 1 FROM pragma_table_info('job_result') WHERE name = ?"
        in_columns = db.execute(has, (FACTOR_SET,)).fetchone() is not None
        self._figures = {name: name if in_columns else sql for name, sql in expressions().items()}
        """A file of an earlier schema has them in JSON alone."""
        self._name = f"chosen_{next(_NUMBERS)}"
        columns = "".join(f", {sql} AS by_{word}" for word, sql in (by or {}).items())
        db.execute(_CHOOSE.format(name=self._name, by=columns, where=where), parameters)

    def with_kinds(self, every: Sums) -> Sums:
        """Sums of all of them, with the kinds of parts, the methods and the versions of factors that any has.

        Raises:
            sqlite3.Error: they cannot be read.
        """
        found = Adder(light=True)
        self._add_kinds(found)
        how = found.sums()
        return msgspec.structs.replace(
            every, kinds=how.kinds, lacking=how.lacking, methods=how.methods, factors=how.factors
        )

    def shared(self) -> dict[str, str]:
        """Of cluster, user, account, partition and name what all rows have in common; empty ones are left out.

        Raises:
            sqlite3.Error: they cannot be read.
        """
        query = (
            f"SELECT {_SHARED} FROM temp.{self._name} chosen "  # noqa: S608 (ours)
            "CROSS JOIN job_result ON job_result.rowid = chosen.row"
        )
        (found,) = self._db.execute(query)
        each = zip(_WHOSE, found[::2], found[1::2], strict=True)
        return {name: least for name, least, most in each if least and least == most}

    def sums(self, *by: str, light: bool = False) -> dict[tuple[Any, ...], Sums]:
        """What they come to.

        Args:
            by: the words to split by; of all values that are together in some row, one sum each.
            light: without impacts, and quicker.

        Returns:
            By the values of `by`; empty: there are no rows.

        Raises:
            sqlite3.Error, msgspec.MsgspecError: they cannot be read.
        """
        adders: dict[tuple[Any, ...], Adder] = {}
        query = _ALIKE.format(name=self._name, by="".join(f", by_{word}" for word in by))
        for row in self._db.execute(query):
            (state, exit_code, ran, jobs, accounted_s, *held), key = row[:_OWN], row[_OWN:]
            alike = Alike(jobs, jobs, accounted_s, *held) if ran else Alike(jobs, 0, accounted_s)
            adders.setdefault(key, Adder(light=light)).add_alike(state, exit_code, alike)
        if not light:
            self._add_impacts(adders, by)
        return {key: adder.sums() for key, adder in adders.items()}

    def largest(self, count: int, *, failed: bool = False) -> list[int]:
        """The rowids of those with the most energy, the most first; none or not known is not among them.

        Args:
            count: so many at most.
            failed: only of jobs that did not complete.

        Raises:
            sqlite3.Error: they cannot be read.
        """
        only = f"AND state IN ({_FAILED})" if failed else ""
        query = (
            f"SELECT row FROM temp.{self._name} WHERE energy_j > 0 {only} "  # noqa: S608 (ours)
            f"ORDER BY energy_j DESC, row LIMIT {count}"
        )
        return [row for (row,) in self._db.execute(query)]

    def _add_impacts(self, adders: Mapping[tuple[Any, ...], Adder], by: Sequence[str]) -> None:
        columns = [f"by_{word}" for word in by]
        for part in IMPACTS:
            low, central, high = (self._figures[f"{part}_{end}"] for end in ("low", "central", "high"))
            columns += [f"total({low})", f"total({central})", f"total({high})", f"count({central})"]
        for row in self._of_each(columns, by):
            key, found = row[: len(by)], row[len(by) :]
            if key in adders:
                adders[key].add_totals([found[at : at + 4] for at in range(0, len(found), 4)])

    def _add_kinds(self, adder: Adder) -> None:
        columns = []
        for kind in KINDS:
            joules, method = self._figures[f"{kind}_j"], self._figures[f"{kind}_method"]
            had = f"FILTER (WHERE {method} NOT IN ({_NONE}))"
            columns += [f"total({joules}) {had}", f"count({joules}) {had}", f"count(*) {had}"]
        ((*found,),) = self._of_each(columns)
        for at, kind in enumerate(KINDS):
            joules, known, had = found[3 * at : 3 * at + 3]
            adder.add_kind(kind, joules, known=known, lacking=had - known)
        known_by = "CASE WHEN {} IS NOT NULL THEN {} END"
        methods = [known_by.format(self._figures[f"{kind}_j"], self._figures[f"{kind}_method"]) for kind in KINDS]
        for *each, version in self._of_each(["DISTINCT " + methods[0], *methods[1:], self._figures[FACTOR_SET]]):
            adder.add_methods(dict(zip(KINDS, each, strict=True)), version)

    def _of_each(self, columns: Sequence[str], by: Sequence[str] = ()) -> Iterator[tuple[Any, ...]]:
        query = _OF_EACH.format(name=self._name, columns=", ".join(columns))
        return self._db.execute(query + (f" GROUP BY {', '.join(f'by_{word}' for word in by)}" if by else ""))
