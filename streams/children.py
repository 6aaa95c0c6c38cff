"""Processes of ours as children of one that looks after them: a session and a log file each, ended in good order, never left
behind."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_GUARD: Final = """
IFS= read -r _ && exit 0          # a line: ended in good order; end of file: the parent is gone
kill -TERM "$1" 2>/dev/null || exit 0
for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 1; kill -0 "$1" 2>/dev/null || exit 0; done
kill -KILL "$1"
"""
_TAIL_BYTES: Final = 16_384


class Child:
    """`freshet <arguments>` as a process. `environment` is all it sees.

    It has a session of its own, so that Ctrl-C in the terminal reaches the parent alone, which then decides the order of
    stopping. Should the parent die without a chance to stop it, a guard (`sh` at the other end of a pipe) ends it.
    """

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name, self.log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            self.process = subprocess.Popen(  # noqa: S603  this interpreter, our own module
                [sys.executable, "-m", "streams.cli", *arguments],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._guard = subprocess.Popen(  # noqa: S603  the script above
            ["/bin/sh", "-c", _GUARD, "freshet-guard", str(self.process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def code(self) -> int | None:
        """The exit code (minus the signal that ended it), None while it runs."""
        return self.process.poll()

    def stop(self, patience_s: float) -> int:
        """Ask it to end and wait; killed after `patience_s`. The exit code."""
        if self.code is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(patience_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._dismiss_guard()
        return self.process.returncode

    def tail(self, lines: int = 12) -> str:
        """The end of its log."""
        try:
            with self.log.open("rb") as stream:
                stream.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
                text = stream.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _dismiss_guard(self) -> None:
        assert self._guard.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            if not self._guard.stdin.closed:
                self._guard.stdin.write(b"\n")
                self._guard.stdin.close()
        self._guard.wait()
