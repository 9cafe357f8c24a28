"""A bag of XGBoost models as one model whose margin is the mean of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import xgboost

from fraud_adapters.models.onnx_export import ExportError, base_margin, learner_of


def mean_of(boosters: Sequence[xgboost.Booster]) -> xgboost.Booster:
    """One model with the trees of all, in their order, and every leaf divided by the number of models.

    Its margin is the mean of the models' margins up to the rounding of float32 sums. XGBoost and ONNX Runtime
    then serve the bag as they serve a single model.

    Raises:
        ExportError: there is no model, their `base_score` or features differ, or one is not a `gbtree` for
            one binary target on numeric features.
    """
    learners = [learner_of(booster) for booster in boosters]
    if not learners:
        raise ExportError("a bag needs at least one model")
    if len({base_margin(learner) for learner in learners}) > 1:
        raise ExportError("the models of a bag have different base_score")
    if len({booster.num_features() for booster in boosters}) > 1:
        raise ExportError("the models of a bag have different features")
    document: dict[str, Any] = orjson.loads(bytes(boosters[0].save_raw("json")))
    model = document["learner"]["gradient_booster"]["model"]
    trees = [tree for learner in learners for tree in learner["gradient_booster"]["model"]["trees"]]
    model["trees"] = [_scaled(number, tree, 1 / len(boosters)) for number, tree in enumerate(trees)]
    model["tree_info"] = [0] * len(trees)
    model["iteration_indptr"] = list(range(len(trees) + 1))
    model["gbtree_model_param"] = {"num_trees": str(len(trees)), "num_parallel_tree": "1"}
    document["learner"]["attributes"] = {}
    result = xgboost.Booster()
    result.load_model(bytearray(orjson.dumps(document)))
    return result


def _scaled(number: int, tree: dict[str, Any], factor: float) -> dict[str, Any]:
    leaf = np.asarray(tree["left_children"]) == -1
    conditions = np.asarray(tree["split_conditions"], dtype=np.float32)
    weights = np.asarray(tree["base_weights"], dtype=np.float32) * np.float32(factor)
    return {
        **tree,
        "id": number,
        "split_conditions": np.where(leaf, conditions * np.float32(factor), conditions).tolist(),
        "base_weights": weights.tolist(),
    }
