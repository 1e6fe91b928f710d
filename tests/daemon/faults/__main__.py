"""`python -m tests.daemon.faults`: every fault recording, the truth, our books, and plain differences beside them."""

from __future__ import annotations

import sys

from tests.daemon.faults.outcome import Outcome, outcome
from tests.daemon.faults.scenarios import stories

HEAD = "| recording | what happens | holder | truth J | ours J | err % | plain differences J | err % | unknown s |\n"


def row(one: Outcome) -> str:
    """One line of the table."""
    story, run = one.story, one.story.watch
    truth, ours, plain = one.truth[run], one.ours[run], one.naive.get(story.job, 0.0)
    cells = [story.name, story.what, run, f"{truth:.0f}", f"{ours:.0f}", _percent(ours, truth)]
    return "| " + " | ".join([*cells, _amount(plain), _percent(plain, truth), f"{one.unknown_s():.0f}"]) + " |\n"


def _amount(joules: float) -> str:
    return f"{joules:.0f}" if abs(joules) < 1e8 else f"{joules:.1e}"


def _percent(joules: float, truth: float) -> str:
    part = 100 * (joules - truth) / truth
    return f"{part:+.2f}" if abs(part) < 1000 else f"{part:+.0e}"


def main() -> int:
    """Print the table."""
    sys.stdout.write(HEAD + "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n")
    for story in stories():
        sys.stdout.write(row(outcome(story)))
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
