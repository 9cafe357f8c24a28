"""The ASGI application: routes, error documents and limits around the service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from fraud_api import docs, openapi, problems, routes
from fraud_api.auth import MAX_FORM_BYTES
from fraud_api.bodies import BodyLimit
from fraud_api.heads import HeadLimit
from fraud_api.metrics import MeasureRequests
from fraud_api.service import Installation, Service

VERSION: Final = "1"


class DirectRoute(APIRoute):
    """A route whose endpoint takes the request and gives the response.

    Parsing by parameter and checking answers against models is what most of a small request's time would
    go into; here the endpoints parse by themselves, once. What can be had by GET can be asked by HEAD.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        if self.methods is not None and "GET" in self.methods:
            self.methods.add("HEAD")

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
    routes.add(app, service)
    if installation.show_docs:
        docs.install(app)
    app.add_middleware(HeadLimit)
    app.add_middleware(
        BodyLimit, limit=installation.parameters.max_body_bytes, by_path={"/auth/token": MAX_FORM_BYTES}
    )
    app.add_middleware(MeasureRequests, metrics=service.metrics)
    return app
