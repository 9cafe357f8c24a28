"""Fits how features are prepared, on the training part alone; applying it is `fraud_core.preparation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_core.contract import Contract, Feature
from fraud_core.fields import ContractField, FieldPreparation
from fraud_core.preparation import Preparation, PreparedColumn, Preparer
from fraud_trainer.candidates.model_types import Rows, View
from fraud_trainer.train.fitting import Examples

FOLDS: Final = 5
# How many examples the overall share counts for in a category's share of frauds (Micci-Barreca 2001).
PRIOR_EXAMPLES: Final = 20.0


@dataclass(frozen=True, slots=True)
class FittedPreparation:
    """The inputs of both kinds of model.

    Attributes:
        features: the contract's, in their order.
        trees, scaled: the same columns, unscaled and scaled.
        targets: by the position of a target-encoded column, its fitted column for each fold of training rows.
    """

    features: tuple[str, ...]
    trees: Preparation
    scaled: Preparation
    targets: dict[int, tuple[PreparedColumn, ...]]

    def of(self, view: View) -> Preparation:
        return self.trees if view == "trees" else self.scaled

    def apply(self, examples: Examples, *, scaled: bool) -> Rows:
        """The examples as models see them when they serve."""
        return Rows(
            Preparer(self.trees, self.features).apply(examples.features),
            Preparer(self.scaled, self.features).apply(examples.features) if scaled else None,
            examples.labels,
            examples.weights,
        )

    def apply_to_training(self, examples: Examples, folds: NDArray[np.int8], *, scaled: bool) -> Rows:
        """As `apply`, but a row's target encodings come from the other folds, never from its own label."""
        rows = self.apply(examples, scaled=scaled)
        for position, fold_columns in self.targets.items():
            values = out_of_fold(fold_columns, self.features, examples.features, folds)
            rows.trees[:, position] = values
            if rows.scaled is not None:
                column = self.scaled.columns[position]
                assert column.center is not None and column.scale is not None
                rows.scaled[:, position] = (values - np.float32(column.center)) / np.float32(column.scale)
        return rows


def folds_of(rows: int, seed: int) -> NDArray[np.int8]:
    """The fold of each row, in equal shares by chance, [n]."""
    return np.random.default_rng(seed).permutation(np.arange(rows) % FOLDS).astype(np.int8)


def fit_preparation(contract: Contract, training: Examples, folds: NDArray[np.int8]) -> FittedPreparation:
    """Fit the preparation that the contract's fields ask for.

    Args:
        training: the training part; nothing else may be seen here.
        folds: of the training rows, for target encodings.
    """
    columns: list[PreparedColumn] = []
    targets: dict[int, tuple[PreparedColumn, ...]] = {}
    for position, feature in enumerate(contract.features):
        field = contract.field(feature.of)
        values = training.features[:, position]
        if feature.op != "category":
            columns += _number_columns(feature, field.prepare, values)
            continue
        if field.prepare.encoding == "target":
            targets[len(columns)] = tuple(
                _target(feature, training, values, folds != fold, len(field.values)) for fold in range(FOLDS)
            )
        columns += _category_columns(feature, field.prepare, values, training, field.values)
    trees = Preparation(columns=tuple(columns))
    learned = Preparer(trees, contract.feature_names).apply(training.features)
    for position, fold_columns in targets.items():
        learned[:, position] = out_of_fold(fold_columns, contract.feature_names, training.features, folds)
    fields = {feature.name: contract.field(feature.of) for feature in contract.features}
    scaled = [
        _scaled(column, learned[:, position], fields[column.feature])
        for position, column in enumerate(columns)
    ]
    return FittedPreparation(contract.feature_names, trees, Preparation(columns=tuple(scaled)), targets)


def without(fitted: FittedPreparation, dropped: Sequence[int]) -> FittedPreparation:
    """The preparation without the columns at these positions."""
    kept = [position for position in range(len(fitted.trees.columns)) if position not in set(dropped)]
    return replace(
        fitted,
        trees=Preparation(columns=tuple(fitted.trees.columns[position] for position in kept)),
        scaled=Preparation(columns=tuple(fitted.scaled.columns[position] for position in kept)),
        targets={kept.index(old): fold for old, fold in fitted.targets.items() if old in kept},
    )


def out_of_fold(
    fold_columns: Sequence[PreparedColumn],
    features: Sequence[str],
    matrix: NDArray[np.float32],
    folds: NDArray[np.int8],
) -> NDArray[np.float32]:
    """A target encoding of each training row, fitted on the other folds, [n]."""
    result = np.empty(len(matrix), dtype=np.float32)
    for fold, column in enumerate(fold_columns):
        preparer = Preparer(Preparation(columns=(column,)), features)
        result[folds == fold] = preparer.apply(matrix[folds == fold])[:, 0]
    return result


def _number_columns(
    feature: Feature, prepare: FieldPreparation, values: NDArray[np.float32]
) -> list[PreparedColumn]:
    present = values[~np.isnan(values)]
    fill = {"keep": None, "median": _median(present), "constant": prepare.constant}[prepare.missing]
    low = high = None
    if prepare.clip is not None and present.size:
        low, high = (_float(bound) for bound in np.quantile(present, prepare.clip))
    columns = [PreparedColumn(name=feature.name, feature=feature.name, fill=fill, low=low, high=high)]
    if prepare.indicator:
        name = f"{feature.name}_missing"
        columns.append(PreparedColumn(name=name, feature=feature.name, kind="missing"))
    return columns


def _category_columns(
    feature: Feature,
    prepare: FieldPreparation,
    codes: NDArray[np.float32],
    training: Examples,
    values: Sequence[str],
) -> list[PreparedColumn]:
    seen = np.unique(codes[~np.isnan(codes)]).astype(int).tolist()
    if prepare.encoding == "target":
        columns = [_target(feature, training, codes, np.ones(len(codes), dtype=bool), len(values))]
    elif prepare.encoding == "ordinal":
        table = tuple(float(seen.index(code)) if code in seen else None for code in range(len(values)))
        columns = [
            PreparedColumn(
                name=feature.name, feature=feature.name, kind="lookup", table=table, otherwise=-1.0
            )
        ]
    else:
        columns = [
            PreparedColumn(
                name=f"{feature.name}_{values[code]}", feature=feature.name, kind="equals", code=code
            )
            for code in seen
        ]
    if prepare.indicator or not columns:
        name = f"{feature.name}_missing"
        columns.append(PreparedColumn(name=name, feature=feature.name, kind="missing"))
    return columns


def _target(
    feature: Feature,
    training: Examples,
    codes: NDArray[np.float32],
    rows: NDArray[np.bool_],
    categories: int,
) -> PreparedColumn:
    """The share of frauds of each category, drawn to the overall share where there are few examples."""
    weights = np.ones(len(codes)) if training.weights is None else training.weights.astype(np.float64)
    labels = training.labels[rows].astype(np.float64)
    weights, present = weights[rows], ~np.isnan(codes[rows])
    prior = float(np.average(labels, weights=weights)) if weights.sum() else 0.0
    known = codes[rows][present].astype(int)
    size = np.bincount(known, weights[present], categories)
    frauds = np.bincount(known, (weights * labels)[present], categories)
    shares = (frauds + PRIOR_EXAMPLES * prior) / (size + PRIOR_EXAMPLES)
    table = tuple(_float(share) if count else None for share, count in zip(shares, size, strict=True))
    return PreparedColumn(
        name=feature.name, feature=feature.name, kind="lookup", table=table, otherwise=_float(prior)
    )


def _scaled(column: PreparedColumn, learned: NDArray[np.float32], field: ContractField) -> PreparedColumn:
    """The column with its missing values filled, centred and scaled as it is in the training part, [n]."""
    present = learned[~np.isnan(learned)].astype(np.float64)
    fill = column.fill
    # A required field is never missing, and looking for missing values takes time.
    if column.kind == "value" and fill is None and not field.required:
        fill = _median(present)
    if present.size < len(learned):
        present = np.append(present, np.full(len(learned) - present.size, fill))
    if field.prepare.scaling == "robust":
        low, center, high = np.quantile(present, [0.25, 0.5, 0.75])
        spread = high - low
    else:
        center, spread = present.mean(), present.std()
    # A constant column stays at zero.
    scale = spread if np.float32(spread) > 0 else 1.0
    return column.model_copy(update={"fill": fill, "center": _float(center), "scale": _float(scale)})


def _median(values: NDArray[np.floating]) -> float:
    return _float(np.median(values)) if values.size else 0.0


def _float(value: float | np.floating) -> float:
    """The value as float32, so that the manifest holds what is computed with."""
    return float(np.float32(value))
