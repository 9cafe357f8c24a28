"""Helpers of the trainer's tests: a separate installation with labelled history."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from config.parameters import load_parameters, read_yaml
from config.settings import CONFIG_DIR, ObjectStoreSettings
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.labels import store_labels
from fraud_adapters.postgres.scored_transactions import store_transactions
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.labels import LabelEvent, Source
from fraud_core.quantise import quantise
from fraud_producer.optimum import compute
from fraud_producer.population import population
from fraud_producer.simulator import Simulator
from tests.support.mlflow_users import mlflow_login
from tests.support.stored_rows import START, Database, run

ROWS = 16_000
RATE = 0.35  # an unrealistic fraud rate, so that few rows contain the 1,000 frauds that the gate requires


@dataclass(frozen=True, slots=True)
class Installation:
    """An installation: its contract under a name of its own, because all tests share the MLflow server."""

    contract: Contract
    database: Database
    mlflow_uri: str


def _installation(
    source: Path, database: Database, mlflow_uri: str, store: ObjectStoreSettings, folder: Path
) -> tuple[Installation, dict[str, str]]:
    content = {**read_yaml(source), "name": f"t{uuid.uuid4().hex[:10]}"}
    (folder / f"{content['name']}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    environment = {
        "APP_ENV": "testing",
        "FRAUD_CONTRACT": content["name"],
        "FRAUD_CONTRACTS_DIR": str(folder),
        "DATABASE_URL": database.url("trainer"),
        "MLFLOW_TRACKING_URI": mlflow_uri,
        **mlflow_login("trainer"),
        "S3_ENDPOINT_URL": store.endpoint_url,
        "AWS_ACCESS_KEY_ID": store.aws_access_key_id,
        "AWS_SECRET_ACCESS_KEY": store.aws_secret_access_key.get_secret_value(),
    }
    return Installation(Contract.from_mapping(content), database, mlflow_uri), environment


@contextmanager
def installed(
    contract: Path, database: Database, mlflow_uri: str, store: ObjectStoreSettings, folder: Path
) -> Iterator[Installation]:
    """An installation of a contract, by this process' environment."""
    installation, environment = _installation(contract, database, mlflow_uri, store, folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield installation


CREDITCARD = CONFIG_DIR / "contracts" / "creditcard.yaml"
WIRE = Path(__file__).parents[1] / "contracts" / "wire.yaml"


def store_history(
    installation: Installation,
    rows: Batch,
    labels: Sequence[int],
    source: str = "simulator",
    by: Source = "simulator",
) -> None:
    """Store transactions and a report for each fraud; silence implies the other labels."""
    frauds = [
        LabelEvent(str(uuid.uuid4()), name, 1, by, moment)
        for name, moment, label in zip(rows.ids, rows.event_times, labels, strict=True)
        if label
    ]
    with closing(connect(installation.database.url("producer"), "test")) as connection:
        with connection, connection.cursor() as cursor:
            store_transactions(cursor, installation.contract, rows, source)
        with connection, connection.cursor() as cursor:
            store_labels(cursor, frauds)


def card_rows(installation: Installation, count: int, overlap: float) -> None:
    """History of the simulator, and its optimum."""
    people = population(11, RATE, overlap)
    moments = [START + timedelta(minutes=minute) for minute in range(count)]
    transactions = Simulator(installation.contract, people, timedelta(days=7)).at("history", moments)
    store_history(installation, transactions.batch, transactions.labels.tolist())
    optimum = compute(people, load_parameters(CONFIG_DIR, "testing").gate_in_force, sample=20_000)
    run(
        installation.database.url("producer"),
        "INSERT INTO simulations (population, parameters, optimum) VALUES (%s, '{}', %s)",
        optimum.population,
        json.dumps(optimum.to_mapping()),
    )


def wire_rows(
    n: int, start: datetime = START, *, seed: int = 5, prefix: str = "w", break_in_payer: str = "\n"
) -> tuple[Batch, np.ndarray]:
    """Transfers whose frauds are large, by web, and mostly without a fee.

    Args:
        break_in_payer: stands in each payer's name; no request may contain the default, but a table may.
    """
    source = np.random.default_rng(seed)
    labels = (source.random(n) < RATE).astype(np.int64)
    fee = quantise(source.gamma(2, 3, n), 2)
    fee[source.random(n) < np.where(labels == 1, 0.9, 0.05)] = np.nan
    columns: dict[str, Any] = {
        "sent_amount": quantise(source.lognormal(4 + 4 * labels, 0.7), 3),
        "hour": source.integers(0, 24, n).astype(np.float64),
        "channel": np.array(source.choice(["branch", "web", "phone"], n), dtype=object),
        "urgent": (source.random(n) < np.where(labels == 1, 0.9, 0.1)).astype(np.float64),
        "fee": fee,
        "payer": np.array(
            [f'payer "{number % 50}",{break_in_payer}{number}' for number in range(n)], dtype=object
        ),
        "payee": np.array([f"payee {number % 70}" for number in range(n)], dtype=object),
    }
    moments = [start + timedelta(minutes=minute) for minute in range(n)]
    return Batch([f"{prefix}{number}" for number in range(n)], moments, columns), labels
