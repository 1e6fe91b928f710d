"""Which rows of the results are meant: SQL of ours, with the users' words as parameters, that goes by an index."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

__all__ = ["NAMES", "Seen", "Selection", "condition"]

NAMES = ("job_id", "raw_id", "array_id", "het_id")
"""Each word a user may know a job by, one index each. A raw id that is a task's or a part's own is never shown to
users, but hooks and logs carry it."""
_SHOWN = "(+job_id = :job OR substr(+job_id, 1, length(:job) + 1) IN (:job || '_', :job || '+'))"


class Seen(msgspec.Struct, frozen=True):
    """Whose jobs the asker may see: of these users, and of these accounts."""

    users: tuple[str, ...]
    accounts: tuple[str, ...] = ()


class Selection(msgspec.Struct, frozen=True):
    """Rows; what is empty or None leaves that open."""

    job: str | None = None
    """What a user calls a job, an array, a heterogeneous job; or a raw id."""
    users: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    from_s: float | None = None
    to_s: float | None = None
    """Epoch seconds: jobs that were there at any time in [from_s, to_s)."""
    seen_by: Seen | None = None
    """None: by somebody who may see all."""


def condition(asked: Selection, *, names: tuple[str, ...] = NAMES, shown: bool = False) -> tuple[str, dict[str, Any]]:
    """What stands behind WHERE.

    One term drives the search by an index. A plus before a column keeps SQLite from choosing that column's
    index instead: without statistics of the file it takes any equality for the narrowest.

    Args:
        asked: which rows.
        names: columns in which `asked.job` is looked for: where it is in one alone, its index drives the search.
        shown: of `asked.job`, only those rows whose own id says so.

    Returns:
        The condition, and its parameters.
    """
    driven_by = _driver(asked)

    def column(name: str) -> str:
        return name if driven_by == name else f"+{name}"

    terms = [_named(names)] if driven_by == "job" else []
    terms += [f"{column('user')} IN {_listed('users')}"] if asked.users else []
    terms += [f"{column('account')} IN {_listed('accounts')}"] if asked.accounts else []
    terms += [f"+cluster IN {_listed('clusters')}"] if asked.clusters else []
    terms += [_SHOWN] if shown else []
    if asked.from_s is not None:
        end = "+end_s" if driven_by == "job" else "end_s"
        # One that ended at that very moment was not there any more, unless it took no time at all.
        terms.append(f"{end} >= :from_s AND (+end_s > :from_s OR coalesce(start_s, end_s) >= :from_s)")
    terms += ["coalesce(start_s, end_s, submit_s) < :to_s"] if asked.to_s is not None else []
    if asked.seen_by is not None:
        plus = "" if driven_by == "seen" else "+"
        mine = f"{plus}user IN {_listed('seen_users')}"
        terms.append(f"({mine} OR {plus}account IN {_listed('seen_accounts')})" if asked.seen_by.accounts else mine)
    return " AND ".join(terms) or "TRUE", _parameters(asked)


def _named(names: tuple[str, ...]) -> str:
    if len(names) == 1:
        return f"{names[0]} = :job"
    each = (f"SELECT rowid FROM job_result WHERE {name} = :job" for name in names)  # noqa: S608 (ours)
    return f"rowid IN ({' UNION '.join(each)})"


def _driver(asked: Selection) -> str:
    if asked.job is not None:
        return "job"
    if asked.users:
        return "user"
    if asked.accounts:
        return "account"
    return "seen" if asked.seen_by is not None else "end_s"


def _listed(name: str) -> str:
    return f"(SELECT value FROM json_each(:{name}))"  # noqa: S608 (ours)


def _parameters(asked: Selection) -> dict[str, Any]:
    seen = asked.seen_by or Seen(())
    return {
        "job": None if asked.job is None else _text(asked.job),
        "users": _json(asked.users),
        "accounts": _json(asked.accounts),
        "clusters": _json(asked.clusters),
        "from_s": asked.from_s,
        "to_s": asked.to_s,
        "seen_users": _json(seen.users),
        "seen_accounts": _json(seen.accounts),
    }


def _json(words: Iterable[str]) -> str:
    return msgspec.json.encode([_text(word) for word in words]).decode()


def _text(word: str) -> str:
    """A name that came in bytes which are no text is nobody's; to SQLite it must be one all the same."""
    return word.encode("utf-8", "replace").decode()
