"""Settings read from the environment, one class per concern, and parameters read from `config.yaml`.

Precedence, highest first: environment variable, `config.<APP_ENV>.yaml`, `config.yaml`. Wrong values
stop the start with one sentence that names the variable and the fix (`ConfigurationError`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import (
    AnyHttpUrl,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from config import constants
from config.parameters import Parameters, load_parameters
from config.services import client_secret
from config.yaml_files import YamlFile
from fraud_core.contract import Contract, ContractError

CONFIG_DIR = Path(__file__).resolve().parent

SettingsT = TypeVar("SettingsT", bound="Settings")
Port = Annotated[int, Field(ge=1, le=65535)]


class ConfigurationError(Exception):
    """Wrong configuration; the message is one sentence naming the variable and the fix."""


def _blank_is_absent(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


OptionalText = Annotated[str | None, BeforeValidator(_blank_is_absent)]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_blank_is_absent)]


class Settings(BaseSettings):
    """The base class: reads only the process environment, and ignores the variables of other services."""

    model_config = SettingsConfigDict(
        extra="ignore", env_ignore_empty=True, hide_input_in_errors=True, frozen=True
    )


def with_secrets(names: Iterable[str], *, required: bool) -> Callable[[type[SettingsT]], type[SettingsT]]:
    """Add a secret field to a class for each name; the names come from the table of services."""
    field: Any = (SecretStr, Field(min_length=1)) if required else (OptionalSecret, None)

    def extended(base: type[SettingsT]) -> type[SettingsT]:
        fields: Any = dict.fromkeys(map(str.lower, names), field)
        return create_model(base.__name__, __base__=base, __module__=base.__module__, **fields)

    return extended


class PlatformSettings(Settings):
    """The installation: its environment, its transaction contract, and the location of its files."""

    app_env: Literal["development", "testing", "production"] = "development"
    fraud_contract: str = Field(default=constants.CONTRACT_DEFAULT, pattern=r"^[a-z][a-z0-9_]{0,30}$")
    fraud_contracts_dir: Path = CONFIG_DIR / "contracts"
    fraud_config_dir: Path = CONFIG_DIR


class DatabaseSettings(Settings):
    """Postgres: `DATABASE_URL` takes precedence over the other variables."""

    database_url: OptionalSecret = None
    db_host: str = "localhost"
    db_port: Port = 5432
    db_name: str = "fraud_detection"
    db_user: str = constants.ROLE_OWNER
    db_password: OptionalSecret = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.database_url is None and self.db_password is None:
            raise ValueError("DB_PASSWORD is not set: set it, or set DATABASE_URL")
        if self.database_url is not None:
            parts = urlsplit(self.database_url.get_secret_value())
            if parts.scheme not in {"postgresql", "postgres"} or not parts.hostname:
                raise ValueError("DATABASE_URL must look like postgresql://user:password@host:5432/database")
        return self

    @property
    def url(self) -> str:
        """The libpq URL, with its password: never log it."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        assert self.db_password is not None
        return postgres_url(self.db_user, self.db_password, self.db_host, self.db_port, self.db_name)


def postgres_url(user: str, password: SecretStr, host: str, port: int, database: str) -> str:
    """A libpq URL whose parts may hold any character."""
    login, secret, name = (quote(part, safe="") for part in (user, password.get_secret_value(), database))
    return f"postgresql://{login}:{secret}@{host}:{port}/{name}"


class KafkaSettings(Settings):
    """Kafka: the brokers, the topic whose prefix the other topics share, and the stream's consumer group."""

    kafka_bootstrap_servers: str = Field(
        default="localhost:9092", pattern=r"^[^\s,:]+:\d{1,5}(,[^\s,:]+:\d{1,5})*$"
    )
    kafka_topic: str = Field(default=constants.TOPIC_TRANSACTIONS, pattern=r"^[A-Za-z0-9._-]{1,200}$")
    kafka_group: str = Field(default=constants.GROUP_STREAMING, pattern=r"^[A-Za-z0-9._-]{1,200}$")

    @property
    def bootstrap_servers(self) -> list[str]:
        return self.kafka_bootstrap_servers.split(",")

    @cached_property
    def _prefix(self) -> str:
        return self.kafka_topic.removesuffix("-transactions")

    @property
    def topic(self) -> str:
        return self.kafka_topic

    @property
    def labels_topic(self) -> str:
        return f"{self._prefix}-labels"

    @property
    def alerts_topic(self) -> str:
        return f"{self._prefix}-alerts"

    @property
    def dlq_topic(self) -> str:
        return f"{self._prefix}-dlq"

    @property
    def group(self) -> str:
        """The group of the consumers that score the transactions topic."""
        return self.kafka_group

    @property
    def labels_group(self) -> str:
        return f"{self.kafka_group}-labels"


class MlflowSettings(Settings):
    """MLflow's address and the log-in there. MLflow's own client reads the same variables."""

    mlflow_tracking_uri: AnyHttpUrl = AnyHttpUrl("http://localhost:5000")
    mlflow_tracking_username: str = Field(min_length=1)
    mlflow_tracking_password: SecretStr = Field(min_length=1)

    @property
    def tracking_uri(self) -> str:
        return str(self.mlflow_tracking_uri).rstrip("/")


class ObjectStoreSettings(Settings):
    """An S3-compatible store."""

    s3_endpoint_url: AnyHttpUrl = AnyHttpUrl("http://localhost:8333")
    aws_access_key_id: str = Field(min_length=1)
    aws_secret_access_key: SecretStr = Field(min_length=1)
    aws_region: str = "us-east-1"

    @property
    def endpoint_url(self) -> str:
        return str(self.s3_endpoint_url).rstrip("/")


class ApiClientSettings(Settings):
    """How a job reaches the scoring API."""

    api_url: AnyHttpUrl = AnyHttpUrl("http://localhost:8000")
    api_client_id: str = Field(min_length=1)
    api_client_secret: SecretStr = Field(min_length=1)

    @property
    def url(self) -> str:
        return str(self.api_url).rstrip("/")


class AirflowClientSettings(Settings):
    """How the API starts trainings; without the password it starts none."""

    airflow_api_url: AnyHttpUrl = AnyHttpUrl("http://localhost:8080")
    airflow_train_password: OptionalSecret = None

    @property
    def url(self) -> str:
        return str(self.airflow_api_url).rstrip("/")


@with_secrets(map(client_secret, constants.API_CLIENTS), required=False)
class ApiServerSettings(Settings):
    """The scoring API itself."""

    api_host: str = "127.0.0.1"
    api_port: Port = 8000
    # Set if the metrics are to be reached from other networks than the API.
    api_metrics_host: OptionalText = None
    api_metrics_port: Port = 8001
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


def load(cls: type[SettingsT]) -> SettingsT:
    """Build a settings class from the environment.

    Raises:
        ConfigurationError: a variable is missing or wrong, or, in production, a secret is a default.
    """
    try:
        settings = cls()
    except ValidationError as error:
        raise ConfigurationError(_sentence(error)) from None
    if os.environ.get("APP_ENV") == "production":
        _refuse_default_secrets(settings)
    return settings


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = str(first["loc"][0]).upper() if first["loc"] else ""
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    if first["type"] == "missing":
        return f"{name} is not set: set it in .env or in the environment."
    return f"{name}: {message}." if name else f"{message}."


def _refuse_default_secrets(settings: Settings) -> None:
    for name, value in settings:
        text = value.get_secret_value() if isinstance(value, SecretStr) else ""
        if constants.DEVELOPMENT_SECRET_MARK in text:
            raise ConfigurationError(
                f"{name.upper()} still has its development default, which production refuses: "
                "set a secret of your own in .env."
            )


def parameters(platform: PlatformSettings) -> Parameters:
    """The non-secret parameters in force: `config.yaml` under the overlay of `APP_ENV`.

    Raises:
        ConfigurationError: a file is missing, not YAML, or holds a wrong value; the key is named.
    """
    try:
        return load_parameters(platform.fraud_config_dir, platform.app_env)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def contract(platform: PlatformSettings) -> Contract:
    """The transaction contract of this installation.

    Raises:
        ConfigurationError: `FRAUD_CONTRACT` names no file, or the file is not a valid contract.
    """
    path = platform.fraud_contracts_dir / f"{platform.fraud_contract}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in platform.fraud_contracts_dir.glob("*.yaml"))) or "none"
        raise ConfigurationError(f"FRAUD_CONTRACT: there is no contract {path}; contracts found: {known}.")
    try:
        file = YamlFile.read(path)
        return Contract.from_mapping(file.values)
    except ContractError as error:
        raise ConfigurationError(f"FRAUD_CONTRACT: {file.origin(error.location)}: {error}") from None
    except ValueError as error:
        raise ConfigurationError(f"FRAUD_CONTRACT: {error}") from None
