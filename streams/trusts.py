"""Trusts: what the trainer has learned of single people (`models.personal`) goes to all others, person by person.

It stands beside the weights, in partition 0 of the compacted topic `weights`, under the key `trust/` and the hash of the
person's id (`interning.key64`, 16 hexadecimal digits): what the trainer holds of that person now, or a tombstone where it holds
nothing, because they were forgotten or had to leave for others. It is written as often as weights are, for those who changed.

Everybody else takes over what stands there, in its order. A record made before a request to be forgotten is known by the time of
the last such request that its writer had folded (`Trust.erasure`): who has folded a later one leaves it out.

*Before there are any weights* each worker trains by itself; what it reads meanwhile is put aside. Once weights come it gives up
what it has learned of people, as it does with its weights, and takes over what was put aside. A trainer that froze gives up what
it has learned since the topic said the same.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
from aiokafka import ConsumerRecord
from msgspec import Struct

from models import Recommender
from models.fusion_learned import Learned
from models.interning import key64
from models.kept import Kept
from models.personal import Personal
from models.snapshot import checksum
from streams.ingest import Produce
from streams.metrics import Metrics
from streams.transport import OutRecord

log = logging.getLogger(__name__)

PREFIX: Final = b"trust/"
DIGITS: Final = 16
MAX_BYTES: Final = 65_536
"""A record has some 300 bytes, or twice that where lists hold people's own items."""
AT_ONCE: Final = 2_000
"""People said in one turn: milliseconds of the event loop."""


class Trust(Struct, frozen=True, kw_only=True, array_like=True):
    """What one record says of a person, as MessagePack: G and N as little-endian float32, by kind of list."""

    layout: str
    """Checksum of the model's `layout`, which gives each number its place."""
    erasure: int
    """Event time of the person's last request to be forgotten that the writer had folded; 0: none."""
    new: bytes | None = None
    again: bytes | None = None


_trust = msgspec.msgpack.Decoder(Trust).decode


def key_of(key: int) -> bytes:
    """The record's key for a person by the hash of their id."""
    return PREFIX + f"{key:0{DIGITS}x}".encode()


class Trusts(Kept):
    """See the module. One per process that makes lists; `topic` is where it is written, `token` this process's name.

    Bounds: `personal_users` people whose record is still to be written (of more, the first stay as they stand), and as many
    records put aside.
    """

    kept = ("unsaid",)

    def __init__(self, topic: str, token: str, metrics: Metrics, model: Recommender) -> None:
        self.topic, self.token, self.metrics, self.model = topic, token, metrics, model
        learned = model.fusion.trusts if isinstance(model.fusion, Learned) else ()
        self._trusts: tuple[Personal, ...] = learned if model.config.personal_users else ()
        self.unsaid: dict[int, int] = {}
        """Keys of the people of whom the topic may not say what this process holds."""
        self._before: dict[int, list[npt.NDArray[np.float32] | None]] = {}
        """Of these people, what was held when the topic said the same; nothing where that is not known."""
        self._aside: dict[int, bytes | None] = {}
        self._met = False  # whether the topic says anything of anybody
        self._layout = checksum({"layout": msgspec.json.encode(model.layout()).decode()})
        for trust in self._trusts:
            trust.changing = self._changing

    def _changing(self, key: int) -> None:
        """What is held of a person is no longer what the topic says of them."""
        if key not in self.unsaid:
            self.unsaid[key] = 0
            self._before[key] = [trust.read(key) for trust in self._trusts]
        if len(self.unsaid) > self.model.config.personal_users:
            self._is_said(next(iter(self.unsaid)))

    def _is_said(self, key: int) -> list[npt.NDArray[np.float32] | None]:
        """The topic says of a person what is held, or will not be told. Returns what was held when it said so before."""
        self.unsaid.pop(key, None)
        return self._before.pop(key, [None] * len(self._trusts))

    def forgotten(self, user_id: str) -> None:
        """A person asked to be forgotten, known here or not: whoever trains takes back what the topic says of them."""
        if self._trusts:
            key = key64(user_id)
            for trust in self._trusts:
                trust.forget(key)
            self._changing(key)
            self._before.pop(key, None)  # there is no way back to that

    # -- reading ------------------------------------------------------------------------------------------------------
    def fold(self, record: ConsumerRecord, *, by_itself: bool, is_trainer: bool) -> str:
        """One record of the topic. Returns what became of it: `own`, `adopted`, `stale`, `foreign`, or `aside`.

        Raises:
            msgspec.MsgspecError, ValueError: it is no record of ours.
        """
        digits = record.key.removeprefix(PREFIX)
        if len(digits) != DIGITS or key_of(key := int(digits, 16)) != record.key:
            raise ValueError(f"the key {record.key[:40]!r}")
        if not self._trusts:
            return "foreign"
        self._met = True
        if is_trainer:
            if dict(record.headers).get("writer") == self.token.encode():
                return "own"
            self._changing(key)  # it stands in the topic now: what this process holds is said again
            return "stale"
        if by_itself:
            self._aside.pop(key, None)
            self._aside[key] = record.value
            if len(self._aside) > self.model.config.personal_users:
                del self._aside[next(iter(self._aside))]
            return "aside"
        return self._take(key, record.value)

    def _take(self, key: int, value: bytes | None) -> str:
        """What the topic says of a person takes the place of what is held."""
        if value is None:
            known: list[npt.NDArray[np.float32] | None] = [None, None]
        else:
            if len(value) > MAX_BYTES:
                raise ValueError(f"a trust of {len(value)} bytes")
            said = _trust(value)
            if said.layout != self._layout:
                return "foreign"
            if said.erasure < self.model.fold.erased.get(key, 0):
                return "stale"
            known = [None if raw is None else np.frombuffer(raw, "<f4") for raw in (said.new, said.again)]
            if not all(one is None or trust.fits(one) for trust, one in zip(self._trusts, known, strict=True)):
                raise ValueError("a trust that cannot be")
        self._write(key, known)
        self._is_said(key)
        return "adopted"

    def _write(self, key: int, known: Sequence[npt.NDArray[np.float32] | None]) -> None:
        for trust, one in zip(self._trusts, known, strict=True):
            trust.write(key, one)

    def give_up(self) -> None:
        """Another trains from here on: what this process has learned of people and not said counts no more."""
        learned = [key for key in self.unsaid if any(trust.read(key) is not None for trust in self._trusts)]
        for key in learned:  # who was forgotten meanwhile stays so, and is to be taken back
            self._write(key, self._is_said(key))
        aside, self._aside = self._aside, {}
        for key, value in aside.items():
            try:
                self._take(key, value)
            except (msgspec.MsgspecError, ValueError) as problem:
                log.warning("what is said of a person is ignored: %s", problem)

    def take_charge(self) -> None:
        """This process trains from here on. What was put aside is said anew, and all that it holds where the topic was lost."""
        lost = [] if self._met else [key for trust in self._trusts for key in trust.everybody()]
        for key in [*self._aside, *lost]:
            self._changing(key)
        self._aside = {}

    # -- writing ------------------------------------------------------------------------------------------------------
    async def publish(self, produce: Produce) -> None:
        """The next `AT_ONCE` people. Returns when the broker has them."""
        keys = [key for key, _ in zip(self.unsaid, range(AT_ONCE), strict=False)]
        if not keys:
            return
        before = {key: self._is_said(key) for key in keys}  # who changes while this is on its way is to be said again
        try:
            await produce(self.topic, [self._record(key) for key in keys])
        except BaseException:
            for key in keys:
                self._changing(key)
            self._before |= {key: before[key] for key in keys if key in self.unsaid}
            raise
        self.metrics.trusts.inc(len(keys))

    def _record(self, key: int) -> OutRecord:
        known = [trust.read(key) for trust in self._trusts]
        value = None
        if any(one is not None for one in known):
            new, again = (None if one is None else one.astype("<f4").tobytes() for one in known)
            erasure = self.model.fold.erased.get(key, 0)
            trust = Trust(layout=self._layout, erasure=erasure, new=new, again=again)
            value = msgspec.msgpack.encode(trust)
        return 0, key_of(key), value, None, [("writer", self.token.encode())]

    def checksum(self) -> str:
        """Fingerprint of what is held of people, hexadecimal: equal where everybody is trusted alike."""
        known = {f"{key_of(key)!r} {k}": trust.read(key) for k, trust in enumerate(self._trusts) for key in trust.everybody()}
        return checksum({name: known[name] for name in sorted(known)})

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Name -> (used, bound)."""
        return {"personal_users_unsaid": (len(self.unsaid), self.model.config.personal_users)} if self._trusts else {}
