"""Runs the service with two listeners: the API and the metrics."""

from __future__ import annotations

import gc
import os
import signal
import socket
from threading import Thread
from time import monotonic, sleep
from typing import Final

from fastapi import FastAPI
from prometheus_client import disable_created_metrics
from pydantic import SecretStr

from config import constants
from config.services import MLFLOW_RELEASE
from config.settings import (
    AirflowClientSettings,
    ApiServerSettings,
    ConfigurationError,
    DatabaseSettings,
    KafkaSettings,
    LogSettings,
    MlflowSettings,
    PlatformSettings,
    Replica,
    contract,
    load,
    parameters,
)
from fraud_adapters.airflow_runs import AirflowRuns
from fraud_adapters.job import Result, logs
from fraud_adapters.job.logs import get_logger
from fraud_adapters.models.registry import Registry
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_api import http_server, internal_server
from fraud_api.app import create_app
from fraud_api.credentials import KeyEncryptionError
from fraud_api.service import ScoringService, ServiceSettings

# After a release its replica answers with the champion until the gateway has forgotten it.
IDLE_SECONDS: Final = 60


def _release_login(password: SecretStr | None) -> tuple[str, str] | None:
    """MLflow's user who sets aliases; the API's own user only reads."""
    return None if password is None else (MLFLOW_RELEASE, password.get_secret_value())


def service_settings() -> ServiceSettings:
    """Read the settings of the service from the environment.

    Raises:
        ConfigurationError: a setting is missing or invalid.
    """
    platform = load(PlatformSettings)
    server = load(ApiServerSettings)
    kafka = load(KafkaSettings)
    configured = parameters(platform)
    serving = configured.serving
    return ServiceSettings(
        contract=contract(platform),
        parameters=serving,
        release=configured.release,
        database_url=load(DatabaseSettings).url,
        models=Registry(
            load(MlflowSettings).tracking_uri,
            serving.max_model_file_bytes,
            alias_login=_release_login(server.mlflow_release_password),
        ),
        model_cache=server.model_cache_dir,
        client_secrets={name: secret.get_secret_value() for name, secret in server.client_secrets.items()},
        key_encryption_secret=server.api_key_encryption_secret.get_secret_value(),
        kafka_bootstrap=kafka.bootstrap_servers,
        kafka_topic=kafka.topic,
        show_docs=platform.app_env != "production",
        training=_training_runs(load(AirflowClientSettings)),
        replica=server.api_replica,
        prometheus_url=server.prometheus_url,
        canary_metrics_url=server.api_canary_metrics_url,
    )


def _training_runs(airflow: AirflowClientSettings) -> AirflowRuns | None:
    if airflow.airflow_train_password is None:
        return None
    password = airflow.airflow_train_password.get_secret_value()
    return AirflowRuns(airflow.url, constants.AIRFLOW_TRAIN_USER, password, constants.DAG_TRAINING)


def serve() -> Result:
    """Serve requests until the process receives a signal to stop.

    Raises:
        ConfigurationError: a port is in use, or the keys were encrypted with another secret.
    """
    settings = load(ApiServerSettings)
    service_config, service = _service()
    app = _application(settings, service_config, service)
    try:
        listener = http_server.listen(settings.api_host, settings.api_port)
    except OSError as error:
        raise _unusable("API", settings.api_host, settings.api_port, error) from None
    # The objects loaded so far live as long as the process. Unless they are frozen, each full collection
    # visits 200,000 of them and stops the event loop for 100 ms.
    gc.collect()
    gc.freeze()
    if settings.api_replica is Replica.RELEASE:
        Thread(target=_stop_when_idle, args=[service], daemon=True).start()
    get_logger(__name__).info("serving", host=settings.api_host, port=settings.api_port)
    http_server.run(app, listener)
    return {"status": "stopped"}


def application() -> FastAPI:
    """The application for another ASGI server: `uvicorn --factory fraud_api.server:application`."""
    logs.configure(load(LogSettings), "api")
    return _application(load(ApiServerSettings), *_service())


def _stop_when_idle(service: ScoringService) -> None:
    """End the replica of a release some time after it; whoever supervises it has it wait for the next one."""
    idle_since = monotonic()
    while monotonic() - idle_since < IDLE_SECONDS:
        sleep(1)
        if service.release_watch.is_needed:
            idle_since = monotonic()
    get_logger(__name__).info("release_is_over", idle_seconds=IDLE_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def _service() -> tuple[ServiceSettings, ScoringService]:
    service_config = service_settings()
    return service_config, ScoringService(service_config)


def _application(
    settings: ApiServerSettings, service_config: ServiceSettings, service: ScoringService
) -> FastAPI:
    """Build the ASGI application and start the server of its metrics."""
    try:
        service.identities.load()
    except KeyEncryptionError as error:
        raise ConfigurationError(f"API_KEY_ENCRYPTION_SECRET: {error}") from None
    except DatabaseUnavailable as error:
        # The database may come up later; until then the service is alive but not ready.
        get_logger(__name__).warning("database_unavailable", reason=str(error))
    # Otherwise every counter has an additional `_created` series, which nothing reads.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        internal_server.start(settings.metrics_host, settings.api_metrics_port, service)
    except OSError as error:
        raise _unusable("API_METRICS", settings.metrics_host, settings.api_metrics_port, error) from None
    return create_app(service_config, service)


def _unusable(name: str, host: str, port: int, error: OSError) -> ConfigurationError:
    variable = f"{name}_HOST" if isinstance(error, socket.gaierror) else f"{name}_PORT"
    return ConfigurationError(
        f"{variable}: port {port} of {host} cannot be used ({error.strerror}): choose another one."
    )
