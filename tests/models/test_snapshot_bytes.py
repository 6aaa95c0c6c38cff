"""The bytes of a snapshot: every kind of value comes back, and nothing in them is trusted."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models import Config, Recommender, snapshot
from models.kept import Kept, Misfit
from tests.models.snapshots_of import (
    SMALL,
    read,
    some,
    written,
)

# ------------------------------------------------------------------------------------------------ values
TEXT = st.one_of(st.none(), st.text(max_size=6), st.sampled_from(["\ud800", "é" * 5, "", "\0"]))
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.text(),
    st.lists(TEXT), st.lists(st.integers(0, 2**64 - 1)), st.lists(st.integers(-(2**63), 2**63 - 1)),
    st.dictionaries(st.integers(0, 2**64 - 1), TEXT), st.dictionaries(st.text(), st.integers(0, 9)),
    st.dictionaries(st.text(), st.text()),
)  # fmt: skip


class Anything(Kept):
    kept = ("value", "array")

    def __init__(self, value: Any = None, array: Any = None) -> None:
        self.value, self.array = value, np.zeros(0, np.int32) if array is None else array


@given(VALUES, st.lists(st.integers(-(2**31), 2**31 - 1)), st.integers(0, 9))
@example(["a"] * 70_000, [0] * 9, 5)
@example(None, [1, *[0] * 2_000_000], 0)
def test_every_kind_of_value_comes_back(value: Any, numbers: list[int], zeros: int) -> None:
    array = np.array([*numbers, *[0] * zeros], np.int32)
    _, saved = read(written(Anything(value, array)))
    assert saved["value"] == value
    assert type(saved["value"]) is type(value)
    if isinstance(value, dict):
        assert [*saved["value"]] == [*value], "order is part of it"
    assert np.array_equal(saved["array"], array)
    assert saved["array"].dtype == np.int32
    assert saved["array"].flags.writeable


def test_zeros_at_the_end_cost_nothing() -> None:
    assert len(written(Anything(array=np.zeros(100_000_000, np.int8)))) < 10_000


# ------------------------------------------------------------------------------------------------ nothing is trusted
@settings(max_examples=150)
@given(st.data())
def test_any_damage_is_noticed(data: st.DataObject) -> None:
    raw = some()
    at = data.draw(st.integers(0, len(raw) - 1))
    broken = bytearray(raw)
    match data.draw(st.sampled_from(["flip", "cut", "zero", "double"])):
        case "flip":
            broken[at] ^= 1 << data.draw(st.integers(0, 7))
        case "cut":
            del broken[at:]
        case "zero":
            broken[at : at + 64] = bytes(64)
        case "double":
            broken[at:at] = broken[at : at + 16]
    if bytes(broken) == raw:
        return
    with pytest.raises(snapshot.Damaged):
        read(bytes(broken))


@given(st.binary(max_size=200))
def test_foreign_bytes_are_no_snapshot(junk: bytes) -> None:
    with pytest.raises(snapshot.Damaged):
        read(junk)
    with pytest.raises(snapshot.Damaged):
        snapshot.read_meta(io.BytesIO(junk).readinto)


def test_a_future_format_is_named() -> None:
    raw = some()
    later = raw[:8] + (snapshot.FORMAT + 1).to_bytes(4, "little") + raw[12:]
    with pytest.raises(snapshot.Damaged, match=f"format {snapshot.FORMAT + 1}"):
        read(later)


def test_sizes_are_not_believed() -> None:
    """A header that promises more than there is must not take memory for it."""
    header = b'{"name":"x","kind":"array","bytes":9007199254740992,"dtype":"|u1","shape":[9007199254740992]}'
    meta = b'{"kind":"meta","plain":{"settings":{}}}'
    forged = b"FRESHET\n" + snapshot.FORMAT.to_bytes(4, "little")
    for part in (meta, header):
        forged += len(part).to_bytes(4, "little") + part
    with pytest.raises(snapshot.Damaged):
        read(forged)


def test_objects_are_never_read() -> None:
    header = b'{"name":"x","kind":"array","bytes":8,"dtype":"|O","shape":[1]}'
    forged = b"FRESHET\n" + snapshot.FORMAT.to_bytes(4, "little")
    for part in (b'{"kind":"meta","plain":{"settings":{}}}', header):
        forged += len(part).to_bytes(4, "little") + part
    with pytest.raises(snapshot.Damaged, match="objects"):
        read(forged + bytes(8))


def test_what_is_missing_or_of_another_kind_does_not_fit() -> None:
    _, saved = read(some())
    with pytest.raises(Misfit, match="takers was not saved"):
        Recommender(Config(**SMALL)).restore({path: value for path, value in saved.items() if path != "history.takers"})
    with pytest.raises(Misfit, match="float32"):
        Recommender(Config(**SMALL)).restore({**saved, "history.takers": np.zeros(16, np.float32)})
    with pytest.raises(Misfit):
        Recommender(Config(**SMALL)).restore({**saved, "history.takers": 7})
    model = Recommender(Config(**SMALL))
    model.check(saved)
    with pytest.raises(Misfit, match="later was saved"):
        model.check({**saved, "later": 1})
    with pytest.raises(Misfit, match="not saved"):
        model.check({})
    assert len(model.history.users) == 0
