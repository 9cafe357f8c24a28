"""The engine of a training. `choose_engine` is the one place that decides it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from config.parameters import Training
from config.settings import DaskSettings
from fraud_trainer.candidates.choosing import Parts
from fraud_trainer.candidates.final_fit import FinalFit, LocalFit
from fraud_trainer.engines.tables import Access
from fraud_trainer.engines.tasks import TrainingRows
from fraud_trainer.train.preparing import FittedPreparation

Item = TypeVar("Item")
Output = TypeVar("Output")


class Engine(Protocol):
    """Where the steps compute."""

    @property
    def name(self) -> str:
        """For the record."""

    def pieces(self, rows: int) -> int:
        """Into how many parts a table of so many rows is cut."""

    def map(
        self, access: Access, work: Callable[[Access, Item], Output], items: Sequence[Item]
    ) -> list[Output]:
        """The result of `work` for each item, in their order."""

    def final_fit(
        self,
        training: Training,
        rows: TrainingRows,
        prepared: FittedPreparation,
        parts: Parts,
    ) -> FinalFit:
        """How candidates are fitted once their parameters are known."""


class LocalEngine:
    """In this process: one part, one task after the other."""

    name = "local"

    def pieces(self, rows: int) -> int:
        del rows
        return 1

    def map(
        self, access: Access, work: Callable[[Access, Item], Output], items: Sequence[Item]
    ) -> list[Output]:
        return [work(access, item) for item in items]

    def final_fit(
        self,
        training: Training,
        rows: TrainingRows,
        prepared: FittedPreparation,
        parts: Parts,
    ) -> FinalFit:
        del rows, prepared
        return LocalFit(parts.train, parts.stopping, training.seed)


def choose_engine(settings: DaskSettings) -> Engine:
    """The cluster that DASK_SCHEDULER names, or this process if it names none."""
    if settings.dask_scheduler is None:
        return LocalEngine()
    from fraud_trainer.engines.dask_engine import DaskEngine  # noqa: PLC0415 - imports Dask

    return DaskEngine(settings.dask_scheduler)
