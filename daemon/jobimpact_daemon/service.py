"""The daemon's life: put together from its configuration, started, stopped by a signal."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TextIO

from inotify_simple import INotify

from jobimpact.core.clock import Clock, SystemClock
from jobimpact.core.config import Config
from jobimpact.core.errors import StoreError
from jobimpact.core.nodefile import node_file
from jobimpact.core.records import NodeFacts
from jobimpact.core.units import NS
from jobimpact_daemon.bookkeeper import Bookkeeper, Observation
from jobimpact_daemon.jobs.gpus import named
from jobimpact_daemon.jobs.marks import MarkFolder
from jobimpact_daemon.jobs.node import NETWORK, NodeProc, file_system
from jobimpact_daemon.jobs.progress_socket import ProgressSocket
from jobimpact_daemon.jobs.usage import UsageReader
from jobimpact_daemon.ledger import Ledger
from jobimpact_daemon.notify import Notifier
from jobimpact_daemon.outbox import Outbox
from jobimpact_daemon.publisher import Publisher
from jobimpact_daemon.recording import Recorder
from jobimpact_daemon.replay import make_books
from jobimpact_daemon.sampler import Sampler
from jobimpact_daemon.sources.base import Meter, Source
from jobimpact_daemon.sources.model import Model
from jobimpact_daemon.sources.poller import Poller
from jobimpact_daemon.sources.rapl import Rapl

__all__ = ["make_sources", "node_facts", "run"]

log = logging.getLogger(__name__)

HWMON_DEADLINE_S = 2.0


def make_sources(config: Config, clock: Clock) -> list[Source]:
    """The sources that are switched on.

    What a node does not have is not imported: NVML's, HTTP's and AMD's libraries each cost megabytes.
    """
    on, name, sys_root = config.node.sources, config.node.name, Path(config.node.sys_root)
    polled = partial(_polled, clock, config.node.max_gap_s)
    found: list[Source] = []
    if on.rapl is not None:
        found.append(Rapl(Path(on.rapl.root), on.rapl.max_w))
    if on.nvml is not None:
        from jobimpact_daemon.sources.nvml import Nvml

        found.append(Nvml(on.nvml.deadline_s, sys_root))
    if on.amdsmi is not None and find_spec("amdsmi") is not None:
        from jobimpact_daemon.sources.amdsmi import Amdsmi

        found.append(Amdsmi(on.amdsmi.deadline_s, sys_root))
    if on.hwmon is not None:
        from jobimpact_daemon.sources.hwmon import Hwmon

        found.append(polled(Hwmon(Path(on.hwmon.root)), on.hwmon.period_s, HWMON_DEADLINE_S, integrate=True))
    if on.pmcounters is not None:
        from jobimpact_daemon.sources.pmcounters import PmCounters

        found.append(PmCounters(Path(on.pmcounters.root)))
    if on.wattmeter is not None:
        from jobimpact_daemon.sources.wattmeter import Wattmeter

        meter = Wattmeter(on.wattmeter, name, clock, max_gap_s=config.node.max_gap_s)
        found.append(polled(meter, on.wattmeter.period_s, on.wattmeter.deadline_s))
    if on.redfish is not None:
        from jobimpact_daemon.sources.redfish import Redfish

        found.append(polled(Redfish(on.redfish, name), on.redfish.period_s, on.redfish.deadline_s))
    if on.ipmi is not None:
        from jobimpact_daemon.sources.ipmi import Ipmi

        found.append(polled(Ipmi(on.ipmi, name), on.ipmi.period_s, on.ipmi.deadline_s))
    if on.model is not None:
        cpus = node_facts(config, NodeProc(Path(config.node.proc_root))).cpus
        found.append(Model(clock, Path(config.node.proc_root), cpus, on.model.tdp_w, on.model.idle_w))
    return found


def _polled(
    clock: Clock, max_gap_s: float, meter: Meter, period_s: float, deadline_s: float, *, integrate: bool = False
) -> Poller:
    return Poller(meter, clock, period_s=period_s, deadline_s=deadline_s, integrate=integrate, max_gap_s=max_gap_s)


def node_facts(config: Config, proc: NodeProc) -> NodeFacts:
    """The node's size: as configured, else as the kernel tells it."""
    node = config.node
    return NodeFacts(
        node.cpus or proc.cpus() or os.cpu_count() or 1, node.mem_bytes or proc.mem_bytes() or 0, node.gpus
    )


def run(config: Config, record: TextIO | None = None) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        StoreError: the ledger cannot be opened, or another daemon has it.
    """
    clock = SystemClock()
    path = node_file(config.store.folder, config.node.name)
    lock = _lock(path)
    proc = NodeProc(Path(config.node.proc_root))
    facts = node_facts(config, proc)
    outbox, publisher = _way_out(config, path)
    ledger = Ledger(path, config.node.name, config.cluster, outbox=outbox)
    state, taken, resumed = ledger.load(facts)
    books = make_books(config, state, ledger)
    books.accounts = ledger.accounts(state)
    inotify = INotify()
    marks = MarkFolder(Path(config.node.marks), inotify, config.node.mark_owners)
    marks.take(list(taken))
    boot = proc.boot_id()
    _go_on(books, marks, boot, resumed=resumed)
    place = config.node.progress
    progress = None if place is None else ProgressSocket(Path(place), proc.processes, clock.wall_s)
    sources = make_sources(config, clock)
    sampler = Sampler(
        clock=clock,
        interval_s=config.node.interval_s,
        sources=sources,
        usage=UsageReader(
            proc,
            Path(config.node.cgroup_root),
            config.node.name,
            state.cgroups,
            inotify,
            slurmd=config.node.slurmd,
        ),
        marks=marks,
        inotify=inotify,
        books=books,
        ledger=ledger,
        facts=facts,
        topology=partial(proc.packages, Path(config.node.sys_root)),
        boot=boot,
        notifier=Notifier(),
        recorder=Recorder(record) if record else None,
        progress=progress,
    )
    _stop_by_signal(sampler)
    log.info("%s: %s", config.node.name, "going on" if resumed else "starting new books")
    if publisher is not None:
        publisher.start()
    sampler.run()
    for source in sources:
        source.close()
    if progress is not None:
        progress.close()
    if publisher is not None:
        publisher.stop()
    ledger.close()
    lock.close()
    log.info("%s: ended cleanly", config.node.name)


def _way_out(config: Config, path: Path) -> tuple[Outbox | None, Publisher | None]:
    """Where a server is the store, what is to go to it and who brings it there; HTTP is imported only then."""
    store = config.store.server
    if store is None:
        return None, None
    from jobimpact.core.server import Server

    outbox = Outbox(store, config.cluster, config.node.name)
    publisher = Publisher(path, Server(store))
    outbox.delivery = lambda: publisher.delivery
    return outbox, publisher


def _go_on(books: Bookkeeper, marks: MarkFolder, boot: str, *, resumed: bool) -> None:
    """After a restart the next readings span a gap; after a reboot the old boot's marks come first."""
    state = books.state
    if not resumed:
        state.boot = boot
    elif state.boot == boot:
        books.resume()
    else:
        old = [(name, mark) for name, mark in marks.waiting() if mark.boot == state.boot]
        if old:
            last_ns = state.holdings.t_ns
            t_ns = max(last_ns, *(mark.t_ns for _, mark in old))
            wall_s = state.wall_s + (t_ns - last_ns) / NS
            books.observe(Observation(t_ns, wall_s, {}), [named(mark, state.minors) for _, mark in old])
            marks.take([name for name, _ in old])
        log.warning("the node has booted since: closing %d open runs", len(state.holdings.open_runs()))
        books.reboot(boot)


def _lock(path: Path) -> TextIO:
    """Two daemons on one file would charge everything twice; a network file system would lose it."""
    kind = file_system(path.parent)
    if kind in NETWORK:
        raise StoreError(f"{path}: on {kind}: the books need a local file system")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_suffix(".lock").open("w", encoding="ascii")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StoreError(f"{path}: another jobimpactd is running with it") from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    return file


def _stop_by_signal(sampler: Sampler) -> None:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        sampler.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    signal.set_wakeup_fd(sampler.wake_fd)
