"""The public logs on which the lists are measured, each with its protocol. They are read where they lie, never copied.

All share `models.evaluation.plan`; what differs is what a log is about. Files whose times are days are ordered inside a day by
a hash of user and item (see `streams.convert`): they are grouped by item or by user, and would give the next item away.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from models import Config
from models.evaluation import Protocol
from streams.evaluate_passes import Spec, Way

DEFAULT_FOLDER: Final = Path("../shared/data")


class PublicLog(Struct, frozen=True, kw_only=True):
    """A log and its protocol. `counts`: in words, what is scored; `goals`: what the fused list should reach, and what would be
    more, by measure."""

    name: str
    title: str
    files: tuple[str, ...]
    protocol: Protocol
    counts: str
    text: bool = False
    goals: dict[str, tuple[float, float]] = {}

    def paths(self, folder: Path) -> tuple[Path, ...]:
        """Its files in the folder of all logs."""
        return tuple(folder / file for file in self.files)

    def missing(self, folder: Path) -> str | None:
        """Why it cannot be measured, or None."""
        absent = [str(path) for path in self.paths(folder) if not path.is_file()]
        return f"{', '.join(absent)} not there (FRESHET_DATA names the folder of the logs)" if absent else None

    def spec(self, folder: Path, config: Config, way: Way = "inside") -> Spec:
        """A pass over it."""
        return Spec(files=self.paths(folder), protocol=self.protocol, config=config, text=self.text, way=way)


LOGS: Final = (
    PublicLog(
        name="movielens-100k",
        title="MovieLens 100K",
        files=("movielens-100k/u.data.gz",),
        protocol=Protocol(positives_only=True),
        counts="ratings of 4 and more; nothing else is in the log",
        goals={"hr": (0.205, 0.215), "ndcg": (0.107, 0.107)},
    ),
    PublicLog(
        name="musical-instruments",
        title="Amazon Musical Instruments",
        files=("amazon-musical-instruments/reviews.jsonl.gz",),
        protocol=Protocol(min_rating=4.0),
        counts="reviews of 4 and more stars; texts are read",
        text=True,
        goals={"hr": (0.143, 0.152)},
    ),
    PublicLog(
        name="gift-cards",
        title="Amazon Gift Cards",
        files=("amazon-gift-cards/reviews.jsonl.gz",),
        protocol=Protocol(min_rating=4.0),
        counts="reviews of 4 and more stars; texts are read",
        text=True,
        goals={"hr": (0.362, 0.380)},
    ),
    PublicLog(
        name="alibaba",
        title="Alibaba 2014",
        files=("alibaba-2014/events.csv.gz",),
        protocol=Protocol(),
        counts="brands new to the person; one event per person, brand, type and day",
        goals={"hr": (0.108, 0.118)},
    ),
    PublicLog(
        name="yoochoose",
        title="Yoochoose 100k",
        files=("yoochoose-100k/train.tsv.gz", "yoochoose-100k/test.tsv.gz"),
        protocol=Protocol(n=20, warmup=70_278, repeats=True, min_history=1),
        counts="every click of a test session but its first; own items may come again",
        goals={"hr": (0.710, 0.725), "mrr": (0.377, 0.388)},
    ),
)


def own(path: Path, protocol: Protocol, *, text: bool) -> PublicLog:
    """A log of one's own: a file anywhere, nothing known about it."""
    return PublicLog(
        name=re.sub(r"[^\w-]+", "-", path.name), title=path.name, files=(str(path.absolute()),), protocol=protocol, text=text,
        counts="every positive event" + ("; own items may come again" if protocol.repeats else " of an item new to the user"),
    )  # fmt: skip


def folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the logs are."""
    return Path(environment.get("FRESHET_DATA") or DEFAULT_FOLDER)


def chosen(names: str | None) -> tuple[PublicLog, ...]:
    """The logs named, separated by commas; all for None. ValueError for an unknown one."""
    if names is None:
        return LOGS
    by_name = {log.name: log for log in LOGS}
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in by_name]:
        raise ValueError(f"no log {', '.join(unknown)}: choose from {', '.join(by_name)}")
    return tuple(by_name[name] for name in wanted)
