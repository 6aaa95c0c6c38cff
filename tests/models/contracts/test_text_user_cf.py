from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import pytest

from models import Click, Config, Erasure, Item, ItemVector, Recommender, ReviewVector
from models.reviewers import scale_of
from tests.models.contracts.suite import SourceContract
from tests.models.naive import Naive, coarse, turned
from tests.models.state import full_state, scores
from tests.models.streams_of import shop


def spoken(user: str, number: int, direction: np.ndarray, time: int = 1) -> ReviewVector:
    return ReviewVector(
        event_id=f"{user}-says-{number}", user_id=user, vector=direction.astype("<f4").tobytes(), model="m", timestamp_ms=time
    )


def words(users: int, dim: int = 24, seed: int = 1) -> list[ReviewVector]:
    """Two reviews of each user; what texts have in common is large, even and odd users differ."""
    rng = np.random.default_rng(seed)
    said = []
    for k in range(users):
        for number in range(2):
            v = rng.normal(0, 0.3, dim)
            v[0] += 3
            v[1 + k % 2] += 1.5
            said.append(spoken(f"u{k}", number, v / np.linalg.norm(v)))
    return said


WORDS = words(20)


class TestTextUserCF(SourceContract):
    registered = "text_user_cf"
    tolerance = 1e-4  # float32

    silent: str | None = None

    def background(self) -> Iterable[Item | ItemVector]:
        said = [one for one in WORDS if one.user_id != self.silent]
        return said  # type: ignore[return-value]  # learned like vectors of items

    def expected(self, naive: Naive, source: str, user: str) -> dict[str, float]:
        said = defaultdict(list)
        for one in (one for one in WORDS if one.user_id not in naive.erased):
            vector = np.frombuffer(one.vector, "<f4").astype(np.float64)
            said[one.user_id].append(np.rint(vector / np.linalg.norm(vector) * scale_of(24)) / scale_of(24))
        if user not in said or not naive.windows.get(user):  # words alone make nobody known
            return {}
        common = np.mean([v for several in said.values() for v in several], axis=0)
        own = np.mean(said[user], axis=0) - common
        others = {u: coarse(np.mean(several, axis=0)[None])[0] - common for u, several in said.items()}
        unit = {u: m / np.linalg.norm(m) for u, m in (others | {user: own}).items()}
        same, share = naive.similar_users(user), naive.config.text_user_share
        best, total = max(same.values(), default=1.0), defaultdict(float)
        for v in set(naive.users()) - {user}:
            alike = max(0.0, float(turned(unit[user]) @ unit[v])) if v in unit else 0.0
            weight = (1 - share) * same.get(v, 0.0) / best + share * alike
            for i, _ in naive.profile(v)[-naive.config.user_cf_neighbour_items :]:
                total[i] += weight
        return dict(total)

    def test_an_erased_user_equals_one_never_seen(self) -> None:
        log = shop(7, users=6, items=15, events=150)
        model = self.model(log)
        assert model.learn(Erasure(request_id="x", user_id="u3", timestamp_ms=10**14))
        self.silent = "u3"
        never = self.model(e for e in log if e.user_id != "u3")
        self.same_lists(model, never, [f"u{k}" for k in range(6)])


def model(**parameters: object) -> Recommender:
    return Recommender(Config(sources=("text_user_cf",), fusion="rrf", factors=0, **parameters))  # type: ignore[arg-type]


def told(tested: Recommender, said: Iterable[ReviewVector] = WORDS) -> Recommender:
    for one in said:
        assert tested.learn(one)
    return tested


def test_words_and_events_may_come_in_any_order() -> None:
    log = shop(1, users=20, items=20, events=200)
    first, last = told(model()), model()
    for event in log:
        first.learn(event)
        last.learn(event)
    told(last)
    for user in ("u0", "u1", "u2"):
        assert scores(first, "text_user_cf", user) == pytest.approx(scores(last, "text_user_cf", user), rel=1e-6)


def test_a_review_taken_back_leaves_nothing_behind() -> None:
    log = shop(2, users=20, items=20, events=200)
    tested, never = told(model()), told(model(), [one for one in WORDS if not one.event_id.endswith("-1")])
    for event in log:
        tested.learn(event)
        never.learn(event)
    for one in WORDS:
        if one.event_id.endswith("-1"):
            assert tested.remove_review(one.event_id)
            assert not tested.remove_review(one.event_id)
    for user in (f"u{k}" for k in range(20)):
        assert scores(tested, "text_user_cf", user) == pytest.approx(scores(never, "text_user_cf", user), rel=1e-5)


def test_a_review_that_is_known_changes_nothing() -> None:
    tested = told(model())
    before = full_state(tested)
    assert not any(tested.learn(one) for one in WORDS)
    assert full_state(tested) == before


def test_an_erased_person_leaves_no_words_and_late_ones_stay_out() -> None:
    tested = told(model())
    for event in shop(3, users=20, items=20, events=200):
        tested.learn(event)
    assert tested.learn(Erasure(request_id="r", user_id="u4", timestamp_ms=10**14))
    assert tested.reviewers.texts == len(WORDS) - 2
    assert "u4" not in tested.reviewers.places
    assert not tested.learn(spoken("u4", 9, np.ones(24), time=10**14))
    assert tested.learn(Erasure(request_id="r", user_id="a stranger", timestamp_ms=10**14))
    assert tested.learn(spoken("u4", 10, np.ones(24), time=10**14 + 1))
    assert tested.reviewers.texts == len(WORDS) - 1


def test_words_of_somebody_who_never_did_anything_can_be_erased() -> None:
    tested = told(model())
    assert tested.learn(Erasure(request_id="r", user_id="u7", timestamp_ms=5))
    assert tested.reviewers.texts == len(WORDS) - 2


def test_the_oldest_vectors_leave_at_the_bound() -> None:
    tested = told(model(max_review_vectors=16))
    assert tested.sizes()["review_vectors"] == (16, 16)
    assert tested.reviewers.displaced == len(WORDS) - 16
    assert list(tested.reviewers.places) == list(dict.fromkeys(one.user_id for one in WORDS[-16:]))
    sums = tested.reviewers.sums[list(tested.reviewers.places.values())]
    assert np.array_equal(sums.sum(axis=0), tested.reviewers.total)


def test_people_without_a_common_item_are_found_by_their_words() -> None:
    tested = model()
    for user, item, sign in (("ada", "dune", 1.0), ("bob", "emma", 1.0), ("cyd", "ulysses", -1.0)):
        tested.learn(Click(event_id=user, user_id=user, item_id=item, timestamp_ms=1))
        tested.learn(spoken(user, 1, np.array([1.0, sign, 0.1 if user == "ada" else 0.0])))
    assert list(scores(tested, "text_user_cf", "ada")) == ["emma"]


@pytest.mark.parametrize(
    ("vector", "model_name", "says"),
    [
        (b"", "m", "no float32"),
        (b"123", "m", "no float32"),
        (np.ones(5, "<f4").tobytes(), "m", "5 numbers among vectors of 24"),
        (np.zeros(24, "<f4").tobytes(), "m", "not all of them 0"),
        (np.full(24, np.nan, "<f4").tobytes(), "m", "finite"),
        (np.ones(24, "<f4").tobytes(), "other", "cannot be mixed"),
    ],
)
def test_bad_vectors_are_refused(vector: bytes, model_name: str, says: str) -> None:
    tested = told(model())
    before = full_state(tested)
    with pytest.raises(ValueError, match=says):
        tested.learn(ReviewVector(event_id="x", user_id="u1", vector=vector, model=model_name))
    assert full_state(tested) == before


def test_the_last_to_say_something_are_compared_with_whatever_was_asked_before() -> None:
    click = Click(event_id="e", user_id="u1", item_id="i1", timestamp_ms=1)
    tested, other = model(), model()
    assert tested.learn(click)
    assert other.learn(click)
    told(tested)
    reviewers, asked = tested.reviewers, tested.history.users.get("u1")

    def compared(most: int) -> set[str | None]:
        similar = reviewers.similar(asked, most)
        assert similar is not None
        return {reviewers.ids[place] for place in similar[0].tolist()}

    assert len(compared(3)) == 3
    tested.learn(spoken("somebody new", 1, np.ones(24)))
    assert compared(3) == {*[*reviewers.places][-3:]} != compared(1) == {"somebody new"}
    told(other, WORDS[:-4])
    other.reviewers.similar(asked, 3)
    other.restore(tested.save())
    reviewers = other.reviewers
    assert compared(3) == {*[*tested.reviewers.places][-3:]}
