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
    items: npt.NDArray[np.int32], shares: npt.NDArray[np.float64], sources: list[Source], query: Query, history: History
) -> list[Recommended]:
    """The list: `items` (n,) the best first, with their `shares` (S, n)."""
    parts: list[dict[str, float]] = [{} for _ in items]
    reasons: list[list[Evidence]] = [[] for _ in items]
    for source, share in zip(sources, shares.tolist(), strict=True):
        places = [place for place, weight in enumerate(share) if weight]
        if not places:
            continue
        for place in places:
            parts[place][source.name] = share[place]
        grounds = source.evidence(query, items[places])
        _reasons(grounds, places, share, reasons, history)
    names = history.items.names
    lines: list[Recommended] = []
    for item, part, why in zip(items.tolist(), parts, reasons, strict=True):
        why.sort(key=_weight, reverse=True)
        lines.append(
            Recommended(item_id=names[item] or "", rank=len(lines) + 1, score=sum(part.values()), sources=part, reasons=why)
        )  # fmt: skip
    return lines


_weight = attrgetter("weight")


def _reasons(
    grounds: Grounds, places: list[int], share: list[float], reasons: list[list[Evidence]], history: History
) -> None:
    """Turn one source's grounds into reasons whose weights sum to its share of each item."""
    kind, rest_kind, names = grounds.kind, grounds.rest_kind, history.items.names
    because = None if grounds.item is None else grounds.item.tolist()
    number = None if grounds.number is None else grounds.number.tolist()
    said = grounds.text
    for x, fractions in enumerate(grounds.fraction.tolist()):
        why = reasons[places[x]]
        rest = weight = share[places[x]]
        for e, part in enumerate(fractions):
            if part <= 0.0:
                break
            rest -= weight * part
            why.append(
                Evidence(
                    kind=kind,
                    weight=weight * part,
                    item_id=None if because is None else names[because[x][e]],
                    count=None if number is None else number[x][e],
                    text=None if said is None else said[x][e],
                )
            )
        if abs(rest) > _NEGLIGIBLE:
            why.append(Evidence(kind=rest_kind, weight=rest))


WORDS: Final[dict[str, str]] = {
    "similar_to": "{count} people who took {item} took it too",
    "similar_to_history": "it was taken with other things you took",
    "similar_users": "{count} people with your taste took it",
    "similar_sessions": "{count} people who did as you did went on to it",
    "follows": "it is often taken after {item}",
    "goes_with": "it is often taken about the same time as {item}",
    "goes_with_history": "it is often taken near other things you took",
    "leads_to": "{item} leads to it",
    "leads_to_history": "what you took leads to it",
    "said_alike": "people say of it what they say of {item}",
    "category": "you go for {text}",
    "categories": "you go for things like it",
    "popular": "{count} people took it",
    "trending": "it is in demand now",
    "pinned": "the shop has put it on top",
    "rule": "a rule of the shop puts it here",
    "variety": "it makes the list more varied",
}
"""Kind of evidence -> what it says, with the fields of `Evidence`. Other kinds are named as they are."""
_QUOTED: Final = frozenset({"said_alike"})
"""Kinds whose text is a quotation."""


def words(recommended: Recommended, most: int = 3) -> str:
    """The strongest reasons as one sentence."""
    said = []
    for evidence in recommended.reasons[:most]:
        template = WORDS.get(evidence.kind)
        part = evidence.kind.replace("_", " ")
        if template is not None:
            part = template.format(item=evidence.item_id or "", count=evidence.count or 0, text=evidence.text or "")
        if evidence.kind in _QUOTED and evidence.text:
            part += f', like: "{evidence.text}"'
        said.append(part)
    return f"{recommended.item_id}: {'; '.join(dict.fromkeys(said)) or 'no reason is known'}."
