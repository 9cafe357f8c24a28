"""A shadow is the first to give way: what it cannot do is counted, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from fraud_adapters.models.loading import Scores
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_api.arrival import Arrival
from fraud_api.metrics import SHADOW_OUTCOMES, Metrics
from fraud_api.model_holder import Serving
from fraud_api.releases.shadow import MAX_ROWS, Shadow
from fraud_core.batch import Batch
from tests.support.stored_rows import CREDITCARD, batch
from tests.support.waiting import eventually

ARRIVAL: Final = Arrival(datetime(2026, 5, 1, tzinfo=UTC), 0.0, None)
ROWS: Final = 1000


class Installation:
    """A shadow with a model, and a database that takes what it predicts; both can fail."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.model_error: Exception | None = None
        self.database_error: Exception | None = None
        self.transactions = 0
        manifest = SimpleNamespace(threshold=0.5, block_threshold=0.9)
        model = SimpleNamespace(manifest=manifest, score_batch=self.score)
        self.serving: Serving | None = Serving("8", cast(Any, model), cast(Any, None))
        self.shadow = Shadow(CREDITCARD, lambda: self.serving, cast(Any, self), self.metrics)

    def score(self, features: NDArray[np.float32]) -> Scores:
        if self.model_error is not None:
            raise self.model_error
        return Scores(np.full(len(features), 0.2), "xgboost")

    def run(self, _: Callable[[Any], Any]) -> None:
        """As a session."""
        if self.database_error is not None:
            raise self.database_error
        self.transactions += 1

    def offer(self, rows: Batch) -> None:
        self.shadow.offer(rows, [ARRIVAL] * len(rows))

    def counted(self) -> dict[str, float | None]:
        registry = self.metrics.registry
        return {
            one: registry.get_sample_value("fraud_api_shadow_total", {"outcome": one})
            for one in SHADOW_OUTCOMES
        }


@pytest.fixture
def installation() -> Iterator[Installation]:
    made = Installation()
    yield made
    if made.shadow._thread.is_alive():
        made.shadow.stop()


def test_what_does_not_fit_into_its_queue_is_left_out_and_counted(installation: Installation) -> None:
    rows = batch(ROWS)
    for _ in range(MAX_ROWS // ROWS + 2):  # nobody works it off yet
        installation.offer(rows)
    assert installation.counted() == {"scored": 0, "shed": 2 * ROWS, "failed": 0}
    installation.shadow.start()
    assert eventually(lambda: installation.counted()["scored"] == MAX_ROWS, 20)
    installation.offer(rows)
    assert eventually(lambda: installation.counted()["scored"] == MAX_ROWS + ROWS, 20)
    assert installation.counted()["shed"] == 2 * ROWS, "there is room again"
    assert installation.transactions <= MAX_ROWS // ROWS + 1, "what waits is stored together"


@pytest.mark.parametrize("fault", ["model_error", "database_error"])
def test_what_fails_is_counted_and_the_next_is_scored(installation: Installation, fault: str) -> None:
    errors = {"model_error": ArithmeticError(), "database_error": DatabaseUnavailable("No answer.")}
    setattr(installation, fault, errors[fault])
    installation.shadow.start()
    installation.offer(batch(3))
    assert eventually(lambda: installation.counted() == {"scored": 0, "shed": 0, "failed": 3}, 20)
    setattr(installation, fault, None)
    installation.offer(batch(2))
    assert eventually(lambda: installation.counted() == {"scored": 2, "shed": 0, "failed": 3}, 20)


def test_without_a_shadow_nothing_is_kept(installation: Installation) -> None:
    installation.serving = None
    for _ in range(MAX_ROWS // ROWS + 2):
        installation.offer(batch(ROWS))
    installation.offer(batch(0))
    assert installation.counted() == {"scored": 0, "shed": 0, "failed": 0}


def test_a_shadow_that_is_taken_away_scores_no_more(installation: Installation) -> None:
    installation.offer(batch(3))
    installation.serving = None
    installation.shadow.start()
    assert eventually(installation.shadow._waiting.empty, 20)
    installation.shadow.stop()
    assert installation.counted() == {"scored": 0, "shed": 0, "failed": 0}
    assert installation.transactions == 0
