"""Starts trainings, one at a time, and says how they stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any, Protocol

from config.constants import DAG_TRAINING
from fraud_adapters.airflow_runs import AirflowUnavailable, ConfRefused, DagRun, RunNotPossible
from fraud_adapters.postgres import retraining_triggers
from fraud_adapters.postgres.retraining_triggers import RunName, StoredDecision
from fraud_adapters.postgres.session import Session
from fraud_api.problems import Problem, unavailable

NOT_SET_UP = (
    "This API starts no training: AIRFLOW_TRAIN_PASSWORD is not set for it, so it cannot log in to Airflow."
)


class DagRuns(Protocol):
    """The runs of the training DAG; see `fraud_adapters.airflow_runs`."""

    def start(self, run_id: str, conf: Mapping[str, Any]) -> DagRun: ...

    def get(self, run_id: str) -> DagRun | None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A run of the DAG, and what it decided; None before that."""

    run: DagRun
    decision: StoredDecision | None


class TrainingRuns:
    """Every method raises `Problem`; they block, so call them from a thread.

    Args:
        runs: None if Airflow is not set up.
        clock: the current time, from which run ids are made.
    """

    def __init__(self, runs: DagRuns | None, database: Session, clock: Callable[[], datetime]) -> None:
        self._runs = runs
        self._database = database
        self._clock = clock
        # Lets the second of two requests see the run of the first. Airflow runs one at a time in any case.
        self._lock = Lock()

    def start(self, conf: Mapping[str, Any]) -> DagRun:
        """Start a run: 409 if one is active, 422 if `conf` is wrong, 503 if Airflow does not answer."""
        runs, run_id = self._available(), f"api__{self._clock():%Y%m%dT%H%M%S.%fZ}"
        try:
            with self._lock:
                return runs.start(run_id, conf)
        except RunNotPossible as refused:
            members: dict[str, Any] = {"run_id": refused.run_id} if refused.run_id else {}
            raise Problem(409, str(refused), **members) from None
        except ConfRefused as refused:
            raise Problem(422, str(refused)) from None
        except AirflowUnavailable as error:
            raise unavailable(str(error)) from None

    def get(self, run_id: str) -> TrainingRun:
        """A run: 404 if there is none, 503 if Airflow does not answer."""
        try:
            run = self._available().get(run_id)
        except AirflowUnavailable as error:
            raise unavailable(str(error)) from None
        if run is None:
            raise Problem(404, "There is no such run of the training DAG.")
        name = RunName(DAG_TRAINING, run.run_id)
        return TrainingRun(
            run, self._database.run(lambda cursor: retraining_triggers.read_decision(cursor, name))
        )

    def close(self) -> None:
        if self._runs is not None:
            self._runs.close()

    def _available(self) -> DagRuns:
        if self._runs is None:
            raise unavailable(NOT_SET_UP)
        return self._runs
