"""UserCF by Pearson correlation and ItemCF by adjusted cosine: who rates alike, and what is rated alike, as sources of lists.

Both look at opinions (a user's newest rating of an item in the window), where the other sources look at what was taken. r_ui is
one, mean_u the mean of all of a user's, and what two have in common counts the more, the more it is (significance weighting of
Herlocker et al., 1999, in a smooth form): s(n) = n / (n + `rated_shrink`), so that one common rating is no perfect agreement.

*UserCF*, Pearson (Resnick et al., 1994), over the n items that both have rated:
    w(v) = s(n) sum (r_ui - mean_u)(r_vi - mean_v) / sqrt(sum (r_ui - mean_u)^2 sum (r_vi - mean_v)^2)
    score(i) = max(0, sum over the K peers v with the largest w(v) > 0 that have rated i of w(v) (r_vi - mean_v))
The peers are the `item_raters` most recent raters of each of the user's newest L rated items. It is the numerator of the expected
rating (see `rating_neighbours`) without the denominator: an average would put what one peer adores above what fifty like (not
normalised, it ranks better: Cremonesi, Koren & Turrin, 2010).

*ItemCF*, adjusted cosine (Sarwar et al., 2001), over the n of the most recent raters v of j that have rated i, too:
    adj(i, j) = s(n) sum (r_vi - mean_v)(r_vj - mean_v) / sqrt(sum (r_vi - mean_v)^2 sum (r_vj - mean_v)^2)
    score(i) = max(0, sum over the user's newest L rated items j of decay^age(j) * (r_uj - mean_u + 1) * adj(i, j))
That somebody has taken and rated an item at all speaks for it as much as one star: people rate what they expected to like
(Marlin & Zemel, 2009), and who gives all items the same rating, whatever it is, gets candidates as well. What lies more than a
star below the user's mean speaks against what is like it.

Optional: people seldom say in stars what they take next, see docs/models.md. A list costs a walk through the windows of all
peers, and one more through those of the raters of each of the L items.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Final

import numpy as np
import numpy.typing as npt

from models.config import Config
from models.history import History
from models.kept import Kept
from models.rating_neighbours.kernels import OPINION, opinions
from models.rating_neighbours.raters import Raters
from models.rows import Array, grown
from models.sources import rated_cf_kernels as kernels
from models.sources.base import Family, Found, Grounds, Query, Room, Source, State, Step, best_of, gather_first

RATED: Final = 1.0
"""What a rating says for its item whatever it is, stars (see the module)."""


class Tally(Kept):
    """Scores of one query, per item. All scratch."""

    scratch = ("score", "heard", "speaks", "touched", "count")

    def __init__(self) -> None:
        self.score: npt.NDArray[np.float64] = np.zeros(16)
        self.heard: npt.NDArray[np.int32] = np.zeros(16, np.int32)
        """Those (peers, or items of the user) who have something to say of an item, for or against."""
        self.speaks: npt.NDArray[np.int32] = np.zeros(16, np.int32)
        """Peers who speak for it."""
        self.touched: npt.NDArray[np.int32] = np.zeros(17, np.int32)
        self.count = 0

    def ensure(self, items: int) -> None:
        """Make place for so many items."""
        self.score, self.heard, self.speaks = grown(self.score, items), grown(self.heard, items), grown(self.speaks, items)
        self.touched = grown(self.touched, items + 1)

    def reset(self) -> None:
        """All 0."""
        kernels.clear(self.score, self.heard, self.speaks, self.touched, self.count)
        self.count = 0


class Company(Kept):
    """Raters of the newest items that the user has rated, and their opinions: read once for both sources. All scratch.

    It takes 12 bytes for each event in the windows of the peers, who are at most L times `item_raters`.
    """

    scratch = (
        "own", "mean", "held", "asked", "users", "begins", "items", "deviations", "crowd", "ends", "place", "sums", "beside",
        "_stamp", "_met", "_clock", "_theirs", "_place_of",
    )  # fmt: skip

    def __init__(self, config: Config, history: History, raters: Raters) -> None:
        self.config, self.history, self.raters = config, history, raters
        window = config.window_events
        self.own: Array = np.zeros(window, OPINION)
        """The user's opinions, the newest first: `held` of them, of which `asked` are asked about."""
        self.mean, self.held, self.asked = 0.0, 0, 0
        self.users: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        """Peers, by key."""
        self.begins: npt.NDArray[np.int64] = np.zeros(17, np.int64)
        self.items: npt.NDArray[np.int32] = np.zeros(16, np.int32)
        self.deviations: npt.NDArray[np.float64] = np.zeros(16)
        self.crowd: npt.NDArray[np.int32] = np.zeros(16, np.int32)
        self.ends: npt.NDArray[np.int64] = np.zeros(window, np.int64)
        """See `rated_cf_kernels.meet` and `read`."""
        self.place: npt.NDArray[np.int32] = np.zeros(16, np.int32)
        self.sums: Array = np.zeros(16, kernels.PAIRED)
        self.beside: npt.NDArray[np.int32] = np.zeros(17, np.int32)
        """Per item, all 0 between calls; touched items."""
        self._stamp = -1
        self._met: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        self._clock: npt.NDArray[np.int64] = np.zeros(1, np.int64)
        self._theirs: Array = np.zeros(window, OPINION)
        self._place_of: npt.NDArray[np.int32] = np.zeros(16, np.int32)

    def ensure(self, users: int, items: int) -> None:
        """Make place for so many users and items."""
        self._place_of = grown(self._place_of, users)
        self._met, self.place, self.sums = grown(self._met, items), grown(self.place, items), grown(self.sums, items)
        self.beside = grown(self.beside, items + 1)

    def ask(self, query: Query) -> None:
        """Find the peers of who asks and read their opinions; the same query is asked once."""
        if query.stamp == self._stamp:
            return
        self._stamp = query.stamp
        windows, raters = self.history.windows, self.raters.of.pool
        self.held = opinions(windows.data, windows.rows, query.user, self._met, self._clock, self.own) if query.user >= 0 else 0
        self.asked = min(self.held, self.config.rated_items)
        self.mean = int(self.own["rating"][: self.held].sum()) / self.held / 1000 if self.held else 0.0
        most = kernels.most(self.newest, raters.rows)
        self.crowd, users = grown(self.crowd, most), np.empty(min(most, len(self._place_of)), np.int32)
        count, cells = kernels.meet(
            self.newest, raters.data, raters.rows, windows.rows, self.history.users.keys, self._place_of, users, self.crowd,
            self.ends,
        )  # fmt: skip
        self.users, self.begins = users[:count], grown(self.begins, count + 1)
        self.items, self.deviations = grown(self.items, cells), grown(self.deviations, cells)
        kernels.read(
            windows.data, windows.rows, self.users, self._met, self._clock, self._theirs, self.begins, self.items,
            self.deviations,
        )  # fmt: skip

    @property
    def newest(self) -> Array:
        """The opinions that are asked about, the newest first."""
        return self.own[: self.asked]


class RatedCF(Source):
    """What both sources share. One of them keeps the raters up to date, for both."""

    name = "rated_cf"
    family = Family.COLLABORATIVE
    optional = True
    kept = ("raters",)

    def __init__(self, state: State, company: Company, *, keeps: bool) -> None:
        super().__init__(state)
        self.company = company
        self.raters = company.raters if keeps else None
        """None: it is the other instance that follows the history."""
        self.tally = Tally()

    @classmethod
    def build(cls, state: State) -> list[Source]:
        company = Company(state.config, state.history, Raters(state.config, state.history))
        kinds: list[type[RatedCF]] = [UserCFPearson, ItemCFAdjusted]
        keeper = next((kind for kind in kinds if kind.name not in state.config.without), None)
        return [kind(state, company, keeps=kind is keeper) for kind in kinds]

    # -------------------------------------------------------------------------------------------- learning
    def ensure(self, users: int, items: int) -> None:
        if self.raters is not None:
            self.raters.ensure(users, items)
            self.company.ensure(users, items)
        self.tally.ensure(items)

    def before(self, step: Step) -> None:
        if self.raters is not None:
            self.raters.before(step)

    def after(self, step: Step) -> None:
        if self.raters is not None:
            self.raters.after(step)

    # -------------------------------------------------------------------------------------------- asking
    @abstractmethod
    def add_up(self, query: Query) -> int:
        """Fill the tally, which is empty; returns the number of items touched."""

    def find(self, query: Query, found: Found) -> int:
        tally = self.tally
        tally.reset()
        self.company.ask(query)
        tally.count = self.add_up(query)
        return int(best_of(
            tally.score, tally.touched, tally.count, query.open, query.seen, query.stamp, self.history.items.keys, query.k,
            found.items, found.scores,
        ))  # fmt: skip

    @property
    def spread(self) -> Array | None:
        return self.tally.score

    def sizes(self) -> dict[str, tuple[int, int]]:
        return {} if self.raters is None else self.raters.sizes()


class UserCFPearson(RatedCF):
    """What people who rate alike rate above their mean."""

    name = "user_cf_pearson"
    grounds = Grounds("similar_raters", pieces=False, number=True)

    def add_up(self, query: Query) -> int:
        company, tally, config = self.company, self.tally, self.config
        weights = np.empty(len(company.users))
        kernels.weigh(
            query.user, company.own[: company.held], company.mean, config.rated_shrink, company.users, company.begins,
            company.items, company.deviations, company.place, weights,
        )  # fmt: skip
        return int(kernels.listen(
            kernels.nearest(weights, config.rated_neighbours), weights, company.begins, company.items, company.deviations,
            tally.score, tally.heard, tally.speaks, tally.touched,
        ))  # fmt: skip

    def evidence(self, query: Query, items: npt.NDArray[np.int32], room: Room) -> None:
        gather_first(self.tally.speaks, items, room.number)


class ItemCFAdjusted(RatedCF):
    """What is rated as the items are that the user rates well."""

    name = "item_cf_adjusted"
    grounds = Grounds("rated_alike", item=True)

    def _tastes(self) -> npt.NDArray[np.float64]:
        """decay^age (r - mean + 1) of the newest opinions."""
        company = self.company
        above: npt.NDArray[np.float64] = company.newest["rating"] / 1000 - company.mean + RATED
        return above * self.config.rated_decay ** np.arange(company.asked)

    def add_up(self, query: Query) -> int:
        company, tally = self.company, self.tally
        return int(kernels.spread(
            company.newest, self._tastes(), self.config.rated_shrink, company.crowd, company.ends, company.begins, company.items,
            company.deviations, company.sums, company.beside, tally.score, tally.heard, tally.touched,
        ))  # fmt: skip

    def evidence(self, query: Query, items: npt.NDArray[np.int32], room: Room) -> None:
        company = self.company
        kernels.because_of(
            company.newest, self._tastes(), self.history.positive_rating, self.config.rated_shrink, company.crowd, company.ends,
            company.begins, company.items, company.deviations, company.sums, company.beside, items, room.fraction, room.item,
        )  # fmt: skip
