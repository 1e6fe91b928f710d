"""`python -m tests.daemon.faults`: every fault recording, the truth, our books, and plain differences beside them."""

from __future__ import annotations

import sys

from tests.daemon.faults.outcome import Outcome, outcome
from tests.daemon.faults.scenarios import stories

HEAD = (
    "| recording | what happens | who | truth J | knowable J | ours J | % | plain J | % | all: ours % | plain % |"
    " unknown s |\n| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
)


def row(one: Outcome) -> str:
    """One line of the table: the watched holder, and the sum of all."""
    story, run = one.story, one.story.watch
    whole, truth, ours, plain = one.whole[run], one.truth[run], one.ours[run], one.naive.get(story.job, 0.0)
    cells = [_amount(whole), _amount(truth), _amount(ours), _percent(ours, truth)]
    cells += [_amount(plain), _percent(plain, whole)] if one.comparable() else ["", ""]
    cells.append(_percent(sum(one.ours.values()), sum(one.truth.values())))
    cells.append(_percent(sum(one.naive.values()), sum(one.whole.values())) if one.comparable() else "")
    cells.append(f"{one.unknown_s():.0f}")
    return f"| {story.name} | {story.what} | {run} | {' | '.join(cells)} |\n"


def _amount(joules: float) -> str:
    if abs(joules) >= 1e8:
        return f"{joules:.1e}"
    return f"{joules:.1f}" if abs(joules) < 1000 else f"{joules:.0f}"


def _percent(joules: float, truth: float) -> str:
    part = 100 * (joules - truth) / truth
    if abs(part) >= 1e5:
        return f"{part:+.0e}"
    return f"{part:+.0f}" if abs(part) >= 100 else f"{round(part, 2) + 0.0:+.2f}"


def main() -> int:
    """Print the table.

    Returns:
        1 if the books of a recording are further from the truth than they may be.
    """
    sys.stdout.write(HEAD)
    wrong = 0
    for story in stories():
        one = outcome(story)
        wrong += any(abs(one.ours[who] - one.truth[who]) > one.within(who) for who in one.truth)
        sys.stdout.write(row(one))
        sys.stdout.flush()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
