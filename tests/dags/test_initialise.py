"""`init-airflow.sh` on a real database: the first run, a repetition, and a changed environment."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet

from config import constants
from tests.support.airflow_metadata import FirstStart, Metadata

pytestmark = pytest.mark.timeout(600)
TABLES = ("ab_user", "ab_role", "ab_user_role", "ab_permission_view_role", "connection", "slot_pool")


@pytest.fixture(scope="module")
def initialised(first_start: FirstStart) -> Metadata:
    assert reported_changes(first_start.done.stdout) == {
        "log-in": "airflow made",
        "log-in of the API": "train made",
        "pool": "real_time with 4 slots",
        "connection fraud_api": "made",
        "connection fraud_slack": "made",
    }
    return first_start.to_initialise


def reported_changes(output: str) -> dict[str, str]:
    """The changes that the script reports."""
    prefixes = ("log-in", "pool", "connection ")
    lines = [line.partition(": ") for line in output.splitlines() if line.startswith(prefixes)]
    return {name: done for name, _, done in lines}


def content(metadata: Metadata) -> dict[str, list[tuple[Any, ...]]]:
    return {table: sorted(metadata.rows(f"SELECT * FROM {table}"), key=repr) for table in TABLES}


def password_of(metadata: Metadata, conn_id: str) -> str:
    """The decrypted password of a connection; asserts that it is stored encrypted."""
    [(value, encrypted)] = metadata.rows(
        "SELECT password, is_encrypted FROM connection WHERE conn_id = %s", conn_id
    )
    assert encrypted
    return Fernet(metadata.server.fernet_key).decrypt(value.encode()).decode()


def test_repeated_it_changes_nothing(initialised: Metadata) -> None:
    before = content(initialised)
    assert password_of(initialised, constants.CONNECTION_API) == initialised.server.setup["API_CLIENT_SECRET"]
    done = initialised.initialise()
    assert done.returncode == 0
    assert reported_changes(done.stdout) == {
        "log-in": "airflow unchanged",
        "log-in of the API": "train unchanged",
        "pool": "real_time with 4 slots",
        "connection fraud_api": "unchanged",
        "connection fraud_slack": "unchanged",
    }
    assert content(initialised) == before


def test_what_has_changed_in_the_environment_takes_effect(initialised: Metadata) -> None:
    before = content(initialised)
    webhook = "https://hooks.slack.example/services/a-secret"
    done = initialised.initialise(
        AIRFLOW_PASSWORD="another-password",
        AIRFLOW_TRAIN_PASSWORD="another-password-of-the-api",
        API_CLIENT_SECRET="another-secret",
        SMTP_HOST="mail.example",
        SLACK_WEBHOOK_URL=webhook,
    )
    assert done.returncode == 0
    assert reported_changes(done.stdout) == {
        "log-in": "airflow has a new password",
        "log-in of the API": "train has a new password",
        "pool": "real_time with 4 slots",
        "connection fraud_api": "changed",
        "connection fraud_smtp": "made",
        "connection fraud_slack": "changed",
    }
    after = content(initialised)
    assert {table for table in TABLES if after[table] != before[table]} == {"ab_user", "connection"}
    assert password_of(initialised, constants.CONNECTION_API) == "another-secret"
    assert password_of(initialised, constants.CONNECTION_SLACK) == webhook
    for secret in ("another-password", "another-secret", "a-secret", initialised.server.password):
        assert secret not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"AIRFLOW_PASSWORD": ""}, "AIRFLOW_PASSWORD is not set: set it to the password of the web UI."),
        (
            {"API_URL": "nowhere"},
            "API_URL is not an http or https address: set it to one, such as http://api:8000.",
        ),
    ],
)
def test_a_wrong_variable_is_one_sentence_and_changes_nothing(
    initialised: Metadata, wrong: dict[str, str], sentence: str
) -> None:
    before = content(initialised)
    done = initialised.initialise(**wrong)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{sentence}\n")
    assert content(initialised) == before


def test_a_new_key_is_taken_over_and_what_the_old_one_locked_is_written_anew(initialised: Metadata) -> None:
    done = initialised.initialise(AIRFLOW__CORE__FERNET_KEY=Fernet.generate_key().decode())
    assert done.returncode == 0, done.stderr[-3000:]
    assert reported_changes(done.stdout)["connection fraud_api"] == "changed"
