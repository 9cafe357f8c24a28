"""Plots for the run's page in MLflow and the model card, drawn without a display, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from fraud_adapters.svg import save_svg
from fraud_core.metrics import Confusion, Curve
from fraud_core.profile import CalibrationBin
from fraud_trainer.evaluate.explaining import Contributions, Importance

_SHOWN: Final = 15  # features
_CHARACTER_WIDTH: Final = 0.014  # of the figure's width
_LEGITIMATE, _FRAUD, _MARK = "#3b6ea5", "#c8553d", "#222222"


def precision_recall(points: Curve, confusion: Confusion, average_precision: float, path: Path) -> None:
    """The precision-recall curve with the operating point on it."""
    figure, axes = _axes("Precision and recall", "recall", "precision", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.step(
        points.recall,
        points.precision,
        where="post",
        color=_LEGITIMATE,
        label=f"average precision {average_precision:.4f}",
    )
    if confusion.recall is not None and confusion.precision is not None:
        axes.plot(confusion.recall, confusion.precision, "o", color=_MARK, label="operating point")
    share = points.positives / (points.positives + points.negatives)
    axes.axhline(share, color="grey", linestyle=":", label=f"chance ({share:.2%} frauds)")
    axes.legend(loc="lower left")
    save_svg(figure, path)


def roc(points: Curve, confusion: Confusion, area: float, path: Path) -> None:
    """The ROC curve; the rate of false alarms is logarithmic, because only its low end can be afforded."""
    floor = 1 / (2 * points.negatives)
    figure, axes = _axes(
        "ROC", "false positive rate (log)", "recall", ylim=(0, 1.02), xscale="log", xlim=(floor, 1)
    )
    axes.step(
        np.maximum(points.fpr, floor), points.recall, where="post", color=_LEGITIMATE, label=f"AUC {area:.4f}"
    )
    chance = np.geomspace(floor, 1, 100)
    axes.plot(chance, chance, color="grey", linestyle=":", label="chance")
    if confusion.recall is not None and confusion.fpr is not None:
        axes.plot(max(confusion.fpr, floor), confusion.recall, "o", color=_MARK, label="operating point")
    axes.legend(loc="lower right")
    save_svg(figure, path)


def calibration(bins: Sequence[CalibrationBin], error: float, path: Path) -> None:
    """The share of frauds against the mean score, by bins of the score; the area of a dot shows its rows."""
    figure, axes = _axes(
        f"Calibration (expected error {error:.4f})",
        "mean score",
        "share of frauds",
        xlim=(-0.03, 1.03),
        ylim=(-0.03, 1.03),
    )
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
    rows = np.array([one.rows for one in bins], dtype=np.float64)
    scores, rates = [one.mean_score for one in bins], np.array([one.fraud_rate for one in bins])
    # Two standard errors of a share.
    spread = 2 * np.sqrt(rates * (1 - rates) / rows)
    axes.errorbar(scores, rates, yerr=spread, fmt="none", color=_LEGITIMATE, alpha=0.6)
    axes.scatter(
        scores, rates, s=20 + 60 * np.log10(rows), color=_LEGITIMATE, zorder=3, label="bins of the score"
    )
    axes.legend(loc="upper left")
    save_svg(figure, path)


def confusion_matrix(confusion: Confusion, path: Path) -> None:
    """Counts at the operating point, shaded by their share of the true class."""
    counts = np.array([[confusion.tn, confusion.fp], [confusion.fn, confusion.tp]])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = ["legitimate", "fraud"]
    figure, axes = _axes("Confusion matrix", "predicted", "truth")
    axes.grid(visible=False)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks([0, 1], names)
    axes.set_yticks([0, 1], names)
    for row in range(2):
        for column in range(2):
            dark = shares[row, column] > 0.5
            text = f"{counts[row, column]:,}\n{shares[row, column]:.2%}"
            axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    save_svg(figure, path)


def score_distribution(
    labels: NDArray[np.int8], scores: NDArray[np.float64], threshold: float, path: Path
) -> None:
    """The scores of each class, as shares of the class; the vertical axis is logarithmic."""
    figure, axes = _axes("Scores by class", "score", "share of the class (log)", xlim=(0, 1), yscale="log")
    edges = np.linspace(0, 1, 41)
    for label, name, colour in ((0, "legitimate", _LEGITIMATE), (1, "fraud", _FRAUD)):
        chosen = scores[labels == label]
        axes.hist(
            chosen,
            edges,
            weights=np.full(len(chosen), 1 / len(chosen)),
            histtype="stepfilled",
            color=colour,
            alpha=0.5,
            label=f"{name} ({len(chosen):,})",
        )
    axes.axvline(threshold, color=_MARK, linestyle="--", label=f"threshold {threshold:.4f}")
    axes.legend(loc="upper center")
    save_svg(figure, path)


def threshold_cost(
    thresholds: NDArray[np.float64], costs: NDArray[np.float64], threshold: float, path: Path
) -> None:
    """The expected cost of a transaction at each threshold, with the chosen and the cheapest one marked."""
    figure, axes = _axes("Cost by threshold", "threshold", "mean cost of a transaction", xlim=(0, 1))
    axes.step(thresholds, costs, where="post", color=_LEGITIMATE)
    axes.set_ylim(bottom=0)
    cheapest = int(np.argmin(costs))
    axes.plot(
        thresholds[cheapest],
        costs[cheapest],
        "o",
        color=_FRAUD,
        label=f"cheapest here: {costs[cheapest]:.4g} at {thresholds[cheapest]:.4f}",
    )
    axes.axvline(threshold, color=_MARK, linestyle="--", label=f"threshold {threshold:.4f}")
    axes.legend(loc="upper center")
    save_svg(figure, path)


def over_time(names: Sequence[str], values: Sequence[tuple[float, float, float] | None], path: Path) -> None:
    """Average precision with its interval in blocks of time; a block without frauds is left out."""
    figure, axes = _axes("Average precision over time", "block begins", "average precision", ylim=(0, 1.02))
    known = [(place, of) for place, of in enumerate(values) if of is not None]
    centres = np.array([of[0] for _, of in known])
    spread = np.abs(np.array([[of[0] - of[1] for _, of in known], [of[2] - of[0] for _, of in known]]))
    axes.errorbar([place for place, _ in known], centres, yerr=spread, fmt="o", color=_LEGITIMATE, capsize=4)
    axes.set_xticks(range(len(names)), names, fontsize=7)
    save_svg(figure, path)


def feature_importance(names: Sequence[str], importance: Importance, path: Path) -> None:
    """The features with the largest shares."""
    order = np.argsort(importance.shares)[-_SHOWN:]
    figure, axes = _axes("Feature importance", importance.method, "")
    _widen_left_margin(figure, names, order)
    axes.barh([names[k] for k in order], importance.shares[order], color=_LEGITIMATE)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    save_svg(figure, path)


def shap_summary(names: Sequence[str], contributions: Contributions, path: Path) -> None:
    """How much each feature moved single scores; the colour is the feature's rank in the sample."""
    order = np.argsort(np.abs(contributions.values).mean(axis=0))[-_SHOWN:]
    figure, axes = _axes("SHAP values, a sample with many frauds", "effect on the log-odds of fraud", "")
    _widen_left_margin(figure, names, order)
    values, shown = contributions.values[:, order], contributions.features[:, order]
    ranks = np.argsort(np.argsort(np.nan_to_num(shown), axis=0), axis=0) / max(len(shown) - 1, 1)
    # Spread over the row's height in a fixed pattern, so that points do not hide each other.
    spread = 0.7 * ((np.arange(len(values)) * 0.618) % 1 - 0.5)
    scatter = axes.scatter(
        values,
        np.arange(len(order)) + spread[:, np.newaxis],
        c=ranks,
        cmap="coolwarm",
        s=7,
        vmin=0,
        vmax=1,
        linewidths=0,
        rasterized=True,  # thousands of points as shapes would be larger than all other plots together
    )
    axes.set_yticks(range(len(order)), [names[k] for k in order])
    axes.axvline(0, color="grey", linewidth=0.8)
    bar = figure.colorbar(scatter, ax=axes, ticks=[0, 1], label="value of the feature")
    bar.ax.set_yticklabels(["low", "high"])
    save_svg(figure, path)


def _axes(title: str, xlabel: str, ylabel: str, **options: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6, 5))
    # Fixed margins, because fitting them to the texts would draw every picture twice.
    figure.subplots_adjust(left=0.13, right=0.96, bottom=0.13, top=0.93)
    axes = figure.add_subplot(xlabel=xlabel, ylabel=ylabel, **options)
    # At fixed places, because finding the places would measure every text several times.
    axes.set_title(f"{title}, held-out part", y=1.0)
    axes.xaxis.set_label_coords(0.5, -0.07)
    for scale, axis in ((options.get("xscale"), axes.xaxis), (options.get("yscale"), axes.yaxis)):
        if scale == "log":
            axis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def _widen_left_margin(figure: Figure, names: Sequence[str], order: NDArray[np.intp]) -> None:
    """Leave room for the names at the vertical axis, which may be long."""
    longest = max(len(names[k]) for k in order)
    figure.subplots_adjust(left=min(0.04 + _CHARACTER_WIDTH * longest, 0.6))
