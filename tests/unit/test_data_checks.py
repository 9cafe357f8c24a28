"""Data that no honest model can come from: one sentence each, and nothing gets an alias."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from fraud_adapters.job.failures import LastingFailure
from fraud_trainer import steps
from fraud_trainer.job import execute
from fraud_trainer.load.data_checks import constant_columns, copied_rows
from tests.unit.test_trainer import Setup, setup, stored_examples

__all__ = ["setup"]

Change = Callable[[pa.Table], pa.Table]


def labels_of(table: pa.Table, labels: NDArray[np.int8] | pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index("_label"), "_label", pa.array(labels))


def no_fraud(table: pa.Table) -> pa.Table:
    return labels_of(table, np.zeros(table.num_rows, np.int8))


def one_fraud(table: pa.Table) -> pa.Table:
    labels = np.zeros(table.num_rows, np.int8)
    labels[100] = 1
    return labels_of(table, labels)


def one_early_fraud_besides(table: pa.Table) -> pa.Table:
    labels = np.zeros(table.num_rows, np.int8)
    labels[[100, 200]] = 1
    return labels_of(table, labels)


def absent_labels(table: pa.Table) -> pa.Table:
    labels = table.column("_label").to_pylist()
    return labels_of(
        table, pa.array([None if row % 3 == 0 else label for row, label in enumerate(labels)], pa.int8())
    )


def constant_feature(table: pa.Table) -> pa.Table:
    return table.set_column(table.schema.get_field_index("b"), "b", pa.array(np.full(table.num_rows, 0.25)))


def every_row_twice(table: pa.Table) -> pa.Table:
    again = table.set_column(0, "transaction_id", pa.array([f"u{row}" for row in range(table.num_rows)]))
    return pa.concat_tables([table, again]).sort_by("event_time")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (no_fraud, r"nothing to learn from: 4000 labelled transactions of tiny/1, none of them a fraud"),
        (one_fraud, r"nothing to learn from: 4000 labelled transactions of tiny/1, only one of them a fraud"),
        (one_early_fraud_besides, r"cannot be split in time: .* the part stopping has \d+, 0 of them frauds"),
        (absent_labels, r"1334 of 4000 transactions have no label: load them again"),
        (constant_feature, r"^b: the same value in all 4000 transactions"),
        (every_row_twice, r"100% of 8000 transactions have the time and the features of another one"),
    ],
)
def test_unusable_data_is_refused_with_one_sentence(setup: Setup, change: Change, sentence: str) -> None:
    stored_examples(setup.context, difficulty=0.2, change=change)
    steps.features(setup.context)
    with pytest.raises(LastingFailure, match=sentence) as refused:
        execute("train", setup.context, promote=True)
    assert str(refused.value).count("\n") == 0
    assert (setup.mlflow.aliases, setup.mlflow.registered) == ({}, [])
    # No run in MLflow is left open either.
    assert setup.mlflow.runs == {}


def test_copies_are_counted_whatever_their_order() -> None:
    source = np.random.default_rng(1)
    features = source.normal(size=(1000, 4)).astype(np.float32)
    features[::7, 2] = np.nan
    moments = np.arange(1000) * 60_000_000
    assert copied_rows(moments, features) == 0
    order = source.permutation(1500)
    rows = np.concatenate([np.arange(1000), np.arange(500)])[order]
    assert copied_rows(moments[rows], features[rows]) == 1000
    # The same payment a minute later is another one.
    assert copied_rows(np.arange(2000) * 60_000_000, np.concatenate([features, features])) == 0
    signed = np.zeros((2, 1), np.float32) * np.array([[1], [-1]], np.float32)
    assert copied_rows(np.zeros(2, np.int64), signed) == 2


def test_a_column_without_any_value_is_constant_and_one_with_gaps_is_not() -> None:
    nothing, gaps, same, normal = np.full(4, np.nan), [1, np.nan, 1, 1], [2] * 4, [1, 2, 1, 1]
    columns = np.array([nothing, gaps, same, normal], np.float32).T
    assert constant_columns(columns).tolist() == [True, False, True, False]


def test_good_data_is_trained_on(setup: Setup) -> None:
    stored_examples(setup.context, difficulty=0.2)
    steps.features(setup.context)
    context = replace(setup.context, training=setup.context.training.model_copy(update={"rounds": 5}))
    execute("train", context, promote=False)
    assert setup.mlflow.runs["run-1"].status == "RUNNING"
