"""The servers of an embedded platform, as sources of the overview."""

from __future__ import annotations

from functools import partial
from typing import Final

from config import constants
from fraud_embedded.overview.snapshot import Sources
from fraud_embedded.platform import Platform
from fraud_embedded.processes import probes
from fraud_embedded.servers.airflow_api import AirflowApi

_AIRFLOW_SECONDS: Final = 10


def sources_of(platform: Platform) -> Sources:
    """Where the overview reads; Postgres is read as the read-only role.

    Raises:
        ConfigurationError: a secret is not set.
    """
    addresses, stack = platform.addresses, platform.stack
    return Sources(
        database_url=platform.database_url("readonly"),
        bootstrap=stack.broker.bootstrap,
        topic=platform.topics()[0],
        registered_model=platform.registered_model,
        airflow=AirflowApi(platform.airflow(), _AIRFLOW_SECONDS),
        links={"review cases": f"http://{probes.HOST}:{addresses.audit}/"},
        dags=(*constants.DAGS_REAL_TIME, *constants.DAGS_MONITORING, *constants.DAGS_TRAINING),
        parts={
            "postgres": partial(probes.tcp_open, stack.postgres.port),
            "broker": partial(probes.tcp_open, stack.broker.port),
            "api": partial(probes.http_ok, addresses.api, "/health/ready"),
            "audit": partial(probes.http_ok, addresses.audit, "/health/ready"),
            "mlflow": partial(probes.http_ok, stack.mlflow.port, "/health"),
            "object store": partial(probes.tcp_open, stack.objectstore.port),
            "airflow": partial(probes.http_ok, addresses.airflow, "/api/v2/monitor/health"),
        },
    )
