"""The files of a lab: Slurm's configuration, users, hooks, fake devices, and commands for callers outside."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.labs.lab import SYSTEM_PATH

HERE = Path(__file__).parent
USERS = {"alice": 2001, "bob": 2002}
OUTSIDE_COMMANDS = ("sacct", "sacctmgr", "scontrol", "sinfo", "squeue")
_CGROUP_PLUGINS = {"PROCTRACK": "proctrack/cgroup", "TASK": "task/cgroup", "GATHER": "jobacct_gather/cgroup"}
_PLAIN_PLUGINS = {"PROCTRACK": "proctrack/linuxproc", "TASK": "task/none", "GATHER": "jobacct_gather/linux"}


@dataclass(frozen=True)
class Plan:
    """What a lab is to look like."""

    nodes: int = 4
    prefix: str = "jilab"
    prolog_flags: str = "Alloc"
    cgroups: str = "v1"
    """`v1`, or `none` for a cluster without cgroups."""
    prolog: Path | None = None
    epilog: Path | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.nodes <= 99:
            raise ValueError("a lab has 2 to 99 nodes")

    @property
    def host(self) -> str:
        """The host name inside the lab."""
        return f"{self.prefix}ctl"

    @property
    def names(self) -> list[str]:
        """The nodes' names."""
        return [f"{self.prefix}{n:02}" for n in range(1, self.nodes + 1)]

    @property
    def gpu_names(self) -> list[str]:
        """The nodes with GPUs: the upper half."""
        return self.names[self.nodes // 2 :]


def write(plan: Plan, lab: Path) -> None:
    """Fill the empty folder `lab` with all that `lab.sh` needs."""
    lab.chmod(0o755)
    for name in ("etc", "db", "spool", "spool/ctld", "dev", "hooks", "bin", "tools", "nodes"):
        (lab / name).mkdir()
    for name in ("run", "log", "home"):
        (lab / name).mkdir()
        (lab / name).chmod(0o1777)
    shutil.chown(lab / "db", "mysql", "mysql")
    shutil.chown(lab / "spool/ctld", "slurm", "slurm")
    for index in range(4):  # gres.conf wants a device node, else jobs get no SLURM_JOB_GPUS
        (lab / f"dev/nvidia{index}").symlink_to("/dev/null")
    for name in plan.names:
        (lab / "nodes" / name / "marks").mkdir(parents=True, mode=0o700)
        (lab / "nodes" / name / "proc").symlink_to("/proc")
    _configure(plan, lab)
    _users(plan, lab)
    _hooks(plan, lab)
    subprocess.run(["gcc", "-O1", "-Wall", "-o", lab / "tools/load", HERE / "load.c"], check=True)


def outside_commands(lab: Path, init: int) -> Path:
    """Write the folder of Slurm commands that enter the namespaces of pid `init` by themselves."""
    folder = lab / "bin"
    nsenter = shutil.which("nsenter", path=SYSTEM_PATH)
    for name in OUTSIDE_COMMANDS:
        enter = f"exec {nsenter} --target {init} --net --uts --mount --ipc --root -- /usr/bin/{name}"
        _script(folder / name, f'#!/bin/sh\nexport SLURM_CONF={lab}/etc/slurm.conf\n{enter} "$@"\n')
    return folder


def _configure(plan: Plan, lab: Path) -> None:
    half = plan.nodes // 2
    values = {
        "LAB": str(lab),
        "HOST": plan.host,
        "PROLOGFLAGS": plan.prolog_flags,
        "CPUNODES": f"{plan.prefix}[01-{half:02}]",
        "GPUNODES": f"{plan.prefix}[{half + 1:02}-{plan.nodes:02}]",
        "CPUPORTS": f"[17001-170{half:02}]",
        "GPUPORTS": f"[170{half + 1:02}-170{plan.nodes:02}]",
        **(_CGROUP_PLUGINS if plan.cgroups == "v1" else _PLAIN_PLUGINS),
    }
    names = ["slurm", "slurmdbd", "gres"] + (["cgroup"] if plan.cgroups == "v1" else [])
    for name in names:
        text = _filled((HERE / f"{name}.conf.in").read_text(), values)
        lines = [line for line in text.splitlines() if not line.endswith("=")]
        (lab / f"etc/{name}.conf").write_text("\n".join(lines) + "\n")
    shutil.chown(lab / "etc/slurmdbd.conf", "slurm")
    (lab / "etc/slurmdbd.conf").chmod(0o600)
    key = lab / "etc/munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    shutil.chown(key, "munge")


def _users(plan: Plan, lab: Path) -> None:
    """Copies that are bound over /etc inside the lab only: the machine's own files stay as they are."""
    passwd, group = Path("/etc/passwd").read_text(), Path("/etc/group").read_text()
    for name, uid in USERS.items():
        passwd += f"{name}:x:{uid}:{uid}::{lab}/home:/bin/bash\n"
        group += f"{name}:x:{uid}:\n"
    (lab / "etc/passwd").write_text(passwd)
    (lab / "etc/group").write_text(group)
    (lab / "etc/hosts").write_text(f"127.0.0.1 localhost {plan.host}\n")


def _hooks(plan: Plan, lab: Path) -> None:
    template = (HERE / "hook.in").read_text()
    for event, hook in (("prolog", plan.prolog), ("epilog", plan.epilog)):
        values = {"LAB": str(lab), "EVENT": event, "HOOK": str(hook or ":")}
        _script(lab / "hooks" / event, _filled(template, values))


def _filled(template: str, values: dict[str, str]) -> str:
    for key, value in values.items():
        template = template.replace(f"@{key}@", value)
    return template


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
