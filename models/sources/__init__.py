"""Candidate sources, one per file; `base` says what a source is and how to add one."""

from __future__ import annotations

from typing import Final

from models.config import Config, ConfigError
from models.sources.base import Source, State
from models.sources.content import Content
from models.sources.embedding import Embedding
from models.sources.item_cf import ItemCF
from models.sources.neighbours import Neighbours
from models.sources.popularity import Popularity, Trending
from models.sources.repeats import Repeats
from models.sources.sequence import Sequence
from models.sources.text import Text
from models.sources.user_cf import UserCF

_ALL: Final[tuple[type[Source], ...]] = (
    ItemCF, UserCF, Neighbours, Sequence, Embedding, Repeats, Popularity, Trending, Content, Text,
)  # fmt: skip
REGISTRY: Final[dict[str, type[Source]]] = {source.name: source for source in _ALL}
"""Name -> source, in the order of lists and reports."""


def build(state: State) -> list[Source]:
    """The sources that the configuration names (all of them where it names none), in the order of the registry.

    Raises:
        ConfigError: a name is unknown.
    """
    config: Config = state.config
    unknown = set(config.sources) - set(REGISTRY)
    if unknown:
        raise ConfigError(f"sources: {', '.join(sorted(unknown))} unknown, choose from {', '.join(REGISTRY)}")
    return [
        source for name, kind in REGISTRY.items() if not config.sources or name in config.sources for source in kind.build(state)
    ]


__all__ = ["REGISTRY", "Source", "State", "build"]
