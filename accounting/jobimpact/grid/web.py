"""HTTP to a provider: one deadline over a whole answer, no redirects, bounded bodies, a token that is never shown."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

import msgspec

from jobimpact.core.errors import ConfigError, GridError

__all__ = ["Body", "NoAnswerError", "Web", "read_json", "read_token"]

MAX_BODY = 20 << 20
"""Bytes: some ten times of what we ever ask for."""
_TOKEN = re.compile(r"[\x21-\x7e]{1,1024}")
_MEANS = {
    400: "it does not understand the question",
    401: "it wants a token, or does not accept this one: see token_file",
    403: "it does not allow this: see token_file, and what the contract covers",
    404: "not there: see url and zone",
    429: "asked too often",
    500: "it failed",
    503: "it is busy or being repaired",
}
_GIVES_UP = {401, 403, 407, 429, 502, 503, 504}
"""The next question would be answered in the same way."""


class NoAnswerError(GridError):
    """The provider is not there, or will not answer us: to go on asking is of no use now."""


class Body(msgspec.Struct, frozen=True):
    """What came back."""

    shown: str
    """Where from, without the question: it may hold the token."""
    status: int
    content: bytes

    def success(self) -> Body:
        """The same.

        Raises:
            GridError: its status is not one of success.
        """
        if self.status == 200:
            return self
        means = _MEANS.get(self.status)
        kind = NoAnswerError if self.status in _GIVES_UP else GridError
        raise kind(f"{self.shown}: HTTP {self.status}{f' ({means})' if means else ''}")

    def is_html(self) -> bool:
        """It is a page for people: a portal's log-in, or a proxy's regrets."""
        return self.content.lstrip(b"\xef\xbb\xbf \t\r\n")[:14].lower().startswith((b"<!doctype html", b"<html"))


class Web:
    """One provider's server.

    Args:
        url: of its API; http or https.
        key: its key in the configuration, for messages.
        ca_file: certificates to trust instead of the system's.
        deadline_s: for one whole answer.
        token: what must not be seen anywhere; None: there is none.

    Raises:
        ConfigError: url or ca_file is of no use.
    """

    def __init__(
        self, url: str, key: str, *, ca_file: str | None, deadline_s: float, token: str | None = None
    ) -> None:
        try:
            parts = urlsplit(url)
            place = parts.hostname, parts.port
        except ValueError as error:
            raise ConfigError(f"{key}.url: {error}") from None
        if not place[0] or parts.username is not None or parts.query or parts.fragment:
            raise ConfigError(f"{key}.url: a host and a path, without a user, a password or a question")
        self._url = url.rstrip("/")
        self._tls = _tls(ca_file, key) if parts.scheme == "https" else None
        self._deadline_s = deadline_s
        self._token = token

    def get(self, path: str, params: Mapping[str, str], headers: Mapping[str, str]) -> Body:
        """Ask once.

        Args:
            path: below the API's url.
            params: of the question.
            headers: further ones.

        Raises:
            GridError: too large an answer, or one that was cut short.
            NoAnswerError: no answer at all, none in time, or a redirect.
        """
        shown = self._url + path
        request = Request(f"{shown}?{urlencode(params)}", headers=dict(headers))  # noqa: S310 (the schema checks it)
        watch = _Watch(time.monotonic() + self._deadline_s)
        try:
            with watch, _opener(self._tls, watch).open(request, timeout=self._deadline_s) as response:
                body, length = Body(shown, response.status, _read(response, shown)), response.length
        except HTTPError as error:
            with error, watch:
                return self._refusal(shown, error)
        except (OSError, HTTPException, ValueError) as error:
            raise NoAnswerError(f"{shown}: {self.clean(_why(error, late=watch.late))}") from None
        if watch.late:
            raise NoAnswerError(f"{shown}: {_LATE}")
        if length:
            raise GridError(f"{shown}: the answer is cut short")
        return body

    def clean(self, text: str) -> str:
        """Others' words, fit to be printed: one short line, without the token."""
        hidden = text if self._token is None else text.replace(self._token, "[token]")
        line = "".join(one if one.isprintable() else " " for one in hidden)
        return " ".join(line.split())[:200]

    def _refusal(self, shown: str, error: HTTPError) -> Body:
        if 300 <= error.code < 400:
            # The place itself may repeat our question, and with it the token.
            host = urlsplit(error.headers.get("Location") or "").hostname
            where = self.clean(host) if host else "elsewhere"
            raise NoAnswerError(f"{shown}: HTTP {error.code}, leads to {where}: if it is right, set url to it")
        try:
            return Body(shown, error.code, _read(error, shown))
        except (GridError, OSError, HTTPException):
            return Body(shown, error.code, b"")


class _Watch:
    """Ends a connection at a time: a socket's own timeout starts anew with each byte that drips in."""

    def __init__(self, until: float) -> None:
        self._until = until
        self.sock: socket.socket | None = None
        self._timer: threading.Timer | None = None

    @property
    def late(self) -> bool:
        return time.monotonic() >= self._until

    def __enter__(self) -> None:
        self._timer = threading.Timer(max(0.0, self._until - time.monotonic()), self._shut)
        self._timer.daemon = True
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _shut(self) -> None:
        if self.sock is not None:
            try:
                # A TLS socket's own method would also take its session away from the thread that reads from it.
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
            except OSError:
                return  # it is closed already


class _Connection(HTTPConnection):
    def __init__(self, watch: _Watch, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._watch = watch

    def connect(self) -> None:
        super().connect()
        self._watch.sock = self.sock


class _TlsConnection(_Connection, HTTPSConnection):
    """The same over TLS."""


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would carry the token along: it is told instead."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _opener(tls: ssl.SSLContext | None, watch: _Watch) -> OpenerDirector:
    class Plain(HTTPHandler):
        def http_open(self, req: Request) -> HTTPResponse:
            return self.do_open(partial(_Connection, watch), req)

    class Tls(HTTPSHandler):
        def https_open(self, req: Request) -> HTTPResponse:
            return self.do_open(partial(_TlsConnection, watch), req, context=tls)

    return build_opener(_NoRedirect, Plain, Tls)


def _read(response: Any, shown: str) -> bytes:
    content = bytearray()
    while chunk := response.read(65536):
        content += chunk
        if len(content) > MAX_BODY:
            raise GridError(f"{shown}: the answer is larger than {MAX_BODY >> 20} MiB")
    return bytes(content)


def _tls(ca_file: str | None, key: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise ConfigError(f"{key}.ca_file: {ca_file}: not a file of certificates in PEM") from None
    except OSError as error:
        raise ConfigError(f"{key}.ca_file: {ca_file}: {error.strerror}") from None


_LATE = "no answer within deadline_s"


def _why(error: BaseException, *, late: bool) -> str:
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, BaseException) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({cause.verify_message}): see ca_file"
    if late or isinstance(cause, TimeoutError):
        return _LATE
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__


def read_json(body: Body) -> object:
    """The body's JSON. Numbers that are none (NaN) are left for the reader to name.

    Raises:
        GridError: it is not JSON.
    """
    try:
        return json.loads(body.content.decode("utf-8"))
    except (ValueError, RecursionError):
        what = "a page of HTML" if body.is_html() else "not JSON, or cut short"
        raise GridError(f"{body.shown}: the answer is {what}") from None


def read_token(path: str, key: str) -> str:
    """A token from its file.

    Raises:
        ConfigError: the file cannot be read, or holds no token alone on its line.
    """
    try:
        text = Path(path).read_bytes()[:4096].decode("ascii", "replace")
    except OSError as error:
        raise ConfigError(f"{key}.token_file: {path}: {error.strerror}") from None
    token = text.removesuffix("\n").removesuffix("\r")
    if not token:
        raise ConfigError(f"{key}.token_file: {path}: it is empty")
    if not _TOKEN.fullmatch(token):
        raise ConfigError(f"{key}.token_file: {path}: it must hold the token alone, on one line and without blanks")
    return token
