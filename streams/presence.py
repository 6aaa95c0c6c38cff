"""Presence: what each worker that makes lists has folded and saved, told on the compacted topic `workers`.

Nobody needs it to work; whoever wants to know whether something has reached everybody (`freshet forget`) reads it. A worker that
has said nothing for `SILENT_MS` is gone, whatever it said last; what it said goes after a day.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from streams import clock
from streams.ingest import Outbox, Produce
from streams.replica import Positions, read_all
from streams.settings import Settings

EVERY_S: Final = 2.0
SILENT_MS: Final = 30_000
TOPIC: Final = "workers"


class Presence(Struct, frozen=True, kw_only=True):
    """One worker, as it was at `at_ms` (wall clock)."""

    name: str
    at_ms: int
    folded: list[int]
    """Next offset of each partition of `interactions` to be folded into the model."""
    saved: list[int] | None = None
    """The same, of the snapshot on the worker's disk that reaches least far; None: there is none."""
    stopped: bool = False
    """The last word of a worker that was told to stop."""

    def is_silent(self, now_ms: int) -> bool:
        """Whether the worker is gone."""
        return self.stopped or now_ms - self.at_ms > SILENT_MS


def worker_name(settings: Settings) -> str:
    """The worker's stable name, or one for as long as the process lives."""
    return settings.instance_id or f"{socket.gethostname()}-{os.getpid()}"


class Speaker:
    """Tells what this worker has folded and saved. `saved` gives the offsets of the snapshot that reaches least far."""

    def __init__(
        self, settings: Settings, produce: Produce, folded: Callable[[], Positions], saved: Callable[[], Positions | None]
    ) -> None:
        self.settings, self.produce, self._folded, self._saved = settings, produce, folded, saved
        self.name = worker_name(settings)

    async def speak(self, *, stopped: bool = False) -> None:
        """Returns when the broker has it."""
        saved = self._saved()
        presence = Presence(
            name=self.name,
            at_ms=clock.now_ms(),
            folded=self._offsets(self._folded()),
            saved=self._offsets(saved) if saved is not None else None,
            stopped=stopped,
        )
        outbox = Outbox(self.settings.partitions)
        outbox.put(TOPIC, self.name, msgspec.json.encode(presence))
        await outbox.send(self.produce)

    def _offsets(self, positions: Positions) -> list[int]:
        topic = self.settings.topic("interactions")
        return [positions.get((topic, partition), 0) for partition in range(self.settings.partitions)]


def everybody(settings: Settings) -> list[Presence]:
    """What every worker said last, by name. LookupError, TimeoutError and KafkaErrors where Kafka cannot be read."""
    said: dict[bytes, Any] = {record.key: record.value for record in read_all(settings.connection, settings.topic(TOPIC))}
    found = []
    for value in said.values():
        try:
            found.append(msgspec.json.decode(value or b"", type=Presence))
        except (msgspec.MsgspecError, RecursionError):
            continue  # not one of ours
    return sorted(found, key=lambda one: one.name)
