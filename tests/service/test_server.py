"""The service under clients that do what they should not: each costs itself, and nobody else."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.service.running import (
    ENOUGH_S,
    List,
    ask_raw,
    connected,
    header,
    me,
    received,
    result,
    running,
    service_at,
    until,
)

from jobimpact.answers.query import Answerer, Answers, Group, Period, PeriodQuery, Query, Who
from jobimpact.answers.remote import RemoteAnswers
from jobimpact.answers.wire import MAX_REQUEST, PROTOCOL, Ask, Reply, Request, framed
from jobimpact.core.config import Service
from jobimpact.core.errors import StoreError
from jobimpact.service.desk import Desk
from jobimpact.service.server import Limits

OURS, THEIRS = "1", "2"
FULL = Limits(ask_s=ENOUGH_S)


def jobs() -> list[Any]:
    return [result(OURS, user=me()), result(THEIRS, user="somebody-else")]


def answers(service: Service, *ids: str) -> list[list[str]]:
    """The ids of the jobs in each group."""
    found = RemoteAnswers(service).jobs(Query(ids))
    return [[job.job_id for job in group.jobs] for group in found.groups]


def test_an_answer_arrives_as_it_was_given(tmp_path: Path) -> None:
    """All of a row, over the socket."""
    with running(tmp_path, jobs()) as service:
        remote = RemoteAnswers(service)
        assert remote.jobs(Query((OURS,))) == Answers((Group(OURS, (jobs()[0],)),))
        details = remote.details("lab", jobs()[0].key)
        assert details.profile is not None
        assert (details.profile.watts, details.progress[0].metrics) == ({"cpu": (2.5,)}, {"acc": 0.5})
        assert remote.details("lab", "no such").profile is None


def test_the_kernels_word_counts_and_not_the_clients(tmp_path: Path) -> None:
    """Whatever uid, name or rights a request claims, it is answered for who the kernel says."""
    claims = {
        "uid": 0,
        "name": "root",
        "who": {"uid": 0, "name": "root", "admin": True},
        "admin": True,
        "user": "root",
    }
    ask = {"type": "jobs", "ids": [OURS, THEIRS], "users": []} | claims
    body = json.dumps({"version": PROTOCOL, "ask": ask} | claims).encode()
    seen = list[Who]()

    def answers_for(who: Who) -> Answerer:
        seen.append(who)
        return List(who, jobs())

    with running(tmp_path, answers_for=answers_for) as service:
        ask_raw(service, body)
    assert [who.uid for who in seen] == [os.geteuid()]


GARBAGE = {
    "nothing": b"",
    "not json": b"\xff\xfe\0",
    "another document": b"[1, 2]",
    "no question": b'{"version": 1}',
    "an unknown question": b'{"version": 1, "ask": {"type": "all"}}',
    "wrong types": b'{"version": 1, "ask": {"type": "jobs", "ids": "123", "rows": "x"}}',
    "deep": b'{"version": 1, "ask": ' + b"[" * 100_000,
    "an old version": b'{"version": -7, "ask": {"type": "jobs"}}',
    "a far version": b'{"version": 99, "ask": {"type": "jobs"}}',
}


@pytest.mark.parametrize("body", GARBAGE.values(), ids=list(GARBAGE))
def test_garbage_is_refused_in_words(tmp_path: Path, body: bytes) -> None:
    """And the next question is answered."""
    with running(tmp_path, jobs()) as service:
        reply = ask_raw(service, body)
        assert (reply.answers, bool(reply.error)) == (None, True)
        assert reply.kind in {"request", "version"}
        assert answers(service, OURS) == [[OURS]]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some=st.binary(max_size=300))
def test_any_bytes_leave_it_standing(tmp_path: Path, some: bytes) -> None:
    """Framed or not."""
    with running(tmp_path, jobs()) as service:
        with connected(service) as sock:
            sock.sendall(some)
            sock.shutdown(socket.SHUT_WR)
            received(sock)
        assert answers(service, OURS) == [[OURS]]


@pytest.mark.parametrize("length", [MAX_REQUEST + 1, 2**32 - 1])
def test_a_huge_request_is_refused_by_its_length(tmp_path: Path, length: int) -> None:
    """Before it is read, in words."""
    with running(tmp_path, jobs()) as service, connected(service) as sock:
        sock.sendall(header(length))
        assert f"{length} bytes is too long" in received(sock).decode()
        assert answers(service, OURS) == [[OURS]]


def test_the_largest_request_is_taken(tmp_path: Path) -> None:
    """Up to the limit, and what is a byte longer is not even sent."""
    length = len(msgspec.json.encode(Request(PROTOCOL, Query(("1", "")))))
    fits = "x" * (MAX_REQUEST - length)
    with running(tmp_path, jobs()) as service:
        assert answers(service, OURS, fits) == [[OURS], []]
        with pytest.raises(StoreError, match="fewer jobs"):
            answers(service, OURS, fits + "x")


def test_very_many_ids_are_as_many_questions_as_they_take(tmp_path: Path) -> None:
    """Each is answered, in the order in which they were asked for."""
    ids = [str(number) for number in range(2500)]
    every = [result(job, user=me()) for job in ids[::100]]
    with running(tmp_path, every) as service:
        found = RemoteAnswers(service).jobs(Query(tuple(ids)))
    assert [group.asked for group in found.groups] == ids
    assert [job.job_id for group in found.groups for job in group.jobs] == ids[::100]


def test_who_says_nothing_is_left_behind(tmp_path: Path) -> None:
    """It is closed after its time, and meanwhile others are answered."""
    with running(tmp_path, jobs(), limits=Limits(ask_s=0.2)) as service:
        with connected(service) as silent, connected(service) as half:
            half.sendall(header(100) + b"{")
            until(lambda: _answers(service))
            assert (received(silent), received(half)) == (b"", b"")
        until(lambda: _answers(service))


def test_where_all_places_are_taken_the_oldest_silent_one_goes(tmp_path: Path) -> None:
    """More half-open connections than there are places: a question is answered, at the cost of the first of them."""
    limits = Limits(connections=4, ask_s=ENOUGH_S)
    with running(tmp_path, jobs(), limits=limits) as service:
        silent = [connected(service) for _ in range(4)]
        assert answers(service, OURS) == [[OURS]]
        assert received(silent[0]) == b""
        for one in silent:
            one.close()


def test_one_user_does_not_take_all_places(tmp_path: Path) -> None:
    """Beyond their part they are closed at once."""
    with running(tmp_path, jobs(), limits=Limits(each_open=2, ask_s=ENOUGH_S)) as service:
        first, second = connected(service), connected(service)
        with connected(service) as third:
            assert received(third) == b""
        first.close()
        until(lambda: _answers(service))
        second.close()


def _answers(service: Service) -> bool:
    try:
        return answers(service, OURS) == [[OURS]]
    except StoreError:
        return False


def test_two_hundred_at_once(tmp_path: Path) -> None:
    """Each gets an answer, and its own."""
    every = [result(str(number), user=me()) for number in range(200)]
    with running(tmp_path, every) as service, ThreadPoolExecutor(200) as pool:
        found = list(pool.map(lambda job: answers(service, job.job_id), every))
    assert found == [[[job.job_id]] for job in every]


def test_who_hangs_up_is_not_worked_for(tmp_path: Path) -> None:
    """Questions that wait behind a slow one are passed over when nobody waits for them any more."""
    begun, go = threading.Event(), threading.Event()
    asked = list[str]()

    class Slow(List):
        def jobs(self, query: Query) -> Answers:
            asked.append(query.ids[0])
            begun.set()
            assert go.wait(ENOUGH_S)
            return super().jobs(query)

    limits = Limits(each_busy=1)
    with running(tmp_path, limits=limits, answers_for=lambda who: Slow(who, jobs())) as service:
        with connected(service) as first:
            first.sendall(_request("slow"))
            assert begun.wait(ENOUGH_S)
            for _ in range(3):
                with connected(service) as gone:
                    gone.sendall(_request("gone"))
            last = connected(service)
            last.sendall(_request(OURS))
            go.set()
            assert received(first)
        assert received(last)
        last.close()
    assert asked == ["slow", OURS]


def _request(job: str) -> bytes:
    return framed(msgspec.json.encode(Request(PROTOCOL, Query((job,)))))


def test_who_does_not_read_costs_no_thread(tmp_path: Path) -> None:
    """Answers that are too long for any buffer, and nobody takes: another is answered by the only thread."""
    long = [result(OURS, user=me(), name="x" * (8 << 20))]
    with running(tmp_path, long, limits=Limits(threads=1, take_s=ENOUGH_S)) as service:
        deaf = [connected(service) for _ in range(3)]
        for one in deaf:
            one.sendall(_request(OURS))
        assert answers(service, "none") == [[]]
        for one in deaf:
            one.close()


def test_answers_that_nobody_takes_are_no_more_than_turns(tmp_path: Path) -> None:
    """Each is in memory until it is taken: one user's fifth is not made while four wait. And then it is."""
    long = [result(OURS, user=me(), name="x" * (8 << 20))]
    made = list[Who]()
    limits = Limits(take_s=ENOUGH_S, each_busy=4)
    with running(tmp_path, limits=limits, answers_for=lambda who: List(who, long, made.append)) as service:
        deaf = [connected(service) for _ in range(6)]
        for one in deaf:
            one.sendall(_request(OURS))
        until(lambda: len(made) == 4)
        for one in deaf[:4]:
            assert one.recv(1)
        with connected(service) as last:  # answered without a turn, and after the others have been heard
            last.sendall(header(MAX_REQUEST + 1))
            assert b"too long" in received(last)
        assert len(made) == 4
        for one in deaf[:2]:
            one.close()
        until(lambda: len(made) == 6)
        for one in deaf[2:]:
            one.close()


def test_a_long_answer_arrives_whole(tmp_path: Path) -> None:
    """Many times a socket's buffer."""
    long = [result(OURS, user=me(), name="x" * (8 << 20))]
    with running(tmp_path, long) as service:
        (group,) = RemoteAnswers(service).jobs(Query((OURS,))).groups
    assert group.jobs == tuple(long)


def test_a_client_that_never_takes_its_answer_is_left(tmp_path: Path) -> None:
    """After its time the connection is closed in mid answer."""
    long = [result(OURS, user=me(), name="x" * (8 << 20))]
    with running(tmp_path, long, limits=Limits(take_s=0.2)) as service, connected(service) as deaf:
        deaf.sendall(_request(OURS))
        until(lambda: _closed(deaf))
        assert len(received(deaf)) < 8 << 20


def _closed(sock: socket.socket) -> bool:
    """Whether the other side has gone, nothing of what it sent being read."""
    try:
        sock.send(b"x", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


@pytest.mark.parametrize(
    ("error", "said"), [(StoreError("the file is torn"), "torn"), (ValueError("secret"), "its log")]
)
def test_what_cannot_be_answered_is_said(
    tmp_path: Path, error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Our own errors in their words; a bug's stay in the log, and the service goes on."""

    class Broken(List):
        def jobs(self, query: Query) -> Answers:
            if query.ids == (THEIRS,):
                raise error
            return super().jobs(query)

    with running(tmp_path, answers_for=lambda who: Broken(who, jobs())) as service:
        with pytest.raises(StoreError, match=said) as raised:
            answers(service, THEIRS)
        assert answers(service, OURS) == [[OURS]]
    assert "secret" not in str(raised.value)
    assert ("secret" in caplog.text) == isinstance(error, ValueError)


def test_a_job_of_others_stops_the_whole_answer(tmp_path: Path) -> None:
    """Where a bug would tell of another's job, nothing is told."""
    desk = Desk(lambda uid: Who(uid, me()), lambda _: List(Who(0, "root", admin=True), jobs()))
    body = msgspec.json.encode(Request(PROTOCOL, Query((OURS, THEIRS))))
    reply = desk.answer(1, body)
    assert b"somebody-else" not in reply
    assert b"could not answer" in reply
    assert b'"answers"' in desk.answer(1, msgspec.json.encode(Request(PROTOCOL, Query((OURS,)))))


@pytest.mark.parametrize(
    ("ids", "rows", "given"),
    [(0, 10**12, 20_000), (0, -1, 0), (1, 2000, 2000), (1, 10**6, 20_000), (100, 2000, 200), (1000, 2000, 20)],
)
def test_a_question_costs_no_more_than_it_may(ids: int, rows: int, given: int) -> None:
    """So many jobs in full, over all its ids; of more the sums."""
    asked = list[Ask]()
    reply = _desk(asked).answer(1, _query(ids, rows))
    assert (msgspec.json.decode(reply, type=Reply).error, [one.rows for one in asked if isinstance(one, Query)]) == (
        None,
        [given],
    )


def test_a_question_for_very_many_ids_is_refused() -> None:
    """In words."""
    asked = list[Ask]()
    reply = msgspec.json.decode(_desk(asked).answer(1, _query(1001, 1)), type=Reply)
    assert (reply.error, asked) == ("1001 ids: ask for 1000 at once at most", [])


@pytest.mark.parametrize(("before", "given"), [(3, 3), (10**9, 60), (-5, 0)])
def test_the_past_has_an_end(before: int, given: int) -> None:
    """A time is compared with so many before it."""
    asked = list[Ask]()
    ask = PeriodQuery("user", me(), 0.0, 1.0, before)
    _desk(asked).answer(1, msgspec.json.encode(Request(PROTOCOL, ask)))
    assert [one.before for one in asked if isinstance(one, PeriodQuery)] == [given]


def _query(ids: int, rows: int) -> bytes:
    return msgspec.json.encode(Request(PROTOCOL, Query(tuple(map(str, range(ids))), rows=rows)))


def _desk(asked: list[Ask]) -> Desk:
    class Noting(List):
        def jobs(self, query: Query) -> Answers:
            asked.append(query)
            return super().jobs(query)

        def period(self, query: PeriodQuery) -> Period:
            asked.append(query)
            return super().period(query)

    return Desk(lambda uid: Who(uid, me()), lambda who: Noting(who, []))


def test_its_end_takes_the_socket_away_and_finishes_what_is_under_way(tmp_path: Path) -> None:
    """An answer that is being put together when the service is stopped arrives; a new question finds nobody."""
    begun, go = threading.Event(), threading.Event()

    def wait(who: Who) -> None:
        begun.set()
        assert go.wait(ENOUGH_S)

    limits = Limits(end_s=ENOUGH_S)
    with ThreadPoolExecutor(1) as pool:
        with running(tmp_path, limits=limits, answers_for=lambda who: List(who, jobs(), wait)) as service:
            answer = pool.submit(answers, service, OURS)
            assert begun.wait(ENOUGH_S)
            threading.Timer(0.05, go.set).start()
        assert answer.result(ENOUGH_S) == [[OURS]]
    assert not Path(service.socket).exists()
    with pytest.raises(StoreError, match="no such socket"):
        answers(service, OURS)


def test_more_connections_than_descriptors(tmp_path: Path) -> None:
    """Where the process has no descriptor left it waits, and goes on when there are some."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with running(tmp_path, jobs(), limits=FULL) as service:
        assert answers(service, OURS) == [[OURS]]
        waiting = connected(service)
        used = max(int(one) for one in os.listdir("/proc/self/fd")) + 1
        filled = list[socket.socket]()
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, hard))
        try:
            while True:
                filled.append(socket.socket(socket.AF_UNIX))
        except OSError:
            filled.pop().connect(service.socket)  # one is let in at most, and there is none to spare
        finally:
            for one in filled:
                one.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert answers(service, OURS) == [[OURS]]
        waiting.sendall(_request(OURS))
        assert received(waiting)
        waiting.close()


def test_the_peers_number_is_the_kernels() -> None:
    """Three numbers, of which the second is the uid."""
    here, _ = socket.socketpair()
    assert struct.unpack("iII", here.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1] == os.geteuid()


def test_where_nobody_listens(tmp_path: Path) -> None:
    """A socket's file without a service says so, and one that is not there, too."""
    path = tmp_path / "answers.sock"
    with pytest.raises(StoreError, match="no such socket"):
        answers(service_at(str(path)), OURS)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(StoreError, match="jobimpact serve"):
        answers(service_at(str(path)), OURS)
