"""Builds the ASGI application: routes, error handlers and limits around the service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI
from fastapi.routing import APIRoute

from fraud_api import access, openapi, problems, routes
from fraud_api.auth import MAX_FORM_BYTES
from fraud_api.body_limit import BodyLimit
from fraud_api.direct_dispatch import DirectDispatch
from fraud_api.head_limit import HeadLimit
from fraud_api.head_method import AnswerHead
from fraud_api.metrics import MeasureRequests
from fraud_api.routes import direct
from fraud_api.service import ScoringService, ServiceSettings

VERSION: Final = "1"


def create_app(settings: ServiceSettings, service: ScoringService) -> FastAPI:
    """The ASGI application; its lifespan starts and stops the service.

    Raises:
        UndeclaredAccess: a route does not declare who may use it.
    """

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
        description=f"Scores transactions of the contract {settings.contract.schema_id}.",
        lifespan=lifespan,
        # Otherwise it looks for a configured OpenTelemetry at every request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        generate_unique_id_function=_operation_id,
    )
    app.state.service = service
    problems.install(app)
    openapi.install(app, service.record_model, direct.request_schemas(service.record_model))
    routes.add(app, service, show_docs=settings.show_docs)
    access.scopes_of(app)  # raises if a route does not declare its access
    app.add_middleware(DirectDispatch, routes=app.routes)
    app.add_middleware(AnswerHead)
    app.add_middleware(HeadLimit)
    app.add_middleware(
        BodyLimit, limit=settings.parameters.max_body_bytes, by_path={"/auth/token": MAX_FORM_BYTES}
    )
    app.add_middleware(MeasureRequests, metrics=service.metrics)
    return app


def _operation_id(route: APIRoute) -> str:
    """The function's name, which generated clients use as the operation's name."""
    return route.name
