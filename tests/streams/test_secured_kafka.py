"""The three clients against a broker that wants a password over TLS: `Connection` says the right thing to each of them."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiokafka
import faust
import pytest
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion
from kafka.errors import KafkaError

from streams import topics, transport
from streams.connection import Connection
from streams.embedded_kafka import EmbeddedKafka
from streams.replica import read_all

PASSWORD = "correct horse"

# nothing that Freshet depends on makes certificates, and a key in the repository would be a secret in a file
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command to make a certificate")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificate and key of 127.0.0.1 in one PEM file, as Kafka wants it; its own authority."""
    folder = tmp_path_factory.mktemp("tls")
    key, own = folder / "key.pem", folder / "own.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-nodes", "-newkey", "rsa:2048"]
    subprocess.run(["openssl", "req", "-x509", *subject, "-keyout", key, "-out", own], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text(key.read_text() + own.read_text())
    return both


@pytest.fixture(scope="module")
def secured(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    login = f'org.apache.kafka.common.security.plain.PlainLoginModule required username="root" password="{PASSWORD}"'
    config = {
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,CLIENTS:SASL_SSL",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.clients.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "listener.name.clients.plain.sasl.jaas.config": f'{login} user_root="{PASSWORD}";',
        "listener.name.clients.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "listener.name.clients.ssl.keystore.type": "PEM",
        "listener.name.clients.ssl.keystore.location": certificate,
        "listener.name.clients.ssl.truststore.type": "PEM",
        "listener.name.clients.ssl.truststore.location": certificate.parent / "own.pem",
    }
    with EmbeddedKafka(data=tmp_path_factory.mktemp("secured"), config=config, timeout=180) as broker:
        yield broker


@pytest.fixture(scope="module", params=["PLAIN", "SCRAM-SHA-512"])
def connection(request: pytest.FixtureRequest, secured: EmbeddedKafka, certificate: Path) -> Connection:
    common: dict[str, Any] = {
        "bootstrap": secured.bootstrap,
        "security_protocol": "SASL_SSL",
        "sasl_password": PASSWORD,
        "ssl_cafile": str(certificate.parent / "own.pem"),
    }
    root = Connection(sasl_mechanism="PLAIN", sasl_username="root", **common)
    if request.param == "PLAIN":
        return root
    with topics.admin(root) as admin:
        admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion("ada", ScramMechanism.SCRAM_SHA_512, PASSWORD, iterations=4096)]
        )
    return Connection(sasl_mechanism="SCRAM-SHA-512", sasl_username="ada", **common)


def test_kafka_python_aiokafka_and_faust_all_get_in(connection: Connection, tmp_path: Path) -> None:
    name = connection.sasl_mechanism.lower()
    source, target = f"{name}-in", f"{name}-out"
    specs = [topics.TopicSpec(name=topic, partitions=1, replication=1, config={}) for topic in (source, target)]
    topics.ensure(connection, specs)
    app = faust.App(
        name,
        broker=connection.faust_broker(),
        broker_credentials=connection.faust_credentials(),
        topic_disable_leader=True,
        topic_allow_declare=False,
        datadir=str(tmp_path),
        web_enabled=False,
    )
    transport.install(app)
    done = asyncio.Event()

    @transport.batch_agent(app, source)
    async def copy(records: list[Any]) -> None:
        await transport.produce(app, target, [(0, r.key, r.value, None, []) for r in records])
        done.set()

    async def scenario() -> None:
        producer = aiokafka.AIOKafkaProducer(**connection.aiokafka())
        await producer.start()
        await producer.send_and_wait(source, b"through all three")
        await producer.stop()
        await app.start()
        async with asyncio.timeout(180):
            await done.wait()
        await app.stop()

    asyncio.run(scenario())
    assert [record.value for record in read_all(connection, target)] == [b"through all three"]


def test_a_wrong_password_is_refused_without_showing_it(secured: EmbeddedKafka, certificate: Path) -> None:
    wrong = Connection(
        bootstrap=secured.bootstrap,
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        sasl_username="root",
        sasl_password="battery staple",
        ssl_cafile=str(certificate.parent / "own.pem"),
    )
    with pytest.raises(topics.TopicsError) as raised, topics.admin(wrong, timeout_s=3.0) as admin:
        admin.list_topics()
    assert "battery staple" not in str(raised.value)
    assert isinstance(raised.value.__cause__, KafkaError)


def test_an_unknown_authority_is_refused(secured: EmbeddedKafka) -> None:
    stranger = Connection(
        bootstrap=secured.bootstrap,
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        sasl_username="root",
        sasl_password=PASSWORD,
    )
    with pytest.raises(topics.TopicsError), topics.admin(stranger, timeout_s=3.0) as admin:
        admin.list_topics()
