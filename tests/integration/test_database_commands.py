"""`python -m fraud_db` as an operator runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from contextlib import closing
from urllib.parse import quote, urlsplit

from psycopg2 import sql

from fraud_adapters.postgres import connect
from fraud_db.bootstrap import Passwords, drop_database
from tests.support import forked
from tests.support.servers import Database


def call(verb: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return forked.run("fraud_db", verb, env=environment)


def test_one_call_prepares_a_database_from_parts(
    database: Database, postgres_admin_url: str, passwords: Passwords
) -> None:
    server = urlsplit(postgres_admin_url)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DATABASE_URL")}
    environment |= {
        "DB_HOST": str(server.hostname),
        "DB_PORT": str(server.port),
        "DB_NAME": database.name,
        "DB_USER": database.owner,
        "DB_PASSWORD": passwords.owner,
        "POSTGRES_PASSWORD": str(server.password),
        "MLFLOW_DB_PASSWORD": passwords.mlflow,
        "AIRFLOW_DB_PASSWORD": passwords.airflow,
        **{f"DB_PASSWORD_{key.upper()}": value for key, value in passwords.services.items()},
    }
    command = [sys.executable, "-m", "fraud_db", "prepare"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["database"], result["owner"]) == (database.name, database.owner)
    assert result["revision"]

    other = call("prepare", environment | {"POSTGRES_PASSWORD": "an0ther"})
    assert other.returncode == 2
    assert "POSTGRES_PASSWORD: the superuser's password is not the one the data was made with" in other.stderr
    assert "an0ther" not in other.stderr
    unset = call("prepare", environment | {"POSTGRES_PASSWORD": ""})
    assert unset.returncode == 2
    assert "POSTGRES_PASSWORD is not set" in unset.stderr


def test_bootstrap_upgrade_verify(postgres_admin_url: str, passwords: Passwords) -> None:
    name = f"cli_{uuid.uuid4().hex[:8]}"
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("DB_", "DATABASE_URL"))
    }
    secrets = {"DB_PASSWORD": "0wner@s/3cret", "MLFLOW_DB_PASSWORD": passwords.mlflow}
    secrets |= {"AIRFLOW_DB_PASSWORD": passwords.airflow}
    # The server is shared with other tests: its service roles keep their passwords.
    secrets |= {f"DB_PASSWORD_{key.upper()}": value for key, value in passwords.services.items()}
    environment = (
        inherited | secrets | {"POSTGRES_ADMIN_URL": postgres_admin_url, "DB_NAME": name, "DB_USER": name}
    )
    server = urlsplit(postgres_admin_url)
    parts = {"DB_HOST": str(server.hostname), "DB_PORT": str(server.port)}
    whole = f"postgresql://{name}:{quote('0wner@s/3cret', safe='')}@{server.hostname}:{server.port}/{name}"
    try:
        ran = [call("bootstrap", environment) for _ in range(2)]
        ran += [call("upgrade", environment | parts), call("upgrade", inherited | {"DATABASE_URL": whole})]
        admin = {"POSTGRES_ADMIN_URL": postgres_admin_url}
        ran += [call("verify", inherited | admin | {"DATABASE_URL": whole})]
        assert [done.returncode for done in ran] == [0] * 5, [done.stderr for done in ran]
        assert json.loads(ran[0].stdout) == {"status": "done", "database": name, "owner": name}
        assert json.loads(ran[-1].stdout)["problems"] == []

        refused = call("verify", inherited | admin | {"DATABASE_URL": whole.replace("0wner", "wr0ng")})
        assert refused.returncode == 1
        assert "authentication failed" in refused.stderr
        unset = call("bootstrap", {key: value for key, value in environment.items() if key != "DB_PASSWORD"})
        assert unset.returncode == 2
        assert "DB_PASSWORD is not set" in unset.stderr
        for done in (*ran, refused, unset):
            output = done.stdout + done.stderr
            assert not [
                value for value in (*secrets.values(), quote("0wner@s/3cret", safe="")) if value in output
            ]
    finally:
        drop_database(postgres_admin_url, name)
        with closing(connect(postgres_admin_url, "test")) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))
