"""The files of an OAR lab: settings, users, keys, the patched job_resource_manager, each node's own folder."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
USERS = {"ana": 5201, "boris": 5202, "j.doe_2-x": 5203}
HOME = "/run/home"
"""Where users are at home in the lab: OAR deletes their files below /tmp, where the lab's folder may be."""
MANAGER = Path("/etc/oar/job_resource_manager_cgroups.pl")


@dataclass(frozen=True)
class Plan:
    """What a lab is to look like."""

    nodes: int = 4
    cores: int = 2
    """Of each node; a core is a CPU of this machine."""
    gpu_nodes: int = 1
    """How many of the last nodes have two GPUs."""
    prefix: str = "jioar"

    @property
    def host(self) -> str:
        """The OAR server's host name."""
        return f"{self.prefix}head"

    @property
    def names(self) -> list[str]:
        """The nodes' names."""
        return [f"{self.prefix}{n}" for n in range(1, self.nodes + 1)]

    @property
    def gpu_names(self) -> list[str]:
        """The nodes with GPUs."""
        return self.names[self.nodes - self.gpu_nodes :]

    def address(self, name: str) -> str:
        """The node's address in the lab."""
        return f"10.77.0.{10 + self.place(name)}"

    def place(self, name: str) -> int:
        """Which one it is, from 1."""
        return self.names.index(name) + 1


def keep() -> list[str]:
    """Folders outside of the lab's own that its nodes must see: the project, and the Python that runs it."""
    found = [str(Path(one).resolve()) for one in (ROOT, sys.prefix, sys.base_prefix)]
    return list(dict.fromkeys(found))


def write(plan: Plan, lab: Path) -> None:
    """Fill the empty folder `lab` with all that `lab.sh` needs."""
    lab.chmod(0o755)
    for name in ("etc", "pg", "nodes", "tools", "measured"):
        (lab / name).mkdir()
    for name in ("run", "log", "home"):
        (lab / name).mkdir()
        (lab / name).chmod(0o1777)
    shutil.chown(lab / "pg", "postgres", "postgres")
    (lab / "log/oar.log").touch()
    shutil.chown(lab / "log/oar.log", "oar", "oar")
    _configure(plan, lab)
    _users(plan, lab)
    _manager(lab)
    _copy_home(lab / "varliboar")
    for name in plan.names:
        (lab / "nodes" / name).mkdir()
        _copy_home(lab / "nodes" / name / "varliboar")
        (lab / "nodes" / name / "boot_id").write_text(Path("/proc/sys/kernel/random/boot_id").read_text())
    load = HERE.parent / "slurm" / "load.c"
    subprocess.run(["gcc", "-O1", "-Wall", "-o", lab / "tools/load", load], check=True)


def _configure(plan: Plan, lab: Path) -> None:
    text = (HERE / "oar.conf.in").read_text().replace("@HOST@", plan.host).replace("@LAB@", str(lab))
    conf = lab / "etc/oar.conf"
    conf.write_text(text)
    conf.chmod(0o600)
    shutil.chown(conf, "oar")


def _users(plan: Plan, lab: Path) -> None:
    """Copies that are bound over /etc inside the lab only: the machine's own files stay as they are."""
    passwd, group, shadow = (Path("/etc", name).read_text() for name in ("passwd", "group", "shadow"))
    for name, uid in USERS.items():
        passwd += f"{name}:x:{uid}:{uid}::{HOME}:/bin/bash\n"
        group += f"{name}:x:{uid}:\n"
        shadow += f"{name}:*:19000:0:99999:7:::\n"
    hosts = [f"127.0.0.1 localhost\n10.77.0.1 {plan.host}\n"]
    hosts += [f"{plan.address(name)} {name}\n" for name in plan.names]
    for name, text in (("passwd", passwd), ("group", group), ("shadow", shadow), ("hosts", "".join(hosts))):
        (lab / "etc" / name).write_text(text)
    (lab / "etc/shadow").chmod(0o640)
    shutil.chown(lab / "etc/shadow", "root", "shadow")


def _manager(lab: Path) -> None:
    """OAR's own file with GPU confinement on, as a site has it, and the project's tool on it."""
    text = MANAGER.read_text()
    confined = text.replace('my $Enable_devices_cg = "NO";', 'my $Enable_devices_cg = "YES";')
    (lab / "etc/site.pl").write_text(confined)
    tool = ROOT / "prolog_epilog/oar/patch-job-resource-manager"
    done = subprocess.run(
        [tool, lab / "etc/site.pl", lab / "etc/job_resource_manager.pl"], capture_output=True, text=True, check=False
    )
    if done.returncode or confined == text:
        raise RuntimeError(f"job_resource_manager: {done.stderr or 'GPU confinement cannot be switched on'}")
    shutil.copy(ROOT / "prolog_epilog/oar/notify", lab / "etc/notify")


def _copy_home(target: Path) -> None:
    """The home of oar, with the keys by which the server gets onto the nodes."""
    subprocess.run(["cp", "-a", "/var/lib/oar", target], check=True)
