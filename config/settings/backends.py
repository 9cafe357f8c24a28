"""The servers that services connect to: Postgres, Kafka, MLflow and the object store."""

from __future__ import annotations

from functools import cached_property
from typing import Self
from urllib.parse import quote, urlsplit

from pydantic import AnyHttpUrl, Field, SecretStr, model_validator

from config import constants
from config.settings.base import OptionalSecret, OptionalText, Port, Settings


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


class DaskSettings(Settings):
    """Dask: where its scheduler is; unset, training and batch scoring run in the job's own process."""

    dask_scheduler: OptionalText = Field(default=None, pattern=r"^(tcp|tls)://[^\s:/]+:\d{1,5}$")
