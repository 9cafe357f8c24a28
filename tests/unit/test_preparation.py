"""The preparation of features: fitted on the training part alone, and applied to each row by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from config.candidates import Selection
from fraud_adapters.job.failures import LastingFailure
from fraud_core.batch import Batch
from fraud_core.contract import Contract, ContractError
from fraud_core.features import feature_matrix
from fraud_core.preparation import Preparation, PreparedColumn, Preparer
from fraud_trainer.train.fitting import Examples
from fraud_trainer.train.preparing import FOLDS, FittedPreparation, fit_preparation, folds_of, without
from fraud_trainer.train.selecting import contingency, dropped_columns, mutual_information
from tests.support.later import Later

metrics = Later("sklearn.metrics")
scalers = Later("sklearn.preprocessing")

CHANNELS = ["branch", "web", "phone", "kiosk"]


def contract(**channel: Any) -> Contract:
    """Four features: an amount that is filled, flagged and clipped, two numbers, a channel."""
    amount = {"missing": "median", "indicator": True, "clip": [0.01, 0.99], "scaling": "robust"}
    number = {"type": "decimal", "precision": 9, "scale": 4, "required": False}
    return Contract.from_mapping(
        {
            "name": "tiny",
            "version": 1,
            "fields": [
                {"name": "amount", **number, "prepare": amount},
                {"name": "fee", **number, "prepare": {"missing": "constant", "constant": -1}},
                {"name": "plain", **number},
                {
                    "name": "channel",
                    "type": "category",
                    "values": CHANNELS,
                    "required": False,
                    "prepare": channel,
                },
            ],
            "features": [
                *({"name": name, "op": "field", "of": name} for name in ("amount", "fee", "plain")),
                {"name": "channel", "op": "category", "of": "channel"},
            ],
        }
    )


def examples(rows: int, seed: int, categories: int = 3) -> Examples:
    """Rows with missing values in every feature; the last of the four channels does not occur."""
    source = np.random.default_rng(seed)
    values = source.normal(size=(rows, 4)).astype(np.float32)
    values[:, 3] = source.integers(0, categories, rows)
    values[source.random(values.shape) < 0.1] = np.nan
    labels = (source.random(rows) < np.where(values[:, 3] == 1, 0.5, 0.1)).astype(np.int8)
    return Examples(values, labels)


def fitted(of: Contract, training: Examples) -> FittedPreparation:
    return fit_preparation(of, training, folds_of(len(training.labels), 1))


@pytest.fixture(scope="module", params=["one_hot", "ordinal", "target"])
def prepared(request: pytest.FixtureRequest) -> FittedPreparation:
    return fitted(contract(encoding=request.param), examples(500, 1))


NUMBER = st.one_of(st.just(np.nan), st.floats(-1e6, 1e6, width=32))
CODE = st.sampled_from([np.nan, 0.0, 1.0, 2.0, 3.0])


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(NUMBER, NUMBER, NUMBER, CODE), min_size=1, max_size=30))
def test_a_row_is_prepared_the_same_in_every_company(
    prepared: FittedPreparation, rows: list[tuple[float, ...]]
) -> None:
    """What was fitted on A is applied to each row of B by itself, and every row can be served."""
    values = np.array(rows, dtype=np.float32)
    before = values.copy()
    for view in (prepared.trees, prepared.scaled):
        preparer = Preparer(view, prepared.features)
        together = preparer.apply(values)
        alone = np.concatenate([preparer.apply(values[row : row + 1]) for row in range(len(values))])
        assert together.tobytes() == alone.tobytes()
        assert together.dtype == np.float32 and together.flags.c_contiguous
        again = Preparer(Preparation.model_validate_json(view.model_dump_json()), prepared.features)
        assert again.apply(values).tobytes() == together.tobytes()
    assert np.isfinite(together).all()  # of the scaled view
    assert values.tobytes() == before.tobytes()


def test_each_field_is_prepared_as_its_contract_says() -> None:
    training = examples(500, 1)
    result = fitted(contract(encoding="one_hot"), training)
    names = [column.name for column in result.trees.columns]
    assert names == [
        *("amount", "amount_missing", "fee", "plain"),
        *("channel_branch", "channel_web", "channel_phone"),
    ]
    amounts = training.features[:, 0]
    low, high = np.nanquantile(amounts, [0.01, 0.99])
    rows = np.array([[np.nan, np.nan, np.nan, np.nan], [99, 2, 3, 1], [-99, 2, 3, 3]], dtype=np.float32)
    trees = Preparer(result.trees, result.features).apply(rows)
    median = np.nanmedian(amounts)
    assert trees[0].tolist() == pytest.approx([median, 1, -1, np.nan, 0, 0, 0], nan_ok=True)
    assert trees[1].tolist() == pytest.approx([high, 0, 2, 3, 0, 1, 0])
    # A channel that did not occur in training is none of those that did.
    assert trees[2].tolist() == pytest.approx([low, 0, 2, 3, 0, 0, 0])


def test_the_scaled_view_is_scaled_as_scikit_learn_does() -> None:
    training = examples(500, 1)
    result = fitted(contract(encoding="one_hot"), training)
    trees, scaled = (
        Preparer(view, result.features).apply(training.features) for view in (result.trees, result.scaled)
    )
    filled = np.where(np.isnan(trees), np.nanmedian(trees, axis=0), trees)
    assert scaled[:, 0] == pytest.approx(scalers.RobustScaler().fit_transform(filled[:, :1])[:, 0], abs=1e-5)
    assert scaled[:, 2:] == pytest.approx(scalers.StandardScaler().fit_transform(filled[:, 2:]), abs=1e-5)


def test_encodings_of_a_category() -> None:
    training = examples(2000, 2)
    codes = np.array([[0, 0, 0, code] for code in (0, 1, 2, 3, np.nan)], dtype=np.float32)
    ordinal = fitted(contract(encoding="ordinal"), training)
    column = Preparer(ordinal.trees, ordinal.features).apply(codes)[:, -1]
    assert column.tolist() == [0, 1, 2, -1, -1]
    target = fitted(contract(encoding="target"), training)
    column = Preparer(target.trees, target.features).apply(codes)[:, -1]
    web = training.labels[training.features[:, 3] == 1]
    prior = training.labels.mean()
    assert column[1] == pytest.approx((web.sum() + 20 * prior) / (len(web) + 20))
    assert column[3] == column[4] == pytest.approx(prior)


def test_target_encodings_in_training_never_see_the_rows_own_label() -> None:
    training, of = examples(400, 3), contract(encoding="target")
    folds = folds_of(400, 1)
    assert sorted(np.bincount(folds)) == [80] * FOLDS
    before = fit_preparation(of, training, folds).apply_to_training(training, folds, scaled=True)
    flipped = Examples(training.features, training.labels.copy())
    flipped.labels[folds == 2] = 1 - flipped.labels[folds == 2]
    after = fit_preparation(of, flipped, folds).apply_to_training(flipped, folds, scaled=True)
    same = folds == 2
    assert before.trees[same, -1].tobytes() == after.trees[same, -1].tobytes()
    assert not np.array_equal(before.trees[~same, -1], after.trees[~same, -1])
    assert before.scaled is not None and np.std(before.scaled[:, -1]) == pytest.approx(1, abs=1e-3)


def test_features_that_need_nothing_are_left_as_they_are() -> None:
    number = {"type": "decimal", "precision": 9, "scale": 4, "required": False}
    of = Contract.from_mapping(
        {
            "name": "plain",
            "version": 1,
            "fields": [{"name": name, **number} for name in "ab"],
            "features": [{"name": name, "op": "field", "of": name} for name in "ab"],
        }
    )
    training = Examples(examples(50, 1).features[:, :2], examples(50, 1).labels)
    result = fitted(of, training)
    assert result.trees.is_identity(of.feature_names)
    assert not result.scaled.is_identity(of.feature_names)
    assert not result.trees.is_identity(("b", "a"))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"type": "decimal", "prepare": {"encoding": "target"}}, "only a category has an encoding"),
        ({"type": "decimal", "prepare": {"missing": "constant"}}, "belong together"),
        ({"type": "decimal", "prepare": {"clip": [0.9, 0.1]}}, "lower quantile must be below"),
        ({"type": "decimal", "prepare": {"clip": [0, 2]}}, "less than or equal to 1"),
        ({"type": "category", "values": ["a"], "prepare": {"clip": [0, 1]}}, "neither missing nor clip"),
        ({"type": "decimal"}, "x is not a category"),
    ],
)
def test_a_preparation_that_makes_no_sense_is_refused(fields: dict[str, Any], sentence: str) -> None:
    values = {
        "name": "tiny",
        "version": 1,
        "fields": [{"name": "x", **fields}],
        "features": [{"name": "x", "op": "category", "of": "x"}],
    }
    with pytest.raises(ContractError, match=sentence):
        Contract.from_mapping(values)


def test_a_category_becomes_its_position() -> None:
    columns = {
        **{name: np.zeros(3) for name in ("amount", "fee", "plain")},
        "channel": np.array(["web", None, "kiosk"], dtype=object),
    }
    matrix = feature_matrix(contract(), Batch(["a", "b", "c"], [], columns))
    assert matrix[:, 3].tolist() == pytest.approx([1, np.nan, 3], nan_ok=True)


def test_a_preparation_names_what_it_lacks() -> None:
    with pytest.raises(ValueError, match="needs nothing, which is not a feature"):
        Preparer(Preparation(columns=(PreparedColumn(name="x", feature="nothing"),)), ["x"])
    with pytest.raises(ValueError, match="equals needs a code"):
        PreparedColumn(name="x", feature="x", kind="equals")


def _columns() -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """A useful column, its copy, noise, a constant, and one that is missing exactly for frauds."""
    source = np.random.default_rng(5)
    labels = (source.random(3000) < 0.2).astype(np.int8)
    useful = source.normal(size=3000) + labels
    absent = np.where(labels == 1, np.nan, 1.0)
    columns = [useful, 2 * useful + 1, source.normal(size=3000), np.full(3000, 4.0), absent]
    return np.column_stack(columns).astype(np.float32), labels


@pytest.mark.parametrize(
    ("selection", "dropped"),
    [
        (Selection(), {}),
        (Selection(max_correlation=0.9), {1: "correlation 1.000 with column 0"}),
        (Selection(min_mutual_information=0.01), {2: "mutual information", 3: "constant"}),
        (Selection(max_chi_square_p=0.001), {2: "chi-square p", 3: "constant"}),
        (Selection(max_chi_square_p=0.001, max_correlation=0.9), {1: "", 2: "", 3: ""}),
    ],
)
def test_columns_are_selected_by_what_they_say(selection: Selection, dropped: dict[int, str]) -> None:
    found = dropped_columns(selection, *_columns())
    assert set(found) == set(dropped)
    assert all(found[position].startswith(reason) for position, reason in dropped.items())


def test_mutual_information_is_scikit_learns() -> None:
    matrix, labels = _columns()
    counts = contingency(matrix[:, 0], labels)
    assert counts.shape == (10, 2) and counts.sum() == len(labels)
    assert mutual_information(counts) == pytest.approx(
        metrics.mutual_info_score(None, None, contingency=counts)
    )


def test_a_selection_that_drops_everything_says_so() -> None:
    with pytest.raises(LastingFailure, match="drops every column"):
        dropped_columns(Selection(min_mutual_information=9), *_columns())


def test_dropped_columns_take_their_target_encodings_along() -> None:
    training, of = examples(400, 3), contract(encoding="target")
    folds = folds_of(400, 1)
    full = fit_preparation(of, training, folds)
    fewer = without(full, [0, 2])
    assert fewer.targets == {2: full.targets[4]}
    all_rows = full.apply_to_training(training, folds, scaled=True)
    some = fewer.apply_to_training(training, folds, scaled=True)
    assert some.trees.tobytes() == np.ascontiguousarray(all_rows.trees[:, [1, 3, 4]]).tobytes()
