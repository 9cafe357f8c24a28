"""Health: alive, and ready while the database answers."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import JSONResponse, PlainTextResponse, Response

from fraud_adapters.postgres import DatabaseUnavailable
from fraud_audit.context import AppDependency

router = APIRouter()


@router.get("/health/live")
def live() -> Response:
    return PlainTextResponse("ok")


@router.get("/health/ready")
def ready(app: AppDependency) -> Response:
    try:
        app.run(lambda cursor: cursor.execute("SELECT 1"))
    except DatabaseUnavailable:
        return JSONResponse({"status": "not ready", "database": "unreachable"}, 503)
    return JSONResponse({"status": "ready", "database": "ok"})
