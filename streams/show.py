"""`freshet recommendations`: a user's list from the output topic, with scores, shares of the sources, and reasons in words."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from aiokafka.partitioner import murmur2
from kafka import TopicPartition
from kafka.errors import KafkaError
from msgspec.structs import replace
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models import explain
from models.events import POPULAR, RecommendationList, Recommended
from streams.settings import Settings
from streams.tail import POLL_MS, TailError, consumer, newest, partitions

SOURCES: Final = 3  # of each item, the weightiest; all of them are in the JSON
REASONS: Final = 2
_decode = msgspec.json.Decoder(RecommendationList).decode


def show(settings: Settings, user: str, *, follow: bool = False, as_json: bool = False) -> int:
    """Print the newest list of `user` (or `@popular`); with `follow`, every change until Ctrl-C. The exit code.

    0: printed, 1: there is no list, or Kafka cannot be read.
    """
    errors, out = Console(stderr=True), Console()
    try:
        return _show(settings, user, follow, as_json, out, errors)
    except (TailError, KafkaError) as problem:
        errors.print(f"[red]freshet:[/red] {escape(str(problem))}", highlight=False)
        return 1
    except KeyboardInterrupt:
        return 0


def _show(settings: Settings, user: str, follow: bool, as_json: bool, out: Console, errors: Console) -> int:
    key = user.encode(errors="surrogateescape")
    client = consumer(settings.connection)
    try:
        found = partitions(client, settings.topic("recommendations"))
        partition = found[(murmur2(key) & 0x7FFFFFFF) % len(found)]
        record = newest(client, partition, key)
        if record is not None and record.value is not None:
            _print(record, None, as_json, out)
        elif not follow:
            hint = "" if user == POPULAR else " --user @popular shows the list for strangers."
            errors.print(f"There is no list for {escape(user)}.{hint}", highlight=False)
            return 1
        if follow:
            _follow(client, partition, key, record, as_json, out)
        return 0
    finally:
        client.close()


def _follow(client: Any, partition: TopicPartition, key: bytes, record: Any | None, as_json: bool, out: Console) -> None:
    """Print every further list of a key, for ever."""
    client.assign([partition])
    if record is not None:
        client.seek(partition, record.offset + 1)
    else:
        client.seek_to_beginning(partition)
    before = record
    for later in _records(client):
        if later.key != key:
            continue
        if later.value is None:
            out.print(f"{time.strftime('%H:%M:%S')} the list was taken back", highlight=False)
        else:
            _print(later, before, as_json, out)
        before = later


def _records(client: Any) -> Iterator[Any]:
    while True:
        for records in client.poll(timeout_ms=POLL_MS).values():
            yield from records


def _print(record: Any, before: Any | None, as_json: bool, out: Console) -> None:
    if as_json:
        out.print(record.value.decode(), highlight=False, soft_wrap=True, markup=False)
        return
    try:
        new = _decode(record.value)
        old = _decode(before.value) if before is not None and before.value is not None else None
    except (msgspec.MsgspecError, RecursionError, ValueError) as problem:
        raise TailError(f"what lies on {record.topic} at {record.partition}/{record.offset} is no list: {problem}") from problem
    out.print(list_table(new, {}, old))


# ------------------------------------------------------------------------------------------------ how a list looks
def list_table(shown: RecommendationList, titles: Mapping[str, str], before: RecommendationList | None = None) -> Table:
    """A list as a table. `titles` gives items their names where they are known; what was not in `before` is marked."""
    old = {item.item_id for item in before.items} if before is not None else {item.item_id for item in shown.items}
    whose = "strangers" if shown.user_id == POPULAR else escape(shown.user_id)
    made = time.strftime("%H:%M:%S", time.localtime(shown.generated_at_ms / 1000))
    title = f"for {whose}, made at {made}, list {escape(shown.list_id[:12])}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("", justify="right")
    table.add_column("item", overflow="fold")
    table.add_column("score", justify="right")
    table.add_column("sources", overflow="fold")
    table.add_column("because", overflow="fold", ratio=1)
    for item in shown.items:
        mark = "" if item.item_id in old else "[green]new[/green] "
        name = escape(name_of(item.item_id, titles))
        table.add_row(str(item.rank), mark + name, f"{item.score:.3f}", _shares(item), escape(_because(item, titles)))
    if not shown.items:
        table.add_row("", "nothing to recommend yet", "", "", "")
    return table


def name_of(item_id: str, titles: Mapping[str, str]) -> str:
    """The title with the id, or the id alone."""
    title = titles.get(item_id)
    return f"{title} ({item_id})" if title else item_id


def _shares(item: Recommended) -> str:
    """The parts that the strongest sources have in the score, in per cent."""
    total = sum(item.sources.values()) or 1.0
    parts = sorted(item.sources.items(), key=lambda pair: -pair[1])[:SOURCES]
    return ", ".join(f"{escape(name)} {share / total:.0%}" for name, share in parts if share / total >= 0.01)


def _because(item: Recommended, titles: Mapping[str, str]) -> str:
    """The weightiest reasons in words, with the titles of the items they name."""
    named = [replace(reason, item_id=titles.get(reason.item_id or "", reason.item_id)) for reason in item.reasons]
    sentence = explain.words(replace(item, reasons=named), REASONS)
    return sentence.removeprefix(f"{item.item_id}: ").removesuffix(".")
