"""The report's plots as SVG, drawn without a display."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure

from fraud_adapters.postgres.performance_metrics import TrendPoint
from fraud_adapters.svg import save_svg
from fraud_core.performance.figures import Confidence
from fraud_core.profile import SCORE_EDGES, Profile

_OTHERS, _FRAUDS, _MARK = "#3b6ea5", "#c8553d", "#52606d"
_COLOURS: Final = {"recall": _FRAUDS, "precision": _OTHERS, "f1": _MARK}


def calibration(scores: Confidence, reference: Profile | None) -> bytes:
    """The share of frauds against the mean score, by bins of the score."""
    figure, axes = _axes("Calibration", "mean score", "share of frauds", xlim=(0, 1), ylim=(0, 1))
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="calibrated")
    if reference is not None:
        axes.plot(
            [one.mean_score for one in reference.calibration],
            [one.fraud_rate for one in reference.calibration],
            "s--",
            color=_MARK,
            markersize=4,
            label="when the model was made",
        )
    axes.plot(
        [one.mean_score for one in scores.calibration],
        [one.fraud_rate for one in scores.calibration],
        "o-",
        color=_FRAUDS,
        label=f"now (error {scores.calibration_error:.4f})",
    )
    axes.legend(loc="upper left")
    return _svg(figure)


def score_distribution(scores: Confidence) -> bytes:
    """The shares of each class between the edges of the reference profile."""
    figure, axes = _axes("Scores by class", "score", "share of the class (log)", yscale="log")
    positions = range(len(SCORE_EDGES) + 1)
    for shift, shares, name, colour in (
        (-0.2, scores.other_shares, "legitimate", _OTHERS),
        (0.2, scores.fraud_shares, "fraud", _FRAUDS),
    ):
        axes.bar([at + shift for at in positions], shares, width=0.4, color=colour, label=name)
    labels = [f"≤ {edge:g}" for edge in SCORE_EDGES] + [f"> {SCORE_EDGES[-1]:g}"]
    axes.set_xticks(list(positions), labels, rotation=90, fontsize=7)
    axes.legend(loc="upper center")
    figure.set_layout_engine("constrained")
    return _svg(figure)


def trend(points: Sequence[TrendPoint]) -> bytes:
    """Recall, precision and F1 over time, with their intervals."""
    figure, axes = _axes("Trend", "", "", ylim=(0, 1.02))
    for metric, colour in _COLOURS.items():
        own = [point for point in points if point.metric == metric]
        times = [point.measured_at for point in own]
        axes.plot(times, [point.value for point in own], ".-", color=colour, label=metric)
        if own and all(point.low is not None for point in own):
            axes.fill_between(
                times, [point.low for point in own], [point.high for point in own], color=colour, alpha=0.15
            )
    axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))  # type: ignore[no-untyped-call]
    axes.legend(loc="lower left")
    return _svg(figure)


def _axes(title: str, xlabel: str, ylabel: str, **options: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6, 4))
    axes = figure.add_subplot(title=title, xlabel=xlabel, ylabel=ylabel, **options)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Figure) -> bytes:
    content = io.BytesIO()
    save_svg(figure, content)
    return content.getvalue()
