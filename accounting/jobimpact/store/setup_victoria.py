"""What VictoriaMetrics should run with, and saying how it does."""

from __future__ import annotations

from msgspec import Struct, field

from jobimpact.core.config import VictoriaStore
from jobimpact.core.errors import StoreError
from jobimpact.store.setup_report import DAY_S, Report, is_victoria, newest, read
from jobimpact.store.victoria import VictoriaReader

__all__ = ["Victoria"]

_FLAGS = ("-dedup.minScrapeInterval=1ms", "-retentionPeriod=10y")


class _Series(Struct, frozen=True):
    series: int = field(name="totalSeries")


class _Status(Struct, frozen=True):
    data: _Series


class Victoria:
    """One server.

    Args:
        server: its settings.

    Raises:
        ConfigError: a secret cannot be read.
        StoreError: it cannot be reached, or is no VictoriaMetrics.
    """

    def __init__(self, server: VictoriaStore) -> None:
        self.reader = VictoriaReader(server)
        self.http = self.reader.http
        if not is_victoria(self.reader):
            raise StoreError(f"{self.http.url}: this is no VictoriaMetrics; InfluxDB is set as store.influxdb")
        lines = self.http.ask("/metrics", {}, "GET").decode(errors="replace").splitlines()
        self.flags = {one[0]: one[1] for one in map(_flag, lines) if one}
        version = next((one for one in lines if one.startswith("vm_app_version{")), "").split('short_version="')
        said = version[1].split('"')[0] if len(version) > 1 else ""
        self.report = Report(f"VictoriaMetrics {said or '(it does not say which)'} at {self.http.url}")

    def init(self) -> Report:
        """See `jobimpact.store.setup.init`."""
        self.report.add("database", "nothing is to be made there: it has one, whose flags hold for all")
        self._settings()
        return self.report

    def _settings(self) -> None:
        dedup = self.flags.get("dedup.minScrapeInterval")
        if dedup is None:
            self.report.add("flags", f"not shown to us; it should run with {' '.join(_FLAGS)}")
            return
        said = dedup if dedup not in {"0s", "0", ""} else "off"
        advice = ": set -dedup.minScrapeInterval=1ms, or a point that is sent twice is there twice"
        coarse = ": more than 1ms, it drops points of ours"
        self.report.add(
            "dedup", f"{said}{'' if said == '1ms' else advice if said == 'off' else coarse}", fine=said == "1ms"
        )
        kept = self.flags.get("retentionPeriod", "1")
        days = _vm_days(kept)
        few = days is not None and days < 366
        text = f"{kept}{' month(s)' if kept.isdigit() else ''}"
        more = ": set -retentionPeriod=10y: what is by day and hour is for years, and all share it" if few else ""
        self.report.add("retention", text + more, fine=not few)

    def check(self, now_ms: int) -> Report:
        """See `jobimpact.store.setup.check`."""
        self._settings()
        newest(self.report, self.reader, now_ms - 7 * DAY_S * 1000, now_ms)
        series = read(self.http.ask("/api/v1/status/tsdb", {}, "GET"), _Status).data.series
        limit = self.flags.get("storage.maxDailySeries", "0")
        told = f"{series:,} today"
        self.report.add("series", f"{told}; {'no limit' if limit == '0' else f'storage.maxDailySeries = {limit}'}")
        return self.report


def _flag(line: str) -> tuple[str, str] | None:
    if not line.startswith('flag{name="'):
        return None
    name, _, rest = line.removeprefix('flag{name="').partition('", value="')
    return name, rest.partition('"')[0]


def _vm_days(text: str) -> float | None:
    units = {"h": 1 / 24, "d": 1.0, "w": 7.0, "y": 365.0}
    number, unit = (text, 31.0) if text[-1:].isdigit() else (text[:-1], units.get(text[-1:], 0.0))
    try:
        return float(number) * unit if unit else None
    except ValueError:
        return None
