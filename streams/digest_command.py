"""`freshet digest`: what a worker holds, as a fingerprint, and whether it is what the log says.

Equal digests mean equal exact states: histories, counts, pairs, sums of ratings. The same log gives the same digest whatever the
batches, restarts, snapshots and the interleaving of partitions were, so two workers at the same offsets can be compared, and one
worker with a pass over the log. The checksum stands for the rest: what gradient steps have learned, which depends on the order of
arrival.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from kafka.errors import KafkaError
from msgspec import Struct
from rich.console import Console

from models import Recommender, snapshot
from models.kept import Misfit, under
from models.snapshot import Damaged
from streams.learn import decode_interaction
from streams.replica import Positions, extent, read_until
from streams.settings import Settings, SettingsError
from streams.snapshot_store import LocalStore
from streams.snapshots import directory, positions_of
from streams.topics import TopicsError


class Fingerprint(Struct, frozen=True, kw_only=True):
    """Of one state. `offsets`: the next one of each partition of `interactions`, which is what the digest is of."""

    digest: str
    checksum: str | None
    offsets: list[int]
    users: int
    items: int
    events: int
    taken_ms: int | None = None


class DigestError(RuntimeError):
    """There is nothing to take a digest of; the text says what to do."""


def of_snapshot(settings: Settings) -> Fingerprint:
    """Of the newest snapshot in the state directory of a worker. DigestError where there is none that can be read."""
    store = LocalStore(directory(settings))
    for name in store.names():
        try:
            with store.open(name) as (file, size):
                meta, saved = snapshot.read(file.readinto, size)
            model = Recommender(settings.model)
            part = under(saved, "model")
            model.check(part)
            model.restore(part)
        except (OSError, Damaged, Misfit) as problem:
            raise DigestError(f"the snapshot {store.path(name)} cannot be used with these settings: {problem}") from problem
        return _fingerprint(settings, model, positions_of(meta), name.taken_ms)
    raise DigestError(f"no snapshot in {store.directory}: does a worker with this FRESHET_STATE_DIR make lists?")


def of_log(settings: Settings, until: Positions | None = None) -> Fingerprint:
    """Of one pass over the log, up to the given offsets or to its end, in whatever order partitions come.

    Raises DigestError where the log has lost its beginning, LookupError where there is no such topic, TimeoutError, TopicsError
    and KafkaErrors where Kafka does not answer.
    """
    model, positions = Recommender(settings.model), {}
    topic = settings.topic("interactions")
    if any(extent(settings.connection, [topic]).begins.values()):
        raise DigestError(f"{topic} does not go back to its beginning: no pass over it gives the whole state")
    for record in read_until(settings.connection, topic, until):
        positions[topic, record.partition] = record.offset + 1
        line = decode_interaction(record.value)
        if line is not None:
            model.learn(line, train=False)
    for partition in range(settings.partitions):
        positions.setdefault((topic, partition), (until or {}).get((topic, partition), 0))
    return msgspec.structs.replace(_fingerprint(settings, model, positions, None), checksum=None)


def _fingerprint(settings: Settings, model: Recommender, positions: Positions, taken_ms: int | None) -> Fingerprint:
    topic = settings.topic("interactions")
    return Fingerprint(
        digest=model.digest(),
        checksum=model.checksum(),
        offsets=[at for (name, _), at in sorted(positions.items()) if name == topic],
        users=len(model.history.users),
        items=len(model.history.items),
        events=model.history.events,
        taken_ms=taken_ms,
    )


# ------------------------------------------------------------------------------------------------ command line
def digest(
    log: Annotated[bool, typer.Option("--log", help="of one pass over the whole log instead of a worker's snapshot")] = False,
    check: Annotated[bool, typer.Option("--check", help="both, at the same offsets: exit code 1 if they differ")] = False,
    state_dir: Annotated[Path | None, typer.Option("--state-dir", help="the worker's [FRESHET_STATE_DIR]")] = None,
    json: Annotated[bool, typer.Option("--json", help="one JSON object per line")] = False,
) -> None:
    """Print the digest of a worker's exact state, from its newest snapshot; --check compares it with the log."""
    errors = Console(stderr=True)
    try:
        settings = Settings.load(os.environ, state_dir=str(state_dir) if state_dir else None)
        found = list(_asked(settings, log=log, check=check))
    except (SettingsError, DigestError, TopicsError, KafkaError, LookupError, TimeoutError) as problem:
        errors.print(f"[red]freshet:[/red] {problem}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    for where, fingerprint in found:
        typer.echo(_json(where, fingerprint) if json else _shown(where, fingerprint))
    if check:
        same = len({fingerprint.digest for _, fingerprint in found}) == 1
        typer.echo("equal" if same else "DIFFERENT: this worker's state is not what the log says", err=not same)
        raise typer.Exit(0 if same else 1)


def _asked(settings: Settings, *, log: bool, check: bool) -> Iterator[tuple[str, Fingerprint]]:
    if log and not check:
        yield "log", of_log(settings)
        return
    mine = of_snapshot(settings)
    yield "snapshot", mine
    if check:
        topic = settings.topic("interactions")
        yield "log", of_log(settings, {(topic, partition): at for partition, at in enumerate(mine.offsets)})


def _json(where: str, fingerprint: Fingerprint) -> str:
    return msgspec.json.encode({"of": where, **msgspec.to_builtins(fingerprint)}).decode()


def _shown(where: str, fingerprint: Fingerprint) -> str:
    rows: list[tuple[str, Any]] = [
        (where, fingerprint.digest),
        ("checksum", fingerprint.checksum),
        ("offsets", " ".join(map(str, fingerprint.offsets))),
        ("holds", f"{fingerprint.users:,} users, {fingerprint.items:,} items, {fingerprint.events:,} events"),
    ]
    return "\n".join(f"{name:10}{value}" for name, value in rows if value is not None)
