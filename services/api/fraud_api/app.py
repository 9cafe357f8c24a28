"""Puts the service together: what it holds, and its routes."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from config.parameters import Serving as ServingParameters
from fraud_adapters.columnar import MEDIA_TYPE as ARROW
from fraud_api import docs, openapi, problems
from fraud_api.auth import MAX_FORM_BYTES, Gatekeeper, TokenOffice
from fraud_api.bodies import BodyLimit
from fraud_api.credentials import KeyVault
from fraud_api.health import Health
from fraud_api.identities import POLL_SECONDS, Identities, SeedClients
from fraud_api.metrics import MeasureRequests, Metrics
from fraud_api.model_holder import ModelHolder, ModelSource
from fraud_api.models import Models
from fraud_api.poller import Poller
from fraud_api.predict import Predictor
from fraud_api.requests import BATCH_KEY, LIST_KEY, STORE_KEY, RequestParser
from fraud_api.session import Session
from fraud_api.writer import PredictionWriter
from fraud_core.contract import Contract
from fraud_core.identifiers import uuid7
from fraud_core.records import RecordParser

VERSION: Final = "1"


@dataclass(frozen=True, slots=True)
class Installation:
    """What the service is told about where it runs."""

    contract: Contract
    parameters: ServingParameters
    database_url: str
    models: ModelSource
    model_cache: Path
    client_secrets: dict[str, str]
    key_encryption_secret: str
    kafka_bootstrap: Sequence[str]
    kafka_topic: str
    show_docs: bool


class Service:
    """Everything behind the routes; `start` and `stop` its threads."""

    def __init__(self, installation: Installation) -> None:
        contract, parameters, url = installation.contract, installation.parameters, installation.database_url
        self.metrics = Metrics()
        seeds = SeedClients(installation.client_secrets, parameters.client_scopes, parameters.default_scopes)
        self._sessions = {
            name: Session(url, f"fraud_api {name}") for name in ("identities", "models", "writer", "health")
        }
        vault = KeyVault(installation.key_encryption_secret)
        self.identities = Identities(self._sessions["identities"], vault, seeds, time.monotonic)
        self.holder = ModelHolder(
            contract, installation.models, self._sessions["models"], installation.model_cache, self.metrics
        )
        self.writer = PredictionWriter(self._sessions["writer"], contract, self.metrics)
        records = RecordParser(contract, make_id=new_transaction_id)
        self.record_model = records.model
        gatekeeper = Gatekeeper(self.identities, time.time)
        self.tokens = TokenOffice(self.identities, time.time, parameters.token_minutes * 60)
        self.models = Models(contract.registered_model, gatekeeper, self.holder)
        self.predictor = Predictor(
            contract=contract,
            gatekeeper=gatekeeper,
            holder=self.holder,
            parser=RequestParser(contract, records, parameters.max_batch),
            writer=self.writer,
            metrics=self.metrics,
        )
        self.health = Health(
            self.holder,
            self.identities,
            self._sessions["health"],
            installation.kafka_bootstrap,
            installation.kafka_topic,
        )
        self._pollers = (
            Poller("identities", POLL_SECONDS, self.identities.poll),
            Poller("models", parameters.alias_poll_seconds, self.holder.poll),
        )

    def start(self) -> None:
        self.writer.start()
        for poller in self._pollers:
            poller.start()

    def stop(self) -> None:
        for poller in self._pollers:
            poller.stop()
        self.writer.stop()
        for session in self._sessions.values():
            session.close()


class DirectRoute(APIRoute):
    """A route whose endpoint takes the request and gives the response.

    Parsing by parameter and checking answers against models is what most of a small request's time would
    go into; here the endpoints parse by themselves, once.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return endpoint


def create_app(installation: Installation, service: Service) -> FastAPI:
    """The ASGI application; its lifespan starts and stops the service."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            service.stop()

    app = FastAPI(
        title="Fraud scoring API",
        version=VERSION,
        description=f"Scores transactions of the contract {installation.contract.schema_id}.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.router.route_class = DirectRoute
    problems.install(app)
    openapi.install(app, service.record_model)
    _add_identity_routes(app, service)
    _add_scoring_routes(app, service)
    _add_operations_routes(app, service)
    if installation.show_docs:
        docs.install(app)
    app.add_middleware(
        BodyLimit, limit=installation.parameters.max_body_bytes, by_path={"/auth/token": MAX_FORM_BYTES}
    )
    app.add_middleware(MeasureRequests, metrics=service.metrics)
    return app


def new_transaction_id() -> str:
    """A fresh UUIDv7 for a transaction that came without an id."""
    return uuid7(time.time_ns() // 1_000_000, os.urandom(10))


def _add_identity_routes(app: FastAPI, service: Service) -> None:
    properties = {name: {"type": "string"} for name in ("grant_type", "client_id", "client_secret", "scope")}
    properties["grant_type"] = {"type": "string", "enum": ["client_credentials"]}  # type: ignore[dict-item]
    form = {"type": "object", "properties": properties, "required": ["grant_type"]}
    app.add_api_route(
        "/auth/token",
        service.tokens.token,
        methods=["POST"],
        tags=["identities"],
        summary="A token for a client that knows its secret",
        description="The client's id and secret come in the form, or as HTTP basic authentication.",
        responses={
            **openapi.answer("An access token.", openapi.TokenAnswer),
            **openapi.problems(400, 401, 413, 503),
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/x-www-form-urlencoded": {"schema": form}},
            }
        },
    )
    app.add_api_route(
        "/.well-known/jwks.json",
        service.tokens.jwks,
        tags=["identities"],
        summary="The public keys tokens are signed with",
        responses=openapi.problems(503),
    )


def _add_scoring_routes(app: FastAPI, service: Service) -> None:
    record = openapi.reference(service.record_model)
    records = {"type": "array", "items": record, "minItems": 1}
    single = {
        "anyOf": [
            record,
            {
                "type": "object",
                "properties": {LIST_KEY: records},
                "required": [LIST_KEY],
                "additionalProperties": False,
            },
        ]
    }
    batch = {
        "type": "object",
        "properties": {BATCH_KEY: records, STORE_KEY: {"type": "boolean", "default": False}},
        "required": [BATCH_KEY],
        "additionalProperties": False,
    }
    app.add_api_route(
        "/predict",
        service.predictor.predict,
        methods=["POST"],
        tags=["scoring"],
        summary="Decide about one transaction, or a few",
        description="The decision is stored before it is answered. The same transaction again gives the"
        " stored decision. A list is answered by a list.",
        responses={
            **openapi.answer(
                "The decision, or a list of them.", openapi.PredictionAnswer, openapi.PredictionList
            ),
            **openapi.problems(400, 401, 403, 408, 409, 413, 415, 422, 503),
        },
        openapi_extra={**openapi.secured("predict"), **openapi.json_body(single)},
    )
    binary: dict[str, Any] = {ARROW: {"schema": {"type": "string", "format": "binary"}}}
    app.add_api_route(
        "/predict/batch",
        service.predictor.predict_batch,
        methods=["POST"],
        tags=["scoring"],
        summary="Score many transactions",
        description="JSON, or an Arrow IPC stream with one column a field. Stored only with `store`.",
        responses={
            **openapi.answer("The decisions, in the request's order.", openapi.PredictionList, arrow=True),
            **openapi.problems(400, 401, 403, 408, 409, 413, 415, 422, 503),
        },
        openapi_extra={
            **openapi.secured("predict"),
            **openapi.json_body(batch, **binary),
            "parameters": [{"name": "store", "in": "query", "schema": {"type": "boolean", "default": False}}],
        },
    )


def _add_operations_routes(app: FastAPI, service: Service) -> None:
    health = service.health
    app.add_api_route("/", health.root, tags=["operations"], summary="The service is there")
    app.add_api_route("/health/live", health.live, tags=["operations"], summary="The process answers")
    app.add_api_route(
        "/health/ready",
        health.ready,
        tags=["operations"],
        summary="Requests can be served",
        description="With `deep=1` broker, topic and database are asked too.",
        responses=openapi.problems(422, 503),
        openapi_extra={
            "parameters": [
                {
                    "name": "deep",
                    "in": "query",
                    "schema": {"enum": ["0", "1", "true", "false"], "default": "0"},
                }
            ]
        },
    )
    app.add_api_route(
        "/models",
        service.models.list,
        tags=["operations"],
        summary="The model that serves",
        responses=openapi.problems(401, 403, 503),
        openapi_extra=openapi.secured("read"),
    )
