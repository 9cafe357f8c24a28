"""Exports a boosted-tree model of XGBoost as one ONNX `TreeEnsembleRegressor` that computes its margin.

Only the model's own JSON is read, so the two engines differ only in the order in which they add float32
leaves (ONNX operator: ai.onnx.ml, TreeEnsembleRegressor version 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import orjson
import xgboost
from onnx import TensorProto, helper

from fraud_adapters.job.failures import LastingFailure

INPUT = "features"
OUTPUT = "margin"
_ML_OPSET = 3
_OPSET = 17
_IR_VERSION = 8


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
    learner = orjson.loads(bytes(booster.save_raw("json")))["learner"]
    _check(learner)
    model = learner["gradient_booster"]["model"]
    nodes = _Nodes()
    for number, tree in enumerate(model["trees"]):
        nodes.add(number, tree)
    width = int(learner["learner_model_param"]["num_feature"])
    operator = helper.make_node(
        "TreeEnsembleRegressor",
        [INPUT],
        [OUTPUT],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        base_values=[base_margin(learner)],
        **nodes.attributes(),
    )
    graph = helper.make_graph(
        [operator],
        "fraud",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    result = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="fraud")
    onnx.checker.check_model(result)
    content: bytes = result.SerializeToString()
    return content


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


@dataclass(slots=True)
class _Nodes:
    """The operator's parallel lists: one entry a node, and one a leaf."""

    treeids: list[int] = field(default_factory=list)
    nodeids: list[int] = field(default_factory=list)
    featureids: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    modes: list[str] = field(default_factory=list)
    truenodeids: list[int] = field(default_factory=list)
    falsenodeids: list[int] = field(default_factory=list)
    missing_tracks_true: list[int] = field(default_factory=list)
    leaf_trees: list[int] = field(default_factory=list)
    leaf_nodes: list[int] = field(default_factory=list)
    leaf_values: list[float] = field(default_factory=list)

    def add(self, number: int, tree: dict[str, Any]) -> None:
        columns = zip(
            tree["left_children"],
            tree["right_children"],
            tree["split_indices"],
            tree["split_conditions"],
            tree["default_left"],
            strict=True,
        )
        for node, (left, right, feature, value, default_left) in enumerate(columns):
            is_leaf = left == -1
            self.treeids.append(number)
            self.nodeids.append(node)
            self.modes.append("LEAF" if is_leaf else "BRANCH_LT")
            self.featureids.append(0 if is_leaf else feature)
            self.values.append(0.0 if is_leaf else value)
            self.truenodeids.append(0 if is_leaf else left)
            self.falsenodeids.append(0 if is_leaf else right)
            self.missing_tracks_true.append(0 if is_leaf else int(default_left))
            if is_leaf:
                # XGBoost stores the value of a leaf as its split condition.
                self.leaf_trees.append(number)
                self.leaf_nodes.append(node)
                self.leaf_values.append(value)

    def attributes(self) -> dict[str, Any]:
        return {
            "nodes_treeids": self.treeids,
            "nodes_nodeids": self.nodeids,
            "nodes_featureids": self.featureids,
            "nodes_values": self.values,
            "nodes_modes": self.modes,
            "nodes_truenodeids": self.truenodeids,
            "nodes_falsenodeids": self.falsenodeids,
            "nodes_missing_value_tracks_true": self.missing_tracks_true,
            "target_treeids": self.leaf_trees,
            "target_nodeids": self.leaf_nodes,
            "target_ids": [0] * len(self.leaf_trees),
            "target_weights": self.leaf_values,
        }
