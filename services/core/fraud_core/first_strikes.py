"""The first fraud of each card, which a budget of alerts may miss while repeats of known ones fill it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def first_strikes(cards: Sequence[object], frauds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows are the first fraud of their card.

    Args:
        cards: by row, ordered by time, [n]; a row without one (None) is the only one of its card.
        frauds: [n].

    Returns:
        Shape [n].
    """
    known: set[object] = set()
    result = np.zeros(len(frauds), dtype=np.bool_)
    for row in np.flatnonzero(frauds).tolist():
        card = cards[row]
        result[row] = card is None or card not in known
        known.add(card)
    return result
