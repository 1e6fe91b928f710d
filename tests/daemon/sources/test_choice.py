"""A part is booked once, by the most trusted source that can read it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobimpact.core.records import Absent, Counter, Domain, DomainKind, Failed, Gauge, Reading
from jobimpact_daemon.sources.choice import TRUST, choose

KINDS: tuple[DomainKind, ...] = ("cpu", "dram", "gpu")
readings = st.sampled_from([Counter(1), Gauge(1.0), Failed("EIO"), Absent("no permission")])
sources = st.sampled_from(sorted({source for trusted in TRUST.values() for source in trusted}))
found = st.dictionaries(sources, st.dictionaries(st.sampled_from(KINDS), readings, min_size=1))


@given(found)
def test_every_part_that_somebody_knows_is_booked_once(found: dict[str, dict[DomainKind, Reading]]) -> None:
    """Law 1: one source of CPUs and of memory; only the two GPU drivers may stand beside each other."""
    domains = {source: [Domain(kind, kind, source) for kind in kinds] for source, kinds in found.items()}
    chosen = choose(domains, {source: dict(kinds) for source, kinds in found.items()})
    for kind, booked in chosen.items():
        assert booked <= {source for source in found if kind in found[source]}
        assert len(booked) == 1 or (kind == "gpu" and booked == {"nvml", "amdsmi"})
        if all(isinstance(found[source][kind], Absent) for source in booked):
            others = {source for source in found if kind in found[source]} & set(TRUST[kind])
            assert all(isinstance(found[source][kind], Absent) for source in others)
    known = {kind for source, kinds in found.items() for kind in kinds if source in TRUST[kind]}
    assert known - chosen.keys() <= {"dram"}


def test_the_model_stands_in_only_where_no_meter_can_be_read() -> None:
    """RAPL that only root may read is no meter for another user; one that fails for once still is."""
    domains = {"rapl": [Domain("package-0", "cpu", "rapl")], "model": [Domain("cpu", "cpu", "model", "modelled")]}
    model: dict[str, Reading] = {"cpu": Counter(0)}
    assert choose(domains, {"rapl": {"package-0": Absent("0400")}, "model": model})["cpu"] == {"model"}
    assert choose(domains, {"rapl": {"package-0": Failed("EIO")}, "model": model})["cpu"] == {"rapl"}
    assert choose(domains, {"rapl": {}, "model": model})["cpu"] == {"rapl"}


def test_a_socket_that_has_its_memory_in_it_is_not_booked_beside_memory() -> None:
    """Grace's socket meter has its memory in it: Cray's memory counter would count it twice."""
    domains = {
        "hwmon": [Domain("package-0", "cpu", "hwmon")],
        "pmcounters": [Domain("cpu", "cpu", "pmcounters"), Domain("dram", "dram", "pmcounters")],
    }
    assert choose(domains, {}) == {"cpu": {"hwmon"}}
