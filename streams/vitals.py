"""Is this process alive, can it work, and what happens to its partitions: for `/healthz`, `/readyz` and the metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

from streams import transport
from streams.health import Condition
from streams.metrics import Metrics
from streams.replica import Replica

log = logging.getLogger(__name__)

BEAT_S: Final = 1.0
ALIVE_S: Final = 60.0
"""An event loop that has not turned for so long is stuck: nothing of ours holds it for more than a second or two."""
PROBE_S: Final = 5.0
"""How often a broker is asked whether it is there."""
PROBE_PATIENCE_S: Final = 3.0
UNREACHABLE_S: Final = 15.0
"""Kafka counts as away when no broker has answered for so long."""


class Vitals:
    """Attaches itself to a Faust app before it starts.

    replica          what must have caught up; None in a process without
    embedder_ready   set once texts can be embedded; None in a process that embeds none
    """

    def __init__(self, app: Any, metrics: Metrics, replica: Replica | None, embedder_ready: asyncio.Event | None) -> None:
        self.app, self.metrics, self.replica, self.embedder_ready = app, metrics, replica, embedder_ready
        self._turned: float | None = None  # when the event loop last came round; None: it has not begun yet
        self._heard: float | None = None  # when Kafka was last heard of
        self._away = False  # whether the last question to Kafka was left unanswered
        self._revoked: float | None = None  # set while partitions are being assigned anew
        metrics.conditions["kafka"].set(1)  # nobody has asked yet: kernels compile first, and that is no outage
        app.timer(BEAT_S)(self._beat)
        app.timer(PROBE_S)(self._probe)
        app.on_partitions_revoked.connect(self._on_revoked)
        app.on_partitions_assigned.connect(self._on_assigned)

    @property
    def ready(self) -> bool:
        """Whether the process can do its work now."""
        return all(condition.holds for condition in self.conditions())

    # -- any thread may ask these two -------------------------------------------------------------------------------
    def alive(self) -> Condition:
        """Whether the event loop turns; until it begins (kernels compile, which takes as long as it takes) it counts as alive."""
        if self._turned is None:
            return Condition("loop", True, "starting")
        still_s = time.monotonic() - self._turned
        return Condition("loop", still_s < ALIVE_S, f"turned {still_s:.0f} s ago")

    def conditions(self) -> list[Condition]:
        """What must hold for the process to be ready."""
        heard_s = None if self._heard is None else time.monotonic() - self._heard
        heard = "no broker has answered yet" if heard_s is None else f"a broker answered {heard_s:.0f} s ago"
        owned = sum(transport.owned(self.app).values())
        found = [
            Condition("kafka", heard_s is not None and heard_s < UNREACHABLE_S, heard),
            Condition("group", not self.app.rebalancing, "rebalancing" if self.app.rebalancing else "settled"),
            Condition("partitions", owned > 0, f"{owned} owned"),
        ]
        if self.replica is not None:
            behind = f"{sum(self.replica.lag().values()):,} records behind"
            caught_up = self.replica.ready.is_set()
            found.append(Condition("replica", caught_up, behind if caught_up else f"catching up, {behind}"))
        if self.embedder_ready is not None:
            loaded = self.embedder_ready.is_set()
            detail = "model loaded, collections there" if loaded else "loading its model, or waiting for Qdrant"
            found.append(Condition("embedder", loaded, detail))
        return found

    # -- called by the app ------------------------------------------------------------------------------------------
    async def _beat(self) -> None:
        self._turned = time.monotonic()
        holds = {condition.name: condition.holds for condition in self.conditions()}
        for name, gauge in self.metrics.conditions.items():
            gauge.set(float(holds.get(name, True)))
        self.metrics.ready.set(float(all(holds.values())))

    async def _probe(self) -> None:
        answered = await transport.reachable(self.app, PROBE_PATIENCE_S)
        if answered is self._away:  # it has come or gone: said once
            self._away = not answered
            log.log(logging.INFO if answered else logging.WARNING, "Kafka answers again" if answered else "no broker answers")
        if answered:
            self._heard = time.monotonic()

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        self._revoked = time.monotonic() if self._revoked is None else self._revoked

    async def _on_assigned(self, *_: Any, **__: Any) -> None:
        self._heard = time.monotonic()
        if self._revoked is not None:
            self.metrics.rebalance_seconds.observe(self._heard - self._revoked)
            self._revoked = None
