"""The API against a real database: tokens, decisions, replays, batches, and what hostile requests get."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import jwt as pyjwt
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc

from fraud_adapters.columnar import MEDIA_TYPE as ARROW
from fraud_adapters.columnar import answer_from_ipc, batch_to_ipc
from fraud_adapters.models.loading import Model
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.scored_transactions import commit_scored
from fraud_api.writer import read_decided
from fraud_core.batch import Batch
from fraud_core.features import feature_matrix
from fraud_embedded.processes.ports import free_ports
from tests.support.api_server import (
    CLIENTS,
    ROOT,
    ApiServer,
    cloned,
    creditcard,
    problem,
    scoring_server,
    wait_until,
)
from tests.support.stored_rows import CREDITCARD, batch, predictions, run

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def module_database(template: Any, postgres_admin_url: str) -> Iterator[Any]:
    with cloned(template, postgres_admin_url, "api_scoring") as clone:
        yield clone


@pytest.fixture(scope="module")
def server(module_database: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with scoring_server(module_database, tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture(scope="module")
def model(server: ApiServer) -> Model:
    directory = next((server.cache / CREDITCARD.registered_model).glob("7-*"))
    digest = json.loads(httpx.get(f"{server.url}/models", headers=_bearer(server, "reader")).content)
    return Model.load(directory, digest["models"][0]["digest"], CREDITCARD)


@pytest.fixture
def client(server: ApiServer) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def _bearer(server: ApiServer, client: str = "streaming") -> dict[str, str]:
    return {"Authorization": f"Bearer {server.token(client)}"}


# --- identities -----------------------------------------------------------------------------------


def test_tokens_come_by_form_and_by_basic_authentication(server: ApiServer) -> None:
    form = {"grant_type": "client_credentials"}
    basic = httpx.post(
        f"{server.url}/auth/token", data=form, auth=("admin", CLIENTS["admin"]), trust_env=False
    )
    assert basic.headers["cache-control"] == "no-store"
    answer = basic.json()
    assert answer["token_type"] == "bearer"
    assert answer["expires_in"] == 3600
    assert "admin" in answer["scope"].split()
    assert (
        pyjwt.decode(
            answer["access_token"],
            pyjwt.PyJWKSet.from_dict(server.get("/.well-known/jwks.json").json()).keys[0],
            algorithms=["ES256"],
            audience="fraud-api",
        )["sub"]
        == "admin"
    )
    assert server.token("admin", "read")


def test_airflow_s_token_outlives_the_day_after_which_it_is_renewed(server: ApiServer) -> None:
    claims = pyjwt.decode(server.token("airflow"), options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 26 * 3600


LOGINS: dict[str, tuple[dict[str, Any], int]] = {
    "wrong secret": ({"client_secret": "x"}, 401),
    "unknown client": ({"client_id": "nobody"}, 401),
    "client with NUL": ({"client_id": "a\0b"}, 401),
    "client with a quote": ({"client_id": "' OR 1=1 --"}, 401),
    "no client": ({"client_id": ""}, 401),
    "huge secret": ({"client_secret": "x" * 10_000}, 401),
    "huge form": ({"client_secret": "x" * 100_000}, 413),
    "another grant": ({"grant_type": "password"}, 400),
    "no grant": ({"grant_type": ""}, 400),
    "a scope it does not have": ({"scope": "predict admin"}, 400),
    "an unknown scope": ({"scope": "everything"}, 400),
}


@pytest.mark.parametrize(("changes", "status"), LOGINS.values(), ids=LOGINS)
def test_logins_that_are_refused(server: ApiServer, changes: dict[str, Any], status: int) -> None:
    form = {
        "grant_type": "client_credentials",
        "client_id": "streaming",
        "client_secret": CLIENTS["streaming"],
    }
    answer = httpx.post(f"{server.url}/auth/token", data=form | changes, trust_env=False)
    problem(answer, status)
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Basic")


@pytest.mark.parametrize(
    "body", [b"grant_type=%ff", b"a&b", b"x=1&x=2", b"%00", b"\xff", b"&" * 5000], ids=str
)
def test_malformed_forms_are_refused(server: ApiServer, body: bytes) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = httpx.post(f"{server.url}/auth/token", content=body, headers=headers, trust_env=False)
    assert problem(answer, answer.status_code)["status"] in {400, 401}


@pytest.mark.parametrize("code", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_form_in_another_encoding_is_malformed(server: ApiServer, code: str) -> None:
    form = f"grant_type=client_credentials&client_id=reader&client_secret={CLIENTS['reader']}"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = httpx.post(
        f"{server.url}/auth/token", content=form.encode(code), headers=headers, trust_env=False
    )
    assert problem(answer, 400)["detail"] == "The form is malformed."
    marked = form.encode("utf-8-sig")
    answer = httpx.post(f"{server.url}/auth/token", content=marked, headers=headers, trust_env=False)
    assert answer.status_code == 200


def test_an_unknown_client_costs_as_much_time_as_a_known_one(server: ApiServer) -> None:
    def seconds(client_id: str) -> float:
        """Of the server's processor: the time on the clock depends on what else runs."""
        before = server.cpu_seconds()
        for _ in range(7):
            form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": "wrong"}
            httpx.post(f"{server.url}/auth/token", data=form, trust_env=False)
        return server.cpu_seconds() - before

    known, unknown = seconds("streaming"), seconds("nobody")
    assert unknown > 0.5 * known


BEARERS: dict[str, str | None] = {
    "none": None,
    "empty": "",
    "another scheme": "Basic YTpi",
    "no token": "Bearer",
    "junk": "Bearer junk",
    "nested header": "Bearer "
    + base64.urlsafe_b64encode(b"[" * 1000).decode().rstrip("=")
    + ".e30."
    + "A" * 86,
    "long": "Bearer " + "a" * 30_000,
    "latin": "Bearer \xe9\xe8",
}


@pytest.mark.parametrize("header", BEARERS.values(), ids=BEARERS)
@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_without_an_acceptable_token_401(server: ApiServer, path: str, header: str | None) -> None:
    headers = [(b"Authorization", header.encode("latin-1"))] if header is not None else []
    answer = httpx.post(server.url + path, json=creditcard(), headers=headers, trust_env=False)
    problem(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_scope_that_is_missing_is_403(server: ApiServer, client: httpx.Client) -> None:
    problem(client.get("/models"), 403)
    models = server.get("/models", headers=_bearer(server, "reader")).json()["models"]
    assert (models[0]["version"], models[0]["gate"]["passed"]) == ("7", True)
    answer = httpx.post(
        f"{server.url}/predict",
        json=creditcard(),
        headers={"Authorization": f"Bearer {server.token('reader', 'read')}"},
        trust_env=False,
    )
    problem(answer, 403)
    assert "insufficient_scope" in answer.headers["www-authenticate"]


def test_keys_rotate_while_the_server_runs(
    server: ApiServer, client: httpx.Client, module_database: Any
) -> None:
    before = server.token()
    new = server.command("rotate-keys")["kid"]
    wait_until(lambda: pyjwt.get_unverified_header(server.token())["kid"] == new, server, 10)
    kids = {key["kid"] for key in server.get("/.well-known/jwks.json").json()["keys"]}
    assert kids >= {new, pyjwt.get_unverified_header(before)["kid"]}
    verifying_keys = (
        "SELECT max(expires_at - retired_at) FROM signing_keys"  # as long as the longest token, and a minute
    )
    assert run(module_database.url("owner"), verifying_keys) == [(timedelta(hours=26, minutes=1),)]
    answer = httpx.post(
        f"{server.url}/predict",
        json=creditcard(),
        headers={"Authorization": f"Bearer {before}"},
        trust_env=False,
    )
    assert answer.status_code == 200


def test_clients_are_rotated_and_deactivated_while_the_server_runs(
    server: ApiServer, module_database: Any
) -> None:
    own = {f"API_CLIENT_SECRET_{name.upper()}": secret for name, secret in CLIENTS.items()}
    seeded = server.command("seed-clients", API_KEYS="passing:first-secret", **own)
    assert seeded["created"] == ["passing"]
    assert {"streaming", "admin"} <= set(seeded["unchanged"])
    assert server.command("seed-clients", API_KEYS="passing:first-secret")["unchanged"] == ["passing"]
    assert server.command("seed-clients", API_KEYS="passing:second-secret")["rotated"] == ["passing"]
    form = {"grant_type": "client_credentials", "client_id": "passing"}
    url = f"{server.url}/auth/token"
    assert httpx.post(url, data=form | {"client_secret": "first-secret"}, trust_env=False).status_code == 401
    answer = httpx.post(url, data=form | {"client_secret": "second-secret"}, trust_env=False)
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert server.get("/models", headers=headers).status_code == 200
    run(module_database.url("owner"), "UPDATE clients SET active = false WHERE client_id = 'passing'")
    wait_until(lambda: server.get("/models", headers=headers).status_code == 401, server, 10)
    assert httpx.post(url, data=form | {"client_secret": "second-secret"}, trust_env=False).status_code == 401
    stored = run(module_database.url("owner"), "SELECT secret_hash FROM clients")
    assert all(row[0].startswith("$argon2id$") for row in stored)


def test_private_keys_are_stored_encrypted_and_another_secret_is_refused(
    server: ApiServer, module_database: Any
) -> None:
    (sealed,) = run(module_database.url("owner"), "SELECT private_key_encrypted FROM signing_keys LIMIT 1")[0]
    assert "PRIVATE" not in sealed
    other = server.environment() | {"API_KEY_ENCRYPTION_SECRET": "quite another secret", "API_PORT": "1"}
    for verb in ("serve", "rotate-keys"):
        done = subprocess.run(
            [sys.executable, "-m", "fraud_api", verb],
            env=other,
            cwd=ROOT,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2
        assert b"API_KEY_ENCRYPTION_SECRET" in done.stderr.splitlines()[-1]


# --- decisions ------------------------------------------------------------------------------------


def test_one_transaction_is_scored_and_stored(
    client: httpx.Client, module_database: Any, model: Model
) -> None:
    record = creditcard("one-1", seed=1, event_time="2026-03-01T12:00:00+02:00")
    answer = client.post("/predict", json=record, headers={"traceparent": TRACE}).json()
    rows = Batch(["one-1"], [], {name: np.array([record[name]]) for name in record if name[0] in "vta"})
    features = feature_matrix(CREDITCARD, rows)
    assert answer["score"] == model.score_single(features).values[0] == answer["probability"]
    assert answer["engine"] == model.engine_single
    assert answer["model_version"] == "7"
    assert not answer["replayed"]
    assert set(answer) == {
        *("transaction_id", "prediction", "probability", "flag", "message", "decision", "score"),
        *("model_version", "engine", "latency_ms", "replayed"),
    }
    stored = run(
        module_database.url("owner"),
        "SELECT p.score, p.engine, p.model_version, p.traceparent, p.deciding, p.feature_vector, t.v1::text,"
        " t.source, t.event_time AT TIME ZONE 'UTC'"
        " FROM predictions p JOIN transactions t USING (transaction_id)"
        " WHERE transaction_id = 'one-1'",
    )[0]
    assert stored[:5] == (answer["score"], model.engine_single, "7", TRACE, True)
    assert np.array_equal(np.array(stored[5], dtype=np.float32), features[0])
    assert stored[6:8] == (f"{record['v1']:.6f}", "api")
    assert stored[8].hour == 10


def test_without_an_id_one_is_made_and_without_a_time_it_is_the_arrival(
    client: httpx.Client, module_database: Any
) -> None:
    answer = client.post("/predict", json=creditcard(transaction_id=None)).json()
    assert UUID(answer["transaction_id"]).version == 7
    answer = client.post("/predict", json=creditcard()).json()
    assert UUID(answer["transaction_id"]).version == 7
    late = run(
        module_database.url("owner"),
        "SELECT abs(extract(epoch FROM ingestion_timestamp - event_time)) FROM transactions"
        " WHERE transaction_id = %s",
        answer["transaction_id"],
    )[0][0]
    assert late < 5


def test_the_same_transaction_again_gives_the_stored_decision(
    client: httpx.Client, module_database: Any
) -> None:
    record = creditcard("again-1", seed=2)
    first = client.post("/predict", json=record).json()
    # Equal once quantised, so equal.
    second = client.post("/predict", json=record | {"amount": record["amount"] + 0.0001}).json()
    assert second == first | {"replayed": True}
    other = client.post("/predict", json=record | {"amount": record["amount"] + 1})
    assert problem(other, 409)["conflicts"] == ["again-1"]
    counts = run(
        module_database.url("owner"), "SELECT count(*) FROM predictions WHERE transaction_id = 'again-1'"
    )
    assert counts == [(1,)]


def test_a_replay_reads_the_latency_that_was_first_answered(module_database: Any) -> None:
    """To the bit: 123.456497 and its shortest form as a real, 123.4565, are rounded to different digits."""
    rows = batch(3, prefix="latency")
    latencies = np.array([123.4565, 0.1, 12.3455], dtype=np.float32)
    made = replace(predictions(CREDITCARD, rows), latency_ms=latencies)
    with closing(connect(module_database.url("api"), "test")) as connection, connection.cursor() as cursor:
        commit_scored(cursor, CREDITCARD, rows, made, "api")
        decided = read_decided(cursor, rows.ids)
    assert [decided[one].latency_ms for one in rows.ids] == latencies.tolist()


def test_many_at_once_with_the_same_id_are_decided_once(server: ApiServer, module_database: Any) -> None:
    record = creditcard("race-1", seed=3)
    headers = _bearer(server)

    def post(_number: int) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.post(
            f"{server.url}/predict", json=record, headers=headers, trust_env=False
        ).json()
        return answer

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(post, range(48)))
    assert sum(not answer["replayed"] for answer in answers) == 1
    assert len({answer["score"] for answer in answers}) == 1
    counts = run(
        module_database.url("owner"), "SELECT count(*) FROM predictions WHERE transaction_id = 'race-1'"
    )
    assert counts == [(1,)]


def test_a_list_is_answered_in_order(client: httpx.Client, module_database: Any, model: Model) -> None:
    records = [creditcard(f"list-{number}", seed=number) for number in range(5)]
    answers = client.post("/predict", json={"new_data": records}).json()["predictions"]
    assert [answer["transaction_id"] for answer in answers] == [f"list-{number}" for number in range(5)]
    assert {answer["engine"] for answer in answers} == {model.engine_batch}
    again = client.post("/predict", json={"new_data": records}).json()["predictions"]
    assert again == [answer | {"replayed": True} for answer in answers]
    records[2]["amount"] += 1
    assert problem(client.post("/predict", json={"new_data": records}), 409)["conflicts"] == ["list-2"]
    repeated = {"new_data": [records[0], records[0]]}
    problem(client.post("/predict", json=repeated), 409)


def test_a_batch_is_bit_equal_to_the_engine_and_not_stored(
    client: httpx.Client, module_database: Any, model: Model
) -> None:
    rows = batch(300, prefix="columns")
    features = feature_matrix(CREDITCARD, rows)
    expected = model.score_batch(features).values
    answer = client.post(
        "/predict/batch", content=batch_to_ipc(CREDITCARD, rows), headers={"Content-Type": ARROW}
    )
    assert answer.headers["content-type"] == ARROW
    columns = answer_from_ipc(answer.content, len(CREDITCARD.features), 1000)
    (part,) = columns.parts
    predictions = part.predictions
    assert columns.ids == rows.ids
    assert np.array_equal(predictions.scores, expected)
    assert np.array_equal(predictions.predicted, expected >= 0.5)
    assert np.array_equal(predictions.feature_vectors, features)
    assert (predictions.model_version, predictions.engine) == ("7", model.engine_batch)
    assert part.threshold == 0.5

    records = [
        {"transaction_id": rows.ids[row]}
        | {name: float(column[row]) for name, column in rows.columns.items()}
        for row in range(len(rows))
    ]
    listed = client.post("/predict/batch", json={"transactions": records}).json()["predictions"]
    assert np.array_equal(np.array([one["score"] for one in listed]), expected)
    stored = run(
        module_database.url("owner"),
        "SELECT count(*) FROM transactions WHERE transaction_id LIKE 'columns%%'",
    )
    assert stored == [(0,)]


@pytest.mark.parametrize("how", ["body", "query"])
def test_a_batch_is_stored_when_asked_for(client: httpx.Client, module_database: Any, how: str) -> None:
    body: dict[str, Any] = {"transactions": [creditcard(f"keep-{how}-{number}") for number in range(3)]}
    path = "/predict/batch"
    if how == "body":
        body["store"] = True
    else:
        path += "?store=true"
    assert not any(one["replayed"] for one in client.post(path, json=body).json()["predictions"])
    assert all(one["replayed"] for one in client.post(path, json=body).json()["predictions"])
    stored = run(
        module_database.url("owner"),
        "SELECT count(*) FROM predictions WHERE transaction_id LIKE %s AND deciding",
        f"keep-{how}-%",
    )
    assert stored == [(3,)]


def test_concurrent_requests_share_database_transactions(server: ApiServer) -> None:
    headers = _bearer(server)
    before = server.metric("fraud_api_writer_rows_count"), server.metric("fraud_api_writer_rows_sum")

    def post(_number: int) -> int:
        with httpx.Client(headers=headers, trust_env=False) as client:
            return sum(
                client.post(f"{server.url}/predict", json=creditcard()).status_code == 200 for _ in range(10)
            )

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(post, range(16))) == 160
    commits = server.metric("fraud_api_writer_rows_count") - before[0]
    assert server.metric("fraud_api_writer_rows_sum") - before[1] == 160
    assert commits < 160


def test_a_large_batch_does_not_hold_up_small_requests(server: ApiServer) -> None:
    headers = _bearer(server)
    body = json.dumps({"transactions": [creditcard(seed=number) for number in range(2500)]}).encode()
    done = threading.Event()

    def flood() -> None:
        with httpx.Client(headers=headers | {"Content-Type": "application/json"}, trust_env=False) as client:
            while not done.is_set():
                assert client.post(f"{server.url}/predict/batch", content=body, timeout=30).status_code == 200

    thread = threading.Thread(target=flood)
    thread.start()
    times = []
    try:
        for _ in range(40):
            started = time.perf_counter()
            assert server.get("/health/live").status_code == 200
            times.append(time.perf_counter() - started)
    finally:
        done.set()
        thread.join()
    assert sorted(times)[len(times) // 2] < 0.2


# --- hostile requests -----------------------------------------------------------------------------


Findings = dict[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def findings() -> Iterator[Findings]:
    """What each hostile request got; written as a table to the file `HOSTILE_REPORT` names, if it does."""
    differences: Findings = {}
    yield differences
    if target := os.environ.get("HOSTILE_REPORT"):
        lines = ["| request | status | reason | detail |", "|---|---|---|---|"]
        for name, document in differences.items():
            reasons = [error["reason"] for error in document.get("errors") or []] or [
                document.get("reason", "")
            ]
            lines.append(f"| {name} | {document['status']} | {', '.join(reasons)} | {document['detail']} |")
        Path(target).write_text("\n".join(lines) + "\n", encoding="utf-8")


def changed(**changes: Any) -> bytes:
    return json.dumps(creditcard(seed=9, **changes)).encode()


def spliced(field: str, text: str) -> bytes:
    """A good record in which a field's value is replaced by the text given."""
    record = creditcard(seed=9)
    value = json.dumps(record[field]) if field in record else ""
    assert value
    return json.dumps(record).replace(f'"{field}": {value}', f'"{field}": {text}', 1).encode()


HOSTILE: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 400),
    "spaces": (b"   ", 400),
    "not JSON": (b"hello", 400),
    "half a record": (changed()[:100], 400),
    "not UTF-8": (b"\xff\xfe\x00", 400),
    "in UTF-16": (changed().decode().encode("utf-16"), 400),
    "in UTF-16 without a mark": (changed().decode().encode("utf-16-le"), 400),
    "in UTF-32": (changed().decode().encode("utf-32"), 400),
    "new_data in UTF-16": ('{"new_data": [{}]}'.encode("utf-16"), 400),
    "new_data in UTF-32 without a mark": ('{"new_data": [{}]}'.encode("utf-32-be"), 400),
    "nested 100,000 deep": (b"[" * 100_000, 413),
    "nested objects": (b'{"v1":' * 5_000, 400),
    "null": (b"null", 422),
    "a list": (b"[]", 422),
    "a number": (b"1", 422),
    "no field": (b"{}", 422),
    "NaN": (spliced("v1", "NaN"), 422),
    "Infinity": (spliced("v1", "Infinity"), 422),
    "minus Infinity": (spliced("amount", "-Infinity"), 422),
    "1e400": (spliced("v1", "1e400"), 422),
    "a 400-digit integer": (spliced("v1", "9" * 400), 422),
    "a 5,000-digit integer": (spliced("v1", "9" * 5000), 400),
    "true for a number": (spliced("v1", "true"), 422),
    "text for a number": (spliced("v1", '"12"'), 422),
    "null for a number": (spliced("v1", "null"), 422),
    "a list for a number": (spliced("v1", "[1]"), 422),
    "an object for a number": (spliced("v1", '{"a":1}'), 422),
    "beyond the precision": (spliced("v1", "10000"), 422),
    "a negative amount": (spliced("amount", "-1"), 422),
    "a time of 1e8": (spliced("time", "1e8"), 422),
    "a field missing": (changed(v7=...), 422),
    "a field unknown": (changed(v99=1.0), 422),
    "a field named new_data": (changed(new_data=[creditcard()]), 422),
    "a name with a lone surrogate": (changed()[:-1] + b', "\\ud800": 1}', 422),
    "a name twice": (changed()[:-1] + b', "v1": 1.0}', 422),
    "id with NUL": (changed(transaction_id="a\0b"), 422),
    "id with a lone surrogate": (changed()[:-1] + b', "transaction_id": "\\ud800"}', 422),
    "id empty": (changed(transaction_id=""), 422),
    "id of 51 characters": (changed(transaction_id="x" * 51), 422),
    "id a number": (changed(transaction_id=12), 422),
    "id with a newline": (changed(transaction_id="a\nb"), 422),
    "id not ASCII": (changed(transaction_id="é"), 422),
    "a naive time": (changed(event_time="2026-01-01T00:00:00"), 422),
    "a time as a number": (changed(event_time=1_700_000_000), 422),
    "a time that does not exist": (changed(event_time="2026-02-30T00:00:00Z"), 422),
    "a time in the year 0": (changed(event_time="0000-01-01T00:00:00Z"), 422),
    "a label that is neither": (changed(**{"class": 2}), 422),
    "10 MB of spaces": (b" " * 10_000_000, 413),
    "10 MB of record": (changed(transaction_id="x" * 10_000_000), 413),
    "1 MB of record": (changed(transaction_id="x" * 1_000_000), 413),
    "new_data no list": (b'{"new_data": 1}', 422),
    "new_data empty": (b'{"new_data": []}', 422),
    "new_data of null": (b'{"new_data": [null]}', 422),
    "new_data of NaN": (b'{"new_data": [NaN]}', 422),
    "new_data and more": (b'{"new_data": [], "x": 1}', 422),
    "new_data with a bad record": (b'{"new_data": [' + changed() + b"," + changed(v1="x") + b"]}", 422),
    "new_data with NaN": (b'{"new_data": [' + spliced("v1", "NaN") + b"]}", 422),
    "new_data with an optional NaN": (b'{"new_data": [' + changed()[:-1] + b', "class": NaN}]}', 422),
    "new_data with a name twice": (b'{"new_data": [' + changed()[:-1] + b', "v1": 1.0}]}', 422),
    "new_data twice": (b'{"new_data": [' + changed() + b'], "new_data": [' + changed() + b"]}", 422),
    "new_data of 5,001": (b'{"new_data": [' + b",".join([b"{}"] * 5001) + b"]}", 413),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("sent", ["plain", "chunked"])
def test_hostile_bodies(client: httpx.Client, name: str, sent: str, findings: Findings) -> None:
    body, status = HOSTILE[name]
    content = iter([body[:7], body[7:]]) if sent == "chunked" else body
    answer = client.post("/predict", content=content, headers={"Content-Type": "application/json"})
    document = problem(answer, status)
    findings[f"/predict, {name}"] = document
    assert len(answer.content) < 2000
    assert b"xxxxxxxxxx" not in answer.content


HOSTILE_BATCHES: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 400),
    "not JSON": (b"{", 400),
    "in UTF-16": ('{"transactions": []}'.encode("utf-16"), 400),
    "a list": (b"[]", 422),
    "no transactions": (b"{}", 422),
    "transactions no list": (b'{"transactions": {}}', 422),
    "store a text": (b'{"transactions": [' + changed() + b'], "store": "yes"}', 422),
    "another member": (b'{"transactions": [' + changed() + b'], "other": 1}', 422),
    "a bad record": (b'{"transactions": [' + changed() + b"," + changed(v1=True) + b"]}", 422),
    "10 MB": (b'{"transactions": [' + b" " * 10_000_000 + b"]}", 413),
}


@pytest.mark.parametrize("name", HOSTILE_BATCHES)
def test_hostile_batches(client: httpx.Client, name: str, findings: Findings) -> None:
    body, status = HOSTILE_BATCHES[name]
    answer = client.post("/predict/batch", content=body, headers={"Content-Type": "application/json"})
    findings[f"/predict/batch, {name}"] = problem(answer, status)


def arrow(**changes: Any) -> bytes:
    """Two good rows as an Arrow stream, with columns replaced or, by None, dropped."""
    rows = batch(2, prefix="hostile")
    with ipc.open_stream(batch_to_ipc(CREDITCARD, rows)) as reader:
        table = reader.read_all()
    for name, values in changes.items():
        position = table.schema.get_field_index(name)
        if values is None:
            table = table.remove_column(position)
        elif position < 0:
            table = table.append_column(name, values)
        else:
            table = table.set_column(position, name, values)
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def rewritten(how: str) -> bytes:
    good = arrow()
    return {
        "truncated": good[:-20],
        "half": good[: len(good) // 2],
        "garbled": good[:200] + b"\xff" * 200 + good[400:],
        "twice": 2 * good,
        "with garbage": good + b"garbage" + good[-8:],
    }[how]


HOSTILE_ARROW: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 400),
    "not Arrow": (b"{}", 400),
    "truncated": (rewritten("truncated"), 400),
    "half": (rewritten("half"), 400),
    "garbled": (rewritten("garbled"), 400),
    "two streams": (rewritten("twice"), 400),
    "garbage and another end mark": (rewritten("with garbage"), 400),
    "a column missing": (arrow(v3=None), 422),
    "no ids": (arrow(transaction_id=None), 422),
    "a column unknown": (arrow(v99=pa.array([1.0, 2.0])), 422),
    "integers for numbers": (arrow(v1=pa.array([1, 2])), 422),
    "texts for numbers": (arrow(v1=pa.array(["1", "2"])), 422),
    "float32": (arrow(v1=pa.array([1, 2], pa.float32())), 422),
    "NaN": (arrow(v1=pa.array([1.0, float("nan")])), 422),
    "infinite": (arrow(v1=pa.array([1.0, float("inf")])), 422),
    "null": (arrow(v1=pa.array([1.0, None])), 422),
    "id null": (arrow(transaction_id=pa.array(["a", None])), 422),
    "id with NUL": (arrow(transaction_id=pa.array(["a", "b\0"])), 422),
    "id long": (arrow(transaction_id=pa.array(["a", "b" * 51])), 422),
    "out of range": (arrow(v1=pa.array([1.0, 1e5])), 422),
    "a naive time": (arrow(event_time=pa.array([0, 1], pa.timestamp("us"))), 422),
    "10 MB": (b"A" * 10_000_000, 413),
}


@pytest.mark.parametrize("name", HOSTILE_ARROW)
def test_hostile_columns(client: httpx.Client, name: str, findings: Findings) -> None:
    body, status = HOSTILE_ARROW[name]
    answer = client.post("/predict/batch", content=body, headers={"Content-Type": ARROW})
    findings[f"/predict/batch as Arrow, {name}"] = problem(answer, status)


def test_odd_requests(client: httpx.Client) -> None:
    good = changed()
    problem(client.post("/predict", content=good, headers={"Content-Type": "text/plain"}), 415)
    problem(client.post("/predict/batch?store=maybe", json={"transactions": [creditcard()]}), 422)
    problem(client.post("/predict/batch?store=true", content=arrow(), headers={"Content-Type": ARROW}), 422)
    problem(client.get("/predict"), 405)
    problem(client.get("/nothing/here"), 404)
    problem(client.get("/health/ready?deep=yes"), 422)
    assert client.post("/predict", content=good, headers={"traceparent": "x" * 500}).status_code == 200
    assert client.post("/predict", content=good, headers={"Content-Type": "application/json; charset=utf-8"})


def test_generated_requests_agree_with_the_published_schema(server: ApiServer, tmp_path: Path) -> None:
    """Schemathesis makes valid and invalid requests from the OpenAPI document and checks the answers."""
    program = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [
            *(str(program), "run", f"{server.url}/openapi.json", "--phases", "coverage,fuzzing"),
            *("--header", f"Authorization: Bearer {server.token('admin')}"),
            # A 503 by design, since here there is no broker, no registry and no Airflow.
            *("--exclude-path", "/health/ready", "--exclude-path", "/models/rollback"),
            *("--exclude-operation-id", "open_deployment"),
            *("--exclude-path", "/train", "--exclude-path", "/train/{run_id}"),
            *("--seed", "1", "--max-examples", "25", "--no-shrink"),
            *("--max-time", "10", "--warnings", "off", "--continue-on-failure"),
            # A schema cannot say that a number must be in range once rounded, nor refuse 1.0 as an integer.
            *("--exclude-checks", "positive_data_acceptance"),
        ],
        cwd=tmp_path,
        env=server.environment() | {"NO_PROXY": "*"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode()[-6000:]


def test_swagger_needs_no_third_party(server: ApiServer) -> None:
    page = server.get("/docs")
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "'self'" in page.headers["content-security-policy"]
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
        assert f"docs/{name}" in page.text
        assert len(server.get(f"/docs/{name}").content) > 1000
    document = server.get("/openapi.json").json()
    schema = document["components"]["schemas"]["CreditcardTransaction"]
    assert set(schema["required"]) == {field.name for field in CREDITCARD.inputs}
    assert schema["additionalProperties"] is False
    operation = document["paths"]["/predict"]["post"]
    assert operation["security"] == [{"clientCredentials": ["predict"]}]
    assert "application/problem+json" in operation["responses"]["422"]["content"]


def test_after_all_that_the_server_still_serves(server: ApiServer, client: httpx.Client) -> None:
    assert client.post("/predict", json=creditcard()).status_code == 200
    assert server.metric('fraud_api_requests_total{method="POST",route="/predict",status="500"}') == 0
    assert "Traceback" not in Path(server.log).read_text()


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("192.0.2.1", "API_METRICS_PORT: port {port} of 192.0.2.1 cannot be used"),
        ("nowhere.invalid", "API_METRICS_HOST: port {port} of nowhere.invalid cannot be used"),
    ],
)
def test_the_metrics_have_a_host_of_their_own(server: ApiServer, host: str, sentence: str) -> None:
    port, metrics_port = free_ports(2)
    changes = {"API_PORT": str(port), "API_METRICS_PORT": str(metrics_port), "API_METRICS_HOST": host}
    done = subprocess.run(
        [sys.executable, "-m", "fraud_api", "serve"],
        env=server.environment() | changes,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert sentence.format(port=metrics_port) in done.stderr
