"""The routes, and what the OpenAPI document says of them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from fraud_adapters.columnar import MEDIA_TYPE as ARROW
from fraud_api import openapi
from fraud_api.requests import BATCH_KEY, LIST_KEY, STORE_KEY
from fraud_api.service import Service


def add(app: FastAPI, service: Service) -> None:
    """Give the application its routes."""
    _add_identity_routes(app, service)
    _add_scoring_routes(app, service)
    _add_operations_routes(app, service)


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
            **openapi.problems(400, 401, 413, 415, 503),
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
