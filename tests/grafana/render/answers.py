"""What a dashboard's panels get to draw: their answers, laid out, with the values of the variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.grafana.render.frames import Json, frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["answers", "laid_out", "opened"]


def opened(dashboard: Json) -> list[Json]:
    """All panels, those of collapsed rows too."""
    return [one for panel in dashboard["panels"] for one in (panel, *panel.get("panels", ()))]


def laid_out(dashboard: Json) -> list[Json]:
    """Panels where they stand once all rows are open: what is below a row that was collapsed moves down."""
    return list(_open(sorted(dashboard["panels"], key=lambda one: (one["gridPos"]["y"], one["gridPos"]["x"]))))


def _open(panels: list[Json]) -> Iterator[Json]:
    lower = 0
    for panel in panels:
        top = panel["gridPos"]["y"] + lower
        yield _moved(panel, top) | {"collapsed": False, "panels": []}
        within = panel.get("panels") or []
        if within:
            first = min(one["gridPos"]["y"] for one in within)
            yield from (_moved(one, top + 1 + one["gridPos"]["y"] - first) for one in within)
            lower += max(one["gridPos"]["y"] + one["gridPos"]["h"] for one in within) - first


def _moved(panel: Json, y: int) -> Json:
    return panel | {"gridPos": panel["gridPos"] | {"y": y}}


def answers(
    dashboard: Json,
    ask: Callable[[Json, Json], Json],
    variables: Mapping[str, str],
    between: Callable[[Json], tuple[int, int]],
) -> Json:
    """Run every panel's queries.

    Args:
        dashboard: its JSON.
        ask: of a panel and one of its targets, what the server says, with stamps in ms.
        variables: the value of each.
        between: of a panel, the range that it looks at, in ms; of `{}`, the dashboard's.

    Returns:
        What the page draws from.
    """
    found: dict[str, Json] = {}
    for panel in opened(dashboard):
        from_ms, to_ms = between(panel)
        said: Json = {"frames": [], "error": None, "from": from_ms, "to": to_ms}
        for target in panel.get("targets", ()):
            answer = ask(panel, target)
            problem = answer.get("error") or next((one["error"] for one in answer["results"] if "error" in one), None)
            if problem is None:
                said["frames"] += frames(answer, target)
            else:
                said["error"] = problem
        found[str(panel["id"])] = said
    from_ms, to_ms = between({})
    return {
        "from": from_ms,
        "to": to_ms,
        "variables": {name: {"text": value, "value": value} for name, value in variables.items()},
        "layout": laid_out(dashboard),
        "panels": found,
    }
