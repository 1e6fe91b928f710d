"""`jobimpactd check`, the server's side: where points go, whether it lets us in, what waits, in plain words."""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.fakes.write_server import Answer, WriteServer

from jobimpact.core.config import Config, InfluxStore, LocalStore, Node, Store, VictoriaStore
from jobimpact.core.nodefile import node_file, open_for_writing
from jobimpact_daemon.check_server import check_server


@pytest.fixture
def web() -> Iterator[WriteServer]:
    with WriteServer() as server:
        yield server


def config(store: Store) -> Config:
    return Config(cluster="c", store=store, node=Node(name="n1"))


def influx(web: WriteServer, folder: Path) -> Config:
    """With a node's file that is empty."""
    open_for_writing(node_file(folder, "n1")).close()
    return config(Store(influxdb=InfluxStore(web.url, path=str(folder))))


def change(folder: Path, question: str, *values: object) -> None:
    with closing(sqlite3.connect(node_file(folder, "n1"), isolation_level=None)) as db:
        db.execute(question, values)


def test_all_is_well(web: WriteServer, tmp_path: Path) -> None:
    """Both places take points, nothing waits, nothing was refused."""
    found = check_server(influx(web, tmp_path))
    change(tmp_path, "INSERT INTO source VALUES ('publisher', 1.8e9, 7, 1, 5, 9, 0.0, NULL)")
    assert [one.word for one in found] == ["ok", "ok", "ok", "note"]
    assert found[0].text == f"server: {web.url}, jobimpact/books, by its endpoint of 1.x: takes points"
    assert found[2].text == "outbox: empty: the server has every point"
    last = check_server(influx(web, tmp_path))[-1]
    assert (last.word, "7 batches delivered, 1 failures" in last.text) == ("ok", True)


def test_points_of_a_node_s_former_name_are_told(web: WriteServer, tmp_path: Path) -> None:
    """Its file is nobody's now; what lies there and is no such file is nobody's business."""
    asked = influx(web, tmp_path)
    for name in ("old", "empty"):
        open_for_writing(node_file(tmp_path, name)).close()
    node_file(tmp_path, "other").write_text("no database")
    with closing(sqlite3.connect(node_file(tmp_path, "old"), isolation_level=None)) as db:
        row = (1, "edge", "books", 3, zlib.compress(b"a\nb\nc"))
        db.execute("INSERT INTO outbox (stamp_ms, class, kept, n, lines) VALUES (?, ?, ?, ?, ?)", row)
    (found,) = [one for one in check_server(asked) if one.word == "MEND"]
    assert f"{tmp_path}/old.sqlite: 3 points wait in a file of another name" in found.text


def test_what_is_to_be_mended_is_said(web: WriteServer, tmp_path: Path) -> None:
    """A place that is not there, old points, the publisher's trouble, and what was set aside today."""
    web.answer = lambda _: Answer(404, b'{"error":"database not found: jobimpact"}')
    asked = influx(web, tmp_path)
    packed = zlib.compress(b"a\nb\nc")
    put = "INSERT INTO outbox (stamp_ms, class, kept, n, lines) VALUES (?, 'minute', 'books', 3, ?)"
    change(tmp_path, put, 1_000_000_000_000, packed)
    change(tmp_path, "INSERT INTO source VALUES ('publisher', 1.8e9, 0, 9, 5, 9, 99.0, 'no answer in time')")
    change(
        tmp_path, "INSERT INTO refused (wall_s, kept, line, said) VALUES (?, 'books', ?, 'no')", time.time(), "\x1b"
    )
    found = check_server(asked)
    assert [one.word for one in found] == ["MEND"] * 5
    assert "jobimpact store init" in found[0].text
    assert "outbox: 3 points wait, 0.0 of 64 MB, the oldest since " in found[2].text
    assert found[3].text.endswith("9 failures since the daemon's start: no answer in time")
    assert found[4].text.startswith("refused: 1 points were set aside (table `refused`)")
    assert all(one.text.isprintable() for one in found)
    change(tmp_path, "UPDATE refused SET wall_s = wall_s - 90000")
    assert check_server(asked)[-1].word == "note"


def test_other_stores(web: WriteServer, tmp_path: Path) -> None:
    """VictoriaMetrics has one place; of a local store nothing is said, nor of a file that is not there yet."""
    found = check_server(config(Store(victoriametrics=VictoriaStore(web.url, path=str(tmp_path / "new")))))
    assert [one.text for one in found] == [f"server: {web.url}: takes points"]
    assert check_server(config(Store(local=LocalStore(str(tmp_path))))) == []
    before = Path(__file__).with_name("schema3.sql").read_text(encoding="utf-8")
    with closing(sqlite3.connect(tmp_path / "n1.sqlite")) as db:
        db.executescript(before)
    old = check_server(config(Store(victoriametrics=VictoriaStore(web.url, path=str(tmp_path)))))
    assert old[-1].text == "outbox: the daemon makes it at its next start"
