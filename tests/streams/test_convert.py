"""Readers of event files: every known form, ids from content, order without leaks, errors that name the line."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from models.events import Click, Item, Purchase, Review
from streams.convert import EventFile, EventFileError, converters, read_events
from tests.public_data import DATA, needs_data

DAY_S = 86_400


def write(path: Path, *rows: dict[str, object] | str) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
    return path


def test_our_own_form_comes_back_as_it_was(tmp_path: Path) -> None:
    ids = {"event_id": "e1", "user_id": "ada", "item_id": "dune"}
    click = {"type": "click", "timestamp_ms": 5, "context": {"device": "tv"}, **ids}
    item = {"type": "item", "item_id": "dune", "title": "Dune", "categories": ["books"]}
    events = list(read_events(write(tmp_path / "f.jsonl", click, item)))
    assert events == [
        Item(item_id="dune", title="Dune", categories=["books"]),
        Click(event_id="e1", user_id="ada", item_id="dune", timestamp_ms=5, context={"device": "tv"}),
    ]


def test_common_form_with_seconds_and_ratings(tmp_path: Path) -> None:
    rows = [
        {"type": "review", "user_id": "a", "item_id": "x", "timestamp": 1.5, "rating": 4, "text": "good", "event_id": "1"},
        {"type": "buy", "user_id": "a", "item_id": "y", "timestamp": 2, "rating": None, "session_id": 7, "event_id": "2"},
        {"type": "cart", "user_id": 3, "item_id": 4, "timestamp": 3, "event_id": "3", "unheard_of": {}},
    ]
    assert list(read_events(write(tmp_path / "f.jsonl", *rows))) == [
        Review(event_id="1", user_id="a", item_id="x", timestamp_ms=1500, rating=4.0, text="good"),
        Purchase(event_id="2", user_id="a", item_id="y", timestamp_ms=2000, session_id="7"),
        Click(event_id="3", user_id="3", item_id="4", timestamp_ms=3000),
    ]


def test_ids_come_from_content_and_are_unique(tmp_path: Path) -> None:
    a, b = ({"user_id": user, "item_id": "x", "timestamp": 1.5} for user in "ab")
    forward = [(e.user_id, e.event_id) for e in read_events(write(tmp_path / "f", a, b, a)) if isinstance(e, Click)]
    backward = [(e.user_id, e.event_id) for e in read_events(write(tmp_path / "g", a, a, b)) if isinstance(e, Click)]
    assert sorted(forward) == sorted(backward)
    assert len({event_id for _, event_id in forward}) == 3


def test_ties_of_day_stamps_are_hashed_and_others_keep_the_file_order(tmp_path: Path) -> None:
    pairs = [("a", "x"), ("b", "x"), ("c", "y"), ("d", "y")]
    days = write(tmp_path / "days", *({"user_id": u, "item_id": i, "timestamp": DAY_S} for u, i in pairs))
    expected = sorted(pairs, key=lambda p: hashlib.sha1(f"{p[0]}|{p[1]}".encode(), usedforsecurity=False).hexdigest())
    assert [(e.user_id, e.item_id) for e in read_events(days)] == expected != pairs  # type: ignore[union-attr]
    seconds = write(tmp_path / "seconds", *({"user_id": u, "item_id": i, "timestamp": DAY_S + 1} for u, i in pairs))
    assert [(e.user_id, e.item_id) for e in read_events(seconds)] == pairs  # type: ignore[union-attr]


def test_time_order_and_file_order(tmp_path: Path) -> None:
    path = write(tmp_path / "f", *({"user_id": "a", "item_id": str(t), "timestamp": t} for t in (3, 1, 2)))
    assert [e.item_id for e in read_events(path)] == ["1", "2", "3"]
    assert [e.item_id for e in read_events(path, order="file")] == ["3", "1", "2"]


BAD_LINES = {
    "torn": ('{"user_id": "a", "item', "not JSON"),
    "list": ("[1]", "not a JSON object"),
    "no user": ({"item_id": "x", "timestamp": 1}, "'user_id'"),
    "boolean user": ({"user_id": True, "item_id": "x", "timestamp": 1}, "'user_id'"),
    "no time": ({"user_id": "a", "item_id": "x"}, "'timestamp'"),
    "time beyond time": ({"user_id": "a", "item_id": "x", "timestamp": 1e300}, "'timestamp'"),
    "not a number": ('{"user_id": "a", "item_id": "x", "timestamp": NaN}', "'timestamp'"),
    "six stars": ({"user_id": "a", "item_id": "x", "timestamp": 1, "rating": 6}, "invalid_field"),
    "reserved": ({"user_id": "@popular", "item_id": "x", "timestamp": 1}, "reserved_id"),
    "long id": ({"user_id": "a" * 300, "item_id": "x", "timestamp": 1}, "invalid_id"),
    "unknown kind in our form": ({"type": "click", "user_id": "a", "item_id": "x", "timestamp_ms": "soon"}, "invalid_field"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_is_named_and_lenient_skips_it(tmp_path: Path, case: str) -> None:
    bad, complaint = BAD_LINES[case]
    good = {"user_id": "a", "item_id": "x", "timestamp": 1}
    path = write(tmp_path / "f.jsonl", good, "", bad, good)
    with pytest.raises(EventFileError, match=r"f\.jsonl:3: ") as caught:
        list(read_events(path))
    assert complaint in str(caught.value)
    lenient = EventFile(path, lenient=True)
    assert len(list(lenient)) == 2
    assert lenient.skipped == 1
    assert lenient.first_problem is not None
    assert "f.jsonl:3" in lenient.first_problem


def test_files_that_are_not_events(tmp_path: Path) -> None:
    for name, content in (("empty", b""), ("blank", b"\n \n"), ("prose", b"once upon a time\n"), ("long", b"x" * (2 << 20))):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(EventFileError, match=name):
            read_events(path)
    with pytest.raises(EventFileError, match="No such file"):
        read_events(tmp_path / "absent")


def test_torn_gzip_is_an_error_with_the_line(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"user_id": f"u{k}", "item_id": f"i{k * k}", "timestamp": k}) + "\n" for k in range(5000))
    path = tmp_path / "f.jsonl.gz"
    path.write_bytes(gzip.compress(rows.encode())[:-2000])
    with pytest.raises(EventFileError, match=r"after line \d{3,}"):
        list(read_events(path))


def test_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b'{"user_id": "a", "item_id": "x", "timestamp": 1}\n\xff\xfe\n')
    with pytest.raises(EventFileError, match=":2: not utf-8"):
        list(read_events(path))
    assert len(list(read_events(path, lenient=True))) == 1


def test_alibaba_rows(tmp_path: Path) -> None:
    rows = ("user_id,brand_id,type,visit_datetime", "7,9,1,4-15", "7,9,0,4-15", "7,9,0,4-15", "7,9,3,4-15")
    events = list(read_events(write(tmp_path / "f.csv", *rows)))
    assert [type(event) for event in events] == [Purchase, Click, Click]  # the repeated row is one event, the cart another
    assert {event.timestamp_ms for event in events} == {1_397_520_000_000}  # type: ignore[union-attr]
    with pytest.raises(EventFileError, match=":2: not a month and day"):
        list(read_events(write(tmp_path / "g.csv", rows[0], "7,9,1,2-30")))
    with pytest.raises(EventFileError, match=":2: expected user_id"):
        list(read_events(write(tmp_path / "h.csv", rows[0], "7,9,5,2-3")))


def test_amazon_item_oddities(tmp_path: Path) -> None:
    row = {"asin": "B1", "title": "Card", "description": ["one", "two"], "category": ["Gifts", "Gifts"], "price": "$1,250.50"}
    assert list(read_events(write(tmp_path / "f", row, {"asin": "B2", "price": ".a-section{", "category": None}))) == [
        Item(item_id="B1", title="Card", description="one two", categories=["Gifts"], price=1250.5),
        Item(item_id="B2"),
    ]


def test_every_form_is_recognised_by_one_converter_only() -> None:
    heads = {
        "neutral JSON lines": '{"user_id": "a", "item_id": "b", "timestamp": 1}',
        "Amazon reviews": '{"reviewerID": "A", "asin": "B", "overall": 5.0, "unixReviewTime": 1}',
        "Amazon items": '{"asin": "B", "title": "t"}',
        "MovieLens ratings": "196\t242\t3\t881250949",
        "MovieLens items": "1|Toy Story (1995)|01-Jan-1995||http://x|0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0",
        "Alibaba brands": "user_id,brand_id,type,visit_datetime",
        "Yoochoose sessions": "SessionId\tItemId\tTime",
    }
    assert set(heads) == {converter.name for converter in converters()}
    for name, head in heads.items():
        assert [converter.name for converter in converters() if converter.sniff(head)] == [name]


@needs_data
@pytest.mark.parametrize(
    ("name", "events", "users", "items"),
    [
        ("amazon-musical-instruments/reviews.jsonl.gz", 10_261, 1_429, 900),
        ("amazon-gift-cards/reviews.jsonl.gz", 2_972, 458, 148),
        ("amazon-gift-cards/items.jsonl.gz", 1_547, 0, 1_547),
        ("movielens-100k/u.data.gz", 100_000, 943, 1_682),
        ("movielens-100k/u.item.gz", 1_682, 0, 1_682),
        ("alibaba-2014/events.csv.gz", 85_030, 884, 9_531),
        ("yoochoose-100k/test.tsv.gz", 13_568, 3_416, None),
    ],
)
def test_published_sizes(name: str, events: int, users: int, items: int | None) -> None:
    read = list(read_events(DATA / name))
    times = [event.timestamp_ms for event in read if not isinstance(event, Item)]
    assert len(read) == events
    assert len({event.user_id for event in read if not isinstance(event, Item)}) == users
    assert items is None or len({event.item_id for event in read}) == items
    assert times == sorted(times)
    assert len({event.event_id for event in read if not isinstance(event, Item)}) == len(times)
