"""Retrieve, then rank by text: a scorer that reads what the user took and what each candidate is, over the fused list.

The scorer is anything with `Ranker.rank`; here is what surrounds it: the texts it reads, and what its scores do to a list.

    value(i) = log(score(i)) + w * f(q, i)

orders the candidates, with `score` the fused score, f the ranker's score of candidate i for the query text q, and w the
`weight`. With the learned fusion a score is a probability among the candidates, so this is the product of two experts, the
fusion and exp(w f) (Hinton 2002); w = 0 leaves the order alone. Scores, shares and reasons stay those of the fusion. A line
that stands above a higher score has one more reason of weight 0, `language`, and pinned items keep their places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from models.events import Evidence, Item, ItemVector, Recommended
from models.history import History
from models.kept import Kept

TITLE_CHARS: Final = 150
SNIPPET_CHARS: Final = 250
NOTE: Final = "language"
_SEPARATOR: Final = "; "


class Ranker(Protocol):
    """Scores candidates by their texts."""

    def rank(self, query_text: str, candidate_texts: Sequence[str]) -> Sequence[float]:
        """A finite score for each candidate, the larger the better; any scale. May raise; then the order stands as it is."""


class ItemTexts(Kept):
    """A title and a line about each item, for the `max_items` that changed last (at most 400 characters each).

    The line is the newest thing said about it (as it comes with the item's vector, and goes with it), else how its description
    begins.
    """

    kept = ("_titles", "_described", "_said")

    def __init__(self, max_items: int = 200_000) -> None:
        self.max_items = max_items
        self._titles: dict[str, str] = {}
        self._described: dict[str, str] = {}
        self._said: dict[str, str] = {}

    def entry(self, item: Item) -> None:
        """The newest entry of the catalogue."""
        self._put(self._titles, item.item_id, _line(item.title, TITLE_CHARS))
        self._put(self._described, item.item_id, _line(item.description, SNIPPET_CHARS))

    def vector(self, vector: ItemVector) -> None:
        """The newest vector of an item, with a line of what was said; an empty one takes the line back."""
        self.say(vector.item_id, vector.snippet if vector.vector else "")

    def say(self, item_id: str, text: str) -> None:
        """Something was said about the item; nothing: what was said no longer holds."""
        self._put(self._said, item_id, _line(text, SNIPPET_CHARS))

    def remove(self, item_id: str) -> None:
        """The item left the catalogue."""
        self._titles.pop(item_id, None)
        self._described.pop(item_id, None)

    def of(self, item_id: str) -> str:
        """Title and line; empty where nothing is known."""
        line = self._said.get(item_id) or self._described.get(item_id, "")
        return ". ".join(part for part in (self._titles.get(item_id, ""), line) if part)

    def query(self, items: Sequence[str]) -> str:
        """What the ranker is told of a user who took these items, the newest first; empty where nothing is known."""
        return _SEPARATOR.join(text for text in map(self.of, items) if text)

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Name -> (used, bound)."""
        return {"ranker_texts": (max(len(self._titles), len(self._described), len(self._said)), self.max_items)}

    def _put(self, texts: dict[str, str], item_id: str, text: str) -> None:
        texts.pop(item_id, None)
        if not text:
            return
        texts[item_id] = text
        if len(texts) > self.max_items:
            del texts[next(iter(texts))]


def _line(text: str, chars: int) -> str:
    return " ".join(text[: 4 * chars].split())[:chars]


def recent(history: History, user_id: str, count: int) -> list[str]:
    """Ids of the items the user took last, the newest first; empty for a stranger."""
    user = history.users.get(user_id)
    if user < 0:
        return []
    return [history.items.name(item) for item in history.profile(user)["item"][: -count - 1 : -1].tolist()]


def scores(ranker: Ranker, query_text: str, candidate_texts: Sequence[str]) -> list[float] | None:
    """The ranker's score of each candidate. One without text gets the mean of the others; None where there is nothing to rank
    by: no query, or fewer than two candidates with a text.

    Raises:
        ValueError: the ranker's answer is not one finite number for each text.
    """
    known = [k for k, text in enumerate(candidate_texts) if text]
    if not query_text or len(known) < 2:
        return None
    answer = [float(score) for score in ranker.rank(query_text, [candidate_texts[k] for k in known])]
    if len(answer) != len(known) or not all(map(math.isfinite, answer)):
        raise ValueError(f"{len(answer)} scores for {len(known)} texts, or not all of them finite")
    out = [math.fsum(answer) / len(answer)] * len(candidate_texts)
    for k, score in zip(known, answer, strict=True):
        out[k] = score
    return out


def reordered(lines: Sequence[Recommended], ranker_scores: Sequence[float], weight: float, n: int) -> list[Recommended]:
    """The best `n` of the lines by value (see the module), equal ones in the order they had; pinned ones stay on top.

    Raises:
        ValueError: not one score per line.
    """
    if len(ranker_scores) != len(lines):
        raise ValueError(f"{len(ranker_scores)} scores for {len(lines)} lines")
    pinned = [line for line in lines if _is_pinned(line)]
    free = [
        (math.log(max(line.score, 1e-300)) + weight * score, line)
        for line, score in zip(lines, ranker_scores, strict=True)
        if not _is_pinned(line)
    ]
    free.sort(key=lambda pair: -pair[0])
    order = [*pinned, *(line for _, line in free)]
    out: list[Recommended] = []
    for place, line in enumerate(order[:n]):
        overtaken = place >= len(pinned) and any(other.score > line.score for other in order[place + 1 :])
        reasons = [reason for reason in line.reasons if reason.kind not in _PLACES or not overtaken]
        if overtaken:
            reasons.append(Evidence(kind=NOTE, weight=0.0))
        out.append(msgspec.structs.replace(line, rank=place + 1, reasons=reasons))
    return out


_PLACES: Final = frozenset({"rule", "variety"})
"""Why a line stood where it did before."""


def _is_pinned(line: Recommended) -> bool:
    return any(reason.kind == "pinned" for reason in line.reasons)
