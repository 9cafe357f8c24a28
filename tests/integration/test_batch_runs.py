"""Runs of batch prediction as processes: the same scores as the stream, and kills without loss or doubles."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from config.constants import BUCKET_RUNS, DAG_BATCH
from config.settings import KafkaSettings, ObjectStoreSettings, load
from fraud_adapters.objectstore import ObjectStore
from tests.integration.batch_installation import (
    BatchInstallation,
    batch_installation,
    columns_of,
    score,
    transactions,
    write_parquet,
)
from tests.support.api_server import scoring_server
from tests.support.stored_rows import Database
from tests.support.streaming_installation import StreamInstallation, creditcard_records

KILLS = 20
FROM = "--from=2020-01-01T00:00:00Z"


@pytest.fixture
def installation(
    database: Database, mlflow_uri: str, object_store: ObjectStoreSettings, tmp_path: Path
) -> Iterator[BatchInstallation]:
    with batch_installation(database, mlflow_uri, object_store, tmp_path) as ready:
        yield ready


def test_stream_and_batch_give_the_same_scores(
    installation: BatchInstallation, topics: KafkaSettings, tmp_path: Path
) -> None:
    """The consumer scores through the API and stores; the batch reads what is stored."""
    contract, database = installation.installation.contract, installation.database
    extra = {"FRAUD_CONTRACTS_DIR": os.environ["FRAUD_CONTRACTS_DIR"]}
    with scoring_server(database, tmp_path / "api", contract, extra=extra) as server:
        stream = StreamInstallation(database, topics, server.url, contract, extra)
        stream.send(creditcard_records([f"s-{number}" for number in range(500)]))
        assert stream.consume()["stored"] == 500
    assert score(FROM, "--run-id=compared")["scored"] == 500
    pairs = installation.rows(
        "SELECT a.engine = b.engine, a.score = b.score, a.feature_vector = b.feature_vector,"
        " a.decision = b.decision"
        " FROM predictions a JOIN predictions b USING (transaction_id)"
        " WHERE a.deciding AND b.role = 'batch' AND b.run_id = 'compared'"
    )
    assert pairs == [(True, True, True, True)] * 500


class Job:
    """`python -m fraud_batch score`, in a process group of its own."""

    def __init__(self, *options: str, log: Path) -> None:
        path = os.pathsep.join(entry for entry in sys.path if entry)
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fraud_batch", "score", *options],
                env={**os.environ, "PYTHONPATH": path},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def killed_after(self, seconds: float) -> bool:
        """Kill it then; False if it had ended by itself."""
        with suppress(subprocess.TimeoutExpired):
            assert self._process.wait(seconds) == 0
            return False
        self._process.kill()
        self._process.wait()
        return True

    def stop(self, number: signal.Signals) -> int:
        self._process.send_signal(number)
        return self._process.wait(30)


@pytest.mark.proof
@pytest.mark.timeout(900)
@pytest.mark.parametrize("output", ["table", "file"])
def test_killed_twenty_times_every_row_is_there_once(
    installation: BatchInstallation, tmp_path: Path, output: str
) -> None:
    """Runs are killed at random moments from their start on, and started again until they end."""
    rows = transactions(30_000)
    expected = dict(zip(rows.ids, installation.expected(rows).tolist(), strict=True))
    installation.store(rows)
    source = write_parquet(tmp_path / "rows.parquet", columns_of(rows))
    moments = random.Random(1)
    started = time.monotonic()
    assert not Job(
        f"--input={source}", f"--output={tmp_path / 'whole.parquet'}", log=tmp_path / "whole"
    ).killed_after(300)
    whole = time.monotonic() - started
    kills = ended = 0
    while kills < KILLS or not ended:
        run = f"killed-{output}-{ended}"
        target = tmp_path / f"{run}.parquet"
        options = (FROM,) if output == "table" else (f"--input={source}", f"--output={target}")
        job = Job(*options, f"--run-id={run}", log=tmp_path / "log")
        if kills < KILLS and job.killed_after(moments.uniform(0.2, 1.0) * whole):
            kills += 1
            continue
        assert not job.killed_after(300)
        found = in_table(installation, run) if output == "table" else in_file(target)
        assert len(found) == len(rows)
        assert dict(found) == expected
        assert not list(tmp_path.glob(".*.partial"))
        ended += 1
    resumed = (tmp_path / "log").read_text().count('"event":"resumed"')
    print(f"{kills} kills, {resumed} resumed behind finished parts, {ended} runs ended")
    assert resumed >= KILLS // 3


def in_table(installation: BatchInstallation, run: str) -> list[tuple[str, float]]:
    statement = "SELECT transaction_id, score FROM predictions WHERE run_id = %s"
    return [(identifier, score) for identifier, score in installation.rows(statement, run)]


def in_file(path: Path) -> list[tuple[str, float]]:
    frame = pd.read_parquet(path)
    return list(zip(frame["transaction_id"], frame["score"], strict=True))


def test_a_stopped_run_says_so_and_goes_on(installation: BatchInstallation, tmp_path: Path) -> None:
    rows = transactions(20_000)
    source = write_parquet(tmp_path / "rows.parquet", columns_of(rows))
    options = (f"--input={source}", f"--output={tmp_path / 'scores.parquet'}", "--run-id=stopped")
    log = tmp_path / "log"
    job = Job(*options, log=log)
    deadline = time.monotonic() + 60
    while not parts("stopped") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert job.stop(signal.SIGTERM) == 128 + signal.SIGTERM, log.read_text()
    assert "interrupted: Interrupted by SIGTERM" in log.read_text()
    assert not list(tmp_path.glob("*scores.parquet*")), "neither the file nor what was written of it"
    result = score(*options)
    frame = pd.read_parquet(tmp_path / "scores.parquet")
    assert frame["transaction_id"].tolist() == rows.ids
    np.testing.assert_array_equal(frame["score"], installation.expected(rows))
    assert (result["rows"], result["status"]) == (len(rows), "done")


def parts(run_id: str) -> list[str]:
    store = ObjectStore(load(ObjectStoreSettings), BUCKET_RUNS)
    return [key for key in store.list(f"runs/{DAG_BATCH}/{run_id}/parts/") if key.endswith(".json")]
