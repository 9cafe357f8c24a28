"""Runs the service: two listeners, the API and the metrics."""

from __future__ import annotations

import gc
import socket

import uvicorn
from prometheus_client import disable_created_metrics, start_http_server

from config.settings import (
    ApiServerSettings,
    ConfigurationError,
    DatabaseSettings,
    KafkaSettings,
    MlflowSettings,
    PlatformSettings,
    contract,
    load,
    parameters,
)
from fraud_adapters.job import Result
from fraud_adapters.logs import get_logger
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_adapters.registry import Registry
from fraud_api.app import create_app
from fraud_api.credentials import KeyEncryptionError
from fraud_api.service import Installation, Service

KEEP_ALIVE_SECONDS = 30
SHUTDOWN_SECONDS = 20


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
    listener = _listener(settings.api_host, settings.api_port)
    try:
        start_http_server(settings.api_metrics_port, settings.metrics_host, service.metrics.registry)
    except OSError as error:
        raise _unusable("API_METRICS", settings.metrics_host, settings.api_metrics_port, error) from None
    config = uvicorn.Config(
        create_app(told, service),
        loop="auto",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    # What is loaded by now stays. Unfrozen, a full collection walks 200,000 objects and stops the loop for
    # 100 ms, again and again.
    gc.collect()
    gc.freeze()
    get_logger(__name__).info("serving", host=settings.api_host, port=settings.api_port)
    uvicorn.Server(config).run(sockets=[listener])
    return {"status": "stopped"}


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise _unusable("API", host, port, error) from None
    listener.set_inheritable(True)
    return listener


def _unusable(name: str, host: str, port: int, error: OSError) -> ConfigurationError:
    wrong = f"{name}_HOST" if isinstance(error, socket.gaierror) else f"{name}_PORT"
    return ConfigurationError(
        f"{wrong}: port {port} of {host} cannot be used ({error.strerror}): choose another one."
    )
