"""Through the gateway: a token, a prediction, its row; and the broker as seen from this machine."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from tests.stack.records import TOPIC, decided, publish
from tests.stack.stack import Stack, wait_for
from tests.support.api_server import creditcard, problem


def test_the_api_answers_behind_the_gateway(stack: Stack) -> None:
    answer = httpx.get(stack.url("api"), trust_env=False, timeout=30)
    assert answer.json()["status"] == "ok"
    ready = httpx.get(f"{stack.url('api')}/health/ready?deep=1", trust_env=False, timeout=30)
    assert ready.status_code == 200, ready.text
    assert httpx.get(f"{stack.url('api')}/docs", trust_env=False, timeout=30).status_code == 200


def test_a_prediction_is_stored(stack: Stack) -> None:
    name = f"stack-{uuid.uuid4()}"
    with stack.client() as client:
        answer = client.post("/predict", json=creditcard(name))
        assert answer.status_code == 200, answer.text
        prediction = answer.json()
        again = client.post("/predict", json=creditcard(name, seed=None) | {"amount": 1.0})
    assert again.status_code == 409
    [[score, version]] = stack.psql(
        f"SELECT fraud_score, model_version FROM predictions WHERE deciding AND transaction_id = '{name}'"
    )
    assert float(score) == pytest.approx(prediction["probability"], abs=5e-5)
    assert version == str(prediction["model_version"])


def test_without_a_token_there_is_none(stack: Stack) -> None:
    answer = httpx.post(f"{stack.url('api')}/predict", json=creditcard(), trust_env=False, timeout=30)
    problem(answer, 401)


def test_metrics_are_not_behind_the_gateway(stack: Stack) -> None:
    for path in ("/metrics", "/ping", "/api/rawdata"):
        problem(httpx.get(stack.url("api") + path, trust_env=False, timeout=30), 404)


def test_the_broker_is_reached_from_this_machine(stack: Stack) -> None:
    """Connects through the advertised address, not only the bootstrap address."""
    address = f"localhost:{stack.harness.ports['kafka']}"
    brokers = AdminClient({"bootstrap.servers": address}).list_topics(timeout=30).brokers
    assert [f"{one.host}:{one.port}" for one in brokers.values()] == [address]


def test_what_is_published_is_decided_and_stored(stack: Stack) -> None:
    names = [f"stack-{uuid.uuid4()}" for _ in range(120)]
    publish(stack, names)
    airflow = stack.airflow()
    run = airflow.trigger("00_realtime_streaming")
    wait_for(lambda: decided(stack, names) == len(names), 180, lambda: f"run {run}: {decided(stack, names)}")


def test_a_record_that_is_none_is_set_aside(stack: Stack) -> None:
    key = f"stack-{uuid.uuid4()}"
    since = datetime.now(UTC) - timedelta(minutes=1)
    producer = Producer({"bootstrap.servers": f"localhost:{stack.harness.ports['kafka']}"})
    producer.produce(TOPIC, key=key, value=b"{no json")
    assert producer.flush(30) == 0
    stack.airflow().trigger("00_realtime_streaming")
    question = f"SELECT count(*) FROM dead_letters WHERE created_at > '{since.isoformat()}'"
    wait_for(lambda: stack.psql(question) != [["0"]], 120)
