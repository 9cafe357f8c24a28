"""A model's preparation as nodes in front of its ONNX graph, for clients that have no `Preparer`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from fraud_core.preparation import Preparation, PreparedColumn

FEATURES: Final = "features"
_PREPARED: Final = "prepared"
_PREFIX: Final = "model_"


def with_preparation(content: bytes, preparation: Preparation, features: Sequence[str]) -> bytes:
    """An ONNX model that takes the contract's features, float32 [n, k], instead of the prepared columns.

    Args:
        content: an ONNX model of one input, the prepared columns, float32 [n, m].
        features: the names of the contract's features, in their order.
    """
    model = onnx.load_model_from_string(content)
    opset = {entry.domain: entry.version for entry in model.opset_import}
    before = _Nodes(preparation.columns, features).model(opset.get("", 17), model.ir_version)
    after = compose.add_prefix(model, _PREFIX)
    joined = compose.merge_models(before, after, io_map=[(_PREPARED, after.graph.input[0].name)])
    # Clients know the output by its own name.
    _rename_output(joined, joined.graph.output[0].name.removeprefix(_PREFIX))
    onnx.checker.check_model(joined)
    result: bytes = joined.SerializeToString()
    return result


class _Nodes:
    """The nodes that do what `Preparer.apply` does, in the same order."""

    def __init__(self, columns: Sequence[PreparedColumn], features: Sequence[str]) -> None:
        self._columns = columns
        self._features = features
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def model(self, opset: int, ir_version: int) -> onnx.ModelProto:
        prepared = self._prepared()
        self._nodes.append(helper.make_node("Identity", [prepared], [_PREPARED]))
        graph = helper.make_graph(
            self._nodes,
            "preparation",
            [helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, [None, len(self._features)])],
            [helper.make_tensor_value_info(_PREPARED, TensorProto.FLOAT, [None, len(self._columns)])],
            self._constants,
        )
        opsets = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, producer_name="fraud")

    def _prepared(self) -> str:
        source = np.array([self._features.index(column.feature) for column in self._columns], dtype=np.int64)
        came = self._node("Gather", FEATURES, self._constant(source), axis=1)
        missing = self._node("IsNaN", came)
        result = self._node("Where", missing, self._numbers("fill", np.nan), came)
        result = self._node("Max", result, self._numbers("low", -np.inf))
        result = self._node("Min", result, self._numbers("high", np.inf))
        result = self._replaced("missing", self._node("Cast", missing, to=TensorProto.FLOAT), result)
        codes = self._node("Equal", came, self._numbers("code", 0.0))
        result = self._replaced("equals", self._node("Cast", codes, to=TensorProto.FLOAT), result)
        for position, column in enumerate(self._columns):
            if column.kind == "lookup":
                result = self._looked_up(position, column, came, result)
        centred = self._node("Sub", result, self._numbers("center", 0.0))
        return self._node("Div", centred, self._numbers("scale", 1.0))

    def _replaced(self, kind: str, values: str, result: str) -> str:
        """`result` with the columns of a kind taken from `values`."""
        return self._node(
            "Where", self._constant(np.array([[c.kind == kind for c in self._columns]])), values, result
        )

    def _looked_up(self, position: int, column: PreparedColumn, came: str, result: str) -> str:
        assert column.table is not None and column.otherwise is not None
        entries = [column.otherwise if entry is None else entry for entry in column.table]
        table = self._constant(np.array([*entries, column.otherwise], dtype=np.float32))
        last = np.float32(len(entries))
        codes = self._node("Gather", came, self._constant(np.array([position])), axis=1)
        known = self._node(
            "And",
            self._node("GreaterOrEqual", codes, self._constant(np.float32(0))),
            self._node("Less", codes, self._constant(last)),
        )
        within = self._node("Where", known, codes, self._constant(last))
        values = self._node("Gather", table, self._node("Cast", within, to=TensorProto.INT64))
        here = np.zeros((1, len(self._columns)), dtype=np.bool_)
        here[0, position] = True
        return self._node("Where", self._constant(here), values, result)

    def _numbers(self, name: str, default: float) -> str:
        """A parameter of all columns, float32 [1, m]; the default where a column has none."""
        values = [getattr(column, name) for column in self._columns]
        filled = [default if value is None else value for value in values]
        return self._constant(np.array([filled], dtype=np.float32))

    def _constant(self, value: NDArray[np.generic] | np.generic) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"value_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output


def _rename_output(model: onnx.ModelProto, name: str) -> None:
    output = model.graph.output[0]
    for node in model.graph.node:
        for position, made in enumerate(node.output):
            if made == output.name:
                node.output[position] = name
    output.name = name
