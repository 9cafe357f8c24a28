"""The floors under the API: small FastAPI applications, as one would write them, each one uvicorn worker.

All read the same Pydantic model of the contract. `validating` does nothing else. `storing` scores by the same
ONNX model and stores by two prepared INSERTs and a commit before it answers. `scoring` takes lists, scores
them by the same XGBoost model, and stores nothing. None knows tokens, replays, conflicts, labels or alerts.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from threading import local
from typing import Any, Final

import numpy as np
import orjson
import psycopg2
from fastapi import FastAPI, Response
from pydantic import BaseModel, create_model

from config.settings import PlatformSettings, contract, load
from fraud_adapters.models.loading import Model
from fraud_core.contract import Contract
from fraud_core.manifest import Manifest
from fraud_core.record_model import record_model
from fraud_embedded.processes.ports import free_ports
from tests.benchmarks.prepared_inserts import NUMBERS, insert, prepare
from tests.support.waiting import eventually

ROOT: Final = Path(__file__).parents[2]
THRESHOLD: Final = 0.5
READY_SECONDS: Final = 60.0
# What one of the floors reads from its environment.
MODEL_DIRECTORY: Final = "FLOOR_MODEL"
DATABASE_URL: Final = "FLOOR_DATABASE_URL"


def validating() -> FastAPI:
    """Only reads and checks a transaction."""
    record_type = record_model(_contract())
    app = FastAPI()

    async def predict(record: BaseModel) -> dict[str, Any]:
        return {"transaction_id": record.transaction_id}  # type: ignore[attr-defined]

    _add(app, "/predict", predict, record_type)
    return app


def storing() -> FastAPI:
    """Scores one transaction, stores it with its prediction, and answers."""
    rules = _contract()
    record_type = record_model(rules)
    model, computed = _model(rules), _features(rules)
    connections = local()
    app = FastAPI()

    def connection() -> Any:
        """Of this thread: FastAPI runs plain functions on several."""
        if not hasattr(connections, "of_this_thread"):
            connections.of_this_thread = psycopg2.connect(os.environ[DATABASE_URL])
            with connections.of_this_thread as opened, opened.cursor() as cursor:
                prepare(cursor)
        return connections.of_this_thread

    def predict(record: BaseModel) -> dict[str, Any]:
        values = record.model_dump()
        features = np.array([[compute(values) for compute in computed]], np.float32)
        score = float(model.score_single(features).values[0])
        now = datetime.now(UTC)
        identifier, flagged = values["transaction_id"], score >= THRESHOLD
        decision = "review" if flagged else "approve"
        transaction = [identifier, now, *(values[number] for number in NUMBERS), rules.schema_id, "floor"]
        prediction = [identifier, score, round(score, 4), flagged, decision, features[0].tolist()]
        prediction += [1.0, now, "1", "champion", True, "onnx", "0"]
        with connection() as opened, opened.cursor() as cursor:
            insert(cursor, transaction, prediction)
        return {"transaction_id": identifier, "prediction": int(flagged), "score": score}

    _add(app, "/predict", predict, record_type)
    return app


def scoring() -> FastAPI:
    """Scores a list of transactions; written so that FastAPI need not look at the answer."""
    rules = _contract()
    model, computed = _model(rules), _features(rules)
    records_type: Any = list.__class_getitem__(record_model(rules))
    body = create_model("Transactions", transactions=(records_type, ...))

    async def predict(listed: BaseModel) -> Response:
        records = listed.transactions  # type: ignore[attr-defined]
        rows = [one.__dict__ for one in records]
        features = np.array([[compute(row) for compute in computed] for row in rows], np.float32)
        scores = model.score_batch(features).values.tolist()
        answers = [
            {"transaction_id": one.transaction_id, "prediction": int(score >= THRESHOLD), "score": score}
            for one, score in zip(records, scores, strict=True)
        ]
        return Response(orjson.dumps({"predictions": answers}), media_type="application/json")

    app = FastAPI()
    _add(app, "/predict/batch", predict, body)
    return app


def _add(app: FastAPI, path: str, endpoint: Any, body: type[BaseModel]) -> None:
    parameter = next(iter(endpoint.__annotations__))
    endpoint.__annotations__ |= {parameter: body, "return": None}
    app.post(path, response_model=None)(endpoint)


def _contract() -> Contract:
    return contract(load(PlatformSettings))


def _features(rules: Contract) -> list[Callable[[Mapping[str, Any]], float]]:
    """How each feature comes from a transaction's fields; those of the contract `creditcard` are numbers."""

    def modulo(field: str, divisor: float) -> Callable[[Mapping[str, Any]], float]:
        return lambda values: values[field] % divisor

    return [itemgetter(one.of) if one.by is None else modulo(one.of, one.by) for one in rules.features]


def _model(rules: Contract) -> Model:
    directory = Path(os.environ[MODEL_DIRECTORY])
    manifest = Manifest.from_json((directory / "manifest.json").read_bytes())
    return Model.load(directory, manifest.digest(), rules)


@dataclass(frozen=True, slots=True)
class Floor:
    """One of the applications, as a process."""

    port: int
    pid: int


@contextmanager
def serving(application: str, model: Path, database_url: str, log: Path) -> Iterator[Floor]:
    """Run one of the applications: `validating`, `storing` or `scoring`."""
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "uvicorn", "--factory", f"{__name__}:{application}"]
    command += ["--port", str(port), "--http", "httptools", "--loop", "uvloop"]
    command += ["--no-access-log", "--log-level", "warning"]
    variables = {MODEL_DIRECTORY: str(model), DATABASE_URL: database_url}
    path = os.pathsep.join(one for one in sys.path if one)
    with log.open("wb") as written:
        process = subprocess.Popen(
            command,
            env={**os.environ, **variables, "PYTHONPATH": path},
            cwd=ROOT,
            stdout=written,
            stderr=written,
        )
    try:
        if not eventually(lambda: _accepts(port), READY_SECONDS):
            raise SystemExit(f"{application} did not start:\n{log.read_text()[-2000:]}")
        yield Floor(port, process.pid)
    finally:
        process.terminate()
        process.wait(30)


def _accepts(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
