"""The fold: what each event does to the exact state, one step at a time, with everybody who counts along following.

Answers of `Fold.learn` are True exactly if the state changed. What was left out, and why, is counted in `ignored`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from models.catalogue import Catalogue
from models.config import Config
from models.events import Interaction, Item, ItemVector, ReviewVector
from models.history import FRESH, KINDS, KNOWN, TOO_OLD, Follower, History, Step
from models.interning import key64
from models.kept import Kept
from models.reviewers import Reviewers
from models.vectors import Vectors
from models.window import DEAD

MAX_TIMESTAMP_MS: Final = 2**62


class Fold(Kept):
    """Applies events to history, catalogue and vectors."""

    kept = ("ignored", "erased", "_spans", "_refusals_to_wait")
    scratch = ("followers", "step", "_before", "_after", "_taught")

    def __init__(
        self,
        config: Config,
        history: History,
        catalogue: Catalogue,
        vectors: Vectors,
        reviewers: Reviewers,
        followers: Sequence[Follower],
    ) -> None:
        self.config, self.history, self.catalogue, self.vectors = config, history, catalogue, vectors
        self.reviewers = reviewers
        self.followers = followers
        self.ignored: dict[str, int] = {"too_old": 0, "item_bound": 0, "erased": 0, "retracted": 0, "forgotten_users": 0}
        """Events (and users) left out, by reason."""
        self.erased: dict[int, int] = {}
        """Hash of an erased user's id -> time of the request: what happened until then stays out, even if it comes late."""
        self.step = Step()
        self._spans = [0, 0]
        self._refusals_to_wait = 0
        self._before = [f.before for f in followers if type(f).before is not Follower.before]
        self._after = [f.after for f in followers if type(f).after is not Follower.after]
        self._taught = [f.taught for f in followers if type(f).taught is not Follower.taught]

    # -------------------------------------------------------------------------------------------- events of users
    def interaction(self, line: Interaction) -> bool:
        """One line of the log. True if something changed.

        Raises:
            ValueError: a kind nobody knows, an empty id, a time or rating out of range.
        """
        check(line)
        if line.kind == "erasure":
            return self._erase(line.user_id, line.timestamp_ms)
        if self.keeps_out(line.user_id, line.timestamp_ms):
            self.ignored["erased"] += 1
            return False
        key = key64(line.event_id)
        user, verdict = self.history.users.get(line.user_id), FRESH
        if user < 0:
            user = self._new_user(line.user_id)
        elif line.kind != "retraction":
            verdict = self.history.admit(user, key, line.timestamp_ms)
            if verdict == KNOWN:
                return False
        changed = False
        if line.retracts:
            changed = self._retract(user, key64(line.retracts), line.timestamp_ms)
            verdict = self.history.admit(user, key, line.timestamp_ms)
        if line.kind != "retraction":
            changed = self._add(user, key, line, verdict) or changed
        if not changed and not self.history.windows.rows[user]["size"]:
            self._release(user)  # a new user of whom nothing is to be remembered
        return changed

    def keeps_out(self, user_id: str, timestamp_ms: int) -> bool:
        """Whether the user was erased, and asked for it no earlier than this."""
        return bool(self.erased) and timestamp_ms <= self.erased.get(key64(user_id), -1)

    def _add(self, user: int, key: int, line: Interaction, verdict: int) -> bool:
        """A click, purchase or review; `verdict` says what it is to the window (see `History.admit`)."""
        history, step = self.history, self.step
        if verdict != FRESH:
            self.ignored["too_old" if verdict == TOO_OLD else "retracted"] += 1
            return False
        item = self.item(line.item_id)
        if item < 0:
            self.ignored["item_bound"] += 1
            return False
        self._make_room(user)
        rating = round((line.rating or 0.0) * 1000)
        history.entering(step, user, item, line.timestamp_ms, KINDS[line.kind], rating)
        step.context = line.context
        for hook in self._before:
            hook(step)
        history.insert(step, key)
        if history.item_events[item] == 1:
            self.catalogue.refresh(item)
        for hook in self._after:
            hook(step)
        for hook in self._taught:
            hook(step)
        return True

    def _retract(self, user: int, key: int, timestamp_ms: int) -> bool:
        """The event with this key never happened: take it back, or remember that it must not count when it comes."""
        position = self.history.find(user, key)
        if position >= 0:
            if self.history.window(user)[position]["item"] == DEAD:
                return False
            self._take_back(user, position, remember=True)
            return True
        if self.history.admit(user, key, timestamp_ms) == TOO_OLD:
            self.ignored["too_old"] += 1
            return False
        self._make_room(user)
        self.history.bury(user, key, timestamp_ms)
        return True

    def _take_back(self, user: int, position: int, *, remember: bool) -> None:
        """One event leaves its window."""
        history, step = self.history, self.step
        history.leaving(step, user, position)
        for hook in self._before:
            hook(step)
        history.remove(step, position, remember=remember)
        if history.item_events[step.item] == 0:
            self.catalogue.refresh(step.item)
        for hook in self._after:
            hook(step)

    def _make_room(self, user: int) -> None:
        """One more event must fit into the user's window and into memory."""
        if self.history.is_full(user) and not self.history.drop_tombstone(user):
            self._take_back(user, 0, remember=False)
        while not self.history.room(user):
            self._forget_silent(keep=user)

    # -------------------------------------------------------------------------------------------- users come and go
    def _new_user(self, user_id: str) -> int:
        if self.history.users.full:
            self._forget_silent(keep=-1)
        user = self.history.user(user_id)
        self.ensure()
        return user

    def _erase(self, user_id: str, timestamp_ms: int) -> bool:
        """Forget a person, and keep out what they did until then."""
        key = key64(user_id)
        later = timestamp_ms > self.erased.get(key, 0)
        if later:
            self.erased[key] = timestamp_ms
            if len(self.erased) > self.config.max_erasures:
                del self.erased[next(iter(self.erased))]
        user = self.history.users.get(user_id)
        if user >= 0:
            self._forget(user)
        return self.reviewers.forget(user_id) or later or user >= 0

    def _forget(self, user: int) -> None:
        """Take back everything of a user, the newest first."""
        for position in range(len(self.history.window(user)) - 1, -1, -1):
            if self.history.window(user)[position]["item"] != DEAD:
                self._take_back(user, position, remember=False)
        self._release(user)

    def _release(self, user: int) -> None:
        for follower in self.followers:
            follower.forget_user(user)
        self.history.forget(user)

    def _forget_silent(self, keep: int) -> None:
        """A bound is reached: the 64th part of the users that has been silent for longest leaves (never `keep`)."""
        history = self.history
        known = history.users.indices()
        known = known[known != keep]
        if not len(known):
            raise MemoryError("max_events is too small for a single user's window")
        rows = history.windows.rows[known]
        newest = history.windows.data[rows["start"] + np.maximum(rows["size"], 1) - 1]["ts"]
        newest = np.where(rows["size"] > 0, newest, 0)
        order = np.lexsort((history.users.keys[known], newest))
        for user in known[order[: max(1, len(known) // 64)]].tolist():
            self._forget(user)
            self.ignored["forgotten_users"] += 1

    # -------------------------------------------------------------------------------------------- items
    def item(self, item_id: str) -> int:
        """Index of an item, new if need be; -1 when `max_items` others are in use."""
        history = self.history
        index = history.items.get(item_id)
        if index >= 0:
            return index
        if history.items.full and not self._reclaim_items():
            return -1
        index = history.item(item_id)
        self.ensure()
        return index

    def _reclaim_items(self) -> bool:
        """Release the items of which nothing is known any more; whether there were any."""
        history = self.history
        if self._refusals_to_wait > 0:
            self._refusals_to_wait -= 1
            return False
        silent = history.items.indices()
        silent = silent[history.item_events[silent] == 0]
        unused = [i for i in silent.tolist() if not self.catalogue.is_sold(i) and not self.vectors.has(i)]
        if not unused:
            self._refusals_to_wait = self.config.max_items // 64  # a walk over all items is not repeated for each new one
        for index in unused:
            self.catalogue.forget(index)
            for follower in self.followers:
                follower.forget_item(index)
            history.items.release(index)
        return bool(unused)

    def entry(self, entry: Item) -> bool:
        """The newest entry of the catalogue for an item. True if something changed."""
        if not entry.item_id:
            raise ValueError("an item needs an id")
        index = self.item(entry.item_id)
        if index < 0:
            self.ignored["item_bound"] += 1
            return False
        return self.catalogue.put(index, entry)

    def removed(self, item_id: str) -> bool:
        """A tombstone of the catalogue. True if something changed."""
        index = self.item(item_id)
        return index >= 0 and self.catalogue.remove(index)

    def vector(self, entry: ItemVector) -> bool:
        """The newest vector of an item (see `Vectors.put`). True if something changed."""
        if not entry.vector and self.history.items.get(entry.item_id) < 0:
            return False
        index = self.item(entry.item_id)
        if index < 0:
            self.ignored["item_bound"] += 1
            return False
        return self.vectors.put(index, entry)

    def words(self, entry: ReviewVector) -> bool:
        """What a review says (see `Reviewers.put`). True if something changed."""
        if self.keeps_out(entry.user_id, entry.timestamp_ms):
            self.ignored["erased"] += 1
            return False
        return self.reviewers.put(entry)

    def ensure(self) -> None:
        """Everybody makes place when the index arrays have grown."""
        spans = [len(self.history.windows.rows), len(self.history.takers)]
        if spans != self._spans:
            self._spans = spans
            self.catalogue.ensure(spans[1] - 1)
            for follower in self.followers:
                follower.ensure(*spans)


def check(line: Interaction) -> None:
    """Refuse what cannot be meant.

    Raises:
        ValueError: says what is wrong.
    """
    if line.kind not in KINDS and line.kind not in ("retraction", "erasure"):
        raise ValueError(f"an interaction of kind {line.kind!r}: choose from {', '.join(KINDS)}, retraction, erasure")
    if not line.event_id or not line.user_id:
        raise ValueError("an event needs an id and a user id")
    if line.kind in KINDS and not line.item_id:
        raise ValueError(f"event {line.event_id!r} has no item id")
    if not 0 < line.timestamp_ms < MAX_TIMESTAMP_MS:
        raise ValueError(f"event {line.event_id!r}: timestamp_ms={line.timestamp_ms} is out of range (1 .. 2**62 - 1)")
    if line.kind == "review" and not (line.rating is not None and 1 <= line.rating <= 5):
        raise ValueError(f"review {line.event_id!r}: rating={line.rating!r}, a number from 1 to 5 is needed")
    if line.kind == "retraction" and not line.retracts:
        raise ValueError(f"retraction {line.event_id!r} does not say of which event")
