"""Nodes of real daemons whose sources all meet one kind of fault at the same time, and what is seen of them.

Three nodes, since a part is booked from one source only and a node has one wattmeter: `many` (everything beside a
healthy RAPL), `plug` (RAPL and Kwollect beside a healthy GPU) and `modelled` (the model beside a healthy GPU).
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.daemon.running import POWER, Daemon, until
from tests.daemon.source_faults import stands
from tests.daemon.source_faults.stands import Json, Kind, Stand, Times
from tests.fakes import ipmi_sim, rig_amd
from tests.fakes.curve import NS_PER_S, Counter, Curve, boot_ns
from tests.fakes.rig import PowerRig, RigNode, build
from tests.fakes.rig_gpu import Gpu, gpu

FULL_S, SHORT_S = (60, 60, 70), (14, 12, 9)
"""How long each source is well, is not, and is well again."""
EDGE_NS = NS_PER_S
"""How long before a change the books are looked at."""
TICK_S = 0.1
PHASES = ("before", "during", "after")
NO_POWER_OVER_FILES = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
"""Root without this reads what its owner and the world may read, as anybody."""
OVER_SYS_MODULE = ["unshare", "-m", "sh", "-c", 'mount --bind "$1" /sys/module && shift && exec "$@"', "sh"]
NO_MOUNT = "needs root, to show a loaded driver in /sys/module"


@dataclass
class Seen:
    """One instant of one node: its file, and what `check` says."""

    t_ns: int
    domains: dict[str, Json] = field(default_factory=dict)
    sources: dict[str, Json] = field(default_factory=dict)
    ledger: dict[str, int] = field(default_factory=dict)
    runs: dict[str, Json] = field(default_factory=dict)
    findings: list[tuple[str, str, str]] = field(default_factory=list)
    check: list[str] = field(default_factory=list)
    status: int | None = None
    check_s: float = 0.0


class Node(Daemon):
    """One node under one kind of fault.

    Args:
        folder: for everything.
        kind: of the fault.
        parts: the stands that it happens to.
        witness: source and domain that are well all the time.
    """

    def __init__(
        self, folder: Path, kind: Kind, times: Times, parts: Sequence[Stand], witness: tuple[str, str]
    ) -> None:
        self.folder, self.kind, self.times, self.parts, self.witness = folder, kind, times, parts, witness
        self.store, self.marks = folder / "store", folder / "marks"
        self.recording, self.config = folder / "recording", folder / "jobimpact.yaml"
        self.process: subprocess.Popen[str] | None = None
        self._pid = 0
        self.seen: dict[str, Seen] = {}
        now = boot_ns()
        events = tuple(event for part in parts for event in part.rapl_events())
        rapl = {"package-0": Counter(Curve(now, POWER), events=events)}
        rapl["dram-0"] = Counter(Curve.flat(now, 20_000_000), events=events)
        gpus: tuple[Gpu, ...] = tuple(one for part in parts for one in part.gpus())
        if witness[0] == "nvml":
            gpus += (gpu("GPU-w", Curve.flat(now, stands.GPU_WATTS * 1_000_000)),)
        trouble = [one for part in parts for one in part.nvml_trouble()]
        self.node = RigNode(folder.name, folder / "node", rapl=rapl, gpus=gpus, nvml_trouble=trouble)
        for part in parts:
            part.know(self.node)

    def configure(self) -> None:
        """Real nodes' settings in the full form; in the short one, all times are scaled down."""
        sources = {part.source: part.settings() for part in self.parts}
        sources |= {"rapl": {"root": str(self.node.powercap.root)}} if self.witness[0] == "rapl" else {"nvml": {}}
        node: Json = {"name": "n1", "marks": str(self.marks), "proc_root": str(self.node.proc_root)}
        node["progress"] = None
        modules = [part.module() for part in self.parts if isinstance(part, stands.Amdsmi)]
        sys_root = modules[0].parent if modules else self.folder / "sys"
        node |= {"cgroup_root": str(self.folder / "cgroup"), "sources": sources, "sys_root": str(sys_root)}
        node |= {} if self.times.full else {"interval_s": 0.2, "max_gap_s": 3}
        config = {"cluster": "c", "store": {"local": {"path": str(self.store)}}, "node": node}
        config["scheduler"] = {"local": {"path": str(self.folder / "jobs")}}
        self.config.write_text(json.dumps(config))

    def wrapped(self, *arguments: str) -> list[str]:
        """A command of ours, where it may not read everything, and where a GPU's driver is loaded."""
        modules = [str(part.module()) for part in self.parts if isinstance(part, stands.Amdsmi)]
        before = [*OVER_SYS_MODULE, *modules] if modules else []
        before += NO_POWER_OVER_FILES if self.kind == "refused" and os.geteuid() == 0 else []
        return [*before, *self.command(*arguments)]

    @property
    def environ(self) -> dict[str, str]:
        """Of daemon and check."""
        mine = dict(os.environ) | self.node.env
        for part in self.parts:
            mine |= part.environ()
        return mine

    def start(self, *_: str) -> None:
        """Start it, and do not wait; what it logs goes to a file, which never fills up as a pipe does."""
        self.configure()
        command = self.wrapped("run", "--record", str(self.recording))
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen(command, env=self.environ, stderr=log, text=True)

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def edge(self, phase: str) -> None:
        """One phase's job ends and the next one's begins, which commits; then look into the file."""
        after = dict(zip(PHASES, (*PHASES[1:], None), strict=True))[phase]
        self.mark("end", phase)
        if after is not None:
            self.begin(after)
        until(lambda: self.taken() or not self.is_alive, f"for the marks of {self.folder.name} ({self.log})")
        self.look(self.seen.setdefault(phase, Seen(boot_ns())))

    def has_read(self) -> bool:
        """Whether it has read something, thrice."""
        return len(self.lines()) > 2

    def told_s(self, part: Stand, until_ns: int | None = None) -> float | None:
        """From a part's first value in the recording to its last one (before a time); None: there is none."""
        name = part.domain.partition(":")[0] if part.domain.startswith("node:") else part.domain
        found = [(line["t"], line.get("read", {}).get(part.source, {}).get(name)) for line in self.lines()]
        end_s = float("inf") if until_ns is None else until_ns / NS_PER_S
        times = [t for t, one in found if one and t <= end_s and not one.keys() & {"failed", "absent"}]
        return times[-1] - times[0] if times else None

    def is_well(self) -> bool:
        """Whether each of its parts has had a value."""
        return all(self.told_s(part) is not None for part in self.parts)

    def commit(self) -> None:
        """A job of a moment: each mark is committed, and the state of the sources with it."""
        self.mark("start", "moment", cpus=1)
        self.mark("end", "moment")
        until(lambda: self.taken() or not self.is_alive, f"for the marks of {self.folder.name}")

    def begin(self, phase: str) -> None:
        gpus = {"gpus": "0"} if any(isinstance(part, stands.Nvml) for part in self.parts) else {}
        self.mark("start", phase, cpus=8, uid=1000, **gpus)

    def look(self, seen: Seen) -> None:
        """What the file says now."""
        seen.t_ns = boot_ns()
        rows = self.ask("SELECT name, measured_uj, unknown_ns, known_ns, reason, source, method FROM domain")
        keys = ("uj", "unknown_ns", "known_ns", "reason", "source", "method")
        seen.domains = {row[0]: dict(zip(keys, row[1:], strict=True)) for row in rows}
        rows = self.ask("SELECT name, reads, failures, age_s, problem FROM source")
        keys = ("reads", "failures", "age_s", "problem")
        seen.sources = {row[0]: dict(zip(keys, row[1:], strict=True)) for row in rows}
        seen.ledger = dict(self.ask("SELECT domain, sum(uj) FROM ledger GROUP BY domain"))
        seen.findings = self.ask("SELECT kind, subject, text FROM finding ORDER BY id")

    def check(self, phase: str) -> None:
        """Run `jobimpactd check`, as an admin does."""
        seen = self.seen.setdefault(phase, Seen(boot_ns()))
        begin = time.monotonic()
        done = subprocess.run(
            self.wrapped("check"), env=self.environ, capture_output=True, text=True, check=False, timeout=120
        )
        seen.check_s = time.monotonic() - begin
        seen.check, seen.status = done.stdout.splitlines(), done.returncode
        if done.stderr:
            lines = done.stderr.splitlines()
            seen.check.append(f"stderr: {' ... '.join(dict.fromkeys((lines[0], lines[-1])))}")

    def end(self) -> None:
        """SIGTERM, and how it took that."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(120)

    def rate(self, from_ns: int, to_ns: int) -> tuple[float, float]:
        """The witness's good readings per second, and the longest time between two, in s."""
        source, domain = self.witness
        times = [
            line["t"]
            for line in self.lines()
            if "uj" in line.get("read", {}).get(source, {}).get(domain, {}) and from_ns <= line["t"] * NS_PER_S < to_ns
        ]
        gaps = [after - before for before, after in itertools.pairwise(times)]
        return len(times) / ((to_ns - from_ns) / NS_PER_S), max(gaps, default=float("inf"))


def lacking() -> dict[str, str]:
    """Rows of the table that this machine cannot stand in for, with the reason."""
    found = {"amdsmi": rig_amd.missing(), "ipmi": ipmi_sim.missing()}
    if not found["amdsmi"] and not _can_mount():
        found["amdsmi"] = NO_MOUNT
    return {row: why for row, why in found.items() if why}


def _can_mount() -> bool:
    command = [*OVER_SYS_MODULE, "/tmp", "true"]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0


MANY = (
    stands.Nvml, stands.Amdsmi, stands.Hwmon, stands.PmCounters, stands.Ipmi, stands.Redfish, stands.Csv,
)  # fmt: skip


class TooBusyError(Exception):
    """This machine could not keep to the timeline: nothing is said of what was to be seen on it."""


class Worlds:
    """All nodes, on one timeline.

    Args:
        folder: an empty one.
        full: hangs of a minute and real nodes' settings; else of some seconds.
        patience: how many times as long as usual it may take to start the nodes and to look at them.
    """

    def __init__(self, folder: Path, *, full: bool, patience: int = 1) -> None:
        build(), stands.rocm() if "amdsmi" not in lacking() else None
        self.lead_ns, fault_ns, self.after_ns = (seconds * NS_PER_S for seconds in (FULL_S if full else SHORT_S))
        self.lead_ns, self.edge_ns = patience * self.lead_ns, patience * EDGE_NS
        begin_ns = boot_ns() + self.lead_ns
        self.times = Times(begin_ns, begin_ns + fault_ns, full)
        self.folder, self.full = folder, full
        self.nodes: dict[tuple[str, Kind], Node] = {}
        self.paused_s = 0.0
        """For how long at the worst the machine left a process alone that was to run."""
        for kind in stands.KINDS:
            self._add("many", kind, MANY, ("rapl", "package-0"))
            self._add("plug", kind, (stands.Rapl, stands.Kwollect), ("nvml", "gpu:GPU-w"))
        self._add("modelled", "dies", (stands.Model,), ("nvml", "gpu:GPU-w"))

    def _add(self, name: str, kind: Kind, parts: Sequence[type[Stand]], witness: tuple[str, str]) -> None:
        folder = self.folder / f"{name}-{kind}"
        folder.mkdir()
        mine = [
            part(folder / part.row.replace(" ", "-"), kind, self.times) for part in parts if part.row not in lacking()
        ]
        self.nodes[name, kind] = Node(folder, kind, self.times, mine, witness)

    def run(self) -> None:
        """Play the whole timeline."""
        nodes = list(self.nodes.values())
        with ExitStack() as stack:
            stack.enter_context(PowerRig(self.folder, *(node.node for node in nodes)))
            for node in nodes:
                for part in node.parts:
                    stack.enter_context(part.playing())
            stack.enter_context(self._ticking([part for node in nodes for part in node.parts]))
            stack.callback(_kill, nodes)
            self._play(nodes)

    @contextmanager
    def _ticking(self, parts: list[Stand]) -> Iterator[None]:
        stop = threading.Event()

        def work() -> None:
            due = time.monotonic() + TICK_S
            while not stop.wait(max(0, due - time.monotonic())):
                self.paused_s = max(self.paused_s, time.monotonic() - due)
                for part in parts:
                    part.tick()
                due = time.monotonic() + TICK_S

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _play(self, nodes: list[Node]) -> None:
        """Each node is looked at in its file shortly before each change, and by `check` in mid phase."""
        times, failing = self.times, [node for node in nodes if node.kind in {"dies", "hangs"}]
        for node in nodes:
            node.start()
        for node in nodes:
            until(node.has_read, f"for {node.folder.name}: {node.log}")
            node.begin("before")
        for node in failing:
            until(lambda one=node: one.is_well() or not one.is_alive, f"for all of {node.folder.name}: {node.log}")
        # A library that takes long to load is found some seconds later.
        _check_time(times.from_ns - self.lead_ns // 2)
        _sleep_until(times.from_ns - self.lead_ns // 2)
        _all(nodes, lambda node: node.check("before"))
        _sleep_until(times.from_ns - self.edge_ns)
        _all(nodes, lambda node: node.edge("before"))
        _check_time(times.from_ns)
        _sleep_until(times.from_ns)
        for part in (part for node in failing for part in node.parts):
            part.fall()
        with ThreadPoolExecutor(len(failing)) as pool:
            _sleep_until(times.from_ns + (times.to_ns - times.from_ns) // 2)
            _all(failing, Node.commit)
            checks = [pool.submit(node.check, "during") for node in failing]
            _sleep_until(times.to_ns - self.edge_ns)
            _all(nodes, lambda node: node.edge("during"))
            _check_time(times.to_ns)
            _sleep_until(times.to_ns)
            for part in (part for node in failing for part in node.parts):
                part.heal()
            for one in checks:
                one.result()
        _sleep_until(times.to_ns + self.after_ns)
        _all(nodes, lambda node: node.edge("after"))
        _all(failing, lambda node: node.check("after"))
        for node in nodes:
            node.end()


def _all(nodes: list[Node], do: Callable[[Node], None]) -> None:
    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(do, nodes))


def _check_time(until_ns: int) -> None:
    late_ns = boot_ns() - until_ns
    if late_ns > 0:
        raise TooBusyError(f"{late_ns / NS_PER_S:.1f} s late: this machine is too busy for the timeline")


def _sleep_until(t_ns: int) -> None:
    time.sleep(max(0, t_ns - boot_ns()) / NS_PER_S)


def _kill(nodes: list[Node]) -> None:
    for node in nodes:
        if node.process is not None and node.is_alive:
            node.process.kill()
            node.process.wait()
