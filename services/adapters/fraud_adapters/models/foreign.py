"""Takes over a model that was trained elsewhere: XGBoost's UBJ or JSON, or ONNX.

What comes out are files as the trainer writes them: an ONNX model that takes the contract's features in their
order and gives one float32 margin a row, and, for a model of XGBoost, the trees as UBJ. Nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import onnx
import onnxruntime
import orjson
import xgboost
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import TensorProto, helper

from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.models.onnx_export import ExportError, cut_to_best, to_onnx

Output = Literal["margin", "probability"]
DOMAINS: Final = ("", "ai.onnx", "ai.onnx.ml")
# Their output differs from call to call.
_RANDOM: Final = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
_MARGIN: Final = "margin"
_EDGE: Final = 1e-7  # of a probability, whose logit must stay finite


class ForeignModelRefused(LastingFailure):
    """The model cannot be taken over; one sentence says why."""


@dataclass(frozen=True, slots=True)
class ForeignModel:
    """A model's files by engine, what its output was taken for, and its margins [n] of the rows."""

    contents: dict[Literal["xgboost", "onnx"], bytes]
    margins: NDArray[np.float32]
    output: Output
    detected: bool  # nobody said what the output is


def from_xgboost(
    content: bytes, features: Sequence[str], order: Sequence[str] | None, rows: NDArray[np.float32]
) -> ForeignModel:
    """A model of XGBoost for one binary target, as UBJ or JSON.

    Args:
        features: the contract's features.
        rows: of these features, float32 [n, k].
        order: the features in the order of the model's inputs; None where the model's own names tell, or,
            where it has none, if it is the contract's.

    Raises:
        ForeignModelRefused: it is none, takes other features, or is of a kind that has no ONNX export here.
    """
    booster = xgboost.Booster({"nthread": 1})
    try:
        booster.load_model(bytearray(content))
        width = booster.num_features()
    except xgboost.core.XGBoostError:
        raise ForeignModelRefused("The file holds no model that the installed XGBoost can load.") from None
    _check_width(width, features)
    positions = _positions(features, order or _own_names(booster, features))
    booster = cut_to_best(booster)
    if positions != list(range(width)):
        booster = _reordered(booster, positions)
    booster.feature_names, booster.feature_types = None, None  # scored by position
    try:
        onnx_file = to_onnx(booster)
    except ExportError as error:
        raise ForeignModelRefused(f"The model is of a kind that is not taken over: {error}.") from None
    margins = booster.inplace_predict(rows, predict_type="margin", validate_features=False)
    _check_finite(margins)
    contents: dict[Literal["xgboost", "onnx"], bytes]
    contents = {"xgboost": bytes(booster.save_raw("ubj")), "onnx": onnx_file}
    return ForeignModel(contents, margins, output="margin", detected=False)


def from_onnx(
    content: bytes,
    features: Sequence[str],
    order: Sequence[str] | None,
    output: Output | None,
    rows: NDArray[np.float32],
) -> ForeignModel:
    """An ONNX model with one float32 input [n, k], whose output is a margin or a probability of fraud.

    The output may have the shape [n], [n, 1], or [n, 2], of which the second column is fraud. A classifier's
    further output of predicted classes is left out.

    Args:
        order: as for `from_xgboost`; an ONNX model has no names of features.
        output: what it gives; None where that is to be told from the values: a probability if all are
            between 0 and 1.
        rows: of the contract's features, float32 [n, k].

    Raises:
        ForeignModelRefused: it has custom operators, another width, or output that is not finite.
    """
    model = _parsed(content)
    _check_graph(model)
    (taken,) = _inputs(model.graph, features)
    given = _output(model.graph)
    graph = model.graph
    positions = _positions(features, order)
    if positions != list(range(len(features))):
        _reorder_input(graph, taken, positions)
    _as_one_column(graph, given)
    values = _run(model.SerializeToString(), rows)
    kind: Output = output or ("probability" if bool(np.all((values >= 0) & (values <= 1))) else "margin")
    if kind == "probability":
        if not bool(np.all((values >= 0) & (values <= 1))):
            raise ForeignModelRefused("The model's output is said to be a probability, but is not in 0 to 1.")
        _append_logit(graph)
    result = model.SerializeToString()
    return ForeignModel({"onnx": result}, _run(result, rows), output=kind, detected=output is None)


def _own_names(booster: xgboost.Booster, features: Sequence[str]) -> list[str] | None:
    """The model's own names of its inputs in the contract's spelling; None where it has none."""
    names = booster.feature_names
    generic = [f"f{position}" for position in range(len(features))]
    return None if names is None or list(names) == generic else [str(name).strip().lower() for name in names]


def _check_width(width: int, features: Sequence[str]) -> None:
    if width != len(features):
        raise ForeignModelRefused(f"The model takes {width} features, the contract has {len(features)}.")


def _positions(features: Sequence[str], order: Sequence[str] | None) -> list[int]:
    """For each input of the model, the position of its feature in the contract."""
    if order is None:
        return list(range(len(features)))
    if sorted(order) != sorted(features):
        unknown = sorted({*order} - {*features}) or sorted({*features} - {*order}) or sorted(order)
        raise ForeignModelRefused(
            f"The model's features are not the contract's: {', '.join(unknown[:5])} differs; the contract "
            f"has {', '.join(features)}."
        )
    return [list(features).index(name) for name in order]


def _reordered(booster: xgboost.Booster, positions: Sequence[int]) -> xgboost.Booster:
    """The same trees over inputs in the contract's order."""
    document = orjson.loads(bytes(booster.save_raw("json")))
    learner = document["learner"]
    for tree in learner["gradient_booster"]["model"]["trees"]:
        tree["split_indices"] = [positions[index] for index in tree["split_indices"]]
    learner["feature_names"], learner["feature_types"] = [], []
    result = xgboost.Booster({"nthread": 1})
    result.load_model(bytearray(orjson.dumps(document)))
    return result


def _parsed(content: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError:
        raise ForeignModelRefused("The file is not an ONNX model.") from None
    if not model.graph.node:
        raise ForeignModelRefused("The file is not an ONNX model.")
    return model


def _check_graph(model: onnx.ModelProto) -> None:
    """Refuse whatever is code of somebody else's, is read from other files, or is random."""
    if model.functions:
        raise ForeignModelRefused("The model defines functions of its own, which are not taken over.")
    for graph in _graphs(model.graph):
        for node in graph.node:
            if node.domain not in DOMAINS:
                raise ForeignModelRefused(
                    f"The model has the custom operator {node.domain}:{node.op_type}; operators of ONNX "
                    "itself and of ai.onnx.ml are taken over."
                )
            if node.op_type in _RANDOM:
                raise ForeignModelRefused(f"The model's operator {node.op_type} gives random output.")
        if any(tensor.data_location == TensorProto.EXTERNAL for tensor in graph.initializer):
            raise ForeignModelRefused("The model keeps its weights in other files: export it as one file.")
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ForeignModelRefused(f"The file is not a valid ONNX model: {reason}.") from None


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and the graphs within its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                if inner.node:
                    yield from _graphs(inner)


def _inputs(graph: onnx.GraphProto, features: Sequence[str]) -> list[onnx.ValueInfoProto]:
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise ForeignModelRefused("The model does not take one float32 input, a row of features each.")
    shape = inputs[0].type.tensor_type.shape.dim
    if len(shape) != 2:
        raise ForeignModelRefused("The model's input does not have the shape [rows, features].")
    if shape[1].dim_value:
        _check_width(shape[1].dim_value, features)
    # A fixed number of rows in the file would refuse other numbers.
    shape[0].Clear()
    shape[1].dim_value = len(features)
    return inputs


def _output(graph: onnx.GraphProto) -> onnx.ValueInfoProto:
    floats = [value for value in graph.output if value.type.tensor_type.elem_type == TensorProto.FLOAT]
    if len(floats) != 1:
        raise ForeignModelRefused(
            "The model does not give one float32 output; export a classifier without ZipMap."
        )
    found: onnx.ValueInfoProto = floats[0]
    return found


def _reorder_input(graph: onnx.GraphProto, taken: onnx.ValueInfoProto, positions: Sequence[int]) -> None:
    """Let the model read the contract's features in the order it was trained on."""
    ordered = f"{taken.name}_ordered"
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == taken.name:
                node.input[place] = ordered
    graph.initializer.append(
        helper.make_tensor("contract_positions", TensorProto.INT64, [len(positions)], positions)
    )
    node = helper.make_node("Gather", [taken.name, "contract_positions"], [ordered], axis=1)
    graph.node.insert(0, node)


def _as_one_column(graph: onnx.GraphProto, given: onnx.ValueInfoProto) -> None:
    """Let the graph give one value a row, [n, 1]: of two columns the second."""
    shape = given.type.tensor_type.shape.dim
    columns = shape[1].dim_value if len(shape) == 2 else 1
    if len(shape) > 2 or columns not in {1, 2}:
        raise ForeignModelRefused("The model's output does not have one value a row, or two: of two classes.")
    name = given.name
    if columns == 2:
        graph.initializer.append(helper.make_tensor("fraud_column", TensorProto.INT64, [1], [1]))
        graph.node.append(helper.make_node("Gather", [name, "fraud_column"], ["of_fraud"], axis=1))
        name = "of_fraud"
    graph.initializer.append(helper.make_tensor("one_column", TensorProto.INT64, [2], [-1, 1]))
    graph.node.append(helper.make_node("Reshape", [name, "one_column"], [_MARGIN]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(_MARGIN, TensorProto.FLOAT, [None, 1]))


def _append_logit(graph: onnx.GraphProto) -> None:
    """Let a graph that gives a probability give its logit, which the calibration is fitted on."""
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name == _MARGIN:
                node.output[place] = "probability"
    for name, value in (("least", _EDGE), ("most", 1 - _EDGE), ("one", 1.0)):
        graph.initializer.append(helper.make_tensor(f"probability_{name}", TensorProto.FLOAT, [], [value]))
    graph.node.extend(
        [
            helper.make_node("Max", ["probability", "probability_least"], ["probability_from_least"]),
            helper.make_node("Min", ["probability_from_least", "probability_most"], ["probability_kept"]),
            helper.make_node("Sub", ["probability_one", "probability_kept"], ["probability_other"]),
            helper.make_node("Div", ["probability_kept", "probability_other"], ["odds"]),
            helper.make_node("Log", ["odds"], [_MARGIN]),
        ]
    )


def _run(content: bytes, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The model's one value a row, float32 [n]."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        values = session.run([_MARGIN], {session.get_inputs()[0].name: rows})[0]
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        reason = str(error).splitlines()[0][:200].rstrip(".")
        raise ForeignModelRefused(f"The installed ONNX Runtime cannot run the model: {reason}.") from None
    if values.shape != (len(rows), 1):
        raise ForeignModelRefused(f"The model gives {len(values)} values for {len(rows)} rows.")
    _check_finite(values)
    return np.asarray(values[:, 0])


def _check_finite(values: NDArray[np.float32]) -> None:
    if bad := int((~np.isfinite(values)).sum()):
        raise ForeignModelRefused(f"The model's output is not finite for {bad} of {len(values)} rows.")
