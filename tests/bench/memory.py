"""What the daemon weighs with which sources, and what each of them imports: a source that is off costs nothing.

RSS and time of a process that is put together as the daemon is, after its first reading; and of whole daemons with and
without a server to which they bring their points.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.bench.node import config, playing
from tests.bench.source_cost import redfish
from tests.fakes.write_server import WriteServer

HEAVY = (
    "pynvml",
    "amdsmi",
    "urllib3",
    "ssl",
    "http.client",
    "psutil",
    "ClusterShell",
    "csv",
    "subprocess",
    "sqlalchemy",
)
DAEMON = "from jobimpact_daemon.cli import main; raise SystemExit(main())"
CHILD = """
import sys, time
from pathlib import Path
start = time.process_time()
from jobimpact_daemon import service
from jobimpact.core.config import load_config
from jobimpact.core.clock import SystemClock
loaded = load_config(Path(sys.argv[1]))
for source in service.make_sources(loaded, SystemClock()):
    source.discover(), source.read()
took = time.process_time() - start
kb = {line.split(":")[0]: int(line.split()[1]) for line in open("/proc/self/smaps_rollup").read().splitlines()[1:]}
there = [name for name in sys.argv[2:] if name in sys.modules]
own = f"{kb['Rss'] / 1e3:6.1f} MB RSS  {kb['Private_Dirty'] / 1e3:6.1f} MB its own"
print(f"{own}  {took:5.2f} s CPU to start  {', '.join(there)}")
"""


def main() -> None:
    """Print a line for each set of sources."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        node = stack.enter_context(playing(folder))
        root: dict[str, object] = {"root": str(node.powercap.root)}
        sets: dict[str, tuple[dict[str, object] | None, dict[str, str]]] = {
            "rapl alone": ({"rapl": root}, {}),
            "rapl and 8 GPUs": ({"rapl": root, "nvml": {}}, node.env),
            "rapl and redfish": ({"rapl": root, "redfish": stack.enter_context(redfish())}, {}),
            "no word of sources, no GPU": (None, {}),
            "no word of sources, 8 GPUs": (None, node.env),
        }
        for number, (name, (sources, environment)) in enumerate(sets.items()):
            path = config(folder, f"memory{number}", 1.0, sources or {})
            if sources is None:
                whole = json.loads(path.read_text(encoding="utf-8"))
                del whole["node"]["sources"]
                path.write_text(json.dumps(whole), encoding="utf-8")
            argv = [sys.executable, "-c", CHILD, str(path), *HEAVY]
            done = subprocess.run(argv, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
            print(f"{name:28}{(done.stdout if done.returncode == 0 else done.stderr).strip()}")
        web = stack.enter_context(WriteServer())
        for number, (name, sources, environment) in enumerate(
            (("rapl alone", {"rapl": root}, {}), ("rapl and 8 GPUs", {"rapl": root, "nvml": {}}, node.env))
        ):
            local = config(folder, f"local{number}", 1.0, sources)
            away = config(folder, f"server{number}", 1.0, sources)
            whole = json.loads(away.read_text(encoding="utf-8"))
            whole["store"] = {"influxdb": {"url": web.url, "path": "store"}}
            away.write_text(json.dumps(whole), encoding="utf-8")
            print(f"{f'daemon, {name}':28}{_daemon(local, environment, web, 0)}")
            print(f"{f'daemon, {name}, server':28}{_daemon(away, environment, web, 3)}")


def _daemon(path: Path, environment: dict[str, str], web: WriteServer, requests: int) -> str:
    """RSS of a real one when so many requests have come, or half a minute has passed."""
    before, until = len(web.requests), time.monotonic() + 30
    argv = [sys.executable, "-c", DAEMON, "run", "--config", str(path)]
    with subprocess.Popen(argv, env={**os.environ, **environment}, stderr=subprocess.DEVNULL) as process:
        while time.monotonic() < until and not (requests and len(web.requests) - before >= requests):
            time.sleep(0.2)
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
        kb = {one.split(":")[0]: int(one.split()[1]) for one in lines}
        process.terminate()
    sent = f"  {len(web.requests) - before} requests" if requests else ""
    return f"{kb['Rss'] / 1e3:6.1f} MB RSS  {kb['Private_Dirty'] / 1e3:6.1f} MB its own{sent}"


if __name__ == "__main__":
    main()
