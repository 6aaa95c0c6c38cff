"""Why an item is in a list: in data (shares and evidence that sum to the score) and in words."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt

from models.config import Config
from models.events import Evidence, Recommended
from models.history import History
from models.kept import Kept
from models.kernel import inlined, kernel
from models.rows import Array
from models.sources.base import Query, Source, rooms

_NEGLIGIBLE: Final = 1e-12
MORE: Final = "more"
"""Kind of the reason that stands for all evidence not named."""
LEAST: Final = 0.02
"""Sources that give a smaller part of a score are not asked why: what they know is no reason to take the item."""
_LINES: Final = 32
"""Of a list that is expected; for longer ones there is room when they come."""
_KIND, _AGAIN, _PIECES, _ITEM, _NUMBER, _TEXT = range(6)
"""What kernels know of a source: see `Explainer._grounds`."""


class Explainer(Kept):
    """Explains lists. All it holds is scratch, overwritten by the next list, and what the sources say of their evidence. Bound:
    room for twice the longest list that was asked for, some 80 bytes a line and source."""

    scratch = (
        "_rooms", "_room", "_supported", "_supports", "_parts", "_givers", "_given", "_score", "_weight", "_fields", "_weights",
        "_named", "_sizes", "_rest", "_names", "_grounds", "_kinds", "_said",
    )  # fmt: skip

    def __init__(self, config: Config, history: History, sources: list[Source]) -> None:
        self.config, self.history, self.sources = config, history, sources
        self._names: npt.NDArray[np.object_] = np.array([source.name for source in sources], object)
        self._grounds: npt.NDArray[np.int64] = np.zeros((len(sources), 6), np.int64)
        """Per source: the kind of its evidence, by number, and whether an earlier source gives such evidence too; whether its
        evidence is in pieces, with items, with numbers, and with texts (2: one text for all)."""
        self._kinds: list[str] = []
        self._said: list[str | Callable[[int], str | None]] = []
        """Of each kind of evidence its text, or who knows its texts by number."""
        known: dict[tuple[str, str | None], int] = {}
        for s, source in enumerate(sources):
            one = source.grounds
            new = len(known)
            kind = known.setdefault((one.kind, one.common), new)
            if kind == new:
                self._kinds.append(one.kind)
                self._said.append(source.said if one.common is None else one.common)
            text = int(one.text) if one.common is None else 2
            self._grounds[s] = kind, kind < new, one.pieces, one.item, one.number, text
        self._make_room(_LINES)

    def _make_room(self, lines: int) -> None:
        config, count = self.config, len(self.sources)
        most, per_line = config.reasons_per_item, count * config.reasons_per_source
        self._rooms, self._room = rooms(count, lines, config.reasons_per_source)
        self._supported: npt.NDArray[np.int32] = np.empty((count, lines), np.int32)
        self._supports: npt.NDArray[np.int64] = np.empty(count, np.int64)
        self._parts: npt.NDArray[np.float64] = np.empty(count * lines)
        self._givers: npt.NDArray[np.int64] = np.empty(count * lines, np.int64)
        self._given: npt.NDArray[np.int64] = np.empty(lines, np.int64)
        self._score: npt.NDArray[np.float64] = np.empty(lines)
        self._weight: npt.NDArray[np.float64] = np.empty(per_line)
        self._fields: npt.NDArray[np.int64] = np.empty((4, per_line), np.int64)
        self._weights: npt.NDArray[np.float64] = np.empty(lines * most)
        self._named: npt.NDArray[np.int64] = np.empty((4, lines * most), np.int64)
        self._sizes: npt.NDArray[np.int64] = np.empty(lines, np.int64)
        self._rest: npt.NDArray[np.float64] = np.empty(lines)

    def explained(
        self, items: npt.NDArray[np.int32], shares: npt.NDArray[np.float64], query: Query
    ) -> list[Recommended]:  # fmt: skip
        """The list: `items` (n,) the best first, with their `shares` (S, n) of all sources.

        At most `Config.reasons_per_item` pieces of evidence are named per item, the weightiest of all sources (but see `LEAST`),
        equal ones of several sources as one; what they leave of the score is one reason of the kind `more`.
        """
        lines = len(items)
        if lines > len(self._score):
            self._make_room(2 * lines)
        held = _supported(
            items, shares, LEAST, self._supported, self._supports, self._score, self._parts, self._givers, self._given
        )  # fmt: skip
        for s, support in enumerate(self._supports.tolist()):
            if support:
                self.sources[s].evidence(query, self._supported[s, :support], self._room[s])
        named = _name(
            shares, LEAST, self._grounds, *self._rooms, self._supports, self._score, self.config.reasons_per_item,
            self._weight, self._fields, self._weights, self._named, self._sizes, self._rest,
        )  # fmt: skip
        return self._lines(items, held, self._evidence(named))

    # -------------------------------------------------------------------------------------------- as structs
    # Plain lists from here on: they are cheaper to walk through than arrays.
    def _evidence(self, named: int) -> list[Evidence]:
        """The pieces that `_name` has named, line after line, as reasons."""
        ids, kinds, said = self.history.items.names, self._kinds, self._said
        return [
            Evidence(
                kind=kinds[kind],
                weight=weight,
                item_id=ids[item] if item >= 0 else None,
                count=number if number >= 0 else None,
                text=_text(said[kind], text) if text >= 0 else None,
            )
            for weight, number, item, kind, text in zip(
                self._weights[:named].tolist(), *self._named[:, :named].tolist(), strict=True
            )
        ]

    def _lines(self, items: npt.NDArray[np.int32], held: int, because: list[Evidence]) -> list[Recommended]:
        """The list. Each line has the next of the `held` shares, as many as it was given, and the next of all reasons."""
        ids, count = self.history.items.names, len(items)
        shares = zip(self._names[self._givers[:held]].tolist(), self._parts[:held].tolist(), strict=True)
        lines: list[Recommended] = []
        begin = 0
        for item, total, own, size, left in zip(
            items.tolist(), self._score[:count].tolist(), self._given[:count].tolist(), self._sizes[:count].tolist(),
            self._rest[:count].tolist(), strict=True,
        ):  # fmt: skip
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


def _text(said: str | Callable[[int], str | None], number: int) -> str | None:
    return said if isinstance(said, str) else said(number)


# ------------------------------------------------------------------------------------------------ kernels
@inlined
def _speaks(share: float, score: float, least: float) -> bool:
    """Whether a source has a part in a score that calls for reasons."""
    return share > 0.0 and share >= least * score


@kernel
def _supported(
    items: Array, shares: Array, least: float, supported: Array, supports: Array, score: Array, parts: Array, givers: Array,
    given: Array,
) -> int:  # fmt: skip
    """For each line the sum of its shares into `score`, and the shares that are not 0: line after line into `parts`, whose they
    are into `givers`, their number into `given`. For each source the items for which it is asked why into `supported`, their
    number into `supports`. Returns how many shares there are in all."""
    supports[:] = 0
    n = 0
    for x in range(len(items)):
        begin = n
        total = 0.0
        for s in range(shares.shape[0]):
            share = shares[s, x]
            if share != 0.0:
                total += share
                parts[n] = share
                givers[n] = s
                n += 1
        given[x] = n - begin
        score[x] = total
        for p in range(begin, n):
            if _speaks(parts[p], total, least):
                s = givers[p]
                supported[s, supports[s]] = items[x]
                supports[s] += 1
    return n


@kernel
def _name(
    shares: Array, least: float, grounds: Array, fraction: Array, items: Array, numbers: Array, texts: Array, met: Array,
    score: Array, most: int, weight: Array, fields: Array, weights: Array, named: Array, sizes: Array, rest: Array,
) -> int:  # fmt: skip
    """The weightiest pieces of each line, those that came first before others of the same weight, line after line into `weights`
    and `named` (number, item, kind, text); how many each line has into `sizes`, what they leave of its score into `rest`. Returns
    how many there are. Scratch: `met` (S,), and for the pieces of one line `weight` and `fields`."""
    met[:] = 0
    end = 0
    for x in range(shares.shape[1]):
        n = 0
        for s in range(shares.shape[0]):
            if _speaks(shares[s, x], score[x], least):
                n = _collect(s, met[s], shares[s, x], grounds, fraction, items, numbers, texts, weight, fields, n)
                met[s] += 1
        sizes[x] = min(n, most)
        left = score[x]
        for _ in range(sizes[x]):
            best = 0
            for p in range(1, n):
                if weight[p] > weight[best]:
                    best = p
            weights[end] = weight[best]
            for f in range(4):
                named[f, end] = fields[f, best]
            left -= weight[best]
            weight[best] = -1.0
            end += 1
        rest[x] = left
    return end


@kernel
def _collect(
    s: int, place: int, share: float, grounds: Array, fraction: Array, items: Array, numbers: Array, texts: Array, weight: Array,
    fields: Array, n: int,
) -> int:  # fmt: skip
    """Add one source's evidence for one line to the `n` pieces that are known; their number then."""
    for e in range(fraction.shape[2] if grounds[s, _PIECES] else 1):
        part = fraction[s, place, e] if grounds[s, _PIECES] else 1.0
        if part <= 0.0:
            continue
        kind = grounds[s, _KIND]
        item = items[s, place, e] if grounds[s, _ITEM] else -1
        number = numbers[s, place, e] if grounds[s, _NUMBER] else -1
        text = grounds[s, _TEXT] - 1
        if grounds[s, _TEXT] == 1:
            text = texts[s, place, e]
        p = 0 if grounds[s, _AGAIN] else n
        while p < n and not (fields[2, p] == kind and fields[1, p] == item and fields[3, p] == text):
            p += 1
        if p < n:
            weight[p] += share * part
            fields[0, p] = max(fields[0, p], number)
            continue
        weight[n] = share * part
        fields[0, n], fields[1, n], fields[2, n], fields[3, n] = number, item, kind, text
        n += 1
    return n


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
