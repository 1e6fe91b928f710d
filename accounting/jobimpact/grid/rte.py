"""RTE's eCO2mix, by the data portal of the French networks: France, direct emissions of generation, quarter hours.

Recent values are in one data set and consolidated ones in another, which has half hours only; a time is in one of
them. Documented at https://odre.opendatasoft.com/explore/dataset/eco2mix-national-tr/ and, for the questions,
https://help.opendatasoft.com/apis/ods-explore-v2/ ("exports": no limit on rows; where a portal has none, "records", a
hundred at a time). Asked in UTC, so that the nights on which clocks change are like any other.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from jobimpact.core.config import Grid as Config
from jobimpact.core.errors import ConfigError, GridError
from jobimpact.grid.base import HOUR_S, Answer, Collected, Slot, number, seconds
from jobimpact.grid.slots import hourly
from jobimpact.grid.web import Body, Web, read_json

__all__ = ["Rte"]

_EXPORTS = "/api/explore/v2.1/catalog/datasets/{}/exports/json"
_RECORDS = "/api/explore/v2.1/catalog/datasets/{}/records"
_PAGE = 100
_DATASETS = ("eco2mix-national-tr", "eco2mix-national-cons-def")
_JSON = {"Accept": "application/json"}
_NOT_FOUND = 404
_SLOT_S = 900


class Rte:
    """France, as RTE tells it.

    Args:
        config: the section `grid`.

    Raises:
        ConfigError: the zone is not France, or the url is of no use.
    """

    name = "rte"
    key = "FR"
    basis: Literal["lifecycle", "direct"] = "direct"
    chunk_s = 31 * 24 * HOUR_S
    changes = False

    def __init__(self, config: Config) -> None:
        if config.zone != "FRA":
            raise ConfigError(f"grid.provider: rte tells of France: grid.zone must be FRA, and is {config.zone}")
        self._web = Web(config.rte.url, "grid.rte", ca_file=config.rte.ca_file, deadline_s=config.deadline_s)

    def ask(self, from_s: int, to_s: int) -> Answer:
        """The quarter hours of [from_s, to_s).

        Raises:
            GridError: no answer, or none that can be used.
        """
        found = Collected(from_s, to_s)
        for dataset in _DATASETS:
            try:
                self._ask_one(dataset, from_s, to_s, found)
            except GridError as error:
                if not found.answer().slots:
                    raise
                found.refuse("only a part of it answers", str(error))
            if len(hourly(found.answer().slots)) * HOUR_S == to_s - from_s:
                break
        return found.answer()

    def _ask_one(self, dataset: str, from_s: int, to_s: int, found: Collected) -> None:
        params = {
            "select": "date_heure,taux_co2",
            "where": f"date_heure IN [date'{_iso(from_s)}' TO date'{_iso(to_s - 1)}']",
            "order_by": "date_heure",
            "timezone": "UTC",
        }
        body = self._web.get(_EXPORTS.format(dataset), params, _JSON)
        if body.status == _NOT_FOUND:
            self._ask_by_pages(dataset, params, found, body)
            return
        rows = read_json(body.success())
        if not isinstance(rows, list):
            raise GridError(f"{body.shown}: the answer is not a list of rows")
        self._take(body, rows, found)

    def _ask_by_pages(self, dataset: str, params: dict[str, str], found: Collected, exports: Body) -> None:
        offset, count = 0, 1
        while offset < count:
            page = {"limit": str(_PAGE), "offset": str(offset)}
            body = self._web.get(_RECORDS.format(dataset), params | page, _JSON)
            if body.status == _NOT_FOUND:
                exports.success()  # neither is there: the first one's word
            answer = read_json(body.success())
            rows, count_told = (
                (answer.get("results"), answer.get("total_count")) if isinstance(answer, dict) else (None, None)
            )
            if not isinstance(rows, list) or not isinstance(count_told, int):
                raise GridError(f"{body.shown}: the answer has no results, or no total_count")
            self._take(body, rows, found)
            if not rows:
                break
            offset, count = offset + len(rows), count_told

    def _take(self, body: Body, rows: list[object], found: Collected) -> None:
        for row in rows:
            if not isinstance(row, dict) or "taux_co2" not in row:
                raise GridError(f"{body.shown}: a row has no taux_co2")
            self._add(row.get("date_heure"), row["taux_co2"], found)

    def _add(self, when: object, value: object, found: Collected) -> None:
        start = seconds(when)
        if start is None or start % _SLOT_S:
            found.refuse("not the start of a quarter hour", self._web.clean(f"date_heure = {when!r}"))
        # Not measured yet is null, and at times 0, which France's never is.
        elif value is not None and value != 0:
            grams = number(value)
            if grams is None:
                found.refuse("not a carbon intensity", self._web.clean(f"taux_co2 = {value!r}"), start)
            else:
                found.add(Slot(start, _SLOT_S, grams / 1000))


def _iso(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat()
