"""The public interaction logs we read as they are published, one small converter each.

Ids get a letter before the number where users and items are numbered alike (u1, i1), so that the two can never be confused.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any, Final

from models.events import Event, Item, Limits
from streams.convert import BadLineError, Converter, field, interaction, parse_json

_TEXT_CHARS: Final = Limits().text_chars
_CATEGORIES: Final = Limits().categories


def _json_keys(line: str) -> frozenset[str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return frozenset()
    return frozenset(row) if isinstance(row, dict) else frozenset()


# ------------------------------------------------------------------------------------------------ Amazon reviews, 2014 and 2018
def _amazon_review(line: str) -> Event:
    row = parse_json(line)
    seconds = field(row, "unixReviewTime", int)
    return interaction(
        "review", field(row, "reviewerID", str), field(row, "asin", str), seconds * 1000,
        rating=float(field(row, "overall", (int, float))), text=str(row.get("reviewText") or ""),
        title=str(row.get("summary") or ""),
    )  # fmt: skip


def _amazon_item(line: str) -> Item:
    row = parse_json(line)
    described = row.get("description") or ""
    description = " ".join(map(str, described)) if isinstance(described, list) else str(described)
    return Item(
        item_id=field(row, "asin", str),
        title=str(row.get("title") or "")[:_TEXT_CHARS],
        description=description[:_TEXT_CHARS],  # bullet lists without end occur; the beginning says what it is
        categories=_categories(row),
        price=_price(row.get("price")),
    )


def _categories(row: dict[str, Any]) -> list[str]:
    """Distinct category names in order; `category` (2018) is a list, `categories` (2014) a list of paths."""
    listed = row.get("category") or row.get("categories") or []
    if not isinstance(listed, list):
        return []
    flat = [name for entry in listed for name in (entry if isinstance(entry, list) else [entry])]
    return list(dict.fromkeys(str(name) for name in flat if name))[:_CATEGORIES]


def _price(price: object) -> float | None:
    """A price as "$12.50" or a number; ranges, markup and anything else that is no price: None."""
    try:
        value = float(str(price).removeprefix("$").replace(",", ""))
    except ValueError:
        return None
    return value if 0 <= value < 1e9 else None


# ------------------------------------------------------------------------------------------------ MovieLens 100K
_GENRES: Final = (
    "unknown", "Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama", "Fantasy", "Film-Noir",
    "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip


def _is_movielens_rating(line: str) -> bool:
    columns = line.split("\t")
    return len(columns) == 4 and all(column.strip().isdigit() for column in columns)


def _movielens_rating(line: str) -> Event:
    user, item, rating, seconds = _numbers(line, "\t", 4)
    return interaction("review", f"u{user:.0f}", f"i{item:.0f}", int(seconds) * 1000, rating=rating)


def _is_movielens_item(line: str) -> bool:
    columns = line.split("|")
    return len(columns) == 5 + len(_GENRES) and columns[0].isdigit()


def _movielens_item(line: str) -> Item:
    columns = line.split("|")
    if not _is_movielens_item(line):
        raise BadLineError(f"{len(columns)} columns, expected {5 + len(_GENRES)}, the first a number")
    genres = [genre for genre, flag in zip(_GENRES, columns[5:], strict=True) if flag.strip() == "1"]
    return Item(item_id=f"i{columns[0]}", title=columns[1], categories=genres)


# ------------------------------------------------------------------------------------------------ Alibaba 2014 (Tmall brands)
_ALIBABA_HEADER: Final = "user_id,brand_id,type,visit_datetime"
_ALIBABA_KINDS: Final = {"0": "click", "1": "purchase", "2": "click", "3": "click"}  # 2: favourite, 3: into the cart


def _alibaba_event(line: str) -> Event | None:
    if line.startswith("user_id"):
        return None
    columns = line.split(",")
    if len(columns) != 4 or columns[2] not in _ALIBABA_KINDS:
        raise BadLineError(f"expected {_ALIBABA_HEADER} with a type of 0 to 3: {line[:80]!r}")
    try:
        month, day = map(int, columns[3].split("-"))
        moment = dt.datetime(2014, month, day, tzinfo=dt.UTC)
    except ValueError as problem:
        raise BadLineError(f"not a month and day: {columns[3]!r} ({problem})") from None
    return interaction(_ALIBABA_KINDS[columns[2]], "u" + columns[0], "b" + columns[1], int(moment.timestamp()) * 1000)


# ------------------------------------------------------------------------------------------------ Yoochoose (session-rec)
def _yoochoose_event(line: str) -> Event | None:
    if line.startswith("SessionId"):
        return None
    session, item, seconds = _numbers(line, "\t", 3)
    name = f"s{session:.0f}"
    return interaction("click", name, f"i{item:.0f}", round(seconds * 1000), session_id=name)


def _numbers(line: str, separator: str, count: int) -> list[float]:
    columns = line.split(separator)
    if len(columns) != count:
        raise BadLineError(f"{len(columns)} columns, expected {count}")
    try:
        values = [float(column) for column in columns]
    except ValueError as problem:
        raise BadLineError(str(problem)) from None
    if not all(0 <= value < 1e12 for value in values):
        raise BadLineError(f"a number out of range: {line[:80]!r}")
    return values


DATASETS: Final = (
    Converter("Amazon reviews", lambda head: {"reviewerID", "asin", "overall"} <= _json_keys(head), _amazon_review),
    Converter("Amazon items", lambda head: "asin" in _json_keys(head) and "reviewerID" not in _json_keys(head), _amazon_item),
    Converter("MovieLens ratings", _is_movielens_rating, _movielens_rating),
    Converter("MovieLens items", _is_movielens_item, _movielens_item, encoding="latin-1"),
    Converter("Alibaba brands", lambda head: head.strip() == _ALIBABA_HEADER, _alibaba_event, collapse=True),
    Converter("Yoochoose sessions", lambda head: head.split() == ["SessionId", "ItemId", "Time"], _yoochoose_event),
)
