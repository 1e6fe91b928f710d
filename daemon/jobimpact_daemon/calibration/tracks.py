"""A recording's readings as power over time, domain by domain: what each counter and gauge says is known.

Counters go by the same rules as in the books, so that a wrap is energy and a reset is none.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from jobimpact.core.errors import CalibrationError, RecordingError
from jobimpact.core.records import Counter, Domain, DomainKind, Failed, Gauge, Reading
from jobimpact.core.units import NS
from jobimpact_daemon.calibration.fit import Piece
from jobimpact_daemon.counters import CEILING_W, Baseline, compare
from jobimpact_daemon.gauges import Sample
from jobimpact_daemon.recording import Line, read_recording
from jobimpact_daemon.rest import TRUST

__all__ = ["Recorded", "Track"]


class Track:
    """One domain's readings, as pieces of known energy."""

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self.pieces: list[Piece] = []
        self.odd = 0
        self._base: Baseline | None = None
        self._last: Sample | None = None

    def read(self, reading: Reading, t_ns: int, shift_ns: int) -> None:
        """Take in a reading; `shift_ns` lays this boot's time on the axis of the whole recording."""
        if isinstance(reading, Counter):
            self._count(reading, t_ns + shift_ns)
        elif isinstance(reading, Gauge):
            own_ns = t_ns if reading.t_ns is None else reading.t_ns
            self._gauge(Sample(reading.w, own_ns + shift_ns))
        elif isinstance(reading, Failed):
            self.odd += 1

    def reboot(self) -> None:
        """Counters start anew, and a gauge says nothing of the time between."""
        self._base = self._last = None

    def _gauge(self, sample: Sample) -> None:
        last = self._last
        if last is not None and sample.t_ns <= last.t_ns:
            return
        if last is not None:
            self.pieces.append(Piece(last.t_ns, sample.t_ns, last.w, sample.w))
        self._last = sample

    def _count(self, now: Counter, t_ns: int) -> None:
        base = self._base
        if base is not None and t_ns <= base.t_ns:
            return
        step = compare(base, now, t_ns, CEILING_W[self.domain.kind])
        if step.verdict == "still":
            return
        if step.verdict == "held" and base is not None:
            base.suspect_uj, base.suspect_t_ns = now.uj, t_ns
            return
        if step.uj is not None and base is not None:
            since_ns = base.suspect_t_ns if step.after_suspect else base.t_ns
            if t_ns > since_ns:
                power_w = step.uj * 1000 / (t_ns - since_ns)
                self.pieces.append(Piece(since_ns, t_ns, power_w, power_w))
        if step.verdict not in {"first", "counted", "wrapped", "healed"}:
            self.odd += 1
        self._base = Baseline(now.uj, t_ns, now.epoch)


class Recorded:
    """A recording's domains, on one axis of time."""

    def __init__(self, path: Path) -> None:
        self.tracks: dict[str, Track] = {}
        self.offsets_s: list[float] = []
        self._path = path
        self._boot: str | None = None
        self._shift_ns = 0
        self._last_ns: int | None = None
        for line in read_recording(path):
            self._line(line)
        if not self.offsets_s:
            raise CalibrationError(f"{path}: holds no readings")
        self.offset_s = statistics.median(self.offsets_s)
        """What the wall clock is ahead of the axis."""

    def _line(self, line: Line) -> None:
        if line.boot is not None and line.boot != self._boot:
            if self._boot is not None:
                self._reboot(line)
            self._boot = line.boot
        for domain in line.domains:
            self.tracks.setdefault(domain.name, Track(domain))
        if line.seen is None:
            return
        t_ns = line.t_ns + self._shift_ns
        if self._last_ns is not None and t_ns < self._last_ns:
            raise RecordingError(f"{self._path}: t {line.t_ns / NS} falls: boot time never does")
        self._last_ns = t_ns
        self.offsets_s.append(line.wall_s - t_ns / NS)
        for name, reading in line.seen.readings.items():
            self.tracks[name].read(reading, line.t_ns, self._shift_ns)

    def _reboot(self, line: Line) -> None:
        for track in self.tracks.values():
            track.reboot()
        if self._last_ns is not None:
            # By the wall clock, so that a CSV file's times fit both boots; never back.
            wall_ns = round((line.wall_s - self.offsets_s[-1]) * NS)
            self._shift_ns = max(wall_ns, self._last_ns + NS) - line.t_ns

    def meter(self, source: str | None) -> Track:
        """The node's meter: the one of this source, or the most trusted."""
        found = {track.domain.source: track for track in self.tracks.values() if track.domain.kind == "node"}
        working = {name: track for name, track in found.items() if track.pieces}
        if source is not None and source not in working:
            has = f"it has {', '.join(sorted(working))}" if working else "it has none"
            raise CalibrationError(f"{self._path}: no meter {source!r} of the node that could be read; {has}")
        if not working:
            raise CalibrationError(f"{self._path}: no meter of the node in it: record one, or give its CSV file")
        return working[source or min(working, key=lambda name: (_rank(name), name))]

    def parts(self, excludes: Sequence[DomainKind]) -> list[Track]:
        """What the node's meter sees, and has a meter of its own."""
        wanted = [kind for kind in ("cpu", "dram", "gpu") if kind not in excludes]
        found = [track for track in self.tracks.values() if track.domain.kind in wanted and track.pieces]
        if not found:
            raise CalibrationError(f"{self._path}: no part of the node ({', '.join(wanted)}) has readings in it")
        return sorted(found, key=lambda track: track.domain.name)


def _rank(source: str) -> int:
    return TRUST.index(source) if source in TRUST else len(TRUST)
