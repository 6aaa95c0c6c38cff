"""Rules of the shop: what is pinned, blocked, boosted or capped. Texts in, checked rules out; `rerank` says how they act.

| rule | text | meaning |
|---|---|---|
| pin | `ITEM` | the item stands on top, in the order of the rules, for everybody who may see it |
| block | `item:ITEM`, `category:NAME` | never in a list |
| boost | `item:ITEM=FACTOR`, `category:NAME=FACTOR` | ordered as if its score were FACTOR times as large; factors multiply |
| cap | `NAME=COUNT`, `*=COUNT` | at most so many items of the category (`*`: of every other category) in a list |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

MAX_RULES: Final = 256
"""Of each kind: they are looked up for every list."""
MAX_FACTOR: Final = 1000.0
EVERY: Final = "*"
MAX_CAP: Final = 1000
"""As long as the longest list."""


class RuleError(ValueError):
    """A rule cannot be meant; the message quotes it and says what is wrong."""


class Rules(Struct, frozen=True, kw_only=True):
    """Checked rules. Names that no item or category has (yet) are fine: they act once it exists."""

    pins: tuple[str, ...] = ()
    item_factors: dict[str, float] = {}
    """Item -> factor of its score; 0: blocked."""
    category_factors: dict[str, float] = {}
    caps: dict[str, int] = {}
    """Category (or `*`) -> most items of it in a list."""

    @property
    def any(self) -> bool:
        """Whether there are rules at all."""
        return bool(self.pins or self.item_factors or self.category_factors or self.caps)


def parse(pin: Sequence[str] = (), block: Sequence[str] = (), boost: Sequence[str] = (), cap: Sequence[str] = ()) -> Rules:
    """Rules from their texts (see the module).

    Raises:
        RuleError: too many, twice the same, not of the form, a number out of range, an item pinned and blocked.
    """
    for kind, texts in (("pin", pin), ("block", block), ("boost", boost), ("cap", cap)):
        if len(texts) > MAX_RULES:
            raise RuleError(f"{len(texts)} rules of the kind {kind!r}: at most {MAX_RULES}")
        if any(not text for text in texts):
            raise RuleError(f"an empty text among the rules of the kind {kind!r}")
        _distinct(texts, kind)
    factors: dict[str, dict[str, float]] = {"item": {}, "category": {}}
    for text in boost:
        what, number = _assignment(text, "boost")
        target, name = _target(what, text)
        _distinct([*factors[target], name], f"boost of {target}")
        factors[target][name] = _factor(number, text)
    for text in block:
        target, name = _target(text, text)
        factors[target][name] = 0.0
    if blocked := [item for item in pin if factors["item"].get(item) == 0.0]:
        raise RuleError(f"item {blocked[0]!r} is pinned and blocked")
    caps: dict[str, int] = {}
    for text in cap:
        name, number = _assignment(text, "cap")
        _distinct([*caps, name], "cap")
        caps[name] = _count(number, text)
    return Rules(pins=tuple(pin), item_factors=factors["item"], category_factors=factors["category"], caps=caps)


def _distinct(texts: Sequence[str], kind: str) -> None:
    if len(set(texts)) < len(texts):
        twice = next(text for k, text in enumerate(texts) if text in texts[:k])
        raise RuleError(f"{kind}: {twice!r} is named twice")


def _target(text: str, rule: str) -> tuple[str, str]:
    target, colon, name = text.partition(":")
    if not colon or target not in ("item", "category") or not name:
        raise RuleError(f"{rule!r}: write item:ID or category:NAME")
    return target, name


def _assignment(text: str, kind: str) -> tuple[str, str]:
    name, equals, number = text.rpartition("=")
    if not equals or not name:
        raise RuleError(f"{kind} {text!r}: write NAME=NUMBER")
    return name, number


def _factor(text: str, rule: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        raise RuleError(f"boost {rule!r}: {text!r} is no number") from None
    if not (math.isfinite(factor) and 1 / MAX_FACTOR <= factor <= MAX_FACTOR):
        raise RuleError(f"boost {rule!r}: a factor from {1 / MAX_FACTOR:g} to {MAX_FACTOR:g} is needed (block leaves it out)")
    return factor


def _count(text: str, rule: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) <= MAX_CAP):
        raise RuleError(f"cap {rule!r}: a whole number from 0 to {MAX_CAP} is needed")
    return int(text)
