"""A driven day through the real ledger and outbox, the real publisher at its work, and what each of them costs."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil
from tests.bench.store_day import DAY_S, DayNode, new_books
from tests.stores.servers import Influx, Server, Victoria, until

from jobimpact.core.config import Store
from jobimpact.core.nodefile import node_file, open_for_reading, open_for_writing
from jobimpact.core.server import Server as WriteServer
from jobimpact_daemon.ledger import Ledger
from jobimpact_daemon.outbox import Outbox
from jobimpact_daemon.publisher import PERIOD_S, Publisher

__all__ = ["Kept", "Published", "ServerCost", "Watch", "Way", "disk_bytes", "keep_books", "publish", "queued"]

CLUSTER = "lab"


class Kept(msgspec.Struct):
    """What a node's books took; CPU in seconds."""

    commits: int = 0
    points: int = 0
    """That were put into the outbox."""
    observe_s: float = 0.0
    """Of the bookkeeper."""
    commit_s: float = 0.0
    """Of the ledger, with its outbox where it has one."""
    rounds: int = 0
    """Deliveries on the way, one in 10 s."""
    publish_s: float = 0.0
    """Of these."""
    published: Published = msgspec.field(default_factory=lambda: Published())


class Published(msgspec.Struct):
    """What was delivered."""

    points: int = 0
    raw_bytes: int = 0
    """As lines."""
    wire_bytes: int = 0
    """As sent: compressed, with what HTTP adds."""
    cpu_s: float = 0.0
    wall_s: float = 0.0
    requests: int = 0


class Way:
    """The real publisher of a node's file, which delivers when it is told to.

    Args:
        path: the node's file.
        store: with a server.
    """

    def __init__(self, path: Path, store: Store) -> None:
        assert store.server is not None
        self._server = CountingServer(store.server)
        self._publisher = Publisher(path, self._server, confirm_s=0.0)  # nothing is killed here
        self.told = Published()

    def deliver(self) -> None:
        """All that waits.

        Raises:
            RuntimeError: something was wrong.
        """
        begin, cpu_s, before = time.perf_counter(), time.process_time(), self._publisher.delivery.batches
        self._publisher._round()
        delivery = self._publisher.delivery
        if delivery.problem or delivery.failures:
            raise RuntimeError(delivery.problem or "points were refused")
        self.told.cpu_s += time.process_time() - cpu_s
        self.told.wall_s += time.perf_counter() - begin
        self.told.requests += delivery.batches - before

    def close(self) -> Published:
        """What it came to."""
        self.told.wire_bytes = self._server.sent_bytes
        self._server.close()
        return self.told


class CountingServer(WriteServer):
    """The real way to the server, which counts what it sends."""

    sent_bytes = 0

    def _exchange(
        self, target: str, body: bytes, headers: dict[str, str], until: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        said = sum(len(name) + len(value) + 4 for name, value in headers.items())
        self.sent_bytes += len(body) + said + len(target) + LEAST_HEADERS
        return super()._exchange(target, body, headers, until)


LEAST_HEADERS = 70
"""Bytes of `POST ... HTTP/1.1`, Host and Content-Length, about."""


def keep_books(
    folder: Path,
    node: DayNode,
    store: Store,
    seconds: int = DAY_S,
    *,
    cap_bytes: int | None = None,
    live: bool = False,
) -> Kept:
    """Keep a node's books over its day.

    Args:
        folder: for its file.
        node: what it reads.
        store: for which server points are put into its outbox; local: for none.
        seconds: how much of the day.
        cap_bytes: of the outbox; None: as the store says.
        live: deliver every 10 s of the day, as the daemon does.
    """
    outbox = Outbox(store.server, CLUSTER, node.name, cap_bytes) if store.server else None
    path = node_file(folder, node.name)
    if live:
        _count(path)
    ledger = Ledger(path, node.name, CLUSTER, keep=True, outbox=outbox)
    way = Way(ledger.path, store) if live else None
    books, kept, due_s = new_books(node), Kept(), 0.0
    for tick in node.ticks(seconds):
        begin = time.process_time()
        books.observe(tick.seen, tick.marks)
        observed = time.process_time()
        kept.observe_s += observed - begin
        if tick.commits:
            health = node.health(tick.seen.t_ns)
            begin = time.process_time()
            if not ledger.commit(books, (), health):
                raise RuntimeError(f"{ledger.path}: {ledger.trouble}")
            kept.commit_s += time.process_time() - begin
            kept.commits += 1
        if way is not None and tick.seen.wall_s >= due_s:
            due_s = tick.seen.wall_s + PERIOD_S
            way.deliver()
            kept.rounds += 1
    if way is not None:
        way.deliver()
        kept.published = way.close()
        kept.publish_s = kept.published.cpu_s
    ledger.close()
    kept.points = _counted(path) if live else queued(folder, node.name)[1]
    return kept


def _count(path: Path) -> None:
    """Have the file count what is put into its outbox: what is delivered is deleted there."""
    db = open_for_writing(path)
    db.executescript("""
        CREATE TABLE put (n INTEGER NOT NULL);
        INSERT INTO put VALUES (0);
        CREATE TRIGGER put_counts AFTER INSERT ON outbox BEGIN UPDATE put SET n = n + new.n; END;
    """)
    db.close()


def _counted(path: Path) -> int:
    db = open_for_reading(path)
    try:
        return int(db.execute("SELECT n FROM put").fetchone()[0])
    finally:
        db.close()


def publish(folder: Path, name: str, store: Store) -> Published:
    """Deliver all that waits in a node's file."""
    path = node_file(folder, name)
    _, points, _ = queued(folder, name)
    # The daemon has its file open meanwhile: whoever closes it last has all of it written to the disk.
    held = open_for_writing(path)
    held.execute("PRAGMA synchronous=OFF")
    way = Way(path, store)
    way.deliver()
    found = way.close()
    held.close()
    found.points = points
    if queued(folder, name)[1]:
        raise RuntimeError(f"{path}: not all was delivered")
    return found


def queued(folder: Path, name: str) -> tuple[int, int, int]:
    """What waits in a node's file: rows, points, and packed bytes."""
    db = open_for_reading(node_file(folder, name))
    try:
        found = db.execute("SELECT count(*), coalesce(sum(n), 0), coalesce(sum(length(lines)), 0) FROM outbox")
        rows, points, size = found.fetchone()
    finally:
        db.close()
    return int(rows), int(points), int(size)


@dataclass(frozen=True)
class ServerCost:
    """What a server took."""

    cpu_s: float
    peak_mb: float


class Watch:
    """A server's CPU time from now on, and its largest memory since it started."""

    def __init__(self, server: Server) -> None:
        self._process = psutil.Process(server.pid)
        self._from_s = self._cpu_s()

    def _cpu_s(self) -> float:
        found = self._process.cpu_times()
        return found.user + found.system

    def told(self) -> ServerCost:
        """So far."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        peak_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        return ServerCost(self._cpu_s() - self._from_s, peak_kb / 1e3)


def disk_bytes(server: Server) -> int:
    """What the server's data take on disk once they are compacted; it is restarted for that."""
    if isinstance(server, Victoria):
        server.ask("GET", "/internal/force_flush")
        server.ask("GET", "/internal/force_merge")
        server.restart()
        return _settled(server.folder / "data")
    behind = server if isinstance(server, Influx) else getattr(server, "engine")  # noqa: B009 (InfluxV2 has one)
    # As after hours without a write, which nobody waits for here.
    cold = '[data]\ncache-snapshot-write-cold-duration = "2s"\ncompact-full-write-cold-duration = "4s"\n'
    behind._settings = behind._settings.replace("[data]\n", cold)
    log = behind.folder / "log"
    before = log.stat().st_size
    behind.restart()
    until(lambda: b"Cache snapshot (end)" in log.read_bytes()[before:], behind.log)
    # The WAL's last segment stays, with what the others have by now.
    return _settled(behind.folder / "data")


def _settled(folder: Path) -> int:
    """Its size once nothing has changed in it for some seconds."""
    last, since = -1, time.monotonic()
    while time.monotonic() - since < 8:
        found = _bytes(folder)
        if found != last:
            last, since = found, time.monotonic()
        time.sleep(0.5)
    return last


def _bytes(folder: Path) -> int:
    """What it takes: some of its files have holes."""
    found = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                found += Path(root, name).stat().st_blocks * 512
            except FileNotFoundError:
                continue  # compacted away just now
    return found
