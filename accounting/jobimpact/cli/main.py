"""The `jobimpact` command. What a command needs is imported when it runs: an answer must not wait for the rest."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from jobimpact.cli.ids import check
from jobimpact.cli.options import takes_value
from jobimpact.core.errors import ConfigError, JobImpactError

__all__ = ["main"]

USAGE = 2
UNREACHABLE = 3
_NOT_WRITTEN = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})

_HELP = """\
usage: jobimpact JOBID... [OPTION]...
       jobimpact -u USER | --me | -A ACCOUNT  [-S TIME] [-E TIME] [OPTION]...
       jobimpact COMMAND ...

What a job cost: energy, GWP (climate), ADP (minerals), PE (primary energy).

  jobimpact 123 124_4 125+1    jobs, tasks of arrays, parts of het jobs
  jobimpact 124                all of an array; 124_[1-5,7] some of its tasks
  jobimpact --me -S now-7days  your jobs of a week

options of an answer (all: jobimpact 1 --help):
  -u USER, --me, -A ACCOUNT, -M CLUSTER    whose jobs, and where
  -S TIME, -E TIME, -T                     when, as for sacct; -T cuts there
  --array                                  a line for each task
  --json, --csv, -P, --html FILE, -n       other forms; -n without headings
  --units, --no-color, --no-pager          how it looks
  --config FILE                            the configuration

commands (each has --help):
  report      what you, a lab or the cluster used in a week, a month or a year
  compare     jobs, jobs of one model and units of `assess` side by side
  progress    from inside a job: how far it is, how good, and what it is
  assess      impact of a training, or another functional unit, from a file
  demo        run real jobs on this machine and say what they cost

commands for admins:
  account     put the jobs that ended into the results; twice changes nothing
  schedule    do so every night
  mail        tell users by mail what their jobs cost; `status` lists what is
              uncertain, `resend` sends one once more
  serve       answer users about their own jobs, on the accounting host
  books       what the nodes measured and whose it was; of all time, a day, a
              month; or a year's manufacture
  inventory   what making each type of node cost, part by part; `probe` drafts
              this machine's entry
  store       `init` sets the time-series server up; `check` says how it does

exit status: 0 all answered, 1 some jobs unknown or not yours, 2 wrong usage or
configuration, 3 a store, the service or the scheduler cannot be reached
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0, 1 (some jobs unknown), 2 (usage, configuration), 3 (a store cannot be reached).
    """
    words = list(sys.argv[1:] if argv is None else argv)
    _fill_closed()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        status = _run(words)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has seen enough; nothing may be written at exit either.
        _hush()
        return 0
    except OSError as error:
        if error.filename is not None or error.errno not in _NOT_WRITTEN:
            raise
        _hush()
        print(f"jobimpact: standard output: {error.strerror}", file=sys.stderr)
        return UNREACHABLE
    except KeyboardInterrupt:
        return 130
    except JobImpactError as error:
        print(f"jobimpact: {error}", file=sys.stderr)
        return USAGE if isinstance(error, ConfigError) else UNREACHABLE
    return status


def _fill_closed() -> None:
    """Who closes a stream (`>&-`) wants none of it; Python has None there, which nothing can be written to."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (until the process ends)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 (until the process ends)


def _hush() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str]) -> int:
    at = _first_word(words)
    command = None if at is None else _COMMANDS.get(words[at])
    if at is not None and command is not None:
        return command(words[:at] + words[at + 1 :])
    if at is None and "--version" in words:
        from importlib.metadata import version  # a third of an answer's time

        print(f"jobimpact {version('jobimpact')}")
        return 0
    wanted = at is None and ("-h" in words or "--help" in words)
    if wanted or not words:
        asked = wanted or sys.stdout.isatty()
        print(_HELP, end="", file=sys.stdout if asked else sys.stderr)
        return 0 if asked else USAGE
    if at is not None:
        check([words[at]], _COMMANDS)  # before the options of a command that is not there
    return _answer(words)


def _first_word(words: list[str]) -> int | None:
    """Where the first word is that is neither an option nor an option's value."""
    for index, word in enumerate(words):
        if not word.startswith("-") and (index == 0 or not takes_value(words[index - 1])):
            return index
    return None


class _Help(argparse.HelpFormatter):
    """Of one width: asking the terminal loads compression libraries before each answer."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=78)


def _parser(name: str, text: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"jobimpact {name}".strip(), description=text, allow_abbrev=False, formatter_class=_Help
    )
    if name != "demo":  # it makes its own
        default = "$JOBIMPACT_CONFIG or /etc/jobimpact/jobimpact.yaml"
        parser.add_argument("--config", metavar="FILE", help=f"the configuration (default: {default})")
    return parser


def _name(parser: argparse.ArgumentParser, given: argparse.Namespace, *options: str) -> None:
    """Names are text, and not empty: a script's variable that nobody set must not ask for somebody else."""
    from jobimpact.cli.asked import text_of

    for one in options:
        word = getattr(given, one)
        if word == "":
            parser.error("an empty name: whose?")
        setattr(given, one, None if word is None else text_of(word))


def _answer(words: list[str]) -> int:
    from jobimpact.cli import answer

    return answer.run(words, _COMMANDS)


def _account(words: list[str]) -> int:
    parser = _parser(
        "account",
        "Put the jobs that ended in a window into the results: on the accounting host, as who may see everybody's "
        "jobs and write the results. Without --from, what is due. Doing so twice changes nothing.",
    )
    parser.add_argument("--from", dest="begin", metavar="TIME", help="epoch seconds or ISO 8601, UTC without a zone")
    parser.add_argument("--to", dest="end", metavar="TIME", help="inclusive; default: now")
    again = "redo the impacts of jobs that are in the results, with the factors and the inventory of now: needs --from"
    parser.add_argument("--recompute", action="store_true", help=again)
    given = parser.parse_args(words)
    from jobimpact.cli import account

    return account.run(given.begin, given.end, given.config, again=given.recompute)


def _schedule(words: list[str]) -> int:
    given = _parser(
        "schedule", "Account every night, at nightly.at, and mail: what jobimpact-nightly.service runs."
    ).parse_args(words)
    from jobimpact.cli import account

    return account.run_schedule(given.config)


def _serve(words: list[str]) -> int:
    text = (
        "Answer users about their own jobs, on this host's socket and for login nodes by munge. It runs as "
        "service.user, who must be able to read the results."
    )
    given = _parser("serve", text).parse_args(words)
    from jobimpact.cli import serve

    return serve.run(given.config)


def _books(words: list[str]) -> int:
    parser = _parser("books", "What each node measured = jobs + idle + system, and what is unknown.")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    year = "a year's manufacture instead: hardware = jobs + idle shares + true-up, for its closed months"
    time = parser.add_mutually_exclusive_group()
    time.add_argument("--day", metavar="DATE", help="of a day (UTC), like 2026-11-20; so far, if it is today")
    time.add_argument("--month", metavar="MONTH", help="of a month (UTC), like 2026-11")
    time.add_argument("--embodied", metavar="YEAR", help=year)
    parser.add_argument("--node", action="append", metavar="NAME", help="of this node alone; may be given again")
    given = parser.parse_args(words)
    if given.embodied is not None and given.node:
        parser.error("--node: manufacture is by type of nodes")
    if given.embodied is not None:
        from jobimpact.cli import embodied

        return embodied.run(given.embodied, given.config, as_json=given.json)
    from jobimpact.cli import books

    if given.day is not None or given.month is not None:
        return books.run_span(given.day, given.month, given.config, given.node, as_json=given.json)
    return books.run(given.config, given.node, as_json=given.json)


def _report(words: list[str]) -> int:
    text = "What a user, a lab or the cluster used over a time, in UTC: yours and this month, if nothing is said."
    parser = _parser("report", text)
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("--me", action="store_true", help="your own jobs: the default")
    whose.add_argument("-u", "--user", metavar="NAME", help="this user's: for admins")
    whose.add_argument("-A", "--lab", metavar="ACCOUNT", help="a lab's: for its heads and admins")
    whose.add_argument("--cluster", action="store_true", help="all jobs of the cluster: for admins")
    when = parser.add_mutually_exclusive_group()
    for one, form in (("week", "2026-W47"), ("month", "2026-11"), ("year", "2026")):
        said = f"like {form}; the current one, so far, if none is named"
        when.add_argument(f"--{one}", nargs="?", const="", metavar=one.upper(), help=said)
    when.add_argument("-S", "--begin", metavar="TIME", help="in place of these: jobs that ended from then on")
    parser.add_argument("-E", "--end", metavar="TIME", help="and before then; default: now")
    parser.add_argument("-M", metavar="CLUSTER", dest="on", help="only jobs of this cluster")
    parser.add_argument("--all", action="store_true", help="every user, lab, partition, not the ten first")
    out = parser.add_mutually_exclusive_group()
    out.add_argument("--json", action="store_true", help="one JSON document")
    out.add_argument("--html", metavar="FILE", help="write a page")
    given = parser.parse_args(words)
    if given.end is not None and given.begin is None:
        parser.error("-E: from when? give -S")
    _name(parser, given, "user", "lab", "on")
    from jobimpact.cli import report

    length = next((one for one in ("week", "month", "year") if getattr(given, one) is not None), None)
    asked = report.Asked(
        "cluster" if given.cluster else "lab" if given.lab else "user",
        given.on if given.cluster else given.lab or given.user,
        length=length,
        when=(getattr(given, length) or None) if length else None,
        begin=given.begin,
        end=given.end,
        cluster=None if given.cluster else given.on,
    )
    return report.run(asked, given.config, as_json=given.json, html=given.html, every=given.all)


def _compare(words: list[str]) -> int:
    text = "Jobs, jobs of the same label, and functional units side by side: energy, time, impacts, and per step."
    parser = _parser("compare", text)
    what = "a job's id, LABEL=VALUE (your jobs of that model), FILE.yaml of units, or FILE.yaml#UNIT"
    parser.add_argument("what", nargs="+", metavar="WHAT", help=what)
    done = "what each did, where no label `steps` says so: a number for all, or one each (1000,4000)"
    parser.add_argument("--steps", metavar="N[,N]", help=done)
    parser.add_argument("--per", type=float, metavar="N", help="tell energy and impacts for so many steps; default: 1")
    parser.add_argument("-S", "--begin", metavar="TIME", help="jobs of a label since then; default: 90 days")
    parser.add_argument("-u", "--user", metavar="NAME", help="whose jobs of a label; default: yours")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    given = parser.parse_args(words)
    _name(parser, given, "user")
    if given.per is not None and not 0 < given.per < 1e18:
        parser.error("--per: a number above zero")
    from jobimpact.cli import compare

    return compare.run(
        given.what,
        given.config,
        as_json=given.json,
        steps=given.steps,
        per=given.per,
        begin=given.begin,
        user=given.user,
    )


def _inventory(words: list[str]) -> int:
    if words[:1] == ["probe"]:
        parser = _parser("inventory probe", "Draft the inventory's entry of the machine it runs on.")
        given = parser.parse_args(words[1:])
        from jobimpact.cli import probe

        return probe.run(given.config)
    parser = _parser(
        "inventory", "What making each type of node cost, by part, with range and source. `probe` drafts an entry."
    )
    parser.add_argument("types", nargs="*", metavar="TYPE", help="types of nodes; default: all")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    given = parser.parse_args(words)
    from jobimpact.cli import inventory

    return inventory.run(given.types, given.config, as_json=given.json)


def _assess(words: list[str]) -> int:
    parser = _parser("assess", "Use, embodied and total impact of functional units, as a YAML file describes them.")
    parser.add_argument("file", metavar="FILE", help="one unit, or a list under `units`")
    parser.add_argument("--json", action="store_true", help="one JSON document, unrounded")
    given = parser.parse_args(words)
    from jobimpact.cli import assess

    return assess.run(Path(given.file), given.config, as_json=given.json)


def _store(words: list[str]) -> int:
    parser = _parser(
        "store",
        "init: make what the nodes write to, as far as the server allows, else print the commands. check: is the "
        "server there, are its points fresh, which nodes are silent, how near are its limits. "
        "Exit status 1: something is left to do.",
    )
    parser.add_argument("what", choices=("init", "check"))
    given = parser.parse_args(words)
    from jobimpact.cli import store

    return store.run(given.what, given.config)


def _progress(words: list[str]) -> int:
    parser = _parser("progress", "From inside a job: how far it is, how good, and what it is. It never fails the job.")
    parser.add_argument("--step", type=int, metavar="N", help="steps done so far")
    metric = "a number to set against the energy: --metric acc=0.71; may be given again"
    parser.add_argument("--metric", action="append", default=[], metavar="NAME=NUMBER", help=metric)
    label = "what the job is: --set model=resnet50; may be given again"
    parser.add_argument("--set", dest="labels", action="append", default=[], metavar="NAME=TEXT", help=label)
    given = parser.parse_args(words)
    from jobimpact.cli import progress

    return progress.run(given.step, given.metric, given.labels, given.config)


def _mail(words: list[str]) -> int:
    if words[:1] == ["status"]:
        parser = _parser("mail status", "How mails stand, and those that a person should look at.")
        given = parser.parse_args(words[1:])
        from jobimpact.cli import mail

        return mail.status(given.config)
    if words[:1] == ["resend"]:
        parser = _parser("mail resend", "Send a mail that is uncertain, or was refused, once more.")
        parser.add_argument("key", metavar="KEY", help="as `mail status` lists it")
        given = parser.parse_args(words[1:])
        from jobimpact.cli import mail

        return mail.resend(given.config, given.key)
    parser = _parser(
        "mail",
        "Send this night's mails, as accounting does at its end, by the section `mail` of the configuration; unless "
        "mail.send is true, put them into a folder and say who would get what, and why. With an option it only shows "
        "them, and notes nothing. `status` says how mails stand, `resend KEY` sends one once more.",
    )
    parser.add_argument("--night", metavar="DATE", help="of jobs that ended on a day (UTC), like 2026-11-20")
    parser.add_argument("--preview", metavar="DIR", help="into this folder, and send none")
    parser.add_argument("--to", metavar="ADDRESS", help="send all of them there, and to nobody else")
    given = parser.parse_args(words)
    from jobimpact.cli import mail

    return mail.run(given.config, given.night, given.preview, given.to)


def _demo(words: list[str]) -> int:
    parser = _parser(
        "demo", "Run real jobs on this machine, meter them, and say what they cost. It makes its own configuration."
    )
    parser.add_argument("--dir", default="demo", metavar="FOLDER", help="where to work (default: demo)")
    given = parser.parse_args(words)
    from jobimpact.cli import demo

    return demo.run(Path(given.dir))


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "report": _report,
    "compare": _compare,
    "progress": _progress,
    "assess": _assess,
    "demo": _demo,
    "account": _account,
    "schedule": _schedule,
    "mail": _mail,
    "serve": _serve,
    "books": _books,
    "inventory": _inventory,
    "store": _store,
}
