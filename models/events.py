"""The contracts: what platforms send, what consumers get, and the one place where bytes become events.

Every topic carries JSON. Unknown fields are ignored, new fields have defaults, types never change. Times are integer
milliseconds since the epoch, *event time*. `decode` never raises on bad input: it answers with the event or with a
`Refusal` whose `reason` is one of the enumerated words below.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

POPULAR: Final = "@popular"
"""Reserved user id: the list for strangers. No user id may begin with `@`."""

Id = Annotated[str, Meta(min_length=1, description="Any text; at most 256 bytes of UTF-8, not beginning with '@'.")]
TimestampMs = Annotated[int, Meta(ge=1, le=2**53, description="Event time, milliseconds since the epoch.")]
Stars = Annotated[float, Meta(ge=1, le=5, description="1 (worst) to 5 (best).")]


class Limits(Struct, frozen=True, kw_only=True):
    """Bounds of a single message. Whatever exceeds one is refused with the reason named beside it."""

    message_bytes: int = 262_144  # too_large; far below Kafka's 1 MB, since a dead letter carries the bytes plus headers
    id_bytes: int = 256  # invalid_id
    text_chars: int = 20_000  # text_too_long (title, text, description each)
    impression_items: int = 500  # too_many_items
    context_entries: int = 16  # context_too_large, also for entries longer than 64 characters
    categories: int = 64  # too_many_items
    future_ms: int = 300_000  # future_timestamp: further ahead of the reader's clock than this


class Reason(StrEnum):
    """Why a message was refused. A closed set: these are metric labels and dead-letter headers."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    INVALID_JSON = "invalid_json"
    INVALID_FIELD = "invalid_field"
    INVALID_ID = "invalid_id"
    RESERVED_ID = "reserved_id"
    KEY_MISMATCH = "key_mismatch"
    TEXT_TOO_LONG = "text_too_long"
    TOO_MANY_ITEMS = "too_many_items"
    CONTEXT_TOO_LARGE = "context_too_large"
    FUTURE_TIMESTAMP = "future_timestamp"
    MISSING_RATING = "missing_rating"


class Refusal(Struct, frozen=True):
    """A message that cannot be used: the enumerated reason and a sentence for a human."""

    reason: Reason
    detail: str


# ------------------------------------------------------------------------------------------------ input events
class Click(Struct, frozen=True, kw_only=True, tag_field="type", tag="click", omit_defaults=True):
    """Somebody opened an item. With `retracts`: that earlier event never happened (and this is not a click)."""

    event_id: Id
    user_id: Id
    item_id: Id
    timestamp_ms: TimestampMs
    list_id: str | None = None
    position: Annotated[int, Meta(ge=1, le=2**31)] | None = None
    session_id: str | None = None
    context: dict[str, str] | None = None
    retracts: str | None = None


class Purchase(Struct, frozen=True, kw_only=True, tag_field="type", tag="purchase", omit_defaults=True):
    """Somebody bought an item. With `retracts`: a return; that earlier event never happened (and this is no purchase)."""

    event_id: Id
    user_id: Id
    item_id: Id
    timestamp_ms: TimestampMs
    quantity: Annotated[int, Meta(ge=1, le=2**31)] = 1
    price: Annotated[float, Meta(ge=0)] | None = None
    currency: str | None = None
    list_id: str | None = None
    position: Annotated[int, Meta(ge=1, le=2**31)] | None = None
    session_id: str | None = None
    context: dict[str, str] | None = None
    retracts: str | None = None


class Review(Struct, frozen=True, kw_only=True, tag_field="type", tag="review", omit_defaults=True):
    """An opinion, 1..5 stars. With `retracts` and a rating: an edit; with `retracts` and no rating: a deletion."""

    event_id: Id
    user_id: Id
    item_id: Id
    timestamp_ms: TimestampMs
    rating: Stars | None = None
    text: str = ""
    title: str = ""
    session_id: str | None = None
    context: dict[str, str] | None = None
    retracts: str | None = None


class Impression(Struct, frozen=True, kw_only=True, tag_field="type", tag="impression", omit_defaults=True):
    """A list, or the visible part of one, was on a screen. `items` in display order."""

    event_id: Id
    user_id: Id
    list_id: str
    items: list[str]
    timestamp_ms: TimestampMs
    surface: str | None = None


class Item(Struct, frozen=True, kw_only=True, tag_field="type", tag="item", omit_defaults=True):
    """A catalogue entry. The topic is compacted: the newest entry of an item holds, a tombstone removes it."""

    item_id: Id
    title: str = ""
    description: str = ""
    categories: list[str] = []
    price: Annotated[float, Meta(ge=0)] | None = None
    available: bool = True


class Erasure(Struct, frozen=True, kw_only=True, tag_field="type", tag="erasure", omit_defaults=True):
    """Forget this person."""

    request_id: Id
    user_id: Id
    timestamp_ms: TimestampMs


Event = Click | Purchase | Review
"""What the model learns from."""


# ------------------------------------------------------------------------------------------------ internal topics
class Interaction(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One line of the `interactions` log: the normalised event with its origin, without review text."""

    kind: str  # "click" | "purchase" | "review" | "retraction" | "erasure"
    event_id: str
    user_id: str
    item_id: str
    timestamp_ms: int
    rating: float | None = None
    quantity: int = 1
    price: float | None = None
    list_id: str | None = None
    position: int | None = None
    session_id: str | None = None
    context: dict[str, str] | None = None
    retracts: str | None = None
    origin: str = ""  # topic/partition/offset of the message it came from
    received_ms: int = 0  # when the broker had that message: the start of the freshness clock

    @classmethod
    def of(cls, event: Event | Erasure | Interaction, *, origin: str = "", received_ms: int = 0) -> Interaction:
        """Normalise an input event; an `Interaction` is returned as it is."""
        match event:
            case Interaction():
                return event
            case Click():
                kind = "retraction" if event.retracts else "click"
                return cls(
                    kind=kind, event_id=event.event_id, user_id=event.user_id, item_id=event.item_id,
                    timestamp_ms=event.timestamp_ms, list_id=event.list_id, position=event.position,
                    session_id=event.session_id, context=event.context, retracts=event.retracts,
                    origin=origin, received_ms=received_ms,
                )  # fmt: skip
            case Purchase():
                kind = "retraction" if event.retracts else "purchase"
                return cls(
                    kind=kind, event_id=event.event_id, user_id=event.user_id, item_id=event.item_id,
                    timestamp_ms=event.timestamp_ms, quantity=event.quantity, price=event.price,
                    list_id=event.list_id, position=event.position, session_id=event.session_id,
                    context=event.context, retracts=event.retracts, origin=origin, received_ms=received_ms,
                )  # fmt: skip
            case Review():
                kind = "retraction" if event.rating is None else "review"
                return cls(
                    kind=kind, event_id=event.event_id, user_id=event.user_id, item_id=event.item_id,
                    timestamp_ms=event.timestamp_ms, rating=event.rating, session_id=event.session_id,
                    context=event.context, retracts=event.retracts, origin=origin, received_ms=received_ms,
                )  # fmt: skip
            case Erasure():
                return cls(
                    kind="erasure", event_id=event.request_id, user_id=event.user_id, item_id="",
                    timestamp_ms=event.timestamp_ms, origin=origin, received_ms=received_ms,
                )  # fmt: skip


class ItemText(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of `item-texts`, keyed by item: something said about the item, to be embedded.

    An "erasure" is about a person instead: without key and item, it is written to every partition, and takes back what the person
    has said in that partition, and what was said until `timestamp_ms` and comes late.
    """

    kind: str  # "review" | "description" | "removal" (of the review that `retracts` names, or of the description) | "erasure"
    source_id: str  # the review's event_id; for descriptions the item_id; for erasures the request_id
    item_id: str
    timestamp_ms: int = 0
    user_id: str | None = None
    rating: float | None = None
    text: str = ""
    retracts: str | None = None


class ItemVector(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of `item-vectors` (compacted): the mean of what was said about an item, unit length, float32 little endian."""

    item_id: str
    vector: bytes  # base64 in JSON; dim * 4 bytes
    texts: int  # how many texts the mean is over, of each account one; 0 with an empty vector: nothing is said about it any more
    model: str  # fingerprint of the encoder: vectors of two models are never mixed
    snippet: str = ""  # a line of the newest review, evidence for explanations


class ReviewVector(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of `review-vectors` (compacted, keyed by the review's event id): what a review says, float32 little endian. A
    tombstone takes it back."""

    event_id: str
    user_id: str
    vector: bytes  # base64 in JSON; dim * 4 bytes
    model: str  # fingerprint of the encoder: vectors of two models are never mixed
    timestamp_ms: int = 0  # of the review


# ------------------------------------------------------------------------------------------------ output
class Evidence(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Why an item is in a list. `weight` is its part of the score; the weights of an item's reasons sum to its score."""

    kind: str
    weight: float
    item_id: str | None = None  # the item of the user's own history that speaks for it
    count: int | None = None  # how many similar users, events, ...
    text: str | None = None  # a category, a line of a review


class Recommended(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One line of a list. `sources` sum to `score`, and so do the weights of `reasons` (both to 1e-9)."""

    item_id: str
    rank: int
    score: float
    sources: dict[str, float]
    reasons: list[Evidence]
    propensity: float | None = None  # of a place that was drawn for: how probable this item was to get it


class CausedBy(Struct, frozen=True, kw_only=True):
    event_id: str
    timestamp_ms: int


class RecommendationList(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The value of `recommendations`: keyed by user, compacted, the newest holds."""

    user_id: str
    list_id: str  # derived from the causing event: a replay emits the same id
    generated_at_ms: int  # wall clock
    log_offset: int  # of the causing event in the user's partition of `interactions`; a smaller one never replaces a larger
    caused_by: CausedBy
    arm: str
    items: list[Recommended]


class ServedItem(Struct, frozen=True, gc=False):
    """Of a line of a list what is remembered of it."""

    item_id: str


class ServedList(Struct, frozen=True, kw_only=True):
    """Of a `RecommendationList` what is remembered of it: to read no more than that takes a third of the time."""

    user_id: str
    list_id: str
    log_offset: int
    caused_by: CausedBy
    arm: str
    items: list[ServedItem]


# ------------------------------------------------------------------------------------------------ decoding
Decoded = Click | Purchase | Review | Impression | Item | Erasure

INPUTS: Final[dict[str, type[Decoded]]] = {
    "clicks": Click,
    "purchases": Purchase,
    "reviews": Review,
    "impressions": Impression,
    "items": Item,
    "erasures": Erasure,
}
"""Input topic -> the event it carries."""
TOPIC_OF: Final[dict[type, str]] = {kind: topic for topic, kind in INPUTS.items()}

_DECODERS: Final = {topic: msgspec.json.Decoder(kind) for topic, kind in INPUTS.items()}
_encoder: Final = msgspec.json.Encoder()
encode = _encoder.encode
"""Any of the structs above as JSON bytes."""


def decode(topic: str, value: bytes | None, *, now_ms: int, limits: Limits = Limits()) -> Decoded | Refusal:  # noqa: B008  frozen
    """The event in `value`, or why it cannot be used. Never raises, whatever the bytes.

    `topic` is one of `INPUTS` (KeyError otherwise: that is a programming error); `now_ms` is the reader's clock, used
    only to refuse events from the future.
    """
    decoder = _DECODERS[topic]
    if not value:
        return Refusal(Reason.EMPTY, "a message without value (only items may have tombstones)")
    if len(value) > limits.message_bytes:
        return Refusal(Reason.TOO_LARGE, f"{len(value)} bytes, the limit is {limits.message_bytes}")
    try:
        event = decoder.decode(value)
    except msgspec.ValidationError as problem:
        return Refusal(Reason.INVALID_FIELD, str(problem)[:200])
    except (msgspec.MsgspecError, RecursionError, ValueError, OverflowError) as problem:
        return Refusal(Reason.INVALID_JSON, str(problem)[:200])
    return _check(event, now_ms, limits) or event


def _check(event: Decoded, now_ms: int, limits: Limits) -> Refusal | None:
    """The limits that a type cannot express."""
    if not isinstance(event, Item) and event.timestamp_ms > now_ms + limits.future_ms:
        ahead_s = (event.timestamp_ms - now_ms) // 1000
        return Refusal(Reason.FUTURE_TIMESTAMP, f"{ahead_s} s ahead of the clock, the limit is {limits.future_ms // 1000} s")
    match event:
        case Click() | Purchase():
            return _check_ids(event, limits) or _check_context(event.context, limits)
        case Review():
            if event.rating is None and event.retracts is None:
                return Refusal(Reason.MISSING_RATING, "a review needs a rating (1..5) unless it retracts an earlier one")
            return (
                _check_ids(event, limits) or _check_text(limits, event.text, event.title) or _check_context(event.context, limits)
            )
        case Impression():
            if len(event.items) > limits.impression_items:
                return Refusal(Reason.TOO_MANY_ITEMS, f"{len(event.items)} items, the limit is {limits.impression_items}")
            return _check_ids(event, limits) or _bad_id(limits, *event.items)
        case Item():
            if len(event.categories) > limits.categories:
                return Refusal(Reason.TOO_MANY_ITEMS, f"{len(event.categories)} categories, the limit is {limits.categories}")
            return (
                _bad_id(limits, event.item_id)
                or _check_text(limits, event.title, event.description, *event.categories)
            )  # fmt: skip
        case Erasure():
            return _bad_id(limits, event.request_id, event.user_id) or _reserved(event.user_id)


def _check_ids(event: Click | Purchase | Review | Impression, limits: Limits) -> Refusal | None:
    ids = [event.event_id, event.user_id]
    if isinstance(event, Impression):
        ids.append(event.list_id)
    else:
        ids.append(event.item_id)
        ids.extend(x for x in (event.retracts, event.session_id) if x is not None)
        if not isinstance(event, Review) and event.list_id is not None:
            ids.append(event.list_id)
    return _bad_id(limits, *ids) or _reserved(event.user_id)


def _bad_id(limits: Limits, *ids: str) -> Refusal | None:
    for x in ids:
        if not x or len(x) > limits.id_bytes or (not x.isascii() and len(x.encode()) > limits.id_bytes):
            return Refusal(Reason.INVALID_ID, f"an id must have 1 to {limits.id_bytes} bytes of UTF-8, this begins {x[:20]!r}")
    return None


def _reserved(user_id: str) -> Refusal | None:
    return (
        Refusal(Reason.RESERVED_ID, f"user ids beginning with '@' are reserved: {user_id[:20]!r}") if user_id[0] == "@" else None
    )


def _check_text(limits: Limits, *texts: str) -> Refusal | None:
    longest = max(map(len, texts), default=0)
    if longest > limits.text_chars:
        return Refusal(Reason.TEXT_TOO_LONG, f"{longest} characters, the limit is {limits.text_chars}")
    return None


def _check_context(context: dict[str, str] | None, limits: Limits) -> Refusal | None:
    if context and (len(context) > limits.context_entries or any(len(k) > 64 or len(v) > 64 for k, v in context.items())):
        return Refusal(Reason.CONTEXT_TOO_LARGE, f"at most {limits.context_entries} entries of 64 characters each")
    return None
