"""Line protocol: points as the text that InfluxDB and VictoriaMetrics take.

Whatever stands in a tag comes back as it was by `plain`: what a line or a server could trip over is written as `%0A`,
and only a very long value is cut, with a mark by which it stays one of its own.
"""

from __future__ import annotations

import hashlib
import math
import re
from urllib.parse import unquote

import msgspec

from jobimpact.core.series import MEASUREMENTS, Point, Value

__all__ = ["LONGEST", "LONGEST_WORDS", "line", "parse", "plain", "tag_value"]

LONGEST = 500
"""Bytes of a tag's value: servers cut longer ones without a word, and two users would be one."""
LONGEST_WORDS = 1000
"""Bytes of words that are tags: a list of a node's GPUs must be whole. Some servers drop points with longer ones."""
# A backslash before what must be escaped would escape the escape; blanks at an edge are taken for separators.
_AWKWARD = re.compile(r"[%\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SEPARATOR = re.compile(r"([,= ])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def line(point: Point, *, words_as_tags: bool = False) -> str:
    """A point as one line, without its end.

    Args:
        point: with at least one field that is known and finite.
        words_as_tags: for a server that keeps numbers alone.

    Returns:
        The line; empty where the point has no field.
    """
    tags = dict(zip(point.of.tags, point.tags, strict=True))
    words: dict[str, str | None] = {}
    fields = dict(point.fields)
    numbers: list[str] = []
    if words_as_tags:
        words = {name: _text(fields.pop(name, None)) for name in point.of.texts}
        for name, keys in point.of.maps:
            if found := _integers(words[name], keys):
                del words[name]
                numbers += [f"{name}_{key}={value}i" for key, value in found.items()]
    numbers += [f"{name}={_field(point, name, value)}" for name, value in fields.items() if _is_known(value)]
    said = ",".join(numbers)
    if not said:
        return ""
    where = _tags(tags, LONGEST) + _tags(words, LONGEST_WORDS)
    return f"{point.of.name}{where} {said} {point.stamp_ms}"


def _integers(text: str | None, keys: tuple[str, ...]) -> dict[str, int]:
    """Those of a JSON object of integers with these names alone; else none: it stays the words that it is."""
    try:
        found = msgspec.json.decode(text or "{}", type=dict[str, int])
    except msgspec.DecodeError:
        return {}
    return {key: found[key] for key in keys if key in found} if set(found) <= set(keys) else {}


def _tags(tags: dict[str, str | None], longest: int) -> str:
    known = {name: tag_value(value, longest) for name, value in tags.items() if value}
    return "".join(f",{name}={_SEPARATOR.sub(_ESCAPED, value)}" for name, value in known.items())


_ESCAPED = r"\\\1"


def tag_value(text: str, longest: int = LONGEST) -> str:
    """A tag's value as it stands in the server.

    Args:
        text: any.
        longest: bytes of the value, not of the text.
    """
    found = _AWKWARD.sub(_percent, text)
    # Most are short: what is of no more characters than a quarter needs no counting.
    if 4 * len(found) <= longest or len(encoded := found.encode()) <= longest:
        return found
    kept = encoded[: longest - 20].decode(errors="ignore")
    return f"{kept}~{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:16]}"


def plain(value: str) -> str:
    """The text that was made a tag's value; of one that was cut, and of others' values, what can be read."""
    try:
        return unquote(value, errors="surrogatepass")
    except UnicodeDecodeError:
        return unquote(value, errors="replace")


def _percent(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode(errors="surrogatepass"))


def _text(value: Value | None) -> str | None:
    return None if value is None else str(value)


def _is_known(value: Value | None) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def _field(point: Point, name: str, value: Value | None) -> str:
    if name in point.of.ints:
        return f"{int(value or 0)}i"
    if name in point.of.floats:
        return repr(float(value or 0.0))
    if name in point.of.texts:
        said = _CONTROL.sub(" ", str(value)).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{said}"'
    raise KeyError(f"{point.of.name} has no field {name}")


_LINE = re.compile(r"(\w+)((?:,(?:\\.|[^\\ ])+)?) ([^ ].*) (-?[0-9]+)")
_TAG = re.compile(r",(\w+)=((?:\\.|[^\\,= ])+)")
_FIELD = re.compile(r'(\w+)=("(?:\\.|[^"\\])*"|[^",]+)(?:,|$)')
_BACKSLASH = re.compile(r"\\(.)")
_BY_NAME = {one.name: one for one in MEASUREMENTS}


def parse(text: str) -> Point | None:
    """The point of which `line` made this, for whichever server; None: it is no line of ours."""
    whole = _LINE.fullmatch(text)
    of = _BY_NAME.get(whole[1]) if whole else None
    if whole is None or of is None:
        return None
    tags = {name: plain(_BACKSLASH.sub(r"\1", value)) for name, value in _TAG.findall(whole[2])}
    fields: dict[str, Value | None] = {name: tags[name] for name in of.texts if name in tags}
    try:
        fields |= {name: _value(value) for name, value in _FIELD.findall(whole[3])}
    except ValueError:
        return None
    for name, keys in of.maps:
        found = {key: fields.pop(f"{name}_{key}") for key in keys if f"{name}_{key}" in fields}
        if found:
            fields[name] = msgspec.json.encode(found).decode()
    return Point(of, tuple(tags.get(name) for name in of.tags), int(whole[4]), fields)


def _value(text: str) -> Value:
    if text.startswith('"'):
        return _BACKSLASH.sub(r"\1", text[1:-1])
    return int(text[:-1]) if text.endswith("i") else float(text)
