"""HTTP for meters: deadlines over whole requests, redirects, and connections that servers drop."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from jobimpact_daemon.sources.web import Web, WebError

Answering = Callable[[socket.socket, str], None]


@contextmanager
def serving(answer: Answering) -> Iterator[tuple[str, list[str]]]:
    """A server that reads a request and lets `answer` do as it likes; its URL, and the request lines so far."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[str] = []

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=[client], daemon=True).start()

    def talk(client: socket.socket) -> None:
        with client:
            request = client.recv(65536).decode("latin-1")
            asked.append(request.partition("\r\n")[0])
            try:
                answer(client, request)
            except OSError:
                return  # the client gave up

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api", asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def full(body: str, status: str = "200 OK", *headers: str) -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", body]
    return "\r\n".join(lines).encode()


def test_paths_and_parameters() -> None:
    """A relative path is below the base, an absolute one at the root; parameters are encoded."""
    with serving(lambda client, _: client.sendall(full("{}"))) as (url, asked):
        web = Web(url, deadline_s=5)
        web.get_json("metrics", params={"nodes": "n 1&x"})
        web.get_json("/redfish/v1/")
        assert asked == ["GET /api/metrics?nodes=n+1%26x HTTP/1.1", "GET /redfish/v1/ HTTP/1.1"]


def test_dropped_connection_is_opened_anew() -> None:
    """A server that closes the idle connection without a word costs no reading."""
    with serving(lambda client, _: client.sendall(full("[1]"))) as (url, asked):
        web = Web(url, deadline_s=5)
        for _ in range(3):
            assert web.get_json("x") == [1]
            time.sleep(0.05)
        assert len(asked) == 3


def test_headers_that_drip_are_late() -> None:
    """The deadline is over the whole request: a byte now and then does not push it back."""

    def drip(client: socket.socket, _: str) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        for _ in range(1200):
            client.sendall(b"a")
            time.sleep(0.05)

    with serving(drip) as (url, _):
        start = time.monotonic()
        with pytest.raises(WebError, match="no answer within deadline_s"):
            Web(url, deadline_s=0.3).get_json("x")
        assert time.monotonic() - start < 30


def test_redirects() -> None:
    """One on the same server is followed; a circle ends; another server gets no credentials."""

    def answer(client: socket.socket, request: str) -> None:
        path = request.split()[1]
        to = {"/old": "/new", "/round": "/round", "/away": "http://127.0.0.1:9/new"}.get(path)
        client.sendall(full("1") if to is None else full("", "301 Moved", f"Location: {to}"))

    with serving(answer) as (url, asked):
        web = Web(url, username="u", deadline_s=5)
        assert web.get_json("/old") == 1
        with pytest.raises(WebError, match="redirected more than 3 times"):
            web.get_json("/round")
        with pytest.raises(WebError, match="leads to another server"):
            web.get_json("/away")
        assert len(asked) == 2 + 4 + 1


def test_deep_and_odd_bodies_are_not_json() -> None:
    """Whatever a server sends, the error is ours and names the URL."""
    for body in ("[" * 100_000, "NaN", "", "\x00", '{"a": 1} x'):
        with (
            serving(lambda client, _, body=body: client.sendall(full(body))) as (url, _),  # type: ignore[misc]
            pytest.raises(WebError, match="not JSON") as caught,
        ):
            Web(url, deadline_s=5).get_json("x")
        assert url in str(caught.value)


def test_status_is_told_with_what_it_means() -> None:
    """The number, and a word for an administrator."""
    with (
        serving(lambda client, _: client.sendall(full("{}", "403 Forbidden"))) as (url, _),
        pytest.raises(WebError, match=r"HTTP 403 \(not allowed") as caught,
    ):
        Web(url, deadline_s=5).get_json("x")
    assert caught.value.status == 403
