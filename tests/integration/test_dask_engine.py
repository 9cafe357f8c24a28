"""The trainer on two worker processes of Dask: rows equal to one process's, a model as good, a worker killed.

The run's files lie in a directory: neither an object store nor a database is needed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
import pyarrow as pa
import pytest
from distributed import LocalCluster

from config.parameters import Training, load_parameters
from config.settings import CONFIG_DIR
from fraud_adapters.postgres import examples
from fraud_core.bootstrap import interval
from fraud_core.ranking import average_precision
from fraud_producer.population import population
from fraud_producer.simulator import Simulator
from fraud_trainer.engines import boosting
from fraud_trainer.engines.dask_engine import DaskEngine
from fraud_trainer.engines.engine import Engine, LocalEngine
from fraud_trainer.engines.feature_table import FeatureTable
from fraud_trainer.engines.tables import part_name, store_examples
from fraud_trainer.engines.tasks import FeaturesTask, features_part
from fraud_trainer.train.modelling import fit_model
from fraud_trainer.train.splitting import split_in_time
from tests.support.directory_runs import DirectoryAccess, DirectoryContext
from tests.support.stored_rows import CREDITCARD, START

pytestmark = pytest.mark.timeout(500)
ROWS: Final = 8000
PARTS: Final = 4


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as running:
        yield running


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    moments = [START + timedelta(minutes=minute) for minute in range(ROWS)]
    made = Simulator(CREDITCARD, population(11, 0.1, 0.3), timedelta(days=7)).at("history", moments)
    labels = made.labels.astype(np.int8)
    return examples.from_batch(CREDITCARD, made.batch, labels, "simulator", ["simulator"] * ROWS)


@pytest.fixture
def engine(cluster: LocalCluster) -> DaskEngine:
    """The engine, whose workers find the run's files in the directory."""

    def access(context: Any) -> DirectoryAccess:
        return DirectoryAccess(context.folder, context.run_id)

    return DaskEngine(cluster.scheduler_address, access)


def features(folder: Path, name: str, engine: Engine, rows: pa.Table, count: int) -> FeatureTable:
    context: Any = DirectoryContext(folder, name, CREDITCARD, engine)
    bounds = [ROWS * number // count for number in range(count + 1)]
    stored = [
        store_examples(
            context, part_name("examples.parquet", number, count), rows.slice(low, high - low)
        ).part
        for number, (low, high) in enumerate(pairwise(bounds))
    ]
    tasks = [
        FeaturesTask(CREDITCARD, part, part_name("features.parquet", number, count))
        for number, part in enumerate(stored)
    ]
    return FeatureTable(context, [one.part for one in engine.map(context, features_part, tasks)])


def training(*candidates: str, **changes: Any) -> Training:
    configured = load_parameters(CONFIG_DIR, "testing").training
    return configured.model_copy(
        update={"candidates": list(candidates), "voting": [], "rounds": 60, **changes}
    )


def fitted(table: FeatureTable, settings: Training) -> Any:
    split = split_in_time(table.moments, table.labels, validation_share=0.3, test_share=0.2)
    parts = {name: table.rows(part) for name, part in split.parts()}
    fit = partial(table.context.engine.final_fit, settings, table.training_rows(split))
    trained = fit_model(CREDITCARD, settings, parts, lambda *_, **__: None, fit)
    test = trained.prepared.apply(parts["test"], scaled=True)
    return trained, trained.choice.fitted.margins(test).astype(np.float64), test.labels


def test_the_features_are_equal_and_the_model_is_as_good(
    engine: DaskEngine, rows: pa.Table, tmp_path: Path
) -> None:
    assert engine.pieces(10) == PARTS
    whole = features(tmp_path, "local", LocalEngine(), rows, 1)
    parts = features(tmp_path, "dask", engine, rows, PARTS)
    np.testing.assert_array_equal(parts.everything().features, whole.everything().features)
    np.testing.assert_array_equal(parts.moments, whole.moments)
    np.testing.assert_array_equal(parts.labels, whole.labels)
    assert parts.copied_share == whole.copied_share
    settings = training("xgboost", "logistic_regression")
    _, margins, labels = fitted(whole, settings)
    trained, spread, _ = fitted(parts, settings)
    details = trained.outcome()["candidates"]
    assert details["xgboost"]["details"]["fitted_on"] == f"{ROWS // 2} rows, on the workers"
    assert details["logistic_regression"]["details"]["fitted_on"].endswith("rows, in one process")
    bounds = interval(average_precision, labels, margins, resamples=200)
    other = interval(average_precision, labels, spread, resamples=10)
    assert bounds.low <= other.value <= bounds.high, (bounds, other)
    assert other.value > 0.5


@pytest.mark.parametrize("candidate", ["xgboost", "xgboost_bag"])
@pytest.mark.proof
def test_a_worker_that_is_killed_in_mid_fit_costs_an_attempt(  # noqa: PLR0917
    cluster: LocalCluster,
    engine: DaskEngine,
    rows: pa.Table,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    candidate: str,
) -> None:
    parts = features(tmp_path, "dask", engine, rows, PARTS)
    train = boosting._train
    killed: list[int] = []

    def announced(*given: Any, **named: Any) -> Any:
        if not killed:
            killed.append(next(iter(cluster.workers.values())).process.pid)
            threading.Timer(2, psutil.Process(killed[0]).kill).start()
            # Long enough to be in its midst by then.
            return train(*given, **{**named, "rounds": 100_000, "patience": 100_000})
        return train(*given, **named)

    monkeypatch.setattr(boosting, "_train", announced)
    trained, _, _ = fitted(parts, training(candidate))
    assert trained.choice.fitted.name == candidate
    assert len(killed) == 1
    assert not psutil.pid_exists(killed[0])
    assert "training_worker_lost" in "".join(capfd.readouterr())
