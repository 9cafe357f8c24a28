"""`.env.example` describes what the settings read, no more and no less."""

import re
from pathlib import Path

import pytest

from config import constants, settings
from config.parameters import ENVIRONMENT_OVERRIDES
from config.services import mlflow_password, mlflow_users, role_password
from fraud_embedded.installation import AIRFLOW_CHOICES, ALERT_ROUTES
from fraud_launcher import dotenv
from fraud_launcher.datasets import kaggle

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / ".env.example").read_text(encoding="utf-8")
DESCRIBED = set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", TEXT, re.MULTILINE))


def below(base: type[settings.Settings]) -> list[type[settings.Settings]]:
    return [one for child in base.__subclasses__() for one in (child, *below(child))]


CLASSES = [one for one in below(settings.Settings) if one.__module__.startswith("config.settings.")]
# Read where the database is made and the embedded platform is started, not through a settings class.
STARTERS = {
    "POSTGRES_PASSWORD",
    "MLFLOW_DB_PASSWORD",
    "AIRFLOW_DB_PASSWORD",
    "AIRFLOW_PASSWORD",
    "AIRFLOW_FERNET_KEY",
    "AIRFLOW_JWT_SECRET",
    "AIRFLOW_SECRET_KEY",
    "RUNS_AWS_SECRET_ACCESS_KEY",
    "MLFLOW_AWS_SECRET_ACCESS_KEY",
    "MLFLOW_PERSON_RELEASES",
    "PORT_OFFSET",
    *kaggle.VARIABLES,
    *AIRFLOW_CHOICES,
    *ALERT_ROUTES,
    *map(role_password, constants.SERVICE_ROLES),
    *map(mlflow_password, mlflow_users()),
}


def interpolated(file: Path) -> dict[str, str]:
    """The variables a Compose file reads, and their defaults."""
    matches = re.findall(r"(?<!\$)\$\{([A-Z][A-Z0-9_]*)(?::-([^}]*))?", file.read_text(encoding="utf-8"))
    return dict(sorted(matches, key=lambda pair: bool(pair[1])))


LOCAL = ROOT / "docker-compose.local.yml"
PRODUCTION = ROOT / "docker-compose.vm1.yml"
# Where servers are follows from how the platform is started.
HOSTS = {
    "DATABASE_URL",
    "DB_HOST",
    "DB_PORT",
    "KAFKA_BOOTSTRAP_SERVERS",
    "MLFLOW_TRACKING_URI",
    "S3_ENDPOINT_URL",
    "API_URL",
    "API_HOST",
    "API_PORT",
    "API_METRICS_HOST",
    "API_METRICS_PORT",
    "AIRFLOW_API_URL",
    "STREAM_METRICS_HOST",
    "STREAM_METRICS_PORT",
}
# Read by Compose alone, before it reads any of its files.
COMPOSE = {"COMPOSE_FILE"}
DOCKER = interpolated(LOCAL).keys() | interpolated(PRODUCTION).keys()


def read_by_settings() -> set[str]:
    fields = {name.upper() for one in CLASSES for name in one.model_fields}
    return fields | set(ENVIRONMENT_OVERRIDES) | set(constants.ENV_VARS) | STARTERS | DOCKER | COMPOSE


def test_every_variable_that_is_read_is_described() -> None:
    assert read_by_settings() - DESCRIBED == set()


def test_every_variable_that_is_described_is_read() -> None:
    assert DESCRIBED - read_by_settings() == set()


def test_the_defaults_described_are_those_of_compose() -> None:
    defaults = dict(re.findall(r"^# ([A-Z][A-Z0-9_]*)=(.+)$", TEXT, re.MULTILINE))
    local, production = interpolated(LOCAL), interpolated(PRODUCTION)
    for interpolations, names in (
        (local, r"PUBLISH_|PROMETHEUS_"),
        (production, r"SECRETS_|AIRFLOW_URL|\w+_BIND"),
    ):
        described = {name: default for name, default in defaults.items() if re.match(names, name)}
        assert described
        assert described == {name: interpolations[name] for name in described}


def test_the_local_stack_takes_no_host_from_the_file_or_the_shell() -> None:
    assert {"POSTGRES_PASSWORD", "PUBLISH_API"} <= interpolated(LOCAL).keys()
    assert not HOSTS & interpolated(LOCAL).keys()
    assert HOSTS <= DESCRIBED
    assert "env_file" not in LOCAL.read_text("utf-8")


def test_a_bare_compose_command_means_the_local_file() -> None:
    assert dotenv.parse(TEXT)["COMPOSE_FILE"] == LOCAL.name
    assert LOCAL.exists()


def test_it_works_as_it_stands_for_development_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in re.findall(r"^([A-Z][A-Z0-9_]+)=(.*)$", TEXT, re.MULTILINE):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("API_CLIENT_ID", "streaming")
    monkeypatch.setenv("API_CLIENT_SECRET", "change-me-client-streaming")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "trainer")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "change-me-mlflow-trainer")
    for one in CLASSES:
        settings.load(one)
    monkeypatch.setenv("APP_ENV", "production")
    for one in (
        settings.DatabaseSettings,
        settings.ApiServerSettings,
        settings.ObjectStoreSettings,
        settings.MlflowSettings,
    ):
        with pytest.raises(settings.ConfigurationError, match="development default"):
            settings.load(one)


def test_no_secret_opens_two_doors() -> None:
    """The same mark becomes the same random secret: logging in to the API must not disclose a password."""
    marks = re.findall(rf"{constants.DEVELOPMENT_SECRET_MARK}[\w-]*", re.sub(r"(?m)^#.*$", "", TEXT))
    assert len(marks) > 10
    assert sorted(marks) == sorted(set(marks))
