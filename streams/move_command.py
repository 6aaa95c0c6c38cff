"""`freshet move`: the log into a new set of topics, with another number of partitions or beside the old one.

What cannot be made again is copied: `interactions`, `item-texts`, `items`. Every key goes to the partition that its hash says
among the new ones; the records of a key keep their order, so the same state is folded from the new log (equal digest). Lists,
item vectors and points in Qdrant are made anew from it. The old topics stay as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer
from kafka import KafkaProducer
from kafka.errors import KafkaError
from rich.console import Console
from rich.markup import escape

from streams import logs, topics
from streams.ingest import partition_of
from streams.replica import extent, read_all
from streams.settings import Settings, SettingsError
from streams.topics import INTERACTIONS, ITEM_TEXTS, ITEMS

COPIED: Final = (ITEMS, ITEM_TEXTS, INTERACTIONS)
"""The log last: whoever finds it whole finds the rest."""
DELIVERY_S: Final = 120.0
IN_FLIGHT: Final = 2_000
"""So many are sent before they are waited for."""


class MoveError(RuntimeError):
    """It cannot be done; the text says why and what to do."""


def move(old: Settings, new: Settings) -> Iterator[tuple[str, int]]:
    """Make the new topics and copy into them; each topic and its number of records, when it is done.

    Raises:
        MoveError: there is something in the new topics already, or Kafka does not take what is sent.
        TopicsError: they cannot be made.
    """
    topics.ensure(new.connection, new.topic_specs)
    _require_empty(new)
    producer = KafkaProducer(**new.connection.kafka_python())
    try:
        for name in COPIED:
            yield name, _copy(old, new, name, producer)
    except KafkaError as problem:
        raise MoveError(
            f"Kafka does not take what is sent ({problem}): delete the topics {new.topic_prefix}* and begin again"
        ) from None
    finally:
        producer.close()


def _require_empty(new: Settings) -> None:
    there = extent(new.connection, [new.topic(name) for name in COPIED])
    full = sorted({topic for (topic, partition), end in there.ends.items() if end > 0})
    if full:
        raise MoveError(f"there is something in {', '.join(full)} already: choose another prefix, or delete its topics")


def _copy(old: Settings, new: Settings, name: str, producer: Any) -> int:
    count, flying = 0, list[Any]()
    for record in read_all(old.connection, old.topic(name)):
        if record.key is None:
            continue  # somebody else wrote that: ours have keys
        flying.append(
            producer.send(
                new.topic(name),
                key=record.key,
                value=record.value,
                partition=partition_of(record.key, new.partitions),
                timestamp_ms=record.timestamp,
                headers=list(record.headers),
            )
        )
        count += 1
        if len(flying) >= IN_FLIGHT:
            _wait(flying)
    _wait(flying)
    return count


def _wait(flying: list[Any]) -> None:
    for sent in flying:
        sent.get(DELIVERY_S)
    flying.clear()


def move_command(
    to: Annotated[str, typer.Option("--to", help="prefix of the new topics, such as shop2.")],
    partitions: Annotated[
        int | None, typer.Option("--partitions", min=1, max=1000, help="of the new topics; without: as now")
    ] = None,
    bootstrap: Annotated[str | None, typer.Option("--bootstrap", help="Kafka brokers [FRESHET_BOOTSTRAP]")] = None,
) -> None:
    """Copy the log into a new set of topics, with another number of partitions. Stop the workers first (docs/operations.md)."""
    stderr = Console(stderr=True)
    try:
        old = Settings.load(os.environ, bootstrap=bootstrap)
        logs.configure(old.log_level, json=old.log_json)
        if to == old.topic_prefix:
            raise SettingsError(f"--to {to}: that is the prefix of the topics there are")
        overrides = {"topic_prefix": to, "partitions": partitions}
        new = Settings.load(os.environ, bootstrap=bootstrap, **overrides)
        out = Console()
        for name, count in move(old, new):
            out.print(f"{new.topic(name)}: {count:,} records", highlight=False)
        out.print(
            f"Start everything with FRESHET_TOPIC_PREFIX={to} FRESHET_PARTITIONS={new.partitions}, another FRESHET_APP_ID, "
            "another FRESHET_QDRANT_PREFIX and an empty FRESHET_STATE_DIR.",
            highlight=False,
            soft_wrap=True,
        )
    except SettingsError as problem:
        stderr.print(f"[red]freshet:[/red] {escape(str(problem))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None
    except (LookupError, TimeoutError, topics.TopicsError, MoveError) as problem:
        stderr.print(f"[red]freshet:[/red] {escape(str(problem))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
