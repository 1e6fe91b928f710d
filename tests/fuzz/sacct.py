"""Damaged output of sacct: `python -m tests.fuzz.sacct FILE|--lab [N]` damages N rows of a captured one.

A file begins with a line of the names of its fields, which are parted by `TOKEN` as the rows' are; `--lab` brings up
a Slurm, runs jobs of every shape in it, captures their rows, and with `--keep FILE` writes them there.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from jobimpact.core.records import JobRecord
from jobimpact.schedulers.base import LATEST_S, MOST, Finished
from jobimpact.schedulers.sacct_rows import EXTRA_FIELDS, FIELDS, read_rows
from jobimpact.schedulers.slurm import EARLIEST_S

TOKEN = b"\x1f0f"
SAMPLE = Path(__file__).parents[1] / "accounting/sacct_sample.bin"
BATCH = 500
BEGINS = re.compile(rb"(\d+)%b\d" % re.escape(TOKEN))
PIECES = (TOKEN, b"\n", b"\x1f", b"\0", b"\xff", b"\xc3", b"|", b"\r\n", b"None", b"Unknown", b"[", b"]", b"-", b",")
NUMBERS = (b"0", b"-1", b"4294967294", b"4294967295", b"18446744073709551614", b"9" * 400, b"1e9", b"1.5", b"NaN")
BYTES = (b"0K", b"9" * 17 + b"E", b"1.5T", b".5G", b"5.M")


@dataclass(frozen=True)
class Sample:
    """Rows of a real sacct, without their newlines at the end."""

    fields: tuple[str, ...]
    rows: list[bytes]


@dataclass
class Tally:
    """What came of damaged rows."""

    damaged: int = 0
    untouched: int = 0
    records: int = 0
    problems: int = 0
    seconds: float = 0.0
    kinds: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        good = self.records - self.untouched
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self.kinds.items()))
        return (
            f"{self.damaged} damaged rows among {self.untouched} whole ones in {self.seconds:.0f} s: all whole ones"
            f" were read; of the damaged, {good} were still records, and {self.problems} bad rows were told\n({kinds})"
        )


def read_sample(path: Path) -> Sample:
    """What `--keep` wrote."""
    names, _, text = path.read_bytes().partition(b"\n")
    starts = [match.start() for match in re.finditer(rb"^%b" % BEGINS.pattern, text, flags=re.MULTILINE)]
    ends = [*starts[1:], len(text)]
    rows = [text[begin : end - 1] for begin, end in zip(starts, ends, strict=True)]
    return Sample(tuple(names.decode().split(TOKEN.decode())), rows)


def capture() -> bytes:
    """A sample from a Slurm of this machine's."""
    from tests.labs.slurm.history import MIDNIGHT, run_jobs, write_history
    from tests.labs.slurm.lab import SlurmLab
    from tests.labs.slurm.layout import Plan

    with SlurmLab(Plan(nodes=4)) as lab:
        write_history(lab)
        ids = run_jobs(lab)
        known = lab.run(["sacct", "--helpformat"]).stdout.lower().split()
        fields = [*FIELDS, *(name for name in EXTRA_FIELDS if name in known)]
        options = ["-a", "-X", "-D", "-n", "-P", f"--delimiter={TOKEN.decode()}", "-S", f"uts{MIDNIGHT}"]
        command = ["env", "TZ=UTC", "SLURM_TIME_FORMAT=%s", "sacct", *options, "-o", ",".join(fields)]
        said = lab.run(command).stdout
        lab.scancel(ids["runs"], ids["waits"])
    return TOKEN.join(name.encode() for name in fields) + b"\n" + said.encode()


# -- damage ------------------------------------------------------------------------------------------------------


def _flip(row: bytes, rnd: random.Random) -> bytes:
    changed = bytearray(row)
    for _ in range(rnd.choice((1, 1, 1, 3, 20))):
        changed[rnd.randrange(len(changed))] ^= 1 << rnd.randrange(8)
    return bytes(changed)


def _drop(row: bytes, rnd: random.Random) -> bytes:
    parts = row.split(TOKEN)
    del parts[rnd.randrange(len(parts))]
    return TOKEN.join(parts)


def _double(row: bytes, rnd: random.Random) -> bytes:
    parts = row.split(TOKEN)
    at = rnd.randrange(len(parts))
    return TOKEN.join([*parts[:at], parts[at], *parts[at:]])


def _swap(row: bytes, rnd: random.Random) -> bytes:
    parts = row.split(TOKEN)
    one, other = rnd.randrange(len(parts)), rnd.randrange(len(parts))
    parts[one], parts[other] = parts[other], parts[one]
    return TOKEN.join(parts)


def _huge(row: bytes, rnd: random.Random) -> bytes:
    numbers = list(re.finditer(rb"\d+", row))
    found = rnd.choice(numbers)
    return row[: found.start()] + rnd.choice(NUMBERS + BYTES) + row[found.end() :]


def _cut(row: bytes, rnd: random.Random) -> bytes:
    begin = rnd.choice((0, 0, 0, rnd.randrange(len(row))))
    return row[begin : rnd.randrange(begin, len(row))]


def _put(row: bytes, rnd: random.Random) -> bytes:
    at = rnd.randrange(len(row) + 1)
    return row[:at] + rnd.choice(PIECES) * rnd.choice((1, 1, 2, 40)) + row[at:]


def _noise(row: bytes, rnd: random.Random) -> bytes:
    at = rnd.randrange(len(row))
    return row[:at] + rnd.randbytes(rnd.randrange(30)) + row[rnd.randrange(at, len(row)) :]


Damage = Callable[[bytes, random.Random], bytes]
DAMAGES: tuple[Damage, ...] = (
    _flip,
    _drop,
    _double,
    _swap,
    _huge,
    _cut,
    _put,
    _noise,
)


# -- what must hold ----------------------------------------------------------------------------------------------


def fuzz(sample: Sample, count: int, seed: int = 1) -> Tally:
    """Damage rows among whole ones, and read them.

    Raises:
        AssertionError: a whole row was not read as it is alone, one was lost, or a record is out of bounds.
    """
    rnd = random.Random(seed)
    whole = [row for row in sample.rows if _read(row + b"\n", sample).records]
    tally = Tally()
    begun = time.monotonic()
    while tally.damaged < count:
        _batch(sample, whole, rnd, tally, min(BATCH, count - tally.damaged))
    tally.seconds = time.monotonic() - begun
    return tally


def _batch(sample: Sample, whole: list[bytes], rnd: random.Random, tally: Tally, count: int) -> None:
    lines: list[bytes] = []
    expected: dict[str, JobRecord] = {}
    damaged = 0
    while damaged < count:
        row = _numbered(rnd.choice(whole), 10**17 + len(lines))
        if rnd.random() < 0.3 and (not lines or lines[-1].endswith(b"\n")):
            [record] = _read(row + b"\n", sample).records
            expected[record.raw_id] = record
            lines.append(row + b"\n")
            continue
        damage = rnd.choice(DAMAGES)
        tally.kinds[damage.__name__[1:]] = tally.kinds.get(damage.__name__[1:], 0) + 1
        changed = damage(_numbered(row, damaged), rnd)
        lines.append(changed + (b"" if rnd.random() < 0.02 else b"\n"))
        damaged += 1
    text = b"".join(lines)
    size = rnd.choice((7, 100, 4096, len(text)))
    pieces = (text[at : at + size] for at in range(0, len(text), size))
    found = read_rows(pieces, TOKEN.decode(), "c", sample.fields, rnd.choice((None, "lab")))
    _check(text, found, expected)
    tally.damaged += damaged
    tally.untouched += len(expected)
    tally.records += len(found.records)
    tally.problems += len(found.problems)


def _numbered(row: bytes, number: int) -> bytes:
    """A row of another id, by which it is found again."""
    return b"%d%b" % (number, row[row.index(TOKEN) :])


def _read(text: bytes, sample: Sample) -> Finished:
    return read_rows([text], TOKEN.decode(), "c", sample.fields)


def _check(text: bytes, found: Finished, expected: dict[str, JobRecord]) -> None:
    by_id: dict[str, list[JobRecord]] = {}
    for record in found.records:
        by_id.setdefault(record.raw_id, []).append(record)
        check_record(record)
    for raw_id, record in expected.items():
        assert by_id.get(raw_id) == [record], f"{raw_id}: {by_id.get(raw_id)} in place of {record}"
    begun = sum(1 for _ in re.finditer(rb"^%b" % BEGINS.pattern, text, flags=re.MULTILINE))
    assert len(found.records) + len(found.problems) >= begun, "a row was neither read nor told"
    for problem in found.problems:
        assert str(problem).startswith("sacct row ")
        assert len(str(problem)) < 1000


def check_record(record: JobRecord) -> None:
    """Its numbers are within bounds, its words can be written, its nodes are names."""
    for at_s in (record.submit_s, record.start_s, record.end_s):
        assert at_s is None or EARLIEST_S <= at_s < LATEST_S
    for amount in (record.elapsed_s, record.cpus, record.mem_bytes, record.gpus):
        assert amount is None or 0 <= amount <= MOST
    assert record.start_s is None or (record.submit_s is not None and record.start_s >= record.submit_s)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", node) for node in record.nodes)
    assert re.fullmatch(r"[0-9]+@[0-9]+", record.key)
    assert record.cluster == "c"
    msgspec.json.encode(record)


def main(argv: list[str] | None = None) -> None:
    """Damage rows, and say what came of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.sacct")
    parser.add_argument("file", nargs="?", type=Path, default=SAMPLE)
    parser.add_argument("--lab", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("-n", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(argv)
    path = given.file
    if given.lab:
        path = given.keep or Path("sacct_sample.bin")
        path.write_bytes(capture())
    sys.stdout.write(f"{fuzz(read_sample(path), given.n, given.seed)}\n")


if __name__ == "__main__":
    main()
