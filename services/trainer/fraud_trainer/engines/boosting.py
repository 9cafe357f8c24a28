"""XGBoost's own Dask interface: boosted trees on rows that stay on the workers.

XGBoost's training does not survive a worker that dies: the others wait for it, or fail. So the workers are
watched, and a fit that lost one is begun anew on those that remain, a bounded number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import xgboost
from numpy.typing import NDArray

from config.candidates import Imbalance
from fraud_adapters.dask_cluster import ClusterUnavailable, DaskCluster, workers_of
from fraud_adapters.job.logs import get_logger
from fraud_adapters.models.boosted_bag import mean_of
from fraud_adapters.models.onnx_export import cut_to_best
from fraud_core.preparation import Preparer
from fraud_trainer.candidates.boosted import BagLearner, BoostedTrees, XgboostLearner
from fraud_trainer.candidates.final_fit import LocalFit
from fraud_trainer.candidates.model_types import CandidateFailed, Fitted, Learner, single
from fraud_trainer.engines.tables import Access
from fraud_trainer.engines.tasks import RowsTask, TrainingRows, rows_part
from fraud_trainer.train.fitting import FIXED
from fraud_trainer.train.preparing import FittedPreparation

if TYPE_CHECKING:
    from distributed import Client

Output = TypeVar("Output")
ATTEMPTS: Final = 4
_LOOK_S: Final = 0.5
_GRACE_S: Final = 10.0  # for XGBoost to notice by itself that a worker is gone


class WorkerLost(Exception):
    """A worker was lost during a fit."""


@dataclass(frozen=True, slots=True)
class RemoteRows:
    """Where the training rows are, and how a worker makes inputs of trees of them."""

    rows: TrainingRows
    prepared: FittedPreparation

    def factor(self, option: Imbalance) -> float:
        """How much a fraud weighs, as in `balanced`."""
        if option == "none":
            return 1.0
        if option == "smote":
            raise CandidateFailed(
                "SMOTE looks for neighbours in one process: choose none or weights on Dask."
            )
        frauds = int(self.rows.labels.sum())
        return (len(self.rows.labels) - frauds) / frauds


@dataclass(frozen=True, slots=True)
class DaskFit:
    """Fits boosted trees on the workers, and every other kind of model in this process, on its sample."""

    cluster: DaskCluster
    remote: RemoteRows
    local: LocalFit

    def fit(self, learner: Learner, option: Imbalance) -> Fitted:
        if isinstance(learner, XgboostLearner):
            return self._single(learner, option)
        if isinstance(learner, BagLearner):
            return self._bag(learner, option)
        fitted = self.local.fit(learner, option)
        details = {**fitted.details, "fitted_on": f"{len(self.local.train)} rows, in one process"}
        return Fitted(fitted.name, fitted.parts, fitted.bias, fitted.booster, fitted.logit, details)

    def _single(self, learner: XgboostLearner, option: Imbalance) -> Fitted:
        settings = {**learner.parameters, **FIXED, "seed": learner.seed}
        fit = _Fit(self.remote, self.remote.rows.train, self.remote.rows.stopping, self.remote.factor(option))
        [booster] = fit.boosters(self.cluster, [settings], learner.rounds, learner.patience)
        best = cut_to_best(booster)
        details: dict[str, float | int | str | None] = {
            "rounds": best.num_boosted_rounds(),
            "stopping_log_loss": float(booster.best_score),
            "fitted_on": _fitted_on(self.remote.rows.train),
        }
        return single(learner.name, BoostedTrees(best), details, best, logit=True)

    def _bag(self, learner: BagLearner, option: Imbalance) -> Fitted:
        members, parameters = learner.parameters.members, learner.parameters.xgboost
        rows = (*self.remote.rows.train, *self.remote.rows.stopping)
        settings = [{**parameters, **FIXED, "seed": learner.seed + number} for number in range(members)]
        fit = _Fit(self.remote, rows, (), self.remote.factor(option))
        bag = mean_of(fit.boosters(self.cluster, settings, learner.parameters.rounds, 0))
        details: dict[str, float | int | str | None] = {
            "members": members,
            "rounds": learner.parameters.rounds,
            "fitted_on": _fitted_on(rows),
        }
        return single(learner.name, BoostedTrees(bag), details, bag, logit=True)


def _fitted_on(tasks: Iterable[RowsTask]) -> str:
    return f"{sum(task.stop - task.start for task in tasks)} rows, on the workers"


@dataclass(frozen=True, slots=True)
class _Fit:
    """Boosters on the same rows."""

    remote: RemoteRows
    learn: tuple[RowsTask, ...]
    watch: tuple[RowsTask, ...]
    factor: float

    def boosters(
        self, cluster: DaskCluster, settings: Sequence[Mapping[str, Any]], rounds: int, patience: int
    ) -> list[xgboost.Booster]:
        """A booster for each of the settings; what was fitted before a worker was lost is kept.

        Raises:
            ClusterUnavailable: workers were lost in every attempt.
        """
        fitted: list[xgboost.Booster] = []
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with cluster.client() as client:
                    watched = _Watched(client, workers_of(client))
                    learn, watch = watched.run(partial(self._matrices, settings=settings[0]))
                    train = partial(_train, learn=learn, watch=watch, rounds=rounds, patience=patience)
                    while len(fitted) < len(settings):
                        fitted.append(watched.run(partial(train, settings=settings[len(fitted)])))
                return fitted
            except WorkerLost as lost:
                get_logger(__name__).warning(
                    "training_worker_lost",
                    workers=str(lost),
                    attempt=attempt,
                    of=ATTEMPTS,
                    fitted=len(fitted),
                )
        raise ClusterUnavailable(
            f"DASK_SCHEDULER={cluster.address}: workers were lost in {ATTEMPTS} attempts to fit: give them "
            "more memory, and look into their logs."
        )

    def _matrices(self, client: Client, settings: Mapping[str, Any]) -> tuple[Any, Any]:
        from xgboost.dask import DaskQuantileDMatrix  # noqa: PLC0415 - imports Dask

        most = int(settings.get("max_bin", 256))
        learn = DaskQuantileDMatrix(client, **self._arrays(self.learn), max_bin=most)
        if not self.watch:
            return learn, None
        # The bins are those of the training rows.
        return learn, DaskQuantileDMatrix(client, **self._arrays(self.watch), max_bin=most, ref=learn)

    def _arrays(self, tasks: Sequence[RowsTask]) -> dict[str, Any]:
        """Inputs [n, k], labels [n] and weights [n] as arrays of Dask, a chunk for each task."""
        import dask.array as da  # noqa: PLC0415
        from dask.delayed import delayed  # noqa: PLC0415

        width = len(self.remote.prepared.trees.columns)
        columns: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
        make = delayed(_block, nout=3, pure=False)
        for task in tasks:
            rows = task.stop - task.start
            block = make(self.remote.rows.access, self.remote.prepared, task, self.factor)
            for column, piece, shape in zip(columns, block, ((rows, width), (rows,), (rows,)), strict=True):
                column.append(da.from_delayed(piece, shape=shape, dtype=np.float32))
        arrays = (da.concatenate(column, axis=0) for column in columns)
        return dict(zip(("data", "label", "weight"), arrays, strict=True))


def _block(
    access: Access, prepared: FittedPreparation, task: RowsTask, factor: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """What a worker reads from the object store: inputs of trees, labels and weights."""
    rows = rows_part(access, task)
    features = Preparer(prepared.trees, prepared.features).apply(rows.features)
    labels = rows.labels.astype(np.float32)
    return features, labels, np.where(labels == 1, np.float32(factor), np.float32(1))


def _train(
    client: Client, *, settings: Mapping[str, Any], learn: Any, watch: Any, rounds: int, patience: int
) -> xgboost.Booster:
    from xgboost import dask as xgboost_dask  # noqa: PLC0415

    stopping = {} if watch is None else {"evals": [(watch, "stopping")], "early_stopping_rounds": patience}
    result = xgboost_dask.train(client, dict(settings), learn, rounds, verbose_eval=False, **stopping)
    booster: xgboost.Booster = result["booster"]
    return booster


@dataclass(frozen=True, slots=True)
class _Watched:
    """Runs work that needs all workers of a moment, and gives up when one of them is lost."""

    client: Client
    workers: set[str]

    def run(self, work: Callable[[Client], Output]) -> Output:
        """Raises `WorkerLost` where a worker is gone, whether the work noticed it or waits for it."""
        executor = ThreadPoolExecutor(1, "fit")
        future: Future[Output] = executor.submit(work, self.client)
        try:
            while not wait_for([future], timeout=_LOOK_S).done:
                if self._lost():
                    wait_for([future], timeout=_GRACE_S)
                    raise WorkerLost(", ".join(sorted(self._lost())))
            return self._result(future)
        finally:
            executor.shutdown(wait=False)

    def _result(self, future: Future[Output]) -> Output:
        try:
            return future.result()
        except Exception as error:
            # A worker's end reaches the others and the scheduler in any order.
            if lost := self._lost():
                raise WorkerLost(", ".join(sorted(lost))) from error
            raise

    def _lost(self) -> set[str]:
        return self.workers - workers_of(self.client)
