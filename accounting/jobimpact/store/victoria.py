"""Reading points back from VictoriaMetrics, with MetricsQL and its export.

Each field is a series of its own there, and words are labels: a point is put together again by its tags and stamp.
What a point is never depends on steps, look-back, caches or staleness: windows are given to the millisecond, and every
value is asked for with the stamp that it has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, field

from jobimpact.core.config import VictoriaStore
from jobimpact.core.errors import StoreError
from jobimpact.core.line import plain, tag_value
from jobimpact.core.series import EVER, Measurement
from jobimpact.core.server import clean
from jobimpact.store.http import Http
from jobimpact.store.series import HOUR_MS, Row, number, spans

__all__ = ["VictoriaReader"]

_HOURS = 6
"""Of one question: what is held in memory is bounded by it."""
_LONG_MS = 31 * 24 * HOUR_MS
_TRIES = 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_Labels = tuple[tuple[str, str], ...]
_Found = dict[tuple[_Labels, int], dict[str, str]]
"""By labels (without the field) and end of the window: fields."""


class _Of(Struct, frozen=True):
    metric: dict[str, str]
    # Of two kinds of items: a time and a text.
    values: list[Annotated[list[float | str], Meta(min_length=2, max_length=2)]]


class _Data(Struct, frozen=True):
    result: list[_Of] = field(default_factory=list)
    kind: str = field(name="resultType", default="")


class _Answer(Struct, frozen=True):
    status: Literal["success", "error"]
    data: _Data = field(default_factory=_Data)
    error: str = ""
    partial: bool = field(name="isPartial", default=False)


class _Exported(Struct, frozen=True):
    metric: dict[str, str]
    values: list[int | float | None]
    timestamps: list[int]


_DECODE = msgspec.json.Decoder(_Answer)
_DECODE_EXPORTED = msgspec.json.Decoder(_Exported)


class VictoriaReader:
    """A `SeriesReader`. Integers are exact up to 2^53, as far as the server's numbers go.

    Args:
        server: its settings.
    """

    def __init__(self, server: VictoriaStore) -> None:
        self.http = Http(server)

    def close(self) -> None:
        """Let the connection go."""
        self.http.close()

    def edges(
        self, of: Measurement, from_ms: int, to_ms: int, where: Mapping[str, str] | None = None
    ) -> Iterator[Row]:
        """See `SeriesReader`."""
        for begin, end in _windows(from_ms, to_ms):
            whole = end - begin >= HOUR_MS
            first, last = (
                self._picked(pick, of, (begin, end), HOUR_MS if whole else end - begin, where)
                for pick in ("first", "last")
            )
            yield from first.values()
            for key, row in last.items():
                if key not in first or first[key].stamp_ms != row.stamp_ms:
                    yield row

    def rows(self, of: Measurement, from_ms: int, to_ms: int, where: Mapping[str, str] | None = None) -> Iterator[Row]:
        """See `SeriesReader`."""
        few = of.kept == EVER or "node" not in of.tags or where
        for begin, end in spans(from_ms, to_ms, _LONG_MS if few else HOUR_MS):
            yield from self._exported(of, begin, end, where)

    def latest(
        self, of: Measurement, from_ms: int, to_ms: int, where: Mapping[str, str] | None = None
    ) -> Iterator[Row]:
        """See `SeriesReader`."""
        if from_ms < to_ms:
            yield from self._picked("last", of, (from_ms, to_ms), to_ms - from_ms, where).values()

    def newest(self, of: Measurement, from_ms: int, to_ms: int, by: str) -> dict[str, int]:
        """By value of a tag: the stamp of the newest point."""
        over = f"tlast_over_time({_selector(of, None)}[{to_ms - from_ms}ms])"
        answer = self._asked(f"max({over}) by ({by})", (from_ms, to_ms), to_ms - from_ms)
        return {plain(one.metric.get(by, "")): max(_ms(row[1]) for row in one.values) for one in answer.data.result}

    # -- the first or the last of a window -----------------------------------------------------------------------

    def _picked(
        self,
        pick: Literal["first", "last"],
        of: Measurement,
        when: tuple[int, int],
        window_ms: int,
        where: Mapping[str, str] | None,
    ) -> dict[tuple[_Labels, int], Row]:
        """By own tags and window: the point. All its fields have one stamp: others' are of other points."""
        stamps, values = self._same(pick, of, when, window_ms, where)
        found: dict[tuple[_Labels, int], tuple[tuple[int, _Labels], Row]] = {}
        best = min if pick == "first" else max
        for (labels, end), of_fields in stamps.items():
            at = {name: _ms(text) for name, text in of_fields.items()}
            stamp = best(at.values())
            said = values.get((labels, end), {})
            numbers = {name: said[name] for name, one in at.items() if one == stamp and name in said}
            row = _row(of, labels, stamp, numbers)
            key = (_own(of, labels), end)
            rank = (stamp, labels)
            # A run whose words have changed is two series there, and one for us.
            if key not in found or best(rank, found[key][0]) == rank:
                found[key] = (rank, row)
        return {key: row for key, (_, row) in found.items()}

    def _same(
        self, pick: str, of: Measurement, when: tuple[int, int], window_ms: int, where: Mapping[str, str] | None
    ) -> tuple[_Found, _Found]:
        """Stamps and values of the same points, though others may come while we ask."""
        over = f"({_selector(of, where)}[{window_ms}ms])"
        stamps = self._range(of, f"t{pick}_over_time{over} keep_metric_names", when, window_ms)
        for _ in range(_TRIES):
            values = self._range(of, f"{pick}_over_time{over}", when, window_ms)
            again = self._range(of, f"t{pick}_over_time{over} keep_metric_names", when, window_ms)
            if again == stamps:
                return stamps, values
            stamps = again
        raise StoreError(f"{self.http.url}: {of.name} changes faster than it can be read")

    def _range(self, of: Measurement, query: str, when: tuple[int, int], window_ms: int) -> _Found:
        answer = self._asked(query, when, window_ms)
        found: _Found = {}
        for one in answer.data.result:
            labels, name = _labels(of, one.metric)
            for at, text in one.values:
                found.setdefault((labels, _ms(at)), {})[name] = str(text)
        return found

    def _asked(self, query: str, when: tuple[int, int], window_ms: int) -> _Answer:
        # A window there is without its begin and with its end: ours, a millisecond earlier.
        asked = {"query": query, "start": _time(when[0] + window_ms - 1), "end": _time(when[1] - 1)}
        return self._whole(self.http.ask("/api/v1/query_range", asked | {"step": f"{window_ms}ms", "nocache": "1"}))

    def _whole(self, body: bytes) -> _Answer:
        shown = self.http.url
        try:
            answer = _DECODE.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoreError(f"{shown}: no answer of VictoriaMetrics', or one that is cut short ({error})") from None
        if answer.status != "success":
            raise StoreError(f"{shown}: {clean(answer.error)}")
        if answer.partial:
            raise StoreError(f"{shown}: the answer is partial: a part of the cluster does not answer")
        if answer.data.kind != "matrix":
            raise StoreError(f"{shown}: answered with {answer.data.kind!r:.40}, not with a matrix")
        return answer

    # -- every point ---------------------------------------------------------------------------------------------

    def _exported(self, of: Measurement, begin: int, end: int, where: Mapping[str, str] | None) -> Iterator[Row]:
        asked = {"match[]": _selector(of, where), "start": _time(begin), "end": _time(end - 1)}
        found: dict[tuple[_Labels, int], dict[str, float]] = {}
        for line in self.http.lines("/api/v1/export", asked):
            one = self._line(line)
            labels, name = _labels(of, one.metric)
            for stamp, value in zip(one.timestamps, one.values, strict=True):
                if begin <= stamp < end and value is not None:
                    found.setdefault((labels, stamp), {})[name] = value
        yield from _once(of, found)

    def _line(self, line: bytes) -> _Exported:
        try:
            one = _DECODE_EXPORTED.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            said = clean(line.decode(errors="replace"))
            raise StoreError(f"{self.http.url}: no export of VictoriaMetrics', or cut short: {said}") from None
        if len(one.values) != len(one.timestamps):
            raise StoreError(f"{self.http.url}: an export whose values and stamps are not of one number")
        return one


def _windows(from_ms: int, to_ms: int) -> Iterator[tuple[int, int]]:
    """Full hours, some together, and the parts of hours at both ends alone."""
    for begin, end in spans(from_ms, to_ms, _HOURS * HOUR_MS):
        first, last = -(-begin // HOUR_MS) * HOUR_MS, end // HOUR_MS * HOUR_MS
        if first > last:
            yield begin, end
            continue
        yield from (one for one in ((begin, first), (first, last), (last, end)) if one[0] < one[1])


def _selector(of: Measurement, where: Mapping[str, str] | None) -> str:
    fields = "|".join(re.escape(name) for name in _numbers(of))
    parts = [f'__name__=~"{of.name}_(?:{fields})"']
    for name, value in (where or {}).items():
        if name not in of.tags:
            raise ValueError(f"{of.name} has no tag {name}")
        parts.append(f'{name}="{_escaped(tag_value(value))}"')
    return "{" + ",".join(parts) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _labels(of: Measurement, metric: Mapping[str, str]) -> tuple[_Labels, str]:
    """What tells a point's series, and the field."""
    name = metric.get("__name__", "").removeprefix(f"{of.name}_")
    if name not in _numbers(of):
        raise StoreError(f"an answer about {metric.get('__name__', 'nothing')!r:.80}, which nobody asked for")
    return tuple((one, metric[one]) for one in (*of.tags, *of.texts) if metric.get(one)), name


def _own(of: Measurement, labels: _Labels) -> _Labels:
    return tuple(one for one in labels if one[0] in of.tags)


def _row(of: Measurement, labels: _Labels, stamp: int, numbers: Mapping[str, str | float]) -> Row:
    tags = {name: plain(value) for name, value in labels if name in of.tags}
    read = {name: _number(value) for name, value in numbers.items()}
    fields = {name: number(of, name, value) for name, value in read.items() if name in of.ints or name in of.floats}
    fields.update({name: plain(value) for name, value in labels if name in of.texts})
    for name, keys in of.maps:
        # What `line` made of it.
        found = {key: int(read[f"{name}_{key}"]) for key in keys if f"{name}_{key}" in read}
        if found:
            fields[name] = msgspec.json.encode(found).decode()
    return Row(tags, stamp, fields)


def _numbers(of: Measurement) -> tuple[str, ...]:
    """The fields that are there."""
    return (*of.ints, *of.floats, *(f"{name}_{key}" for name, keys in of.maps for key in keys))


def _once(of: Measurement, found: Mapping[tuple[_Labels, int], Mapping[str, float]]) -> Iterator[Row]:
    """Each point once: of those that differ by their words alone, always the same one."""
    kept: dict[tuple[_Labels, int], _Labels] = {}
    for labels, stamp in found:
        key = (_own(of, labels), stamp)
        kept[key] = max(kept.get(key, labels), labels)
    for (_, stamp), labels in kept.items():
        yield _row(of, labels, stamp, found[labels, stamp])


def _number(value: str | float) -> float:
    """An integer is read as one: a float would round it."""
    if not isinstance(value, str):
        return value
    return int(value) if re.fullmatch(r"-?[0-9]{1,30}", value) else _float(value)


def _float(value: str | float) -> float:
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise StoreError(f"{value!r:.60} is no number of ours")
    return found


def _time(stamp_ms: int) -> str:
    """As text: a number of seconds with a fraction is cut down to the millisecond before."""
    return (_EPOCH + timedelta(milliseconds=stamp_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _ms(seconds: str | float) -> int:
    return round(_float(seconds) * 1000)
