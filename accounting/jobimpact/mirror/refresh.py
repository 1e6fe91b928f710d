"""The mirror: the nodes' books as they came through a server, in files like the nodes' own, for all that reads those.

A few questions a day of the time that is read, however many jobs there are. All of a day is read before any of it is
written; each node's part is one transaction. To read a time again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from jobimpact.core.config import Config, Store
from jobimpact.core.errors import StoreError
from jobimpact.core.nodefile import node_file
from jobimpact.core.series import JOB_ENERGY, JOB_LABEL, JOB_PROGRESS, JOB_RUN, NODE_BOOKS, NODE_DOMAIN, Measurement
from jobimpact.mirror.node import FileError, NodeMirror, last_of
from jobimpact.mirror.points import DAY_MS, MARGIN_MS
from jobimpact.mirror.rows import Arrivals, Arrived
from jobimpact.store.reader import reader_of
from jobimpact.store.series import HOUR_MS, Row, SeriesReader, spans

__all__ = ["Mirror", "books_folder", "refresh", "stands"]


def books_folder(store: Store) -> Path:
    """Where accounting reads: the nodes' own files, or where a server is the store, their mirror."""
    return store.folder / "mirror" if store.server else store.folder


def refresh(config: Config, from_s: float, now_s: float) -> list[str]:
    """Take in what the server has, where one is the store: see `Mirror.refresh`.

    Raises:
        ConfigError: its secrets cannot be read.
        StoreError: it cannot be read, or the mirror cannot be written.
    """
    if config.store.server is None:
        return []
    reader = reader_of(config.store)
    try:
        with Mirror(reader, books_folder(config.store), config.cluster, config.nightly.look_back_days) as mirror:
            return mirror.refresh(from_s, now_s)
    finally:
        reader.close()


def stands(folder: Path, cluster: str | None = None) -> dict[str, int]:
    """By node that is mirrored, the commit at which it stands, in ms; of one cluster, or of all.

    Raises:
        StoreError: the folder cannot be read.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".sqlite") if folder.exists() else []
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror}") from error
    found = {}
    for path in paths:
        last_ms = last_of(path, cluster)
        if last_ms is not None:
            found[path.stem] = last_ms
    return found


class Mirror:
    """The files of one cluster's nodes.

    Args:
        reader: of the server.
        folder: where they lie; made if it is not there.
        cluster: whose nodes they are.
        look_back_days: so far before the last commit of a node everything is read again.
    """

    def __init__(self, reader: SeriesReader, folder: Path, cluster: str, look_back_days: int = 3) -> None:
        self._reader = reader
        self._folder = folder
        self._cluster = cluster
        self._look_back_ms = look_back_days * DAY_MS
        self._now_ms = 0
        self._problems: dict[str, None] = {}
        self._nodes: dict[str, NodeMirror | StoreError] = {}
        """Those that are open, and why one cannot be written."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for _node, one in self._writable():
            one.close()
        self._nodes.clear()

    def refresh(self, from_s: float, to_s: float) -> list[str]:
        """Take in what the server has of a time, and all that may have come late.

        Args:
            from_s: from here at the latest, epoch seconds.
            to_s: until here, and to where the mirror stands, so that nothing between is missed. Should be now.

        Returns:
            What was left out, and which node's file cannot be written, a line each.

        Raises:
            StoreError: the server cannot be read, or nothing can be written: what was read of a day before stays.
                Where one node's file alone cannot, that is told, and the other nodes' are.
        """
        self._problems = {}
        self._now_ms = to_ms = int(to_s * 1000)
        self._make_folder()
        there = stands(self._folder, self._cluster)
        begin_ms = int(from_s * 1000)
        if there:
            begin_ms = min(begin_ms, max(there.values()) - self._look_back_ms)
            to_ms = max(to_ms, max(there.values()) + 1)
            begin_ms = min([begin_ms, *self._late(there, begin_ms, to_ms)])
        begin_ms = max(begin_ms // HOUR_MS * HOUR_MS, 0)
        for from_ms, until_ms in spans(begin_ms, to_ms, DAY_MS):
            self._take(from_ms, until_ms)
        for node, mirror in self._writable():
            with self._only(node):
                mirror.prune(to_ms)
        broken = {node: one for node, one in self._nodes.items() if isinstance(one, StoreError)}
        if broken and not (there.keys() | self._nodes.keys()) - broken.keys():
            raise next(iter(broken.values()))
        return list(self._problems)

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self._folder}: {error.strerror}") from error

    def _late(self, there: dict[str, int], begin_ms: int, to_ms: int) -> Iterable[int]:
        """Where nodes stand that were silent for longer than all is read again, and have said something since."""
        behind = {node: at for node, at in there.items() if at < begin_ms}
        if not behind:
            return []
        arrivals = Arrivals(self._cluster)
        arrivals.add(NODE_BOOKS, self._reader.latest(NODE_BOOKS, min(behind.values()), to_ms, self._where()))
        return [at for node, at in behind.items() if max(arrivals.nodes.get(node, Arrived()).books, default=at) > at]

    def _take(self, from_ms: int, to_ms: int) -> None:
        """One day, or a part of it."""
        arrivals = Arrivals(self._cluster)
        self._read(arrivals, self._reader.latest, (NODE_BOOKS, JOB_RUN), from_ms, to_ms)
        if arrivals.nodes:
            self._read(arrivals, self._reader.latest, (JOB_LABEL,), from_ms, to_ms)
            self._read(arrivals, self._reader.rows, (JOB_PROGRESS,), from_ms, to_ms)
            self._read(arrivals, self._reader.edges, (NODE_DOMAIN, JOB_ENERGY), from_ms, to_ms)
            # Near midnights all: there a day's books are cut. Near now, too: the last commit may be half here.
            near = [(from_ms, min(from_ms + MARGIN_MS, to_ms)), (max(to_ms - MARGIN_MS, from_ms + MARGIN_MS), to_ms)]
            for begin_ms, end_ms in near:
                if begin_ms < end_ms:
                    self._read(arrivals, self._reader.rows, (NODE_DOMAIN, JOB_ENERGY), begin_ms, end_ms)
        for node, arrived in sorted(arrivals.nodes.items()):
            with self._only(node):
                self._take_node(node, arrived, from_ms, to_ms)
        self._tell(arrivals.problems)
        for _, one in self._writable():
            self._tell(one.problems)
            one.problems.clear()

    def _take_node(self, node: str, arrived: Arrived, from_ms: int, to_ms: int) -> None:
        one = self._open(node, new=bool(arrived.books))
        if one is None or one.take(arrived, from_ms, to_ms, self._now_ms, everything=False):
            return
        everything = Arrivals(self._cluster)
        everything.nodes[node] = arrived
        measurements = (NODE_BOOKS, NODE_DOMAIN, JOB_ENERGY)
        self._read(everything, self._reader.rows, measurements, from_ms, to_ms, node=node)
        one.take(arrived, from_ms, to_ms, self._now_ms, everything=True)

    @contextmanager
    def _only(self, node: str) -> Iterator[None]:
        """What is wrong with one node's file is told, and stops no other's."""
        try:
            yield
        except FileError as error:
            if error.of_all:
                raise
            if isinstance(one := self._nodes.get(node), NodeMirror):
                one.close()
            self._nodes[node] = error
            self._tell([str(error)])

    def _writable(self) -> list[tuple[str, NodeMirror]]:
        return [(node, one) for node, one in self._nodes.items() if isinstance(one, NodeMirror)]

    def _read(
        self,
        arrivals: Arrivals,
        ask: Callable[..., Iterable[Row]],
        measurements: tuple[Measurement, ...],
        from_ms: int,
        to_ms: int,
        **where: str,
    ) -> None:
        for of in measurements:
            arrivals.add(of, ask(of, from_ms, to_ms, self._where() | where))

    def _where(self) -> dict[str, str]:
        return {"cluster": self._cluster}

    def _open(self, node: str, *, new: bool) -> NodeMirror | None:
        """A node's file; None where it cannot be, which is told."""
        if node not in self._nodes:
            path = node_file(self._folder, node)
            if not new and not path.exists():
                self._tell([f"{node}: runs, and no books of the node itself: left out"])
                return None
            self._nodes[node] = NodeMirror(path, node, self._cluster)
        found = self._nodes[node]
        return found if isinstance(found, NodeMirror) else None

    def _tell(self, problems: Iterable[str]) -> None:
        self._problems.update(dict.fromkeys(problems))
