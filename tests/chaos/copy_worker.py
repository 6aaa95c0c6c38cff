"""A Faust worker on the batch transport that copies a topic; run as a process of its own, settings in the environment.

Each copy says where its original was, so what was lost or done twice can be counted exactly. Options in BROKEN make it misbehave.
"""

from __future__ import annotations

import asyncio
import os
import struct
from typing import Any

import faust

from streams import transport

PLACE = struct.Struct("<iq")
"""partition, offset of the original: the value of a copy"""


def make_app() -> Any:
    env = os.environ
    app = faust.App(
        env["GROUP"],
        broker=f"kafka://{env['BOOTSTRAP']}",
        topic_partitions=int(env["PARTITIONS"]),
        topic_disable_leader=True,
        topic_allow_declare=False,
        key_serializer="raw",
        value_serializer="raw",
        broker_session_timeout=6.0,
        broker_heartbeat_interval=0.5,
        broker_rebalance_timeout=15.0,
        broker_commit_interval=0.5,
        consumer_group_instance_id=env.get("INSTANCE"),
        table_standby_replicas=1,
        producer_linger=0.0,
        producer_request_timeout=120.0,
        canonical_url=f"http://worker-{env['NUMBER']}:6066",
        datadir=env["DIRECTORY"],
    )
    transport.install(app)

    @app.on_partitions_assigned.connect(weak=False)
    async def say(_: Any, assigned: Any, **__: Any) -> None:
        print(f"assigned {len(assigned)}")  # in one piece: Faust makes a line of its log of each

    source, target = env["SOURCE"], env["TARGET"]
    broken, slow_s = env.get("BROKEN", ""), float(env.get("SLOW_S", "0"))

    @transport.batch_agent(app, source, max_records=200)
    async def copy(records: list[Any]) -> None:
        await asyncio.sleep(slow_s)
        if broken == "poison" and any(record.value == b"poison" for record in records):
            raise RuntimeError("an error of ours")
        out = [(r.partition, r.key, PLACE.pack(r.partition, r.offset), r.timestamp, list(r.headers)) for r in records]
        if broken == "huge":
            out.append((0, b"k", b"x" * 2_000_000, None, []))
        await transport.produce(app, target, out)

    return app


if __name__ == "__main__":
    make_app().main()
