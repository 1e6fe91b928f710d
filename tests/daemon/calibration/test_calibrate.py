"""Calibration: a node made with a known line is found again, and nothing is fitted where nothing can be."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobimpact.core.calibration import load_calibration
from jobimpact.core.config import WattCsv
from jobimpact.core.errors import CalibrationError, ConfigError, RecordingError
from jobimpact_daemon.calibration.calibrate import Calibration, calibrate, report_text, write_calibration
from jobimpact_daemon.calibration.fit import Curve, Piece

WALL = 1_795_190_400.0
DATE = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
CPU_MAX_UJ = 262_143_328_850


class Rig:
    """A node with a CPU and a GPU whose load changes every 37 s, and a meter of a known line.

    Energies are integrated in steps of 0.1 s; a lag is a whole number of them.
    """

    def __init__(
        self,
        *,
        seconds: int = 600,
        slope: float = 1.12,
        offset_w: float = 40.0,
        lag_s: float = 0.0,
        noise_w: float = 0.0,
        seed: int = 1,
        load: Callable[[random.Random], float] | None = None,
    ) -> None:
        dice = random.Random(seed)
        draw = load or (lambda one: one.uniform(60.0, 500.0))
        levels = [draw(dice) for _ in range(seconds // 37 + 2)]
        self.seconds, self.lag_s = seconds, lag_s
        self._parts = [levels[step // 370] for step in range(seconds * 10)]
        self._meter = [slope * one + offset_w for one in self._parts]
        self._noise_w, self._dice = noise_w, dice
        self._cpu_uj = self._sums([0.6 * one for one in self._parts])
        self._gpu_uj = self._sums([0.4 * one for one in self._parts])
        self._meter_uj = self._sums(self._meter)

    def _sums(self, watts: list[float]) -> list[int]:
        total, found = 0.0, [0]
        for one in watts:
            total += one * 1e5
            found.append(round(total))
        return found

    def meter_w(self, second: float) -> float:
        """What the meter shows: the mean of a second that ended `lag_s` ago, and its noise."""
        step = round((second - self.lag_s) * 10)
        end, start = max(0, step), max(0, step - 10)
        mean = (self._meter_uj[end] - self._meter_uj[start]) / (end - start) / 1e5 if end > start else self._meter[0]
        return max(0.0, mean + self._dice.gauss(0, self._noise_w))

    def meter_uj(self, second: float) -> int:
        """What a counter of the meter shows."""
        return self._meter_uj[max(0, round((second - self.lag_s) * 10))]

    def parts(self, second: int) -> dict[str, dict[str, Any]]:
        """What the parts' counters show; the CPU's wraps."""
        uj = (self._cpu_uj[second * 10] + CPU_MAX_UJ - 10_000_000_000) % CPU_MAX_UJ
        return {
            "rapl": {"package-0": {"uj": uj, "max_uj": CPU_MAX_UJ, "max_w": 700}},
            "nvml": {"gpu:GPU-a": {"uj": 5_000_000 + self._gpu_uj[second * 10], "epoch": "e1"}},
        }

    def lines(self, meter: str | None = "w", every_s: int = 1) -> list[dict[str, Any]]:
        """A recording of a reading a second, with the meter's gauge (`w`), its counter (`uj`) or none."""
        found: list[dict[str, Any]] = [line(0, boot="b1", node={"cpus": 8, "mem_bytes": 1 << 30})]
        for second in range(self.seconds):
            read = self.parts(second)
            if meter and second % every_s == 0:
                shown = self.meter_w(second) if meter == "w" else self.meter_uj(second)
                read["wattmeter"] = {"node": {meter: shown, "latency_s": 1.0}}
            found.append(line(second, read=read))
        return found


def line(second: float, **more: Any) -> dict[str, Any]:
    return {"t": 100.0 + second, "wall": WALL + second, **more}


def written(folder: Path, lines: list[dict[str, Any]]) -> Path:
    path = folder / "node.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    return path


def filed(folder: Path, rig: Rig, ahead_s: float = 0.0) -> WattCsv:
    """The meter's own file, its clock ahead of the node's."""
    path = folder / "power.csv"
    rows = [f"{WALL + ahead_s + second},{rig.meter_w(second)}\n" for second in range(rig.seconds)]
    path.write_text("time,watts\n" + "".join(rows), encoding="utf-8")
    return WattCsv(path=str(path))


def fitted(folder: Path, lines: list[dict[str, Any]], **more: Any) -> Calibration:
    return calibrate(written(folder, lines), date=DATE, **more)


# -- the line is found again ------------------------------------------------------------------------------------------

few = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


@few
@given(
    slope=st.floats(0.8, 2.0),
    offset_w=st.floats(0, 150),
    lag=st.integers(0, 250),
    noise_w=st.floats(0, 10),
    seed=st.integers(0, 1000),
    meter=st.sampled_from(["w", "uj"]),
)
def test_a_known_line_is_found_again(
    tmp_path: Path, slope: float, offset_w: float, lag: int, noise_w: float, seed: int, meter: str
) -> None:
    """Any slope, offset, lag and noise, by a gauge or a counter: the line within what the noise allows."""
    rig = Rig(slope=slope, offset_w=offset_w, lag_s=lag / 10, noise_w=noise_w, seed=seed)
    found = fitted(tmp_path, rig.lines(meter)).fit
    assert found.slope == pytest.approx(slope, rel=0.03)
    assert found.slope * 250 + found.offset_w == pytest.approx(slope * 250 + offset_w, abs=5)
    # A gauge is the mean of the second before: half a second of lag more.
    assert found.lag_s == pytest.approx(lag / 10 + (0.5 if meter == "w" else 0), abs=1.0)
    assert found.r2 > 0.98
    assert found.windows >= 30
    assert found.residual_w < 12


def test_without_noise_it_is_exact(tmp_path: Path) -> None:
    """Two counters of one truth: to a thousandth."""
    found = fitted(tmp_path, Rig(slope=1.25, offset_w=60).lines("uj"))
    assert found.fit.slope == pytest.approx(1.25, abs=1e-3)
    assert found.fit.offset_w == pytest.approx(60, abs=0.2)
    assert found.fit.lag_s == 0
    assert found.fit.residual_w < 0.5
    assert (found.meter, found.parts, found.warnings, found.odd) == ("wattmeter", ("gpu:GPU-a", "package-0"), (), {})
    assert found.date == "2026-11-21T10:00:00Z"


@few
@given(shift_s=st.floats(-1e8, 1e6), step_s=st.floats(-5000, 5000), at=st.integers(0, 599))
def test_the_wall_clock_is_a_label(tmp_path: Path, shift_s: float, step_s: float, at: int) -> None:
    """Set to another day, or stepped in the middle: a meter in the recording is fitted just as before."""
    lines = Rig(lag_s=3).lines("uj")
    before = fitted(tmp_path, lines)
    for number, one in enumerate(lines):
        one["wall"] += shift_s + (step_s if number > at else 0)
    after = fitted(tmp_path, lines)
    assert after.fit == before.fit
    assert after.warnings == before.warnings


@few
@given(start=st.integers(100, 300), length=st.integers(1, 100))
def test_a_gap_costs_its_own_windows(tmp_path: Path, start: int, length: int) -> None:
    """A daemon that was away: its windows are skipped, and the line of the others is the same."""
    lines = Rig(seconds=700).lines("uj")
    kept = [one for one in lines if not start <= one["t"] - 100 < start + length]
    found = fitted(tmp_path, kept).fit
    assert found.slope == pytest.approx(1.12, abs=0.01)
    assert found.offset_w == pytest.approx(40, abs=2)
    skipped = sum(found.skipped.values())
    assert found.windows + skipped == 69
    assert skipped <= length // 10 + 2


@pytest.mark.parametrize("ahead_s", [-20.0, 0.0, 12.0])
def test_a_file_beside_the_recording(tmp_path: Path, ahead_s: float) -> None:
    """The meter's own clock may be off by half a minute either way."""
    rig = Rig(slope=1.3, offset_w=25)
    found = fitted(tmp_path, rig.lines(None), csv=filed(tmp_path, rig, ahead_s))
    assert found.fit.slope == pytest.approx(1.3, abs=0.02)
    assert found.fit.offset_w == pytest.approx(25, abs=4)
    assert found.fit.lag_s == pytest.approx(ahead_s + 0.5, abs=0.6)
    assert found.meter == "power.csv"


def test_a_slow_and_lagging_meter_gets_long_windows(tmp_path: Path) -> None:
    """A BMC of 10 s readings, 5 s of latency and 12 s of lag: windows of 50 s."""
    lines = Rig(seconds=3000, lag_s=12).lines("w", every_s=10)
    for one in lines:
        if "wattmeter" in one.get("read", {}):
            node = one["read"].pop("wattmeter")["node"]
            one["read"]["ipmi"] = {"node": {"w": node["w"], "latency_s": 5.0}}
    found = fitted(tmp_path, lines)
    assert found.window_s == 50
    assert found.meter == "ipmi"
    assert found.fit.slope == pytest.approx(1.12, abs=0.08)


def test_the_most_trusted_meter_is_taken_unless_another_is_named(tmp_path: Path) -> None:
    """A wattmeter before a BMC."""
    lines = Rig().lines("w")
    for one in lines:
        if "read" in one:
            one["read"]["redfish"] = {"node": {"w": one["read"]["wattmeter"]["node"]["w"] * 2, "latency_s": 1.0}}
    assert fitted(tmp_path, lines).meter == "wattmeter"
    other = fitted(tmp_path, lines, meter="redfish")
    assert other.meter == "redfish"
    assert other.fit.slope == pytest.approx(2.24, abs=0.05)


def test_parts_that_the_meter_does_not_see_are_left_out(tmp_path: Path) -> None:
    """GPUs in a chassis of their own: as the recording says, or as the caller does."""
    lines = Rig().lines("uj")
    by_caller = fitted(tmp_path, lines, excludes=("gpu",))
    for one in lines:
        if "read" in one:
            one["read"]["wattmeter"]["node"]["excludes"] = ["gpu"]
    by_recording = fitted(tmp_path, lines)
    assert by_caller.parts == by_recording.parts == ("package-0",)
    assert by_recording.excludes == ("gpu",)
    assert by_recording.fit.slope == pytest.approx(1.12 / 0.6, abs=0.01)


# -- faults in the recording ------------------------------------------------------------------------------------------


def test_failed_readings_and_resets_make_no_power(tmp_path: Path) -> None:
    """A driver's reload, failures and a lost GPU: skipped and counted, and the line is the same."""
    lines = Rig(seconds=800).lines("uj")
    for one in (one for one in lines if "read" in one):
        second, read = one["t"] - 100, one["read"]
        if second >= 200:
            read["nvml"]["gpu:GPU-a"] |= {"uj": read["nvml"]["gpu:GPU-a"]["uj"] - 5_000_000, "epoch": "e2"}
        if 300 <= second < 303:
            read["rapl"]["package-0"] = {"failed": "EIO"}
        if 500 <= second < 560:
            read["nvml"]["gpu:GPU-a"] = {"absent": "gpu lost"}
    found = fitted(tmp_path, lines)
    assert found.odd == {"gpu:GPU-a": 1, "package-0": 3}
    assert found.fit.slope == pytest.approx(1.12, abs=0.005)
    assert found.fit.offset_w == pytest.approx(40, abs=1)
    assert found.fit.residual_w < 1
    # The second before the reload; from the last reading before the loss to the first one after it.
    assert found.fit.skipped == {"gpu:GPU-a": 1 + 7}


def test_a_reboot_is_no_power(tmp_path: Path) -> None:
    """All counters start anew at once, and time as well: both boots are fitted, and nothing between them."""
    rig = Rig(seconds=800)
    lines = rig.lines("uj")
    bases = lines[501]["read"]
    for one in lines[501:]:
        second, read = one["t"] - 600, one["read"]
        one["t"] = second + 7
        for source, domain in (("rapl", "package-0"), ("nvml", "gpu:GPU-a"), ("wattmeter", "node")):
            if one is not lines[501]:
                read[source][domain]["uj"] = (read[source][domain]["uj"] - bases[source][domain]["uj"]) % CPU_MAX_UJ
    for domains in bases.values():
        for reading in domains.values():
            reading["uj"] = 0
    lines[501]["boot"] = "b2"
    found = fitted(tmp_path, lines)
    assert found.fit.slope == pytest.approx(1.12, abs=0.002)
    assert found.fit.residual_w < 0.5
    assert found.odd == {}
    assert 70 <= found.fit.windows <= 79


def test_a_file_goes_on_through_a_reboot(tmp_path: Path) -> None:
    """Two minutes of reboot: boot time starts anew, and the meter's own file does not."""
    rig = Rig(seconds=900)
    lines = rig.lines(None)
    kept = [one for one in lines if not 400 <= one["t"] - 100 < 520]
    later = next(number for number, one in enumerate(kept) if one["t"] == 620)
    for one in kept[later:]:
        one["t"] -= 600
    kept[later]["boot"] = "b2"
    found = fitted(tmp_path, kept, csv=filed(tmp_path, rig))
    assert found.fit.slope == pytest.approx(1.12, abs=0.02)
    assert found.fit.lag_s == pytest.approx(0.5, abs=0.5)
    assert found.warnings == ()


def test_a_blip_of_a_counter_costs_nothing(tmp_path: Path) -> None:
    """Once a little lower than before, then on as if nothing had been: no window is lost."""
    lines = Rig().lines("uj")
    lines[333]["read"]["rapl"]["package-0"]["uj"] -= 400_000_000
    found = fitted(tmp_path, lines)
    assert (found.odd, found.fit.skipped) == ({}, {})
    assert found.fit.slope == pytest.approx(1.12, abs=0.002)


def test_a_counter_that_moves_seldom_is_not_a_pulse(tmp_path: Path) -> None:
    """Read each second and renewed every seventh: its rise is of all the time since it last moved."""
    rig = Rig(seconds=1200)
    lines = rig.lines("uj")
    for one in (one for one in lines if "read" in one):
        one["read"]["wattmeter"]["node"]["uj"] = rig.meter_uj((one["t"] - 100) // 7 * 7)
    found = fitted(tmp_path, lines)
    assert found.window_s == 28
    assert found.fit.r2 > 0.99
    assert found.fit.slope == pytest.approx(1.12, abs=0.03)


def test_a_gauge_with_a_time_of_its_own_is_taken_at_that(tmp_path: Path) -> None:
    """Told eight seconds late with the time of its measurement: there is no lag."""
    rig = Rig()
    lines = rig.lines("w")
    for one in (one for one in lines if one["t"] >= 108 and "read" in one):
        one["read"]["wattmeter"]["node"] |= {"w": rig.meter_w(one["t"] - 108), "t": one["t"] - 8}
    lines = [one for one in lines if "read" not in one or one["t"] >= 108]
    assert fitted(tmp_path, lines).fit.lag_s == pytest.approx(0.5, abs=0.2)


def test_time_that_falls_is_refused(tmp_path: Path) -> None:
    """Two recordings in one file: said with the file's name."""
    lines = Rig().lines("uj")
    with pytest.raises(RecordingError, match=r"node\.jsonl: .*falls"):
        fitted(tmp_path, lines + lines[1:])


# -- what cannot be fitted --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rig", "why"),
    [
        (Rig(seconds=200), "only .* windows of 10 s could be used, and 30 are needed"),
        (Rig(load=lambda dice: dice.uniform(100, 104)), "record the node both idle and loaded"),
        (Rig(load=lambda _: 100.0), "record the node both idle and loaded"),
        (Rig(slope=0.1, offset_w=300), "is it the meter of this node"),
        (Rig(slope=-0.5, offset_w=600), "is it the meter of this node"),
        (Rig(slope=6.0), "is it the meter of this node"),
        (Rig(slope=0.8, noise_w=1500, offset_w=6000), "does not follow|is it the meter of this node"),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, rig: Rig, why: str) -> None:
    """Too little data, too little variation, or no line that a node can have: said, with what to do."""
    with pytest.raises(CalibrationError, match=why):
        fitted(tmp_path, rig.lines("w"))


def test_a_recording_without_what_is_needed_is_refused(tmp_path: Path) -> None:
    """No meter, another meter, no parts, nothing at all."""
    lines = Rig().lines("w")
    with pytest.raises(CalibrationError, match="no meter of the node in it: record one, or give its CSV file"):
        fitted(tmp_path, Rig().lines(None))
    with pytest.raises(CalibrationError, match="no meter 'ipmi' of the node that could be read; it has wattmeter"):
        fitted(tmp_path, lines, meter="ipmi")
    with pytest.raises(CalibrationError, match="no part of the node"):
        fitted(tmp_path, lines, excludes=("cpu", "dram", "gpu"))
    with pytest.raises(CalibrationError, match="holds no readings"):
        fitted(tmp_path, lines[:1])
    with pytest.raises(CalibrationError, match="windows of 1 s are too short"):
        fitted(tmp_path, lines, window_s=1)
    for window_s in (-5, 0, 1e-9, math.nan, math.inf):
        with pytest.raises(CalibrationError, match="a window of"):
            fitted(tmp_path, lines, window_s=window_s)


def test_a_file_of_another_day_is_refused(tmp_path: Path) -> None:
    """No overlap: both times are told."""
    rig = Rig()
    with pytest.raises(CalibrationError, match=r"no overlap: .* from 2026-11-20 .*power\.csv from 2026-11-21"):
        fitted(tmp_path, rig.lines(None), csv=filed(tmp_path, rig, 86400))


def test_bad_rows_of_a_file_are_told(tmp_path: Path) -> None:
    """The first is named; a file that cannot be read at all is an error."""
    rig = Rig()
    csv = filed(tmp_path, rig)
    path = Path(csv.path)
    rows = path.read_text().splitlines()
    rows[7], rows[9] = "x,1", f"{WALL + 8},-1"
    path.write_text("\n".join(rows))
    found = fitted(tmp_path, rig.lines(None), csv=csv)
    assert found.warnings[0].startswith(f"2 rows of {path} are left out; the first: row 8: 'x'")
    with pytest.raises(CalibrationError, match="no column 'power'"):
        fitted(tmp_path, rig.lines(None), csv=WattCsv(path=csv.path, watts="power"))
    with pytest.raises(CalibrationError, match="No such file"):
        fitted(tmp_path, rig.lines(None), csv=WattCsv(path=str(tmp_path / "none.csv")))


def test_a_curve_is_told_from_a_line(tmp_path: Path) -> None:
    """Fans that come on under load: a line is fitted, with a warning; noise alone gives none."""
    straight = fitted(tmp_path, Rig(noise_w=5, seconds=1500).lines("w"))
    assert straight.fit.bent is None
    for seed in range(8):
        noisy = Rig(noise_w=80, seconds=700, seed=seed, load=lambda dice: dice.choice([60, 300]) + dice.uniform(0, 4))
        assert fitted(tmp_path, noisy.lines("w")).fit.bent is None
    rig = Rig(seconds=1500)
    lines = rig.lines("w")
    for one in lines:
        if "read" in one:
            node = one["read"]["wattmeter"]["node"]
            node["w"] += max(0.0, node["w"] - 350) * 0.6
    curved = fitted(tmp_path, lines)
    assert curved.fit.bent is not None
    assert curved.fit.bent[0] < curved.fit.slope < curved.fit.bent[1]
    assert any("curve" in warning for warning in curved.warnings)


# -- windows ----------------------------------------------------------------------------------------------------------


@given(
    lengths=st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1e4), st.floats(0, 1e4)), min_size=1, max_size=20),
    cut=st.data(),
)
def test_windows_add_up(lengths: list[tuple[int, float, float]], cut: st.DataObject) -> None:
    """Two windows side by side hold the energy of both together, and the whole holds all of it."""
    pieces, start, total = [], 0, 0.0
    for length, from_w, to_w in lengths:
        pieces.append(Piece(start, start + length, from_w, to_w))
        start += length
        total += (from_w + to_w) / 2 * length
    curve = Curve(pieces)
    assert curve.mean_w(0, start) == pytest.approx(total / start, abs=1e-6)
    middle = cut.draw(st.integers(0, start))
    if 0 < middle < start:
        left, right = curve.mean_w(0, middle), curve.mean_w(middle, start)
        assert left is not None
        assert right is not None
        assert left * middle + right * (start - middle) == pytest.approx(total, abs=1e-3)
    assert curve.mean_w(-1, start) is None
    assert curve.mean_w(0, start + 1) is None


def test_a_long_piece_is_not_known() -> None:
    """When its energy flowed is not told: a window that touches it is skipped."""
    curve = Curve([Piece(0, 10, 1, 1), Piece(10, 40, 1, 1), Piece(40, 50, 1, 1)], longest_ns=10)
    assert curve.mean_w(0, 10) == 1
    assert curve.mean_w(5, 15) is None
    assert curve.mean_w(0, 50) is None
    assert curve.mean_w(40, 50) == 1


# -- the report and the inventory -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    return fitted(tmp_path_factory.mktemp("made"), Rig(noise_w=4, seconds=900).lines("w"))


def test_the_report_is_for_a_terminal(calibration: Calibration) -> None:
    """80 columns, the line, its residuals, and what it means; and it can be sent as JSON."""
    text = report_text(calibration)
    assert max(map(len, text.splitlines())) <= 80
    found = calibration.fit
    assert f"fit           meter = {found.slope:.4f} x parts + {found.offset_w:.1f} W" in text
    said = f"A job of 250 W by its node's parts draws {found.slope * 250 + found.offset_w:.0f} W"
    assert f"{said} ± {2 * found.residual_w:.0f} W at the plug" in " ".join(text.split())
    assert "2026-11-20 16:00 UTC to 2026-11-20 16:14 UTC" in text
    assert msgspec.json.decode(msgspec.json.encode(calibration), type=Calibration) == calibration


INVENTORY = """# ours
version: "2026-11"   # named in every result
types:
  cpu: {nodes: "node[001-040]", cpu: {model: X, count: 2, cores: 20}, ram_gb: 192}
\t
# the end"""


def inventory(folder: Path, text: str) -> Path:
    path = folder / "nodes.yaml"
    path.write_bytes(text.encode())
    path.chmod(0o640)
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n# more\n"])
def test_everything_else_in_the_inventory_stays(tmp_path: Path, calibration: Calibration, end: str, last: str) -> None:
    """Comments, blanks, line ends and mode: byte for byte before the block, which comes at the end."""
    before = (INVENTORY.replace("\t\n", "\n") + last).replace("\n", end)
    path = inventory(tmp_path, before)
    write_calibration(path, "node001", calibration)
    write_calibration(path, "node002", calibration)
    after = path.read_bytes().decode()
    assert after.startswith(before)
    assert "\r\r" not in after
    assert path.stat().st_mode & 0o7777 == 0o640
    assert "\n" not in after.replace("\r\n", "") if end == "\r\n" else "\r" not in after
    found = load_calibration(path, "node001")
    assert found is not None
    assert found.slope == pytest.approx(calibration.fit.slope, abs=1e-4)
    assert found.offset_w == pytest.approx(calibration.fit.offset_w, abs=0.1)
    assert (found.meter, found.date, found.windows) == ("wattmeter", calibration.date, calibration.fit.windows)
    assert [one.name for one in tmp_path.iterdir()] == ["nodes.yaml"]


names = st.one_of(
    st.from_regex(r"\A[a-z][a-z0-9.-]{0,12}\Z"),
    st.sampled_from(["yes", "null", "123", "1e5", "0x10", "a: b", "~", "é"]),
)


@few
@given(nodes=st.lists(names, min_size=1, max_size=5))
def test_writing_twice_changes_nothing(tmp_path: Path, calibration: Calibration, nodes: list[str]) -> None:
    """However often and in whatever order: one entry a node, and the file is not even touched."""
    path = inventory(tmp_path, "types: {}\n# end\n")
    for node in nodes:
        write_calibration(path, node, calibration)
    text, stamp = path.read_bytes(), path.stat().st_ino
    for node in nodes[::-1]:
        write_calibration(path, node, calibration)
    assert path.read_bytes() == text
    assert path.stat().st_ino == stamp
    assert set(yaml.safe_load(text)["calibration"]) == set(nodes)
    assert all(load_calibration(path, node) is not None for node in nodes)


def test_an_entry_is_replaced_and_the_others_stay(tmp_path: Path, calibration: Calibration) -> None:
    """The block in the middle of a file, with a comment and another layout of its own."""
    path = inventory(tmp_path, "types: {}\n")
    write_calibration(path, "n2", calibration)
    entry = path.read_text().splitlines()[-1].split(": ", 1)[1]
    other = "\n".join(f"        {part}" for part in entry.strip("{}").split(", "))
    text = f"calibration:   # ours\n    n1:\n{other}\n    # kept\n    n2: {entry}   # said\n\n# after\ntypes: {{}}\n"
    path.write_text(text)
    new = msgspec.structs.replace(calibration, meter="power of rack 3.csv")
    write_calibration(path, "n1", new)
    assert path.read_text() == text.replace(f"\n{other}", " " + path.read_text().split("n1: ")[1].split("\n")[0])
    assert load_calibration(path, "n1").meter == "power of rack 3.csv"  # type: ignore[union-attr]
    write_calibration(path, "n3", new)
    assert [line.split(":")[0] for line in path.read_text().splitlines()] == [
        "calibration", "    n1", "    # kept", "    n2", "    n3", "", "# after", "types",
    ]  # fmt: skip


@pytest.mark.parametrize("block", ["calibration:", "calibration: {}", "calibration: ~", "calibration:   # none yet"])
def test_an_empty_block_is_filled(tmp_path: Path, calibration: Calibration, block: str) -> None:
    """Whatever nothing is written like."""
    path = inventory(tmp_path, f"# a\n{block}\ntypes: {{}}\n")
    write_calibration(path, "n1", calibration)
    assert load_calibration(path, "n1") is not None
    assert path.read_text().startswith("# a\ncalibration:\n  n1: {")
    assert path.read_text().endswith("\ntypes: {}\n")


@pytest.mark.parametrize("text", ["{types: {}}\n", "types: {}\n...\n", "[1, 2]\n", "a: [\n", "calibration: {n1: 3}\n"])
def test_a_file_that_only_a_person_can_edit_stays(tmp_path: Path, calibration: Calibration, text: str) -> None:
    """Refused with the file's name, and not a byte is changed."""
    path = inventory(tmp_path, text)
    with pytest.raises(ConfigError, match=r"nodes\.yaml: "):
        write_calibration(path, "n1", calibration)
    assert path.read_text() == text


def test_no_inventory_is_told(tmp_path: Path, calibration: Calibration) -> None:
    """It is the site's to begin one: types of nodes are not ours to guess."""
    with pytest.raises(ConfigError, match=r"nodes\.yaml: No such file"):
        write_calibration(tmp_path / "nodes.yaml", "n1", calibration)


def test_a_link_stays_a_link(tmp_path: Path, calibration: Calibration) -> None:
    """An inventory that is kept elsewhere is replaced there."""
    (tmp_path / "real").mkdir()
    real = inventory(tmp_path / "real", "types: {}\n")
    link = tmp_path / "nodes.yaml"
    link.symlink_to(real)
    write_calibration(link, "n1", calibration)
    assert link.is_symlink()
    assert load_calibration(real, "n1") is not None
