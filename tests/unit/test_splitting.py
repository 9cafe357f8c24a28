"""Splits in time with a gap for late labels, and prequential blocks."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from fraud_trainer.splitting import SplitError, prequential_blocks, split_in_time

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


def test_each_block_is_judged_by_what_was_known_before_it() -> None:
    part = slice(1000, 2000)
    blocks = prequential_blocks(MOMENTS, LABELS, part=part, blocks=6, gap=300)
    assert len(blocks) == 6
    assert (blocks[0].judge.start, blocks[-1].judge.stop) == (1000, 2000)
    for earlier, later in itertools.pairwise(blocks):
        assert earlier.judge.stop == later.judge.start
        assert MOMENTS[earlier.judge].max() < MOMENTS[later.judge].min()
        assert earlier.fit.stop < later.fit.stop
    for block in blocks:
        assert block.fit.start == 0
        assert MOMENTS[block.fit].max() <= MOMENTS[block.judge.start] - 300
        assert block.judge.stop - block.judge.start == pytest.approx(1000 / 6, abs=5)


def test_a_block_without_frauds_is_named() -> None:
    labels = LABELS.copy()
    labels[1500:] = 0
    with pytest.raises(SplitError, match="part in block 4 has"):
        prequential_blocks(MOMENTS, labels, part=slice(1000, 2000), blocks=6, gap=0)
