"""When jobs' cgroups come, go, freeze and thaw, on the clock of boot time: the truth of a job's edges.

`python edges.py FILE NODE=FOLDER ...` writes `<ns> <node> <job> made|removed|FROZEN|THAWED <blind ns>` until SIGTERM;
FOLDER has the cgroups of a controller, `oar/<user>_<id>` below it. It looks every 2 ms, or, where the machine is busy,
as often as it can: it happened at that time, or up to `blind ns` earlier.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FREEZER_EVERY = 5


class Edge(NamedTuple):
    """What happened to a job on a node."""

    t_ns: int
    node: str
    job: str
    event: str
    blind_ns: int
    """For how long nobody had looked."""


def read_edges(path: Path) -> list[Edge]:
    """What was written so far; a line that is not whole is left out."""
    lines = path.read_text().splitlines(keepends=True)
    rows = [line.split() for line in lines if line.endswith("\n")]
    return [Edge(int(t), node, job, event, int(blind)) for t, node, job, event, blind in rows]


class _Node:
    """What was seen of a node, and when."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}
        self.looked_ns = self.frozen_ns = _now()


def _now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _look(node: str, folder: str, known: _Node, *, frozen: bool) -> Iterator[str]:
    seen = known.seen
    try:
        now = {name for name in os.listdir(f"{folder}/oar") if name.rpartition("_")[2].isdigit()}
    except OSError:
        now = set()
    t_ns = _now()
    for name in now - seen.keys():
        seen[name] = "THAWED"
        yield f"{t_ns} {node} {name.rpartition('_')[2]} made {t_ns - known.looked_ns}\n"
    for name in seen.keys() - now:
        del seen[name]
        yield f"{t_ns} {node} {name.rpartition('_')[2]} removed {t_ns - known.looked_ns}\n"
    known.looked_ns = t_ns
    if not frozen:
        return
    for name in now:
        state = _state(folder.replace("/cpuacct/", "/freezer/"), name)
        if state and state != seen[name]:
            seen[name] = state
            t_ns = _now()
            yield f"{t_ns} {node} {name.rpartition('_')[2]} {state} {t_ns - known.frozen_ns}\n"
    known.frozen_ns = _now()


def _state(folder: str, name: str) -> str:
    try:
        with open(f"{folder}/oar/{name}/freezer.state") as file:
            state = file.read().strip()
    except OSError:
        return ""
    return state if state in ("FROZEN", "THAWED") else ""


def main() -> None:
    """Look until somebody ends this, or who started it is gone."""
    folders = dict(one.split("=", 1) for one in sys.argv[2:])
    seen = {node: _Node() for node in folders}
    parent, rounds = os.getppid(), 0
    with open(sys.argv[1], "a") as out:
        while os.getppid() == parent:
            rounds += 1
            for node, folder in folders.items():
                out.writelines(_look(node, folder, seen[node], frozen=rounds % FREEZER_EVERY == 0))
            out.flush()
            time.sleep(0.002)


if __name__ == "__main__":
    main()
