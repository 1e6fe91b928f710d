"""Users take turns, each with so much at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from tests.service.running import ENOUGH_S, until

from jobimpact.service.turns import Turns


def started(turns: Turns, threads: int) -> list[threading.Thread]:
    found = [threading.Thread(target=turns.do_all, daemon=True) for _ in range(threads)]
    for one in found:
        one.start()
    return found


def ended(turns: Turns, threads: list[threading.Thread]) -> None:
    turns.close()
    for one in threads:
        one.join(ENOUGH_S)
        assert not one.is_alive()


def test_another_user_does_not_wait_for_all_of_ones_questions() -> None:
    """With one thread: the second user's only question comes after the first user's first, not after their last."""
    turns, done = Turns(1), list[str]()

    def say(word: str) -> Callable[[], None]:
        return lambda: done.append(word)

    for number in range(5):
        turns.put("a", say(f"a{number}"))
    turns.put("b", say("b"))
    threads = started(turns, 1)
    until(lambda: len(done) == 6)
    ended(turns, threads)
    assert done == ["a0", "b", "a1", "a2", "a3", "a4"]


def test_slow_questions_of_one_user_leave_threads_to_others() -> None:
    """Two of theirs at once, and no more; the rest is done in the end."""
    turns, go = Turns(2), threading.Event()
    at_work, done = list[int](), list[str]()

    def slow(number: int) -> Callable[[], None]:
        def work() -> None:
            at_work.append(number)
            assert go.wait(ENOUGH_S)
            done.append("a")

        return work

    for number in range(6):
        turns.put("a", slow(number))
    threads = started(turns, 4)
    until(lambda: len(at_work) == 2)
    turns.put("b", lambda: done.append("b"))
    until(lambda: done == ["b"])
    assert len(at_work) == 2
    go.set()
    until(lambda: len(done) == 7)
    ended(turns, threads)


def test_what_is_held_is_a_turn() -> None:
    """Without a thread: the user's next waits until it is let go, and another's does not."""
    turns, done = Turns(1), list[str]()
    turns.hold("a")
    turns.put("a", lambda: done.append("a"))
    turns.put("b", lambda: done.append("b"))
    threads = started(turns, 2)
    until(lambda: bool(done))
    assert done == ["b"]
    turns.let_go("a")
    until(lambda: done == ["b", "a"])
    ended(turns, threads)


def test_work_that_fails_takes_no_thread_along(caplog: pytest.LogCaptureFixture) -> None:
    """The next is done by the same one, and the log says what happened."""
    turns, done = Turns(1), list[str]()

    def fail() -> None:
        raise EOFError("who knows")

    turns.put("a", fail)
    turns.put("a", lambda: done.append("a"))
    threads = started(turns, 1)
    until(lambda: done == ["a"])
    ended(turns, threads)
    assert "who knows" in caplog.text
