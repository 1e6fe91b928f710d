"""300 jobs of one user in a night, a mail server that dies after the second mail, a run that is killed, and repeats.

    python -m tests.mail.night_300

prints who got what.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

import msgspec
from tests.mail.smtp_server import DEADLINE_S, OK, Server
from tests.mail.world import Site

from jobimpact.core.config import Mail
from jobimpact.mail.night import show

__all__ = ["Told", "night_of"]

JOBS = 300


class Step(msgspec.Struct):
    """One run of `jobimpact mail`."""

    what: str
    arrived: int
    """Mails that the server took the whole text of, so far."""
    states: dict[str, int]
    said: str


class Told(msgspec.Struct):
    """What it came to."""

    jobs: int
    steps: list[Step]
    arrived: int
    twice: list[str]
    """Mails that came twice."""
    lost: list[str]
    """Mails that count as sent and did not come."""
    uncertain: list[str]
    listed: list[str]
    """Those that `jobimpact mail status` lists as uncertain."""
    counts: dict[str, int]
    by_default: tuple[int, int]
    """With the default cap: how many mails it would have been, and how many jobs in the digest."""


def night_of(folder: Path, jobs: int = JOBS) -> Told:
    """Do it, with real processes, a real server and the real accounting.

    Args:
        folder: of the site.
        jobs: how many.
    """
    steps: list[Step] = []
    names: list[str] = []
    # The third mail's text comes whole, and no answer goes back: the server is gone.
    with Server(lambda what, number: "die" if (what, number) == ("DATA", 3) else OK) as dying:
        world = Site(folder, dying.port)
        for job in range(1, jobs + 1):
            world.job(str(job), joules=5000.0 + job)
        world.account().begin()
        by_default = _by_default(world)
        _, out, said = world.run("mail")
        names += dying.names
        steps.append(_step("the server dies over the third mail", world, names, out + said))
    with Server(lambda what, number: "hold" if (what, number) == ("DATA", jobs // 3) else OK) as server:
        _move(world, server.port)
        process = world.start("mail")
        if not server.held.wait(DEADLINE_S * 3):
            raise TimeoutError("that mail did not come")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        server.go.set()
        names += server.names
        steps.append(_step("a new server; the run is killed (-9) over a third of the rest", world, names, ""))
    for what in ("the run is repeated", "and once more"):
        with Server() as server:
            _move(world, server.port)
            _, out, said = world.run("mail")
            names += server.names
            steps.append(_step(what, world, names, out + said))
    rows = world.mails()
    listed = world.run("mail", "status")[1].partition("\nuncertain:\n")[2].partition("\n\n")[0]
    return Told(
        jobs=jobs,
        steps=steps,
        arrived=len(set(names)),
        twice=[name for name, count in Counter(names).items() if count > 1],
        lost=[key for key, row in rows.items() if row.state == "sent" and row.message_id not in names],
        uncertain=[key for key, row in rows.items() if row.state == "uncertain"],
        listed=sorted(line.strip() for line in listed.split("\n") if line.startswith("  job/")),
        counts=dict(Counter(row.state for row in rows.values())),
        by_default=by_default,
    )


def _by_default(world: Site) -> tuple[int, int]:
    config = world.config
    rules = msgspec.structs.replace(config.mail, per_user=Mail().per_user, digest="weekly")
    plan = show(msgspec.structs.replace(config, mail=rules), lambda: world.now_s).plan
    units = [one for one in plan.mails if one.subject.startswith("job/")]
    return sum(one.state == "planned" for one in units), sum(one.state == "digest" for one in units)


def _step(what: str, world: Site, names: list[str], said: str) -> Step:
    return Step(what, len(names), dict(Counter(row.state for row in world.mails().values())), said.strip())


def _move(world: Site, port: int) -> None:
    """The site's mail server is at another port now."""
    lines = world.config_file.read_text().split("\n")
    world.config_file.write_text("\n".join(f"    port: {port}" if "    port:" in line else line for line in lines))


def main() -> int:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        told = night_of(Path(folder))
    print(f"{told.jobs} jobs of alice in one night, without a cap")
    print(f"(by default: {told.by_default[0]} mails, and {told.by_default[1]} jobs in the digest)\n")
    states = ("sent", "uncertain", "planned", "sending")
    print(f"{'':<66} {'arrived':>8}" + "".join(f"{state:>11}" for state in states))
    for step in told.steps:
        print(f"{step.what:<66} {step.arrived:>8}" + "".join(f"{step.states.get(state, 0):>11}" for state in states))
    print(f"\ncame twice: {len(told.twice)}; sent and lost: {len(told.lost)}")
    print(f"uncertain, as `jobimpact mail status` lists them: {', '.join(told.listed)}")
    print(f"both of these had arrived: {'yes' if told.arrived == told.jobs else 'no'}; nobody could know")
    return 0 if not told.twice and not told.lost else 1


if __name__ == "__main__":
    sys.exit(main())
