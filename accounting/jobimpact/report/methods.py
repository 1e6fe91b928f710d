"""What the figures of many jobs together rest on, as a paragraph. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from jobimpact.core.records import DomainKind
from jobimpact.report.job import KINDS
from jobimpact.report.numbers import percent
from jobimpact.report.words import clean, listed
from jobimpact.results.sums import Sums

__all__ = ["BY", "method_of_many"]

BY = {"counter": "by energy counters", "gauge": "by power, integrated", "modelled": "modelled, not measured"}


def method_of_many(
    methods: Mapping[DomainKind, Sequence[str]], missing: Collection[DomainKind], sums: Sums, factors: Sequence[str]
) -> str:
    """How many jobs were measured and accounted.

    Args:
        methods: by kind of part, all that any job has.
        missing: kinds of parts that jobs had and of which nothing is known.
        sums: over them.
        factors: the versions that their impacts were made with.
    """
    by: dict[str, list[str]] = {}
    for kind, label in KINDS.items():
        for method in methods.get(kind, ()):
            by.setdefault(BY.get(method, clean(method)), []).append(label)
    said = [f"{listed(labels)} {method}" for method, labels in by.items()]
    said += [f"{listed([KINDS[kind] for kind in missing])} not measured, and in no sum"] if missing else []
    coverage = "-" if sums.coverage is None else percent(sums.coverage)
    text = f"Method: {'; '.join(said) or 'nothing was measured'}; known for {coverage} of what was held."
    if sums.impacts.get("gwp_kgco2e"):
        text += " Ranges are the least and the most of factors and meters, taken together."
    return f"{text} Factors: {_versions(factors)}." if factors else text


def _versions(found: Sequence[str]) -> str:
    each = [clean(one) for one in found]
    return each[0] if len(each) == 1 else f"of several versions ({listed(each)}): compare with care"
