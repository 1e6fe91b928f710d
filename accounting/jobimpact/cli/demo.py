"""`jobimpact demo`: the whole way of a joule on one machine, without root, servers or a scheduler.

The daemon runs with whatever this machine can measure. A few short programs run as jobs through the real hooks, with
this module in the scheduler's place: it sets what Slurm would set, and writes the records that sacct would give.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from jobimpact.core.config import load_config
from jobimpact.core.errors import JobImpactError, StoreError
from jobimpact.core.nodefile import node_file, open_for_reading

__all__ = ["run"]

NODE = "this-machine"
MEM_BYTES = 512 << 20
START_S = 10.0
OURS = ("jobimpact.yaml", "nodes.yaml", "jobs.jsonl", "results.db", "marks", "store", "train.py", "jobimpactd.log")

CONFIG = f"""\
# Made by `jobimpact demo`.
cluster: demo
store: {{local: {{path: store}}}}
results: sqlite:///results.db
scheduler: {{local: {{path: jobs.jsonl}}}}
inventory: nodes.yaml
node: {{name: {NODE}, marks: marks}}
grid: {{zone: FRA}}
"""

INVENTORY = """\
# Made by `jobimpact demo`: what the kernel tells of this machine. A site lists its real parts.
version: demo
types:
  {node}:
    nodes: {node}
    cpu: {{model: {model}, count: 1, cores: {cpus}}}
    ram_gb: {ram_gb}
    ssd_gb: [512]
    psu: 1
"""

TRAIN = '''\
"""Train a small neural network in plain Python: as many epochs as asked for, and a crash if asked for."""

import math
import random
import sys

epochs, crash_at = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None
rnd = random.Random(1)
data = [(x, y, math.sin(3 * x) * y) for x, y in ((rnd.random(), rnd.random()) for _ in range(200))]
hidden = [[rnd.gauss(0, 1) for _ in range(3)] for _ in range(16)]
out = [rnd.gauss(0, 1) for _ in range(16)]
for epoch in range(epochs):
    loss = 0.0
    if epoch == crash_at:
        raise MemoryError("CUDA out of memory (not really: this job is meant to crash)")
    for x, y, target in data:
        act = [math.tanh(w[0] * x + w[1] * y + w[2]) for w in hidden]
        error = sum(o * a for o, a in zip(out, act)) - target
        loss += error * error
        for i, a in enumerate(act):
            grad = error * out[i] * (1 - a * a)
            out[i] -= 0.02 * error * a
            hidden[i][0] -= 0.02 * grad * x
            hidden[i][1] -= 0.02 * grad * y
            hidden[i][2] -= 0.02 * grad
print(f"{epochs} epochs, loss {loss / len(data):.5f}")
'''


class Program(Struct, frozen=True):
    """One job of the demo: what it runs, and what it is there to show."""

    job: str
    name: str
    argv: list[str]
    shows: str


def run(folder: Path) -> int:
    """Run the demo in a folder, replacing an earlier demo's files there.

    Returns:
        0, or 1 if something did not work, which is then said.
    """
    hooks = _hooks()
    _prepare(folder)
    config_file = folder / "jobimpact.yaml"
    say = _Say()
    say("1. What can this machine measure?", title=True)
    checked = subprocess.run(
        [_program("jobimpactd"), "check", "--config", config_file], capture_output=True, text=True
    )
    for line in checked.stdout.splitlines():
        if line.split()[1:2] and line.split()[1].rstrip(":") in ("node", "rapl", "nvml", "model", "not"):
            say(f"   {line.partition('  ')[2].strip()}")
    if "modelled, not measured" in checked.stdout:
        say("   !! No power meter can be read here: every joule below is MODELLED from CPU use, not measured.")
    say("2. The daemon watches while jobs run, each through the real Prolog and Epilog", title=True)
    with _daemon(config_file, folder):
        for program in _programs(folder):
            say(f"   job {program.job}, {program.name}: {program.shows} ...")
            rc = _run_job(program, hooks, folder)
            say(f"     ended with exit status {rc}")
        time.sleep(1.5)
    say("3. The nightly accounting, now", title=True)
    say.out(["account"], config_file)
    say("4. What each job cost: jobimpact ID", title=True)
    say.out([program.job for program in _programs(folder)], config_file)
    say(
        "5. The books of the node: nothing is charged twice, nothing vanishes, and idle has a line of its own",
        title=True,
    )
    say.out(["books"], config_file)
    say("Where to go next", title=True)
    for words in ("--json 1 2 3", "3 --html job.html", "compare 1 2", "report"):
        say(f"   JOBIMPACT_CONFIG={config_file} {_program('jobimpact')} {words}")
    say(f"   {_program('jobimpactd')} check --config {config_file}   # what a node can measure")
    say("   README.md: install the hooks and the daemon on a real node")
    return 0


class _Say:
    """Prints, in order with what child processes print."""

    def __call__(self, text: str, *, title: bool = False) -> None:
        print(f"\n{text}\n" if title else text, flush=True)

    def out(self, argv: list[str], config_file: Path) -> None:
        """Run one of our own commands as a user would."""
        environment = {**os.environ, "JOBIMPACT_CONFIG": str(config_file)}
        done = subprocess.run([_program("jobimpact"), *argv], env=environment, check=False)
        if done.returncode:
            raise JobImpactError(f"jobimpact {' '.join(argv)} ended with status {done.returncode}")


def _prepare(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in OURS:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    (folder / "jobimpact.yaml").write_text(CONFIG, encoding="utf-8")
    (folder / "train.py").write_text(TRAIN, encoding="utf-8")
    (folder / "jobs.jsonl").write_text("", encoding="utf-8")
    ram_gb = max(1, round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30))
    model = json.dumps(_cpu_model())
    text = INVENTORY.format(node=NODE, model=model, cpus=os.cpu_count() or 1, ram_gb=ram_gb)
    (folder / "nodes.yaml").write_text(text, encoding="utf-8")


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip() or "unknown"
    return "unknown"


def _programs(folder: Path) -> list[Program]:
    train = [sys.executable, str(folder / "train.py")]
    return [
        Program("1", "train", [*train, "2000"], "trains a small network"),
        Program("2", "train-twice", [*train, "4000"], "does exactly twice the work of job 1"),
        Program("3", "train-crash", [*train, "4000", "1000"], "the same, but crashes on the way"),
        Program("4", "forgotten", ["/bin/sleep", "3"], "holds a CPU and does nothing"),
    ]


def _run_job(program: Program, hooks: Path, folder: Path) -> int:
    """What a scheduler does for a job: Prolog, the program in a session of its own, Epilog, a record."""
    submit_s = time.time()
    # The leader outlives the program until the Epilog is over, as slurmstepd does, and knows its CPU time.
    leader = subprocess.Popen(
        ["/bin/sh", "-c", 'read -r go || exit; "$@" >/dev/null 2>&1; echo $?; read -r end', "job", *program.argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    stdin, stdout = leader.stdin, leader.stdout
    if stdin is None or stdout is None:
        raise JobImpactError("the job's leader has no pipes")
    environment = {
        "SLURM_JOB_ID": program.job,
        "SLURM_JOB_UID": str(os.getuid()),
        "JOBIMPACT_MARKS": str((folder / "marks").resolve()),
        "JOBIMPACT_SID": str(leader.pid),
        "JOBIMPACT_CPUS": "1",
        "JOBIMPACT_MEM_BYTES": str(MEM_BYTES),
    }
    subprocess.run([hooks / "prolog"], env=environment, check=True)
    start_s = time.time()
    stdin.write("go\n")
    stdin.flush()
    rc = int(stdout.readline() or 1)
    end_s = time.time()
    subprocess.run([hooks / "epilog"], env=environment, check=True)
    time.sleep(0.3)
    stdin.close()
    leader.wait()
    _record(folder, program, rc, (submit_s, start_s, end_s))
    return rc


def _record(folder: Path, program: Program, rc: int, times: tuple[float, float, float]) -> None:
    record: dict[str, Any] = {"id": program.job, "user": getpass.getuser(), "account": "demo", "name": program.name}
    record |= {"state": "FAILED" if rc else "COMPLETED", "exit_code": f"{rc}:0"}
    record |= dict(zip(("submit", "start", "end"), times, strict=True))
    record |= {"nodes": [NODE], "cpus": 1, "mem_bytes": MEM_BYTES, "gpus": 0}
    with (folder / "jobs.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


@contextlib.contextmanager
def _daemon(config_file: Path, folder: Path) -> Iterator[None]:
    """The daemon, from its first reading to its clean end."""
    store = node_file(load_config(config_file).store.folder, NODE)
    with (folder / "jobimpactd.log").open("w", encoding="utf-8") as log:
        daemon = subprocess.Popen([_program("jobimpactd"), "run", "--config", config_file], stderr=log)
        try:
            _wait_for_first_reading(store, daemon, folder)
            yield
        finally:
            daemon.send_signal(signal.SIGTERM)
            rc = daemon.wait(timeout=30)
    if rc:
        raise JobImpactError(f"the daemon ended with status {rc}: see {folder / 'jobimpactd.log'}")


def _wait_for_first_reading(store: Path, daemon: subprocess.Popen[bytes], folder: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and daemon.poll() is None:
        with contextlib.suppress(StoreError):
            db = open_for_reading(store)
            known = db.execute("SELECT count(*) FROM domain").fetchone()[0]
            db.close()
            if known:
                return
        time.sleep(0.05)
    raise JobImpactError(f"the daemon did not start: see {folder / 'jobimpactd.log'}")


def _program(name: str) -> str:
    """One of our commands, beside the Python that runs this."""
    path = Path(sys.executable).parent / name
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _hooks() -> Path:
    """The installed hooks."""
    folder = Path(sysconfig.get_path("data")) / "share/jobimpact/prolog_epilog/slurm"
    if not (folder / "prolog").is_file():
        raise JobImpactError(f"the hooks are not installed: {folder} is not there")
    return folder
