"""Anything that could come from sacct: nothing stops the reader, and no bad row costs a good one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.accounting.test_sacct import row
from tests.fuzz import sacct as fuzzing

from jobimpact.schedulers.sacct_rows import FIELDS, UNIT_SEPARATOR, read_rows

TOKEN = f"{UNIT_SEPARATOR}0123456789abcdef"
SHORT = 20_000
"""Rows; `python -m tests.fuzz.sacct` damages a million."""

pieces = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([TOKEN.encode(), b"\x1f", b"\n", b"1" + TOKEN.encode() + b"1", b"\xff", b"\0"]),
    st.sampled_from([TOKEN.join(row()).encode() + b"\n", TOKEN.join(row()[:5]).encode()]),
)
values = st.one_of(
    st.text(max_size=30).filter(lambda text: TOKEN not in text),
    st.from_regex(r"[0-9]{1,30}", fullmatch=True),
    st.from_regex(r"(cpu|mem|gres/gpu(:a)?)=[0-9]{1,30}(\.[0-9]{1,30})?[KMGTPE]?", fullmatch=True),
    st.from_regex(r"[a-z0-9]{0,4}\[[0-9,-]{0,20}\][a-z0-9\[\],]{0,9}", fullmatch=True),
    st.sampled_from(["Unknown", "None", "None assigned", "0", "INVALID", "UNLIMITED", "CANCELLED by 1", "1795190500"]),
)
names = st.text(st.characters(codec="utf-8"), max_size=60).filter(lambda name: TOKEN not in name)


@given(st.lists(pieces, max_size=40))
def test_any_bytes_are_read_or_told(chunks: list[bytes]) -> None:
    """Whatever comes: records within bounds, and a word for each row that is none."""
    found = read_rows(chunks, TOKEN, "c")
    for record in found.records:
        fuzzing.check_record(record)
    assert all(str(problem).startswith("sacct row ") for problem in found.problems)
    # What is not white space is in a record or in a problem.
    assert bool(b"".join(chunks).strip()) <= bool(found.records or found.problems)


@given(st.lists(st.tuples(st.sampled_from(FIELDS), values), max_size=4), names, names)
def test_any_fields_are_one_outcome_between_good_rows(changes: list[tuple[str, str]], before: str, after: str) -> None:
    """A row of strange values is one record or one problem; its neighbours are as they were."""
    strange = row(**{"jobidraw": "2", **dict(changes)})
    rows = [row(jobidraw="1", jobname=before), strange, row(jobidraw="3", jobname=after)]
    found = read_rows(["".join(TOKEN.join(one) + "\n" for one in rows).encode()], TOKEN, "c")
    kept = [(one.raw_id, one.name) for one in (found.records[0], found.records[-1])]
    assert kept == [("1", before), ("3", after)]
    for record in found.records:
        fuzzing.check_record(record)
    blank = not "".join(strange).strip()
    assert len(found.records) + len(found.problems) == (2 if blank else 3)


@given(names, names)
def test_any_comment_leaves_its_row_and_the_next_whole(comment: str, name: str) -> None:
    """Free text, like a name; none of it is in `raw`."""
    fields = (*FIELDS, "comment", "dbindex")
    rows = [[*row(jobidraw="1", jobname=name), comment, "7"], [*row(jobidraw="2"), "", "8"]]
    found = read_rows(["".join(TOKEN.join(one) + "\n" for one in rows).encode()], TOKEN, "c", fields)
    assert found.problems == ()
    assert [(one.raw_id, one.raw["dbindex"]) for one in found.records] == [("1", "7"), ("2", "8")]
    assert not any("comment" in one.raw for one in found.records)


@given(st.data(), names)
def test_a_row_that_is_cut_anywhere_costs_no_other(data: st.DataObject, name: str) -> None:
    """Short of fields or of a part of one."""
    whole = TOKEN.join(row(jobidraw="2", jobname=name)).encode()
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    good = [TOKEN.join(row(jobidraw=number, jobname=name)).encode() for number in ("1", "3")]
    found = read_rows([b"\n".join([good[0], cut, good[1], b""])], TOKEN, "c")
    read = [one.raw_id for one in found.records]
    assert [one for one in read if one != "2"] == ["1", "3"]
    assert len(read) + len(found.problems) == (3 if cut.strip() else 2)


def test_damaged_rows_of_a_real_sacct() -> None:
    """Bytes flipped, fields lost, doubled and swapped, huge numbers, newlines, delimiters, invalid UTF-8."""
    sample = fuzzing.read_sample(fuzzing.SAMPLE)
    assert len(sample.rows) > 20
    tally = fuzzing.fuzz(sample, SHORT)
    assert tally.damaged == SHORT
    assert tally.untouched > SHORT / 10
    assert tally.records > tally.untouched
    assert tally.problems > SHORT / 10


def test_every_row_of_a_real_sacct_is_read() -> None:
    """As it was captured."""
    sample = fuzzing.read_sample(fuzzing.SAMPLE)
    text = b"\n".join(sample.rows) + b"\n"
    found = read_rows([text], fuzzing.TOKEN.decode(), "c", sample.fields)
    assert found.problems == ()
    assert len(found.records) == len(sample.rows)
    assert {"RESIZING", "REVOKED", "NODE_FAIL", "PREEMPTED", "PENDING", "RUNNING"} <= {
        one.state for one in found.records
    }
