"""`jobimpactd check` as an admin runs it: a real process, a rig's meters, a fake scontrol on PATH."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.daemon.running import Daemon
from tests.fakes.rig import PowerRig

pytestmark = pytest.mark.usefixtures("compiled")

GOOD = "Prolog[0]  = {hook}\nEpilog[0]  = {hook}\nPrologFlags = Alloc\nProctrackType = proctrack/cgroup"
NODE = "NodeName=n1 Arch=x86_64 CPUAlloc=0 CPUTot={cpus} RealMemory=8000"


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    """A node with meters and a mark folder."""
    daemon = Daemon(tmp_path, cpus=8)
    daemon.marks.mkdir(mode=0o700)
    return daemon


def scontrol(folder: Path, config: str, node: str) -> None:
    """A program that answers as Slurm's does."""
    folder.mkdir()
    program = folder / "scontrol"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *config) cat <<E\n{config}\nE\n;; *node*) cat <<E\n{node}\nE\n;; esac\n'
    )
    program.chmod(0o755)


def check(daemon: Daemon, path: Path | None = None) -> tuple[int, str]:
    """Status and output."""
    programs = f"{path}:{os.environ['PATH']}" if path else "/nowhere"
    environment = {**os.environ, **daemon.node.env, "PATH": programs}
    done = subprocess.run(
        daemon.command("check", "--config", str(daemon.config)), env=environment, capture_output=True, text=True
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def hook(folder: Path, text: str = "#!/bin/sh\n# jobimpact\n") -> Path:
    """A hook's file."""
    path = folder / "prolog"
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_a_good_node_has_nothing_to_mend(daemon: Daemon, tmp_path: Path) -> None:
    """Meters, marks, hooks, flags and size are right: every line says so, status 0."""
    scontrol(tmp_path / "bin", GOOD.format(hook=hook(tmp_path)), NODE.format(cpus=8))
    with PowerRig(tmp_path, daemon.node):
        status, said = check(daemon, tmp_path / "bin")
    assert "MEND" not in said
    assert status == 0
    assert "rapl: package-0: counter" in said
    assert "idle 40 W" in said


@pytest.mark.parametrize(
    ("config", "cpus", "word"),
    [
        ("Prolog = (null)\nEpilog[0] = {hook}\nPrologFlags = Alloc", 8, "Prolog is not set"),
        ("Prolog[0] = {hook}\nEpilog[0] = {hook}\nPrologFlags = (null)", 8, "PrologFlags lacks Alloc"),
        ("Prolog[0] = {hook}x\nEpilog[0] = {hook}\nPrologFlags = Contain", 8, "is not there on this node"),
        (GOOD, 16, "gives away 16 CPUs of this node, the daemon counts 8"),
        (GOOD.replace("cgroup", "linuxproc"), 8, "ProctrackType is not proctrack/cgroup"),
    ],
)
def test_what_is_wrong_with_slurm_is_said(daemon: Daemon, tmp_path: Path, config: str, cpus: int, word: str) -> None:
    """Each wrong setting is named, status 1."""
    scontrol(tmp_path / "bin", config.format(hook=hook(tmp_path)), NODE.format(cpus=cpus))
    with PowerRig(tmp_path, daemon.node):
        status, said = check(daemon, tmp_path / "bin")
    assert word in said
    assert status == 1


def test_a_hook_that_is_not_ours_is_said(daemon: Daemon, tmp_path: Path) -> None:
    """A Prolog that never heard of us writes no marks."""
    scontrol(tmp_path / "bin", GOOD.format(hook=hook(tmp_path, "#!/bin/sh\n")), NODE.format(cpus=8))
    with PowerRig(tmp_path, daemon.node):
        _, said = check(daemon, tmp_path / "bin")
    assert "neither jobimpact's hook nor a script that calls it" in said


def test_a_node_without_anything_is_told_in_words(daemon: Daemon) -> None:
    """No meters play, no scontrol, a stranger among the idle powers: no traceback, each with its reason."""
    text = daemon.config.read_text().replace('"package-0": 40', '"package-7": 40')
    daemon.config.write_text(text.replace(str(daemon.node.powercap.root), "/nowhere"))
    status, said = check(daemon)
    assert status == 1
    assert "rapl: /nowhere: No such file or directory" in said
    assert "package-7 is no domain of this node" in said
    assert "scontrol is not on PATH" in said
