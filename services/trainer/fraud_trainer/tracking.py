"""Keeps the state of a training run in MLflow: at most one open run, and none after the work has ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.job.logs import get_logger
from fraud_adapters.job.stopping import Stopped
from fraud_adapters.models.mlflow_http import RegistryFailure
from fraud_adapters.objectstore.run_store import Step
from fraud_trainer.run_context import RunContext

TAG_INPUTS: Final = "fraud.inputs"  # digest of all inputs that determine the model
TAG_TRAINED: Final = "fraud.trained"  # digest of the `train.json` that the run's metrics belong to


def open_run(context: RunContext, inputs: str, tags: Mapping[str, str]) -> str:
    """Open the MLflow run of this training; returns its id.

    The run of an earlier attempt is resumed if it had the same inputs. It is ended if the inputs differ, or
    if a model version was registered from it, because a version must not change.
    """
    earlier = context.tracked.find(context.run.prefix)
    for run in earlier:
        if run.tags.get(TAG_INPUTS) == inputs and _reusable(context, run.run_id, run.status):
            context.tracked.end_unfinished([other for other in earlier if other != run], "KILLED")
            context.tracked.resume(run)
            return run.run_id
    context.tracked.end_unfinished(earlier, "KILLED")
    name = f"{context.run.dag}/{context.run.run_id}"
    return context.tracked.open(
        context.contract.registered_model, context.run.prefix, name, {**tags, TAG_INPUTS: inputs}
    )


def _reusable(context: RunContext, run_id: str, status: str) -> bool:
    return status != "FINISHED" and not context.tracked.versions(run_id)


def resume_run(context: RunContext, trained: Step) -> str:
    """Resume the MLflow run of this training; returns its id.

    Raises:
        LastingFailure: the MLflow run belongs to another training.
    """
    run_id = str(trained["mlflow_run_id"])
    run = context.tracked.get(run_id)
    if run is None or run.tags.get(TAG_TRAINED) != trained.digest:
        raise LastingFailure(
            f"MLflow's run {run_id} does not show the training that {context.run.prefix}/train.json "
            "describes: run train again."
        )
    context.tracked.resume(run)
    return run_id


@contextmanager
def end_run_on_failure(context: RunContext) -> Iterator[None]:
    """End the open MLflow runs of this training if a step fails or is stopped."""
    try:
        yield
    except BaseException as error:
        _end(context, error)
        raise


def _end(context: RunContext, error: BaseException) -> None:
    try:
        status: Any = "KILLED" if isinstance(error, Stopped) else "FAILED"
        context.tracked.end_unfinished(context.tracked.find(context.run.prefix), status)
    except RegistryFailure as unavailable:
        # Only logged, so that the job reports its own failure. The next attempt or `clean` ends the run.
        get_logger(__name__).warning("run_left_open", run=context.run.prefix, reason=str(unavailable))
