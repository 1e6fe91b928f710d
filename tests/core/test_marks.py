"""The mark format: what hooks write is read back, and nothing else is taken for a mark."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobimpact.core.errors import MarkError
from jobimpact.core.marks import MAX_BYTES, cpus_on_node, parse_mark
from jobimpact.core.records import Mark
from jobimpact.core.units import NS

WHOLE = {"v": "1", "event": "start", "job": "42", "boot": "b-1", "uptime": "12.34", "end": "1"}
numbers = st.none() | st.integers(0, 10**18 - 1)


def text(fields: dict[str, object]) -> bytes:
    """A mark file."""
    return "".join(f"{key}={value}\n" for key, value in fields.items() if value is not None).encode()


@given(
    event=st.sampled_from(["start", "end"]),
    job=st.integers(1, 1 << 40),
    cs=st.integers(0, 10**11),
    restart=numbers,
    uid=numbers,
    cpus=st.none() | st.integers(1, 10**6),
    mem_bytes=numbers,
    gpus=st.lists(st.integers(0, 9999), max_size=8),
    sid=numbers,
    devices=st.lists(
        st.from_regex(r"(GPU|MIG)-[a-f0-9/-]{1,40}", fullmatch=True) | st.from_regex(r"[0-9]{1,4}", fullmatch=True),
        max_size=8,
    ),
    gpu_percent=st.none() | st.integers(1, 100),
    shards=st.none() | st.integers(1, 64),
    sluid=st.none() | st.from_regex(r"s[0-9A-Z]{13}", fullmatch=True),
)
def test_what_a_hook_writes_is_read_back(
    event: str,
    job: int,
    cs: int,
    restart: int | None,
    uid: int | None,
    cpus: int | None,
    mem_bytes: int | None,
    gpus: list[int],
    sid: int | None,
    devices: list[str],
    gpu_percent: int | None,
    shards: int | None,
    sluid: str | None,
) -> None:
    """Every field comes back as it was written; unknown keys are left to newer releases."""
    fields: dict[str, object] = {
        "v": 1,
        "event": event,
        "job": job,
        "boot": "b1",
        "uptime": f"{cs // 100}.{cs % 100:02}",
    }
    fields |= {"restart": restart, "uid": uid, "cpus": cpus, "mem_bytes": mem_bytes, "sid": sid, "exit_code": 0}
    fields |= {"gpu_devices": ",".join(devices) or None, "gpu_percent": gpu_percent, "shards": shards, "sluid": sluid}
    fields |= {"gpus": ",".join(map(str, gpus)) or None, "end": 1}
    mark = parse_mark(text(fields))
    assert mark == Mark(
        "start" if event == "start" else "end",
        str(job),
        cs * NS // 100,
        boot="b1",
        restart=restart or 0,
        uid=uid,
        cpus=cpus,
        mem_bytes=mem_bytes,
        gpus=tuple(devices or map(str, gpus)),
        gpu_percent=gpu_percent,
        shards=shards,
        sluid=sluid,
        sid=sid,
    )


@given(st.binary(max_size=300))
@example(b"\xff")
@example(b"v=1\0end=1")
def test_no_bytes_are_more_than_a_bad_mark(data: bytes) -> None:
    """Whatever lies in the folder, there is a mark or a MarkError."""
    with suppress(MarkError):
        parse_mark(data)


names = st.sampled_from(
    ["n1", "n[1-3]", "n1,n2", "@all", "n[1-2]x[3-4]", "a[", "n[9-1]", "*", "n1!n2", "", "n[01-03]"]
)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                *WHOLE,
                "gpus",
                "cpus",
                "cpus_per_node",
                "nodelist",
                "node",
                "uid",
                "restart",
                "sid",
                "gpu_devices",
                "shards",
                "sluid",
            ]
        ),
        st.text(st.sampled_from("0123456789-,.[]()x#@n\x0b\x1c"), max_size=12) | names,
    )
)
def test_no_values_are_more_than_a_bad_mark(odd: dict[str, str]) -> None:
    """A whole mark with any odd values is a mark with numbers in bounds, or a MarkError."""
    with suppress(MarkError):
        mark = parse_mark(text({"cpus_per_node": "1,2", "node": "n1", **WHOLE, **odd}))
        assert 0 <= mark.restart < 1 << 63
        assert mark.t_ns >= 0


@given(st.integers(0, len(text(WHOLE)) - 1))
def test_a_truncated_mark_is_refused(size: int) -> None:
    """A full disk may cut a mark anywhere: only the newline at its end may be missing."""
    data = text(WHOLE)
    if size == len(data) - 1:
        assert parse_mark(data[:size]).job == "42"
        return
    with pytest.raises(MarkError):
        parse_mark(data[:size])


@pytest.mark.parametrize(
    ("odd", "word"),
    [
        ({"v": "2"}, "version"), ({"event": "stop"}, "event"), ({"job": "../x"}, "job"), ({"job": "idle"}, "job"),
        ({"job": "system"}, "job"), ({"uptime": "-1"}, "uptime"), ({"uptime": "1e9"}, "uptime"),
        ({"end": "0"}, "truncated"),
        ({"uid": "1" * 19}, "uid"), ({"restart": "-1"}, "restart"), ({"gpus": "a"}, "gpus"),
        ({"gpus": "0-9999"}, "gpus"),
        ({"gpu_devices": "GPU-a,,GPU-b"}, "gpu_devices"), ({"gpu_devices": "GPU-a b"}, "gpu_devices"),
        ({"gpu_devices": "GPU-"}, "gpu_devices"), ({"gpu_devices": "../x"}, "gpu_devices"),
        ({"gpu_percent": "0"}, "gpu_percent"), ({"gpu_percent": "101"}, "gpu_percent"),
        ({"shards": "x"}, "shards"), ({"sluid": "s/../x"}, "sluid"), ({"sluid": ""}, "sluid"),
        ({"boot": "a b"}, "boot"), ({"cpus_per_node": "4;5"}, "cpus_per_node"),
    ],
)  # fmt: skip
def test_a_value_that_no_hook_writes_is_named(odd: dict[str, str], word: str) -> None:
    """The reason names the field."""
    with pytest.raises(MarkError, match=word):
        parse_mark(text({**WHOLE, **odd}))


def test_a_mark_has_each_key_once_and_an_end() -> None:
    """A key twice, a line without a key and a file without end are refused; so is a huge one."""
    for bad in (b"v=1\nv=1\nend=1\n", b"v=1\nhello\nend=1\n", b"", b"v=1\n" + b"x" * MAX_BYTES):
        with pytest.raises(MarkError):
            parse_mark(bad)


def test_ranges_of_gpus_are_expanded() -> None:
    """Slurm writes 0-2,7."""
    assert parse_mark(text({**WHOLE, "gpus": "0-2,7"})).gpus == ("0", "1", "2", "7")


def test_uuids_go_before_numbers() -> None:
    """Slurm's number of a MIG device is no minor number: it would name another GPU."""
    both = {**WHOLE, "gpus": "0-1", "gpu_devices": "MIG-1c,0"}
    assert parse_mark(text(both)).gpus == ("MIG-1c", "0")
    assert parse_mark(text({**both, "gpu_devices": ""})).gpus == ("0", "1")


@pytest.mark.parametrize(
    ("counts", "nodelist", "node", "cpus"),
    [
        ("4", None, None, 4), ("4(x3)", "n[1-3]", "n2", 4), ("2,4(x2)", "n[1-3]", "n1", 2),
        ("2,4(x2)", "n[1-3]", "n3", 4),
        ("2,4", "b1,a1", "b1", 2), ("2,4", "b1,a1", "a1", 4), ("2(x2),4", "n[01-03]", "n03", 4),
        ("2,4", "n[1-2]", "m9", None),
        ("2,4", None, "n1", None), ("1,2,3,4", "r[1-2]n[1-2]", "r2n1", 3), ("1,2", "n[1-3]", "n3", None),
    ],
)  # fmt: skip
def test_this_nodes_cpus_are_found_by_its_place(
    counts: str, nodelist: str | None, node: str | None, cpus: int
) -> None:
    """Slurm's compressed counts go with the node list in the order in which it was written."""
    fields = {"cpus_per_node": counts, "nodelist": nodelist, "node": node}
    assert cpus_on_node({key: value for key, value in fields.items() if value}) == cpus


@pytest.mark.parametrize("nodelist", ["n[0-999999999]", "a[0-999]b[0-999]", "@all", "n[1-2", "n*", "n1&n2", "9" * 30])
def test_a_node_list_is_data_of_a_bounded_size(nodelist: str) -> None:
    """No group is looked up by a command, no pattern matched, and no list fills the memory."""
    with pytest.raises(MarkError, match="nodelist"):
        cpus_on_node({"cpus_per_node": "1,2", "node": "n1", "nodelist": nodelist})
