"""Adds scikit-learn's forests to an ONNX graph, each as one `TreeEnsembleRegressor`.

scikit-learn compares a float32 feature with a float64 threshold; rounding the threshold down to float32 keeps
every such comparison. Estimators are read by their documented attributes, so scikit-learn is not imported.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fraud_adapters.models.onnx_export import ExportError
from fraud_adapters.models.onnx_graph import Graph, TreeNodes

_EULER_GAMMA = 0.5772156649015329


def add_random_forest(graph: Graph, forest: Any, offset: int) -> str:
    """A `RandomForestClassifier`'s probability of fraud, [n, 1]; its features start at column `offset`.

    Raises:
        ExportError: its classes are not 0 and 1.
    """
    if list(forest.classes_) != [0, 1]:
        raise ExportError(f"the forest's classes are {list(forest.classes_)}, not 0 and 1")
    trees, count = TreeNodes(), len(forest.estimators_)
    for number, estimator in enumerate(forest.estimators_):
        # [nodes, outputs, classes]: shares of the classes since scikit-learn 1.3.
        _add(trees, number, estimator.tree_, estimator.tree_.value[:, 0, 1] / count, offset)
    return graph.ensemble(trees, 0.0)


def add_isolation_forest(graph: Graph, forest: Any, offset: int) -> str:
    """Minus an `IsolationForest`'s mean path length by that of a random tree, [n, 1]: log2 of its score.

    A row's path in a tree is the depth of its leaf and c(n), the mean path length in a tree of the leaf's n
    examples (Liu, Ting and Zhou 2008). Its features start at column `offset`, and it was trained on all. None
    of them may be missing: an evaluation that need not ask for it is quicker.
    """
    trees = TreeNodes()
    scale = len(forest.estimators_) * float(mean_path_length(np.array([forest.max_samples_]))[0])
    for number, estimator in enumerate(forest.estimators_):
        tree = estimator.tree_
        paths = _depths(tree) + mean_path_length(tree.n_node_samples)
        _add(trees, number, tree, -paths / scale, offset, missing=False)
    return graph.ensemble(trees, 0.0)


def mean_path_length(examples: NDArray[Any]) -> NDArray[np.float64]:
    """c(n), the mean length of an unsuccessful search in a binary tree of n examples, shape [k] → [k]."""
    count = np.asarray(examples, dtype=np.float64)
    result = np.where(count == 2, 1.0, 0.0)
    many = count > 2
    result[many] = 2 * (np.log(count[many] - 1) + _EULER_GAMMA) - 2 * (count[many] - 1) / count[many]
    return result


def _depths(tree: Any) -> NDArray[np.float64]:
    """The number of edges above each node; children come after their parent."""
    depths = np.zeros(tree.node_count)
    for node, (left, right) in enumerate(zip(tree.children_left, tree.children_right, strict=True)):
        if left != -1:
            depths[[left, right]] = depths[node] + 1
    return depths


def _add(
    trees: TreeNodes,
    number: int,
    tree: Any,
    leaves: NDArray[np.float64],
    offset: int,
    *,
    missing: bool = True,
) -> None:
    thresholds = _rounded_down(tree.threshold)
    columns = zip(
        tree.children_left.tolist(),
        tree.children_right.tolist(),
        tree.feature.tolist(),
        thresholds.tolist(),
        tree.missing_go_to_left.tolist(),
        leaves.tolist(),
        strict=True,
    )
    for node, (left, right, feature, threshold, missing_left, leaf) in enumerate(columns):
        if left == -1:
            trees.leaf(number, node, leaf)
        else:
            trees.branch(
                number,
                node,
                mode="BRANCH_LEQ",
                feature=feature + offset,
                value=threshold,
                true=left,
                false=right,
                missing_is_true=missing and bool(missing_left),
            )


def _rounded_down(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 that is not above each value."""
    nearest = values.astype(np.float32)
    return np.where(nearest > values, np.nextafter(nearest, np.float32(-np.inf)), nearest)
