"""Mails in a folder, to be looked at: one `.eml` each, readable by their owner alone."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from jobimpact.core.errors import StoreError

__all__ = ["write_previews"]


def write_previews(folder: Path, cluster: str, mails: Iterable[tuple[str, bytes]]) -> list[Path]:
    """Write each mail into a file of its own, in place of those of the same cluster and of the time before.

    Args:
        folder: made if it is not there, for its owner alone.
        cluster: whose they are; no name of a cluster has an @.
        mails: key and message.

    Raises:
        StoreError: it cannot be written.
    """
    written = []
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in folder.glob(f"jobimpact-{cluster}@*.eml"):
            old.unlink()
        for key, message in mails:
            path = folder / _name(cluster, key)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
                file.write(message)
            written.append(path)
    except OSError as error:
        raise StoreError(f"{error.filename or folder}: {error.strerror}") from error
    return written


def _name(cluster: str, key: str) -> str:
    """Of letters and digits, whatever is in the key, and another for every key."""
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "-", key)[:80].strip("-.")
    return f"jobimpact-{cluster}@{plain}-{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()[:8]}.eml"
