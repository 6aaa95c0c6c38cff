"""The other end of `freshet evaluate --stdio`: a recommender in a process of its own, asked and taught in lock-step.

Nothing can leak: the process has only been told what it was asked and what is over. It is started with the settings given here
and without any `FRESHET_*` of the environment, so that it is what a stranger would measure.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final

import msgspec

from models import Config
from models.evaluation.prequential import FUSED, Query
from models.events import Event, Item, ItemVector, Purchase, Review, ReviewVector
from streams.settings import PREFIX

GOODBYE_S: Final = 60.0
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class LockstepError(RuntimeError):
    """The recommender ended, or did not answer what it was asked."""


class LockstepProcess:
    """A `Subject` (see `models.evaluation.prequential`) that has nothing but the fused list. To be used in a `with` block."""

    def __init__(self, config: Config, *, text: bool) -> None:
        command = [sys.executable, "-m", "streams.cli", "evaluate", "--stdio", *arguments(config, text=text)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        self._process = subprocess.Popen(  # noqa: S603  our own program
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._into, self._from = self._process.stdin, self._process.stdout

    def __enter__(self) -> LockstepProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._into.close()
        try:
            self._process.wait(GOODBYE_S if kind is None else 5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._from.close()

    # -------------------------------------------------------------------------------------------- as a subject
    def lists(self, query: Query, n: int) -> Mapping[str, Sequence[str]]:
        question = {
            "op": "recommend", "n": n, "event_id": query.event_id, "type": query.kind, "user_id": query.user_id,
            "session_id": query.session_id, "timestamp": query.timestamp_ms / 1000, "context": query.context,
        }  # fmt: skip
        self._say(question, now=True)
        while line := self._from.readline():
            answer = _decode(line)
            if answer.get("event_id") == query.event_id:
                return {FUSED: answer["items"]}
        raise LockstepError(f"the recommender ended before it answered {query.event_id}")

    def predict(self, user_id: str, item_id: str) -> float | None:
        """The protocol does not ask for ratings."""
        return None

    def learn(self, event: Event | Item | ItemVector | ReviewVector) -> None:
        """Texts go along with the event; the process makes its own vectors of them."""
        if not isinstance(event, ItemVector | ReviewVector):
            self._say({"op": "learn", "event": told(event)})

    def _say(self, message: dict[str, Any], *, now: bool = False) -> None:
        try:
            self._into.write(_encode(message) + b"\n")
            if now:
                self._into.flush()
        except BrokenPipeError:
            raise LockstepError("the recommender ended") from None


def told(event: Event | Item) -> dict[str, Any]:
    """An event in the words of the protocol (`timestamp` in seconds, `type`)."""
    if isinstance(event, Item):
        return {"type": "item", "item_id": event.item_id, "title": event.title, "description": event.description,
                "categories": event.categories, "available": event.available}  # fmt: skip
    row: dict[str, Any] = {
        "type": type(event).__name__.lower(), "event_id": event.event_id, "user_id": event.user_id, "item_id": event.item_id,
        "timestamp": event.timestamp_ms / 1000, "session_id": event.session_id, "context": event.context,
        "retracts": event.retracts,
    }  # fmt: skip
    if isinstance(event, Review):
        row |= {"rating": event.rating, "text": event.text, "title": event.title}
    elif isinstance(event, Purchase):
        row["quantity"] = event.quantity
    return row


def arguments(config: Config, *, text: bool) -> list[str]:
    """The command line that makes `freshet evaluate` run with this configuration: what differs from the defaults."""
    said = [] if text else ["--no-text"]
    for field in msgspec.structs.fields(Config):
        value = getattr(config, field.name)
        if value != field.default:
            written = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            said += ["--set", f"{field.name}={written}"]
    return said
