"""The CSV file: what a row is, how long it holds, and what is told of those that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.accounting.grid.world import DAY, HOUR, MIDNIGHT

from jobimpact.core.config import Grid as Config
from jobimpact.core.config import GridCsv
from jobimpact.core.errors import GridError
from jobimpact.grid.csv_file import CsvFile
from jobimpact.grid.slots import hourly

HEADER = "time,gco2e_per_kwh\n"


def source(path: Path, **settings: str) -> CsvFile:
    """The file as it is configured."""
    return CsvFile(Config(provider="csv", csv=GridCsv(path=str(path), basis="lifecycle", **settings)))


def read(path: Path, content: str | bytes, **settings: str) -> tuple[dict[int, float], list[str]]:
    """Grams by hour after midnight, and what was refused."""
    path = path / "intensity.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    answer = source(path, **settings).ask(MIDNIGHT, MIDNIGHT + DAY)
    hours = {
        (at - MIDNIGHT) // HOUR: round(hour.kgco2e_per_kwh * 1000, 9) for at, hour in hourly(answer.slots).items()
    }
    return hours, [f"{one.what}: {one.example}".replace(f"{path}, ", "") for one in answer.refused]


def rows(*steps: tuple[float, float]) -> str:
    """Lines of minutes after midnight and grams."""
    return HEADER + "".join(f"{MIDNIGHT + minutes * 60:.0f},{grams}\n" for minutes, grams in steps)


def test_times_may_be_epoch_seconds_or_iso_with_an_offset(tmp_path: Path) -> None:
    """All of these are hours of the same day."""
    content = (
        f"\ufeffplace;gco2e;when\r\nx; 10 ;{MIDNIGHT}\r\nx;20;2026-03-02T02:00:00+01:00\r\n\r\n;;\r\n"
        'x;30;"2026-03-02 02:00Z"\r\nx;40;20260301T210000-0600\r\nx;5e1;2026-03-02T04:00+00:00'
    )
    assert read(tmp_path, content, delimiter=";", time="when", value="gco2e") == (
        {0: 10, 1: 20, 2: 30, 3: 40, 4: 50},
        [],
    )


def test_slots_of_any_length_and_order(tmp_path: Path) -> None:
    """Quarters, halves and hours; a row that holds for half of an hour makes it known, less does not."""
    quarters = [(15 * n, 10 * n) for n in range(8)]
    assert read(tmp_path, rows(*reversed(quarters)))[0] == {0: 15, 1: 55}
    assert read(tmp_path, rows((0, 10), (30, 20), (60, 30), (90, 40)))[0] == {0: 15, 1: 35}
    assert read(tmp_path, rows((0, 10), (60, 20), (75, 40), (90, 60), (105, 80)))[0] == {0: 10, 1: 50}
    assert read(tmp_path, rows((30, 10), (90, 20)))[0] == {0: 10, 1: 15, 2: 20}
    assert read(tmp_path, rows((0, 10)))[0] == {0: 10}


def test_a_gap_stays_a_gap(tmp_path: Path) -> None:
    """No row holds longer than the step before it; an empty value is a gap, and not a wrong row."""
    assert read(tmp_path, rows((0, 10), (60, 20), (240, 30), (300, 40)))[0] == {0: 10, 1: 20, 4: 30, 5: 40}
    assert read(tmp_path, rows((0, 10), (15, 10), (60, 20), (75, 20), (90, 20)))[0] == {0: 10, 1: 20}
    assert read(tmp_path, rows((0, 10), (15, 10), (120, 20), (135, 20)))[0] == {0: 10, 2: 20}
    content = rows((0, 10)) + f"{MIDNIGHT + HOUR},\n{MIDNIGHT + 2 * HOUR},30\n"
    assert read(tmp_path, content) == ({0: 10, 2: 30}, [])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("2026-03-02T01:00:00,20", "line 3: its time is '2026-03-02T01:00:00': neither epoch seconds nor ISO 8601"),
        ("yesterday,20", "line 3: its time is 'yesterday': neither epoch seconds nor ISO 8601"),
        (",20", "line 3: its time is '': neither"),
        ("1772413200000,20", "line 3: its time is '1772413200000': not epoch seconds of this century"),
        ("20260302,20", "line 3: its time is '20260302': not epoch seconds of this century"),
        ("nan,20", "line 3: its time is 'nan': not epoch seconds of this century"),
        ("1772413200,NaN", "line 3: its value is 'NaN'"),
        ("1772413200,-inf", "line 3: its value is '-inf'"),
        ('1772413200,"12,5"', "line 3: its value is '12,5'"),
        ("1772413200,=1+1\u202e", "line 3: its value is '=1+1\\u202e'"),
        ("1772413200", "line 3: it is too short"),
        ("1772413200,-5", "not a carbon intensity: -5 gCO2e/kWh at 2026-03-02T01:00Z"),
        ("1772413200,3000.1", "not a carbon intensity: 3000.1 gCO2e/kWh at 2026-03-02T01:00Z"),
        ("1772409600,11", "two values for one time: lines 2 and 3 at 2026-03-02T00:00Z"),
    ],
)
def test_a_row_that_is_none_is_told_by_its_line_and_the_others_count(tmp_path: Path, row: str, said: str) -> None:
    """Hours 2 and 3 are known whatever is in between."""
    content = f"{HEADER}{MIDNIGHT},10\n{row}\n{MIDNIGHT + 2 * HOUR},30\n{MIDNIGHT + 3 * HOUR},40\n"
    hours, (problem,) = read(tmp_path, content)
    assert said in problem
    assert problem.isascii()
    assert hours == ({} if "two values" in said else {0: 10}) | {2: 30, 3: 40}


def test_the_same_row_twice_is_one(tmp_path: Path) -> None:
    """Files are glued together with a part in common."""
    assert read(tmp_path, rows((0, 10), (60, 20), (0, 10))) == ({0: 10, 1: 20}, [])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no column time in its first line"),
        (b"time,co2\n1,2\n", "no column gco2e_per_kwh in its first line"),
        (b"time,gco2e_per_kwh,time\n", "more than one column time in its first line"),
        (HEADER.encode() + b"1772409600,\xff\n", "not UTF-8 text"),
        (HEADER.encode() + b"1772409600," + b"9" * 200000, "field larger than field limit"),
    ],
)
def test_a_file_that_is_none_is_refused_by_its_name(tmp_path: Path, content: bytes, said: str) -> None:
    """With what it lacks."""
    with pytest.raises(GridError, match=said) as caught:
        read(tmp_path, content)
    assert str(tmp_path / "intensity.csv") in str(caught.value)


def test_a_folder_and_nothing_are_no_files(tmp_path: Path) -> None:
    """By their names."""
    for path, said in (
        (tmp_path, "Is a directory"),
        (tmp_path / "none", "No such file"),
        (Path("/dev/null"), "not a"),
    ):
        with pytest.raises(GridError, match=f"{path}: {said}"):
            source(path).ask(MIDNIGHT, MIDNIGHT + DAY)


@given(st.text(alphabet=st.sampled_from('0123456789-+:.TZ,;"\n\r \x00eEnaifé'), max_size=200))
def test_no_text_whatever_makes_more_of_it_than_an_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """It is rows, refusals, or an error of ours."""
    folder = tmp_path_factory.getbasetemp()
    try:
        hours, _ = read(folder, HEADER + text)
    except GridError:
        return
    assert all(0 <= grams <= 3000 for grams in hours.values())
