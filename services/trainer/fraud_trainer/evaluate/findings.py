"""What the plots and the model card show besides the figures: curves, money, time, features."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from config.parameters import Training
from fraud_core import ranking
from fraud_core.bootstrap import Interval, interval
from fraud_core.decision import is_fraud
from fraud_core.metrics import Confusion, Curve, confusion, curve
from fraud_core.money import cost_by_point
from fraud_trainer.evaluate.figures import Scored
from fraud_trainer.train.fitting import Examples

DAY_MICROSECONDS: Final = 86_400_000_000
_CLASSES: Final = ("legitimate", "fraud")


@dataclass(frozen=True, slots=True)
class TimeBlock:
    """A part of the held-out part; `precision` (average) is None if it lacks a class."""

    begins: datetime
    rows: int
    frauds: int
    counts: Confusion
    precision: Interval | None


@dataclass(frozen=True, slots=True)
class Daily:
    """The thresholds on a day like those of the held-out part; money in the unit of the amount."""

    transactions: float
    alerts: float
    blocked: float
    frauds: float
    found: float
    found_amount: float
    missed_amount: float
    cost: float
    cost_without_model: float


def daily(
    held_out: Examples, scored: Scored, block_threshold: float, days: float, training: Training
) -> Daily:
    """Counts and money by day.

    Args:
        days: how long the held-out part lasted.
    """
    labels, flagged = held_out.labels.astype(bool), is_fraud(scored.scores, scored.threshold)
    amounts = np.zeros(len(labels)) if held_out.amounts is None else held_out.amounts
    fee, review = training.costs.missed_fraud_fee, training.costs.review
    missed, alerts = labels & ~flagged, float(flagged.sum())
    lost = float(amounts[missed].sum())
    return Daily(
        transactions=len(labels) / days,
        alerts=alerts / days,
        blocked=float(is_fraud(scored.scores, block_threshold).sum()) / days,
        frauds=float(labels.sum()) / days,
        found=float((labels & flagged).sum()) / days,
        found_amount=float(amounts[labels & flagged].sum()) / days,
        missed_amount=lost / days,
        cost=(lost + fee * float(missed.sum()) + review * alerts) / days,
        cost_without_model=(float(amounts[labels].sum()) + fee * float(labels.sum())) / days,
    )


def over_time(
    moments: NDArray[np.int64], held_out: Examples, scored: Scored, training: Training
) -> list[TimeBlock]:
    """The held-out part in blocks of as many rows, the earliest first."""
    bounds = np.linspace(0, len(moments), training.report_blocks + 1).astype(int)
    blocks = []
    for start, stop in pairwise(bounds.tolist()):
        labels, scores = held_out.labels[start:stop], scored.scores[start:stop]
        frauds = int(labels.sum())
        both = 0 < frauds < len(labels)
        blocks.append(
            TimeBlock(
                datetime.fromtimestamp(int(moments[min(start, len(moments) - 1)]) / 1e6, UTC),
                len(labels),
                frauds,
                confusion(labels, is_fraud(scores, scored.threshold)),
                interval(
                    ranking.average_precision,
                    labels,
                    scores,
                    resamples=training.resamples,
                    seed=training.seed,
                )
                if both
                else None,
            )
        )
    return blocks


def costs_by_threshold(
    held_out: Examples, scored: Scored, training: Training
) -> tuple[Curve, NDArray[np.float64]]:
    points = curve(held_out.labels, scored.scores)
    return points, cost_by_point(points, held_out.labels, scored.scores, held_out.amounts, training.costs)


def classification_report(counts: Confusion) -> dict[str, dict[str, float | None]]:
    """Precision, recall, F1 and support of each class at the threshold, and the accuracy."""
    other = Confusion(tp=counts.tn, fp=counts.fn, tn=counts.tp, fn=counts.fp)
    return {
        name: {
            "precision": of.precision,
            "recall": of.recall,
            "f1": of.f1,
            "support": float(of.tp + of.fn),
        }
        for name, of in zip(_CLASSES, (other, counts), strict=True)
    } | {
        "all": {"accuracy": counts.accuracy, "support": float(counts.tp + counts.fp + counts.tn + counts.fn)}
    }


def classification_text(counts: Confusion) -> str:
    """The report as a table of fixed width."""
    lines = [f"{'':<12}{'precision':>11}{'recall':>11}{'f1':>11}{'support':>11}"]
    report = classification_report(counts)
    for name in _CLASSES:
        of = report[name]
        cells = "".join(_cell(of[figure]) for figure in ("precision", "recall", "f1"))
        lines.append(f"{name:<12}{cells}{of['support'] or 0:>11,.0f}")
    whole = report["all"]
    lines.append(f"{'accuracy':<12}{'':>22}{_cell(whole['accuracy'])}{whole['support'] or 0:>11,.0f}")
    return "\n".join(lines) + "\n"


def _cell(value: float | None) -> str:
    return f"{'undefined':>11}" if value is None else f"{value:>11.4f}"
