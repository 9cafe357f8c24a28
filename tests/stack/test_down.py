"""`down` and `up` again keep the data; `down -v` leaves nothing. Runs last, because it removes the stack."""

from __future__ import annotations

from tests.stack.stack import Stack, wait_for


def test_down_and_up_again_keep_what_was_stored(stack: Stack) -> None:
    airflow = stack.airflow()
    stack.pause(True)
    before = stack.stored()
    stored_query = "SELECT transaction_id, fraud_score FROM predictions WHERE deciding"
    newest = stack.psql(f"{stored_query} ORDER BY 1 DESC LIMIT 50")
    runs = {run.run_id for run in airflow.runs("00_transaction_producer")}
    stack.compose("down", seconds=240)
    assert stack.containers() == {}
    stack.up()
    stack.wait_healthy()
    after = stack.stored()
    assert after["transactions"] >= before["transactions"] > 0
    assert after["decisions"] >= before["decisions"] > 0
    names = ",".join(f"'{name}'" for name, _ in newest)
    assert stack.psql(f"{stored_query} AND transaction_id IN ({names}) ORDER BY 1 DESC") == newest
    assert runs <= {run.run_id for run in stack.airflow().runs("00_transaction_producer", limit=1000)}


def test_it_goes_on_where_it_was(stack: Stack) -> None:
    stack.pause(False)
    before = stack.stored()
    wait_for(lambda: stack.stored()["decisions"] > before["decisions"], 180)


def test_down_v_leaves_nothing(stack: Stack) -> None:
    stack.run("docker", "compose", "down", "-v", seconds=240)
    project = f"label=com.docker.compose.project={stack.harness.project}"
    for kind in (("ps", "--all"), ("volume", "ls"), ("network", "ls")):
        assert stack.run("docker", *kind, "--quiet", "--filter", project).split() == []
    assert stack.jobs() == {}
