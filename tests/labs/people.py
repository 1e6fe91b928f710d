"""A site with people: a measured Slurm, an accounting host with its service and its mails, and users who ask."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fakes.rig_gpu import Busy
from tests.labs.cluster import MeasuredCluster
from tests.labs.lab import PATIENCE_S, until
from tests.labs.measured import BIN
from tests.labs.slurm.lab import SlurmLab
from tests.mail.smtp_server import Server, make_certificate
from tests.mail.world import DAYS

__all__ = ["HOSTILE", "JOBS", "LOGIN", "STEPS", "Site", "site"]

ROOT = Path(__file__).parents[2]
SERVICE = "jiserve"
PEOPLE = {SERVICE: 2901, "carol": 2902, "dora": 2903, "jiadmin": 2904}
"""Beside the lab's alice and bob: carol is the head of physics, dora is in the group jiadmin."""
LOGIN = "login.yaml"
"""The configuration of a login node."""
PASSWORD = "correct horse"  # noqa: S105 (of the fake server)
COMMENT = "for the paper jobimpact:model=resnet50,steps=100 second try"
STEPS = (25, 50, 75, 100)
TELL = f"export JOBIMPACT_PROGRESS=$LAB/nodes/$SLURMD_NODENAME/progress; tell='{BIN}/jobimpact progress'"
TRAIN = f"""#!/bin/bash
{TELL}
for step in {" ".join(map(str, STEPS))}; do
  load --cpu 0.6 --seconds 1.6 --mem 40M > /dev/null
  $tell --step $step --metric acc=0.$((step / 2 + 20)) --set data=cifar10
done
times
"""
HOSTILE = "<b>x</b>\r\nBcc: eve@site.example"
WAIT = "until [ -e $HOME/people-go ]; do load --cpu 0.2 --seconds 0.3 > /dev/null; done"
JOBS = {
    "train": (TRAIN, "alice", ("-c2", "--mem=200M", "-t120", "--comment", COMMENT)),
    "crash": ("#!/bin/sh\nload --cpu 0.5 --seconds 2\nexit 3\n", "alice", ("--mem=100M",)),
    "sweep": (
        "#!/bin/sh\nload --cpu 0.2 --seconds 1\n[ $SLURM_ARRAY_TASK_ID -lt 2 ] || exit 7\n",
        "alice",
        ("--array=0-4",),
    ),
    "idle": (f"#!/bin/sh\n{WAIT}\n", "alice", ("--gres=gpu:2",)),
    "long": (f"#!/bin/sh\n{WAIT}\n", "alice", ()),
    "pair": ("#!/bin/sh\nload --cpu 0.2 --seconds 2\n", "alice", (":",)),
    HOSTILE: ("#!/bin/sh\nload --cpu 0.3 --seconds 2\n", "bob", ("-Aphysics",)),
}
"""By name: what it does, whose it is, and what it asks for; `:` is a second part of a heterogeneous job."""
PLACES = {"train": 0, "crash": 0, "pair": 0, "idle": 2}
"""On which node; the others are on node 1."""


class PeoplesCluster(MeasuredCluster):
    """Three nodes, with GPUs that do nothing; jobs tell theirs how far they are."""

    busy = (Busy(0),)

    def config(self, name: str) -> Path:
        """The node's configuration file."""
        place = self.lab.node_dir(name)
        told = {"marks": str(place / "marks"), "progress": str(place / "progress")}
        return self._config(name, told)


class Site:
    """The accounting host, which is in the lab as its users are.

    Args:
        cluster: whose jobs are accounted for.
        etc: a folder that all can read.
        mail: where mails go.
    """

    def __init__(self, cluster: MeasuredCluster, etc: Path, mail: Server) -> None:
        self.cluster, self.lab, self.etc, self.mail = cluster, cluster.lab, etc, mail
        self.var = cluster.folder
        self.from_s = int(time.time())
        self.nights: list[subprocess.CompletedProcess[str]] = []
        self.ids: dict[str, str] = {}

    @property
    def results(self) -> Path:
        """The database."""
        return self.var / "results.db"

    def ask(self, user: str, *words: str, config: str = "jobimpact.yaml") -> subprocess.CompletedProcess[str]:
        """What a user is told by `jobimpact`."""
        command = ["env", f"JOBIMPACT_CONFIG={self.etc / config}", str(BIN / "jobimpact"), *words]
        return self.lab.run(command, user=user, check=False)

    def submit(self) -> None:
        """All jobs; those that wait are told to go on by `go`."""
        for name, (text, user, options) in JOBS.items():
            nodes = self.cluster.nodes
            more = (*options, "-w", nodes[1]) if ":" in options else options
            self.ids[name] = self.lab.sbatch(text, "-J", name, "-w", nodes[PLACES.get(name, 1)], *more, user=user)

    def go(self) -> None:
        """Let the jobs that wait end, and wait for all."""
        (self.lab.home / "people-go").touch()
        self.lab.wait(self.ids.values())
        self.cluster.wait_booked(PATIENCE_S)

    def night(self) -> subprocess.CompletedProcess[str]:
        """The nightly accounting, with its mails."""
        done = self.cluster.command("account", "--from", str(self.from_s))
        self.nights.append(done)
        return done

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        """`jobimpact serve`, as a user of its own, until the block ends or it is killed."""
        log = self.etc / "serve.log"
        drop = ["setpriv", "--reuid", SERVICE, "--regid", SERVICE, "--init-groups", "--pdeathsig", "KILL"]
        with log.open("wb") as words:
            service = subprocess.Popen(
                [*self.lab.enter(), *drop, BIN / "jobimpact", "serve", "--config", self.etc / "jobimpact.yaml"],
                stderr=words,
                cwd="/",
            )
        try:
            until(lambda: "answering at" in log.read_text() or service.poll() is not None, PATIENCE_S, log.read_text)
            yield service
        finally:
            self.end_service()
            assert service.wait(PATIENCE_S) == 0

    def end_service(self) -> None:
        """End it; harmless where there is none."""
        self.lab.run(["pkill", "--uid", SERVICE, "--full", "jobimpact serve"], check=False)
        until(lambda: not self._serves(), PATIENCE_S, lambda: "it does not end")

    def _serves(self) -> bool:
        return self.lab.run(["pgrep", "--uid", SERVICE], check=False).returncode == 0


@contextmanager
def site(lab: SlurmLab) -> Iterator[Site]:
    """All of it, and nothing of it when the block ends."""
    folder = lab.folder / "people"
    etc, var, run = (folder / name for name in ("etc", "var", "run"))
    for one in (folder, etc, var, run):
        one.mkdir()
    _add_people(lab)
    os.chown(run, PEOPLE[SERVICE], PEOPLE[SERVICE])
    os.chown(var, 0, PEOPLE[SERVICE])
    var.chmod(0o2750)
    cert, tls = make_certificate(etc)
    nodes = [*lab.nodes[:2], lab.gpu_nodes[0]]
    with (
        _python_for_all(lab),
        Server(tls=tls, user=(SERVICE, PASSWORD)) as mail,
        PeoplesCluster(lab, nodes, var) as cluster,
    ):
        _configure(cluster, etc, run, mail.port, cert)
        cluster.wait_reading(PATIENCE_S)
        yield Site(cluster, etc, mail)


def _add_people(lab: SlurmLab) -> None:
    with (lab.folder / "etc/passwd").open("a") as file:
        file.writelines(f"{name}:x:{uid}:{uid}::{lab.home}:/bin/bash\n" for name, uid in PEOPLE.items())
    with (lab.folder / "etc/group").open("a") as file:
        members = {"jiadmin": "dora"}
        file.writelines(f"{name}:x:{uid}:{members.get(name, '')}\n" for name, uid in PEOPLE.items())


def _configure(cluster: MeasuredCluster, etc: Path, run: Path, port: int, cert: Path) -> None:
    """The accounting host's configuration, and a login node's."""
    var, munge = cluster.folder, str(cluster.lab.folder / "run/munge.socket")
    shutil.copy(var / "nodes.yaml", etc / "nodes.yaml")
    (etc / "password").write_text(f"{PASSWORD}\n")
    (etc / "password").chmod(0o600)
    (etc / "addresses").write_text("bob: Robert.B@elsewhere.example\n")
    rights = {"labs": {"physics": {"heads": ["carol"]}}, "access": {"groups": ["jiadmin"]}}
    smtp = {"host": "localhost", "port": port, "ca_file": str(cert), "username": SERVICE, "password_file": "password"}
    mail = {
        "enabled": True,
        "send": True,
        "sender": "jobimpact@site.example",
        "addresses": {"map_file": "addresses", "domain": "site.example"},
        "smtp": smtp,
        "days": DAYS,
        **dict.fromkeys(("digest", "labs"), "off"),
        **dict.fromkeys(("min_kwh", "min_failed_kwh"), 0),
        "per_user": 10,
    }
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    text: dict[str, Any] = {
        "cluster": "lab",
        "store": {"local": {"path": str(var / "store")}},
        "results": f"sqlite:///{var}/results.db",
        "scheduler": {"slurm": {"via": "sacct"}},
        "inventory": "nodes.yaml",
        "grid": {"zone": "FRA"},
        "findings": {"min_run_s": 4, "min_coverage": 0.5},
        "report": {"profile_kwh": 0},
        "mail": mail,
        **rights,
    }
    service = {"socket": str(run / "answers.sock"), "user": SERVICE, "munge_socket": munge, "timeout_s": PATIENCE_S}
    here = {**text, "service": {**service, "listen": address}}
    (etc / "jobimpact.yaml").write_text(json.dumps(here))
    (etc / LOGIN).write_text(
        json.dumps({"results": "sqlite:///none/results.db", "service": {**service, "ask": address}})
    )
    cluster.account_config = etc / "jobimpact.yaml"


@contextmanager
def _python_for_all(lab: SlurmLab) -> Iterator[None]:
    """In the lab every user can run the tests' Python, though it may lie where root alone can look."""
    wanted = {Path(sys.base_prefix), Path(sys.prefix), ROOT}
    closed: dict[Path, list[Path]] = {}
    for path in sorted(wanted):
        shut = [one for one in reversed(path.parents) if not one.stat().st_mode & 0o001]
        if shut:
            closed.setdefault(shut[0], []).append(path)
    lines = ["set -e"]
    for number, (top, paths) in enumerate(closed.items()):
        aside = [lab.folder / f"run/seen.{number}.{index}" for index in range(len(paths))]
        lines += [f"mkdir {one}; mount --bind {path} {one}" for one, path in zip(aside, paths, strict=True)]
        lines.append(f"mount -t tmpfs -o mode=0755 tmpfs {top}")
        lines += [f"mkdir -p {path}; mount --move {one} {path}" for one, path in zip(aside, paths, strict=True)]
    lab.run("\n".join(lines))
    try:
        yield
    finally:
        lab.run("\n".join(["true", *(f"umount --recursive {top}; rmdir {lab.folder}/run/seen.*" for top in closed)]))
