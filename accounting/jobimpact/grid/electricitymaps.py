"""Electricity Maps: carbon intensity of what a zone consumes, imports included, life-cycle, hour by hour.

Documented at https://app.electricitymaps.com/developer-hub/api: `carbon-intensity/past-range`, ten days at most at
hourly granularity. The basis is asked for, and looked for in the answer.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from jobimpact.core.config import Grid as Config
from jobimpact.core.errors import ConfigError, GridError
from jobimpact.grid.base import HOUR_S, Answer, Collected, Slot, number, seconds
from jobimpact.grid.web import Body, Web, read_json, read_token

__all__ = ["ElectricityMaps"]


class ElectricityMaps:
    """One zone, as Electricity Maps tells it.

    Args:
        config: the section `grid`, with its own section.

    Raises:
        ConfigError: its section is missing, or url, ca_file or token_file is of no use.
    """

    name = "electricitymaps"
    basis: Literal["lifecycle", "direct"] = "lifecycle"
    chunk_s = 10 * 24 * HOUR_S
    changes = False

    def __init__(self, config: Config) -> None:
        own = config.electricitymaps
        if own is None:
            raise ConfigError("grid.electricitymaps: its settings are missing")
        self.key = own.zone
        self._token = read_token(own.token_file, "grid.electricitymaps")
        self._web = Web(
            own.url, "grid.electricitymaps", ca_file=own.ca_file, deadline_s=config.deadline_s, token=self._token
        )

    def ask(self, from_s: int, to_s: int) -> Answer:
        """The hours of [from_s, to_s).

        Raises:
            GridError: no answer, or none that can be used: another zone, another basis.
        """
        params = {
            "zone": self.key,
            "start": _iso(from_s),
            "end": _iso(to_s),
            "emissionFactorType": "lifecycle",
            "temporalGranularity": "hourly",
        }
        headers = {"auth-token": self._token, "Accept": "application/json"}
        body = self._web.get("/carbon-intensity/past-range", params, headers).success()
        whole = read_json(body)
        rows = whole.get("data") if isinstance(whole, dict) else None
        if not isinstance(whole, dict) or not isinstance(rows, list):
            raise GridError(f"{body.shown}: the answer has no list `data`")
        found = Collected(from_s, to_s)
        for row in rows:
            if not isinstance(row, dict):
                raise GridError(f"{body.shown}: a row is not an object")
            self._check(body, {**whole, **row})
            self._add(row, found)
        return found.answer()

    def _check(self, body: Body, said: dict[str, object]) -> None:
        """One wrong row spoils the answer: that which asks right and is told wrong cannot know what else is."""
        expected = {"zone": self.key, "emissionFactorType": "lifecycle"}
        if said.get("temporalGranularity") is not None:
            expected["temporalGranularity"] = "hourly"
        for name, value in expected.items():
            if said.get(name) != value:
                got = self._web.clean(repr(said[name])) if name in said else "not told"
                raise GridError(f"{body.shown}: asked for {name} {value}, and the answer's is {got}")

    def _add(self, row: dict[str, object], found: Collected) -> None:
        start, value = seconds(row.get("datetime")), row.get("carbonIntensity")
        if start is None or start % HOUR_S:
            found.refuse("not the start of an hour", self._web.clean(f"datetime = {row.get('datetime')!r}"))
        elif value is not None:
            grams = number(value)
            if grams is None:
                found.refuse("not a carbon intensity", self._web.clean(f"carbonIntensity = {value!r}"), start)
            else:
                # What does not say that it is final is not.
                found.add(Slot(start, HOUR_S, grams / 1000, estimated=row.get("isEstimated") is not False))


def _iso(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
