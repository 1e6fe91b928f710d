"""`jobimpact JOBID...`: finished jobs from the results alone, others from the nodes' own books."""

from __future__ import annotations

import os
import sys

import msgspec

from jobimpact.core.config import Config, config_path, load_config
from jobimpact.core.errors import StoreError
from jobimpact.results.read import Reader
from jobimpact.results.record import JobResult

__all__ = ["run", "wanted"]

_STARTED_ANEW = frozenset({"REQUEUED", "PREEMPTED", "NODE_FAIL"})
_SOME_UNKNOWN, _UNREACHABLE = 1, 3


def run(words: list[str], config: str | None, *, as_json: bool) -> int:
    """Answer for each job, in the order asked.

    Returns:
        0: all answered; 1: some are unknown; 3: for some the nodes' books cannot be asked, the others are answered.

    Raises:
        ConfigError, StoreError: nothing can be answered.
    """
    site = load_config(config_path(config))
    reader = Reader(site.results)
    try:
        asked = {job: _find(job, reader, site) for job in wanted(words)}
    finally:
        reader.close()
    found = {job: results for job, (results, _) in asked.items()}
    reasons = list(dict.fromkeys(why for _, why in asked.values() if why))
    errors = [_error(job, *one) for job, one in asked.items() if one[1] or not one[0]]
    if as_json:
        from jobimpact.report.json import dumps

        print(dumps([one for results in found.values() for one in results], [*errors, *reasons]))
    else:
        _print_text(found)
        for error in errors:
            print(_plain(error), file=sys.stderr)
        if reader.empty and errors and not reasons:
            print("nothing is accounted yet: `jobimpact account` has not run", file=sys.stderr)
        for why in reasons:
            print(_plain(f"jobimpact: {why}"), file=sys.stderr)
    return _UNREACHABLE if reasons else _SOME_UNKNOWN if errors else 0


def _error(job: str, results: list[JobResult], why: str) -> str:
    if not why:
        return f"job {job}: unknown, or not yours"
    return f"job {job}: {'perhaps not all' if results else 'not in the results'}, and the nodes' books cannot be asked"


def wanted(words: list[str]) -> list[str]:
    """The ids in the order given, once each. A step's id (`123.0`) asks for its job: steps are not metered."""
    ids = (part.strip().partition(".")[0] for word in words for part in word.replace(",", " ").split())
    return list(dict.fromkeys(filter(None, ids)))


def _find(job: str, reader: Reader, site: Config) -> tuple[list[JobResult], str]:
    """What is known of it, and why that may not be all: the nodes' books are out of reach."""
    results = reader.find(job)
    if results and results[-1].state not in _STARTED_ANEW:
        return results, ""
    from jobimpact.answers.live import live_results

    try:
        if not results:
            return live_results(job, site), ""
        last = results[-1]
        known = {name: getattr(last, name) for name in ("job_id", "user", "account", "partition", "name")}
        live = live_results(last.raw_id, site, last.end_s, last.cluster)
    except StoreError as error:
        return results, str(error)
    return results + [msgspec.structs.replace(one, **known) for one in live], ""


def _print_text(found: dict[str, list[JobResult]]) -> None:
    from jobimpact.report.text import group_text, job_text, method_text

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    blocks = []
    for job, results in found.items():
        if len({one.job_id for one in results}) > 1:
            blocks.append(group_text(job, results, colour=colour))
        else:
            blocks += [job_text(one, colour=colour) for one in results]
    methods = dict.fromkeys(method_text(one) for results in found.values() for one in results)
    print("\n".join(filter(None, [*blocks, *methods])), end="")


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
