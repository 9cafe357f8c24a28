"""What a run measures, in one value that is judged, stored and shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fraud_adapters.postgres.outcomes import VersionOutcomes
from fraud_adapters.postgres.performance_metrics import MetricRow, TrendPoint
from fraud_adapters.postgres.served_predictions import Served
from fraud_core.metrics import Confusion
from fraud_core.performance.figures import (
    Confidence,
    Figure,
    Part,
    by_amount,
    by_decision,
    confidence,
    in_count,
    in_money,
)
from fraud_core.performance.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one version on its mature labels."""

    counts: Confusion
    count: Mapping[str, Figure]
    money: Mapping[str, Figure]
    bands: Sequence[Part]
    decisions: Sequence[Part]
    confidence: Confidence | None


@dataclass(frozen=True, slots=True)
class Measured:
    """A run's findings.

    Attributes:
        start, end: the period of event time that was judged; service_start, service_end: of latency.
        champion: its version; outcomes: of all versions that decided in the period.
        trend: the champion's earlier figures.
        problems: what could not be read, a sentence each.
    """

    champion: str
    start: datetime
    end: datetime
    service_start: datetime
    service_end: datetime
    figures: Figures
    left_out_blocked: int
    left_out_unknown: int
    others: Mapping[str, Confusion]
    served: Served | None
    trend: Sequence[TrendPoint]
    verdict: Verdict
    held_out: Mapping[str, float | None]
    problems: Sequence[str]

    @property
    def throughput(self) -> float:
        """Predictions a second."""
        seconds = (self.service_end - self.service_start).total_seconds()
        return 0.0 if self.served is None else self.served.total.predictions / seconds


def figures_of(outcomes: VersionOutcomes, bands: Sequence[float]) -> Figures:
    """The figures of a version's predictions."""
    rows = outcomes.judged
    return Figures(
        counts=rows.counts,
        count=in_count(rows.counts),
        money=in_money(rows),
        bands=by_amount(rows, bands),
        decisions=by_decision(rows),
        confidence=confidence(rows),
    )


def metric_rows(measured: Measured) -> list[MetricRow]:
    """Every figure as a row of the trend tables."""
    figures = measured.figures
    rows = [_row(name, figure) for name, figure in figures.count.items()]
    rows += [_row(f"{name}_amount", figure) for name, figure in figures.money.items()]
    for part in (*figures.bands, *figures.decisions):
        rows += [_row(name, figure, part.name) for name, figure in part.figures.items()]
    for name in ("tp", "fp", "tn", "fn"):
        rows.append(MetricRow(name, float(getattr(figures.counts, name)), rows=figures.counts.total))
    if (scores := figures.confidence) is not None:
        for name in (
            "average_precision",
            "roc_auc",
            "calibration_error",
            "brier",
            "mean_score",
            "fraud_rate",
        ):
            rows.append(MetricRow(name, getattr(scores, name), rows=figures.counts.total))
    return rows + _service_rows(measured)


def _service_rows(measured: Measured) -> list[MetricRow]:
    if measured.served is None:
        return []
    rows = [
        MetricRow(f"latency_ms_{name}", getattr(latency, name), latency.engine, rows=latency.predictions)
        for latency in measured.served.latencies
        for name in ("p50", "p95", "p99")
    ]
    total = measured.served.total.predictions
    rows.append(MetricRow("throughput", measured.throughput, rows=total))
    rows.append(MetricRow("throughput_peak_minute", float(measured.served.peak), rows=total))
    return rows


def _row(metric: str, figure: Figure, part: str = "") -> MetricRow:
    return MetricRow(metric, figure.value, part, figure.low, figure.high, figure.rows)
