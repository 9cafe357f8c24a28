"""What the held-out part says about a trained model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraud_core.gate import GateOutcome
from fraud_core.manifest import Manifest
from fraud_core.profile import Profile
from fraud_trainer.evaluate.champion import Comparison
from fraud_trainer.evaluate.explaining import Importance
from fraud_trainer.evaluate.figures import Figures
from fraud_trainer.train.fitting import Examples


@dataclass(frozen=True, slots=True)
class Judgement:
    """A trained model on the held-out part: rows, their times and scores [n], and what follows from them.

    Attributes:
        moments: event times in microseconds, ascending.
        scores: calibrated.
        importance: of the features; the profile holds the shares.
    """

    held_out: Examples
    moments: NDArray[np.int64]
    scores: NDArray[np.float64]
    metrics: Figures
    comparison: Comparison
    profile: Profile
    manifest: Manifest
    gate: GateOutcome
    importance: Importance
