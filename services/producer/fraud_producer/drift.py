"""Drift options: they change the parameters of sampler and density together, so the optimum stays exact."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from fraud_core.plain_numbers import parse_number
from fraud_producer.population import FEATURES, Component, Population, new_pattern

SHIFTED_FEATURES: Final = 6
STRONGEST: Final = 1e6


def amount_scale(base: Population, strength: float) -> Population:
    """Every amount is multiplied by 1 + strength."""
    if strength <= -1:
        raise ValueError("amount-scale must be above -1 (amounts are multiplied by 1 + strength)")
    step = np.zeros(FEATURES + 1)
    step[FEATURES] = math.log1p(strength)
    return _moved(base, step)


def feature_shift(base: Population, strength: float) -> Population:
    """Six of v1 … v28 move by `strength` standard deviations, in both classes."""
    rng = np.random.default_rng([base.seed, 0x736866])
    chosen = rng.choice(FEATURES, SHIFTED_FEATURES, replace=False)
    step = np.zeros(FEATURES + 1)
    step[chosen] = strength * np.array(base.legitimate.scale)[chosen] * rng.choice([-1, 1], SHIFTED_FEATURES)
    return _moved(base, step)


def fraud_pattern(base: Population, strength: float) -> Population:
    """A pattern unseen before makes up `strength` of the frauds, the others the rest."""
    if not 0 <= strength < 1:
        raise ValueError("new-pattern must be at least 0 and below 1 (the share of frauds that are new)")
    if strength == 0:
        return base
    shares = tuple(round(share * (1 - strength), 9) for share in base.shares)
    added = new_pattern(base.seed, base.legitimate.hours)
    return replace(base, patterns=(*base.patterns, added), shares=(*shares, round(1 - sum(shares), 9)))


def fraud_rate(base: Population, strength: float) -> Population:
    """The share of frauds is multiplied by 1 + strength."""
    rate = base.fraud_rate * (1 + strength)
    if not 0 < rate < 1:
        raise ValueError(f"fraud-rate={strength:g} makes the share of frauds {rate:g}, outside of 0 to 1")
    return replace(base, fraud_rate=rate)


KINDS: Final[dict[str, Callable[[Population, float], Population]]] = {
    "amount-scale": amount_scale,
    "feature-shift": feature_shift,
    "new-pattern": fraud_pattern,
    "fraud-rate": fraud_rate,
}


def drifted(base: Population, options: Sequence[str]) -> Population:
    """Apply options such as `amount-scale=1.0`, one after the other.

    Raises:
        ValueError: an option is unknown, not a number, or out of its range; one sentence.
    """
    for option in options:
        kind, strength = check(option)
        base = KINDS[kind](base, strength)
    return base


def check(option: str) -> tuple[str, float]:
    """Kind and strength of an option.

    Raises:
        ValueError: there is no such kind, or the strength is not a number; one sentence.
    """
    kind, _, text = option.partition("=")
    if kind not in KINDS:
        raise ValueError(f"there is no drift {kind!r}; known: {', '.join(KINDS)}")
    try:
        strength = parse_number(text)
    except ValueError:
        strength = math.inf
    if abs(strength) > STRONGEST:
        raise ValueError(f"drift {kind} needs a strength, a number up to {STRONGEST:g}, such as {kind}=1.0")
    return kind, strength


def _moved(base: Population, step: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Population:
    def move(component: Component) -> Component:
        mean = tuple(round(old + by, 9) for old, by in zip(component.mean, step.tolist(), strict=True))
        return replace(component, mean=mean)

    return replace(
        base, legitimate=move(base.legitimate), patterns=tuple(move(pattern) for pattern in base.patterns)
    )
