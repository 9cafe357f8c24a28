"""What our own servers listen on, who their clients are, and where logs go."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from config import constants
from config.services import client_secret
from config.settings.base import (
    ConfigurationError,
    OptionalSecret,
    OptionalText,
    Port,
    Settings,
    with_secrets,
)


class Replica(StrEnum):
    """What a replica of the scoring API is for."""

    MAIN = "main"  # it serves the champion, and a canary by card
    RELEASE = "release"  # it serves the version of a release over HTTP


@with_secrets(map(client_secret, constants.API_CLIENTS), required=False)
class ApiServerSettings(Settings):
    """The scoring API itself."""

    api_replica: Replica = Replica.MAIN
    api_host: str = "127.0.0.1"
    api_port: Port = 8000
    # Set if the metrics are to be reached from other networks than the API.
    api_metrics_host: OptionalText = None
    api_metrics_port: Port = 8001
    # What clients see of a release over HTTP: from Prometheus, or else from the metrics of its own replica.
    prometheus_url: OptionalText = None
    api_canary_metrics_url: OptionalText = None
    api_keys: OptionalSecret = None
    api_key_encryption_secret: SecretStr = Field(min_length=16)
    model_cache_dir: Path = Path(".local/models")
    # Of MLflow's user who sets aliases; models are read as the API's own user.
    mlflow_release_password: OptionalSecret = None

    @property
    def metrics_host(self) -> str:
        return self.api_metrics_host or self.api_host

    @cached_property
    def client_secrets(self) -> dict[str, SecretStr]:
        """The clients and their secrets; see `api_clients`."""
        values = {name: value.get_secret_value() for name, value in self if isinstance(value, SecretStr)}
        clients = api_clients({name.upper(): value for name, value in values.items()})
        return {client: SecretStr(secret) for client, secret in clients.items()}


def api_clients(variables: Mapping[str, str]) -> dict[str, str]:
    """The secret of each client of the API: the platform's own, and those of `API_KEYS=client_id:secret,…`.

    Raises:
        ConfigurationError: an entry of API_KEYS is not `client_id:secret`, or a client has two secrets.
    """
    names = {client: client_secret(client) for client in constants.API_CLIENTS}
    clients = {client: variables[name] for client, name in names.items() if variables.get(name)}
    for number, entry in enumerate(filter(None, variables.get("API_KEYS", "").split(",")), start=1):
        client, colon, secret = entry.strip().partition(":")
        if not (client and colon and secret):
            raise ConfigurationError(
                f"API_KEYS: entry {number} is not client_id:secret; "
                "write API_KEYS=client_id:secret,other:secret."
            )
        if clients.setdefault(client, secret) != secret:
            other = names.get(client, "an earlier entry")
            raise ConfigurationError(
                f"API_KEYS: the client {client} has another secret there than in {other}: remove one of them."
            )
    return clients


class StreamServerSettings(Settings):
    """Where a follower of the stream serves its health and metrics."""

    stream_metrics_host: str = "127.0.0.1"
    stream_metrics_port: Port = 8002


class AuditHeadSettings(Settings):
    """The key that signs the heads of the audit log; the database must not know it."""

    audit_head_key: SecretStr = Field(min_length=16)


class AuditServerSettings(Settings):
    """The analysts' web app."""

    audit_host: str = "127.0.0.1"
    audit_port: Port = 8050
    # Set if the metrics are to be reached from other networks than the pages.
    audit_metrics_host: OptionalText = None
    audit_metrics_port: Port = 8004
    # Of the first administrator, who is made where there is nobody yet.
    audit_admin_password: OptionalSecret = None

    @property
    def metrics_host(self) -> str:
        return self.audit_metrics_host or self.audit_host


class LogSettings(Settings):
    """Where structured logs go: any of stderr, file (rotating) and syslog."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_sinks: Annotated[tuple[Literal["stderr", "file", "syslog"], ...], NoDecode] = ("stderr",)
    log_file: Path | None = None
    log_file_max_mb: int = Field(default=50, ge=1)
    log_file_keep: int = Field(default=5, ge=1)
    log_syslog_address: str = "localhost:514"

    @model_validator(mode="before")
    @classmethod
    def _split(cls, values: Any) -> Any:
        sinks = values.get("log_sinks")
        if isinstance(sinks, str):
            values["log_sinks"] = tuple(name.strip() for name in sinks.split(",") if name.strip())
        return values

    @model_validator(mode="after")
    def _file_named(self) -> Self:
        if "file" in self.log_sinks and self.log_file is None:
            raise ValueError("LOG_FILE is not set but LOG_SINKS names the sink file: set LOG_FILE to a path")
        return self
