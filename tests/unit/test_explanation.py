"""The words of an explanation: value, place in the population, direction; and Shapley values against a
reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from fraud_core.contract import Contract
from fraud_core.explanation import (
    Contributions,
    Reason,
    place_of,
    reasons_of,
    reference_of,
    shapley_from,
    summed_by_feature,
)
from fraud_core.profile import Profile, make_profile, profile_feature

CONTRACT = Contract.from_mapping(
    {
        "name": "tiny",
        "version": 1,
        "fields": [
            {"name": "time", "type": "decimal", "precision": 10, "scale": 2, "role": "clock"},
            {"name": "amount", "type": "decimal", "precision": 12, "scale": 2, "role": "amount"},
            {"name": "channel", "type": "category", "values": ["branch", "web"]},
            {"name": "fee", "type": "decimal", "precision": 9, "scale": 2, "required": False},
        ],
        "features": [
            {"name": "amount", "op": "field", "of": "amount"},
            {"name": "time_of_day", "op": "modulo", "of": "time", "by": 86400},
            {"name": "is_web", "op": "equals", "of": "channel", "value": "web"},
            {"name": "channel", "op": "category", "of": "channel"},
            {"name": "fee", "op": "field", "of": "fee"},
        ],
    }
)
LEARNED = "of the transactions that the model learned from"


@pytest.fixture(scope="module")
def profile() -> Profile:
    rows = np.arange(1000, dtype=np.float32)
    features = np.column_stack([rows, rows * 86, rows < 100, rows % 2, np.where(rows < 30, np.nan, rows)])
    labels = (rows < 50).astype(np.int8)
    scores = np.linspace(0, 1, 1000)
    return make_profile(
        *("tiny/1", CONTRACT.feature_names, features.astype(np.float32), labels),
        held_out_labels=labels,
        held_out_scores=scores,
        threshold=0.5,
    )


def reasons(profile: Profile | None, *pairs: tuple[float, float]) -> list[Reason]:
    vector, values = zip(*pairs, strict=True)
    return reasons_of(CONTRACT, profile, np.array(vector, np.float32), np.array(values, np.float64))


def one(profile: Profile | None, feature: int, value: float, contribution: float = math.log(2)) -> Reason:
    pairs = [(0.0, 0.0)] * 5
    pairs[feature] = (value, contribution)
    [reason] = reasons(profile, *pairs)
    return reason


@pytest.mark.parametrize(
    ("feature", "value", "sentence"),
    [
        (0, 995.5, f"amount is 995.5, higher than in 99% {LEARNED}"),
        (0, 5.0, f"amount is 5, lower than in 99% {LEARNED}"),
        (0, 450.0, "amount is 450, near the middle of the transactions that the model learned from"),
        (0, 123456.789, "amount is 123,457, higher than in all transactions that the model learned from"),
        (0, -1.0, "amount is -1, lower than in all transactions that the model learned from"),
        (1, 80_000.0, f"time_of_day is 22:13, higher than in 90% {LEARNED}"),
        (2, 1.0, f"channel is web, as in 10% {LEARNED}"),
        (2, 0.0, f"channel is not web, as in 90% {LEARNED}"),
        (3, 1.0, f"channel is web, as in 50% {LEARNED}"),
        (4, math.nan, f"fee is missing, as in 3% {LEARNED}"),
    ],
)
def test_a_reason_says_value_place_and_direction(
    profile: Profile, feature: int, value: float, sentence: str
) -> None:
    assert one(profile, feature, value).sentence == f"{sentence}: this multiplies the odds of fraud by 2.00."


def test_a_place_is_never_claimed_to_be_further_out_than_it_is(profile: Profile) -> None:
    for position, column in enumerate(profile.features[:2]):
        rows = np.arange(1000, dtype=np.float64) * (1, 86)[position]
        for value in rows[::7].tolist():
            below, above = place_of(column, value)
            assert below <= np.mean(rows < value) + 1e-9
            assert above <= np.mean(rows > value) + 1e-9


def test_without_a_profile_no_place_is_claimed() -> None:
    reason = one(None, 0, 12.5, -math.log(3))
    assert reason.sentence == "amount is 12.5: this divides the odds of fraud by 3.00."
    assert (reason.direction, reason.share_below, reason.share_above) == ("lowers", None, None)


def test_the_strongest_come_first_and_what_adds_nothing_is_left_out(profile: Profile) -> None:
    told = reasons(profile, (1, 0.1), (2, -3.0), (1, 0.0), (0, 2.0), (math.nan, 0.5))
    assert [reason.feature for reason in told] == ["time_of_day", "channel", "fee", "amount"]
    assert told[2].value is None


@pytest.mark.parametrize(
    ("contribution", "text"),
    [(math.log(9.994), "9.99"), (math.log(1234.1), "1,234"), (800, "more than a million")],
)
def test_factors_are_readable(contribution: float, text: str) -> None:
    assert f"by {text}." in one(None, 0, 1.0, contribution).sentence


def test_a_feature_without_values_has_no_place() -> None:
    empty = profile_feature("x", np.array([np.nan, np.nan], np.float32))
    assert place_of(empty, 3.0) == (0.0, 0.0)


# --- Shapley values -------------------------------------------------------------------------------


def product(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    return wide[:, 0] * wide[:, 1] + np.nan_to_num(wide[:, 2])


def test_values_add_up_in_every_number_of_orders_and_an_interaction_is_shared() -> None:
    row, other = np.array([3, 5, np.nan], np.float32), np.array([1, 1, 7], np.float32)
    for orders in (1, 2, 7, 16):
        base, values = shapley_from(product, row, other, orders)
        assert base == 8
        assert base + values.sum() == pytest.approx(15)
    # Exact: (2 · 1 + 2 · 5) / 2, (4 · 1 + 4 · 3) / 2, −7. Orders come with their reverses, so two features
    # are exact.
    assert shapley_from(product, row, other)[1] == pytest.approx([6, 8, -7])


def test_a_reference_has_the_median_of_each_feature(profile: Profile) -> None:
    assert reference_of(profile)[0] == pytest.approx(499, abs=1)
    assert reference_of(profile)[2] == 0
    mostly_missing = profile_feature("x", np.array([1, np.nan, np.nan], np.float32))
    assert math.isnan(reference_of(profile.model_copy(update={"features": (mostly_missing,)}))[0])


def test_columns_of_one_feature_are_summed() -> None:
    values = np.array([1.0, 2.0, 4.0])
    assert summed_by_feature(["b", "a", "b"], ["a", "b", "c"], values).tolist() == [2.0, 5.0, 0.0]


@pytest.mark.parametrize("log_odds", [-800.0, -1.0, 0.0, 40.0, 800.0])
def test_the_score_of_contributions_is_a_probability(log_odds: float) -> None:
    found = Contributions("tree_shap", log_odds, np.zeros(1), "").score
    assert found == pytest.approx(1 / (1 + math.exp(-min(max(log_odds, -700), 700))))
