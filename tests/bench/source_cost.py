"""What one reading of each source costs: CPU time of this process and its children, from the first answer on.

RAPL, hwmon, Cray's counters and a growing CSV file are trees of files, NVML the rig's C library, Redfish, Kwollect and
the BMC servers on this machine. A slow meter is polled as its own thread does it, once each `period_s`: the last
column is what that makes of a core. `python -m tests.bench.source_cost [SECONDS]` for each source (1 by default).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.bench.node import GPUS, RAPL, config, playing
from tests.fakes import ipmi_sim, kwollect
from tests.fakes.trees import write_tree

Json = dict[str, Any]
CHASSIS = "/redfish/v1/Chassis/1"
REDFISH: dict[str, Json] = {
    "/redfish/v1/": {"Chassis": {"@odata.id": "/redfish/v1/Chassis"}},
    "/redfish/v1/Chassis": {"Members": [{"@odata.id": CHASSIS}]},
    CHASSIS: {
        "Id": "1",
        "ChassisType": "RackMount",
        "EnvironmentMetrics": {"@odata.id": f"{CHASSIS}/EnvironmentMetrics"},
    },
    f"{CHASSIS}/EnvironmentMetrics": {"PowerWatts": {"Reading": 344.0}},
}


@contextlib.contextmanager
def redfish() -> Iterator[dict[str, object]]:
    """A BMC that knows one chassis and its power, and asks nobody who they are."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            found = REDFISH.get(self.path) or REDFISH.get(self.path.rstrip("/"))
            content = json.dumps({"@odata.id": self.path, **(found or {})}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    with _served(Handler) as port:
        yield {"url": f"http://127.0.0.1:{port}"}


@contextlib.contextmanager
def _served(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def trees(folder: Path) -> dict[str, dict[str, object]]:
    """Settings of the sources that read files."""
    stamp = "1600000000000000 us"
    cray = {f"{part}energy": f"5000 J {stamp}" for part in ("", "cpu_", "memory_", *(f"accel{n}_" for n in range(4)))}
    cray |= {"freshness": 1, "startup": 1_599_999_000_000_000, "generation": 3, "raw_scan_hz": 10, "version": 2}
    write_tree(folder / "cray", cray)
    rails = ("Grace", "CPU", "SysIO", "Module")
    for number, (rail, socket) in enumerate((rail, socket) for socket in range(2) for rail in rails):
        below = f"hwmon{number}/device"
        files = {"name": "power_meter", "power1_average": 180_000_000, "power1_average_interval": 50}
        files |= {"power1_is_battery": 0, "power1_oem_info": f"{rail} Power Socket {socket}"}
        write_tree(folder / "hwmon", {f"{below}/{name}": value for name, value in files.items()})
    now = datetime.now(UTC)
    rows = [f"{(now - timedelta(seconds=600 - n)).isoformat()},{300 + n % 7}" for n in range(600)]
    (folder / "watts.csv").write_text("time,watts\n" + "\n".join(rows) + "\n")
    return {
        "pmcounters": {"root": str(folder / "cray")},
        "hwmon": {"root": str(folder / "hwmon")},
        "wattmeter": {"csv": {"path": str(folder / "watts.csv")}, "period_s": 1},
    }


def main(seconds: float = 1.0) -> None:
    """Print a line for each source."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        node = stack.enter_context(playing(folder))
        found = trees(folder)
        wanted: list[tuple[str, str, dict[str, object]]] = [
            ("rapl", f"{len(RAPL)} domains", {"root": str(node.powercap.root)}),
            ("nvml", f"{GPUS} GPUs, C library", {}),
            ("hwmon", "8 sensors, 2 taken", found["hwmon"]),
            ("pmcounters", "7 counters", found["pmcounters"]),
            ("model", "psutil", {}),
            ("wattmeter", "CSV, no new row", found["wattmeter"]),
            ("wattmeter", "Kwollect, one record", _kwollect(stack)),
            ("redfish", "one chassis", stack.enter_context(redfish())),
        ]
        if ipmi_sim.missing():
            print(f"ipmi        not measured: {ipmi_sim.missing()}")
        else:
            bmc = stack.enter_context(ipmi_sim.Bmc(folder))
            login: dict[str, object] = {"username": "reader", "password_file": str(bmc.password_file)}
            login |= {"host": bmc.host, "port": bmc.port}
            wanted += [("ipmi", f"{via}, over the network", {**login, "via": via}) for via in ("ipmitool", "freeipmi")]
        for number, (source, what, settings) in enumerate(wanted):
            path = config(folder, f"source{number}", 1.0, {source: settings})
            _child(path, f"{source:12}{what:28}", seconds, node.env)


def _kwollect(stack: contextlib.ExitStack) -> dict[str, object]:
    fake = stack.enter_context(kwollect.serving())
    now = datetime.now(UTC)
    fake.records = [kwollect.record((now + timedelta(seconds=n)).isoformat(), 300.5) for n in range(-60, 3600)]
    return {"kwollect": {"url": fake.url, "node": "n1"}, "period_s": 1}


def _child(path: Path, name: str, seconds: float, environment: dict[str, str]) -> None:
    """In a process of its own: what one source imports is not there for the next."""
    argv = [sys.executable, "-m", "tests.bench.source_cost", "--child", str(path), str(seconds)]
    done = subprocess.run(argv, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    last = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    print(f"{name}{last[-1] if last else 'no word'}")


def measure(path: Path, seconds: float) -> str:
    """Ask the configuration's only source again and again; what that costs, in words."""
    from jobimpact.core.clock import SystemClock
    from jobimpact.core.config import load_config
    from jobimpact_daemon.service import make_sources
    from jobimpact_daemon.sources.poller import Poller

    loaded = load_config(path)
    (source,) = make_sources(loaded, SystemClock())
    ask: Callable[[], object]
    if isinstance(source, Poller):
        meter, period_s = source._meter, source._period_ns / 1e9
        meter.discover()
        ask = meter.poll
    else:
        source.discover()
        period_s, ask = 1.0, source.read
    first = ask()
    walls, start_ns, until = [], _cpu_ns(), time.monotonic() + seconds
    while time.monotonic() < until or len(walls) < 3:
        before_ns = time.perf_counter_ns()
        ask()
        walls.append(time.perf_counter_ns() - before_ns)
    cpu_us = (_cpu_ns() - start_ns) / len(walls) / 1000
    values = len(first) if isinstance(first, dict) else 0
    return (
        f"{values:2} read  {cpu_us:9.1f} us CPU  {sorted(walls)[len(walls) // 2] / 1000:9.1f} us wall (median)"
        f"  every {period_s:4.1f} s: {cpu_us / period_s / 1e6:8.4%} of a core"
    )


def _cpu_ns() -> int:
    times = os.times()
    return time.process_time_ns() + round((times.children_user + times.children_system) * 1e9)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(measure(Path(sys.argv[2]), float(sys.argv[3])))
    else:
        main(*map(float, sys.argv[1:]))
