"""Starts and reads the runs of one DAG over Airflow's REST API, as a user that may do only that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast
from urllib.parse import quote

import httpx

from fraud_adapters.job.failures import PassingFailure, RefusedFailure

CONNECT_SECONDS: Final = 2.0
READ_SECONDS: Final = 10.0
RunState = Literal["queued", "running", "success", "failed"]
_ACTIVE: Final[tuple[RunState, ...]] = ("queued", "running")


class AirflowUnavailable(PassingFailure):
    """Airflow does not answer, or not as it should; one sentence with its address."""


class RunNotPossible(RefusedFailure):
    """A run cannot be started now; `run_id` is the run that is in the way, if one is."""

    def __init__(self, sentence: str, run_id: str | None = None) -> None:
        super().__init__(sentence)
        self.run_id = run_id


class ConfRefused(RefusedFailure):
    """Airflow does not start a run with this configuration; its sentence."""


@dataclass(frozen=True, slots=True)
class DagRun:
    """A run of the DAG; times are RFC 3339, None before it starts or ends."""

    run_id: str
    state: RunState
    started_at: str | None
    ended_at: str | None


class AirflowRuns:
    """The runs of one DAG; safe to use from several threads.

    Args:
        url: Airflow's address, for example `http://airflow-webserver:8080`.
    """

    def __init__(self, url: str, user: str, password: str, dag: str) -> None:
        self._url = url.rstrip("/")
        self._user, self._password = user, password
        self._dag = dag
        self._path = f"/api/v2/dags/{dag}"
        self._token = ""
        self._http = httpx.Client(timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS))

    def start(self, run_id: str, conf: Mapping[str, Any]) -> DagRun:
        """Start a run with this id and configuration, unless one is active.

        Raises:
            RunNotPossible: a run is active, or the DAG is paused.
            ConfRefused: the configuration is wrong.
            AirflowUnavailable: no valid response in time.
        """
        if self._json("GET", self._path)["is_paused"]:
            raise RunNotPossible(
                f"The DAG {self._dag} is paused: a run would wait until it is unpaused in Airflow."
            )
        if (active := self._active()) is not None:
            raise RunNotPossible(f"A training is {active.state} already.", active.run_id)
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)}
        answer = self._request("POST", f"{self._path}/dagRuns", json=body)
        refused = _parsed(answer) if answer.status_code == httpx.codes.BAD_REQUEST else None
        if refused is not None and isinstance(refused.get("detail"), str):
            raise ConfRefused(refused["detail"])
        return _run(self._document(answer))

    def get(self, run_id: str) -> DagRun | None:
        """The run of that id, or None if there is none.

        Raises:
            AirflowUnavailable: no valid response in time.
        """
        answer = self._request("GET", f"{self._path}/dagRuns/{quote(run_id, safe='')}")
        return None if answer.status_code == httpx.codes.NOT_FOUND else _run(self._document(answer))

    def close(self) -> None:
        self._http.close()

    def _active(self) -> DagRun | None:
        query = {"state": list(_ACTIVE), "limit": 1}
        runs = self._json("GET", f"{self._path}/dagRuns", params=query)["dag_runs"]
        return _run(runs[0]) if runs else None

    def _json(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        return self._document(self._request(method, path, **content))

    def _document(self, answer: httpx.Response) -> dict[str, Any]:
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise AirflowUnavailable(f"Airflow at {self._url} does not know the DAG {self._dag}.")
        document = _parsed(answer)
        if not answer.is_success or document is None:
            raise AirflowUnavailable(
                f"Airflow at {self._url} answered {answer.status_code} to {answer.url.path}."
            )
        return document

    def _request(self, method: str, path: str, **content: Any) -> httpx.Response:
        """The response to a request with a token; a new one is fetched if Airflow does not accept it."""
        token = self._token or self._log_in()
        answer = self._send(method, path, headers={"Authorization": f"Bearer {token}"}, **content)
        # 401: expired; 403: also signed with a key that Airflow no longer has.
        if answer.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            headers = {"Authorization": f"Bearer {self._log_in()}"}
            answer = self._send(method, path, headers=headers, **content)
        return answer

    def _log_in(self) -> str:
        answer = self._send("POST", "/auth/token", json={"username": self._user, "password": self._password})
        token = (_parsed(answer) or {}).get("access_token")
        if not answer.is_success or not token:
            raise AirflowUnavailable(
                f"Airflow at {self._url} refuses the log-in of {self._user} ({answer.status_code})."
            )
        self._token = str(token)
        return self._token

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            return self._http.request(method, self._url + path, **content)
        except httpx.HTTPError as error:
            raise AirflowUnavailable(
                f"Airflow at {self._url} does not answer ({type(error).__name__})."
            ) from None


def _parsed(answer: httpx.Response) -> dict[str, Any] | None:
    try:
        document = answer.json()
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _run(document: Mapping[str, Any]) -> DagRun:
    return DagRun(
        str(document["dag_run_id"]),
        cast(RunState, document["state"]),
        document.get("start_date"),
        document.get("end_date"),
    )
