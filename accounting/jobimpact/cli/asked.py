"""What was asked on the command line, from its words."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Iterable, Sequence

import msgspec

from jobimpact.answers.query import Query
from jobimpact.cli.ids import check, wanted
from jobimpact.cli.options import OPTIONS
from jobimpact.core.errors import ConfigError

__all__ = ["Asked", "asked", "text_of"]

WEEK_S = 7 * 86400
ROWS = 2000
"""So many jobs of an id, or of a user's time, are told one by one."""
JSON_ROWS = 10_000
CSV_ROWS = 20_000
_FORMS = ("json", "csv", "parsable2", "html")
_ENERGIES, _MASSES = ("J", "kWh"), ("g", "kg")


class Asked(msgspec.Struct, frozen=True):
    """What was asked, and how it is to be told."""

    query: Query
    steps: tuple[str, ...] = ()
    """Ids that named a step."""
    cut: bool = False
    each_task: bool = False
    form: str = "text"
    """Or json, csv, parsable2, html."""
    profile: bool = False
    header: bool = True
    page: str | None = None
    """The HTML page's file."""
    units: tuple[str, str] | None = None
    """Of energy and mass."""
    colour: bool = True
    pager: bool = True
    config: str | None = None

    @property
    def is_table(self) -> bool:
        """A line for each job, whatever they are."""
        return not self.query.ids or self.each_task or self.units is not None


def asked(words: Sequence[str], commands: Collection[str]) -> Asked:
    """Read the command line.

    Args:
        words: of it.
        commands: what no id may be called.

    Raises:
        ConfigError: what is wrong with it, in a line.
        SystemExit: --help, or an option without its value.
    """
    parser = _parser()
    given, rest = parser.parse_known_intermixed_args([text_of(word) for word in words])
    if rest:
        raise ConfigError(_unknown(rest[0]))
    ids = [*given.ids, *(given.jobs or ())]
    for word in ids:
        check([word], commands)
    form = _form(given)
    jobs, steps = wanted(ids)
    query = _query(given, jobs)
    rows = {"json": JSON_ROWS if given.array or not ids else ROWS, "csv": CSV_ROWS, "parsable2": CSV_ROWS}
    most = rows.get(form, CSV_ROWS if given.array or given.truncate else ROWS)
    return Asked(
        query=msgspec.structs.replace(query, rows=most),
        steps=steps,
        cut=given.truncate,
        each_task=given.array,
        form=form,
        profile=given.profile,
        header=not given.noheader,
        page=given.html,
        units=None if given.units is None else _units(given.units),
        colour=not given.no_color,
        pager=not given.no_pager,
        config=given.config,
    )


class _Help(argparse.HelpFormatter):
    """Of one width: asking the terminal loads compression libraries before each answer."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=78)


def text_of(word: str) -> str:
    """What came in bytes that are no text is in no id and no name: it is made something that can be told."""
    return word.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jobimpact",
        usage="jobimpact [OPTION]... [JOBID]...",
        description="What jobs cost: by their ids, or all of a user, an account, a time.",
        allow_abbrev=False,
        formatter_class=_Help,
    )
    parser.add_argument("ids", nargs="*", metavar="JOBID", help="ids, parted by spaces or commas")
    for one in OPTIONS:
        if one.metavar is None:
            parser.add_argument(*one.flags, action="store_true", help=one.help, dest=one.dest)
        else:
            action = "append" if one.many else "store"
            parser.add_argument(*one.flags, metavar=one.metavar, action=action, help=one.help, dest=one.dest)
    return parser


def _query(given: argparse.Namespace, ids: tuple[str, ...]) -> Query:
    users, accounts, clusters = (
        _listed(option, values)
        for option, values in (("-u", given.user), ("-A", given.accounts), ("-M", given.clusters))
    )
    if given.me:
        users = (*users, _me())
    from_s, to_s = _window(given)
    if not ids:
        timed = from_s is not None or to_s is not None
        if not (users or accounts or clusters or timed):
            raise ConfigError("no job id is given: see jobimpact --help")
        if from_s is None:
            from_s = (to_s or _now()) - WEEK_S
        if not users and not accounts and os.geteuid():
            users = (_me(),)  # as sacct does: all jobs of everybody are root's question
    if given.truncate and from_s is None and to_s is None:
        raise ConfigError("-T: cut at what? give -S or -E")
    return Query(ids, tuple(dict.fromkeys(users)), accounts, clusters, from_s, to_s)


def _window(given: argparse.Namespace) -> tuple[float | None, float | None]:
    if given.starttime is None and given.endtime is None:
        return None, None
    from jobimpact.cli.times import moment

    now_s = _now()
    from_s = None if given.starttime is None else moment(given.starttime, now_s)
    to_s = None if given.endtime is None else moment(given.endtime, now_s)
    if from_s is not None and from_s >= (now_s if to_s is None else to_s):
        raise ConfigError(f"-S {given.starttime!r:.40} is not before {'now' if to_s is None else '-E'}")
    return from_s, to_s


def _now() -> float:
    import time

    return time.time()


def _me() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _listed(option: str, values: Iterable[str] | None) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(one for value in values or () for one in value.replace(",", " ").split()))
    if values and not found:
        raise ConfigError(f"{option}: empty: nobody is named")  # a script's unset variable is not everybody
    return found


def _form(given: argparse.Namespace) -> str:
    forms = [name for name in _FORMS if getattr(given, name)]
    if len(forms) > 1:
        raise ConfigError(f"--{forms[0]} and --{forms[1]}: one of them")
    form = forms[0] if forms else "text"
    if given.profile and form != "json":
        raise ConfigError("--profile: only with --json")
    return form


def _units(text: str) -> tuple[str, str]:
    found = {"energy": "auto", "mass": "auto"}
    for one in filter(None, text.split(",")):
        if one not in (*_ENERGIES, *_MASSES, "auto"):
            raise ConfigError(f"--units {one!r:.40}: one of auto, J, kWh, and one of g, kg, like kWh,kg")
        if one != "auto":
            found["energy" if one in _ENERGIES else "mass"] = one
    return found["energy"], found["mass"]


def _unknown(word: str) -> str:
    from difflib import get_close_matches

    option = word.partition("=")[0]
    near = get_close_matches(option, [flag for one in OPTIONS for flag in one.flags], n=1)
    return f"{option!r:.60}: no such option: {f'did you mean {near[0]}?' if near else 'see jobimpact --help'}"
