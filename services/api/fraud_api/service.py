"""The service behind the routes, and its settings."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from config.constants import ALIAS_CHAMPION
from config.parameters import Serving as ServingParameters
from config.release import Release as ReleaseParameters
from config.settings import Replica
from fraud_adapters.models.registry import RegistryFailure
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_adapters.postgres.session import Session
from fraud_api.auth import Authenticator, TokenIssuer
from fraud_api.credentials import KeyVault
from fraud_api.dependency_metrics import SECONDS as DEPENDENCY_SECONDS
from fraud_api.dependency_metrics import DependencyMetrics
from fraud_api.health import Health
from fraud_api.hindsight import Hindsight
from fraud_api.identities import POLL_SECONDS, Identities, SeedClients
from fraud_api.metrics import Metrics
from fraud_api.model_holder import ModelHolder, ModelSource, Serving
from fraud_api.poller import Poller
from fraud_api.predict import Predictor
from fraud_api.problems import unavailable
from fraud_api.recorded_versions import RecordedVersions
from fraud_api.releases.arms import Arms, Canary
from fraud_api.releases.counts import Counts
from fraud_api.releases.releases import Releases
from fraud_api.releases.request_metrics import request_metrics
from fraud_api.releases.shadow import Shadow
from fraud_api.releases.watch import POLL_SECONDS as RELEASE_SECONDS
from fraud_api.releases.watch import ReleaseWatch
from fraud_api.requests import RequestParser
from fraud_api.training_runs import DagRuns, TrainingRuns
from fraud_api.writer import PredictionWriter
from fraud_core.contract import Contract
from fraud_core.identifiers import uuid7
from fraud_core.records import RecordParser


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """The settings of the service; without `training` it starts no trainings."""

    contract: Contract
    parameters: ServingParameters
    release: ReleaseParameters
    database_url: str
    models: ModelSource
    model_cache: Path
    client_secrets: dict[str, str]
    key_encryption_secret: str
    kafka_bootstrap: Sequence[str]
    kafka_topic: str
    show_docs: bool
    training: DagRuns | None = None
    replica: Replica = Replica.MAIN
    prometheus_url: str | None = None
    canary_metrics_url: str | None = None


class ScoringService:
    """The components behind the routes; `start` and `stop` control their threads."""

    def __init__(self, settings: ServiceSettings) -> None:
        contract, parameters, url = settings.contract, settings.parameters, settings.database_url
        self.metrics = Metrics()
        seeds = SeedClients(settings.client_secrets, parameters.client_scopes, parameters.default_scopes)
        self._sessions = {
            name: Session(url, f"fraud_api {name}")
            for name in (
                "identities",
                "models",
                "writer",
                "health",
                "routes",
                "queries",
                "metrics",
                "releases",
                "shadow",
            )
        }
        vault = KeyVault(settings.key_encryption_secret)
        self.identities = Identities(self._sessions["identities"], vault, seeds, time.monotonic)
        self.holder = ModelHolder(
            contract, settings.models, self._sessions["models"], settings.model_cache, self.metrics
        )
        self.writer = PredictionWriter(self._sessions["writer"], contract, self.metrics)
        records = RecordParser(contract, make_id=new_transaction_id)
        self.contract = contract
        self.record_model = records.model
        self.registered_model = contract.registered_model
        self.registry = settings.models
        self.database = self._sessions["routes"]
        self.queries = self._sessions["queries"]
        self.trainings = TrainingRuns(settings.training, self.database, now)
        self.authenticator = Authenticator(self.identities, time.time)
        self.tokens = TokenIssuer(self.identities, time.time, parameters.token_lifetime)
        slow_seconds = settings.release.judgement.max_latency_ms / 1000
        counts = Counts(slow_seconds, now)
        self.releases = Releases(
            contract.registered_model,
            self.database,
            self.holder,
            settings.models,
            settings.release,
            requests=request_metrics(
                settings.prometheus_url, settings.canary_metrics_url, self.metrics.registry, slow_seconds
            ),
        )
        self.release_watch = ReleaseWatch(
            self.releases,
            self._sessions["releases"],
            self.holder.load,
            counts,
            self.metrics,
            replica=settings.replica,
        )
        self.shadow = Shadow(contract, self._shadow, self._sessions["shadow"], self.metrics)
        self._arms = Arms(
            contract,
            champion=self._champion,
            canary=self._canary,
            control=lambda: self.release_watch.control,
            shadow=self.shadow,
            counts=counts,
            metrics=self.metrics,
            limit_seconds=settings.release.answer_limit.total_seconds(),
        )
        self.hindsight = Hindsight(
            contract,
            self.queries,
            RecordedVersions(
                contract, settings.models, self.queries, settings.model_cache, self._versions_in_memory
            ),
        )
        self.predictor = Predictor(
            arms=self._arms,
            parser=RequestParser(contract, records, parameters.max_batch),
            writer=self.writer,
            metrics=self.metrics,
            hindsight=self.hindsight,
        )
        self.health = Health(
            holder=self.holder,
            identities=self.identities,
            releases=self.release_watch,
            session=self._sessions["health"],
            replica=settings.replica,
            bootstrap=settings.kafka_bootstrap,
            topic=settings.kafka_topic,
        )
        dependencies = DependencyMetrics(
            self.metrics,
            self._sessions["metrics"],
            settings.kafka_bootstrap,
            [settings.kafka_topic],
            lambda: _answers(settings.models, contract.registered_model),
        )
        self._pollers = (
            Poller("identities", POLL_SECONDS, self.identities.poll),
            Poller("models", parameters.alias_poll_seconds, self.holder.poll),
            Poller("releases", RELEASE_SECONDS, self.release_watch.poll),
            Poller("dependencies", DEPENDENCY_SECONDS, dependencies.poll),
        )

    def _champion(self) -> Serving:
        serving = self.holder.current
        if serving is None:
            raise unavailable("There is no model that may serve.")
        return serving

    def _canary(self) -> Canary | None:
        return self.release_watch.canary

    def _versions_in_memory(self) -> Iterator[Serving]:
        canary = self.release_watch.canary
        for serving in (self.holder.current, canary and canary.serving, self.holder.shadow):
            if serving:
                yield serving

    def _shadow(self) -> Serving | None:
        """The version that scores what comes here without deciding it."""
        canary = self.release_watch.canary
        if canary is None or canary.decides:
            return self.holder.shadow
        # Of the tests before it, which are no transactions, nothing is kept.
        return canary.serving if self.release_watch.phase.mirrored else None

    def start(self) -> None:
        self.writer.start()
        self.shadow.start()
        for poller in self._pollers:
            poller.start()

    def stop(self) -> None:
        for poller in self._pollers:
            poller.stop()
        self._arms.close()
        self.shadow.stop()
        self.writer.stop()
        with suppress(DatabaseUnavailable):
            self.release_watch.flush()
        self.trainings.close()
        for session in self._sessions.values():
            session.close()


def _answers(models: ModelSource, name: str) -> bool:
    try:
        models.version_of_alias(name, ALIAS_CHAMPION)
    except RegistryFailure:
        return False
    return True


def now() -> datetime:
    return datetime.now(UTC)


def new_transaction_id() -> str:
    """A fresh UUIDv7 for a transaction that came without an id."""
    return uuid7(time.time_ns() // 1_000_000, os.urandom(10))
