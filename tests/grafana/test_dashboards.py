"""The dashboards as files: what Grafana 10 and later need to load them, and what a person needs to read them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from grafana.generate import FOLDER, VIEWS, text
from grafana.model import DATASOURCE
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from tests.grafana.asking import ALL, Asked, AskError, Range, interpolate, panels, targets

from jobimpact.core.series import MEASUREMENTS

ROOT = FOLDER.parent
PROVISIONING = ROOT / "provisioning"
CORE_PANELS = {"timeseries", "stat", "table", "bargauge"}
BUILT_IN = {"timeFilter", "__interval", "__interval_ms", "__to", "__from"}
LINKS_OWN = {"__value", "__data"}
UNITS = {
    *("watt", "kwatth", "joule", "percentunit", "s", "none", "bytes", "dateTimeAsIso", "dateTimeFromNow"),
    *("suffix:kgCO2e", "si:gCO2e", "si:gSbe"),
}
"""Those of Grafana that stand for what the queries give."""
each_view = pytest.mark.parametrize("name", VIEWS)


def loaded(name: str) -> dict[str, Any]:
    """A dashboard's file."""
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


def provisioned(file: str) -> dict[str, Any]:
    """A file of the provisioning."""
    found: dict[str, Any] = yaml.safe_load((PROVISIONING / file).read_text(encoding="utf-8"))
    return found


def values(tree: Any, key: str) -> Iterator[Any]:
    """All that stands under a key, however deep."""
    if isinstance(tree, dict):
        for name, one in tree.items():
            if name == key:
                yield one
            yield from values(one, key)
    elif isinstance(tree, list):
        for one in tree:
            yield from values(one, key)


def used(said: str) -> set[str]:
    """The variables in a text."""
    return {one or other for one, other in re.findall(r"\$(\w+)|\$\{(\w+)", said)}


def asked_of(view: dict[str, Any]) -> list[str]:
    """All queries: panels' and variables'."""
    variables = [one["query"] for one in view["templating"]["list"] if one["type"] == "query"]
    return [target["query"] for _, target in targets(view)] + variables


@each_view
def test_files_are_what_the_code_says(name: str) -> None:
    """`python -m grafana.generate` writes them, and there is no other."""
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == text(VIEWS[name])
    assert {one.stem for one in FOLDER.iterdir()} == set(VIEWS)


@each_view
def test_grafana_10_knows_every_key(name: str) -> None:
    """Read into Grafana's own model of 10.1 and written again, nothing of the dashboard is lost."""
    plugins.register_default_plugins()
    view = loaded(name)
    back = json.loads(json.dumps(Dashboard.from_json(view), cls=JSONEncoder))
    assert lost(view, back) == []


def lost(before: Any, after: Any, path: str = "") -> list[str]:
    """What is not there any more, or is another; what the model adds by itself does not matter."""
    if isinstance(before, dict):
        if not isinstance(after, dict):
            return [path]
        return [one for key, value in before.items() for one in lost(value, after.get(key, "gone"), f"{path}.{key}")]
    if isinstance(before, list):
        if not isinstance(after, list) or len(before) != len(after):
            return [path]
        pairs = enumerate(zip(before, after, strict=True))
        return [one for number, (old, new) in pairs for one in lost(old, new, f"{path}[{number}]")]
    return [] if before == after else [f"{path}: {before!r} is {after!r}"]


@each_view
def test_panels_are_numbered_and_do_not_overlap(name: str) -> None:
    """Ids are unique, and each place of the grid is one panel's."""
    view = loaded(name)
    ids = [panel["id"] for panel in view["panels"]]
    assert len(ids) == len(set(ids)) > 1
    taken = [
        (x, y)
        for panel in view["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24


@each_view
def test_panels_explain_themselves(name: str) -> None:
    """Each is a core panel with a help text, a unit, words for no data, and colours that are not fixed to a theme."""
    view = loaded(name)
    assert len({panel["title"] for panel in panels(view)}) == len(panels(view))
    for panel in panels(view):
        field = panel["fieldConfig"]["defaults"]
        assert panel["type"] in CORE_PANELS
        assert len(panel["description"].split()) > 2, panel["title"]
        assert len(field["noValue"]) > 1, panel["title"]
        assert {
            field["unit"],
            *values([one["properties"] for one in panel["fieldConfig"]["overrides"]], "unit"),
        } <= UNITS
        if panel["type"] == "table":
            assert panel["fieldConfig"]["overrides"][0]["properties"] == [{"id": "noValue", "value": "-"}]
        for override in panel["fieldConfig"]["overrides"]:
            assert override["properties"], panel["title"]
            assert all(one["value"] in UNITS for one in override["properties"] if one["id"] == "unit"), panel["title"]
    assert not re.search(r'"#[0-9a-fA-F]{3,8}"|rgba?\(', json.dumps(view))


@each_view
def test_every_variable_is_declared_and_used(name: str) -> None:
    """In queries and links; a drop-down lists what grows slowly, never jobs."""
    view = loaded(name)
    variables = view["templating"]["list"]
    declared = [one["name"] for one in variables]
    found = set().union(*(used(query) for query in asked_of(view))) - BUILT_IN
    linked = set().union(*(used(link["url"]) for links in _links(view) for link in links), set()) - LINKS_OWN
    assert found == set(declared)
    assert linked <= set(declared)
    assert len(declared) == len(set(declared))
    for one in variables:
        assert one["description"]
        assert one["type"] == "textbox" or not re.search(r"job_energy|job_run|job_impact|\"run\"", one["query"])
        assert (one["name"] == "job") == (one["type"] == "textbox")


def _links(view: dict[str, Any]) -> Iterator[list[dict[str, str]]]:
    for panel in panels(view):
        for override in panel["fieldConfig"]["overrides"]:
            yield from (one["value"] for one in override["properties"] if one["id"] == "links")


@each_view
def test_variables_stand_in_regular_expressions_alone(name: str) -> None:
    """Explicitly escaped, between slashes and whole: nowhere else can a value be kept in its place."""
    for query in asked_of(loaded(name)):
        bare = re.sub(r'"\w+" =~ /\^\$\{\w+:regex\}(\([#@]\[0-9\]\+\)\?)?\$/', "", query)
        assert used(bare) <= BUILT_IN, query


@each_view
def test_links_lead_to_views_that_take_their_variables(name: str) -> None:
    """Each link's view is there, and declares what it is given, encoded for a URL."""
    for links in _links(loaded(name)):
        for link in links:
            found = re.match(r"/d/(jobimpact-\w+)\?(.*)$", link["url"])
            assert found, link
            view = next(one for one in map(loaded, VIEWS) if one["uid"] == found[1])
            given = dict(re.findall(r"var-(\w+)=([^&]*)", found[2]))
            assert set(given) == {one["name"] for one in view["templating"]["list"]}
            assert all(value.endswith(":percentencode}") for value in given.values())


@each_view
def test_queries_name_measurements_with_their_retention(name: str) -> None:
    """Each measurement is one that is written, under its policy; and nothing is integrated by the server."""
    known = {f'"{one.kept}"."{one.name}"': one for one in MEASUREMENTS}
    for query in asked_of(loaded(name)):
        sources = re.findall(r'FROM ("[^"]+"(?:\."[^"]+")?)', query)
        assert sources, query
        assert set(sources) <= set(known), query
        assert "integral(" not in query.lower()


@each_view
def test_queries_name_tags_and_fields_that_are_there(name: str) -> None:
    """What is between quotes is a tag or field of the measurement, or a name that the query itself gives."""
    known = {f'"{one.kept}"."{one.name}"': one for one in MEASUREMENTS}
    for query in asked_of(loaded(name)):
        of = known[re.findall(r'FROM ("[^"]+"\."[^"]+")', query)[0]]
        given = set(re.findall(r'AS "([^"]+)"', query))
        named = set(re.findall(r'"([^"]*)"', query)) - {of.kept, of.name}
        assert named <= {*of.tags, *of.ints, *of.floats, *of.texts} | given, query


@each_view
def test_tables_with_several_tags_have_an_order(name: str) -> None:
    """Grafana makes columns of tags in no order."""
    tables = [(panel, target) for panel, target in targets(loaded(name)) if panel["type"] == "table"]
    assert tables
    for panel, target in tables:
        grouped = re.search(r"GROUP BY ([^()]*)$", target["query"])
        tags = re.findall(r'"(\w+)"', grouped[1]) if grouped else []
        (order,) = [one["options"]["indexByName"] for one in panel["transformations"]]
        assert len(tags) < 2 or list(order) == ["Time", *tags], panel["title"]


def test_data_source_is_the_one_that_is_provisioned() -> None:
    """One fixed uid, in every panel, target and variable, and in both variants of the provisioning."""
    for file in ("datasources/jobimpact.yaml", "datasources/jobimpact-token.yaml.sample"):
        (source,) = provisioned(file)["datasources"]
        assert {"type": source["type"], "uid": source["uid"]} == DATASOURCE
        assert source["jsonData"]["version"] == "InfluxQL"
        assert source["jsonData"]["httpMode"] == "POST"
        assert source["jsonData"]["dbName"] == source["database"] == "jobimpact"
    for name in VIEWS:
        assert {json.dumps(one, sort_keys=True) for one in values(loaded(name), "datasource")} == {
            json.dumps(DATASOURCE, sort_keys=True)
        }


def test_no_secret_is_in_a_file() -> None:
    """Whatever is secret comes from the environment."""
    for file in ("datasources/jobimpact.yaml", "datasources/jobimpact-token.yaml.sample"):
        (source,) = provisioned(file)["datasources"]
        assert all(re.search(r"\$\w+$", one) for one in source["secureJsonData"].values())
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    secrets = [
        value
        for service in services.values()
        for name, value in service["environment"].items()
        if "PASSWORD" in name or "TOKEN" in name
    ]
    assert len(secrets) >= 3
    assert all(re.fullmatch(r"\$\{\w+:\?[^}]+\}", value) for value in secrets)


def test_compose_mounts_what_grafana_reads() -> None:
    """Images are pinned, every mounted file is there, and dashboards lie where the provider looks."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert all(re.search(r":\d+\.\d+\.\d+$", one["image"]) for one in services.values())
    mounts = {}
    for service in services.values():
        for volume in service["volumes"]:
            here, there = volume.split(":")[:2]
            if here.startswith("./"):
                assert (ROOT / here).exists(), volume
                mounts[there] = ROOT / here
    (provider,) = provisioned("dashboards/jobimpact.yaml")["providers"]
    assert mounts[provider["options"]["path"]].resolve() == FOLDER.resolve()
    assert mounts["/etc/grafana/provisioning/datasources"].resolve() == (PROVISIONING / "datasources").resolve()


ASKED = Asked({"user": "a/b'\"", "labs": ("x|y", "z"), "all": ALL}, {"all": ".*"})
NOW = Range(1_800_000_000, 1_800_003_600)


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ("/^${user:regex}$/", "/^a\\/b'\"$/"),
        ("/^${labs:regex}$/", "/^(x\\|y|z)$/"),
        ("/^${all:regex}$/", "/^.*$/"),
        ("/^[[user:regex]]$/", "/^a\\/b'\"$/"),
        ("${user:singlequote}", "'a/b\\'\"'"),
        ("${user:percentencode}", "a%2Fb%27%22"),
        ("$timeFilter", "time >= 1800000000000ms and time <= 1800003600000ms"),
        ("time($__interval) $__interval_ms ${__to}", "time(20s) 20000 1800003600000"),
    ],
)
def test_variables_are_put_in_as_grafana_does(said: str, sent: str) -> None:
    """By format, one value or several."""
    assert interpolate(said, ASKED, NOW, 20) == sent


@pytest.mark.parametrize("said", ["/^${nobody:regex}$/", "$nobody", "[[nobody]]", "$user", "${user}", "${user:odd}"])
def test_an_unknown_variable_or_format_is_an_error(said: str) -> None:
    """Grafana would send the text as it stands, or escape it as its release happens to."""
    with pytest.raises(AskError):
        interpolate(said, ASKED, NOW, 20)
