"""The step `validate`: judges the model as it will be served, on the held-out part, against the gate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from config.job_results import ValidateResult
from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.job.scratch import scratch_directory
from fraud_adapters.models.loading import Model
from fraud_adapters.objectstore.run_store import Step
from fraud_core import manifest as manifests
from fraud_core.decision import is_fraud
from fraud_core.gate import GateOutcome, evaluate
from fraud_core.manifest import Calibration, Manifest
from fraud_core.metrics import average_precision, confusion, curve
from fraud_core.moments import parse_moment
from fraud_trainer import plots
from fraud_trainer.figures import Figures, brier, figures
from fraud_trainer.fitting import Examples
from fraud_trainer.run_context import RunContext
from fraud_trainer.steps import read_features
from fraud_trainer.tracking import resume_run

MAX_ENGINE_DIFFERENCE: Final = 1e-5
_PICTURES: Final = "plots"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A trained model on the held-out part: labels and scores [n], figures, manifest, verdict."""

    held_out: Examples
    scores: NDArray[np.float64]
    metrics: Figures
    manifest: Manifest
    gate: GateOutcome


def judge(context: RunContext, trained: Step) -> Judgement:
    """Score the held-out part with both engines, compute the metrics and evaluate the gate; writes nothing.

    Raises:
        LastingFailure: the engines disagree by more than `MAX_ENGINE_DIFFERENCE`.
    """
    part = trained["split"]["test"]
    _, data = read_features(context, context.run.step("features"))
    held_out = Examples(data.features[part["from"] : part["to"]], data.labels[part["from"] : part["to"]])
    unmeasured = _manifest(context, trained, {})
    with model_directory(context, unmeasured) as directory:
        model = Model.load(directory, unmeasured.digest(), context.contract)
        scores, difference = _scores(model, held_out.features)
    if difference > MAX_ENGINE_DIFFERENCE:
        raise LastingFailure(
            f"The ONNX model differs from XGBoost's by {difference:.2g} on the held-out part, "
            f"more than {MAX_ENGINE_DIFFERENCE:g}: it is not registered."
        )
    metrics = _measure(context, held_out, scores, float(trained["threshold"]))
    metrics["engines_max_difference"] = difference
    outcome = evaluate(
        context.gate,
        context.policy,
        metrics,
        frauds=int(held_out.labels.sum()),
        frauds_needed=context.training.min_test_frauds,
    )
    return Judgement(held_out, scores, metrics, _manifest(context, trained, metrics), outcome)


def validate(context: RunContext) -> ValidateResult:
    """Judge the trained model, and write the manifest and the verdict.

    Raises:
        LastingFailure: the engines disagree, or the MLflow run belongs to another training.
    """
    trained = context.run.step("train")
    run_id = resume_run(context, trained)
    judgement = judge(context, trained)
    result: ValidateResult = {
        "digest": context.run.put(manifests.FILE_NAME, judgement.manifest.to_json()),
        "metrics": judgement.metrics,
        "gate": judgement.gate.to_mapping(),
        "passed": judgement.gate.passed,
        "sentence": judgement.gate.sentence(),
    }
    _draw(context, run_id, judgement, float(trained["threshold"]))
    _track(context, run_id, result)
    context.run.finish(context.run.seal("validate", result, trained))
    return result


@contextmanager
def model_directory(context: RunContext, manifest: Manifest) -> Iterator[Path]:
    """A temporary directory with the model version's files and the manifest."""
    with scratch_directory() as directory:
        for file, digest in manifest.digests.items():
            (directory / file).write_bytes(context.run.get(file, digest))
        (directory / manifests.FILE_NAME).write_bytes(manifest.to_json())
        yield directory


def _manifest(context: RunContext, trained: Step, measured: Figures) -> Manifest:
    loaded = context.run.step("load")
    return Manifest(
        contract=context.contract.name,
        contract_version=context.contract.version,
        features=context.contract.feature_names,
        threshold=trained["threshold"],
        block_threshold=trained["block_threshold"],
        threshold_rule=trained["threshold_rule"],
        calibration=Calibration.model_validate(trained["calibration"]),
        metrics=measured,
        data_from=parse_moment(loaded["data_from"]),
        data_to=parse_moment(loaded["data_to"]),
        created_at=parse_moment(trained["created_at"]),
        code_version=trained["code_version"],
        engines=trained["engines"],
        digests=trained["digests"],
        candidate=trained["candidate"],
        members=trained["members"],
        preparation=trained["preparation"],
    )


def _scores(model: Model, features: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """The scores of batches [n], and the largest absolute difference to those of single transactions."""
    scores = model.score_batch(features).values
    single = model.score_with(model.engine_single, features).values
    return scores, float(np.max(np.abs(scores - single)))


def _measure(
    context: RunContext, held_out: Examples, scores: NDArray[np.float64], threshold: float
) -> Figures:
    counts = confusion(held_out.labels, is_fraud(scores, threshold))
    measured = figures(counts, curve(held_out.labels, scores), context.policy)
    measured["brier"] = brier(held_out.labels, scores)
    measured["test_rows"], measured["test_frauds"] = float(len(scores)), float(held_out.labels.sum())
    return measured


def _draw(context: RunContext, run_id: str, judgement: Judgement, threshold: float) -> None:

    labels, scores = judgement.held_out.labels, judgement.scores
    counts, points = confusion(labels, is_fraud(scores, threshold)), curve(labels, scores)
    with scratch_directory() as directory:
        plots.precision_recall(points, counts, average_precision(points), directory / "precision_recall.png")
        plots.confusion_matrix(counts, directory / "confusion_matrix.png")
        context.tracking().log_files(run_id, directory, _PICTURES)


def _track(context: RunContext, run_id: str, result: ValidateResult) -> None:
    loaded = context.run.step("load")
    optimum = loaded["optimum"] or {}
    context.tracking().log(
        run_id,
        metrics={**result["metrics"], **{f"optimum_{name}": value for name, value in optimum.items()}},
        tags={
            "gate": context.gate,
            "gate_passed": str(result["passed"]).lower(),
            "gate_sentence": result["sentence"],
            "manifest_digest": result["digest"],
            **({"optimum_population": loaded["population"]} if optimum else {}),
        },
    )
