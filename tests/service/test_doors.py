"""Where the service listens: nobody else can, and systemd may hand its sockets over."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.service.running import connected, running, service_at

from jobimpact.core.errors import BusyError, ConfigError
from jobimpact.service.doors import handed_over, open_socket, open_tcp, tell_systemd

PORT = 1 << 16


def test_everybody_may_connect_and_nobody_may_replace_it(tmp_path: Path) -> None:
    """The socket is open to all, in a folder that is not."""
    with running(tmp_path) as service:
        assert stat.S_IMODE(Path(service.socket).stat().st_mode) == 0o666
        connected(service).close()


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
def test_a_folder_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    """Even a sticky one: who comes first would be the service."""
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(ConfigError, match=f"{folder}: others than root may write there"):
        open_socket(str(folder / "s"))


def test_a_folder_above_it_counts_as_well(tmp_path: Path) -> None:
    """Whoever may rename the folder may put another one there."""
    above = tmp_path / "above"
    (above / "run").mkdir(parents=True)
    above.chmod(0o777)
    with pytest.raises(ConfigError, match=f"{above}: others than root"):
        open_socket(str(above / "run/s"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_another_users_folder_is_refused(tmp_path: Path) -> None:
    """Its owner may do there what they like."""
    folder = tmp_path / "run"
    folder.mkdir()
    os.chown(folder, 64999, 64999)
    with pytest.raises(ConfigError, match="others than root"):
        open_socket(str(folder / "s"))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(ConfigError, match="nowhere: No such file"):
        open_socket(str(tmp_path / "nowhere/s"))


def test_what_a_killed_service_left_is_taken_over(tmp_path: Path) -> None:
    """A socket behind which nobody is."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "answers.sock"))
    with running(tmp_path) as service:
        connected(service).close()


def test_a_file_of_somebodys_is_left_alone(tmp_path: Path) -> None:
    """It is no socket, so it is not ours to take away."""
    path = tmp_path / "s"
    path.write_text("mine")
    with pytest.raises(ConfigError, match=r"service\.socket"):
        open_socket(str(path))
    assert path.read_text() == "mine"


def test_a_second_service_is_refused(tmp_path: Path) -> None:
    """The first one goes on."""
    with running(tmp_path) as service:
        with pytest.raises(BusyError, match="answers there already"):
            open_socket(service.socket)
        connected(service).close()


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "*:0"])
def test_tcp(address: str) -> None:
    """One address of either kind, or all."""
    if "::" in address and not _has_ipv6():
        pytest.skip("no IPv6 here")
    door = open_tcp(address)
    where = "::1" if "::" in address else "127.0.0.1"
    socket.create_connection((where, door.sock.getsockname()[1])).close()
    assert not door.local
    door.close()


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_an_address_that_is_taken_or_none() -> None:
    """It is named with its key."""
    door = open_tcp("127.0.0.1:0")
    taken = f"127.0.0.1:{door.sock.getsockname()[1]}"
    for address in (taken, f"127.0.0.1:{PORT}", "no-such-host.invalid:1"):
        with pytest.raises(ConfigError, match=f"service.listen: {address}: "):
            open_tcp(address)
    door.close()


CHILD = """
import os, sys
from jobimpact.service.doors import handed_over
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = os.environ["LISTEN_PID"] or str(os.getpid())
doors = handed_over(os.environ)
print([(door.local, door.made) for door in doors], [name for name in os.environ if name.startswith("LISTEN")])
for door in doors:
    door.sock.setblocking(True)
    door.sock.accept()[0].sendall(b"here")
"""


def _child(sock: socket.socket, pid: str = "") -> subprocess.Popen[str]:
    """As systemd would start it: the socket is descriptor 3."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(sock.fileno())],
        env={**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": pid},
        pass_fds=[sock.fileno()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_systemd_hands_a_socket_over(tmp_path: Path) -> None:
    """It is answered on, and left there at the end: it is systemd's."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        child = _child(listening)
        with connected(service_at(path)) as client:
            assert client.recv(4) == b"here"
        said, _ = child.communicate()
    assert said.strip() == "[(True, None)] []"


def test_sockets_of_another_process_are_not_ours(tmp_path: Path) -> None:
    """`LISTEN_PID` says whose they are."""
    with socket.socket(socket.AF_UNIX) as listening:
        said, _ = _child(listening, pid="1").communicate()
    assert said.strip() == "[] []"


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_what_does_not_listen_is_refused(tmp_path: Path, kind: socket.SocketKind) -> None:
    """A connection (Accept=yes), or datagrams."""
    with socket.socket(socket.AF_UNIX, kind) as other:
        _, error = _child(other).communicate()
    assert "Accept=no is needed" in error


def test_without_systemd_there_is_nothing() -> None:
    """Nor with words that are no number."""
    assert handed_over({}) == []
    assert handed_over({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"}) == []


def test_systemd_is_told(tmp_path: Path) -> None:
    """Where it asks to be; where it asks no more, nothing happens."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        tell_systemd("READY=1", {"NOTIFY_SOCKET": path})
        assert notify.recv(100) == b"READY=1"
    tell_systemd("READY=1", {"NOTIFY_SOCKET": path})
    tell_systemd("READY=1", {})
