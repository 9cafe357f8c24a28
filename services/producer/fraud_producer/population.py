"""The exact class densities of the simulated population.

Legitimate payments and each fraud pattern are products of one density per coordinate: v1 … v28, the logarithm
of the amount, and the hour of day. The log likelihood ratio is therefore a sum, and the best possible
classifier is known. A share of each class is drawn from the other class's density (`overlap`); no classifier
can separate it.

Every hour has the same share of frauds; only the mix of fraud patterns depends on the hour. A stream sampled
at any time of day therefore has the configured fraud rate, and the hour still carries information.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FEATURES: Final = 28
COORDINATES: Final = FEATURES + 1  # v1 … v28 and the natural logarithm of the amount
HOURS: Final = 24

# The share `overlap` of the frauds looks legitimate; this multiple of it of the legitimate ones looks like
# fraud.
LEGITIMATE_SHARE_OF_OVERLAP: Final = 0.15
# At this overlap the best possible model does no better than the best known on the real ULB data at 5 %
# frauds, split in time: recall .885 at an FPR of 1.7 %.
ULB_OVERLAP: Final = 0.115

# Coordinates with heavy tails: with this chance a value is drawn this many times as wide.
TAIL_SHARE: Final = 0.08
TAIL_WIDTH: Final = 2.5
TAILED_COORDINATES: Final = 6

# Distance of a pattern from the legitimate centre over v1 … v28, in legitimate standard deviations.
PATTERN_DISTANCE: Final = 8.0
PATTERN_FEATURES: Final = 6
NEW_PATTERN: Final = 3


@dataclass(frozen=True)
class Component:
    """A product density; `mean`, `scale` have shape [COORDINATES], `hours` [HOURS] sums to 1."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    hours: tuple[float, ...]


@dataclass(frozen=True)
class Population:
    """The joint density of a transaction and its class.

    Attributes:
        fraud_rate: share of frauds, at every hour.
        overlap: share of frauds drawn from the legitimate density.
        tailed: the coordinates with heavy tails, in every component.
        legitimate: density of the legitimate core.
        patterns, shares: densities of the fraud core and their shares, which sum to 1.
    """

    seed: int
    fraud_rate: float
    overlap: float
    tailed: tuple[int, ...]
    legitimate: Component
    patterns: tuple[Component, ...]
    shares: tuple[float, ...]

    @property
    def fraud_overlap(self) -> float:
        """Chance that a fraud looks legitimate."""
        return self.overlap

    @property
    def legitimate_overlap(self) -> float:
        """Chance that a legitimate transaction looks like fraud."""
        return LEGITIMATE_SHARE_OF_OVERLAP * self.overlap

    def to_mapping(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def digest(self) -> str:
        """Identifies the distribution: SHA-256 over its parameters, 64 hexadecimal digits."""
        text = json.dumps(self.to_mapping(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def pattern_shares_by_hour(self) -> NDArray[np.float64]:
        """Of the fraud core at each hour, the share of each pattern, shape [HOURS, patterns]."""
        joint = np.array([p.hours for p in self.patterns]).T * np.array(self.shares)
        shares: NDArray[np.float64] = joint / joint.sum(axis=1, keepdims=True)
        return shares


def population(seed: int, fraud_rate: float, overlap: float) -> Population:
    """The population of a seed. Another seed is another population of the same difficulty.

    Raises:
        ValueError: the rate is not inside (0, 1), or the overlap not inside [0, 0.5).
    """
    if not 0 < fraud_rate < 1:
        raise ValueError(f"the fraud rate must lie between 0 and 1, not {fraud_rate:g}")
    if not 0 <= overlap < 0.5:
        raise ValueError(f"the overlap must be at least 0 and below 0.5, not {overlap:g}")
    rng = np.random.default_rng([seed, 0x706F70])
    widths = _widths()
    tailed = tuple(sorted(rng.choice(FEATURES, TAILED_COORDINATES, replace=False).tolist()))
    by_hour = _traffic()
    legitimate = Component(_numbers([0.0] * FEATURES + [3.1]), _numbers([*widths, 1.35]), _numbers(by_hour))
    shares = (0.45, 0.33, 0.22)
    mixes = _pattern_mix_by_hour()
    share_of_hour = mixes @ by_hour  # of all frauds, how many are of each pattern
    amounts = ((1.2, 0.9), (5.2, 1.0), (3.6, 1.2))  # testing a card, emptying it, passing as a customer
    patterns = tuple(
        _pattern(rng, widths, amounts[number], mixes[number] * by_hour / share_of_hour[number])
        for number in range(len(shares))
    )
    return Population(seed, fraud_rate, overlap, tailed, legitimate, patterns, _numbers(share_of_hour))


def new_pattern(seed: int, hours: tuple[float, ...]) -> Component:
    """The pattern that drift brings: elsewhere than the others, and with ordinary amounts.

    Args:
        hours: the traffic of the day, so that the share of frauds stays the same at every hour.
    """
    rng = np.random.default_rng([seed, 0x706F70, NEW_PATTERN])
    return _pattern(rng, _widths(), (3.3, 1.3), np.array(hours))


def _pattern(
    rng: np.random.Generator,
    widths: NDArray[np.float64],
    amount: tuple[float, float],
    hours: NDArray[np.float64],
) -> Component:
    chosen = rng.choice(FEATURES, PATTERN_FEATURES, replace=False)
    shift = np.zeros(FEATURES)
    shift[chosen] = rng.uniform(0.7, 1.6, PATTERN_FEATURES) * rng.choice([-1.0, 1.0], PATTERN_FEATURES)
    shift *= PATTERN_DISTANCE / np.linalg.norm(shift)
    scale = widths.copy()
    scale[chosen] *= rng.uniform(0.9, 1.3, PATTERN_FEATURES)
    return Component(_numbers([*(shift * widths), amount[0]]), _numbers([*scale, amount[1]]), _numbers(hours))


def _widths() -> NDArray[np.float64]:
    """Standard deviations as principal components have them: falling, from 1.95 to 0.33."""
    return np.geomspace(1.95, 0.33, FEATURES)


def _traffic() -> NDArray[np.float64]:
    """Share of the day's transactions in each hour: quiet at night, a peak in the evening."""
    hour = np.arange(HOURS)
    level = 1.0 + 0.55 * np.sin((hour - 10) * np.pi / 12) + 0.25 * np.sin((hour - 4) * np.pi / 6)
    return np.asarray(level / level.sum(), dtype=np.float64)


def _pattern_mix_by_hour() -> NDArray[np.float64]:
    """Share of each pattern among the frauds of an hour, shape [3, HOURS]; columns sum to 1."""
    night = 0.5 + 0.5 * np.cos((np.arange(HOURS) - 3) * np.pi / 12)
    testing = 0.30 + 0.30 * night
    emptying = 0.45 - 0.30 * night
    return np.stack([testing, emptying, 1.0 - testing - emptying])


def _numbers(values: Any) -> tuple[float, ...]:
    # Rounded, so that the digest does not depend on the last bit of a platform's arithmetic.
    return tuple(round(float(value), 9) for value in values)
