"""Asking a time-series server: its answer as it comes, line by line, and what is not one as a `StoreError`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http.client import HTTPException
from urllib.parse import urlencode, urlsplit

from urllib3 import BaseHTTPResponse
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError

from jobimpact.core.config import InfluxStore, VictoriaStore
from jobimpact.core.errors import StoreError
from jobimpact.core.server import Server, sort

__all__ = ["Http", "RefusedError"]

_LONGEST = 256 << 20
"""Bytes of one line."""
_PART = 1 << 18


class RefusedError(StoreError):
    """The server answered, with a status that is not 200.

    Args:
        text: for people.
        status: of HTTP.
        said: the server's own words.
    """

    def __init__(self, text: str, status: int, said: str) -> None:
        super().__init__(text)
        self.status = status
        self.said = said


class Http(Server):
    """A store's server, to be asked. Several answers may be read by turns: each has a connection of its own."""

    def __init__(self, store: InfluxStore | VictoriaStore) -> None:
        super().__init__(store)
        self._free: list[HTTPConnection] = []

    def close(self) -> None:
        """Let the connections go."""
        super().close()
        while self._free:
            self._free.pop().close()

    def lines(
        self, path: str, params: Mapping[str, str], method: str = "POST", body: bytes | None = None
    ) -> Iterator[bytes]:
        """The lines of an answer, as they come; the last one may lack its end.

        Args:
            path: below the store's url.
            params: of the question: in a POST without a body as a form, for they may be longer than a request's line.
            method: of HTTP.
            body: JSON.

        Raises:
            ConfigError: a setting is of no use: a secret that cannot be read, a url without a host.
            RefusedError: the status is not one of success.
            StoreError: there is no answer, or it is cut short.
        """
        try:
            connection, answer = self._asked(path, params, method, body)
            try:
                if answer.status not in {200, 201, 204}:
                    raise self._refusal(path, answer)
                yield from _lines(answer)
            except BaseException:
                connection.close()
                raise
            self._free.append(connection)
        except (OSError, HTTPError, HTTPException, ValueError) as error:
            raise StoreError(self.failure(error, late=isinstance(error, TimeoutError)).said) from None

    def ask(self, path: str, params: Mapping[str, str], method: str = "POST", body: bytes | None = None) -> bytes:
        """A whole answer: see `lines`."""
        return b"\n".join(self.lines(path, params, method, body))

    def headers(self, path: str) -> Mapping[str, str]:
        """Those of an answer to a GET, whatever its status.

        Raises:
            ConfigError: as `lines`.
            StoreError: as `lines`, or it takes TLS alone.
        """
        try:
            connection, answer = self._asked(path, {}, "GET", None)
            said = sort(answer.status, answer.headers, answer.read(4096)).said
            connection.close()
        except (OSError, HTTPError, HTTPException, ValueError) as error:
            raise StoreError(self.failure(error, late=isinstance(error, TimeoutError)).said) from None
        if answer.status == 400 and "HTTPS" in said:
            raise StoreError(f"{self.url}: {said}: is it https:// in {self.key}.url?")
        return answer.headers

    def _asked(
        self, path: str, params: Mapping[str, str], method: str, body: bytes | None
    ) -> tuple[HTTPConnection, BaseHTTPResponse]:
        headers = {"User-Agent": "jobimpact", "Accept-Encoding": "identity", **self.credentials(self.read_secret())}
        target, form = urlsplit(self.store.url).path.rstrip("/") + path, urlencode(params)
        if body is not None:
            headers["Content-Type"] = "application/json"
        elif method == "POST":
            body, headers["Content-Type"] = form.encode(), "application/x-www-form-urlencoded"
            form = ""
        target += f"?{form}" if form else ""
        while self._free:
            connection = self._free.pop()
            try:
                return connection, self._sent(connection, method, target, body, headers)
            except (ConnectionError, HTTPError, HTTPException):
                # A kept one, which the server has closed.
                connection.close()
        connection = self.new_connection()
        connection.timeout = self.store.timeout_s
        try:
            connection.connect()
            return connection, self._sent(connection, method, target, body, headers)
        except BaseException:
            connection.close()
            raise

    def _sent(
        self, connection: HTTPConnection, method: str, target: str, body: bytes | None, headers: dict[str, str]
    ) -> BaseHTTPResponse:
        connection.request(method, target, body=body, headers=headers, preload_content=False)
        return connection.getresponse()

    def _refusal(self, path: str, answer: BaseHTTPResponse) -> RefusedError:
        content = self.hidden(answer.read(4096), self.read_secret())
        said = sort(answer.status, answer.headers, content).said
        advice = {
            401: f": see {self.key}.token_file, or username and password_file",
            403: f": who asks may not: see {self.key}.token_file, or username",
            404: ": is this VictoriaMetrics? InfluxDB is set as store.influxdb" if self.words_as_tags else "",
        }.get(answer.status, "")
        status = answer.status
        return RefusedError(f"{self.url}: {path}: HTTP {status}{f': {said}' if said else ''}{advice}", status, said)


def _lines(answer: BaseHTTPResponse) -> Iterator[bytes]:
    begun: list[bytes] = []
    size = 0
    for part in answer.stream(_PART, decode_content=False):
        first, *others = part.split(b"\n")
        begun.append(first)
        size += len(first)
        if size > _LONGEST:
            raise StoreError(f"a line of more than {_LONGEST >> 20} MiB")
        for other in others:
            yield b"".join(begun)
            begun, size = [other], len(other)
    if size:
        yield b"".join(begun)
