"""Where a question becomes an answer: who asks is known already, and what they ask is not trusted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from jobimpact.answers.access import may_see
from jobimpact.answers.query import Answerer, DetailsQuery, PeriodQuery, Query, Who
from jobimpact.answers.wire import MAX_REPLY, MOST_IDS, PROTOCOL, Ask, Reply, Request, version_trouble
from jobimpact.core.errors import JobImpactError, StoreError, UnknownError

__all__ = ["Desk", "refusal"]

_LOG = logging.getLogger(__name__)
_HERE, _THERE = "the accounting host", "the host that asks"
MOST_ROWS = 20_000
"""Jobs in full in one answer: they are all in memory at once."""
_FEW_ROWS = 20
_MOST_BEFORE = 60


class Desk:
    """Answers for the users whom the kernel or munge name.

    Args:
        who_is: what is known of a uid.
        answers_for: where their answers come from; one for each question, and closed after it.
        rules: what replies tell of the configuration.
    """

    def __init__(
        self,
        who_is: Callable[[int], Who],
        answers_for: Callable[[Who], Answerer],
        rules: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        self._who_is = who_is
        self._answers_for = answers_for
        self._rules = rules

    def answer(self, uid: int, body: bytes) -> bytes:
        """Answer a request.

        Args:
            uid: who asks.
            body: their words.

        Returns:
            A reply; one that says what is wrong, if there is no answer.
        """
        try:
            trouble = version_trouble(body, _HERE, _THERE)
            if trouble is not None:
                return refusal("version", trouble)
            request = msgspec.json.decode(body, type=Request)
        except (msgspec.MsgspecError, RecursionError) as error:
            words = f"not a question that this release knows ({error}): is jobimpact newer there than here?"
            return refusal("request", words)
        try:
            return self._answered(self._who_is(uid), request)
        except UnknownError as error:
            return refusal("unknown", str(error))
        except JobImpactError as error:
            return refusal("store", str(error))
        except Exception:  # noqa: BLE001 (one question that cannot be answered must not end the service)
            _LOG.exception("a question of uid %d could not be answered", uid)
            return refusal("failed", "the accounting host could not answer; its log says why")

    def _answered(self, who: Who, request: Request) -> bytes:
        source = self._answers_for(who)
        try:
            reply = _asked(source, _bounded(request.ask))
        finally:
            source.close()
        _check(who, reply)
        body = msgspec.json.encode(msgspec.structs.replace(reply, rules=self._rules))
        if len(body) > MAX_REPLY:
            raise StoreError("the answer is too long: ask for fewer jobs at once")
        return body


def refusal(kind: str, words: str) -> bytes:
    """A reply that there is no answer.

    Args:
        kind: of error, as in `Reply`.
        words: a sentence for the user.
    """
    return msgspec.json.encode(Reply(PROTOCOL, error=words, kind=kind))


def _bounded(ask: Ask) -> Ask:
    """A question that costs no more than it may.

    Raises:
        StoreError: it asks for too much.
    """
    if isinstance(ask, Query):
        if len(ask.ids) > MOST_IDS:
            raise StoreError(f"{len(ask.ids)} ids: ask for {MOST_IDS} at once at most")
        most = max(MOST_ROWS // max(len(ask.ids), 1), _FEW_ROWS)
        return msgspec.structs.replace(ask, rows=max(min(ask.rows, most), 0))
    if isinstance(ask, PeriodQuery):
        return msgspec.structs.replace(ask, before=max(min(ask.before, _MOST_BEFORE), 0))
    return ask


def _asked(source: Answerer, ask: Ask) -> Reply:
    if isinstance(ask, PeriodQuery):
        return Reply(PROTOCOL, period=source.period(ask))
    if isinstance(ask, DetailsQuery):
        return Reply(PROTOCOL, details=source.details(ask.cluster, ask.key))
    return Reply(PROTOCOL, answers=source.jobs(ask))


def _check(who: Who, reply: Reply) -> None:
    """Look once more at the jobs that would leave this host.

    Raises:
        StoreError: one is not theirs to see, which is a bug: nothing at all is told.
    """
    groups = reply.answers.groups if reply.answers else ()
    period = reply.period
    told = [job for group in groups for job in group.jobs] + [*(period.worst if period else ())]
    if not all(may_see(who, job) for job in [*told, *(period.most if period else ())]):
        _LOG.error("an answer for uid %d had a job that is not theirs: it was not sent", who.uid)
        raise StoreError("the accounting host could not answer; its log says why")
