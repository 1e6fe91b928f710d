"""`jobimpact inventory probe`: a draft of this machine's entry in the inventory."""

from __future__ import annotations

from jobimpact.core.config import Config, config_path, load_config
from jobimpact.probe.draft import draft

__all__ = ["run"]


def run(config: str | None) -> int:
    """Print the draft, as YAML.

    Args:
        config: the configuration as given; without, the default one, if it is there.

    Returns:
        0, also where little is found: each gap says why.

    Raises:
        ConfigError: the configuration is wrong, or a given one is not there.
    """
    print(draft(_site(config).node), end="")
    return 0


def _site(given: str | None) -> Config:
    path = config_path(given)
    if given is None:
        try:
            path.stat()
        except FileNotFoundError:
            return Config()
        except OSError:
            pass  # load_config says why it may not be read
    return load_config(path)
