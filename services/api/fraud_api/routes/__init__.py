"""The routes of the API: one file per subject, included here."""

from __future__ import annotations

from fastapi import FastAPI

from fraud_api.routes import (
    audit_log,
    deployments,
    direct,
    hindsight,
    identities,
    models,
    operations,
    predictions,
    source_queries,
    swagger,
    train,
)
from fraud_api.service import ScoringService


def add(app: FastAPI, service: ScoringService, *, show_docs: bool) -> None:
    """Add all routes; the frequent direct ones come first because routes are matched in order."""
    direct.add(app, service)
    app.include_router(identities.router)
    app.include_router(operations.router)
    app.include_router(predictions.router)
    app.include_router(hindsight.router)
    app.include_router(source_queries.router)
    app.include_router(models.router)
    app.include_router(train.router)
    app.include_router(audit_log.router)
    app.include_router(deployments.router)
    if show_docs:
        app.include_router(swagger.router)
