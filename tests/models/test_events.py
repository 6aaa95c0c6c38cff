"""The contracts: recorded bytes stay readable, whatever else arrives is refused with the right word, and nothing raises."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import events
from models.events import (
    INPUTS,
    Click,
    Impression,
    Interaction,
    Item,
    Limits,
    Purchase,
    Reason,
    Refusal,
    Review,
    decode,
    encode,
)

NOW_MS = 1_700_000_000_000

# Bytes as platforms sent them when the first version of the contracts was published. They must stay readable for ever.
RECORDED = [
    (
        "clicks",
        b'{"event_id":"c1","user_id":"ada","item_id":"dune","timestamp_ms":1699999999000,"list_id":"l1","position":3,'
        b'"session_id":"s1","context":{"device":"phone"},"a_field_of_tomorrow":{"x":[1,2]}}',
        Click(
            event_id="c1",
            user_id="ada",
            item_id="dune",
            timestamp_ms=1699999999000,
            list_id="l1",
            position=3,
            session_id="s1",
            context={"device": "phone"},
        ),
    ),
    (
        "purchases",
        b'{"event_id":"p1","user_id":"ada","item_id":"dune","timestamp_ms":1699999999000,"quantity":2,"price":9.5,"currency":"EUR"}',
        Purchase(event_id="p1", user_id="ada", item_id="dune", timestamp_ms=1699999999000, quantity=2, price=9.5, currency="EUR"),
    ),
    (
        "reviews",
        b'{"event_id":"r1","user_id":"ada","item_id":"dune","timestamp_ms":1699999999000,"rating":5,"text":"sand","title":"!"}',
        Review(event_id="r1", user_id="ada", item_id="dune", timestamp_ms=1699999999000, rating=5.0, text="sand", title="!"),
    ),
    (
        "impressions",
        b'{"event_id":"i1","user_id":"ada","list_id":"l1","items":["dune","emma"],"timestamp_ms":1699999999000,"surface":"home"}',
        Impression(
            event_id="i1", user_id="ada", list_id="l1", items=["dune", "emma"], timestamp_ms=1699999999000, surface="home"
        ),
    ),
    (
        "items",
        b'{"item_id":"dune","title":"Dune","description":"Sand.","categories":["novel"],"price":9.5,"available":false}',
        Item(item_id="dune", title="Dune", description="Sand.", categories=["novel"], price=9.5, available=False),
    ),
    (
        "erasures",
        b'{"request_id":"q1","user_id":"ada","timestamp_ms":1699999999000}',
        events.Erasure(request_id="q1", user_id="ada", timestamp_ms=1699999999000),
    ),
]


def click(**changes: object) -> bytes:
    return msgspec.json.encode({"event_id": "e", "user_id": "u", "item_id": "i", "timestamp_ms": NOW_MS} | changes)


def review(**changes: object) -> bytes:
    return msgspec.json.encode({"event_id": "e", "user_id": "u", "item_id": "i", "timestamp_ms": NOW_MS, "rating": 4} | changes)


@pytest.mark.parametrize(("topic", "value", "event"), RECORDED, ids=[r[0] for r in RECORDED])
def test_recorded_bytes_decode_to_the_same_event(topic, value, event):
    assert decode(topic, value, now_ms=NOW_MS) == event


@pytest.mark.parametrize(("topic", "value", "event"), RECORDED, ids=[r[0] for r in RECORDED])
def test_an_event_survives_encoding_and_decoding(topic, value, event):
    assert decode(topic, encode(event), now_ms=NOW_MS) == event


REFUSED = [
    ("clicks", None, Reason.EMPTY),
    ("clicks", b"", Reason.EMPTY),
    ("clicks", click(pad="x" * 300_000), Reason.TOO_LARGE),
    ("clicks", b"{", Reason.INVALID_JSON),
    ("clicks", b"\xff\xfe", Reason.INVALID_JSON),
    ("clicks", b"\x00" * 50, Reason.INVALID_JSON),
    ("clicks", b'{"x":' + b"[" * 90_000 + b"]" * 90_000 + b"}", Reason.INVALID_JSON),
    ("clicks", b"[]", Reason.INVALID_FIELD),
    ("clicks", b"null", Reason.INVALID_FIELD),
    ("clicks", click(timestamp_ms="yesterday"), Reason.INVALID_FIELD),
    ("clicks", click(timestamp_ms=0), Reason.INVALID_FIELD),
    ("clicks", click(timestamp_ms=-5), Reason.INVALID_FIELD),
    ("clicks", click().replace(str(NOW_MS).encode(), b"9" * 40), Reason.INVALID_FIELD),
    ("clicks", click(user_id=7), Reason.INVALID_FIELD),
    ("clicks", click(user_id=""), Reason.INVALID_FIELD),
    ("clicks", b'{"event_id":"e","item_id":"i","timestamp_ms":1}', Reason.INVALID_FIELD),
    ("clicks", click(item_id="x" * 257), Reason.INVALID_ID),
    ("clicks", click(item_id="é" * 129), Reason.INVALID_ID),
    ("clicks", click(retracts=""), Reason.INVALID_ID),
    ("clicks", click(list_id="l" * 1000), Reason.INVALID_ID),
    ("clicks", click(user_id="@popular"), Reason.RESERVED_ID),
    ("clicks", click(timestamp_ms=NOW_MS + 300_001), Reason.FUTURE_TIMESTAMP),
    ("clicks", click(context={str(k): "v" for k in range(17)}), Reason.CONTEXT_TOO_LARGE),
    ("clicks", click(context={"device": "v" * 65}), Reason.CONTEXT_TOO_LARGE),
    ("reviews", review(rating=6), Reason.INVALID_FIELD),
    ("reviews", review(rating=None), Reason.MISSING_RATING),
    ("reviews", review(text="x" * 20_001), Reason.TEXT_TOO_LONG),
    ("items", encode(Item(item_id="i", categories=["c"] * 65)), Reason.TOO_MANY_ITEMS),
    (
        "impressions",
        encode(Impression(event_id="e", user_id="u", list_id="l", items=["i"] * 501, timestamp_ms=1)),
        Reason.TOO_MANY_ITEMS,
    ),
    (
        "impressions",
        encode(Impression(event_id="e", user_id="u", list_id="l", items=["i", ""], timestamp_ms=1)),
        Reason.INVALID_ID,
    ),
    ("erasures", b'{"request_id":"q","user_id":"@popular","timestamp_ms":1}', Reason.RESERVED_ID),
]


@pytest.mark.parametrize(("topic", "value", "reason"), REFUSED, ids=[f"{t}-{r}-{k}" for k, (t, _, r) in enumerate(REFUSED)])
def test_what_cannot_be_used_is_refused_with_the_enumerated_word(topic, value, reason):
    answer = decode(topic, value, now_ms=NOW_MS)
    assert isinstance(answer, Refusal)
    assert answer.reason is reason
    assert answer.detail


def test_the_limits_are_inclusive():
    assert isinstance(decode("clicks", click(item_id="x" * 256, timestamp_ms=NOW_MS + 300_000), now_ms=NOW_MS), Click)
    assert isinstance(decode("reviews", review(text="x" * 20_000), now_ms=NOW_MS), Review)


def test_limits_are_settings():
    assert isinstance(decode("clicks", click(item_id="xxxxx"), now_ms=NOW_MS, limits=Limits(id_bytes=4)), Refusal)


@given(topic=st.sampled_from(sorted(INPUTS)), value=st.binary(max_size=200))
def test_no_bytes_whatsoever_raise(topic, value):
    assert isinstance(decode(topic, value, now_ms=NOW_MS), Refusal)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["event_id", "user_id", "item_id", "timestamp_ms", "rating", "text", "retracts", "context", "items", "list_id"]
fields = st.sampled_from(FIELDS)


@given(topic=st.sampled_from(sorted(INPUTS)), changes=st.dictionaries(fields, json_values, max_size=4))
def test_any_json_is_an_event_or_a_refusal_and_events_can_be_sent_on(topic, changes):
    base = {"event_id": "e", "request_id": "q", "user_id": "u", "item_id": "i", "timestamp_ms": 5, "rating": 3, "list_id": "l"}
    answer = decode(topic, msgspec.json.encode(base | {"items": []} | changes), now_ms=NOW_MS)
    if not isinstance(answer, Refusal):
        assert decode(topic, encode(answer), now_ms=NOW_MS) == answer
        if not isinstance(answer, Item | Impression):
            line = Interaction.of(answer, origin="t/0/0", received_ms=1)
            assert msgspec.json.decode(encode(line), type=Interaction) == line


def test_normalising_says_what_a_retraction_is():
    base = {"event_id": "e2", "user_id": "u", "item_id": "i", "timestamp_ms": 5, "retracts": "e1"}
    assert Interaction.of(Click(**base)).kind == "retraction"
    assert Interaction.of(Purchase(**base)).kind == "retraction"
    assert Interaction.of(Review(**base)).kind == "retraction", "deleted"
    edited = Interaction.of(Review(**base, rating=2.0))
    assert (edited.kind, edited.rating, edited.retracts) == ("review", 2.0, "e1"), "edited: a new opinion in place of the old"
