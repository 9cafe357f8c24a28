"""Builds the ONNX graph of a model: tree ensembles and dense layers that end in one float32 margin a row.

Only operators are used whose result for a row does not depend on the number of rows (measured, and tested
for every kind of model). `Log` is not among them: its vectorised loop rounds differently from the one for the
rows that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

INPUT = "features"
OUTPUT = "margin"
_ML_OPSET = 3
_OPSET = 17
_IR_VERSION = 8


@dataclass(slots=True)
class TreeNodes:
    """The parallel lists of a `TreeEnsembleRegressor`: one entry a node, and one a leaf."""

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

    def branch(
        self,
        tree: int,
        node: int,
        *,
        mode: str,
        feature: int,
        value: float,
        true: int,
        false: int,
        missing_is_true: bool,
    ) -> None:
        """A decision; `mode` is `BRANCH_LT` or `BRANCH_LEQ`, a missing feature goes where it says."""
        self._node(tree, node, mode, feature, value, true, false, int(missing_is_true))

    def leaf(self, tree: int, node: int, value: float) -> None:
        self._node(tree, node, "LEAF", 0, 0.0, 0, 0, 0)
        self.leaf_trees.append(tree)
        self.leaf_nodes.append(node)
        self.leaf_values.append(value)

    def _node(  # noqa: PLR0917
        self,
        tree: int,
        node: int,
        mode: str,
        feature: int,
        value: float,
        true: int,
        false: int,
        missing: int,
    ) -> None:
        self.treeids.append(tree)
        self.nodeids.append(node)
        self.modes.append(mode)
        self.featureids.append(feature)
        self.values.append(value)
        self.truenodeids.append(true)
        self.falsenodeids.append(false)
        self.missing_tracks_true.append(missing)

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


class Graph:
    """Collects operators over the input float32 [n, width]; each method returns the name of its result."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def columns(self, start: int, stop: int) -> str:
        """The input's columns from `start` to before `stop`."""
        if (start, stop) == (0, self._width):
            return INPUT
        return self._add("Slice", [INPUT, *(self._constant(np.array([at])) for at in (start, stop, 1))])

    def ensemble(self, trees: TreeNodes, base: float) -> str:
        """The sum of the trees' leaves and `base`, [n, 1]; their features are columns of the input."""
        return self._add(
            "TreeEnsembleRegressor",
            [INPUT],
            domain="ai.onnx.ml",
            n_targets=1,
            aggregate_function="SUM",
            post_transform="NONE",
            base_values=[base],
            **trees.attributes(),
        )

    def dense(
        self, source: str, weights: NDArray[np.float32], bias: NDArray[np.float32], *, rectified: bool = False
    ) -> str:
        """`source` [n, k] times `weights` [k, m] plus `bias` [m]; with `rectified` no less than 0."""
        result = self._add("Gemm", [source, self._constant(weights), self._constant(bias)])
        return self._add("Relu", [result]) if rectified else result

    def weighted_sum(self, values: Sequence[str], weights: Sequence[float], bias: float) -> str:
        """The sum [n, 1] of `values`, each [n, 1], times `weights`, plus `bias`."""
        joined = self._add("Concat", list(values), axis=1)
        column = np.asarray(weights, dtype=np.float32)[:, None]
        return self.dense(joined, column, np.array([bias], dtype=np.float32))

    def finish(self, result: str) -> bytes:
        """The serialised model, whose output `margin` float32 [n, 1] is `result`."""
        for node in self._nodes:
            node.output[:] = [OUTPUT if name == result else name for name in node.output]
        graph = helper.make_graph(
            self._nodes,
            "fraud",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, self._width])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 1])],
            initializer=self._constants,
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="fraud")
        onnx.checker.check_model(model)
        content: bytes = model.SerializeToString()
        return content

    def _add(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def _constant(self, values: NDArray[Any]) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name
