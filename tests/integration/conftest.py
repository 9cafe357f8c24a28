"""The fixtures of the integration tests: real servers, shared with the browser's tests."""

from __future__ import annotations

from tests.support.server_fixtures import (
    any_kafka,
    apache_kafka,
    apache_kafka_bootstrap,
    database,
    kafka_bootstrap,
    mlflow_uri,
    object_store,
    object_store_admin,
    object_store_server,
    own_object_store,
    passwords,
    postgres_admin_url,
    postgres_server,
    roles,
    stack,
    tansu,
    template,
    topics,
)

__all__ = [
    "any_kafka",
    "apache_kafka",
    "apache_kafka_bootstrap",
    "database",
    "kafka_bootstrap",
    "mlflow_uri",
    "object_store",
    "object_store_admin",
    "object_store_server",
    "own_object_store",
    "passwords",
    "postgres_admin_url",
    "postgres_server",
    "roles",
    "stack",
    "tansu",
    "template",
    "topics",
]
