"""Quantities in words."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobimpact.report.numbers import duration, energy, grams, memory, percent, rounded, span
from jobimpact.report.table import Units
from jobimpact.report.text import clean


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (5230, "5.23 kJ"),
        (0, "0 J"),
        (999.96, "1.00 kJ"),
        (9.996, "10.0 J"),
        (1.5e10, "15.0 GJ"),
        (2e-3, "2.00 mJ"),
        (3e-6, "3.00 µJ"),
    ],
)
def test_an_energy_fits_its_size(value: float, shown: str) -> None:
    """Three digits, the prefix that fits, and no 1000 of anything."""
    assert energy(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(1.84e-4, "184 mg"), (0.0951e-7, "9.51 µg"), (1234.0, "1.23 t"), (2.0, "2.00 kg"), (0, "0 g")]
)
def test_a_mass_fits_its_size(value: float, shown: str) -> None:
    """From kilograms."""
    assert grams(value) == shown


@given(st.floats(1e-12, 1e12))
def test_rounding_keeps_three_digits(value: float) -> None:
    """Within half a percent, and never in exponents."""
    assert float(rounded(value)) == pytest.approx(value, rel=0.0051)
    assert "e" not in rounded(value)


@given(st.floats(0, 1, exclude_max=True))
@example(0.9996)
@example(1 - 1e-6)
def test_less_than_all_never_reads_as_all(part: float) -> None:
    """99.99 % is shown as 99.9 %."""
    assert percent(part) != "100 %" or part > 1 - 1e-9


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.25, "0.25 s"),
        (59.9, "59.9 s"),
        (187, "3 min 7 s"),
        (7500, "2 h 5 min"),
        (100_000, "1 d 3 h"),
        (60, "1 min 0 s"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    """Two units, at most."""
    assert duration(seconds) == shown


def test_a_span_says_its_unit_once() -> None:
    """Where both ends have the same one."""
    assert span("100 mg", "300 mg") == "100 - 300 mg"
    assert span("599 g", "1.42 kg") == "599 g - 1.42 kg"
    assert span("0 g", "0 g") == "0 g"


@pytest.mark.parametrize(("size", "shown"), [(2**30, "1 GiB"), (500 * 2**20, "500 MiB"), (12, "12 B")])
def test_memory(size: int, shown: str) -> None:
    """Binary units."""
    assert memory(size) == shown


@given(st.text())
def test_cleaned_text_is_printable(text: str) -> None:
    """Nothing in it moves a cursor, changes a colour, or turns the writing's direction."""
    assert all(char.isprintable() or char.isspace() for char in clean(text))
    assert not set(clean(text)) & set("\x1b\x9b\x07\r\n\u202e\u2066\u200f")


@pytest.mark.parametrize(
    ("units", "energies", "masses"),
    [
        (Units(), "3.60 MJ", "57.5 g"),
        (Units("J", "g"), "3600000 J", "57.5 g"),
        (Units("kWh", "kg"), "1.00 kWh", "0.0575 kg"),
    ],
)
def test_a_table_in_one_unit(units: Units, energies: str, masses: str) -> None:
    """The same quantity in each; what is not known in none."""
    assert (units.joules(3.6e6), units.kilograms(0.0575)) == (energies, masses)
    assert (units.joules(None), units.kilograms(None)) == ("-", "-")
