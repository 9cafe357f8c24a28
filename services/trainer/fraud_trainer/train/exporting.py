"""Makes the files of a fitted candidate: ONNX for every kind, UBJ where it is boosted trees alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_adapters.models.loading import session_of
from fraud_adapters.models.onnx_graph import Graph
from fraud_core.manifest import Calibration, Member
from fraud_core.preparation import Preparation, Preparer
from fraud_trainer.candidates.model_types import Fitted
from fraud_trainer.train.fitting import Examples
from fraud_trainer.train.preparing import FittedPreparation

FILES: Final = {"xgboost": "model.ubj", "onnx": "model.onnx"}
MAX_DIFFERENCE: Final = 1e-5  # of a calibrated score, between training and serving


@dataclass(frozen=True, slots=True)
class Exported:
    """The files by engine, and what the manifest says of how they are used."""

    contents: dict[str, bytes]
    preparation: Preparation | None
    members: tuple[Member, ...]


def export(fitted: Fitted, prepared: FittedPreparation) -> Exported:
    """The candidate's files, and the preparation of the views that its members take."""
    views = [prepared.of(view) for view in fitted.views]
    ends = np.cumsum([len(view.columns) for view in views]).tolist()
    columns = {
        name: slice(end - len(view.columns), end)
        for name, view, end in zip(fitted.views, views, ends, strict=True)
    }
    graph = Graph(ends[-1])
    names = [part.part.add_to(graph, columns[part.part.view]) for part in fitted.parts]
    margin = names[0]
    if fitted.votes:
        weights = [part.weight * part.slope for part in fitted.parts]
        bias = fitted.bias + sum(part.weight * part.intercept for part in fitted.parts)
        margin = graph.weighted_sum(names, weights, bias)
    contents = {FILES["onnx"]: graph.finish(margin)}
    if fitted.booster is not None:
        contents[FILES["xgboost"]] = bytes(fitted.booster.save_raw("ubj"))
    preparation = Preparation.joined(views)
    return Exported(
        contents, None if preparation.is_identity(prepared.features) else preparation, _members(fitted)
    )


def largest_difference(
    exported: Exported,
    prepared: FittedPreparation,
    calibration: Calibration,
    examples: Examples,
    scores: NDArray[np.float64],
) -> float:
    """How far the scores of the ONNX file are from those in training, [n], on these n examples, at most."""
    inputs = examples.features
    if exported.preparation is not None:
        inputs = Preparer(exported.preparation, prepared.features).apply(inputs)
    session = session_of(exported.contents[FILES["onnx"]], inputs.shape[1])
    served = session.run(None, {session.get_inputs()[0].name: inputs})[0][:, 0]
    return float(np.max(np.abs(calibration.scores(served) - scores)))


def _members(fitted: Fitted) -> tuple[Member, ...]:
    if not fitted.votes:
        return ()
    return tuple(
        Member(name=part.name, weight=part.weight, slope=part.slope, intercept=part.intercept)
        for part in fitted.parts
    )
