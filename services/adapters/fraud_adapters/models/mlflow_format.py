"""Describes a model version as an MLflow model, so that MLflow's own client and pages can use it.

MLflow's client loads a model by its file `MLmodel`, which names the flavours: `xgboost` gives the trees,
whose probability is not calibrated, and `onnx` and `python_function` give the calibrated score. Nothing of it
is code or pickled, and no service of ours reads it: services read the manifest and the files it names.
"""

from __future__ import annotations

import platform
import uuid
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import orjson
import xgboost
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper

from fraud_adapters.models.onnx_preparation import with_preparation
from fraud_core.manifest import Calibration, Manifest

MLMODEL: Final = "MLmodel"
SCORE_FILE: Final = "score.onnx"  # the ONNX file with preparation and calibration as further nodes
SCORE: Final = "score"
EXAMPLE: Final = "input_example.json"
_SERVING_EXAMPLE: Final = "serving_input_example.json"
_REQUIREMENTS: Final = "requirements.txt"
_CONDA: Final = "conda.yaml"
_PYTHON_ENV: Final = "python_env.yaml"
_PIP: Final = ("numpy", "onnx", "onnxruntime")
_BOOSTER: Final = "xgboost.core.Booster"


def write_mlflow_model(
    directory: Path, manifest: Manifest, example: NDArray[np.float32], run_id: str
) -> None:
    """Write `MLmodel` and the files it names beside a version's files; the same input gives the same bytes.

    Args:
        directory: holds the files that the manifest names.
        example: rows that show what the model takes, float32 [m, k], NaN where a value is missing.
        run_id: the MLflow run that the version is registered from.
    """
    score_file = with_calibration((directory / manifest.engines["onnx"]).read_bytes(), manifest.calibration)
    if manifest.preparation is not None:
        score_file = with_preparation(score_file, manifest.preparation, manifest.features)
    (directory / SCORE_FILE).write_bytes(score_file)
    rows = [[None if np.isnan(value) else float(value) for value in row] for row in example]
    split = {"columns": list(manifest.features), "data": rows}
    (directory / EXAMPLE).write_bytes(orjson.dumps(split))
    (directory / _SERVING_EXAMPLE).write_bytes(orjson.dumps({"dataframe_split": split}))
    _write_environment(directory, trees=_trees(manifest) is not None)
    size = sum(file.stat().st_size for file in directory.iterdir())
    _write_yaml(directory / MLMODEL, _description(manifest, run_id, size))


def with_calibration(content: bytes, calibration: Calibration) -> bytes:
    """An ONNX model whose output is the calibrated score, float64 [n, 1], instead of the margin.

    Args:
        content: an ONNX model that gives one float32 margin a row, [n, 1].
    """
    model = onnx.load_model_from_string(content)
    graph = model.graph
    margin = graph.output[0].name
    # In float64, as a service computes it: the score equals the service's to the last digits.
    constants = {"calibration_slope": calibration.slope, "calibration_intercept": calibration.intercept}
    for name, value in constants.items():
        graph.initializer.append(helper.make_tensor(name, TensorProto.DOUBLE, [1], [value]))
    graph.node.extend(
        [
            helper.make_node("Cast", [margin], ["calibration_margin"], to=TensorProto.DOUBLE),
            helper.make_node("Mul", ["calibration_margin", "calibration_slope"], ["calibration_scaled"]),
            helper.make_node("Add", ["calibration_scaled", "calibration_intercept"], ["calibration_logit"]),
            helper.make_node("Sigmoid", ["calibration_logit"], [SCORE]),
        ]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(SCORE, TensorProto.DOUBLE, [None, 1]))
    onnx.checker.check_model(model)
    result: bytes = model.SerializeToString()
    return result


def _description(manifest: Manifest, run_id: str, size: int) -> dict[str, Any]:
    environment = {"conda": _CONDA, "virtualenv": _PYTHON_ENV}
    onnx_flavour = {
        "onnx_version": onnx.__version__,
        "data": SCORE_FILE,
        "providers": ["CPUExecutionProvider"],
        "onnx_session_options": {"intra_op_num_threads": 1, "inter_op_num_threads": 1},
        "code": None,
    }
    flavours: dict[str, Any] = {
        "python_function": {
            "loader_module": "mlflow.onnx",
            "python_version": platform.python_version(),
            "data": SCORE_FILE,
            "env": environment,
        },
        "onnx": onnx_flavour,
    }
    if trees := _trees(manifest):
        flavours["xgboost"] = {
            "xgb_version": xgboost.__version__,
            "data": trees,
            "model_class": _BOOSTER,
            "model_format": "ubj",
            "code": None,
        }
    inputs = [{"type": "double", "name": name, "required": True} for name in manifest.features]
    return {
        "flavors": flavours,
        "mlflow_version": version("mlflow-skinny"),
        "model_uuid": uuid.UUID(manifest.digest()[:32]).hex,
        "run_id": run_id,
        "artifact_path": "model",
        "utc_time_created": f"{manifest.created_at:%Y-%m-%d %H:%M:%S.%f}",
        "model_size_bytes": size,
        "signature": {
            "inputs": orjson.dumps(inputs).decode(),
            "outputs": orjson.dumps([{"type": "double", "name": SCORE, "required": True}]).decode(),
            "params": None,
        },
        "saved_input_example_info": {
            "artifact_path": EXAMPLE,
            "pandas_orient": "split",
            "serving_input_path": _SERVING_EXAMPLE,
            "type": "dataframe",
        },
        "metadata": _metadata(manifest),
    }


def _trees(manifest: Manifest) -> str | None:
    """The file of the trees, unless they take prepared columns, which no client could make."""
    return manifest.engines.get("xgboost") if manifest.preparation is None else None


def _metadata(manifest: Manifest) -> Mapping[str, Any]:
    trees = "the trees alone: their probability is not calibrated, the thresholds are not for it"
    return {
        "contract": manifest.schema_id,
        "manifest_digest": manifest.digest(),
        "threshold": manifest.threshold,
        "block_threshold": manifest.block_threshold,
        "python_function": "the calibrated score, a probability of fraud between 0 and 1",
        **({"xgboost": trees} if _trees(manifest) else {}),
    }


def _write_environment(directory: Path, *, trees: bool) -> None:
    """The files from which MLflow builds an environment for the model."""
    pinned = [f"{name}=={version(name)}" for name in _PIP]
    packages = [f"mlflow=={version('mlflow-skinny')}", *pinned]
    if trees:
        packages.append(f"xgboost=={xgboost.__version__}")
    python = platform.python_version()
    (directory / _REQUIREMENTS).write_text("\n".join(packages) + "\n", encoding="utf-8")
    _write_yaml(
        directory / _CONDA,
        {
            "name": "mlflow-env",
            "channels": ["conda-forge"],
            "dependencies": [f"python={python}", "pip", {"pip": packages}],
        },
    )
    _write_yaml(
        directory / _PYTHON_ENV,
        {"python": python, "build_dependencies": ["pip"], "dependencies": [f"-r {_REQUIREMENTS}"]},
    )


def _write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False, default_flow_style=False), "utf-8")


def typical_rows(features: NDArray[np.float32], labels: NDArray[np.int8]) -> NDArray[np.float32]:
    """The medians of legitimate and of fraudulent rows, float32 [2, k]: an example, but no transaction.

    Args:
        features: float32 [n, k], NaN where missing.
        labels: 1 is fraud, [n]; both classes occur.
    """
    rows = []
    for label in (0, 1):
        part = features[labels == label]
        columns = (column[~np.isnan(column)] for column in part.T)
        rows.append([np.median(column) if column.size else np.nan for column in columns])
    return np.array(rows, dtype=np.float32)
