"""Answers that are not what VictoriaMetrics says of points that are there: errors, never rows that are too few."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.needs import need_server
from tests.stores.answers import Answer, Answers
from tests.stores.servers import Influx, Victoria

from jobimpact.core.config import VictoriaStore
from jobimpact.core.errors import StoreError
from jobimpact.core.series import JOB_ENERGY, NODE_POWER, Measurement
from jobimpact.store.series import HOUR_MS, Row
from jobimpact.store.victoria import VictoriaReader

HOUR = 1732118400000
METRIC = {"__name__": "node_power_energy_uj", "node": "n"}


def ranged(*result: object, kind: str = "matrix", **more: object) -> bytes:
    said = {"status": "success", "isPartial": False, "data": {"resultType": kind, "result": result}} | more
    return json.dumps(said).encode()


def exported(**more: object) -> bytes:
    return json.dumps({"metric": METRIC, "values": [1], "timestamps": [HOUR]} | more).encode() + b"\n"


RANGES = {
    "an error with 200": (
        Answer(b'{"status":"error","errorType":"422","error":"too many series"}'),
        "too many series",
    ),
    "a part of a cluster": (Answer(ranged(isPartial=True)), "partial"),
    "a vector": (Answer(ranged(kind="vector")), "vector"),
    "JSON that is cut": (Answer(ranged({"metric": METRIC, "values": [[1, "2"]]})[:-9]), "cut short"),
    "a body that is cut": (Answer(ranged(), cut=True), "http://127.0.0.1"),
    "nothing": (Answer(b""), "no answer of VictoriaMetrics"),
    "a page": (Answer(b"<html></html>"), "no answer of VictoriaMetrics"),
    "InfluxDB": (Answer(b'{"results":[{"statement_id":0}]}'), "no answer of VictoriaMetrics"),
    "another metric": (Answer(ranged({"metric": {"__name__": "up"}, "values": [[1, "2"]]})), "nobody asked for"),
    "404": (Answer(b"404 page not found\n", 404), "store.influxdb"),
    "422": (Answer(b'{"status":"error","error":"maxUniqueTimeseries"}', 422), "maxUniqueTimeseries"),
    "503": (Answer(b"", 503), "HTTP 503"),
}
EXPORTS = {
    "an error with 200": (Answer(b'{"status":"error","error":"gone"}\n'), "gone"),
    "an error after rows": (Answer(exported() + b"cannot read block\n", chunked=True), "cannot read block"),
    "a line that is cut": (Answer(exported()[:-5], chunked=True), "cut short"),
    "a chunk that is cut": (Answer(exported(), chunked=True, cut=True), "http://127.0.0.1"),
    "stamps that are missing": (Answer(exported(values=[1, 2])), "of one number"),
    "another metric": (Answer(exported(metric={"__name__": "up"})), "nobody asked for"),
    "404": (Answer(b"404 page not found\n", 404), "store.influxdb"),
}


@pytest.mark.parametrize("way", ["edges", "latest"])
@pytest.mark.parametrize("kind", RANGES)
def test_what_is_no_whole_range_is_an_error(kind: str, way: str) -> None:
    refused(way, *RANGES[kind])


@pytest.mark.parametrize("kind", EXPORTS)
def test_what_is_no_whole_export_is_an_error(kind: str) -> None:
    refused("rows", *EXPORTS[kind])


def refused(way: str, answer: Answer, said: str) -> None:
    with Answers(lambda *_: answer) as server:
        reader = VictoriaReader(VictoriaStore(url=server.url))
        with pytest.raises(StoreError, match=said):
            list(getattr(reader, way)(NODE_POWER, HOUR, HOUR + HOUR_MS))
        reader.close()


def test_points_that_move_while_they_are_read_are_read_again() -> None:
    """The stamps are asked for before and after the values: both belong to the same points."""
    told = iter([10, 11, 11])

    def by(_: str, params: dict[str, str]) -> Answer:
        value = next(told) if params["query"].startswith("t") else 7
        return Answer(ranged({"metric": METRIC, "values": [[HOUR / 1000, str(value)]]}))

    with Answers(by) as server:
        reader = VictoriaReader(VictoriaStore(url=server.url))
        (found,) = reader.latest(NODE_POWER, HOUR, HOUR + HOUR_MS)
        reader.close()
    assert (found.stamp_ms, found.fields) == (11_000, {"energy_uj": 7})
    assert len(server.asked) == 5


def test_points_that_never_rest_are_an_error() -> None:
    told = iter(range(1, 1000))

    def by(*_: object) -> Answer:
        return Answer(ranged({"metric": METRIC, "values": [[HOUR / 1000, str(next(told))]]}))

    refused_by = Answers(by)
    with refused_by as server:
        reader = VictoriaReader(VictoriaStore(url=server.url))
        with pytest.raises(StoreError, match="faster than it can be read"):
            list(reader.latest(NODE_POWER, HOUR, HOUR + HOUR_MS))
        reader.close()


def test_a_real_influxdb_is_recognised(influx: Influx) -> None:
    reader = VictoriaReader(VictoriaStore(url=influx.url))
    for read in (reader.rows, reader.edges, reader.latest):
        with pytest.raises(StoreError, match=r"InfluxDB is set as store\.influxdb"):
            list(read(JOB_ENERGY, HOUR, HOUR + HOUR_MS))
    reader.close()


@pytest.mark.parametrize(
    "flags", [("-dedup.minScrapeInterval=0s",), ("-search.latencyOffset=5m",), ("-search.maxStalenessInterval=1s",)]
)
def test_flags_of_the_server_change_nothing(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """A point that is written twice is one; fresh ones, and those after a gap, are there to the millisecond."""
    need_server("victoria-metrics")
    with Victoria(tmp_path / "v", flags=flags) as server:
        stamps = [HOUR + 1, HOUR + 2, HOUR + 2_000_000, HOUR + 2 * HOUR_MS + 5]
        lines = "\n".join(f"node_power,node=n energy_uj={one - HOUR}i {one}" for one in stamps)
        for _ in range(2):
            assert server.ask("POST", "/write", {"precision": "ms"}, lines.encode())[0] == 204
            assert server.settle()
        reader = VictoriaReader(VictoriaStore(url=server.url))
        where = (NODE_POWER, HOUR, HOUR + 3 * HOUR_MS)
        assert values(reader, "rows", *where) == stamps
        assert values(reader, "edges", *where) == [stamps[0], stamps[2], stamps[3]]
        assert values(reader, "latest", *where) == stamps[3:]
        reader.close()


def values(reader: VictoriaReader, way: str, of: Measurement, begin: int, end: int) -> list[int]:
    found = list(getattr(reader, way)(of, begin, end))
    assert all(one.fields == {"energy_uj": one.stamp_ms - HOUR} for one in found)
    return sorted(one.stamp_ms for one in found)


WORDS = [
    "status",
    "success",
    "data",
    "resultType",
    "matrix",
    "result",
    "metric",
    "__name__",
    "node_power_energy_uj",
    "values",
    "timestamps",
    "isPartial",
    "node",
]
PARTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(WORDS),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from(WORDS), part, max_size=3),
    max_leaves=8,
)
WHOLE = {
    "status": "success",
    "data": {
        "resultType": "matrix",
        "result": [{"metric": {"__name__": "node_power_energy_uj"}, "values": [[1, "2"]]}],
    },
}

EXPORTED = {"metric": {"__name__": "node_power_energy_uj"}, "values": [1], "timestamps": [HOUR]}


def changed(part: object, place: list[int], by: object) -> object:
    """The same with one of its parts replaced."""
    if not place or not isinstance(part, (dict, list)) or not part:
        return by
    at = list(part)[place[0] % len(part)] if isinstance(part, dict) else place[0] % len(part)
    copy: Any = dict(part) if isinstance(part, dict) else list(part)
    copy[at] = changed(copy[at], place[1:], by)
    return copy


@settings(max_examples=60, deadline=None)
@given(place=st.lists(st.integers(0, 5), max_size=8), by=PARTS, export=st.booleans())
def test_no_answer_is_more_than_rows_or_an_error(place: list[int], by: object, *, export: bool) -> None:
    body = json.dumps(changed(EXPORTED if export else WHOLE, place, by)).encode() + b"\n"
    with Answers(lambda *_: Answer(body)) as server:
        reader = VictoriaReader(VictoriaStore(url=server.url))
        try:
            for row in (reader.rows if export else reader.latest)(NODE_POWER, HOUR, HOUR + HOUR_MS):
                assert isinstance(row, Row)
        except StoreError:
            pass
        finally:
            reader.close()
