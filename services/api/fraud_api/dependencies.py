"""What a route may ask for beside its scope, as types of its parameters."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from fraud_adapters.postgres.session import Session
from fraud_api.service import Service


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ApiService = Annotated[Service, Depends(_service)]


async def _database(service: ApiService) -> Session:
    return service.database


# Queries wait for their answer: a route that makes them is `def`, so that it runs beside the event loop.
Database = Annotated[Session, Depends(_database)]
