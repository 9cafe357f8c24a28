"""No information about the label or the future reaches a model: shown on data made to tempt it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from config.parameters import load_parameters, read_yaml
from config.settings import CONFIG_DIR
from fraud_core.batch import Batch
from fraud_core.contract import Contract, ContractError
from fraud_core.features import feature_matrix
from fraud_core.metrics import curve, roc_auc
from fraud_producer.population import population
from fraud_producer.simulator import Simulator
from fraud_trainer.evaluate.explaining import SUSPECT_AUC, single_feature_auc
from fraud_trainer.train.fitting import Examples, fit_trees, margins
from fraud_trainer.train.splitting import split_in_time
from tests.support.stored_rows import START

CREDITCARD = Contract.from_mapping(read_yaml(CONFIG_DIR / "contracts" / "creditcard.yaml"))
SETTINGS = load_parameters(CONFIG_DIR, "testing")


def simulated(rows: int) -> tuple[Batch, NDArray[np.int8]]:
    of = population(3, 0.1, 0.02)
    made = Simulator(CREDITCARD, of, timedelta(days=7)).at(
        "leakage", [START + timedelta(minutes=minute) for minute in range(rows)]
    )
    return made.batch, made.labels.astype(np.int8)


def area(labels: NDArray[np.int8], features: NDArray[np.float32]) -> float:
    """ROC AUC on the held-out part of a model that is fitted as the trainer fits it."""
    split = split_in_time(np.arange(len(labels)), labels, validation_share=0.2, test_share=0.3, gap=100)
    parts = {name: Examples(features[rows], labels[rows]) for name, rows in split.parts()}
    fitted = fit_trees(
        parts["train"],
        parts["stopping"],
        SETTINGS.training.xgboost,
        rounds=40,
        patience=10,
        threads=1,
        seed=1,
    )
    scores = margins(fitted.booster, parts["test"].features)
    return roc_auc(curve(parts["test"].labels, scores))


def test_shuffled_labels_give_chance() -> None:
    batch, labels = simulated(12_000)
    features = feature_matrix(CREDITCARD, batch)
    assert area(labels, features) > 0.95
    shuffled = np.random.default_rng(2).permutation(labels)
    # With 360 frauds in the held-out part the standard error of a chance AUC is 0.016.
    assert abs(area(shuffled, features) - 0.5) < 0.065


@pytest.mark.parametrize("op", ["next", "mean_of_day", "lead"])
def test_a_feature_over_other_rows_is_unavailable(op: str) -> None:
    values: dict[str, Any] = CREDITCARD.model_dump()
    values["features"] = [{"name": "future", "op": op, "of": "amount"}]
    with pytest.raises(ContractError, match="Input should be 'field', 'modulo', 'equals' or 'category'"):
        Contract.from_mapping(values)


def test_a_feature_of_the_label_is_unavailable() -> None:
    values: dict[str, Any] = CREDITCARD.model_dump()
    label = CREDITCARD.label_field
    assert label is not None
    values["features"] = [{"name": "future", "op": "field", "of": label.name}]
    with pytest.raises(ContractError, match="uses the label"):
        Contract.from_mapping(values)


def test_a_field_that_encodes_the_future_is_caught() -> None:
    """Such as a balance after the fraud was refunded: the report names the feature."""
    batch, labels = simulated(4000)
    noise = np.random.default_rng(3).normal(0, 0.1, len(labels))
    leaking = replace(batch, columns={**batch.columns, "v7": labels + noise})
    honest, leaked = (single_feature_auc(feature_matrix(CREDITCARD, of), labels) for of in (batch, leaking))
    assert (honest < SUSPECT_AUC).all()
    suspects = np.flatnonzero(leaked >= SUSPECT_AUC)
    assert [CREDITCARD.feature_names[k] for k in suspects] == ["v7"]


def test_moving_the_cut_off_never_changes_the_features_of_earlier_rows() -> None:
    batch, _ = simulated(3000)
    whole = feature_matrix(CREDITCARD, batch)
    for cut in (1, 500, 1499, 2999):
        earlier = feature_matrix(CREDITCARD, batch.take(slice(0, cut)))
        assert earlier.tobytes() == whole[:cut].tobytes()
