"""Write the dashboards' JSON: `python -m grafana.generate`."""

from __future__ import annotations

import json
from pathlib import Path

from grafana.model import Json
from grafana.views import cluster, job, lab, node, user

__all__ = ["FOLDER", "VIEWS", "text"]

FOLDER = Path(__file__).parent / "dashboards"
VIEWS: dict[str, Json] = {
    "cluster": cluster.VIEW,
    "node": node.VIEW,
    "job": job.VIEW,
    "user": user.VIEW,
    "lab": lab.VIEW,
}


def text(view: Json) -> str:
    """A view as its file has it."""
    return json.dumps(view, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, view in VIEWS.items():
        (FOLDER / f"{name}.json").write_text(text(view), encoding="utf-8")
