"""What the figures say of the model: against floors, and against its own figures when it was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Final, Literal

from fraud_core.metrics import Confusion
from fraud_core.performance.figures import Figure
from fraud_core.performance.rules import Floors, PerformanceRules

Severity = Literal["none", "medium", "critical", "insufficient"]
State = Literal["kept", "unclear", "broken"]
COMPARED: Final = ("recall", "precision", "f1")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A figure against a bound.

    Attributes:
        kind: `floor`: the figure itself; `drop`: its relative change since the model was made.
        value, low, high: of the figure, or of the change (-0.1: a tenth less).
        state: `broken` if the whole interval lies below the bound, `unclear` if only the value does.
    """

    kind: Literal["floor", "drop"]
    metric: str
    value: float
    low: float
    high: float
    bound: float
    held_out: float | None = None

    @property
    def state(self) -> State:
        if self.high < self.bound:
            return "broken"
        return "unclear" if self.value < self.bound else "kept"

    def __str__(self) -> str:
        if self.kind == "floor":
            return (
                f"{self.metric} {self.value:.4f} ({self.low:.4f} to {self.high:.4f}), at least {self.bound:g}"
            )
        return (
            f"{self.metric} changed by {self.value:+.1%} ({self.low:+.1%} to {self.high:+.1%}) "
            "since the model was "
            f"made ({self.held_out:.4f}), at least {self.bound:+.1%}"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """How bad it is, and why, in one sentence; `comparisons` are all that were made."""

    severity: Severity
    sentence: str
    comparisons: tuple[Comparison, ...] = ()


def judge(
    counts: Confusion,
    figures: Mapping[str, Figure],
    held_out: Mapping[str, float | None],
    *,
    floors: Floors,
    max_drop: float,
    rules: PerformanceRules,
) -> Verdict:
    """Judge a model by the figures on mature labels.

    Args:
        figures: of `counts`, by number of transactions.
        held_out: the figures in the model's manifest, with their intervals.
        max_drop: the relative drop of a figure from which people are alerted.
    """
    if short := _too_few(counts, rules):
        return Verdict("insufficient", short)
    floored = list(_floors(figures, floors))
    dropped = list(_drops(figures, held_out, max_drop))
    comparisons = (*floored, *dropped)
    unfit = [str(one) for one in floored if one.state == "broken"]
    worse = [str(one) for one in dropped if one.state == "broken"]
    if unfit:
        return Verdict("critical", f"The model is not fit for service: {'; '.join(unfit)}.", comparisons)
    if worse:
        return Verdict("medium", f"The model has become worse: {'; '.join(worse)}.", comparisons)
    unclear = [str(one) for one in comparisons if one.state == "unclear"]
    if unclear:
        return Verdict(
            "none", f"Not shown to be worse, more labels would tell: {'; '.join(unclear)}.", comparisons
        )
    basis = f"{counts.total:,} labels, {counts.tp + counts.fn:,} of them frauds"
    return Verdict("none", f"Every figure keeps its bound, by {basis}.", comparisons)


def _too_few(counts: Confusion, rules: PerformanceRules) -> str | None:
    frauds = counts.tp + counts.fn
    if counts.total < rules.min_labels:
        return f"{counts.total:,} predictions have a mature label, {rules.min_labels:,} are needed."
    if frauds < rules.min_frauds:
        return f"{frauds:,} of {counts.total:,} labels are frauds, {rules.min_frauds:,} are needed."
    if frauds == counts.total:
        return f"All {counts.total:,} labels are frauds: without legitimate ones nothing can be said."
    return None


def _floors(figures: Mapping[str, Figure], floors: Floors) -> Iterator[Comparison]:
    for metric, floor in (("recall", floors.recall), ("precision", floors.precision)):
        figure = figures[metric]
        if figure.value is not None:
            yield Comparison("floor", metric, figure.value, figure.low, figure.high, floor)


def _drops(
    figures: Mapping[str, Figure], held_out: Mapping[str, float | None], max_drop: float
) -> Iterator[Comparison]:
    for metric in COMPARED:
        figure, before = figures[metric], held_out.get(metric)
        if figure.value is None or not before:
            continue
        low = held_out.get(f"{metric}_low") or before
        high = held_out.get(f"{metric}_high") or before
        least, most = ratio_interval(figure, (before, low, high))
        yield Comparison(
            "drop", metric, figure.value / before - 1, least - 1, most - 1, -max_drop, held_out=before
        )


def ratio_interval(figure: Figure, before: tuple[float, float, float]) -> tuple[float, float]:
    """The interval of a figure divided by an earlier, independent one (MOVER-R: Donner and Zou 2012).

    Args:
        before: value, low and high, all above 0.
    """
    value, (base, low, high) = figure.value or 0.0, before
    return (
        _bound(value, base, figure.low, high, -1) if 2 * base > high else 0.0,
        _bound(value, base, figure.high, low, +1),
    )


def _bound(value: float, base: float, own: float, other: float, sign: int) -> float:
    """One bound, from one of the figure (`own`) and the opposite one of the earlier figure (`other`)."""
    product = value * base
    root = sqrt(max(0.0, product**2 - own * other * (2 * value - own) * (2 * base - other)))
    return max(0.0, (product + sign * root) / (other * (2 * base - other)))
