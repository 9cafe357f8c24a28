"""Runs the service: two listeners, the API and the metrics."""

from __future__ import annotations

import gc
import socket

from fastapi import FastAPI
from prometheus_client import disable_created_metrics, start_http_server

from config.settings import (
    ApiServerSettings,
    ConfigurationError,
    DatabaseSettings,
    KafkaSettings,
    LogSettings,
    MlflowSettings,
    PlatformSettings,
    contract,
    load,
    parameters,
)
from fraud_adapters.job import Result, logs
from fraud_adapters.job.logs import get_logger
from fraud_adapters.models.registry import Registry
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_api import http_server
from fraud_api.app import create_app
from fraud_api.credentials import KeyEncryptionError
from fraud_api.service import Installation, Service


def installation() -> Installation:
    """What the environment says.

    Raises:
        ConfigurationError: it is incomplete or wrong.
    """
    platform = load(PlatformSettings)
    server = load(ApiServerSettings)
    kafka = load(KafkaSettings)
    return Installation(
        contract=contract(platform),
        parameters=parameters(platform).serving,
        database_url=load(DatabaseSettings).url,
        models=Registry(load(MlflowSettings).tracking_uri),
        model_cache=server.model_cache_dir,
        client_secrets={name: secret.get_secret_value() for name, secret in server.client_secrets.items()},
        key_encryption_secret=server.api_key_encryption_secret.get_secret_value(),
        kafka_bootstrap=kafka.bootstrap_servers,
        kafka_topic=kafka.topic,
        show_docs=platform.app_env != "production",
    )


def serve() -> Result:
    """Answer requests until the process is told to stop.

    Raises:
        ConfigurationError: a port is taken, or the keys were stored under another secret.
    """
    settings = load(ApiServerSettings)
    app = _application(settings)
    try:
        listener = http_server.listen(settings.api_host, settings.api_port)
    except OSError as error:
        raise _unusable("API", settings.api_host, settings.api_port, error) from None
    # What is loaded by now stays. Unfrozen, a full collection walks 200,000 objects and stops the loop for
    # 100 ms, again and again.
    gc.collect()
    gc.freeze()
    get_logger(__name__).info("serving", host=settings.api_host, port=settings.api_port)
    http_server.run(app, listener)
    return {"status": "stopped"}


def application() -> FastAPI:
    """The same for another ASGI server: `uvicorn --factory fraud_api.server:application`."""
    logs.configure(load(LogSettings), "api")
    return _application(load(ApiServerSettings))


def _application(settings: ApiServerSettings) -> FastAPI:
    """The ASGI application; its metrics are served from now on."""
    told = installation()
    service = Service(told)
    try:
        service.identities.load()
    except KeyEncryptionError as error:
        raise ConfigurationError(f"API_KEY_ENCRYPTION_SECRET: {error}") from None
    except DatabaseUnavailable as error:
        # It may come up later: until then the service lives and is not ready.
        get_logger(__name__).warning("database_unavailable", reason=str(error))
    # Otherwise every counter has a second series, which nobody reads.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        start_http_server(settings.api_metrics_port, settings.metrics_host, service.metrics.registry)
    except OSError as error:
        raise _unusable("API_METRICS", settings.metrics_host, settings.api_metrics_port, error) from None
    return create_app(told, service)


def _unusable(name: str, host: str, port: int, error: OSError) -> ConfigurationError:
    wrong = f"{name}_HOST" if isinstance(error, socket.gaierror) else f"{name}_PORT"
    return ConfigurationError(
        f"{wrong}: port {port} of {host} cannot be used ({error.strerror}): choose another one."
    )
