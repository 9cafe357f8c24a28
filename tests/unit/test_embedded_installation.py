"""What `make demo` writes and reads before anything is started."""

import base64
import json
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from config import constants, services
from config.settings import ConfigurationError
from fraud_embedded import operations
from fraud_embedded.addresses import Addresses
from fraud_embedded.installation import (
    ROOT,
    Layout,
    ensure_dotenv,
    read_settings,
)
from fraud_embedded.platform import configure
from fraud_embedded.servers import account
from fraud_launcher.dotenv import parse, with_random_secrets


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / ".env.example").write_text((ROOT / ".env.example").read_text())
    return Layout(tmp_path, tmp_path / ".local")


def test_the_first_start_writes_private_random_secrets(layout: Layout) -> None:
    ensure_dotenv(layout)
    assert stat.S_IMODE(layout.env_file.stat().st_mode) == 0o600
    values = parse(layout.env_file.read_text())
    assert "change-me" not in "".join(values.values())
    secrets = [value for name, value in values.items() if "PASSWORD" in name]
    assert len(secrets) == len(set(secrets)) >= 7
    assert min(map(len, secrets)) >= 32
    assert len({values[f"API_CLIENT_SECRET_{client.upper()}"] for client in constants.API_CLIENTS}) == 4


def test_two_installations_share_no_secret(layout: Layout) -> None:
    template = (layout.root / ".env.example").read_text()
    first, second = (set(parse(with_random_secrets(template)).values()) for _ in range(2))
    assert not {value for value in first & second if len(value) >= 32}


def test_the_same_mark_becomes_the_same_secret_and_comments_stay() -> None:
    content = with_random_secrets("# change-me\nA=x:change-me-one\nB=change-me-one\nC=change-me-two\n")
    values = parse(content)
    assert content.startswith("# change-me\n")
    assert values["A"] == f"x:{values['B']}"
    assert values["B"] != values["C"]


def test_what_is_set_is_kept_and_what_is_missing_is_added(layout: Layout) -> None:
    layout.env_file.write_text("DB_PASSWORD=mine\nAPP_ENV=testing")
    written = ensure_dotenv(layout)
    values = parse(layout.env_file.read_text())
    assert values["DB_PASSWORD"] == "mine"
    assert values["APP_ENV"] == "testing"
    assert {"POSTGRES_PASSWORD", *map(services.mlflow_password, services.mlflow_users())} <= set(written)
    assert "change-me" not in values["POSTGRES_PASSWORD"]
    assert ensure_dotenv(layout) == []


def test_site_choices_of_the_environment_win_but_its_secrets_do_not_count(layout: Layout) -> None:
    layout.env_file.write_text("APP_ENV=development\nAWS_SECRET_ACCESS_KEY=ours\n")
    settings = read_settings(layout, {"APP_ENV": "testing", "AWS_SECRET_ACCESS_KEY": "somebody's"})
    assert settings == {"APP_ENV": "testing", "AWS_SECRET_ACCESS_KEY": "ours"}


def test_without_dotenv_the_sentence_says_what_to_run(layout: Layout) -> None:
    with pytest.raises(ConfigurationError, match=r"run \./fraud demo"):
        read_settings(layout, {})


def test_sockets_of_a_deep_directory_go_to_a_short_one(tmp_path: Path) -> None:
    deep = Layout(tmp_path, tmp_path / ("d" * 90))
    assert len(str(deep.run)) < 80
    assert deep.run == Layout(tmp_path, tmp_path / ("d" * 90)).run
    assert deep.run != Layout(tmp_path, tmp_path / ("e" * 90)).run


def test_directories_with_secrets_are_private(layout: Layout) -> None:
    layout.make()
    layout.make()
    assert stat.S_IMODE(layout.local.stat().st_mode) == 0o711
    for directory in (layout.run, layout.logs, layout.models):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_an_ordinary_user_runs_the_database_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert account.database_account() is None


def test_root_takes_an_account_that_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert account.database_account() in {"postgres", "nobody"}


def test_a_closed_parent_directory_is_noticed(tmp_path: Path) -> None:
    open_directory = tmp_path / "open"
    open_directory.mkdir(mode=0o755)
    # pytest's own directories are closed to others.
    tmp_path.chmod(0o700)
    before = [parent.stat().st_mode for parent in open_directory.parents]
    assert not account.can_enter(open_directory, "nobody")
    assert account.can_enter(Path("/"), "nobody")
    assert [parent.stat().st_mode for parent in open_directory.parents] == before


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "link").symlink_to(elsewhere)
    with pytest.raises(account.NoUsableDirectory, match="does not belong"):
        account.own(tmp_path / "link", None)


@pytest.fixture
def settings(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of an installation with a .env of its own; it needs no account for the database."""
    monkeypatch.setattr(account, "database_account", lambda: None)
    layout.local.mkdir()
    ensure_dotenv(layout)
    return read_settings(layout, {})


def test_every_role_of_the_database_has_a_password_in_the_example() -> None:
    values = parse((ROOT / ".env.example").read_text())
    for service in constants.SERVICE_ROLES:
        assert f"DB_PASSWORD_{service.upper()}" in values


def test_the_follower_is_known_beside_the_servers_and_gets_its_own_roles_secrets(
    layout: Layout, settings: dict[str, str]
) -> None:
    platform = configure(layout, Addresses(100), settings)
    assert "follower" in platform.specs()
    spec = platform.follower_spec()
    assert spec.argv[1:] == ("-m", "fraud_streaming", "run", "--follow")
    assert spec.env["STREAM_METRICS_PORT"] == "8102"
    others = {name for name in settings if name.startswith("DB_PASSWORD")} - {"DB_PASSWORD_STREAMING"}
    assert not [name for name in others if settings[name] in " ".join(spec.env.values())]


def test_each_process_of_airflow_gets_its_own_secrets_only(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "database_account", lambda: None)
    layout.local.mkdir()
    ensure_dotenv(layout)
    settings = read_settings(layout, {}) | {"SMTP_PASSWORD": "of the mail server"}
    specs = configure(layout, Addresses(100), settings).specs()

    def holders(secret: str) -> set[str]:
        environments = {name: " ".join(spec.env.values()) for name, spec in specs.items()}
        return {
            name
            for name in environments
            if name.startswith("airflow") and settings[secret] in environments[name]
        }

    everyone = {"airflow-webserver", "airflow-scheduler", "airflow-dag-processor"}
    everyone |= {"airflow-cleanup", "airflow-watch"}
    assert holders("AIRFLOW_DB_PASSWORD") == everyone
    assert holders("AIRFLOW_JWT_SECRET") == {"airflow-webserver", "airflow-scheduler"}
    assert holders("DB_PASSWORD_STREAMING") == holders("DB_PASSWORD_PRODUCER") == {"airflow-scheduler"}
    assert holders("MLFLOW_RELEASE_PASSWORD") == holders("MLFLOW_TRAINER_PASSWORD") == {"airflow-scheduler"}
    for secret in (
        *("POSTGRES_PASSWORD", "DB_PASSWORD", "DB_PASSWORD_API", "API_KEY_ENCRYPTION_SECRET"),
        *("MLFLOW_ADMIN_PASSWORD", "MLFLOW_API_PASSWORD", "MLFLOW_PERSON_PASSWORD"),
    ):
        assert not holders(secret)
    assert not holders("SMTP_PASSWORD")
    assert not holders("AIRFLOW_PASSWORD")


def test_each_process_logs_in_to_mlflow_as_its_own_user(layout: Layout, settings: dict[str, str]) -> None:
    platform = configure(layout, Addresses(0), settings | {"MLFLOW_PERSON_RELEASES": "1"})
    users = {"trainer": "trainer", "api": "api", "operator": "person", "airflow": "release"}
    for role, user in users.items():
        environment = platform.environment(role)
        assert environment["MLFLOW_TRACKING_USERNAME"] == user
        assert environment["MLFLOW_TRACKING_PASSWORD"] == settings[services.mlflow_password(user)]
    server = platform.specs()["mlflow"].env
    assert {name: server[name] for name in map(services.mlflow_password, services.mlflow_users())} == {
        name: settings[name] for name in map(services.mlflow_password, services.mlflow_users())
    }
    assert server["MLFLOW_PERSON_RELEASES"] == "1"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Addresses and log-ins of another platform, exported in the shell."""
    hosts = dict.fromkeys(("DB_HOST", "API_HOST", "API_METRICS_HOST", "STREAM_METRICS_HOST"), "elsewhere")
    hosts |= {
        "DATABASE_URL": "postgresql://elsewhere/x",
        "KAFKA_BOOTSTRAP_SERVERS": "elsewhere:9092",
        "MLFLOW_TRACKING_URI": "http://elsewhere:5000",
        "S3_ENDPOINT_URL": "http://elsewhere:8333",
        "API_URL": "http://elsewhere:8000",
        "AWS_ACCESS_KEY_ID": "elsewhere",
        "REDIS_PASSWORD": "elsewhere",
    }
    for name, value in hosts.items():
        monkeypatch.setenv(name, value)
    return hosts


def test_no_host_of_the_file_or_the_shell_reaches_a_process(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, elsewhere: dict[str, str], tmp_path: Path
) -> None:
    monkeypatch.setattr(account, "database_account", lambda: None)
    layout.local.mkdir()
    own = {name: value for name, value in elsewhere.items() if name != "AWS_ACCESS_KEY_ID"}
    layout.env_file.write_text("".join(f"{name}={value}\n" for name, value in own.items()))
    ensure_dotenv(layout)
    platform = configure(layout, Addresses(100), read_settings(layout, os.environ))

    def leaked(environment: Mapping[str, str]) -> set[str]:
        return {name for name, value in environment.items() if "elsewhere" in value}

    for spec in platform.specs().values():
        assert not leaked(spec.environment()), spec.name
    recorded = tmp_path / "environment.json"
    dump = (
        f"import json, os, pathlib; pathlib.Path({str(recorded)!r}).write_text(json.dumps(dict(os.environ)))"
    )
    for role in ("bootstrap", "migrate", "producer", "streaming", "trainer", "api", "operator"):
        assert not leaked(platform.environment(role)), role
        assert operations.execute(platform, role, [sys.executable, "-c", dump]) == 0
        assert leaked(json.loads(recorded.read_text())) <= {"REDIS_PASSWORD", "STREAM_METRICS_HOST"}, role


def test_a_client_with_two_secrets_stops_the_start(layout: Layout, settings: dict[str, str]) -> None:
    environment = configure(layout, Addresses(0), settings | {"API_KEYS": "guest:theirs"}).environment("api")
    assert environment["API_KEYS"] == "guest:theirs"
    assert environment["API_CLIENT_SECRET_ADMIN"] == settings["API_CLIENT_SECRET_ADMIN"]
    with pytest.raises(ConfigurationError, match="API_CLIENT_SECRET_ADMIN"):
        configure(layout, Addresses(0), settings | {"API_KEYS": "admin:another"}).specs()


def test_a_bucket_known_to_both_has_the_secret_of_the_file(layout: Layout, settings: dict[str, str]) -> None:
    store = configure(layout, Addresses(0), settings).stack.objectstore
    runs, mlflow, broker = (
        store.bucket_environment(bucket)["AWS_SECRET_ACCESS_KEY"]
        for bucket in (constants.BUCKET_RUNS, constants.BUCKET_MLFLOW, constants.BUCKET_BROKER)
    )
    assert runs == settings["RUNS_AWS_SECRET_ACCESS_KEY"]
    assert mlflow == settings["MLFLOW_AWS_SECRET_ACCESS_KEY"]
    assert broker not in settings.values()


def test_a_key_is_made_where_the_template_asks_for_one() -> None:
    values = parse(with_random_secrets((ROOT / ".env.example").read_text()))
    assert len(base64.urlsafe_b64decode(values["AIRFLOW_FERNET_KEY"])) == 32


def test_following_needs_a_running_platform(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert operations.follow(layout, {}, end=False) == operations.NOT_RUNNING
    assert "./fraud demo starts it" in capsys.readouterr().out


# What a program holds, None for a folder; its mode; how running it ends, and what is said.
PROGRAMS = [
    ("#!/bin/sh\nexit 7\n", 0o755, 7, ""),
    ("#!/bin/sh\nkill -TERM $$\n", 0o755, 128 + 15, ""),
    ("#!/bin/sh\nkill -KILL $$\n", 0o755, 128 + 9, ""),
    ("words\n", 0o644, 126, "cannot be run: Permission denied"),
    ("words\n", 0o755, 126, "cannot be run: Exec format error"),
    (None, 0o755, 126, "cannot be run: Permission denied"),
]


def test_a_command_ends_as_in_a_shell(
    settings: Mapping[str, str], layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    platform = configure(layout, Addresses(0), settings)
    for number, (content, mode, code, message) in enumerate(PROGRAMS):
        program = layout.root / f"program-{number}"
        if content is None:
            program.mkdir()
        else:
            program.write_text(content)
            program.chmod(mode)
        assert operations.execute(platform, "operator", [str(program)]) == code
        assert capsys.readouterr().err == (f"{program}: {message}\n" if message else "")
    assert operations.execute(platform, "operator", ["no-such-program"]) == 127
    assert capsys.readouterr().err == "no-such-program: command not found\n"
