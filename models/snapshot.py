"""State as bytes and back: exact, checksummed, without pickle.

A snapshot is a row of frames, a header in JSON with its length before it and a payload that the header describes:

    magic, format | meta | value | value | ... | end, with the number of values, and the checksum (BLAKE2b) of all before it

Arrays go as they lie in memory, little endian, without the zeros at their end (rows and tables grow by doubling, much of what
they hold is still empty); texts as UTF-8 (lone surrogates pass, ids are any text); dictionaries as two lists. Nothing is
executed when a snapshot is read, sizes are believed only as far as the file reaches, and nothing touches a model before the
checksum has been seen.

`frames` is a generator, so that a state of gigabytes needs no copy of itself.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from models.config import Config
from models.kept import Misfit, Saved, Value

__all__ = ["FORMAT", "Damaged", "Meta", "Misfit", "checksum", "fingerprint", "frames", "read", "read_meta"]

FORMAT: Final = 1
"""Of the bytes. A snapshot of another format cannot be read."""
FOLD: Final = 4
"""Raise it with every change by which the same log gives another state (or the same state other names): older snapshots then do
not fit, and the log is folded again."""
_MAGIC: Final = b"FRESHET\n"
_HEADER_BYTES: Final = 1 << 20
_TEXTS: Final = 65_536
"""Texts put together at a time."""
_BLOCK: Final = 1 << 22

_ASKED: Final = frozenset(
    {
        "candidates", "repeats", "returning", "repeats_decay", "item_cf_items", "item_cf_decay", "user_cf_items",
        "user_cf_decay", "user_cf_neighbours", "user_cf_neighbour_items", "text_items", "text_decay", "text_scan",
        "content_items", "content_decay", "rated_items", "rated_decay", "rated_neighbours", "rated_shrink", "sequence_items",
        "sequence_decay", "embedding_last_decay", "proximity_share", "newcomer_events", "newcomer_price", "rrf_k", "alpha",
        "beta", "gamma", "diversity", "diversity_by", "calibration", "calibration_items", "rerank_candidates", "rerank_price",
        "pin", "block", "boost", "cap", "reasons_per_item", "reasons_per_source", "item_shrink", "user_shrink",
    }
)  # fmt: skip
"""Parameters that matter when a list is asked for and change no state: a snapshot fits whatever they are."""


class Damaged(ValueError):  # noqa: N818  named by what has happened
    """These bytes are no whole snapshot."""


class Meta(Struct, frozen=True, kw_only=True):
    """What a snapshot says of itself."""

    settings: dict[str, Any]
    """The parameters of the model that shape its state, by name, and the version of the fold."""
    about: dict[str, Any] = {}
    """Whatever else the writer wants to say: where it stood in the log, when it was."""


def fingerprint(config: Config) -> dict[str, Any]:
    """The parameters that shape the state."""
    fields = (name for name in config.__struct_fields__ if name not in _ASKED)
    return {"fold": FOLD, **{name: _plain(getattr(config, name)) for name in fields}}


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def differences(saved: Mapping[str, Any], config: Config) -> list[str]:
    """The parameters in which a snapshot's model differs from one of these parameters, as sentences; none: it fits."""
    wanted = fingerprint(config)
    names = [name for name in {**wanted, **saved} if saved.get(name) != wanted.get(name)]
    return [f"{name} was {saved.get(name)!r} and is {wanted.get(name)!r}" for name in names]


# ------------------------------------------------------------------------------------------------ writing
class _Header(Struct, omit_defaults=True):
    name: str = ""
    kind: str = ""  # array, plain, texts, numbers, dict
    bytes: int = 0  # of the payload
    dtype: Any = None
    shape: list[int] = []
    plain: Any = None
    count: int = 0


def frames(meta: Meta, saved: Saved) -> Iterator[bytes | memoryview]:
    """The bytes of a snapshot, piece by piece. Pieces may be views of live arrays: use each before the state changes."""
    sha = hashlib.blake2b(digest_size=32)
    for piece in _pieces(meta, saved):
        sha.update(piece)
        yield piece
    yield sha.digest()


def checksum(saved: Saved) -> str:
    """Fingerprint of saved state, hexadecimal: equal exactly if every value is."""
    sha = hashlib.blake2b(digest_size=16)
    for name in sorted(saved):
        for piece in _value(name, saved[name]):
            sha.update(piece)
    return sha.hexdigest()


def _pieces(meta: Meta, saved: Saved) -> Iterator[bytes | memoryview]:
    yield _MAGIC + FORMAT.to_bytes(4, "little")
    yield from _frame(_Header(kind="meta", plain=msgspec.to_builtins(meta)), [])
    for name, value in saved.items():
        yield from _value(name, value)
    yield from _frame(_Header(kind="end", count=len(saved)), [])


def _frame(header: _Header, payload: list[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    header.bytes = sum(len(piece) for piece in payload)
    raw = msgspec.json.encode(header)
    yield len(raw).to_bytes(4, "little") + raw
    yield from payload


def _value(name: str, value: Value) -> Iterator[bytes | memoryview]:
    if isinstance(value, np.ndarray):
        yield from _array(name, value)
    elif value is None or isinstance(value, bool | int | float | str):
        plain = value.item() if isinstance(value, np.generic) else value
        yield from _frame(_Header(name=name, kind="plain", plain=plain), [])
    elif isinstance(value, dict):
        yield from _frame(_Header(name=name, kind="dict", count=len(value)), [])
        yield from _list("", [*value])
        yield from _list("", [*value.values()])
    else:
        yield from _list(name, value)


def _array(name: str, array: npt.NDArray[Any]) -> Iterator[bytes | memoryview]:
    dtype = array.dtype.newbyteorder("<")
    flat = np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8)
    header = _Header(name=name, kind="array", dtype=_described(dtype), shape=list(array.shape))
    yield from _frame(header, [flat[: _used(flat)].data])


def _used(flat: npt.NDArray[np.uint8]) -> int:
    """The bytes up to the last that is not 0, rounded up to a block."""
    end = len(flat)
    while end > 0:
        begin = (end - 1) // _BLOCK * _BLOCK
        if flat[begin:end].any():
            return end
        end = begin
    return 0


def _list(name: str, values: list[Any]) -> Iterator[bytes | memoryview]:
    if all(type(value) is int for value in values):
        kind: npt.DTypeLike = np.uint64 if values and min(values) >= 0 else np.int64
        numbers = np.array(values, kind)
        yield from _frame(_Header(name=name, kind="numbers", dtype=numbers.dtype.str), [numbers.view(np.uint8).data])
        return
    lengths = np.full(len(values), -1, np.int64)
    payload: list[bytes | memoryview] = [lengths.view(np.uint8).data]
    for start in range(0, len(values), _TEXTS):
        raw = [None if text is None else text.encode("utf-8", "surrogatepass") for text in values[start : start + _TEXTS]]
        lengths[start : start + _TEXTS] = [-1 if text is None else len(text) for text in raw]
        payload.append(b"".join(text for text in raw if text is not None))
    yield from _frame(_Header(name=name, kind="texts", count=len(values)), payload)


def _described(dtype: np.dtype[Any]) -> Any:
    """A dtype in JSON; of a struct, its fields with their offsets."""
    if dtype.fields is None:
        return dtype.str
    return {"size": dtype.itemsize, "fields": [[n, kind.str, offset] for n, (kind, offset, *_) in dtype.fields.items()]}


# ------------------------------------------------------------------------------------------------ reading
Read = Callable[[memoryview], int]
"""Fills a buffer from the snapshot, as far as there is something; how many bytes: `readinto` of a binary file."""


def read_meta(readinto: Read) -> Meta:
    """What the snapshot says of itself, of which only the beginning is read. It may be damaged further on.

    Raises:
        Damaged: this is no snapshot, or one of another format.
    """
    return _Reader(readinto, _HEADER_BYTES).meta()


def read(readinto: Read, size: int) -> tuple[Meta, Saved]:
    """The whole snapshot of `size` bytes, its checksum proven.

    Raises:
        Damaged: says where it is broken.
    """
    reader = _Reader(readinto, size)
    meta = reader.meta()
    try:
        saved = reader.values()
    except Damaged:
        raise
    except Exception as problem:  # a broken header leads numpy into errors of every kind
        raise Damaged(f"unreadable: {type(problem).__name__}: {problem}") from problem
    return meta, saved


class _Reader:
    def __init__(self, readinto: Read, size: int) -> None:
        self._readinto, self._left = readinto, size
        self._sha = hashlib.blake2b(digest_size=32)

    def meta(self) -> Meta:
        start = bytes(self._take(len(_MAGIC) + 4))
        if start[: len(_MAGIC)] != _MAGIC:
            raise Damaged("this is no snapshot")
        version = int.from_bytes(start[len(_MAGIC) :], "little")
        if version != FORMAT:
            raise Damaged(f"written in format {version}, this is format {FORMAT}")
        try:
            return msgspec.convert(self._header().plain, Meta)
        except msgspec.MsgspecError as problem:
            raise Damaged(f"it does not say what it is: {problem}") from problem

    def values(self) -> Saved:
        saved: Saved = {}
        while (header := self._header()).kind != "end":
            saved[header.name] = self._value(header)
        if header.count != len(saved):
            raise Damaged(f"{len(saved)} values instead of {header.count}")
        wanted = self._sha.digest()
        if bytes(self._take(32)) != wanted:
            raise Damaged("the checksum is wrong")
        if self._left:
            raise Damaged("something follows its end")
        return saved

    def _header(self) -> _Header:
        length = int.from_bytes(self._take(4), "little")
        if length > _HEADER_BYTES:
            raise Damaged("a header is too long")
        try:
            return msgspec.json.decode(self._take(length).data, type=_Header)
        except (msgspec.MsgspecError, ValueError) as problem:
            raise Damaged(f"a header is broken: {problem}") from problem

    def _value(self, header: _Header) -> Value:
        match header.kind:
            case "plain":
                return header.plain  # type: ignore[no-any-return]  # whatever JSON holds
            case "array":
                return self._array(header)
            case "numbers":
                numbers: list[int] = self._take(header.bytes).view(header.dtype).tolist()
                return numbers
            case "texts":
                return self._texts(header)
            case "dict":
                keys, values = self._list(), self._list()
                return dict(zip(keys, values, strict=True))
        raise Damaged(f"a value of the unknown kind {header.kind[:20]!r}")

    def _list(self) -> list[Any]:
        header = self._header()
        if header.kind not in ("numbers", "texts"):
            raise Damaged("a dictionary without keys or values")
        found: list[Any] = self._value(header)  # type: ignore[assignment]  # these two kinds are lists
        return found

    def _array(self, header: _Header) -> npt.NDArray[Any]:
        described = header.dtype
        if isinstance(described, dict):
            names, formats, offsets = zip(*described["fields"], strict=True)
            layout = {"names": names, "formats": formats, "offsets": offsets, "itemsize": described["size"]}
            dtype = np.dtype(layout)  # type: ignore[call-overload]  # numpy's stubs want literal keys
        else:
            dtype = np.dtype(described)
        if dtype.hasobject:
            raise Damaged("an array of objects")
        if header.bytes > math.prod(header.shape) * dtype.itemsize:
            raise Damaged("an array holds more than its shape")
        array = np.zeros(header.shape, dtype)
        self._fill(array.reshape(-1).view(np.uint8)[: header.bytes])
        return array

    def _texts(self, header: _Header) -> list[str | None]:
        if 8 * header.count > header.bytes:
            raise Damaged("more texts than bytes")
        raw = self._take(header.bytes)
        lengths = raw[: 8 * header.count].view("<i8")
        ends = np.cumsum(np.maximum(lengths, 0)).tolist()
        blob = raw[8 * header.count :].tobytes()
        texts: list[str | None] = []
        for length, end in zip(lengths.tolist(), ends, strict=True):
            texts.append(None if length < 0 else blob[end - length : end].decode("utf-8", "surrogatepass"))
        return texts

    def _take(self, count: int) -> npt.NDArray[np.uint8]:
        if count > self._left:
            raise Damaged("it ends too early")
        taken = np.empty(count, np.uint8)
        self._fill(taken)
        return taken

    def _fill(self, buffer: npt.NDArray[np.uint8]) -> None:
        if len(buffer) > self._left:
            raise Damaged("it ends too early")
        view, done = buffer.data, 0
        while done < len(view):
            got = self._readinto(view[done : done + _BLOCK])
            if not got:
                raise Damaged("it ends too early")
            done += got
        self._left -= done
        self._sha.update(view)
