"""The rows of weights that a request stands in, against calendar and table."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contexts import HISTORY, Contexts
from models.sources.base import Query
from models.window import PROFILE

NOBODY, MINUTE, HOUR = np.zeros(0, np.int64), 60_000, 3_600_000
PAUSES = [0, 10 * MINUTE, HOUR, 36 * HOUR, 8 * 24 * HOUR]
"""From here on a pause is a longer one; below the first the user has done nothing."""


def query(known: int = 0, pause_ms: int = -1, at_ms: int = 0, context: dict[str, str] | None = None) -> Query:
    return Query(
        user=0, profile=np.zeros(known, PROFILE), now_ms=at_ms, k=1, open_items=NOBODY, seen=NOBODY, stamp=1, context=context,
        at_ms=at_ms, pause_ms=pause_ms,
    )  # fmt: skip


def expected(known: int, pause_ms: int, at_ms: int) -> list[int]:
    """Four groups, one behind the other: 4 histories, 6 pauses, 6 blocks of four hours, week and weekend."""
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    pauses = HISTORY + 4
    hours, weekend = pauses + 6, pauses + 6 + 6
    return [
        HISTORY + bisect_right([1, 5, 20], known),
        pauses + bisect_right(PAUSES, pause_ms),
        hours + when.hour // 4,
        weekend + (when.weekday() >= 5),
    ]


@given(st.integers(0, 40), st.integers(-1, 20 * 24 * HOUR), st.integers(-(10**12), 4 * 10**12))
def test_every_request_stands_in_one_row_of_each_group(known: int, pause_ms: int, at_ms: int) -> None:
    assert Contexts(4).rows(query(known, pause_ms, at_ms)).tolist() == expected(known, pause_ms, at_ms)


@pytest.mark.parametrize("known", [0, 1, 4, 5, 19, 20, 1000])
@pytest.mark.parametrize("pause_ms", [-1, *(pause + step for pause in PAUSES for step in (-1, 0, 1))])
def test_the_ends_of_the_groups(known: int, pause_ms: int) -> None:
    assert Contexts(4).rows(query(known, pause_ms)).tolist() == expected(known, pause_ms, 0)


def test_what_two_users_say_of_their_requests_has_rows_of_its_own() -> None:
    contexts, waiting = Contexts(2), dict[str, int]()
    said = {"device": "phone", "country": "pt"}
    for user in (1, 2):
        contexts.meet(said, user, waiting)
    contexts.meet({"device": "fridge"}, 3, waiting)
    first = contexts.count - 2
    assert contexts.rows(query(context=said)).tolist()[4:] == [first, first + 1]
    assert contexts.rows(query(context={"device": "fridge", "country": "pt"})).tolist()[4:] == [first + 1]
    assert contexts.rows(query(context={})).tolist() == contexts.rows(query()).tolist() == expected(0, -1, 0)
