"""The reference profile: what it says of features and scores, and that a monitor can use it alone."""

import numpy as np
import pytest
from pydantic import ValidationError

from fraud_core.profile import (
    LEVELS,
    Histogram,
    Profile,
    calibration_bins,
    make_profile,
    profile_feature,
    shares_between,
)


def profile(rows: int = 5000) -> Profile:
    source = np.random.default_rng(1)
    labels = (source.random(rows) < 0.1).astype(np.int8)
    features = np.column_stack(
        [
            source.normal(size=rows),
            source.integers(0, 3, rows),
            np.where(source.random(rows) < 0.25, np.nan, 1),
        ]
    ).astype(np.float32)
    scores = np.clip(0.1 + 0.6 * labels + source.normal(0, 0.05, rows), 0, 1)
    return make_profile(
        "tiny/1",
        ("x", "kind", "fee"),
        features,
        labels,
        held_out_labels=labels[:2000],
        held_out_scores=scores[:2000],
        threshold=0.5,
    )


def test_a_monitor_finds_no_drift_where_there_is_none_and_finds_it_where_there_is() -> None:
    """PSI on the profile's own bins, from its file alone."""
    reference = Profile.from_json(profile().to_json()).features[0].histogram
    source = np.random.default_rng(2)

    def psi(values: np.ndarray) -> float:
        now = np.maximum(shares_between(values, reference.edges), 1e-4)
        then = np.maximum(reference.shares, 1e-4)
        return float(np.sum((now - then) * np.log(now / then)))

    assert psi(source.normal(size=5000)) < 0.02
    assert psi(source.normal(1.0, 1, size=5000)) > 0.5


def test_quantiles_have_the_shares_between_their_levels() -> None:
    feature = profile().features[0]
    assert feature.levels == LEVELS
    steps = np.diff([0, *LEVELS, 1])
    assert feature.histogram.shares == pytest.approx(steps, abs=3e-4)
    assert feature.missing == 0
    assert feature.categories is None
    assert feature.mean == pytest.approx(0, abs=0.05)


def test_few_values_are_categories_and_absent_values_are_counted() -> None:
    _, kind, fee = profile().features
    assert kind.categories is not None
    assert list(kind.categories) == ["0", "1", "2"]
    assert sum(kind.categories.values()) == pytest.approx(1)
    assert kind.histogram.shares == pytest.approx([kind.categories[k] for k in "012"] + [0])
    assert fee.missing == pytest.approx(0.25, abs=0.02)
    assert fee.categories == {"1": 1.0}
    assert (fee.histogram.edges, fee.levels) == ((1.0,), (0.999,))


def test_a_feature_without_any_value_is_described_too() -> None:
    empty = profile_feature("fee", np.full(10, np.nan, np.float32))
    assert (empty.missing, empty.mean, empty.categories, empty.histogram.edges) == (1.0, None, None, ())


def test_scores_frauds_and_calibration_are_of_the_held_out_rows() -> None:
    one = profile()
    assert (one.rows, one.scored_rows) == (5000, 2000)
    assert one.alert_rate == pytest.approx(one.scored_fraud_rate, abs=1e-9)
    assert sum(one.scores.shares) == pytest.approx(1)
    assert sum(each.rows for each in one.calibration) == 2000
    assert one.calibration[-1].fraud_rate == 1.0


def test_calibration_bins_by_hand() -> None:
    low, high = calibration_bins(np.array([0, 1, 1], np.int8), np.array([0.1, 0.3, 1.0]), 2)
    assert low.model_dump() == pytest.approx({"rows": 2, "mean_score": 0.2, "fraud_rate": 0.5})
    assert high.model_dump() == {"rows": 1, "mean_score": 1.0, "fraud_rate": 1.0}


def test_the_same_rows_give_the_same_bytes() -> None:
    assert profile().to_json() == profile().to_json()


@pytest.mark.parametrize(
    "wrong", [{"edges": (1.0,), "shares": (1.0,)}, {"edges": (1.0, 1.0), "shares": (0.5, 0.5, 0.0)}]
)
def test_an_incoherent_histogram_is_refused(wrong: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ValidationError):
        Histogram(**wrong)
