"""`jobimpactd check` on a node of OAR, as an admin runs it."""

from __future__ import annotations

import grp
import json
import os
import pwd
import subprocess
from pathlib import Path

import pytest
from tests.daemon.running import Daemon

pytestmark = pytest.mark.usefixtures("compiled")

NOBODY = pwd.getpwuid(65534).pw_name


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    """A node with a mark folder that is root's alone."""
    daemon = Daemon(tmp_path)
    daemon.marks.mkdir(mode=0o700)
    return daemon


def check(daemon: Daemon, *owners: str, oar: bool = True) -> list[str]:
    """What is said of OAR."""
    config = json.loads(daemon.config.read_text())
    config["node"]["mark_owners"] = owners
    if oar:
        config["scheduler"] = {"oar": {"dsn": "host=/nowhere"}}
    daemon.config.write_text(json.dumps(config))
    environment = {**os.environ, "PATH": "/nowhere"}
    done = subprocess.run(daemon.command("check"), env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line.split(maxsplit=1)[1].startswith(("oar:", "slurm:"))]


def test_marks_that_do_not_count_are_said(daemon: Daemon) -> None:
    """Without `mark_owners` each of OAR's marks would be set aside."""
    (said,) = check(daemon)
    assert said.startswith("MEND  oar: node.mark_owners is empty")


def test_a_cgroup_of_oar_is_enough(daemon: Daemon, tmp_path: Path) -> None:
    """Where the configuration does not name the scheduler, its jobs' place does."""
    (tmp_path / "cgroup/cpuacct/oar").mkdir(parents=True)
    assert next(line for line in check(daemon, oar=False) if "oar:" in line).startswith("MEND  oar: node.mark_owners")


def test_an_owner_that_does_not_exist_is_said(daemon: Daemon) -> None:
    """The daemon would not start."""
    (said,) = check(daemon, "nosuchuser")
    assert said == "MEND  oar: node.mark_owners: nosuchuser: no such user: the daemon does not start"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives the mark folder to a group")
def test_a_folder_that_the_owner_may_not_write_to_is_said(daemon: Daemon) -> None:
    """0700 root, as Slurm's hooks want it, is nothing for OAR's; with the group, all is well."""
    (said,) = check(daemon, NOBODY)
    assert said.startswith(f"MEND  oar: {daemon.marks}: {NOBODY} may not write to it")
    os.chown(daemon.marks, 0, grp.getgrgid(pwd.getpwnam(NOBODY).pw_gid).gr_gid)
    daemon.marks.chmod(0o1730)
    (said,) = check(daemon, NOBODY)
    assert said == f"ok    oar: marks of {NOBODY} count, and it may write to {daemon.marks}"


def test_a_folder_that_is_not_there_is_told_how(daemon: Daemon) -> None:
    """tmpfiles.d makes it, with OAR's group."""
    daemon.marks.rmdir()
    (said,) = check(daemon, NOBODY)
    assert f"it is to be root:{NOBODY} 1730" in said
