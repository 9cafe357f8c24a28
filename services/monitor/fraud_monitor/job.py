"""The monitor's verbs: parse, build, call."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, partial
from typing import Final

from config import constants, settings
from config.services import Backend
from fraud_adapters.job import Result
from fraud_adapters.models.mlflow_http import MlflowHttp
from fraud_adapters.models.registry import Registry
from fraud_adapters.models.registry_writer import RegistryWriter
from fraud_adapters.models.tracked_runs import TrackedRuns
from fraud_adapters.objectstore import ObjectStore
from fraud_adapters.objectstore.run_store import RunStore
from fraud_adapters.postgres import connect
from fraud_adapters.preflight import require
from fraud_monitor.arguments import Verb, parser
from fraud_monitor.champion import fetch_champion
from fraud_monitor.drift import verbs as drift
from fraud_monitor.performance import verbs as performance
from fraud_monitor.quality import verbs as quality
from fraud_monitor.replay import verbs as replay
from fraud_monitor.replay.versions import load_version
from fraud_monitor.run_context import RunContext

VERBS: Final[tuple[Verb, ...]] = (*drift.VERBS, *quality.VERBS, *performance.VERBS, *replay.VERBS)


def main(arguments: Sequence[str]) -> Result:
    """Run the verb named in `arguments` and return its result.

    Raises:
        JobFailed: the verb failed.
        ConfigurationError: a variable or option is missing or wrong.
    """
    now = datetime.now(UTC)
    options = parser(VERBS, now).parse_args(arguments)
    verb = next(verb for verb in VERBS if verb.name == options.verb)
    # Without a part that the checks of data quality ask, they have no verdict and say so.
    require(Backend.POSTGRES, *verb.needs)
    with run_context_of(options, now, verb) as context:
        return verb.run(context, options)


@contextmanager
def run_context_of(options: argparse.Namespace, now: datetime, verb: Verb) -> Iterator[RunContext]:
    """Settings and adapters for a run; creates the bucket of runs if the verb needs it and there is none."""
    platform = settings.load(settings.PlatformSettings)
    parameters, contract = settings.parameters(platform), settings.contract(platform)
    database = partial(connect, settings.load(settings.DatabaseSettings).url, "fraud_monitor")
    uri = settings.load(settings.MlflowSettings).tracking_uri
    store = ObjectStore(settings.load(settings.ObjectStoreSettings), constants.BUCKET_RUNS)
    if Backend.OBJECT_STORE in verb.needs:
        store.ensure_bucket()
    with Registry(uri, parameters.serving.max_model_file_bytes) as registry, MlflowHttp(uri) as http:
        yield RunContext(
            contract=contract,
            parameters=parameters,
            run=RunStore(store, options.dag, options.run_id, (verb.continues or verb.name,)),
            database=database,
            champion=cache(partial(fetch_champion, contract, registry, database)),
            version=partial(load_version, contract, registry, database),
            # Created lazily, so that only the verbs that write to MLflow import it.
            tracking=cache(lambda: RegistryWriter(uri)),
            tracked=TrackedRuns(http),
            kafka=lambda: settings.load(settings.KafkaSettings),
            now=now,
        )
