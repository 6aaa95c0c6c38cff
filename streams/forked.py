"""Work in a copy of this process: a forked child sees memory as it was at that moment, while the parent goes on changing it.

What a child of a process with many threads may do is little: only the forking thread is in it, and a lock that another thread
held stays locked for ever. So `work` must be plain Python on what is there: no new imports, no TLS or OpenSSL, no logging, no
thread pools, no clients of anything. `Forked.done` gives up on a child that hangs all the same.

The child closes every descriptor it inherited, so that ports, locks and connections end with the parent whatever becomes of it;
leaves signals to the parent; and steps back behind it (niceness 10).
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from typing import Final

SUPPORTED: Final = sys.platform == "linux"
"""macOS has libraries that end a forked child, Windows has no fork."""
_LOOK_S: Final = 0.05
_TEXT_BYTES: Final = 2_000
_NICE: Final = 10


class ChildFailed(RuntimeError):  # noqa: N818  named by what has happened
    """The child's work raised; the text is that of its exception."""


class Forked:
    """A child at work.

    Attributes:
        pause_s: how long forking held up this process.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        """Begin. OSError: the system has no memory or place for another process."""
        read, write = os.pipe()
        began = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of threads; see the module
                self.pid = os.fork()
        except OSError:
            os.close(read)
            os.close(write)
            raise
        if self.pid == 0:
            _child(work, write)
        self.pause_s = time.perf_counter() - began
        os.close(write)
        self._read = read
        self._ended = False

    async def done(self, patience_s: float) -> None:
        """Until the work is done. Cancelled, or out of patience, it kills the child.

        Raises:
            ChildFailed: the work raised, or took longer than `patience_s`.
        """
        end = time.monotonic() + patience_s
        try:
            while (status := self._status()) is None:
                if time.monotonic() > end:
                    raise ChildFailed(f"not done after {patience_s:.0f} s")
                await asyncio.sleep(_LOOK_S)
        finally:
            self.kill()
        if status != 0:
            raise ChildFailed(self._said or f"the child ended with {status}")

    def kill(self) -> None:
        """End the child if it still runs. May be called twice."""
        if not self._ended:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._close()

    def _status(self) -> int | None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        self._said = os.read(self._read, _TEXT_BYTES).decode(errors="replace")
        self._close()
        return os.waitstatus_to_exitcode(status)

    def _close(self) -> None:
        self._ended = True
        os.close(self._read)


def _child(work: Callable[[], None], said: int) -> None:
    """Never returns."""
    code = 1
    try:
        gc.disable()  # a collection would touch, and so copy, every object there is
        signal.set_wakeup_fd(-1)  # it is a socket that the parent reads
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.closerange(3, said)
        os.closerange(said + 1, 1 << 20)
        os.nice(_NICE)
        work()
        code = 0
    except BaseException as problem:  # told to the parent
        os.write(said, f"{type(problem).__name__}: {problem}".encode(errors="replace")[:_TEXT_BYTES])
    finally:
        os._exit(code)
