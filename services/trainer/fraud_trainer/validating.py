"""The step that judges: the model as it will be served, on the held-out part, against the gate."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud_adapters.job import JobFailed
from fraud_adapters.scoring import Model
from fraud_core import manifest as manifests
from fraud_core.decision import is_fraud
from fraud_core.gate import evaluate
from fraud_core.manifest import Calibration, Manifest
from fraud_core.metrics import average_precision, confusion, curve
from fraud_trainer import plots
from fraud_trainer.bench import Bench
from fraud_trainer.fitting import Examples
from fraud_trainer.judging import Figures, brier, figures
from fraud_trainer.steps import FILES, read_features

MAX_ENGINE_DIFFERENCE: Final = 1e-5
_PICTURES: Final = "plots"


def validate(bench: Bench) -> dict[str, Any]:
    """Score the held-out part with both engines, measure, hold against the gate, and write the manifest.

    Raises:
        JobFailed: the engines disagree by more than `MAX_ENGINE_DIFFERENCE`.
    """
    trained = bench.run.step("train")
    part = trained["split"]["test"]
    _, data = read_features(bench)
    held = Examples(data.features[part["from"] : part["to"]], data.labels[part["from"] : part["to"]])
    unmeasured = _manifest(bench, trained, {})
    with model_directory(bench, unmeasured) as directory:
        model = Model.load(directory, unmeasured.digest(), bench.contract)
        scores, difference = _scores(model, held.features)
    if difference > MAX_ENGINE_DIFFERENCE:
        bench.tracking().finish(trained["mlflow_run_id"], "FAILED")
        raise JobFailed(
            f"The ONNX model differs from XGBoost's by {difference:.2g} on the held-out part, "
            f"more than {MAX_ENGINE_DIFFERENCE:g}: it is not registered."
        )
    measured = _measure(bench, held, scores, float(trained["threshold"]), trained["mlflow_run_id"])
    measured["engines_max_difference"] = difference
    manifest = _manifest(bench, trained, measured)
    outcome = evaluate(
        bench.gate,
        bench.policy,
        measured,
        frauds=int(held.labels.sum()),
        frauds_needed=bench.training.min_test_frauds,
    )
    result = {
        "digest": bench.run.put(manifests.FILE_NAME, manifest.to_json()),
        "metrics": measured,
        "gate": outcome.to_mapping(),
        "passed": outcome.passed,
        "sentence": outcome.sentence(),
    }
    _track(bench, trained["mlflow_run_id"], result)
    bench.run.finish_step("validate", result)
    return result


@contextmanager
def model_directory(bench: Bench, manifest: Manifest) -> Iterator[Path]:
    """The model version's directory, from the run's files and a manifest; gone afterwards."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for file, digest in manifest.digests.items():
            (directory / file).write_bytes(bench.run.get(file, digest))
        (directory / manifests.FILE_NAME).write_bytes(manifest.to_json())
        yield directory


def _manifest(bench: Bench, trained: dict[str, Any], measured: Figures) -> Manifest:
    loaded = bench.run.step("load")
    return Manifest(
        contract=bench.contract.name,
        contract_version=bench.contract.version,
        features=bench.contract.feature_names,
        threshold=trained["threshold"],
        block_threshold=trained["block_threshold"],
        threshold_rule=trained["threshold_rule"],
        calibration=Calibration.model_validate(trained["calibration"]),
        metrics=measured,
        data_from=datetime.fromisoformat(loaded["data_from"]),
        data_to=datetime.fromisoformat(loaded["data_to"]),
        created_at=datetime.fromisoformat(trained["created_at"]),
        code_version=trained["code_version"],
        engines={"xgboost": FILES["xgboost"], "onnx": FILES["onnx"]},
        digests=trained["digests"],
    )


def _scores(model: Model, features: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """XGBoost's scores [n], and by how much ONNX Runtime's differ at most, row by row."""
    scores = model.score_batch(features).values
    single = model.score_with(model.engine_single, features).values
    return scores, float(np.max(np.abs(scores - single)))


def _measure(
    bench: Bench, held: Examples, scores: NDArray[np.float64], threshold: float, run_id: str
) -> Figures:
    found = confusion(held.labels, is_fraud(scores, threshold))
    points = curve(held.labels, scores)
    measured = figures(found, points, bench.policy)
    measured["brier"] = brier(held.labels, scores)
    measured["test_rows"], measured["test_frauds"] = float(len(scores)), float(held.labels.sum())
    with tempfile.TemporaryDirectory() as name:
        plots.precision_recall(points, found, average_precision(points), Path(name) / "precision_recall.png")
        plots.confusion_matrix(found, Path(name) / "confusion_matrix.png")
        bench.tracking().log_files(run_id, Path(name), _PICTURES)
    return measured


def _track(bench: Bench, run_id: str, result: dict[str, Any]) -> None:
    loaded = bench.run.step("load")
    optimum = loaded["optimum"] or {}
    bench.tracking().log(
        run_id,
        metrics={**result["metrics"], **{f"optimum_{name}": value for name, value in optimum.items()}},
        tags={
            "gate": bench.gate,
            "gate_passed": str(result["passed"]).lower(),
            "gate_sentence": result["sentence"],
            "manifest_digest": result["digest"],
            **({"optimum_population": loaded["population"]} if optimum else {}),
        },
    )
