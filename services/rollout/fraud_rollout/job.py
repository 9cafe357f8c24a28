"""The rollout's verbs: parse, build, call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Final

from config import constants, settings
from config.services import Backend
from fraud_adapters.api_session import ApiSession
from fraud_adapters.deployments_client import DeploymentsClient
from fraud_adapters.job import Result
from fraud_adapters.models.registry import Registry
from fraud_adapters.objectstore import ObjectStore
from fraud_adapters.objectstore.run_store import RunStore
from fraud_adapters.postgres import connect
from fraud_adapters.preflight import require
from fraud_adapters.replica_client import ReleaseReplica
from fraud_rollout import driving, observing
from fraud_rollout.arguments import Verb, parser
from fraud_rollout.over_http import verbs as over_http
from fraud_rollout.run_context import RunContext
from fraud_rollout.validation import verbs as validation

VERBS: Final[tuple[Verb, ...]] = (*validation.VERBS, *over_http.VERBS, *driving.VERBS, *observing.VERBS)


def main(arguments: Sequence[str]) -> Result:
    """Run the verb named in `arguments` and return its result.

    Raises:
        JobFailed: the verb failed.
        ConfigurationError: a variable or option is missing or wrong.
    """
    now = datetime.now(UTC)
    options = parser(VERBS, now).parse_args(arguments)
    verb = next(verb for verb in VERBS if verb.name == options.verb)
    require(Backend.API, *verb.needs)
    with run_context_of(options.dag, now) as context:
        return verb.run(context, options)


@contextmanager
def run_context_of(dag: str, now: datetime) -> Iterator[RunContext]:
    """Settings and adapters for a run; what a verb does not use is not connected to."""
    platform = settings.load(settings.PlatformSettings)
    parameters, contract = settings.parameters(platform), settings.contract(platform)
    with ExitStack() as opened:
        session = opened.enter_context(ApiSession(settings.load(settings.ApiClientSettings)))
        api = DeploymentsClient(session)

        def registry() -> Registry:
            uri = settings.load(settings.MlflowSettings).tracking_uri
            return opened.enter_context(Registry(uri, parameters.serving.max_model_file_bytes))

        def store() -> ObjectStore:
            made = ObjectStore(settings.load(settings.ObjectStoreSettings), constants.BUCKET_RUNS)
            made.ensure_bucket()
            return made

        once = cache(store)
        yield RunContext(
            contract=contract,
            parameters=parameters,
            api=api,
            replica=lambda: ReleaseReplica(settings.load(settings.ApiClientSettings)),
            registry=cache(registry),
            database=lambda: connect(settings.load(settings.DatabaseSettings).url, "fraud_rollout"),
            folder=lambda run_id: RunStore(once(), dag, run_id, ()),
            dag=dag,
            now=now,
        )
