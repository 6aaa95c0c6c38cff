"""The page for people, `/statusz`: a process in plain text, by curl or in a browser."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from msgspec import Struct

from streams import clock
from streams.health import Condition
from streams.lanes import LaneStats
from streams.logs import Remembered
from streams.settings import Settings
from streams.version import freshet_version

PACKAGES: Final = ("faust-streaming", "aiokafka", "numpy", "numba", "river", "qdrant-client", "sentence-transformers")
SECRETS: Final = ("password", "key")
Row = Sequence[object]


class Snapshot(Struct, frozen=True):
    """What the page is made of, at one moment.

    done       (topic, partition) -> (first offset not yet finished, end of the partition), of the agents' own partitions
    folded     (topic, partition) -> (first offset not yet folded, end), of the replica
    sizes      part of the model -> (entries held, most that may be held)
    left_out   reason -> events that the model did not take
    weights    what the process knows of the shared weights
    """

    settings: Settings
    roles: tuple[str, ...]
    started_ms: int
    conditions: Sequence[Condition]
    done: Mapping[tuple[str, int], tuple[int, int]]
    folded: Mapping[tuple[str, int], tuple[int, int]]
    agents: Mapping[str, LaneStats]
    sizes: Mapping[str, tuple[int, int]]
    left_out: Mapping[str, int]
    weights: Mapping[str, object]
    remembered: Sequence[Remembered]


def render(now: Snapshot) -> str:
    """The whole page. The newest of what was remembered stands first."""
    ready = all(one.holds for one in now.conditions)
    up_s = max(0, clock.now_ms() - now.started_ms) / 1000
    head = [
        f"freshet {freshet_version()}, {', '.join(now.roles)}",
        f"{'READY' if ready else 'NOT READY'}, up {_span(up_s)}, process {os.getpid()}",
    ]
    parts = [
        _table("conditions", ((one.name, "ok" if one.holds else "NOT", one.detail) for one in now.conditions)),
        _table("partitions of the agents: finished up to, end, waiting", _offsets(now.done)),
        _table("replica: folded up to, end, behind", _offsets(now.folded)),
        _table("agents: batches, records, records of the last, its ms, running for s", map(_agent, sorted(now.agents.items()))),
        _table("model: held, bound, share", (_size(*part) for part in sorted(now.sizes.items()))),
        _table("events the model left out, or was not taught by (_pace)", sorted(now.left_out.items())),
        _table("weights of the fusion", now.weights.items()),
        _table("settings that differ from their defaults", changed(now.settings)),
        _table("versions", versions()),
        _table("last warnings and errors, the newest first", (_line(one) for one in reversed(now.remembered))),
    ]
    return "\n".join([*head, *parts])


def versions() -> list[tuple[str, str]]:
    """Of what the process runs on."""
    found = [("python", platform.python_version()), ("platform", sys.platform)]
    for package in PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return found


def changed(settings: Settings) -> list[tuple[str, str]]:
    """Variable and value of each setting that is not the default; secrets are only said to be set."""
    rows = []
    for prefix, have, default in (
        ("FRESHET_", settings, Settings()),
        ("FRESHET_MODEL_", settings.model, Settings().model),
    ):
        for name in have.__struct_fields__:
            value = getattr(have, name)
            if name == "model" or value == getattr(default, name):
                continue
            secret = any(word in name for word in SECRETS) and name != "ssl_keyfile"
            rows.append((prefix + name.upper(), "(set, not shown)" if secret else str(value)))
    return rows


def _offsets(places: Mapping[tuple[str, int], tuple[int, int]]) -> Iterable[Row]:
    for (topic, partition), (done, end) in sorted(places.items()):
        yield topic, partition, done, end, max(0, end - done)


def _agent(named: tuple[str, LaneStats]) -> Row:
    name, stats = named
    return name, stats.batches, stats.records, stats.last_records, f"{stats.last_seconds * 1000:.1f}", f"{stats.running_s:.1f}"


def _size(part: str, held: tuple[int, int]) -> Row:
    used, bound = held
    return part, f"{used:,}", f"{bound:,}", f"{used / bound:.1%}" if bound else ""


def _line(one: Remembered) -> Row:
    return datetime.fromtimestamp(one.created, UTC).isoformat(timespec="seconds"), one.level, one.logger, one.text


def _table(title: str, rows: Iterable[Row]) -> str:
    """Left-aligned columns; the last one is as long as it is."""
    cells = [[str(cell).replace("\n", "\n    ") for cell in row] for row in rows]
    if not cells:
        return f"\n{title}\n  none\n"
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]) - 1)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]) for row in cells]
    return f"\n{title}\n" + "".join(f"  {line}\n" for line in lines)


def _span(seconds: float) -> str:
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86_400)
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min {int(seconds) % 60} s"
