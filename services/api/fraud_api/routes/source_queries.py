"""The paths by which a source document asks for predictions and sets labels: deprecated, and answered as the
routes that took their place.

Every answer says since when the path is deprecated (RFC 9745) and which route to use instead (RFC 8288).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field

from fraud_api.access import Labeller, Reader
from fraud_api.dependencies import QueryDatabase
from fraud_api.openapi import problems
from fraud_api.routes.predictions import (
    Filters,
    LabelAnswer,
    LabelRequest,
    Page,
    PredictionPage,
    PredictionStatistics,
    page_of,
    store_label,
    summarise_predictions,
)

router = APIRouter(prefix="/query", tags=["predictions"])

DEPRECATED_SINCE: Final = datetime(2026, 12, 1, tzinfo=UTC)


def _replaced_by(path: str) -> Any:
    """Adds the headers that name the route to use instead."""

    async def add_headers(response: Response) -> None:
        _add_headers(response, path)

    return Depends(add_headers)


def _add_headers(response: Response, successor: str) -> None:
    response.headers["Deprecation"] = f"@{int(DEPRECATED_SINCE.timestamp())}"
    response.headers["Link"] = f'<{successor}>; rel="successor-version"'


class NamedLabel(LabelRequest):
    """A label, with the transaction that it is about."""

    transaction_id: Annotated[str, Field(min_length=1, max_length=50, pattern=r"^[\x20-\x7e]+$")]


@router.get(
    "/GET/predictions",
    summary="Use GET /predictions",
    deprecated=True,
    dependencies=[_replaced_by("/predictions")],
)
def query_predictions(_: Reader, database: QueryDatabase, filters: Page) -> PredictionPage:
    return page_of(database, filters, "all", filters.to_filter())


@router.get(
    "/GET/frauds",
    summary="Use GET /predictions/frauds",
    deprecated=True,
    dependencies=[_replaced_by("/predictions/frauds")],
)
def query_frauds(_: Reader, database: QueryDatabase, filters: Page) -> PredictionPage:
    return page_of(database, filters, "frauds", replace(filters.to_filter(), fraud_predicted=True))


@router.get(
    "/GET/non_frauds",
    summary="Use GET /predictions/non-frauds",
    deprecated=True,
    dependencies=[_replaced_by("/predictions/non-frauds")],
)
def query_non_frauds(_: Reader, database: QueryDatabase, filters: Page) -> PredictionPage:
    return page_of(database, filters, "non-frauds", replace(filters.to_filter(), fraud_predicted=False))


@router.get(
    "/GET/stats",
    summary="Use GET /predictions/stats",
    deprecated=True,
    dependencies=[_replaced_by("/predictions/stats")],
)
def query_statistics(
    identity: Reader, database: QueryDatabase, filters: Annotated[Filters, Query()]
) -> PredictionStatistics:
    return summarise_predictions(identity, database, filters)


@router.put(
    "/PUT/predictions",
    summary="Use PUT /predictions/{transaction_id}/label",
    deprecated=True,
    responses=problems(400, 404),
)
def query_label(
    identity: Labeller, database: QueryDatabase, response: Response, report: NamedLabel
) -> LabelAnswer:
    _add_headers(response, f"/predictions/{quote(report.transaction_id, safe='')}/label")
    return store_label(database, report.transaction_id, report, identity.client_id)
