"""Dependencies that routes can declare as the types of their parameters."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from fraud_adapters.postgres.session import Session
from fraud_api.service import ScoringService


async def _service(request: Request) -> ScoringService:
    service: ScoringService = request.app.state.service
    return service


ApiService = Annotated[ScoringService, Depends(_service)]


async def _database(service: ApiService) -> Session:
    return service.database


# Queries block. A route that makes them must be `def`, not `async def`, so that it runs in a thread.
Database = Annotated[Session, Depends(_database)]


async def _queries(service: ApiService) -> Session:
    return service.queries


# For routes that may read much, so that the others do not wait for them.
QueryDatabase = Annotated[Session, Depends(_queries)]
