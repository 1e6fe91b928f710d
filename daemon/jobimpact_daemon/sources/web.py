"""HTTP for meters behind a web server: one connection that is kept, a deadline over the whole request, JSON.

A BMC's web server is a weak machine: its TLS handshake may take a second, so the connection is re-used. Its answers
are not trusted: bodies are bounded, and credentials go to no other host than the configured one.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from http.client import HTTPException
from urllib.parse import urlencode, urljoin, urlsplit

import msgspec
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse
from urllib3.util import make_headers

from jobimpact.core.deadline import Deadline
from jobimpact_daemon.sources.passwords import PasswordError, password

__all__ = ["Answer", "Web", "WebError"]

MAX_BODY = 4 << 20
"""Bytes: more than any answer that we ask for, and less than what would hurt the node."""
REDIRECTS = 3

_MEANS = {
    400: "the request is not understood",
    401: "not logged in: see username and password_file",
    403: "not allowed: the user lacks the right to read this",
    404: "not there",
    429: "asked too often",
    503: "busy or starting",
}


class WebError(Exception):
    """A request that brought nothing usable; its text names the URL.

    Args:
        text: in words for an administrator.
        status: of the answer; None: there was no answer.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class Answer(msgspec.Struct, frozen=True):
    """What came back, whatever its status."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> object:
        """The body.

        Raises:
            WebError: the status is not one of success, or the body is not JSON.
        """
        if not 200 <= self.status < 300:
            means = _MEANS.get(self.status)
            raise WebError(f"{self.url}: HTTP {self.status}{f' ({means})' if means else ''}", self.status)
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise WebError(f"{self.url}: the answer is not JSON ({error})", self.status) from None


class Web:
    """One web server, asked by one thread.

    Args:
        base_url: http or https; a relative path is taken to be below it.
        username: for basic authentication; None: none.
        password_file: the first line of it is the password; read anew for each use, so that it may change.
        ca_file: certificates to trust instead of the system's.
        verify: False trusts any certificate.
        deadline_s: for a whole request, its redirects included.

    Raises:
        WebError: base_url or ca_file is of no use.
    """

    def __init__(
        self,
        base_url: str,
        *,
        username: str | None = None,
        password_file: str | None = None,
        ca_file: str | None = None,
        verify: bool = True,
        deadline_s: float = 10.0,
    ) -> None:
        self.base_url = base_url.rstrip("/") + "/"
        self._origin = _origin(base_url)
        self._username = username
        self._password_file = password_file
        self._deadline_s = deadline_s
        self._tls = _tls(ca_file, verify=verify) if self._origin[0] == "https" else None
        self._connection: HTTPConnection | None = None

    def credentials(self) -> tuple[str, str] | None:
        """User name and password; None where no user is set.

        Raises:
            WebError: the password's file cannot be read.
        """
        if self._username is None:
            return None
        try:
            return self._username, password(self._password_file) if self._password_file else ""
        except PasswordError as error:
            raise WebError(str(error)) from None

    def get_json(
        self, path: str = "", *, headers: Mapping[str, str] | None = None, params: Mapping[str, str] | None = None
    ) -> object:
        """Ask for a document.

        Args:
            path: a path, or a whole URL of this server.
            headers: instead of basic authentication where one of them is a credential.
            params: of the query.

        Raises:
            WebError: no answer, none in time, none of success, none that is JSON.
        """
        return self.request("GET", path, headers=headers, params=params).json()

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        body: object = None,
        anonymous: bool = False,
    ) -> Answer:
        """Ask, and follow redirects on the same server.

        Args:
            method: of HTTP.
            path: a path, or a whole URL of this server.
            headers: further ones; Authorization or X-Auth-Token stand instead of basic authentication.
            params: of the query.
            body: sent as JSON.
            anonymous: no basic authentication.

        Raises:
            WebError: no answer, none in time, or too large a one.
        """
        url = urljoin(self.base_url, path) + (f"?{urlencode(params)}" if params else "")
        sent = {"Accept": "application/json", **(headers or {})}
        if not anonymous and not {"authorization", "x-auth-token"} & {name.lower() for name in sent}:
            sent |= self._basic()
        content = None
        if body is not None:
            content, sent["Content-Type"] = msgspec.json.encode(body), "application/json"
        until = time.monotonic() + self._deadline_s
        for _ in range(REDIRECTS + 1):
            answer = self._once(method, self._own(url), sent, content, until)
            location = answer.headers.get("Location")
            if not (300 <= answer.status < 400 and location and method == "GET"):
                return answer
            url = urljoin(url, location)
        raise WebError(f"{self.base_url}{path}: redirected more than {REDIRECTS} times")

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _basic(self) -> dict[str, str]:
        known = self.credentials()
        # urllib3 would take latin-1, and RFC 7617 leaves it open: UTF-8 is what browsers send.
        return {} if known is None else make_headers(basic_auth=":".join(known).encode().decode("latin-1"))

    def _own(self, url: str) -> str:
        if _origin(url) != self._origin:
            raise WebError(f"{self.base_url}: leads to another server, {url}: if it is the right one, set url to it")
        return url

    def _once(self, method: str, url: str, headers: dict[str, str], body: bytes | None, until: float) -> Answer:
        again = self._connection is not None and method == "GET"
        try:
            try:
                response, content = self._exchange(method, url, headers, body, until)
            except ConnectionError:
                if not again:
                    raise
                # A kept connection, which the server closed just as it was used.
                self.close()
                response, content = self._exchange(method, url, headers, body, until)
            return Answer(url, response.status, response.headers, content)
        except WebError:
            self.close()
            raise
        except (OSError, HTTPError, HTTPException, ValueError) as error:
            self.close()
            raise WebError(f"{url}: {_why(error, late=time.monotonic() >= until)}") from error

    def _exchange(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None, until: float
    ) -> tuple[BaseHTTPResponse, bytes]:
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = self._connected(until)
        with Deadline(connection.sock, until):
            connection.request(method, target, body=body, headers=headers, preload_content=False)
            response = connection.getresponse()
            content = _body(response, url)
        if time.monotonic() >= until:
            raise TimeoutError
        return response, content

    def _connected(self, until: float) -> HTTPConnection:
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        if self._connection is not None and not self._connection.is_connected:
            self.close()
        if self._connection is None:
            _, host, port = self._origin
            self._connection = (
                HTTPConnection(host, port)
                if self._tls is None
                else HTTPSConnection(host, port, ssl_context=self._tls, server_hostname=host)
            )
        connection = self._connection
        connection.timeout = left_s
        if not connection.is_connected:
            connection.connect()
        return connection


def _body(response: BaseHTTPResponse, url: str) -> bytes:
    content = bytearray()
    while chunk := response.read(65536, decode_content=True):
        content += chunk
        if len(content) > MAX_BODY:
            raise WebError(f"{url}: the answer is larger than {MAX_BODY >> 20} MiB", response.status)
    return bytes(content)


def _origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port; a password in a URL would stand in every log."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise WebError(f"{url}: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise WebError(f"{url}: not a URL of http or https")
    if parts.username is not None or parts.password is not None:
        raise WebError(f"url of {parts.hostname}: set username and password_file instead of writing them into the url")
    return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80)


def _tls(ca_file: str | None, *, verify: bool) -> ssl.SSLContext:
    try:
        # Loaded only where they are asked: the system's certificates are megabytes.
        context = ssl.create_default_context(cafile=ca_file) if verify else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    except ssl.SSLError:
        raise WebError(f"{ca_file}: not a file of certificates in PEM") from None
    except OSError as error:
        raise WebError(f"{ca_file}: {error.strerror}") from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _why(error: Exception, *, late: bool) -> str:
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    for one in causes:
        if isinstance(one, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({one.verify_message}): see ca_file"
    if late or any(isinstance(one, TimeoutError) for one in causes):
        return "no answer within deadline_s"
    for one in causes:
        if isinstance(one, OSError) and one.strerror:
            return one.strerror
    return str(error) or type(error).__name__
