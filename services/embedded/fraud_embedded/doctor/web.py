"""Checks of MLflow, of the scoring API and of Airflow."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from config import constants, services
from fraud_adapters.models.mlflow_http import LoginRefused, MlflowHttp
from fraud_embedded.doctor.target import Target
from fraud_embedded.processes.probes import HOST
from fraud_embedded.processes.process import StartFailed
from fraud_embedded.servers.airflow_api import AirflowApi
from fraud_launcher.findings import Problem

_SECONDS: Final = 10.0
_FOREIGN_HOST: Final = "doctor.invalid"
_REFUSED: Final = (401, 403)


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body of a response; the body is empty if it is not a JSON object."""

    status: int
    body: Mapping[str, Any]


def ask(port: int, path: str, *, form: Mapping[str, str] | None = None, host: str | None = None) -> Answer:
    """GET, or with `form` POST.

    Raises:
        OSError, http.client.HTTPException: nothing that speaks HTTP answers.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=_SECONDS)
    headers = {"Host": host} if host else {}
    body = None if form is None else urlencode(form)
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    try:
        connection.request("GET" if form is None else "POST", path, body=body, headers=headers)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    try:
        document = json.loads(content)
    except ValueError:
        document = {}
    return Answer(response.status, document if isinstance(document, dict) else {})


def check_mlflow(target: Target) -> str:
    """Whether the server is healthy. Raises Problem."""
    answer = ask(target.ports["mlflow"], "/health")
    if answer.status != 200:
        raise Problem(
            f"{target.url('mlflow')}/health answers {answer.status}.",
            "Look into MLflow's log: ./fraud demo-logs mlflow, or make logs service=mlflow.",
        )
    return f"{target.url('mlflow')} is healthy."


def check_mlflow_users(target: Target) -> str:
    """Log in as each user, and without a log-in.

    Raises:
        RegistryFailure: the server does not answer.
        Problem: a password is refused, or no log-in is needed.
    """
    path = "registered-models/alias"
    query = {"name": "fraud-doctor", "alias": constants.ALIAS_CHAMPION}
    for user in services.mlflow_users():
        variable = services.mlflow_password(user)
        try:
            with MlflowHttp(target.url("mlflow"), (user, target.secret(variable))) as client:
                client.get(path, query, _SECONDS)
        except LoginRefused:
            raise Problem(
                f"MLflow refuses the user {user}: {variable} in .env is not its password.",
                f"Restore {variable} in .env, or restart MLflow, which takes up the passwords of .env.",
            ) from None
    answer = ask(target.ports["mlflow"], f"/api/2.0/mlflow/{path}?{urlencode(query)}")
    if answer.status not in _REFUSED:
        raise Problem(
            f"MLflow answers {answer.status} to a request without a log-in.",
            "Start MLflow by ./fraud demo or make up, with the configuration of services/mlflow.",
        )
    return f"MLflow accepts its {len(services.mlflow_users())} users, and nobody without a log-in."


def check_mlflow_host(target: Target) -> str:
    """Whether MLflow accepts the address by which it is reached, and no foreign name. Raises Problem."""
    port = target.ports["mlflow"]
    if ask(port, "/version").status in _REFUSED and ask(port, "/", host=f"{HOST}:{port}").status == 403:
        raise Problem(
            f"MLflow refuses requests to {HOST}:{port}.", f"Add {HOST}:{port} to MLFLOW_ALLOWED_HOSTS."
        )
    status = ask(port, "/", host=_FOREIGN_HOST).status
    if status != 403:
        raise Problem(
            f"MLflow answers {status} to a request to the foreign host {_FOREIGN_HOST}.",
            "Set MLFLOW_ALLOWED_HOSTS to the addresses by which MLflow is reached.",
        )
    return f"MLflow answers as {HOST}:{port} and refuses foreign host names."


def check_api(target: Target) -> str:
    """Whether the API is ready, with broker, topic and database. Raises Problem."""
    answer = ask(target.ports["api"], "/health/ready?deep=1")
    parts: Mapping[str, Any] = answer.body.get("parts") or {}
    if answer.status == 200 and parts:
        return f"{target.url('api')} is ready with model version {parts['model'].get('version')}."
    failing = [
        f"{name} is {part.get('state')}" + (f" ({part['detail'].rstrip('.')})" if part.get("detail") else "")
        for name, part in parts.items()
        if part.get("state") != "ok"
    ]
    reason = "; ".join(failing) or f"it answers {answer.status}"
    raise Problem(
        f"The scoring API is not ready: {reason}.",
        "Train a model if there is none (./fraud exec --role trainer -- python -m fraud_trainer run), "
        "and start the parts that it names.",
    )


def check_tokens(target: Target) -> str:
    """Fetch a token for each of the platform's own clients, and try a wrong secret. Raises Problem."""
    for client in constants.API_CLIENTS:
        variable = services.client_secret(client)
        answer = _token(target, client, target.secret(variable))
        if answer.status != 200:
            raise Problem(
                f"The API gives the client {client} no token ({answer.status}): "
                f"{variable} in .env is not its secret.",
                f"Restore {variable} in .env, or restart the API, which takes up the secrets of .env.",
            )
    answer = _token(target, constants.CLIENT_AIRFLOW, "wrong")
    if answer.status not in _REFUSED and answer.status != 429:
        raise Problem(
            f"The API answers {answer.status} to a wrong secret.",
            "Check that API_URL is this platform's scoring API.",
        )
    return (
        f"The API gives its clients {', '.join(constants.API_CLIENTS)} tokens, and none for a wrong secret."
    )


def _token(target: Target, client: str, secret: str) -> Answer:
    form = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}
    return ask(target.ports["api"], "/auth/token", form=form)


def check_airflow(target: Target) -> str:
    """Whether metadata database, scheduler and DAG processor are healthy. Raises Problem."""
    answer = ask(target.ports["airflow"], "/api/v2/monitor/health")
    states = {part: (answer.body.get(part) or {}).get("status") for part in _AIRFLOW_PARTS}
    failing = [f"{part} is {state or 'missing'}" for part, state in states.items() if state != "healthy"]
    if answer.status != 200 or failing:
        raise Problem(
            f"Airflow is not healthy: {', '.join(failing) or f'it answers {answer.status}'}.",
            "Look into its logs: ./fraud demo-logs airflow-scheduler, or make logs "
            "service=airflow-scheduler.",
        )
    return f"{target.url('airflow')} is healthy, with scheduler and DAG processor."


_AIRFLOW_PARTS: Final = ("metadatabase", "scheduler", "dag_processor")


@dataclass(frozen=True, slots=True)
class _AirflowServer:
    url: str
    password: str = field(repr=False)


def check_dags(target: Target, folder: Path) -> str:
    """Whether Airflow has read every DAG file of `folder`, and runs the real-time ones. Raises Problem."""
    airflow = AirflowApi(_AirflowServer(target.url("airflow"), target.secret("AIRFLOW_PASSWORD")), _SECONDS)
    try:
        errors = airflow.import_errors()
        dags = airflow.dags()
    except StartFailed as error:
        fix = f"Restore AIRFLOW_PASSWORD in .env, or run {target.start}, which sets it."
        if "refuses" not in str(error):
            fix = f"Start Airflow ({target.start}), and look into the log of airflow-webserver."
        raise Problem(str(error), fix) from None
    if errors:
        file, trace = next(iter(errors.items()))
        last = (trace.strip().splitlines() or ["no reason given"])[-1]
        raise Problem(f"Airflow cannot read {file}: {last}.", f"Correct {file}; Airflow reads it again.")
    if missing := sorted({file.stem for file in folder.glob("[0-9]*.py")} - dags.keys()):
        raise Problem(
            f"Airflow does not know {', '.join(missing)}.",
            "Wait half a minute after a start, then look into the log of airflow-dag-processor.",
        )
    if paused := [dag_id for dag_id in constants.DAGS_REAL_TIME if dags.get(dag_id)]:
        raise Problem(f"{', '.join(paused)} is paused.", "Let the DAGs run: make unpause.")
    return f"Airflow has read its {len(dags)} DAGs without error; the real-time ones run."
