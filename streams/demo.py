"""`freshet demo`: Kafka, a worker with all roles and a simulated shop (or real events from a file), live in the terminal."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape

from streams.convert import EventFileError
from streams.demo_expected import Expected
from streams.demo_run import Plan, Run
from streams.settings import Settings

RATE: Final = 200.0


def demo(
    settings: Settings,
    *,
    seconds: float | None = None,
    rate: float | None = None,
    seed: int = 7,
    events: Path | None = None,
    state_dir: Path | None = None,
) -> int:
    """Run until `seconds` have passed in the shop, the file is through, or Ctrl-C; the exit code.

    `rate` is in events per second (None: 200 from the shop, a file as fast as it goes). Without `state_dir` everything is kept in
    a temporary folder, which is removed if all went well. 0: the flow worked, or Ctrl-C ended it; 1: it did not; 2: wrong
    arguments.
    """
    errors = Console(stderr=True)
    try:
        _check(seconds, rate, events, state_dir)
        expected = Expected.of(events) if events is not None else None
        if expected is not None:
            _check_fits(settings, expected)
    except (ValueError, EventFileError, OSError) as problem:
        errors.print(f"[red]freshet:[/red] {escape(str(problem))}", highlight=False, soft_wrap=True)
        return 2
    folder = state_dir if state_dir is not None else Path(tempfile.mkdtemp(prefix="freshet-demo-"))
    plan = Plan(folder=folder.absolute(), seconds=seconds, rate=rate or (None if events else RATE), seed=seed, file=events)
    with _signals_as_interrupt():
        failures = Run(settings, plan, expected, Console()).run()
    for failure in failures:
        errors.print(f"[red]freshet:[/red] {escape(failure)}", highlight=False, soft_wrap=True)
    if failures:
        errors.print(
            f"The logs are in {folder.absolute() / 'logs'} and {folder.absolute() / 'kafka'}", highlight=False, soft_wrap=True
        )
    elif state_dir is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if failures else 0


def _check(seconds: float | None, rate: float | None, events: Path | None, state_dir: Path | None) -> None:
    """ValueError for arguments that make no run."""
    if (seconds is not None and not seconds > 0) or (rate is not None and not rate > 0):
        raise ValueError("--for and --rate must be above 0")
    if events is not None and seconds is not None:
        raise ValueError("--events ends when the file is through: leave out --for")
    if state_dir is not None and state_dir.exists() and not state_dir.is_dir():
        raise ValueError(f"--state-dir {state_dir} is not a folder")
    if events is not None and state_dir is not None and state_dir.exists() and any(state_dir.iterdir()):
        raise ValueError(f"--events is checked against the file and needs a fresh --state-dir: {state_dir} is not empty")


def _check_fits(settings: Settings, expected: Expected) -> None:
    """ValueError where the texts are more than an embedded Qdrant holds (points of reviews and of items together)."""
    texts = expected.points + expected.events["items"]
    if texts > settings.qdrant_local_points:
        raise ValueError(
            f"the file holds {texts:,} texts, an embedded Qdrant at most {settings.qdrant_local_points:,} points: "
            "publish it with freshet replay into a flow with a Qdrant server (FRESHET_QDRANT_URL)"
        )


@contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does, and so does SIGINT where a shell started us with it ignored (only the main
    thread may set handlers)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
