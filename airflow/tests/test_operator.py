"""FraudDockerOperator: a job's end as Airflow understands it, and no secret anywhere."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.docker.operators.docker import DockerOperator
from airflow.sdk import DAG, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from fraud_airflow.runners.launcher import process_start
from operators.docker_operator_custom import FraudDockerOperator

SECRET = "postgresql://fraud_producer:geheim@127.0.0.1/fraud"
JOB = "import json, os, sys, time\nfrom pathlib import Path\nresult = Path(os.environ['RESULT_PATH'])\n"
CONTEXT: Any = {
    "ti": SimpleNamespace(dag_id="the_dag", task_id="make", run_id="the_run", map_index=-1, try_number=1)
}
Write = Callable[[str], None]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    for name, value in {
        "JOB_RUNNER": "process",
        "JOB_PYTHON": sys.executable,
        "JOB_CWD": str(tmp_path),
        "JOB_RUN_DIR": str(tmp_path / "run"),
        "DATABASE_URL": "postgresql://worker:everything@127.0.0.1/fraud",
        "DATABASE_URL_PRODUCER": SECRET,
    }.items():
        monkeypatch.setenv(name, value)

    def write(source: str) -> None:
        (tmp_path / "fraud_producer.py").write_text(JOB + source, encoding="utf-8")

    return write


def operator(**given: Any) -> FraudDockerOperator:
    return FraudDockerOperator(**({"task_id": "make", "service": "producer", "verb": "generate"} | given))


def execute(task: FraudDockerOperator) -> dict[str, Any]:
    """As the task runner does, without the guard against calling it from a DAG."""
    result: dict[str, Any] = FraudDockerOperator.execute.__wrapped__(task, CONTEXT)  # type: ignore[attr-defined]
    return result


def test_the_result_is_the_return_value(job: Write) -> None:
    job("result.write_text(json.dumps({'argv': sys.argv[1:], 'seed': os.environ['SEED']}))")
    task = operator(arguments=["--count", 5], environment={"SEED": 7})
    assert execute(task) == {"argv": ["generate", "--count", "5"], "seed": "7"}


def test_arguments_and_environment_are_templates(job: Write) -> None:
    job("result.write_text(json.dumps({'argv': sys.argv[1:], 'seed': os.environ['SEED']}))")
    task = operator(arguments=["--run-id", "{{ run }}"], environment={"SEED": "{{ 3 + 4 }}"})
    task.render_template_fields(Context(run="r 1"))  # type: ignore[typeddict-unknown-key]
    assert execute(task) == {"argv": ["generate", "--run-id", "r 1"], "seed": "7"}


def test_a_job_log_is_shown_readably_at_its_own_level(
    job: Write, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = json.dumps({"event": "sent", "level": "warning", "rows": 50, "timestamp": "now"})
    job(f"print({line!r}); print('plain'); result.write_text('{{}}')")
    monkeypatch.setattr(FraudDockerOperator, "log", logging.getLogger("shown"))
    with caplog.at_level(logging.INFO):
        execute(operator())
    shown = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "shown"]
    assert shown == [("WARNING", "sent rows=50"), ("INFO", "plain")]


def test_nothing_to_do_skips_with_the_jobs_reason(job: Write) -> None:
    job("result.write_text(json.dumps({'reason': 'a follower is at work'})); sys.exit(99)")
    with pytest.raises(AirflowSkipException, match=r"^a follower is at work$"):
        execute(operator())


def test_a_wrong_configuration_is_not_tried_again(job: Write) -> None:
    job("print('starting'); print('configuration: KAFKA_TOPIC is wrong: name one.'); sys.exit(2)")
    with pytest.raises(AirflowFailException, match=r"^producer generate: KAFKA_TOPIC is wrong: name one.$"):
        execute(operator())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "result.write_text(json.dumps({'error': 'Kafka is gone.'})); print('x'); sys.exit(1)",
            "Kafka is gone.",
        ),
        ("print('failed: the last line', file=sys.stderr); print(); sys.exit(1)", "the last line"),
        ("raise RuntimeError('odd')", "RuntimeError: odd"),
        ("sys.exit(1)", "it gave no reason."),
    ],
)
def test_a_failure_says_why_in_one_sentence(job: Write, source: str, message: str) -> None:
    job(source)
    with pytest.raises(AirflowException) as failed:
        execute(operator())
    assert str(failed.value) == f"producer generate failed (exit code 1): {message}"
    assert type(failed.value) is AirflowException, "it may be tried again"
    assert failed.value.__cause__ is None


def test_what_a_rule_refuses_is_not_tried_again(job: Write) -> None:
    job("result.write_text(json.dumps({'error': 'The gate failed.', 'failure': 'refused'})); sys.exit(1)")
    with pytest.raises(AirflowFailException, match=r"\(exit code 1\): The gate failed"):
        execute(operator())


def test_an_argument_that_renders_to_nothing_is_left_out(job: Write) -> None:
    job("result.write_text(json.dumps({'argv': sys.argv[1:]}))")
    task = operator(arguments=["--count", "5", "{{ '--force' if params.force }}", "--seed=1"])
    for force, expected in ((True, ["--force", "--seed=1"]), (False, ["--seed=1"])):
        task.command = operator(arguments=["--count", "5", "--force" if force else "", "--seed=1"]).command
        assert execute(task)["argv"][-len(expected) - 2 :] == ["--count", "5", *expected]


def test_a_signal_is_named(job: Write) -> None:
    job("os.kill(os.getpid(), 9)")
    with pytest.raises(AirflowException, match=r"^producer generate failed \(signal 9\)"):
        execute(operator())


@pytest.mark.parametrize(
    ("source", "problem"), [("", "it wrote no result"), ("result.write_text('x')", "not JSON")]
)
def test_a_result_that_cannot_be_handed_on_is_a_failure(job: Write, source: str, problem: str) -> None:
    job(source)
    with pytest.raises(AirflowException, match=rf"^producer generate succeeded, but .*{problem}"):
        execute(operator())


def test_secrets_reach_the_job_alone(job: Write, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    job(f"assert os.environ['DATABASE_URL'] == {SECRET!r}\nprint('started')\nresult.write_text('{{}}')")
    task = operator(single="producer")
    execute(task)
    logged = capfd.readouterr().out
    assert "started" in logged
    kept = repr(vars(task)) + repr(vars(task._runner)) + logged
    kept += "".join(path.read_text() for path in (tmp_path / "run").iterdir())
    assert "geheim" not in kept
    assert "***" not in kept


@pytest.mark.parametrize("name", ["DATABASE_URL_PRODUCER", "JOB_RUNNER", "JOB_PYTHON", "JOB_RUN_DIR"])
def test_a_wrong_installation_is_named_and_not_tried_again(
    job: Write, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    job("")
    monkeypatch.delenv(name)
    with pytest.raises(AirflowFailException, match=name):
        execute(operator())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"service": "batches"}, "^service: "),
        ({"environment": {"DATABASE_URL": "x"}}, "^environment: DATABASE_URL "),
        ({"environment": {"RESULT_PATH": "x"}}, "^environment: RESULT_PATH "),
        ({"environment": "A=b"}, "^environment: "),
        ({"arguments": "--count 5"}, "^arguments: "),
        ({"single": "../x"}, "^single: "),
        ({"service": None}, "^service: name a service and its verb, or an image and its command"),
        ({"verb": None}, "^service: "),
        ({"private_environment": {"RESULT_PATH": "x"}}, "^environment: RESULT_PATH "),
        ({"privileged": True}, "^privileged: jobs do not set this"),
        ({"mounts": [{"target": "/x", "source": "v", "type": "volume"}]}, "^mounts: "),
        ({"mount_tmp_dir": True}, "^mount_tmp_dir: "),
        ({"auto_remove": "never"}, "^auto_remove: "),
        ({"default_args": {"user": "root"}}, "^user: "),
    ],
)
def test_a_wrong_task_is_refused_when_the_dag_is_parsed(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        operator(**given)


@pytest.mark.parametrize(
    "host", ["", "unix:///var/run/docker.sock", "tcp://", "tcp://a", "http://a:1", "tcp://a:b@c:1"]
)
def test_a_host_that_is_no_proxy_is_refused(monkeypatch: pytest.MonkeyPatch, job: Write, host: str) -> None:
    monkeypatch.setenv("JOB_RUNNER", "docker")
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(
        AirflowFailException, match=r"^DOCKER_HOST=.*: name the docker-proxy as tcp://HOST:PORT"
    ):
        execute(operator())


def test_it_is_a_docker_operator_that_service_and_verb_fill_in() -> None:
    task = operator(arguments=["--count", "5"], environment={"SEED": "7"})
    assert isinstance(task, DockerOperator)
    assert task.template_fields == DockerOperator.template_fields
    assert (task.image, task.mem_limit, task.cpus) == ("fraud-detection/jobs:local", "512m", 1.0)
    assert task.command == ["python", "-m", "fraud_producer", "generate", "--count", "5"]
    assert task.environment == {"SEED": "7"}


def test_what_a_docker_operator_is_given_comes_first(job: Write) -> None:
    job("result.write_text(json.dumps({'argv': sys.argv[1:], 'mine': os.environ['MY_TOKEN']}))")
    task = operator(
        image="mine:1",
        command="python -m fraud_producer 'one word'",
        private_environment={"MY_TOKEN": "x"},
        mem_limit="1g",
        cpus=0.5,
        network_mode="mine",
        container_name="fraud-job-mine",
        timeout=5,
    )
    spec = task._spec(CONTEXT)
    assert (spec.image, spec.limits.memory_mib, spec.limits.cpus, spec.network) == (
        "mine:1",
        1024,
        0.5,
        "mine",
    )
    assert spec.name == spec.container == "fraud-job-mine"
    assert execute(task) == {"argv": ["one word"], "mine": "x"}


def test_another_exit_code_may_skip(job: Write) -> None:
    job("sys.exit(7)")
    with pytest.raises(AirflowSkipException):
        execute(operator(skip_on_exit_code=[7, 8]))


def test_a_program_that_is_no_python_is_no_job_of_a_process(job: Write) -> None:
    with pytest.raises(AirflowFailException, match=r"^command: sh is not python"):
        execute(operator(command=["sh", "-c", "true"]))


def test_a_dag_with_it_can_be_serialized() -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("d", schedule=None, start_date=datetime(2026, 1, 1)) as dag:  # noqa: DTZ001
        operator(arguments=["--run-id", "{{ run_id }}"], single="producer")
    text = json.dumps(DagSerialization.to_dict(dag))
    assert "{{ run_id }}" in text
    assert "geheim" not in text


RUN = """
import signal
from pathlib import Path
from datetime import timedelta
from types import SimpleNamespace
from airflow.sdk.execution_time import task_runner
from operators.docker_operator_custom import FraudDockerOperator
task = FraudDockerOperator(task_id="make", service="producer", verb="generate",
                           execution_timeout=timedelta(hours=1))
ti = SimpleNamespace(dag_id="d", task_id="make", run_id="r", map_index=-1, try_number=1, task=task)
# what airflow.sdk's task runner does with SIGTERM
signal.signal(signal.SIGTERM, lambda *_: task.on_kill())
try:
    task_runner._run_execute_callable({"ti": ti}, task.execute, task)
    outcome = "done"
except BaseException as error:
    outcome = f"{type(error).__name__}: {error}"
Path("outcome.partial").write_text(outcome)
Path("outcome.partial").rename("outcome")
"""


def run_task(tmp_path: Path) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", RUN], cwd=tmp_path, env=env)


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 100
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.01)
    return path.read_text()


ENDLESS = (
    "Path('pid.partial').write_text(str(os.getpid())); Path('pid.partial').rename('pid')\n"
    "while True: time.sleep(0.05)\n"
)


def test_sigterm_to_the_task_ends_job_and_task(job: Write, tmp_path: Path) -> None:
    job(ENDLESS)
    task = run_task(tmp_path)
    pid = int(wait_for(tmp_path / "pid"))
    task.terminate()
    assert task.wait(60) == 0
    assert process_start(pid) is None
    assert wait_for(tmp_path / "outcome") == "AirflowException: The job was ended, because its task was."


def test_a_task_that_was_ended_before_it_executes_starts_no_job(job: Write, tmp_path: Path) -> None:
    job("Path('started').touch()")
    task = operator()
    task.on_kill()
    with pytest.raises(AirflowException, match=r"^The task was ended before its job was started"):
        execute(task)
    assert not (tmp_path / "started").exists()


def test_the_execution_timeout_ends_job_and_task(job: Write, tmp_path: Path) -> None:
    job(ENDLESS)
    task = run_task(tmp_path)
    pid = int(wait_for(tmp_path / "pid"))
    task.send_signal(signal.SIGALRM)  # how the task runner's timer tells that the hour is over
    assert task.wait(100) == 0
    assert process_start(pid) is None
    assert wait_for(tmp_path / "outcome").startswith("AirflowTaskTimeout: ")
