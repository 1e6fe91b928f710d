"""Laws of the line protocol: one point is one line, and what is in it comes back, whatever users call themselves."""

from __future__ import annotations

import json
import math
import string

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from msgspec import Struct

from jobimpact.core import line as lines
from jobimpact.core.line import LONGEST, LONGEST_WORDS, line, plain, tag_value
from jobimpact.core.series import IMPACT_DAY, JOB_RUN, MEASUREMENTS, NODE_POWER, Measurement, Point, Value

ANY = st.text(st.characters(categories=None))
"""Lone surrogates too: what `os.fsdecode` makes of bytes that are no UTF-8."""
HOSTILE = st.one_of(ANY, st.text(st.sampled_from("\\,= \"'\n\r\t#%0A~\u2028\x00é漢🔥")))


class Parsed(Struct):
    """A line, as the protocol's description says: written for these tests alone."""

    name: str
    tags: dict[str, str]
    fields: dict[str, Value]
    stamp: int


def split(text: str, at: str, *, quotes: bool) -> list[str]:
    """At a character that is neither escaped nor, in fields, within quotes."""
    parts, quoted, index = [""], False, 0
    while index < len(text):
        char = text[index]
        if char == "\\" and index + 1 < len(text):
            parts[-1] += text[index : index + 2]
            index += 2
            continue
        if quotes and char == '"':
            quoted = not quoted
        if char == at and not quoted:
            parts.append("")
        else:
            parts[-1] += char
        index += 1
    return parts


def unescaped(text: str, escaped: str) -> str:
    """Without the backslashes before these; others are characters of their own."""
    found, index = "", 0
    while index < len(text):
        if text[index] == "\\" and index + 1 < len(text) and text[index + 1] in escaped:
            index += 1
        found += text[index]
        index += 1
    return found


def parse(text: str) -> Parsed:
    key = split(text, " ", quotes=False)[0]  # quotes mean nothing in tags
    fields, stamp = split(text[len(key) + 1 :], " ", quotes=True)
    name, *tags = split(key, ",", quotes=False)
    pairs = [split(one, "=", quotes=False) for one in tags]
    assert all(len(pair) == 2 and all(pair) for pair in pairs)
    said = [one.partition("=") for one in split(fields, ",", quotes=True)]
    return Parsed(
        name,
        {tag: unescaped(value, ",= ") for tag, value in pairs},
        {field: value_of(value) for field, _, value in said},
        int(stamp),
    )


def value_of(text: str) -> Value:
    if text[0] == '"':
        assert text[-1] == '"'
        return unescaped(text[1:-1], '"\\')
    return int(text[:-1]) if text[-1] == "i" else float(text)


@given(HOSTILE)
def test_a_tag_comes_back_as_it_was(text: str) -> None:
    assume(len(tag_value(text).encode()) < LONGEST or not text)
    assert plain(tag_value(text)) == text


@given(HOSTILE)
def test_a_tag_has_nothing_that_a_line_or_a_terminal_trips_over(text: str) -> None:
    value = tag_value(text)
    assert not set(value) & set("\\\n\r\t\x00\x1b\x7f\x85\u2028\u2029")
    value.encode()  # it is UTF-8, as servers ask for
    assert value.isprintable() or not text.isprintable()


@given(HOSTILE, st.sampled_from([LONGEST, LONGEST_WORDS]))
@example("漢" * 400, LONGEST)
@example("\n" * 400, LONGEST)
@example("\u2028" * 200, LONGEST)
@example("\udc80" * 200, LONGEST)
def test_a_long_tag_is_cut_and_can_be_read(text: str, longest: int) -> None:
    value = tag_value(text * (longest // max(len(text), 1) + 1), longest)
    assert len(value.encode()) <= longest
    plain(value)


@given(HOSTILE.filter(bool), HOSTILE, HOSTILE)
def test_long_tags_that_differ_stay_different(start: str, one: str, other: str) -> None:
    assume(one != other)
    long = start * LONGEST
    assert tag_value(long + one) != tag_value(long + other)


@given(st.text(alphabet=string.printable + "%é"))
def test_whatever_others_write_can_be_read(value: str) -> None:
    plain(value)


@example("%E2%80", "x")
@example("%FF", "%ED%A0")
@given(ANY, ANY)
def test_no_value_stops_a_reader(one: str, other: str) -> None:
    plain(one + other)


NUMBERS = {"ints": st.integers(-(2**63), 2**63 - 1), "floats": st.floats(allow_nan=False, allow_infinity=False)}


@st.composite
def points(draw: st.DrawFn) -> Point:
    of: Measurement = draw(st.sampled_from(MEASUREMENTS))
    tags = tuple(draw(st.none() | HOSTILE) for _ in of.tags)
    fields: dict[str, Value | None] = {name: draw(st.none() | NUMBERS["ints"]) for name in of.ints}
    fields |= {name: draw(st.none() | NUMBERS["floats"]) for name in of.floats}
    fields |= {name: draw(st.none() | HOSTILE) for name in of.texts}
    for name, keys in of.maps:
        known = draw(st.dictionaries(st.sampled_from(keys), NUMBERS["ints"]))
        fields[name] = draw(st.sampled_from([fields[name], json.dumps(known)]))
    return Point(of, tags, draw(st.integers(0, 2**42)), fields)


@given(points())
def test_a_point_is_one_line_and_comes_back(point: Point) -> None:
    text = line(point)
    if all(value is None for value in point.fields.values()):
        assert text == ""
        return
    assert len(text.splitlines()) == 1
    found = parse(text)
    assert (found.name, found.stamp) == (point.of.name, point.stamp_ms)
    wanted = {name: tag_value(value) for name, value in zip(point.of.tags, point.tags, strict=True) if value}
    assert found.tags == wanted
    assert found.fields.keys() == {name for name, value in point.fields.items() if value is not None}
    for name, value in found.fields.items():
        if name not in point.of.texts:
            assert (value, type(value)) == (point.fields[name], int if name in point.of.ints else float)
        elif str(point.fields[name]).isprintable():
            assert value == point.fields[name]


@given(points())
def test_words_are_tags_where_a_server_keeps_numbers_alone(point: Point) -> None:
    text = line(point, words_as_tags=True)
    numbers = {name for name, value in point.fields.items() if value is not None and name not in point.of.texts}
    if not numbers:
        assert text == "" or any(f"{name}_" in text for name, _ in point.of.maps)
        return
    assert len(text.splitlines()) == 1
    found = parse(text)
    maps: dict[str, dict[str, Value]] = {}
    for name, keys in point.of.maps:
        maps[name] = {key: found.fields.pop(f"{name}_{key}") for key in keys if f"{name}_{key}" in found.fields}
    assert found.fields.keys() == numbers
    for name in point.of.texts:
        value = point.fields[name]
        if maps.get(name):
            assert name not in found.tags
            assert maps[name] == json.loads(str(value))
            continue
        assert found.tags.get(name) == (tag_value(str(value), LONGEST_WORDS) if value else None)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_not_known_is_left_out(value: float | None) -> None:
    tags = ("c", "n", "d", "cpu")
    assert line(Point(NODE_POWER, tags, 1, {"watts": value})) == ""
    assert parse(line(Point(NODE_POWER, tags, 1, {"watts": value, "energy_uj": 0}))).fields == {"energy_uj": 0}


def test_a_field_that_a_measurement_has_not_is_a_mistake() -> None:
    with pytest.raises(KeyError, match="node_power has no field power"):
        line(Point(NODE_POWER, ("c", "n", "d", "cpu"), 1, {"power": 1}))


def test_tags_and_values_of_another_number_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="zip"):
        line(Point(IMPACT_DAY, ("c",), 1, {"jobs": 1}))


def test_what_changes_at_each_point_is_no_tag() -> None:
    """Else a run would be a series more each minute, where words are tags."""
    lines = [
        line(
            Point(JOB_RUN, ("c", "n", "1"), at, {"cpus": 1, "state": "open", "held": f'{{"cpu": {at}}}'}),
            words_as_tags=True,
        )
        for at in (1, 2)
    ]
    assert len({one.split(" ")[0] for one in lines}) == 1
    assert [parse(one).fields["held_cpu"] for one in lines] == [1, 2]


@pytest.mark.parametrize("held", ["{}", "no JSON", '{"cpu": 1, "disk": 2}', '{"cpu": 1.5}'])
def test_a_map_of_another_kind_stays_words(held: str) -> None:
    text = line(Point(JOB_RUN, ("c", "n", "1"), 1, {"cpus": 1, "held": held}), words_as_tags=True)
    assert plain(parse(text).tags["held"]) == held


def test_the_gpus_of_a_large_node_are_whole_where_words_are_tags() -> None:
    gpus = str([f"GPU-{number:08x}-0000-0000-0000-000000000000" for number in range(16)])
    text = line(Point(JOB_RUN, ("c", "n", "1"), 1, {"cpus": 1, "gpus": gpus}), words_as_tags=True)
    assert plain(parse(text).tags["gpus"]) == gpus


WAYS = [(False, True), (True, False), (False, False), (True, True)]


@pytest.mark.parametrize(("before", "after"), WAYS)
@given(point=points(), data=st.data())
def test_a_line_for_one_server_becomes_one_for_another(
    before: bool, after: bool, point: Point, data: st.DataObject
) -> None:
    """Where the store is another engine now: with all that it says, but for what has been cut."""
    words = st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=1, max_size=40)
    fields = point.fields | {name: data.draw(words) for name in point.of.texts}
    for name, keys in point.of.maps:
        fields[name] = json.dumps(dict.fromkeys(keys, 7), separators=(",", ":"))
    point = Point(point.of, tuple(one and one[:40] for one in point.tags), point.stamp_ms, fields)
    text = line(point, words_as_tags=before)
    assume(text and line(point, words_as_tags=after))
    found = lines.parse(text)
    assert found is not None
    assert parse(line(found, words_as_tags=after)) == parse(line(point, words_as_tags=after))


@given(HOSTILE | st.text(st.sampled_from('node_power,cluster=c x=1i "\\n')))
def test_what_is_no_line_of_ours_is_none(text: str) -> None:
    """Nothing that lies in a file stops a daemon."""
    for one in (text, f"node_power,{text}", f"job_run,run=1 {text} 1", f"no_such_thing,node=n a=1i {len(text)}"):
        found = lines.parse(one)
        assert found is None or found.of in MEASUREMENTS
