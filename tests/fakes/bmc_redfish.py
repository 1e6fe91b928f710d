"""A BMC's Redfish service: documents in DMTF's shapes over HTTP or HTTPS, sessions, and faults by script."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

USER, PASSWORD = "reader", "s:cret é"
Fault = Literal["none", "missing", "forbidden", "busy", "broken", "half", "reset", "hang", "drip", "huge", "elsewhere"]
CHASSIS = "/redfish/v1/Chassis"
SESSIONS = "/redfish/v1/SessionService/Sessions"


def linked(*paths: str) -> list[dict[str, str]]:
    """Links to documents."""
    return [{"@odata.id": path} for path in paths]


def tree(chassis: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A service's documents; each chassis' further documents (Power, Sensors, ...) stand beside its own keys."""
    documents: dict[str, Any] = {
        "/redfish/v1/": {
            "@odata.id": "/redfish/v1/",
            "Chassis": {"@odata.id": CHASSIS},
            "Systems": {"@odata.id": "/redfish/v1/Systems"},
            "Links": {"Sessions": {"@odata.id": SESSIONS}},
        },
        CHASSIS: {"Members": linked(*(f"{CHASSIS}/{name}" for name in chassis))},
        "/redfish/v1/Systems": {"Members": linked("/redfish/v1/Systems/1")},
        "/redfish/v1/Systems/1": {"@odata.id": "/redfish/v1/Systems/1", "Id": "1"},
    }
    for name, own in chassis.items():
        path = f"{CHASSIS}/{name}"
        document: dict[str, Any] = {"@odata.id": path, "Id": name}
        for key, value in own.items():
            if key in {"Power", "EnvironmentMetrics"}:
                document[key] = {"@odata.id": f"{path}/{key}"}
                documents[f"{path}/{key}"] = {"@odata.id": f"{path}/{key}", **value}
            elif key == "Sensors":
                document[key] = {"@odata.id": f"{path}/{key}"}
                documents[f"{path}/{key}"] = {"Members": linked(*(f"{path}/{key}/{one}" for one in value))}
                for one, sensor in value.items():
                    documents[f"{path}/{key}/{one}"] = {"@odata.id": f"{path}/{key}/{one}", "Id": one, **sensor}
            else:
                document[key] = value
        documents[path] = document
    return documents


class Bmc:
    """A Redfish service on the loopback.

    Args:
        documents: by path.
        sessions: whether it offers them; without, basic authentication.
        tls: certificate and key; None: plain HTTP.
    """

    def __init__(
        self, documents: dict[str, Any], *, sessions: bool = True, tls: tuple[Path, Path] | None = None
    ) -> None:
        self.documents = documents
        self.sessions = sessions
        self.fault: Fault = "none"
        self.asked: list[str] = []
        self.tokens: set[str] = set()
        self.logins = 0
        self.connections = 0
        self.released = threading.Event()
        self._tls = tls
        self._port = 0
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, on the same port as before."""
        bmc = self

        class Handler(_Handler):
            service = bmc

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that gives up is no news."""

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        if self._tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._tls)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()

    def stop(self) -> None:
        """Refuse connections."""
        self.released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def document(self, path: str) -> Any:
        """What stands at a path; a trailing slash changes nothing."""
        return self.documents.get(path) or self.documents.get(path.rstrip("/")) or self.documents.get(f"{path}/")


class _Handler(BaseHTTPRequestHandler):
    service: Bmc
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.service.connections += 1

    def log_message(self, *_: object) -> None:
        """Quietly."""

    def do_GET(self) -> None:
        bmc = self.service
        bmc.asked.append(f"GET {self.path}")
        if bmc.fault != "none":
            self._fail(bmc.fault)
        elif self.path != "/redfish/v1/" and not self._known():
            self._answer(401, {"error": {}})
        elif (found := bmc.document(self.path)) is None:
            self._answer(404, {"error": {}})
        else:
            self._answer(200, found)

    def do_POST(self) -> None:
        bmc = self.service
        bmc.asked.append(f"POST {self.path}")
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not bmc.sessions or self.path != SESSIONS:
            self._answer(404, {"error": {}})
            return
        bmc.logins += 1
        if sent != {"UserName": USER, "Password": PASSWORD}:
            self._answer(401, {"error": {}})
            return
        token = f"t{bmc.logins}"
        bmc.tokens.add(token)
        self._answer(201, {"Id": token}, {"X-Auth-Token": token, "Location": f"{SESSIONS}/{token}"})

    def do_DELETE(self) -> None:
        self.service.asked.append(f"DELETE {self.path}")
        self.service.tokens.discard(self.path.rpartition("/")[2])
        self._answer(200, {})

    def _known(self) -> bool:
        basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return self.headers.get("X-Auth-Token") in self.service.tokens or self.headers.get("Authorization") == basic

    def _answer(self, status: int, found: Any, headers: dict[str, str] | None = None) -> None:
        body = found if isinstance(found, bytes) else json.dumps(found).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _fail(self, fault: Fault) -> None:
        statuses = {"missing": 404, "forbidden": 403, "busy": 503}
        if fault in statuses:
            self._answer(statuses[fault], {"error": {}})
        elif fault == "broken":
            self._answer(200, b'{"PowerControl": [')
        elif fault == "elsewhere":
            self._answer(302, {}, {"Location": "http://localhost:1/redfish/v1/"})
        elif fault == "huge":
            self._answer(200, b"[" + b"1," * (4 << 20) + b"1]")
        elif fault == "half":
            self._begin(1000)
            self.wfile.write(b'{"Power')
            self.close_connection = True
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
        elif fault == "hang":
            self.service.released.wait(60)
            self.close_connection = True
        else:
            self._begin(1000)
            for _ in range(1000):
                if self.service.released.wait(0.05):
                    return
                self.wfile.write(b" ")

    def _begin(self, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()


def certificate(folder: Path) -> tuple[Path, Path, Path] | None:
    """An authority's certificate, and a server's certificate and key for 127.0.0.1; None: no openssl program."""
    if shutil.which("openssl") is None:
        return None
    ca, ca_key, cert, key, asked = (folder / name for name in ("ca.pem", "ca.key", "bmc.pem", "bmc.key", "bmc.csr"))
    more = folder / "more"
    more.write_text("subjectAltName=IP:127.0.0.1\n")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for command in (
        [*new, "-x509", "-subj", "/CN=site", "-days", "2", "-keyout", str(ca_key), "-out", str(ca)],
        [*new, "-subj", "/CN=bmc", "-keyout", str(key), "-out", str(asked)],
        ["openssl", "x509", "-req", "-in", str(asked), "-CA", str(ca), "-CAkey", str(ca_key), "-CAcreateserial",
         "-days", "2", "-extfile", str(more), "-out", str(cert)],
    ):  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=30)
    return ca, cert, key
