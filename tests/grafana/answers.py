"""What the dashboards show, as text: `python -m tests.grafana.answers [view ...]`.

A site is filled into a real InfluxDB, and each panel's queries are asked as Grafana asks them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from grafana.generate import VIEWS
from tests.grafana.asking import Asked, ask, panels, tell
from tests.grafana.site import CHOSEN, Site
from tests.stores.servers import Influx


def main(names: list[str]) -> None:
    """Print the answers of these views, or of all."""
    with tempfile.TemporaryDirectory() as folder, Influx(Path(folder) / "influx") as server:
        server.create()
        site = Site(Path(folder) / "site", server)
        site.fill()
        for name in names or VIEWS:
            view = VIEWS[name]
            print(f"# {view['title']}\n")
            for panel in panels(view):
                print(f"{panel['title']} [{panel['fieldConfig']['defaults']['unit']}]")
                for target in panel["targets"]:
                    print(tell(ask(server, view, panel, target, Asked(CHOSEN), site.now_s)))
                print()


if __name__ == "__main__":
    main(sys.argv[1:])
