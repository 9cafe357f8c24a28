"""`/predict`, `/predict/batch` and `/auth/token`: routes whose endpoints take a request and return a
response.

For a small request, parsing parameters and validating the response against models would take most of the
time, so these endpoints parse their body themselves. All other routes are ordinary FastAPI routes.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field

from fraud_adapters.columnar import MEDIA_TYPE as ARROW
from fraud_api import access, openapi
from fraud_api.access import PUBLIC
from fraud_api.arrival import note_arrival
from fraud_api.auth import Authenticator
from fraud_api.requests import BATCH_KEY, LIST_KEY, STORE_KEY
from fraud_api.routes.hindsight import Explanation
from fraud_api.service import ScoringService

_NOTHING_ELSE: Final = {"additionalProperties": False}


class DirectRoute(APIRoute):
    """Checks the token for the declared scope and passes the request to the endpoint.

    `respond` does that for `DirectDispatch` and, where a request comes by FastAPI's router, for that one.
    `response_model` only describes the response in the OpenAPI document; nothing is validated against it.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.respond = self.get_route_handler()

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        scope = access.scope_of(self.dependant)
        if scope is None:
            return endpoint

        async def admitted(request: Request) -> Response:
            note_arrival(request)
            authenticator: Authenticator = request.app.state.service.authenticator
            await authenticator.authorise(request, scope)
            return await endpoint(request)

        return admitted


class PredictionAnswer(BaseModel):
    """What was decided about one transaction."""

    model_config = ConfigDict(protected_namespaces=())

    transaction_id: str
    prediction: int = Field(description="1 where the score reaches the model's threshold", ge=0, le=1)
    probability: float = Field(description="of fraud, calibrated; the same as score", ge=0, le=1)
    flag: str = Field(description="LEGITIMATE, REVIEW or FRAUD")
    message: str
    decision: str = Field(description="approve, review or block")
    score: float = Field(ge=0, le=1)
    model_version: str
    engine: str = Field(description="which engine computed the score, with its version")
    latency_ms: float = Field(description="from the request's arrival to the score")
    replayed: bool = Field(description="the transaction was decided before; this is the stored decision")
    explanation: Explanation | None = Field(default=None, description="with `explain`, for `/predict`")


class PredictionList(BaseModel):
    """Answers in the order of the request."""

    predictions: list[PredictionAnswer]


class TokenAnswer(BaseModel):
    """An access token, for `expires_in` seconds."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str


def add(app: FastAPI, service: ScoringService) -> None:
    """Add the direct routes to the application itself: an included router would match each path twice."""
    _add_token(app, service)
    _add_predict(app, service)
    _add_predict_batch(app, service)


def request_schemas(record: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """The JSON schemas of these routes' bodies, by name; `record` is the contract's model."""
    records = {"type": "array", "items": openapi.reference(record.__name__), "minItems": 1}
    store = {"type": "boolean", "default": False}
    grant_type = {"type": "string", "enum": ["client_credentials"]}
    optional = {name: {"type": "string"} for name in ("client_id", "client_secret", "scope")}
    return {
        "TransactionList": {**_object(LIST_KEY, {LIST_KEY: records}), **_NOTHING_ELSE},
        "TransactionBatch": {**_object(BATCH_KEY, {BATCH_KEY: records, STORE_KEY: store}), **_NOTHING_ELSE},
        "TokenRequest": _object("grant_type", {"grant_type": grant_type, **optional}),
    }


def _object(required: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [required]}


def _add_token(app: FastAPI, service: ScoringService) -> None:
    form = {"application/x-www-form-urlencoded": {"schema": openapi.reference("TokenRequest")}}
    app.router.add_api_route(
        "/auth/token",
        service.tokens.token,
        methods=["POST"],
        dependencies=[PUBLIC],
        route_class_override=DirectRoute,
        operation_id="issue_token",
        tags=["identities"],
        summary="A token for a client that knows its secret",
        description="The client's id and secret come in the form, or as HTTP basic authentication.",
        response_model=TokenAnswer,
        response_description="An access token.",
        responses=openapi.problems(400, 401, 413, 415, 503),
        openapi_extra=openapi.body(form),
    )


def _add_predict(app: FastAPI, service: ScoringService) -> None:
    names = (service.record_model.__name__, "TransactionList")
    body = {"anyOf": [openapi.reference(name) for name in names]}
    explain = {"name": "explain", "in": "query", "schema": {"type": "boolean", "default": False}}
    app.router.add_api_route(
        "/predict",
        service.predictor.predict,
        methods=["POST"],
        dependencies=[access.needs("predict")],
        route_class_override=DirectRoute,
        operation_id="predict",
        tags=["scoring"],
        summary="Decide about one transaction, or a few",
        description="The decision is stored before it is answered. The same transaction again gives the"
        " stored decision. A list is answered by a list.",
        response_model=PredictionAnswer | PredictionList,
        response_description="The decision, or a list of them.",
        responses=openapi.problems(400, 408, 409, 413, 415, 422),
        openapi_extra=openapi.body({"application/json": {"schema": body}}) | {"parameters": [explain]},
    )


def _add_predict_batch(app: FastAPI, service: ScoringService) -> None:
    columns = {ARROW: {"schema": {"type": "string", "format": "binary"}}}
    batch = {"application/json": {"schema": openapi.reference("TransactionBatch")}}
    store = {"name": "store", "in": "query", "schema": {"type": "boolean", "default": False}}
    app.router.add_api_route(
        "/predict/batch",
        service.predictor.predict_batch,
        methods=["POST"],
        dependencies=[access.needs("predict")],
        route_class_override=DirectRoute,
        operation_id="predict_batch",
        tags=["scoring"],
        summary="Score many transactions",
        description="JSON, or an Arrow IPC stream with one column a field. Stored only with `store`.",
        response_model=PredictionList,
        response_description="The decisions, in the request's order.",
        responses={200: {"content": columns}, **openapi.problems(400, 408, 409, 413, 415, 422)},
        openapi_extra=openapi.body(batch | columns) | {"parameters": [store]},
    )
