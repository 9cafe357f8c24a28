"""The routes of the API: one file a subject, one line here to include it."""

from __future__ import annotations

from fastapi import FastAPI

from fraud_api.routes import direct, identities, models, operations, swagger
from fraud_api.service import Service


def add(app: FastAPI, service: Service, *, show_docs: bool) -> None:
    """Give the application its routes; the measured ones first, so that they are found first."""
    direct.add(app, service)
    app.include_router(identities.router)
    app.include_router(operations.router)
    app.include_router(models.router)
    if show_docs:
        app.include_router(swagger.router)
