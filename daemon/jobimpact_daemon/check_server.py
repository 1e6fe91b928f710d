"""`jobimpactd check`, where a server is the store: does it let us in, and what waits to go there?"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from time import time

from jobimpact.core.config import Config, InfluxStore, VictoriaStore
from jobimpact.core.errors import StoreError
from jobimpact.core.nodefile import node_file, open_for_reading
from jobimpact.core.series import BOOKS, PROFILE, Retained
from jobimpact_daemon.check_slurm import Said
from jobimpact_daemon.outbox import LATE_S, PUBLISHER

__all__ = ["check_server"]

DEADLINE_S = 10.0
RECENT_S = 86400.0
"""What was set aside before is no news."""


def check_server(config: Config) -> list[Said]:
    """Ask the server for an empty write, and look at what waits for it.

    Args:
        config: the configuration; of a local store nothing is said.
    """
    store = config.store.server
    if store is None:
        return []
    path = node_file(config.store.folder, config.node.name)
    return [*_check_way(store), *_check_outbox(path, store.outbox_mb), *_others(path)]


def _check_way(store: InfluxStore | VictoriaStore) -> list[Said]:
    from jobimpact.core.server import Server

    server = Server(store)
    places: dict[Retained, str] = {BOOKS: server.url}
    if isinstance(store, InfluxStore):
        by = "its endpoint of 2.x" if store.token_file else "its endpoint of 1.x"
        places = {kept: f"{server.url}, {store.database}/{kept}, by {by}" for kept in (BOOKS, PROFILE)}
    said = []
    for kept, place in places.items():
        found = server.ping(kept, min(store.timeout_s, DEADLINE_S))
        if found.kind == "delivered":
            said.append(Said("ok", f"server: {place}: takes points"))
        else:
            said.append(Said("MEND", f"server: {place}: {found.said.removeprefix(f'{server.url}: ')}"))
            if found.kind == "later":
                break  # the other would say the same, after another while
    server.close()
    return said


def _check_outbox(path: Path, cap_mb: int) -> list[Said]:
    try:
        with closing(open_for_reading(path)) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'outbox'").fetchone():
                return [Said("note", "outbox: the daemon makes it at its next start")]
            return [_waiting(db, cap_mb), *_delivery(db), *_refused(db)]
    except (StoreError, sqlite3.Error) as error:
        # A file that is not there yet, or cannot be read, is told of with the store.
        return [] if isinstance(error, StoreError) else [Said("MEND", f"outbox: {path}: {error}")]


def _waiting(db: sqlite3.Connection, cap_mb: int) -> Said:
    n, size = db.execute("SELECT sum(n), sum(bytes) FROM outbox_size").fetchone()
    row = db.execute("SELECT stamp_ms FROM outbox ORDER BY id LIMIT 1").fetchone()
    if row is None:
        return Said("ok", "outbox: empty: the server has every point")
    age_s = time() - row[0] / 1000
    text = f"outbox: {n} points wait, {size / 2**20:.1f} of {cap_mb} MB, the oldest since {_stamp(row[0] / 1000)}"
    if age_s <= LATE_S:
        return Said("ok", text)
    return Said("MEND", f"{text}: they go when the server takes points again and the daemon runs")


def _others(ours: Path) -> list[Said]:
    """A node that was renamed has left a file, in which points may wait for ever."""
    said = []
    for path in sorted(ours.parent.glob("*.sqlite")):
        try:
            if path == ours:
                continue
            with closing(open_for_reading(path)) as db:
                [left] = db.execute("SELECT sum(n) FROM outbox_size").fetchone()
        except (StoreError, sqlite3.Error):
            continue  # none of a node, or of an earlier release, which had no outbox
        if left:
            text = f"outbox: {path}: {left} points wait in a file of another name: they go when a daemon runs with it"
            said.append(Said("MEND", text))
    return said


def _delivery(db: sqlite3.Connection) -> list[Said]:
    row = db.execute("SELECT wall_s, reads, failures, problem FROM source WHERE name = ?", (PUBLISHER,)).fetchone()
    if row is None:
        return [Said("note", "publisher: has not said anything yet")]
    wall_s, batches, failures, problem = row
    text = f"publisher, {_stamp(wall_s)}: {batches} batches delivered, {failures} failures since the daemon's start"
    return [Said("MEND" if problem else "ok", text + (f": {problem}" if problem else ""))]


def _refused(db: sqlite3.Connection) -> list[Said]:
    row = db.execute("SELECT wall_s, line, said FROM refused ORDER BY id DESC LIMIT 1").fetchone()
    if row is None:
        return []
    [count] = db.execute("SELECT count(*) FROM refused").fetchone()
    wall_s, line, said = row
    shown = ascii(str(line)[:100])[1:-1]
    text = f"refused: {count} points were set aside (table `refused`), last {_stamp(wall_s)}: {shown}: {said}"
    return [Said("MEND" if time() - wall_s < RECENT_S else "note", text)]


def _stamp(at_s: float) -> str:
    try:
        return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{at_s:.0f} s of the epoch"
