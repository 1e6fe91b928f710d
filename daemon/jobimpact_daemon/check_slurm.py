"""`jobimpactd check`, the scheduler's side: are Slurm's hooks set, are they ours, and is the node's size the same?"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Literal

import msgspec

from jobimpact.core.records import NodeFacts

__all__ = ["Said", "check_slurm"]

DEADLINE_S = 10


class Said(msgspec.Struct, frozen=True):
    """One line of the answer: all is well, good to know, or somebody should do something."""

    word: Literal["ok", "note", "MEND"]
    text: str

    def line(self) -> str:
        """As printed."""
        return f"{self.word:4}  {self.text}"


class _NoAnswerError(Exception):
    pass


def check_slurm(node: str, facts: NodeFacts) -> list[Said]:
    """Ask scontrol, which an admin's check may do and a hook may not.

    Args:
        node: this node's name in Slurm.
        facts: the size that the daemon goes by.
    """
    try:
        said = _check_config(_scontrol("config"))
        size = _scontrol("node", node)
    except _NoAnswerError as error:
        return [Said("MEND", f"slurm: {error}")]
    cpus = re.search(r"\bCPUTot=(\d+)", size)
    if cpus is None:
        said.append(Said("MEND", f"slurm: knows no node {node}: set node.name to the node's name in Slurm"))
    elif int(cpus[1]) != facts.cpus:
        told = f"slurm: gives away {cpus[1]} CPUs of this node, the daemon counts {facts.cpus}: set node.cpus"
        said.append(Said("MEND", told))
    return said


def _scontrol(*what: str) -> str:
    scontrol = shutil.which("scontrol")
    if scontrol is None:
        raise _NoAnswerError("scontrol is not on PATH: cannot see whether Prolog, Epilog and PrologFlags are right")
    argv = [scontrol, "--oneliner", "show", *what]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise _NoAnswerError(f"scontrol show {what[0]}: {error}") from error
    if done.returncode and what[0] == "config":
        why = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise _NoAnswerError(f"scontrol show config: {why}")
    return done.stdout


def _check_config(text: str) -> list[Said]:
    settings = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            settings[key.strip().partition("[")[0]] = value.strip()
    said = [_check_hook(key, settings.get(key, "(null)")) for key in ("Prolog", "Epilog")]
    flags = {flag.lower() for flag in settings.get("PrologFlags", "").split(",")}
    # Contain implies Alloc.
    if flags & {"alloc", "contain"}:
        said.append(Said("ok", f"slurm: PrologFlags={settings['PrologFlags']}: hooks run on every node of every job"))
    else:
        said.append(Said("MEND", "slurm: PrologFlags lacks Alloc: jobs without a step on a node are not seen there"))
    if "cgroup" not in settings.get("ProctrackType", "cgroup"):
        why = "CPU time cannot be told from job to job"
        said.append(Said("MEND", f"slurm: ProctrackType is not proctrack/cgroup: {why}"))
    return said


def _check_hook(key: str, value: str) -> Said:
    """One setting: a list of scripts, each perhaps a pattern."""
    name = f"slurm: {key}={value}"
    if value in ("(null)", ""):
        return Said("MEND", f"slurm: {key} is not set: jobs have no exact edges; set it to jobimpact's hook")
    files = [file for part in value.split(",") for file in _expand(Path(part))]
    for file in files:
        if not file.is_file():
            return Said("MEND", f"{name}: {file} is not there on this node")
        if not os.access(file, os.X_OK):
            return Said("MEND", f"{name}: {file} cannot be executed: Slurm would drain the node")
    if not any(_is_ours(file) for file in files):
        return Said("MEND", f"{name}: neither jobimpact's hook nor a script that calls it")
    return Said("ok", name)


def _expand(path: Path) -> list[Path]:
    """Slurm allows a pattern in the last part: /etc/slurm/prolog.d/*."""
    return sorted(path.parent.glob(path.name)) or [path]


def _is_ours(file: Path) -> bool:
    try:
        return b"jobimpact" in file.read_bytes().lower()
    except OSError:
        return False
