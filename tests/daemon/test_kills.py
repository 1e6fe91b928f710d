"""Kill -9 at random instants while jobs come and go: what the books say afterwards, against the rig's own truth.

The real daemon, real mark files, jobs in the kernel's own cgroups (v1, as root; elsewhere jobs that only hold). Eight
kills in an ordinary run, fifty with REQUIRE_LABS=1 or KILLS=50. `python -m tests.daemon.test_kills [KILLS [SEED]]`
prints every holder's energy beside its true one.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.daemon.running import WAIT_S, Daemon, until
from tests.fakes.curve import NS_PER_MS, NS_PER_S, Curve, boot_ns, watts
from tests.fakes.rig import MAX_RANGE_UJ, PowerRig, RigNode, counter
from tests.fakes.rig_gpu import gpu
from tests.labs.oracle import Shares, Window, node_truth

REQUIRED = os.environ.get("REQUIRE_LABS") == "1"
KILLS = int(os.environ.get("KILLS", "50" if REQUIRED else "8"))
SEED = 20261121
LOAD_C = Path(__file__).parents[1] / "labs/slurm/load.c"
CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpuacct", "memory")
CPUS = 16
MEM_BYTES = 8 << 30
IDLE_W = {"package-0": 40.0}
READ_NS = 300 * NS_PER_MS
"""How long reading all domains may take on a busy machine."""
UNKNOWN = "SELECT name, unknown_ns FROM domain ORDER BY name"
LEAST_J, PACKAGE_PART, GPU_EDGE_J = 5.0, 0.25, 40.0
"""An edge by its 10 ms; the part of a gap's package energy, and the bursts of a GPU, that a gap may misplace."""
EDGE_NS = 100 * NS_PER_MS
"""A busy machine may let a reading come between a mark's time and the mark: the run then starts at the reading."""
SOON_NS = 2 * NS_PER_S
"""An edge that is due within this time may come earlier, for a kill beside it."""


def lacking() -> str:
    """Why jobs cannot have cgroups of the kernel's here; empty if they can."""
    if os.geteuid():
        return "needs root, for cgroups"
    absent = [name for name in CONTROLLERS if not (CGROUPS / name).is_dir()]
    return f"no cgroup v1: {' '.join(absent)}" if absent else ""


@dataclass
class Job:
    """One job of the day: when (parts of the day), how long (parts, or `seconds`), what it holds and does."""

    name: str
    start: float
    length: float
    cpus: int
    gpus: str = ""
    load: float = 0.05
    mem_mib: int = 10
    process: subprocess.Popen[bytes] | None = None
    start_ns: int = 0
    end_ns: int = 0
    late_ns: int = 0
    """How much longer than on any busy machine it took from its marks' times until they were there."""

    def window(self) -> Window:
        uuids = tuple(f"GPU-{minor}" for minor in self.gpus.split(",") if minor)
        return Window(self.name, self.start_ns, self.end_ns, self.cpus, MEM_BYTES * self.cpus // CPUS, uuids)


def a_day() -> list[Job]:
    """Ten kinds: one all day, long and short, with and without GPUs, several at once and some one after another."""
    return [
        Job("101", 0.01, 0.96, 3, load=0.15, mem_mib=60),
        Job("102", 0.04, 0.62, 2, "0", load=0.05),
        Job("103", 0.08, 0.05, 4, load=0.3),
        Job("104", 0.17, 0.04, 1, "1"),
        Job("105", 0.23, 0.30, 2, "1,2", load=0.1, mem_mib=120),
        Job("106", 0.30, 0.22, 4, load=0.2),
        Job("107", 0.31, 0.15, 1, load=0.05),
        Job("108", 0.60, 0.03, 4, load=0.3),
        Job("109", 0.67, 0.25, 8, "2", load=0.1),
        Job("110", 0.80, 0.06, 2, "0,1", load=0.1),
    ]


@dataclass
class Kill:
    """One kill: how its instant was chosen, the instant, and when a daemon read something again."""

    kind: str
    t_ns: int
    back_ns: int = 0


@dataclass
class Day:
    """What is left of the day."""

    daemon: Daemon
    rig: PowerRig
    jobs: list[Job]
    kills: list[Kill] = field(default_factory=list)
    unknown: list[tuple[str, int]] = field(default_factory=list)
    """For how long each domain's energy was not known before the first kill: a busy machine may start slowly."""
    truth: Shares = field(default_factory=dict)
    books: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def domains(self) -> list[str]:
        return list(self.daemon.node.counters)


class Cgroups:
    """Job cgroups as Slurm makes them, below a folder that the daemon takes for /sys/fs/cgroup."""

    def __init__(self, root: Path, load: Path) -> None:
        self._load = load
        self._parents = [CGROUPS / one / f"slurm_jikill{os.getpid()}" for one in CONTROLLERS]
        for controller, parent in zip(CONTROLLERS, self._parents, strict=True):
            (parent / "uid_0").mkdir(parents=True)
            (root / controller).mkdir(parents=True)
            (root / controller / "slurm_n1").symlink_to(parent)

    def start(self, job: Job) -> None:
        folders = [parent / "uid_0" / f"job_{job.name}" for parent in self._parents]
        for folder in folders:
            folder.mkdir()
        join = "".join(f"echo $$ > {folder}/cgroup.procs && " for folder in folders)
        load = f"{self._load} --cpu {job.load} --mem {job.mem_mib}M --seconds 1000 --period-ms 5"
        job.process = subprocess.Popen(["/bin/sh", "-c", f"{join} exec {load}"])

    def end(self, job: Job) -> None:
        if job.process is None:
            return
        job.process.kill()
        job.process.wait()
        for parent in self._parents:
            _remove(parent / "uid_0" / f"job_{job.name}")

    def close(self, jobs: list[Job]) -> None:
        for job in jobs:
            self.end(job)
        for parent in self._parents:
            _remove(parent / "uid_0")
            _remove(parent)


def _remove(folder: Path) -> None:
    """A cgroup whose process has just died is busy for a moment."""
    for _ in range(100):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)
        else:
            return


class Timeline:
    """The jobs' edges, each when it is due; a Prolog's mark comes before the cgroup, an Epilog's after it is gone."""

    def __init__(self, daemon: Daemon, jobs: list[Job], length_s: float, cgroups: Cgroups | None) -> None:
        self._daemon, self._cgroups = daemon, cgroups
        now, length_ns = boot_ns(), length_s * NS_PER_S
        edges = [(job.start, "start", job) for job in jobs]
        edges += [(job.start + job.length, "end", job) for job in jobs]
        self.edges = [
            (now + round(part * length_ns), event, job) for part, event, job in sorted(edges, key=lambda edge: edge[0])
        ]

    def run(self, seconds: float = 0.0, done: Callable[[], object] = bool) -> None:
        """Let so much time pass, or until something is done, with every edge in time."""
        end_ns = boot_ns() + round(seconds * NS_PER_S)
        while True:
            while self.edges and self.edges[0][0] <= boot_ns():
                self.step()
            left_ns = end_ns - boot_ns()
            if left_ns <= 0 or done():
                return
            time.sleep(min(left_ns / NS_PER_S, 0.002))

    def step(self) -> None:
        """The next edge, now."""
        _, event, job = self.edges.pop(0)
        if event == "end" and self._cgroups is not None:
            self._cgroups.end(job)
        fields: dict[str, object] = {"cpus": job.cpus, "uid": 0} if event == "start" else {}
        if event == "start" and job.gpus:
            fields["gpus"] = job.gpus
        t_ns = self._daemon.mark(event, job.name, **fields)
        job.late_ns += max(0, boot_ns() - t_ns - EDGE_NS)
        if event == "start":
            job.start_ns = t_ns
            if self._cgroups is not None:
                self._cgroups.start(job)
        else:
            job.end_ns = t_ns


class Reaper:
    """Starts the daemon and kills it, again and again; each file that a kill left behind is looked at.

    Args:
        day: the daemon and where its kills are noted.
        timeline: goes on meanwhile.
        dice: which instants.
    """

    def __init__(self, day: Day, timeline: Timeline, dice: random.Random) -> None:
        self._day, self._daemon, self._timeline, self._dice = day, day.daemon, timeline, dice
        self._wal = Path(f"{self._daemon.store}/n1.sqlite-wal")

    def start(self) -> None:
        """Start it, and do not wait."""
        self._size = self._recorded()
        command = self._daemon.command("run", "--record", str(self._daemon.recording))
        with (self._daemon.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, env={**os.environ, **self._daemon.node.env}, stderr=log)

    def wait(self) -> None:
        """Until it has read something, with its commit."""
        self._timeline.run(WAIT_S, lambda: self._recorded() > self._size)
        assert self._recorded() > self._size, (self._daemon.folder / "log").read_text()
        for kill in self._day.kills:
            kill.back_ns = kill.back_ns or boot_ns()

    def kill(self) -> None:
        """Once, at an instant of one of four kinds."""
        kind = self._dice.choices(("any", "mark", "commit", "start"), (4, 3, 2, 1))[0]
        if kind == "start":
            self._timeline.run(self._dice.uniform(0.02, 0.5))
        elif kind == "commit":
            # The first reading is committed at once; a mark is, too.
            if self._dice.random() < 0.5:
                self.wait()
                self._mark()
            self._until_written()
        else:
            self.wait()
            if kind == "mark":
                self._mark()
                self._timeline.run(self._dice.uniform(0, 0.08))
            else:
                self._timeline.run(min(2.0, self._dice.expovariate(1.5)))
        self._end(signal.SIGKILL)
        self._day.kills.append(Kill(kind, boot_ns()))
        self._look()

    def pause(self) -> None:
        """Start again at once, or after up to two seconds."""
        self._timeline.run(self._dice.choice((0, 0, 0, self._dice.uniform(0, 0.5), self._dice.uniform(0, 2))))

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def _mark(self) -> None:
        if self._timeline.edges and self._timeline.edges[0][0] - boot_ns() < SOON_NS:
            self._timeline.step()

    def _until_written(self) -> None:
        before = self._written()
        self._timeline.run(1.5, lambda: self._written() != before)
        time.sleep(self._dice.uniform(0, 0.003))

    def _written(self) -> tuple[int, int]:
        with suppress(FileNotFoundError):
            found = self._wal.stat()
            return found.st_size, found.st_mtime_ns
        return 0, 0

    def _recorded(self) -> int:
        return self._daemon.recording.stat().st_size if self._daemon.recording.exists() else 0

    def _end(self, number: int) -> None:
        self._process.send_signal(number)
        code = self._process.wait(WAIT_S)
        assert code == (0 if number == signal.SIGTERM else -number), (self._daemon.folder / "log").read_text()

    def _look(self) -> None:
        """In a copy, so that the next daemon finds the file as the kill has left it."""
        aside = self._daemon.folder / "aside"
        aside.mkdir()
        for file in self._daemon.store.glob("n1.sqlite*"):
            if not file.name.endswith(("-shm", ".lock")):
                shutil.copy(file, aside)
        if (aside / "n1.sqlite").exists():
            with sqlite3.connect(aside / "n1.sqlite") as db:
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                if db.execute("PRAGMA user_version").fetchone()[0]:
                    _check_sums(db)
            db.close()
        shutil.rmtree(aside)


def _check_sums(db: sqlite3.Connection) -> None:
    sums = dict(db.execute("SELECT domain, sum(uj) FROM ledger GROUP BY domain"))
    for name, uj in db.execute("SELECT name, measured_uj FROM domain"):
        assert sums.get(name, 0) == uj, name
    assert db.execute("SELECT job FROM run GROUP BY job HAVING count(*) > 1").fetchall() == []


class KilledDaemon(Daemon):
    """A node whose package wraps in mid day, with a system load beside the jobs'."""

    def __init__(self, folder: Path, length_s: float) -> None:
        now = boot_ns()
        power = Curve(now, watts((0.13, 180), (0.29, 60), (0.41, 140), (0.17, 90)))
        start_uj = MAX_RANGE_UJ - round(length_s / 2 * 110e6)
        rapl = {"package-0": counter(power, start_uj=start_uj), "dram-0": Curve.flat(now, 20_000_000)}
        gpus = tuple(
            gpu(f"GPU-{minor}", Curve(now, watts((0.21 + 0.05 * minor, 300 - 40 * minor), (0.33, 60))), minor=minor)
            for minor in range(3)
        )
        super().__init__(folder, gpus)
        shutil.rmtree(self.node.base)
        self.node = RigNode(
            "n1",
            folder / "node",
            rapl=rapl,
            gpus=gpus,
            cpus=CPUS,
            mem_bytes=MEM_BYTES,
            load=Curve.flat(now, 200_000),
            used_mem=Curve.flat(now, 1 << 30),
            cpuacct=folder / "cgroup/cpuacct",
            memory=folder / "cgroup/memory",
        )


def _compiled_load(folder: Path) -> Path:
    subprocess.run(["gcc", "-O1", "-o", folder / "load", LOAD_C], check=True)
    return folder / "load"


@contextmanager
def killed(folder: Path, kills: int, seed: int) -> Iterator[Day]:
    """A day with so many kills, and its truth."""
    length_s = 4 + 0.95 * kills
    daemon, jobs = KilledDaemon(folder, length_s), a_day()
    with ExitStack() as stack:
        cgroups = None
        if not lacking():
            cgroups = Cgroups(folder / "cgroup", _compiled_load(folder))
            stack.callback(cgroups.close, jobs)
        rig = stack.enter_context(PowerRig(folder, daemon.node))
        day = Day(daemon, rig, jobs)
        daemon.start()
        until(lambda: all(daemon.raw(domain) for domain in day.domains), "for all domains")
        daemon.stop()
        day.unknown = daemon.ask(UNKNOWN)
        timeline = Timeline(daemon, jobs, length_s, cgroups)
        reaper = Reaper(day, timeline, random.Random(seed))
        for _ in range(kills):
            reaper.start()
            reaper.kill()
            reaper.pause()
        reaper.start()
        reaper.wait()
        while timeline.edges:
            timeline.run(0.2)
        until(daemon.taken, "for the last marks")
        timeline.run(0.3)
        reaper.stop()
        rig.stop()
        windows, times = [job.window() for job in jobs], _reading_times(daemon)
        day.truth = node_truth(rig, rig.trace(), "n1", windows, (times[0], times[-1]), IDLE_W)
        day.books = {
            (domain, holder): uj for domain, holder, uj in daemon.ask("SELECT domain, holder, uj FROM ledger")
        }
        yield day


def _reading_times(daemon: Daemon, domain: str = "") -> list[int]:
    """When a domain has told a value, or anything was read."""
    found = [line for line in daemon.lines() if "read" in line]
    if domain:
        found = [line for line in found if any("uj" in one.get(domain, {}) for one in line["read"].values())]
    return [round(line["t"] * NS_PER_S) for line in found]


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    if REQUIRED and lacking():
        pytest.fail(lacking(), pytrace=False)
    # A fixture of a module comes before `compiled`, which is each test's.
    if shutil.which("gcc") is None:
        pytest.skip("the power rig needs gcc")
    with killed(tmp_path_factory.mktemp("kills"), KILLS, SEED) as found:
        yield found


pytestmark = pytest.mark.usefixtures("compiled")


def by_holder(shares: Shares | dict[tuple[str, str], int]) -> dict[str, float]:
    """Joules of each holder, over all domains."""
    found: dict[str, float] = {}
    for (_, holder), uj in shares.items():
        found[holder] = found.get(holder, 0) + uj / 1e6
    return found


def table(day: Day) -> list[str]:
    """Each holder's energy, by the rig and in the books, and what it may be off by."""
    true, ours = by_holder(day.truth), by_holder(day.books)
    off_j = {holder: ours.get(holder, 0.0) - true_j for holder, true_j in true.items()}
    return [
        f"{holder:>6}  true {true_j:10.3f} J  ours {true_j + off_j[holder]:10.3f} J  {off_j[holder] / true_j:+8.3%}"
        f"  {off_j[holder]:+8.3f} J of {allowed_j(day, holder, true_j):8.3f} J"
        for holder, true_j in sorted(true.items())
    ]


def allowed_j(day: Day, holder: str, true_j: float) -> float:
    """What a holder may be off by: 1 %, and for each gap that it has a part of what the gap hides.

    A gap has one sum of energy and of CPU time: who used when is not known, and an edge in it gets the mean power in
    place of its own. As often too much as too little, so it adds up by squares.
    """
    own = [job for job in day.jobs if holder in (job.name, "idle", "system")]
    hidden, since_ns = 0.0, 0
    for kill in day.kills:
        gap = max(since_ns, kill.t_ns - 2 * NS_PER_S), kill.back_ns
        since_ns = kill.back_ns
        touched = len(own) > 1 or (own[0].start_ns < gap[1] and own[0].end_ns > gap[0])
        if touched:
            hidden += (PACKAGE_PART * day.rig.true_uj("n1", "package-0", *gap) / 1e6) ** 2
        for job in own:
            edges = sum(gap[0] <= edge_ns <= gap[1] for edge_ns in (job.start_ns, job.end_ns))
            hidden += edges * len(job.window().gpus) * GPU_EDGE_J**2
    late_j = sum(job.late_ns for job in own) / 1e9 * true_j / sum((job.end_ns - job.start_ns) / 1e9 for job in own)
    return 0.01 * true_j + LEAST_J + hidden**0.5 + late_j


def test_every_kill_was_one(day: Day) -> None:
    """As many as were asked for, of more than one kind, and a daemon read again after each."""
    assert len(day.kills) == KILLS
    assert len({kill.kind for kill in day.kills}) > 1
    assert all(kill.back_ns > kill.t_ns for kill in day.kills)


def test_no_energy_is_lost_or_invented(day: Day) -> None:
    """Measured is the sum of the ledger, and the last raw value less the first: across all kills, and a wrap."""
    measured = day.daemon.measured()
    late_ns = (day.rig.trace().max_late_ns or 0) + READ_NS
    assert set(measured) == set(day.domains)
    for domain in day.domains:
        raw, counter = day.daemon.raw(domain), day.rig.counter("n1", domain)
        if counter.modulus:
            assert (raw[-1] - raw[0] - measured[domain]) % (counter.modulus * counter.unit) == 0
        else:
            assert measured[domain] == raw[-1] - raw[0]
        times = _reading_times(day.daemon, domain)
        true_uj = day.rig.true_uj("n1", domain, times[0], times[-1])
        assert measured[domain] == pytest.approx(true_uj, abs=400 * late_ns / 1000), domain
    assert day.daemon.raw("package-0")[-1] < day.daemon.raw("package-0")[0], "the package should have wrapped"
    # A counter that stood still at the last reading is not known since it moved: a refresh of a sensor, and no gap.
    unknown = dict(day.daemon.ask(UNKNOWN))
    assert not {name for name, ns in day.unknown if unknown[name] - ns > EDGE_NS}


def test_every_job_ran_once(day: Day) -> None:
    """No run twice, none lost, each with the time between its marks; every mark taken, and its file gone."""
    runs = {
        run: (job, state, ns) for run, job, state, ns in day.daemon.ask("SELECT run, job, state, elapsed_ns FROM run")
    }
    assert {run: found[:2] for run, found in runs.items()} == {job.name: (job.name, "ended") for job in day.jobs}
    for job in day.jobs:
        assert runs[job.name][2] == pytest.approx(job.end_ns - job.start_ns, abs=2 * EDGE_NS + job.late_ns), job.name
    assert day.daemon.taken()
    assert not [text for (text,) in day.daemon.ask("SELECT flags FROM run") if "mark" in text]
    # A reading may fall between a mark and its cgroup, and is told of it only by the next.
    kinds = {kind for (kind,) in day.daemon.ask("SELECT kind FROM finding")}
    assert kinds <= {"no idle power", "no start mark", "failed"}, day.daemon.ask("SELECT * FROM finding")


def test_every_holder_pays_its_true_energy(day: Day) -> None:
    """Jobs, idle and system, against the rig's curves and the jobs' own CPU time every 20 ms."""
    print("\n".join(table(day)))
    true, ours = by_holder(day.truth), by_holder(day.books)
    assert set(ours) == set(true)
    off_j = {holder: abs(ours[holder] - true_j) for holder, true_j in true.items()}
    assert not {holder for holder, true_j in true.items() if off_j[holder] > allowed_j(day, holder, true_j)}
    # What is too much with one is too little with another.
    print(f"with the wrong holder: {sum(off_j.values()) / 2:.1f} J of {sum(true.values()):.1f} J")
    assert sum(off_j.values()) / 2 < 0.02 * sum(true.values())


def test_a_run_that_was_killed_through_says_gap(day: Day) -> None:
    """Each run that held something while no daemon lived is flagged, and one that began after the last kill is not."""
    flags = {run: json.loads(text) for run, text in day.daemon.ask("SELECT run, flags FROM run")}
    for job in day.jobs:
        if any(job.start_ns < kill.t_ns < kill.back_ns < job.end_ns for kill in day.kills):
            assert "package-0 gap" in flags[job.name], job.name
        if job.start_ns > day.kills[-1].back_ns:
            assert not any("gap" in flag for flag in flags[job.name]), job.name


def main(kills: int = 50, seed: int = SEED) -> None:
    """Print a day."""
    with tempfile.TemporaryDirectory() as folder, killed(Path(folder), kills, seed) as day:
        print(f"{len(day.kills)} kills: {dict(Tally(kill.kind for kill in day.kills))}; {lacking() or 'cgroups v1'}")
        print("\n".join(table(day)))
        for domain in day.domains:
            raw = day.daemon.raw(domain)
            print(domain, day.daemon.measured()[domain], raw[-1] - raw[0])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
