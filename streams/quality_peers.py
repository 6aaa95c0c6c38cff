"""What others reach on the same logs by the same protocol: measured by us beforehand, with their defaults, and not measured
again by `freshet quality`. Batch models were refitted every 5 % of the stream, and saw the live history of a user where they can.
"""

from __future__ import annotations

from typing import Final

PEERS: Final[dict[str, dict[str, float]]] = {
    "popularity, all time": {"movielens-100k": 0.0871, "musical-instruments": 0.0950, "gift-cards": 0.2403, "alibaba": 0.0361},
    "popularity, half-life 1 % of the stream": {
        "movielens-100k": 0.0797, "musical-instruments": 0.0960, "gift-cards": 0.2632, "alibaba": 0.0711,
    },
    "incremental SGD factorisation (ISGD)": {"movielens-100k": 0.0609, "musical-instruments": 0.0199, "gift-cards": 0.0940},
    "online BPR": {"movielens-100k": 0.1293, "musical-instruments": 0.0900, "gift-cards": 0.3214},
    "exact ItemCF, cosine": {"movielens-100k": 0.1507, "musical-instruments": 0.0848, "gift-cards": 0.3283},
    "exact ItemCF, last 20 items weighted .9^age": {
        "movielens-100k": 0.1644, "musical-instruments": 0.0863, "gift-cards": 0.3331, "alibaba": 0.0402,
    },
    "sequential rules": {
        "movielens-100k": 0.1287, "musical-instruments": 0.0846, "gift-cards": 0.2899, "alibaba": 0.0355, "yoochoose": 0.6179,
    },
    "V-SkNN, incremental": {
        "movielens-100k": 0.1509, "musical-instruments": 0.1003, "gift-cards": 0.3374, "yoochoose": 0.6879,
    },
    "exact UserCF, cosine, K=100": {"movielens-100k": 0.1567, "musical-instruments": 0.1233, "gift-cards": 0.3581},
    "implicit ItemKNN": {
        "movielens-100k": 0.1447, "musical-instruments": 0.0756, "gift-cards": 0.3201, "alibaba": 0.0258,
    },
    "implicit ALS": {"movielens-100k": 0.1348, "musical-instruments": 0.0791, "gift-cards": 0.1519},
    "implicit BPR": {"movielens-100k": 0.0863, "musical-instruments": 0.0486, "gift-cards": 0.2105},
    "EASE, refitted": {"movielens-100k": 0.1485, "musical-instruments": 0.1110, "gift-cards": 0.3343},
}  # fmt: skip
"""Peer -> log -> hit rate at the length of the log's lists."""

PEERS_MRR: Final[dict[str, dict[str, float]]] = {
    "sequential rules": {"yoochoose": 0.3530},
    "V-SkNN, incremental": {"yoochoose": 0.3664},
}
"""The same, mean reciprocal rank."""

BEST_PEER_COLD_USERS: Final[dict[str, float]] = {"movielens-100k": 0.268, "musical-instruments": 0.104, "gift-cards": 0.338}
"""Log -> the best hit rate of a peer for users with fewer than 5 past events."""
