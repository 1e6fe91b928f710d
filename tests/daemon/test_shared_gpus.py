"""Three jobs of different kinds on one node with MIG and MPS, through the real daemon and the C library."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.daemon.running import Daemon, until
from tests.fakes.curve import Curve, boot_ns
from tests.fakes.rig import PowerRig
from tests.fakes.rig_gpu import Mig, Process, gpu

from jobimpact.energy.local import LocalEnergy

pytestmark = pytest.mark.usefixtures("compiled")

MIG_GPU, MPS_GPU, WHOLE_GPU = (f"GPU-{one * 8}-1111-2222-3333-444444444444" for one in "abc")
THREE, TWO = (f"MIG-{one * 8}-1111-2222-3333-444444444444" for one in "de")
WATTS = {MIG_GPU: 250.0, MPS_GPU: 300.0, WHOLE_GPU: 200.0}
IDLE_W = {MIG_GPU: 70.0, MPS_GPU: 50.0}
SECONDS = 10


@pytest.fixture
def jobs() -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Real processes, each in a session of its own: what the driver lists must be found again as a job."""
    found = {job: subprocess.Popen(["sleep", "600"], start_new_session=True) for job in ("slice", "client", "both")}
    yield found
    for one in found.values():
        one.kill()
        one.wait()


@pytest.fixture
def daemon(tmp_path: Path, jobs: dict[str, subprocess.Popen[bytes]]) -> Iterator[Daemon]:
    """Three GPUs: one in slices, one shared by MPS, one whole."""
    now = boot_ns()
    curves = {uuid: Curve.flat(now, round(watts * 1e6)) for uuid, watts in WATTS.items()}
    in_slices = (Mig(THREE, gi=1, slices=3), Mig(TWO, gi=2, slices=2))
    sliced = gpu(
        MIG_GPU,
        curves[MIG_GPU],
        minor=0,
        mig=True,
        instances=in_slices,
        processes=(Process(jobs["slice"].pid, gi=1, ci=0),),
    )
    clients = (Process(jobs["client"].pid, sm=60), Process(jobs["both"].pid, sm=20))
    shared = gpu(MPS_GPU, curves[MPS_GPU], minor=1, processes=clients)
    daemon = Daemon(tmp_path, (sliced, shared, gpu(WHOLE_GPU, curves[WHOLE_GPU], minor=2)))
    config = json.loads(daemon.config.read_text())
    config["node"]["idle_w"] = {f"gpu:{uuid}": watts for uuid, watts in IDLE_W.items()}
    daemon.config.write_text(json.dumps(config))
    with PowerRig(tmp_path, daemon.node):
        yield daemon
        if daemon.process is not None:
            daemon.process.kill()
            daemon.process.communicate()


def truth_w() -> dict[tuple[str, str], float]:
    """Watts by GPU and holder, from the rules alone: idle by what is held, the rest by who was busy."""
    idle, above = IDLE_W, {uuid: WATTS[uuid] - watts for uuid, watts in IDLE_W.items()}
    return {
        (MIG_GPU, "slice"): idle[MIG_GPU] * 3 / 7 + above[MIG_GPU],
        (MIG_GPU, "both"): idle[MIG_GPU] * 2 / 7,
        (MIG_GPU, "idle"): idle[MIG_GPU] * 2 / 7,
        (MPS_GPU, "client"): idle[MPS_GPU] * 0.5 + above[MPS_GPU] * 60 / 80,
        (MPS_GPU, "both"): idle[MPS_GPU] * 0.3 + above[MPS_GPU] * 20 / 80,
        (MPS_GPU, "idle"): idle[MPS_GPU] * 0.2,
        (WHOLE_GPU, "slice"): WATTS[WHOLE_GPU],
    }


def test_joules_of_each_holder_of_shared_gpus(daemon: Daemon, jobs: dict[str, subprocess.Popen[bytes]]) -> None:
    """3g of a MIG GPU and a whole one; half of a GPU by MPS; 2g that does nothing and 30 % of the MPS GPU."""
    daemon.start()
    holds = {
        "slice": {"gpu_devices": f"{THREE},{WHOLE_GPU}"},
        "client": {"gpu_devices": MPS_GPU, "gpu_percent": 50},
        "both": {"gpu_devices": f"{TWO},{MPS_GPU}", "gpu_percent": 30},
    }
    earliest_ns = 0
    for job, fields in holds.items():
        earliest_ns = boot_ns()
        daemon.mark("start", job, cpus=2, sid=jobs[job].pid, **fields)
    until(daemon.taken, "for the start marks")
    before = energies(daemon)
    latest_ns = boot_ns()
    time.sleep(SECONDS)
    least_s = (boot_ns() - latest_ns) / 1e9
    daemon.mark("end", "none-such")
    until(daemon.taken, "for the edge")
    after = energies(daemon)
    most_s = (boot_ns() - earliest_ns) / 1e9
    daemon.stop()
    daemon.check_exact(*(f"gpu:{uuid}" for uuid in WATTS))
    for (uuid, holder), watts in truth_w().items():
        mine = f"gpu:{uuid}", holder
        joules = (after.get(mine, 0) - before.get(mine, 0)) / 1e6
        print(f"{uuid[:8]} {holder:>7} true {watts * least_s:8.1f} to {watts * most_s:.1f} J  ours {joules:8.1f} J")
        # Until the driver has told of a process, its first tenths of a second go by what is held.
        slack_j = max(12, 0.05 * watts * least_s)
        assert watts * least_s - slack_j <= joules <= watts * most_s + slack_j, (uuid, holder)
    with LocalEnergy(daemon.store) as energy:
        shares = {job: energy.runs_of(job)[0][0].gpu_share for job in holds}
    expected = {"slice": (3 / 7 + 1) / 3, "client": 0.5 / 3, "both": (2 / 7 + 0.3) / 3}
    assert shares == pytest.approx(expected, abs=1e-5)


def energies(daemon: Daemon) -> dict[tuple[str, str], int]:
    """The ledger of the GPUs."""
    rows = daemon.ask("SELECT domain, holder, uj FROM ledger WHERE domain LIKE 'gpu:%'")
    return {(domain, holder): uj for domain, holder, uj in rows}
