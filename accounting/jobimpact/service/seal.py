"""The service's side of munge: what a login node sealed is opened, and its answer sealed for whoever asked."""

from __future__ import annotations

import msgspec

from jobimpact.answers.munge import Munge, stale_trouble
from jobimpact.answers.parts import parts
from jobimpact.core.errors import CredentialError

__all__ = ["Asked", "Seal"]

_HERE, _THERE = "the accounting host", "the host that asks"


class _Nonce(msgspec.Struct, frozen=True):
    nonce: str


class Asked(msgspec.Struct, frozen=True):
    """A request that munge has opened."""

    uid: int
    """Who asks."""
    body: bytes
    nonce: str
    stale: str | None
    """Why it is not answered, in a sentence."""


class Seal:
    """Opens requests and seals replies.

    Args:
        munge: this host's daemon.
    """

    def __init__(self, munge: Munge) -> None:
        self._munge = munge

    def open(self, credential: bytes) -> Asked:
        """Open a request.

        Raises:
            CredentialError: nobody can be told from it.
        """
        if b"\0" in credential:
            raise CredentialError("not a munge credential")
        found = self._munge.open(credential)
        try:
            nonce = msgspec.json.decode(found.payload, type=_Nonce).nonce
        except (msgspec.MsgspecError, RecursionError) as error:
            raise CredentialError("munge: a credential that was not made for this service") from error
        stale = stale_trouble(found, _HERE, _THERE) if found.stale else None
        if not 16 <= len(nonce) <= 64:
            raise CredentialError("munge: a credential that was not made for this service")
        return Asked(found.uid, found.payload, nonce, stale)

    def close(self, asked: Asked, body: bytes) -> list[bytes]:
        """Seal a reply for whoever asked.

        Returns:
            Credentials, in order.

        Raises:
            CredentialError: munge does not make them.
        """
        return [self._munge.seal(one, asked.uid) for one in parts(asked.nonce, body)]
