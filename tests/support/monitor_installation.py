"""Helpers of the monitor's tests: a context on real servers, a champion with a profile, stored decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from config import constants
from config.parameters import Parameters, load_parameters
from config.settings import CONFIG_DIR, KafkaSettings, ObjectStoreSettings
from fraud_adapters.models.mlflow_http import MlflowHttp
from fraud_adapters.models.registry_writer import RegistryWriter
from fraud_adapters.models.tracked_runs import TrackedRuns
from fraud_adapters.objectstore import ObjectStore
from fraud_adapters.objectstore.run_store import RunStore
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.scored_transactions import store_scored
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.features import feature_matrix
from fraud_core.manifest import Calibration, Manifest
from fraud_core.profile import FILE_NAME, Profile, make_profile
from fraud_monitor.replay.verifying import Replayer
from fraud_monitor.run_context import Champion, RunContext
from tests.support.stored_rows import CREDITCARD, Database, batch, predictions, run

NOWHERE: Final = "http://127.0.0.1:1"  # nothing listens there
VERSION: Final = "7"  # of the predictions of `stored_rows`


def reference(contract: Contract = CREDITCARD, rows: int = 4000) -> Profile:
    """The profile of a model that was trained on rows as `stored_rows.batch` makes them."""
    features = feature_matrix(contract, arrived(rows, seed=9))
    labels = (np.random.default_rng(3).random(rows) < 0.05).astype(np.int8)
    scores = np.clip(labels * 0.8 + np.random.default_rng(4).random(rows) * 0.2, 0, 1)
    return make_profile(
        contract.schema_id,
        contract.feature_names,
        features,
        labels,
        held_out_labels=labels,
        held_out_scores=scores,
        threshold=0.5,
    )


def champion(contract: Contract = CREDITCARD, metrics: Mapping[str, float | None] | None = None) -> Champion:
    """A champion of which only the manifest's features, its figures and its profile matter."""
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    manifest = Manifest(
        contract=contract.name,
        contract_version=contract.version,
        features=contract.feature_names,
        threshold=0.5,
        block_threshold=0.9,
        threshold_rule="f1",
        calibration=Calibration(slope=1.0, intercept=0.0),
        metrics=dict(metrics or {}),
        data_from=moment,
        data_to=moment,
        created_at=moment,
        code_version="test",
        engines={"onnx": "model.onnx"},
        digests={"model.onnx": "0" * 64, FILE_NAME: "0" * 64},
        profile=FILE_NAME,
    )
    return Champion(VERSION, manifest, reference(contract))


def arrived(rows: int, *, seed: int = 1, prefix: str = "", event_time: datetime | None = None) -> Batch:
    """Transactions that happened within the last seconds before `event_time`, by default now."""
    made = batch(rows, seed, prefix or f"m{seed}")
    end = event_time or datetime.now(UTC)
    times = [end - timedelta(milliseconds=rows - number) for number in range(rows)]
    return replace(made, event_times=times)


def no_version(version: str) -> Replayer:
    """For tests that load no version."""
    raise AssertionError(version)


@dataclass
class MonitorInstallation:
    """One test's database, topics and bucket; what it is not given does not answer."""

    database: Database
    kafka: KafkaSettings = field(default_factory=lambda: KafkaSettings(kafka_bootstrap_servers="127.0.0.1:1"))
    store: ObjectStoreSettings | None = None
    mlflow_uri: str = NOWHERE
    contract: Contract = CREDITCARD
    champion: Callable[[], Champion | None] = champion
    version: Callable[[str], Replayer] = no_version
    parameters: Parameters = field(default_factory=lambda: load_parameters(CONFIG_DIR, "testing"))

    def with_parameters(self, section: str, **values: Any) -> None:
        """Replace parameters of a section."""
        changed = getattr(self.parameters, section).model_copy(update=values)
        self.parameters = self.parameters.model_copy(update={section: changed})

    @contextmanager
    def context(self, run_id: str = "first", dag: str = "04_data_quality") -> Iterator[RunContext]:
        settings = self.store or ObjectStoreSettings.model_validate(
            {"s3_endpoint_url": NOWHERE, "aws_access_key_id": "x", "aws_secret_access_key": "x"}
        )
        login = ("monitor", "x") if self.mlflow_uri == NOWHERE else None
        with MlflowHttp(self.mlflow_uri, login) as http:
            yield RunContext(
                contract=self.contract,
                parameters=self.parameters,
                run=RunStore(ObjectStore(settings, constants.BUCKET_RUNS), dag, run_id, ("monitor",)),
                database=partial(connect, self.database.url("monitor"), "fraud_monitor"),
                champion=self.champion,
                version=self.version,
                tracking=lambda: RegistryWriter(self.mlflow_uri),
                tracked=TrackedRuns(http),
                kafka=lambda: self.kafka,
                now=datetime.now(UTC),
            )

    def decide(
        self,
        rows: Batch,
        *,
        scores: NDArray[np.float64] | None = None,
        source: str = "stream",
        vectors: NDArray[np.float32] | None = None,
        **changes: Any,
    ) -> None:
        """Store transactions with deciding predictions, as the stream does."""
        made = predictions(self.contract, rows, scores=None if scores is None else scores.tolist())
        if scores is not None:
            names = np.array(["approve", "review", "block"])
            changes = {
                "decisions": names[(scores >= 0.5).astype(int) + (scores >= 0.9)].tolist(),
                **changes,
            }
        made = replace(made, feature_vectors=made.feature_vectors if vectors is None else vectors, **changes)
        with (
            closing(connect(self.database.url("streaming"), "test")) as connection,
            connection,
            connection.cursor() as cursor,
        ):
            store_scored(cursor, self.contract, rows, made, source)

    def move_arrivals(self, by: timedelta, where: str = "true") -> None:
        """Let stored transactions have arrived earlier."""
        owner = self.database.url("owner")
        run(
            owner, f"UPDATE transactions SET ingestion_timestamp = ingestion_timestamp - %s WHERE {where}", by
        )
        run(
            owner,
            "UPDATE predictions SET prediction_time = prediction_time - %s WHERE transaction_id IN"
            f" (SELECT transaction_id FROM transactions WHERE {where})",
            by,
        )

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return run(self.database.url("owner"), statement, *values)


def by_name(checks: list[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {check["name"]: check for check in checks}
