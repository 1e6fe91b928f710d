"""What providers' faults come to: `python -m tests.accounting.grid.faults` prints the table of docs/admin/grid.md.

The real code asks the local providers for a day, of which the days before are kept, so that RTE's has its mean; and
again when the fault is over.
"""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
from tests.accounting.grid.world import DAY, HOUR, MIDNIGHT, Site
from tests.fakes.grid_servers import GridServers, serving

from jobimpact.core.config import GridCsv
from jobimpact.grid.grid import Grid

__all__ = ["FAULTS", "Fault", "Outcome", "markdown", "outcomes", "play"]

YESTERDAY = MIDNIGHT - DAY
FOUR = YESTERDAY + 4 * HOUR
PROVIDERS = ("rte", "electricitymaps", "entsoe")


class Fault(msgspec.Struct, frozen=True):
    """A way in which a provider answers."""

    name: str
    make: Callable[[GridServers], object]
    left: int = 0
    """How many of the day's 24 hours are known for all that."""
    says: str = ""
    """What is told, in part."""
    of: tuple[str, ...] = PROVIDERS


class Outcome(msgspec.Struct, frozen=True):
    """What came of it."""

    provider: str
    answers: str
    problems: list[str]
    hours: int
    afterwards: int
    """How many hours are known when it has been asked again, without the fault."""


def _fault(name: str) -> Callable[[GridServers], object]:
    return lambda server: setattr(server, "fault", name)


def _odd(value: object) -> Callable[[GridServers], object]:
    return lambda server: server.odd.update({FOUR: value})


def _gap(server: GridServers) -> None:
    server.gaps = {FOUR + n * HOUR for n in range(5)}


def _basis(server: GridServers) -> None:
    server.basis = lambda _: "direct"


def _mixed(server: GridServers) -> None:
    server.basis = lambda row: "direct" if row == 7 else "lifecycle"


def _zone(server: GridServers) -> None:
    server.zone = "DE"


HALF = ("rte", "electricitymaps")
FAULTS = [
    Fault("good", lambda _: None, 24),
    Fault("a gap of five hours", _gap, 19, "no value: 2026-03-01T04:00Z, and 4 more: 5 hours concerned"),
    Fault("HTTP 500", _fault("500"), 0, "HTTP 500 (it failed): 24 hours concerned"),
    Fault("HTML", _fault("html"), 0, "the answer is a page of HTML"),
    Fault("NaN in one slot", _odd(math.nan), 24, "= nan at 2026-03-01T04:00Z: 1 hour concerned", ("rte",)),
    Fault("NaN in one slot", _odd(math.nan), 23, "= nan at 2026-03-01T04:00Z: 1 hour", ("electricitymaps",)),
    Fault("NaN in one slot", _odd(math.nan), 23, "not a power: 'nan' MW of B", ("entsoe",)),
    Fault("a negative number", _odd(-40), 24, "-40 gCO2e/kWh at", ("rte",)),
    Fault("a negative number", _odd(-40), 23, "-40 gCO2e/kWh at", ("electricitymaps",)),
    Fault("a negative number", _odd(-40), 23, "'-40' MW of B", ("entsoe",)),
    Fault("last year's data", _fault("last year"), 0, "answers of another time: 2025-0"),
    Fault("wrong basis", _basis, 0, "asked for emissionFactorType lifecycle, and the answer's is 'direct'", HALF[1:]),
    Fault("wrong basis in one row", _mixed, 0, "and the answer's is 'direct'", HALF[1:]),
    Fault("another zone", _zone, 0, "and the answer's is", ("electricitymaps", "entsoe")),
    Fault("HTTP 401", _fault("401"), 0, "it wants a token, or does not accept this one: see token_file"),
    Fault("HTTP 429", _fault("429"), 0, "asked too often"),
    Fault("truncated", _fault("truncated"), 0, "or cut short"),
    Fault("a redirect", _fault("redirect"), 0, "leads to localhost: if it is right, set url to it"),
    Fault("a document type definition", _fault("bomb"), 0, "document type definition", ("entsoe",)),
    Fault("more than 20 MiB", _fault("large"), 0, "larger than 20 MiB"),
    Fault("a hang", _fault("hang"), 0, "no answer within deadline_s"),
    Fault("a drip", _fault("drip"), 0, "no answer within deadline_s"),
]
_CSV = {
    "good": "",
    "a gap of five hours": "gap",
    "a row without a number": "n/a",
    "a time without an offset": "offset",
    "two values for one hour": "twice",
    "NaN": "nan",
    "last year's data": "year",
    "no such file": "none",
}


def prepared(site: Site) -> Path:
    """A cache in which all is known up to the day."""
    for provider in PROVIDERS:
        with site.grid(provider) as grid:
            assert grid.fill(YESTERDAY - DAY, YESTERDAY) == []
    return site.cache


def play(provider: str, fault: Fault, before: Path, folder: Path) -> Outcome:
    """Ask for the day under a fault, and again without."""
    with serving() as server:
        site = Site(folder, server)
        site.cache = shutil.copy(before, folder / "played.db")
        site.deadline_s = 0.3 if fault.name in {"a hang", "a drip"} else 5.0
        fault.make(server)
        with site.grid(provider) as grid:
            problems = [line.replace(server.url, "http://server") for line in grid.fill(YESTERDAY, MIDNIGHT)]
            hours = len(grid.hours(YESTERDAY, MIDNIGHT))
        server.let_go.set()
        mended = GridServers(server.url)
        server.fault, server.odd, server.gaps, server.zone, server.basis = None, {}, set(), None, mended.basis
        site.deadline_s = 5.0
        with site.grid(provider) as grid:
            grid.fill(YESTERDAY, MIDNIGHT)
            return Outcome(provider, fault.name, problems, hours, len(grid.hours(YESTERDAY, MIDNIGHT)))


def rows(of: str = "") -> list[str]:
    """The lines of a CSV file of the day, with something wrong."""
    from_s = YESTERDAY - 365 * DAY if of == "year" else YESTERDAY
    lines = ["time,gco2e_per_kwh", *(f"{from_s + n * HOUR},{30 + n}" for n in range(24))]
    if of == "gap":
        del lines[5:10]
    lines[5] = {"n/a": f"{FOUR},n/a", "nan": f"{FOUR},nan", "offset": "2026-03-01T04:00:00,34"}.get(of, lines[5])
    return lines + [f"{FOUR},35"] * (of == "twice")


def play_csv(name: str, of: str, folder: Path) -> Outcome:
    """The same with a file."""
    with serving() as server:
        site, path = Site(folder, server), folder / "intensity.csv"
        site.cache = folder / "csv.db"

        def asked() -> tuple[list[str], int]:
            with site.grid("csv", csv=GridCsv(path=str(path), basis="lifecycle")) as grid:
                return _asked(grid)

        if of != "none":
            path.write_text("\n".join(rows(of)) + "\n")
        problems, hours = asked()
        path.write_text("\n".join(rows()) + "\n")
        told = [line.replace(str(folder), "/etc/jobimpact") for line in problems]
        return Outcome("csv", name, told, hours, asked()[1])


def _asked(grid: Grid) -> tuple[list[str], int]:
    return grid.fill(YESTERDAY, MIDNIGHT), len(grid.hours(YESTERDAY, MIDNIGHT))


def outcomes() -> Iterator[Outcome]:
    """All of them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serving() as server:
            before = prepared(Site(folder, server))
        for provider in PROVIDERS:
            yield from (play(provider, fault, before, folder) for fault in FAULTS if provider in fault.of)
        for row, of in _CSV.items():
            (folder / "csv.db").unlink(missing_ok=True)
            (folder / "intensity.csv").unlink(missing_ok=True)
            yield play_csv(row, of, folder)


def markdown(found: Iterable[Outcome]) -> Iterator[str]:
    """The table."""
    yield "| provider | it answers | what is told | hours known of 24 | once it is mended |"
    yield "|---|---|---|---|---|"
    for one in found:
        told = "<br>".join(f"`{line}`" for line in one.problems) or "nothing"
        yield f"| {one.provider} | {one.answers} | {told} | {one.hours} | {one.afterwards} |"


def main() -> int:
    """Play everything, and print the table."""
    for line in markdown(outcomes()):
        sys.stdout.write(f"{line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
