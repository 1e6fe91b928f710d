"""The way to a server: what is sent, and that every answer is sorted into what its reader must do."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.fakes.write_server import Answer, Request, WriteServer

from jobimpact.core.config import InfluxStore, VictoriaStore
from jobimpact.core.server import Server, sort
from jobimpact.store.http import Http, RefusedError

LINE = "node_power,cluster=c watts=1.0 1795190300000"


@pytest.fixture
def web() -> Iterator[WriteServer]:
    with WriteServer() as server:
        yield server


def secret(folder: Path, text: str = "s3cret\n") -> str:
    file = folder / "secret"
    file.write_text(text)
    return str(file)


def influx(web: WriteServer, **more: Any) -> Server:
    return Server(InfluxStore(web.url, **more))


def asked(request: Request) -> tuple[str, dict[str, str]]:
    parts = urlsplit(request.path)
    return parts.path, {name: value for name, (value,) in parse_qs(parts.query).items()}


def test_each_server_is_written_to_in_its_own_way(web: WriteServer, tmp_path: Path) -> None:
    """1.x by database and policy with a password, 2.x by bucket with a token, VictoriaMetrics without either."""
    file = secret(tmp_path)
    basic = {"username": "node", "password_file": file}
    stores = [
        InfluxStore(web.url),
        InfluxStore(f"{web.url}/below/", **basic),
        InfluxStore(web.url, database="d", org="lab", token_file=file),
        VictoriaStore(web.url),
        VictoriaStore(web.url, token_file=file),
    ]
    for store in stores:
        assert Server(store).write("books", [LINE, LINE]).kind == "delivered"
    assert [asked(one) for one in web.requests] == [
        ("/write", {"db": "jobimpact", "rp": "books", "precision": "ms"}),
        ("/below/write", {"db": "jobimpact", "rp": "books", "precision": "ms"}),
        ("/api/v2/write", {"bucket": "d/books", "org": "lab", "precision": "ms"}),
        ("/write", {"precision": "ms"}),
        ("/write", {"precision": "ms"}),
    ]
    known = [one.headers.get("Authorization") for one in web.requests]
    assert known == [None, "Basic bm9kZTpzM2NyZXQ=", "Token s3cret", None, "Bearer s3cret"]
    assert all(one.lines == [LINE, LINE] for one in web.requests)
    assert all(one.headers["Content-Encoding"] == "gzip" for one in web.requests)
    assert [Server(store).words_as_tags for store in stores] == [False, False, False, True, True]


ERRORS = {
    "1.x conflict": (400, 'partial write: field type conflict: input field "v" is type integer dropped=1', "refused"),
    "1.x parse": (400, "partial write: unable to parse 'b v=x': invalid boolean dropped=0", "refused"),
    "1.x old": (400, "partial write: points beyond retention policy dropped=2", "refused"),
    "2.x old": (422, "failure writing points to database: partial write: points beyond retention policy", "refused"),
    "1.x values": (400, 'partial write: max-values-per-tag limit exceeded (5/5): measurement="t" tag="run"', "full"),
    "1.x series": (400, "partial write: max-series-per-database limit exceeded: (1000) dropped=9", "full"),
    "3.x tables": (422, "update to schema would exceed number of tables per database limit of 4000", "full"),
    "1.x no database": (404, 'database not found: "jobimpact"', "closed"),
    "1.x no policy": (500, "retention policy not found: books", "closed"),
    "2.x no bucket": (404, 'bucket "jobimpact/books" not found', "closed"),
    "2.x no org": (400, "Please provide either orgID or org", "closed"),
    "plain to TLS": (400, "Client sent an HTTP request to an HTTPS server.", "closed"),
    "who": (401, "unauthorized access", "closed"),
    "not you": (403, '"node" user is not authorized to write to database "jobimpact"', "closed"),
    "too long": (413, "Request Entity Too Large", "smaller"),
    "slow": (408, "Request Timeout", "later"),
    "often": (429, "too many requests", "later"),
    "crash": (500, "timeout", "later"),
    "busy": (503, "hinted handoff queue not empty", "later"),
    "moved": (301, "", "closed"),
    "not built": (501, "", "closed"),
    "page": (200, "<html>Log in", "closed"),
    "other": (200, '{"status":"ok"}', "closed"),
    "proxy's 400": (400, "<html><h1>400 Bad Request: line too long", "closed"),
    "proxy's 502": (502, "<html>Bad Gateway", "later"),
}


@pytest.mark.parametrize("wrap", ["error", "message", "plain"])
@pytest.mark.parametrize("case", ERRORS)
def test_an_answer_says_what_to_do(case: str, wrap: str) -> None:
    """By status and the servers' own words, in 1.x's JSON, in 2.x's, or in neither."""
    status, words, kind = ERRORS[case]
    body = words if wrap == "plain" or not words or words[0] in "<{" else json.dumps({wrap: words, "code": "x"})
    found = sort(status, {}, body.encode())
    assert found.kind == kind
    assert "{" not in found.said or words.startswith("{")


def test_how_many_are_too_old_is_known() -> None:
    """Only of these: another reason is told of one line of several."""
    assert sort(400, {}, b'{"error":"partial write: points beyond retention policy dropped=2"}').dropped == 2
    assert sort(400, {}, b'{"error":"partial write: field type conflict dropped=2"}').dropped is None


@pytest.mark.parametrize(
    ("text", "wait_s"), [("5", 5), ("999999", 600), ("-1", None), ("soon", None), ("9" * 400, None), (None, None)]
)
def test_a_wish_for_rest_is_bounded(text: str | None, wait_s: float | None) -> None:
    """Seconds, or a date; what is neither is none."""
    headers = {} if text is None else {"Retry-After": text}
    assert sort(503, headers, b"").retry_after_s == wait_s
    past = sort(503, {"Retry-After": formatdate(0)}, b"").retry_after_s
    assert past == 0


def test_a_secret_is_read_anew_when_it_is_refused(web: WriteServer, tmp_path: Path) -> None:
    """A renewed token is found at once; the same one is not tried twice."""
    web.answer = lambda one: Answer(204 if one.headers["Authorization"] == "Token new" else 401, b"unauthorized")
    server = influx(web, token_file=secret(tmp_path, "old\n"))
    found = server.write("books", LINE)
    assert (found.kind, len(web.requests)) == ("closed", 1)
    assert "see store.influxdb.token_file" in found.said
    secret(tmp_path, "new\n")
    assert server.write("books", LINE).kind == "delivered"
    secret(tmp_path, "newer\n")
    web.answer = lambda one: Answer(204 if one.headers["Authorization"] == "Token newer" else 401, b"unauthorized")
    assert server.write("books", LINE).kind == "delivered"
    assert [one.headers["Authorization"][6:] for one in web.requests] == ["old", "new", "new", "newer"]


@pytest.mark.parametrize(
    ("text", "why"), [("", "its first line is empty"), (" \nx", "first line is empty"), ("a\x01b", "characters")]
)
def test_a_secret_that_is_none_names_its_key(web: WriteServer, tmp_path: Path, text: str, why: str) -> None:
    """Without a request."""
    found = influx(web, token_file=secret(tmp_path, text)).write("books", LINE)
    assert found.kind == "closed"
    assert f"store.influxdb.token_file: {tmp_path}/secret" in found.said
    assert why in found.said
    missing = influx(web, username="u", password_file=str(tmp_path / "none")).write("books", LINE)
    assert missing.said == f"store.influxdb.password_file: {tmp_path}/none: No such file or directory"
    assert web.requests == []


def test_hostile_words_and_secrets_do_not_come_through(web: WriteServer, tmp_path: Path) -> None:
    """One line, short, nothing that a terminal obeys, and never the token."""
    body = json.dumps({"error": "partial write\x1b[2J\r\n\u202e s3cret " + "x" * 100_000}).encode()
    web.answer = lambda _: Answer(400, body[:40_000] + b'"}')
    found = influx(web, token_file=secret(tmp_path)).write("books", LINE)
    assert found.said.isprintable()
    assert len(found.said) < 600
    assert "s3cret" not in found.said
    assert "***" in found.said


@pytest.mark.parametrize("echo", ["parse {sent}", "parse {pad}{secret}", "parse {secret}"])
def test_an_answer_that_repeats_what_it_was_sent_tells_no_secret(web: WriteServer, tmp_path: Path, echo: str) -> None:
    """As it is, as it went, and where the answer's words are cut in the middle of it."""
    found = "s3cret  of nodes"

    def answer(request: Request) -> Answer:
        return Answer(400, echo.format(sent=request.headers["Authorization"], pad="x" * 285, secret=found).encode())

    web.answer = answer
    store = InfluxStore(web.url, username="node", password_file=secret(tmp_path, f"{found}\n"))
    with pytest.raises(RefusedError) as error:
        Http(store).ask("/query", {})
    for said in (Server(store).write("books", LINE).said, str(error.value)):
        assert "HTTP 400: parse" in said
        assert "s3cret" not in said
        assert base64.b64encode(f"node:{found}".encode()).decode() not in said


SECRET_URLS = ("u:s3cret@h", "u:pa/s3cret@h:1", "u:s3cret?x@h", "u:s3cret#x@h", "h:1/?u=node&p=s3cret", "h:1/#s3cret")


@pytest.mark.parametrize("place", SECRET_URLS)
def test_a_secret_in_the_url_is_not_told(place: str) -> None:
    """Neither used nor shown, wherever it stands."""
    server = Server(InfluxStore(f"http://{place}"))
    found = server.write("books", LINE)
    assert (found.kind, found.status) == ("closed", None)
    assert found.said.startswith("store.influxdb.url: ")
    assert "s3cret" not in found.said + server.url


def test_a_redirect_is_not_followed(web: WriteServer, tmp_path: Path) -> None:
    """The token goes nowhere else; where it points to is told."""
    with WriteServer() as other:
        web.answer = lambda _: Answer(307, headers={"Location": f"{other.url}/write"})
        found = influx(web, token_file=secret(tmp_path)).write("books", LINE)
        assert found.kind == "closed"
        assert f"it points to {other.url}/write" in found.said
        assert other.requests == []


GARBAGE = [
    b"",
    b"\0" * 99,
    b"HTTP/1.1 abc\r\n\r\n",
    b"HTTP/1.1 20",
    b"SSH-2.0-x\r\n",
]


@pytest.mark.parametrize("raw", GARBAGE)
def test_garbage_is_no_answer(web: WriteServer, raw: bytes) -> None:
    """It is later, or said to be no such server; the next request has a new connection."""
    web.answer = lambda _: Answer(raw=raw)
    server = influx(web)
    assert server.write("books", LINE).kind in {"later", "closed"}
    web.answer = lambda _: Answer()
    assert server.write("books", LINE).kind == "delivered"


def test_a_server_that_drips_does_not_hold_us(web: WriteServer) -> None:
    """The deadline is over the whole request, whatever comes byte by byte."""
    done = threading.Event()
    web.answer = lambda _: Answer(500, drip=done)
    server = influx(web, timeout_s=0.5)
    try:
        found = server.write("books", LINE)
        assert (found.kind, found.said) == ("later", f"{web.url}: no answer in time")
    finally:
        done.set()
    web.answer = lambda _: Answer()
    assert server.write("books", LINE, 60).kind == "delivered"


def test_a_server_that_listens_and_says_nothing_does_not_hold_us() -> None:
    """Neither where it takes the connection nor where it answers no byte."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        url = f"http://127.0.0.1:{one.getsockname()[1]}"
        assert Server(InfluxStore(url, timeout_s=0.3)).write("books", LINE).kind == "later"


def test_an_endless_answer_is_cut(web: WriteServer) -> None:
    """No more than some kilobytes are read of what nobody needs, and the connection is given up."""
    web.answer = lambda _: Answer(500, b"x" * (1 << 20))
    server = influx(web)
    assert server.write("books", LINE).kind == "later"
    web.answer = lambda _: Answer()
    assert server.write("books", LINE).kind == "delivered"


def test_a_connection_that_was_closed_meanwhile_is_opened_anew() -> None:
    """A server that was restarted between two writes: the second one arrives."""
    with WriteServer() as first:
        server = influx(first)
        assert server.write("books", LINE).kind == "delivered"
        first.answer = lambda _: Answer(headers={"Connection": "close"})
        assert server.write("books", LINE).kind == "delivered"
        assert server.write("books", LINE).kind == "delivered"
        assert len(first.taken) == 3
    assert server.write("books", LINE).kind == "later"


@pytest.mark.parametrize(
    "url", ["http://name.invalid:1", "http://127.0.0.1:1", "http://[::1", "http://u:p@h", "http://"]
)
def test_no_such_server_is_an_outcome(url: str) -> None:
    """A name that nobody knows, a port that nobody has, and what is no address: nothing is raised."""
    found = Server(InfluxStore(url, timeout_s=5)).write("books", LINE)
    assert found.kind in {"later", "closed"}
    assert found.said


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = str(folder / "key"), str(folder / "cert")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "9"]
    subprocess.run([*made, *subject], check=True, capture_output=True)
    return key, cert


def test_tls_by_a_site_s_own_authority(certificate: tuple[str, str], tmp_path: Path) -> None:
    """Trusted by ca_file; without it, or with a wrong one, it is said which key to set, and nothing is sent."""
    key, cert = certificate
    with WriteServer() as web:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        web._http.socket = context.wrap_socket(web._http.socket, server_side=True)
        url = web.url.replace("http:", "https:")
        assert Server(InfluxStore(url, ca_file=cert)).write("books", LINE).kind == "delivered"
        for ca_file, why in ((None, "not trusted"), (key, "not a file of certificates"), ("/none", "No such file")):
            found = Server(InfluxStore(url, ca_file=ca_file)).write("books", LINE)
            assert found.kind == "closed"
            assert why in found.said
            assert "store.influxdb.ca_file" in found.said
        assert len(web.requests) == 1


def test_https_to_a_plain_server_is_told(web: WriteServer) -> None:
    """A typing error in the url is a setting, not an outage."""
    found = Server(InfluxStore(web.url.replace("http:", "https:"))).write("books", LINE)
    assert found.kind == "closed"
    assert "does not speak TLS" in found.said


def test_a_ping_is_an_empty_write(web: WriteServer, tmp_path: Path) -> None:
    """With our credentials; a server that complains of the emptiness alone (2.x) has let us in."""
    server = influx(web, token_file=secret(tmp_path))
    assert server.ping().kind == "delivered"
    assert web.requests[0].body == b""
    web.answer = lambda _: Answer(400, b'{"code":"invalid","message":"writing requires points"}')
    assert server.ping().kind == "delivered"
    web.answer = lambda _: Answer(403, b'{"code":"forbidden","message":"insufficient permissions"}')
    assert server.ping().kind == "closed"
