"""`jobimpactd check`, OAR's side: may its notifier write marks here, and do they count?"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
from pathlib import Path

from jobimpact.core.config import Config
from jobimpact_daemon.check_slurm import Said
from jobimpact_daemon.jobs.cgroups import layouts

__all__ = ["check_oar"]

USER = "oar"
"""Whom OAR runs its job_resource_manager as."""


def check_oar(config: Config) -> list[Said]:
    """Look at the marks' owner and their folder, where OAR is configured or its jobs' cgroups are.

    Args:
        config: the configuration.

    Returns:
        What was found; nothing on a node that is none of OAR's.
    """
    node = config.node
    found = layouts(Path(node.cgroup_root), node.name, node.slurmd)
    if config.scheduler.oar is None and not any(one.scheduler == "oar" for one in found):
        if found or _account(USER) is None or shutil.which("scontrol") is not None:
            return []
        text = f"oar: this machine has a user {USER} and no Slurm: a node of OAR needs node.mark_owners: [{USER}]"
        return [] if node.mark_owners else [Said("note", text)]
    if not node.mark_owners:
        why = f"the marks of OAR's notifier are set aside: set it to [{USER}]"
        return [Said("MEND", f"oar: node.mark_owners is empty: {why}")]
    return [_check_owner(name, Path(node.marks)) for name in node.mark_owners]


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _check_owner(name: str, folder: Path) -> Said:
    account = _account(name)
    if account is None:
        return Said("MEND", f"oar: node.mark_owners: {name}: no such user: the daemon does not start")
    try:
        info = folder.stat()
    except OSError:
        return Said("note", f"oar: {folder} is not there: it is to be root:{name} 1730 (deploy/tmpfiles.d)")
    if not _may_write(account, info):
        has = f"uid {info.st_uid}, gid {info.st_gid}, mode {stat.S_IMODE(info.st_mode):04o}"
        why = "jobs have no exact edges; make it root:"
        return Said("MEND", f"oar: {folder}: {name} may not write to it ({has}): {why}{name} 1730 (deploy/tmpfiles.d)")
    return Said("ok", f"oar: marks of {name} count, and it may write to {folder}")


def _may_write(account: pwd.struct_passwd, info: os.stat_result) -> bool:
    """Whether a user may make files in a folder, by its mode."""
    if account.pw_uid == 0:
        return True
    if account.pw_uid == info.st_uid:
        bits = info.st_mode >> 6
    elif info.st_gid in os.getgrouplist(account.pw_name, account.pw_gid):
        bits = info.st_mode >> 3
    else:
        bits = info.st_mode
    return bits & 0o3 == 0o3
