"""What a running system can say of its own lists, event by event: no log is replayed, nothing waits, everything is bounded."""

from models.live.cohorts import Closed, Cohorts, Shown
from models.live.drift import Drift
from models.live.exposure import Exposure
from models.live.lists import ListTests

__all__ = ["Closed", "Cohorts", "Drift", "Exposure", "ListTests", "Shown"]
