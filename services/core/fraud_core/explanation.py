"""Why a model gave a score: contributions of the features, and what they mean in words.

Contributions are in log-odds of the calibrated score. They add up: base + their sum is the score's log-odds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from fraud_core.contract import Contract, Feature
from fraud_core.manifest import Manifest
from fraud_core.profile import FeatureProfile, Profile

Method = Literal["tree_shap", "reference_shapley"]
Direction = Literal["raises", "lowers"]
Margins = Callable[[NDArray[np.float32]], NDArray[np.floating]]

ORDERS: Final = 16  # of features; a row is scored for each feature of each order
_SECONDS_A_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Contributions:
    """What each feature adds to the log-odds of one transaction's score.

    Attributes:
        base: the log-odds without any of them.
        values: float64 [k], in the order of the features.
        of: which model's output is explained and against what, as a sentence.
    """

    method: Method
    base: float
    values: NDArray[np.float64]
    of: str

    @property
    def log_odds(self) -> float:
        return self.base + float(self.values.sum())

    @property
    def score(self) -> float:
        """The score that the contributions add up to."""
        return float(0.5 * (1 + np.tanh(0.5 * self.log_odds)))


@dataclass(frozen=True, slots=True)
class Reason:
    """One feature's part in a score.

    Attributes:
        value: None where it was missing.
        share_below, share_above: bounds of the shares of training rows with a lower and with a higher value;
            None without a profile, or where the value is missing.
        sentence: value, place in the population and direction, for people.
    """

    feature: str
    value: float | None
    contribution: float
    direction: Direction
    share_below: float | None
    share_above: float | None
    sentence: str


def reasons_of(
    contract: Contract, profile: Profile | None, vector: NDArray[np.float32], values: NDArray[np.float64]
) -> list[Reason]:
    """All features that contribute, the strongest first; those that add nothing are left out.

    Args:
        profile: of the model, for the place of a value in the population; None if the version has none.
        vector: float32 [k], NaN where missing.
        values: the contributions, float64 [k].
    """
    profiles = {one.name: one for one in profile.features} if profile else {}
    order = np.argsort(-np.abs(values), kind="stable")
    return [
        _reason(contract, contract.features[k], profiles, _plain(vector[k]), float(values[k]))
        for k in order.tolist()
        if values[k] != 0
    ]


def _reason(
    contract: Contract,
    feature: Feature,
    profiles: dict[str, FeatureProfile],
    value: float,
    contribution: float,
) -> Reason:
    profile = profiles.get(feature.name)
    below, above = (None, None) if profile is None or math.isnan(value) else place_of(profile, value)
    where = "" if profile is None else f", {_place_in_words(profile, value)}"
    effect = (
        f"multiplies the odds of fraud by {_factor(contribution)}"
        if contribution > 0
        else f"divides the odds of fraud by {_factor(contribution)}"
    )
    return Reason(
        feature=feature.name,
        value=None if math.isnan(value) else value,
        contribution=contribution,
        direction="raises" if contribution > 0 else "lowers",
        share_below=below,
        share_above=above,
        sentence=f"{_value_in_words(contract, feature, value)}{where}: this {effect}.",
    )


def _plain(value: np.float32) -> float:
    """The shortest number that names the float32, as the database has it too."""
    return float(str(value))


def place_of(profile: FeatureProfile, value: float) -> tuple[float, float]:
    """At least which shares of the profile's rows have a lower and a higher value."""
    if profile.categories is not None:
        known = {float(name): share for name, share in profile.categories.items()}
        return (
            sum(share for other, share in known.items() if other < value),
            sum(share for other, share in known.items() if other > value),
        )
    histogram = profile.histogram
    position = int(np.searchsorted(histogram.edges, value, side="left"))
    below = sum(histogram.shares[:position])
    above = sum(histogram.shares[position + 1 :])
    if profile.high is not None and value > profile.high:
        return 1.0, 0.0
    if profile.low is not None and value < profile.low:
        return 0.0, 1.0
    return min(below, 1.0), min(above, 1.0)


def _place_in_words(profile: FeatureProfile, value: float) -> str:
    if math.isnan(value):
        return f"as in {_percent(profile.missing)} of the transactions that the model learned from"
    below, above = place_of(profile, value)
    if profile.categories is not None:
        share = profile.categories.get(f"{value:g}", 0.0)
        return f"as in {_percent(share)} of the transactions that the model learned from"
    if below >= 1:
        return "higher than in all transactions that the model learned from"
    if above >= 1:
        return "lower than in all transactions that the model learned from"
    if max(below, above) < 0.6:
        return "near the middle of the transactions that the model learned from"
    if below > above:
        return f"higher than in {_percent(below)} of the transactions that the model learned from"
    return f"lower than in {_percent(above)} of the transactions that the model learned from"


def _value_in_words(contract: Contract, feature: Feature, value: float) -> str:
    if feature.op == "equals":
        return f"{feature.of} is {'' if value == 1 else 'not '}{feature.value}"
    if math.isnan(value):
        return f"{feature.name} is missing"
    if feature.op == "category":
        return f"{feature.of} is {contract.field(feature.of).values[int(value)]}"
    if feature.by == _SECONDS_A_DAY and contract.field(feature.of).role == "clock":
        minutes = int(value) // 60
        return f"{feature.name} is {minutes // 60:02}:{minutes % 60:02}"
    return f"{feature.name} is {value:,.6g}"


def _factor(contribution: float) -> str:
    factor = math.exp(min(abs(contribution), 700.0))
    return f"{factor:.2f}" if factor < 10 else f"{factor:,.0f}" if factor < 1e6 else "more than a million"


def _percent(share: float) -> str:
    """A share that is not 0 is never shown as 0 %, and one that is not 1 never as 100 %."""
    for digits in (0, 1, 2):
        text = f"{share * 100:.{digits}f}"
        if share in (0, 1) or float(text) not in (0.0, 100.0):
            return f"{text}%"
    return "less than 0.01%" if share < 0.5 else "more than 99.99%"


def reference_of(profile: Profile) -> NDArray[np.float32]:
    """A transaction with the median of each feature, missing where most rows have no value; float32 [k]."""
    return np.array([_median(one) for one in profile.features], dtype=np.float32)


def _median(profile: FeatureProfile) -> float:
    edges = zip(profile.histogram.edges, profile.levels, strict=True)
    return (
        math.nan if profile.missing > 0.5 else next((edge for edge, level in edges if level >= 0.5), math.nan)
    )


def shapley_from(
    margins: Margins, vector: NDArray[np.float32], reference: NDArray[np.float32], orders: int = ORDERS
) -> tuple[float, NDArray[np.float64]]:
    """Shapley values of one row against a reference row, estimated from some orders of the features.

    In each order the features take the row's values one after the other, and each is given what the margin
    changes by (Castro et al. 2009). What the features get adds up to the difference of the two margins in
    every order, so it does in the mean. A model that is a sum of functions of single features is explained
    exactly. The same arguments give the same values: orders are drawn from a fixed seed, each with its
    reverse.

    Args:
        margins: of float32 [n, k], shape [n].
        vector, reference: float32 [k].

    Returns:
        The margin of the reference, and the values, float64 [k].
    """
    width = len(vector)
    source = np.random.default_rng(0)
    drawn = [source.permutation(width) for _ in range((orders + 1) // 2)]
    sequences = [order for one in drawn for order in (one, one[::-1])][:orders]
    rows = np.repeat(reference[None, :], orders * (width + 1), axis=0)
    for number, order in enumerate(sequences):
        block = rows[number * (width + 1) : (number + 1) * (width + 1)]
        for step, feature in enumerate(order, start=1):
            block[step:, feature] = vector[feature]
    found = margins(rows).astype(np.float64).reshape(orders, width + 1)
    steps = np.diff(found, axis=1)
    values = np.zeros(width)
    for order, changes in zip(sequences, steps, strict=True):
        values[order] += changes
    return float(found[0, 0]), values / orders


def summed_by_feature(
    columns: Sequence[str], features: Sequence[str], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Contributions of a model's columns as contributions of the features that they are made of."""
    position = {name: k for k, name in enumerate(features)}
    result = np.zeros(len(features))
    np.add.at(result, [position[name] for name in columns], values)
    return result


def explained_by_trees(manifest: Manifest) -> str:
    """Of what TreeSHAP values are, as a sentence."""
    if manifest.candidate == "xgboost_bag":
        return (
            "TreeSHAP of the log-odds of a bag of boosted trees: of the mean of its members' margins,"
            " which is what decides, not of a single member."
        )
    return (
        "TreeSHAP of the log-odds of boosted trees, against the average of the rows that they learned from."
    )


def explained_against_reference(manifest: Manifest) -> str:
    """Of what Shapley values against a reference transaction are, as a sentence."""
    what = _KINDS.get(manifest.candidate or "", "the model")
    if manifest.members:
        shares = ", ".join(f"{member.name} {member.weight:.3g}" for member in manifest.members)
        what = f"the whole weighted vote ({shares})"
    how = (
        "exact, because each feature adds a part of its own"
        if manifest.candidate == "logistic_regression"
        else f"estimated from {ORDERS} orders of the features"
    )
    return (
        f"Shapley values of the log-odds of {what}, against a transaction with the median of each feature;"
        f" {how}. There is no TreeSHAP for this kind of model."
    )


_KINDS: Final = {
    "neural_network": "a neural network",
    "random_forest": "a random forest",
    "isolation_forest": "an isolation forest",
    "logistic_regression": "a logistic regression",
    "voting": "a weighted vote",
}
