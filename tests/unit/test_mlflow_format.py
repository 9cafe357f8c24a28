"""A version as an MLflow model: what is written, always the same. The integration tests load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import yaml

from fraud_adapters.models.mlflow_format import typical_rows, with_calibration, write_mlflow_model
from fraud_adapters.models.onnx_preparation import with_preparation
from fraud_core.manifest import Calibration
from fraud_core.preparation import Preparation, Preparer
from tests.support.small_model import make_model
from tests.support.stored_rows import WIRE

EXAMPLE = np.array([[1, 2, 3, 4, 5, 6], [1, np.nan, 3, 4, 5, 6]], dtype=np.float32)
RUN_ID = "0" * 32


def test_the_same_version_gives_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        write_mlflow_model(folder, make_model(folder, WIRE), EXAMPLE, RUN_ID)
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1]
    # What a service checks is as it was.
    assert make_model(tmp_path / "c", WIRE).to_json() == contents[0]["manifest.json"]
    assert b"null" in contents[0]["input_example.json"]


def test_a_version_without_trees_has_no_flavour_of_them(tmp_path: Path) -> None:
    manifest = make_model(tmp_path, WIRE)
    digests = {"model.onnx": manifest.digests["model.onnx"]}
    alone = manifest.model_copy(update={"engines": {"onnx": "model.onnx"}, "digests": digests})
    write_mlflow_model(tmp_path, alone, EXAMPLE, RUN_ID)
    described = yaml.safe_load((tmp_path / "MLmodel").read_text())
    assert set(described["flavors"]) == {"python_function", "onnx"}
    assert "xgboost" not in described["metadata"]
    assert "xgboost" not in (tmp_path / "requirements.txt").read_text()


def test_the_calibration_is_appended_in_full_precision(tmp_path: Path) -> None:
    make_model(tmp_path, WIRE)
    content, calibration = (tmp_path / "model.onnx").read_bytes(), Calibration(slope=0.7, intercept=-1.3)
    rows = np.random.default_rng(1).normal(size=(300, len(WIRE.features))).astype(np.float32)
    margins, scores = (
        onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"features": rows})[
            0
        ]
        for model in (content, with_calibration(content, calibration))
    )
    assert scores.dtype == np.float64
    assert np.allclose(scores[:, 0], calibration.scores(margins[:, 0]), rtol=0, atol=1e-14)


COLUMNS: list[dict[str, Any]] = [
    {"kind": "value", "fill": 2.5, "low": -1.0, "high": 3.0, "center": 0.5, "scale": 2.0},
    {"kind": "missing"},
    {"kind": "equals", "code": 1},
    {"kind": "lookup", "table": [0.25, None, 4.0], "otherwise": 9.0, "center": 1.0, "scale": 3.0},
    {"kind": "value"},
    {"kind": "value", "high": 1.0},
]


def test_the_preparation_is_put_in_front(tmp_path: Path) -> None:
    """Clients give the contract's features and get what a service computes from them."""
    make_model(tmp_path, WIRE)
    names, content = WIRE.feature_names, (tmp_path / "model.onnx").read_bytes()
    columns = [{"name": f"c{n}", "feature": names[(n * 2) % 6], **one} for n, one in enumerate(COLUMNS)]
    preparation = Preparation.model_validate({"columns": columns})
    rows = np.random.default_rng(1).integers(-2, 5, size=(300, 6)).astype(np.float32)
    rows[np.random.default_rng(2).random(rows.shape) < 0.2] = np.nan
    before = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (expected,) = before.run(None, {"features": Preparer(preparation, names).apply(rows)})
    joined = with_preparation(content, preparation, names)
    after = onnxruntime.InferenceSession(joined, providers=["CPUExecutionProvider"])
    assert [output.name for output in after.get_outputs()] == ["margin"]
    assert np.array_equal(after.run(None, {"features": rows})[0], expected)


def test_the_example_is_no_transaction() -> None:
    features = np.array([[1, np.nan], [3, np.nan], [10, np.nan], [20, 5]], dtype=np.float32)
    rows = typical_rows(features, np.array([0, 0, 1, 1], dtype=np.int8))
    assert np.array_equal(rows, np.array([[2, np.nan], [15, 5]], dtype=np.float32), equal_nan=True)
