"""The lab with another Debian's Slurm: everything in it runs in a root folder of its own (debootstrap)."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.labs.slurm import layout
from tests.labs.slurm.lab import _NAMESPACES, SlurmLab
from tests.labs.slurm.layout import Plan

ENTER = """
set -e
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
mount -t proc proc "$ROOT/proc"
for folder in /dev /sys; do mount --rbind "$folder" "$ROOT$folder"; done
for folder in "$LAB" "$HERE"; do mkdir -p "$ROOT$folder"; mount --bind "$folder" "$ROOT$folder"; done
exec chroot "$ROOT" "$HERE/lab.sh"
"""


class ForeignLab(SlurmLab):
    """A lab in another root, which has Slurm, MariaDB, munge and iproute2; without hooks and cgroups."""

    def __init__(self, root: Path, nodes: int = 4) -> None:
        super().__init__(Plan(nodes=nodes, cgroups="none"))
        self.root = root

    def _start(self) -> None:
        environment = {
            "LAB": str(self.folder),
            "HERE": str(layout.HERE),
            "ROOT": str(self.root),
            "HOSTN": self.plan.host,
            "NODES": " ".join(self.nodes),
            "PATH": layout.SYSTEM_PATH,
        }
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", *_NAMESPACES, "--fork", "--mount-proc"]
        with (self.folder / "log/inside.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--kill-child=SIGKILL", "sh", "-c", ENTER],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[self._lock.descriptor],
            )
