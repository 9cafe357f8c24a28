"""The report's plots as SVG, drawn without a display."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from fraud_adapters.svg import save_svg

_COLOURS: Final = {"control": "#52606d", "canary": "#c8553d"}


def score_distribution(title: str, counts: Mapping[str, Sequence[int]]) -> bytes:
    """The share of transactions by score, one line an arm; each arm has counts of bins of equal width."""
    figure = Figure(figsize=(6, 4))
    axes = figure.add_subplot(title=title, xlabel="score", ylabel="share of transactions", yscale="log")
    for arm, bins in counts.items():
        shares = np.asarray(bins, dtype=np.float64) / max(1, sum(bins))
        edges = np.linspace(0, 1, len(bins) + 1)
        axes.stairs(
            np.where(shares > 0, shares, np.nan), edges, color=_COLOURS[arm], label=arm, linewidth=1.8
        )
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend()
    content = io.BytesIO()
    save_svg(figure, content)
    return content.getvalue()


def rates(title: str, stages: Sequence[str], values: Mapping[str, Sequence[float]]) -> bytes:
    """A share in each stage, one bar an arm."""
    figure = Figure(figsize=(6, 4))
    axes = figure.add_subplot(title=title, ylabel="%")
    positions, width = np.arange(len(stages)), 0.8 / len(values)
    for number, (arm, shares) in enumerate(values.items()):
        bars = axes.bar(
            positions + (number - (len(values) - 1) / 2) * width,
            np.asarray(shares) * 100,
            width,
            color=_COLOURS[arm],
            label=arm,
        )
        axes.bar_label(bars, fmt="%.2f")
    axes.set_xticks(positions, stages)
    axes.margins(y=0.15)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend()
    content = io.BytesIO()
    save_svg(figure, content)
    return content.getvalue()
