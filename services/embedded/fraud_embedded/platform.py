"""The whole platform, configured: servers, the API, and the environment of every role."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from config import constants, services
from config.services import Backend, Jobs, Service, mlflow_password, mlflow_users
from config.settings import ConfigurationError, KafkaSettings, api_clients
from fraud_embedded.addresses import Addresses
from fraud_embedded.installation import AIRFLOW_CHOICES, ALERT_ROUTES, PASSED_ON, Layout
from fraud_embedded.processes import probes
from fraud_embedded.processes.process import ProcessSpec
from fraud_embedded.servers import airflow, broker, gateway, mlflow, objectstore, postgres
from fraud_embedded.servers.airflow import Airflow
from fraud_embedded.servers.stack import Secrets, Stack, build

OPERATOR: Final = "operator"
AUDIT_LOG: Final = "audit-log"
AIRFLOW: Final = "airflow"
FOLLOWER: Final = "follower"
AUDIT: Final = "audit"
OVERVIEW: Final = "overview"
CANARY: Final = "api-canary"
_ADMIN_CLIENT: Final = "admin"


@dataclass(frozen=True, slots=True)
class Platform:
    """One installation: nothing is started, nothing is written."""

    layout: Layout
    addresses: Addresses
    stack: Stack
    settings: Mapping[str, str] = field(repr=False)

    @property
    def api_url(self) -> str:
        """Of the gateway, so that every client's requests are split."""
        return f"http://{probes.HOST}:{self.addresses.api}"

    @property
    def database(self) -> str:
        return self.settings.get("DB_NAME") or "fraud_detection"

    @property
    def owner(self) -> str:
        return self.settings.get("DB_USER") or constants.ROLE_OWNER

    @property
    def registered_model(self) -> str:
        contract = self.settings.get("FRAUD_CONTRACT") or constants.CONTRACT_DEFAULT
        return f"{constants.REGISTERED_MODEL_PREFIX}{contract}"

    def topics(self) -> list[str]:
        """The four topics, whose names share the prefix of KAFKA_TOPIC."""
        topic = self.settings.get("KAFKA_TOPIC") or constants.TOPIC_TRANSACTIONS
        kafka = KafkaSettings(kafka_topic=topic, kafka_bootstrap_servers=self.stack.broker.bootstrap)
        return [kafka.topic, kafka.labels_topic, kafka.alerts_topic, kafka.dlq_topic]

    def secret(self, name: str) -> str:
        """A secret of `.env`.

        Raises:
            ConfigurationError: it is not set.
        """
        return _secret(self.settings, name)

    def database_url(self, role: str) -> str:
        """URL for `owner`, or a service of `constants.SERVICE_ROLES`."""
        if role == "owner":
            return self.stack.postgres.url(self.owner, self.secret("DB_PASSWORD"), self.database)
        password = self.secret(services.role_password(role))
        return self.stack.postgres.url(constants.SERVICE_ROLES[role], password, self.database)

    def environment(self, role: str) -> dict[str, str]:
        """The variables of a role, with no other role's secrets.

        Raises:
            ConfigurationError: there is no such role.
        """
        builders: dict[str, Callable[[], dict[str, str]]] = {
            "bootstrap": self._bootstrap,
            "migrate": self._migrate,
            **{service.name: partial(self._job, service) for service in services.with_jobs(Jobs.SCHEDULED)},
            "api": self._api,
            AUDIT_LOG: self._audit_log,
            AUDIT: self._audit,
            OPERATOR: self._operator,
            AIRFLOW: self._airflow,
        }
        if role not in builders:
            raise ConfigurationError(f"There is no role {role!r}; roles are {', '.join(builders)}.")
        return self._chosen(PASSED_ON) | builders[role]()

    def api_spec(self) -> ProcessSpec:
        """The scoring API; it lives without a model and takes one up when there is one."""
        return ProcessSpec(
            name="api",
            argv=(sys.executable, "-m", "fraud_api", "serve"),
            cwd=self.layout.root,
            env=self.environment("api"),
            stop_seconds=25,
            ready=lambda: probes.http_ok(self.addresses.api_direct, "/health/live"),
        )

    def canary_spec(self) -> ProcessSpec:
        """The replica of the API that serves the version of a release over HTTP."""
        addresses = self.addresses
        own = {
            "API_REPLICA": "release",
            "API_PORT": str(addresses.canary),
            "API_METRICS_PORT": str(addresses.canary_metrics),
            "MODEL_CACHE_DIR": str(self.layout.models / CANARY),
        }
        return ProcessSpec(
            name=CANARY,
            argv=(sys.executable, "-m", "fraud_api", "serve"),
            cwd=self.layout.root,
            env=self.environment("api") | own,
            stop_seconds=25,
            ready=lambda: probes.http_ok(addresses.canary, "/health/live"),
        )

    def gateway(self) -> gateway.Gateway:
        """The gateway, configured."""
        addresses = self.addresses
        return gateway.Gateway(
            configuration=self.layout.root / "services" / "gateway" / "traefik",
            place=self.layout.local / "gateway",
            port=addresses.api,
            internal_port=addresses.gateway_metrics,
            api=addresses.api_direct,
            canary=addresses.canary,
            provider=addresses.api_metrics,
        )

    def audit_spec(self) -> ProcessSpec:
        """The analysts' web app."""
        return ProcessSpec(
            name=AUDIT,
            argv=(sys.executable, "-m", "fraud_audit", "serve"),
            cwd=self.layout.root,
            env=self.environment(AUDIT),
            stop_seconds=25,
            ready=lambda: probes.http_ok(self.addresses.audit, "/health/ready"),
        )

    def follower_spec(self) -> ProcessSpec:
        """The long-lived consumer, which only runs when asked for."""
        port = self.addresses.stream_metrics
        return ProcessSpec(
            name=FOLLOWER,
            argv=(sys.executable, "-m", "fraud_streaming", "run", "--follow"),
            cwd=self.layout.root,
            env=self.environment("streaming") | {"STREAM_METRICS_PORT": str(port)},
            stop_seconds=25,
            ready=lambda: probes.http_ok(port, "/health/ready"),
        )

    def overview_spec(self) -> ProcessSpec:
        """The page that shows how everything is doing; it reads `.env` and the kept ports itself."""
        return ProcessSpec(
            name=OVERVIEW,
            argv=(sys.executable, "-m", "fraud_embedded.overview"),
            cwd=self.layout.root,
            env={},
            stop_seconds=10,
            ready=lambda: probes.http_ok(self.addresses.overview, "/health/live"),
        )

    def trim_spec(self) -> ProcessSpec:
        """What keeps the broker's log short."""
        environment = (
            self._chosen(PASSED_ON) | self._kafka() | {"DATABASE_URL": self.database_url("readonly")}
        )
        return broker.trim_spec(self.stack.broker, self.layout.root, environment)

    def airflow(self) -> Airflow:
        """Airflow, with what its jobs may know."""
        run = self.layout.run
        environments = {
            service.name: self.environment(service.name) for service in services.with_jobs(Jobs.SCHEDULED)
        }
        store = self.stack.objectstore.endpoint_url
        addresses = {
            **self._kafka(),
            "MLFLOW_TRACKING_URI": self.stack.mlflow.tracking_uri,
            "API_URL": self.api_url,
            "S3_ENDPOINT_URL": store,
        }
        database = {
            "DB_HOST": probes.HOST,
            "DB_PORT": str(self.stack.postgres.port),
            "DB_NAME": self.database,
            "DB_USER": constants.ROLE_READONLY,
            "DATABASE_URL": self.database_url("readonly"),
        }
        return Airflow(
            root=self.layout.root,
            place=self.layout.local / "airflow",
            port=self.addresses.airflow,
            watch_metrics_port=self.addresses.watch_metrics,
            database_url=self.stack.postgres.url(
                constants.DATABASE_AIRFLOW, self.secret("AIRFLOW_DB_PASSWORD"), constants.DATABASE_AIRFLOW
            ),
            fernet_key=self.secret("AIRFLOW_FERNET_KEY"),
            jwt_secret=self.secret("AIRFLOW_JWT_SECRET"),
            secret_key=self.secret("AIRFLOW_SECRET_KEY"),
            password=self.secret("AIRFLOW_PASSWORD"),
            train_password=self.secret("AIRFLOW_TRAIN_PASSWORD"),
            watch_password=self.secret(services.role_password("watch")),
            public=self._chosen(PASSED_ON) | self._chosen(AIRFLOW_CHOICES) | addresses | database,
            jobs=airflow.job_variables(sys.executable, self.layout.root, run, environments)
            | self.mlflow_login(services.MLFLOW_RELEASE),
            setup=self._chosen(ALERT_ROUTES) | self._client(constants.CLIENT_AIRFLOW),
        )

    def _airflow(self) -> dict[str, str]:
        return self.airflow().commands()

    def _chosen(self, names: Iterable[str]) -> dict[str, str]:
        return {name: self.settings[name] for name in names if self.settings.get(name)}

    def specs(self) -> dict[str, ProcessSpec]:
        """Every process by its name, in the order of their dependencies."""
        stack = self.stack
        specs = (
            objectstore.spec(stack.objectstore),
            postgres.spec(stack.postgres),
            broker.spec(stack.broker),
            self.trim_spec(),
            mlflow.spec(stack.mlflow),
            self.api_spec(),
            gateway.spec(self.gateway()),
            self.canary_spec(),
            self.audit_spec(),
            self.follower_spec(),
            *airflow.specs(self.airflow()),
            self.overview_spec(),
        )
        return {spec.name: spec for spec in specs}

    def _kafka(self) -> dict[str, str]:
        return {"KAFKA_BOOTSTRAP_SERVERS": self.stack.broker.bootstrap}

    def mlflow_login(self, user: str) -> dict[str, str]:
        """MLflow's address and the log-in of one of its users, as variables."""
        return {
            "MLFLOW_TRACKING_URI": self.stack.mlflow.tracking_uri,
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": self.secret(services.mlflow_password(user)),
        }

    def _client(self, client: str) -> dict[str, str]:
        return {
            "API_URL": self.api_url,
            "API_CLIENT_ID": client,
            "API_CLIENT_SECRET": self.secret(services.client_secret(client)),
        }

    def _clients(self) -> dict[str, str]:
        """The secrets of all the API's clients, refused here rather than in its log if they do not fit."""
        names = list(map(services.client_secret, constants.API_CLIENTS))
        secrets = {name: self.secret(name) for name in names} | self._chosen(("API_KEYS",))
        api_clients(secrets)
        return secrets

    def _bootstrap(self) -> dict[str, str]:
        names = ["DB_PASSWORD", "MLFLOW_DB_PASSWORD", "AIRFLOW_DB_PASSWORD"]
        names += map(services.role_password, constants.SERVICE_ROLES)
        return {
            "POSTGRES_ADMIN_URL": self.stack.postgres.url(),
            "DB_NAME": self.database,
            "DB_USER": self.owner,
            **{name: self.secret(name) for name in names},
        }

    def _migrate(self) -> dict[str, str]:
        return {"DATABASE_URL": self.database_url("owner")}

    def _job(self, service: Service) -> dict[str, str]:
        """What the jobs of a service get: the addresses of what it uses, and its own secrets."""
        variables = {name: self.secret(name) for name in service.secrets}
        if Backend.POSTGRES in service.uses:
            variables["DATABASE_URL"] = self.database_url(service.name)
        if Backend.KAFKA in service.uses:
            variables |= self._kafka()
        if Backend.MLFLOW in service.uses:
            variables |= self.mlflow_login(service.name)
        if Backend.OBJECT_STORE in service.uses:
            variables |= self.stack.objectstore.bucket_environment(constants.BUCKET_RUNS)
        if service.scopes:
            variables |= self._client(service.name)
        return variables

    def _api(self) -> dict[str, str]:
        return {
            "DATABASE_URL": self.database_url("api"),
            **self._kafka(),
            **self.mlflow_login("api"),
            "MLFLOW_RELEASE_PASSWORD": self.secret("MLFLOW_RELEASE_PASSWORD"),
            "API_HOST": probes.HOST,
            "API_PORT": str(self.addresses.api_direct),
            "API_METRICS_PORT": str(self.addresses.api_metrics),
            "API_CANARY_METRICS_URL": f"http://{probes.HOST}:{self.addresses.canary_metrics}",
            **self._clients(),
            "API_KEY_ENCRYPTION_SECRET": self.secret("API_KEY_ENCRYPTION_SECRET"),
            "AIRFLOW_API_URL": f"http://{probes.HOST}:{self.addresses.airflow}",
            "AIRFLOW_TRAIN_PASSWORD": self.secret("AIRFLOW_TRAIN_PASSWORD"),
            "MODEL_CACHE_DIR": str(self.layout.models),
        }

    def _audit_log(self) -> dict[str, str]:
        """What verifies the audit log gets: a role that only reads, and the key, which no other role has."""
        return {
            "DATABASE_URL": self.database_url("readonly"),
            **self.stack.objectstore.bucket_environment(constants.BUCKET_RUNS),
            "AUDIT_HEAD_KEY": self.secret("AUDIT_HEAD_KEY"),
        }

    def _audit(self) -> dict[str, str]:
        return {
            "DATABASE_URL": self.database_url("audit"),
            "AUDIT_HOST": probes.HOST,
            "AUDIT_PORT": str(self.addresses.audit),
            "AUDIT_METRICS_PORT": str(self.addresses.audit_metrics),
            "AUDIT_ADMIN_PASSWORD": self.secret("AUDIT_ADMIN_PASSWORD"),
        }

    def _operator(self) -> dict[str, str]:
        return {
            "DATABASE_URL": self.database_url("readonly"),
            **self._kafka(),
            **self.mlflow_login(services.MLFLOW_PERSON),
            **self._client(_ADMIN_CLIENT),
            **self.stack.objectstore.bucket_environment(constants.BUCKET_RUNS),
        }


def configure(layout: Layout, addresses: Addresses, settings: Mapping[str, str]) -> Platform:
    """Put the platform together from what `.env` says.

    Raises:
        ConfigurationError: a secret is missing.
        NoUsableDirectory: the database has no account or directory to use.
    """
    passwords = {name: _secret(settings, name) for name in map(mlflow_password, mlflow_users())}
    releases = {name: settings[name] for name in ("MLFLOW_PERSON_RELEASES",) if settings.get(name)}
    secrets = Secrets(
        postgres_superuser=_secret(settings, "POSTGRES_PASSWORD"),
        mlflow_database=_secret(settings, "MLFLOW_DB_PASSWORD"),
        store_access_key=_secret(settings, "AWS_ACCESS_KEY_ID"),
        store_secret_key=_secret(settings, "AWS_SECRET_ACCESS_KEY"),
        store_runs=_secret(settings, "RUNS_AWS_SECRET_ACCESS_KEY"),
        store_mlflow=_secret(settings, "MLFLOW_AWS_SECRET_ACCESS_KEY"),
        mlflow_users=passwords | releases,
    )
    return Platform(layout, addresses, build(layout.local, layout.run, addresses.stack, secrets), settings)


def _secret(settings: Mapping[str, str], name: str) -> str:
    if not settings.get(name):
        raise ConfigurationError(f"{name} is not set in .env: set it there.")
    return settings[name]
