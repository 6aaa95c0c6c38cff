"""Who took what when: the exact state that everything else is counted from.

Each user has a *window*, the newest events ordered by time (equal times: by arrival), and a *profile* derived from it, the
distinct items the user is positive about, ordered by their last positive event. An item is positive for a user if at least one
event of the window speaks for it (a click, a purchase, a good review) and the newest review of it there, if any, is good.

All changes are single steps, one event in or one event out (`Step`), so that counts kept beside the windows can follow exactly.
Within the bound of the window this makes a retracted event equal to one that never happened, and an erased user to one
never seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from models import window as kernels
from models.config import Config
from models.interning import Interner
from models.kept import Kept, Value
from models.rows import Array, RowPool, grown, release
from models.takers import Takers
from models.window import DEAD, EVENT, PROFILE, WEIGHT_ONE

CLICK: Final = 0
PURCHASE: Final = 1
REVIEW: Final = 2
KINDS: Final[dict[str, int]] = {"click": CLICK, "purchase": PURCHASE, "review": REVIEW}

FRESH: Final = 0
KNOWN: Final = 1
RETRACTED: Final = 2
TOO_OLD: Final = 3


class Step:
    """One event that enters (`sign` 1) or leaves (`sign` -1) a window. One object is used again for every step."""

    __slots__ = (
        "context", "hurried", "item", "joined", "kind", "left", "positive", "rating", "sign", "teaches", "timestamp_ms", "user",
        "weight",
    )  # fmt: skip

    def __init__(self) -> None:
        self.user = self.item = 0
        self.timestamp_ms = 0
        self.kind = 0  # CLICK, PURCHASE, REVIEW
        self.rating = 0  # thousandths of a star; 0: none
        self.weight = 0  # of the event's kind in 1/256; 0: the event speaks for nothing
        self.sign = 1
        self.positive = False  # whether the event speaks for its item
        self.joined = False  # the item has become one of the user's profile (known after the step)
        self.context: Mapping[str, str] | None = None  # what the event says of where it happened; not remembered
        self.left = False  # the item has left the user's profile (known after the step)
        self.hurried = False  # whether there is no time for what can be done without; set before the step
        self.teaches = True  # whether gradient steps learn from it (see `models.pace`)


class Follower:
    """Somebody who counts along, step by step (see `models.sources.base` for what may be done where). A hook that does nothing is
    left as it is here: it is not even called."""

    def ensure(self, users: int, items: int) -> None:
        """Make place for user indices below `users` and item indices below `items` (called before any such index is used, with
        numbers that grow by doubling): state and scratch are sized here and nowhere else."""

    def before(self, step: Step) -> None:
        """An event is about to enter or leave."""

    def after(self, step: Step) -> None:
        """The event has entered or left."""

    def taught(self, step: Step) -> None:
        """A positive event has been learned (once, after `after`)."""

    def forget_user(self, user: int) -> None:
        """This index will stand for somebody else. All events of the user have left in steps before."""

    def forget_item(self, item: int) -> None:
        """This index will stand for another item. All its events have left in steps before."""


class History(Kept):
    """Windows and profiles of all users, and per item how many events and users there are."""

    kept = (
        "users", "items", "windows", "profiles", "item_events", "takers", "inverse_root", "users_of", "now_ms", "events",
        "_steps_free",
    )  # fmt: skip
    scratch = ("_slot", "_entries", "weights")

    def __init__(self, config: Config) -> None:
        self.config = config
        self.users = Interner(config.max_users)
        self.items = Interner(config.max_items)
        self.windows = RowPool(EVENT, config.max_events)
        self.profiles = RowPool(PROFILE, config.max_events)
        self.item_events: npt.NDArray[np.int32] = np.zeros(16, np.int32)
        """Events of an item in all windows; 0: nobody has (any longer) had to do with it."""
        self.takers: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        """Users whose profile holds the item: n_i of every similarity."""
        self.inverse_root: npt.NDArray[np.float64] = np.zeros(16, np.float64)
        """1 / sqrt(takers), 0 where there are none."""
        self.users_of = Takers(config.item_users, 2 * config.max_events)
        """Per item, the most recent users whose profile holds it."""
        self.now_ms = 0
        """High-water mark of event time: the only clock."""
        self.events = 0
        self._steps_free = 0  # so many steps surely find memory
        self._slot: npt.NDArray[np.int32] = np.full(16, -1, np.int32)  # scratch of the kernels, all -1 between calls
        self._entries: Array = np.zeros(config.window_events, kernels.ENTRY)  # scratch
        self.positive_rating = round(config.positive_rating * 1000)
        self.weights: npt.NDArray[np.int64] = np.array(
            [max(1, round(w * WEIGHT_ONE)) for w in (config.click_weight, config.purchase_weight, config.review_weight)], np.int64
        )

    # -------------------------------------------------------------------------------------------- ids
    def user(self, user_id: str) -> int:
        """Index of the user, new if need be (see `Interner.add`)."""
        index = self.users.add(user_id)
        self.windows.rows_for(index + 1)
        self.profiles.rows_for(index + 1)
        return index

    def item(self, item_id: str) -> int:
        """Index of the item, new if need be (see `Interner.add`)."""
        index = self.items.add(item_id)
        if index >= len(self.item_events):
            self.item_events = grown(self.item_events, index + 1)
            self.takers = grown(self.takers, index + 1)
            self.inverse_root = grown(self.inverse_root, index + 1)
            self.users_of.ensure(len(self.item_events))
            self._slot = np.full(len(self.item_events), -1, np.int32)
        return index

    def restore(self, saved: Mapping[str, Value]) -> None:
        super().restore(saved)
        self._slot = np.full(len(self.item_events), -1, np.int32)

    # -------------------------------------------------------------------------------------------- reading
    def window(self, user: int) -> Array:
        """The user's events (`EVENT`), oldest first, retracted ones (`dead`) among them. A view."""
        return self.windows.row(user)

    def profile(self, user: int) -> Array:
        """The user's positive items (`PROFILE`), the newest last. A view."""
        return self.profiles.row(user)

    def holds(self, user: int, item: int) -> bool:
        """Whether one of the user's events is about the item."""
        return bool(kernels.holds(self.windows.data, self.windows.rows, user, item))

    def find(self, user: int, event_key: int) -> int:
        """Position of an event in the user's window, or -1."""
        return int(kernels.find(self.windows.data, self.windows.rows, user, np.uint64(event_key)))

    def admit(self, user: int, event_key: int, timestamp_ms: int) -> int:
        """What an event is to the window: FRESH, KNOWN (a duplicate), RETRACTED (before it came) or TOO_OLD (the window is full
        of newer ones)."""
        return int(
            kernels.admit(
                self.windows.data, self.windows.rows, user, np.uint64(event_key), timestamp_ms, self.config.window_events
            )
        )

    def is_full(self, user: int) -> bool:
        """Whether the oldest event must leave before another one enters."""
        _, _, size = self.windows.rows.item(user)
        return bool(size >= self.config.window_events)

    # -------------------------------------------------------------------------------------------- changing
    def room(self, user: int) -> bool:
        """Make sure that one more event of the user finds memory; False: `max_events` is reached, somebody must be forgotten."""
        if self._steps_free > 0:
            self._steps_free -= 1
            return True
        cells = 2 * self.config.window_events
        if self.windows.room_for(cells) and self.profiles.room_for(cells):
            self._steps_free = min(pool.free_cells for pool in (self.windows, self.profiles)) // cells - 1
            return True
        return all(
            pool.rows[user]["size"] < pool.rows[user]["cap"] or pool.has_block(2 * int(pool.rows[user]["cap"]))
            for pool in (self.windows, self.profiles)
        )

    def entering(self, step: Step, user: int, item: int, timestamp_ms: int, kind: int, rating: int) -> None:
        """Describe an event that is about to enter."""
        step.user, step.item, step.timestamp_ms, step.kind, step.rating = user, item, timestamp_ms, kind, rating
        step.positive = kind != REVIEW or rating >= self.positive_rating
        step.weight = int(self.weights[kind]) if step.positive else 0
        step.sign, step.joined, step.left, step.context, step.teaches = 1, False, False, None, True

    def leaving(self, step: Step, user: int, position: int) -> None:
        """Describe the event at `position`, which is about to leave."""
        event = self.windows.data[self.windows.rows[user]["start"] + position]
        self.entering(step, user, int(event["item"]), int(event["ts"]), int(event["kind"]), int(event["rating"]))
        step.sign = -1

    def insert(self, step: Step, event_key: int) -> None:
        """The event described by `step` enters its user's window, which has room for it."""
        self.users_of.make_room()
        windows, profiles, takers = self.windows, self.profiles, self.users_of.pool
        self._note(step, kernels.enter(
            windows.data, windows.rows, windows.free, profiles.data, profiles.rows, profiles.free,
            takers.data, takers.rows, takers.free, self._slot, self._entries, self.weights, self.item_events, self.takers,
            self.inverse_root, self.positive_rating, self.users_of.bound,
            step.user, step.item, step.timestamp_ms, np.uint64(event_key), step.kind, step.rating,
        ))  # fmt: skip
        self.events += 1
        if step.timestamp_ms > self.now_ms:
            self.now_ms = step.timestamp_ms

    def remove(self, step: Step, position: int, *, remember: bool) -> None:
        """The event described by `step` leaves; with `remember` its id stays as a tombstone, so that it cannot come again."""
        self.users_of.make_room()
        windows, profiles, takers = self.windows, self.profiles, self.users_of.pool
        self._note(step, kernels.withdraw(
            windows.data, windows.rows, profiles.data, profiles.rows, profiles.free,
            takers.data, takers.rows, takers.free, self._slot, self._entries, self.weights, self.item_events, self.takers,
            self.inverse_root, self.positive_rating, self.users_of.bound, step.user, step.item, position, remember,
        ))  # fmt: skip
        self.events -= 1

    def _note(self, step: Step, change: int) -> None:
        """What became of the step's item in the profile of its user (see `window.enter`)."""
        step.joined, step.left = change > 0, change < 0
        self.users_of.displaced += change == 2

    def bury(self, user: int, event_key: int, timestamp_ms: int) -> None:
        """A tombstone for an event that has not come yet. The window has room for it."""
        kernels.insert(
            self.windows.data, self.windows.rows, self.windows.free,
            user, DEAD, timestamp_ms, np.uint64(event_key), 0, 0,
        )  # fmt: skip

    def drop_tombstone(self, user: int) -> bool:
        """Remove the oldest entry if it is a tombstone: it stands for nothing and no step is needed."""
        oldest = self.windows.row(user)[0]
        if oldest["item"] != DEAD:
            return False
        kernels.remove(self.windows.data, self.windows.rows, user, 0, False)
        return True

    def forget(self, user: int) -> None:
        """Release the index of a user whose events have all left."""
        release(self.windows.rows, self.windows.free, user)
        release(self.profiles.rows, self.profiles.free, user)
        self.users.release(user)
