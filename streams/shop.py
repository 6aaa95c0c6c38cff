"""A simulated shop: shoppers with hidden tastes look at lists, search, click, buy and review. Seeded, without IO or a clock.

The recommender never sees a taste; it sees what platforms see. A shopper likes one to three categories, in each of them one style
more than the others, and has a liking for single items besides (a few hidden traits that items have and shoppers want). Some
categories and items are more popular than others. Whoever is shown a list looks at its positions with falling attention, clicks
with `attention * interest`, sometimes buys what was clicked and sometimes writes about what was bought, in words of the item's
style. A share of the visits are searches, which owe nothing to any list; so the recommender learns from the start.

    shop = Shop(seed=7)
    for item in shop.catalogue(): ...                      # the catalogue
    events = shop.step(shop.visitor(), Shown("list-1", ("tents-0", "coffee-3")), now_ms=1_700_000_000_000)

The same seed, run and calls give the same events with the same ids.
"""

from __future__ import annotations

import random
from typing import Final, NamedTuple

import numpy as np
from msgspec import Struct

from models.events import Click, Event, Impression, Item, Purchase, Review
from streams.shop_words import BLAME, BRANDS, CATEGORIES, DESCRIPTIONS, FAIR, PRAISE, TITLES, Category

ShopEvent = Event | Impression

TRAITS: Final = 4  # hidden dimensions of items and shoppers beyond category and style
TRAIT_WEIGHT: Final = 0.5
OTHER_STYLE: Final = 0.3  # interest in the own category's other styles
ELSEWHERE: Final = 0.004  # interest in categories that are not the shopper's own
FAME: Final = 1.5  # searches lead to the best known item exp(FAME) times as easily as to the least known one
BESTSELLER: Final = 0.08  # ... and in the best known items there, which appeal a little to everybody


class Shown(NamedTuple):
    """A list as a shopper saw it: its id and its items in display order."""

    list_id: str
    items: tuple[str, ...]


class ShopOptions(Struct, frozen=True, kw_only=True):
    """How large and how lively the shop is. ValueError where a number makes no shop."""

    items: int = 480  # at the opening
    max_items: int = 600  # items come in during the run until there are so many
    item_every_ms: int = 2_000
    shoppers: int = 1_500  # at the same time; whoever leaves is replaced by a new one
    visits: float = 40.0  # of one shopper, in the mean, before leaving for good
    search_share: float = 0.3  # of the visits, without a list
    attention: float = 0.6  # position k is looked at with probability k**-attention
    click_rate: float = 0.6  # of an item that is looked at and could not be more interesting
    buy_rate: float = 0.3  # of a clicked item, the same
    review_share: float = 0.6  # of the purchases
    reviews_per_s: float = 10.0  # at most, in the mean over a second
    max_reviews: int = 2**62

    def __post_init__(self) -> None:
        if not 1 <= self.items <= self.max_items:
            raise ValueError(f"the shop needs at least 1 item and at most {self.max_items}, got {self.items}")
        if self.shoppers < 1 or self.visits < 1:
            raise ValueError(f"the shop needs shoppers and visits, got {self.shoppers} and {self.visits}")
        if self.reviews_per_s < 0 or self.max_reviews < 0 or self.item_every_ms < 1:
            raise ValueError("reviews and the pace of new items cannot be negative")
        for name in ("search_share", "click_rate", "buy_rate", "review_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability, got {getattr(self, name)}")


class _Good(NamedTuple):
    """An item with what the shop knows and the recommender does not."""

    item: Item
    category: Category
    style: str


class Shopper:
    """Somebody with a hidden taste: `interest[i]` in 0..1 is how much item i appeals. Items `taken` already no longer do."""

    __slots__ = ("interest", "shopper_id", "taken")

    def __init__(self, shopper_id: str, interest: np.ndarray) -> None:
        self.shopper_id = shopper_id
        self.interest = interest
        self.taken: set[int] = set()


class Shop:
    """The world. Bounds: `options.max_items` items, `options.shoppers` shoppers with one number per item each."""

    def __init__(self, seed: int = 7, options: ShopOptions | None = None, *, run: str = "") -> None:
        """`run` tells the event ids of two runs of one seed apart, as the events of two days are two events."""
        self.options = options if options is not None else ShopOptions()
        self.run = run or f"run{seed}"
        self._seed = seed
        self._random = random.Random(seed)
        self._numbers = np.random.default_rng(seed)
        self._popular_categories = 1.0 / np.arange(1, len(CATEGORIES) + 1) ** 0.6
        self._numbers.shuffle(self._popular_categories)
        self._goods: list[_Good] = []
        self._index: dict[str, int] = {}
        capacity = self.options.max_items
        self._category = np.zeros(capacity, dtype=np.int64)
        self._style = np.zeros(capacity, dtype=np.int64)
        self._traits = np.zeros((capacity, TRAITS))
        self._appeal = np.zeros(capacity)  # 0..1, whoever looks; the share of items that are less popular
        self._events = 0
        self._arrived = 0
        self._reviews = 0
        self._review_budget = 1.0
        self._review_budget_ms: int | None = None
        self._next_item_ms: int | None = None
        for _ in range(capacity):
            self._stock()
        self._open = self.options.items  # so many of the goods are in the shop; the others come in later
        self.shoppers = [self._arrive() for _ in range(self.options.shoppers)]

    # ------------------------------------------------------------------------------------------------ the catalogue
    def catalogue(self) -> list[Item]:
        """The catalogue as it is now."""
        return [good.item for good in self._goods[: self._open]]

    def novelties(self, now_ms: int) -> list[Item]:
        """Items that came in since the last call; the first call only starts the clock."""
        if self._next_item_ms is None:
            self._next_item_ms = now_ms + self.options.item_every_ms
        arrived = []
        while now_ms >= self._next_item_ms and self._open < len(self._goods):
            self._next_item_ms += self.options.item_every_ms
            arrived.append(self._goods[self._open].item)
            self._open += 1
        return arrived

    def _stock(self) -> None:
        """One more item. Categories and styles take turns, so that every style has items however small the shop is."""
        index = len(self._goods)
        category_index = index % len(CATEGORIES)
        category = CATEGORIES[category_index]
        styles = list(category.styles)
        style_index = (index // len(CATEGORIES)) % len(styles)
        style = styles[style_index]
        self._category[index], self._style[index] = category_index, style_index
        self._traits[index] = self._numbers.standard_normal(TRAITS) / TRAITS**0.5
        self._appeal[index] = self._random.random()
        item = self._describe(f"{category.name.replace(' ', '-')}-{index:04d}", category, style)
        self._goods.append(_Good(item, category, style))
        self._index[item.item_id] = index

    def _describe(self, item_id: str, category: Category, style: str) -> Item:
        brand = self._random.choice(BRANDS)
        a, b, c = self._random.sample(category.styles[style], 3)
        description = self._random.choice(DESCRIPTIONS).format(style=style, thing=category.thing, brand=brand, a=a, b=b, c=c)
        return Item(
            item_id=item_id,
            title=f"{brand} {style} {category.thing}",
            description=description[0].upper() + description[1:],
            categories=[category.name, style],
            price=round(self._random.lognormvariate(3.5, 0.8), 2),
        )

    # ------------------------------------------------------------------------------------------------ shoppers
    def visitor(self) -> Shopper:
        """Who comes to the shop now. Once in `options.visits` visits somebody has left for good and a stranger comes instead."""
        place = self._random.randrange(len(self.shoppers))
        if self._random.random() < 1 / self.options.visits:
            self.shoppers[place] = self._arrive()
        return self.shoppers[place]

    def interest(self, shopper: Shopper) -> np.ndarray:
        """How much each item of the shop appeals to a shopper, 0..1, in the order of the catalogue."""
        return shopper.interest[: self._open]

    def _arrive(self) -> Shopper:
        count = self._random.choice((1, 2, 2, 3))
        chance = self._popular_categories / self._popular_categories.sum()
        chosen = self._numbers.choice(len(CATEGORIES), size=count, replace=False, p=chance)
        styles = self._numbers.integers(0, 4, size=len(CATEGORIES))
        liking = np.zeros(len(CATEGORIES))
        liking[chosen] = (1.0, 0.7, 0.5)[:count]
        shopper_id = f"shopper-{self._seed}-{self._arrived:06d}"
        self._arrived += 1
        return Shopper(shopper_id, self._interests(liking, styles, self._numbers.standard_normal(TRAITS)))

    def _interests(self, liking: np.ndarray, styles: np.ndarray, wants: np.ndarray) -> np.ndarray:
        """Interest in every item from the liking of categories, the favourite style in each, and the traits that are wanted."""
        fits = np.where(self._style == styles[self._category], 1.0, OTHER_STYLE)
        personal = np.exp(TRAIT_WEIGHT * (self._traits @ wants))
        own = liking[self._category] * fits * (0.3 + 0.7 * self._appeal) * personal
        clipped: np.ndarray = np.clip(own, ELSEWHERE + BESTSELLER * self._appeal**12, 1.0)
        return clipped

    # ------------------------------------------------------------------------------------------------ a visit
    def step(self, shopper: Shopper, shown: Shown | None, now_ms: int) -> list[ShopEvent]:
        """One visit: a look at the list, or a search (always without a list); the events in the order in which they happen."""
        if shown is None or not shown.items or self._random.random() < self.options.search_share:
            return self._search(shopper, now_ms)
        return self._look(shopper, shown, now_ms)

    def _look(self, shopper: Shopper, shown: Shown, now_ms: int) -> list[ShopEvent]:
        events: list[ShopEvent] = [
            Impression(
                event_id=self._id("v"),
                user_id=shopper.shopper_id,
                list_id=shown.list_id,
                items=list(shown.items),
                timestamp_ms=now_ms,
                surface="home",
            )
        ]
        interest = self.interest(shopper)
        for position, item_id in enumerate(shown.items, 1):
            place = self._index.get(item_id)
            if place is None or place >= self._open or place in shopper.taken:
                continue
            if self._random.random() < position**-self.options.attention * self.options.click_rate * interest[place]:
                events.extend(self._click(shopper, place, now_ms, shown.list_id, position))
        return events

    def _search(self, shopper: Shopper, now_ms: int) -> list[ShopEvent]:
        chance = self.interest(shopper) * np.exp(FAME * self._appeal[: self._open])
        chance[list(shopper.taken)] = 0.0
        total = np.cumsum(chance)
        if total[-1] <= 0:
            return []  # everything is taken
        place = int(np.searchsorted(total, self._random.random() * total[-1], side="right"))
        return self._click(shopper, min(place, len(total) - 1), now_ms)

    def _click(
        self, shopper: Shopper, place: int, now_ms: int, list_id: str | None = None, position: int | None = None
    ) -> list[ShopEvent]:
        shopper.taken.add(place)
        user, good, interest = shopper.shopper_id, self._goods[place], float(self.interest(shopper)[place])
        item = good.item.item_id
        events: list[ShopEvent] = [
            Click(
                event_id=self._id("c"), user_id=user, item_id=item, timestamp_ms=now_ms, list_id=list_id, position=position
            )
        ]  # fmt: skip
        if self._random.random() < self.options.buy_rate * interest:
            events.append(
                Purchase(
                    event_id=self._id("p"), user_id=user, item_id=item, timestamp_ms=now_ms, price=good.item.price,
                    currency="EUR", list_id=list_id, position=position,
                )
            )  # fmt: skip
            if self._random.random() < self.options.review_share and self._may_review(now_ms):
                events.append(self._review(user, good, interest, now_ms))
        return events

    def _id(self, kind: str) -> str:
        self._events += 1
        return f"{self.run}-{kind}{self._events}"

    # ------------------------------------------------------------------------------------------------ reviews
    def _may_review(self, now_ms: int) -> bool:
        """A bucket that fills with `reviews_per_s` and holds one second's worth (at least one review)."""
        rate = self.options.reviews_per_s
        since = now_ms - (self._review_budget_ms if self._review_budget_ms is not None else now_ms)
        self._review_budget_ms = now_ms
        self._review_budget = min(max(1.0, rate), self._review_budget + rate * max(0, since) / 1000)
        if self._review_budget < 1 or rate == 0 or self._reviews >= self.options.max_reviews:
            return False
        self._review_budget -= 1
        self._reviews += 1
        return True

    def _review(self, user: str, good: _Good, interest: float, now_ms: int) -> Review:
        rating = min(5, max(1, round(1.5 + 4.5 * interest + self._random.gauss(0.0, 0.6))))
        sentences = PRAISE if rating >= 4 else FAIR if rating == 3 else BLAME
        a, b = self._random.sample(good.category.styles[good.style], 2)
        others = [style for style in good.category.styles if style != good.style]
        words = {"style": good.style, "thing": good.category.thing, "a": a, "b": b, "other": self._random.choice(others)}
        text = self._random.choice(sentences).format(**words)
        return Review(
            event_id=self._id("r"),
            user_id=user,
            item_id=good.item.item_id,
            timestamp_ms=now_ms,
            rating=float(rating),
            text=text[0].upper() + text[1:],
            title=self._random.choice(TITLES[rating]).format(**words),
        )
