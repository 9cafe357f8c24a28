"""What each user of the MLflow server may do there, tested against the server itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from config.services import mlflow_password
from fraud_adapters.models.mlflow_http import LoginRefused, MlflowHttp, RequestForbidden
from fraud_adapters.models.registry import ARTEFACT_PATH, Registry
from fraud_adapters.models.registry_writer import RegistryWriter
from fraud_adapters.models.tracked_runs import TrackedRuns
from fraud_embedded.servers.stack import Stack
from fraud_mlflow import accounts, users
from tests.support.mlflow_users import mlflow_login

API = "/api/2.0/mlflow"
NAMES = (users.API, users.PERSON, users.RELEASE, users.TRAINER, users.ADMIN)
EVERYBODY, NOBODY_ELSE = set(NAMES), {users.ADMIN}
RELEASES, TRAINS = {users.RELEASE, users.TRAINER, users.ADMIN}, {users.TRAINER, users.ADMIN}
WRONG = "not the password of anybody"


@dataclass(frozen=True)
class Registered:
    """A run and a registered model with one version, made by the trainer."""

    uri: str
    model: str
    experiment: str
    run: str

    def artefact(self) -> str:
        folder = f"{self.experiment}/{self.run}/artifacts/{ARTEFACT_PATH}"
        return f"/api/2.0/mlflow-artifacts/artifacts/{folder}/notes.txt"


@pytest.fixture(scope="module")
def registered(mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Registered:
    name = f"fraud-{uuid.uuid4().hex[:8]}"
    folder = tmp_path_factory.mktemp("files")
    (folder / "notes.txt").write_text("a file of the run", encoding="utf-8")
    with MlflowHttp(mlflow_uri) as http:
        run = TrackedRuns(http).open(name, f"runs/test/{name}", "first", {})
        document = http.get("runs/get", {"run_id": run})
    assert document is not None
    writer = RegistryWriter(mlflow_uri)
    writer.log_files(run, folder, ARTEFACT_PATH)
    writer.register(name, run, {})
    return Registered(mlflow_uri, name, str(document["run"]["info"]["experiment_id"]), run)


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=30) as client:
        yield client


def password(user: str) -> str:
    return os.environ[mlflow_password(user)]


def test_the_page_asks_for_a_log_in_and_the_health_of_the_server_does_not(
    mlflow_uri: str, http: httpx.Client
) -> None:
    for login in (None, (users.PERSON, WRONG), ("nobody", WRONG)):
        page = http.get(mlflow_uri, auth=login)
        assert (page.status_code, page.headers["WWW-Authenticate"]) == (401, 'Basic realm="mlflow"')
    page = http.get(mlflow_uri, auth=(users.PERSON, password(users.PERSON)))
    assert (page.status_code, "<script>" in page.text) == (200, True)
    assert http.get(f"{mlflow_uri}/health").text == "OK"


def test_a_foreign_host_is_refused_and_the_name_in_compose_is_not(
    mlflow_uri: str, http: httpx.Client
) -> None:
    port = mlflow_uri.rpartition(":")[2]

    def status(host: str) -> int:
        login = (users.PERSON, password(users.PERSON))
        return http.get(mlflow_uri, headers={"Host": host}, auth=login).status_code

    hosts = (f"mlflow:{port}", f"localhost:{port}", f"fraud.example.com:{port}", "mlflow")
    assert [status(host) for host in hosts] == [200, 200, 403, 403]


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> Any:
    def log_in(user: str, secret: str | None = None) -> None:
        for name, value in mlflow_login(user).items():
            monkeypatch.setenv(name, value)
        if secret is not None:
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", secret)

    return log_in


def test_the_stock_client_logs_in_with_its_own_variables(mlflow_uri: str, as_user: Any) -> None:
    from mlflow import MlflowClient  # noqa: PLC0415
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    client = MlflowClient(tracking_uri=mlflow_uri, registry_uri=mlflow_uri)
    name = f"fraud-{uuid.uuid4().hex[:8]}"
    run = client.create_run(client.create_experiment(name))
    client.log_metric(run.info.run_id, "recall", 0.9)
    client.create_registered_model(name)
    client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
    as_user(users.RELEASE)
    client.set_registered_model_alias(name, "champion", "1")
    with pytest.raises(MlflowException, match="may not POST"):
        client.log_metric(run.info.run_id, "recall", 1)
    with pytest.raises(MlflowException, match="may not DELETE"):
        client.delete_model_version(name, "1")
    for user in (users.API, users.PERSON):
        as_user(user)
        assert client.get_model_version_by_alias(name, "champion").version == "1"
        assert client.get_run(run.info.run_id).data.metrics == {"recall": 0.9}
        with pytest.raises(MlflowException, match="may not POST"):
            client.set_registered_model_alias(name, "challenger", "1")


def test_our_clients_name_the_variable_or_the_right_that_is_missing(
    registered: Registered, as_user: Any
) -> None:
    as_user(users.API, WRONG)
    with Registry(registered.uri) as registry, pytest.raises(LoginRefused, match="MLFLOW_TRACKING_PASSWORD"):
        registry.version_of_alias(registered.model, "champion")
    with pytest.raises(LoginRefused, match="password of the user api"):
        RegistryWriter(registered.uri).set_alias(registered.model, "champion", "1")
    as_user(users.API)
    with pytest.raises(RequestForbidden, match="the user api has no right"):
        RegistryWriter(registered.uri).set_alias(registered.model, "champion", "1")
    alias = {"name": registered.model, "alias": "champion", "version": "1"}
    login = (users.RELEASE, password(users.RELEASE))
    with MlflowHttp(registered.uri) as reader, MlflowHttp(registered.uri, login) as releaser:
        with pytest.raises(RequestForbidden, match="registered-models/alias"):
            reader.post("registered-models/alias", alias)
        assert releaser.post("registered-models/alias", alias) == {}


@pytest.mark.parametrize("user", NAMES)
def test_what_does_not_exist_is_absent_and_not_forbidden(mlflow_uri: str, user: str) -> None:
    with MlflowHttp(mlflow_uri, (user, password(user))) as client:
        assert client.get("registered-models/alias", {"name": "fraud-absent", "alias": "champion"}) is None
        assert client.get("model-versions/get", {"name": "fraud-absent", "version": "1"}) is None
        assert client.get("registered-models/get", {"name": "fraud-absent"}) is None
        assert client.get("runs/get", {"run_id": uuid.uuid4().hex}) is None
        assert client.get("experiments/get-by-name", {"experiment_name": "absent"}) is None
        if user in RELEASES:
            alias = {"name": "fraud-absent", "alias": "champion", "version": "1"}
            assert client.post("registered-models/alias", alias) is None


def test_a_job_with_a_wrong_password_ends_at_once(mlflow_uri: str) -> None:
    code = (
        "from fraud_adapters.job import run; from fraud_trainer.first_start import champion; "
        "run('test', lambda _: {'champion': champion()})"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "MLFLOW_TRACKING_URI": mlflow_uri,
        "MLFLOW_TRACKING_PASSWORD": WRONG,
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"configuration: MLflow at {mlflow_uri} does not accept the password of the user trainer: "
        "correct MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
    )


@pytest.mark.filterwarnings("ignore::Warning")  # MLflow's own
def test_users_are_prepared_again_at_each_start(mlflow_uri: str, stack: Stack) -> None:
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore  # noqa: PLC0415

    store: Any = SqlAlchemyStore()
    store.init_db(stack.mlflow.database_url.replace("postgresql:", "postgresql+psycopg2:", 1))
    before = {user.username: user.id for user in store.list_users()}
    assert set(before) >= set(NAMES)
    variables = dict(stack.mlflow.users)
    changed = variables | {mlflow_password(users.PERSON): "another password", users.PERSON_RELEASES: "1"}

    def person() -> tuple[bool, set[str]]:
        grants = store.list_grants(before[users.PERSON], "default", {"registered_model"})
        accepted = store.authenticate_user(users.PERSON, "another password")
        return accepted, {grant.permission for grant in grants if grant.resource_pattern == "*"}

    assert person() == (False, {"READ"})
    for environ, expected in (
        (changed, (True, {"MANAGE"})),
        (changed, (True, {"MANAGE"})),
        (variables, (False, {"READ"})),
    ):
        accounts.prepare(store, users.users(environ))
        assert person() == expected
    assert store.authenticate_user(users.PERSON, variables[mlflow_password(users.PERSON)])
    assert {user.username: user.id for user in store.list_users()} == before
    assert [user.username for user in store.list_users() if user.is_admin] == [users.ADMIN]
    assert not store.list_grants(before[users.PERSON], "default", {"registered_model_version"})
    store.engine.dispose()


Case = tuple[set[str], str, str, dict[str, Any] | None]
# Who may send a request, what it is, and its body; {…} is filled in from the registered model.
SOURCE = "mlflow-artifacts:/{experiment}/{run}/artifacts/model"
GRAPHQL = {
    "operationName": "GetRun",
    "query": "query GetRun($data: MlflowGetRunInput!) { mlflowGetRun(input: $data) { __typename } }",
    "variables": {"data": {"runId": "{run}"}},
}
GRANT = {
    "username": "{user}",
    "resource_type": "registered_model",
    "resource_id": "{model}",
    "permission": "MANAGE",
}
# The last ones delete what the earlier ones need.
REQUESTS: list[Case] = [
    (EVERYBODY, "GET", "/", None),
    (EVERYBODY, "GET", "/version", None),
    (EVERYBODY, "GET", f"{API}/runs/get?run_id={{run}}", None),
    (EVERYBODY, "POST", f"{API}/runs/search", {"experiment_ids": ["{experiment}"]}),
    (EVERYBODY, "POST", f"{API}/experiments/search", {"max_results": 5}),
    (EVERYBODY, "GET", f"{API}/model-versions/search?filter=name%3D'{{model}}'", None),
    (EVERYBODY, "GET", f"{API}/model-versions/get-download-uri?name={{model}}&version=1", None),
    (EVERYBODY, "GET", "{artefact}", None),
    (EVERYBODY, "POST", "/graphql", GRAPHQL),
    (RELEASES, "POST", f"{API}/registered-models/alias", {"name": "{model}", "alias": "x", "version": "1"}),
    (RELEASES, "DELETE", f"{API}/registered-models/alias", {"name": "{model}", "alias": "x"}),
    (TRAINS, "POST", f"{API}/experiments/create", {"name": "{new}"}),
    (TRAINS, "POST", f"{API}/runs/create", {"experiment_id": "{experiment}"}),
    (TRAINS, "POST", f"{API}/runs/log-parameter", {"run_id": "{run}", "key": "{new}", "value": "1"}),
    (TRAINS, "POST", f"{API}/registered-models/create", {"name": "{new}"}),
    (
        TRAINS,
        "POST",
        f"{API}/model-versions/create",
        {"name": "{model}", "source": SOURCE, "run_id": "{run}"},
    ),
    (TRAINS, "POST", f"{API}/model-versions/set-tag", {"name": "{model}", "version": "1", "key": "k"}),
    (TRAINS, "PUT", "{artefact}", {"any": "content"}),
    (NOBODY_ELSE, "POST", f"{API}/users/create", {"username": "{new}", "password": "123456789012"}),
    (NOBODY_ELSE, "PATCH", f"{API}/users/update-admin", {"username": "{user}", "is_admin": True}),
    (NOBODY_ELSE, "POST", "/api/3.0/mlflow/users/permissions/grant", GRANT),
    (NOBODY_ELSE, "DELETE", "{artefact}", None),
    (NOBODY_ELSE, "POST", f"{API}/runs/delete", {"run_id": "{run}"}),
    (NOBODY_ELSE, "DELETE", f"{API}/model-versions/delete", {"name": "{model}", "version": "1"}),
    (NOBODY_ELSE, "DELETE", f"{API}/registered-models/delete", {"name": "{model}"}),
    (NOBODY_ELSE, "POST", f"{API}/experiments/delete", {"experiment_id": "{experiment}"}),
]


@pytest.mark.parametrize(
    "case", REQUESTS, ids=[f"{method} {path.partition('?')[0]}" for _allowed, method, path, _body in REQUESTS]
)
def test_who_may_send_it(registered: Registered, http: httpx.Client, case: Case) -> None:
    allowed, method, path, body = case
    values = {
        "model": registered.model,
        "run": registered.run,
        "experiment": registered.experiment,
        "artefact": registered.artefact(),
    }
    answers: dict[str, int] = {}
    for user in NAMES:
        fill = {**values, "new": uuid.uuid4().hex, "user": user}
        content = _filled(body, fill)
        url = registered.uri + _filled(path, fill)
        response = http.request(method, url, json=content, auth=(user, password(user)))
        answers[user] = response.status_code
    assert {user for user, status in answers.items() if status == 200} == allowed, answers
    refused = {status for user, status in answers.items() if user not in allowed | {users.ADMIN}}
    assert refused <= {403}, answers
    stranger = http.request(method, registered.uri + _filled(path, values))
    assert stranger.status_code == 401


def _filled(body: Any, values: dict[str, str]) -> Any:
    if isinstance(body, dict):
        return {key: _filled(value, values) for key, value in body.items()}
    if isinstance(body, list):
        return [_filled(value, values) for value in body]
    if isinstance(body, str):
        return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], body)
    return body
