"""What the callbacks and the operator make of a task's context."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.execution_time import comms

from config import constants
from fraud_airflow.alerting.callbacks import on_failure, on_run_failure, on_success
from operators.alert_operator import FraudDetectionAlertOperator

KEY = "a_dag/a_task"
WEBHOOK = "/services/the-webhook-s-secret"


def context(error: Any = None, *, tags: tuple[str, ...] = ()) -> Any:
    ti = SimpleNamespace(
        dag_id="a_dag", task_id="a_task", run_id="run-1", try_number=3, log_url="http://airflow/log"
    )
    return {"ti": ti, "dag": SimpleNamespace(tags=set(tags)), "exception": error}


@pytest.fixture
def slack(http_server: Any, supervisor: Any) -> Any:
    """A webhook that takes messages; gives their texts."""
    http_server.reply = lambda _request: (200, b"ok")
    supervisor.connections["fraud_slack"] = {
        "conn_type": "slackwebhook",
        "password": http_server.url + WEBHOOK,
    }
    return lambda: [request.json["text"] for request in http_server.asked(WEBHOOK)]


def test_a_failure_and_that_it_works_again(slack: Any, supervisor: Any) -> None:
    on_failure(context(AirflowException("The API is away.")))
    assert slack() == [
        "*[high] a_dag: a_task failed*\nAirflowException: The API is away.\n\nRun run-1, try 3.\n"
        "<http://airflow/log|Log>"
    ]
    on_failure(context(AirflowException("The API is away.")))
    on_success(context())
    assert slack()[1:] == [slack()[-1]]
    assert slack()[-1].startswith("*[resolved] a_dag: a_task failed*\nIt had happened 2 times within 0 s: ")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (None, "It was killed, or its process was lost, so it could not report a reason."),
        (ValueError(""), "ValueError"),
        ("a sentence", "a sentence"),
        (ValueError("x" * 5000), "ValueError: " + "x" * 1000 + "\n\nRun"),
    ],
)
def test_what_is_said_of_the_error(error: Any, text: str, slack: Any) -> None:
    on_failure(context(error))
    assert slack()[0].splitlines()[1] == text.splitlines()[0]


def test_a_critical_dag_s_failure_is_critical(slack: Any) -> None:
    on_failure(context(tags=("critical", "daily")))
    assert slack()[0].startswith("*[critical] a_dag: a_task failed*")


def run_context(reason: str, *, dated: timedelta | None = None, task: bool = True, **options: Any) -> Any:
    """As the DAG processor gives it: without a task where the run has none that has not ended."""
    made: dict[str, Any] = {"run_id": "run-1", "reason": reason}
    if task:
        made |= context(**options)
        made["dag_run"] = SimpleNamespace(logical_date=dated and datetime.now(UTC) + dated)
    tags = {"critical"} if options.get("tags") else set()
    made["dag"] = SimpleNamespace(dag_id="a_dag", tags=tags, dagrun_timeout=timedelta(minutes=5))
    return made


def test_a_run_that_was_given_up_and_that_its_task_works_again(slack: Any) -> None:
    on_run_failure(run_context("timed_out"))
    assert slack() == [
        "*[high] a_dag: a run was given up*\nIt had not ended after 0:05:00 (dagrun_timeout); the next one "
        "may begin.\n\nRun run-1, task a_task."
    ]
    on_success(context())
    assert slack()[-1].startswith("*[resolved] a_dag: a run was given up*")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"reason": "timed_out", "dated": timedelta(hours=1)},
            "is in the future: until then none of its tasks starts.",
        ),
        ({"reason": "timed_out", "dated": timedelta(hours=-1)}, "the next one may begin.\n"),
        ({"reason": "timed_out", "task": False}, "Run run-1."),
        ({"reason": "all_tasks_deadlocked"}, "None of its tasks can go on (all_tasks_deadlocked)."),
        ({"reason": "timed_out", "tags": ("critical",)}, "*[critical] a_dag: "),
    ],
)
def test_what_is_said_of_a_run(options: dict[str, Any], said: str, slack: Any) -> None:
    on_run_failure(run_context(**options))
    [told] = slack()
    assert said in told


def test_a_task_that_failed_has_told_already(slack: Any, supervisor: Any) -> None:
    on_run_failure(run_context("task_failure"))
    assert (slack(), supervisor.messages) == ([], [])


def test_a_success_costs_one_read(supervisor: Any) -> None:
    on_success(context())
    asked = [message for message in supervisor.messages if not isinstance(message, comms.MaskSecret)]
    assert [type(message) for message in asked] == [comms.GetVariable]


def test_the_callbacks_import_nothing_that_costs() -> None:
    """Every task of every DAG imports them; what sends is imported when there is something to send."""
    script = (
        "import sys, airflow.sdk; from airflow.sdk import Variable, BaseOperator; before = set(sys.modules);"
        "import fraud_airflow.alerting.callbacks, operators.alert_operator;"
        "print(*sorted(name for name in set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    new = set(done.stdout.split())
    ours = {"fraud_airflow", "fraud_airflow.alerting", "operators", "operators.alert_operator"}
    assert new == ours | {"fraud_airflow.alerting.callbacks"}


@pytest.mark.parametrize("broken", [on_failure, on_success])
def test_a_callback_that_fails_does_not_raise(
    broken: Any, monkeypatch: pytest.MonkeyPatch, supervisor: Any, caplog: pytest.LogCaptureFixture
) -> None:
    broken({})
    assert "The callback failed; the task's state is not affected." in caplog.text


def test_mail_needs_recipients_only(
    supervisor: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(constants.ENV_VARS, "ALERT_EMAIL_RECIPIENTS", " a@b.example ")
    on_failure(context())
    assert "Not sent by e-mail: The mail server of the connection fraud_smtp: SMTP conn" in caplog.text


@pytest.mark.parametrize("wrong", ["soon", "0", "nan", "10081", ""])
def test_a_window_that_is_no_number_does_not_lose_the_alert(
    wrong: str, slack: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(constants.ENV_VARS, "ALERT_REPEAT_MINUTES", wrong)
    on_failure(context())
    assert len(slack()) == 1
    assert f"ALERT_REPEAT_MINUTES: {wrong!r} is not a number of minutes from 1 to 10080" in caplog.text


# --- the operator ---------------------------------------------------------------------------------


def _operator(**options: Any) -> FraudDetectionAlertOperator:
    return FraudDetectionAlertOperator(task_id="tell", title="Drift", text="PSI 0.4", **options)


def test_the_operator_tells_once_and_that_it_is_over(slack: Any) -> None:
    assert _operator(key="drift", severity="medium").execute(context()) == ["Slack"]
    assert _operator(key="drift", severity="medium").execute(context()) == []
    assert _operator(key="drift", resolves=True).execute(context()) == ["Slack"]
    assert _operator(key="drift", resolves=True).execute(context()) == []
    first, last = slack()
    assert first == "*[medium] Drift*\nPSI 0.4\n<http://airflow/log|Log>"
    assert last.startswith("*[resolved] Drift*\nIt had happened 2 times")


def test_the_operator_s_own_key(slack: Any, supervisor: Any) -> None:
    _operator().execute(context())
    on_success(context())
    assert slack()[-1].startswith("*[resolved] Drift*")


def test_a_severity_that_is_none(slack: Any) -> None:
    with pytest.raises(
        AirflowFailException, match=r"severity: 'urgent' is not one of medium, high, critical\.$"
    ):
        _operator(severity="urgent").execute(context())


def test_a_channel_that_fails_does_not_fail_the_task(
    slack: Any, http_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    http_server.reply = lambda _request: (403, b"invalid_token")
    assert _operator().execute(context()) == []
    assert "Not sent by Slack: Slack answered 403, invalid_token" in caplog.text
    assert "secret" not in caplog.text
