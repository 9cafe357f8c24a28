"""The API as clients meet it that we did not write: load tests, probes, and those that compress."""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from fraud_adapters.columnar import MEDIA_TYPE as ARROW
from fraud_adapters.columnar import batch_to_ipc
from fraud_launcher import load_test
from tests.support.api_server import CLIENTS, ROOT, ApiServer, cloned, creditcard, problem, scoring_server
from tests.support.programs import program
from tests.support.stored_rows import CREDITCARD, batch

FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def server(
    template: Any, postgres_admin_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    directory = tmp_path_factory.mktemp("clients-api")
    with (
        cloned(template, postgres_admin_url, "clients_api") as database,
        scoring_server(database, directory) as api,
    ):
        yield api


@pytest.fixture
def client(server: ApiServer) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


# --- one length for one transaction ---------------------------------------------------------------


def documented_ab() -> str:
    """The command of docs/load-tests.md, as it stands there."""
    text = (ROOT / "docs" / "load-tests.md").read_text()
    (command,) = re.findall(r"^ab (?:.*\\\n)*.*$", text, re.MULTILINE)
    return str(command)


@pytest.mark.parametrize(
    ("requests", "options"), [(1000, ""), (200, "-k ")], ids=["connections closed", "kept alive"]
)
@pytest.mark.parametrize("identified", [True, False], ids=["with an id", "without an id"])
def test_a_load_test_counts_no_answer_as_failed(
    server: ApiServer, tmp_path: Path, identified: bool, requests: int, options: str
) -> None:
    program("ab")
    body, command = "tests/load/transaction.json", documented_ab()
    assert body in command
    assert "-n 1000 -c 10 " in command
    command = command.replace("-n 1000 ", f"-n {requests} {options}")
    if identified:
        # All but the first are replays of it.
        record = json.loads((ROOT / body).read_text()) | {"transaction_id": f"load-{requests}"}
        (tmp_path / "identified.json").write_text(json.dumps(record))
        command = command.replace(body, str(tmp_path / "identified.json"))
    variables = {**os.environ, "API_URL": server.url, "TOKEN": server.token()}
    stored = server.metric("fraud_api_writer_rows_sum")
    done = subprocess.run(
        ["sh", "-c", command],
        env=variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    counts = dict(re.findall(r"^([\w -]+):\s+(\d+)\b", done.stdout, re.MULTILINE))
    assert (counts["Complete requests"], counts["Failed requests"]) == (str(requests), "0"), done.stdout
    assert "Non-2xx responses" not in counts
    # Each was to be stored; replays, too, are told by the database.
    assert server.metric("fraud_api_writer_rows_sum") == stored + requests


def locust(server: ApiServer, **variables: str) -> tuple[int, dict[str, tuple[int, int]]]:
    """`./fraud load --headless` for two seconds: its exit code; by request how many there were and failed."""
    path = os.pathsep.join(one for one in sys.path if one)
    client = {"API_CLIENT_ID": "streaming", "API_CLIENT_SECRET": CLIENTS["streaming"]}
    command = [sys.executable, "-m", "locust", *load_test.OPTIONS, "--headless", "--json"]
    command += ["--users", "10", "--spawn-rate", "10", "--run-time", "2s", "--stop-timeout", "10"]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": path, "API_URL": server.url, **client, **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout, done.stderr
    entries = json.loads(done.stdout)
    return done.returncode, {one["name"]: (one["num_requests"], one["num_failures"]) for one in entries}


def test_users_of_the_load_test_have_all_their_transactions_decided(server: ApiServer) -> None:
    stored = server.metric("fraud_api_writer_rows_sum")
    code, sent = locust(server)
    assert (code, [name for name, (_, failed) in sent.items() if failed]) == (0, [])
    assert sent["/auth/token"][0] == 1
    # How many fit into the time depends on the machine; each of them must have been stored.
    rows = sent["/predict"][0] + 10 * sent.get("/predict, list of 10", (0, 0))[0]
    assert rows > 0
    assert server.metric("fraud_api_writer_rows_sum") == stored + rows


def test_a_load_test_that_is_refused_has_failed(server: ApiServer) -> None:
    code, sent = locust(server, API_CLIENT_SECRET="of nobody")
    requests, failed = sent["/auth/token"]
    assert (code, failed) == (1, requests)
    assert requests > 0


def test_answers_about_one_transaction_have_one_length(client: httpx.Client) -> None:
    record = creditcard("one-length", seed=5)
    single = [client.post("/predict", json=record) for _ in range(20)]
    assert [answer.json()["replayed"] for answer in single] == [False] + [True] * 19
    assert len({len(answer.content) for answer in single}) == 1
    lists = [client.post("/predict", json={"new_data": [record, creditcard()]}) for _ in range(5)]
    assert [answer.json()["predictions"][1]["replayed"] for answer in lists] == [False] * 5
    stored = {"transactions": [creditcard("one-length-2", seed=6)], "store": True}
    batches = [client.post("/predict/batch", json=stored) for _ in range(5)]
    assert len({len(answer.content) for answer in batches}) == 1
    latency = single[0].json()["latency_ms"]
    assert isinstance(latency, float)
    assert 0 < latency < 10_000


# --- a list, or a record in which its name stands -------------------------------------------------


def test_a_transaction_may_be_called_new_data(client: httpx.Client) -> None:
    answer = client.post("/predict", json=creditcard("new_data", seed=7))
    assert (answer.status_code, answer.json()["transaction_id"]) == (200, "new_data")
    escaped = json.dumps({"new_data": [creditcard("listed", seed=8)]}).replace("_", "\\u005f")
    listed = client.post("/predict", content=escaped, headers={"Content-Type": "application/json"})
    assert [one["transaction_id"] for one in listed.json()["predictions"]] == ["listed"]


# --- compressed bodies ----------------------------------------------------------------------------


def bodies() -> dict[str, tuple[str, str, bytes]]:
    """Address, media type and body of a good request to each route that reads one."""
    record = json.dumps(creditcard("coded", seed=9)).encode()
    form = {"grant_type": "client_credentials", "client_id": "reader", "client_secret": CLIENTS["reader"]}
    return {
        "one record": ("/predict", "application/json", record),
        "a list": ("/predict", "application/json", b'{"new_data": [' + record + b"]}"),
        "a batch": ("/predict/batch", "application/json", b'{"transactions": [' + record + b"]}"),
        "columns": ("/predict/batch", ARROW, batch_to_ipc(CREDITCARD, batch(2, prefix="coded"))),
        "a form": ("/auth/token", FORM, urlencode(form).encode()),
    }


@pytest.mark.parametrize("name", bodies())
def test_a_compressed_body_is_refused_by_name(client: httpx.Client, name: str) -> None:
    path, kind, body = bodies()[name]
    headers = {"Content-Type": kind}
    if kind == FORM:
        del client.headers["Authorization"]
    for coding, content in [("gzip", gzip.compress(body)), ("gzip", body), ("identity, deflate", body)]:
        answer = client.post(path, content=content, headers=headers | {"Content-Encoding": coding})
        assert problem(answer, 415)["detail"].startswith("Content-Encoding: ")
        assert answer.headers["accept-encoding"] == "identity"
    for coding in ("identity", "Identity", ""):
        answer = client.post(path, content=body, headers=headers | {"Content-Encoding": coding})
        assert answer.status_code == 200, answer.text


# --- probes ---------------------------------------------------------------------------------------


def answer_to(server: ApiServer, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    """By a socket: a client library drops what a server must not send."""
    request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 10) as raw, raw.makefile("rb") as stream:
        raw.sendall(request.encode())
        head, _, body = stream.read().partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, body


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/health/live", 200),
        ("/health/ready", 200),
        ("/health/ready?deep=1", 503),  # there is no broker
        ("/health/ready?deep=yes", 422),
        ("/.well-known/jwks.json", 200),
        ("/openapi.json", 200),
        ("/docs", 200),
        ("/models", 401),
        ("/nothing", 404),
    ],
)
def test_head_is_get_without_the_body(server: ApiServer, path: str, status: int) -> None:
    got, headers, body = answer_to(server, "GET", path)
    assert (got, bool(body)) == (status, True)
    head_status, head_headers, nothing = answer_to(server, "HEAD", path)
    assert (head_status, nothing) == (status, b"")
    for name in ("content-type", "content-length"):
        assert head_headers[name] == headers[name]


def test_head_is_no_other_method(server: ApiServer) -> None:
    assert answer_to(server, "HEAD", "/predict")[0] == 405
    status, headers, _ = answer_to(server, "POST", "/health/live")
    assert (status, set(re.split(r",\s*", headers["allow"]))) == (405, {"GET", "HEAD"})
    status, headers, _ = answer_to(server, "OPTIONS", "/deployments")
    assert (status, set(re.split(r",\s*", headers["allow"]))) == (405, {"GET", "HEAD", "POST"})
    operations = server.get("/openapi.json").json()["paths"]["/health/live"]
    assert set(operations) == {"get"}


def test_requests_are_counted_by_route_and_by_the_method_they_came_with(server: ApiServer) -> None:
    def counted(method: str, route: str) -> float:
        return server.metric(f'fraud_api_requests_total{{method="{method}",route="{route}",status="401"}}')

    before = counted("GET", "/models"), counted("HEAD", "/models")
    answer_to(server, "GET", "/models")
    answer_to(server, "HEAD", "/models")
    assert (counted("GET", "/models"), counted("HEAD", "/models")) == (before[0] + 1, before[1] + 1)


# --- a client that is generated from the document ---------------------------------------------------

SETTINGS = f"""
content_type_overrides:
  {ARROW}: application/octet-stream
post_hooks: []
"""


@pytest.fixture(scope="module")
def generated(server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Imports modules of a client that openapi-python-client made of the document."""
    directory = tmp_path_factory.mktemp("generated")
    (directory / "settings.yaml").write_text(SETTINGS)
    (directory / "openapi.json").write_bytes(server.get("/openapi.json").content)
    command = [str(Path(sys.executable).with_name("openapi-python-client")), "generate", "--meta", "none"]
    command += ["--path", "openapi.json", "--config", "settings.yaml", "--fail-on-warning"]
    command += ["--output-path", "fraud_generated_client"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)
        yield lambda name: import_module(f"fraud_generated_client.{name}".rstrip("."))
    for name in [name for name in sys.modules if name.startswith("fraud_generated_client")]:
        del sys.modules[name]


def test_a_generated_client_makes_a_token_a_prediction_and_a_list(
    server: ApiServer, generated: Callable[[str], Any]
) -> None:
    package, models = generated(""), generated("models")
    options = {"base_url": server.url, "httpx_args": {"trust_env": False}}
    form = models.TokenRequest(
        grant_type=models.TokenRequestGrantType.CLIENT_CREDENTIALS,
        client_id="admin",
        client_secret=CLIENTS["admin"],
    )
    with package.Client(**options) as anonymous:
        issued = generated("api.identities.issue_token").sync(client=anonymous, body=form)
    assert isinstance(issued, models.TokenAnswer)

    predict = generated("api.scoring.predict").sync
    record = models.CreditcardTransaction.from_dict(creditcard("generated", seed=10))
    with package.AuthenticatedClient(token=issued.access_token, **options) as client:
        one = predict(client=client, body=record)
        several = predict(client=client, body=models.TransactionList(new_data=[record]))
        repeated = predict(client=client, body=models.TransactionList(new_data=[record, record]))
        served = generated("api.models.list_models").sync(client=client)
    assert isinstance(one, models.PredictionAnswer)
    assert (one.transaction_id, one.model_version, one.replayed) == ("generated", "7", False)
    assert isinstance(several, models.PredictionList)
    assert [answer.replayed for answer in several.predictions] == [True]
    assert (type(repeated), repeated.status) == (models.ProblemDocument, 409)
    assert isinstance(served, models.ModelList)
    assert [(model.version, model.gate.passed) for model in served.models] == [("7", True)]


def test_a_generated_client_is_told_why_it_is_refused(
    server: ApiServer, generated: Callable[[str], Any]
) -> None:
    package, models = generated(""), generated("models")
    options = {"base_url": server.url, "httpx_args": {"trust_env": False}}
    with package.AuthenticatedClient(token="none", **options) as client:
        refused = generated("api.models.list_models").sync(client=client)
    assert (type(refused), refused.status) == (models.ProblemDocument, 401)
