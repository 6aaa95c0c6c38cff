"""Freshet's pure core: events in, lists out. No IO, no clock, no global randomness."""

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
