"""Every setting: its name, type, default, bounds and meaning, in one struct; read from `FRESHET_*` variables, validated at start.

`Settings.load(os.environ)` answers with the settings or raises `SettingsError`, whose text names each wrong variable and what to
change. `FRESHET_MODEL_*` variables go to the model's own `models.Config` by the same rules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from models import Config
from models.events import Limits
from streams.connection import Connection
from streams.topics import TopicSpec
from streams.topics import specs as topic_specs

PREFIX: Final = "FRESHET_"
MODEL_PREFIX: Final = "FRESHET_MODEL_"
ROLES: Final = ("ingest", "recommend", "attribute", "embed")


class SettingsError(ValueError):
    """Wrong settings; the text lists each one and what to change."""


def _doc(text: str, **bounds: Any) -> Meta:
    return Meta(description=text, **bounds)


PositiveInt = Annotated[int, Meta(ge=1)]


class Settings(Struct, frozen=True, kw_only=True):
    """All settings of every process. A field `x` is the variable `FRESHET_X`."""

    # Kafka
    bootstrap: Annotated[str, _doc("Kafka brokers, host:port[,host:port...]", min_length=3)] = "127.0.0.1:9092"
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], _doc("how every client talks to Kafka")
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], _doc("with SASL protocols")] = "SCRAM-SHA-512"
    sasl_username: Annotated[str, _doc("with SASL protocols")] = ""
    sasl_password: Annotated[str, _doc("with SASL protocols; never logged")] = ""
    ssl_cafile: Annotated[str, _doc("PEM file of the authorities to trust; empty: the system's")] = ""
    ssl_certfile: Annotated[str, _doc("client certificate, PEM")] = ""
    ssl_keyfile: Annotated[str, _doc("key of the client certificate, PEM")] = ""
    topic_prefix: Annotated[str, _doc("put before every topic name, e.g. 'shop1.'", pattern=r"^[A-Za-z0-9._-]{0,100}$")] = ""
    partitions: Annotated[int, _doc("partitions of every topic; users are spread over them", ge=1, le=1000)] = 4
    replication: Annotated[int, _doc("replication factor of every topic", ge=1, le=10)] = 1
    input_retention_hours: Annotated[int, _doc("how long the input topics and dead letters are kept", ge=1)] = 168

    # the consumer group
    app_id: Annotated[str, _doc("name of the consumer group", pattern=r"^[A-Za-z0-9._-]{1,100}$")] = "freshet"
    instance_id: Annotated[str, _doc("stable name of this worker (static membership): restarts do not rebalance others")] = ""
    session_timeout_s: Annotated[float, _doc("a worker silent for so long loses its partitions", ge=1, le=300)] = 10.0
    commit_interval_s: Annotated[float, _doc("how often finished batches are committed", gt=0, le=60)] = 0.5
    batch_events: Annotated[
        int, _doc("most records a batch agent takes at once: behind, more of a user's events share a list", ge=1, le=10_000)
    ] = 5000
    pace_ms: Annotated[float, _doc("pause between two fetches: larger batches against latency", ge=0, le=100)] = 3.0

    # lists
    list_size: Annotated[int, _doc("items in a list", ge=1, le=200)] = 10
    arm: Annotated[str, _doc("name of the experiment arm written on every list", pattern=r"^[A-Za-z0-9._-]{1,32}$")] = "default"
    popular_interval_s: Annotated[float, _doc("how often the list for strangers may change", gt=0, le=3600)] = 1.0

    training_per_s: Annotated[
        float, _doc("events per second that are trained on at most: the fusion learns from them (a list's work; from late ones a "
                    "tenth) and the embedding learns earlier ones again", ge=1, le=100_000)
    ] = 200.0  # fmt: skip
    weights_interval_s: Annotated[
        float, _doc("how often the worker that trains publishes what it has learned, where that changed", ge=0.1, le=3600)
    ] = 1.0

    # attribution
    attribution_window_s: Annotated[float, _doc("a click counts for a list served at most so long before (event time)", gt=0)] = (
        86_400.0
    )
    served_users: Annotated[int, _doc("users whose last lists are remembered for attribution", ge=1)] = 200_000
    served_lists_per_user: Annotated[int, _doc("lists remembered of each user", ge=1, le=100)] = 5

    # live quality
    quality_per_s: Annotated[
        float,
        _doc("events per second on which all sources are tested at most; each costs as much CPU as a list", ge=1, le=10_000),
    ] = 10.0
    cohort_window_s: Annotated[float, _doc("a shown item counts as clicked within so long (event time)", gt=0, le=86_400)] = 900.0
    cohort_lists: Annotated[int, _doc("shown lists that are followed for it at once; of more, a share", ge=1)] = 50_000

    # limits of a message
    max_message_bytes: Annotated[int, _doc("larger messages are dead letters", ge=1_000, le=900_000)] = 262_144
    max_id_bytes: Annotated[int, _doc("longer ids are dead letters", ge=16, le=1_024)] = 256
    max_text_chars: Annotated[int, _doc("longer texts are dead letters", ge=100, le=200_000)] = 20_000
    max_impression_items: Annotated[int, _doc("impressions with more items are dead letters", ge=1, le=5_000)] = 500
    max_future_s: Annotated[int, _doc("events further ahead of the clock are dead letters", ge=0, le=86_400)] = 300

    # text
    embedding_model: Annotated[
        str, _doc("'bundled' (MiniLM), 'hashing' (no model), a directory, or a hub name", min_length=1)
    ] = "bundled"
    embedding_device: Annotated[str, _doc("auto, cpu, cuda, cuda:1, mps")] = "auto"
    embedding_batch_size: Annotated[int, _doc("texts per forward pass", ge=1, le=1_024)] = 8
    text_interval_s: Annotated[
        float,
        _doc("texts that come sooner after others are gathered: alone they cost twice the CPU of eight together", ge=0, le=60),
    ] = 0.5
    embedding_threads: Annotated[int, _doc("CPU threads of the encoder", ge=1, le=256)] = 1
    embedding_dtype: Annotated[
        Literal["float32", "bfloat16"],
        _doc("bfloat16: half the work on CPUs that multiply it (AVX-512 BF16, AMX), vectors 1e-4 off; to Qdrant another encoder"),
    ] = "float32"

    # Qdrant
    qdrant_url: Annotated[str, _doc("a Qdrant server, e.g. http://127.0.0.1:6333; empty: embedded in `state_dir`")] = ""
    qdrant_api_key: Annotated[str, _doc("never logged")] = ""
    qdrant_prefix: Annotated[str, _doc("put before the collections' names", pattern=r"^[A-Za-z0-9._-]{0,100}$")] = ""
    qdrant_deadline_ms: Annotated[float, _doc("lists do not wait longer for a Qdrant server", gt=0, le=10_000)] = 50.0
    qdrant_failures: Annotated[
        int, _doc("questions in a row without an answer, after which lists stop asking", ge=1, le=1_000)
    ] = 3
    qdrant_pause_s: Annotated[float, _doc("for so long; then one question tries again", gt=0, le=3_600)] = 5.0
    qdrant_local_points: Annotated[int, _doc("an embedded Qdrant refuses to grow past this", ge=1, le=20_000)] = 20_000

    # language stage
    ranker: Annotated[
        str, _doc("who orders the best of a list by text: a directory or hub name of a cross-encoder, a URL; empty: off")
    ] = ""
    ranker_model: Annotated[str, _doc("with a URL: the name of the model behind it")] = ""
    ranker_api_key: Annotated[str, _doc("with a URL; never logged")] = ""
    ranker_device: Annotated[str, _doc("of a cross-encoder: auto, cpu, cuda, cuda:1, mps")] = "auto"
    ranker_threads: Annotated[int, _doc("CPU threads of a cross-encoder", ge=1, le=256)] = 1
    ranker_candidates: Annotated[int, _doc("so many of the fused list are ordered", ge=2, le=200)] = 30
    ranker_history: Annotated[int, _doc("newest items of the user that the ranker reads about", ge=1, le=50)] = 5
    ranker_weight: Annotated[float, _doc("weight of its scores beside the logarithm of the fused score", ge=0, le=1_000)] = 1.0
    ranker_budget_ms: Annotated[float, _doc("time it has for all lists of a batch; then fused lists stand", gt=0, le=60_000)] = (
        100.0
    )
    ranker_failures: Annotated[int, _doc("bad batches in a row after which it rests", ge=1, le=1_000)] = 5
    ranker_pause_s: Annotated[float, _doc("how long it rests", gt=0, le=3_600)] = 30.0

    # operations
    state_dir: Annotated[str, _doc("where embedded parts keep their data", min_length=1)] = ".freshet"
    snapshots: Annotated[bool, _doc("whether workers that make lists save their state in `state_dir`, to start from it")] = True
    snapshot_interval_s: Annotated[float, _doc("how often at least, where something has changed", ge=1, le=86_400)] = 300.0
    snapshot_records: Annotated[int, _doc("sooner after so many records of the log", ge=1_000)] = 2_000_000
    snapshot_share: Annotated[
        str, _doc("a place for copies, as an fsspec URL (s3://bucket/path, file:///mnt/share): new workers start from them")
    ] = ""
    snapshot_misfit: Annotated[
        Literal["refuse", "rebuild"], _doc("where no snapshot fits, or the log is cut off: do not start, or fold what there is")
    ] = "refuse"
    metrics_host: Annotated[str, _doc("address of the metrics server")] = "127.0.0.1"
    metrics_port: Annotated[int, _doc("port of the metrics server; 0: any free one", ge=0, le=65_535)] = 9464
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], _doc("of the log on standard error")] = "INFO"
    log_json: Annotated[bool, _doc("one JSON object per line instead of text")] = False

    model: Config = msgspec.field(default_factory=Config)

    @classmethod
    def load(cls, environment: Mapping[str, str], **overrides: Any) -> Settings:
        """Settings from `FRESHET_*` variables; `overrides` (of the command line) win where they are not None.

        Raises:
            SettingsError: a variable is unknown, does not parse or is out of bounds; all of them are listed.
        """
        problems: list[str] = []
        values, model_values = _collect(environment, problems)
        values.update({k: v for k, v in overrides.items() if v is not None})
        model = _convert(Config, model_values, MODEL_PREFIX, problems)
        settings = _convert(cls, values, PREFIX, problems)
        if settings is not None:
            problems.extend(_contradictions(settings))
        if problems or settings is None or model is None:
            raise SettingsError("wrong settings:\n  " + "\n  ".join(problems))
        loaded: Settings = msgspec.structs.replace(settings, model=model)
        return loaded

    @property
    def connection(self) -> Connection:
        """How every client reaches Kafka."""
        sasl, tls = self.security_protocol.startswith("SASL"), self.security_protocol.endswith("SSL")
        return Connection(
            bootstrap=self.bootstrap,
            security_protocol=self.security_protocol,
            sasl_mechanism=self.sasl_mechanism,
            sasl_username=self.sasl_username if sasl else "",
            sasl_password=self.sasl_password if sasl else "",
            ssl_cafile=self.ssl_cafile if tls else "",
            ssl_certfile=self.ssl_certfile if tls else "",
            ssl_keyfile=self.ssl_keyfile if tls else "",
        )

    @property
    def topic_specs(self) -> list[TopicSpec]:
        """Every topic as it must be."""
        return topic_specs(
            partitions=self.partitions,
            replication=self.replication,
            input_retention_ms=self.input_retention_hours * 3_600_000,
            prefix=self.topic_prefix,
        )

    @property
    def encoder(self) -> dict[str, Any]:
        """What `text_encoder.create_encoder` is given."""
        return {
            "model": self.embedding_model,
            "device": self.embedding_device,
            "batch_size": self.embedding_batch_size,
            "threads": self.embedding_threads,
            "dtype": self.embedding_dtype,
        }

    @property
    def limits(self) -> Limits:
        """Bounds of a single message."""
        return Limits(
            message_bytes=self.max_message_bytes,
            id_bytes=self.max_id_bytes,
            text_chars=self.max_text_chars,
            impression_items=self.max_impression_items,
            future_ms=self.max_future_s * 1000,
        )

    def topic(self, name: str) -> str:
        """Full name of a topic of the design."""
        return self.topic_prefix + name

    def __repr__(self) -> str:
        hidden = {"sasl_password", "qdrant_api_key", "ranker_api_key"}
        shown = (f"{f}={'***' if f in hidden and getattr(self, f) else repr(getattr(self, f))}" for f in self.__struct_fields__)
        return f"Settings({', '.join(shown)})"


def describe() -> list[tuple[str, str, str, str]]:
    """(variable, type, default, meaning) of each setting, for the documentation."""
    rows = []
    hints = get_type_hints(Settings, include_extras=True)
    for field in msgspec.structs.fields(Settings):
        if field.name == "model":
            continue
        base, *metas = get_args(hints[field.name])
        meaning = next((m.description for m in metas if isinstance(m, Meta) and m.description), "")
        choices = get_args(base)
        kind = " / ".join(map(str, choices)) if choices else base.__name__
        rows.append((PREFIX + field.name.upper(), kind, str(field.default), meaning))
    return rows


def _collect(environment: Mapping[str, str], problems: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    values: dict[str, Any] = {}
    model_values: dict[str, Any] = {}
    known, model_known = set(Settings.__struct_fields__) - {"model"}, set(Config.__struct_fields__)
    for variable, text in environment.items():
        if not variable.startswith(PREFIX) or variable == PREFIX + "DATA":  # FRESHET_DATA: where tests find real logs
            continue
        is_model = variable.startswith(MODEL_PREFIX)
        name = variable.removeprefix(MODEL_PREFIX if is_model else PREFIX).lower()
        if name not in (model_known if is_model else known):
            problems.append(f"{variable}: there is no such setting (see docs/settings.md)")
        else:
            (model_values if is_model else values)[name] = text
    return values, model_values


def _convert(kind: type[Any], values: dict[str, Any], prefix: str, problems: list[str]) -> Any:
    """One struct from texts; every wrong field is reported, not just the first."""
    good: dict[str, Any] = {}
    hints = get_type_hints(kind, include_extras=True)
    for name, value in values.items():
        try:
            parsed = _parsed(value, str(_type(hints[name]))) if isinstance(value, str) else value
            good[name] = msgspec.convert(parsed, hints[name], strict=False)
        except msgspec.ValidationError as problem:
            problems.append(f"{prefix}{name.upper()}={_shown(name, value)}: {_in_words(str(problem))}")
    try:
        return kind(**good)
    except ValueError as problem:  # a struct may refuse combinations in its __post_init__
        problems.append(f"{prefix}*: {problem}")
        return None


def _type(hint: Any) -> Any:
    """The type of a field without its bounds and its meaning."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _parsed(text: str, hint: str) -> str | list[str]:
    """A value as people write it: lists with commas, numbers also as .5 and 5., where msgspec wants digits on both sides."""
    if "float" in hint:
        text = re.sub(r"(?<!\d)\.(?=\d)", "0.", re.sub(r"(?<=\d)\.(?!\d)", "", text))
    if "float" in hint or "int" in hint:
        text = text.strip()
    return [part.strip() for part in text.split(",") if part.strip()] if "tuple" in hint else text


_NEEDED: Final = {"float": "a number is needed", "int": "a whole number is needed", "bool": "true or false is needed"}


def _in_words(problem: str) -> str:
    """What msgspec says, without where in the struct; all it knows of a text is that it is one."""
    problem = re.sub(r" - at .*", "", problem)
    wrong_type = re.fullmatch(r"Expected `(\w+)`, got `str`", problem)
    return _NEEDED.get(wrong_type[1], problem) if wrong_type else problem


def _shown(name: str, value: object) -> str:
    return "***" if "password" in name or "key" in name else repr(value)


def _contradictions(settings: Settings) -> list[str]:
    """Settings that are fine one by one but not together."""
    found = []
    if settings.security_protocol.startswith("SASL") and not (settings.sasl_username and settings.sasl_password):
        found.append("FRESHET_SECURITY_PROTOCOL says SASL: set FRESHET_SASL_USERNAME and FRESHET_SASL_PASSWORD")
    if bool(settings.ssl_certfile) != bool(settings.ssl_keyfile):
        found.append("FRESHET_SSL_CERTFILE and FRESHET_SSL_KEYFILE go together: set both or neither")
    if settings.qdrant_url and not re.match(r"^https?://[^\s/]+", settings.qdrant_url):
        found.append(f"FRESHET_QDRANT_URL={settings.qdrant_url!r}: begin with http:// or https://")
    if settings.ranker.startswith(("http://", "https://")) and not settings.ranker_model:
        found.append("FRESHET_RANKER is a URL: set FRESHET_RANKER_MODEL")
    if settings.commit_interval_s >= settings.session_timeout_s:
        found.append("FRESHET_COMMIT_INTERVAL_S must be below FRESHET_SESSION_TIMEOUT_S")
    bad = [b for b in settings.bootstrap.split(",") if not re.match(r"^[^\s:]+:\d{1,5}$", b.strip())]
    if bad:
        found.append(f"FRESHET_BOOTSTRAP: {bad[0]!r} is not host:port")
    return found


def parse_roles(text: str | None) -> tuple[str, ...]:
    """`"ingest,recommend"` as a tuple in the order of the flow; None or "all": every role.

    Raises:
        SettingsError: an unknown role, or `recommend` without `attribute` (they share one subscription to `interactions`).
    """
    if text is None or text == "all":
        return ROLES
    wanted = {part.strip() for part in text.split(",") if part.strip()}
    unknown = wanted - set(ROLES)
    if unknown or not wanted:
        raise SettingsError(f"--roles: {', '.join(sorted(unknown)) or 'none'} given, choose from {', '.join(ROLES)}")
    if ("recommend" in wanted) != ("attribute" in wanted):
        raise SettingsError(
            "--roles: recommend and attribute share one subscription to the interactions log: give both or neither"
        )
    if "embed" in wanted and 1 < len(wanted) < len(ROLES):
        raise SettingsError("--roles: embed goes alone (a consumer group of its own) or with all the others")
    return tuple(role for role in ROLES if role in wanted)
