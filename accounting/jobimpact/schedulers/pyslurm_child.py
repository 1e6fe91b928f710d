"""Asks PySlurm for job records and writes them down: a program, run by `jobimpact.schedulers.pyslurm`.

It runs in whatever Python has PySlurm (3.9 or later), so it needs nothing but that and the standard library, and it
knows nothing of our records: it hands on what PySlurm's attributes say. Run as

    python pyslurm_child.py FD '{"start": 1795190000, "end": 1795200000, "clusters": ["lab"]}'

it writes JSON lines to the file descriptor FD, for libslurm may say anything on stdout:

    {"pyslurm": "25.11.2", "lacks": []}     the version, and attributes of a job that it does not have
    {"job": {"id": 123, "state": ...}}      one for each run
    {"untold": {"id": 9, "runs": 1}}        earlier runs under that id that it could not get
    {"end": 2}                              how many lines of jobs there were: nothing broke off

Status 1 is an error, 3: no PySlurm, 4: one without the calls that are needed. The reason is stderr's last line.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

ATTRIBUTES = (
    "id", "cluster", "array_id", "array_task_id", "array_tasks_waiting", "heterogeneous_id", "heterogeneous_offset",
    "name", "user_name", "user_id", "account", "partition", "qos", "state", "cancelled_by", "exit_code",
    "exit_code_signal", "submit_time", "eligible_time", "start_time", "end_time", "elapsed_time", "suspended_time",
    "time_limit", "requeue_count", "db_index", "num_nodes", "nodelist", "cpus", "memory", "requested_tres",
    "allocated_tres", "comment",
)  # fmt: skip
"""Of `pyslurm.db.Job`, as 25.11 has them."""
TRES = ("cpu", "mem", "node", "billing", "energy")
"""Of `pyslurm.db.TrackableResources`; beside them there is `gres`, by name."""
NO_PYSLURM = 3
OTHER_PYSLURM = 4
BEGINNING_S = 1_000_000
"""Before every job. Slurm takes 0 for "not given"."""


def main(argv: list[str]) -> int:
    """Write the answer; returns the exit status."""
    request = json.loads(argv[2])
    # Run as a program, Python looks for modules beside it first, and there is another pyslurm.py.
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [path for path in sys.path if os.path.realpath(path) != here]
    sys.excepthook = _say
    try:
        pyslurm = importlib.import_module("pyslurm")
    except ImportError as error:
        _say(type(error), error, None)
        return NO_PYSLURM
    version = str(getattr(pyslurm, "__version__", "of an unknown version"))
    database: Any = getattr(pyslurm, "db", None)
    if not all(hasattr(database, name) for name in ("Connection", "Job", "JobFilter", "Jobs")):
        sys.stderr.write(f"PySlurm {version} has no pyslurm.db.JobFilter and Jobs\n")
        return OTHER_PYSLURM
    with os.fdopen(int(argv[1]), "w", encoding="ascii") as answer:
        _write(answer, {"pyslurm": version, "lacks": [one for one in ATTRIBUTES if not hasattr(database.Job, one)]})
        answer.flush()
        count = 0
        for line in _lines(database, request):
            _write(answer, line)
            count += "job" in line
        _write(answer, {"end": count})
    return 0


def _say(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    sys.stderr.write(f"{kind.__name__}: {error}\n")


def _write(answer: Any, line: dict[str, Any]) -> None:
    answer.write(json.dumps(line) + "\n")


def _lines(database: Any, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    connection = database.Connection.open()

    def ask(**wanted: Any) -> list[Any]:
        return list(database.Jobs.load(database.JobFilter(**wanted), connection).values())

    window = {"start_time": request["start"], "end_time": request["end"]}
    if request["clusters"]:
        window["clusters"] = request["clusters"]
    for job in ask(**window):
        yield {"job": _told(job)}
        # slurmdbd gives the latest of a job's runs alone that it finds in a window, and PySlurm cannot ask for
        # duplicates. A window that ends before a run was submitted has the run before it. What was submitted
        # before our window began has no earlier run that ends in it.
        while _is_later(job) and job.submit_time >= request["start"]:
            last_s = job.submit_time - 1
            before = [
                one
                for one in ask(ids=[job.id], clusters=[job.cluster], start_time=BEGINNING_S, end_time=last_s)
                # All tasks of an array, all parts of a heterogeneous job come by its id.
                if (one.id, one.cluster) == (job.id, job.cluster) and (one.submit_time or last_s + 1) <= last_s
            ]
            if not before:
                yield {"untold": {"id": job.id, "runs": getattr(job, "requeue_count", 0) or 1}}
                break
            job = before[0]
            yield {"job": _told(job)}


def _is_later(job: Any) -> bool:
    """Whether there was a run under the same id before: it was requeued, or resized, which keeps its first start."""
    if not job.submit_time:
        return False
    return bool(getattr(job, "requeue_count", 0)) or 0 < (job.start_time or 0) < job.submit_time


def _told(job: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ATTRIBUTES:
        try:
            found[name] = _plain(getattr(job, name))
        except AttributeError:
            continue  # said in the first line
        except UnicodeDecodeError as error:
            found[name] = error.object.decode("utf-8", "replace")
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            found.setdefault("broken", f"{name}: {type(error).__name__}: {error}")
    return found


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int)):
        return value
    if hasattr(value, "gres"):
        counted = {name: getattr(value, name, None) for name in TRES}
        counted.update({f"gres/{name}": one for name, one in value.gres.items()})
        return {name: one.count for name, one in counted.items() if one is not None}
    return str(value).encode("utf-8", "replace").decode("utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
