"""Quantities as people read them: three significant digits, and the prefix that fits the size. Pure."""

from __future__ import annotations

import math

__all__ = ["ENOUGH", "duration", "energy", "grams", "in_part", "kwh", "memory", "percent", "rounded", "span"]

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
_MASSES = ((1e6, "t"), (1e3, "kg"), (1.0, "g"), (1e-3, "mg"), (1e-6, "µg"), (1e-9, "ng"))
_ENERGIES = tuple((size, f"{prefix}J") for size, prefix in _PREFIXES)

ENOUGH = 0.9
"""A sum of which less is measured is not told as a whole."""

Units = tuple[tuple[float, str], ...]


def rounded(value: float, digits: int = 3) -> str:
    """A number with so many significant digits and no exponent: 0.00145, 5.23, 87.0, 12300."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    value = round(value, decimals)
    # 9.996 has become 10.0: one decimal less.
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{max(decimals, 0)}f}"


def energy(joules: float) -> str:
    """5230 as `5.23 kJ`."""
    return _fitting(joules, _ENERGIES)


def kwh(value: float) -> str:
    """0.0014528 as `0.00145 kWh`."""
    return f"{rounded(value)} kWh"


def grams(kilograms: float) -> str:
    """0.000184 as `184 mg`."""
    return _fitting(kilograms * 1e3, _MASSES)


def span(low: str, high: str) -> str:
    """`100 mg` and `300 mg` as `100 - 300 mg`; a unit is said once where both have it."""
    value, _, unit = low.rpartition(" ")
    if low == high:
        return low
    return f"{value} - {high}" if high.endswith(f" {unit}") else f"{low} - {high}"


def percent(part: float) -> str:
    """A part of 1, rounded down, so that only what is whole reads 100 %."""
    if part <= 0:
        return "0 %"
    tenths = math.floor(part * 1000 + 1e-9)
    return "less than 0.1 %" if tenths == 0 else f"{tenths / 10:g} %"


def in_part(coverage: float | None) -> str:
    """0.4 as `40 % measured`; empty from nine tenths on, and where it is not known."""
    return "" if coverage is None or coverage >= ENOUGH else f"{percent(coverage)} measured"


def duration(seconds: float) -> str:
    """187 as `3 min 7 s`."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for size, unit, smaller, small_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {small_unit}"
    return f"{whole} s"


def memory(size: int) -> str:
    """1073741824 as `1 GiB`."""
    for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB")):
        if size >= 1 << shift:
            return f"{float(rounded(size / (1 << shift))):g} {unit}"
    return f"{size} B"


def _fitting(value: float, units: Units) -> str:
    for size, unit in units:
        # 0.9996 of a unit reads as 1.00 of it.
        if abs(value) >= size * 0.9995:
            return f"{rounded(value / size)} {unit}"
    size, unit = units[-1]
    base = next(name for one, name in units if one == 1.0)
    return f"0 {base}" if value == 0 else f"{rounded(value / size)} {unit}"
