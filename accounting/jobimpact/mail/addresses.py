"""Where a user's mail goes: by the map, else by LDAP, else by the domain behind the name."""

from __future__ import annotations

import base64
import binascii
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jobimpact.core.config import Addresses, Ldap
from jobimpact.core.errors import ConfigError, MailError
from jobimpact.mail.lists import is_address, local_part_trouble, read_map
from jobimpact.mail.policy import Address
from jobimpact.report.text import clean

__all__ = ["AddressBook", "escaped", "read_secret"]

_NO_SUCH_OBJECT, _SIZE_LIMIT = 32, 4
_SAID = 300


class AddressBook:
    """Each user is looked up once.

    Args:
        settings: the configuration's.

    Raises:
        ConfigError: the map is wrong: names file and line.
    """

    def __init__(self, settings: Addresses) -> None:
        self._settings = settings
        self._map = read_map(settings.map_file)
        self._found: dict[str, Address] = {}
        self.trouble: str | None = None
        """What LDAP's server said when it could not answer: it is not asked again."""

    def address_of(self, user: str) -> Address:
        """Where a user's mail goes, or why nowhere."""
        if user not in self._found:
            self._found[user] = self._look_up(user)
        return self._found[user]

    def _look_up(self, user: str) -> Address:
        if user in self._map:
            return Address(self._map[user])
        if self._settings.ldap is not None:
            found = self._by_ldap(self._settings.ldap, user)
            if found is not None:
                return found
        if self._settings.domain is None:
            return Address(None, "no address is known")
        trouble = local_part_trouble(user)
        if trouble is not None:
            return Address(None, trouble)
        address = f"{user}@{self._settings.domain}"
        return Address(address) if is_address(address) else Address(None, "no address can be made of the name")

    def _by_ldap(self, settings: Ldap, user: str) -> Address | None:
        """None: it does not know the user."""
        if self.trouble is None:
            try:
                return _asked(settings, user)
            except MailError as error:
                self.trouble = str(error)
        return Address(None, "LDAP could not be asked: they wait", lasting=False)


def escaped(text: str) -> str:
    """A value in an LDAP filter, by RFC 4515: each byte but letters, digits and `-_.@` by its number."""
    plain = b"-_.@"
    return "".join(
        chr(byte) if chr(byte).isascii() and (chr(byte).isalnum() or byte in plain) else f"\\{byte:02x}"
        for byte in text.encode("utf-8", errors="surrogateescape")
    )


def _asked(settings: Ldap, user: str) -> Address | None:
    text = f"({settings.user_attribute}={escaped(user)})"
    with _password(settings) as (more, fds):
        argv = [
            "ldapsearch",
            "-x",
            "-LLL",
            "-o",
            "ldif-wrap=no",
            "-z",
            "2",
            "-l",
            str(max(1, round(settings.timeout_s))),
        ]
        argv += [*more, "-H", settings.uri, "-b", settings.base, text, settings.mail_attribute]
        status, out, said = _run(argv, fds, settings.timeout_s)
    if status not in {0, _SIZE_LIMIT}:
        where = f"; base {settings.base!r} is not there" if status == _NO_SUCH_OBJECT else ""
        raise MailError(f"ldapsearch: {settings.uri}: exit {status}: {said or 'no word why'}{where}")
    entries, values = _ldif(out, settings.mail_attribute)
    if status == _SIZE_LIMIT or entries > 1:
        return Address(None, "LDAP has several entries of that name")
    if not entries:
        return None
    good = [one for one in values if is_address(one)]
    if good:
        return Address(good[0])
    return Address(None, "LDAP's address is none" if values else "LDAP has no address")


@contextmanager
def _password(settings: Ldap) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """What ldapsearch is told of who asks. It takes a password's file as it is, the line's end too: so by a pipe."""
    if settings.bind_dn is None:
        yield [], ()
        return
    more = ["-D", settings.bind_dn]
    if settings.password_file is None:
        yield more, ()
        return
    if settings.uri.startswith("ldap:"):
        more.append("-ZZ")  # else the password would go in the open
    read, write = os.pipe()
    try:
        os.write(write, read_secret(settings.password_file).encode())
        os.close(write)
        yield [*more, "-y", f"/dev/fd/{read}"], (read,)
    finally:
        os.close(read)


def _run(argv: list[str], fds: tuple[int, ...], timeout_s: float) -> tuple[int, str, str]:
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=fds,
            start_new_session=True,
        )
    except OSError as error:
        raise MailError(f"ldapsearch: {error.strerror}") from error
    with process:
        try:
            # A little more than it was told to wait: its own words are better than ours.
            out, words = process.communicate(timeout=timeout_s + 1)
        except subprocess.TimeoutExpired as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise MailError(f"ldapsearch: no answer within {timeout_s:g} s") from error
    said = clean(" ".join(words.decode(errors="replace").split()))[:_SAID]
    return process.returncode, out.decode(errors="replace"), said


def _ldif(text: str, attribute: str) -> tuple[int, list[str]]:
    """How many entries there are, and the values of an attribute."""
    entries, values = 0, []
    for line in text.split("\n"):
        name, _, value = line.partition(":")
        if name == "dn":
            entries += 1
        # Options (`mail;lang-fr`) are of the same attribute.
        elif name.partition(";")[0].lower() == attribute.lower():
            values.append(_decoded(value[1:]) if value.startswith(":") else value.strip())
    return entries, values


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def read_secret(path: str) -> str:
    """A password from its file, which holds nothing else.

    Raises:
        ConfigError: it cannot be read, or is empty.
    """
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: {why}") from error
    if not text:
        raise ConfigError(f"{path}: empty")
    return text
