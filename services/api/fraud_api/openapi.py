"""The OpenAPI document: bodies derived from the contract, and the problem responses of every route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from fraud_api.problems import MEDIA_TYPE as PROBLEM
from fraud_api.problems import ProblemDocument

_REF: Final = "#/components/schemas/{model}"
_PROBLEMS: Final = {
    400: "The body is not what its media type says.",
    401: "There is no acceptable token, or the client's secret is wrong.",
    403: "The token does not have the scope.",
    404: "There is no such resource.",
    408: "The body did not arrive in time.",
    409: "A transaction_id is known with other fields, or a training is running.",
    413: "The body, or the number of records in it, is over the limit.",
    415: "The route does not accept the media type, or the body is compressed.",
    422: "The request is not valid; `errors` says where.",
    503: "No model, or a server that is needed does not answer.",
}
_OF_SECURED_ROUTES: Final = (401, 403, 503)
_FASTAPI_ERRORS: Final = ("HTTPValidationError", "ValidationError")


def body(content: dict[str, Any]) -> dict[str, Any]:
    """The part of an operation that describes its body, by media type."""
    return {"requestBody": {"required": True, "content": content}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of an operation.

    Those for a missing token, a missing scope and an invalid parameter are added automatically.
    """
    content = {PROBLEM: {"schema": reference(ProblemDocument.__name__)}}
    return {status: {"description": _PROBLEMS[status], "content": content} for status in statuses}


def reference(name: str) -> dict[str, Any]:
    """A reference to a schema of the document."""
    return {"$ref": _REF.format(model=name)}


def install(app: FastAPI, record: type[BaseModel], schemas: Mapping[str, dict[str, Any]]) -> None:
    """Complete `app.openapi()`; the document is built once, when first requested.

    Args:
        record: the contract's model of a transaction.
        schemas: further schemas that routes refer to.
    """

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build(app, record, schemas)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _build(app: FastAPI, record: type[BaseModel], schemas: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    for operations in document["paths"].values():
        for operation in operations.values():
            _add_problems(operation)
    known = document["components"]["schemas"]
    for name in _FASTAPI_ERRORS:
        known.pop(name, None)
    for model in (record, ProblemDocument):
        schema = model.model_json_schema(ref_template=_REF)
        known |= schema.pop("$defs", {})
        known[model.__name__] = schema
    known |= schemas
    return document


def _add_problems(operation: dict[str, Any]) -> None:
    """Add the problem responses that every operation of this kind has."""
    responses = operation["responses"]
    common = problems(*_OF_SECURED_ROUTES) if "security" in operation else {}
    responses = {str(status): response for status, response in common.items()} | responses
    if "422" in responses:
        responses["422"] = problems(422)[422]
    operation["responses"] = dict(sorted(responses.items()))
