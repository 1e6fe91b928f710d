"""What faults make of a row: `python -m tests.accounting.grid.results` prints the second table of docs/admin/grid.md.

A job of eight hours, each with an energy of its own, is accounted for by the real night beside the local providers,
under a fault; and again the night after, when the fault is over.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from tests.accounting.grid.faults import FAULTS, FOUR, YESTERDAY, Fault, rows
from tests.accounting.grid.world import DAY, HOUR, NOW
from tests.accounting.world import T0, World
from tests.fakes.grid_servers import DOMAIN, TOKEN, GridServers, serving

from jobimpact.nightly.night import account
from jobimpact.report.json import job_document
from jobimpact.results.read import Reader

__all__ = [
    "CASES",
    "CSV_CASES",
    "END",
    "KWH",
    "START",
    "Outcome",
    "Row",
    "ask",
    "markdown",
    "night",
    "outcomes",
    "play",
    "site",
    "stored",
    "told",
    "train",
]

START, END = YESTERDAY + 2.5 * HOUR, YESTERDAY + 9.25 * HOUR
"""2026-03-01, 02:30 to 09:15 UTC."""
KWH = {YESTERDAY + hour * HOUR: 0.1 * (hour - 1) for hour in range(2, 10)}
"""Of the job, by hour: 0.1 to 0.8, 3.6 in all."""
CSV_CASES = {
    "good": "",
    "a gap of five hours": "gap",
    "NaN": "nan",
    "last year's data": "year",
    "no such file": "none",
}


class Row(msgspec.Struct, frozen=True):
    """What a night left of the job."""

    impacts: dict[str, Any]
    factors: dict[str, Any]
    warnings: tuple[str, ...]
    revision: int

    @property
    def use_kg(self) -> float:
        """GWP of its use, central."""
        return float(self.impacts["gwp_kgco2e"]["use"]["central"])

    @property
    def known(self) -> str:
        """Of its hours."""
        grid = self.factors["grid"]
        return "-" if grid is None else f"{grid['known']} of {grid['hours']}"


class Outcome(msgspec.Struct, frozen=True):
    """What a fault comes to."""

    provider: str
    answers: str
    first: Row
    """Of the night that met it."""
    again: Row
    """Of the same night once more, with nothing new."""
    mended: Row
    """Of the night after, without it."""


def _estimated(server: GridServers) -> None:
    server.estimated = {FOUR + number * HOUR for number in range(5)}


_SHOWN = ["good", "a gap of five hours", "HTTP 500", "HTML", "NaN in one slot", "last year's data", "wrong basis"]
_SHOWN += ["HTTP 401", "five hours are estimates"]
ESTIMATED = Fault("five hours are estimates", _estimated, 24, of=("electricitymaps",))
PROVIDERS = ("rte", "electricitymaps", "entsoe")
CASES = [
    (provider, fault)
    for provider in PROVIDERS
    for fault in [*FAULTS, ESTIMATED]
    if provider in fault.of and fault.name in _SHOWN
]


def site(folder: Path, url: str, provider: str, inventory: str | None = None, **grid: Any) -> World:
    """A site beside the local providers."""
    (folder / "token").write_text(TOKEN, encoding="ascii")
    given: dict[str, Any] = {
        "zone": "FRA",
        "provider": provider,
        "rte": {"url": f"{url}/rte"},
        "electricitymaps": {"token_file": "token", "zone": "FR", "url": f"{url}/em/v3"},
        "entsoe": {"token_file": "token", "domain": DOMAIN, "url": f"{url}/entsoe/api"},
        "csv": {"path": "intensity.csv", "basis": "lifecycle"},
        "cache": "grid.db",
        "deadline_s": 5,
    }
    config = {
        "cluster": "lab",
        "store": {"local": {"path": "nodes"}},
        "results": "sqlite:///results.db",
        "scheduler": {"local": {"path": "jobs.jsonl"}},
        "inventory": "nodes.yaml",
        "grid": given | grid,
    }
    more = {} if inventory is None else {"inventory": inventory}
    return World(folder, json.dumps(config), **more)


def train(
    world: World,
    job: str = "1",
    node: str = "node01",
    kwh: dict[int, float] | None = None,
    start: float = START,
    end: float = END,
    *,
    say: bool = True,
) -> None:
    """A job with so many kWh in each hour, as its node's points tell them every ten minutes."""
    kwh = KWH if kwh is None else kwh
    if say:
        world.say(job, submit=start, start=start, end=end, nodes=[node])
    file = world.node(node)
    file.db.execute("INSERT OR IGNORE INTO domain VALUES ('package-0', 'cpu', 'rapl', 'counter', 0, 0, 0, NULL)")
    run = file.run(job, start - T0, end - T0)
    file.charge(run, joules=sum(kwh.values()) * 3.6e6, known_s=end - start)
    edges = [start, *range(int(start // 600 + 1) * 600, int(-(-end // 600)) * 600, 600), end]
    for at in edges:
        so_far = sum(value * _part(hour, at, start, end) for hour, value in kwh.items())
        file.point(run, at - T0, so_far * 3.6e6, known_s=at - start)


def _part(hour: int, at: float, start: float, end: float) -> float:
    """Of an hour's energy, what came until then: evenly over the part of the hour in which the job ran."""
    first, last = max(hour, start), min(hour + HOUR, end)
    return min(max((at - first) / (last - first), 0.0), 1.0)


def ask(world: World, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real command, a process of its own."""
    command = [str(Path(sys.executable).parent / "jobimpact"), *words, "--config", str(world.config_file)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


def told(world: World, job: str = "1") -> Row:
    """The job's row, as the command answers its user."""
    done = ask(world, job, "--json")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    (found,) = json.loads(done.stdout)["jobs"]
    return _row(found)


def stored(world: World) -> Row:
    """The same from the results, without a process."""
    reader = Reader(world.config.results)
    try:
        (found,) = reader.find("1")
    finally:
        reader.close()
    return _row(job_document(found))


def _row(found: dict[str, Any]) -> Row:
    return Row(found["impacts"], found["factors"], tuple(found["warnings"]), found["revision"])


def night(world: World, now: float) -> Row:
    """One night, and the job's row after it."""
    account(world.config, now)
    return stored(world)


def before(folder: Path) -> Path:
    """A cache in which all is known up to the day, and the mean that RTE's hours are taken against."""
    with serving() as server:
        for provider in PROVIDERS:
            (folder / provider).mkdir()
            world = site(folder / provider, server.url, provider, cache=str(folder / "before.db"))
            assert account(world.config, YESTERDAY + HOUR, YESTERDAY, YESTERDAY + HOUR).problems == ()
    return folder / "before.db"


def play(provider: str, fault: Fault, cache: Path, folder: Path) -> Outcome:
    """The job's night under a fault, and the next one without."""
    with serving() as server:
        world = site(folder, server.url, provider)
        shutil.copy(cache, folder / "grid.db")
        train(world)
        fault.make(server)
        night(world, NOW)
        first, again = told(world), night(world, NOW)
        mended = GridServers(server.url)
        for name in ("fault", "odd", "gaps", "basis", "estimated"):
            setattr(server, name, getattr(mended, name))
        return Outcome(provider, fault.name, first, again, night(world, NOW + DAY))


def play_csv(name: str, of: str, folder: Path) -> Outcome:
    """The same with a file."""
    world = site(folder, "http://127.0.0.1:1", "csv")
    train(world)
    path = folder / "intensity.csv"
    if of != "none":
        path.write_text("\n".join(rows(of)) + "\n", encoding="ascii")
    night(world, NOW)
    first, again = told(world), night(world, NOW)
    path.write_text("\n".join(rows()) + "\n", encoding="ascii")
    return Outcome("csv", name, first, again, night(world, NOW + DAY))


def play_annual(folder: Path) -> Outcome:
    """The same by annual means."""
    world = site(folder, "http://127.0.0.1:1", "annual")
    train(world)
    first, again, mended = (night(world, at) for at in (NOW, NOW, NOW + DAY))
    return Outcome("annual", "is not asked", first, again, mended)


def outcomes() -> Iterator[Outcome]:
    """All of them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = before(folder)

        def own() -> Path:
            return Path(tempfile.mkdtemp(dir=folder))

        yield play_annual(own())
        for provider, fault in CASES:
            yield play(provider, fault, cache, own())
        for row, of in CSV_CASES.items():
            yield play_csv(row, of, own())


def markdown(found: Iterable[Outcome]) -> Iterator[str]:
    """The table."""
    yield "| provider | it answers | hours known | GWP of use | the row's warnings | the night after, once mended |"
    yield "|---|---|---|---|---|---|"
    for one in found:
        warned = "<br>".join(f"`{line}`" for line in one.first.warnings) or "none"
        after = "the same row"
        if one.mended.revision > 1:
            after = f"{one.mended.known} hours, {one.mended.use_kg * 1e3:.1f} g: revision {one.mended.revision}"
        yield (
            f"| {one.provider} | {one.answers} | {one.first.known} | {one.first.use_kg * 1e3:.1f} g | {warned} "
            f"| {after} |"
        )


def main() -> int:
    """Play everything, and print the table."""
    for line in markdown(outcomes()):
        sys.stdout.write(f"{line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
