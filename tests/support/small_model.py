"""A small model version for any contract, trained in well under a second."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import xgboost
from numpy.typing import NDArray
from onnx import TensorProto, helper

from fraud_adapters.models.onnx_export import to_onnx
from fraud_core.contract import Contract
from fraud_core.manifest import Calibration, Manifest


def make_model(directory: Path, contract: Contract, seed: int = 1) -> Manifest:
    """A small model version for the contract, as files in `directory`."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(1000, len(contract.features))).astype(np.float32)
    labels = (rows[:, 0] + rows[:, 1] > 1).astype(np.int32)
    settings = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1, "base_score": 0.1, "seed": seed}
    booster = xgboost.train(settings, xgboost.DMatrix(rows, labels), num_boost_round=12 + seed)
    directory.mkdir(parents=True, exist_ok=True)
    contents = {"model.ubj": bytes(booster.save_raw("ubj")), "model.onnx": to_onnx(booster)}
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    manifest = model_manifest(
        contract, contents, calibration=Calibration(slope=1.0, intercept=0.25 * seed), metrics={"recall": 0.9}
    )
    (directory / "manifest.json").write_bytes(manifest.to_json())
    return manifest


def model_manifest(
    contract: Contract,
    contents: Mapping[str, bytes],
    calibration: Calibration,
    metrics: Mapping[str, float],
    made_by: str = "test",
) -> Manifest:
    """The manifest of a model that nobody trained for service; `contents` are its files by name."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return Manifest(
        contract=contract.name,
        contract_version=contract.version,
        features=contract.feature_names,
        threshold=0.5,
        block_threshold=0.9,
        threshold_rule=f"fixed by the {made_by}",
        calibration=calibration,
        metrics=metrics,
        data_from=moment,
        data_to=moment,
        created_at=moment,
        code_version=made_by,
        engines={
            engine: name
            for engine, name in {"xgboost": "model.ubj", "onnx": "model.onnx"}.items()
            if name in contents
        },
        digests={name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    )


def linear_onnx(weights: NDArray[np.float32]) -> bytes:
    """An ONNX model as somebody else might export it: absent values count as 0, the margin is linear.

    Args:
        weights: float32 [k, 1].
    """
    graph = helper.make_graph(
        [
            helper.make_node("IsNaN", ["x"], ["absent"]),
            helper.make_node("Where", ["absent", "zero", "x"], ["filled"]),
            helper.make_node("MatMul", ["filled", "weights"], ["y"]),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, len(weights)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        [
            helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.ravel()),
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content
