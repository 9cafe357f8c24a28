"""The last fit of a candidate, with the parameters and the treatment of rare frauds found for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from config.candidates import Imbalance
from fraud_trainer.candidates.model_types import Fitted, Learner, Rows
from fraud_trainer.candidates.prequential import balanced


class FinalFit(Protocol):
    """Fits a candidate on the training part."""

    def fit(self, learner: Learner, option: Imbalance) -> Fitted: ...


@dataclass(frozen=True, slots=True)
class LocalFit:
    """On rows of this process."""

    train: Rows
    stopping: Rows
    seed: int

    def fit(self, learner: Learner, option: Imbalance) -> Fitted:
        return learner.fit(*balanced(self.train, self.stopping, option, self.seed))
