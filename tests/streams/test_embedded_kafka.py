"""The embedded Kafka, started for real: its data outlives stops and kills, it outlives nobody, and its errors say what to do."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kafka import KafkaProducer

from streams import embedded_kafka, kafka_jars, topics
from streams.connection import Connection
from streams.embedded_kafka import EmbeddedKafka, EmbeddedKafkaError
from streams.replica import read_all


def values(kafka: EmbeddedKafka) -> list[bytes]:
    return [record.value for record in read_all(Connection(bootstrap=kafka.bootstrap), "kept")]


def send(kafka: EmbeddedKafka, value: bytes) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    producer.send("kept", value=value).get(30)
    producer.close()


def wait_until_gone(pid: int) -> None:
    end = time.monotonic() + 180
    while time.monotonic() < end:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return
        if stat.rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} is still there")


def test_data_and_port_outlive_a_stop_a_kill_and_the_object(tmp_path: Path) -> None:
    kafka = EmbeddedKafka(data=tmp_path).start()
    try:
        topics.ensure(
            Connection(bootstrap=kafka.bootstrap), [topics.TopicSpec(name="kept", partitions=1, replication=1, config={})]
        )
        send(kafka, b"first")
        kafka.stop()
        assert not kafka.running
        assert (tmp_path / "server.properties").stat().st_mode & 0o077 == 0, "it may hold passwords"
        kafka.stop()  # stopping twice is no error
        kafka.start()
        assert kafka.start() is kafka  # nor is starting twice
        send(kafka, b"second")
        kafka.kill()
        bootstrap = kafka.bootstrap
        again = EmbeddedKafka(data=tmp_path)
        assert again.bootstrap == bootstrap
        with again:
            assert values(again) == [b"first", b"second"]
        assert (tmp_path / "log").exists(), "data given by the caller is never removed"
    finally:
        kafka.close()


def test_it_has_a_session_of_its_own_and_temporary_data_goes_with_it() -> None:
    with EmbeddedKafka() as kafka:
        assert kafka.process is not None
        assert os.getsid(kafka.process.pid) != os.getsid(0), "a Ctrl-C in our terminal must not reach it"
        data = kafka.data
        assert data.exists()
    assert not data.exists()


def test_it_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from streams.embedded_kafka import EmbeddedKafka\n"
        "kafka = EmbeddedKafka(data=sys.argv[1]).start()\n"
        "print(kafka.process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.kill(pid, 0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    with EmbeddedKafka(data=tmp_path) as successor:  # waits for the orphan's end, then has the same data and port
        wait_until_gone(pid)
        assert successor.running


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(EmbeddedKafkaError, match=f"port {port} of 127.0.0.1 is in use"):
            EmbeddedKafka(data=tmp_path, port=port).start()


def test_a_second_broker_on_the_same_data_is_refused_and_does_no_harm(
    kafka: EmbeddedKafka, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_kafka, "ORPHAN_S", 0.5)
    before = (kafka.data / "server.properties").read_text()
    with pytest.raises(EmbeddedKafkaError, match="another Kafka runs on"):
        EmbeddedKafka(data=kafka.data, port=embedded_kafka.free_port()).start()
    assert (kafka.data / "server.properties").read_text() == before
    topics.ensure(connection, [topics.TopicSpec(name="unharmed", partitions=1, replication=1, config={})])


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_impossible_ports_are_refused(port: int) -> None:
    with pytest.raises(EmbeddedKafkaError, match=r"1\.\.65535"):
        EmbeddedKafka(port=port)


def test_an_impossible_heap_is_refused() -> None:
    with pytest.raises(EmbeddedKafkaError, match="384m or 1g"):
        EmbeddedKafka(heap="lots; rm")


def test_settings_of_the_caller_win_and_nonsense_ends_with_the_brokers_words(tmp_path: Path) -> None:
    broker = EmbeddedKafka(data=tmp_path, config={"log.retention.hours": "many"})
    with pytest.raises(EmbeddedKafkaError, match=r"log\.retention\.hours"):
        broker.start()
    assert not broker.running


def test_unreachable_repositories_name_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KAFKA_LIBS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kafka_jars, "COORDINATES", "org.apache.kafka:kafka_2.13:0.0.0-none@kafka.Kafka")
    with pytest.raises(EmbeddedKafkaError, match="set KAFKA_LIBS to the libs/ folder"):
        kafka_jars.find_jars()


def test_kafka_libs_is_used_or_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KAFKA_LIBS", str(tmp_path))
    with pytest.raises(EmbeddedKafkaError, match="must be the libs/ of a Kafka"):
        kafka_jars.find_jars()
    (tmp_path / "kafka_2.13-4.1.0.jar").touch()
    assert kafka_jars.find_jars() == [str(tmp_path / "kafka_2.13-4.1.0.jar")]


def test_java_home_must_be_new_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    for said, used in (('"1.8.0_392"', False), ('"17.0.9"', True), ('"25"', True), ("no number", False)):
        java.write_text(f"#!/bin/sh\necho 'openjdk version {said}' >&2\n")
        java.chmod(0o755)
        assert (kafka_jars.find_java() == str(java)) is used, said


def test_free_ports_lie_below_those_of_outgoing_connections() -> None:
    assert embedded_kafka.free_port() in range(20_000, 32_000)
