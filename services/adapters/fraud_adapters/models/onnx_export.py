"""Exports a boosted-tree model of XGBoost as one ONNX `TreeEnsembleRegressor` that computes its margin.

Only the model's own JSON is read, so the two engines differ only in the order in which they add float32
leaves (ONNX operator: ai.onnx.ml, TreeEnsembleRegressor version 3).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import xgboost

from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.models.onnx_graph import Graph, TreeNodes


class ExportError(LastingFailure):
    """The export does not support this kind of model; the message names it."""


def cut_to_best(booster: xgboost.Booster) -> xgboost.Booster:
    """Drop the rounds after an early-stopped model's best one, so that both engines use the same trees."""
    best = booster.attributes().get("best_iteration")
    return booster if best is None else booster[: int(best) + 1]


def to_onnx(booster: xgboost.Booster) -> bytes:
    """The serialised ONNX model: input `features` float32 [n, k], output `margin` float32 [n, 1].

    Raises:
        ExportError: the model is not a `gbtree` for one binary target on numeric features.
    """
    graph = Graph(booster.num_features())
    return graph.finish(add_booster(graph, booster))


def add_booster(graph: Graph, booster: xgboost.Booster) -> str:
    """Add the model to a graph whose first columns are its features; returns the name of its margin.

    Raises:
        ExportError: see `to_onnx`.
    """
    learner = learner_of(booster)
    trees = TreeNodes()
    for number, tree in enumerate(learner["gradient_booster"]["model"]["trees"]):
        _add_tree(trees, number, tree)
    return graph.ensemble(trees, base_margin(learner))


def learner_of(booster: xgboost.Booster) -> dict[str, Any]:
    """The part `learner` of the model's JSON.

    Raises:
        ExportError: see `to_onnx`.
    """
    learner: dict[str, Any] = orjson.loads(bytes(booster.save_raw("json")))["learner"]
    _check(learner)
    return learner


def base_margin(learner: dict[str, Any]) -> float:
    """The margin before any tree: the logit of `base_score`, which XGBoost 3.1 and later store as `"[p]"`."""
    text = str(learner["learner_model_param"]["base_score"]).strip("[]")
    try:
        probability = float(text)
    except ValueError:
        raise ExportError(f"base_score {text!r} is not one number") from None
    if not 0 < probability < 1:
        raise ExportError(f"base_score {probability} is not a probability")
    return float(np.float32(math.log(probability / (1 - probability))))


def _check(learner: dict[str, Any]) -> None:
    objective = learner["objective"]["name"]
    if objective != "binary:logistic":
        raise ExportError(f"objective {objective} is not binary:logistic")
    booster = learner["gradient_booster"]
    if booster["name"] != "gbtree":
        raise ExportError(f"booster {booster['name']} is not gbtree")
    if learner["learner_model_param"]["num_target"] != "1":
        raise ExportError("the model has more than one target")
    if any(any(tree["split_type"]) for tree in booster["model"]["trees"]):
        raise ExportError("the model splits on categories")


def _add_tree(trees: TreeNodes, number: int, tree: dict[str, Any]) -> None:
    columns = zip(
        tree["left_children"],
        tree["right_children"],
        tree["split_indices"],
        tree["split_conditions"],
        tree["default_left"],
        strict=True,
    )
    for node, (left, right, feature, value, default_left) in enumerate(columns):
        if left == -1:
            # XGBoost stores the value of a leaf as its split condition.
            trees.leaf(number, node, value)
        else:
            trees.branch(
                number,
                node,
                mode="BRANCH_LT",
                feature=feature,
                value=value,
                true=left,
                false=right,
                missing_is_true=bool(default_left),
            )
