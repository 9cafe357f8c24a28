import json
import subprocess
import sys
from pathlib import Path

import pytest

from fraud_adapters.job.failures import JobFailed, PassingFailure, UnexpectedFailure
from fraud_adapters.kafka import PositionUnreadable, TopicMissing
from tests.support import forked

HEAD = """
from config.settings import ConfigurationError
from fraud_adapters.job.failures import LastingFailure, PassingFailure, RefusedFailure
from fraud_adapters.job import NothingToDo, run
from fraud_adapters.postgres import DatabaseUnavailable
from psycopg2 import DataError, OperationalError
"""


def run_job(
    body: str, tmp_path: Path, result_name: str = "result.json"
) -> tuple[int, str, dict[str, object] | None]:
    """Run a job whose main is `body`; exit code, last line of stderr, result."""
    code = f"{HEAD}def main(arguments):\n    {body}\nrun('tester', main)"
    result = tmp_path / result_name
    done = forked.run("tests.support.executed", code, env={"RESULT_PATH": str(result)})
    lines = done.stderr.strip().splitlines()
    return (
        done.returncode,
        lines[-1] if lines else "",
        json.loads(result.read_text()) if result.exists() else None,
    )


@pytest.mark.parametrize(
    ("body", "code", "sentence"),
    [
        ("raise NothingToDo('Another run is at work.')", 99, "nothing_to_do: Another run is at work."),
        ("raise ConfigurationError('DB_PORT: is wrong.')", 2, "configuration: DB_PORT: is wrong."),
        ("raise PassingFailure('The API is down.', {'stored': 2})", 1, "failed: The API is down."),
        ("return 1 / 0", 1, "unexpected: ZeroDivisionError: division by zero"),
    ],
)
def test_a_job_ends_with_a_code_a_sentence_and_a_result(
    body: str, code: int, sentence: str, tmp_path: Path
) -> None:
    returned, last, result = run_job(body, tmp_path)
    assert (returned, last) == (code, sentence)
    if code == 1 and "API" in body:
        assert result == {
            "stored": 2,
            "status": "failed",
            "failure": "passing",
            "error": "The API is down.",
        }


@pytest.mark.parametrize(
    ("raised", "kind", "sentence"),
    [
        ("DatabaseUnavailable('Postgres is away.')", "passing", "Postgres is away."),
        (
            "OperationalError('server closed\\nthe line')",
            "passing",
            "The connection to Postgres was lost: server closed the line.",
        ),
        ("LastingFailure('The topic is another.')", "lasting", "The topic is another."),
        ("DataError('value too long.')", "lasting", "Postgres: value too long."),
        ("RefusedFailure('The gate was not passed.')", "refused", "The gate was not passed."),
        (
            "PassingFailure('Down.', {'a': 1}).extended(before='r1: ', after=' Safe.', result={'b': 2})",
            "passing",
            "r1: Down. Safe.",
        ),
        ("KeyError('x')", "unexpected", "KeyError: 'x'"),
    ],
)
def test_a_failure_says_of_which_kind_it_is(raised: str, kind: str, sentence: str, tmp_path: Path) -> None:
    returned, last, result = run_job(f"raise {raised}", tmp_path)
    assert returned == 1
    assert last == f"{'unexpected' if kind == 'unexpected' else 'failed'}: {sentence}"
    assert result is not None
    done = {"a": 1, "b": 2} if "extended" in raised else {}
    assert result == {**done, "status": "failed", "failure": kind, "error": sentence}


def test_a_wrong_configuration_leaves_no_result(tmp_path: Path) -> None:
    assert run_job("raise ConfigurationError('DB_PORT: is wrong.')", tmp_path)[2] is None


def test_a_job_that_is_done_logs_its_figures_and_writes_all_of_its_result(tmp_path: Path) -> None:
    returned, last, result = run_job("return {'rows': 3, 'parts': {'a': 1}}", tmp_path)
    assert returned == 0
    assert result == {"rows": 3, "parts": {"a": 1}}
    logged = json.loads(last)
    assert (logged["event"], logged["rows"]) == ("job_done", 3)
    assert "parts" not in logged


@pytest.mark.parametrize(
    ("body", "code"), [("return {}", 2), ("raise NothingToDo('Nothing.')", 99), ("return 1 / 0", 1)]
)
def test_a_place_for_the_result_that_cannot_be_written_is_named(body: str, code: int, tmp_path: Path) -> None:
    returned, last, _ = run_job(body, tmp_path, "absent/result.json")
    assert returned == code
    assert last.startswith("configuration: RESULT_PATH: ")
    assert last.endswith("cannot be written (No such file or directory): name another file.")


PAUSE = "import os, signal, time; from fraud_adapters.job import stopping\n    "
KILL = "os.kill(os.getpid(), signal.{}); "


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129)])
def test_a_signal_ends_a_job_in_order(name: str, code: int, tmp_path: Path) -> None:
    """What the job puts in order meanwhile is not cut short by another signal."""
    body = (
        f"{PAUSE}try:\n        {KILL.format(name)}time.sleep(20)\n"
        f"    finally:\n        {KILL.format('SIGTERM')}{KILL.format('SIGINT')}print('in order')"
    )
    sentence = f"interrupted: Interrupted by {name}: what was committed is kept."
    assert run_job(body, tmp_path) == (code, sentence, None)


def test_a_signal_waits_for_a_request_whose_answer_must_not_be_lost(tmp_path: Path) -> None:
    body = (
        f"{PAUSE}with stopping.signals_deferred():\n        {KILL.format('SIGTERM')}"
        "open(os.environ['RESULT_PATH'], 'w').write('{}')\n    time.sleep(20)"
    )
    code, _, result = run_job(body, tmp_path)
    assert (code, result) == (143, {})


def test_a_signal_that_is_ignored_from_the_start_stays_ignored(tmp_path: Path) -> None:
    """As `nohup` and a shell's `&` have it."""
    ignoring = "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    main = "def main(_):\n    os.kill(os.getpid(), signal.SIGHUP)\n    return {}\n"
    code = f"{ignoring}{HEAD}{main}run('tester', main)"
    environment = {"RESULT_PATH": str(tmp_path / "result"), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, env=environment)
    assert done.returncode == 0


def _derived(kind: type[JobFailed]) -> set[type[JobFailed]]:
    return {kind}.union(*(_derived(one) for one in kind.__subclasses__()))


def test_every_failure_that_is_raised_has_a_kind() -> None:
    """What reads a log again and again must not be told that it may pass."""
    without = {one for one in _derived(JobFailed) if one.kind == "unexpected" and not one.__subclasses__()}
    assert without == {UnexpectedFailure}
    assert issubclass(TopicMissing, PassingFailure)
    assert not issubclass(PositionUnreadable, PassingFailure)
    assert PositionUnreadable("t", 0, 1, "why").extended(after=" So.").kind == "lasting"


def test_a_signal_that_comes_when_the_waiting_begins_is_not_lost() -> None:
    """The main thread holds the event's lock then, and runs the handler."""
    source = (
        "import signal; from fraud_adapters.job.stopping import stop_event; stop = stop_event()\n"
        "with stop._cond: signal.raise_signal(signal.SIGTERM)\n"
        "assert stop.wait(20)"
    )
    subprocess.run([sys.executable, "-c", source], check=True, timeout=25)
