"""Bootstrap and migrations in a real Postgres."""

from __future__ import annotations

import json
import socket
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

import pytest
from psycopg2 import sql

from config import constants
from fraud_adapters.postgres import DatabaseUnavailable, connect
from fraud_adapters.postgres.placement import NUMERIC_COLUMNS
from fraud_db.bootstrap import BootstrapError, Passwords, bootstrap, drop_database
from fraud_db.upgrade import SERVICE_ROLES, MigrationError, head, upgrade
from fraud_db.verify import verify
from tests.support.stored_rows import LABELS, Database, run

Names = dict[str, str]


@pytest.fixture
def names(postgres_admin_url: str) -> Iterator[Names]:
    """Names of an installation of its own on the shared server; nothing of it exists yet."""
    tag = uuid.uuid4().hex[:8]
    generated = {
        kind: f"{kind}_{tag}" for kind in ("database", "owner", "mlflow", "airflow", *constants.SERVICE_ROLES)
    }
    yield generated
    for name in (generated["database"], generated["mlflow"], generated["airflow"]):
        drop_database(postgres_admin_url, name)
    with closing(connect(postgres_admin_url, "test")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for name in generated.values():
                cursor.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


def passwords(mark: str) -> Passwords:
    # Characters that break careless quoting in SQL, URLs and format strings.
    secret = mark + "'\"\\ %s{}@/:é"
    return Passwords(
        secret + "o", secret + "m", secret + "a", {name: secret + name for name in constants.SERVICE_ROLES}
    )


def install(admin_url: str, names: Names, secrets: Passwords) -> None:
    services = {service: names[service] for service in constants.SERVICE_ROLES}
    bootstrap(
        admin_url,
        secrets,
        names["database"],
        names["owner"],
        service_roles=services,
        mlflow=names["mlflow"],
        airflow=names["airflow"],
    )


def url_of(admin_url: str, database: str, role: str, password: str) -> str:
    parts = urlsplit(admin_url)
    return f"postgresql://{role}:{quote(password, safe='')}@{parts.hostname}:{parts.port}/{database}"


def test_bootstrap_again_rotates_the_passwords(postgres_admin_url: str, names: Names) -> None:
    install(postgres_admin_url, names, passwords("first"))
    install(postgres_admin_url, names, passwords("second"))
    old, new = passwords("first"), passwords("second")
    for service in constants.SERVICE_ROLES:
        address = (postgres_admin_url, names["database"], names[service])
        run(url_of(*address, new.services[service]), "SELECT 1")
        with pytest.raises(DatabaseUnavailable, match="authentication failed"):
            connect(url_of(*address, old.services[service]), "test")
    for own, password in (("mlflow", new.mlflow), ("airflow", new.airflow)):
        run(url_of(postgres_admin_url, names[own], names[own], password), "CREATE TABLE t ()")


@pytest.mark.usefixtures("database")  # the roles the migrations grant rights to exist
def test_two_bootstraps_and_two_migrations_at_once(postgres_admin_url: str, names: Names) -> None:
    secrets = passwords("same")
    url = url_of(postgres_admin_url, names["database"], names["owner"], secrets.owner)
    with ThreadPoolExecutor(2) as pool:
        installs = [pool.submit(install, postgres_admin_url, names, secrets) for _ in range(2)]
        for job in installs:
            job.result(timeout=60)
        migrated = [pool.submit(upgrade, url, LABELS) for _ in range(2)]
        assert [job.result(timeout=60) for job in migrated] == [head(), head()]
    assert verify(url, postgres_admin_url) == []


def test_no_password_reaches_the_server_or_a_repr(postgres_admin_url: str, names: Names) -> None:
    install(postgres_admin_url, names, passwords("hidden"))
    stored = "SELECT rolpassword FROM pg_authid WHERE rolname = %s"
    assert run(postgres_admin_url, stored, names["owner"])[0][0].startswith("SCRAM-SHA-256$")
    assert "hidden" not in repr(passwords("hidden"))


def test_mlflow_and_the_platform_stay_out_of_each_others_database(
    postgres_admin_url: str, names: Names
) -> None:
    secrets = passwords("apart")
    install(postgres_admin_url, names, secrets)
    for database, role, password in (
        ("database", "mlflow", secrets.mlflow),
        ("mlflow", "owner", secrets.owner),
        ("mlflow", "api", secrets.services["api"]),
    ):
        with pytest.raises(DatabaseUnavailable, match="permission denied for database"):
            connect(url_of(postgres_admin_url, names[database], names[role], password), "test")


def test_bootstrap_refuses_what_cannot_work(
    postgres_admin_url: str, names: Names, database: Database
) -> None:
    missing = Passwords("o", "m", "a", {name: "x" for name in constants.SERVICE_ROLES if name != "api"})
    with pytest.raises(BootstrapError, match="No password is given for api_"):
        install(postgres_admin_url, names, missing)
    superuser = urlsplit(postgres_admin_url).username or ""
    with pytest.raises(BootstrapError, match="choose another DB_USER"):
        install(postgres_admin_url, names | {"owner": superuser}, passwords("x"))
    with pytest.raises(BootstrapError, match="must be a superuser"):
        install(database.url("owner"), names, passwords("x"))


def test_a_refused_connection_is_one_sentence_without_the_password(database: Database) -> None:
    parts = urlsplit(database.url("api"))
    address = f"{parts.hostname}:{parts.port}{parts.path}"
    for url, sentence in (
        (f"postgresql://{parts.username}:N0tThis@{address}", "authentication failed"),
        (f"postgresql://{parts.username}:N0tThis%zz@{address}", "percent-encoded"),
        ("postgresql://someone:N0tThis@127.0.0.1:1/x", "not available"),
        # Not percent-encoded: the client takes the password for a host or a port, and says so.
        ("postgresql://someone:N0tThis/more@127.0.0.1:1/x", "percent-encoded"),
        ("postgresql://someone:more@N0tThis@127.0.0.1:1/x", "percent-encoded"),
        ("postgresql://some@one:N0tThis@127.0.0.1:1/x", "percent-encoded"),
    ):
        with pytest.raises(DatabaseUnavailable, match=sentence) as caught:
            connect(url, "test")
        assert "N0tThis" not in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="names of socket options")
def test_a_server_that_has_vanished_is_noticed_within_half_a_minute(database: Database) -> None:
    with (
        closing(connect(database.url("streaming"), "test")) as connection,
        socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as wire,
    ):
        unanswered = wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        silent, probe, probes = (
            wire.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
    assert 0 < unanswered <= 30_000
    assert silent + probe * probes <= 30


def test_a_migrated_database_is_what_the_migrations_make(database: Database) -> None:
    assert verify(database.url("owner"), database.url("admin")) == []
    leftovers = "SELECT datname FROM pg_database WHERE datname LIKE 'fraud_verify_%'"
    assert run(database.url("admin"), leftovers) == []


def test_a_right_revoked_and_granted_again_is_no_difference(database: Database) -> None:
    run(database.url("owner"), "GRANT SELECT ON alerts TO fraud_api")
    run(database.url("owner"), "REVOKE SELECT ON alerts FROM fraud_api")
    assert verify(database.url("owner"), database.url("admin")) == []


def test_verify_sees_each_difference(database: Database) -> None:
    changes = {
        "ALTER TABLE transactions ADD COLUMN extra integer": "column transactions.extra was not made",
        "ALTER TABLE transactions ALTER COLUMN v1 TYPE numeric(12, 6)": "column transactions.v1 is",
        "ALTER TABLE predictions ALTER COLUMN role SET DEFAULT 'other'": "column predictions.role is",
        "ALTER TABLE predictions ALTER COLUMN engine DROP NOT NULL": "column predictions.engine is",
        "ALTER TABLE labels ADD CHECK (label < 9)": "constraint labels.labels_label_check",
        "DROP INDEX predictions_deciding": "index predictions_deciding is missing",
        "DROP TABLE case_events": "table case_events is missing",
        "CREATE VIEW frauds AS SELECT 1 AS one": "view frauds was not made",
        "ALTER TABLE audit_log DISABLE TRIGGER ALL": "trigger audit_log.",
        "GRANT DELETE ON audit_log TO fraud_api": "table audit_log is",
        "GRANT UPDATE (score) ON predictions TO fraud_api": "column predictions.score is",
        "CREATE OR REPLACE FUNCTION audit_hash(entry audit_log) RETURNS bytea LANGUAGE sql IMMUTABLE "
        "SET search_path = pg_catalog, public, pg_temp AS $$ SELECT NULL::bytea $$": "function audit_hash",
        "GRANT EXECUTE ON FUNCTION reclassify() TO fraud_api": "function reclassify() is",
    }
    for change in changes:
        run(database.url("admin"), change)
    sentences = verify(database.url("owner"), database.url("admin"))
    for change, start in changes.items():
        assert [one for one in sentences if one.startswith(start)], (change, sentences)


def test_verify_names_the_revision_of_a_database_that_is_behind(database: Database) -> None:
    run(database.url("owner"), "UPDATE alembic_version SET version_num = '0001'")
    assert verify(database.url("owner"), database.url("admin")) == [
        f"it is at revision 0001, not {head()}: run `python -m fraud_db upgrade`"
    ]


def test_migrating_again_with_data_present_changes_nothing(database: Database) -> None:
    url = database.url("owner")
    upgrade(url, LABELS)
    run(
        url,
        "INSERT INTO transactions (transaction_id, event_time, contract, source)"
        " VALUES ('kept', now(), 'creditcard/1', 'test')",
    )
    before = run(url, "SELECT count(*) FROM audit_log")
    assert upgrade(url, LABELS) == head()
    assert run(url, "SELECT transaction_id FROM transactions") == [("kept",)]
    assert run(url, "SELECT count(*) FROM audit_log") == before


def test_label_sources_follow_the_configuration(database: Database) -> None:
    url = database.url("owner")
    upgrade(url, LABELS.model_copy(update={"implied_after": timedelta(minutes=17)}))
    rows = run(url, "SELECT source, precedence, maturity FROM label_sources")
    sources = {name: (precedence, maturity) for name, precedence, maturity in rows}
    assert sources["implied"][1] == timedelta(minutes=17)
    assert sources["implied"][0] < min(sources[name][0] for name in LABELS.sources)
    assert sources["chargeback"] == (30, timedelta(days=7))
    last = run(url, "SELECT action FROM audit_log ORDER BY entry_id DESC LIMIT 1")
    assert last == [("label_sources.changed",)]


def test_migrating_without_a_role_says_what_to_do(database: Database) -> None:
    with pytest.raises(MigrationError, match=r"fraud_later.*bootstrap"):
        upgrade(database.url("owner"), LABELS, [*SERVICE_ROLES, "fraud_later"])


@pytest.mark.parametrize("role", ["owner", "readonly"])
def test_documented_queries_run_as_they_stand(database: Database, role: str) -> None:
    for query in (
        "SELECT COUNT(*) as total, MAX(ingestion_timestamp) as last_insert FROM transactions;",
        "SELECT COUNT(*) as total_predictions, SUM(CASE WHEN is_fraud_predicted THEN 1 ELSE 0 END)"
        " as frauds_detected FROM predictions;",
        "SELECT * FROM drift_metrics ORDER BY detected_at DESC LIMIT 10;",
        "SELECT * FROM retraining_triggers ORDER BY triggered_at DESC LIMIT 5;",
    ):
        run(database.url(role), query)


def test_numeric_columns_have_the_precision_and_scale_the_code_quantises_to(database: Database) -> None:
    columns = (
        "SELECT column_name, numeric_precision, numeric_scale FROM information_schema.columns"
        " WHERE table_name = 'transactions'"
    )
    actual = {name: (precision, scale) for name, precision, scale in run(database.url("owner"), columns)}
    assert {name: actual[name] for name in NUMERIC_COLUMNS} == NUMERIC_COLUMNS


def test_the_specified_columns_are_there(database: Database) -> None:
    expected = {
        "transactions": "transaction_id time v1 v28 amount class source ingestion_timestamp",
        "predictions": "transaction_id fraud_score is_fraud_predicted model_version prediction_time",
        "drift_metrics": "detected_at",
        "retraining_triggers": "triggered_at",
        "model_versions": "version",
        "airflow_task_metrics": "dag_id",
    }
    columns = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
    actual = set(run(database.url("owner"), columns))
    for table, names in expected.items():
        assert {(table, name) for name in names.split()} <= actual


def test_task_runs_are_kept_for_two_weeks(database: Database) -> None:
    watch = database.url("watch")
    tries = [
        {
            "dag_id": "d",
            "task_id": f"{days} days",
            "run_id": "r",
            "try_number": 1,
            "state": "success",
            "ended_at": (datetime.now(UTC) - timedelta(days=days)).isoformat(),
        }
        for days in (0, 13, 15, 400)
    ]
    assert run(watch, "SELECT record_task_runs(%s)", json.dumps(tries)) == [(4,)]
    assert run(watch, "SELECT forget_task_runs()") == [(2,)]
    kept = run(database.url("readonly"), "SELECT task_id FROM airflow_task_metrics ORDER BY id")
    assert kept == [("0 days",), ("13 days",)]
    assert run(watch, "SELECT forget_task_runs()") == [(0,)]
