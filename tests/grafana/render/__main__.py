"""Pictures of dashboards: `python -m tests.grafana.render all --theme dark --out FOLDER`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from grafana.generate import FOLDER
from tests.grafana.asking import Asked, Range, interpolate
from tests.grafana.render.answers import answers
from tests.grafana.render.browser import Browser, BrowserError
from tests.grafana.render.page import Drawer, NotInstalledError, build
from tests.grafana.site import CHOSEN, Site
from tests.stores.servers import Influx, ServerError, missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.grafana.render.frames import Json

LEGEND_PX = 100
"""What axes and legends take of a panel's width: the rest has one point a pixel."""


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.grafana.render", description=__doc__)
    parser.add_argument("which", nargs="+", help="`all`, the names of views, or files with a dashboard's JSON")
    parser.add_argument("--theme", choices=("dark", "light", "both"), default="dark")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures, and the answers beside them")
    parser.add_argument("--width", type=int, default=1600, help="of the window, in pixels")
    parser.add_argument("--scale", type=float, default=1.0, help="pixels of the picture for each of the window")
    parser.add_argument(
        "--height", type=int, default=0, help="of the upper part that is drawn, in the window's pixels"
    )
    parser.add_argument("--since", default="", help="the range up to now (`now-24h`); else the dashboard's own")
    parser.add_argument("--again", action="store_true", help="draw the answers that lie in the folder; no server")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a variable's value")
    return parser.parse_args(given)


def _files(which: Sequence[str]) -> list[Path]:
    if list(which) == ["all"]:
        return sorted(FOLDER.glob("*.json"))
    return [Path(one) if one.endswith(".json") else FOLDER / f"{one}.json" for one in which]


def _asked(server: Influx, view: Json, variables: dict[str, str], now_s: int, given: argparse.Namespace) -> Json:
    asked = Asked(variables)

    def looked_at(panel: Json) -> Range:
        own = panel.get("timeFrom")
        return Range.of(f"now-{own}" if own else given.since or view["time"]["from"], now_s)

    def ask(panel: Json, target: Json) -> Json:
        points = panel["gridPos"]["w"] * given.width // 24 - LEGEND_PX
        when = looked_at(panel)
        query = interpolate(target["query"], asked, when, when.interval_s(points, panel.get("interval", "")))
        answer: Json = json.loads(server.ask("POST", "/query", {"db": "jobimpact", "epoch": "ms", "q": query})[1])
        return answer

    def between(panel: Json) -> tuple[int, int]:
        return looked_at(panel).from_s * 1000, looked_at(panel).to_s * 1000

    return answers(view, ask, variables, between)


def _fresh(files: Sequence[Path], given: argparse.Namespace) -> None:
    """Fill a real server, and write what it answers."""
    variables = CHOSEN | dict(one.split("=", 1) for one in given.set)
    with tempfile.TemporaryDirectory() as folder, Influx(Path(folder) / "influx") as server:
        server.create()
        site = Site(Path(folder) / "site", server)
        site.fill()
        for file in files:
            view = json.loads(file.read_text(encoding="utf-8"))
            found = _asked(server, view, variables, site.now_s, given)
            (given.out / f"{file.stem}.answers.json").write_text(json.dumps(found), encoding="utf-8")


def _drawn(files: Sequence[Path], given: argparse.Namespace) -> Iterator[str]:
    """Write the pictures; what is to be said of them."""
    modes = ("dark", "light") if given.theme == "both" else (given.theme,)
    with tempfile.TemporaryDirectory() as folder, Browser(Path(folder)) as browser, Drawer(browser) as drawer:
        for file in files:
            view = json.loads(file.read_text(encoding="utf-8"))
            found = json.loads((given.out / f"{file.stem}.answers.json").read_text(encoding="utf-8"))
            for mode in modes:
                picture, notes = drawer.draw(view, found, mode, given.width, given.scale, given.height)
                (given.out / f"{file.stem}.{mode}.png").write_bytes(picture)
                yield from (f"{file.stem}, {mode}: {note}" for note in notes)


def main(words: Sequence[str]) -> int:
    """Draw; 1 where something is not there that it needs."""
    given = _arguments(words)
    files = _files(given.which)
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        build()
        if why := "" if given.again else missing("influxd"):
            raise ServerError(why)
        if not given.again:
            _fresh(files, given)
        for note in _drawn(files, given):
            print(note, file=sys.stderr)
    except (NotInstalledError, BrowserError, ServerError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
