"""The only place that reads the wall clock: the edge where events arrive and lists leave."""

import time


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)  # noqa: TID251  this is the one place
