"""Models that were trained elsewhere: taken over with the same output, or refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import xgboost
from onnx import TensorProto, helper

from fraud_adapters.models.foreign import ForeignModelRefused, from_onnx, from_xgboost

FEATURES = ("a", "b", "c", "d")
ROWS = np.random.default_rng(3).normal(size=(400, 4)).astype(np.float32)
LABELS = (ROWS[:, 0] - 2 * ROWS[:, 2] > 0.5).astype(np.int8)
WEIGHTS = np.array([[1.0], [0.0], [-2.0], [0.25]], dtype=np.float32)


def booster(columns: tuple[int, ...] = (0, 1, 2, 3), names: list[str] | None = None, **settings: Any) -> Any:
    learn = xgboost.DMatrix(ROWS[:, columns], LABELS, feature_names=names)
    options = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1, "base_score": 0.02, **settings}
    return xgboost.train(options, learn, num_boost_round=10)


def run_onnx(content: bytes, rows: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: rows})[0])


def linear(
    *more: Any, output: str = "y", shape: tuple[int | None, ...] = (None, 1), width: int = 4, domain: str = ""
) -> bytes:
    """An ONNX model whose first node multiplies by `WEIGHTS`, followed by the nodes given."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"]), *more],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, width])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [helper.make_tensor("w", TensorProto.FLOAT, [4, 1], WEIGHTS.ravel())],
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    content: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return content


@pytest.mark.parametrize("form", ["ubj", "json"])
def test_trees_are_taken_over_as_they_are(form: str) -> None:
    trees = booster()
    model = from_xgboost(bytes(trees.save_raw(form)), FEATURES, None, ROWS)
    expected = trees.inplace_predict(ROWS, predict_type="margin")
    assert np.array_equal(model.margins, expected)
    again = xgboost.Booster()
    again.load_model(bytearray(model.contents["xgboost"]))
    assert np.array_equal(again.inplace_predict(ROWS, predict_type="margin"), expected)
    assert np.allclose(run_onnx(model.contents["onnx"], ROWS)[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize("order", [None, ("c", "a", "d", "b")], ids=["own names", "given"])
def test_trees_over_another_order_of_the_features_are_reordered(order: tuple[str, ...] | None) -> None:
    trees = booster((2, 0, 3, 1), ["C", "A", "D", "B"] if order is None else None)
    expected = trees.inplace_predict(ROWS[:, (2, 0, 3, 1)], predict_type="margin", validate_features=False)
    model = from_xgboost(bytes(trees.save_raw("ubj")), FEATURES, order, ROWS)
    assert np.array_equal(model.margins, expected)
    assert np.allclose(run_onnx(model.contents["onnx"], ROWS)[:, 0], expected, atol=1e-5)


def test_an_onnx_margin_is_taken_over_in_any_order() -> None:
    model = from_onnx(linear(), FEATURES, None, None, ROWS)
    assert (model.output, model.detected) == ("margin", True)
    assert np.array_equal(run_onnx(model.contents["onnx"], ROWS)[:, 0], model.margins)
    assert np.allclose(model.margins, (ROWS @ WEIGHTS)[:, 0], atol=1e-5)
    moved = from_onnx(linear(), FEATURES, ("d", "c", "b", "a"), "margin", ROWS)
    assert np.allclose(moved.margins, (ROWS[:, ::-1] @ WEIGHTS)[:, 0], atol=1e-5)


SIGMOID = helper.make_node("Sigmoid", ["y"], ["p"])
TWO_CLASSES = (
    SIGMOID,
    helper.make_node("Neg", ["y"], ["negative"]),
    helper.make_node("Sigmoid", ["negative"], ["other"]),
    helper.make_node("Concat", ["other", "p"], ["both"], axis=1),
)


@pytest.mark.parametrize(
    "content",
    [
        linear(SIGMOID, output="p"),
        linear(*TWO_CLASSES, output="both", shape=(None, 2)),
        linear(SIGMOID, helper.make_node("Squeeze", ["p"], ["flat"]), output="flat", shape=(None,)),
    ],
    ids=["one column", "two columns", "flat"],
)
def test_a_probability_becomes_its_logit(content: bytes) -> None:
    model = from_onnx(content, FEATURES, None, None, ROWS)
    assert model.output == "probability"
    assert np.allclose(model.margins, (ROWS @ WEIGHTS)[:, 0], atol=1e-3)
    assert run_onnx(model.contents["onnx"], ROWS[:1]).shape == (1, 1)


def test_a_sure_probability_stays_finite() -> None:
    model = from_onnx(linear(SIGMOID, output="p"), FEATURES, None, "probability", ROWS * 1000)
    assert np.isfinite(model.margins).all()
    assert np.abs(model.margins).max() > 15


EXTERNAL = onnx.load_model_from_string(linear())
EXTERNAL.graph.initializer[0].data_location = TensorProto.EXTERNAL
FUNCTION = onnx.load_model_from_string(linear())
FUNCTION.functions.append(
    helper.make_function("own", "f", ["a"], ["b"], [SIGMOID], [helper.make_opsetid("", 17)])
)
CUSTOM = helper.make_node("Gelu", ["y"], ["p"], domain="com.microsoft")
NOISE = helper.make_node("RandomNormalLike", ["y"], ["p"])

REFUSED: dict[str, tuple[bytes, str]] = {
    "custom operator": (
        linear(CUSTOM, output="p", domain="com.microsoft"),
        "custom operator com.microsoft:Gelu",
    ),
    "random": (linear(NOISE, output="p"), "RandomNormalLike gives random output"),
    "width": (linear(width=5), "takes 5 features, the contract has 4"),
    "external weights": (EXTERNAL.SerializeToString(), "weights in other files"),
    "functions": (FUNCTION.SerializeToString(), "functions of its own"),
    "not finite": (linear(helper.make_node("Log", ["y"], ["p"]), output="p"), "output is not finite for"),
    "three columns": (linear(shape=(None, 3)), "one value a row, or two"),
    "no ONNX": (b"\x80\x04pickle", "not an ONNX model"),
    "empty": (b"", "not an ONNX model"),
}


@pytest.mark.parametrize(("content", "words"), REFUSED.values(), ids=REFUSED)
def test_other_onnx_models_are_refused(content: bytes, words: str) -> None:
    with pytest.raises(ForeignModelRefused, match=words) as refusal:
        from_onnx(content, FEATURES, None, None, ROWS)
    assert "\n" not in str(refusal.value)


def test_an_output_that_is_no_probability_is_refused_as_one() -> None:
    with pytest.raises(ForeignModelRefused, match="said to be a probability"):
        from_onnx(linear(), FEATURES, None, "probability", ROWS)


TREES: dict[str, tuple[Callable[[], bytes], str]] = {
    "no model": (lambda: b"not a model", "no model that the installed XGBoost can load"),
    "regression": (lambda: bytes(booster(objective="reg:squarederror").save_raw()), "not binary:logistic"),
    "width": (lambda: bytes(booster((0, 1)).save_raw()), "takes 2 features, the contract has 4"),
    "other names": (lambda: bytes(booster(names=["a", "b", "c", "x"]).save_raw()), "x differs"),
}


@pytest.mark.parametrize(("content", "words"), TREES.values(), ids=TREES)
def test_other_trees_are_refused(content: Callable[[], bytes], words: str) -> None:
    with pytest.raises(ForeignModelRefused, match=words):
        from_xgboost(content(), FEATURES, None, ROWS)
