import json
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from config import constants
from config.parameters import Serving
from config.settings import (
    CONFIG_DIR,
    ApiServerSettings,
    ConfigurationError,
    DatabaseSettings,
    KafkaSettings,
    LogSettings,
    PlatformSettings,
    contract,
    load,
    parameters,
)
from fraud_adapters.job import logs

SECRETS = {"API_KEY_ENCRYPTION_SECRET": "0123456789abcdef"}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = ("KAFKA_TOPIC", "KAFKA_GROUP")
    for name in ("DATABASE_URL", "DB_PASSWORD", "DB_PORT", "APP_ENV", *kafka, "LOG_SINKS", "LOG_FILE"):
        monkeypatch.delenv(name, raising=False)


def sentence(cls: type, monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load(cls)
    return str(caught.value)


def test_database_url_wins_over_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "p@ss/word")
    monkeypatch.setenv("DB_HOST", "elsewhere")
    assert (
        load(DatabaseSettings).url == "postgresql://fraud_user:p%40ss%2Fword@elsewhere:5432/fraud_detection"
    )
    monkeypatch.setenv("DB_USER", "some@one")
    monkeypatch.setenv("DB_NAME", "x?sslmode=disable")
    assert load(DatabaseSettings).url.startswith("postgresql://some%40one:p%40")
    assert load(DatabaseSettings).url.endswith(":5432/x%3Fsslmode%3Ddisable")
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:p@host/db")
    assert load(DatabaseSettings).url == "postgresql://u:p@host/db"


@pytest.mark.parametrize(
    ("cls", "environment", "named"),
    [
        (DatabaseSettings, {}, "DB_PASSWORD is not set"),
        (DatabaseSettings, {"DB_PASSWORD": "x", "DB_PORT": "five"}, "DB_PORT:"),
        (DatabaseSettings, {"DATABASE_URL": "mysql://x"}, "DATABASE_URL must look like"),
        (KafkaSettings, {"KAFKA_BOOTSTRAP_SERVERS": "kafka"}, "KAFKA_BOOTSTRAP_SERVERS:"),
        (KafkaSettings, {"KAFKA_GROUP": "two words"}, "KAFKA_GROUP:"),
        (LogSettings, {"LOG_SINKS": "file"}, "LOG_FILE is not set"),
        (LogSettings, {"LOG_SINKS": "printer"}, "LOG_SINKS:"),
        (ApiServerSettings, {}, "API_KEY_ENCRYPTION_SECRET is not set"),
        (PlatformSettings, {"APP_ENV": "staging"}, "APP_ENV:"),
    ],
)
def test_a_wrong_variable_is_named_in_one_sentence(
    cls: type, environment: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = sentence(cls, monkeypatch, **environment)
    assert named in text
    assert text.endswith(".")
    assert "\n" not in text


def test_a_secret_is_never_part_of_the_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "hunter2" not in sentence(DatabaseSettings, monkeypatch, DATABASE_URL="hunter2")


def test_a_client_may_have_tokens_of_another_lifetime(tmp_path: Path) -> None:
    base = (CONFIG_DIR / "config.yaml").read_text()
    old = "client_token_minutes: {airflow: 1560}"

    def serving(text: str) -> Serving:
        assert old in base
        (tmp_path / "config.yaml").write_text(base.replace(old, text))
        return parameters(PlatformSettings(fraud_config_dir=tmp_path)).serving

    both = serving("client_token_minutes: {airflow: 90, quick: 2}")
    lifetimes = [both.token_lifetime(client) for client in ("airflow", "quick", "streaming")]
    assert lifetimes == [timedelta(minutes=90), timedelta(minutes=2), timedelta(minutes=60)]
    assert both.longest_token_lifetime == timedelta(minutes=90)
    assert serving("").longest_token_lifetime == timedelta(minutes=60)
    assert serving("client_token_minutes: {quick: 2}").longest_token_lifetime == timedelta(minutes=60)
    for wrong in ("0", "10081", "soon"):
        with pytest.raises(
            ConfigurationError, match=r"serving\.client_token_minutes\.airflow: Input should be"
        ):
            serving(f"client_token_minutes: {{airflow: {wrong}}}")


def test_production_refuses_default_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "change-me-owner")
    load(DatabaseSettings)
    assert "DB_PASSWORD" in sentence(DatabaseSettings, monkeypatch, APP_ENV="production")


def test_api_keys_are_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("API_KEYS", "streaming:s3cret,admin:other:half")
    clients = load(ApiServerSettings).client_secrets
    assert {name: secret.get_secret_value() for name, secret in clients.items()} == {
        "streaming": "s3cret",
        "admin": "other:half",
    }
    monkeypatch.setenv("API_KEYS", "streaming")
    with pytest.raises(ConfigurationError, match="entry 1 is not client_id:secret"):
        _ = load(ApiServerSettings).client_secrets


def test_the_platforms_own_clients_have_variables_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("API_CLIENT_SECRET_STREAMING", "one")
    monkeypatch.setenv("API_CLIENT_SECRET_ADMIN", "two")
    monkeypatch.setenv("API_KEYS", "guest:three,streaming:one")
    clients = load(ApiServerSettings).client_secrets
    assert {name: secret.get_secret_value() for name, secret in clients.items()} == {
        "streaming": "one",
        "admin": "two",
        "guest": "three",
    }
    for text, other in (("streaming:other", "API_CLIENT_SECRET_STREAMING"), ("a:x,a:y", "an earlier entry")):
        monkeypatch.setenv("API_KEYS", text)
        with pytest.raises(ConfigurationError, match=other) as refused:
            _ = load(ApiServerSettings).client_secrets
        assert "one" not in str(refused.value).replace("one of them", "")


def test_metrics_are_served_beside_the_api_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("API_HOST", "api")
    assert load(ApiServerSettings).metrics_host == "api"
    monkeypatch.setenv("API_METRICS_HOST", "api-metrics")
    assert load(ApiServerSettings).metrics_host == "api-metrics"


def test_topics_share_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(KafkaSettings)
    topics = (settings.topic, settings.labels_topic, settings.alerts_topic, settings.dlq_topic)
    assert topics == constants.TOPICS
    monkeypatch.setenv("KAFKA_TOPIC", "payments-transactions")
    assert load(KafkaSettings).dlq_topic == "payments-dlq"


def test_labels_are_read_by_a_group_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(KafkaSettings)
    assert (settings.group, settings.labels_group) == ("fraud-streaming", "fraud-streaming-labels")
    monkeypatch.setenv("KAFKA_GROUP", "payments")
    assert (load(KafkaSettings).group, load(KafkaSettings).labels_group) == ("payments", "payments-labels")


def test_the_environment_lies_over_the_overlay_over_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    production = parameters(PlatformSettings(app_env="production"))
    development = parameters(PlatformSettings(app_env="development"))
    assert production.labels.implied_after.days == 45
    assert development.labels.implied_after.days == 0
    assert production.thresholds.data_drift == 0.3
    monkeypatch.setenv("DATA_DRIFT_THRESHOLD", "0.4")
    assert parameters(PlatformSettings(app_env="production")).thresholds.data_drift == 0.4
    monkeypatch.setenv("DATA_DRIFT_THRESHOLD", "much")
    with pytest.raises(ConfigurationError, match="DATA_DRIFT_THRESHOLD"):
        parameters(PlatformSettings())


@pytest.mark.parametrize(
    ("text", "named"),
    [("gate: [", "is not YAML"), ("- 1", "must hold a mapping"), ("surprise: 1", "config.yaml: ")],
)
def test_a_wrong_config_file_is_named(text: str, named: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=named):
        parameters(PlatformSettings(fraud_config_dir=tmp_path))


def test_no_more_of_a_dead_letter_is_kept_than_the_table_takes(tmp_path: Path) -> None:
    base = (CONFIG_DIR / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(base.replace("payload_bytes: 16384", "payload_bytes: 65537"))
    with pytest.raises(ConfigurationError, match=r"dead_letter_payload_bytes: .*less than or equal to 65536"):
        parameters(PlatformSettings(fraud_config_dir=tmp_path))


def test_an_unknown_gate_is_named(tmp_path: Path) -> None:
    base = (CONFIG_DIR / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(base.replace("gate: specification", "gate: lenient"))
    with pytest.raises(ConfigurationError, match="no policy 'lenient'; known: specification, low_prevalence"):
        parameters(PlatformSettings(fraud_config_dir=tmp_path))


def test_an_unknown_contract_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"FRAUD_CONTRACT: there is no contract .*found: creditcard"):
        contract(PlatformSettings(fraud_contract="nothing"))


def test_constants_need_the_standard_library_only() -> None:
    code = "from config import constants; print(constants.ENV_VARS.get('DB_HOST'))"
    root = CONFIG_DIR.parent
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=root, capture_output=True, text=True, check=True, env={}
    )
    assert done.stdout.strip() == "postgres"


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({}, "postgresql://fraud_readonly@postgres:5432/fraud_detection"),
        (
            {"DB_HOST": "db", "DB_PORT": "6432", "DB_NAME": "a b", "DB_PASSWORD_READONLY": "p@ss:/w#rd% "},
            "postgresql://fraud_readonly:p%40ss%3A%2Fw%23rd%25%20@db:6432/a%20b",
        ),
        (
            {"DATABASE_URL": "postgresql://fraud_readonly@pooler:1/x?y=z", "DB_PASSWORD_READONLY": "p"},
            "postgresql://fraud_readonly:p@pooler:1/x?y=z",
        ),
        (
            {"DATABASE_URL": "postgresql://fraud_readonly:own@db/x", "DB_PASSWORD_READONLY": "p"},
            "postgresql://fraud_readonly:own@db/x",
        ),
        (
            {"DATABASE_URL": "postgresql://fraud_trainer@db/x", "DB_PASSWORD_READONLY": "p"},
            "postgresql://fraud_trainer@db/x",
        ),
        (
            {"DB_PASSWORD_READONLY_FILE": "/etc/hostname"},
            "postgresql://fraud_readonly@postgres:5432/fraud_detection",
        ),
    ],
)
def test_dags_find_the_address_of_the_role_that_only_reads(environ: dict[str, str], address: str) -> None:
    assert constants.env_vars(environ)["DATABASE_URL"] == address


def test_the_password_of_that_role_may_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("p@ss\n")
    monkeypatch.setattr(constants, "_SECRETS", str(tmp_path))
    environ = {"DB_PASSWORD_READONLY_FILE": str(tmp_path / "password")}
    assert constants.env_vars(environ)["DATABASE_URL"].startswith("postgresql://fraud_readonly:p%40ss@")
    environ = {"DB_PASSWORD_READONLY_FILE": str(tmp_path / "none")}
    assert constants.env_vars(environ)["DATABASE_URL"].startswith("postgresql://fraud_readonly@")


@pytest.fixture
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in list(root.handlers):
        root.removeHandler(handler)
        if handler not in handlers:
            handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)


@pytest.mark.usefixtures("_restored_logging")
def test_logs_go_to_every_sink_without_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as syslog:
        syslog.bind(("127.0.0.1", 0))
        syslog.settimeout(5)
        settings = LogSettings(
            log_sinks=("stderr", "file", "syslog"),
            log_file=tmp_path / "logs" / "job.log",
            log_syslog_address=f"127.0.0.1:{syslog.getsockname()[1]}",
        )
        logs.configure(settings, "tester")
        logs.get_logger("unit").info("stored", rows=3, client_secret="hunter2")
        received = syslog.recv(4096).decode()
    printed = capsys.readouterr().err
    written = (tmp_path / "logs" / "job.log").read_text()
    for text in (printed, written, received):
        assert "hunter2" not in text
        entry = json.loads(text[text.index("{") : text.rindex("}") + 1])
        assert entry["event"] == "stored"
        assert (entry["rows"], entry["service"], entry["level"]) == (3, "tester", "info")


@pytest.mark.usefixtures("_restored_logging")
def test_a_log_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = LogSettings(log_sinks=("file",), log_file=tmp_path / "file" / "job.log")
    with pytest.raises(ConfigurationError, match="LOG_FILE"):
        logs.configure(settings, "tester")
