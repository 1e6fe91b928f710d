"""Munge by its C library: what a user says is sealed by their host's munge daemon, and another host's opens it.

A credential's cipher and MAC are made with the key that all hosts of the site share; only the user whom it is
restricted to can have it opened.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_long, c_uint32, c_void_p
from functools import cache

import msgspec

from jobimpact.core.errors import ConfigError, CredentialError

__all__ = ["MAX_PAYLOAD", "Munge", "Opened", "stale_trouble"]

MAX_PAYLOAD = 512 << 10
"""Bytes in one credential: munge takes messages of 1 MiB, and base64 makes four bytes of three."""

_CIPHER, _ENCODED, _DECODED, _SOCKET, _UID = 0, 6, 7, 8, 9
_NO_CIPHER, _AES128 = 0, 4
_STALE = {15: "expired", 16: "rewound", 17: "replayed"}
"""Of these munge tells who made them, and what is in them, none the less."""
_INVALID = 14
_ANYBODY = 0xFFFFFFFF


class Opened(msgspec.Struct, frozen=True):
    """What was in a credential."""

    uid: int
    """Who made it."""
    payload: bytes
    stale: str | None
    """`expired`, `rewound` (made in the future) or `replayed`; None: it is good."""
    ahead_s: int
    """By how much the clock of the host where it was made is ahead of this one's, the way between them included."""


class Munge:
    """The munge daemon of this host.

    Args:
        socket: its socket; None: libmunge's own.

    Raises:
        ConfigError: libmunge is not installed.
    """

    def __init__(self, socket: str | None = None) -> None:
        self._library = _load()
        self._socket = None if socket is None else socket.encode()

    def seal(self, payload: bytes, uid: int) -> bytes:
        """Make a credential that one user alone can have opened.

        Args:
            payload: at most `MAX_PAYLOAD` bytes.
            uid: of that user.

        Raises:
            CredentialError: munge does not make it.
        """
        if uid == _ANYBODY:
            raise CredentialError("munge: a credential for nobody in particular is not made")
        library = self._library
        context = self._context()
        sealed = c_void_p()
        try:
            library.munge_ctx_set(context, _CIPHER, c_int(_AES128))
            library.munge_ctx_set(context, _UID, c_uint32(uid))
            status = library.munge_encode(byref(sealed), context, payload, len(payload))
            if status:
                raise CredentialError(f"munge: {self._words(context, status)}")
            return ctypes.string_at(sealed)
        finally:
            library.free(sealed)
            library.munge_ctx_destroy(context)

    def open(self, credential: bytes) -> Opened:
        """Open a credential.

        Raises:
            CredentialError: it is none, it is not of this realm, it is for another user, it is not encrypted, or munge
                is not there.
        """
        library = self._library
        context = self._context()
        payload, length, uid, gid = c_void_p(), c_int(), c_uint32(), c_uint32()
        try:
            status = library.munge_decode(credential, context, byref(payload), byref(length), byref(uid), byref(gid))
            if status and status not in _STALE:
                more = " (made with another key?)" if status == _INVALID else ""
                raise CredentialError(f"munge: {self._words(context, status)}{more}")
            if self._get(context, _CIPHER, c_int()) == _NO_CIPHER:
                raise CredentialError("munge: a credential that is not encrypted is not taken")
            ahead_s = self._get(context, _ENCODED, c_long()) - self._get(context, _DECODED, c_long())
            found = ctypes.string_at(payload, length.value) if payload else b""
            return Opened(uid.value, found, _STALE.get(status), ahead_s)
        finally:
            library.free(payload)
            library.munge_ctx_destroy(context)

    def _context(self) -> c_void_p:
        # One for each credential: opening one changes it, and none may be shared by threads.
        context = c_void_p(self._library.munge_ctx_create())
        if not context:
            raise CredentialError("munge: out of memory")
        if self._socket is not None:
            self._library.munge_ctx_set(context, _SOCKET, c_char_p(self._socket))
        return context

    def _get(self, context: c_void_p, option: int, room: c_int | c_long) -> int:
        if self._library.munge_ctx_get(context, option, byref(room)):
            raise CredentialError("munge: its library does not tell how a credential was made")
        return int(room.value)

    def _words(self, context: c_void_p, status: int) -> str:
        said = self._library.munge_ctx_strerror(context) or self._library.munge_strerror(status) or b"?"
        return "".join(char if char.isprintable() else "?" for char in said.decode(errors="replace"))


def stale_trouble(opened: Opened, here: str, there: str) -> str:
    """What is wrong with a stale credential, in words.

    Args:
        opened: it is `expired`, `rewound` or `replayed`.
        here: what this host is called.
        there: what the host is called where it was made.
    """
    if opened.stale == "replayed":
        return f"munge: {here} has had this message before: somebody repeats what they heard"
    side = "ahead of" if opened.ahead_s > 0 else "behind"
    return f"munge: the clock of {there} is {abs(opened.ahead_s)} s {side} that of {here}"


@cache
def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libmunge.so.2")
    except OSError as error:
        raise ConfigError("service: munge is needed, and libmunge.so.2 is not installed on this host") from error
    library.munge_ctx_create.restype = c_void_p
    library.munge_ctx_destroy.restype = None
    library.munge_ctx_destroy.argtypes = [c_void_p]
    for name in ("munge_ctx_strerror", "munge_strerror"):
        getattr(library, name).restype = c_char_p
    library.munge_ctx_strerror.argtypes = [c_void_p]
    library.munge_encode.argtypes = [POINTER(c_void_p), c_void_p, c_char_p, c_int]
    library.munge_decode.argtypes = [
        *(c_char_p, c_void_p, POINTER(c_void_p), POINTER(c_int), POINTER(c_uint32), POINTER(c_uint32)),
    ]
    library.free.restype = None  # libc's, which it is linked with
    library.free.argtypes = [c_void_p]
    return library
