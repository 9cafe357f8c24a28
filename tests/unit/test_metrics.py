import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_core.metrics import (
    Confusion,
    average_precision,
    confusion,
    curve,
    recall_at_precision,
    roc_auc,
    wilson_interval,
)
from tests.support.later import Later

reference = Later("sklearn.metrics")

# Scores from a small set, so that ties are common.
rows = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 12).map(lambda n: n / 12)), min_size=2, max_size=60
)
both_classes = rows.filter(lambda pairs: 0 < sum(label for label, _ in pairs) < len(pairs))


@given(both_classes)
def test_agree_with_scikit_learn(pairs: list[tuple[int, float]]) -> None:
    labels, scores = map(np.array, zip(*pairs, strict=True))
    points = curve(labels, scores)
    assert average_precision(points) == pytest.approx(reference.average_precision_score(labels, scores))
    assert roc_auc(points) == pytest.approx(reference.roc_auc_score(labels, scores))
    precision, recall, _ = reference.precision_recall_curve(labels, scores)
    assert recall_at_precision(points, 0.5) == pytest.approx(max(recall[precision >= 0.5]))
    for position, threshold in enumerate(points.thresholds):
        counts = confusion(labels, scores >= threshold)
        tn, fp, fn, tp = reference.confusion_matrix(labels, scores >= threshold, labels=[0, 1]).ravel()
        assert counts == Confusion(tp=tp, fp=fp, tn=tn, fn=fn)
        assert (points.tp[position], points.fp[position]) == (tp, fp)
        assert points.f1[position] == pytest.approx(counts.f1)


def test_a_ratio_without_denominator_is_undefined() -> None:
    nothing = Confusion(tp=0, fp=0, tn=5, fn=0)
    assert (nothing.recall, nothing.precision, nothing.f1) == (None, None, None)
    assert nothing.fpr == 0


@pytest.mark.parametrize("labels", [[0, 0], [1, 1]])
def test_a_curve_needs_both_classes(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="both classes"):
        curve(labels, [0.1, 0.2])


def test_a_score_that_is_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        curve([0, 1], [0.1, float("nan")])


def test_wilson_interval_is_the_published_one() -> None:
    # Brown, Cai, DasGupta 2001: 10 of 100 at 95 %.
    assert wilson_interval(10, 100) == pytest.approx((0.0552, 0.1744), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)
