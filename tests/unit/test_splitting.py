"""Splits in time with a gap for late labels, and prequential blocks."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fraud_trainer.train.splitting import SplitError, split_in_time

MOMENTS = np.sort(np.random.default_rng(1).integers(0, 5000, 2000))
LABELS: NDArray[np.int8] = (np.arange(2000) % 10 == 0).astype(np.int8)


def test_what_is_fitted_ends_a_gap_before_what_judges() -> None:
    without = split_in_time(MOMENTS, LABELS, validation_share=0.3, test_share=0.2)
    split = split_in_time(MOMENTS, LABELS, validation_share=0.3, test_share=0.2, gap=400)
    assert without.gap == without.test
    assert split.test == without.test
    fitted_until = MOMENTS[split.part("calibration")].max()
    assert MOMENTS[split.test] - 500 < fitted_until <= MOMENTS[split.test] - 400
    sizes = {name: part.stop - part.start for name, part in split.parts()}
    assert sizes["train"] / sizes["calibration"] == pytest.approx(0.5 / 0.2, rel=0.05)
    assert sum(sizes.values()) == 2000 - (split.test - split.gap)


def test_a_gap_that_leaves_nothing_is_refused_with_the_parameter() -> None:
    with pytest.raises(SplitError, match=r"part train has 0, 0 of them frauds.*training\.label_gap"):
        split_in_time(MOMENTS, LABELS, validation_share=0.3, test_share=0.2, gap=4900)
