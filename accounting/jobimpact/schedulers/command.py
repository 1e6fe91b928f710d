"""A scheduler's own command: its output as it comes, with an end to waiting and its own words when it fails."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import IO

from jobimpact.core.errors import SchedulerError

__all__ = ["Command"]

CHUNK = 1 << 18
SAID_BYTES = 1 << 16


class Command:
    """One run of a program found on PATH; `said` is what it wrote to stderr, once it has ended.

    Args:
        argv: the program and its arguments.
        environment: the whole of it.
        timeout_s: seconds to wait for the program, all waits together; what is done between them does not count.
    """

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], timeout_s: float) -> None:
        self.said = ""
        self._argv = argv
        self._environment = environment
        self._timeout_s = timeout_s
        self._left_s = timeout_s

    def chunks(self) -> Iterator[bytes]:
        """Its output, in pieces; whoever stops reading ends it.

        Raises:
            SchedulerError: it is not there, it failed (with what it said), or it did not answer in time.
        """
        # Its errors go to a file: a pipe that nobody reads in time would stop it.
        with tempfile.TemporaryFile() as words:
            process = self._start(words)
            try:
                yield from self._read(process)
                status = self._end(process)
            except BaseException:
                # Not reaped yet, so its number is nobody else's.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
            finally:
                process.wait()
            words.seek(0)
            self.said = " ".join(words.read(SAID_BYTES).decode(errors="replace").split())
        if status != 0:
            raise SchedulerError(f"{self._argv[0]}: exit {status}: {self.said or 'no word why':.500}")

    def text(self) -> str:
        """All of its output.

        Raises:
            SchedulerError: as for `chunks`.
        """
        return b"".join(self.chunks()).decode(errors="replace")

    def _start(self, words: IO[bytes]) -> subprocess.Popen[bytes]:
        try:
            # A session of its own: what a wrapper has started ends with it.
            return subprocess.Popen(
                self._argv,
                bufsize=0,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=words,
                env=self._environment,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise SchedulerError(f"{self._argv[0]}: not found on PATH") from error
        except OSError as error:
            raise SchedulerError(f"{self._argv[0]}: {error.strerror}") from error

    def _read(self, process: subprocess.Popen[bytes]) -> Iterator[bytes]:
        if process.stdout is None:
            return
        poll = select.poll()
        with process.stdout as output:
            poll.register(output, select.POLLIN)
            while True:
                begun = time.monotonic()
                ready = poll.poll(max(self._left_s, 0) * 1000)
                self._left_s -= time.monotonic() - begun
                if not ready:
                    raise self._too_late()
                chunk = output.read(CHUNK)
                if not chunk:
                    return
                yield chunk

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        try:
            return process.wait(max(self._left_s, 0.1))
        except subprocess.TimeoutExpired as error:
            raise self._too_late() from error

    def _too_late(self) -> SchedulerError:
        return SchedulerError(f"{self._argv[0]}: no answer within {self._timeout_s:g} s")
