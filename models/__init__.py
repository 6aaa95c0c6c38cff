"""Freshet's pure core: events in, lists out. No IO, no clock, no global randomness.

The recommender is imported when it is asked for: a compiler comes with it, which takes a second, and who only speaks of events or
parameters need not wait for that.
"""

from typing import TYPE_CHECKING, Any

from models.config import Config, ConfigError
from models.events import (
    POPULAR,
    Click,
    Erasure,
    Evidence,
    Impression,
    Interaction,
    Item,
    ItemVector,
    Purchase,
    RecommendationList,
    Recommended,
    Review,
    ReviewVector,
)

if TYPE_CHECKING:
    from models.recommender import Recommender

__all__ = [
    "POPULAR",
    "Click",
    "Config",
    "ConfigError",
    "Erasure",
    "Evidence",
    "Impression",
    "Interaction",
    "Item",
    "ItemVector",
    "Purchase",
    "RecommendationList",
    "Recommended",
    "Recommender",
    "Review",
    "ReviewVector",
]


def __getattr__(name: str) -> Any:
    if name == "Recommender":
        from models.recommender import Recommender

        return Recommender
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
