"""What the database's definitions must agree on without a database."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

import fraud_db
from config import constants
from config.settings import ConfigurationError, load
from fraud_db.environment import BootstrapSettings
from fraud_db.upgrade import alembic_config

SQL = Path(fraud_db.__file__).parent / "migrations" / "sql"
ENVIRONMENT = {
    "POSTGRES_PASSWORD": "sup@r",
    "DB_PASSWORD": "owner",
    "MLFLOW_DB_PASSWORD": "mlflow",
    "AIRFLOW_DB_PASSWORD": "airflow",
    **{f"DB_PASSWORD_{service.upper()}": service for service in constants.SERVICE_ROLES},
}


def test_migrations_form_one_line_and_each_has_its_sql() -> None:
    script = ScriptDirectory.from_config(alembic_config())
    revisions = list(script.walk_revisions())
    assert len(script.get_heads()) == 1
    assert sorted(revision.revision for revision in revisions) == [
        path.name[:4] for path in sorted(SQL.glob("*.sql"))
    ]


def test_rights_are_granted_to_the_service_roles() -> None:
    usage = r"GRANT USAGE ON SCHEMA public TO ([^;]+);"
    granted = {
        role
        for path in SQL.glob("*.sql")
        for roles in re.findall(usage, path.read_text())
        for role in roles.split(", ")
    }
    assert granted == set(constants.SERVICE_ROLES.values())


def test_no_function_with_the_owners_rights_trusts_the_callers_search_path() -> None:
    for path in SQL.glob("*.sql"):
        for head in re.findall(r"CREATE (?:OR REPLACE )?FUNCTION.*?AS \$\$", path.read_text(), re.DOTALL):
            if "SECURITY DEFINER" in head:
                assert "SET search_path = pg_catalog, public, pg_temp" in " ".join(head.split()), head


def test_every_role_has_a_password_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    passwords = load(BootstrapSettings).service_passwords
    assert {name: secret.get_secret_value() for name, secret in passwords.items()} == {
        service: service for service in constants.SERVICE_ROLES
    }


@pytest.mark.parametrize("missing", sorted(ENVIRONMENT))
def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing)
    with pytest.raises(ConfigurationError, match=f"^{missing} is not set"):
        load(BootstrapSettings)


def test_the_superuser_logs_in_by_parts_or_by_url(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DB_HOST", "postgres")
    assert load(BootstrapSettings).admin_url == "postgresql://postgres:sup%40r@postgres:5432/postgres"
    monkeypatch.setenv("POSTGRES_ADMIN_URL", "postgresql://root:x@elsewhere/postgres")
    assert load(BootstrapSettings).admin_url == "postgresql://root:x@elsewhere/postgres"
