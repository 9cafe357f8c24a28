"""The steps from examples to a calibrated model: features, train."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from functools import partial

import numpy as np
import orjson
from numpy.typing import NDArray

from config.job_results.trainer import FeaturesResult, SplitPart, TrainResult
from fraud_adapters.job.logs import get_logger
from fraud_adapters.objectstore.run_store import Step
from fraud_trainer.engines.feature_table import FeatureTable
from fraud_trainer.engines.tables import digest_of, part_name, parts_of, recorded
from fraud_trainer.engines.tasks import FEATURES, FeaturesTask, features_part
from fraud_trainer.load.data_checks import refuse_features, refuse_labels
from fraud_trainer.load.loading import EXAMPLES
from fraud_trainer.run_context import RunContext
from fraud_trainer.tracking import TAG_TRAINED, open_run
from fraud_trainer.train.fitting import Examples
from fraud_trainer.train.modelling import candidate_metrics, fit_model
from fraud_trainer.train.splitting import Split, split_in_time
from fraud_trainer.train.thresholds import ThresholdRule, Thresholds, choose_thresholds


def features(context: RunContext) -> FeaturesResult:
    """Compute the features of the transactions, in the same order."""
    loaded = context.run.step("load")
    parts = parts_of(loaded, EXAMPLES)
    tasks = [
        FeaturesTask(context.contract, part, part_name(FEATURES, number, len(parts)))
        for number, part in enumerate(parts)
    ]
    stored = context.engine.map(context, features_part, tasks)
    outcome: FeaturesResult = {
        "digest": digest_of([one.part for one in stored]),
        "parts": recorded([one.part for one in stored]),
        "engine": context.engine.name,
        "rows": sum(one.part["rows"] for one in stored),
        "features": list(context.contract.feature_names),
        "missing": sum(one.missing for one in stored),
    }
    context.run.finish(context.run.seal("features", outcome, loaded))
    return outcome


def train(context: RunContext) -> TrainResult:
    """Split by time, prepare, fit the candidates, choose one, calibrate it, choose the thresholds.

    The test part is not used.

    Raises:
        LastingFailure: the data cannot be split, no candidate can be used, or one is served differently.
    """
    step = context.run.step("features")
    table = FeatureTable.of(context, step)
    labels = table.labels
    refuse_labels(context.contract, labels)
    refuse_features(context.contract, table.rows(slice(0, len(table))).features, table.copied_share)
    split = split_in_time(
        table.moments,
        labels,
        validation_share=context.training.validation_share,
        test_share=context.training.test_share,
        gap=context.training.label_gap // timedelta(microseconds=1),
    )
    run_id = _open(context, step)
    parts = {name: table.rows(rows) for name, rows in split.parts() if name != "test"}
    fit = partial(context.engine.final_fit, context.training, table.training_rows(split))
    trained = fit_model(context.contract, context.training, parts, get_logger(__name__).info, fit)
    chosen = thresholds(context, parts["calibration"], trained.scores)
    outcome: TrainResult = {
        "digests": {name: context.run.put(name, content) for name, content in trained.contents.items()},
        "split": _describe(split, labels),
        "engine": context.engine.name,
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
