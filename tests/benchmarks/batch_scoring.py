"""Batch prediction as a process beside the bare model on the same rows: rows a second, and peak memory.

    ./fraud bench batch_scoring [--rows 1000000,10000000] [--csv-rows 1000000] [--table-rows 200000] [--write]

Transactions are drawn by NumPy, a model of 300 trees of depth 6 is registered in MLflow, and
`python -m fraud_batch score` runs from start to end: reading, the contract's checks, features, scores, parts
in the object store, the output file, the report. The bare model is XGBoost on the same rows,
whose features are ready in memory, in chunks as large and in as many threads. Exits with 1 if the largest
Parquet run reaches less than 60 % of the bare model's rows a second, or its memory grows with its rows.
`--write` puts the table into docs/results/batch_scoring.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost
from pyarrow import csv

from config import constants
from config.batch import BatchPrediction
from config.settings import ObjectStoreSettings
from fraud_adapters.objectstore import ObjectStore
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.scored_transactions import store_transactions
from fraud_core.features import feature_matrix
from fraud_embedded.processes.process import Running
from fraud_embedded.servers import mlflow, objectstore, postgres
from tests.benchmarks import machine
from tests.benchmarks.servers import grow_model
from tests.integration.batch_installation import register_version
from tests.support.api_server import record_version
from tests.support.mlflow_users import mlflow_login
from tests.support.server_fixtures import bucket_settings
from tests.support.servers import Database, configured_stack, migrated_template, random_passwords
from tests.support.stored_rows import CREDITCARD, START, batch

BLOCK: Final = 250_000  # distinct rows; larger files repeat them under other ids
AIM: Final = 0.6
MOST_GROWTH: Final = 1.3  # of the peak memory, from the smallest to the largest file
PARAMETERS: Final = BatchPrediction()


@dataclass(frozen=True)
class Measured:
    """A run of the job, and the bare model on its rows."""

    what: str
    rows: int
    seconds: float  # of the whole process
    scoring: float  # rows a second, as the job reports them
    bare: float  # rows a second
    peak_mib: float

    @property
    def rate(self) -> float:
        return self.rows / self.seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="1000000,10000000", help="of Parquet files")
    parser.add_argument("--csv-rows", type=int, default=1_000_000)
    parser.add_argument("--table-rows", type=int, default=200_000)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    load = machine.load()
    with installation() as (folder, database, model):
        sizes = [int(rows) for rows in options.rows.split(",")]
        parquet = [measure_file(folder, model, rows, ".parquet") for rows in sizes]
        others = [measure_file(folder, model, options.csv_rows, ".csv")] if options.csv_rows else []
        if options.table_rows:
            others.append(measure_table(folder, model, database, options.table_rows))
        origin = machine.origin(database.url("owner"))
    text = described([*parquet, *others], load)
    print(text)
    if options.write:
        head = f"# Batch prediction beside the bare model\n\n    {machine.command()}\n\n{origin}\n\n"
        (machine.RESULTS / "batch_scoring.md").write_text(f"{head}{text}\n", encoding="utf-8")
    if problem := shortfall(parquet):
        sys.exit(problem)


def shortfall(parquet: list[Measured]) -> str | None:
    """What was not reached by the Parquet files, the smallest one first; None if everything was."""
    small, large = parquet[0], parquet[-1]
    if large.rate < AIM * large.bare:
        return (
            f"{large.what}: {large.rate / large.bare:.0%} of the bare model's rows a second, aim {AIM:.0%}."
        )
    if large.peak_mib > MOST_GROWTH * small.peak_mib:
        return (
            f"Memory grows: {small.peak_mib:.0f} MiB at {small.rows:,} rows, {large.peak_mib:.0f} MiB later."
        )
    return None


@contextmanager
def installation() -> Iterator[tuple[Path, Database, Path]]:
    """A folder, a database, and the directory of the registered model; the environment is the job's."""
    with (
        configured_stack(durable=False) as stack,
        ExitStack() as until_the_end,
        tempfile.TemporaryDirectory() as place,
        pytest.MonkeyPatch.context() as patch,
    ):
        folder = Path(place)
        objectstore.prepare(stack.objectstore)
        postgres.prepare(stack.postgres)
        _start(objectstore.spec(stack.objectstore), until_the_end)
        _start(postgres.spec(stack.postgres), until_the_end)
        database = migrated_template(stack.postgres, random_passwords(stack))
        administrator = ObjectStoreSettings.model_validate(
            {
                "s3_endpoint_url": stack.objectstore.endpoint_url,
                "aws_access_key_id": stack.objectstore.access_key,
                "aws_secret_access_key": stack.objectstore.secret_key,
            }
        )
        for bucket in (constants.BUCKET_RUNS, constants.BUCKET_MLFLOW):
            ObjectStore(administrator, bucket).ensure_bucket()
        mlflow.prepare(stack.mlflow)
        _start(mlflow.spec(stack.mlflow), until_the_end)
        store = bucket_settings(stack.objectstore, constants.BUCKET_RUNS)
        environment = {
            "APP_ENV": "testing",
            "DATABASE_URL": database.url("batch"),
            "MLFLOW_TRACKING_URI": stack.mlflow.tracking_uri,
            "S3_ENDPOINT_URL": store.endpoint_url,
            "AWS_ACCESS_KEY_ID": store.aws_access_key_id,
            "AWS_SECRET_ACCESS_KEY": store.aws_secret_access_key.get_secret_value(),
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
            **stack.mlflow.users,
            **mlflow_login("batch", stack.mlflow.users),
        }
        for name, value in environment.items():
            patch.setenv(name, value)
        manifest = grow_model(folder / "models", CREDITCARD)
        directory = next(path for path in (folder / "models").iterdir() if path.is_dir())
        version = register_version(CREDITCARD.registered_model, stack.mlflow.tracking_uri, directory)
        record_version(database.url("owner"), CREDITCARD, version, manifest.digest())
        yield folder, database, directory


def _start(spec: Any, until_the_end: ExitStack) -> None:
    server = Running(spec, spec.cwd.parent / f"{spec.name}.log")
    until_the_end.callback(server.stop, 5)
    server.wait_ready(120)


def measure_file(folder: Path, model: Path, rows: int, suffix: str) -> Measured:
    """Score a file of the format into one of the same format."""
    source, target = folder / f"rows{suffix}", folder / f"scores{suffix}"
    write_rows(source, rows)
    try:
        done = run_job(f"--input={source}", f"--output={target}")
        assert done.result["scored"] == rows
    finally:
        source.unlink()
        target.unlink(missing_ok=True)
    return measured(f"{suffix[1:]} → {suffix[1:]}", model, done)


def measure_table(folder: Path, model: Path, database: Database, rows: int) -> Measured:
    """Score stored transactions into the table of predictions."""
    del folder
    with closing(connect(database.url("producer"), "benchmark")) as connection:
        for start in range(0, rows, 5000):
            part = batch(min(5000, rows - start), start + 1, f"stored{start}")
            with connection, connection.cursor() as cursor:
                store_transactions(cursor, CREDITCARD, part, "benchmark")
    done = run_job(f"--from={START.isoformat()}")
    assert done.result["scored"] == rows
    return measured("table → table", model, done)


@dataclass(frozen=True)
class Done:
    result: dict[str, Any]
    seconds: float
    peak_mib: float


def run_job(*options: str) -> Done:
    """Run the job as a process of its own; its result, its duration and its peak memory."""
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "fraud_batch", "score", *options], stdout=stdout, stderr=stderr
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        stdout.seek(0)
        stderr.seek(0)
        if process.returncode:
            raise RuntimeError(stderr.read().decode()[-2000:])
        result = json.loads(stdout.read())
    return Done(result, seconds, usage.ru_maxrss / 1024)


def measured(what: str, model: Path, done: Done) -> Measured:
    rows = int(done.result["rows"])
    bare = bare_rate(model, rows)
    return Measured(what, rows, done.seconds, float(done.result["rows_per_second"]), bare, done.peak_mib)


def bare_rate(model: Path, rows: int) -> float:
    """Rows a second of `inplace_predict` alone, on as many rows of the same values."""
    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(model / "model.ubj")
    features = feature_matrix(CREDITCARD, batch(BLOCK, 1))
    size = PARAMETERS.chunk_rows
    chunks = [features[start : start + size] for start in range(0, len(features), size)]
    needed = -(-rows // len(features))

    def predict(chunk: Any) -> int:
        margins = booster.inplace_predict(chunk, predict_type="margin", validate_features=False)
        return len(margins)

    with ThreadPoolExecutor(PARAMETERS.threads) as executor:
        begun = time.perf_counter()
        predicted = sum(executor.map(predict, chunks * needed))
        return predicted / (time.perf_counter() - begun)


def write_rows(path: Path, rows: int) -> None:
    """Transactions in a file; only their ids differ from one block to the next."""
    values = batch(BLOCK, 1).columns
    columns = {name: pa.array(column) for name, column in values.items()}
    schema = pa.schema([("transaction_id", pa.string()), *((name, pa.float64()) for name in columns)])
    writer: Any = csv.CSVWriter(str(path), schema) if path.suffix == ".csv" else None
    writer = writer or pq.ParquetWriter(path, schema, use_dictionary=False)
    with closing(writer):
        for start in range(0, rows, BLOCK):
            ids = pa.array(np.char.add("t", np.arange(start, start + BLOCK).astype(str)))
            table = pa.table({"transaction_id": ids, **columns}, schema=schema)
            writer.write_table(table.slice(0, min(BLOCK, rows - start)))


def described(runs: list[Measured], load: float) -> str:
    """The table, with what its columns mean."""
    head = [
        "run",
        "rows",
        "rows a second",
        "of the bare model",
        "while scoring",
        "of the bare model",
        "peak MiB",
    ]
    lines = [
        [
            one.what,
            f"{one.rows:,}",
            f"{one.rate:,.0f}",
            f"{one.rate / one.bare:.0%}",
            f"{one.scoring:,.0f}",
            f"{one.scoring / one.bare:.0%}",
            f"{one.peak_mib:.0f}",
        ]
        for one in runs
    ]
    bare = ", ".join(f"{one.bare:,.0f}" for one in runs)
    return (
        f"Load average before: {load:.1f}. {PARAMETERS.threads} threads, chunks of "
        f"{PARAMETERS.chunk_rows:,} rows. The bare model, run by run: {bare} rows a "
        f"second.\n\n{machine.table(head, lines)}\n\n"
        "The first rate is that of the whole process, from its start to its report; the second one is that "
        "of the chunks: read, checked, scored and stored."
    )


if __name__ == "__main__":
    main()
