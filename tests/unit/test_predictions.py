"""Predictions are sliced and joined as batches are, and no field is forgotten on the way."""

from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from fraud_core.predictions import Predictions

SHARED = ("model_version", "engine", "policy_version", "prediction_time", "role", "deciding", "run_id")


def predictions(n: int) -> Predictions:
    """Every field differs from its default, and every row from the next."""
    scores = np.linspace(0, 1, n)
    return Predictions(
        scores=scores,
        predicted=np.arange(n) % 2 == 0,
        decisions=[("approve", "review", "block")[row % 3] for row in range(n)],
        model_version="7",
        engine="xgboost-3.2.0",
        feature_vectors=np.arange(n * 4, dtype=np.float32).reshape(n, 4),
        policy_version="2",
        latency_ms=np.arange(n, dtype=np.float32),
        traceparents=[f"trace-{row}" if row % 2 else None for row in range(n)],
        prediction_time=datetime(2026, 1, 1, tzinfo=UTC),
        role="batch",
        deciding=False,
        run_id="run-1",
    )


def assert_rows(part: Predictions, whole: Predictions, rows: list[int]) -> None:
    """Each field of `part` is that of `rows`, whatever fields there are."""
    for field in fields(Predictions):
        selected, every = getattr(part, field.name), getattr(whole, field.name)
        if field.name in SHARED:
            assert selected == every
        else:
            np.testing.assert_array_equal(np.asarray(selected), np.asarray(every)[rows], field.name)


@pytest.mark.parametrize(("index", "rows"), [([4, 0, 2], [4, 0, 2]), ([], []), (slice(1, 4), [1, 2, 3])])
def test_rows_are_taken_in_the_order_asked_for(index: Any, rows: list[int]) -> None:
    whole = predictions(5)
    part = whole.take(index)
    assert len(part) == len(rows)
    assert_rows(part, whole, rows)


def test_parts_make_the_whole_again() -> None:
    whole = predictions(5)
    parts = [whole.take(slice(0, 2)), whole.take([]), whole.take(slice(2, 5))]
    assert_rows(Predictions.concat(parts), whole, [0, 1, 2, 3, 4])
    assert_rows(Predictions.concat([whole]), whole, [0, 1, 2, 3, 4])


@pytest.mark.parametrize("name", SHARED)
def test_what_differs_in_what_rows_share_is_not_joined(name: str) -> None:
    one = predictions(2)
    other = replace(one, **{name: None if name in {"prediction_time", "run_id"} else "another"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="different models, roles or runs"):
        Predictions.concat([one, other])


def test_nothing_is_not_joined() -> None:
    with pytest.raises(ValueError, match="no predictions"):
        Predictions.concat([])


def test_thresholds_decide() -> None:
    decided = Predictions.from_scores(
        np.array([0.1, 0.5, 0.9]),
        np.zeros((3, 2), dtype=np.float32),
        threshold=0.5,
        block_threshold=0.9,
        model_version="1",
        engine="onnx",
        policy_version="0",
    )
    assert (decided.predicted.tolist(), decided.decisions) == (
        [False, True, True],
        ["approve", "review", "block"],
    )
    stamped = decided.stamped(12.5, ["a", None, "c"])
    assert (stamped.latency_ms.tolist(), stamped.traceparents) == ([12.5] * 3, ["a", None, "c"])
    assert stamped.latency_ms.dtype == np.float32
