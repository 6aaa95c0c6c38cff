"""How the agents of a worker are set up."""

from __future__ import annotations

from pathlib import Path

from streams.app import Worker
from streams.settings import Settings


def test_texts_are_gathered_and_nothing_else_waits(tmp_path: Path) -> None:
    settings = Settings.load({"FRESHET_TEXT_INTERVAL_S": "2.5", "FRESHET_STATE_DIR": str(tmp_path)})
    lingers = {topic: lane.linger_s for topic, lane in Worker(settings).app.lanes.items()}
    assert lingers.pop(settings.topic("item-texts")) == 2.5
    assert set(lingers.values()) == {0.0}
    assert lingers.keys() >= {settings.topic("interactions"), settings.topic("reviews")}
