"""The plots of the benchmark of drift."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt


def draw(folder: Path, sections: dict[str, Any]) -> None:
    """Write the pictures that docs/results/drift.md shows."""
    _known(folder / "drift-psi.png", sections["known"])
    _found(folder / "drift-found.png", sections["drifts"])
    _power(folder / "drift-power.png", sections["power"])


def _known(path: Path, rows: list[dict[str, Any]]) -> None:
    figure, axes = plt.subplots(figsize=(7, 4))
    for size in sorted({one["rows"] for one in rows}):
        chosen = [one for one in rows if one["rows"] == size]
        x = [one["psi"] for one in chosen]
        [line] = axes.plot(x, [one["medium"] for one in chosen], marker="o", label=f"medium, {size:,} rows")
        axes.plot(
            x,
            [one["high"] for one in chosen],
            marker="s",
            linestyle="--",
            color=line.get_color(),
            label=f"high, {size:,} rows",
        )
    _finish(figure, axes, path, "true PSI", "share of windows")


def _found(path: Path, rows: list[dict[str, Any]]) -> None:
    sizes = sorted({one["rows"] for one in rows})
    labels = list(dict.fromkeys(f"{one['kind']}={one['strength']:g}" for one in rows))
    figure, axes = plt.subplots(figsize=(8, 5))
    for position, size in enumerate(sizes):
        values = [one["any"] for one in rows if one["rows"] == size]
        heights = [number + (position - 1) * 0.27 for number in range(len(labels))]
        axes.barh(heights, values, height=0.25, label=f"{size:,} rows an hour")
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    _finish(figure, axes, path, "share of windows in which the drift is found", "")


def _power(path: Path, rows: list[dict[str, Any]]) -> None:
    figure, axes = plt.subplots(figsize=(7, 4))
    for recall in sorted({one["recall"] for one in rows}, reverse=True):
        chosen = [one for one in rows if one["recall"] == recall]
        axes.plot(
            [one["frauds"] for one in chosen],
            [one["critical"] for one in chosen],
            marker="o",
            label=f"recall {recall:.1%}",
        )
    _finish(figure, axes, path, "labelled frauds", "share of looks that are critical")


def _finish(figure: Any, axes: Any, path: Path, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
