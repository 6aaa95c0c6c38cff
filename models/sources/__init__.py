"""Candidate sources, one per file; `base` says what a source is and how to add one."""

from __future__ import annotations

from typing import Final

from models.config import Config, ConfigError
from models.sources.base import Source, State
from models.sources.content import Content
from models.sources.ease import Ease
from models.sources.embedding import Embedding
from models.sources.item_cf import ItemCF
from models.sources.neighbours import Neighbours
from models.sources.popularity import Popularity, Trending
from models.sources.rated_cf import RatedCF
from models.sources.repeats import Repeats
from models.sources.sequence import Sequence
from models.sources.text import Text
from models.sources.text_item_cf import TextItemCF
from models.sources.text_user_cf import TextUserCF
from models.sources.user_cf import UserCF

_ALL: Final[tuple[type[Source], ...]] = (
    ItemCF, UserCF, Neighbours, Sequence, Embedding, Ease, Repeats, Popularity, Trending, Content, Text,
    TextUserCF, TextItemCF, RatedCF,
)  # fmt: skip
REGISTRY: Final[dict[str, type[Source]]] = {source.name: source for source in _ALL}
"""Name -> source, in the order of lists and reports."""


def build(state: State) -> list[Source]:
    """The sources that the configuration names (where it names none, all that are not optional) and those it adds, without those
    it leaves out, in the order of the registry.

    Raises:
        ConfigError: a name is unknown, or nothing is left.
    """
    config: Config = state.config
    for setting in ("sources", "also"):
        if unknown := set(getattr(config, setting)) - set(REGISTRY):
            raise ConfigError(f"{setting}: {', '.join(sorted(unknown))} unknown, choose from {', '.join(REGISTRY)}")
    plain = config.sources or [name for name, kind in REGISTRY.items() if not kind.optional]
    built = {name: kind.build(state) for name, kind in REGISTRY.items() if name in plain or name in config.also}
    instances = [source.name for several in built.values() for source in several]
    if unknown := set(config.without) - set(built) - set(instances):
        known = dict.fromkeys([*built, *instances])
        raise ConfigError(f"without: {', '.join(sorted(unknown))} is not in use, choose from {', '.join(known)}")
    left = [
        source
        for name, several in built.items()
        for source in several
        if name not in config.without and source.name not in config.without
    ]
    if not left:
        raise ConfigError("without: no source is left")
    state.together.wanted = any(source.together for source in left)
    return left


__all__ = ["REGISTRY", "Source", "State", "build"]
