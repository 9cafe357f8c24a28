"""The OpenAPI document: bodies from the contract, problems and the security scheme beside every route."""

from __future__ import annotations

from copy import copy
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field
from starlette.routing import BaseRoute, Route

from config.constants import SCOPES
from fraud_adapters.columnar import MEDIA_TYPE as ARROW
from fraud_api.problems import MEDIA_TYPE as PROBLEM
from fraud_api.problems import ProblemDocument

SCHEME: Final = "clientCredentials"
_REF: Final = "#/components/schemas/{model}"
_SCOPES: Final = {
    "predict": "score transactions",
    "read": "see models and predictions",
    "label": "set labels",
    "train": "start training",
    "deploy": "change what serves",
    "admin": "administer clients and read the audit log",
}
_PROBLEMS: Final = {
    400: "The body is not what its media type says.",
    401: "There is no acceptable token, or the client's secret is wrong.",
    403: "The token does not have the scope.",
    408: "The body did not arrive in time.",
    409: "A transaction_id is known with other fields.",
    413: "The body, or the number of records in it, is over the limit.",
    415: "The media type is none this route reads, or the body is compressed.",
    422: "The request is not valid; `errors` says where.",
    503: "No model, or the database does not answer.",
}


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


class PredictionList(BaseModel):
    """Answers in the order of the request."""

    predictions: list[PredictionAnswer]


class TokenAnswer(BaseModel):
    access_token: str
    token_type: str
    expires_in: int
    scope: str


def secured(scope: str) -> dict[str, Any]:
    """The part of an operation that says which scope it needs."""
    return {"security": [{SCHEME: [scope]}]}


def json_body(schema: dict[str, Any], **others: dict[str, Any]) -> dict[str, Any]:
    """The part of an operation that describes its body; `others` are further media types."""
    content = {"application/json": {"schema": schema}, **others}
    return {"requestBody": {"required": True, "content": content}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of an operation."""
    content = {PROBLEM: {"schema": {"$ref": _REF.format(model=ProblemDocument.__name__)}}}
    return {status: {"description": _PROBLEMS[status], "content": content} for status in statuses}


def answer(
    description: str, *models: type[BaseModel], arrow: bool = False
) -> dict[int | str, dict[str, Any]]:
    """The successful answer of an operation, which is one of the models."""
    shapes = [reference(model) for model in models]
    content: dict[str, Any] = {
        "application/json": {"schema": shapes[0] if len(shapes) == 1 else {"oneOf": shapes}}
    }
    if arrow:
        content[ARROW] = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"description": description, "content": content}}


def reference(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REF.format(model=model.__name__)}


def install(app: FastAPI, record: type[BaseModel]) -> None:
    """Make `app.openapi()` complete; it is built once, when first asked for."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build(app, record)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _build(app: FastAPI, record: type[BaseModel]) -> dict[str, Any]:
    routes = [_without_head(route) for route in app.routes]
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=routes)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for model in (record, PredictionAnswer, PredictionList, TokenAnswer, ProblemDocument):
        schema = model.model_json_schema(ref_template=_REF)
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    flow = {"tokenUrl": "auth/token", "scopes": {name: _SCOPES[name] for name in SCOPES}}
    components["securitySchemes"] = {SCHEME: {"type": "oauth2", "flows": {"clientCredentials": flow}}}
    return document


def _without_head(route: BaseRoute) -> BaseRoute:
    """The route as it is documented: that HEAD is GET without the body goes without saying."""
    if not isinstance(route, Route) or route.methods is None:
        return route
    documented = copy(route)
    documented.methods = route.methods - {"HEAD"}
    return documented
