"""When jobs' cgroups come, go, freeze and thaw, on the clock of boot time: the truth of a job's edges.

`python edges.py FILE NODE=FOLDER ...` writes `<ns> <node> <job> made|removed|FROZEN|THAWED` until SIGTERM; FOLDER has
the cgroups of a controller, `oar/<user>_<id>` below it. It looks every 2 ms.
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


def read_edges(path: Path) -> list[Edge]:
    """What was written so far; a line that is not whole is left out."""
    lines = path.read_text().splitlines(keepends=True)
    rows = [line.split() for line in lines if line.endswith("\n")]
    return [Edge(int(t), node, job, event) for t, node, job, event in rows]


def _look(node: str, folder: str, seen: dict[str, str], *, frozen: bool) -> Iterator[str]:
    try:
        now = {name for name in os.listdir(f"{folder}/oar") if name.rpartition("_")[2].isdigit()}
    except OSError:
        now = set()
    t_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    for name in now - seen.keys():
        seen[name] = "THAWED"
        yield f"{t_ns} {node} {name.rpartition('_')[2]} made\n"
    for name in seen.keys() - now:
        del seen[name]
        yield f"{t_ns} {node} {name.rpartition('_')[2]} removed\n"
    for name in now if frozen else ():
        state = _state(folder.replace("/cpuacct/", "/freezer/"), name)
        if state and state != seen[name]:
            seen[name] = state
            yield f"{time.clock_gettime_ns(time.CLOCK_BOOTTIME)} {node} {name.rpartition('_')[2]} {state}\n"


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
    seen: dict[str, dict[str, str]] = {node: {} for node in folders}
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
