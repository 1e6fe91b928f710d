"""The tool that puts the notifier into a job_resource_manager, and what its patch does there. Real Perl only."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from tests.hooks.shells import HOOKS, Shell

TOOL = HOOKS / "oar/patch-job-resource-manager"
OARS_OWN = sorted(
    [*Path("/etc/oar").glob("job_resource_manager*.pl"), *Path("/usr/share/oar").rglob("job_resource_manager*.pl")]
)
# A manager with what OAR's have in common; `$Cpuset->{do}` says how it goes on.
MANAGER = """\
use strict;
use warnings;
my $Cpuset;
my $tmp = "";
while (<STDIN>) { $tmp .= $_; }
$Cpuset = eval($tmp);
open(LOCK, ">", $Cpuset->{lock}) if (defined($Cpuset->{lock}));
flock(LOCK, 2) if (defined($Cpuset->{lock}));
my $Host = $ENV{TAKTUK_HOSTNAME};
if ($ARGV[0] eq "init") {
    print("init on $Host\\n");
} elsif ($ARGV[0] eq "clean") {
    print("clean on $Host\\n");
}
eval($Cpuset->{do}) if (defined($Cpuset->{do}));
exit($Cpuset->{status});
"""
JOB = """\
$Cpuset = { job_id => 7, user => "root", status => 0, nodes => { n1 => ["0", "1,9"], n2 => ["4"] },
  resources => [
    { type => "default", network_address => "n1", gpudevice => 1 },
    { type => "default", network_address => "n1", gpudevice => 0 },
    { type => "default", network_address => "n1", gpudevice => 0 },
    { type => "default", network_address => "n1", gpudevice => undef },
    { type => "licence", network_address => "n1", gpudevice => 8 },
    { type => "default", network_address => "n2", gpudevice => 9 } ], %s };
"""
TOLD = "event=init job=7 node=n1 uid=0 cpus=3 gpus=0,1"

pytestmark = pytest.mark.skipif(not shutil.which("perl"), reason="needs perl")


class Node:
    """A manager that was patched, and a notifier that writes down what it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.manager, self.notify = folder, folder / "patched.pl", folder / "notify"
        self.told = folder / "told"
        (folder / "site.pl").write_text(MANAGER)
        self.notifier(f'#!/bin/sh\necho "$@" >> {self.told}\n')
        done = patch("--notify", self.notify, folder / "site.pl", self.manager)
        assert done.returncode == 0, done.stderr

    def notifier(self, text: str) -> None:
        self.notify.write_text(text)
        self.notify.chmod(0o755)

    def run(self, event: str, more: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """As OAR does: script and job on stdin, and ssh waits until all its streams are closed."""
        text = f"{self.manager.read_text()}__END__\n{JOB % more}"
        return subprocess.run(
            ["perl", "-", event],
            input=text,
            env={"PATH": os.environ["PATH"], "TAKTUK_HOSTNAME": "n1", **env},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def words(self) -> list[str]:
        return self.told.read_text().splitlines() if self.told.exists() else []


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def patch(*arguments: str | Path, shell: Shell | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*(shell.argv if shell else ()), TOOL, *arguments], capture_output=True, text=True)


# What the patch does on a node


def test_the_notifier_is_told_of_both_events(node: Node) -> None:
    """What the job holds on this node alone; the manager's own output and status are as before."""
    for event in ("init", "clean"):
        done = node.run(event)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{event} on n1\n", "")
    assert node.words() == [TOLD, TOLD.replace("init", "clean")]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("resources => undef,", "cpus=3"),
        ("compute_thread_siblings => 'yes',", "gpus=0,1"),
        ("nodes => { n1 => ['0-3'] },", "gpus=0,1"),
        ("nodes => { n1 => ['0+1 2', '2'] },", "cpus=3 gpus=0,1"),
        ("nodes => {},", "gpus=0,1"),
        (
            "resources => [{ type => 'default', network_address => 'n1', gpudevice => '/dev/dri/card1+/dev/x' }],",
            "cpus=3 gpus=/dev/dri/card1+/dev/x",
        ),
    ],
    ids=["clean", "siblings", "ranges", "hwloc", "none", "files"],
)
def test_what_is_not_known_is_not_told(node: Node, more: str, told: str) -> None:
    """In `clean` OAR gives no resources; where nodes add sibling threads the cgroup alone knows how many."""
    assert node.run("init", more).returncode == 0
    assert node.words() == [f"event=init job=7 node=n1 uid=0 {told}"]


def test_an_unknown_user_has_no_uid(node: Node) -> None:
    """The rest is told."""
    node.run("init", "user => 'no such user',")
    assert node.words() == [TOLD.replace("uid=0 ", "")]


@pytest.mark.parametrize(
    ("event", "more", "status", "told"),
    [
        ("init", "status => 6,", 6, False),
        ("clean", "status => 6,", 6, True),
        ("init", "do => 'exit(5)',", 5, False),
        ("clean", "do => 'exit(18)',", 18, True),
        ("clean", "do => 'kill(15, $$); sleep(9)',", -signal.SIGTERM, False),
        ("other", "", 0, False),
        ("init", "do => 'if (!fork()) { exit(0); } wait();',", 0, True),
        ("init", "do => '$SIG{CHLD} = q(IGNORE); $SIG{ALRM} = q(IGNORE);',", 0, True),
    ],
)
def test_the_status_is_oars_own(node: Node, event: str, more: str, status: int, told: bool) -> None:
    """A job that could not be set up has not started; one that could not be cleaned up has ended; once each."""
    done = node.run(event, more)
    assert done.returncode == status
    assert len(node.words()) == told


@pytest.mark.parametrize(
    "text",
    [
        "#!/bin/sh\nexit 1\n",
        "#!/bin/sh\nkill -9 $$\n",
        "#!/bin/sh\nexec sleep 100\n",
        "#!/bin/sh\ntrap : ALRM TERM HUP INT\nwhile :; do sleep 0.1; done\n",
        "#!/bin/sh\nsleep 100 & echo $! >> PIDS\nsetsid sleep 100 & echo $! >> PIDS\n",
        "#!/bin/sh\nhead -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2; cat\n",
        "#!/nonexistent/shell\n",
        "",
    ],
    ids=["fails", "dies", "hangs", "cannot be stopped", "leaves children", "talks", "no shell", "empty"],
)
@pytest.mark.parametrize("status", [0, 6])
def test_a_bad_notifier_changes_nothing(node: Node, text: str, status: int) -> None:
    """No status, no output, no stream that ssh would wait for, and no lock that the next job would wait for."""
    node.notifier(text.replace("PIDS", str(node.folder / "pids")))
    lock = node.folder / "lock"
    done = node.run("clean", f"status => {status}, lock => '{lock}',")
    assert (done.returncode, done.stdout, done.stderr) == (status, "clean on n1\n", "")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if (node.folder / "pids").exists():
        for pid in (node.folder / "pids").read_text().split():
            os.kill(int(pid), signal.SIGKILL)


@pytest.mark.parametrize("kind", ["missing", "not executable", "a folder", "below a file"])
def test_a_notifier_that_cannot_be_run_changes_nothing(node: Node, kind: str) -> None:
    """As on a node on which jobimpact was never installed."""
    text = node.manager.read_text()
    if kind == "missing":
        node.notify.unlink()
    elif kind == "not executable":
        node.notify.chmod(0o644)
    else:
        new = node.folder if kind == "a folder" else node.notify / "below"
        node.manager.write_text(text.replace(str(node.notify), str(new)))
    done = node.run("init")
    assert (done.returncode, done.stdout, done.stderr) == (0, "init on n1\n", "")
    assert node.words() == []


def test_what_oar_sends_may_be_rubbish(node: Node) -> None:
    """Nothing is told where there is no job, and what is told is words, never code."""
    assert node.run("init", "job_id => '7; touch x', user => '$(reboot)',").returncode == 0
    assert node.words()[0].startswith("event=init job=7; touch x node=n1")
    (node.folder / "told").unlink()
    text = f"{node.manager.read_text()}__END__\nnot perl {{"
    done = subprocess.run(
        ["perl", "-", "init"], input=text, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True
    )
    assert "jobimpact" not in done.stderr.lower()
    assert node.words() == []


def test_the_mark_folder_may_be_another(tmp_path: Path) -> None:
    """`--marks` comes to the notifier as JOBIMPACT_MARKS."""
    node = Node(tmp_path)
    node.notifier(f'#!/bin/sh\necho "$JOBIMPACT_MARKS" > {node.told}\n')
    patch("--notify", node.notify, "--marks", "/var/spool/marks", tmp_path / "site.pl", node.manager)
    node.run("init")
    assert node.words() == ["/var/spool/marks"]


# The tool


def test_a_patch_is_the_same_in_each_shell_and_twice(shell: Shell, tmp_path: Path) -> None:
    """A site's lines are all there, in order; patching a patched file replaces what was put in."""
    site, one, two = (tmp_path / name for name in ("site.pl", "one.pl", "two.pl"))
    site.write_text(MANAGER)
    done = patch(site, one, shell=shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert f'JOB_RESOURCE_MANAGER_FILE="{one}"' in done.stdout
    assert patch("--notify", "/other/notify", one, two, shell=shell).returncode == 0
    assert "/other/notify" in two.read_text()
    assert "/opt/jobimpact" not in two.read_text()
    assert patch(two, tmp_path / "three.pl", shell=shell).returncode == 0
    assert (tmp_path / "three.pl").read_text() == one.read_text()
    lines = iter(one.read_text().splitlines())
    assert all(line in lines for line in MANAGER.splitlines())
    assert one.stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.pl", "site.pl", "three.pl", "two.pl"]


@pytest.mark.skipif(not OARS_OWN, reason="needs OAR's own files: oar-server")
@pytest.mark.parametrize("site", OARS_OWN, ids=lambda path: path.name)
def test_oars_own_files_take_the_patch(site: Path, tmp_path: Path) -> None:
    """Each manager that OAR ships here: it is Perl as before, and nothing of it is lost."""
    assert patch(site, tmp_path / "copy.pl").returncode == 0
    lines = iter((tmp_path / "copy.pl").read_text().splitlines())
    assert all(line in lines for line in site.read_text().splitlines())
    done = subprocess.run(["perl", "-c", tmp_path / "copy.pl"], capture_output=True, text=True)
    assert "syntax OK" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("my $Cpuset;", "our $Cpuset;", "0 lines begin with 'my $Cpuset;', not 1"),
        ("my $Cpuset;", "my $Cpuset;\nmy $Cpuset;", "2 lines begin with 'my $Cpuset;', not 1"),
        ('eq "init"', 'eq "start"', "no line asks for init"),
        ('eq "clean"', "=~ /clean/", "no line asks for clean"),
        ("TAKTUK_HOSTNAME", "HOSTNAME", "TAKTUK_HOSTNAME is not in it"),
        ("my $tmp", "# jobimpact begin\nmy $tmp", "'# jobimpact begin' and '# jobimpact end' do not go together"),
        ("my $tmp", "my my $tmp", "would not be Perl any more"),
    ],
)
def test_a_file_that_is_another_is_refused(shell: Shell, tmp_path: Path, old: str, new: str, why: str) -> None:
    """It says what was not found; an earlier copy stays as it is."""
    site, copy = tmp_path / "site.pl", tmp_path / "copy.pl"
    assert old in MANAGER
    site.write_text(MANAGER.replace(old, new))
    copy.write_text("kept")
    done = patch(site, copy, shell=shell)
    assert (done.returncode, done.stdout) == (1, "")
    assert why in done.stderr
    assert copy.read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.pl", "site.pl"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("SITE",), "two files must be named"),
        (("SITE", "SITE"), "name another file"),
        (("nowhere.pl", "copy.pl"), "not a file that can be read"),
        (("SITE", "/nowhere/copy.pl"), "no file can be made beside it"),
        (("--notify", "notify", "SITE", "copy.pl"), "not an absolute path"),
        (("--notify", '/x"; system("reboot"); "', "SITE", "copy.pl"), "letters, digits and"),
        (("--marks", "/x y", "SITE", "copy.pl"), "letters, digits and"),
        (("--marks",), "a path must follow"),
        (("--force", "SITE", "copy.pl"), "no such option"),
    ],
)
def test_wrong_arguments_are_named(shell: Shell, tmp_path: Path, arguments: tuple[str, ...], why: str) -> None:
    """One line, status 1, nothing written."""
    (tmp_path / "site.pl").write_text(MANAGER)
    places = {"SITE": str(tmp_path / "site.pl"), "copy.pl": str(tmp_path / "copy.pl")}
    done = patch(*(places.get(one, one) for one in arguments), shell=shell)
    assert done.returncode == 1
    assert why in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["site.pl"]
    assert (tmp_path / "site.pl").read_text() == MANAGER
