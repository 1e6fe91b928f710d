"""Frames, versions, and replies in parts."""

from __future__ import annotations

import socket
import threading
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.service.running import ENOUGH_S

from jobimpact.answers.munge import MAX_PAYLOAD
from jobimpact.answers.parts import Joined, parts
from jobimpact.answers.query import DetailsQuery, Query
from jobimpact.answers.wire import (
    PROTOCOL,
    Reply,
    Request,
    framed,
    receive,
    ruled,
    rules_of,
    send,
    split_address,
    version_trouble,
)
from jobimpact.core.config import Config, Findings, Report
from jobimpact.core.errors import CredentialError, StoreError

NONCE = "0123456789abcdef"
BIG = 1 << 24


def soon() -> float:
    return time.monotonic() + ENOUGH_S


def test_a_frame_arrives_whole() -> None:
    """More than fits into any buffer of the kernel's, too."""
    here, there = socket.socketpair()
    body = bytes(range(256)) * 40_000
    sender = threading.Thread(target=send, args=(here, body, soon()))
    sender.start()
    assert receive(there, len(body), soon()) == body
    sender.join()


def test_a_long_frame_is_not_read() -> None:
    """Its length is enough to refuse it."""
    here, there = socket.socketpair()
    here.sendall(framed(b"12345"))
    with pytest.raises(StoreError, match="5 bytes"):
        receive(there, 4, soon())


@pytest.mark.parametrize("some", [b"", b"\0", framed(b"12345")[:-1]])
def test_a_frame_that_breaks_off(some: bytes) -> None:
    """It is no frame."""
    here, there = socket.socketpair()
    here.sendall(some)
    here.close()
    with pytest.raises(EOFError):
        receive(there, 10, soon())


def test_a_deadline_is_over_the_whole_frame() -> None:
    """Bytes that drip in do not begin it anew."""
    here, there = socket.socketpair()
    here.sendall(framed(b"12345")[:6])
    with pytest.raises(TimeoutError):
        receive(there, 10, time.monotonic() + 0.05)
    with pytest.raises(TimeoutError):
        receive(there, 10, time.monotonic() - 1)


@pytest.mark.parametrize("version", [PROTOCOL - 1, PROTOCOL, PROTOCOL + 1])
def test_the_releases_beside_ours_are_understood(version: int) -> None:
    """With fields that we have not."""
    body = msgspec.json.encode({"version": version, "ask": {"type": "details", "cluster": "c", "key": "1", "more": 1}})
    assert version_trouble(body, "a", "b") is None
    assert msgspec.json.decode(body, type=Request).ask == DetailsQuery("c", "1")


@pytest.mark.parametrize(
    ("version", "update"), [(PROTOCOL + 2, "this host"), (10**9, "this host"), (-1, "the other host")]
)
def test_too_far_apart_is_said(version: int, update: str) -> None:
    """Which one is to be updated."""
    found = version_trouble(b'{"version": %d, "ask": [1]}' % version, "this host", "the other host")
    assert found is not None
    assert found.endswith(f"update {update}")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("host.example:1", ("host.example", 1)),
        ("[::1]:8649", ("::1", 8649)),
        ("*:2", ("", 2)),
        ("10.0.0.1:3", ("10.0.0.1", 3)),
    ],
)
def test_addresses(text: str, found: tuple[str, int]) -> None:
    """As the configuration takes them."""
    assert split_address(text) == found


def test_questions_come_back_as_they_were() -> None:
    """Every field of a query."""
    query = Query(("1", "2_3"), ("a",), ("b",), ("c",), 1.5, 2.5, 10, live=False)
    body = msgspec.json.encode(Request(PROTOCOL, query, NONCE))
    assert msgspec.json.decode(body, type=Request) == Request(PROTOCOL, query, NONCE)
    assert msgspec.json.decode(msgspec.json.encode(Reply(PROTOCOL)), type=Reply) == Reply(PROTOCOL)


def joined(payloads: list[bytes], nonce: str = NONCE, most: int = BIG) -> bytes:
    found = Joined(nonce, most)
    for one in payloads:
        assert not found.whole
        found.add(one)
    assert found.whole
    return found.body


@given(st.binary(max_size=2000))
def test_parts_make_the_whole(body: bytes) -> None:
    """Whatever is in it."""
    assert joined(list(parts(NONCE, body))) == body


def random_body() -> bytes:
    """Two parts of it, packed."""
    return __import__("random").Random(1).randbytes(MAX_PAYLOAD + 100_000)


def test_a_long_reply_is_in_several_parts() -> None:
    """Each small enough for munge."""
    payloads = list(parts(NONCE, random_body()))
    assert len(payloads) == 2
    assert max(map(len, payloads)) <= MAX_PAYLOAD
    assert joined(payloads) == random_body()


@pytest.mark.parametrize("wrong", ["order", "twice", "count", "nonce", "garbage", "no head"])
def test_parts_that_do_not_belong(wrong: str) -> None:
    """A part of another reply, or out of its place, is refused."""
    first, second = parts(NONCE, random_body())
    third = {
        "order": [second],
        "twice": [first, first],
        "count": [first, second.replace(b'"of":2', b'"of":3')],
        "nonce": [first, list(parts("f" * 16, random_body()))[1]],
        "garbage": [first, second.partition(b"\n")[0] + b"\n"],
        "no head": [b"\0"],
    }[wrong]
    with pytest.raises(CredentialError):
        joined(third)


def test_a_reply_that_unpacks_to_too_much() -> None:
    """A few bytes that stand for millions are not unpacked."""
    with pytest.raises(CredentialError, match="more than 1000"):
        joined(list(parts(NONCE, bytes(10**7))), most=1000)


def test_findings_and_prices_are_the_accounting_hosts() -> None:
    """Whatever the configuration of the host that asks says of them; the rest of it stays its own."""
    there = Config(findings=Findings(min_run_s=7), report=Report(price_per_kwh=0.2, contact="help"))
    here = Config(cluster="mine", findings=Findings(min_run_s=9, gpu_use=0.9))
    told = ruled(here, msgspec.json.decode(msgspec.json.encode(rules_of(there))))
    assert (told.findings, told.report, told.cluster) == (there.findings, there.report, "mine")


def test_rules_of_another_release_are_taken_as_far_as_they_are_known() -> None:
    """A key that is not known here is left out, a section that is none here keeps one's own."""
    here = Config(findings=Findings(min_run_s=9))
    assert ruled(here, {"findings": {"min_run_s": 7.0, "mood": "good"}}).findings.min_run_s == 7
    assert ruled(here, {"findings": {"min_run_s": "soon"}, "report": {"currency": "CHF"}}).findings == here.findings
    assert ruled(here, {"weather": {}}) == here
