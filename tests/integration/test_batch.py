"""Batch prediction against real servers: files, intervals, bad rows, wrong options."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg2
import pytest

from config.constants import BUCKET_RUNS
from config.settings import ConfigurationError, ObjectStoreSettings
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.objectstore import ObjectStore
from tests.integration.batch_installation import (
    BatchInstallation,
    batch_installation,
    columns_of,
    register_version,
    score,
    transactions,
    write_csv,
    write_parquet,
)
from tests.support.api_server import record_version
from tests.support.small_model import make_model
from tests.support.stored_rows import START, Database, run

N = 1000
FROM = f"--from={START.isoformat()}"


@pytest.fixture
def installation(
    database: Database, mlflow_uri: str, object_store: ObjectStoreSettings, tmp_path: Path
) -> Iterator[BatchInstallation]:
    with batch_installation(database, mlflow_uri, object_store, tmp_path) as ready:
        yield ready


@pytest.fixture
def bucket(object_store: ObjectStoreSettings) -> ObjectStore:
    return ObjectStore(object_store, BUCKET_RUNS)


def test_the_good_rows_of_a_file_are_scored_and_the_bad_ones_listed(
    installation: BatchInstallation, bucket: ObjectStore, tmp_path: Path
) -> None:
    """Every hundredth row is bad, each in another way; formats give the same scores."""
    rows = transactions(N)
    columns = {name: list(values) for name, values in columns_of(rows).items()}
    wrong = [
        ("amount", "1,5", "wrong_type"),
        ("v1", "nan", "not_finite"),
        ("v2", "", "missing_field"),
        ("transaction_id", "=cmd|' /C calc'!A1", "bad_id"),
        ("time", "1e9", "out_of_range"),
        ("v28", "12345", "out_of_range"),
    ]
    bad = {50 + 100 * number: wrong[number % len(wrong)] for number in range(10)}
    for row, (name, cell, _) in bad.items():
        columns[name][row] = cell
    source = write_csv(tmp_path / "rows.csv", columns)
    with source.open("a", encoding="utf-8") as file:
        file.write("only,three,values\n\n")
    result = score(f"--input={source}", f"--output={tmp_path / 'scores.csv'}", "--requested-by=an auditor")
    assert (result["rows"], result["scored"], result["refused"]) == (N + 1, N - 10, 11)
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as file:
        scores = list(csv.DictReader(file))
    good = [row for row in range(N) if row not in bad]
    assert [int(row["line"]) for row in scores] == [row + 2 for row in good]
    assert [row["transaction_id"] for row in scores] == [rows.ids[row] for row in good]
    np.testing.assert_array_equal(
        [float(row["score"]) for row in scores], installation.expected(rows.take(good))
    )
    with (tmp_path / "scores.rejects.csv").open(newline="", encoding="utf-8") as file:
        rejects = list(csv.DictReader(file))
    assert [(int(row["line"]), row["reason"]) for row in rejects] == [
        *((row + 2, reason) for row, (_, _, reason) in sorted(bad.items())),
        (N + 2, "wrong_type"),
    ]
    assert {row["transaction_id"] for row in rejects if row["reason"] == "bad_id"} == {"'" + wrong[3][1]}
    assert "amount: is not a number" in rejects[0]["detail"]
    assert sum(result["decisions"].values()) == result["scored"]
    report = json.loads(bucket.get_bytes(f"{result['prefix']}/report.json"))
    assert (report["requested_by"], report["model"]["version"]) == ("an auditor", installation.version)
    assert sum(report["counts"]["histogram"]) == result["scored"]
    page = bucket.get_bytes(f"{result['prefix']}/report.html").decode()
    assert "990 of 1,001 transactions were scored by version" in page


def test_formats_and_places_give_the_same_scores(
    installation: BatchInstallation, bucket: ObjectStore, tmp_path: Path
) -> None:
    rows = transactions(N)
    files = {".csv": write_csv(tmp_path / "rows.csv", columns_of(rows))}
    files[".parquet"] = write_parquet(tmp_path / "rows.parquet", columns_of(rows))
    expected = installation.expected(rows)
    for suffix, path in files.items():
        bucket.put_file(f"datasets/rows{suffix}", path)
        for source in (str(path), f"s3://{BUCKET_RUNS}/datasets/rows{suffix}"):
            output = f"s3://{BUCKET_RUNS}/scores/scores.parquet"
            result = score(f"--input={source}", f"--output={output}")
            bucket.get_file("scores/scores.parquet", tmp_path / "back.parquet")
            frame = pd.read_parquet(tmp_path / "back.parquet")
            assert (result["scored"], result["refused"], result["rejects"]) == (N, 0, None)
            assert frame["transaction_id"].tolist() == rows.ids
            np.testing.assert_array_equal(frame["score"], expected)


def test_ids_that_a_file_lacks_are_derived_from_it(installation: BatchInstallation, tmp_path: Path) -> None:
    columns = {
        name: values for name, values in columns_of(transactions(5)).items() if name != "transaction_id"
    }
    source = write_parquet(tmp_path / "rows.parquet", columns)
    frames = []
    for _ in range(2):
        score(f"--input={source}", f"--output={tmp_path / 'scores.parquet'}")
        frames.append(pd.read_parquet(tmp_path / "scores.parquet"))
    assert frames[0]["transaction_id"].is_unique
    assert frames[0].equals(frames[1])


def test_an_interval_is_scored_to_the_table_and_decides_nothing(installation: BatchInstallation) -> None:
    rows = transactions(N)
    installation.store(rows)
    later = START + timedelta(seconds=700)
    options = (FROM, f"--to={later.isoformat()}", "--run-id=audit")
    result = score(*options)
    stored = installation.rows(
        "SELECT transaction_id, score, role, deciding, run_id, model_version, engine,"
        " cardinality(feature_vector)"
        " FROM predictions ORDER BY prediction_id"
    )
    assert [row[0] for row in stored] == rows.ids[:700]
    np.testing.assert_array_equal([row[1] for row in stored], installation.expected(rows.take(range(700))))
    assert {row[2:] for row in stored} == {
        ("batch", False, "audit", installation.version, result["engine"], 30)
    }
    assert (result["rows"], result["scored"], result["output"]) == (700, 700, "table")
    assert installation.rows("SELECT count(*) FROM alert_outbox") == [(0,)]
    assert score(*options) == result, "a finished run is left as it is"
    again = score(FROM, f"--to={later.isoformat()}", "--run-id=again", "--engine=onnx")
    assert (again["input_digest"], again["engine"]) == (
        result["input_digest"],
        installation.model.engine_single,
    )
    [(far,)] = installation.rows(
        "SELECT max(abs(a.score - b.score)) FROM predictions a JOIN predictions b USING (transaction_id)"
        " WHERE a.run_id = 'audit' AND b.run_id = 'again'"
    )
    assert 0 <= far < 1e-6, "between the engines"


def test_the_service_itself_can_store_no_prediction_that_decides(installation: BatchInstallation) -> None:
    installation.store(transactions(1))
    statement = (
        "INSERT INTO predictions (transaction_id, fraud_score, is_fraud_predicted, model_version, score,"
        " decision, deciding, feature_vector, engine)"
        " VALUES ('tx-0', 0, false, '1', 0, 'approve', true, '{}', 'x')"
    )
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        run(installation.database.url("batch"), statement)


def test_a_version_that_failed_its_gate_can_be_examined(
    installation: BatchInstallation, tmp_path: Path
) -> None:
    contract = installation.installation.contract
    manifest = make_model(tmp_path / "other", contract, seed=2)
    version = register_version(
        contract.registered_model, installation.installation.mlflow_uri, tmp_path / "other"
    )
    record_version(installation.database.url("owner"), contract, version, manifest.digest(), passed=False)
    source = write_parquet(tmp_path / "rows.parquet", columns_of(transactions(10)))
    result = score(f"--input={source}", f"--output={tmp_path / 'scores.parquet'}", f"--model={version}")
    assert result["model_version"] == version != installation.version


SENTENCES: list[tuple[tuple[str, ...], str]] = [
    ((), "--input: name a file, or with --from and --to an interval"),
    ((FROM, "--input=rows.csv", "--output=x.csv"), "a run scores a file, or with --from and --to stored"),
    ((FROM, "--model=99"), "has no registered version 99; champion is version 1"),
    ((FROM, "--model=best"), "has no alias best; champion is version 1"),
    ((FROM, "--model=not a name"), "--model: must be a version such as 7, or an alias"),
    (("--input=rows.csv",), "--output: the table holds predictions about stored transactions"),
    (("--input=gone.csv", "--output=x.csv"), "--input: there is no file gone.csv"),
    (("--input=s3://other/rows.csv", "--output=x.csv"), "only the bucket fraud-runs"),
    (("--input=s3://fraud-runs/no.csv", "--output=x.csv"), "--input: there is no s3://fraud-runs/no.csv"),
    (("--input=rows.csv", "--output=s3://fraud-runs/runs/x.csv"), "belongs to runs"),
    (("--input=rows.csv", "--output=folder/x.csv"), "must be a file in a folder that exists"),
    (("--input=rows.csv", "--output=x.txt"), "--output: must be table, or a file that ends in"),
    (("--input=empty.csv", "--output=x.csv"), "empty.csv: is empty"),
    (("--input=header.csv", "--output=x.csv"), "header.csv: holds no transactions"),
    (("--input=missing.csv", "--output=x.csv"), "missing.csv: there is no column v7"),
    (("--input=bad.csv", "--output=x.csv"), "None of the 1 rows is a valid transaction"),
    (("--input=bad.parquet", "--output=x.csv"), "bad.parquet: cannot be read"),
    ((f"--from={(START + timedelta(days=900)).isoformat()}",), "There is no stored transaction of"),
]


def test_what_cannot_be_scored_is_said_in_one_sentence(
    installation: BatchInstallation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    columns = columns_of(transactions(3))
    installation.store(transactions(3))
    write_csv(tmp_path / "rows.csv", columns)
    (tmp_path / "empty.csv").touch()
    write_csv(tmp_path / "header.csv", {name: [] for name in columns})
    write_csv(tmp_path / "missing.csv", {name: column for name, column in columns.items() if name != "v7"})
    write_csv(tmp_path / "bad.csv", {name: ["x"] for name in columns})
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    for options, sentence in SENTENCES:
        with pytest.raises((JobFailed, ConfigurationError)) as raised:
            score(*options)
        assert sentence in str(raised.value), options
        assert "\n" not in str(raised.value)
    score("--input=rows.csv", "--output=x.csv", "--run-id=one")
    with pytest.raises(ConfigurationError, match="was begun with another output"):
        score("--input=rows.csv", "--output=y.csv", "--run-id=one")
