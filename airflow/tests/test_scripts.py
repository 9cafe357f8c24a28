"""The scripts' own rules: variables, options, and which logs are old."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from config.constants import DAGS_SUB_MINUTE

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
API = {"API_URL": "http://api:8000", "API_CLIENT_SECRET": "geheim-api"}
PASSWORD = {"AIRFLOW_PASSWORD": "geheim-password", "AIRFLOW_TRAIN_PASSWORD": "geheim-train"}


def load(name: str) -> dict[str, Any]:
    """A script's functions."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        return runpy.run_path(str(SCRIPTS / f"{name}.py"))
    finally:
        sys.path.remove(str(SCRIPTS))


def script(name: str, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a script with nothing but these variables in its environment."""
    return subprocess.run(
        [sys.executable, str(SCRIPTS / f"{name}.py"), *options],
        env={name: os.environ[name] for name in ("PATH", "AIRFLOW_HOME")}
        | {"PYTHONPATH": str(SCRIPTS.parents[1]), **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("dags list-runs -d X --state success", "dags list-runs X --state success"),
        ("dags list-runs --dag-id=X", "dags list-runs X"),
        ("dags list-runs --dag-id X -o json", "dags list-runs X -o json"),
        ("dags list-runs X", "dags list-runs X"),
        ("dags list-runs --state failed -d X", "dags list-runs --state failed X"),
        ("dags list -d X", "dags list -d X"),
        ("tasks list -d X", "tasks list -d X"),
        ("", ""),
    ],
)
def test_options_of_airflow_2_are_taken(given: str, taken: str) -> None:
    assert load("airflow_cli")["translated"](given.split()) == taken.split()


@pytest.mark.parametrize(
    ("name", "wrong", "sentence"),
    [
        ("initialise", {"AIRFLOW_PASSWORD": ""}, "AIRFLOW_PASSWORD is not set: set it to"),
        ("initialise", {"AIRFLOW_TRAIN_PASSWORD": ""}, "AIRFLOW_TRAIN_PASSWORD is not set: set it to"),
        ("initialise", {"API_URL": ""}, "API_URL is not set: set it to the address of the scoring API"),
        ("initialise", {"API_URL": "api:8000"}, "API_URL is not an http or https address: set it to one"),
        ("initialise", {"API_URL": "http://api:port"}, "API_URL is not an http or https address"),
        ("initialise", {"API_CLIENT_SECRET": ""}, "API_CLIENT_SECRET is not set: set it to the secret"),
        ("initialise", {"SMTP_HOST": "mail", "SMTP_PORT": "x"}, "SMTP_PORT is x: set a port number"),
        ("initialise", {"SMTP_HOST": "mail", "SMTP_PORT": "70000"}, "SMTP_PORT is 70000: set a port"),
        ("initialise", {"SMTP_HOST": "mail", "SMTP_SECURITY": "tls"}, "SMTP_SECURITY is tls: set it to"),
        ("initialise", {"SLACK_WEBHOOK_URL": "hooks/geheim"}, "SLACK_WEBHOOK_URL is not an http or https"),
        ("setup_connections", {"API_URL": ""}, "API_URL is not set"),
        ("setup_api_connection", {"API_CLIENT_SECRET": ""}, "API_CLIENT_SECRET is not set"),
        ("setup_smtp_connection", {"SMTP_HOST": "mail", "SMTP_PORT": "0"}, "SMTP_PORT is 0"),
    ],
)
def test_a_wrong_variable_is_one_sentence_before_anything_is_changed(
    name: str, wrong: dict[str, str], sentence: str
) -> None:
    done = script(name, **PASSWORD | API | wrong)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1
    assert "geheim" not in done.stderr


def test_connections_as_the_environment_describes_them() -> None:
    mail = {"SMTP_HOST": "mail", "SMTP_USER": "u", "SMTP_PASSWORD": "p", "SMTP_SECURITY": "ssl"}
    slack = {"SLACK_WEBHOOK_URL": "https://hooks.slack.example/geheim"}
    made = {one.conn_id: one for one in load("setup_connections")["connections_from"](API | mail | slack)}
    assert set(made) == {"fraud_api", "fraud_smtp", "fraud_slack"}
    api, smtp = made["fraud_api"], made["fraud_smtp"]
    assert (api.host, api.port, api.schema, api.login, api.password) == (
        "api",
        8000,
        "http",
        "airflow",
        "geheim-api",
    )
    assert (smtp.host, smtp.port, smtp.login, smtp.password) == ("mail", 587, "u", "p")
    assert (smtp.extra["disable_ssl"], smtp.extra["disable_tls"]) == (False, True)
    assert made["fraud_slack"].password == slack["SLACK_WEBHOOK_URL"]
    assert "geheim" not in repr(made)


def test_what_is_not_configured_is_not_made() -> None:
    assert [one.conn_id for one in load("setup_connections")["connections_from"](API)] == ["fraud_api"]


def test_https_has_its_own_port() -> None:
    environ = API | {"API_URL": "https://api.example"}
    assert load("setup_api_connection")["api_connection"](environ).port == 443


def test_old_logs_go_by_the_dag_they_belong_to(tmp_path: Path) -> None:
    often, seldom = DAGS_SUB_MINUTE[0], "00_token_renewal"
    ages = {
        f"dag_id={often}/run_id=1/task_id=a/attempt=1.log": 25,
        f"dag_id={often}/run_id=2/task_id=a/attempt=1.log": 23,
        f"dag_id={seldom}/run_id=1/task_id=a/attempt=1.log": 25,
        f"dag_id={seldom}/run_id=2/task_id=a/attempt=1.log": 24 * 8,
        "dag_processor/2026-01-01/dags/a.log": 25,
        "dag_processor/2026-01-02/dags/a.log": 23,
    }
    for name, hours in ages.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text("text", encoding="utf-8")
        at = (NOW - timedelta(hours=hours)).timestamp()
        os.utime(path, (at, at))
    removed = load("clean_metadata")["remove_logs"](
        tmp_path, NOW - timedelta(hours=24), NOW - timedelta(days=7)
    )
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.log")}
    assert left == {
        f"dag_id={often}/run_id=2/task_id=a/attempt=1.log",
        f"dag_id={seldom}/run_id=1/task_id=a/attempt=1.log",
        "dag_processor/2026-01-02/dags/a.log",
    }
    assert removed == 3


def test_folders_left_empty_go_and_new_ones_stay(tmp_path: Path) -> None:
    old, new = tmp_path / "dag_id=a" / "run_id=1", tmp_path / "dag_id=b" / "run_id=1"
    for folder in (old, new):
        folder.mkdir(parents=True)
    long_ago = (datetime.now(UTC) - timedelta(hours=2)).timestamp()
    os.utime(old, (long_ago, long_ago))
    load("clean_metadata")["remove_logs"](tmp_path, NOW, NOW)
    assert new.exists()
    assert not old.exists()


def clean(tmp_path: Path, *said: str) -> subprocess.CompletedProcess[str]:
    """A cleaning where Airflow's command cannot clean these tables at its first, its second … call."""
    package = tmp_path / "airflow"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "calls = Path(__file__).with_name('calls')\n"
        "number = len(calls.read_text().splitlines()) if calls.exists() else 0\n"
        "with calls.open('a') as file: print(*sys.argv[1:], file=file)\n"
        f"failed = {list(said)!r}[number]\n"
        "sys.exit(f'encountered errors and did not clean them: [{failed}]. Check.' if failed else 0)\n",
        encoding="utf-8",
    )
    logs = tmp_path / "logs"
    logs.mkdir()
    path = os.pathsep.join([str(tmp_path), str(SCRIPTS.parents[1])])
    return script("clean_metadata", PYTHONPATH=path, AIRFLOW__LOGGING__BASE_LOG_FOLDER=str(logs))


def test_a_part_that_fails_is_said_and_the_rest_is_cleaned(tmp_path: Path) -> None:
    done = clean(tmp_path, "'dag_run', 'deadline'", "")
    assert done.returncode == 1
    assert "failed with exit code 1" in done.stderr
    assert "'dag_run'" in done.stderr
    often, all_dags = (tmp_path / "airflow" / "calls").read_text(encoding="utf-8").splitlines()
    assert f"--dag-ids {','.join(DAGS_SUB_MINUTE)}" in often
    assert "--dag-ids" not in all_dags


def test_what_goes_with_its_runs_is_no_failure(tmp_path: Path) -> None:
    done = clean(tmp_path, "'deadline'", "")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["AIRFLOW_KEEP_DAYS", "AIRFLOW_KEEP_SUB_MINUTE_HOURS"])
@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "inf", "1e300"])
def test_a_retention_that_is_no_number_removes_nothing(tmp_path: Path, name: str, value: str) -> None:
    (tmp_path / "old.log").write_text("text", encoding="utf-8")
    os.utime(tmp_path / "old.log", (0, 0))
    logs = {"AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(tmp_path)}
    done = script("clean_metadata", **{name: value}, **logs)
    assert (done.returncode, done.stderr) == (
        2,
        f"{name} is {value}: set a number above 0 and at most 100000.\n",
    )
    assert (tmp_path / "old.log").exists()


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("30m", 1800), ("1h", 3600), ("2d", 172800)])
def test_times_between_two_cleanings(text: str, seconds: float) -> None:
    assert load("clean_metadata")["_seconds"](text) == seconds


@pytest.mark.parametrize("text", ["0m", "1", "h", "-1h", "1.5h", "1w", "", "٣m", "99999d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    done = script("clean_metadata", f"--every={text}")
    assert done.returncode == 2
    assert f"must be a span from 1s to 9999d, such as 30m or 1h, not {text!r}" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_waiting_at_once(number: signal.Signals) -> None:
    waiting = subprocess.Popen(
        [sys.executable, str(SCRIPTS / "clean_metadata.py"), "--every", "30d"],
        env={"PYTHONPATH": str(SCRIPTS.parents[1])},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "cleaning every 2592000 s\n"
    waiting.send_signal(number)
    assert waiting.wait(60) == 0
    waiting.stdout.close()


@pytest.mark.timeout(30)
def test_a_signal_that_comes_when_the_waiting_begins_is_not_lost() -> None:
    """The main thread holds the event's lock then, and runs the handler."""
    source = (
        "import signal; from termination import termination_event; asked = termination_event()\n"
        "with asked._cond: signal.raise_signal(signal.SIGTERM)\n"
        "assert asked.wait(20)"
    )
    subprocess.run([sys.executable, "-c", source], env={"PYTHONPATH": str(SCRIPTS)}, check=True, timeout=25)


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({}, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN is not set: the watch reads Airflow's database."),
        (
            {"AIRFLOW_WATCH_METRICS_PORT": "http"},
            "AIRFLOW_WATCH_METRICS_PORT is http: set a port number, such as 8003.",
        ),
    ],
)
def test_a_watch_that_cannot_begin_says_why(environ: dict[str, str], sentence: str) -> None:
    done = script("watch_dags", **environ)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{sentence}\n")
