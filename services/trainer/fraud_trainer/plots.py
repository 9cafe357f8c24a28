"""Plots for the run's page in MLflow, drawn without a display."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fraud_core.metrics import Confusion, Curve


def precision_recall(points: Curve, confusion: Confusion, average_precision: float, path: Path) -> None:
    """The precision-recall curve with the operating point on it, as PNG."""
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.add_subplot(
        xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02), title="Held-out part"
    )
    axes.step(
        points.recall, points.precision, where="post", label=f"average precision {average_precision:.4f}"
    )
    if confusion.recall is not None and confusion.precision is not None:
        axes.plot(confusion.recall, confusion.precision, "o", color="black", label="operating point")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    figure.savefig(path, dpi=110)


def confusion_matrix(confusion: Confusion, path: Path) -> None:
    """Counts at the operating point, shaded by their share of the true class, as PNG."""
    counts = np.array([[confusion.tn, confusion.fp], [confusion.fn, confusion.tp]])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = ["legitimate", "fraud"]
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="truth", title="Held-out part")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks([0, 1], names)
    axes.set_yticks([0, 1], names)
    for row in range(2):
        for column in range(2):
            dark = shares[row, column] > 0.5
            text = f"{counts[row, column]:,}\n{shares[row, column]:.2%}"
            axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    figure.savefig(path, dpi=110)
