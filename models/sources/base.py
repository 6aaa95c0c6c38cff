"""The protocol of candidate sources: one file per source, each a subclass of `Source` listed in `models.sources.REGISTRY`.

How to add one
--------------
1. Write `models/sources/<name>.py` with a subclass of `Source`, its kernels beside it (see `models.kernel`; few array arguments).
2. Name its attributes: what it has learned in `kept`, what changes otherwise in `scratch` (see `models.kept`).
3. Add the class to `REGISTRY` in `models/sources/__init__.py`, its parameters to `Config`.
4. Add `tests/models/contracts/test_<name>.py`: subclass `SourceContract`, give the naive twin. A test fails without it.

How it is driven
----------------
*Learning.* Every change of the exact state is one `Step` (an event enters or leaves one user's window). `before(step)` sees the
windows as they were, `after(step)` as they are; `step.joined` / `step.left` (whether the item has come into or gone out of the
user's profile) are known in `after`. Whatever is counted in `after` for an event that enters must be taken back for the one
that leaves. A source whose counts depend on neighbouring events (sequences) takes back what lies round the place in `before`
and counts anew in `after`. `taught(step)` follows once per learned positive event, for what is learned by gradient steps and
cannot be taken back.

*Asking.* `find(query, found)` writes at most `query.k` allowed candidates, the best first, into `found` and returns their number.
`score(query, items, out)` then gives this source's score for any items (the union of all sources' candidates), which is read from
`spread` where the source has them all there, and `evidence(query, items, room)` says why. All may use what `find` has left in
scratch arrays, and are only called for the query that was last given to `find`. Nothing here changes state: scratch is written
anew by every `find`.

*Scores* are >= 0 and 0 means "knows nothing"; their scale is the source's own affair (fusion looks at ranks or divides by the
maximum). Ties are broken by `history.items.keys`, never by index, so that lists do not depend on the order in which ids arrived.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from models.catalogue import Catalogue
from models.config import Config
from models.history import Follower, History, Step
from models.kept import Kept
from models.reviewers import Reviewers
from models.rows import Array
from models.sources.accumulator import Accumulator, blank, clear, gather_first, offer
from models.sources.choosing import allowed, best_of, best_scaled, choose, push, settle
from models.sources.peers import Peers
from models.together import Together
from models.vectors import Vectors

__all__ = [
    "Accumulator", "Family", "Found", "Grounds", "Query", "Room", "Source", "State", "Step", "allowed", "best_of",
    "best_scaled", "blank", "choose", "clear", "gather_first", "offer", "push", "settle",
]  # fmt: skip


class Family(StrEnum):
    """What a source goes by: weighted fusion has one weight per kind of knowledge."""

    COLLABORATIVE = "collaborative"
    POPULARITY = "popularity"
    CONTENT = "content"
    TEXT = "text"


@dataclass(frozen=True)
class State:
    """What all sources look at and none of them owns."""

    config: Config
    history: History
    catalogue: Catalogue
    vectors: Vectors
    together: Together
    reviewers: Reviewers

    @cached_property
    def peers(self) -> Peers:
        """Those who share items with the user who asks."""
        return Peers(self.config, self.history)


class Query:
    """One request for a list. Valid until the next one is made."""

    __slots__ = (
        "at_ms",
        "context",
        "k",
        "key",
        "near",
        "now_ms",
        "open",
        "pause_ms",
        "profile",
        "repeats",
        "seen",
        "stamp",
        "user",
    )

    def __init__(
        self,
        *,
        user: int,
        profile: Array,
        now_ms: int,
        k: int,
        open_items: Array,
        seen: Array,
        stamp: int,
        context: Mapping[str, str] | None = None,
        near: Sequence[tuple[str, float]] | None = None,
        repeats: bool = False,
        at_ms: int | None = None,
        pause_ms: int = -1,
        key: int = 0,
    ) -> None:
        self.user = user
        """Index of the user; -1 for a stranger."""
        self.key = key
        """Hash of the user's id (`interning.key64`); 0 for a stranger."""
        self.profile = profile
        """The user's distinct positive items (`PROFILE`: item, weight, count), the newest last. Empty for a stranger."""
        self.now_ms = now_ms
        """The log's high-water mark: the only clock."""
        self.at_ms = now_ms if at_ms is None else at_ms
        """Event time of the request, where it says one; else as `now_ms`."""
        self.pause_ms = pause_ms
        """From the user's newest event to the request; negative: there is none."""
        self.k = k
        """Candidates wanted from each source."""
        self.open = open_items
        """Per item: 1 if it may be recommended at all (known, available, not removed)."""
        self.seen = seen
        """Per item: equal to `stamp` if it must not be in this list because the user knows it."""
        self.stamp = stamp
        self.context = context
        """Device, country, session ... of the request, as in the events; None: nothing is known."""
        self.near = near
        """Item ids and scores of an outside search by taste vector; None: none answered."""
        self.repeats = repeats
        """Whether the user's own items may be in the list."""


class Found(NamedTuple):
    """Where a source writes its candidates: the best first. Shapes (k,)."""

    items: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float64]


class Room(NamedTuple):
    """Where a source writes its evidence for n items, at most e pieces each. Shapes (n or more, e): the first n rows count."""

    fraction: npt.NDArray[np.float64]
    """The part of the source's score that a piece accounts for; 0: no piece. What is left of 1 is not named."""
    item: npt.NDArray[np.int32]
    """Index of an item of the user's profile."""
    number: npt.NDArray[np.int64]
    """Users, events."""
    text: npt.NDArray[np.int32]
    """Number of a text (see `Source.said`); -1: none."""


def rooms(sources: int, lines: int, pieces: int) -> tuple[Room, list[Room]]:
    """Room for so many sources, lines and pieces of a line and source: whole, with the sources along the first axis, and by
    source. Not filled."""
    shape = (sources, lines, pieces)
    whole = Room(np.empty(shape), np.empty(shape, np.int32), np.empty(shape, np.int64), np.empty(shape, np.int32))
    return whole, [Room(*parts) for parts in zip(*whole, strict=True)]


class Grounds(Struct, frozen=True):
    """What evidence of a source consists of: the fields of `Room` that it writes. No two pieces of an item are the same."""

    kind: str
    pieces: bool = True  # or else one piece accounts for all of the score, and no fraction is written
    item: bool = False
    number: bool = False
    text: bool = False
    common: str | None = None  # the text of all pieces, where they have the same


class Source(Follower, Kept, ABC):
    """A way to find items for a user. See the module's docstring."""

    name: str = ""
    """As in `Recommended.sources`, in settings and in reports."""
    grounds: Grounds
    family: ClassVar[Family] = Family.COLLABORATIVE
    together: ClassVar[bool] = False
    """Whether it looks at `State.together`, which counts for nobody else."""
    optional: ClassVar[bool] = False
    """Whether it is only in use where the configuration names it."""
    echo_of: ClassVar[str] = ""
    """Name of a source that says much the same. Reciprocal ranks give both together one vote, and the learned fusion learns from
    nothing what this one is worth beside the other."""

    column: int = 0
    """Which one of `spread` is this source's, where that has several."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.config = state.config
        self.history = state.history

    @classmethod
    def build(cls, state: State) -> list[Source]:
        """The instances of this source that the configuration asks for."""
        return [cls(state)]

    # -------------------------------------------------------------------------------------------- asking
    @abstractmethod
    def find(self, query: Query, found: Found) -> int:
        """Write the best candidates, scores descending; return how many."""

    def score(self, query: Query, items: npt.NDArray[np.int32], out: npt.NDArray[np.float64]) -> None:
        """Scores of `items` (n,) for the query last given to `find` into `out` (n,); 0 where nothing is known. To be written for
        a source without `spread`; where there is that, this is the plain way to read it, and `gathering` the fast one."""
        array = self.spread
        if array is None:
            raise NotImplementedError(f"{self.name} has neither a score of every item nor a way to find those of some")
        out[:] = (array if array.ndim == 1 else array[:, self.column])[items]

    @property
    def spread(self) -> Array | None:
        """For a source that has a score of every item when `find` is through, always: where they lie, (items,) or (items, c),
        float64 or int64."""
        return None

    @abstractmethod
    def evidence(self, query: Query, items: npt.NDArray[np.int32], room: Room) -> None:
        """Why these items (all with a score > 0) for the query last given to `find`, as `grounds` says."""

    def said(self, number: int) -> str | None:
        """The text of a number: asked of the few pieces that are named in the end. Where sources give one kind of evidence, they
        number alike."""
        return None

    # -------------------------------------------------------------------------------------------- housekeeping
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Name -> (used, bound)."""
        return {}
