"""A library that may hang with its driver: asked on a thread of its own, and waited for until a deadline.

ctypes lets other threads run during a call. A daemon thread may hang for ever: it ends with the process, which a
pool's thread would keep from ending.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

__all__ = ["Driver"]

Task = Callable[[], None]


class _Question:
    def __init__(self, task: Task) -> None:
        self.task = task
        self.error: str | None = None
        self.answered = threading.Event()


class Driver:
    """One thread, on which everything is asked.

    Args:
        name: of the library, for people.
        deadline_s: how long an answer may take.
    """

    def __init__(self, name: str, deadline_s: float) -> None:
        self._name = name
        self._deadline_s = deadline_s
        self._waiting: tuple[_Question, float] | None = None
        self._start()

    def ask(self, task: Task) -> str | None:
        """Do something on the thread, and wait for its end until the deadline; if it is still stuck, not at all.

        A task leaves its results in an object of its own: what comes late is then nobody's reading of now.

        Returns:
            Why it was not done, in plain words; None: it was.
        """
        if self._waiting is None or self._waiting[0].answered.is_set():
            question, since = self._waiting = _Question(task), time.monotonic()
            self._tasks.put(question)
            question.answered.wait(self._deadline_s)
        question, since = self._waiting
        if not question.answered.is_set():
            return f"timeout: the driver has not answered for {time.monotonic() - since:.1f} s"
        self._waiting = None
        return question.error

    def replace(self) -> None:
        """Leave a stuck thread behind, which ends when its call comes back, and go on with a new one."""
        self._tasks.put(None)
        self._waiting = None
        self._start()

    def close(self, last: Task) -> None:
        """End the thread after a last task, without waiting; a hung one ends with the process."""
        self._tasks.put(_Question(last))
        self._tasks.put(None)

    def _start(self) -> None:
        self._tasks: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, args=(self._tasks,), name=self._name, daemon=True).start()

    def _work(self, tasks: queue.SimpleQueue[_Question | None]) -> None:
        while (question := tasks.get()) is not None:
            try:
                question.task()
            except Exception as error:  # noqa: BLE001 (the top of a thread: unanswered, it would look like a hang)
                question.error = f"{self._name}: {error!r}"
            question.answered.set()
