"""The datagram of a job's progress: what one side writes the other reads, and what is none of ours is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobimpact.core.errors import ProgressError
from jobimpact.core.progress import MAX_DATAGRAM, Said, decode, encode


@pytest.mark.parametrize(
    "said",
    [
        Said("123", 5),
        Said("123", None, {"acc": 0.71, "loss.val": -1e-300}),
        Said(None, 2**53, {}, {"model": "ResNet-50 «été»", "x" * 32: "y" * 200}),
        Said("1", 0, {f"m{number}": 1e308 for number in range(16)}, {f"l{number}": "é" * 100 for number in range(16)}),
    ],
)
def test_what_is_written_is_read(said: Said) -> None:
    assert decode(encode(said)) == said


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Said("1"), "nothing is said"),
        (Said("1", 1, {"1st": 1.0}), "metric '1st'"),
        (Said("1", 1, {"x" * 33: 1.0}), "metric 'xxx"),
        (Said("1", 1, {"acc": float("nan")}), "metric acc: nan"),
        (Said("1", 1, {"acc": float("-inf")}), "metric acc: -inf"),
        (Said("1", 1, {f"m{number}": 1.0 for number in range(17)}), "17 metrics: at most 16"),
        (Said("1", 1, {}, {f"l{number}": "x" for number in range(17)}), "17 labels: at most 16"),
        (Said("1", 1, {}, {"model": "x" * 201}), "label model"),
        (Said("1", 1, {}, {"model": "two\nlines"}), "label model"),
        (Said("1", 1, {}, {"model": ""}), "label model"),
    ],
)
def test_what_may_not_be_said(said: Said, words: str) -> None:
    with pytest.raises(ProgressError, match=words):
        encode(said)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"step":-1}',
        b'{"step":1.5}',
        b'{"step":1e999}',
        b'{"metrics":{"a":1e999}}',
        b'{"metrics":{"a":"1"}}',
        b'{"labels":{"a":"\\u0000"}}',
        b'{"labels":{"a":"\\ud800"}}',
        b'{"job":"' + b"1" * 65 + b'","step":1}',
        b"[" * MAX_DATAGRAM,
        b'{"step":1,"x":' + b"[" * 8000,
        b'{"step":1}' + b" " * MAX_DATAGRAM,
    ],
)
def test_what_is_none_of_ours(data: bytes) -> None:
    with pytest.raises(ProgressError):
        decode(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    try:
        said = decode(data)
    except ProgressError:
        return
    assert decode(encode(said)) == said
