"""Whose turn it is: one user's many questions wait behind another's first."""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable

__all__ = ["Turns"]

_LOG = logging.getLogger(__name__)

Work = Callable[[], None]


class Turns:
    """Work for several threads: users in turn, each with so much at once and no more.

    Args:
        each: how much of one user's is done at once.
    """

    def __init__(self, each: int) -> None:
        self._each = each
        self._waiting: OrderedDict[Hashable, deque[Work]] = OrderedDict()
        self._busy: Counter[Hashable] = Counter()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, whose: Hashable, work: Work) -> None:
        """Let a thread do it, when it is this user's turn."""
        with self._changed:
            self._waiting.setdefault(whose, deque()).append(work)
            self._changed.notify()

    def hold(self, whose: Hashable) -> None:
        """One more of this user's is under way, though no thread is at it: until `let_go`."""
        with self._changed:
            self._busy[whose] += 1

    def let_go(self, whose: Hashable) -> None:
        """What was held is over."""
        self._done(whose)

    def do_all(self) -> None:
        """Do work as it comes, until `close`: what a thread runs."""
        while (found := self._take()) is not None:
            whose, work = found
            try:
                work()
            except Exception:  # noqa: BLE001 (the thread must be there for the next user)
                _LOG.exception("a question could not be worked on")
            finally:
                self._done(whose)

    def close(self) -> None:
        """Let the threads go when they have done what they are at."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _take(self) -> tuple[Hashable, Work] | None:
        with self._changed:
            while True:
                if self._closed:
                    return None
                whose = next((one for one in self._waiting if self._busy[one] < self._each), None)
                if whose is not None:
                    break
                self._changed.wait()
            mine = self._waiting[whose]
            work = mine.popleft()
            if mine:
                self._waiting.move_to_end(whose)
            else:
                del self._waiting[whose]
            self._busy[whose] += 1
            return whose, work

    def _done(self, whose: Hashable) -> None:
        with self._changed:
            self._busy[whose] -= 1
            if not self._busy[whose]:
                del self._busy[whose]
            self._changed.notify()
