"""Why an item is in a list: in data (shares and evidence that sum to the score) and in words."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt

from models.events import Evidence, Recommended
from models.history import History
from models.kernel import kernel
from models.rows import Array
from models.sources.base import Query, Source

_NEGLIGIBLE: Final = 1e-12
MORE: Final = "more"
"""Kind of the reason that stands for all evidence not named."""
PIECE: Final = np.dtype([("weight", "<f8"), ("number", "<i8"), ("item", "<i4"), ("kind", "<i4"), ("text", "<i4")], align=True)
"""A piece of evidence: its part of the score, users or events (-1: none), item of the profile (-1: none), place in the list of
kinds, and the number of its text (-1: none; see `Grounds.text`)."""


def explained(
    items: npt.NDArray[np.int32],
    shares: npt.NDArray[np.float64],
    sources: list[Source],
    names: npt.NDArray[np.object_],
    query: Query,
    history: History,
    most: int,
) -> list[Recommended]:
    """The list: `items` (n,) the best first, with their `shares` (S, n) of `sources`, whose `names` (S,) are given.

    At most `most` pieces of evidence are named per item, the weightiest of all sources, equal ones of several sources as one;
    what they leave of the score is one reason of the kind `more`.
    """
    count, lines = shares.shape
    places, supported = np.empty((count, lines), np.int64), np.empty((count, lines), np.int32)
    supports, score, given = np.empty(count, np.int64), np.empty(lines), np.empty(lines, np.int64)
    parts, givers = np.empty(count * lines), np.empty(count * lines, np.int64)
    held = _supported(items, shares, places, supported, supports, score, parts, givers, given)
    grounds = [
        (s, sources[s].evidence(query, supported[s, :support])) for s, support in enumerate(supports.tolist()) if support
    ]  # fmt: skip
    kinds: dict[tuple[str, str | None], int] = {}
    said: list[tuple[str, str | Callable[[int], str | None]]] = []
    pieces: Array = np.empty((lines, sum([ground.fraction.shape[1] for _, ground in grounds])), PIECE)
    sizes = np.zeros(lines, np.int64)
    for s, ground in grounds:
        known, text, common = len(kinds), ground.text, ground.common
        kind = kinds.setdefault((ground.kind, common), known)
        if kind == known:
            said.append((ground.kind, ground.said if common is None else common))
        _collect(
            s, places, shares, ground.fraction, _NO_ITEM if ground.item is None else ground.item,
            _NO_NUMBER if ground.number is None else ground.number,
            text if text is not None else _NO_ITEM if common is None else _ONE_TEXT, kind, kind < known, pieces, sizes,
        )  # fmt: skip
    best, weights, fields = np.empty(most, np.int64), np.empty(lines * most), np.empty((4, lines * most), np.int64)
    rest = np.empty(lines)
    named = _weightiest(pieces, sizes, score, most, best, weights, fields, rest)
    because = _evidence(weights[:named], fields[:, :named], said, history)
    return _lines(items, score, parts[:held], names[givers[:held]], given, because, sizes, rest, history)


_NO_ITEM: Final[npt.NDArray[np.int32]] = np.full((1, 1), -1, np.int32)
_ONE_TEXT: Final[npt.NDArray[np.int32]] = np.zeros((1, 1), np.int32)
_NO_NUMBER: Final[npt.NDArray[np.int64]] = np.full((1, 1), -1, np.int64)


# ------------------------------------------------------------------------------------------------ as structs
# Plain lists from here on: they are cheaper to walk through than arrays.


def _evidence(
    weights: npt.NDArray[np.float64], fields: npt.NDArray[np.int64],
    said: list[tuple[str, str | Callable[[int], str | None]]], history: History,
) -> list[Evidence]:  # fmt: skip
    """Pieces (see `_weightiest`) as reasons; `said` has of each kind its name and its text, or who knows its texts by number."""
    ids = history.items.names
    return [
        Evidence(
            kind=said[kind][0],
            weight=weight,
            item_id=ids[item] if item >= 0 else None,
            count=number if number >= 0 else None,
            text=_text(said[kind][1], text) if text >= 0 else None,
        )
        for weight, number, item, kind, text in zip(weights.tolist(), *fields.tolist(), strict=True)
    ]


def _text(said: str | Callable[[int], str | None], number: int) -> str | None:
    return said if isinstance(said, str) else said(number)


def _lines(
    items: npt.NDArray[np.int32], score: npt.NDArray[np.float64], parts: npt.NDArray[np.float64],
    givers: npt.NDArray[np.object_], given: npt.NDArray[np.int64], because: list[Evidence], sizes: npt.NDArray[np.int64],
    rest: npt.NDArray[np.float64], history: History,
) -> list[Recommended]:  # fmt: skip
    """The list. Each line has the next `given` of all parts, which the sources of these names (`givers`) have given, and the next
    `sizes` of all reasons."""
    ids = history.items.names
    shares = zip(givers.tolist(), parts.tolist(), strict=True)
    lines: list[Recommended] = []
    begin = 0
    for item, total, own, size, left in zip(
        items.tolist(), score.tolist(), given.tolist(), sizes.tolist(), rest.tolist(), strict=True
    ):
        reasons = because[begin : begin + size]
        begin += size
        if abs(left) > _NEGLIGIBLE:
            reasons.append(Evidence(kind=MORE, weight=left))
        lines.append(
            Recommended(
                item_id=ids[item] or "", rank=len(lines) + 1, score=total, sources=dict(islice(shares, own)), reasons=reasons
            )
        )
    return lines


# ------------------------------------------------------------------------------------------------ kernels
@kernel
def _supported(
    items: Array, shares: Array, places: Array, supported: Array, supports: Array, score: Array, parts: Array, givers: Array,
    given: Array,
) -> int:  # fmt: skip
    """For each source the lines it has a share in: their places, items and number. For each line the sum of its shares, and the
    shares that are not 0: line after line into `parts`, whose they are into `givers`, their number into `given`. Returns how many
    there are in all."""
    supports[:] = 0
    n = 0
    for x in range(len(items)):
        begin = n
        total = 0.0
        for s in range(shares.shape[0]):
            share = shares[s, x]
            if share != 0.0:
                places[s, supports[s]] = x
                supported[s, supports[s]] = items[x]
                supports[s] += 1
                total += share
                parts[n] = share
                givers[n] = s
                n += 1
        given[x] = n - begin
        score[x] = total
    return n


@kernel
def _at(values: Array, x: int, e: int) -> int:
    """An array of one element stands for that everywhere."""
    return int(values[x, e] if values.size > 1 else values[0, 0])


@kernel
def _collect(
    s: int, places: Array, shares: Array, fraction: Array, items: Array, numbers: Array, texts: Array, kind: int, again: bool,
    pieces: Array, sizes: Array,
) -> None:  # fmt: skip
    """Add one source's evidence to what is known of each line; `again` where another source has given such evidence."""
    for x in range(fraction.shape[0]):
        line = places[s, x]
        for e in range(fraction.shape[1]):
            if fraction[x, e] <= 0.0:
                continue
            weight = shares[s, line] * fraction[x, e]
            item = _at(items, x, e)
            number = _at(numbers, x, e)
            text = _at(texts, x, e)
            known = pieces[line]
            p = 0 if again else sizes[line]
            while p < sizes[line] and not (known[p].kind == kind and known[p].item == item and known[p].text == text):
                p += 1
            if p < sizes[line]:
                known[p].weight += weight
                known[p].number = max(known[p].number, number)
                continue
            known[p].weight = weight
            known[p].number = number
            known[p].item = item
            known[p].kind = kind
            known[p].text = text
            sizes[line] += 1


@kernel
def _weightiest(
    pieces: Array, sizes: Array, score: Array, most: int, best: Array, weights: Array, fields: Array, rest: Array
) -> int:  # fmt: skip
    """The weightiest pieces of each line, those that came first before others of the same weight, line after line into `weights`
    and `fields` (number, item, kind, text); `sizes` becomes how many each line has, `rest` what they leave of its score. Returns
    how many there are. `best` (most,) is scratch."""
    end = 0
    for line in range(len(sizes)):
        own = pieces[line]
        n = 0
        for p in range(sizes[line]):
            if n == most and own[p].weight <= own[best[n - 1]].weight:
                continue
            at = n if n < most else n - 1
            n = min(n + 1, most)
            while at > 0 and own[best[at - 1]].weight < own[p].weight:
                best[at] = best[at - 1]
                at -= 1
            best[at] = p
        named = 0.0
        for p in best[:n]:
            named += own[p].weight
            weights[end] = own[p].weight
            fields[0, end], fields[1, end], fields[2, end], fields[3, end] = own[p].number, own[p].item, own[p].kind, own[p].text
            end += 1
        sizes[line] = n
        rest[line] = score[line] - named
    return end


# ------------------------------------------------------------------------------------------------ in words
WORDS: Final[dict[str, str]] = {
    "similar_to": "{count} people who took {item} took it too",
    "similar_users": "{count} people with your taste took it",
    "similar_raters": "{count} people who rate as you do think well of it",
    "similar_sessions": "{count} people who did as you did went on to it",
    "follows": "it is often taken after {item}",
    "again": "you came back to it before ({count} times so far)",
    "goes_with": "it is often taken about the same time as {item}",
    "together": "people who take {item} take it",
    "leads_to": "{item} leads to it",
    "alike": "it is like {item}",
    "rated_alike": "people rate it as they rate {item}",
    "said_alike": "people say of it what they say of {item}",
    "category": "you go for {text}",
    "popular": "{count} people took it",
    "trending": "it is in demand now",
    "pinned": "the shop has put it on top",
    "rule": "a rule of the shop puts it here",
    "variety": "it makes the list more varied",
    "newcomer": "it is new, and gets a chance",
    "language": "what is said about it goes with what you took",
}
"""Kind of evidence -> what it says, with the fields of `Evidence`. Other kinds are named as they are."""
_QUOTED: Final = frozenset({"said_alike"})
"""Kinds whose text is a quotation."""


def words(recommended: Recommended, most: int = 3) -> str:
    """The strongest reasons as one sentence."""
    said = []
    for evidence in [one for one in recommended.reasons if one.kind != MORE][:most]:
        template = WORDS.get(evidence.kind)
        part = evidence.kind.replace("_", " ")
        if template is not None:
            part = template.format(item=evidence.item_id or "", count=evidence.count or 0, text=evidence.text or "")
        if evidence.kind in _QUOTED and evidence.text:
            part += f', like: "{evidence.text}"'
        said.append(part)
    return f"{recommended.item_id}: {'; '.join(dict.fromkeys(said)) or 'no reason is known'}."
