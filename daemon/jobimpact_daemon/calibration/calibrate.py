"""`jobimpactd calibrate`: how a node's plug follows its parts, from a recording with a meter or a CSV file beside one.

Parts and meter of one recording share its boot time. A CSV file has the meter's own clock, which is laid on the
recording's wall clock; what the two clocks differ by is found as a lag.
"""

from __future__ import annotations

import itertools
import statistics
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from jobimpact.core.calibration import NodeCalibration, put_calibration
from jobimpact.core.config import WattCsv
from jobimpact.core.errors import CalibrationError
from jobimpact.core.units import NS
from jobimpact_daemon.calibration.fit import Curve, Fit, Piece, fit
from jobimpact_daemon.calibration.tracks import Recorded, Track
from jobimpact_daemon.rest import window_ns
from jobimpact_daemon.sources.wattcsv import Table

__all__ = ["Calibration", "calibrate", "report_text", "write_calibration"]

LAG_NS = 30 * NS
WINDOW_NS = 10 * NS
MAX_WINDOW_S = 86_400
IN_A_WINDOW = 4
"""Readings, at least: the energy at a window's edges is interpolated between two."""
POOR_R2 = 0.9
STEP_S = 1.0
"""A wall clock that is moved by more than this during the recording is told."""
PartKind = Literal["cpu", "dram", "gpu"]
PARTS: tuple[PartKind, ...] = ("cpu", "dram", "gpu")


class Calibration(msgspec.Struct, frozen=True):
    """What was fitted, from what, and what to think of it."""

    meter: str
    parts: tuple[str, ...]
    excludes: tuple[PartKind, ...]
    """Kinds of parts that the meter does not see."""
    start_s: float
    """When the recording begins and ends: epoch seconds, UTC."""
    end_s: float
    window_s: float
    date: str
    fit: Fit
    odd: dict[str, int]
    """Readings that failed, and counters' resets, by domain."""
    warnings: tuple[str, ...]


class _Meter(msgspec.Struct, frozen=True):
    """What is taken as the truth."""

    name: str
    pieces: list[Piece]
    window_ns: int
    """How long a window must be for its lag and averaging to matter little."""
    lags_ns: tuple[int, int]
    excludes: tuple[PartKind, ...]
    warnings: tuple[str, ...] = ()


def calibrate(
    recording: Path,
    *,
    meter: str | None = None,
    csv: WattCsv | None = None,
    window_s: float | None = None,
    excludes: Sequence[PartKind] | None = None,
    date: datetime | None = None,
) -> Calibration:
    """Fit a node's meter to the sum of its parts.

    Args:
        recording: the parts, and the meter unless it is in a file of its own.
        meter: the source whose `node` is the meter; the most trusted one if not given.
        csv: the meter's file, its columns and delimiter, instead.
        window_s: else ten seconds, or ten times what the meter lags, or four of the slowest readings.
        excludes: parts that the meter does not see; else what the recording says of it.
        date: of the fit, in UTC; now if not given.

    Raises:
        RecordingError: a bad line: names the file and the line.
        CalibrationError: why nothing can be fitted, and what to do.
    """
    if window_s is not None and not 1 <= window_s <= MAX_WINDOW_S:
        raise CalibrationError(f"a window of {window_s:g} s: 1 to {MAX_WINDOW_S}")
    recorded = Recorded(recording)
    truth = _recorded_meter(recorded, meter) if csv is None else _filed_meter(csv, recorded.offset_s)
    seen = truth.excludes if excludes is None else tuple(excludes)
    parts = recorded.parts(seen)
    all_pieces = [truth.pieces, *(part.pieces for part in parts)]
    length_ns = round(window_s * NS) if window_s else _window_ns(truth.window_ns, all_pieces)
    _check_overlap(recorded, truth)
    curves = {part.domain.name: Curve(part.pieces, length_ns / 2) for part in parts}
    whole = Curve(truth.pieces, length_ns / 2)
    if whole.span is None or any(curve.span is None for curve in curves.values()):
        raise CalibrationError(
            f"windows of {length_ns / NS:g} s are too short: readings are further apart than half of it"
        )
    found = fit(curves, whole, length_ns, truth.lags_ns)
    return Calibration(
        meter=truth.name,
        parts=tuple(curves),
        excludes=seen,
        start_s=recorded.offset_s + min(part.pieces[0].start_ns for part in parts) / NS,
        end_s=recorded.offset_s + max(part.pieces[-1].end_ns for part in parts) / NS,
        window_s=length_ns / NS,
        date=f"{date or datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        fit=found,
        odd={track.domain.name: track.odd for track in recorded.tracks.values() if track.odd},
        warnings=(*truth.warnings, *_doubts(recorded, parts, csv), *_cautions(found, truth.lags_ns)),
    )


def _window_ns(own_ns: int, found: Sequence[Sequence[Piece]]) -> int:
    slowest_ns = max(statistics.median(piece.end_ns - piece.start_ns for piece in pieces) for pieces in found)
    return max(WINDOW_NS, own_ns, round(IN_A_WINDOW * slowest_ns))


def _recorded_meter(recorded: Recorded, source: str | None) -> _Meter:
    track = recorded.meter(source)
    domain = track.domain
    excludes = tuple(kind for kind in PARTS if kind in domain.excludes)
    return _Meter(domain.source, track.pieces, window_ns(domain.source, domain.latency_s), (0, LAG_NS), excludes)


def _filed_meter(csv: WattCsv, offset_s: float) -> _Meter:
    """The meter's file on the recording's axis; rows in any order, each time once."""
    table = Table(csv.time, csv.watts, csv.delimiter)
    samples: dict[int, float] = {}
    bad: list[str] = []
    try:
        with Path(csv.path).open(encoding="utf-8", errors="replace", newline="") as file:
            for row, text in enumerate(file, 1):
                try:
                    if (row == 1 and table.header(text)) or not text.strip():
                        continue
                    sample = table.sample(text)
                    samples[sample.t_ns] = sample.w
                except ValueError as error:
                    if table.problem:
                        raise CalibrationError(f"{csv.path}: row {row}: {error}") from None
                    bad.append(f"row {row}: {error}")
    except OSError as error:
        raise CalibrationError(f"{csv.path}: {error.strerror}") from error
    said = (f"{len(bad)} rows of {csv.path} are left out; the first: {bad[0]}",) if bad else ()
    shift_ns = round(offset_s * NS)
    times = sorted(samples)
    pieces = [Piece(a - shift_ns, b - shift_ns, samples[a], samples[b]) for a, b in itertools.pairwise(times)]
    if not pieces:
        raise CalibrationError(f"{csv.path}: fewer than two rows with a time and a power")
    return _Meter(Path(csv.path).name, pieces, WINDOW_NS, (-LAG_NS, LAG_NS), (), said)


def _check_overlap(recorded: Recorded, meter: _Meter) -> None:
    known = [track.pieces for track in recorded.tracks.values() if track.domain.kind != "node" and track.pieces]
    start_ns, end_ns = min(one[0].start_ns for one in known), max(one[-1].end_ns for one in known)
    from_ns, to_ns = meter.pieces[0].start_ns, meter.pieces[-1].end_ns
    if from_ns < end_ns and to_ns > start_ns:
        return
    ours, theirs = (
        " to ".join(_minute(t_ns / NS + recorded.offset_s) for t_ns in ends)
        for ends in ((start_ns, end_ns), (from_ns, to_ns))
    )
    raise CalibrationError(f"no overlap: the recording's parts are from {ours}, {meter.name} from {theirs}")


def _minute(epoch_s: float) -> str:
    return f"{datetime.fromtimestamp(epoch_s, UTC):%Y-%m-%d %H:%M} UTC"


def _doubts(recorded: Recorded, parts: Sequence[Track], csv: WattCsv | None) -> list[str]:
    """What is odd about the data."""
    said = [
        f"{part.domain.name} is modelled, not measured: the fit is good for this model only"
        for part in parts
        if part.domain.method == "modelled"
    ]
    stepped_s = max(recorded.offsets_s) - min(recorded.offsets_s)
    if csv is not None and stepped_s > STEP_S:
        said.append(
            f"the node's clock was moved by {stepped_s:.0f} s during the recording: the file's times may not fit"
        )
    return said


def _cautions(found: Fit, lags_ns: tuple[int, int]) -> list[str]:
    """What is odd about the fit."""
    said = []
    if found.bent is not None:
        low, high = found.bent
        said.append(
            f"the residuals curve: {low:.2f} W at the plug for each watt of the parts in the lower half of the load,"
            f" {high:.2f} W in the upper half. One line is not all of it"
        )
    if found.r2 < POOR_R2:
        said.append(f"the meter follows the parts poorly (r² {found.r2:.2f})")
    if round(abs(found.lag_s) * NS) >= lags_ns[1]:
        said.append(f"the lag is at the end of what is tried ({found.lag_s:g} s): the clocks may differ by more")
    return said


def report_text(calibration: Calibration) -> str:
    """The report, for a terminal of 80 columns."""
    found = calibration.fit
    skipped = sum(found.skipped.values())
    reasons = ", ".join(f"{count} without {name}" for name, count in sorted(found.skipped.items()))
    rows = [
        ("meter", calibration.meter),
        ("parts", ", ".join(calibration.parts)),
        ("not seen", ", ".join(calibration.excludes)),
        ("recorded", f"{_minute(calibration.start_s)} to {_minute(calibration.end_s)}"),
        (
            "windows",
            f"{found.windows} of {calibration.window_s:g} s" + (f"; {skipped} skipped: {reasons}" if skipped else ""),
        ),
        ("odd readings", ", ".join(f"{name} {count}" for name, count in sorted(calibration.odd.items()))),
        ("parts drew", f"{found.from_w:.0f} to {found.to_w:.0f} W"),
        ("meter drew", f"{found.meter_from_w:.0f} to {found.meter_to_w:.0f} W"),
        ("lag", f"{found.lag_s:.1f} s, taken out"),
        ("fit", f"meter = {found.slope:.4f} x parts {'-' if found.offset_w < 0 else '+'} {abs(found.offset_w):.1f} W"),
        ("r²", f"{found.r2:.4f}"),
        ("residuals", f"{found.residual_w:.1f} W standard deviation, {found.max_residual_w:.1f} W at most"),
        ("", f"{found.mean_error:.1%} of the meter on average"),
    ]
    lines = [line for label, text in rows if text for line in _row(label, text)]
    lines += ["", *_wrapped(_meaning(found))]
    for warning in calibration.warnings:
        lines += _wrapped(f"Warning: {warning}.")
    return "\n".join(lines) + "\n"


def _meaning(found: Fit) -> str:
    parts_w = _round((found.from_w + found.to_w) / 2)
    plug_w = found.slope * parts_w + found.offset_w
    return (
        f"A job of {parts_w:.0f} W by its node's parts draws {plug_w:.0f} W ± {2 * found.residual_w:.0f} W at the"
        f" plug (two standard deviations of a window). This holds from {found.from_w:.0f} to {found.to_w:.0f} W of"
        " the parts; beyond, it is a guess."
    )


def _round(power_w: float) -> float:
    """A round figure near it."""
    step = 50 if power_w >= 200 else 10 if power_w >= 40 else 1
    return round(power_w / step) * step


def _row(label: str, text: str) -> list[str]:
    return textwrap.wrap(text, 80, initial_indent=f"{label:<14}", subsequent_indent=" " * 14, break_on_hyphens=False)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 80, break_on_hyphens=False)


def write_calibration(inventory: Path, node: str, calibration: Calibration) -> None:
    """Put a node's fit into the inventory; all else in the file stays as it is.

    Raises:
        ConfigError: the file cannot be read, written, or told where the block is.
    """
    found = calibration.fit
    put_calibration(
        inventory,
        node,
        NodeCalibration(
            slope=found.slope,
            offset_w=found.offset_w,
            residual_w=found.residual_w,
            r2=found.r2,
            windows=found.windows,
            from_w=found.from_w,
            to_w=found.to_w,
            meter=calibration.meter,
            lag_s=found.lag_s,
            date=calibration.date,
            excludes=calibration.excludes,
        ),
    )
