"""The pure figures and verdicts of the performance in service."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest
from pydantic import ValidationError

from fraud_core.metrics import Confusion, wilson_interval
from fraud_core.performance.figures import (
    Figure,
    Judged,
    by_amount,
    by_decision,
    confidence,
    in_count,
    in_money,
)
from fraud_core.performance.rules import Floors, PerformanceRules
from fraud_core.performance.verdict import Verdict, judge, ratio_interval

RULES = PerformanceRules()
FLOORS = Floors(recall=0.8, precision=0.75)
MADE: Final[dict[str, float | None]] = {"recall": 0.95, "recall_low": 0.94, "recall_high": 0.96}


def judged(labels: list[int], flagged: list[int], amounts: list[float] | None = None) -> Judged:
    return Judged(
        labels=np.array(labels, np.int8),
        scores=np.where(np.array(flagged, bool), 0.8, 0.1),
        flagged=np.array(flagged, bool),
        decisions=np.array(flagged, np.int8),
        amounts=None if amounts is None else np.array(amounts),
    )


def verdict(counts: Confusion, held_out: dict[str, float | None] | None = None) -> Verdict:
    return judge(
        counts,
        in_count(counts),
        MADE if held_out is None else held_out,
        floors=FLOORS,
        max_drop=0.05,
        rules=RULES,
    )


def test_figures_by_number_agree_with_the_counts() -> None:
    figures = in_count(Confusion(tp=90, fp=30, tn=870, fn=10))
    assert figures["recall"].value == pytest.approx(0.9)
    assert (figures["recall"].low, figures["recall"].high) == wilson_interval(90, 100)
    assert figures["f1"].value == pytest.approx(180 / 220)
    assert figures["f1"].low < 180 / 220 < figures["f1"].high
    assert figures["fnr"].value == pytest.approx(0.1)
    assert figures["fpr"].rows == 900


def test_figures_in_money_weigh_each_transaction_by_its_amount() -> None:
    figures = in_money(judged([1, 1, 0, 0], [1, 0, 1, 0], [90.0, 10.0, 30.0, 70.0]))
    assert figures["recall"].value == pytest.approx(0.9)
    assert figures["precision"].value == pytest.approx(0.75)
    assert figures["fpr"].value == pytest.approx(0.3)
    assert figures["f1"].value == pytest.approx(2 * 90 / (2 * 90 + 30 + 10))
    # One large fraud says little about the others.
    assert figures["recall"].low < 0.2
    assert in_money(judged([1], [1])) == {}


def test_money_intervals_cover_the_truth() -> None:
    source = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        found = source.random(200) < 0.9
        figure = in_money(judged([1] * 200, found.tolist(), source.lognormal(3, 1, 200).tolist()))["recall"]
        covered += figure.low <= 0.9 <= figure.high
    assert covered > 270


def test_parts_of_the_rows() -> None:
    rows = judged([1, 0, 1, 0], [1, 0, 0, 1], [5.0, 10.0, 60.0, 5000.0])
    bands = by_amount(rows, (10, 50))
    assert [(part.name, part.rows, part.frauds) for part in bands] == [
        ("under 10", 1, 1), ("10 to 50", 1, 0), ("50 and more", 2, 1)
    ]  # fmt: skip
    assert bands[1].figures["recall"].value is None
    assert [(part.name, part.figures["fraud_rate"].value) for part in by_decision(rows)] == [
        ("approve", 0.5), ("review", 0.5), ("block", None)
    ]  # fmt: skip


def test_confidence_of_one_class_and_of_nothing() -> None:
    assert confidence(judged([], [])) is None
    one_class = confidence(judged([0, 0], [0, 1]))
    assert one_class is not None
    assert (one_class.average_precision, one_class.roc_auc, one_class.fraud_rate) == (None, None, 0.0)
    both = confidence(judged([1, 0, 0], [1, 0, 0]))
    assert both is not None
    assert (both.roc_auc, both.average_precision) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("counts", "severity", "words"),
    [
        (Confusion(960, 40, 9000, 40), "none", "Every figure keeps its bound"),
        (Confusion(880, 40, 9000, 120), "medium", "recall changed by -7.4%"),
        (Confusion(700, 40, 9000, 300), "critical", "not fit for service: recall 0.7000"),
        (Confusion(960, 600, 9000, 40), "critical", "precision 0.6154"),
        (Confusion(44, 4, 1000, 6), "none", "more labels would tell: recall changed by -7.4%"),
        (Confusion(40, 4, 1000, 9), "insufficient", "49 of 1,053 labels are frauds, 50 are needed"),
        (Confusion(90, 4, 10, 10), "insufficient", "114 predictions have a mature label"),
        (Confusion(1500, 0, 0, 10), "insufficient", "All 1,510 labels are frauds"),
    ],
)
def test_verdicts(counts: Confusion, severity: str, words: str) -> None:
    found = verdict(counts)
    assert (found.severity, words in found.sentence) == (severity, True), found.sentence


def test_without_figures_of_its_own_only_the_floors_count() -> None:
    assert verdict(Confusion(850, 40, 9000, 150), {}).severity == "none"


def test_an_unchanged_model_is_not_called_worse() -> None:
    """At recall 0.95 and the same labels as when it was made, one in a thousand draws at most."""
    source = np.random.default_rng(2)
    found = [int(source.binomial(1000, 0.95)) for _ in range(2000)]
    alarms = sum(verdict(Confusion(one, 10, 9000, 1000 - one)).severity != "none" for one in found)
    assert alarms <= 2


def test_the_ratios_interval_covers_the_truth() -> None:
    source = np.random.default_rng(3)
    covered = 0
    for _ in range(500):
        now, before = source.binomial(300, 0.85), source.binomial(1000, 0.95)
        figure = Figure(now / 300, *wilson_interval(now, 300), 300)
        low, high = ratio_interval(figure, (before / 1000, *wilson_interval(before, 1000)))
        covered += low <= 0.85 / 0.95 <= high
    assert 465 <= covered <= 495


def test_bands_must_rise() -> None:
    with pytest.raises(ValidationError, match="amount_bands must rise"):
        PerformanceRules(amount_bands=(50.0, 10.0))
