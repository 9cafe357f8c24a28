"""From the parts of the examples to a calibrated model with its files; no connection is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from config.job_results.trainer import CalibrationResult, CandidateResult
from config.parameters import Training
from fraud_adapters.job.failures import LastingFailure
from fraud_core.contract import Contract
from fraud_core.manifest import Calibration
from fraud_trainer.candidates.choosing import Choice, Parts, choose_candidate
from fraud_trainer.candidates.final_fit import FinalFit
from fraud_trainer.candidates.model_types import Progress
from fraud_trainer.train.exporting import FILES, MAX_DIFFERENCE, Exported, export, largest_difference
from fraud_trainer.train.fitting import Examples
from fraud_trainer.train.preparing import FittedPreparation, fit_preparation, folds_of, without
from fraud_trainer.train.selecting import dropped_columns

SCALED = {"neural_network", "isolation_forest", "logistic_regression"}


class ModelOutcome(TypedDict):
    """What `train.json` says of the model."""

    engines: dict[str, str]
    candidate: str
    choice: str
    candidates: dict[str, CandidateResult]
    members: list[dict[str, object]]
    preparation: dict[str, object] | None
    dropped: dict[str, str]
    export_difference: float
    calibration: CalibrationResult


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A chosen candidate with its files; `scores` [n] are those of the calibration part."""

    choice: Choice
    prepared: FittedPreparation
    exported: Exported
    calibration: Calibration
    scores: NDArray[np.float64]
    dropped: dict[str, str]
    difference: float

    @property
    def contents(self) -> dict[str, bytes]:
        return self.exported.contents

    def outcome(self) -> ModelOutcome:
        preparation = self.exported.preparation
        return {
            "engines": {engine: name for engine, name in FILES.items() if name in self.contents},
            "candidate": self.choice.fitted.name,
            "choice": self.choice.sentence,
            "candidates": self.choice.results,
            "members": [member.model_dump(mode="json") for member in self.exported.members],
            "preparation": None
            if preparation is None
            else preparation.model_dump(mode="json", exclude_none=True),
            "dropped": self.dropped,
            "export_difference": self.difference,
            "calibration": {
                "method": self.calibration.method,
                "slope": self.calibration.slope,
                "intercept": self.calibration.intercept,
            },
        }


def fit_model(
    contract: Contract,
    training: Training,
    parts: Mapping[str, Examples],
    progress: Progress,
    fit: Callable[[FittedPreparation, Parts], FinalFit] | None = None,
) -> TrainedModel:
    """Prepare, fit the candidates, choose one, calibrate and export it.

    Args:
        parts: `train`, `stopping` and `calibration`, in this order of time.
        progress: takes the name of an event and its figures.
        fit: how candidates are fitted on the training part; in this process by default.

    Raises:
        LastingFailure: no candidate can be used, or the exported one gives other scores than the trained one.
    """
    prepared, dropped, rows = prepare_parts(contract, training, parts)
    choice = choose_candidate(
        training,
        rows,
        progress,
        None if fit is None else fit(prepared, rows),
        with_automl=training.automl.enabled,
    )
    calibration = choice.calibrated.sigmoid
    scores = calibration.scores(choice.calibrated.margins)
    exported = export(choice.fitted, prepared)
    difference = largest_difference(exported, prepared, calibration, parts["calibration"], scores)
    if difference > MAX_DIFFERENCE:
        raise LastingFailure(
            f"The exported {choice.fitted.name} differs from the trained one by {difference:.2g}, "
            f"more than {MAX_DIFFERENCE:g}: it is not used."
        )
    return TrainedModel(choice, prepared, exported, calibration, scores, dropped, difference)


def prepare_parts(
    contract: Contract, training: Training, parts: Mapping[str, Examples]
) -> tuple[FittedPreparation, dict[str, str], Parts]:
    """Fit the preparation on `train`, apply it to all parts; also the dropped columns, with the reasons."""
    folds = folds_of(len(parts["train"].labels), training.seed)
    prepared = fit_preparation(contract, parts["train"], folds)
    scaled = training.automl.enabled or bool(SCALED & set(training.candidates))
    train = prepared.apply_to_training(parts["train"], folds, scaled=scaled)
    dropped = dropped_columns(training.selection, train.trees, train.labels)
    names = {prepared.trees.columns[position].name: reason for position, reason in dropped.items()}
    if dropped:
        prepared = without(prepared, list(dropped))
        train = prepared.apply_to_training(parts["train"], folds, scaled=scaled)
    stopping, calibration = (
        prepared.apply(parts[name], scaled=scaled) for name in ("stopping", "calibration")
    )
    return prepared, names, Parts(train, stopping, calibration)


def candidate_metrics(results: Mapping[str, CandidateResult]) -> dict[str, float | None]:
    """The figures of each candidate as MLflow's metrics, by `candidate.<name>.<figure>`."""
    metrics: dict[str, float | None] = {}
    for name, result in results.items():
        metrics[f"candidate.{name}.average_precision"] = result.get("average_precision")
        metrics[f"candidate.{name}.seconds"] = result.get("seconds")
        for option, score in result.get("imbalance_scores", {}).items():
            metrics[f"candidate.{name}.imbalance.{option}"] = score
        for figure, value in result.get("details", {}).items():
            if isinstance(value, int | float):
                metrics[f"candidate.{name}.{figure}"] = float(value)
    return metrics
