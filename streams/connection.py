"""How to reach Kafka: the one place where connection settings become arguments of the three clients we use."""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any, Final, Literal

from msgspec import Struct

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class Connection(Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """Where Kafka is and who we are to it; empty texts are unset. ValueError where the fields contradict each other.

    `bootstrap` is `host:port[,host:port...]`; files are paths of PEM files; without `ssl_cafile` the system's authorities hold.
    """

    bootstrap: str
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism | Literal[""] = ""
    sasl_username: str = ""
    sasl_password: str = ""
    ssl_cafile: str = ""
    ssl_certfile: str = ""
    ssl_keyfile: str = ""

    def __post_init__(self) -> None:
        for server in self.servers:
            host, _, port = server.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
                raise ValueError(f"a Kafka server is host:port, not {server!r}")
        if self.security_protocol not in _PROTOCOLS:
            raise ValueError(f"security_protocol is one of {', '.join(_PROTOCOLS)}, not {self.security_protocol!r}")
        if self.sasl and self.sasl_mechanism not in _MECHANISMS:
            raise ValueError(f"sasl_mechanism is one of {', '.join(_MECHANISMS)}, not {self.sasl_mechanism!r}")
        if self.sasl and not (self.sasl_username and self.sasl_password):
            raise ValueError(f"{self.security_protocol} needs sasl_username and sasl_password")
        if not self.sasl and (self.sasl_username or self.sasl_password):
            raise ValueError(f"a SASL user is given but security_protocol {self.security_protocol} would never use it")
        if not self.tls and (self.ssl_cafile or self.ssl_certfile or self.ssl_keyfile):
            raise ValueError(f"TLS files are given but security_protocol {self.security_protocol} would never use them")
        if self.ssl_keyfile and not self.ssl_certfile:
            raise ValueError("ssl_keyfile needs ssl_certfile")

    @property
    def servers(self) -> list[str]:
        return [server.strip() for server in self.bootstrap.split(",")]

    @property
    def sasl(self) -> bool:
        return self.security_protocol.startswith("SASL_")

    @property
    def tls(self) -> bool:
        return self.security_protocol.endswith("SSL")

    def kafka_python(self) -> dict[str, Any]:
        """Keyword arguments of KafkaAdminClient, KafkaProducer and KafkaConsumer."""
        return self._arguments()

    def aiokafka(self) -> dict[str, Any]:
        """Keyword arguments of AIOKafkaConsumer and AIOKafkaProducer."""
        return self._arguments()

    def faust_broker(self) -> str:
        """The `broker` of a faust.App."""
        return ";".join(f"kafka://{server}" for server in self.servers)

    def faust_credentials(self) -> Any:
        """The `broker_credentials` of a faust.App, None where there are none."""
        import faust  # here: Faust patches its surroundings when imported, which a mere admin tool need not suffer

        if self.sasl:
            return faust.SASLCredentials(
                username=self.sasl_username,
                password=self.sasl_password,
                mechanism=self.sasl_mechanism,
                ssl_context=self.ssl_context(),
            )
        return faust.SSLCredentials(self.ssl_context()) if self.tls else None

    def ssl_context(self) -> ssl.SSLContext | None:
        """One context for every client, since only that is accepted by all three. OSError or ssl.SSLError for unusable files."""
        return _ssl_context(self.ssl_cafile, self.ssl_certfile, self.ssl_keyfile) if self.tls else None

    def _arguments(self) -> dict[str, Any]:
        """kafka-python and aiokafka share these names."""
        arguments: dict[str, Any] = {"bootstrap_servers": self.servers, "security_protocol": self.security_protocol}
        if self.sasl:
            arguments["sasl_mechanism"] = self.sasl_mechanism
            arguments["sasl_plain_username"] = self.sasl_username
            arguments["sasl_plain_password"] = self.sasl_password
        if self.tls:
            arguments["ssl_context"] = self.ssl_context()
        return arguments

    def __repr__(self) -> str:
        user = f" user={self.sasl_username!r} password=***" if self.sasl else ""
        return f"<Connection {self.bootstrap} {self.security_protocol}{user}>"

    def __rich_repr__(self) -> Any:  # rich and tracebacks with locals must not look into the fields either
        yield "bootstrap", self.bootstrap
        yield "security_protocol", self.security_protocol


@cache
def _ssl_context(cafile: str, certfile: str, keyfile: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=cafile or None)
    if certfile:
        context.load_cert_chain(certfile, keyfile or None)
    return context
