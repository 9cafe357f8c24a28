"""The trainer's verbs: parse, build, call."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from time import monotonic
from typing import Any, Final, cast

from config import constants, settings
from config.job_results.trainer import ChampionKeptResult, RollbackResult, TrainingResult
from config.services import Backend
from fraud_adapters.job import Result
from fraud_adapters.job.code_version import code_version
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.job.logs import get_logger
from fraud_adapters.models.mlflow_http import MlflowHttp
from fraud_adapters.models.registry import Registry
from fraud_adapters.models.registry_writer import RegistryWriter
from fraud_adapters.models.tracked_runs import TrackedRuns
from fraud_adapters.objectstore import ObjectStore
from fraud_adapters.objectstore.run_store import RunStore
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.session import Session
from fraud_adapters.preflight import require
from fraud_trainer import first_start
from fraud_trainer.arguments import (
    BUCKETS,
    CLEAN,
    DECIDE,
    FIRST_MODEL,
    IMPORT,
    ROLLBACK,
    RUN,
    example_source,
    parser,
)
from fraud_trainer.cleaning import CleaningContext, clean
from fraud_trainer.deciding import decide, held_triggers
from fraud_trainer.engines.engine import choose_engine
from fraud_trainer.evaluate.validating import validate
from fraud_trainer.importing import ImportRequest, adopt
from fraud_trainer.load.loading import load
from fraud_trainer.register.promotion import Promotion
from fraud_trainer.register.registering import register
from fraud_trainer.register.rolling_back import roll_back_champion
from fraud_trainer.run_context import STEPS, RunContext
from fraud_trainer.steps import features, train
from fraud_trainer.summary import training_figures
from fraud_trainer.tracking import end_run_on_failure

PARTS: Final = (Backend.POSTGRES, Backend.MLFLOW, Backend.OBJECT_STORE)
StepFunction = Callable[[RunContext], Result]

_STEP_FUNCTIONS: Final[dict[str, StepFunction]] = {
    "load": load,
    "features": features,
    "train": train,
    "validate": validate,
}


def main(arguments: Sequence[str]) -> Result:
    """Run the verb named in `arguments` and return its result.

    Raises:
        JobFailed: the verb failed, or the gate was not passed.
        ConfigurationError: a variable or option is missing or wrong.
    """
    now = datetime.now(UTC)
    options = parser(now).parse_args(arguments)
    if options.verb == BUCKETS:
        return first_start.buckets()
    if options.verb == CLEAN:
        require(*PARTS)
        with cleaning_context(now) as context:
            return clean(context, dry_run=options.dry_run)
    if options.verb == FIRST_MODEL and (version := first_start.champion()) is not None:
        return ChampionKeptResult(status="done", trained=False, champion=version)
    if options.verb == ROLLBACK:
        require(Backend.POSTGRES, Backend.MLFLOW)
        return roll_back()
    with run_context_of(options, now) as context:
        if options.verb == DECIDE:
            context.preflight()
            return decide(context, forced=options.force)
        if options.verb == IMPORT:
            return execute_import(context, import_request(options), promote=options.promote)
        return execute(options.verb, context, promote=getattr(options, "promote", False))


def execute(verb: str, context: RunContext, *, promote: bool) -> TrainingResult:
    """Run one step, or all of them for `run` and `first-model`; the result contains each step's result."""
    # The first model is asked for and has nothing to be compared with: `manual` does not hold it back.
    promotion: Promotion = "best" if verb == FIRST_MODEL else context.training.promotion
    registration = partial(register, promote=promote, promotion=promotion)
    steps: dict[str, StepFunction] = {**_STEP_FUNCTIONS, "register": registration}
    return _run_steps(context, steps if verb in {RUN, FIRST_MODEL} else {verb: steps[verb]})


def execute_import(context: RunContext, request: ImportRequest, *, promote: bool) -> TrainingResult:
    """Run all steps on a file's transactions, with a model from a file in place of the one `train` fits."""
    return _run_steps(
        context,
        {
            "load": load,
            "features": features,
            "train": partial(adopt, request=request),
            "validate": validate,
            "register": partial(register, promote=promote),
        },
    )


def import_request(options: argparse.Namespace) -> ImportRequest:
    return ImportRequest(options.model, options.feature_order, options.output, options.threshold)


def roll_back() -> RollbackResult:
    """Settings and adapters for `rollback`."""
    platform = settings.load(settings.PlatformSettings)
    most = settings.parameters(platform).serving.max_model_file_bytes
    session = Session(settings.load(settings.DatabaseSettings).url, "fraud_trainer")
    with closing(session), Registry(settings.load(settings.MlflowSettings).tracking_uri, most) as registry:
        return roll_back_champion(session, registry, settings.contract(platform))


def _run_steps(context: RunContext, steps: Mapping[str, StepFunction]) -> TrainingResult:
    results: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    with end_run_on_failure(context), held_triggers(context, results):
        context.preflight()
        for name, step in steps.items():
            started = monotonic()
            try:
                results[name] = step(context)
            except JobFailed as error:
                error.result = _result(context, {**results, name: error.result}, seconds)
                raise
            seconds[name] = round(monotonic() - started, 2)
            get_logger(__name__).info("step_done", step=name, seconds=seconds[name], run=context.run.prefix)
    return _result(context, results, seconds)


def _result(context: RunContext, results: Mapping[str, Any], seconds: dict[str, float]) -> TrainingResult:
    result = TrainingResult(
        status="done",
        dag=context.run.dag,
        run_id=context.run.run_id,
        prefix=context.run.prefix,
        seconds=seconds,
    )
    if "version" in results.get("register", {}):
        result["figures"] = training_figures(context, results["register"])
        get_logger(__name__).info("training_finished", **result["figures"])
    # Each step's result is of the type that has the step's name.
    return cast(TrainingResult, {**result, **results})


@contextmanager
def run_context_of(options: argparse.Namespace, now: datetime) -> Iterator[RunContext]:
    """Settings and adapters for a run; creates the object store's bucket if it does not exist."""
    platform = settings.load(settings.PlatformSettings)
    parameters = settings.parameters(platform)
    database = settings.load(settings.DatabaseSettings)
    mlflow = settings.load(settings.MlflowSettings)
    store = ObjectStore(settings.load(settings.ObjectStoreSettings), constants.BUCKET_RUNS)
    store.ensure_bucket()
    most = parameters.serving.max_model_file_bytes
    with Registry(mlflow.tracking_uri, most) as registry, MlflowHttp(mlflow.tracking_uri) as http:
        yield RunContext(
            contract=settings.contract(platform),
            training=parameters.training,
            gate=parameters.gate,
            policy=parameters.gate_in_force,
            run=RunStore(store, options.dag, options.run_id, STEPS),
            database=lambda: connect(database.url, "fraud_trainer"),
            # Created lazily, so that only the steps that write to MLflow import it.
            tracking=cache(lambda: RegistryWriter(mlflow.tracking_uri)),
            registry=registry,
            tracked=TrackedRuns(http),
            now=now,
            as_of=getattr(options, "as_of", None),
            code_version=code_version(),
            source=example_source(options),
            kafka=lambda: settings.load(settings.KafkaSettings),
            preflight=partial(require, *parts_of(options)),
            engine=choose_engine(settings.load(settings.DaskSettings)),
        )


def parts_of(options: argparse.Namespace) -> tuple[Backend, ...]:
    """The servers that a run with these options uses."""
    reads_topic = example_source(options).topic is not None
    return (*PARTS, Backend.KAFKA) if reads_topic else PARTS


@contextmanager
def cleaning_context(now: datetime) -> Iterator[CleaningContext]:
    """Settings and adapters for `clean`, with the key of the runs' bucket."""
    parameters = settings.parameters(settings.load(settings.PlatformSettings))
    database = settings.load(settings.DatabaseSettings)
    mlflow = settings.load(settings.MlflowSettings)
    store = ObjectStore(settings.load(settings.ObjectStoreSettings), constants.BUCKET_RUNS)
    most = parameters.serving.max_model_file_bytes
    with Registry(mlflow.tracking_uri, most) as registry, MlflowHttp(mlflow.tracking_uri) as http:
        yield CleaningContext(
            bucket=store,
            tracked=TrackedRuns(http),
            registry=registry,
            database=lambda: connect(database.url, "fraud_trainer"),
            keep=parameters.retention.run_files,
            abandoned_after=parameters.runs.abandoned_after,
            now=now,
            temporary=Path(tempfile.gettempdir()),
        )
