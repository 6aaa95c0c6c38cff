"""Why an item is in a list: in data (shares and evidence that sum to the score) and in words."""

from __future__ import annotations

from operator import attrgetter
from typing import Final

import numpy as np
import numpy.typing as npt

from models.events import Evidence, Recommended
from models.history import History
from models.sources.base import Grounds, Query, Source

_NEGLIGIBLE: Final = 1e-12


def explained(
    items: npt.NDArray[np.int32],
    shares: npt.NDArray[np.float64],
    sources: list[Source],
    query: Query,
    history: History,
    most: int = 5,
) -> list[Recommended]:
    """The list: `items` (n,) the best first, with their `shares` (S, n).

    At most `most` pieces of evidence are named per item, the weightiest of all sources; what they leave of the score is one
    reason of the kind `more`.
    """
    parts: list[dict[str, float]] = [{} for _ in items]
    given: list[tuple[Grounds, npt.NDArray[np.intp]]] = []
    columns: list[npt.NDArray[np.float64]] = []
    for source, share in zip(sources, shares, strict=True):
        places = np.flatnonzero(share)
        if not len(places):
            continue
        for place, weight in zip(places.tolist(), share[places].tolist(), strict=True):
            parts[place][source.name] = weight
        grounds = source.evidence(query, items[places])
        row = np.empty(len(items), np.intp)
        row[places] = np.arange(len(places))
        pieces = np.zeros((grounds.fraction.shape[1], len(items)))
        pieces[:, places] = (grounds.fraction * share[places, None]).T
        columns.append(pieces)
        given.append((grounds, row))
    reasons = _weightiest(columns, given, len(items), most, history)
    lines: list[Recommended] = []
    for item, part, why in zip(items.tolist(), parts, reasons, strict=True):
        score = sum(part.values())
        rest = score - sum(one.weight for one in why)
        if abs(rest) > _NEGLIGIBLE:
            why.append(Evidence(kind=MORE, weight=rest))
        lines.append(
            Recommended(item_id=history.items.names[item] or "", rank=len(lines) + 1, score=score, sources=part, reasons=why)
        )
    return lines


MORE: Final = "more"
"""Kind of the reason that stands for all evidence not named."""


def _weightiest(
    columns: list[npt.NDArray[np.float64]],
    given: list[tuple[Grounds, npt.NDArray[np.intp]]],
    n: int,
    most: int,
    history: History,
) -> list[list[Evidence]]:
    """Of each item the pieces with the largest weights, as reasons; equal evidence of several sources is one reason."""
    if not columns:
        return [[] for _ in range(n)]
    table = np.concatenate(columns)  # (pieces of all sources, n)
    whose = [(s, e) for s, column in enumerate(columns) for e in range(len(column))]
    order = np.argsort(-table, axis=0, kind="stable")[: 2 * most]  # some will turn out to be the same
    weights = np.take_along_axis(table, order, axis=0).T.tolist()
    found = []
    for place, (chosen, weight) in enumerate(zip(order.T.tolist(), weights, strict=True)):
        why: dict[tuple[str, str | None, str | None], Evidence] = {}
        for piece, part in zip(chosen, weight, strict=True):
            if part <= 0.0:
                break
            s, e = whose[piece]
            one = _evidence(given[s][0], int(given[s][1][place]), e, part, history)
            key = one.kind, one.item_id, one.text
            known = why.get(key)
            if known is not None:
                count = max(known.count or 0, one.count or 0) or None
                one = Evidence(kind=one.kind, weight=known.weight + part, item_id=one.item_id, count=count, text=one.text)
            why[key] = one
        found.append(sorted(why.values(), key=_weight, reverse=True)[:most])
    return found


_weight = attrgetter("weight")


def _evidence(grounds: Grounds, row: int, e: int, weight: float, history: History) -> Evidence:
    """One piece of one source's grounds."""
    return Evidence(
        kind=grounds.kind,
        weight=weight,
        item_id=None if grounds.item is None else history.items.names[grounds.item[row, e]],
        count=None if grounds.number is None else int(grounds.number[row, e]),
        text=None if grounds.text is None else grounds.text[row][e],
    )


WORDS: Final[dict[str, str]] = {
    "similar_to": "{count} people who took {item} took it too",
    "similar_users": "{count} people with your taste took it",
    "similar_sessions": "{count} people who did as you did went on to it",
    "follows": "it is often taken after {item}",
    "again": "you came back to it before ({count} times so far)",
    "goes_with": "it is often taken about the same time as {item}",
    "leads_to": "{item} leads to it",
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
