"""Which served list a click belongs to.

The output topic is the memory of what was served: `ServedLists` is folded from it and answers two questions: what did this user
last get (is a new list different?), and in which list did this click's item stand (what was clicked, at which position?).
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Mapping
from enum import StrEnum
from itertools import islice
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from models.events import POPULAR, Impression, Interaction, RecommendationList, ServedList
from models.kept import Kept, Saved, Value, fitting


class Served(Struct, frozen=True, gc=False):
    """A list as it was served. `timestamp_ms` is the event time of its cause; `items` in rank order. There may be a million of
    them: the collector of garbage need not walk through what can hold none."""

    list_id: str
    log_offset: int
    timestamp_ms: int
    arm: str
    items: tuple[str, ...]
    read: bool = True
    """Whether it has come from the output topic. Whoever has sent one knows it before."""


class Attributed(NamedTuple):
    """The list a click belongs to and the position (from 1) the item had in it."""

    list_id: str
    arm: str
    position: int


class Unattributed(StrEnum):
    """Why a click belongs to no list."""

    NO_LIST = "no_list"  # nothing is remembered of what this user was served
    NOT_IN_LIST = "not_in_list"  # the user found the item elsewhere
    OUTSIDE_WINDOW = "outside_window"  # it was served, but too long ago


class ServedLists(Kept):
    """The last lists of each user.

    Bounds: `max_users` users (the least recently served one leaves first), `lists_per_user` lists each. A list whose
    `log_offset` is smaller than the newest one's was written late, by a worker that has lost its partition: it is
    remembered (somebody may have seen it) but never becomes the last one.
    """

    kept = ("_users",)

    def __init__(self, max_users: int = 200_000, lists_per_user: int = 5) -> None:
        if max_users < 1 or lists_per_user < 1:
            raise ValueError(f"bounds must be at least 1, got max_users={max_users}, lists_per_user={lists_per_user}")
        self.max_users = max_users
        self.lists_per_user = lists_per_user
        self._users: OrderedDict[str, list[Served]] = OrderedDict()  # lists by log offset, the newest last

    def __len__(self) -> int:
        return len(self._users)

    def put(self, served: RecommendationList | ServedList, *, read: bool = True) -> None:
        """Remember a list. Putting the same list again changes nothing; made anew for the same event, or later in the log since
        that came twice, the new one holds. With `read` off the broker has it and it will be read, if it is not already."""
        lists = self._users.get(served.user_id)
        if lists is None:
            lists = self._users[served.user_id] = []
            if len(self._users) > self.max_users:
                self._users.popitem(last=False)
        else:
            self._users.move_to_end(served.user_id)
            known = next((one for one in lists if one.list_id == served.list_id), None)
            if known is not None and (known.log_offset, known.read) > (served.log_offset, read):
                return
            if known is not None:
                lists.remove(known)
        items = tuple(sys.intern(item.item_id) for item in served.items)  # the same few names in all lists
        lists.append(Served(served.list_id, served.log_offset, served.caused_by.timestamp_ms, served.arm, items, read))
        lists.sort(key=lambda one: one.log_offset)
        del lists[: -self.lists_per_user]

    def forget(self, user_id: str) -> None:
        """A tombstone: this user's lists are gone."""
        self._users.pop(user_id, None)

    def forget_unread(self, user_id: str) -> None:
        """The user is to be forgotten: what was sent and is not read back must not wait for the tombstone, which may have been
        read before the answer to the send came."""
        lists = [served for served in self._users.get(user_id, ()) if served.read]
        if lists:
            self._users[user_id] = lists
        else:
            self._users.pop(user_id, None)

    def last(self, user_id: str) -> Served | None:
        """The list that holds for this user, if one is remembered."""
        lists = self._users.get(user_id)
        return lists[-1] if lists else None

    def last_read(self, user_id: str) -> Served | None:
        """The same, as far as the output topic has been read."""
        return next((served for served in reversed(self._users.get(user_id, ())) if served.read), None)

    def out_before(self, user_id: str, log_offset: int) -> Served | None:
        """The list that was out when the record at `log_offset` of the user's partition came: the newest one of an earlier cause;
        the strangers' list for whom nothing of their own is remembered."""
        lists = self._users.get(user_id)
        if lists is None:
            return self.last(POPULAR)
        return next((served for served in reversed(lists) if served.log_offset < log_offset), None)

    def find(self, user_id: str, list_id: str) -> Served | None:
        """A list by its id: one of the user's own, or one for strangers."""
        for key in (user_id, POPULAR):
            for served in self._users.get(key, ()):
                if served.list_id == list_id:
                    return served
        return None

    def attribute(self, click: Interaction, window_ms: float) -> Attributed | Unattributed:
        """The list this click belongs to: by its `list_id`; else the newest list served to the user within the window
        (event time) that has the item. Users without a list of their own were shown the strangers' one."""
        if click.list_id is not None:
            named = self.find(click.user_id, click.list_id)
            if named is not None and click.item_id in named.items:
                return Attributed(named.list_id, named.arm, named.items.index(click.item_id) + 1)
        lists = self._users.get(click.user_id) or self._users.get(POPULAR)
        if not lists:
            return Unattributed.NO_LIST
        reason = Unattributed.NOT_IN_LIST
        for served in reversed(lists):
            if served.timestamp_ms <= click.timestamp_ms and click.item_id in served.items:
                if click.timestamp_ms - served.timestamp_ms <= window_ms:
                    return Attributed(served.list_id, served.arm, served.items.index(click.item_id) + 1)
                reason = Unattributed.OUTSIDE_WINDOW
        return reason

    def positions(self, impression: Impression) -> tuple[str, list[int]] | None:
        """(arm, positions from 1) of the items shown; None where the list is not remembered. Items that were not in the
        list are not ours to count."""
        served = self.find(impression.user_id, impression.list_id)
        if served is None:
            return None
        rank = {item: position for position, item in enumerate(served.items, 1)}
        return served.arm, [rank[item] for item in dict.fromkeys(impression.items) if item in rank]

    def save(self) -> Saved:
        """Lists one after another; their items as places in a table of names. What has not been read yet will be."""
        users = {user: [served for served in lists if served.read] for user, lists in self._users.items()}
        users = {user: lists for user, lists in users.items() if lists}
        lists = [served for user in users.values() for served in user]
        names = {name: place for place, name in enumerate(dict.fromkeys(name for served in lists for name in served.items))}
        return {
            "users": [*users],
            "lists": [len(user) for user in users.values()],
            "ids": [served.list_id for served in lists],
            "offsets": [served.log_offset for served in lists],
            "times": [served.timestamp_ms for served in lists],
            "arms": [served.arm for served in lists],
            "lengths": [len(served.items) for served in lists],
            "items": np.array([names[name] for served in lists for name in served.items], np.int32),
            "names": [*names],
        }

    def restore(self, saved: Mapping[str, Value]) -> None:
        names = fitting("names", saved, [])
        items = iter([names[place] for place in fitting("items", saved, np.zeros(0, np.int32)).tolist()])
        columns = [fitting(column, saved, []) for column in ("ids", "offsets", "times", "arms", "lengths")]
        lists = (
            Served(list_id, offset, time, arm, tuple(islice(items, length)))
            for list_id, offset, time, arm, length in zip(*columns, strict=True)
        )
        counts = zip(fitting("users", saved, []), fitting("lists", saved, []), strict=True)
        self._users = OrderedDict((user, [*islice(lists, count)]) for user, count in counts)


class RecentIds(Kept):
    """Event ids seen lately, so that a redelivered one is not counted twice. Bound: `capacity` ids, the oldest leave first."""

    kept = ("_ids",)

    def __init__(self, capacity: int = 200_000) -> None:
        self.capacity = capacity
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._ids

    def add(self, event_id: str) -> bool:
        """True where the id is new."""
        if event_id in self._ids:
            return False
        self._ids[event_id] = None
        if len(self._ids) > self.capacity:
            self._ids.popitem(last=False)
        return True

    def save(self) -> Saved:
        return {"ids": [*self._ids]}

    def restore(self, saved: Mapping[str, Value]) -> None:
        self._ids = OrderedDict.fromkeys(fitting("ids", saved, []))
