"""`jobimpact serve`: answers users about their own jobs."""

from __future__ import annotations

import logging
import os
import signal
from importlib import import_module

from jobimpact.answers.access import WhoIs
from jobimpact.answers.local import LocalAnswers
from jobimpact.answers.remote import uid_of
from jobimpact.answers.wire import rules_of
from jobimpact.core.config import Config, config_path, load_config
from jobimpact.service.desk import Desk
from jobimpact.service.doors import Door, handed_over, open_socket, open_tcp, tell_systemd
from jobimpact.service.seal import Seal
from jobimpact.service.server import Server

__all__ = ["run"]

_LOG = logging.getLogger(__name__)
_MOST_LIVE = 100
"""Of one question: each is looked for in every node's books, or asked of the store's server."""
_ON_DEMAND = ("answers.live", "answers.period", "mirror.job", "store.reader", "store.influx", "store.victoria")


def run(config: str | None) -> int:
    """Answer until told to stop.

    Raises:
        BusyError: another service answers there.
        ConfigError: the configuration is wrong, or a socket cannot be listened on.
    """
    site = load_config(config_path(config))
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    # What answers load when they need it is of one release with the rest: an update must not come between.
    for name in _ON_DEMAND:
        import_module(f"jobimpact.{name}")
    doors = _doors(site)
    server = Server(
        doors, Desk(WhoIs(site), lambda who: LocalAnswers(site, who, _MOST_LIVE), rules_of(site)), _seal(site, doors)
    )
    signal.set_wakeup_fd(server.wake_descriptor)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    _LOG.info("answering at %s", ", ".join(door.name for door in doors))
    tell_systemd("READY=1", os.environ)
    server.serve()
    return 0


def _doors(site: Config) -> list[Door]:
    """What systemd hands over, and the rest of what the configuration asks for."""
    doors = handed_over(os.environ)
    if not any(door.local for door in doors):
        doors.append(open_socket(site.service.socket))
    if site.service.listen is not None and all(door.local for door in doors):
        doors.append(open_tcp(site.service.listen))
    return doors


def _seal(site: Config, doors: list[Door]) -> Seal | None:
    if all(door.local for door in doors):
        return None
    from jobimpact.answers.munge import Munge

    if uid_of(site.service.user) != os.geteuid():
        _LOG.warning(
            "service.user is %s, and this process runs as uid %d: it cannot open what login nodes seal for that user",
            site.service.user,
            os.geteuid(),
        )
    return Seal(Munge(site.service.munge_socket))
