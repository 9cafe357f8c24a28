"""The verb `replay` of the monitor: identical scores from real engines, and what differs is found."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from config.job_results.monitor import ReplayCheckResult
from fraud_adapters.models.loading import Model
from fraud_adapters.models.recorded import VersionRefused
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.prediction_queries import sample_vectors
from fraud_core.features import feature_matrix
from fraud_monitor.replay.verbs import replay
from tests.support.monitor_installation import MonitorInstallation, arrived
from tests.support.small_model import make_model
from tests.support.stored_rows import CREDITCARD, Database, run
from tests.support.typed_results import mismatches

ROWS = 60


@pytest.fixture
def monitor(database: Database, tmp_path: Path) -> Iterator[MonitorInstallation]:
    """Decisions of the versions 7 (by both engines) and 8, which no longer serves."""
    models: dict[str, Model] = {}
    for version, seed in (("7", 1), ("8", 2)):
        manifest = make_model(tmp_path / version, CREDITCARD, seed)
        models[version] = Model.load(tmp_path / version, manifest.digest(), CREDITCARD)

    def load(version: str) -> Model:
        if version not in models:
            raise VersionRefused("not_recorded", f"Version {version} is not in model_versions.")
        return models[version]

    installation = MonitorInstallation(database, version=load)
    for number, (version, few) in enumerate((("7", True), ("7", False), ("8", False))):
        rows = arrived(ROWS // 3, seed=number + 1)
        features = feature_matrix(CREDITCARD, rows)
        features[0, 0] = np.nan
        scores = models[version].score_few(features) if few else models[version].score_batch(features)
        changes: dict[str, Any] = {"model_version": version, "engine": scores.engine}
        installation.decide(rows, scores=scores.values, vectors=features, **changes)
    yield installation


def verified(monitor: MonitorInstallation, sample: int = 500, run_id: str = "first") -> ReplayCheckResult:
    with monitor.context(run_id, dag="03_feedback_collection") as context:
        result = replay(context, argparse.Namespace(sample=sample))
    assert list(mismatches(ReplayCheckResult, result)) == []
    return result


def metrics(database: Database, run_id: str = "first") -> dict[str, tuple[float, int]]:
    statement = (
        "SELECT metric, value, rows FROM performance_metrics WHERE run_id = %s AND model_version = 'all'"
    )
    return {name: (value, rows) for name, value, rows in run(database.url("readonly"), statement, run_id)}


def exported(database: Database) -> dict[str, float]:
    """What Airflow's watch exports of it."""
    statement = (
        "SELECT labels ->> 'metric', value FROM platform_metrics"
        " WHERE metric = 'fraud_performance_value' AND labels ->> 'metric' LIKE 'replay%%'"
    )
    return dict(run(database.url("watch"), statement))


def test_every_stored_score_is_made_again(monitor: MonitorInstallation, database: Database) -> None:
    result = verified(monitor)
    assert (result["compared"], result["mismatches"], result["severity"]) == (ROWS, 0, "none")
    assert result["text"] == f"{ROWS} stored predictions got the identical score again."
    assert metrics(database) == {"replay_mismatches": (0, ROWS), "replay_not_possible": (0, ROWS)}
    assert verified(monitor, sample=7)["compared"] == 7


def test_what_differs_in_the_last_bit_is_found_and_exported(
    monitor: MonitorInstallation, database: Database
) -> None:
    owner = database.url("owner")
    [(name, score)] = run(
        owner, "SELECT transaction_id, score FROM predictions ORDER BY score LIMIT 1 OFFSET 9"
    )
    run(owner, "UPDATE predictions SET score = %s WHERE transaction_id = %s", math.nextafter(score, 1), name)
    result = verified(monitor)
    assert (result["mismatches"], result["severity"]) == (1, "critical")
    [found] = result["mismatched"]
    assert (found["transaction_id"], found["replayed_score"]) == (name, score)
    assert exported(database) == {"replay_mismatches": 1.0, "replay_not_possible": 0.0}
    run(owner, "UPDATE predictions SET score = %s WHERE transaction_id = %s", score, name)
    verified(monitor)  # a repeated run replaces its figures
    assert exported(database)["replay_mismatches"] == 0


def test_what_cannot_be_replayed_is_counted_apart(monitor: MonitorInstallation, database: Database) -> None:
    owner = database.url("owner")
    ids = [name for (name,) in run(owner, "SELECT transaction_id FROM predictions ORDER BY prediction_id")]
    for identifier, change in (
        (ids[0], "model_version = '99'"),
        (ids[1], "engine = 'onnx-0.1'"),
        (ids[2], "feature_vector = '{1,2}'"),
    ):
        run(owner, f"UPDATE predictions SET {change} WHERE transaction_id = %s", identifier)
    result = verified(monitor)
    assert (result["compared"], result["mismatches"]) == (ROWS - 3, 0)
    reasons = {
        (group["model_version"], group["engine"].partition("-")[0]) for group in result["not_replayed"]
    }
    assert reasons == {("99", "onnx"), ("7", "onnx")}
    assert sum(group["predictions"] for group in result["not_replayed"]) == 3
    assert metrics(database)["replay_not_possible"] == (3, ROWS)
    assert "3 could not be replayed" in result["text"]


def test_without_predictions_nothing_is_known(database: Database) -> None:
    result = verified(MonitorInstallation(database))
    assert (result["compared"], result["severity"]) == (0, "insufficient")


def test_a_sample_depends_on_its_run_alone(monitor: MonitorInstallation, database: Database) -> None:
    def drawn(seed: str) -> list[str]:
        with closing(connect(database.url("monitor"), "test")) as connection, connection.cursor() as cursor:
            return [one.transaction_id for one in sample_vectors(cursor, 10, Random(seed))]

    assert drawn("one") == drawn("one")
    assert drawn("one") != drawn("two")
    assert len(set(drawn("one"))) == 10
