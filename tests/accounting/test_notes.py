"""What is odd about a run, in words."""

from __future__ import annotations

import pytest

from jobimpact.report.notes import in_words


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("package-0 gap", "readings of the meter of CPU 0 failed for a time: energy meanwhile is split by time, or"),
        ("dram-1 reset", "the meter of memory 1 started anew: energy since the reading before is not known"),
        ("gpu:GPU-x stuck", "the meter of GPU-x stood still for a time: energy meanwhile is not known"),
        ("node:redfish stuck", "the node's meter (redfish) stood still for a time: the rest of the node is not known"),
        (
            "node:wattmeter gap",
            "the node's meter (wattmeter) was silent for a time: the rest of the node is not known",
        ),
        ("node:ipmi reset", "the node's meter (ipmi) was silent for a time"),
        ("no start mark", "no start hook was heard"),
        ("suspended for a time: no share of the CPUs", "suspended for a time: no share of the CPUs meanwhile"),
    ],
)
def test_a_flag_is_told_in_words(flag: str, words: str) -> None:
    """Of its node, and without the daemon's own names where there are better ones."""
    [said] = in_words([f"n1: {flag}"], ["n1"])
    assert said.startswith(f"n1: {words}")


def test_alike_is_told_once() -> None:
    """Meters of a node in one line, and nodes with the same."""
    flags = [f"{node}: gpu:GPU-{gpu} gap" for node in ("n1", "n2") for gpu in "ab"]
    [said] = in_words([*flags, "n1: gpu:GPU-a gap"], ["n1", "n2"])
    assert said.startswith("n1, n2: readings of the meter of GPU-a, GPU-b failed")


def test_what_is_in_words_already_stays() -> None:
    """Of the job, or of a node; a node's name may hold another's."""
    flags = ["DRAM not in the total: no DRAM meter on n1", "n1-b: its books know 5 s of the job's 9 s"]
    assert in_words(flags, ["n1", "n1-b"]) == flags
