"""Checks of what a version answers: its shape, its range, and whether its engines agree.

The golden set is what is kept with the version: its input example, and rows made of the quantiles of its
reference profile, one row a quantile and one in which every feature is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from config.job_results.rollout import FindingResult
from fraud_adapters.models.loading import ENGINE_BATCH, Model
from fraud_core.profile import LEVELS, Profile
from fraud_rollout.validation.findings import bounded, failed, insufficient, passed
from fraud_rollout.validation.versions import Features, LoadedVersion

# MLflow's client computes the calibration within the graph, in float64 as a service does outside it.
MLFLOW_TOLERANCE: Final = 1e-9
_SHOWN: Final = 5  # single rows that are scored alone and compared bit by bit


def golden_rows(version: LoadedVersion) -> Features:
    """The golden set, float32 [m, k]; without profile and example it has no row."""
    parts = [np.empty((0, len(version.model.manifest.features)), dtype=np.float32)]
    if version.example is not None:
        parts.append(version.example)
    if version.profile is not None:
        parts.append(_quantile_rows(version.profile))
    return np.ascontiguousarray(np.concatenate(parts))


def check_scores(version: LoadedVersion, recent: Features, tolerance: float) -> Iterator[FindingResult]:
    """Whether every answer is one score a row within [0, 1], and the same from each engine.

    Args:
        recent: features of recent transactions, float32 [n, k]; n may be 0.
    """
    golden = golden_rows(version)
    rows = np.ascontiguousarray(np.concatenate([golden, recent]))
    if not len(rows):
        yield insufficient("outputs", "The version has no golden set and there is no recent transaction.")
        return
    by_batch, by_few = version.model.score_batch(rows).values, version.model.score_few(rows).values
    problem = output_problem(by_batch, len(rows)) or output_problem(by_few, len(rows))
    if problem:
        yield failed("outputs", problem)
        return
    yield passed("outputs", f"{len(rows):,} rows got one finite score each, from 0 to 1.")
    yield _engines(version.model, by_batch, by_few, tolerance)
    yield _alone(version.model, rows[:_SHOWN], by_few[:_SHOWN])
    yield from _example(version)


def output_problem(scores: NDArray[np.float64], rows: int) -> str | None:
    """What is wrong with the scores of so many rows, in one sentence."""
    if scores.shape != (rows,):
        return f"The version answers {rows} rows with scores of shape {scores.shape}."
    if not np.isfinite(scores).all():
        return f"{np.count_nonzero(~np.isfinite(scores)):,} of {rows:,} scores are not finite numbers."
    if ((scores < 0) | (scores > 1)).any():
        return f"Scores lie between {scores.min():.6g} and {scores.max():.6g} instead of 0 and 1."
    return None


def _engines(
    model: Model, by_batch: NDArray[np.float64], by_few: NDArray[np.float64], tolerance: float
) -> FindingResult:
    if model.engine_batch != ENGINE_BATCH:
        return passed("engines", "ONNX Runtime alone scores this kind of model.", value=0.0, bound=tolerance)
    largest = float(np.abs(by_batch - by_few).max())
    sentence = f"XGBoost and ONNX Runtime differ by at most {largest:.2g} ({tolerance:.2g} is allowed)."
    return bounded("engines", sentence, largest, tolerance)


def _alone(model: Model, rows: Features, together: NDArray[np.float64]) -> FindingResult:
    alone = [model.score_single(rows[row : row + 1]).values[0] for row in range(len(rows))]
    if np.array_equal(np.array(alone), together):
        return passed("single_rows", f"{len(rows)} rows score alone as they do together.")
    return failed("single_rows", "A row's score depends on the rows that are scored with it.")


def _example(version: LoadedVersion) -> Iterator[FindingResult]:
    """The example's first row is typical of legitimate transactions, its second one of frauds."""
    if version.example is None:
        yield insufficient("example", "The version has no input example.")
        return
    scores = version.model.score_few(version.example).values
    if len(scores) == 2:
        shown = (
            f"the typical fraud scores {scores[1]:.4f}, the typical legitimate transaction {scores[0]:.4f}"
        )
        if scores[1] > scores[0]:
            yield passed("example", f"As it should be, {shown}.")
        else:
            yield failed("example", f"The version is the wrong way round: {shown}.")
    if version.mlflow_model is not None:
        largest = float(np.abs(_by_mlflow_file(version.mlflow_model, version.example) - scores).max())
        sentence = f"What MLflow's client loads differs by at most {largest:.2g} on the input example."
        yield bounded("mlflow_model", sentence, largest, MLFLOW_TOLERANCE)


def _by_mlflow_file(content: bytes, rows: Features) -> NDArray[np.float64]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    scores = session.run(None, {session.get_inputs()[0].name: rows})[0]
    return np.asarray(scores, dtype=np.float64)[:, 0]


def _quantile_rows(profile: Profile) -> Features:
    """One row for each level of `LEVELS`, of all features at that quantile, and one without any value."""
    edges = [feature.histogram.edges for feature in profile.features]
    rows = np.full((len(LEVELS) + 1, len(edges)), np.nan, dtype=np.float32)
    for column, values in enumerate(edges):
        for row in range(len(LEVELS)):
            if values:
                rows[row, column] = values[min(row, len(values) - 1)]
    return rows
