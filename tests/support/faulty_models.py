"""Model versions that pass every check of their files and go wrong with real transactions.

Each behaves for a row of zeros, with which a service warms a model up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from onnx import NodeProto, TensorProto, helper

from fraud_core.contract import Contract
from fraud_core.manifest import Calibration, Manifest
from tests.support.small_model import model_manifest

Fault = Literal["crashing", "slow", "nan"]
SLOW_STEPS = 600_000  # some 1.3 µs each


def make_faulty_model(directory: Path, contract: Contract, fault: Fault) -> Manifest:
    """A version whose model raises, takes most of a second, or gives NaN; as files in `directory`."""
    contents = {"model.onnx": _onnx(len(contract.features), fault)}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.onnx").write_bytes(contents["model.onnx"])
    manifest = model_manifest(
        contract, contents, calibration=Calibration(slope=1.0, intercept=0.0), metrics={"recall": 0.9}
    )
    (directory / "manifest.json").write_bytes(manifest.to_json())
    return manifest


def _onnx(width: int, fault: Fault) -> bytes:
    graph = helper.make_graph(
        [
            helper.make_node("IsNaN", ["x"], ["absent"]),
            helper.make_node("Where", ["absent", "zero", "x"], ["filled"]),
            helper.make_node("MatMul", ["filled", "weights"], ["margin"]),
            helper.make_node("Abs", ["filled"], ["sizes"]),
            helper.make_node("ReduceMax", ["sizes"], ["largest"], keepdims=0),
            *_FAULTS[fault](),
        ],
        fault,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        [
            helper.make_tensor("weights", TensorProto.FLOAT, [width, 1], np.zeros(width, dtype=np.float32)),
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
            helper.make_tensor("many", TensorProto.FLOAT, [], [float(SLOW_STEPS)]),
            helper.make_tensor("table", TensorProto.FLOAT, [1], [0.0]),
            helper.make_tensor("true", TensorProto.BOOL, [], [True]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def _crashing() -> Sequence[NodeProto]:
    """Looks into a table of one row at a place that only a row of zeros has."""
    return [
        helper.make_node("Mul", ["largest", "many"], ["place"]),
        helper.make_node("Cast", ["place"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["found"]),
        helper.make_node("Add", ["margin", "found"], ["y"]),
    ]


def _slow() -> Sequence[NodeProto]:
    """Repeats an addition of nothing, unless the rows are zeros."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["going"]),
            helper.make_node("Add", ["before", "nothing"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, [None, 1]),
        ],
        [
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, [None, 1]),
        ],
        [helper.make_tensor("nothing", TensorProto.FLOAT, [], [0.0])],
    )
    return [
        helper.make_node("Sign", ["largest"], ["any"]),
        helper.make_node("Mul", ["any", "many"], ["steps"]),
        helper.make_node("Cast", ["steps"], ["trips"], to=TensorProto.INT64),
        helper.make_node("Loop", ["trips", "true", "margin"], ["y"], body=body),
    ]


def _nan() -> Sequence[NodeProto]:
    """The root of a negative number, unless the rows are zeros."""
    return [
        helper.make_node("Neg", ["largest"], ["negative"]),
        helper.make_node("Sqrt", ["negative"], ["root"]),
        helper.make_node("Add", ["margin", "root"], ["y"]),
    ]


_FAULTS: dict[Fault, Callable[[], Sequence[NodeProto]]] = {"crashing": _crashing, "slow": _slow, "nan": _nan}
