"""The inventory's block `calibration:`, as the daemon reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobimpact.core.calibration import load_calibration
from jobimpact.core.errors import ConfigError

ENTRY = (
    "{slope: 1.1, offset_w: 41.5, residual_w: 6.0, r2: 0.998, windows: 360, from_w: 95.0, to_w: 612.0,"
    " meter: wattmeter, lag_s: 1.0, date: '2026-11-20T10:00:00Z'}"
)


def inventory(folder: Path, text: str) -> Path:
    """A nodes.yaml of this text."""
    path = folder / "nodes.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_nodes_fit_is_read(tmp_path: Path) -> None:
    """The entry of this node, beside everything else that the inventory holds."""
    path = inventory(tmp_path, f"version: '1'\ntypes: {{}}\ncalibration:\n  n1: {ENTRY}\n  n2: {ENTRY}\n")
    fit = load_calibration(path, "n1")
    assert fit is not None
    assert (fit.slope, fit.offset_w, fit.meter, fit.excludes) == (1.1, 41.5, "wattmeter", ())


@pytest.mark.parametrize("text", ["", "types: {}\n", "calibration:\n", f"calibration:\n  n2: {ENTRY}\n"])
def test_a_node_that_was_never_fitted_has_none(tmp_path: Path, text: str) -> None:
    """No block, an empty one, or one of other nodes."""
    assert load_calibration(inventory(tmp_path, text), "n1") is None


def test_no_inventory_is_no_calibration(tmp_path: Path) -> None:
    """The inventory is optional on a node."""
    assert load_calibration(tmp_path / "nodes.yaml", "n1") is None


@pytest.mark.parametrize(
    ("was", "is_", "key"),
    [
        ("slope: 1.1", "slope: -1.1", "calibration.n1.slope"),
        ("slope: 1.1", "slope: .nan", "calibration.n1.slope"),
        ("r2: 0.998", "r2: much", "calibration.n1.r2"),
        ("windows: 360", "window: 360", "calibration.n1"),
        ("2026-11-20T10:00:00Z", "yesterday", "calibration.n1.date"),
    ],
)
def test_what_a_person_broke_is_named(tmp_path: Path, was: str, is_: str, key: str) -> None:
    """An error names the file and the key."""
    path = inventory(tmp_path, f"calibration:\n  n1: {ENTRY.replace(was, is_)}\n")
    with pytest.raises(ConfigError) as raised:
        load_calibration(path, "n1")
    assert str(path) in str(raised.value)
    assert key in str(raised.value)
