"""`jobimpactd check`: in plain words, what this node can measure, what not and why, and whether the hooks fit."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import stat
from datetime import UTC, datetime
from pathlib import Path

from jobimpact.core.clock import SystemClock
from jobimpact.core.config import Config
from jobimpact.core.errors import StoreError
from jobimpact.core.nodefile import node_file, open_for_reading
from jobimpact.core.records import Absent, Counter, Domain, Failed, Gauge, Reading
from jobimpact_daemon.check_oar import check_oar
from jobimpact_daemon.check_server import check_server
from jobimpact_daemon.check_slurm import Said, check_slurm
from jobimpact_daemon.jobs.cgroups import layouts
from jobimpact_daemon.jobs.node import NETWORK, NodeProc, file_system
from jobimpact_daemon.replay import idle_watts
from jobimpact_daemon.service import make_sources, node_facts
from jobimpact_daemon.sources.base import Source, TellsUtilisation
from jobimpact_daemon.sources.choice import choose
from jobimpact_daemon.sources.poller import Poller

__all__ = ["check"]

BMC_DEVICES = ("/dev/ipmi0", "/dev/ipmi/0", "/dev/ipmidev/0")
CONFIGURED = {"ipmi", "redfish", "wattmeter"}
"""Sources that are only there if the configuration names them."""
OLD_S = 60.0
"""A source whose last value is older than this has something to mend."""


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
        source.discover()
    readings = {source.name: _first_readings(source) for source in sources}
    found = {source.name: source.discover() for source in sources}
    for source in sources:
        said += _check_source(source, found[source.name], readings[source.name], config)
        said += _check_utilisation(source, found[source.name])
        source.close()
    said += _check_choice(found, readings)
    said += _check_coverage([domain for ones in found.values() for domain in ones], config)
    stored = _check_store(config, {source.name for source in sources})
    # What was said of a source just now need not be said of its books.
    told = {_reason(one) for one in said}
    stored = [one for one in stored if not (one.text.startswith("books: ") and _reason(one) in told)]
    said += [
        _check_marks(Path(config.node.marks)),
        _check_progress(config.node.progress),
        *stored,
        *check_server(config),
        *_check_cgroups(config),
    ]
    if config.scheduler.slurm is not None:
        said += check_slurm(config.node.name, facts)
    return said + check_oar(config)


def _check_source(source: Source, domains: list[Domain], readings: dict[str, Reading], config: Config) -> list[Said]:
    said = []
    for domain in domains:
        reading = readings.get(domain.name)
        name = f"{source.name}: {domain.name}"
        if isinstance(reading, Counter) and domain.method == "gauge":
            last_w = source.last_w.get(domain.name) if isinstance(source, Poller) else None
            told = "samples come" if last_w is None else f"{last_w:.1f} W"
            said.append(Said("ok", f"{name}: {domain.method}, {told}{_idle(domain, config)}"))
        elif isinstance(reading, Counter):
            idle = _idle(domain, config)
            said.append(Said("ok", f"{name}: {domain.method}, {reading.uj / 1e6:.1f} J{idle}"))
        elif isinstance(reading, Gauge):
            said.append(Said("ok", f"{name}: {domain.method}, {reading.w:.1f} W{_idle(domain, config)}"))
        elif reading is None:
            said.append(Said("note", f"{name}: {domain.method}, no reading yet"))
        elif isinstance(reading, Absent):
            said.append(Said("MEND", f"{name}: absent: {reading.reason}"))
        elif isinstance(reading, Failed):
            said.append(Said("MEND", f"{name}: failed: {reading.error}"))
    if source.problem and not any(source.problem in one.text for one in said):
        # No such hardware is a fact of the node; a meter that somebody configured is to be there.
        mend = source.name in CONFIGURED and not any(one.word == "ok" for one in said)
        said.append(Said("MEND" if mend else "note", f"{source.name}: {source.problem}"))
    return said


def _check_utilisation(source: Source, domains: list[Domain]) -> list[Said]:
    """Which GPUs tell how busy they are: by that a held GPU is known to be unused."""
    gpus = {domain.name.partition(":")[2] for domain in domains if domain.kind == "gpu"}
    if not gpus or not isinstance(source, TellsUtilisation):
        return []
    silent = sorted(gpus - source.utilisation().keys())
    told = f"{source.name}: {len(gpus) - len(silent)} of {len(gpus)} GPUs tell how busy they are"
    if not silent:
        return [Said("ok", told)]
    return [Said("note", f"{told}: not {', '.join(silent)} (in MIG mode, or the driver does not know)")]


def _idle(domain: Domain, config: Config) -> str:
    if domain.kind not in ("cpu", "dram") or domain.method == "modelled":
        return ""
    watts = idle_watts(config).get(domain.name)
    return f", idle {watts:g} W" if watts is not None else " (idle power: learned while the node is empty)"


def _check_coverage(domains: list[Domain], config: Config) -> list[Said]:
    """What nothing measures here, and configured domains that are not here."""
    kinds = {domain.kind for domain in domains}
    names = {"cpu": "CPU packages", "dram": "DRAM", "gpu": "GPUs", "node": "the whole node (BMC or wattmeter)"}
    said = [Said("note", f"not measured here: {text}") for kind, text in names.items() if kind not in kinds]
    if "node" not in kinds and any(Path(device).exists() for device in BMC_DEVICES):
        said.append(Said("note", "this node has a BMC: `ipmi: {}` in node.sources measures the whole of it"))
    known = {domain.name for domain in domains} | {"rest"}
    given = {"node.idle_w": config.node.idle_w}
    rapl = config.node.sources.rapl
    if rapl:
        given |= {"node.sources.rapl.idle_w": rapl.idle_w, "node.sources.rapl.max_w": rapl.max_w}
    for key, values in given.items():
        said += [Said("MEND", f"{key}: {name} is no domain of this node") for name in sorted(values.keys() - known)]
    return said


def _check_choice(found: dict[str, list[Domain]], readings: dict[str, dict[str, Reading]]) -> list[Said]:
    """Which source is booked where several know the same part."""
    said = []
    for kind, sources in choose(found, readings).items():
        others = [
            name for name, ones in found.items() if any(one.kind == kind for one in ones) and name not in sources
        ]
        if others:
            text = f"{kind}: booked from {'+'.join(sorted(sources))}, not also from {', '.join(sorted(others))}"
            said.append(Said("note", text))
    return said


def _check_books(db: sqlite3.Connection) -> list[Said]:
    """What the daemon knows and does not read now: it may be gone so far that nothing is found of it here."""
    rows = db.execute("SELECT name, reason FROM domain WHERE reason IS NOT NULL ORDER BY name")
    return [
        Said(
            "note" if reason.endswith(("measures this part", "is switched off")) else "MEND",
            f"books: {name}: {reason}",
        )
        for name, reason in rows
    ]


def _reason(said: Said) -> str:
    """Why a domain is not read, without its name."""
    return re.split(r": (?:absent|failed): ", said.text, maxsplit=1)[-1]


def _check_running(lock: Path) -> list[Said]:
    """Whether a daemon holds the books; asked of the kernel, as trying the lock could keep one from starting."""
    try:
        inode, locks = lock.stat().st_ino, Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    held = any(words[1] == "FLOCK" and words[-3].endswith(f":{inode}") for words in map(str.split, locks))
    return [] if held else [Said("MEND", "daemon: not running: systemctl status jobimpactd")]


def _check_health(db: sqlite3.Connection, sources: set[str]) -> list[Said]:
    """How the daemon's sources do; those that were switched off since are left out."""
    said = []
    rows = db.execute("SELECT name, wall_s, reads, failures, busy_ns, age_s, problem FROM source ORDER BY name")
    for name, wall_s, reads, failures, busy_ns, age_s, problem in rows:
        if not reads or name not in sources:
            continue
        each_ms = busy_ns / reads / 1e6
        when = datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        text = f"daemon, {when}: {name}: {failures} of {reads} readings failed, {each_ms:.2f} ms each"
        old = age_s is None or age_s > OLD_S
        if old:
            text += ", never a value" if age_s is None else f", last value {age_s:.0f} s before"
        said.append(Said("MEND" if old and problem else "ok", text + (f": {problem}" if old and problem else "")))
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


def _check_progress(place: str | None) -> Said:
    if place is None:
        return Said("note", "progress: node.progress is switched off: jobs cannot tell how far they are")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.connect(place)
    except OSError as error:
        why = error.strerror or str(error)
        return Said("note", f"progress: {place}: {why}: jobs cannot tell how far they are until the daemon listens")
    return Said("ok", f"progress: {place}: the daemon listens to its jobs")


def _check_store(config: Config, sources: set[str]) -> list[Said]:
    path = node_file(config.store.folder, config.node.name)
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
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'source'").fetchone():
        said += [*_check_running(path.with_suffix(".lock")), *_check_books(db), *_check_health(db, sources)]
    db.close()
    return said


def _check_cgroups(config: Config) -> list[Said]:
    found = layouts(Path(config.node.cgroup_root), config.node.name, config.node.slurmd)
    if found:
        names = {"slurm": "Slurm", "oar": "OAR"}
        return [Said("ok", f"cgroups: {names[one.scheduler]}'s jobs at {one.cpu} (v{one.version})") for one in found]
    return [Said("note", f"cgroups: no jobs' below {config.node.cgroup_root} yet (made with the first job)")]


def _first_readings(source: Source) -> dict[str, Reading]:
    """What it reads now; a slow meter is waited for."""
    if isinstance(source, Poller):
        source.wait()
    return source.read()
