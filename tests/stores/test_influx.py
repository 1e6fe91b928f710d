"""Answers that are not what InfluxDB says of points that are there: errors, never rows that are too few."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.needs import need_server
from tests.stores.answers import Answer, Answers
from tests.stores.servers import READER, WRITER, Influx, Victoria

from jobimpact.cli.main import main
from jobimpact.core.config import InfluxStore
from jobimpact.core.errors import ConfigError, StoreError
from jobimpact.core.series import JOB_ENERGY, NODE_POWER
from jobimpact.store.influx import InfluxReader, answers, identifier, literal
from jobimpact.store.series import Row


def doc(*series: object, partial: bool = False, **more: object) -> bytes:
    result = {"statement_id": 0, "series": series} | more | ({"partial": True} if partial else {})
    return json.dumps({"results": [result]}).encode() + b"\n"


def part(values: list[list[object]], *, node: str = "n", partial: bool = False, **more: object) -> dict[str, object]:
    found: dict[str, object] = {"name": "node_power", "tags": {"node": node, "domain": ""}}
    found |= {"columns": ["time", "energy_uj", "unknown_ns", "watts"], "values": values} | more
    return found | ({"partial": True} if partial else {})


def rows(answer: Answer) -> list[Row]:
    with Answers(lambda *_: answer) as server:
        reader = InfluxReader(InfluxStore(url=server.url))
        try:
            return list(reader.rows(NODE_POWER, 0, 10))
        finally:
            reader.close()


GOOD = [1, 2, 3, 0.5]

BAD = {
    "an error": (Answer(b'{"error":"boom"}'), "boom"),
    "an error of the statement": (Answer(doc(error="timeout")), "timeout"),
    "an error after rows": (Answer(doc(part([GOOD]), partial=True) + doc(error="shard 7 is gone")), "shard 7 is gone"),
    "a database that is not there": (Answer(doc(error="database not found: jobimpact")), "jobimpact store init"),
    "a limit of rows": (Answer(doc(part([GOOD], partial=True))), "max-row-limit"),
    "a limit of rows of the whole": (Answer(doc(part([GOOD]), partial=True)), "max-row-limit"),
    "a chunk that does not come": (Answer(doc(part([GOOD]), partial=True), chunked=True), "partial"),
    "JSON that is cut": (Answer(doc(part([GOOD]))[:-30]), "cut short"),
    "a body that is cut": (Answer(doc(part([GOOD])), cut=True), "http://127.0.0.1"),
    "a chunk that is cut": (Answer(doc(part([GOOD])), chunked=True, cut=True), "http://127.0.0.1"),
    "nothing": (Answer(b""), "partial"),
    "a page": (Answer(b"<html>Login</html>"), "no answer of InfluxDB"),
    "other JSON": (Answer(b'{"status":"success","data":{}}'), "without results"),
    "a list": (Answer(b"[]"), "no answer of InfluxDB"),
    "VictoriaMetrics": (
        Answer(doc({"name": "databases", "columns": ["name"], "values": [["_internal"]]})),
        "set store.victoriametrics",
    ),
    "another measurement": (Answer(doc(part([GOOD], name="cpu"))), "nobody asked for"),
    "a list where a number is": (Answer(doc(part([[1, [2], 3, 0.5]]))), "node_power.energy_uj"),
    "a truth where a number is": (Answer(doc(part([[1, True, 3, 0.5]]))), "node_power.energy_uj"),
    "a redirect": (Answer(b"", 302, {"Location": "http://elsewhere/"}), "HTTP 302"),
    "401": (Answer(b'{"error":"authorization failed"}', 401), "store.influxdb.token_file"),
    "403": (Answer(b'{"error":"no right"}', 403), "no right"),
    "500": (Answer(b"{}", 500), "HTTP 500"),
    "503": (Answer(b"", 503), "HTTP 503"),
    "terminal codes": (Answer(b'{"error":"\\u001b[31mred"}'), "[31mred"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_whole_answer_is_an_error(kind: str) -> None:
    answer, said = BAD[kind]
    with pytest.raises(StoreError, match=said.replace("[", r"\[")) as found:
        rows(answer)
    assert str(found.value).isprintable()


@pytest.mark.parametrize("value", ["2", 2.5])
def test_a_value_of_another_type_is_its_row_s_alone(value: object) -> None:
    """Who takes rows tells of it: one node's nonsense is no reason to read none of the others."""
    found = rows(Answer(doc(part([[1, value, 3, 0.5]], node="a"), part([[1, 2, 3, 0.5]], node="b"))))
    assert [one.fields["energy_uj"] for one in found] == [value, 2]


def test_series_come_in_any_order_and_in_pieces() -> None:
    body = b"".join(
        (
            doc(part([[1, 2, None, 0.5]], node="b", partial=True), partial=True),
            b"\n",
            doc(part([[3, 2, None, 2]], node="b"), part([[2, 9007199254740993, 1, None]], node="a"), partial=True),
            doc(),
        )
    )
    assert sorted(rows(Answer(body, chunked=True)), key=lambda one: one.stamp_ms) == [
        Row({"node": "b"}, 1, {"energy_uj": 2, "watts": 0.5}),
        Row({"node": "a"}, 2, {"energy_uj": 9007199254740993, "unknown_ns": 1}),
        Row({"node": "b"}, 3, {"energy_uj": 2, "watts": 2.0}),
    ]


def test_edges_that_come_in_several_blocks_are_told_once() -> None:
    def block(stamps: list[int]) -> dict[str, object]:
        columns = ["time", "stamp_ms", "energy_uj", "known_ns"]
        values = [[one // 3_600_000 * 3_600_000, one, one, None] for one in stamps]
        return {"name": "job_energy", "tags": {"run": "1"}, "columns": columns, "values": values}

    def by(_: str, params: dict[str, str]) -> Answer:
        first = "first(" in params["q"]
        return Answer(doc(block([5]), block([3_600_000])) if first else doc(block([3_600_000]), block([9])))

    with Answers(by) as server:
        reader = InfluxReader(InfluxStore(url=server.url))
        found = [one.stamp_ms for one in reader.edges(JOB_ENERGY, 0, 2 * 3_600_000)]
        reader.close()
    assert sorted(found) == [5, 9, 3_600_000]


def test_an_unknown_tag_is_a_mistake_of_ours() -> None:
    reader = InfluxReader(InfluxStore(url="http://127.0.0.1:1"))
    with pytest.raises(ValueError, match="no tag job"):
        list(reader.rows(JOB_ENERGY, 0, 1, {"job": "1"}))


def test_a_secret_that_is_not_there_is_named(tmp_path: Path) -> None:
    reader = InfluxReader(InfluxStore(url="http://127.0.0.1:1", token_file=str(tmp_path / "token")))
    with pytest.raises(ConfigError, match=r"store.influxdb.token_file: .*token"):
        list(reader.rows(JOB_ENERGY, 0, 1))


def test_a_server_that_is_silent_is_waited_for_as_long_as_is_set(influx: Influx, tmp_path: Path) -> None:
    server = influx.store(tmp_path, timeout_s=0.2).server
    assert isinstance(server, InfluxStore)
    reader = InfluxReader(server)
    influx.freeze()
    try:
        with pytest.raises(StoreError, match="no answer in time"):
            list(reader.rows(NODE_POWER, 0, 10))
    finally:
        influx.thaw()
        reader.close()


@pytest.mark.parametrize(("who", "may"), [(READER, True), (WRITER, False)])
def test_reading_needs_the_right_to(tmp_path: Path, who: tuple[str, str], *, may: bool) -> None:
    need_server("influxd")
    with Influx(tmp_path / "influx", auth=True) as server:
        server.create()
        secret = tmp_path / "password"
        secret.write_text(who[1])
        settings = server.store(tmp_path, username=who[0], password_file=str(secret)).server
        assert isinstance(settings, InfluxStore)
        reader = InfluxReader(settings)
        if may:
            assert list(reader.rows(NODE_POWER, 0, 10)) == []
        else:
            with pytest.raises(StoreError, match="HTTP 403"):
                list(reader.rows(NODE_POWER, 0, 10))
        reader.close()


def test_a_real_limit_of_rows_loses_none(tmp_path: Path) -> None:
    need_server("influxd")
    with Influx(tmp_path / "influx", max_rows=10) as server:
        server.create()
        lines = "\n".join(f"node_power,node=n{at % 3} energy_uj={at}i {at}" for at in range(50))
        server.ask("POST", "/write", {"db": "jobimpact", "rp": "profile", "precision": "ms"}, lines.encode())
        settings = server.store(tmp_path).server
        assert isinstance(settings, InfluxStore)
        reader = InfluxReader(settings)
        assert len(list(reader.rows(NODE_POWER, 0, 100))) == 50
        reader.close()


def test_a_real_victoriametrics_is_recognised(victoria: Victoria) -> None:
    reader = InfluxReader(InfluxStore(url=victoria.url))
    for read in (reader.rows, reader.edges, reader.latest):
        with pytest.raises(StoreError, match=r"set store\.victoriametrics"):
            list(read(JOB_ENERGY, 0, 10))
    reader.close()


@given(st.text())
def test_quoted_words_end_where_they_shall(text: str) -> None:
    for quoted, quote in ((identifier(text), '"'), (literal(text), "'")):
        assert quoted[0] == quoted[-1] == quote
        at, ends = 1, []
        while at < len(quoted):
            if quoted[at] == quote:
                ends.append(at)
            at += 2 if quoted[at] == "\\" else 1
        assert ends == [len(quoted) - 1]


def test_3x_is_told_its_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def by(path: str, _: dict[str, str]) -> Answer:
        if path == "/ping":
            return Answer(b"{}", headers={"X-Influxdb-Version": "3.4.1"})
        return Answer(doc(error="database not found"))

    with Answers(by) as server:
        file = tmp_path / "c.yaml"
        (tmp_path / "t").write_text("token")
        file.write_text(f"store: {{influxdb: {{url: '{server.url}', token_file: t}}}}\n")
        assert main(["store", "init", "--config", str(file)]) == 1
        told = capsys.readouterr().out
        assert f"influxdb3 create database --host {server.url} --retention-period 7d jobimpact/books" in told
        assert f"influxdb3 create database --host {server.url} jobimpact/ever" in told
        assert all(params["q"].count(";") == 0 for path, params in server.asked if path == "/query")


WORDS = [
    "results",
    "series",
    "name",
    "node_power",
    "tags",
    "node",
    "columns",
    "time",
    "energy_uj",
    "values",
    "partial",
    "error",
    "statement_id",
    "watts",
]
PARTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(WORDS),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from(WORDS), part, max_size=3),
    max_leaves=8,
)
WHOLE = {
    "results": [
        {
            "series": [
                {"name": "node_power", "columns": ["time", "energy_uj"], "tags": {"node": "n"}, "values": [[1, 2]]}
            ]
        }
    ]
}


def changed(part: object, place: list[int], by: object) -> object:
    """The same with one of its parts replaced."""
    if not place or not isinstance(part, (dict, list)) or not part:
        return by
    at = list(part)[place[0] % len(part)] if isinstance(part, dict) else place[0] % len(part)
    copy: Any = dict(part) if isinstance(part, dict) else list(part)
    copy[at] = changed(copy[at], place[1:], by)
    return copy


@given(st.lists(st.integers(0, 5), max_size=8), PARTS, st.integers(0, 200))
def test_no_answer_is_more_than_rows_or_an_error(place: list[int], by: object, cut: int) -> None:
    body = json.dumps(changed(WHOLE, place, by)).encode()
    reader = InfluxReader(InfluxStore(url="http://127.0.0.1:1"))
    for text in (body, body[:cut]):
        try:
            for one in answers([text], reader.http.url):
                for row in reader.read(NODE_POWER, one):
                    assert isinstance(row, Row)
        except StoreError:
            pass
