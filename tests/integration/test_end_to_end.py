"""A file's rows through the whole path: producer, topic, consumer, API, Postgres; every value compared."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from contextlib import closing
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from config.parameters import read_yaml
from config.settings import KafkaSettings, ObjectStoreSettings
from fraud_adapters.kafka import Record
from fraud_adapters.models.loading import Model
from fraud_adapters.models.registry import Registry
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.labels import store_labels
from fraud_adapters.postgres.scored_transactions import store_transactions
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.decision import decide
from fraud_core.features import feature_matrix
from fraud_core.labels import LabelEvent
from fraud_core.quantise import quantise
from tests.integration.training_installation import wire_rows
from tests.support import forked
from tests.support.api_server import ApiServer, ForkedApi, cloned, scoring_server
from tests.support.mlflow_users import mlflow_login
from tests.support.stored_rows import CREDITCARD, START, Database
from tests.support.streaming_installation import ROOT, StreamInstallation, read_all

SAMPLE = 3000
ALL_ROWS = "FRAUD_TEST_ALL_ROWS"  # set it to replay the whole file: some 36 thousand rows
ULB = ROOT.parent / "shared" / "data" / "ulb.parquet"


def job(module: str, environment: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    """Run a job as a process of its own; its result."""
    done = forked.run(module, *arguments, env=environment, timeout=170)
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def identifiers(records: list[Record]) -> list[str]:
    """The ids on the topic, in the file's order."""
    return [json.loads(record.value)["transaction_id"] for record in records]


def to_scale(value: float, scale: int) -> Decimal:
    """As Postgres rounds a number sent as text: half away from zero."""
    return Decimal(repr(value)).quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP)


def ulb_rows(path: Path) -> pa.Table:
    """A sample with every fraud, in the file's order; all rows where the environment asks for them."""
    rows = pq.read_table(ULB)
    if not os.environ.get(ALL_ROWS):
        labels = rows.column("Class").to_numpy()
        legitimate = np.flatnonzero(labels == 0)
        chosen = np.random.default_rng(3).choice(legitimate, SAMPLE - int(labels.sum()), replace=False)
        rows = rows.take(np.sort(np.concatenate([chosen, np.flatnonzero(labels == 1)])))
    pq.write_table(rows, path)
    return rows


@pytest.mark.skipif(not ULB.is_file(), reason="the real rows (../shared/data/ulb.parquet) are not here")
def test_real_rows_are_stored_and_scored_exactly(
    database: Database, topics: KafkaSettings, template: Any, postgres_admin_url: str, tmp_path: Path
) -> None:
    rows = ulb_rows(tmp_path / "ulb.parquet")
    with (
        cloned(template, postgres_admin_url, f"e2e_{uuid.uuid4().hex[:8]}") as own,
        scoring_server(own, tmp_path) as server,
    ):
        installation = StreamInstallation(database, topics, server.url)
        file = str(tmp_path / "ulb.parquet")
        job(
            "fraud_producer",
            installation.environment(),
            "replay",
            "--file",
            file,
            "--speed",
            "0",
            "--with-class",
        )
        result = installation.consume(chunk_records=1000, seconds=120)
        model = Model.load(*only_version(server, own))
    assert (result["stored"], result["dead_lettered"], result["lag"]) == (rows.num_rows, {}, 0)
    ids = identifiers(read_all(topics, topics.topic))
    fields = CREDITCARD.inputs
    names = ", ".join(field.name for field in fields)
    stored = {
        row[0]: row[1:]
        for row in installation.rows(f"SELECT transaction_id, class, {names} FROM transactions")
    }
    lower = {name.lower(): rows.column(name).to_pylist() for name in rows.column_names}
    for position, identifier in enumerate(ids):
        expected = (
            lower["class"][position],
            *(to_scale(lower[field.name][position], field.scale) for field in fields),
        )
        assert stored[identifier] == expected, f"row {position}"
    compare_scores(installation, ids, model, lower)


def only_version(server: ApiServer, database: Database) -> tuple[Path, str, Contract]:
    """What `Model.load` takes: the files the API served, and the digest on record."""
    directory = next((server.cache / CREDITCARD.registered_model).glob("7-*"))
    with closing(connect(database.url("owner"), "test")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT digest FROM model_versions")
        return directory, cursor.fetchall()[0][0], CREDITCARD


def compare_scores(
    installation: StreamInstallation, ids: list[str], model: Model, columns: Mapping[str, list[float]]
) -> None:
    """Scores are bit-equal to a direct call of the recorded engine on the file's quantised values."""
    batch = Batch(
        ids,
        [START] * len(ids),
        {field.name: quantise(np.array(columns[field.name]), field.scale) for field in CREDITCARD.inputs},
    )
    features = feature_matrix(CREDITCARD, batch)
    predictions = model.score_batch(features)
    stored = {
        row[0]: row[1:]
        for row in installation.rows(
            "SELECT transaction_id, score, engine, feature_vector, decision, is_fraud_predicted,"
            " fraud_score FROM predictions WHERE deciding"
        )
    }
    assert {row[1] for row in stored.values()} == {predictions.engine}
    scores = np.array([stored[identifier][0] for identifier in ids])
    np.testing.assert_array_equal(scores, predictions.values)
    vectors = np.array([stored[identifier][2] for identifier in ids], dtype=np.float32)
    np.testing.assert_array_equal(vectors, features)
    manifest = model.manifest
    decisions = decide(scores, manifest.threshold, manifest.block_threshold)
    assert [stored[identifier][3] for identifier in ids] == [str(decision) for decision in decisions]
    assert [stored[identifier][4] for identifier in ids] == (scores >= manifest.threshold).tolist()
    assert [stored[identifier][5] for identifier in ids] == [to_scale(float(one), 4) for one in scores]


def as_file(batch: Batch, path: Path) -> None:
    columns = {
        name: pa.array(values, from_pandas=True).cast(pa.bool_() if name == "urgent" else pa.float64())
        if values.dtype != object
        else pa.array(values, pa.string())
        for name, values in batch.columns.items()
    }
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def wire_environment(
    database: Database, mlflow_uri: str, object_store: ObjectStoreSettings, tmp_path: Path
) -> dict[str, str]:
    """An installation with the contract `wire`, under a name of the test's own in MLflow, and a mild gate."""
    content = {**read_yaml(ROOT / "tests" / "contracts" / "wire.yaml"), "name": f"w{uuid.uuid4().hex[:10]}"}
    (tmp_path / f"{content['name']}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    settings = read_yaml(ROOT / "config" / "config.yaml")
    settings["training"] |= {
        "rounds": 20,
        "candidates": ["xgboost"],
        "label_gap": "PT1M",
    }
    settings["gates"]["specification"] = {"min_recall": 0.5, "min_frauds": 50}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return {
        "FRAUD_CONTRACT": content["name"],
        "FRAUD_CONTRACTS_DIR": str(tmp_path),
        "FRAUD_CONFIG_DIR": str(tmp_path),
        "MLFLOW_TRACKING_URI": mlflow_uri,
        "S3_ENDPOINT_URL": object_store.endpoint_url,
        "AWS_ACCESS_KEY_ID": object_store.aws_access_key_id,
        "AWS_SECRET_ACCESS_KEY": object_store.aws_secret_access_key.get_secret_value(),
    }


def test_a_contract_of_ones_own_goes_the_whole_path(
    database: Database, topics: KafkaSettings, wire_environment: dict[str, str], tmp_path: Path
) -> None:
    """Train on history, register, serve from MLflow by alias, replay, consume, label."""
    contract = Contract.from_mapping(read_yaml(tmp_path / f"{wire_environment['FRAUD_CONTRACT']}.yaml"))
    installation = StreamInstallation(database, topics, "http://127.0.0.1:9", contract, wire_environment)
    history, labels = wire_rows(3000, prefix="history-")
    remember(installation, history, labels)
    of_the_trainer = {"DATABASE_URL": database.url("trainer"), **mlflow_login("trainer")}
    trained = job("fraud_trainer", installation.environment() | of_the_trainer, "run")["register"]
    assert trained["aliases"] == {"champion": trained["version"]}
    server = ForkedApi(
        database.url("api"), tmp_path / "models", tmp_path / "api.log", contract.name, wire_environment
    )
    try:
        server.start()
        installation.api_url = server.url
        sent, truth = wire_rows(300, seed=6, prefix="live-", break_in_payer=" é")
        as_file(sent, tmp_path / "live.parquet")
        file = ("--file", str(tmp_path / "live.parquet"))
        job("fraud_producer", installation.environment(), "replay", *file, "--speed", "0", "--no-labels")
        result = job("fraud_streaming", installation.environment(), "run")
    finally:
        server.stop()
    assert (result["stored"], result["dead_lettered"]) == (300, {})
    ids = identifiers(read_all(topics, topics.topic))
    check_stored(installation, ids, sent)
    with Registry(wire_environment["MLFLOW_TRACKING_URI"]) as registry:
        files = registry.download(contract.registered_model, trained["version"], tmp_path / "model")
    model = Model.load(files, trained["digest"], contract)
    expected = model.score_batch(feature_matrix(contract, sent)).values
    scores = dict(installation.rows("SELECT transaction_id, score FROM predictions"))
    np.testing.assert_array_equal([scores[identifier] for identifier in ids], expected)
    assert np.mean((expected >= model.manifest.threshold) == truth) > 0.9


def remember(installation: StreamInstallation, rows: Batch, labels: np.ndarray) -> None:
    """History with the truth about every row."""
    events = [
        LabelEvent(str(uuid.uuid4()), identifier, int(label), "simulator", moment)
        for identifier, moment, label in zip(rows.ids, rows.event_times, labels, strict=True)
    ]
    with closing(connect(installation.database.url("producer"), "test")) as connection:
        with connection, connection.cursor() as cursor:
            store_transactions(cursor, installation.contract, rows, "history")
        with connection, connection.cursor() as cursor:
            store_labels(cursor, events)


def check_stored(installation: StreamInstallation, ids: list[str], sent: Batch) -> None:
    stored = {
        row[0]: row[1:]
        for row in installation.rows(
            "SELECT transaction_id, contract, amount, card_id, merchant_id, attributes"
            " FROM transactions WHERE source = 'stream'"
        )
    }
    assert stored.keys() == set(ids)
    for position, identifier in enumerate(ids):
        schema, amount, card, merchant, attributes = stored[identifier]
        row = {name: values[position] for name, values in sent.columns.items()}
        expected = {**attributes, "amount": amount}
        assert (schema, card, merchant) == (installation.contract.schema_id, row["payer"], row["payee"])
        assert expected["sent_amount"] == row["sent_amount"]
        assert (expected["hour"], expected["channel"]) == (row["hour"], row["channel"])
        assert expected["urgent"] is bool(row["urgent"])
        assert expected.get("fee") == (None if np.isnan(row["fee"]) else row["fee"])
