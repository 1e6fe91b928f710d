"""The way to the mail server: one connection, and of each mail the certain word what became of it.

A mail is *sent* when the server has said so after its end, and *uncertain* when the end went out and no answer came.
Anything before that is certain not to have been taken.
"""

from __future__ import annotations

import re
import smtplib
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

import msgspec

from jobimpact.core.config import Smtp
from jobimpact.core.errors import ConfigError, MailError
from jobimpact.mail.addresses import read_secret
from jobimpact.report.text import clean

__all__ = ["Outcome", "Server"]

ENDED_TIMES = 10
"""After its end a server may search a mail for viruses: it is waited for so many times longer than otherwise."""
_LONGEST = 300


class Outcome(msgspec.Struct, frozen=True):
    """What became of one mail."""

    kind: Literal["sent", "retry", "failed", "uncertain", "taken"]
    """`taken`: it was not offered, as somebody else has it."""
    said: str = ""
    go_on: bool = True
    """False: the next mail would fare no better tonight."""


class _Lost(Exception):  # noqa: N818 (it is an event)
    """The connection broke."""


class Server:
    """The mail server of a site.

    Args:
        settings: the configuration's.

    Raises:
        ConfigError: a file that it names cannot be read.
    """

    def __init__(self, settings: Smtp) -> None:
        self._settings = settings
        self._name = f"{settings.host}:{settings.port}"
        self._secret = None if settings.password_file is None else read_secret(settings.password_file)
        self._client: smtplib.SMTP | None = None
        self._tls = None if settings.tls == "none" else _tls(settings)

    def close(self) -> None:
        """Say goodbye, if anybody hears."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(smtplib.SMTPException, OSError):
                client.quit()
            client.close()

    def send(self, sender: str, to: str, message: bytes, claim: Callable[[], bool]) -> Outcome:
        """Send one mail to one recipient.

        Args:
            sender: of the envelope.
            to: the recipient.
            message: whole, its lines ended by CR LF.
            claim: called when the server has said that it takes a mail from one to the other, before any of the text
                goes to it. False: it is not to.

        Returns:
            What became of it.

        Raises:
            MailError: there is no way to the server at all; nothing was sent.
            ConfigError: as for MailError, and only a setting can help.
        """
        for last in (False, True):
            fresh = self._client is None
            client = self._connected()
            try:
                outcome = self._envelope(client, sender, to)
            except _Lost as error:
                self._drop()
                # A connection that was open for long may have been closed meanwhile: that is said of no mail.
                if fresh or last:
                    return Outcome("retry", str(error), go_on=False)
                continue
            if outcome is not None:
                return outcome
            break
        if not claim():
            self._reset(client)
            return Outcome("taken")
        return self._data(client, message)

    def _envelope(self, client: smtplib.SMTP, sender: str, to: str) -> Outcome | None:
        """None: the server takes a mail from one to the other."""
        for command, whose in ((f"mail FROM:<{sender}>", "sender"), (f"rcpt TO:<{to}>", "recipient")):
            code, said = self._ask(client, command)
            if 200 <= code < 300:
                continue
            words = f"{whose} refused: {code} {said}"
            if code == 421:
                self._drop()
                return Outcome("retry", words, go_on=False)
            self._reset(client)
            if whose == "sender":
                # It would be said of each: a setting is wrong, and no mail is lost for it.
                return Outcome("retry", words, go_on=code < 500)
            return Outcome("failed" if code >= 500 else "retry", words)
        return None

    def _data(self, client: smtplib.SMTP, message: bytes) -> Outcome:
        try:
            code, said = self._ask(client, "data")
            if code != 354:
                return self._refused(client, code, said)
            text = re.sub(rb"(?m)^\.", b"..", message)
            self._write(client, text if text.endswith(b"\r\n") else text + b"\r\n")
        except _Lost as error:
            self._drop()
            return Outcome("retry", str(error))
        try:
            # From here on, whatever is not heard is not known.
            if client.sock is not None:
                client.sock.settimeout(self._settings.timeout_s * ENDED_TIMES)
            self._write(client, b".\r\n")
            code, said = self._reply(client)
        except _Lost as error:
            self._drop()
            return Outcome("uncertain", f"after the end of the mail, before the server's answer: {error}")
        if client.sock is not None:
            client.sock.settimeout(self._settings.timeout_s)
        return Outcome("sent", said) if 200 <= code < 300 else self._refused(client, code, said)

    def _refused(self, client: smtplib.SMTP, code: int, said: str) -> Outcome:
        if code == 421:
            self._drop()
        else:
            self._reset(client)
        return Outcome("failed" if code >= 500 else "retry", f"text refused: {code} {said}", go_on=code != 421)

    def _ask(self, client: smtplib.SMTP, command: str) -> tuple[int, str]:
        self._write(client, f"{command}\r\n".encode("ascii"))
        return self._reply(client)

    def _write(self, client: smtplib.SMTP, content: bytes) -> None:
        try:
            client.send(content)
        except (smtplib.SMTPException, OSError) as error:
            raise _Lost(f"{self._name}: {_why(error)}") from error

    def _reply(self, client: smtplib.SMTP) -> tuple[int, str]:
        try:
            code, said = client.getreply()
        except (smtplib.SMTPException, OSError) as error:
            raise _Lost(f"{self._name}: {_why(error)}") from error
        if not 200 <= code < 600:
            raise _Lost(f"{self._name}: an answer that is none of SMTP: {_words(said)}")
        return code, _words(said)

    def _reset(self, client: smtplib.SMTP) -> None:
        try:
            code, _ = self._ask(client, "rset")
        except _Lost:
            code = 421
        if code != 250:
            self._drop()

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connected(self) -> smtplib.SMTP:
        if self._client is None:
            try:
                self._client = self._connect()
            except ssl.SSLCertVerificationError as error:
                raise MailError(f"{self._name}: the certificate is not trusted: {error.verify_message}") from error
            except smtplib.SMTPNotSupportedError as error:
                raise MailError(f"{self._name}: does not offer what mail.smtp asks for: {_why(error)}") from error
            except smtplib.SMTPAuthenticationError as error:
                # Not the server's words: some repeat what they were told.
                raise MailError(f"{self._name}: user or password refused ({error.smtp_code})") from error
            except (smtplib.SMTPException, OSError) as error:
                raise MailError(f"{self._name}: {_why(error)}") from error
        return self._client

    def _connect(self) -> smtplib.SMTP:
        settings = self._settings
        if settings.tls == "tls":
            client: smtplib.SMTP = smtplib.SMTP_SSL(timeout=settings.timeout_s, context=self._tls)
        else:
            client = smtplib.SMTP(timeout=settings.timeout_s)
        try:
            # Beside connect(), it takes the name that a certificate is checked for.
            client._host = settings.host  # type: ignore[attr-defined] # noqa: SLF001 (its own way is the constructor)
            code, said = client.connect(settings.host, settings.port)
            if code != 220:
                raise smtplib.SMTPConnectError(code, said)
            client.ehlo_or_helo_if_needed()
            if settings.tls == "starttls":
                code, said = client.starttls(context=self._tls)
                if code != 220:
                    raise smtplib.SMTPNotSupportedError(f"STARTTLS: {code} {_words(said)}")
                client.ehlo()
            if settings.username is not None and self._secret is not None:
                client.login(settings.username, self._secret)
        except BaseException:
            client.close()
            raise
        return client


def _tls(settings: Smtp) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{settings.ca_file} (mail.smtp.ca_file): {error.strerror or error}") from error


def _why(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {_words(error.smtp_error)}"
    # smtplib makes another error of it.
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and not isinstance(error, smtplib.SMTPException) and error.strerror:
        return error.strerror
    return _words(str(error)) or type(error).__name__


def _words(said: bytes | str) -> str:
    """A server's words in one line, without what harms a terminal or a mail."""
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    return clean(" ".join(text.split()))[:_LONGEST]
