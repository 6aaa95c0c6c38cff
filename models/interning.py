"""Ids become small integers once, on the way in; everything behind works on arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from models.kept import Kept, Saved, Value, fitting
from models.rows import grown


def key64(text: str) -> int:
    """A 64-bit hash that is the same in every process (blake2b). Lone surrogates are allowed: ids are any text."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class Interner(Kept):
    """Text id <-> index 0, 1, 2, ... At most `bound` ids; the index of a released id is used again.

    `keys[index]` is `key64` of the id: what breaks ties, so that lists do not depend on the order of arrival.
    """

    kept = ("names", "keys", "_index", "_free")

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.names: list[str | None] = []
        self.keys: npt.NDArray[np.uint64] = np.zeros(16, np.uint64)
        self._index: dict[str, int] = {}
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._index)

    @property
    def full(self) -> bool:
        return len(self._index) >= self.bound

    @property
    def span(self) -> int:
        """Arrays indexed by these ids need so many entries."""
        return len(self.names)

    def get(self, name: str) -> int:
        """The index, or -1."""
        return self._index.get(name, -1)

    def add(self, name: str) -> int:
        """The index, new if need be.

        Raises:
            OverflowError: `bound` ids are there already (see `full`).
        """
        known = self._index.get(name)
        if known is not None:
            return known
        if self.full:
            raise OverflowError(f"the bound of {self.bound} ids is reached")
        if self._free:
            index = self._free.pop()
            self.names[index] = name
        else:
            index = len(self.names)
            self.names.append(name)
            self.keys = grown(self.keys, index + 1)
        self.keys[index] = key64(name)
        self._index[name] = index
        return index

    def release(self, index: int) -> None:
        """Forget the id at `index`."""
        name = self.names[index]
        if name is not None:
            del self._index[name]
            self.names[index] = None
            self._free.append(index)

    def name(self, index: int) -> str:
        """The id at `index`.

        Raises:
            KeyError: nothing is there.
        """
        found = self.names[index]
        if found is None:
            raise KeyError(index)
        return found

    def indices(self) -> npt.NDArray[np.int64]:
        """All indices, in no order."""
        return np.fromiter(self._index.values(), np.int64, len(self._index))

    def sorted_indices(self) -> list[int]:
        """All indices by the order of their ids."""
        return [self._index[name] for name in sorted(self._index)]

    def save(self) -> Saved:
        """The index goes as the order of its entries: ids are released, and places given again, in that order."""
        order = np.fromiter(self._index.values(), np.int32, len(self._index))
        return {"names": self.names, "keys": self.keys, "order": order, "free": self._free}

    def restore(self, saved: Mapping[str, Value]) -> None:
        self.names = fitting("names", saved, self.names)
        self.keys = fitting("keys", saved, self.keys)
        self._free = fitting("free", saved, self._free)
        order = fitting("order", saved, np.zeros(0, np.int32))
        self._index = {self.name(index): index for index in order.tolist()}
