"""Writes plots as SVG. Needs matplotlib, which the services that draw depend on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

from matplotlib import rc_context
from matplotlib.figure import Figure

_DPI: Final = 110  # of what is drawn as pixels because it has thousands of points


def save_svg(figure: Figure, target: Path | io.BytesIO) -> None:
    """As SVG, which takes half as long to write as PNG and is sharp at any size.

    Texts remain texts, and the same figure gives the same file.
    """
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "fraud"}):
        figure.savefig(target, format="svg", dpi=_DPI, metadata={"Date": None})
