"""The options of an answer: one list, of which the parser, the completion and the manual page are made."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["OPTIONS", "Option", "takes_value"]


class Option(NamedTuple):
    """One option."""

    flags: tuple[str, ...]
    help: str
    metavar: str | None = None
    """What it takes; None: nothing."""
    many: bool = False
    """It may be given again."""
    values: str = ""
    """What completes it: `file`, `user`, or words."""

    @property
    def dest(self) -> str:
        """Its name among what is parsed."""
        return self.flags[-1].lstrip("-").replace("-", "_")


OPTIONS = (
    Option(("-j", "--jobs"), "job ids, as the arguments are", "ID[,ID]", many=True),
    Option(("-u", "--user"), "jobs of these users", "USER[,USER]", many=True, values="user"),
    Option(("--me",), "your own jobs"),
    Option(("-A", "--accounts"), "jobs of these accounts", "ACCOUNT[,...]", many=True),
    Option(("-M", "--clusters"), "jobs of these clusters", "CLUSTER[,...]", many=True),
    Option(("-S", "--starttime"), "jobs that were there from then on, in sacct's forms; default: 7 days ago", "TIME"),
    Option(("-E", "--endtime"), "jobs that began before then; default: now", "TIME"),
    Option(("-T", "--truncate"), "cut jobs at -S and -E"),
    Option(("--array",), "a line for each task of an array, not their sum"),
    Option(("--json",), "one JSON document"),
    Option(("--profile",), "with --json: power over time and progress, too"),
    Option(("--csv",), "comma-separated values, raw numbers"),
    Option(("-P", "--parsable2"), "the same, parted by |, as sacct does"),
    Option(("-n", "--noheader"), "no line of headings"),
    Option(("--html",), "write a page, - for standard output", "FILE", values="file"),
    Option(
        ("--units",),
        "a table in these units: J or kWh, g or kg, or auto",
        "UNIT[,UNIT]",
        values="auto J kWh g kg J,g J,kg kWh,g kWh,kg",
    ),
    Option(("--no-color",), "no colours; so does NO_COLOR in the environment"),
    Option(("--no-pager",), "never a pager"),
    Option(("--config",), "the configuration", "FILE", values="file"),
)


def takes_value(word: str) -> bool:
    """Whether the word after this one is its value; short ones may be joined, as in `-nu`."""
    if word.startswith("--"):
        return any(word in option.flags and option.metavar for option in OPTIONS)
    for at, letter in enumerate(word[1:] if word.startswith("-") else "", 1):
        found = next((option for option in OPTIONS if f"-{letter}" in option.flags), None)
        if found is None:
            return False
        if found.metavar is not None:
            return at == len(word) - 1
    return False
