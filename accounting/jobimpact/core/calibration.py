"""What a node draws at its plug for what its parts measure, as `jobimpactd calibrate` fitted it.

The block `calibration:` stands in the inventory, by node. A node without a meter of its own, whose like was fitted
once, is modelled by it: plug = slope x parts + offset.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from jobimpact.core.config import convert_yaml

__all__ = ["KEY", "NodeCalibration", "load_calibration"]

KEY = "calibration"

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
