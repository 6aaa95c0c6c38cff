"""Every parameter of the model: default, unit, bound. One struct, so that settings, documentation and checks share it."""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta, Struct

from models.rules import RuleError, Rules, parse


def _doc(description: str, **bounds: Any) -> Any:
    return Meta(description=description, **bounds)


class ConfigError(ValueError):
    """A parameter is out of its bounds; the message names it, its value and the bound."""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of `Recommender`. Construction checks every bound and raises `ConfigError`."""

    # bounds of the state
    max_users: Annotated[int, _doc("users remembered; beyond it the longest silent are forgotten", ge=64, le=50_000_000)] = (
        2_000_000
    )
    max_items: Annotated[int, _doc("items remembered; beyond it events of new items are not learned", ge=16, le=20_000_000)] = (
        1_000_000
    )
    max_events: Annotated[int, _doc("events remembered of all users together", ge=2048, le=2_000_000_000)] = 50_000_000
    window_events: Annotated[int, _doc("events remembered per user; older ones leave the model", ge=8, le=4096)] = 512
    max_pairs: Annotated[int, _doc("cells of the item pair table (8 bytes each)", ge=4096, le=4_000_000_000)] = 30_000_000
    max_neighbours: Annotated[int, _doc("items counted together with one item; the rarest leave first", ge=16, le=65_536)] = 1024
    item_users: Annotated[int, _doc("most recent users remembered per item", ge=16, le=4096)] = 192
    item_raters: Annotated[int, _doc("most recent raters remembered per item, where CF goes by ratings", ge=16, le=4096)] = 512
    max_vectors: Annotated[int, _doc("item vectors held", ge=16, le=10_000_000)] = 200_000
    max_categories: Annotated[int, _doc("distinct categories of the catalogue", ge=16, le=1_000_000)] = 20_000
    category_items: Annotated[int, _doc("newest items remembered per category", ge=16, le=4096)] = 512
    max_erasures: Annotated[int, _doc("erased users whose late events are still kept out", ge=16, le=10_000_000)] = 100_000

    # what an event says
    positive_rating: Annotated[float, _doc("a rating below this many stars is no evidence for an item", ge=1, le=5)] = 3.0
    click_weight: Annotated[float, _doc("weight of a click in profiles and trends", gt=0, le=100)] = 1.0
    review_weight: Annotated[float, _doc("weight of a review with a positive rating", gt=0, le=100)] = 2.0
    purchase_weight: Annotated[float, _doc("weight of a purchase", gt=0, le=100)] = 3.0

    # sources
    sources: Annotated[
        tuple[str, ...], _doc("sources in use, see `models.sources.REGISTRY`; empty: all that are not optional")
    ] = ()
    also: Annotated[tuple[str, ...], _doc("sources in use besides: the optional ones, as text_item_cf, rated_cf")] = ()
    without: Annotated[tuple[str, ...], _doc("sources left out, by the name of the source or of one instance of it")] = ()
    candidates: Annotated[int, _doc("candidates taken from each source for a list", ge=1, le=1000)] = 40
    repeats: Annotated[
        Literal["auto", "never", "always"], _doc("whether lists hold the user's own items; auto: if people come back to theirs")
    ] = "auto"
    returning: Annotated[float, _doc("auto: the part of events that return to an item from which on they do", gt=0, le=1)] = 0.05
    repeats_decay: Annotated[float, _doc("repeats: weight of an item over that of the next newer one", gt=0, le=1)] = 0.9
    item_cf_items: Annotated[int, _doc("ItemCF looks at so many of the user's newest items", ge=1, le=4096)] = 20
    item_cf_decay: Annotated[float, _doc("ItemCF: weight of an item over that of the next newer one", gt=0, le=1)] = 0.9
    user_cf_items: Annotated[int, _doc("UserCF finds neighbours by so many of the user's newest items", ge=1, le=4096)] = 50
    user_cf_decay: Annotated[float, _doc("UserCF: weight of an item over that of the next newer one", gt=0, le=1)] = 0.95
    user_cf_neighbours: Annotated[int, _doc("UserCF adds up the items of so many most similar users", ge=1, le=4096)] = 100
    user_cf_neighbour_items: Annotated[int, _doc("newest items taken of each similar user", ge=1, le=4096)] = 256
    half_lives_hours: Annotated[tuple[float, ...], _doc("half-lives of the trends, hours of event time, at most 8")] = (
        12.0,
        72.0,
        720.0,
    )
    board_items: Annotated[int, _doc("items kept ready in each ranking by popularity", ge=16, le=65_536)] = 256
    text_items: Annotated[int, _doc("the taste vector is made of so many of the user's newest items", ge=1, le=4096)] = 20
    text_decay: Annotated[float, _doc("taste: weight of an item over that of the next newer one", gt=0, le=1)] = 0.9
    text_scan: Annotated[int, _doc("vectors (the newest) compared with a taste where no search answers", ge=1, le=1_000_000)] = (
        4096
    )
    max_review_vectors: Annotated[int, _doc("vectors of reviews held, the newest", ge=16, le=10_000_000)] = 50_000
    text_users: Annotated[int, _doc("T-UserCF compares the words of so many users, the last to write", ge=1, le=1_000_000)] = 2048
    text_user_share: Annotated[float, _doc("T-UserCF: part of a similarity that is what people say", ge=0, le=1)] = 0.4
    text_item_share: Annotated[float, _doc("T-ItemCF: part of a similarity that is what is said", ge=0, le=1)] = 0.1
    rated_items: Annotated[int, _doc("CF by ratings looks at so many of the user's newest rated items", ge=1, le=4096)] = 20
    rated_decay: Annotated[float, _doc("CF by ratings: weight of an item over that of the next newer one", gt=0, le=1)] = 0.9
    rated_neighbours: Annotated[int, _doc("CF by ratings adds up so many people who rate most alike", ge=1, le=4096)] = 100
    rated_shrink: Annotated[float, _doc("CF by ratings: common ratings that halve a similarity", ge=0, le=10_000)] = 100.0
    content_items: Annotated[int, _doc("category affinity is made of so many of the user's newest items", ge=1, le=4096)] = 20
    content_decay: Annotated[float, _doc("affinity: weight of an item over that of the next newer one", gt=0, le=1)] = 0.9

    max_sequence_pairs: Annotated[
        int, _doc("cells of each of the two tables of pairs in order (8 bytes each)", ge=4096, le=4_000_000_000)
    ] = 12_000_000
    max_followers: Annotated[
        int, _doc("items counted after, and as many before, one item in sequences; the rarest leave first", ge=16, le=65_536)
    ] = 256
    sequence_items: Annotated[int, _doc("sequence and proximity look at so many of the user's newest items", ge=1, le=4096)] = 10
    sequence_decay: Annotated[float, _doc("sequence: weight of an item over that of the next newer one", gt=0, le=1)] = 0.8
    proximity_share: Annotated[float, _doc("part of an item's popularity taken out of its proximity", ge=0, le=1)] = 0.3
    embedding_dim: Annotated[int, _doc("length of the vectors of the next-item embedding", ge=4, le=1024)] = 64
    embedding_items: Annotated[int, _doc("items with such vectors (8 bytes * length each)", ge=16, le=10_000_000)] = 200_000
    embedding_scan: Annotated[int, _doc("items, the last taken, among which the embedding looks", ge=16, le=1_000_000)] = 8192
    embedding_context: Annotated[int, _doc("embedding: context of so many of the user's newest items", ge=1, le=4096)] = 20
    embedding_decay: Annotated[float, _doc("embedding: weight of an item over that of the next newer one", gt=0, le=1)] = 0.85
    embedding_last_decay: Annotated[float, _doc("embedding_last: the same, of a shorter memory", gt=0, le=1)] = 0.4
    embedding_negatives: Annotated[int, _doc("embedding: other items each step compares with", ge=1, le=1024)] = 16
    embedding_replays: Annotated[int, _doc("embedding: steps on earlier events with each new one", ge=0, le=1024)] = 20
    embedding_rate: Annotated[float, _doc("embedding: length of a step on a new event", gt=0, le=10)] = 0.05
    embedding_replay_rate: Annotated[float, _doc("embedding: length of a step on an earlier event", gt=0, le=10)] = 0.03
    embedding_shrink: Annotated[float, _doc("embedding: pull of its vectors towards 0", ge=0, le=1)] = 0.01
    ease_items: Annotated[int, _doc("EASE is fitted for so many items, those that most users have", ge=2, le=4096)] = 512
    ease_every: Annotated[int, _doc("EASE is fitted anew after so many changes of profiles", ge=100, le=1_000_000)] = 5000
    ease_share: Annotated[float, _doc("EASE retires where its items are a smaller part of all profiles", ge=0, le=1)] = 0.4
    ease_ridge: Annotated[float, _doc("EASE: lambda, the pull of its weights towards 0", gt=0, le=1e9)] = 200.0
    ease_context: Annotated[int, _doc("EASE looks at so many of the user's newest items", ge=1, le=4096)] = 100
    ease_decay: Annotated[float, _doc("EASE: weight of an item over that of the next newer one", gt=0, le=1)] = 0.97

    # fusion
    fusion: Annotated[Literal["rrf", "weighted", "learned"], _doc("how sources become one list")] = "learned"
    fusion_rate: Annotated[float, _doc("learned fusion: length of a step on the shared weights", gt=0, le=10)] = 1.5
    fusion_horizon: Annotated[
        float, _doc("learned fusion: events after which what was learned from one counts 1/e of it", ge=100, le=1e9)
    ] = 3000.0
    fusion_prior: Annotated[float, _doc("learned fusion: pull of the first events towards equal weights", gt=0, le=1e6)] = 10.0
    fusion_context_rate: Annotated[float, _doc("learned fusion: length of a step on a context's weights", ge=0, le=10)] = 0.03
    fusion_steady_rate: Annotated[float, _doc("learned fusion: length of a step of its steady learner", ge=0, le=10)] = 0.08
    personal_users: Annotated[
        int,
        _doc(
            "learned fusion: people of whom it is known which sources know them, the last to come; 0: none", ge=0, le=10_000_000
        ),
    ] = 100_000
    context_values: Annotated[
        int, _doc("learned fusion: distinct name=value pairs of requests with weights of their own", ge=0, le=10_000)
    ] = 64
    user_lessons: Annotated[
        int, _doc("events of one user that teach, in a day, what gradient steps learn; 0: all", ge=0, le=1_000_000)
    ] = 256
    item_lessons: Annotated[
        float, _doc("part of all events that teach about one item, after the first 64; 1: no bound", gt=0, le=1)
    ] = 0.0625
    fusion_memory: Annotated[int, _doc("learned fusion: events over which rankings are compared", ge=10, le=1_000_000)] = 500
    newcomer_events: Annotated[int, _doc("an item with fewer events is a newcomer", ge=0, le=1_000_000)] = 5
    newcomer_price: Annotated[
        float, _doc("learned fusion: part of a list's expected hits that a newcomer may cost; 0: no newcomers", ge=0, le=1)
    ] = 0.02
    newcomer_draw: Annotated[
        float, _doc("part of the newcomers' places that are drawn among all within the price, not given to the best", ge=0, le=1)
    ] = 0.1
    rrf_k: Annotated[float, _doc("reciprocal rank fusion: 1 / (k + rank)", gt=0, le=10_000)] = 60.0
    alpha: Annotated[float, _doc("weighted fusion: weight of collaborative filtering", ge=0, le=1000)] = 0.7
    beta: Annotated[float, _doc("weighted fusion: weight of popularity and content", ge=0, le=1000)] = 0.2
    gamma: Annotated[float, _doc("weighted fusion: weight of text", ge=0, le=1000)] = 0.1

    # rerank
    diversity: Annotated[float, _doc("part of a place's value that is unlikeness to the items above; 0: off", ge=0, le=1)] = 0.0
    diversity_by: Annotated[Literal["vectors", "categories"], _doc("by what items are alike")] = "vectors"
    calibration: Annotated[
        float, _doc("part of a place's value that brings the list's categories nearer to the user's own mix; 0: off", ge=0, le=1)
    ] = 0.0
    calibration_items: Annotated[int, _doc("a user's own mix is that of so many of their newest items", ge=1, le=4096)] = 100
    rerank_candidates: Annotated[int, _doc("candidates that diversity and calibration look at", ge=1, le=1000)] = 100
    rerank_price: Annotated[
        float, _doc("part of the sum of a list's scores that diversity and calibration may cost", ge=0, le=1)
    ] = 0.2
    pin: Annotated[tuple[str, ...], _doc("rules: items that stand on top, in this order")] = ()
    block: Annotated[tuple[str, ...], _doc("rules: what is never shown: item:ID, category:NAME")] = ()
    boost: Annotated[tuple[str, ...], _doc("rules: factors in the order: item:ID=1.5, category:NAME=0.5")] = ()
    cap: Annotated[tuple[str, ...], _doc("rules: most items of a category in a list: NAME=2; *=3: of each other one")] = ()

    # explanations
    reasons_per_item: Annotated[int, _doc("reasons named per item; the rest of its score is one more", ge=1, le=64)] = 5
    reasons_per_source: Annotated[int, _doc("pieces of evidence named per source and item", ge=1, le=16)] = 2

    # ratings
    item_shrink: Annotated[float, _doc("ratings that pull an item's bias towards 0", ge=0, le=10_000)] = 5.0
    user_shrink: Annotated[float, _doc("ratings that pull a user's bias towards 0", ge=0, le=10_000)] = 2.0
    factors: Annotated[int, _doc("latent factors of the online factorisation; 0: biases only", ge=0, le=256)] = 8
    max_factor_rows: Annotated[int, _doc("users, and items, with latent factors", ge=16, le=10_000_000)] = 200_000
    seed: Annotated[int, _doc("everything random derives from it", ge=0, le=2**31)] = 1

    def __post_init__(self) -> None:
        for name, meta in _BOUNDS.items():
            _check(name, getattr(self, name), meta)
        if not 1 <= len(self.half_lives_hours) <= 8:
            raise ConfigError(f"half_lives_hours={self.half_lives_hours}: name 1 to 8 half-lives")
        if any(not 0.01 <= h <= 1_000_000 for h in self.half_lives_hours) or len(set(self.half_lives_hours)) != len(
            self.half_lives_hours
        ):
            raise ConfigError(f"half_lives_hours={self.half_lives_hours}: distinct, each between 0.01 and 1,000,000 hours")
        if self.fusion == "weighted" and not self.alpha + self.beta + self.gamma > 0:
            raise ConfigError("alpha, beta and gamma are all 0: nothing would be recommended")
        if self.diversity + self.calibration > 1:
            raise ConfigError(f"diversity={self.diversity!r} and calibration={self.calibration!r}: at most 1 together")
        self.rules()

    def rules(self) -> Rules:
        """The rules of the shop (`pin`, `block`, `boost`, `cap`), checked."""
        try:
            return parse(self.pin, self.block, self.boost, self.cap)
        except RuleError as problem:
            raise ConfigError(str(problem)) from None


def _check(name: str, value: object, meta: Meta) -> None:
    if not isinstance(value, int | float):
        raise ConfigError(f"{name}={value!r}: a number is needed")
    if not math.isfinite(value):
        raise ConfigError(f"{name}={value!r}: a finite number is needed")
    for sign, bound, good in (
        ("at least", meta.ge, meta.ge is None or value >= meta.ge),
        ("above", meta.gt, meta.gt is None or value > meta.gt),
        ("at most", meta.le, meta.le is None or value <= meta.le),
    ):
        if not good:
            raise ConfigError(f"{name}={value!r}: must be {sign} {bound:g}")


def _bounds() -> dict[str, Meta]:
    hints = get_type_hints(Config, include_extras=True)
    found = {}
    for field in msgspec.structs.fields(Config):
        kind, *metas = get_args(hints[field.name])
        if kind in (int, float):
            found[field.name] = next(m for m in metas if isinstance(m, Meta))
    return found


_BOUNDS: Final = _bounds()
