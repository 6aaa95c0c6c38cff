"""Connection settings become the right arguments for each client, contradictions are refused, and the password is never shown."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from streams.connection import Connection

SASL = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "ada", "sasl_password": "s3cret"}


def test_plain() -> None:
    connection = Connection(bootstrap="a:1, b:2")
    assert connection.kafka_python() == {"bootstrap_servers": ["a:1", "b:2"], "security_protocol": "PLAINTEXT"}
    assert connection.aiokafka() == connection.kafka_python()
    assert connection.faust_broker() == "kafka://a:1;kafka://b:2"
    assert connection.faust_credentials() is None


def test_sasl_over_tls() -> None:
    connection = Connection(bootstrap="a:1", **SASL)
    arguments = connection.kafka_python()
    assert arguments["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (arguments["sasl_plain_username"], arguments["sasl_plain_password"]) == ("ada", "s3cret")
    context = arguments["ssl_context"]
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert connection.aiokafka()["ssl_context"] is context, "one context for all clients"
    credentials = connection.faust_credentials()
    assert (credentials.username, credentials.password, credentials.mechanism.value) == ("ada", "s3cret", "SCRAM-SHA-512")
    assert credentials.protocol.value == "SASL_SSL"
    assert credentials.ssl_context is context


def test_sasl_without_tls() -> None:
    connection = Connection(bootstrap="a:1", **{**SASL, "security_protocol": "SASL_PLAINTEXT"})
    assert "ssl_context" not in connection.kafka_python()
    assert connection.faust_credentials().protocol.value == "SASL_PLAINTEXT"


def test_a_client_certificate_is_loaded(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=freshet", "-days", "1", "-nodes", "-newkey", "rsa:2048"]
    try:
        subprocess.run(
            ["openssl", "req", "-x509", *subject, "-keyout", key, "-out", certificate], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("needs the openssl command to make a certificate")
    files = {"ssl_cafile": str(certificate), "ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
    context = Connection(bootstrap="a:1", security_protocol="SSL", **files).faust_credentials().context
    assert len(context.get_ca_certs()) == 1


def test_the_password_is_never_shown() -> None:
    connection = Connection(bootstrap="a:1", **SASL)
    for shown in (repr(connection), str(connection), f"{connection}", repr([connection]), repr(list(connection.__rich_repr__()))):
        assert "s3cret" not in shown
    assert "ada" in repr(connection)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"bootstrap": "nowhere"}, "host:port"),
        ({"bootstrap": ":9092"}, "host:port"),
        ({"bootstrap": "a:99999"}, "host:port"),
        ({"bootstrap": "a:1,"}, "host:port"),
        ({"security_protocol": "HTTPS"}, "security_protocol is one of"),
        ({**SASL, "sasl_mechanism": "MD5"}, "sasl_mechanism is one of"),
        ({**SASL, "sasl_password": ""}, "needs sasl_username and sasl_password"),
        ({"sasl_username": "ada", "sasl_password": "x"}, "would never use it"),
        ({"ssl_cafile": "ca.pem"}, "would never use them"),
        ({"security_protocol": "SSL", "ssl_keyfile": "key.pem"}, "needs ssl_certfile"),
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Connection(**{"bootstrap": "a:1", **fields})
