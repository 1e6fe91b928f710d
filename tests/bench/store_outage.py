"""The database killed under load, a daemon killed inside that, and an outbox that is full for a day.

`python -m tests.bench.store_outage [--seconds 600] [--nodes 4] [--engine influx|v2|victoria]`: real daemons on played
meters, with jobs that start and end all the time. Each point that a ledger ever put into its outbox is looked for in
the server, by its series and stamp, with its values. Then the same for a day of points that nobody took, in an outbox
of a megabyte, on a driven clock: what was thinned, and what the totals came to.
"""

from __future__ import annotations

import argparse
import math
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.store_nodes import DEADLINE_S, Load, StoreNode, playing, until
from tests.bench.store_points import Field, Stamped, Stored, stored
from tests.stores.servers import Influx, InfluxV2, Server, Victoria, missing

__all__ = ["ENGINES", "Outage", "Told", "compare", "engine", "main", "outage"]

ENGINES = {"influx": "influxd", "v2": "influxd", "victoria": "victoria-metrics"}
"""And the program that each needs."""


@contextmanager
def engine(name: str, folder: Path) -> Iterator[Server]:
    """A running server with its database."""
    with ExitStack() as stack:
        if name == "victoria":
            found: Server = stack.enter_context(Victoria(folder / name))
        else:
            found = behind = stack.enter_context(Influx(folder / "influx"))
            if name == "v2":
                found = stack.enter_context(InfluxV2(folder / name, behind))
        found.create()
        yield found


@dataclass
class Told:
    """What the nodes queued against what the server has."""

    queued: int = 0
    """Points, by series and stamp."""
    stored: int = 0
    lost: list[Stamped] = field(default_factory=list)
    other: list[Stamped] = field(default_factory=list)
    """Stored with other values."""
    strange: int = 0
    """Points in the server that nobody queued."""
    twice: int = 0
    """Values found twice at one stamp of one series."""
    in_order: bool = True
    ends: int = 0
    """Runs, and idle and system, in each domain, whose last stored energy was compared with the node's file."""
    out_uj: int = 0
    """By how many microjoules these are out, together."""


def compare(server: Server, nodes: Sequence[StoreNode]) -> Told:
    """Every point that was queued, and every run's energy."""
    found, twice = stored(server)
    told = Told(twice=twice, stored=sum(map(len, found.values())))
    wanted: dict[tuple[object, int], Stamped] = {}
    for node in nodes:
        wanted |= {(one.series, one.stamp_ms): one for one in node.witnessed()}
        told.in_order &= node.left_in_order()
        _compare_ends(told, node, found)
    told.queued = len(wanted)
    for one in wanted.values():
        at = found.get(one.series, {}).get(one.stamp_ms)
        if at is None:
            told.lost.append(one)
        elif not _is_same(at, one.fields):
            told.other.append(one)
    told.strange = told.stored - (told.queued - len(told.lost))
    return told


def _is_same(one: dict[str, Field], other: dict[str, Field]) -> bool:
    """Whole numbers and words alike; VictoriaMetrics rounds what has a fraction."""
    return one.keys() == other.keys() and all(
        math.isclose(one[name], value, rel_tol=1e-9)  # type: ignore[arg-type]
        if isinstance(value, float)
        else one[name] == value
        for name, value in other.items()
    )


def _compare_ends(told: Told, node: StoreNode, found: Stored) -> None:
    """The last energy that is stored of each holder, against the node's own books."""
    last: dict[tuple[str, str], int] = {}
    for (name, tags), points in found.items():
        words = dict(tags)
        if name == "job_energy" and words["node"] == node.name:
            last[words["run"], words["domain"]] = int(points[max(points)]["energy_uj"])
    # Of runs what the ledger has; of what is nobody's, its last point of time: a minute's.
    booked = {
        (holder, domain): uj
        for holder, domain, uj in node.ask(
            "SELECT l.holder, l.domain, l.uj FROM ledger l JOIN run r ON r.run = l.holder WHERE r.state != 'open'"
        )
    }
    booked |= {
        (holder, domain): uj
        for holder, domain, uj, _ in node.ask(
            "SELECT run, domain, uj, max(wall_s) FROM job_energy WHERE run IN ('idle', 'system') GROUP BY run, domain"
        )
    }
    told.ends += len(booked)
    told.out_uj += sum(abs(uj - last.get(key, 0)) for key, uj in booked.items())


@dataclass
class Outage:
    """What one run came to."""

    seconds: float
    jobs: int
    most_queued: int
    """Points that waited at the worst time."""
    caught_up_s: float
    """From the server's return until nothing waited."""
    told: Told


def outage(
    server: Server,
    folder: Path,
    *,
    nodes: int,
    seconds: float,
    around: float,
    interval_s: float = 1.0,
    patient: bool = True,
    gently: bool = False,
    seed: int = 1,
) -> Outage:
    """Take the server away for so long under load, and kill a daemon with -9 inside that.

    Args:
        server: runs; of the endpoint of 2.x what is behind it goes, so that it answers with errors.
        folder: for the nodes.
        nodes: how many.
        seconds: of the outage.
        around: seconds of load before and after.
        interval_s: between two readings.
        patient: before and after, wait until the daemons have delivered in their own time.
        gently: stop the server in place of killing it: VictoriaMetrics has a second or more in memory alone.
        seed: which jobs.
    """
    behind: Server = getattr(server, "engine", server)
    with playing(folder, server.store(folder), nodes, interval_s) as some:
        load = Load(some, seed, apart_s=2.0, longest_s=min(60.0, 5 + seconds / 4))
        load.run(DEADLINE_S if patient else 0.0, lambda: _served(server, some))
        load.run(around)
        behind.stop() if gently else behind.kill()
        load.run(seconds * 0.4)
        some[0].end(signal.SIGKILL)
        load.run(min(10.0, seconds * 0.2))
        some[0].start()
        load.run(seconds - seconds * 0.4 - min(10.0, seconds * 0.2))
        most = sum(node.queued() for node in some)
        behind.start()
        back_s = time.monotonic()
        load.run(DEADLINE_S if patient else 0.0, lambda: sum(node.queued() for node in some) < most / 20)
        caught_up_s = time.monotonic() - back_s
        load.run(around)
        load.finish()
        for node in some:
            node.end()
        _deliver_rest(some)
        return Outage(seconds, load.jobs, most, caught_up_s, compare(server, some))


def _served(server: Server, nodes: Sequence[StoreNode]) -> bool:
    """Whether each node's points arrive."""
    seen = {dict(tags).get("node") for _, tags in stored(server)[0]}
    return {node.name for node in nodes} <= seen


def _deliver_rest(nodes: Sequence[StoreNode]) -> None:
    """What a daemon's end has put into its outbox is delivered by its next start."""
    for node in nodes:
        for _ in range(3):
            if not node.queued():
                break
            node.start()
            until(node.delivered, lambda node=node: f"{node.name}'s last points: {node.said()}")  # type: ignore[misc]
            node.end()


def told(found: Outage) -> Iterator[str]:
    """One run, in words."""
    one = found.told
    yield f"{found.seconds:.0f} s without the server, {found.jobs} jobs: {found.most_queued:,} points waited at its"
    yield f"end, and were delivered within {found.caught_up_s:.1f} s of the server's return"
    yield f"queued {one.queued:,} points, stored {one.stored:,}: lost {len(one.lost)}, other values {len(one.other)},"
    yield f"in the server alone {one.strange}, twice {one.twice}; in order: {'yes' if one.in_order else 'NO'}"
    yield f"last energies of {one.ends} holders and domains: {one.out_uj} uJ off the nodes' files"
    if one.lost:
        span = [point.stamp_ms / 1000 for point in one.lost]
        kinds = Counter(point.name for point in one.lost)
        yield f"lost were points of {max(span) - min(span):.0f} s: {dict(kinds)}"


def main(words: Sequence[str] | None = None) -> None:
    """Print both parts."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.store_outage")
    parser.add_argument("--seconds", type=float, default=60, help="of the outage (60)")
    parser.add_argument("--around", type=float, default=20, help="seconds of load before and after (20)")
    parser.add_argument("--nodes", type=int, default=3, help="how many daemons (3)")
    parser.add_argument("--engine", choices=[*ENGINES], default="influx")
    asked = parser.parse_args(words)
    if reason := missing(ENGINES[asked.engine]):
        print(f"not measured: {reason}")
        return
    with tempfile.TemporaryDirectory() as name, engine(asked.engine, Path(name)) as server:
        found = outage(server, Path(name) / "nodes", nodes=asked.nodes, seconds=asked.seconds, around=asked.around)
        print("\n".join(told(found)))


if __name__ == "__main__":
    main()
