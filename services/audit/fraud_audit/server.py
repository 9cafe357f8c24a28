"""Runs the web app with two listeners: the pages and the metrics."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable

import uvicorn
from prometheus_client import disable_created_metrics, start_http_server

from config.settings import (
    AuditServerSettings,
    ConfigurationError,
    DatabaseSettings,
    PlatformSettings,
    contract,
    load,
    parameters,
)
from fraud_adapters.job import Result
from fraud_adapters.job.logs import get_logger
from fraud_adapters.postgres import DatabaseUnavailable, audit, people
from fraud_adapters.postgres.session import Cursor
from fraud_adapters.postgres.session_pool import SessionPool
from fraud_audit.app import create_app
from fraud_audit.background import Background
from fraud_audit.context import App, AppSettings
from fraud_audit.metrics import Metrics
from fraud_audit.passwords import hash_password
from fraud_audit.reference import Reference

FIRST_PERSON = "admin"
_CONNECTIONS = 12
_STOP_SECONDS = 20


def build(database_url: str, first_password: str | None = None) -> tuple[App, Background]:
    """The web app from the environment's settings, and what runs beside it.

    Raises:
        ConfigurationError: a setting is missing or invalid.
    """
    platform = load(PlatformSettings)
    configured = parameters(platform)
    schema = contract(platform)
    settings = AppSettings(
        contract=schema,
        rules=configured.audit,
        feedback=configured.feedback,
        costs=configured.training.costs,
        secure=platform.app_env == "production",
    )
    app = App(settings, SessionPool(database_url, "fraud_audit", _CONNECTIONS), Reference(schema), Metrics())
    first = _add_first_person(first_password) if first_password else None
    if first is not None:
        try:
            app.run(first)
            first = None
        except DatabaseUnavailable as error:
            # The database may come up later.
            get_logger(__name__).warning("database_unavailable", reason=str(error))
    return app, Background(app, database_url, first)


def serve() -> Result:
    """Serve requests until the process receives a signal to stop.

    Raises:
        ConfigurationError: a port is in use, or a setting is wrong.
    """
    settings = load(AuditServerSettings)
    password = settings.audit_admin_password
    app, background = build(load(DatabaseSettings).url, password.get_secret_value() if password else None)
    # Otherwise every counter has an additional `_created` series, which nothing reads.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        start_http_server(settings.audit_metrics_port, settings.metrics_host, app.metrics.registry)
    except OSError as error:
        raise _unusable("AUDIT_METRICS", settings.metrics_host, settings.audit_metrics_port, error) from None
    try:
        listener = socket.create_server((settings.audit_host, settings.audit_port), backlog=512)
    except OSError as error:
        raise _unusable("AUDIT", settings.audit_host, settings.audit_port, error) from None

    def stop() -> None:
        background.stop()
        app.pool.close()

    config = uvicorn.Config(
        create_app(app, background.start, stop),
        http="h11",
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    get_logger(__name__).info("serving", host=settings.audit_host, port=settings.audit_port)
    for number in (signal.SIGTERM, signal.SIGINT):
        # The server has handlers of its own, and repeats the signal once it has stopped: no failure.
        signal.signal(number, signal.SIG_IGN)
    with listener:
        uvicorn.Server(config).run(sockets=[listener])
    return {"status": "stopped"}


def _add_first_person(password: str) -> Callable[[Cursor], None]:
    """What makes the first administrator where there is nobody."""
    hashed = hash_password(password)

    def add(cursor: Cursor) -> None:
        if people.add_first_person(cursor, FIRST_PERSON, hashed):
            audit.append(cursor, "system", "person.added", f"person {FIRST_PERSON}", {"role": "admin"})
            get_logger(__name__).info("first_person_added", username=FIRST_PERSON)

    return add


def _unusable(name: str, host: str, port: int, error: OSError) -> ConfigurationError:
    variable = f"{name}_HOST" if isinstance(error, socket.gaierror) else f"{name}_PORT"
    return ConfigurationError(
        f"{variable}: port {port} of {host} cannot be used ({error.strerror}): choose another one."
    )
