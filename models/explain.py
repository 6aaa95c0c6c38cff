"""Why an item is in a list: in data (shares and evidence that sum to the score) and in words."""

from __future__ import annotations

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
    for source, share in zip(sources, shares, strict=True):
        places = np.flatnonzero(share)
        if not len(places):
            continue
        grounds = source.evidence(query, items[places])
        weights = share[places].tolist()
        for place, weight in zip(places.tolist(), weights, strict=True):
            parts[place][source.name] = weight
        _reasons(grounds, places.tolist(), weights, reasons, history)
    names = history.items.names
    out = []
    for rank, (item, part, why) in enumerate(zip(items.tolist(), parts, reasons, strict=True), 1):
        why.sort(key=_by_weight)
        out.append(
            Recommended(item_id=names[item] or "", rank=rank, score=sum(part.values()), sources=part, reasons=why)
        )  # fmt: skip
    return out


def _by_weight(evidence: Evidence) -> float:
    return -evidence.weight


def _reasons(
    grounds: Grounds, places: list[int], weights: list[float], reasons: list[list[Evidence]], history: History
) -> None:
    """Turn one source's grounds into reasons whose weights sum to its shares."""
    fraction = grounds.fraction.tolist()
    because = None if grounds.item is None else grounds.item.tolist()
    number = None if grounds.number is None else grounds.number.tolist()
    text, names, kind = grounds.text, history.items.names, grounds.kind
    for x, place in enumerate(places):
        weight, named = weights[x], 0.0
        for e, part in enumerate(fraction[x]):
            if part <= 0.0:
                break
            piece = weight * part
            named += piece
            reasons[place].append(
                Evidence(
                    kind=kind,
                    weight=piece,
                    item_id=None if because is None else names[because[x][e]],
                    count=None if number is None else number[x][e],
                    text=None if text is None else text[x][e],
                )
            )
        rest = weight - named
        if abs(rest) > _NEGLIGIBLE:
            reasons[place].append(Evidence(kind=grounds.rest_kind, weight=rest))


WORDS: Final[dict[str, str]] = {
    "similar_to": "{count} people who took {item} took it too",
    "similar_to_history": "it was taken with other things you took",
    "similar_users": "{count} people with your taste took it",
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
