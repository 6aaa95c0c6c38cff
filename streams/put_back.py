"""Dead letters, put back where they came from: for messages that were good after all (a limit was raised, a clock was mended), or
that have been mended.

Only what would be accepted now is sent, under its own key, to the input topic it came from; everything else stays a dead letter
and is counted with the reason. What was put back before may be put back again: an event that is known changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaError
from msgspec import Struct, field

from models import events
from models.events import INPUTS, Refusal
from streams import clock
from streams.dead_letters import DeadLetter
from streams.ingest import decode_item
from streams.settings import Settings

DELIVERY_S: Final = 60.0
IN_FLIGHT: Final = 1_000
"""So many are sent before they are waited for."""


class PutBackError(RuntimeError):
    """It cannot go on; the text says why, and how many have been put back."""


class Outcome(Struct):
    """What became of the letters: `sent` by topic, `left` by why (a reason of `models.events.Reason`, or one of ours)."""

    sent: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)


def wanted(letters: Iterable[DeadLetter], *, reason: str | None, topic: str | None, since_ms: int | None) -> Iterator[DeadLetter]:
    """Those with this reason, of this input topic (as its source names it), refused since then; None: all."""
    for letter in letters:
        if (
            (reason is None or letter.reason == reason)
            and (topic is None or letter.source_topic == topic)
            and (since_ms is None or letter.timestamp_ms >= since_ms)
        ):
            yield letter


def from_file(lines: Iterable[bytes]) -> Iterator[DeadLetter]:
    """Letters as `freshet dead-letters --json` writes them, mended meanwhile. PutBackError names a line that is none."""
    decode = msgspec.json.Decoder(DeadLetter).decode
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield decode(line)
        except msgspec.MsgspecError as problem:
            raise PutBackError(f"line {number} is not a letter as `freshet dead-letters --json` writes it: {problem}") from None


def put_back(settings: Settings, letters: Iterable[DeadLetter], *, dry_run: bool = False) -> Outcome:
    """Send those that would be accepted now; with `dry_run` only say which. Holds at most `IN_FLIGHT` letters.

    Raises:
        PutBackError: Kafka does not take them.
    """
    outcome, flying = Outcome(), list[Any]()
    topics = {settings.topic(name): name for name in INPUTS}
    producer = None if dry_run else KafkaProducer(**settings.connection.kafka_python())
    try:
        for letter in letters:
            name = topics.get(letter.source_topic or "")
            why = "unknown_origin" if name is None else _why_not(settings, name, letter)
            if name is None or why is not None:
                outcome.left[why or "unknown_origin"] += 1
                continue
            if producer is not None:
                flying.append(_send(settings, producer, letter))
            outcome.sent[name] += 1
            if len(flying) >= IN_FLIGHT:
                _wait(flying)
        _wait(flying)
    except KafkaError as problem:
        done = outcome.sent.total() - len(flying)
        raise PutBackError(
            f"Kafka does not take them ({problem}); {done} are surely put back. Run it again: twice is harmless"
        ) from None
    finally:
        if producer is not None:
            producer.close()
    return outcome


def _why_not(settings: Settings, topic: str, letter: DeadLetter) -> str | None:
    """Why the letter cannot be put back; None where it would be accepted now."""
    if letter.truncated is not None or letter.key_truncated is not None:
        return "truncated"
    now = clock.now_ms()
    found: object
    if topic == "items":
        found = decode_item(letter.key, letter.value, now, settings.limits)
    else:
        found = events.decode(topic, letter.value, now_ms=now, limits=settings.limits)
    return found.reason.value if isinstance(found, Refusal) else None


def _send(settings: Settings, producer: Any, letter: DeadLetter) -> Any:
    """To the partition it came from, as the platform chose it, if there is such a one; else by its key."""
    partition = letter.source_partition if (letter.source_partition or 0) < settings.partitions else None
    origin = [("put-back-from", b"%d/%d" % (letter.partition, letter.offset))]
    return producer.send(letter.source_topic, key=letter.key, value=letter.value, partition=partition, headers=origin)


def _wait(flying: list[Any]) -> None:
    while flying:
        flying[-1].get(DELIVERY_S)
        flying.pop()


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a file, or of standard input for `-`. PutBackError where it cannot be read."""
    if str(path) == "-":
        import sys

        yield from sys.stdin.buffer
        return
    try:
        with path.open("rb") as stream:
            yield from stream
    except OSError as problem:
        raise PutBackError(f"{path}: {problem.strerror}") from None
