"""The same on each server: what is written comes back, as `jobimpact.core.line` says."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from tests.stores.servers import Server, Victoria

from jobimpact.core.line import LONGEST, line, plain, tag_value
from jobimpact.core.series import (
    IMPACT_DAY,
    JOB_ENERGY,
    JOB_IMPACT,
    JOB_RUN,
    MEASUREMENTS,
    NODE_DOMAIN,
    NODE_HOUR,
    NODE_POWER,
    Measurement,
    Point,
    Value,
)
from jobimpact.core.server import Server as Way
from jobimpact.store.reader import reader_of
from jobimpact.store.series import HOUR_MS, Row, SeriesReader

HOUR = 1732118400000
"""A full one, 2024-11-20T16:00Z: VictoriaMetrics takes nothing of what is the future by its own clock."""
DAY = 24 * HOUR_MS
HOSTILE = (
    "plain", 'quote"d', "it's", "a,b", "a b", "a=b", "two\nlines", "cr\r\n", "'; DROP DATABASE jobimpact; --",
    "ends\\", "a\\,b", "%0A", "é漢🔥", "\x00\x1b[31m", "\u2028", " edge ", '{"a": [1]}', "$__all", "a|b.*", "#1",
    "x" * 10_000,
)  # fmt: skip


class Store:
    """A server, its writer and its reader."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.store = server.store(folder)
        assert self.store.server is not None
        self.way = Way(self.store.server)
        self.reader: SeriesReader = reader_of(self.store)

    @property
    def exact(self) -> bool:
        return not isinstance(self.server, Victoria)

    def write(self, points: Iterable[Point]) -> None:
        """As the publishers do."""
        found = list(points)
        for of in {point.of.name: point.of for point in found}.values():
            mine = [line(one, words_as_tags=self.way.words_as_tags) for one in found if one.of.name == of.name]
            outcome = self.way.write(of.kept, mine)
            assert outcome.kind == "delivered", outcome
        assert self.server.settle()

    def close(self) -> None:
        self.way.close()
        self.reader.close()


@pytest.fixture
def store(server: Server, tmp_path: Path) -> Iterator[Store]:
    found = Store(server, tmp_path / "books")
    yield found
    found.close()


def point(of: Measurement, stamp_ms: int, tags: dict[str, str], **fields: Value | None) -> Point:
    given = fields | ({"stamp_ms": stamp_ms} if "stamp_ms" in of.ints else {})
    return Point(of, tuple(tags.get(name) for name in of.tags), stamp_ms, given)


def full(of: Measurement, stamp_ms: int, number: int, tags: dict[str, str]) -> Point:
    """A point with every field."""
    ints = {name: number * 1000 + at for at, name in enumerate(of.ints) if name != "stamp_ms"}
    floats = {name: number / 7 + at for at, name in enumerate(of.floats)}
    texts = {name: f"{name} {number}" for name in of.texts}
    return point(of, stamp_ms, tags, **{**ints, **floats, **texts})


def row(one: Point) -> Row:
    """What is to come back."""
    tags = {
        name: plain(tag_value(value)) for name, value in zip(one.of.tags, one.tags, strict=True) if value is not None
    }
    return Row(tags, one.stamp_ms, {name: value for name, value in one.fields.items() if value is not None})


def ordered(rows: Iterable[Row]) -> list[tuple[object, ...]]:
    return sorted(
        (sorted(one.tags.items()), one.stamp_ms, sorted((name, _near(value)) for name, value in one.fields.items()))
        for one in rows
    )


def _near(value: Value) -> Value:
    """VictoriaMetrics keeps some twelve digits of a fraction."""
    return float(f"{value:.10g}") if isinstance(value, float) else value


def same(found: Iterable[Row], wanted: Iterable[Point]) -> None:
    assert ordered(found) == ordered(map(row, wanted))


def test_every_measurement_comes_back_whole(store: Store) -> None:
    written = []
    for of in MEASUREMENTS:
        tags = {name: f"{name}-{of.name}" for name in of.tags}
        stamps = [hour * HOUR_MS + minute * 60_000 for hour in range(3) for minute in (0, 1, 59)]
        written += [full(of, HOUR + at + 123, at // 60_000, tags) for at in stamps]
    store.write(written)
    for of in MEASUREMENTS:
        mine = [one for one in written if one.of == of]
        same(store.reader.rows(of, HOUR, HOUR + DAY), mine)
        same(store.reader.latest(of, HOUR, HOUR + DAY), [mine[-1]])
        same(store.reader.edges(of, HOUR, HOUR + DAY), [one for number, one in enumerate(mine) if number % 3 != 1])


def test_a_field_that_is_not_known_is_not_there(store: Store) -> None:
    tags = {"cluster": "c", "node": "n", "domain": "d", "kind": "cpu"}
    written = [
        point(NODE_DOMAIN, HOUR, tags, energy_uj=0, known_ns=None, unknown_ns=5, reason="absent: none"),
        point(NODE_DOMAIN, HOUR + 60_000, tags, energy_uj=7, known_ns=3, source="rapl", reason=None),
        point(NODE_DOMAIN, HOUR + 120_000, tags, unknown_ns=6),
    ]
    store.write(written)
    same(store.reader.rows(NODE_DOMAIN, HOUR, HOUR + DAY), written)
    same(store.reader.edges(NODE_DOMAIN, HOUR, HOUR + DAY), [written[0], written[2]])
    same(store.reader.latest(NODE_DOMAIN, HOUR, HOUR + DAY), [written[2]])


def test_a_number_that_is_none_is_left_out(store: Store) -> None:
    tags = {"cluster": "c", "node": "n", "domain": "d", "kind": "cpu"}
    store.write([point(NODE_POWER, HOUR, tags, energy_uj=1, watts=math.nan)])
    same(store.reader.rows(NODE_POWER, HOUR, HOUR + DAY), [point(NODE_POWER, HOUR, tags, energy_uj=1)])


def test_hostile_words_come_back_as_they_were_and_hurt_nobody(store: Store) -> None:
    written = [
        point(IMPACT_DAY, HOUR, {"cluster": "c", "user": text, "account": text[::-1], "partition": text}, jobs=number)
        for number, text in enumerate(HOSTILE)
    ]
    others = [
        point(JOB_IMPACT, HOUR + number, {"cluster": "c", "user": "u", "run": text}, cpus=1)
        for number, text in enumerate(HOSTILE)
    ]
    store.write(written + others)
    same(store.reader.rows(IMPACT_DAY, HOUR, HOUR + DAY), written)
    same(store.reader.latest(JOB_IMPACT, HOUR, HOUR + DAY), others)
    for number, text in enumerate(HOSTILE):
        same(store.reader.rows(IMPACT_DAY, HOUR, HOUR + DAY, {"user": text, "partition": text}), [written[number]])
        same(store.reader.edges(JOB_IMPACT, HOUR, HOUR + DAY, {"run": text}), [others[number]])


def test_any_words_come_back_as_they_were(store: Store) -> None:
    chance = random.Random(7)
    alphabet = "ab \\,=\"'%\n\t\x00\x7f\u2028é漢🔥#/~{}[]()|^$*.?\udcff"
    texts = {"".join(chance.choices(alphabet, k=chance.randrange(1, 12))) for _ in range(500)}
    tags = [{"cluster": "c", "user": text, "account": text} for text in texts]
    written = [point(IMPACT_DAY, HOUR, one, jobs=number) for number, one in enumerate(tags)]
    store.write(written)
    same(store.reader.rows(IMPACT_DAY, HOUR, HOUR + 1), written)


def test_long_words_that_differ_at_their_end_stay_two(store: Store) -> None:
    long = ["x" * 10_000 + end for end in "ab"]
    tags = [{"cluster": "c", "user": one} for one in long]
    store.write([point(IMPACT_DAY, HOUR, one, jobs=number) for number, one in enumerate(tags)])
    found = list(store.reader.rows(IMPACT_DAY, HOUR, HOUR + DAY))
    assert len({one.tags["user"] for one in found}) == 2
    assert all(len(one.tags["user"]) <= LONGEST for one in found)


@pytest.mark.parametrize("text", ['he said "no"', "back\\slash", "ends\\", "é漢🔥", "a=b,c d", "'; DROP"])
def test_words_in_fields_come_back(store: Store, text: str) -> None:
    written = point(JOB_RUN, HOUR, {"cluster": "c", "node": "n", "run": "1"}, job=text, state="open", cpus=2)
    store.write([written])
    same(store.reader.rows(JOB_RUN, HOUR, HOUR + DAY), [written])


def test_a_point_that_is_sent_again_is_one(store: Store) -> None:
    tags = {"cluster": "c", "node": "n", "run": "1", "domain": "d", "kind": "cpu"}
    written = [point(JOB_ENERGY, HOUR + at, tags, energy_uj=5, known_ns=1) for at in range(3)]
    for _ in range(3):
        store.write(written)
    same(store.reader.rows(JOB_ENERGY, HOUR, HOUR + DAY), written)
    same(store.reader.edges(JOB_ENERGY, HOUR, HOUR + DAY), [written[0], written[2]])


def test_a_point_of_another_value_replaces_the_one_before(store: Store) -> None:
    """In VictoriaMetrics either may stay: who corrects a point there must give it another stamp."""
    tags = {"cluster": "c", "node": "n", "run": "1", "domain": "d", "kind": "cpu"}
    before, after = (point(JOB_ENERGY, HOUR, tags, energy_uj=energy) for energy in (5, 9))
    store.write([before])
    store.write([after])
    (found,) = store.reader.rows(JOB_ENERGY, HOUR, HOUR + DAY)
    assert found in ([row(after)] if store.exact else [row(before), row(after)])


def test_two_runs_at_one_stamp_are_two(store: Store) -> None:
    where = {"cluster": "c", "node": "n", "domain": "d", "kind": "cpu"}
    written = [point(JOB_ENERGY, HOUR, where | {"run": run}, energy_uj=1) for run in ("1", "1#1", "2")]
    store.write(written)
    same(store.reader.latest(JOB_ENERGY, HOUR, HOUR + DAY), written)
    same(store.reader.edges(JOB_ENERGY, HOUR, HOUR + DAY, {"run": "1#1"}), [written[1]])


def test_a_run_whose_words_change_is_one_series(store: Store) -> None:
    tags = {"cluster": "c", "node": "n", "run": "1"}
    states = ("open", "open", "ended", "lost")
    written = [
        point(JOB_RUN, HOUR + at * 60_000, tags, state=state, held=f'{{"cpu":{at}}}', elapsed_ns=at)
        for at, state in enumerate(states)
    ]
    store.write(reversed(written))
    same(store.reader.rows(JOB_RUN, HOUR, HOUR + DAY), written)
    same(store.reader.edges(JOB_RUN, HOUR, HOUR + DAY), [written[0], written[-1]])
    same(store.reader.latest(JOB_RUN, HOUR, HOUR + DAY), [written[-1]])
    same(store.reader.latest(JOB_RUN, HOUR, HOUR + 121_000), [written[2]])


@pytest.mark.parametrize("value", [0, 2**53, 2**53 + 1, 2**63 - 1, -(2**53) - 1])
def test_integers_come_back_exactly_or_as_near_as_is_said(store: Store, value: int) -> None:
    tags = {"cluster": "c", "node": "n", "domain": "d", "kind": "cpu"}
    store.write([point(NODE_POWER, HOUR, tags, energy_uj=value)])
    (found,) = store.reader.rows(NODE_POWER, HOUR, HOUR + DAY)
    got = found.fields["energy_uj"]
    assert isinstance(got, int)
    if store.exact or abs(value) <= 2**53:
        assert got == value
    else:
        assert math.isclose(got, value, rel_tol=2e-15)


def test_a_time_begins_with_its_first_millisecond_and_ends_before_its_last(store: Store) -> None:
    tags = {"cluster": "c", "node": "n", "run": "1", "domain": "d", "kind": "cpu"}
    written = [
        point(JOB_ENERGY, HOUR + at, tags, energy_uj=at + 10) for at in (-1, 0, 1, 499, 1000, HOUR_MS - 1, HOUR_MS)
    ]
    store.write(written)
    for begin, end in ((0, 1), (0, HOUR_MS), (1, 500), (-1, HOUR_MS + 1), (1, 1000), (500, 501)):
        inside = [one for one in written if begin <= one.stamp_ms - HOUR < end]
        same(store.reader.rows(JOB_ENERGY, HOUR + begin, HOUR + end), inside)
        same(store.reader.latest(JOB_ENERGY, HOUR + begin, HOUR + end), inside[-1:])
        same(store.reader.edges(JOB_ENERGY, HOUR + begin, HOUR + end), edges(inside))


def edges(points: Iterable[Point]) -> list[Point]:
    """By the definition: of each series and hour the first and the last."""
    hours: dict[tuple[object, ...], list[Point]] = {}
    for one in points:
        hours.setdefault((one.tags, one.stamp_ms // HOUR_MS), []).append(one)
    found = []
    for many in hours.values():
        many.sort(key=lambda one: one.stamp_ms)
        found += [many[0]] if len(many) == 1 else [many[0], many[-1]]
    return found


def test_edges_of_any_points_are_those_of_the_definition(store: Store) -> None:
    """Irregular, with gaps, out of order, in many series, over chunks of answers, and read from within hours."""
    chance = random.Random(6)
    written = []
    for series in range(40):
        tags = {
            "cluster": "c",
            "node": f"n{series % 7}",
            "run": str(series),
            "domain": f"d{series % 3}",
            "kind": "cpu",
        }
        begin = HOUR + chance.randrange(20 * HOUR_MS)
        stamps = {begin + chance.randrange(chance.choice([1000, HOUR_MS, 30 * HOUR_MS])) for _ in range(300)}
        for at in stamps:
            known = chance.randrange(9) if chance.random() < 0.8 else None
            written.append(point(JOB_ENERGY, at, tags, energy_uj=chance.randrange(2**53), known_ns=known))
    chance.shuffle(written)
    store.write(written)
    for begin, end in ((HOUR, HOUR + 2 * DAY), (HOUR + 1_234_567, HOUR + 9 * HOUR_MS + 7_654_321)):
        inside = [one for one in written if begin <= one.stamp_ms < end]
        same(store.reader.edges(JOB_ENERGY, begin, end), edges(inside))
        same(store.reader.rows(JOB_ENERGY, begin, end), inside)
    inside = [one for one in written if one.tags[1] == "n3"]
    same(store.reader.edges(JOB_ENERGY, HOUR, HOUR + 3 * DAY, {"node": "n3"}), edges(inside))


def test_years_are_read_at_once(store: Store) -> None:
    tags = {"cluster": "c", "node": "n", "kind": "cpu"}
    written = [point(NODE_HOUR, HOUR - day * DAY, tags, measured_j=float(day)) for day in range(0, 700, 50)]
    store.write(written)
    same(store.reader.rows(NODE_HOUR, HOUR - 800 * DAY, HOUR + 1), written)
    same(store.reader.latest(NODE_HOUR, HOUR - 800 * DAY, HOUR + 1), written[:1])


def test_nothing_is_nothing(store: Store) -> None:
    for of in MEASUREMENTS:
        for read in (store.reader.rows, store.reader.edges, store.reader.latest):
            assert list(read(of, HOUR, HOUR + DAY)) == []
            assert list(read(of, HOUR, HOUR)) == []


def test_two_answers_are_read_by_turns(store: Store) -> None:
    tags = {"cluster": "c", "node": "n", "domain": "d", "kind": "cpu"}
    written = [point(NODE_POWER, HOUR + at, tags, energy_uj=at) for at in range(500)]
    store.write(written)
    one, other = (store.reader.rows(NODE_POWER, HOUR, HOUR + DAY) for _ in range(2))
    pairs = list(zip(one, other, strict=True))
    assert len(pairs) == 500
    assert all(left == right for left, right in pairs)


def test_a_restarted_server_is_asked_anew(store: Store) -> None:
    written = point(NODE_HOUR, HOUR, {"cluster": "c", "node": "n", "kind": "cpu"}, measured_j=1.5)
    store.write([written])
    same(store.reader.rows(NODE_HOUR, HOUR, HOUR + 1), [written])
    store.server.restart()
    same(store.reader.rows(NODE_HOUR, HOUR, HOUR + 1), [written])
