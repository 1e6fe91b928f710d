"""What a node draws at its plug for what its parts measure, as `jobimpactd calibrate` fitted it.

The block `calibration:` stands in the inventory, by node. A node without a meter of its own, whose like was fitted
once, is modelled by it: plug = slope x parts + offset.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from msgspec import Meta, Struct, structs

from jobimpact.core.config import convert_yaml, read_yaml
from jobimpact.core.errors import ConfigError

__all__ = ["KEY", "NodeCalibration", "load_calibration", "put_calibration"]

KEY = "calibration"
COMMENT = "# Written by `jobimpactd calibrate`: watts at the plug = slope x watts of the parts + offset_w."
DIGITS = {"slope": 4, "r2": 5}
"""Of the rest, tenths: more than a meter knows."""

Watts = Annotated[float, Meta(ge=0, le=1e6)]
Text = Annotated[str, Meta(min_length=1, max_length=200)]


class NodeCalibration(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One node's fit: meter_w = slope x parts_w + offset_w, good from `from_w` to `to_w` of the parts."""

    slope: Annotated[float, Meta(gt=0, le=100)]
    """Watts at the plug for one more watt of the parts."""
    offset_w: Annotated[float, Meta(ge=-1e6, le=1e6)]
    residual_w: Watts
    """Standard deviation of a window's mean power from the fit."""
    r2: Annotated[float, Meta(ge=0, le=1)]
    windows: Annotated[int, Meta(ge=1)]
    from_w: Watts
    to_w: Watts
    meter: Text
    """What was taken as the truth: a source of the recording, or a file's name."""
    lag_s: Annotated[float, Meta(ge=-3600, le=3600)]
    """By how much the meter lagged; taken out before the fit. Negative where its clock was ahead of the node's."""
    date: Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")]
    """When it was fitted, in UTC."""
    excludes: tuple[Literal["cpu", "dram", "gpu"], ...] = ()
    """Parts that the meter does not see, and which the fit leaves out."""


class _File(Struct, frozen=True):
    """The inventory, as far as it is of interest here."""

    calibration: dict[str, NodeCalibration] | None = None


def load_calibration(path: Path, node: str) -> NodeCalibration | None:
    """A node's calibration.

    Args:
        path: the inventory (nodes.yaml).
        node: its name.

    Returns:
        None where there is no inventory, or none of this node in it.

    Raises:
        ConfigError: names the file, the key and what is allowed.
    """
    if not path.exists():
        return None
    return (convert_yaml(path, _File).calibration or {}).get(node)


def put_calibration(path: Path, node: str, found: NodeCalibration) -> None:
    """Put a node's calibration into the inventory, which keeps its mode and owner, and every other byte.

    Args:
        path: the inventory (nodes.yaml).
        node: whose entry is added or replaced.
        found: what to write; rounded to what means something.

    Raises:
        ConfigError: the file cannot be read or written, or is laid out so that only a person can add to it.
    """
    before = read_yaml(path)
    if not isinstance(before, dict):
        raise ConfigError(f"{path}: not a mapping of keys")
    convert_yaml(path, _File)
    entry = _fields(found)
    wanted = before | {KEY: (before.get(KEY) or {}) | {node: entry}}
    try:
        # Line ends stay as they are.
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read()
        new = _edited(text, node, entry, wanted[KEY])
        if yaml.safe_load(new) != wanted:
            raise ConfigError(f"{path}: {KEY}: cannot be put into this file without changing more: add it by hand")
        if new != text:
            _replace(path.resolve(), new)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {KEY}: cannot be put into this file: add it by hand ({error})") from error


def _fields(found: NodeCalibration) -> dict[str, Any]:
    given = {name: value for name, value in structs.asdict(found).items() if value != ()}
    return {name: _rounded(name, value) for name, value in given.items()}


def _rounded(name: str, value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS.get(name, 1)) + 0.0
    return list(value) if isinstance(value, tuple) else value


def _edited(text: str, node: str, entry: dict[str, Any], block: dict[str, Any]) -> str:
    """The file's text with this entry; `block` is the whole of what is to stand under the key."""
    end = "\r\n" if "\r\n" in text else "\n"
    root = yaml.compose(text, yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    block_at = next(((key, value) for key, value in pairs if key.value == KEY), None)
    if block_at is None:
        gap = "" if not text or text.endswith("\n") else end
        lines = [COMMENT, f"{KEY}:", *(_line(name, one) for name, one in block.items())]
        return text + gap + (end if text else "") + end.join(lines) + end
    key, value = block_at
    if not isinstance(value, yaml.MappingNode) or value.flow_style or not value.value:
        # Empty, or on one line: written anew.
        lines = [f"{KEY}:", *(_line(name, one) for name, one in block.items())]
        return text[: key.start_mark.index] + end.join(lines) + text[value.end_mark.index :]
    indent = " " * value.value[0][0].start_mark.column
    for name, one in value.value:
        if name.value == node:
            return text[: name.start_mark.index] + _line(node, entry, "") + text[_stop(one) :]
    stop = _stop(value.value[-1][1])
    stop = text.find("\n", stop) if "\n" in text[stop:] else len(text)
    stop -= 1 if text[stop - 1 : stop] == "\r" else 0
    return text[:stop] + end + _line(node, entry, indent) + text[stop:]


def _stop(node: yaml.Node) -> int:
    """Where a value's text ends: a block mapping's own mark is behind the comments that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _stop(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _line(node: str, entry: dict[str, Any], indent: str = "  ") -> str:
    fields = ", ".join(f"{name}: {_scalar(value)}" for name, value in entry.items())
    return f"{indent}{_scalar(node)}: {{{fields}}}"


def _scalar(value: Any) -> str:
    """A value in YAML; quoted where YAML would take a text for something else."""
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    if not isinstance(value, str):
        return json.dumps(value)
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", value) and yaml.safe_load(value) == value
    return value if plain else json.dumps(value)


def _replace(path: Path, text: str) -> None:
    """Write it beside, then rename: whoever reads meanwhile has the old one or the new one, whole."""
    was = path.stat()
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            os.fchmod(handle, was.st_mode & 0o7777)
            if (was.st_uid, was.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(handle, was.st_uid, was.st_gid)
            file.write(text)
            file.flush()
            os.fsync(handle)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
