"""The embedded broker's log is kept short, and nothing is lost by it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient

from config import constants
from config.settings import DatabaseSettings, KafkaSettings
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.kafka import PartitionReader, Publisher, ensure_topics
from fraud_adapters.objectstore import ObjectStore
from fraud_embedded.processes.process import Running
from fraud_embedded.servers.broker import CLUSTER, trim_spec
from fraud_embedded.servers.broker_log import Log
from fraud_embedded.servers.objectstore import ObjectStoreServer
from fraud_embedded.servers.stack import Stack
from fraud_embedded.trim import Keep, TrimSettings, trim
from tests.integration.following import following
from tests.support.api_server import ApiServer, cloned, scoring_server
from tests.support.kafka_server import KafkaServer
from tests.support.server_fixtures import bucket_settings
from tests.support.stored_rows import Database
from tests.support.streaming_installation import ROOT, StreamInstallation, creditcard_records
from tests.support.waiting import eventually

Process = subprocess.Popen[str]
FEW = Keep(requests=3)
PATIENCE = 60.0


@pytest.fixture(scope="module")
def api(
    template: Any, postgres_admin_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    directory = tmp_path_factory.mktemp("trim-api")
    with (
        cloned(template, postgres_admin_url, "trim_api") as database,
        scoring_server(database, directory) as server,
    ):
        yield server


@pytest.fixture
def installation(database: Database, topics: KafkaSettings, api: ApiServer) -> StreamInstallation:
    return StreamInstallation(database, topics, api.url)


@pytest.fixture
def log(object_store_server: ObjectStoreServer) -> Log:
    return Log(ObjectStore(bucket_settings(object_store_server, constants.BUCKET_BROKER), "fraud-broker"))


@pytest.fixture
def trimmer(installation: StreamInstallation, object_store_server: ObjectStoreServer) -> TrimSettings:
    """What the trimming process has: it may read the database, and no more."""
    return TrimSettings(
        database=DatabaseSettings.model_validate({"database_url": installation.database.url("readonly")}),
        kafka=installation.kafka,
        store=bucket_settings(object_store_server, constants.BUCKET_BROKER),
    )


def send_requests(installation: StreamInstallation, start: int, end: int) -> None:
    """Two transactions a request."""
    for number in range(start, end):
        installation.send(creditcard_records([f"tx-{number}-a", f"tx-{number}-b"]))


def first_and_count(log: Log, topic: str) -> tuple[int, int]:
    """The oldest offset of the topic's partition, and how many requests it holds."""
    batches = log.batches(topic)[0]
    return batches[0].offset, len(batches)


def now() -> datetime:
    return datetime.now(UTC)


def test_what_is_read_goes_and_what_is_not_stays(
    installation: StreamInstallation, trimmer: TrimSettings, log: Log
) -> None:
    topic = installation.kafka.topic
    send_requests(installation, 0, 20)
    assert trim(trimmer, FEW, now())[topic] == 0, "nothing has been read yet"
    assert installation.consume(records=21)["stored"] == 21
    assert trim(trimmer, FEW, now())[topic] == 7, "ten requests are read, the eleventh in part"
    assert first_and_count(log, topic) == (14, 13)
    assert trim(trimmer, FEW, now())[topic] == 0
    assert installation.consume()["stored"] == 19
    assert trim(trimmer, FEW, now())[topic] == 9, "the last request must never be removed"
    send_requests(installation, 20, 22)
    assert installation.consume()["stored"] == 4
    assert installation.rows(
        "SELECT count(*), count(DISTINCT t.transaction_id), count(p.transaction_id)"
        " FROM transactions t LEFT JOIN predictions p USING (transaction_id)"
    ) == [(44, 44, 44)]


def test_a_follower_goes_on_while_the_log_is_trimmed(
    installation: StreamInstallation, trimmer: TrimSettings, log: Log
) -> None:
    most = 0
    with following(installation.installation) as follower:
        for round_ in range(10):
            send_requests(installation, 10 * round_, 10 * round_ + 10)
            assert eventually(lambda: installation.count("transactions") == 20 * round_ + 20, PATIENCE)  # noqa: B023
            trim(trimmer, FEW, now())
            most = max(most, first_and_count(log, installation.kafka.topic)[1])
        assert follower.metric("fraud_stream_retries_total") == 0
        follower.end()
    assert most <= FEW.requests + 1


def test_a_consumer_without_a_position_begins_with_the_oldest_record(
    installation: StreamInstallation, trimmer: TrimSettings
) -> None:
    send_requests(installation, 0, 10)
    installation.consume()
    assert trim(trimmer, FEW, now())[installation.kafka.topic] == 6
    with PartitionReader(
        installation.kafka.bootstrap_servers, installation.kafka.topic, client_id="test"
    ) as reader:
        assert reader.earliest_offsets() == {0: 12}
    installation.rows("DELETE FROM stream_offsets")
    assert installation.consume()["replayed"] == 8
    assert installation.rows(
        "SELECT next_offset FROM stream_offsets WHERE topic = %s", installation.kafka.topic
    ) == [(20,)]


def test_labels_are_trimmed_by_their_own_position(
    installation: StreamInstallation, trimmer: TrimSettings
) -> None:
    send_requests(installation, 0, 5)
    installation.consume()
    for number in range(5):
        installation.send_labels([{"transaction_id": f"tx-{number}-a", "label": 1, "source": "analyst"}])
    removed = trim(trimmer, Keep(requests=0), now())
    assert (removed[installation.kafka.topic], removed[installation.kafka.labels_topic]) == (4, 0)
    assert installation.consume()["labels"]["stored"] == 5
    assert trim(trimmer, Keep(requests=0), now())[installation.kafka.labels_topic] == 4


def test_alerts_and_dead_letters_go_by_age(
    installation: StreamInstallation, trimmer: TrimSettings, log: Log
) -> None:
    topics = (installation.kafka.alerts_topic, installation.kafka.dlq_topic)
    for topic in topics:
        for number in range(4):
            with Publisher(installation.kafka.bootstrap_servers) as publisher:
                publisher.send(topic, b"key", b"%d" % number)
    keep = Keep(age=timedelta(hours=1))
    assert not any(trim(trimmer, keep, now()).values())
    removed = trim(trimmer, keep, now() + timedelta(hours=2))
    assert [removed[topic] for topic in topics] == [3, 3]
    assert [first_and_count(log, topic) for topic in topics] == [(3, 1), (3, 1)]


def test_of_a_topic_made_again_nothing_goes(installation: StreamInstallation, trimmer: TrimSettings) -> None:
    send_requests(installation, 0, 10)
    installation.consume()
    admin = AdminClient({"bootstrap.servers": installation.kafka.kafka_bootstrap_servers})
    admin.delete_topics([installation.kafka.topic])[installation.kafka.topic].result(timeout=10)
    ensure_topics(installation.kafka.bootstrap_servers, [installation.kafka.topic])
    send_requests(installation, 10, 15)
    assert trim(trimmer, Keep(requests=0), now())[installation.kafka.topic] == 0


def delete_records(server: KafkaServer, topic: str, offset: int, log: Log) -> None:
    """Let the log begin at `offset`, by each broker's own way."""
    if server.spec.cwd.name == "apache":
        admin = AdminClient({"bootstrap.servers": server.bootstrap})
        position = confluent_kafka.TopicPartition(topic, 0, offset)
        admin.delete_records([position])[position].result(timeout=10)
    else:
        log.remove([batch for batch in log.batches(topic)[0] if batch.offset < offset])


def test_a_position_before_the_log_stops_the_consumer(
    any_kafka: KafkaServer, installation: StreamInstallation, log: Log
) -> None:
    changed = replace(
        installation,
        kafka=installation.kafka.model_copy(update={"kafka_bootstrap_servers": any_kafka.bootstrap}),
    )
    kafka = changed.kafka
    ensure_topics(
        kafka.bootstrap_servers, [kafka.topic, kafka.labels_topic, kafka.alerts_topic, kafka.dlq_topic]
    )
    send_requests(changed, 0, 5)
    assert changed.consume(records=4)["stored"] == 4
    delete_records(any_kafka, kafka.topic, 6, log)
    lost = r"no longer holds offset 4 of partition 0.* oldest record is 6.* set next_offset to 6"
    with pytest.raises(JobFailed, match=lost):
        changed.consume()
    with following(changed.installation) as follower, pytest.raises(JobFailed, match=lost):
        follower.ended()
    assert changed.count("transactions") == 4
    changed.rows("UPDATE stream_offsets SET next_offset = 6 WHERE topic = %s", kafka.topic)
    assert changed.consume()["stored"] == 4


def test_publishers_leave_nothing_behind_in_the_broker(
    kafka_bootstrap: str, topics: KafkaSettings, object_store_server: ObjectStoreServer
) -> None:
    settings = bucket_settings(object_store_server, constants.BUCKET_BROKER)
    store = ObjectStore(settings, constants.BUCKET_BROKER)

    def size() -> int:
        meta = f"clusters/{CLUSTER}/meta.json"
        return len(store.get_bytes(meta)) if store.exists(meta) else 0

    before = size()
    for number in range(20):
        with Publisher(kafka_bootstrap) as publisher:
            publisher.send(topics.topic, b"key", b"%d" % number)
    assert size() == before


@contextmanager
def trimming(
    trimmer: TrimSettings, installation: StreamInstallation, *arguments: str, **environment: str
) -> Iterator[Process]:
    """The supervised trimming process; stopped at the end."""
    store = trimmer.store
    own = {
        "DATABASE_URL": trimmer.database.url,
        "S3_ENDPOINT_URL": store.endpoint_url,
        "AWS_ACCESS_KEY_ID": store.aws_access_key_id,
        "AWS_SECRET_ACCESS_KEY": store.aws_secret_access_key.get_secret_value(),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "fraud_embedded.trim", *arguments],
        env=installation.environment() | own | environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
        process.kill()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def test_the_process_trims_until_it_is_told_to_stop(
    installation: StreamInstallation, trimmer: TrimSettings, log: Log, tmp_path: Path
) -> None:
    send_requests(installation, 0, 10)
    installation.consume()
    done = tmp_path / "done"
    with trimming(trimmer, installation, "--requests", "3", "--done", str(done)) as process:
        assert eventually(done.exists, PATIENCE)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert json.loads(out)["removed"][installation.kafka.topic] == 6
    assert first_and_count(log, installation.kafka.topic) == (12, 4)


def test_it_is_ready_while_trimming_works(
    installation: StreamInstallation, trimmer: TrimSettings, stack: Stack, tmp_path: Path
) -> None:
    server = replace(stack.broker, place=tmp_path)
    environment = {"DATABASE_URL": trimmer.database.url, "KAFKA_TOPIC": installation.kafka.topic}
    environment |= {"KAFKA_BOOTSTRAP_SERVERS": stack.broker.bootstrap}
    spec = trim_spec(server, ROOT, environment)
    assert not spec.ready()
    running = Running(spec, tmp_path / "trim.log")
    try:
        running.wait_ready(PATIENCE)
    finally:
        running.stop()
    (done,) = (path for path in tmp_path.iterdir() if path.suffix != ".log")
    earlier = done.stat().st_mtime - 600
    os.utime(done, (earlier, earlier))
    assert not spec.ready()


def test_the_process_waits_for_what_is_down(
    installation: StreamInstallation, trimmer: TrimSettings, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    nobody = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"}
    with trimming(trimmer, installation, "--done", str(done), **nobody) as process:
        assert process.stderr is not None
        assert "tries_again" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert not done.exists()
