"""Kwollect's API: what Grid'5000 and others keep of their wattmeters, by node and time.

An answer is a list of records with `timestamp` (ISO 8601 with offset), `device_id` (the node), `metric_id`, `value`
and `labels`; `labels._device_orig` names the outlets. A node with two power supplies has two series at the same times:
they are told apart by their labels, and added by whoever asked.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from jobimpact.core import config
from jobimpact.core.clock import Clock
from jobimpact.core.records import Absent, Failed
from jobimpact.core.units import NS
from jobimpact_daemon.gauges import Sample
from jobimpact_daemon.sources.wattcsv import Named, checked_w, stamp_ns
from jobimpact_daemon.sources.web import Web, WebError

__all__ = ["Kwollect"]

BACK_S = 60.0
"""How far the first question looks back: its samples lag by some seconds."""
HISTORY_S = 3600.0
"""The longest outage that is asked for afterwards: an answer must stay of a size that a server gives."""
AHEAD_S = 60.0
"""How much the node's clock may lag behind the meter's before the newest samples come late."""
FORBIDDEN = {401, 403}


class _Record(msgspec.Struct):
    timestamp: Any
    value: Any
    device_id: str
    metric_id: str
    labels: Any = None


class Kwollect:
    """A feed of samples: one node's, by one metric.

    Args:
        settings: the URL up to its query, and the metric.
        node: its name there, if the settings do not tell it.
        clock: the wall clock says up to when to ask; it paces nothing.
        deadline_s: for one question.
    """

    name = "kwollect"

    def __init__(self, settings: config.Kwollect, node: str, clock: Clock, deadline_s: float) -> None:
        self.problem: str | None = None
        self._settings = settings
        self._node = settings.node or node
        self._clock = clock
        self._deadline_s = deadline_s
        self._web: Web | None = None
        self._was_there = False

    def fetch(self, since_ns: int | None) -> list[Named] | Absent | Failed:
        """Samples since a time of the meter's clock.

        Args:
            since_ns: in ns since the epoch; None: the last minute.

        Returns:
            Samples, some of them perhaps known already; why there are none where the server is at fault.
        """
        self.problem = None
        try:
            found = self._ask(since_ns)
        except WebError as error:
            # The query holds the time: a reason that changes with each poll would be a new one each time.
            why = re.sub(r"\?[^\s:]*", "", str(error))
            return Absent(why) if error.status in FORBIDDEN else Failed(why)
        if not isinstance(found, list):
            return Failed(f"{self._settings.url}: the answer is not a list of records")
        samples = self._samples(found)
        if not samples and not self._was_there and self.problem is None:
            self.problem = f"{self._settings.url}: no {self._settings.metric} of {self._node}"
            return Absent(self.problem)
        self._was_there = True
        return samples

    def _ask(self, since_ns: int | None) -> object:
        settings, now_s = self._settings, self._clock.wall_s()
        if self._web is None:
            self._web = Web(
                settings.url,
                username=settings.username,
                password_file=settings.password_file,
                ca_file=settings.ca_file,
                deadline_s=self._deadline_s,
            )
        start_s = now_s - BACK_S if since_ns is None else max(since_ns / NS, now_s - HISTORY_S)
        return self._web.get_json(
            settings.url,
            params={
                "nodes": self._node,
                "metrics": settings.metric,
                # Seconds since the epoch: a time without an offset would be the server's local one.
                "start_time": str(math.floor(start_s)),
                "end_time": str(math.ceil(max(start_s, now_s) + AHEAD_S)),
            },
        )

    def _samples(self, found: list[object]) -> list[Named]:
        samples: list[Named] = []
        bad: list[str] = []
        for one in found:
            try:
                record = msgspec.convert(one, _Record)
                if record.device_id == self._node and record.metric_id == self._settings.metric:
                    samples.append((_outlet(record.labels), _sample(record)))
            except (msgspec.ValidationError, ValueError) as error:
                bad.append(f"record {_named(one)}: {error}")
        if bad:
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            self.problem = f"{self._settings.url}: {bad[0]}{more}"
        return samples

    def close(self) -> None:
        """Close the connection."""
        if self._web is not None:
            self._web.close()


def _sample(record: _Record) -> Sample:
    return Sample(checked_w(record.value), stamp_ns(str(record.timestamp)))


def _named(record: object) -> str:
    return str(record.get("timestamp"))[:40] if isinstance(record, dict) else repr(record)[:40]


def _outlet(labels: object) -> str:
    """What tells two series of one node apart: the outlet, and labels that the site has given it."""
    if not isinstance(labels, dict):
        return ""
    kept = {name: value for name, value in labels.items() if name == "_device_orig" or not name.startswith("_")}
    return msgspec.json.encode(kept, order="sorted").decode() if kept else ""
