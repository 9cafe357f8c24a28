"""Opens, finds and ends the MLflow runs that belong to training runs, over plain HTTP.

A tag of the MLflow run names the training run's folder, so that later jobs find it even if the job that
opened it was killed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import time
from typing import Any, Final, Literal

from fraud_adapters.job import stopping
from fraud_adapters.models.mlflow_http import MlflowHttp, RegistryUnavailable

TAG_FOLDER: Final = "fraud.run"  # the training run's folder, `runs/<dag>/<run id>`
OPEN_SECONDS: Final = 10.0
_PAGE: Final = 1000

Status = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]
UNFINISHED: Final[frozenset[Status]] = frozenset({"RUNNING", "SCHEDULED"})


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A run in MLflow and its current status."""

    run_id: str
    status: Status
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version of a registered model, with its current aliases."""

    name: str
    version: str
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: frozenset[str] = frozenset()


class TrackedRuns:
    """Every method raises a `RegistryFailure` if MLflow does not return a valid response."""

    def __init__(self, mlflow: MlflowHttp) -> None:
        self._mlflow = mlflow

    def open(self, experiment: str, folder: str, name: str, tags: Mapping[str, str]) -> str:
        """Open a run in an experiment, which is created if missing; returns the run's id.

        Signals are deferred until the response: an interrupted request would leave an unknown open run.
        """
        with stopping.signals_deferred():
            body = {
                "experiment_id": self._experiment(experiment),
                "run_name": name,
                "start_time": _now(),
                "tags": [{"key": key, "value": value} for key, value in {**tags, TAG_FOLDER: folder}.items()],
            }
            return str(self._post("runs/create", body, OPEN_SECONDS)["run"]["info"]["run_id"])

    def find(self, folder: str) -> list[TrackedRun]:
        """The runs of a training run, the latest first."""
        experiments = self._post("experiments/search", {"max_results": _PAGE}).get("experiments", [])
        query = {
            "experiment_ids": [document["experiment_id"] for document in experiments],
            "filter": f"tags.`{TAG_FOLDER}` = '{folder}'",
            "order_by": ["attributes.start_time DESC"],
            "max_results": _PAGE,
        }
        return [_tracked(document) for document in self._post("runs/search", query).get("runs", [])]

    def get(self, run_id: str) -> TrackedRun | None:
        """The run of that id, or None if it does not exist."""
        answer = self._mlflow.get("runs/get", {"run_id": run_id})
        return None if answer is None else _tracked(answer["run"])

    def resume(self, run: TrackedRun) -> None:
        """Set the run's status to RUNNING because work on it continues; a finished run stays finished."""
        if run.status not in {"RUNNING", "FINISHED"}:
            self._post("runs/update", {"run_id": run.run_id, "status": "RUNNING"})

    def end(self, run_id: str, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        self._post("runs/update", {"run_id": run_id, "status": status, "end_time": _now()})

    def end_unfinished(self, runs: Sequence[TrackedRun], status: Literal["FAILED", "KILLED"]) -> list[str]:
        """End the runs that are still open; returns their ids."""
        unfinished = [run.run_id for run in runs if run.status in UNFINISHED]
        for run_id in unfinished:
            self.end(run_id, status)
        return unfinished

    def versions(self, run_id: str) -> list[ModelVersion]:
        """The model versions made from a run."""
        query = {"filter": f"run_id='{run_id}'", "max_results": str(_PAGE)}
        answer = self._mlflow.get("model-versions/search", query) or {}
        return [self._version(document) for document in answer.get("model_versions", [])]

    def _version(self, document: Mapping[str, Any]) -> ModelVersion:
        name, version = str(document["name"]), str(document["version"])
        # The response of a search does not contain aliases.
        model = (self._mlflow.get("registered-models/get", {"name": name}) or {}).get("registered_model", {})
        aliases = {entry["alias"] for entry in model.get("aliases", []) if str(entry["version"]) == version}
        return ModelVersion(name, version, _mapping(document.get("tags", [])), frozenset(aliases))

    def _experiment(self, name: str) -> str:
        document = self._mlflow.get("experiments/get-by-name", {"experiment_name": name})
        if document is not None:
            return str(document["experiment"]["experiment_id"])
        return str(self._post("experiments/create", {"name": name}, OPEN_SECONDS)["experiment_id"])

    def _post(self, route: str, body: Mapping[str, Any], seconds: float = 5.0) -> dict[str, Any]:
        answer = self._mlflow.post(route, body, seconds)
        if answer is None:
            raise RegistryUnavailable(f"MLflow at {self._mlflow.uri} does not know what {route} names.")
        return answer


def _tracked(document: Mapping[str, Any]) -> TrackedRun:
    info = document["info"]
    tags = _mapping(document.get("data", {}).get("tags", []))
    return TrackedRun(str(info["run_id"]), info["status"], tags)


def _mapping(pairs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {pair["key"]: pair.get("value", "") for pair in pairs}


def _now() -> int:
    """Milliseconds, as MLflow counts."""
    return int(time() * 1000)
