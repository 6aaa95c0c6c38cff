"""Predicted ratings compared: one pass over the reviews of a log, every predictor asked first and taught afterwards.

Beside each other: constants, means, shrunk biases, river's factorisations with their documented settings, the recommender's own
`predict`, neighbours on top of biases, and the plain neighbourhood systems for several K. Predictions are clipped to 1..5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct, structs
from river import optim, reco
from river.optim import initializers

from models.catalogue import Catalogue
from models.config import Config
from models.evaluation.rating_errors import Errors, Median
from models.events import Event, Interaction, Review
from models.fold import Fold
from models.history import History
from models.rating_neighbours import Around, Neighbours, Prediction, Raters, Residuals, TextProfiles
from models.ratings import Ratings
from models.reviewers import Reviewers
from models.vectors import Vectors

Vector = npt.NDArray[np.float32]

BASELINES: Final = (
    "always the median", "global mean", "user mean", "item mean", "shrunk biases", "river Baseline", "river BiasedMF", "predict",
    "biases + ItemCF", "biases + UserCF", "biases + both + factors",
)  # fmt: skip
"""Predictors without a K to choose; `predict` is what `Recommender.predict` answers, the last three are `Residuals`."""


class System(Struct, frozen=True):
    """A neighbourhood system: whose neighbours, by which similarity, and whether words count."""

    name: str
    side: Literal["users", "items"]
    similarity: Literal["cosine", "pearson", "adjusted"]
    text: bool = False


SYSTEMS: Final = (
    System("UserCF cosine", "users", "cosine"),
    System("UserCF Pearson", "users", "pearson"),
    System("T-UserCF cosine", "users", "cosine", text=True),
    System("T-UserCF Pearson", "users", "pearson", text=True),
    System("ItemCF cosine", "items", "cosine"),
    System("ItemCF adj. cosine", "items", "adjusted"),
    System("T-ItemCF cosine", "items", "cosine", text=True),
    System("T-ItemCF adj. cosine", "items", "adjusted", text=True),
)


class StudyProtocol(Struct, frozen=True, kw_only=True):
    """How ratings are compared. `warmup`: a share of the reviews (below 1), or their number; they are learned only."""

    ks: tuple[int, ...] = (5, 10, 15, 20, 25, 30)
    text_share: float = 0.5
    text_centred: bool = True  # compare texts less what all of them have in common
    warmup: float = 0.2
    limit: int | None = None  # only the first so many reviews

    def __post_init__(self) -> None:
        if not self.ks or any(k < 1 for k in self.ks) or len(set(self.ks)) != len(self.ks):
            raise ValueError(f"numbers of neighbours: one or more distinct ones, each at least 1, not {self.ks}")
        if not 0 < self.text_share <= 1:
            raise ValueError(f"the text share is above 0 and at most 1, not {self.text_share}")
        if not (self.warmup >= 0 and math.isfinite(self.warmup)):
            raise ValueError(f"the warm-up is a share (below 1) or a number of reviews, not {self.warmup}")


def river_baseline() -> Any:
    """`reco.Baseline` as river documents it for MovieLens."""
    return reco.Baseline(optimizer=optim.SGD(0.025), l2=0.0, initializer=initializers.Zeros())


def river_biased_mf() -> Any:
    """`reco.BiasedMF` as river documents it for MovieLens."""
    return reco.BiasedMF(
        n_factors=10,
        bias_optimizer=optim.SGD(0.025),
        latent_optimizer=optim.SGD(0.05),
        weight_initializer=initializers.Zeros(),
        latent_initializer=initializers.Normal(mu=0.0, sigma=0.1, seed=73),
        l2_bias=0.0,
        l2_latent=0.0,
    )


class Predictors:
    """Everything that is compared, over one fold of the log. river's models hold a row for each user and item of the log."""

    def __init__(self, config: Config, protocol: StudyProtocol, *, text: bool) -> None:
        self.protocol = protocol
        self.systems = tuple(system for system in SYSTEMS if text or not system.text)
        self.history = History(config)
        self.ratings, self.raters = Ratings(config, self.history), Raters(config, self.history)
        self.texts = TextProfiles(config.max_vectors, centred=protocol.text_centred) if text else None
        self.neighbours = Neighbours(self.history, self.raters, self.texts)
        self.residuals = Residuals(self.ratings, self.neighbours)
        self.fold = Fold(
            config, self.history, Catalogue(config, self.history), Vectors(config), Reviewers(config, self.history),
            [self.ratings, self.raters, *self._profiles()],
        )  # fmt: skip
        self._median = Median()
        self._heard: set[str] = set()  # ids of reviews whose words are counted and may be taken back
        self._rivers = (river_baseline(), river_biased_mf())

    def _profiles(self) -> list[TextProfiles]:
        return [self.texts] if self.texts is not None else []

    def ask(self, user_id: str, item_id: str) -> tuple[npt.NDArray[np.float64], list[Prediction]]:
        """Predictions in the order of `BASELINES`, and one `Prediction` for each of `systems`."""
        user, item = self.history.users.get(user_id), self.history.items.get(item_id)
        around = self.neighbours.around(user, item)
        rivers = [model.predict_one(user_id, item_id) for model in self._rivers]
        over = self.residuals.expected(user, item, around)
        simple = [
            self._median.value(), around.mean, around.user_mean, around.item_mean, over.biases, *rivers,
            self.ratings.predict(user, item), over.items, over.users, over.blend,
        ]  # fmt: skip
        return np.array(simple), [self._near(around, system) for system in self.systems]

    def _near(self, around: Around, system: System) -> Prediction:
        share = self.protocol.text_share if system.text else 0.0
        if system.side == "users":
            return around.user_cf("pearson" if system.similarity == "pearson" else "cosine", self.protocol.ks, share)
        return around.item_cf("adjusted" if system.similarity == "adjusted" else "cosine", self.protocol.ks, share)

    def learn(self, review: Review, vector: Vector | None, *, retractable: bool = False) -> None:
        """Take a review in, with the (dim,) unit vector of its words if there are any; `retractable` says that it may yet be
        given to `take_back`."""
        if not self.fold.interaction(Interaction.of(review)) or review.rating is None:
            return
        self._median.learn(review.rating)
        for model in self._rivers:
            model.learn_one(review.user_id, review.item_id, review.rating)
        user, item = self.history.users.get(review.user_id), self.history.items.get(review.item_id)
        if self.texts is not None and vector is not None and user >= 0 and item >= 0:
            self.texts.add(user, item, vector)
            if retractable:
                self._heard.add(review.event_id)

    def take_back(self, review: Review, vector: Vector | None) -> None:
        """The words of a review that another one retracts (its rating leaves with `learn` of that one)."""
        user, item = self.history.users.get(review.user_id), self.history.items.get(review.item_id)
        if self.texts is not None and vector is not None and review.event_id in self._heard:
            self._heard.remove(review.event_id)
            self.texts.remove(user, item, vector)


class Study:
    """What a pass has measured."""

    def __init__(self, protocol: StudyProtocol, systems: Sequence[System]) -> None:
        self.protocol, self.systems = protocol, systems
        cells = [f"{system.name} K={k}" for system in systems for k in protocol.ks]
        self.errors = Errors([*BASELINES, *cells])
        self.reached: npt.NDArray[np.int64] = np.zeros(len(systems), np.int64)
        """Predictions with at least one neighbour, by system."""
        self.reviews = 0

    def add(self, review: Review, rating: float, simple: npt.NDArray[np.float64], near: Sequence[Prediction]) -> None:
        """Count the predictions of one rating."""
        self.errors.add(review.user_id, rating, np.concatenate([simple, *(prediction.values for prediction in near)]))
        self.reached += [prediction.neighbours > 0 for prediction in near]

    def report(self) -> dict[str, Any]:
        """Plain data: `baselines` name -> MAE, its standard error, RMSE; `systems` name -> share of predictions with a neighbour
        and the same measures by K."""
        table = self.errors.table()
        systems = {
            system.name: {
                "with_neighbour": float(self.reached[place]) / max(1, self.errors.n),
                "by_k": {str(k): table[f"{system.name} K={k}"] for k in self.protocol.ks if table},
            }
            for place, system in enumerate(self.systems)
        }
        return {
            "protocol": structs.asdict(self.protocol) | {"ks": list(self.protocol.ks)},
            "reviews": self.reviews,
            "tested": self.errors.n,
            "baselines": {name: table[name] for name in BASELINES if table},
            "systems": systems,
        }


def study(
    events: Iterable[Event],
    protocol: StudyProtocol,
    config: Config,
    *,
    text: Callable[[Review], Vector | None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Study:
    """Replay the reviews among the events, in order; a review with an id that came before is left out.

    `text` gives the unit vector of a review's words; without it there are no T- systems. `progress` is told the number of
    reviews done. Deletions are learned and not tested; an edit is tested before what it replaces is taken back.
    """
    by_id: dict[str, Review] = {}
    for event in events:
        if isinstance(event, Review):
            by_id.setdefault(event.event_id, event)
    reviews = list(islice(by_id.values(), protocol.limit))
    retracted = {review.retracts for review in reviews}
    warmup = int(len(reviews) * protocol.warmup) if protocol.warmup < 1 else int(protocol.warmup)
    predictors = Predictors(config, protocol, text=text is not None)
    result = Study(protocol, predictors.systems)
    for k, review in enumerate(reviews):
        if k >= warmup and review.rating is not None:
            result.add(review, review.rating, *predictors.ask(review.user_id, review.item_id))
        old = by_id.get(review.retracts or "")
        if text is not None and old is not None and old.user_id == review.user_id:
            predictors.take_back(old, text(old))
        vector = text(review) if text is not None else None
        predictors.learn(review, vector, retractable=review.event_id in retracted)
        result.reviews += 1
        if progress is not None:
            progress(k + 1)
    return result
