"""Why an item is in a list: in data (shares and evidence that sum to the score) and in words."""

from __future__ import annotations

from collections.abc import Sequence
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
    names = history.items.names
    parts: list[dict[str, float]] = [{} for _ in items]
    pieces: list[list[Piece]] = [[] for _ in items]
    for source, share in zip(sources, shares.tolist(), strict=True):
        places = [place for place, weight in enumerate(share) if weight]
        if not places:
            continue
        grounds = source.evidence(query, items if len(places) == len(items) else items[places])
        _collect(grounds, places, share, pieces)
        for place in places:
            parts[place][source.name] = share[place]
    lines: list[Recommended] = []
    for item, part, found in zip(items.tolist(), parts, pieces, strict=True):
        score = sum(part.values())
        reasons = _weightiest(found, most, names)
        rest = score - sum(one.weight for one in reasons)
        if abs(rest) > _NEGLIGIBLE:
            reasons.append(Evidence(kind=MORE, weight=rest))
        lines.append(Recommended(item_id=names[item] or "", rank=len(lines) + 1, score=score, sources=part, reasons=reasons))
    return lines


MORE: Final = "more"
"""Kind of the reason that stands for all evidence not named."""

Piece = tuple[float, str, int, int, str | None]
"""Weight, kind, index of an item of the profile (-1: none), number (-1: none), text."""


def _collect(grounds: Grounds, places: list[int], share: list[float], pieces: list[list[Piece]]) -> None:
    """One source's evidence for the items at `places`. Plain lists: a list has too few items for arrays to pay."""
    kind, width = grounds.kind, grounds.fraction.shape[1]
    nothing = [[-1] * width] * len(places)
    because = nothing if grounds.item is None else grounds.item.tolist()
    number = nothing if grounds.number is None else grounds.number.tolist()
    text: list[list[str | None]] = [[None] * width] * len(places) if grounds.text is None else grounds.text
    for x, (place, fractions) in enumerate(zip(places, grounds.fraction.tolist(), strict=True)):
        weight, found = share[place], pieces[place]
        for e, fraction in enumerate(fractions):
            if fraction > 0.0:
                found.append((weight * fraction, kind, because[x][e], number[x][e], text[x][e]))


def _weightiest(found: list[Piece], most: int, names: Sequence[str | None]) -> list[Evidence]:
    """The pieces with the largest weights as reasons; equal evidence of several sources is one reason."""
    merged: dict[tuple[str, int, str | None], tuple[float, int]] = {}
    for weight, kind, item, number, text in found:
        before, count = merged.get((kind, item, text), (0.0, -1))
        merged[kind, item, text] = before + weight, max(count, number)
    best = sorted(merged.items(), key=lambda one: one[1][0], reverse=True)[:most]
    return [
        Evidence(
            kind=kind,
            weight=weight,
            item_id=names[item] if item >= 0 else None,
            count=count if count >= 0 else None,
            text=text,
        )
        for (kind, item, text), (weight, count) in best
    ]


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
