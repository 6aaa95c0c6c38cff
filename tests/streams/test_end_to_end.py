"""The whole flow on a real broker, each process real: what platforms send, what consumers get, what an SRE sees."""

from __future__ import annotations

import itertools
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models import Recommender
from models.events import (
    POPULAR,
    Click,
    Impression,
    Interaction,
    Item,
    Purchase,
    RecommendationList,
    Recommended,
    Review,
)
from streams import topics
from streams.clock import now_ms
from streams.presence import everybody
from tests.streams.flow import PATIENCE_S, Flow, digest_in, flow, until

_prefixes = itertools.count()


@pytest.fixture
def river(kafka: Any, tmp_path: Path) -> Any:
    """Topics of its own for a worker. Own items never come back: these few people would teach the model otherwise."""
    with flow(kafka.bootstrap, tmp_path, f"e2e{next(_prefixes)}.", model_repeats="never") as made:
        yield made


def click(user: str, item: str, k: int, **more: Any) -> Click:
    return Click(event_id=f"{user}-{item}-{k}", user_id=user, item_id=item, timestamp_ms=now_ms(), **more)


def crowd(river: Flow) -> None:
    """Two tastes: some like a, b, c together, others x, y, z."""
    pairs = [(f"{taste[0]}{u}", item) for taste in ("abc", "xyz") for u in range(4) for item in taste]
    river.send_all([("clicks", click(user, item, 0)) for user, item in pairs])


def names(served: RecommendationList) -> list[str]:
    return [item.item_id for item in served.items]


def test_a_click_changes_the_list_and_the_list_says_why(river: Flow) -> None:
    river.start()
    crowd(river)
    river.settle()  # partitions are read independently: her click must not be taken before theirs
    river.send("clicks", click("ada", "a", 1))
    first = river.list_of("ada", lambda s: names(s)[:2] in (["b", "c"], ["c", "b"]))
    assert "a" not in names(first), "she has it"
    for item in first.items:
        assert abs(sum(item.sources.values()) - item.score) < 1e-9
        assert abs(sum(reason.weight for reason in item.reasons) - item.score) < 1e-9
    assert any(reason.item_id == "a" for reason in first.items[0].reasons), "evidence from her own history"
    assert first.caused_by.event_id == "ada-a-1"

    river.send("clicks", click("ada", "b", 2))
    second = river.list_of("ada", lambda s: s.list_id != first.list_id)
    assert "b" not in names(second)
    assert second.log_offset > first.log_offset
    popular = river.list_of(POPULAR)
    assert set(names(popular)) <= {"a", "b", "c", "x", "y", "z"}
    river.settle()  # a list can be read before whoever sent it knows, and counts
    assert river.metric("freshet_freshness_seconds_count") >= 26
    assert river.metric("freshet_lists_total", audience="user") >= 9
    until(lambda: river.metric("freshet_lists_total", audience="strangers") >= 1, "the list for strangers is counted")


def test_a_review_becomes_a_point_and_its_words_a_candidate(river: Flow) -> None:
    river.environment["FRESHET_EMBEDDING_MODEL"] = "bundled"
    worker = river.start()
    river.send("items", Item(item_id="tent", title="Two person tent", description="A light tent for hiking in the mountains"))
    river.send("items", Item(item_id="pan", title="Cast iron pan", description="For frying and baking in the kitchen"))
    filler = [Item(item_id=f"f{k}", title=t) for k, t in enumerate(["Garden hose", "Desk lamp", "Blue ink", "Piano stool"])]
    river.send_all([("items", item) for item in filler])
    review = Review(
        event_id="r1",
        user_id="bob",
        item_id="bag",
        timestamp_ms=now_ms(),
        rating=5,
        text="A warm sleeping bag, perfect for hiking trips with my tent in the mountains.",
    )
    river.send("reviews", review)
    until(lambda: river.metric("freshet_qdrant_points", collection="items") == 7, "seven items in Qdrant")
    assert river.metric("freshet_qdrant_points", collection="reviews") >= 1
    assert river.metric("freshet_texts_embedded_total") == 7
    river.settle()  # points are written before their vectors are published, and folded later still
    river.send("clicks", click("bob", "lamp-of-others", 1))
    served = river.list_of("bob", lambda s: "tent" in names(s) and s.caused_by.event_id == "bob-lamp-of-others-1")
    tent = next(item for item in served.items if item.item_id == "tent")
    assert tent.sources.get("text", 0) > 0, "nobody ever touched the tent: its words alone brought it here"
    if "pan" in names(served):
        assert names(served).index("tent") < names(served).index("pan")
    river.stop(worker)


def test_clicks_are_attributed_and_the_rate_can_be_read(river: Flow) -> None:
    river.start()
    crowd(river)
    river.settle()
    river.send("clicks", click("ada", "a", 1))
    served = river.list_of("ada", lambda s: len(s.items) >= 2 and "a" not in names(s))
    river.settle()
    shown = Impression(event_id="i1", user_id="ada", list_id=served.list_id, items=names(served)[:2], timestamp_ms=now_ms())
    river.send("impressions", shown)
    river.send("impressions", shown)
    river.send("clicks", click("ada", names(served)[1], 2, list_id=served.list_id, position=2))
    until(lambda: river.metric("freshet_clicks_attributed_total", arm="default", position="2-3") >= 1, "the attributed click")
    until(lambda: river.metric("freshet_impressions_total", origin="platform") == 2, "two items shown, once")
    before = river.metric("freshet_clicks_unattributed_total", reason="not_in_list")
    river.send("clicks", click("ada", "never-listed", 3))
    until(lambda: river.metric("freshet_clicks_unattributed_total", reason="not_in_list") == before + 1, "a click of its own")
    assert river.metric("freshet_impressions_total", origin="served") > 0


def raw(**changes: Any) -> bytes:
    """A click, as JSON, with something wrong."""
    return msgspec.json.encode({"event_id": "e", "user_id": "u", "item_id": "i", "timestamp_ms": 1, "list_id": "l"} | changes)


POISON: list[tuple[str, str, bytes | None, str]] = [
    ("clicks", "u", b"\xff\x00garbage", "invalid_json"),
    ("clicks", "u", b"", "empty"),
    ("clicks", "u", None, "empty"),
    ("clicks", "u", b"[" * 200_000, "invalid_field"),
    ("clicks", "u", b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json"),
    ("clicks", "u", raw(timestamp_ms="noon"), "invalid_field"),
    ("purchases", "u", raw(user_id=None), "invalid_field"),
    ("purchases", "u", b"x" * 500_000, "too_large"),
    ("reviews", "u", raw(), "missing_rating"),
    ("reviews", "u", raw(rating=9), "invalid_field"),
    ("clicks", "u", raw(user_id="@popular"), "reserved_id"),
    ("clicks", "u", raw(timestamp_ms=99_999_999_999_999), "future_timestamp"),
    ("clicks", "u", raw(item_id="i" * 60_000), "invalid_id"),
    ("reviews", "u", raw(rating=1, text="x" * 20_001), "text_too_long"),
    ("clicks", "u", raw(context={str(k): "" for k in range(99)}), "context_too_large"),
    ("items", "other", raw(item_id="mine"), "key_mismatch"),
    ("impressions", "u", raw(items=["i"] * 501), "too_many_items"),
    ("erasures", "u", b"not json", "invalid_json"),
    ("interactions", "u", b"somebody else wrote here", "invalid_field"),
    ("item-texts", "u", b"and here", "invalid_field"),
]


def test_poison_of_every_kind_is_put_aside_and_the_stream_goes_on(river: Flow) -> None:
    worker = river.start()
    for k, (topic, key, value, _) in enumerate(POISON):
        river.send("clicks", click("ada", f"good-{k}", k))
        river.send(topic, value, key=key)
    river.send("clicks", click("bob", "good-0", 0))
    river.list_of("bob")
    river.settle()
    letters = river.read("dead-letters")
    got = sorted((dict(r.headers)["source-topic"].decode(), dict(r.headers)["reason"].decode()) for r in letters)
    want = sorted((river.settings.topic(topic), reason) for topic, _, _, reason in POISON)
    assert got == want
    for record in letters:
        assert {"source-partition", "source-offset"} <= set(dict(record.headers))
    assert river.metric("freshet_dead_letters_total") == len(POISON)
    assert river.metric("freshet_folded_total", kind="click") == len(POISON) + 1, "every valid neighbour is in the model"
    assert worker.poll() is None
    river.stop(worker)


def test_delivered_again_changes_nothing_and_taken_back_never_happened(river: Flow) -> None:
    worker = river.start()
    crowd(river)
    bought = Purchase(event_id="ada-buys", user_id="ada", item_id="x", timestamp_ms=now_ms())
    for _ in range(3):
        river.send("purchases", bought)
    river.list_of("ada", lambda s: "x" not in names(s))
    river.settle()
    assert river.metric("freshet_duplicates_total") == 2
    assert river.metric("freshet_folded_total", kind="purchase") == 1
    back = Purchase(event_id="ada-returns", user_id="ada", item_id="x", timestamp_ms=now_ms(), retracts="ada-buys")
    river.send("purchases", back)
    river.settle()
    digest = digest_in(river.stop(worker))

    clean = Recommender(river.settings.model)
    for record in river.read("interactions"):
        line = msgspec.json.decode(record.value, type=Interaction)
        if line.user_id != "ada":
            clean.learn(line)
    other = Recommender(river.settings.model)
    for record in river.read("interactions"):
        other.learn(msgspec.json.decode(record.value, type=Interaction))
    assert digest == other.digest()
    assert other.similar_items("x") == clean.similar_items("x")
    assert [taken(line) for line in other.popular(10)] == [taken(line) for line in clean.popular(10)]


def taken(line: Recommended) -> tuple[str, int | None]:
    """An item and how many people took it; scores are learned by gradient steps and keep a trace of what was taken back."""
    return line.item_id, next(why.count for why in line.reasons if why.kind == "popular")


def test_a_killed_worker_comes_back_to_the_state_of_one_clean_pass(river: Flow) -> None:
    users, items = [f"u{k}" for k in range(40)], [f"i{k}" for k in range(25)]
    stream = [("clicks", click(users[(7 * k) % 40], items[(k * k + k // 40) % 25], k)) for k in range(3000)]
    worker = river.start()
    for part in range(0, 3000, 600):
        river.send_all(stream[part : part + 600])
        if part in (600, 1800):
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            river.send_all(stream[part : part + 50])  # the platform is not sure and sends some of it again
            worker = river.start(wait=False)
    until(lambda: river.metric("freshet_ready") == 1.0, "ready again")
    river.settle()
    digest = digest_in(river.stop(worker))

    clean = Recommender(river.settings.model)
    for _, event in stream:
        clean.learn(event)
    assert digest == clean.digest(), "exactly once, whatever was killed and repeated"
    assert not river.read("dead-letters")
    lists = river.lists()
    assert set(users) <= set(lists)
    for user in users:
        mine = {event.item_id for _, event in stream if event.user_id == user}
        assert not mine & set(names(lists[user]))


HUGE = "i" * 900_000
RUBBISH: list[tuple[bytes | None, bytes | None]] = [
    (b"u", b"\xff\x00\xfe garbage"),
    (b"\xff\xfe", b"\x00" * 1000),
    (None, b"{}"),
    (b"u", b""),
    (b"\xff\xfe", None),
    (HUGE.encode(), None),
    (b"u", b"[" * 100_000),
    (b"u", b'{"folded":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    (b"u", b"null"),
    (b"u", b'"text"'),
    (b"u", b"1e999"),
    (b"u", msgspec.json.encode({"event_id": HUGE})),
    (b"u", msgspec.json.encode({"event_id": "e", "user_id": HUGE, "item_id": "i", "timestamp_ms": 1, "list_id": "l"})),
    (b"u", msgspec.json.encode({"event_id": "e", "user_id": "u", "item_id": HUGE, "timestamp_ms": 1, "kind": "click"})),
    (b"u", msgspec.json.encode({"item_id": HUGE, "vector": "AAAA", "model": "m"})),
    (b"u", msgspec.json.encode({"event_id": "e", "user_id": "u", "vector": "AAAAAAAA", "model": "other"})),
    (b"u", msgspec.json.encode({"event_id": "e", "user_id": HUGE, "vector": "no base64!", "model": "m"})),
    (b"u", msgspec.json.encode({"user_id": HUGE, "list_id": "l", "items": [], "log_offset": -(2**63)})),
    (b"u", msgspec.json.encode({"name": HUGE, "at_ms": 2**62, "folded": [], "saved": None})),
]
"""Keys and values that nobody can have meant, and some that nearly fit one topic or another."""


def test_any_bytes_on_any_topic_stop_nobody(river: Flow) -> None:
    """Ours as well, which no platform should be allowed to write to; and a worker that starts reads all of it again."""
    river.environment["FRESHET_SNAPSHOTS"] = "false"
    worker = river.start()
    river.send("clicks", click("ada", "a", 1))
    sent = []
    for topic in topics.ALL:
        compacted = topic in (*topics.COMPACTED, *topics.PASSING)  # Kafka itself wants keys there
        for key, value in RUBBISH:
            if key is not None or not compacted:
                sent.append(river.producer.send(river.settings.topic(topic), key=key, value=value))
    for future in sent:
        future.get(PATIENCE_S)
    for again in (False, True):
        if again:
            river.stop(worker)
            worker = river.start()
        for k, user in enumerate(("bob", "eve")):
            river.send("clicks", click(user, "a" if k else "b", 2 + again))
        river.settle()
        assert worker.poll() is None, river.log()[-3000:]
        assert river.metric("freshet_folded_total", kind="click") >= 3
    newest = [r for r in river.read("recommendations") if r.key == b"bob"][-1]
    assert msgspec.json.decode(newest.value, type=RecommendationList).user_id == "bob"
    until(lambda: any(one.name.endswith(f"-{worker.pid}") for one in everybody(river.settings)), "rubbish hides nobody")
    river.stop(worker)
