"""Labels of a job's comment: what is well-formed is taken, whatever stands around it, and nothing raises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobimpact.core.labels import MAX_BYTES, MAX_LABELS, is_name, is_value, parse_comment


@pytest.mark.parametrize(
    ("comment", "labels"),
    [
        ("jobimpact:model=resnet50,steps=90000", {"model": "resnet50", "steps": "90000"}),
        ("for Ada jobimpact:activity=training rerun of 12", {"activity": "training"}),
        ("jobimpact:a=1 jobimpact:b=2,a=3", {"a": "3", "b": "2"}),
        ("jobimpact:expr=a=b,,=5,9x=1,x", {"expr": "a=b"}),
        ("jobimpact:modèle=x,model=modèle", {"model": "modèle"}),
        (f"jobimpact:a={'x' * MAX_BYTES},b={'x' * (MAX_BYTES + 1)}", {"a": "x" * MAX_BYTES}),
        (f"jobimpact:{'n' * 32}=1,{'n' * 33}=2", {"n" * 32: "1"}),
        ("jobimpact:a=\x1b[31mred,b=\u202egnp,c=\ud800,d=ok", {"d": "ok"}),
        ("jobimpact: model=resnet50", {}),
        ("model=resnet50", {}),
        ("", {}),
        (None, {}),
    ],
)
def test_comments(comment: str | None, labels: dict[str, str]) -> None:
    assert parse_comment(comment) == labels


def test_more_than_sixteen_are_left_out() -> None:
    """The first hold; of a name that is there already, the last value."""
    words = ",".join(f"n{number}={number}" for number in range(40))
    found = parse_comment(f"jobimpact:{words},n0=again")
    assert found == {"n0": "again"} | {f"n{number}": str(number) for number in range(1, MAX_LABELS)}


@given(st.lists(st.one_of(st.text(), st.just("jobimpact:"), st.sampled_from("a=,1 \n"))).map("".join))
def test_hostile_text_never_raises(text: str) -> None:
    """And gives nothing but names and printable text."""
    found = parse_comment(text)
    assert len(found) <= MAX_LABELS
    assert all(is_name(name) and is_value(value) for name, value in found.items())
