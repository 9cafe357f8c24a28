"""Speaks with the running Airflow over its REST API, as the person who logs in."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

from config.constants import AIRFLOW_USER
from fraud_embedded.processes import probes
from fraud_embedded.processes.process import StartFailed

_TIMEOUT_S: Final = 30


@dataclass(frozen=True, slots=True)
class DagRun:
    """One run of a DAG; times are None before it starts or ends."""

    run_id: str
    state: str
    run_type: str
    started: datetime | None
    ended: datetime | None


class Server(Protocol):
    """Where Airflow answers, and the password of its user."""

    @property
    def url(self) -> str: ...

    @property
    def password(self) -> str: ...


@dataclass(slots=True)
class AirflowApi:
    """The REST API of one Airflow; logs in when it has to. An answer may take `seconds`."""

    server: Server
    seconds: float = _TIMEOUT_S
    _token: str = field(default="", repr=False)

    def known(self, dag_id: str) -> bool:
        """Whether Airflow has read the DAG's file."""
        return self._call("GET", f"/api/v2/dags/{dag_id}", missing=None) is not None

    def paused(self, dag_id: str) -> bool:
        """Whether the DAG's schedule rests."""
        return bool(self._call("GET", f"/api/v2/dags/{dag_id}")["is_paused"])

    def pause(self, dag_id: str, paused: bool) -> bool:
        """Pause or unpause a DAG; False where there is no such DAG."""
        answer = self._call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": paused}, missing=None)
        return answer is not None

    def trigger(self, dag_id: str, parameters: Mapping[str, Any] | None = None) -> str:
        """Start a run now, as the form of the DAG's page does; its id."""
        body = {"logical_date": None, "conf": dict(parameters or {})}
        return str(self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def runs(self, dag_id: str, since: datetime | None = None, limit: int = 100) -> list[DagRun]:
        """The latest runs, the newest first."""
        query = {"limit": str(limit), "order_by": "-run_after"}
        if since is not None:
            query["start_date_gte"] = since.isoformat()
        document = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns?{urllib.parse.urlencode(query)}")
        return [_run(item) for item in document["dag_runs"]]

    def tasks(self, dag_id: str, run_id: str) -> dict[str, str]:
        """The state of each task of a run."""
        run = urllib.parse.quote(run_id, safe="")
        document = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run}/taskInstances")
        return {item["task_id"]: str(item["state"]) for item in document["task_instances"]}

    def log(self, dag_id: str, run_id: str, task_id: str, attempt: int = 1) -> str:
        """What a task wrote, a line for each event."""
        run = urllib.parse.quote(run_id, safe="")
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run}/taskInstances/{task_id}/logs/{attempt}?full_content=true"
        document = self._call("GET", path)["content"]
        return "\n".join(line if isinstance(line, str) else json.dumps(line) for line in document)

    def dags(self) -> dict[str, bool]:
        """The DAGs that Airflow has read, and whether each is paused."""
        document = self._call("GET", "/api/v2/dags?limit=100")
        return {item["dag_id"]: bool(item["is_paused"]) for item in document["dags"]}

    def import_errors(self) -> dict[str, str]:
        """DAG files that could not be read, with the reason."""
        document = self._call("GET", "/api/v2/importErrors")
        return {item["filename"]: item["stack_trace"] for item in document["import_errors"]}

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, missing: Any = StartFailed
    ) -> Any:
        for _ in range(2):
            if not self._token:
                self._token = self._log_in()
            try:
                return self._send(method, path, body, {"Authorization": f"Bearer {self._token}"})
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 404 and missing is not StartFailed:
                    return missing
                if error.code != 401:
                    raise StartFailed(f"airflow answers {error.code} to {method} {path}.") from None
                self._token = ""
            except (OSError, ValueError) as error:
                raise StartFailed(
                    f"airflow does not answer {method} {path} ({type(error).__name__})."
                ) from None
        raise StartFailed("airflow refuses AIRFLOW_PASSWORD: ./fraud demo sets the one in .env.")

    def _log_in(self) -> str:
        body = {"username": AIRFLOW_USER, "password": self.server.password}
        try:
            return str(self._send("POST", "/auth/token", body, {})["access_token"])
        except urllib.error.HTTPError as error:
            error.close()
            message = f"airflow refuses the log-in of {AIRFLOW_USER} ({error.code})"
            raise StartFailed(f"{message}: ./fraud demo sets AIRFLOW_PASSWORD.") from None
        except (OSError, ValueError, LookupError) as error:
            raise StartFailed(f"airflow does not answer ({type(error).__name__}).") from None

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None, headers: dict[str, str]) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - our own address
            self.server.url + path,
            data,
            {"Content-Type": "application/json", "Accept": "application/json", **headers},
            method=method,
        )
        with probes.direct().open(request, timeout=self.seconds) as answer:
            return json.loads(answer.read() or b"null")


def _run(document: Mapping[str, Any]) -> DagRun:
    return DagRun(
        run_id=document["dag_run_id"],
        state=document["state"],
        run_type=document["run_type"],
        started=_time(document["start_date"]),
        ended=_time(document["end_date"]),
    )


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
