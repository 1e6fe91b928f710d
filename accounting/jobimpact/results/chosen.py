"""Rows of the results that are summed in several ways: chosen once, and added up by the database."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from jobimpact.core.records import DomainKind
from jobimpact.results.outcome import FAILED
from jobimpact.results.sums import IMPACTS, Adder, Alike, Impacts, Sums, version_in

if TYPE_CHECKING:
    from jobimpact.results.kinds import Kinds

__all__ = ["Chosen"]

_NUMBERS = itertools.count()
_BATCH = 500
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
_PARTS = """
SELECT {columns} FROM temp.{name} chosen CROSS JOIN job_result ON job_result.rowid = chosen.row WHERE chosen.ran
"""
# Short texts are told apart in half the time; a version is within the first of what follows its key.
_METHODS = """
SELECT DISTINCT {each}, substr(factors, instr(factors, '"version":') - 1, 80)
FROM temp.{name} chosen CROSS JOIN job_result ON job_result.rowid = chosen.row WHERE chosen.ran
"""
_KINDS: tuple[DomainKind, ...] = ("cpu", "dram", "gpu", "rest")
_EACH = "json_extract(energy, " + ", ".join(f"'$.domains.{kind}.method'" for kind in _KINDS) + ")"
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
        self._name = f"chosen_{next(_NUMBERS)}"
        columns = "".join(f", {sql} AS by_{word}" for word, sql in (by or {}).items())
        db.execute(_CHOOSE.format(name=self._name, by=columns, where=where), parameters)

    def whole(self) -> Sums:
        """What all of them come to, with the methods and the versions of factors that any has.

        Raises:
            sqlite3.Error, msgspec.MsgspecError: they cannot be read.
        """
        found = Adder(light=True)
        for methods, factors in self._db.execute(_METHODS.format(name=self._name, each=_EACH)):
            each = msgspec.json.decode(methods, type=list[str | None])
            found.add_methods(dict(zip(_KINDS, each, strict=True)), version_in(factors))
        how = found.sums()
        return msgspec.structs.replace(self.sums()[()], methods=how.methods, factors=how.factors)

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

    def sums(self, *by: str, light: bool = False, kinds: Kinds | None = None) -> dict[tuple[Any, ...], Sums]:
        """What they come to.

        Args:
            by: the words to split by; of all values that are together in some row, one sum each.
            light: without impacts, and much quicker.
            kinds: to add the kinds of parts to, of all rows together; not where it is to be light.

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
            self._add_impacts(adders, by, kinds)
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

    def _add_impacts(self, adders: Mapping[tuple[Any, ...], Adder], by: Sequence[str], kinds: Kinds | None) -> None:
        more = () if kinds is None else kinds.COLUMNS
        first = 1 + len(more)
        columns = ", ".join(["impacts", *more, *(f"by_{word}" for word in by)])
        rows = self._db.execute(_PARTS.format(name=self._name, columns=columns))
        waiting: dict[tuple[Any, ...], list[Impacts]] = {key: [] for key in adders}
        while some := rows.fetchmany(_BATCH):
            for row in some:
                waiting[row[first:]].append(IMPACTS.decode(row[0]))
            if kinds is not None:
                kinds.add([row[1:first] for row in some])
            for key, found in waiting.items():
                if len(found) >= _BATCH:
                    adders[key].add_impacts(found)
                    found.clear()
        for key, found in waiting.items():
            adders[key].add_impacts(found)
