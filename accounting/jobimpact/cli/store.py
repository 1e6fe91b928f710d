"""`jobimpact store init` and `jobimpact store check`."""

from __future__ import annotations

import time

from jobimpact.core.config import config_path, load_config

__all__ = ["run"]

LEFT = 1


def run(what: str, given: str | None) -> int:
    """Set the store's server up, or say how it does.

    Args:
        what: `init` or `check`.
        given: the configuration's file.

    Returns:
        0, or 1 where something is left for a person to do.

    Raises:
        ConfigError: of the configuration or its secrets.
        StoreError: the server cannot be reached, or is another than the configuration says.
    """
    config = load_config(config_path(given))
    server = config.store.server
    if server is None:
        print(f"store: local, in {config.store.folder}: nothing is to be done")
        return 0
    from jobimpact.store import setup

    report = setup.init(server) if what == "init" else setup.check(server, int(time.time() * 1000))
    print(report.title)
    width = max((len(one.name) for one in report.lines), default=0)
    for one in report.lines:
        print(f"{' ' if one.fine else '!'} {one.name:<{width}}  {one.text}")
    if report.commands:
        print("\nTo be run by who may:")
        for command in report.commands:
            print(f"  {command}")
    return 0 if report.fine else LEFT
