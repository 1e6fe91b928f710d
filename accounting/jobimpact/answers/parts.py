"""A reply in several munge credentials: each says which request it answers and which part of how many it is."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import msgspec

from jobimpact.answers.munge import MAX_PAYLOAD
from jobimpact.core.errors import CredentialError

__all__ = ["Joined", "parts"]

_HEAD_ROOM = 1024
_LEVEL = 1


class _Head(msgspec.Struct, frozen=True):
    nonce: str
    part: int
    of: int


def parts(nonce: str, body: bytes) -> Iterator[bytes]:
    """Cut a reply into payloads.

    Args:
        nonce: the request's.
        body: of any length.
    """
    packed = zlib.compress(body, _LEVEL)
    size = MAX_PAYLOAD - _HEAD_ROOM
    of = -(-len(packed) // size)
    for part in range(of):
        head = msgspec.json.encode(_Head(nonce, part, of))
        yield head + b"\n" + packed[part * size : (part + 1) * size]


class Joined:
    """Puts a reply together again.

    Args:
        nonce: the request's.
        most: bytes of the whole reply.
    """

    def __init__(self, nonce: str, most: int) -> None:
        self._nonce = nonce
        self._most = most
        self._unpacker = zlib.decompressobj()
        self._body = bytearray()
        self._next = 0
        self._of = 1

    @property
    def whole(self) -> bool:
        """All parts are there."""
        return self._next == self._of

    @property
    def body(self) -> bytes:
        """The reply.

        Raises:
            CredentialError: its last part breaks off.
        """
        if not self._unpacker.eof:
            raise CredentialError("munge: an answer that breaks off")
        return bytes(self._body)

    def add(self, payload: bytes) -> None:
        """Take the next part.

        Raises:
            CredentialError: it is none, of another request, or not the next; or the reply is too long.
        """
        head, _, rest = payload.partition(b"\n")
        try:
            found = msgspec.json.decode(head, type=_Head)
            self._body += self._unpacker.decompress(rest, self._most - len(self._body) + 1)
        except (msgspec.MsgspecError, zlib.error) as error:
            raise CredentialError("munge: what was opened is no answer") from error
        if found.nonce != self._nonce:
            raise CredentialError("munge: an answer to another question")
        if found.part != self._next or found.of < 1 or (self._next and found.of != self._of):
            raise CredentialError("munge: the parts of an answer are not in order")
        if len(self._body) > self._most:
            raise CredentialError(f"munge: an answer of more than {self._most} bytes")
        self._next, self._of = self._next + 1, found.of
