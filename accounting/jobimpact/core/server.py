"""The way to a time-series server: one connection that is kept, lines in, and what became of them out.

Nothing here raises for what a server, a network or a secret's file does: each answer is sorted into what its reader
must do. Servers' words are not trusted: they are bounded and cleaned, redirects are not followed, and credentials go
to no other host than the configured one. Importing this module costs megabytes: do so only where there is a server.
"""

from __future__ import annotations

import gzip
import re
import ssl
import time
import unicodedata
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode, urlsplit

import msgspec
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util import make_headers

from jobimpact.core.config import InfluxStore, VictoriaStore
from jobimpact.core.deadline import Deadline
from jobimpact.core.errors import ConfigError
from jobimpact.core.series import BOOKS, Retained

__all__ = ["Kind", "Outcome", "Server", "clean", "sort"]

Kind = Literal["delivered", "refused", "full", "closed", "smaller", "later"]
"""`delivered`: the server has them. `refused`: a line among them is wrong, and will be the next time. `full`: the
server's limit of series is reached: keep them, and tell a person. `closed`: a setting is wrong, here or there: keep
them, and say which. `smaller`: send fewer at once. `later`: it will pass."""

MAX_BODY = 1 << 16
"""Bytes of an answer that are read: a server that took the lines has nothing to say."""
LONGEST_WORDS = 300
RETRY_AFTER_S = 600.0
"""A server is not left alone for longer than this, whatever it asks for."""
GZIP_LEVEL = 3

_FULL = re.compile(r"max-values-per-tag|max-series-per-database|cardinality|would exceed number of", re.IGNORECASE)
_CLOSED = re.compile(
    r"(database|bucket|retention policy|organi[sz]ation)\b.{0,200}\bnot found|unauthorized|authorization failed",
    re.IGNORECASE | re.DOTALL,
)
# What is said of lines; all else that is a 400 is said of the request, and of each line alike.
_DATA = re.compile(
    r"pars|partial write|\b(points?|lines?|fields?|tags?|timestamps?|measurement|column)\b", re.IGNORECASE
)
_STATEMENT = re.compile(r"(not authorized to execute) statement '.*', requires", re.DOTALL)
_DROPPED = re.compile(r"retention policy dropped=(\d+)")


class Outcome(msgspec.Struct, frozen=True):
    """What became of lines that were sent."""

    kind: Kind
    said: str = ""
    """Why, in words for an administrator; cleaned, in one line."""
    status: int | None = None
    """Of HTTP; None: there was no answer."""
    dropped: int | None = None
    """How many lines the server says are older than it keeps."""
    retry_after_s: float | None = None
    """For how long the server asks to be left alone, bounded."""


class Server:
    """A store's server, used by one thread at a time.

    Args:
        store: where it is, and who we are there. Nothing is opened before the first `write`.
    """

    def __init__(self, store: InfluxStore | VictoriaStore) -> None:
        self.store = store
        self.key = f"store.{'influxdb' if isinstance(store, InfluxStore) else 'victoriametrics'}"
        self._secret: str | None = None
        self._tls: ssl.SSLContext | None = None
        self._connection: HTTPConnection | None = None
        self.opened = 0
        """How many connections there have been: a new one may be to a server that was started anew."""

    @property
    def url(self) -> str:
        """Where it is, for messages."""
        return clean(re.sub(r"//.*@", "//***@", self.store.url).partition("?")[0].partition("#")[0])

    @property
    def words_as_tags(self) -> bool:
        """It keeps numbers alone: see `jobimpact.core.line.line`."""
        return isinstance(self.store, VictoriaStore)

    def write(self, kept: Retained, lines: bytes | str | Iterable[str], timeout_s: float | None = None) -> Outcome:
        """Send points.

        Args:
            kept: for how long the server is to keep them.
            lines: line protocol with stamps in milliseconds; none only asks whether the server would take some.
            timeout_s: for the whole request; None: the store's.

        Returns:
            What became of them; never raises for what is outside this process.
        """
        text = lines if isinstance(lines, (bytes, str)) else "\n".join(lines)
        body = text.encode() if isinstance(text, str) else text
        until = time.monotonic() + (self.store.timeout_s if timeout_s is None else timeout_s)
        try:
            secret = self.read_secret()
            outcome = self._once(kept, body, secret, until)
            if outcome.status == 401:
                # It may have been renewed since it was read.
                self._secret = None
                renewed = self.read_secret()
                if renewed != secret:
                    outcome = self._once(kept, body, renewed, until)
                if outcome.status == 401:
                    self._secret = None
        except ConfigError as error:
            return Outcome("closed", str(error))
        return outcome

    def ping(self, kept: Retained = BOOKS, timeout_s: float | None = None) -> Outcome:
        """Ask whether it would take points: an empty write, with our credentials.

        Returns:
            As `write`; a server that complains of nothing but the emptiness has let us in: `delivered`.
        """
        outcome = self.write(kept, b"", timeout_s)
        return Outcome("delivered", status=outcome.status) if outcome.kind == "refused" else outcome

    def close(self) -> None:
        """Close the connection; the next write opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- the request ---------------------------------------------------------------------------------------------

    def _target(self, kept: Retained) -> str:
        store = self.store
        query: dict[str, str] = {}
        way = "/write"
        if isinstance(store, InfluxStore) and store.token_file is not None:
            way = "/api/v2/write"
            query = {"bucket": f"{store.database}/{kept}"} | ({"org": store.org} if store.org else {})
        elif isinstance(store, InfluxStore):
            query = {"db": store.database, "rp": kept}
        return f"{self._place()[3]}{way}?{urlencode(query | {'precision': 'ms'})}"

    def read_secret(self) -> str | None:
        """The token or password; None: there is none.

        Raises:
            ConfigError: its file is of no use.
        """
        if self._secret is None:
            for name in ("token_file", "password_file"):
                path = getattr(self.store, name)
                if path is not None:
                    self._secret = _secret(f"{self.key}.{name}", path)
        return self._secret

    def credentials(self, secret: str | None) -> dict[str, str]:
        """Headers by which a request is let in."""
        store = self.store
        if secret is None:
            return {}
        if store.token_file is not None:
            scheme = "Token" if isinstance(store, InfluxStore) else "Bearer"
            return {"Authorization": f"{scheme} {secret}"}
        # urllib3 would take latin-1, and RFC 7617 leaves it open: UTF-8 is what servers expect.
        known = make_headers(basic_auth=f"{store.username}:{secret}".encode().decode("latin-1"))
        return {"Authorization": known["authorization"]}

    def hidden(self, content: bytes, secret: str | None) -> bytes:
        """An answer without what it repeats of the secret, as it is and as it was sent."""
        sent = [one.partition(" ")[2] for one in self.credentials(secret).values()]
        for one in [secret, *sent] if secret else []:
            content = content.replace(one.encode(), b"***")
        return content

    def _once(self, kept: Retained, body: bytes, secret: str | None, until: float) -> Outcome:
        headers = {"Content-Type": "text/plain; charset=utf-8", "Accept-Encoding": "identity"}
        headers |= {"User-Agent": "jobimpact", **self.credentials(secret)}
        if body:
            body, headers["Content-Encoding"] = gzip.compress(body, GZIP_LEVEL, mtime=0), "gzip"
        target, again = self._target(kept), self._connection is not None
        try:
            try:
                found = self._exchange(target, body, headers, until)
            except ConnectionError:
                if not again:
                    raise
                # A kept connection, which the server closed just as it was used; written twice is written once.
                self.close()
                found = self._exchange(target, body, headers, until)
        except (OSError, HTTPError, HTTPException, ValueError) as error:
            self.close()
            return self.failure(error, late=time.monotonic() >= until)
        status, answered, content = found
        outcome = sort(status, answered, content)
        if outcome.kind == "delivered":
            return outcome
        said = sort(status, answered, self.hidden(content, secret)).said
        advice = self._advice(outcome, answered)
        whole = f"{self.url}: HTTP {status}{f': {said}' if said else ''}{f': {advice}' if advice else ''}"
        return msgspec.structs.replace(outcome, said=whole)

    def _exchange(
        self, target: str, body: bytes, headers: dict[str, str], until: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        connection = self._connected(until)
        with Deadline(connection.sock, until):
            connection.request("POST", target, body=body, headers=headers, preload_content=False)
            response = connection.getresponse()
            content = response.read(MAX_BODY, decode_content=False)
            whole = response.closed or not response.read(1, decode_content=False)
        if time.monotonic() >= until:
            raise TimeoutError
        if not whole or response.headers.get("Connection", "").lower() == "close":
            self.close()
        return response.status, response.headers, content

    def _connected(self, until: float) -> HTTPConnection:
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        if self._connection is not None and not self._connection.is_connected:
            self.close()
        if self._connection is None:
            self._connection = self.new_connection()
            self.opened += 1
        connection = self._connection
        connection.timeout = left_s
        if connection.is_connected:
            if connection.sock is not None:
                connection.sock.settimeout(left_s)
        else:
            connection.connect()
        return connection

    def new_connection(self) -> HTTPConnection:
        """One that is not open yet.

        Raises:
            ConfigError: the url or the file of certificates is of no use.
        """
        scheme, host, port, _ = self._place()
        if scheme == "http":
            return HTTPConnection(host, port)
        if self._tls is None:
            self._tls = self._make_tls()
        return HTTPSConnection(host, port, ssl_context=self._tls, server_hostname=host)

    def _place(self) -> tuple[str, str, int | None, str]:
        """Scheme, host, port and path of the url.

        Raises:
            ConfigError: it is of no use.
        """
        # Whatever stands in it is not shown: it may be a password.
        if "@" in self.store.url:
            raise ConfigError(f"{self.key}.url: set username and password_file instead of writing them into the url")
        if "?" in self.store.url or "#" in self.store.url:
            raise ConfigError(
                f"{self.key}.url: ends before its question: what can be asked for has settings of its own"
            )
        try:
            parts = urlsplit(self.store.url)
            found = parts.scheme, parts.hostname, parts.port, parts.path.rstrip("/")
        except ValueError as error:
            raise ConfigError(f"{self.key}.url: {error}") from None
        scheme, host, port, path = found
        if not host:
            raise ConfigError(f"{self.key}.url: {self.url} names no host")
        return scheme, host, port, path

    def _make_tls(self) -> ssl.SSLContext:
        path = self.store.ca_file
        try:
            return ssl.create_default_context(cafile=path)
        except ssl.SSLError:
            raise ConfigError(f"{self.key}.ca_file: {path}: not a file of certificates in PEM") from None
        except OSError as error:
            raise ConfigError(f"{self.key}.ca_file: {path}: {error.strerror}") from None

    # -- words ---------------------------------------------------------------------------------------------------

    def failure(self, error: Exception, *, late: bool) -> Outcome:
        """What it means that there was no answer; `late`: the time for it is over."""
        causes: list[BaseException] = [error]
        while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
            causes.append(cause)
        for one in causes:
            if isinstance(one, ssl.SSLCertVerificationError):
                why = f"its certificate is not trusted ({clean(one.verify_message)}): see {self.key}.ca_file"
                return Outcome("closed", f"{self.url}: {why}")
            if isinstance(one, ssl.SSLError) and one.reason == "WRONG_VERSION_NUMBER":
                return Outcome("closed", f"{self.url}: does not speak TLS: is it http:// in {self.key}.url?")
        if late or any(isinstance(one, TimeoutError) for one in causes):
            return Outcome("later", f"{self.url}: no answer in time")
        for one in causes:
            if isinstance(one, OSError) and one.strerror:
                return Outcome("later", f"{self.url}: {clean(one.strerror)}")
        return Outcome("later", f"{self.url}: {clean(str(error)) or type(error).__name__}")

    def _advice(self, outcome: Outcome, headers: Mapping[str, str]) -> str:
        if outcome.kind == "full":
            return "its limit of series is reached: raise it, or see whether something else fills it"
        if outcome.kind != "closed" or outcome.status is None:
            return ""
        if 300 <= outcome.status < 400:
            return f"it points to {clean(headers.get('Location', ''), 100)}: if that is it, set {self.key}.url to it"
        if outcome.status in {401, 403}:
            return f"see {self.key}.token_file, or username and password_file"
        if outcome.status == 404 or _CLOSED.search(outcome.said):
            what = "url" if self.words_as_tags else "database"
            return f"see {self.key}.{what}; `jobimpact store init` on the accounting host makes what is missing there"
        return f"see {self.key}.url: no answer of the server that is meant"


def sort(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """What an answer to a write means.

    Args:
        status: of HTTP.
        headers: by name, in any case.
        body: the first of it.

    Returns:
        The outcome; `said` holds the server's own words alone.
    """
    if status == 204 or (status == 200 and not body.strip()):
        return Outcome("delivered", status=status)
    page = body.lstrip()[:1] == b"<" or "html" in headers.get("Content-Type", "").lower()
    said = "a web page, as a proxy has" if page else _words(body)
    if status == 413:
        return Outcome("smaller", said, status)
    if status in {408, 429} or status >= 500:
        kind: Kind = "closed" if status == 501 or (not page and _CLOSED.search(said)) else "later"
        return Outcome(kind, said, status, retry_after_s=_retry_after_s(headers.get("Retry-After")))
    if status in {400, 422} and not page:
        if _FULL.search(said):
            return Outcome("full", said, status)
        if not _CLOSED.search(said) and _DATA.search(said):
            dropped = _DROPPED.search(said)
            return Outcome("refused", said, status, dropped=int(dropped[1]) if dropped else None)
    return Outcome("closed", said, status)


def _words(body: bytes) -> str:
    """What it says, without its wrapping, and without our own statement, which InfluxDB 1.x repeats."""
    text = body.decode("utf-8", "replace")
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return clean(text)
    if isinstance(found, dict):
        for name in ("error", "message"):
            if isinstance(found.get(name), str) and found[name]:
                return clean(_STATEMENT.sub(r"\1 it, requires", found[name]))
    return clean(text)


def clean(text: str, longest: int = LONGEST_WORDS) -> str:
    """Hostile text as one line that changes no terminal and no log."""
    safe = "".join(" " if unicodedata.category(one)[0] in "CZ" else one for one in text[: 4 * longest])
    said = " ".join(safe.split())
    return said if len(said) <= longest else f"{said[: longest - 3]}..."


def _retry_after_s(text: str | None) -> float | None:
    if text is None:
        return None
    if re.fullmatch(r"\s*\d{1,9}\s*", text):
        return min(float(text), RETRY_AFTER_S)
    try:
        wait_s = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(wait_s, 0.0), RETRY_AFTER_S)


def _secret(key: str, path: str) -> str:
    """The first line of a file.

    Raises:
        ConfigError: it cannot be read, is empty, or nothing that a header can hold.
    """
    try:
        line = Path(path).read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key}: {path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    if not line:
        raise ConfigError(f"{key}: {path}: its first line is empty")
    if any(unicodedata.category(one) == "Cc" for one in line) or (key.endswith("token_file") and not line.isascii()):
        raise ConfigError(f"{key}: {path}: its first line has characters that no secret has")
    return line
