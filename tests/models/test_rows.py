"""Pools of rows, hash tables of pairs and boards, each against its plain twin."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import rows
from models.interning import Interner
from models.pairs import Pairs
from models.rows import CLASSES, RowPool, cells_of, class_of, release, reserve
from models.sources.boards import Board, best
from models.window import PROFILE


# ------------------------------------------------------------------------------------------------ rows
@settings(max_examples=80)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-3, 40)), max_size=60))
def test_rows_keep_their_content_while_others_grow_and_go(changes: list[tuple[int, int]]) -> None:
    """(row, n): n > 0 appends n cells, else the row is released."""
    pool, twin = RowPool(np.int64, 100_000), {r: [] for r in range(6)}  # type: ignore[var-annotated]
    pool.rows_for(6)
    for r, n in changes:
        if n <= 0:
            release(pool.rows, pool.free, r)
            twin[r] = []
            continue
        size = len(twin[r])
        assert pool.room_for(256 + 2 * size)
        assert reserve(pool.data, pool.rows, pool.free, r, size + n)
        start = pool.rows[r]["start"]
        new = [len(twin[r]) * 1000 + r + k for k in range(n)]
        pool.data[start + size : start + size + n] = new
        pool.rows[r]["size"] = size + n
        twin[r] += new
        for row, content in twin.items():
            assert pool.row(row).tolist() == content


def test_freed_blocks_are_used_again() -> None:
    pool = RowPool(np.int64, 100_000)
    pool.rows_for(1)
    for _ in range(1000):
        pool.room_for(64)
        assert reserve(pool.data, pool.rows, pool.free, 0, 40)
        release(pool.rows, pool.free, 0)
    assert pool.used == 48


def test_capacities_are_two_to_an_octave() -> None:
    assert [cells_of(c) for c in range(1, 8)] == [4, 6, 8, 12, 16, 24, 32]
    assert cells_of(CLASSES) == 2**21
    assert all(cells_of(class_of(n) - 1) < n <= cells_of(class_of(n)) for n in range(5, 3000))


def test_rows_are_moved_together_where_much_is_free() -> None:
    pool = RowPool(np.int64, 100_000)
    pool.rows_for(100)
    for n in range(1, 30):  # all rows grow at the same pace: what they leave behind is too small for any of them
        for r in range(100):
            pool.room_for(64)
            assert reserve(pool.data, pool.rows, pool.free, r, n)
            pool.data[pool.rows[r]["start"] + n - 1] = 1000 * r + n
            pool.rows[r]["size"] = n
    left = 100 * sum(cells_of(c) for c in range(1, class_of(29)))
    held = int(pool.rows["cap"].sum())
    assert pool.used < held + left // 4
    assert all(pool.row(r).tolist() == [1000 * r + n for n in range(1, 30)] for r in range(100))


def test_blocks_that_no_list_holds_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LISTED", 3)
    pool = RowPool(np.int64, 4096)
    pool.rows_for(1000)
    for r in range(1000):
        pool.room_for(4)
        assert reserve(pool.data, pool.rows, pool.free, r, 4)
    for r in range(1000):
        release(pool.rows, pool.free, r)
    assert pool.free[1, 0] == 3
    assert pool.free[0, 1] == 4 * 997
    assert pool.room_for(4096), "at the bound, too"
    assert pool.used == 0


def test_large_pools_remember_more_free_blocks() -> None:
    pool = RowPool(np.int64, 10_000_000)
    pool.rows_for(100)
    begin = pool.free.shape
    for r in range(100):
        pool.room_for(4)
        assert reserve(pool.data, pool.rows, pool.free, r, 4)
    release(pool.rows, pool.free, 0)
    assert pool.room_for(5_000_000)
    assert pool.free.shape[1] == rows.listed(len(pool.data)) + 1 > begin[1]
    assert pool.free[1].tolist()[:2] == [1, 0], "what was in the lists is"
    other = RowPool(np.int64, 10_000_000)
    other.restore({name: value.copy() for name, value in pool.save().items()})  # type: ignore[union-attr]
    assert other.free.shape == pool.free.shape


def test_whatever_is_in_no_list_is_0() -> None:
    """Else a pool and what is restored of it would differ once some list is longer again."""
    pool = RowPool(np.int64, 10_000)
    pool.rows_for(20)
    for r in range(20):
        pool.room_for(8)
        assert reserve(pool.data, pool.rows, pool.free, r, 4 if r < 10 else 6)
    for r in range(5):
        release(pool.rows, pool.free, r)
    for r in range(5):
        assert reserve(pool.data, pool.rows, pool.free, r, 4)
    other = RowPool(np.int64, 10_000)
    other.restore({name: value.copy() for name, value in pool.save().items()})  # type: ignore[union-attr]
    for one in (pool, other):
        for r in range(10, 15):
            release(one.rows, one.free, r)
    assert np.array_equal(pool.save()["free"], other.save()["free"])  # type: ignore[arg-type]


def test_at_the_bound_larger_free_blocks_are_split() -> None:
    pool = RowPool(np.int64, 64)
    pool.rows_for(20)
    pool.room_for(64)
    assert reserve(pool.data, pool.rows, pool.free, 0, 64)
    assert not reserve(pool.data, pool.rows, pool.free, 1, 4)
    release(pool.rows, pool.free, 0)
    for r in range(16):
        assert reserve(pool.data, pool.rows, pool.free, r, 4)
    assert len({int(pool.rows[r]["start"]) for r in range(16)}) == 16
    assert not reserve(pool.data, pool.rows, pool.free, 16, 1)


# ------------------------------------------------------------------------------------------------ ids
def test_released_indices_are_used_again() -> None:
    ids = Interner(3)
    assert [ids.add(x) for x in "abca"] == [0, 1, 2, 0]
    assert ids.full
    ids.release(1)
    assert ids.get("b") == -1
    assert ids.add("d") == 1
    assert [ids.name(k) for k in ids.sorted_indices()] == ["a", "c", "d"]


# ------------------------------------------------------------------------------------------------ pairs
def profile(items: list[int]) -> np.ndarray:
    rows = np.zeros(len(items), PROFILE)
    rows["item"] = items
    return rows


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 60), st.lists(st.integers(0, 60), unique=True, max_size=40)), max_size=25), st.data())
def test_pairs_count_like_a_counter(baskets: list[tuple[int, list[int]]], data: st.DataObject) -> None:
    pairs, twin = Pairs(1_000_000, 1000), Counter()  # type: ignore[var-annotated]
    pairs.ensure(64)
    for item, others in baskets:
        pairs.count(item, profile(others), 1)
        for j in set(others) - {item}:
            twin[item, j] += 1
            twin[j, item] += 1
    for item, others in data.draw(st.permutations(baskets))[: len(baskets) // 2]:
        pairs.count(item, profile(others), -1)
        for j in set(others) - {item}:
            twin[item, j] -= 1
            twin[j, item] -= 1
    held = {(i, int(p["item"])): int(p["count"]) for i in range(61) for p in pairs.row(i)}
    assert held == {pair: n for pair, n in twin.items() if n}
    assert not pairs.overflowed.any()
    assert pairs.totals[0] == len(held)


def test_a_full_row_lets_the_rarest_go() -> None:
    pairs = Pairs(1_000_000, 16)
    pairs.ensure(64)
    for _ in range(3):
        pairs.count(0, profile(list(range(1, 15))), 1)
    pairs.count(0, profile(list(range(20, 40))), 1)
    row = {int(p["item"]): int(p["count"]) for p in pairs.row(0)}
    assert len(row) <= 16
    assert {item: n for item, n in row.items() if n == 3} == dict.fromkeys(range(1, 15), 3)
    assert pairs.overflowed[0] == 1
    assert pairs.overflowed[1] == 0
    assert pairs.totals[1] == 34 - len(row)


def test_at_the_bound_of_cells_rows_stop_growing() -> None:
    pairs = Pairs(4096, 1000)
    pairs.ensure(400)
    for item in range(300):
        pairs.count(item, profile(list(range(item))), 1)
    assert pairs.pool.used <= 4096
    assert pairs.overflowed.any()
    assert pairs.totals[0] == sum(len(pairs.row(i)) for i in range(400))


# ------------------------------------------------------------------------------------------------ boards
@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 99), st.integers(-3, 6)), max_size=400))
def test_a_board_holds_the_best(changes: list[tuple[int, int]]) -> None:
    scores, board = np.zeros(100, np.int64), Board(16)
    keys = np.random.default_rng(1).permutation(100).astype(np.uint64)
    board.ensure(100)
    open_items, seen = np.ones(100, np.uint8), np.zeros(100, np.int64)
    seen[::7] = 5
    items, found = np.zeros(16, np.int32), np.zeros(16)
    for item, delta in changes:
        scores[item] = max(0, scores[item] + delta)
        board.update(scores, keys, item, 100)
        order = sorted((-int(scores[i]), int(keys[i]), i) for i in range(100) if scores[i] > 0)
        members = board.members[: int(board.floor[0])].tolist()
        assert members == [i for _, _, i in order[: len(members)]], "exactly the best, in order"
        assert board.at[members].tolist() == list(range(len(members)))
        assert (board.at >= 0).sum() == len(members)
        assert len(members) >= min(8, len(order))
        n = best(board.members, board.floor, scores, open_items, seen, 5, 4, items, found)
        wanted = [i for _, _, i in order[: len(members)] if i % 7]
        assert items[:n].tolist() == wanted[:4]
        assert found[:n].tolist() == [float(scores[i]) for i in wanted[:4]]
