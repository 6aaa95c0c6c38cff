"""Hypothesis strategies: streams of events with everything that happens to them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import strategies as st

from models import Click, Erasure, Purchase, Review
from models.events import Event

HOUR = 3_600_000
BEGIN = 1_700_000_000_000

Change = Event | Erasure


@st.composite
def user_stream(draw: st.DrawFn, user: str, items: Sequence[str], most: int) -> list[Change]:
    """What one user does: clicks, purchases, reviews good and bad, late and repeated events, retractions before and after,
    edits, at times an erasure."""
    stream: list[Change] = []
    ids = [f"{user}-{k}" for k in range(most)]
    for k in range(draw(st.integers(0, most))):
        what = draw(st.sampled_from(["click", "click", "purchase", "review", "review", "retract", "edit", "again", "erase"]))
        time = BEGIN + draw(st.integers(0, 40)) * HOUR
        common = {"user_id": user, "item_id": draw(st.sampled_from(items)), "timestamp_ms": time}
        stars = draw(st.sampled_from([1.0, 3.0, 3.5, 4.0, 5.0]))
        if what == "click":
            stream.append(Click(event_id=ids[k], **common))
        elif what == "purchase":
            stream.append(Purchase(event_id=ids[k], **common))
        elif what == "review":
            stream.append(Review(event_id=ids[k], rating=stars, **common))
        elif what == "retract":
            stream.append(Click(event_id=f"{ids[k]}-r", retracts=draw(st.sampled_from(ids)), **common))
        elif what == "edit":
            stream.append(Review(event_id=ids[k], rating=stars, retracts=draw(st.sampled_from(ids)), **common))
        elif what == "again" and stream:
            stream.append(draw(st.sampled_from(stream)))
        elif what == "erase" and draw(st.integers(0, 3)) == 0:
            stream.append(Erasure(request_id=f"{ids[k]}-x", user_id=user, timestamp_ms=time))
    return stream


@st.composite
def streams(draw: st.DrawFn, users: int = 4, items: int = 7, most: int = 10) -> dict[str, list[Change]]:
    """One stream per user."""
    catalogue = [f"i{k}" for k in range(items)]
    return {f"u{k}": draw(user_stream(f"u{k}", catalogue, most)) for k in range(draw(st.integers(1, users)))}


def interleaved(by_user: dict[str, list[Change]], seed: int) -> list[Change]:
    """One log in which each user's order is kept."""
    rng = random.Random(seed)
    queues = {user: list(reversed(stream)) for user, stream in by_user.items() if stream}
    log = []
    while queues:
        user = rng.choice(sorted(queues))
        log.append(queues[user].pop())
        if not queues[user]:
            del queues[user]
    return log


def shop(seed: int, users: int, items: int, events: int) -> list[Event]:
    """A plain random log with popular items and users who act in bursts, one hour apart."""
    rng = random.Random(seed)
    weights = [1 / (k + 2) for k in range(items)]
    log: list[Event] = []
    for k in range(events):
        common = {
            "event_id": f"e{k}",
            "user_id": f"u{rng.randrange(users)}",
            "item_id": f"i{rng.choices(range(items), weights)[0]}",
            "timestamp_ms": BEGIN + k * HOUR,
        }
        what = rng.random()
        if what < 0.5:
            log.append(Click(**common))
        elif what < 0.7:
            log.append(Purchase(**common))
        else:
            log.append(Review(rating=float(rng.randint(1, 5)), **common))
    return log
