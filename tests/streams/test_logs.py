"""Logging: one line per event whatever is in it, libraries never below INFO, a complaining client heard once a second."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from streams import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers, root.level
    yield
    root.handlers, root.level = before
    logging.captureWarnings(False)


def record(name: str, message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, "f.py", 1, message, arguments, None)


def test_json_lines_carry_the_exception(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", json=True)
    try:
        raise ValueError("bad\nday")
    except ValueError:
        logging.getLogger("streams.x").exception("could not %s", "go on")
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert (said["level"], said["logger"], said["message"]) == ("ERROR", "streams.x", "could not go on")
    assert said["exception"].endswith("ValueError: bad\nday")
    assert said["time"].endswith("+00:00")


def test_readable_lines_cannot_be_forged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO")
    logging.getLogger("streams.x").warning("user %s", "ada\n12:00:00.000 INFO     streams.x  all is well\rgone")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("WARNING  streams.x  user ada")
    assert second == "    12:00:00.000 INFO     streams.x  all is well\\rgone"


def test_what_a_line_is_about_has_fields_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    fields = {"event_id": "e1", "partition": 3, "user_id": "ada"}
    logs.configure("INFO", json=True)
    logging.getLogger("streams.x").info("list out", extra=fields)
    said = json.loads(capsys.readouterr().err)
    assert (said["event_id"], said["partition"]) == ("e1", 3)
    assert "user_id" not in said, "only what is listed"
    logs.configure("INFO")
    logging.getLogger("streams.x").info("list out", extra=fields)
    assert capsys.readouterr().err.endswith("streams.x  list out event_id=e1 partition=3\n")


def test_ids_cannot_forge_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO")
    logging.getLogger("streams.x").info("list out", extra={"event_id": "e1\n12:00:00.000 ERROR"})
    assert len([line for line in capsys.readouterr().err.splitlines() if not line.startswith("    ")]) == 1


def test_libraries_that_print_payloads_stay_at_info(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("DEBUG")
    logging.getLogger("streams.x").debug("ours")
    logging.getLogger("aiokafka.producer").debug("payload")
    logging.getLogger("faust.transport").debug("payload")
    logging.getLogger("faust.transport").info("theirs")
    said = capsys.readouterr().err
    assert "ours" in said
    assert "theirs" in said
    assert "payload" not in said


def test_configuring_twice_does_not_double_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO")
    logs.configure("WARNING")
    logging.getLogger("streams.x").info("left out")
    logging.getLogger("streams.x").warning("once")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        logs.configure("LOUD")


def test_a_client_that_loops_is_heard_once_a_second() -> None:
    now = 100.0
    limit = logs.RateLimit(clock=lambda: now)
    heard = []
    for _ in range(3_000):
        line = record("aiokafka.conn", "cannot reach %s", now)
        if limit.filter(line):
            heard.append(line.getMessage())
        now += 1 / 1_024  # exact in binary: 3,000 lines in a little less than 3 s
    assert heard == [
        "cannot reach 100.0",
        "cannot reach 101.0 (and 1023 more like it)",
        "cannot reach 102.0 (and 1023 more like it)",
    ]


def test_other_messages_and_our_own_are_not_held_back() -> None:
    limit = logs.RateLimit(clock=lambda: 0.0)
    assert limit.filter(record("aiokafka.conn", "one thing"))
    assert limit.filter(record("aiokafka.conn", "another thing"))
    assert limit.filter(record("kafka.net", "one thing"))
    assert all(limit.filter(record("streams.x", "ours")) for _ in range(3))
    assert all(limit.filter(record("aiokafkaesque", "a namesake")) for _ in range(3))
    assert [limit.filter(record("streams.ingest", "refused")) for _ in range(3)] == [True, False, False]
    assert not limit.filter(record("aiokafka.conn", "one thing"))


def test_what_is_remembered_is_bounded() -> None:
    limit = logs.RateLimit(max_templates=10, clock=lambda: 0.0)
    assert all(limit.filter(record("aiokafka", f"message {n}")) for n in range(1_000))
    assert len(limit._seen) == 10
    assert not limit.filter(record("aiokafka", "message 999"))
