"""Training of the fusion, test then learn: before a positive event is learned, what could have been offered is compared with what
was taken."""

from __future__ import annotations

from models.asking import Asking
from models.fusion import Fusion
from models.history import Follower, History
from models.sources.base import Step


class Trainer(Follower):
    """Follows the fold (see `history.Follower`); acts before an event enters, when everything is as it was for the list."""

    def __init__(self, asking: Asking, fusion: Fusion, history: History) -> None:
        self.asking, self.fusion, self.history = asking, fusion, history
        self.active = True
        """Whether the fusion learns from what comes: a step costs as much as a list."""

    def before(self, step: Step) -> None:
        """A positive event of an item that could have been in the user's list: one step of learning.

        Lists with and without the user's own items are different problems. The one without learns from new items only, the one
        with them from all events, and only where people do come back to what they had.
        """
        if step.sign < 0 or not step.positive or not step.teaches:
            return
        if self.active and self.fusion.learns:
            if self.asking.repeats:
                self._learn(step, repeats=True)
            self._learn(step, repeats=False)
        self.fusion.note(step.item)

    def _learn(self, step: Step, *, repeats: bool) -> None:
        user, at_ms = self.history.users.name(step.user), step.timestamp_ms
        query = self.asking.query(user, 1, context=step.context, repeats=repeats, at_ms=at_ms)
        if query.seen[step.item] != query.stamp:
            self.fusion.learn(self.asking.candidates(query, complete=self.fusion.complete), query, step.item)

    def ensure(self, users: int, items: int) -> None:
        """Make place for so many items."""
        self.fusion.ensure(items)

    def forget_user(self, user: int) -> None:
        """The index will stand for somebody else."""
        self.fusion.forget_user(int(self.history.users.keys[user]))

    def forget_item(self, item: int) -> None:
        """The index will stand for another item."""
        self.fusion.forget_item(item)
