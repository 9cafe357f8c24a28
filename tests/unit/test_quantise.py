from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_core.quantise import quantise, quantise_one


def by_decimals(value: float, scale: int) -> float:
    return float(Decimal(repr(value)).quantize(Decimal(1).scaleb(-scale), rounding=ROUND_HALF_UP))


scales = st.integers(0, 6)
plain = st.floats(-1e8, 1e8, allow_nan=False)
# Decimals that end in 5 just past the scale are where doubles and decimals part.
ties = st.tuples(st.integers(-(10**12), 10**12), st.integers(1, 7)).map(lambda t: float(f"{t[0]}5e-{t[1]}"))


@given(st.lists(plain | ties.filter(lambda v: abs(v) < 1e9), min_size=1, max_size=20), scales)
def test_rounds_as_exact_decimals_do(values: list[float], scale: int) -> None:
    expected = [by_decimals(value, scale) for value in values]
    assert quantise(np.array(values), scale).tolist() == expected
    assert [quantise_one(value, scale) for value in values] == expected


@given(st.lists(plain, min_size=1, max_size=20), scales)
def test_is_idempotent(values: list[float], scale: int) -> None:
    once = quantise(np.array(values), scale)
    assert quantise(once, scale).tolist() == once.tolist()


@pytest.mark.parametrize(
    ("value", "scale", "expected"),
    [
        (0.5, 0, 1.0),
        (-0.5, 0, -1.0),
        (2.5, 0, 3.0),
        (1.005, 2, 1.01),
        (-1.0000005, 6, -1.000001),
        (0.285, 2, 0.29),
    ],
)
def test_ties_go_away_from_zero(value: float, scale: int, expected: float) -> None:
    assert quantise(np.array([value]), scale).tolist() == [expected]


def test_a_scale_for_each_column_and_nan_kept() -> None:
    result = quantise(np.array([[1.255, 1.255], [np.nan, -0.001]]), np.array([2, 0]))
    assert result[0].tolist() == [1.26, 1.0]
    assert np.isnan(result[1, 0])
    assert str(result[1, 1]) == "0.0"
