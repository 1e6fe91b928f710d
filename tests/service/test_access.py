"""Who asks: by the name service's word of a uid, and for a minute at most by that of before."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from tests.service.running import result

from jobimpact.answers.access import WhoIs, may_see, who_is
from jobimpact.answers.query import Who
from jobimpact.core.config import Access, Config, Lab

NOBODY = pwd.getpwnam("nobody")
NAMELESS = 64999


def config(groups: tuple[str, ...] = (), **heads: str) -> Config:
    return Config(access=Access(groups), labs={lab: Lab(heads=(name,)) for lab, name in heads.items()})


def test_root_sees_all() -> None:
    """Root needs no group."""
    assert who_is(0, config()) == Who(0, "root", admin=True)


def test_a_user_sees_their_own() -> None:
    """A name, no lab, not an admin; a group that this host does not have makes nobody one."""
    assert who_is(NOBODY.pw_uid, config(("no-such-group",))) == Who(NOBODY.pw_uid, "nobody")


def test_a_primary_group_counts() -> None:
    """Nobody of the group `nogroup` is an admin where that group is named."""
    assert who_is(NOBODY.pw_uid, config((grp.getgrgid(NOBODY.pw_gid).gr_name,))).admin


def test_a_supplementary_group_counts() -> None:
    """Each member that the host lists in a group is an admin where that group is named."""
    listed = [(group.gr_name, name) for group in grp.getgrall() for name in group.gr_mem]
    known = [(group, name) for group, name in listed if name in {one.pw_name for one in pwd.getpwall()}]
    if not known:
        pytest.skip("no group of this host has a member")
    for group, name in known:
        uid = pwd.getpwnam(name).pw_uid
        assert who_is(uid, config((group,))).admin
        assert who_is(uid, config()).admin == (uid == 0)


def test_heads_have_their_labs() -> None:
    """All labs whose heads they are among, and no other."""
    found = who_is(NOBODY.pw_uid, config(physics="nobody", bio="root", chem="nobody"))
    assert (found.labs, found.admin) == (("physics", "chem"), False)


@pytest.mark.parametrize("uid", [NAMELESS, 2**32 - 2, 2**40])
def test_without_a_name_there_is_no_right(uid: int) -> None:
    """Digits are a name that heads nothing, even where somebody wrote them among the heads."""
    assert who_is(uid, config(("root", "nogroup"), physics=str(uid))) == Who(uid, str(uid))


@pytest.mark.parametrize(
    ("who", "theirs"),
    [
        (Who(1, "alice"), True),
        (Who(1, "bob"), False),
        (Who(1, "bob", labs=("physics",)), True),
        (Who(1, "bob", labs=("bio",)), False),
        (Who(1, "bob", admin=True), True),
        (Who(1, ""), False),
    ],
)
def test_whose_a_job_is(who: Who, theirs: bool) -> None:
    """One's own, one's lab's as its head, all as an admin."""
    assert may_see(who, result(user="alice", account="physics")) is theirs


def test_a_job_without_an_account_is_no_labs() -> None:
    """Not even that of a lab without a name."""
    assert not may_see(Who(1, "bob", labs=("",)), result(user="alice", account=None))


def test_digits_are_a_name_where_the_scheduler_knows_no_other() -> None:
    """The job of a uid is its user's, whatever the scheduler could find of them."""
    assert may_see(Who(1234, "alice"), result(user="1234"))
    assert not may_see(Who(1235, "alice"), result(user="1234"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a directory of its own")
def test_digits_that_are_anothers_name_are_not_ones_own(tmp_path: Path) -> None:
    """A site that calls its users by numbers: a job of user 1234 is not that of the uid 1234, named or nameless."""
    people = tmp_path / "passwd"
    lines = ("root:x:0:0::/:/bin/sh", "1234:x:9001:9001::/:/bin/sh", "alice:x:1234:1234::/:/bin/sh")
    people.write_text("\n".join([*lines, "77:x:9002:9002::/:/bin/sh", "78:x:78:78::/:/bin/sh"]) + "\n")
    told = "print([who_is(uid, Config()).names for uid in (1234, 9001, 77, 78, 79)])"
    code = f"from jobimpact.answers.access import who_is; from jobimpact.core.config import Config; {told}"
    shell = f'mount --bind {people} /etc/passwd && exec "$0" -c "$1"'
    command = ["unshare", "--mount", "sh", "-c", shell, sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([("alice",), ("1234", "9001"), (), ("78", "78"), ("79", "79")])


def test_names_are_asked_for_again_after_a_minute() -> None:
    """What is remembered is forgotten: somebody who lost a lab loses it."""
    now = [1000.0]
    heads = {"physics": Lab(heads=("nobody",))}
    who = WhoIs(Config(labs=heads), lambda: now[0])
    assert who(NOBODY.pw_uid).labs == ("physics",)
    heads.clear()
    now[0] += 59
    assert who(NOBODY.pw_uid).labs == ("physics",)
    now[0] += 2
    assert who(NOBODY.pw_uid).labs == ()


def test_this_process_is_somebody() -> None:
    """The uid of who runs the tests is looked up like any."""
    assert who_is(os.getuid(), Config()).uid == os.getuid()
