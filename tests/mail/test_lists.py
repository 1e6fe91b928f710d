"""The files that admins keep, and addresses by map, LDAP and domain."""

from __future__ import annotations

import os
import subprocess
from datetime import date
from pathlib import Path

import pytest
from tests.needs import SKIPPED

from jobimpact.core.config import Addresses, Ldap
from jobimpact.core.errors import ConfigError
from jobimpact.mail.addresses import AddressBook, escaped
from jobimpact.mail.lists import is_address, read_holidays, read_map, read_opt_out

HOSTILE = [
    "a\nBcc: x@evil.example",
    "a\r\nRCPT TO:<x@evil.example>",
    "a\0b",
    "a b",
    "a@b",
    "a>,<x",
    '"a"',
    "a,b",
    "-oX",
    ".a",
    "a.",
    "a..b",
    "é",
    "\u202eecila",
    "=?utf-8?q?a=0d=0aBcc:x?=",
    "x" * 65,
    "x" * 10_000,
    "",
    "$(reboot)",
    "`id`",
]


def write(folder: Path, content: str | bytes) -> str:
    """A file with this in it."""
    path = folder / "list"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def test_lists_have_comments_and_blank_lines(tmp_path: Path) -> None:
    """A comment begins a line or stands after a blank; line ends of any system, and a mark of UTF-8's."""
    text = "\ufeff# who wants none\r\nalice\r\n\r\n  bob   # since May\nça#va\n"
    assert read_opt_out(write(tmp_path, text)) == {"alice", "bob", "ça#va"}
    assert read_holidays(write(tmp_path, "2026-12-25 # Noël\n\n2027-01-01\n")) == {
        date(2026, 12, 25),
        date(2027, 1, 1),
    }
    assert read_map(write(tmp_path, "alice: a.b+c@x.example\nurn:x:bob: b@y.example # moved\n")) == {
        "alice": "a.b+c@x.example",
        "urn:x:bob": "b@y.example",
    }


def test_no_list_is_an_empty_one() -> None:
    """Where none is configured."""
    assert (read_opt_out(None), read_holidays(None), read_map(None)) == (frozenset(), frozenset(), {})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("# x\nalice a@x.example\n", "line 2: 'alice a@x.example': not like `user: address`"),
        ("alice: a@x.example\nalice: b@x.example\n", "line 2: user 'alice' twice"),
        ("alice: Alice <a@x.example>\n", "line 1: 'Alice <a@x.example>': not a mail address"),
        ("alice: a@x.example, b@x.example\n", "not a mail address"),
        ("alice: é@x.example\n", "not a mail address"),
        (": a@x.example\n", "not like"),
        (b"alice: \xff@x.example\n", "not UTF-8 text"),
    ],
)
def test_a_wrong_map_names_file_and_line(tmp_path: Path, content: str | bytes, said: str) -> None:
    """And is never read in part."""
    path = write(tmp_path, content)
    with pytest.raises(ConfigError) as error:
        read_map(path)
    assert str(error.value).startswith(path)
    assert said in str(error.value)


def test_a_list_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Nobody is to get mail because the list of those who want none was lost."""
    gone = str(tmp_path / "gone")
    for read, key in ((read_opt_out, "opt_out_file"), (read_holidays, "holidays_file"), (read_map, "map_file")):
        with pytest.raises(ConfigError, match=rf"gone \(mail.*{key}\): No such file"):
            read(gone)  # type: ignore[operator]
    with pytest.raises(ConfigError, match=r"line 1: '25\.12\.2026': not a day"):
        read_holidays(write(tmp_path, "25.12.2026\n"))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_is_no_local_part_gets_no_address(name: str) -> None:
    """And has none that could be a second recipient."""
    found = AddressBook(Addresses(domain="site.example")).address_of(name)
    assert found.at is None
    assert found.why
    assert not is_address(f"{name}@x@site.example")


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("alice", "alice@site.example"),
        ("a.b-c_d+e", "a.b-c_d+e@site.example"),
        ("1000", None),
        ("_x1", "_x1@site.example"),
    ],
)
def test_the_domain_stands_behind_names(name: str, address: str | None) -> None:
    """A number is a user that the scheduler did not know."""
    assert AddressBook(Addresses(domain="site.example")).address_of(name).at == address


def test_the_map_comes_first(tmp_path: Path) -> None:
    """It may have what no rule would give."""
    book = AddressBook(Addresses(map_file=write(tmp_path, "1000: x@y.example\n"), domain="site.example"))
    assert book.address_of("1000").at == "x@y.example"
    assert book.address_of("alice").at == "alice@site.example"
    assert AddressBook(Addresses(map_file=write(tmp_path, ""))).address_of("alice").why == "no address is known"


@pytest.mark.parametrize("good", ["a@b", "a.b+c=d@x-y.example", f"{'a' * 64}@x.example", "o'neil@x.example"])
def test_addresses(good: str) -> None:
    """Plain ones."""
    assert is_address(good)


@pytest.mark.parametrize(
    "bad", ["a", "@b", "a@", "a@-b", "a@b-", "a@b..c", "a@[1.2.3.4]", f"{'a' * 65}@x.example", "a@b\n", "a@b>", "é@b"]
)
def test_what_is_no_address(bad: str) -> None:
    """Nothing that SMTP would need quotes or an extension for."""
    assert not is_address(bad)


# -- LDAP ------------------------------------------------------------------------------------------------------------

FAKE = """#!/bin/sh
printf '%s\\n' "$@" > "$0.argv"
for word in "$@"; do
  [ "$before" = -y ] && cat "$word" > "$0.password"
  before=$word
done
cat "$0.out"
cat "$0.said" >&2
exit "$(cat "$0.status")"
"""


class Fake:
    """A program `ldapsearch` on PATH."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ldapsearch"
        self.path.write_text(FAKE)
        self.path.chmod(0o755)
        self.says("")

    def says(self, out: str, said: str = "", status: int = 0) -> None:
        """What it prints, and how it ends."""
        for name, text in (("out", out), ("said", said), ("status", str(status))):
            Path(f"{self.path}.{name}").write_text(text)

    def told(self, name: str = "argv") -> str:
        """What it was given."""
        return Path(f"{self.path}.{name}").read_text()


@pytest.fixture
def ldapsearch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """The fake, before all others."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Fake(tmp_path)


LDAP = Ldap(uri="ldaps://ldap.site.example", base="ou=people,dc=site,dc=example")


@pytest.mark.parametrize(
    ("out", "status", "address", "why"),
    [
        ("dn: uid=a\nmail: a@x.example\n\n", 0, "a@x.example", ""),
        ("dn: uid=a\nMail: nonsense\nmail: a@x.example\n", 0, "a@x.example", ""),
        ("dn: uid=a\nmail:: YUB4LmV4YW1wbGU=\n", 0, "a@x.example", ""),
        ("dn: uid=a\nmail:: YUB4LmV4YW1wbGUKQmNjOiBi\n", 0, None, "LDAP's address is none"),  # a line's end in it
        ("dn: uid=a\n", 0, None, "LDAP has no address"),
        ("dn: uid=a\nmail: a@x.example\n\ndn: uid=b\nmail: b@x.example\n", 0, None, "LDAP has several entries"),
        ("dn: uid=a\nmail: a@x.example\n", 4, None, "LDAP has several entries"),
        ("", 0, "alice@site.example", ""),
    ],
)
def test_what_ldap_answers(ldapsearch: Fake, out: str, status: int, address: str | None, why: str) -> None:
    """One entry's first good address; of several entries none; whom it does not know has the domain."""
    ldapsearch.says(out, status=status)
    found = AddressBook(Addresses(ldap=LDAP, domain="site.example")).address_of("alice")
    assert found.at == address
    assert found.why.startswith(why)


def test_ldap_that_does_not_answer_makes_them_wait(ldapsearch: Fake, tmp_path: Path) -> None:
    """No address is guessed by the domain; it is asked once a night; its words are told without what harms."""
    ldapsearch.says("", "ldap_sasl_bind(SIMPLE):\x1b[31m Can't contact\nLDAP server (-1)", 255)
    book = AddressBook(Addresses(ldap=LDAP, domain="site.example"))
    assert not book.address_of("alice").lasting
    said = "ldapsearch: ldaps://ldap.site.example: exit 255: ldap_sasl_bind(SIMPLE): Can't contact LDAP server (-1)"
    assert book.trouble == said
    Path(f"{ldapsearch.path}.argv").unlink()
    assert book.address_of("bob").at is None
    assert not Path(f"{ldapsearch.path}.argv").exists()


def test_ldap_without_its_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """That is said, too."""
    monkeypatch.setenv("PATH", str(tmp_path))
    book = AddressBook(Addresses(ldap=LDAP))
    assert book.address_of("alice").at is None
    assert book.trouble == "ldapsearch: No such file or directory"


def test_ldap_is_asked_with_the_password_by_a_pipe(ldapsearch: Fake, tmp_path: Path) -> None:
    """Not among the arguments, and without the line's end that its file has; never in the open."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    settings = Ldap(uri="ldap://x.example", base="dc=x", bind_dn="cn=reader", password_file=str(secret))
    AddressBook(Addresses(ldap=settings)).address_of("alice")
    assert ldapsearch.told("password") == "s3cret"
    assert "s3cret" not in ldapsearch.told()
    assert "-ZZ" in ldapsearch.told().split()


@pytest.mark.parametrize("name", [*HOSTILE, "*", "a)(uid=*", "\\2a", "a\x00)"])
def test_a_name_means_only_itself_in_a_filter(ldapsearch: Fake, name: str) -> None:
    """By RFC 4515: no star, bracket, backslash, or byte that is not plain ASCII."""
    text = escaped(name)
    assert not set(text.replace("\\", "")) & set("*()\0\n\r ")
    assert bytes.fromhex("".join(part[:2] for part in text.split("\\")[1:])) is not None
    AddressBook(Addresses(ldap=LDAP)).address_of(name)
    assert f"(uid={text})" in ldapsearch.told().split("\n")


def test_an_escape_of_each_byte() -> None:
    """As the RFC's own examples have it."""
    assert escaped("Lučić") == "Lu\\c4\\8di\\c4\\87"
    assert escaped("a*(b)\\\0") == "a\\2a\\28b\\29\\5c\\00"


SLAPD = """include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/slapd.pid
database mdb
suffix "dc=x"
rootdn "cn=root,dc=x"
rootpw s3cret
directory {folder}/db
access to attrs=mail by dn.exact="cn=reader,dc=x" read
access to attrs=userPassword by anonymous auth
access to * by dn.exact="cn=reader,dc=x" read by * auth
"""
PEOPLE = """dn: dc=x
objectClass: dcObject
objectClass: organization
o: x
dc: x

dn: cn=reader,dc=x
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: reader
userPassword: s3cret

dn: uid=alice,dc=x
objectClass: inetOrgPerson
uid: alice
cn: Alice
sn: A
mail: alice.a@x.example

dn: uid=a*,dc=x
objectClass: inetOrgPerson
uid: a*
cn: Star
sn: S
mail: star@x.example
"""


def test_a_real_ldap_server(tmp_path: Path) -> None:
    """OpenLDAP's own programs: bind by a password, one user, nobody, a name with a star in it."""
    slapd, add = Path("/usr/sbin/slapd"), Path("/usr/sbin/slapadd")
    if not slapd.exists() or not Path("/usr/bin/ldapsearch").exists():
        SKIPPED["slapd"] = "slapd or ldap-utils is not installed"
        pytest.skip(SKIPPED["slapd"])
    (tmp_path / "db").mkdir()
    (tmp_path / "conf").write_text(SLAPD.format(folder=tmp_path))
    (tmp_path / "people").write_text(PEOPLE)
    (tmp_path / "secret").write_text("s3cret\n")
    subprocess.run([add, "-f", tmp_path / "conf", "-l", tmp_path / "people"], check=True, capture_output=True)
    uri = f"ldapi://{str(tmp_path / 'sock').replace('/', '%2F')}"
    # It goes into the background when it listens.
    subprocess.run([slapd, "-f", tmp_path / "conf", "-h", uri], check=True, capture_output=True)
    try:
        settings = Ldap(uri=uri, base="dc=x", bind_dn="cn=reader,dc=x", password_file=str(tmp_path / "secret"))
        book = AddressBook(Addresses(ldap=settings))
        assert book.address_of("alice").at == "alice.a@x.example"
        assert book.address_of("a*").at == "star@x.example"
        assert book.address_of("*").at is None
        assert book.address_of("bob").at is None
        assert book.trouble is None
        (tmp_path / "secret").write_text("wrong")
        wrong = AddressBook(Addresses(ldap=settings))
        assert wrong.address_of("alice").at is None
        assert "exit 49" in str(wrong.trouble)
    finally:
        os.kill(int((tmp_path / "slapd.pid").read_text()), 15)
