"""`jobimpactd check`: in plain words, what this node can measure, what not and why, and whether the hooks fit."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from jobimpact.core.clock import SystemClock
from jobimpact.core.config import Config
from jobimpact.core.errors import StoreError
from jobimpact.core.nodefile import node_file, open_for_reading
from jobimpact.core.records import Absent, Counter, Failed
from jobimpact_daemon.check_slurm import Said, check_slurm
from jobimpact_daemon.jobs.cgroups import layouts
from jobimpact_daemon.jobs.node import NETWORK, NodeProc, file_system
from jobimpact_daemon.service import make_sources, node_facts
from jobimpact_daemon.sources.base import Source

__all__ = ["check"]


def check(config: Config, path: Path) -> list[Said]:
    """Look at everything that the daemon needs. Changes nothing.

    Args:
        config: the configuration.
        path: where it was read.

    Returns:
        What was found, in the order in which an admin would ask.
    """
    proc = NodeProc(Path(config.node.proc_root))
    facts = node_facts(config, proc)
    size = f"{facts.cpus} CPUs, {facts.mem_bytes / 2**30:.1f} GiB"
    said = [Said("ok", f"node {config.node.name} of cluster {config.cluster}: {size} (configuration: {path})")]
    sources = make_sources(config, SystemClock())
    for source in sources:
        said += _check_source(source, config)
        source.close()
    said += _check_coverage(sources, config)
    said += [_check_marks(Path(config.node.marks)), *_check_store(config), _check_cgroups(config)]
    if config.scheduler.slurm is not None:
        said += check_slurm(config.node.name, facts)
    return said


def _check_source(source: Source, config: Config) -> list[Said]:
    domains = source.discover()
    readings = source.read()
    said = []
    for domain in domains:
        reading = readings.get(domain.name)
        name = f"{source.name}: {domain.name}"
        if isinstance(reading, Counter):
            idle = _idle(domain.name, domain.kind, config)
            said.append(Said("ok", f"{name}: {domain.method}, {reading.uj / 1e6:.1f} J{idle}"))
        elif isinstance(reading, Absent):
            said.append(Said("MEND", f"{name}: absent: {reading.reason}"))
        elif isinstance(reading, Failed):
            said.append(Said("MEND", f"{name}: failed: {reading.error}"))
    if source.problem:
        # No such hardware is a fact of the node, not something to mend.
        said.append(Said("note", f"{source.name}: {source.problem}"))
    return said


def _idle(name: str, kind: str, config: Config) -> str:
    rapl = config.node.sources.rapl
    if kind == "gpu" or rapl is None or not name.startswith(("package", "dram")):
        return ""
    watts = rapl.idle_w.get(name)
    return (
        f", idle {watts:g} W" if watts is not None else f" (idle power not known: set node.sources.rapl.idle_w.{name})"
    )


def _check_coverage(sources: list[Source], config: Config) -> list[Said]:
    """What nothing measures here, and configured domains that are not here."""
    domains = [domain for source in sources for domain in source.discover()]
    kinds = {domain.kind for domain in domains}
    names = {"cpu": "CPU packages", "dram": "DRAM", "gpu": "GPUs"}
    said = [Said("note", f"not measured here: {names[kind]}") for kind in ("cpu", "dram", "gpu") if kind not in kinds]
    rapl = config.node.sources.rapl
    known = {domain.name for domain in domains}
    for key in ("idle_w", "max_w") if rapl else ():
        strangers = sorted(getattr(rapl, key).keys() - known)
        said += [Said("MEND", f"node.sources.rapl.{key}: {name} is no domain of this node") for name in strangers]
    return said


def _check_marks(folder: Path) -> Said:
    try:
        info = folder.stat()
    except OSError as error:
        why = f"{error.strerror}: the daemon makes it at start, tmpfiles.d should at boot"
        return Said("MEND", f"marks: {folder}: {why}")
    if not stat.S_ISDIR(info.st_mode):
        return Said("MEND", f"marks: {folder}: not a folder")
    if info.st_mode & 0o022 and not info.st_mode & stat.S_ISVTX:
        mode = f"{stat.S_IMODE(info.st_mode):04o}"
        return Said("MEND", f"marks: {folder}: others may write to it (mode {mode}): make it 0700")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return Said("MEND", f"marks: {folder}: cannot be read and written by this user")
    waiting = sum(not name.startswith(".") and name != "rejected" for name in os.listdir(folder))
    return Said("ok", f"marks: {folder}: {waiting} waiting")


def _check_store(config: Config) -> list[Said]:
    path = node_file(Path(config.store.local.path), config.node.name)
    kind = file_system(path.parent)
    said = []
    if kind in NETWORK:
        said.append(Said("MEND", f"store: {path.parent} is on {kind}: SQLite's WAL needs a local file system"))
    if kind == "tmpfs":
        said.append(Said("note", f"store: {path.parent} is on tmpfs: a reboot loses what accounting has not read"))
    try:
        db = open_for_reading(path)
    except StoreError as error:
        said.append(
            Said("note", f"store: {path}: will be made") if not path.exists() else Said("MEND", f"store: {error}")
        )
        return said
    runs, findings = (db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("run", "finding"))  # noqa: S608 (ours)
    said.append(Said("ok", f"store: {path}: {runs} runs, {findings} findings"))
    said += [
        Said("note", f"last finding: {subject}: {kind}: {text}")
        for kind, subject, text in db.execute("SELECT kind, subject, text FROM finding ORDER BY id DESC LIMIT 3")
    ]
    db.close()
    return said


def _check_cgroups(config: Config) -> Said:
    found = layouts(Path(config.node.cgroup_root), config.node.name)
    if found:
        return Said("ok", f"cgroups: Slurm's jobs at {found[0].cpu} (v{found[0].version})")
    return Said("note", f"cgroups: none of Slurm's below {config.node.cgroup_root} yet (made with its first job)")
