"""A model version: what is loaded, what is refused, and that a score does not depend on its company."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import xgboost

from fraud_adapters.models.loading import Model
from fraud_adapters.models.onnx_export import ExportError, cut_to_best, to_onnx
from fraud_adapters.models.version_files import ModelRefused
from fraud_core.contract import Contract
from fraud_core.manifest import FILE_NAME, Calibration, Manifest

WIDTH = 6
CONTRACT = Contract.from_mapping(
    {
        "name": "tiny",
        "version": 2,
        "fields": [
            {"name": f"f{i}", "type": "decimal", "precision": 9, "scale": 6, "required": False}
            for i in range(WIDTH)
        ],
        "features": [{"name": f"x{i}", "op": "field", "of": f"f{i}"} for i in range(WIDTH)],
    }
)


def _rows(count: int, seed: int = 3) -> np.ndarray:
    source = np.random.default_rng(seed)
    rows = source.normal(size=(count, WIDTH)).astype(np.float32)
    rows[source.random(rows.shape) < 0.1] = np.nan
    return rows


@pytest.fixture(scope="module")
def booster() -> xgboost.Booster:
    rows = _rows(4000)
    source = np.random.default_rng(5)
    labels = np.nansum(rows[:, :3], axis=1) + source.normal(size=len(rows)) > 2.2
    halves = [
        xgboost.DMatrix(rows[half], labels[half], nthread=1) for half in (slice(0, 3000), slice(3000, None))
    ]
    return xgboost.train(
        {"objective": "binary:logistic", "max_depth": 5, "nthread": 1, "eta": 0.3},
        halves[0],
        200,
        evals=[(halves[1], "later")],
        early_stopping_rounds=5,
        verbose_eval=False,
    )


def _write(directory: Path, booster: xgboost.Booster, **changes: object) -> Manifest:
    directory.mkdir(parents=True, exist_ok=True)
    files = {"model.ubj": bytes(booster.save_raw("ubj")), "model.onnx": to_onnx(booster)}
    for name, content in files.items():
        (directory / name).write_bytes(content)
    values: dict[str, object] = {
        "contract": "tiny",
        "contract_version": 2,
        "features": CONTRACT.feature_names,
        "threshold": 0.4,
        "block_threshold": 0.8,
        "threshold_rule": "by hand",
        "calibration": Calibration(slope=1.25, intercept=-0.5),
        "metrics": {},
        "data_from": datetime(2026, 1, 1, tzinfo=UTC),
        "data_to": datetime(2026, 2, 1, tzinfo=UTC),
        "created_at": datetime(2026, 2, 2, tzinfo=UTC),
        "code_version": "test",
        "engines": {"xgboost": "model.ubj", "onnx": "model.onnx"},
        "digests": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    manifest = Manifest.model_validate({**values, **changes})
    (directory / FILE_NAME).write_bytes(manifest.to_json())
    return manifest


@pytest.fixture(scope="module")
def model(booster: xgboost.Booster, tmp_path_factory: pytest.TempPathFactory) -> Model:
    directory = tmp_path_factory.mktemp("model")
    manifest = _write(directory, cut_to_best(booster))
    return Model.load(directory, manifest.digest(), CONTRACT)


def test_a_row_scores_the_same_in_every_company(model: Model) -> None:
    rows = _rows(5000, seed=8)
    alone = np.concatenate([model.score_batch(rows[i : i + 1]).values for i in range(len(rows))])
    for size in (2, 7, 100, 500, 5000):
        parts = [model.score_batch(rows[i : i + size]).values for i in range(0, len(rows), size)]
        assert np.array_equal(np.concatenate(parts), alone)
    order = np.random.default_rng(1).permutation(len(rows))
    assert np.array_equal(model.score_batch(np.ascontiguousarray(rows[order])).values, alone[order])


@pytest.mark.parametrize("size", [2, 7, 64, 300, 1500])
def test_a_row_scores_the_same_in_every_small_company(model: Model, size: int) -> None:
    rows = _rows(1500, seed=10)
    alone = np.concatenate([model.score_single(rows[i : i + 1]).values for i in range(len(rows))])
    parts = [model.score_few(rows[i : i + size]).values for i in range(0, len(rows), size)]
    assert np.array_equal(np.concatenate(parts), alone)


def test_single_scores_repeat_and_agree_with_the_batch_engine(model: Model) -> None:
    rows = _rows(1500, seed=9)
    once, again = (model.score_with(model.engine_single, rows).values for _ in range(2))
    assert np.array_equal(once, again)
    assert np.max(np.abs(once - model.score_with(model.engine_batch, rows).values)) < 1e-6


def test_missing_values_take_the_same_way_in_both_engines(model: Model) -> None:
    rows = _rows(WIDTH + 1)
    rows[:WIDTH][np.eye(WIDTH, dtype=bool)] = np.nan
    rows[WIDTH] = np.nan
    single = model.score_with(model.engine_single, rows).values
    assert np.allclose(single, model.score_batch(rows).values, rtol=0, atol=1e-6)
    assert np.isfinite(single).all()


def test_values_on_a_split_take_the_same_way_in_both_engines(booster: xgboost.Booster, model: Model) -> None:
    splits = booster.trees_to_dataframe().dropna(subset=["Split"])
    rows = np.zeros((len(splits), WIDTH), dtype=np.float32)
    rows[np.arange(len(rows)), splits["Feature"].str[1:].astype(int)] = splits["Split"].astype(np.float32)
    single = model.score_with(model.engine_single, rows).values
    assert np.allclose(single, model.score_batch(rows).values, rtol=0, atol=1e-6)


def test_a_score_is_the_sigmoid_of_the_margin_in_double_precision(
    booster: xgboost.Booster, model: Model
) -> None:
    rows = _rows(50)
    margin = cut_to_best(booster).predict(xgboost.DMatrix(rows), output_margin=True).astype(np.float64)
    assert np.array_equal(model.score_batch(rows).values, 1 / (1 + np.exp(-(1.25 * margin - 0.5))))


def test_engines_name_themselves_with_their_version(model: Model) -> None:
    rows = _rows(1)
    assert model.score_batch(rows).engine == model.engine_batch == f"xgboost-{xgboost.__version__}"
    assert model.score_single(rows).engine == model.engine_single == f"onnx-{onnxruntime.__version__}"
    with pytest.raises(
        ModelRefused, match=f"this model is served by {model.engine_single} and {model.engine_batch}"
    ):
        model.score_with("xgboost-1.0.0", rows)


def test_no_rows_give_no_scores(model: Model) -> None:
    assert len(model.score_batch(_rows(0))) == 0


@pytest.mark.parametrize(
    "rows", [np.zeros((2, WIDTH - 1), np.float32), np.zeros((2, WIDTH)), np.zeros(WIDTH, np.float32)]
)
def test_features_of_another_shape_or_type_are_an_error(model: Model, rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match="the model takes float32"):
        model.score_batch(rows)
    with pytest.raises(ValueError, match="the model takes float32"):
        model.score_single(rows)


def test_a_stopped_model_is_cut_to_its_best_round(booster: xgboost.Booster) -> None:
    best = cut_to_best(booster)
    assert best.num_boosted_rounds() == booster.best_iteration + 1 < booster.num_boosted_rounds()
    assert len(set(_attribute(to_onnx(best), "nodes_treeids"))) == best.num_boosted_rounds()


def _attribute(content: bytes, name: str) -> list[int]:
    (node,) = onnx.load_from_string(content).graph.node
    return next(list(one.ints) for one in node.attribute if one.name == name)


def test_only_a_binary_tree_model_is_exported() -> None:
    rows, labels = _rows(100), np.arange(100.0)
    squared = xgboost.train({"objective": "reg:squarederror", "nthread": 1}, xgboost.DMatrix(rows, labels), 1)
    with pytest.raises(ExportError, match="reg:squarederror"):
        to_onnx(squared)
    linear = {"objective": "binary:logistic", "booster": "gblinear", "nthread": 1}
    with pytest.raises(ExportError, match="gblinear"):
        to_onnx(xgboost.train(linear, xgboost.DMatrix(np.nan_to_num(rows), labels > 50), 1))


def test_a_digest_other_than_the_registered_is_refused(booster: xgboost.Booster, tmp_path: Path) -> None:
    _write(tmp_path, booster)
    with pytest.raises(ModelRefused, match="as registered"):
        Model.load(tmp_path, "0" * 64, CONTRACT)


@pytest.mark.parametrize("name", ["model.ubj", "model.onnx"])
def test_a_changed_or_missing_file_is_refused(booster: xgboost.Booster, tmp_path: Path, name: str) -> None:
    digest = _write(tmp_path, booster).digest()
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelRefused, match=f"{name} is not the one"):
        Model.load(tmp_path, digest, CONTRACT)
    (tmp_path / name).unlink()
    with pytest.raises(ModelRefused, match=f"{name} cannot be read"):
        Model.load(tmp_path, digest, CONTRACT)


@pytest.mark.parametrize("name", ["model.ubj", "model.onnx"])
def test_a_file_that_is_no_model_is_refused(booster: xgboost.Booster, tmp_path: Path, name: str) -> None:
    digests = dict(_write(tmp_path, booster).digests)
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    digests[name] = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    manifest = _write_manifest(tmp_path, digests)
    with pytest.raises(ModelRefused, match="cannot be loaded"):
        Model.load(tmp_path, manifest.digest(), CONTRACT)


def _write_manifest(directory: Path, digests: dict[str, str]) -> Manifest:
    manifest = Manifest.from_json((directory / FILE_NAME).read_bytes()).model_copy(
        update={"digests": digests}
    )
    (directory / FILE_NAME).write_bytes(manifest.to_json())
    return manifest


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\x80\x04K\x01."])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(ModelRefused, match="manifest"):
        Model.load(tmp_path, "0" * 64, CONTRACT)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"contract": "other"}, "trained for other/2"),
        ({"contract_version": 1}, "trained for tiny/1"),
        ({"features": CONTRACT.feature_names[::-1]}, "other features"),
    ],
)
def test_a_model_of_another_contract_is_refused(
    booster: xgboost.Booster, tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    digest = _write(tmp_path, booster, **changes).digest()
    with pytest.raises(ModelRefused, match=sentence):
        Model.load(tmp_path, digest, CONTRACT)


def test_files_that_take_another_number_of_features_are_refused(
    booster: xgboost.Booster, tmp_path: Path
) -> None:
    narrow = CONTRACT.model_copy(update={"features": CONTRACT.features[:-1]})
    narrow.__dict__.pop("feature_names", None)
    manifest = _write(tmp_path, booster, features=narrow.feature_names)
    with pytest.raises(ModelRefused, match=f"takes {WIDTH} features"):
        Model.load(tmp_path, manifest.digest(), narrow)
