"""A real SMTP server that does what it is told: takes mails, refuses, breaks off, dies, waits."""

# ruff: noqa: ARG002 (the library says what a handler is given)
from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Self, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

__all__ = ["Mail", "Server", "make_certificate"]

OK = "250 OK"
DEADLINE_S = 60.0


class Mail:
    """One that came whole, whatever was answered."""

    def __init__(self, envelope: Envelope) -> None:
        self.sender = envelope.mail_from or ""
        self.to = list(envelope.rcpt_tos)
        self.content = cast("bytes", envelope.content)

    @property
    def message(self) -> EmailMessage:
        """Taken apart."""
        return cast("EmailMessage", message_from_bytes(self.content, policy=policy.default))

    @property
    def name(self) -> str:
        """Its Message-ID."""
        return str(self.message["Message-ID"]).strip()


class Server:
    """A server on a port of its own.

    Args:
        answer: what it says to a command, given its name (`MAIL`, `RCPT`, `DATA` after the end of the text) and which
            of these it is (from 1): an answer, or a word: `drop` breaks the connection off, `die` ends the server,
            `hold` waits until `go` is set.
        tls: with it STARTTLS is offered, or with `smtps` the whole connection is secret.
        smtps: TLS from the first byte.
        user: name and password that it asks for.
    """

    def __init__(
        self,
        answer: Callable[[str, int], str] = lambda _what, _n: OK,
        *,
        tls: ssl.SSLContext | None = None,
        smtps: bool = False,
        user: tuple[str, str] | None = None,
    ) -> None:
        self.mails: list[Mail] = []
        self.commands: list[str] = []
        self.held = threading.Event()
        self.go = threading.Event()
        self.secret: list[bool] = []
        self._answer = answer
        self._user = user
        more: dict[str, Any] = {"ssl_context": tls} if smtps else {"tls_context": tls}
        if user:
            more |= {
                "authenticator": self._check,
                "auth_required": True,
                "auth_require_tls": tls is not None and not smtps,
            }
        self.port = _free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, ready_timeout=DEADLINE_S, **more)

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        self._controller.stop(no_assert=True)

    @property
    def names(self) -> list[str]:
        """Message-IDs of all that came whole."""
        return [one.name for one in self.mails]

    @property
    def recipients(self) -> list[str]:
        """Of all that came whole."""
        return [to for one in self.mails for to in one.to]

    def _check(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        good = isinstance(data, LoginPassword) and (data.login.decode(), data.password.decode()) == self._user
        return AuthResult(success=good, handled=False)

    async def handle_MAIL(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:  # noqa: N802
        assert server.transport is not None
        self.secret.append(server.transport.get_extra_info("sslcontext") is not None)
        said = await self._say("MAIL", server)
        if said.startswith("2"):
            envelope.mail_from = address
        return said

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:  # noqa: N802
        said = await self._say("RCPT", server)
        if said.startswith("2"):
            envelope.rcpt_tos.append(address)
        return said

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.mails.append(Mail(envelope))
        return await self._say("DATA", server)

    async def _say(self, what: str, server: SMTP) -> str:
        self.commands.append(what)
        said = self._answer(what, self.commands.count(what))
        if said == "hold":
            self.held.set()
            while not self.go.is_set():
                await asyncio.sleep(0.01)
            return OK
        if said in {"drop", "die"}:
            if said == "die":
                listening = self._controller.server
                assert listening is not None
                listening.close()
            assert server.transport is not None
            server.transport.abort()  # type: ignore[attr-defined]
            return "421 gone"
        return said


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def make_certificate(folder: Path, name: str = "localhost") -> tuple[Path, ssl.SSLContext]:
    """A certificate that signs itself, for a name, and a server's context with it."""
    key, cert = folder / f"{name}.key", folder / f"{name}.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    argv += ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(argv, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return cert, context
