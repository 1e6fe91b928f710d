"""What admins are told, and only when something is wrong: the night, silent nodes, the server, mails."""

from __future__ import annotations

import html
import sqlite3
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime

import msgspec

from jobimpact.core.config import Config
from jobimpact.core.errors import ConfigError, StoreError
from jobimpact.core.nodefile import node_file
from jobimpact.energy.local import LocalEnergy
from jobimpact.mail.policy import Skipped
from jobimpact.report.mail_body import MailBody
from jobimpact.report.text import clean
from jobimpact.results.mailing import MailRow

__all__ = ["Health", "health_mail", "late_days", "silent_nodes", "store_troubles"]

SILENT_S = 3600.0
GONE_S = 7 * 86400.0
"""A node that has been silent for longer is not there any more: it is told for a week."""
LATE_DAYS = 2
MOST = 20


class Health(msgspec.Struct, frozen=True):
    """What is wrong. All empty: nothing is."""

    night: tuple[str, ...] = ()
    """Problems of the accounting."""
    stopped: tuple[str, ...] = ()
    """Why users got no mail tonight, or not all."""
    nodes: tuple[str, ...] = ()
    store: tuple[str, ...] = ()
    """Of the time-series server, and what is not yet in it."""
    mails: tuple[MailRow, ...] = ()
    """Uncertain or failed, and not told yet."""
    nowhere: tuple[Skipped, ...] = ()
    """Users whose address is not known: told with the rest, and no reason for a mail."""

    @property
    def parts(self) -> list[tuple[str, str, list[str]]]:
        """Title, advice and lines of what is wrong."""
        uncertain = [_line(row) for row in self.mails if row.state == "uncertain"]
        failed = [_line(row) for row in self.mails if row.state == "failed"]
        resend = "Look whether it arrived. If it did not: jobimpact mail resend KEY."
        found = [
            ("The night's accounting", "", list(self.night)),
            ("Mails did not go to users", "They wait, and go when this is mended.", list(self.stopped)),
            ("Nodes are silent", "Their daemon does not run, or cannot write.", list(self.nodes)),
            ("The time-series server", "See jobimpact store check.", list(self.store)),
            ("Mails that may or may not have arrived", resend, uncertain),
            ("Mails that were refused for good", "With the server's words.", failed),
        ]
        return [part for part in found if part[2]]

    @property
    def fine(self) -> bool:
        """Nothing is wrong."""
        return not self.parts


def health_mail(health: Health, cluster: str, at_s: float) -> MailBody:
    """What is wrong, in words."""
    parts = health.parts
    if health.nowhere:
        each = {f"{one.user}: {one.why}": None for one in health.nowhere}
        parts.append(("Users without an address", "They got no mail. See mail.addresses.", list(each)))
    when = f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M} UTC"
    titles = "; ".join(title.lower() if at else title for at, (title, _, _) in enumerate(parts[:3]))
    subject = f"jobimpact on {clean(cluster)}: {titles}"
    text = [f"{clean(cluster)}, {when}: something is wrong.", ""]
    page = [f"<p>{html.escape(clean(cluster))}, {when}: something is wrong.</p>"]
    for title, advice, lines in parts:
        text += [title, *textwrap.wrap(advice, 78)]
        page.append(f"<h2>{html.escape(title)}</h2><p>{html.escape(advice)}</p><ul>")
        for line in _bounded(lines):
            text += textwrap.wrap(line, 78, initial_indent="  - ", subsequent_indent="    ")
            page.append(f"<li>{html.escape(line)}</li>")
        text.append("")
        page.append("</ul>")
    text.append("No such mail comes from a night on which all is well.")
    page.append("<p>No such mail comes from a night on which all is well.</p>")
    head = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>jobimpact</title></head><body>'
    return MailBody(subject, "\n".join(text) + "\n", f"{head}{''.join(page)}</body></html>\n")


def _line(row: MailRow) -> str:
    name = f" ({row.message_id})" if row.message_id else ""
    return f"{row.subject} to {row.address}{name}: {row.why or 'no word why'}"


def _bounded(lines: Sequence[str]) -> Iterator[str]:
    for line in lines[:MOST]:
        yield textwrap.shorten(clean(line), 400, placeholder="...") or "-"
    if len(lines) > MOST:
        yield f"and {len(lines) - MOST} more"


def silent_nodes(config: Config, now_s: float) -> list[str]:
    """Nodes whose own file has no new point: of the store `local` alone, a server is asked for its own."""
    if config.store.server is not None:
        return []
    found = []
    folder = config.store.folder
    try:
        with LocalEnergy(folder) as energy:
            nodes = energy.nodes()
    except StoreError as error:
        return [str(error)]
    for node in nodes:
        last_s = None
        with suppress(sqlite3.Error), closing(_opened(str(node_file(folder, node).resolve().as_uri()))) as db:
            last_s = db.execute(_LAST).fetchone()[0]
        if last_s is not None and SILENT_S < now_s - last_s < GONE_S:
            found.append(f"{node}: nothing since {datetime.fromtimestamp(last_s, UTC):%Y-%m-%d %H:%M} UTC")
    return found


_LAST = "SELECT max((SELECT max(wall_s) FROM node_power WHERE domain = name)) FROM domain"


def _opened(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=5.0)


def store_troubles(config: Config, now_s: float) -> list[str]:
    """What the time-series server's own check finds; empty where there is none."""
    server = config.store.server
    if server is None:
        return []
    from jobimpact.store import setup  # only where there is a server

    try:
        report = setup.check(server, int(now_s * 1000))
    except (StoreError, ConfigError) as error:
        return [str(error)]
    return [f"{line.name}: {line.text}" for line in report.lines if not line.fine]


def late_days(days: Sequence[int], now_s: float) -> list[str]:
    """Days that should long be in the time-series server.

    Args:
        days: that are not there yet, by their midnights.
        now_s: the time, epoch seconds.
    """
    late = [day for day in days if day + (LATE_DAYS + 1) * 86400 < now_s]
    if not late:
        return []
    return [f"{len(late)} days are not published yet, the first is {datetime.fromtimestamp(min(late), UTC):%Y-%m-%d}"]
