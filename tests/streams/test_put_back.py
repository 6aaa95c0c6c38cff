"""Dead letters put back: what is good by now goes where it came from, the rest stays and is told; nothing is learned twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.events import Click, Item, Review, encode
from streams.clock import now_ms
from streams.dead_letters import DeadLetter, iter_dead_letters
from streams.embedded_kafka import EmbeddedKafka
from streams.put_back import PutBackError, from_file, lines_of, put_back, wanted
from streams.settings import Settings
from tests.streams.flow import Flow, flow, until

GOOD = encode(Click(event_id="e1", user_id="ada", item_id="x", timestamp_ms=1))


def letter(**changes: Any) -> DeadLetter:
    """A click that is good by now."""
    values: dict[str, Any] = {
        "partition": 1, "offset": 5, "timestamp_ms": 1_000, "key": b"ada", "value": GOOD, "source_topic": "clicks",
        "source_partition": 1, "source_offset": 42, "reason": "future_timestamp", "detail": "ahead", "refused_at_ms": 1_000,
        "truncated": None, "key_truncated": None, **changes,
    }  # fmt: skip
    return DeadLetter(**values)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"value": b"no event"}, "invalid_json"),
        ({"value": None}, "empty"),
        ({"truncated": 2_000_000}, "truncated"),
        ({"key_truncated": 5_000}, "truncated"),
        ({"source_topic": "interactions"}, "unknown_origin"),
        ({"source_topic": "recommendations"}, "unknown_origin"),
        ({"source_topic": None}, "unknown_origin"),
        ({"source_topic": "other.clicks"}, "unknown_origin"),
        ({"source_topic": "items", "value": b'{"item_id": "x"}', "key": b"y"}, "key_mismatch"),
        ({"source_topic": "items", "value": None, "key": b"y"}, None),  # the tombstone of an item
    ],
)
def test_only_what_would_be_accepted_now_is_put_back(changes: dict[str, Any], why: str | None) -> None:
    """Whoever can write dead letters must not reach the internal topics by them."""
    outcome = put_back(Settings(), [letter(**changes)], dry_run=True)
    assert (outcome.sent.total(), dict(outcome.left)) == ((1, {}) if why is None else (0, {why: 1}))


def test_a_limit_that_was_raised_lets_them_through() -> None:
    long = encode(Review(event_id="r1", user_id="ada", item_id="x", timestamp_ms=1, rating=5, text="a" * 500))
    review = letter(source_topic="reviews", value=long)
    assert put_back(Settings(max_text_chars=100), [review], dry_run=True).left == {"text_too_long": 1}
    assert put_back(Settings(max_text_chars=1_000), [review], dry_run=True).sent == {"reviews": 1}


def test_letters_are_chosen_by_reason_topic_and_time() -> None:
    letters = [letter(offset=k, timestamp_ms=k) for k in range(3)] + [letter(reason="empty"), letter(source_topic="items")]
    assert [one.offset for one in wanted(letters, reason="future_timestamp", topic="clicks", since_ms=1)] == [1, 2]
    assert len(list(wanted(letters, reason=None, topic=None, since_ms=None))) == 5


def test_mended_lines_are_read_and_others_are_named(tmp_path: Path) -> None:
    path = tmp_path / "letters.jsonl"
    path.write_bytes(msgspec.json.encode(letter()) + b"\n\n" + b'{"mended": true}\n')
    found = from_file(lines_of(path))
    assert next(found) == letter()
    with pytest.raises(PutBackError, match="line 3"):
        next(found)
    with pytest.raises(PutBackError, match="No such file"):
        next(lines_of(tmp_path / "none"))


# ------------------------------------------------------------------------------------------------ on a real broker
@pytest.fixture
def river(kafka: EmbeddedKafka, tmp_path: Path, request: Any) -> Any:
    with flow(kafka.bootstrap, tmp_path, "back.", max_text_chars="100") as made:
        yield made


def command(river: Flow, *arguments: str, text: bytes = b"", **settings: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, **river.environment, **settings, "COLUMNS": "200"}
    program = [sys.executable, "-m", "streams.cli", "dead-letters", *arguments]
    return subprocess.run(program, env=environment, input=text, capture_output=True)


def test_refused_mended_put_back_and_learned_once(river: Flow) -> None:
    river.start()
    long = Review(event_id="r1", user_id="ada", item_id="x", timestamp_ms=now_ms(), rating=5, text="b" * 500)
    river.send("reviews", long)
    river.send("clicks", b'{"event_id": "e2", "user_id": "bob", "item_id": "y", "timestamp_ms": "soon"}', key="bob")
    river.send("items", Item(item_id="x", title="t"), key="wrong")

    def letters() -> list[DeadLetter]:
        return list(iter_dead_letters(river.settings.connection, "back.dead-letters"))

    until(lambda: len(letters()) == 3, "three dead letters")

    told = command(river, "--replay", "--dry-run", FRESHET_MAX_TEXT_CHARS="1000")
    assert told.returncode == 0, told.stderr
    assert sorted(told.stdout.decode().splitlines()) == [
        "left: 1 would be refused again (invalid_field)",
        "left: 1 would be refused again (key_mismatch)",
        "reviews: 1 would be put back",
    ]
    assert river.metric("freshet_events_total", topic="reviews") == 0, "a dry run sends nothing"

    river.stop(river.workers[-1])
    river.environment["FRESHET_MAX_TEXT_CHARS"] = "1000"  # as the operator decides
    river.start()
    for _ in range(2):  # twice is harmless
        done = command(river, "--replay", "--reason", "text_too_long")
        assert done.stdout.decode().splitlines() == ["reviews: 1 put back"]
    river.settle()
    until(lambda: river.metric("freshet_events_total", topic="reviews") == 2, "both copies came in")
    assert river.metric("freshet_folded_total", kind="review") == 1
    (origin,) = {dict(record.headers)["put-back-from"] for record in river.read("reviews") if record.headers}
    assert origin.count(b"/") == 1

    lines = command(river, "--json", "--topic", "clicks").stdout
    broken = json.loads(lines)
    event = json.loads(msgspec.json.decode(lines, type=DeadLetter).value or b"")
    mended = msgspec.json.decode(lines, type=DeadLetter)
    value = json.dumps({**event, "timestamp_ms": now_ms()}).encode()
    line = msgspec.json.encode(msgspec.structs.replace(mended, value=value))
    assert set(json.loads(line)) == set(broken)
    done = command(river, "--replay", "--from", "-", text=line)
    assert done.stdout.decode().splitlines() == ["clicks: 1 put back"]
    until(lambda: river.metric("freshet_folded_total", kind="click") == 1, "the mended click is learned")
    assert len(letters()) == 3, "letters stay where they are"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--replay", "--follow"), "for ever"),
        (("--dry-run",), "go with --replay"),
        (("--reason", "bad_mood"), "choose from"),
        (("--topic", "interactions"), "choose from"),
    ],
)
def test_mistakes_get_a_sentence(kafka: EmbeddedKafka, arguments: tuple[str, ...], said: str) -> None:
    environment = {**os.environ, "FRESHET_BOOTSTRAP": kafka.bootstrap, "COLUMNS": "300"}
    program = [sys.executable, "-m", "streams.cli", "dead-letters", *arguments]
    done = subprocess.run(program, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
