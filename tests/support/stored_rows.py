"""Helpers of the database tests: running a single statement, and generated batches."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from config.parameters import Labels, LabelSource, read_yaml
from config.settings import CONFIG_DIR
from fraud_adapters.postgres import connect
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.features import feature_matrix
from fraud_core.predictions import Predictions
from fraud_core.quantise import quantise

CREDITCARD = Contract.from_mapping(read_yaml(CONFIG_DIR / "contracts" / "creditcard.yaml"))
WIRE = Contract.from_mapping(read_yaml(Path(__file__).parents[1] / "contracts" / "wire.yaml"))
START = datetime(2024, 3, 1, tzinfo=UTC)  # older than the longest period after which silence implies a label
LABELS = Labels(
    implied_after=timedelta(days=45),
    sources={
        "adjudication": LabelSource(precedence=60, maturity=timedelta()),
        "analyst": LabelSource(precedence=50, maturity=timedelta()),
        "random_audit": LabelSource(precedence=40, maturity=timedelta()),
        "chargeback": LabelSource(precedence=30, maturity=timedelta(days=7)),
        "simulator": LabelSource(precedence=20, maturity=timedelta()),
    },
)


class Database(Protocol):
    """The fixture `database`: a freshly migrated one with names that are not the defaults."""

    def url(self, role: str) -> str:
        """libpq URL of `owner` or of a service's role."""


def run(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run one statement in a new connection and commit; returns its rows."""
    with closing(connect(url, "test")) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        rows: list[tuple[Any, ...]] = cursor.fetchall() if cursor.description else []
        return rows


def waits_for_a_lock(url: str, application: str = "%", pid: int | None = None) -> bool:
    """Whether a session of this database, with a matching application name, waits for a lock.

    With `pid` only the session of that server process counts.
    """
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    which = "application_name LIKE %s AND coalesce(pid = %s, true)"
    return bool(run(url, f"{waiting} AND {which}", application, pid))


def batch(n: int, seed: int = 1, prefix: str = "") -> Batch:
    """n transactions of the contract `creditcard`, a second apart."""
    rng = np.random.default_rng(seed)
    columns = {f"v{number}": quantise(rng.normal(size=n) * 3, 6) for number in range(1, 29)}
    columns["time"] = quantise(rng.uniform(0, 1e7, n), 2)
    columns["amount"] = quantise(rng.lognormal(3, 1, n), 2)
    ids = [f"{prefix or 'tx'}-{number}" for number in range(n)]
    return Batch(ids, [START + timedelta(seconds=number) for number in range(n)], columns)


def predictions(
    contract: Contract, rows: Batch, decision: str = "approve", scores: Sequence[float] | None = None
) -> Predictions:
    """Predictions that a model might have made for `rows`."""
    n = len(rows)
    values = np.array(scores) if scores is not None else np.random.default_rng(2).uniform(size=n)
    return Predictions(
        scores=values,
        predicted=values >= 0.5,
        decisions=[decision] * n,
        model_version="7",
        engine="xgboost-3.2.0",
        feature_vectors=feature_matrix(contract, rows),
        policy_version="0",
        latency_ms=np.full(n, 1.5, dtype=np.float32),
        traceparents=[None] * n,
    )


def new_id() -> str:
    return str(uuid.uuid4())
