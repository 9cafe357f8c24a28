"""Imports a model that was trained elsewhere, in place of the step `train`; all other steps are the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from config.job_results.trainer import ImportResult, SplitPart
from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.models.foreign import ForeignModel, Output, from_onnx, from_xgboost
from fraud_adapters.models.registry import MAX_FILE_BYTES
from fraud_trainer.engines.feature_table import FeatureTable
from fraud_trainer.load.file_examples import FILE
from fraud_trainer.run_context import RunContext
from fraud_trainer.steps import thresholds
from fraud_trainer.tracking import TAG_TRAINED, open_run
from fraud_trainer.train.calibration import fit_sigmoid
from fraud_trainer.train.exporting import FILES
from fraud_trainer.train.fitting import Examples
from fraud_trainer.train.splitting import SplitError
from fraud_trainer.train.thresholds import Thresholds

ORIGIN: Final[Literal["imported"]] = "imported"
_XGBOOST: Final = frozenset({".ubj", ".json"})
_ONNX: Final = ".onnx"


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What was asked for: the files, and what the model's file does not tell by itself."""

    model: Path
    feature_order: tuple[str, ...] | None
    output: Output | None
    threshold: float | None


def adopt(context: RunContext, request: ImportRequest) -> ImportResult:
    """Take the model over, fit the calibration and choose the thresholds; the later part judges it.

    Raises:
        ForeignModelRefused: the model cannot be taken over.
        SplitError: a part of the data lacks frauds or legitimate transactions.
    """
    content = _read(request.model)
    step = context.run.step("features")
    table = FeatureTable.of(context, step)
    data = table.everything()
    split = _split(context, table.moments, data.labels)
    model = _foreign_model(context, request, content, data.features)
    run_id = _open(context, request, content, step["digest"])
    digests = {FILES[engine]: context.run.put(FILES[engine], file) for engine, file in model.contents.items()}
    part = slice(split["calibration"]["from"], split["calibration"]["to"])
    margins, rows = model.margins[part], data.part(part)
    calibration = fit_sigmoid(margins, rows.labels)
    chosen = _thresholds(context, request, rows, calibration.scores(margins))
    outcome: ImportResult = {
        "origin": ORIGIN,
        "file": request.model.name,
        "file_digest": hashlib.sha256(content).hexdigest(),
        "output": model.output,
        "output_detected": model.detected,
        "engines": {engine: file for engine, file in FILES.items() if file in digests},
        "candidate": None,
        "members": [],
        "preparation": None,
        "digests": digests,
        "split": split,
        "calibration": {
            "method": calibration.method,
            "slope": calibration.slope,
            "intercept": calibration.intercept,
        },
        "threshold": chosen.threshold,
        "block_threshold": chosen.block_threshold,
        "threshold_rule": chosen.rule,
        "created_at": context.now.isoformat(),
        "code_version": context.code_version,
        "mlflow_run_id": run_id,
    }
    trained = context.run.seal("train", outcome, step)
    _track(context, run_id, outcome, trained.digest)
    context.run.finish(trained)
    return outcome


def _read(path: Path) -> bytes:
    if path.suffix.lower() not in {*_XGBOOST, _ONNX}:
        raise LastingFailure(
            f"{path.name}: a model ends in .ubj or .json (XGBoost) or .onnx; others are not read, since they "
            "are code."
        )
    try:
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise LastingFailure(
                f"{path.name}: has {size:,} bytes; a model's file has at most {MAX_FILE_BYTES:,}."
            )
        return path.read_bytes()
    except OSError as error:
        raise LastingFailure(f"{path}: cannot be read: {error.strerror}.") from None


def _foreign_model(
    context: RunContext, request: ImportRequest, content: bytes, features: NDArray[np.float32]
) -> ForeignModel:
    names = context.contract.feature_names
    if request.model.suffix.lower() in _XGBOOST:
        if request.output == "probability":
            raise LastingFailure("--output: a model of XGBoost gives its margin; the option is for ONNX.")
        return from_xgboost(content, names, request.feature_order, features)
    return from_onnx(content, names, request.feature_order, request.output, features)


def _split(context: RunContext, moments: NDArray[np.int64], labels: NDArray[np.int8]) -> dict[str, SplitPart]:
    """In time: the calibration's share of what the trainer holds back for both, then the test part.

    Nothing is trained, so all rows are used; `train` names the rows of the calibration, because what is
    fitted is fitted on them.
    """
    training, rows = context.training, len(labels)
    calibration_share = training.validation_share * 2 / 3
    cut = round(rows * calibration_share / (calibration_share + training.test_share))
    cut = int(np.searchsorted(moments, moments[min(cut, rows - 1)], side="left"))
    parts = {"calibration": (0, cut), "test": (cut, rows), "train": (0, cut)}
    for name, (start, stop) in parts.items():
        frauds = int(labels[start:stop].sum())
        if not 0 < frauds < stop - start:
            raise SplitError(
                f"The data cannot be split in time: of {rows} transactions the part {name} has "
                f"{stop - start}, {frauds} of them frauds; each part needs both kinds."
            )
    return {
        name: {"from": start, "to": stop, "frauds": int(labels[start:stop].sum())}
        for name, (start, stop) in parts.items()
    }


def _thresholds(
    context: RunContext, request: ImportRequest, rows: Examples, scores: NDArray[np.float64]
) -> Thresholds:
    chosen = thresholds(context, rows, scores)
    if request.threshold is None:
        return chosen
    block = max(chosen.block_threshold, request.threshold)
    rule = f"threshold {request.threshold:g} given at the import; blocked from {block:g} on"
    return Thresholds(request.threshold, block, rule)


def _open(context: RunContext, request: ImportRequest, content: bytes, features_digest: str) -> str:
    """Open the MLflow run; returns its id."""
    inputs = {
        "contract": context.contract.schema_id,
        "code": context.code_version,
        "model": hashlib.sha256(content).hexdigest(),
        "features": features_digest,
        "asked": [request.feature_order, request.output, request.threshold],
        "gate": [context.gate, context.policy.model_dump(mode="json")],
    }
    digest = hashlib.sha256(orjson.dumps(inputs, option=orjson.OPT_SORT_KEYS)).hexdigest()
    tags = {
        "contract": context.contract.schema_id,
        "code_version": context.code_version,
        "data_source": FILE,
        "origin": ORIGIN,
    }
    return open_run(context, digest, tags)


def _track(context: RunContext, run_id: str, outcome: ImportResult, digest: str) -> None:
    loaded = context.run.step("load")
    context.tracking().log(
        run_id,
        parameters={
            "file": outcome["file"],
            "file_digest": outcome["file_digest"],
            "output": outcome["output"],
            "output_detected": outcome["output_detected"],
            "gate": context.gate,
            "data_from": loaded["data_from"],
            "data_to": loaded["data_to"],
            "examples_digest": loaded["digest"],
            "threshold_rule": outcome["threshold_rule"],
        },
        metrics={"threshold": outcome["threshold"], "block_threshold": outcome["block_threshold"]},
        tags={TAG_TRAINED: digest},
    )
