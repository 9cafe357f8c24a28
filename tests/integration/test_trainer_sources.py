"""Where a training's examples come from: an interval of the database, a file, an object of the bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config import constants
from config.settings import KafkaSettings, ObjectStoreSettings
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.kafka import Publisher
from fraud_adapters.objectstore import ObjectStore
from fraud_producer.wire import transaction_messages
from fraud_trainer.job import main
from tests.integration.training_installation import Installation, wire_rows
from tests.integration.training_job import small_installation
from tests.support.labelled_files import columns, write
from tests.support.stored_rows import START, Database, run

HOUR = timedelta(hours=1)
FROM, TO = (START + 10 * HOUR), (START + 20 * HOUR)


@pytest.fixture
def installation(
    database: Database, mlflow_uri: str, object_store: ObjectStoreSettings, tmp_path: Path
) -> Iterator[Installation]:
    with small_installation(database, mlflow_uri, object_store, tmp_path) as ready:
        yield ready


def test_the_topic_is_read_by_offset_or_by_time(
    installation: Installation, topics: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels come from the ledger; a record twice, a damaged one and one of another contract are left out."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", topics.kafka_bootstrap_servers)
    monkeypatch.setenv("KAFKA_TOPIC", topics.kafka_topic)
    rows, labels = wire_rows(40)
    rows.columns["payer"] = np.array([f"payer {number}" for number in range(40)], dtype=object)
    rows = replace(rows, ids=[*rows.ids[:38], "new0", "new1"])  # the last two are not in the database
    messages = list(transaction_messages(installation.contract, rows))
    with closing(Publisher(topics.bootstrap_servers)) as sink:
        for message in [*messages, messages[0]]:
            sink.send(topics.topic, message.key, message.value, message.headers)
        sink.send(topics.topic, b"bad", b"{", messages[0].headers)
        sink.send(topics.topic, b"other", messages[0].value, {"schema": b"other/1"})
        sink.flush()
    loaded = load("--kafka-from", "0")
    assert (loaded["rows"], loaded["frauds"]) == (38, int(labels[:38].sum()))
    assert loaded["origin"] == {"kind": "kafka", "kafka_from": "0"}
    assert (loaded["left_out_unknown"], loaded["left_out_refused"]) == (2, 2)
    assert set(loaded["label_sources"]) == {"chargeback", "implied"}
    an_hour_ago = (datetime.now(UTC) - HOUR).isoformat()
    assert load("--kafka-from", an_hour_ago)["rows"] == 38
    with pytest.raises(JobFailed, match="holds no record from --kafka-from on, before --kafka-to"):
        load("--kafka-to", an_hour_ago)
    with pytest.raises(JobFailed, match="holds no record"):
        load("--kafka-from", "100000")
    assert load("--kafka-from", "0", "--kafka-to", "10")["rows"] == 10


def load(*options: str) -> Any:
    return main(["load", "--run-id", "first", *options])["load"]


def test_an_interval_selects_transactions_by_event_time(installation: Installation) -> None:
    loaded = load("--from", FROM.isoformat(), "--to", TO.isoformat())
    assert (loaded["rows"], loaded["data_from"], loaded["data_to"]) == (
        600,
        FROM.isoformat(),
        (TO - timedelta(minutes=1)).isoformat(),
    )
    assert loaded["origin"] == {"kind": "postgres", "from": FROM.isoformat(), "to": TO.isoformat()}
    assert load("--from", FROM.isoformat())["rows"] == 2400
    with pytest.raises(JobFailed, match=r"no transaction of t.* from 2026-.* with a mature label"):
        load("--from", "2026-01-01T00:00:00Z")


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_a_labelled_file_is_trained_on_like_stored_rows(
    installation: Installation, tmp_path: Path, object_store: ObjectStoreSettings, name: str
) -> None:
    path = write(tmp_path / name, columns(3000))
    run(installation.database.url("admin"), "TRUNCATE transactions CASCADE")
    ObjectStore(object_store, constants.BUCKET_RUNS).put_file(f"datasets/{name}", path)
    address = f"s3://{constants.BUCKET_RUNS}/datasets/{name}"
    result = main(["run", "--run-id", name, "--file", address])
    loaded = result["load"]
    assert (loaded["rows"], loaded["as_of"], loaded["data_from"]) == (3000, None, START.isoformat())
    assert loaded["origin"] == {"kind": "file", "file": address}
    assert (loaded["sources"], loaded["label_sources"]) == ({"file": 3000}, {"file": 3000})
    assert result["register"]["gate_passed"] is True
    owner = installation.database.url("owner")
    assert run(owner, "SELECT labels_as_of FROM model_versions") == [(None,)]
    decision = main(["decide", "--run-id", "next"])
    assert decision["last_training"] is None, "its labels were not this platform's"
    assert load("--file", str(path))["digest"] == loaded["digest"], "the same rows, wherever the file is"


def test_an_object_that_is_not_there_is_named(installation: Installation) -> None:
    with pytest.raises(JobFailed, match=r"--file: there is no s3://fraud-runs/missing\.csv"):
        load("--file", "s3://fraud-runs/missing.csv")
