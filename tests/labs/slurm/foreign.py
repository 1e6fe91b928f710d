"""The lab with another Debian's Slurm: everything in it runs in a root folder of its own (debootstrap)."""

from __future__ import annotations

from pathlib import Path

from tests.labs.slurm import layout
from tests.labs.slurm.lab import SlurmLab
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

    def _first(self) -> list[str | Path]:
        return ["sh", "-c", ENTER]

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "HERE": str(layout.HERE), "ROOT": str(self.root)}
