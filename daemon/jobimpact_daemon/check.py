"""`jobimpactd check`: in plain words, what this node can measure, what not and why, and whether the hooks fit."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import msgspec

from jobimpact.core.clock import SystemClock
from jobimpact.core.config import Config
from jobimpact.core.errors import StoreError
from jobimpact.core.nodefile import node_file, open_for_reading
from jobimpact.core.records import Absent, Counter, Failed
from jobimpact_daemon.jobs.cgroups import layouts
from jobimpact_daemon.jobs.node import NodeProc
from jobimpact_daemon.service import make_sources, node_facts
from jobimpact_daemon.sources.base import Source

__all__ = ["Said", "check"]

_MAGIC_TMPFS, _NETWORK = "tmpfs", {"nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "fuse.sshfs"}


class Said(msgspec.Struct, frozen=True):
    """One line of the answer; `good` is false where somebody should do something."""

    good: bool
    text: str

    def line(self) -> str:
        """As printed."""
        return f"{'ok  ' if self.good else 'MEND'}  {self.text}"


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
    said = [Said(True, f"node {config.node.name} of cluster {config.cluster}: {size} (configuration: {path})")]
    sources = make_sources(config, SystemClock())
    for source in sources:
        said += _check_source(source, config)
        source.close()
    said += _check_coverage(sources)
    said += [_check_marks(Path(config.node.marks)), *_check_store(config), _check_cgroups(config)]
    if config.scheduler.slurm is not None:
        said += _check_slurm()
    return said


def _check_source(source: Source, config: Config) -> list[Said]:
    domains = source.discover()
    readings = source.read()
    said = []
    for domain in domains:
        reading = readings.get(domain.name)
        name = f"{source.name}: {domain.name}"
        if isinstance(reading, Counter):
            said.append(
                Said(
                    True, f"{name}: {domain.method}, {reading.uj / 1e6:.1f} J{_idle(domain.name, domain.kind, config)}"
                )
            )
        elif isinstance(reading, Absent):
            said.append(Said(False, f"{name}: absent: {reading.reason}"))
        elif isinstance(reading, Failed):
            said.append(Said(False, f"{name}: failed: {reading.error}"))
    if source.problem:
        # No such hardware is a fact of the node, not something to mend.
        said.append(Said(True, f"{source.name}: {source.problem}"))
    return said


def _idle(name: str, kind: str, config: Config) -> str:
    rapl = config.node.sources.rapl
    if kind == "gpu" or rapl is None or not name.startswith(("package", "dram")):
        return ""
    watts = rapl.idle_w.get(name)
    return (
        f", idle {watts:g} W" if watts is not None else f" (idle power not known: set node.sources.rapl.idle_w.{name})"
    )


def _check_coverage(sources: list[Source]) -> list[Said]:
    kinds = {domain.kind for source in sources for domain in source.discover()}
    names = {"cpu": "CPU packages", "dram": "DRAM", "gpu": "GPUs"}
    return [Said(True, f"not measured here: {names[kind]}") for kind in ("cpu", "dram", "gpu") if kind not in kinds]


def _check_marks(folder: Path) -> Said:
    try:
        info = folder.stat()
    except OSError as error:
        return Said(
            False, f"marks: {folder}: {error.strerror}: the daemon makes it at start, tmpfiles.d should at boot"
        )
    if not stat.S_ISDIR(info.st_mode):
        return Said(False, f"marks: {folder}: not a folder")
    if info.st_mode & 0o022 and not info.st_mode & stat.S_ISVTX:
        return Said(
            False, f"marks: {folder}: others may write to it (mode {stat.S_IMODE(info.st_mode):04o}): make it 0700"
        )
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return Said(False, f"marks: {folder}: cannot be read and written by this user")
    waiting = sum(not name.startswith(".") and name != "rejected" for name in os.listdir(folder))
    return Said(True, f"marks: {folder}: {waiting} waiting")


def _check_store(config: Config) -> list[Said]:
    path = node_file(Path(config.store.local.path), config.node.name)
    kind = _file_system(path.parent)
    said = []
    if kind in _NETWORK:
        said.append(Said(False, f"store: {path.parent} is on {kind}: SQLite's WAL needs a local file system"))
    if kind == _MAGIC_TMPFS:
        said.append(Said(True, f"store: {path.parent} is on tmpfs: a reboot loses what accounting has not read"))
    try:
        db = open_for_reading(path)
    except StoreError as error:
        said.append(
            Said(True, f"store: {path}: will be made") if not path.exists() else Said(False, f"store: {error}")
        )
        return said
    runs, findings = (db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("run", "finding"))  # noqa: S608
    said.append(Said(True, f"store: {path}: {runs} runs, {findings} findings"))
    said += [
        Said(True, f"last finding: {subject}: {kind}: {text}")
        for kind, subject, text in db.execute("SELECT kind, subject, text FROM finding ORDER BY id DESC LIMIT 3")
    ]
    db.close()
    return said


def _file_system(path: Path) -> str:
    """The type of the file system that a path is, or will be, on."""
    here = str(path.resolve())
    best, kind = "", "unknown"
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return kind
    for line in mounts.splitlines():
        _, point, found, *_ = line.split()
        if (here == point or here.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, found
    return kind


def _check_cgroups(config: Config) -> Said:
    found = layouts(Path(config.node.cgroup_root), config.node.name)
    if found:
        return Said(True, f"cgroups: Slurm's jobs at {found[0].cpu} (v{found[0].version})")
    return Said(
        True, f"cgroups: none of Slurm's below {config.node.cgroup_root} yet (it makes them with its first job)"
    )


def _check_slurm() -> list[Said]:
    scontrol = shutil.which("scontrol")
    if scontrol is None:
        return [
            Said(False, "slurm: scontrol is not on PATH: cannot see whether Prolog, Epilog and PrologFlags are right")
        ]
    try:
        done = subprocess.run([scontrol, "show", "config"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return [Said(False, f"slurm: scontrol show config: {error}")]
    if done.returncode:
        return [Said(False, f"slurm: scontrol show config: {done.stderr.strip() or f'exit status {done.returncode}'}")]
    return check_slurm_config(done.stdout)


def check_slurm_config(text: str) -> list[Said]:
    """What `scontrol show config` says of the hooks.

    Args:
        text: its output.
    """
    settings = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            settings[key.strip().partition("[")[0]] = value.strip()
    said = [_check_hook(key, settings.get(key, "(null)")) for key in ("Prolog", "Epilog")]
    flags = {flag.lower() for flag in settings.get("PrologFlags", "").split(",")}
    # Contain implies Alloc.
    if flags & {"alloc", "contain"}:
        said.append(Said(True, f"slurm: PrologFlags={settings['PrologFlags']}: hooks run on every node of every job"))
    else:
        said.append(Said(False, "slurm: PrologFlags lacks Alloc: jobs without a step on a node are not seen there"))
    if "linuxproc" in settings.get("ProctrackType", "") or "cgroup" not in settings.get("ProctrackType", "cgroup"):
        said.append(
            Said(False, "slurm: ProctrackType is not proctrack/cgroup: CPU time cannot be told from job to job")
        )
    return said


def _check_hook(key: str, value: str) -> Said:
    if value in ("(null)", ""):
        return Said(False, f"slurm: {key} is not set: jobs have no exact edges; set it to jobimpact's hook")
    files = [Path(part) for part in value.split(",") if "*" not in part]
    for file in files:
        if not file.is_file():
            return Said(False, f"slurm: {key}={value}: {file} is not there on this node")
        if not os.access(file, os.X_OK):
            return Said(False, f"slurm: {key}={value}: {file} cannot be executed: Slurm would drain the node")
    return Said(True, f"slurm: {key}={value}")
