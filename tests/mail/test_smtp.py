"""The way to the mail server: of each mail, the certain word what became of it."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.mail.smtp_server import Server, make_certificate

from jobimpact.core.config import Smtp
from jobimpact.core.errors import ConfigError, MailError
from jobimpact.mail.smtp import Outcome
from jobimpact.mail.smtp import Server as Client

MESSAGE = b"Message-ID: <1@x>\r\nSubject: s\r\n\r\n.first\r\n..\r\nlast\r\n"


class Claims:
    """Counts how often a mail was claimed."""

    def __init__(self, given: bool = True) -> None:
        self.asked = 0
        self._given = given

    def __call__(self) -> bool:
        self.asked += 1
        return self._given


def settings(port: int, **more: Any) -> Smtp:
    """Of a server on this machine, in the open."""
    return Smtp(**{"host": "127.0.0.1", "port": port, "tls": "none", "timeout_s": 20.0} | more)


def once(client: Client, claims: Claims | None = None, to: str = "alice@site.example") -> Outcome:
    """One mail."""
    return client.send("jobimpact@site.example", to, MESSAGE, claims or Claims())


def scripted(*answers: tuple[str, int, str]) -> Any:
    """What the server says to a command, the nth of its kind; else that it is fine."""
    by = {(what, number): said for what, number, said in answers}
    return lambda what, number: by.get((what, number), "250 OK")


@pytest.mark.parametrize(
    ("what", "said", "kind", "claimed", "go_on"),
    [
        ("MAIL", "451 later", "retry", 0, True),
        ("MAIL", "550 who are you", "retry", 0, False),
        ("MAIL", "421 closing", "retry", 0, False),
        ("RCPT", "450 greylisted", "retry", 0, True),
        ("RCPT", "452 too many", "retry", 0, True),
        ("RCPT", "550 no such user", "failed", 0, True),
        ("RCPT", "553 syntax", "failed", 0, True),
        ("DATA", "250 queued", "sent", 1, True),
        ("DATA", "452 disk full", "retry", 1, True),
        ("DATA", "554 looks like spam", "failed", 1, True),
        ("DATA", "421 closing", "retry", 1, False),
        ("DATA", "drop", "uncertain", 1, True),
        ("DATA", "die", "uncertain", 1, True),
    ],
)
def test_each_answer_at_each_point(what: str, said: str, kind: str, claimed: int, go_on: bool) -> None:
    """4xx waits, 5xx of a recipient is for good, and only what comes after the text's end may be uncertain."""
    claims = Claims()
    with Server(scripted((what, 1, said))) as server:
        client = Client(settings(server.port))
        outcome = once(client, claims)
        assert (outcome.kind, claims.asked, outcome.go_on) == (kind, claimed, go_on)
        if said[0].isdigit():
            assert said.partition(" ")[2] in outcome.said
        if said != "die" and not said.startswith("421"):
            assert once(client).kind == "sent"  # the connection is as good as new, or is one
            assert server.mails[-1].content == MESSAGE
        client.close()


def test_a_connection_that_broke_before_the_text_is_made_anew() -> None:
    """That is said of no mail: only of a fresh one that breaks as well."""
    with Server(scripted(("MAIL", 2, "drop"))) as server:
        client = Client(settings(server.port))
        assert [once(client).kind for _ in range(3)] == ["sent"] * 3
        assert len(server.mails) == 3
    with Server(lambda what, _: "drop" if what == "MAIL" else "250 OK") as server:
        outcome = once(Client(settings(server.port)))
        assert (outcome.kind, outcome.go_on) == ("retry", False)


def test_a_mail_that_somebody_else_has_is_not_sent() -> None:
    """The server hears no text of it, and takes the next one."""
    with Server() as server:
        client = Client(settings(server.port))
        assert once(client, Claims(given=False)).kind == "taken"
        assert once(client, to="bob@site.example").kind == "sent"
        assert server.recipients == ["bob@site.example"]


def test_a_server_that_is_not_there_is_no_word_on_a_mail() -> None:
    """Nothing was offered, nothing is claimed."""
    claims = Claims()
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    with pytest.raises(MailError, match=rf"127\.0\.0\.1:{port}: Connection refused"):
        once(Client(settings(port)), claims)
    assert claims.asked == 0


def silent(until: str) -> tuple[int, threading.Thread]:
    """A server that says nothing any more after a command (`connect`: not even its name)."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listening, listening.accept()[0] as client, client.makefile("rwb") as file:
            if until != "connect":
                file.write(b"220 hello\r\n")
                file.flush()
                text = False
                while line := file.readline():
                    word = line.strip().upper()[:4].decode("latin-1")
                    if text and line != b".\r\n":
                        continue
                    if word == until or (text and until == "."):
                        break
                    text = word == "DATA"
                    file.write(b"354 go on\r\n" if text else b"250 OK\r\n")
                    file.flush()
            while file.read(1):  # until the client gives up
                pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return listening.getsockname()[1], thread


@pytest.mark.parametrize(
    ("until", "kind"),
    [("connect", None), ("EHLO", None), ("MAIL", "retry"), ("RCPT", "retry"), ("DATA", "retry"), (".", "uncertain")],
)
def test_a_server_that_falls_silent(until: str, kind: str | None) -> None:
    """At each point it is waited for, for so long; only after the text's end is it not known what became of it."""
    port, thread = silent(until)
    client = Client(settings(port, timeout_s=0.2))
    if kind is None:
        with pytest.raises(MailError, match="no answer in time"):
            once(client)
    else:
        outcome = once(client)
        assert (outcome.kind, "no answer in time" in outcome.said) == (kind, True)
    client.close()
    thread.join(60)


@pytest.mark.parametrize("smtps", [False, True])
def test_tls(tmp_path: Path, smtps: bool) -> None:
    """The connection is secret before the first command about a mail; the certificate is checked, by name too."""
    ca, context = make_certificate(tmp_path)
    tls = "tls" if smtps else "starttls"
    with Server(tls=context, smtps=smtps) as server:
        good = settings(server.port, host="localhost", tls=tls, ca_file=str(ca))
        client = Client(good)
        assert once(client).kind == "sent"
        client.close()
        for more, said in (
            ({"ca_file": None}, "self-signed certificate"),
            ({"host": "127.0.0.1"}, "IP address mismatch"),
        ):
            wrong = Client(settings(server.port, **{"host": "localhost", "tls": tls, "ca_file": str(ca)} | more))
            with pytest.raises(MailError, match=f"the certificate is not trusted: .*{said}"):
                once(wrong)
    assert server.secret == [True]


@pytest.mark.filterwarnings("ignore:Requiring AUTH")
def test_without_tls_nothing_goes_where_it_is_asked_for(tmp_path: Path) -> None:
    """A server that does not offer it is told nothing: not who, not what, no password."""
    (tmp_path / "secret").write_text("s3cret")
    with Server(user=("jobimpact", "s3cret")) as server:
        more = {"tls": "starttls", "username": "jobimpact", "password_file": str(tmp_path / "secret")}
        with pytest.raises(MailError, match=r"does not offer what mail\.smtp asks for"):
            once(Client(settings(server.port, **more)))
        assert server.commands == []


@pytest.mark.parametrize("password", ["s3cret", "wrong"])
def test_password(tmp_path: Path, password: str) -> None:
    """From its file; a refusal is no word on a mail, and does not repeat what was said."""
    ca, context = make_certificate(tmp_path)
    (tmp_path / "secret").write_text(f"{password}\n")
    with Server(tls=context, user=("jobimpact", "s3cret")) as server:
        client = Client(
            settings(
                server.port,
                host="localhost",
                tls="starttls",
                ca_file=str(ca),
                username="jobimpact",
                password_file=str(tmp_path / "secret"),
            )
        )
        if password == "s3cret":  # noqa: S105
            assert once(client).kind == "sent"
        else:
            with pytest.raises(MailError, match=r"user or password refused \(535\)") as error:
                once(client)
            assert "wrong" not in str(error.value)
        client.close()


@pytest.mark.parametrize(
    ("key", "content"), [("password_file", None), ("password_file", " \n"), ("ca_file", "no"), ("ca_file", None)]
)
def test_files_that_are_wrong_are_named(tmp_path: Path, key: str, content: str | None) -> None:
    """Before anybody is asked."""
    path = tmp_path / "file"
    if content is not None:
        path.write_text(content)
    more = {"ca_file": str(path), "tls": "tls"} if key == "ca_file" else {"username": "x", key: str(path)}
    with pytest.raises(ConfigError, match=str(path)):
        Client(settings(9, **more))


def test_words_of_a_server_are_cleaned() -> None:
    """They are printed, and mailed to admins."""
    with Server(scripted(("RCPT", 1, "550 \x1b[31mno\x07 such user"))) as server:
        assert once(Client(settings(server.port))).said == "recipient refused: 550 no such user"


def test_a_text_of_dots_comes_as_it_went() -> None:
    """Also one without an end to its last line, and a large one."""
    with Server() as server:
        client = Client(settings(server.port))
        for text in (
            b"Subject: s\r\n\r\n.\r\n..\r\n...",
            b"Subject: s\r\n\r\n" + b".x" * 300 + b"\r\n" + b"y" * 900 + b"\r\n",
        ):
            assert client.send("a@b.example", "c@d.example", text, Claims()).kind == "sent"
            assert server.mails[-1].content.rstrip(b"\r\n") == text.rstrip(b"\r\n")
        client.close()
