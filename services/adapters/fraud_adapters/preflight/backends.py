"""The check of each part: one connection with the log-in of the settings.

Clients are imported where they are used: a service has only those of the parts it uses.
"""

# ruff: noqa: PLC0415
from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, Final
from urllib.parse import urlsplit

from config import constants
from config.services import Backend
from config.settings import (
    ApiClientSettings,
    DatabaseSettings,
    KafkaSettings,
    MlflowSettings,
    ObjectStoreSettings,
    Settings,
)
from fraud_adapters.job.failures import ConfigurationFailure

NAME: Final = "preflight"
_MLFLOW_SECONDS: Final = 10.0  # on a busy machine its answer may take seconds


def postgres(settings: DatabaseSettings) -> str:
    """Log in.

    Raises:
        DatabaseUnavailable: the server does not answer.
        ConfigurationFailure: the log-in is refused.
    """
    from fraud_adapters.postgres import DatabaseLoginRefused, connect

    try:
        with closing(connect(settings.url, NAME)) as connection:
            version = connection.info.parameter_status("server_version")
            return f"PostgreSQL {version} accepts the role {connection.info.user}"
    except DatabaseLoginRefused as error:
        user = urlsplit(settings.url).username
        raise ConfigurationFailure(
            f"{error} Correct the password of the role {user} in DATABASE_URL (or DB_PASSWORD)."
        ) from None


def kafka(settings: KafkaSettings) -> str:
    """Ask a broker which requests it supports. Raises BrokerUnavailable."""
    from fraud_adapters.kafka.handshake import require_answer

    return f"the broker {require_answer(settings.bootstrap_servers)} answers"


def mlflow(settings: MlflowSettings) -> str:
    """Look up a model that need not exist, with the log-in. Raises RegistryFailure."""
    from fraud_adapters.models.mlflow_http import MlflowHttp

    login = (settings.mlflow_tracking_username, settings.mlflow_tracking_password.get_secret_value())
    name = f"{constants.REGISTERED_MODEL_PREFIX}{constants.CONTRACT_DEFAULT}"
    query = {"name": name, "alias": constants.ALIAS_CHAMPION}
    with MlflowHttp(settings.tracking_uri, login) as http:
        http.get("registered-models/alias", query, _MLFLOW_SECONDS)
    return f"{settings.tracking_uri} accepts the user {login[0]}"


def object_store(settings: ObjectStoreSettings) -> str:
    """Look up an object that need not exist, with the key.

    Raises:
        ObjectStoreUnavailable: the store does not answer.
        ConfigurationFailure: the key is refused.
    """
    from fraud_adapters.objectstore import AccessRefused, ObjectStore

    try:
        ObjectStore(settings, constants.BUCKET_RUNS).exists(NAME)
    except AccessRefused as error:
        raise ConfigurationFailure(
            f"{error} Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: "
            f"the key {settings.aws_access_key_id} is not the one the store has."
        ) from None
    return f"{settings.endpoint_url} accepts the key {settings.aws_access_key_id}"


def api(settings: ApiClientSettings) -> str:
    """Ask whether the process answers. Raises ApiUnavailable.

    Not with the client's secret: the API's check of a secret is slow on purpose, and the job's first request,
    which needs a token, stops with the same exit code if it is wrong.
    """
    from fraud_adapters.api_client import ApiClient

    with ApiClient(settings) as client:
        client.require_alive()
    return f"{settings.url} answers"


# The values are typed as Any, because each check takes the settings of its own class.
CHECKS: Final[Mapping[Backend, tuple[type[Settings], Callable[[Any], str]]]] = {
    Backend.POSTGRES: (DatabaseSettings, postgres),
    Backend.KAFKA: (KafkaSettings, kafka),
    Backend.MLFLOW: (MlflowSettings, mlflow),
    Backend.OBJECT_STORE: (ObjectStoreSettings, object_store),
    Backend.API: (ApiClientSettings, api),
}
