"""MLflow's model registry and runs over its REST API; MLflow itself is not in Airflow's environment."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from config import constants
from fraud_airflow.http import ANSWER_SECONDS, HttpAnswer, HttpService

_ROUTES: Final = "/api/2.0/mlflow/"
_PAGE: Final = 100
_UNAUTHENTICATED: Final = 401
_FORBIDDEN: Final = 403
_PASSWORD: Final = "MLFLOW_TRACKING_PASSWORD"  # noqa: S105 - the variable
_ABSENT: Final = "RESOURCE_DOES_NOT_EXIST"


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a registered model; `created_at` in RFC 3339, UTC."""

    name: str
    version: str
    run_id: str
    aliases: tuple[str, ...]
    tags: dict[str, str]
    created_at: str


@dataclass(frozen=True, slots=True)
class Run:
    """What a run logged; of each metric the last value."""

    run_id: str
    status: str
    metrics: dict[str, float]
    params: dict[str, str]
    tags: dict[str, str]


class FraudMlflowHook(BaseHook):
    """Queries MLflow, and sets aliases.

    Every method raises AirflowException with one sentence if MLflow cannot answer, and AirflowFailException,
    which is not retried, if MLflow refuses the log-in or the request.

    It logs in with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, as MLflow's own client does.

    Args:
        tracking_uri: MLFLOW_TRACKING_URI if not given.
        seconds: the time limit of a response.
    """

    def __init__(self, tracking_uri: str | None = None, *, seconds: float = ANSWER_SECONDS) -> None:
        super().__init__()
        uri = (tracking_uri or constants.ENV_VARS["MLFLOW_TRACKING_URI"]).rstrip("/")
        self._service = HttpService("MLflow", uri, "correct MLFLOW_TRACKING_URI, or start MLflow.")
        self._seconds = seconds

    def model_version(self, name: str, alias: str) -> ModelVersion | None:
        """The version an alias names; None where there is no such model or alias."""
        query = {"name": name, "alias": alias}
        answer = self._answer("GET", "registered-models/alias", params=query)
        # MLflow reports a missing alias as an invalid parameter.
        if answer.status != 200 and (_is_absent(answer) or "alias" in answer.detail):
            return None
        return _version(self._checked_document("registered-models/alias", answer)["model_version"])

    def model_versions(self, name: str) -> list[ModelVersion]:
        """All versions of a registered model, the newest first; empty where there is no such model."""
        if "'" in name:
            raise AirflowException(
                f"The name of a registered model must not contain a quotation mark: {name!r}."
            )
        query = {"filter": f"name='{name}'", "max_results": _PAGE}
        versions = [_version(item) for page in self._pages(query) for item in page.get("model_versions", [])]
        return sorted(versions, key=lambda version: int(version.version), reverse=True)

    def run(self, run_id: str) -> Run:
        """A run's status, metrics, parameters and tags."""
        answer = self._answer("GET", "runs/get", params={"run_id": run_id})
        if _is_absent(answer):
            raise AirflowException(f"{self._service.title} has no run {run_id}.")
        run = self._checked_document("runs/get", answer)["run"]
        data = run.get("data", {})
        return Run(
            run_id=run_id,
            status=run["info"]["status"],
            metrics={metric["key"]: float(metric["value"]) for metric in data.get("metrics", [])},
            params=_pairs(data.get("params", [])),
            tags=_pairs(data.get("tags", [])),
        )

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Make an alias name a version."""
        body = {"name": name, "alias": alias, "version": version}
        answer = self._answer("POST", "registered-models/alias", json=body)
        if _is_absent(answer):
            raise AirflowException(f"{self._service.title} has no version {version} of {name}.")
        self._checked_document("registered-models/alias", answer)

    def _pages(self, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
        page: dict[str, Any] = {"next_page_token": ""}
        while (token := page.get("next_page_token")) is not None:
            more = {"page_token": token} if token else {}
            answer = self._answer("GET", "model-versions/search", params=query | more)
            page = self._checked_document("model-versions/search", answer)
            yield page

    def _answer(self, method: str, route: str, **options: Any) -> HttpAnswer:
        user = constants.ENV_VARS["MLFLOW_TRACKING_USERNAME"]
        answer = self._service.request(
            method, _ROUTES + route, headers=_authorization(user), seconds=self._seconds, **options
        )
        if answer.status == _UNAUTHENTICATED:
            raise AirflowFailException(
                f"{self._service.title} does not accept the password of the user {user}: "
                f"correct {_PASSWORD} of Airflow's workers."
            )
        if answer.status == _FORBIDDEN:
            raise AirflowFailException(f"{self._service.title} refuses {route}: {answer.detail}.")
        return answer

    def _checked_document(self, route: str, answer: HttpAnswer) -> dict[str, Any]:
        if answer.status != 200:
            raise AirflowException(f"{self._service.title} refuses {route}: {answer.detail}.")
        if not isinstance(answer.document, dict):
            raise self._service.unexpected_answer(f"no JSON for {route}")
        return answer.document


def _authorization(user: str) -> dict[str, str]:
    password = constants.secret(_PASSWORD, os.environ)
    if not password:
        raise AirflowFailException(f"{_PASSWORD} is not set for Airflow's workers: set it in .env.")
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def _is_absent(answer: HttpAnswer) -> bool:
    return isinstance(answer.document, dict) and answer.document.get("error_code") == _ABSENT


def _version(item: dict[str, Any]) -> ModelVersion:
    created = datetime.fromtimestamp(int(item["creation_timestamp"]) / 1000, UTC)
    return ModelVersion(
        name=item["name"],
        version=str(item["version"]),
        run_id=item.get("run_id", ""),
        aliases=tuple(item.get("aliases", ())),
        tags=_pairs(item.get("tags", [])),
        created_at=created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )


def _pairs(items: list[dict[str, str]]) -> dict[str, str]:
    return {item["key"]: item.get("value", "") for item in items}
