"""Reads what a version is tried on: recent transactions, and labelled ones that no model was fitted on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg2.extensions import connection as Connection  # noqa: N812

from config.rollout import AgreementRules, ReplayRules
from fraud_adapters.postgres import examples, transaction_pages
from fraud_adapters.postgres.examples import ID, LABEL, Interval
from fraud_adapters.postgres.transaction_pages import Selection
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.features import feature_matrix
from fraud_core.manifest import Manifest
from fraud_rollout.validation.versions import Features


@dataclass(frozen=True, slots=True)
class Rows:
    """Transactions, n of them.

    Attributes:
        features: float32 [n, k].
        amounts: float64 [n]; None if the contract has no amount.
        labels: int8 [n], 1 is fraud; None where they are not known.
        start: the first event time that was looked at.
    """

    features: Features
    amounts: NDArray[np.float64] | None
    labels: NDArray[np.int8] | None
    start: datetime

    def __len__(self) -> int:
        return len(self.features)


def recent_rows(connection: Connection, contract: Contract, now: datetime, rules: AgreementRules) -> Rows:
    """The latest stored transactions, labelled or not."""
    interval = Interval(now - rules.window)
    total = examples.count_transactions(connection, contract, now, interval)
    if total > rules.rows:
        interval = examples.divided(connection, contract, now, interval, ceil(total / rules.rows))[-1]
    selection = Selection(contract, Interval(interval.start, now), now)
    table = transaction_pages.read_page(connection, selection, None, rules.rows).table
    columns: dict[str, Any] = {}
    for field in contract.inputs:
        values = table.column(field.name)
        columns[field.name] = (
            values.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
            if field.numeric
            else np.array(values.to_pylist(), dtype=object)
        )
    # The features of a contract come from its fields, so that the time of the event is not needed.
    batch = Batch(table.column(ID).to_pylist(), [now] * table.num_rows, columns)
    return _rows(contract, batch, None, now - rules.window)


def labelled_rows(
    connection: Connection,
    contract: Contract,
    now: datetime,
    manifests: list[Manifest],
    *,
    test_share: float,
    rules: ReplayRules,
) -> Rows:
    """Transactions with a mature label from which none of the models has learnt.

    A training holds back the latest `test_share` of its transactions, so that those from the latest of these
    moments on are new to every model.
    """
    start = max(
        now - rules.history,
        *(_held_out_from(connection, contract, now, manifest, test_share) for manifest in manifests),
    )
    table = examples.read_examples(connection, contract, now, Interval(start, now))
    stride = max(1, ceil(table.num_rows / rules.rows))
    if stride > 1:
        table = table.take(np.arange(0, table.num_rows, stride))
    labels = table.column(LABEL).to_numpy(zero_copy_only=False).astype(np.int8, copy=False)
    return _rows(contract, examples.to_batch(contract, table), labels, start)


def _held_out_from(
    connection: Connection, contract: Contract, now: datetime, manifest: Manifest, test_share: float
) -> datetime:
    """The event time from which a version's training held its transactions back."""
    interval = Interval(manifest.data_from, manifest.data_to)
    found = examples.moment_of_share(connection, contract, now, interval, 1 - test_share)
    # Of transactions that are not stored here it is not known which of them were held back.
    return manifest.data_to if found is None else found


def _rows(contract: Contract, batch: Batch, labels: NDArray[np.int8] | None, start: datetime) -> Rows:
    amount = contract.with_role("amount")
    amounts = None if amount is None else np.asarray(batch.columns[amount.name], dtype=np.float64)
    return Rows(feature_matrix(contract, batch), amounts, labels, start)
