"""The steps from examples to a calibrated model: features, train."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Final

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from config.job_results.trainer import FeaturesResult, SplitPart, TrainResult
from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.job.logs import get_logger
from fraud_adapters.objectstore.run_store import Step
from fraud_adapters.postgres import examples
from fraud_core.features import feature_matrix
from fraud_core.first_strikes import first_strikes
from fraud_trainer.load.data_checks import refuse_unusable
from fraud_trainer.load.loading import EXAMPLES
from fraud_trainer.run_context import RunContext
from fraud_trainer.tracking import TAG_TRAINED, open_run
from fraud_trainer.train.fitting import Examples
from fraud_trainer.train.modelling import candidate_metrics, fit_model
from fraud_trainer.train.splitting import Split, split_in_time
from fraud_trainer.train.thresholds import ThresholdRule, Thresholds, choose_thresholds

FEATURES: Final = "features.parquet"

_TIME: Final = "_time"
_LABEL: Final = "_label"
_AMOUNT: Final = "_amount"
_FIRST_STRIKE: Final = "_first_strike"


def features(context: RunContext) -> FeaturesResult:
    """Compute the features of the transactions, in the same order."""
    loaded = context.run.step("load")
    table = context.run.get_table(EXAMPLES, loaded["digest"])
    matrix = feature_matrix(context.contract, examples.to_batch(context.contract, table))
    columns = {name: matrix[:, position] for position, name in enumerate(context.contract.feature_names)}
    money = context.contract.with_role("amount")
    further = {} if money is None else {_AMOUNT: table.column(money.name)}
    card = context.contract.with_role("card")
    if card is not None:
        frauds = np.equal(table.column(examples.LABEL).to_numpy(), 1)
        further[_FIRST_STRIKE] = pa.array(first_strikes(table.column(card.name).to_pylist(), frauds))
    matrix_table = pa.table(
        {
            _TIME: table.column(examples.TIME).cast(pa.int64()),
            _LABEL: table.column(examples.LABEL),
            **further,
            **columns,
        }
    )
    outcome: FeaturesResult = {
        "digest": context.run.put_table(FEATURES, matrix_table),
        "rows": matrix_table.num_rows,
        "features": list(context.contract.feature_names),
        "missing": int(np.isnan(matrix).sum()),
    }
    context.run.finish(context.run.seal("features", outcome, loaded))
    return outcome


def read_features(context: RunContext, step: Step) -> tuple[NDArray[np.int64], Examples]:
    """Event times in microseconds [n], ascending, and the examples in the same order.

    Raises:
        LastingFailure: the features are another contract's.
    """
    if step["features"] != list(context.contract.feature_names):
        raise LastingFailure(f"The run's features are not those of {context.contract.schema_id}: load again.")
    table = context.run.get_table(FEATURES, step["digest"])
    matrix = np.empty((table.num_rows, len(context.contract.feature_names)), dtype=np.float32)
    for position, name in enumerate(context.contract.feature_names):
        matrix[:, position] = table.column(name).to_numpy()
    amounts = None
    if _AMOUNT in table.column_names:
        # A missing amount counts as zero.
        amounts = np.nan_to_num(table.column(_AMOUNT).to_numpy().astype(np.float64))
    labels = table.column(_LABEL)
    if labels.null_count:
        raise LastingFailure(
            f"{labels.null_count} of {len(labels)} transactions have no label: load them again."
        )
    strikes = None
    if _FIRST_STRIKE in table.column_names:
        strikes = table.column(_FIRST_STRIKE).to_numpy()
    return table.column(_TIME).to_numpy(), Examples(matrix, labels.to_numpy(), amounts, first_strikes=strikes)


def train(context: RunContext) -> TrainResult:
    """Split by time, prepare, fit the candidates, choose one, calibrate it, choose the thresholds.

    The test part is not used.

    Raises:
        LastingFailure: the data cannot be split, no candidate can be used, or one is served differently.
    """
    step = context.run.step("features")
    moments, data = read_features(context, step)
    refuse_unusable(context.contract, moments, data)
    split = split_in_time(
        moments,
        data.labels,
        validation_share=context.training.validation_share,
        test_share=context.training.test_share,
        gap=context.training.label_gap // timedelta(microseconds=1),
    )
    run_id = _open(context, step)
    parts = {name: data.part(rows) for name, rows in split.parts()}
    trained = fit_model(context.contract, context.training, parts, get_logger(__name__).info)
    chosen = thresholds(context, parts["calibration"], trained.scores)
    outcome: TrainResult = {
        "digests": {name: context.run.put(name, content) for name, content in trained.contents.items()},
        "split": _describe(split, data.labels),
        **trained.outcome(),
        "threshold": chosen.threshold,
        "block_threshold": chosen.block_threshold,
        "threshold_rule": chosen.rule,
        # Stored here, so that a repeated `validate` writes the same manifest.
        "created_at": context.now.isoformat(),
        "code_version": context.code_version,
        "mlflow_run_id": run_id,
    }
    sealed = context.run.seal("train", outcome, step)
    _track(context, run_id, sealed)
    context.run.finish(sealed)
    return outcome


def thresholds(context: RunContext, rows: Examples, scores: NDArray[np.float64]) -> Thresholds:
    """The thresholds on rows with calibrated scores [n], by the configured rule."""
    training = context.training
    by = ThresholdRule(training.threshold_rule, rows.amounts, training.costs, training.alert_budget)
    return choose_thresholds(rows.labels, scores, context.policy, training.block_precision, by)


def _describe(split: Split, labels: NDArray[np.int8]) -> dict[str, SplitPart]:
    return {
        name: {"from": part.start, "to": part.stop, "frauds": int(labels[part].sum())}
        for name, part in split.parts()
    }


def _open(context: RunContext, features_step: Step) -> str:
    """Open the MLflow run; returns its id."""
    loaded = context.run.step("load")
    inputs = {
        "contract": context.contract.schema_id,
        "code": context.code_version,
        "features": features_step["digest"],
        "training": context.training.model_dump(mode="json"),
        "gate": [context.gate, context.policy.model_dump(mode="json")],
        "data": [loaded[name] for name in ("digest", "data_from", "data_to")],
    }
    digest = hashlib.sha256(orjson.dumps(inputs, option=orjson.OPT_SORT_KEYS)).hexdigest()
    tags = {
        "contract": context.contract.schema_id,
        "code_version": context.code_version,
        "data_source": ",".join(loaded["sources"]),
    }
    return open_run(context, digest, tags)


def _track(context: RunContext, run_id: str, trained: Step) -> None:
    loaded = context.run.step("load")
    context.tracking().log(
        run_id,
        parameters={
            **{f"xgboost.{name}": value for name, value in context.training.xgboost.items()},
            **context.training.model_dump(exclude={"xgboost"}),
            "gate": context.gate,
            "data_from": loaded["data_from"],
            "data_to": loaded["data_to"],
            "examples_digest": loaded["digest"],
            **{f"rows.{name}": part["to"] - part["from"] for name, part in trained["split"].items()},
            **{f"frauds.{name}": part["frauds"] for name, part in trained["split"].items()},
            "threshold_rule": trained["threshold_rule"],
            "candidate": trained["candidate"],
        },
        metrics={
            **candidate_metrics(trained["candidates"]),
            "threshold": trained["threshold"],
            "block_threshold": trained["block_threshold"],
        },
        tags={TAG_TRAINED: trained.digest, "candidate_choice": trained["choice"]},
    )
